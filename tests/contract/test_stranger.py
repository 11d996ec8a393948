"""A runner of another package is installed as anybody would do it, is used, and goes again.

Nothing of this checkout is on the path here: there are the wheel, with what it needs, and the
package in ``nice/`` beside this file.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import environment
import pytest
from environment import ROOT
from kernel import Kernel, doctor, kernel
from kernel import environment as variables
from local_helpers import until

NICE = Path(__file__).parent / "nice"
# What a level is counted from.
_HERE = os.nice(0)

pytestmark = [pytest.mark.once, pytest.mark.tier("all")]


def level(number: int) -> str:
    """What the program ``nice`` says of a process that was started with that niceness."""
    return str(min(_HERE + number, 19))


@dataclass(frozen=True)
class Place:
    """A virtual environment outside this checkout, and a folder to work in.

    Attributes:
        folder: Where both are.
        wheel: What is installed there of this project.
    """

    folder: Path
    wheel: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "env" / "bin" / "python")

    def install(self, *words: str) -> None:
        """Installs there, by the pip of this environment."""
        environment.install(self.python, words, sys.executable, ready=False)

    def env(self, user: str) -> dict[str, str]:
        """The variables of a user of it."""
        # What isn't compiled yet shall be, at first use.
        return variables(self.folder / user, self.python, PYTHONDONTWRITEBYTECODE="")

    def start(self, env: dict[str, str], *command: str) -> subprocess.Popen[str]:
        """A command of it that has begun."""
        return subprocess.Popen(
            [str(self.folder / "env" / "bin" / command[0]), *command[1:]],
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, env: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
        """A command of it to its end."""
        with self.start(env, *command) as begun:
            out, err = begun.communicate()
        return subprocess.CompletedProcess(command, begun.returncode, out, err)

    def pytest(self, name: str, text: str, *options: str) -> subprocess.Popen[str]:
        """Begins to run a file of tests with this text."""
        path = self.folder / f"test_{name}.py"
        path.write_text(text)
        words = ["-q", "-p", "no:cacheprovider", *options, str(path)]
        return self.start(self.env(name), "python", "-m", "pytest", *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An environment with the wheel, what the contract needs, a kernel, and the other package."""
    folder = tmp_path_factory.mktemp("stranger")
    assert not folder.is_relative_to(ROOT)
    empty = [sys.executable, "-m", "venv", "--without-pip", str(folder / "env")]
    subprocess.run(empty, check=True)
    made = Place(folder, environment.wheel(folder))
    made.install(f"{made.wheel}[testing]", "ipykernel", str(NICE))
    return made


@pytest.fixture(scope="module")
def suites(place: Place) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The contract on two runners there, begun before what else is tested: it waits a good deal."""
    few_lines = (
        "from qwex_jupyter.testing.contract.memory import MemoryContract\n\n\n"
        "class TestMine(MemoryContract):\n    pass\n"
    )
    begun = {
        "memory": place.pytest("memory", few_lines),
        "nice": place.pytest("nice", (NICE / "suite.py").read_text()),
    }
    yield begun
    for suite in begun.values():
        suite.kill()
        suite.communicate()


@pytest.fixture(scope="module")
def k(place: Place, suites: object) -> Iterator[Kernel]:
    """A kernel there."""
    with kernel(place.folder / "work", place.python, PYTHONDONTWRITEBYTECODE="") as made:
        made.run("import qwex_jupyter as qwex")
        yield made


def test_a_clause_that_fails_says_what_it_compared(place: Place) -> None:
    """Assertions of the installed suite are rewritten as those of a test are."""
    failing = place.pytest(
        "failing",
        "from qwex_jupyter.testing.contract.memory import MemoryContract, MemoryPrograms\n\n\n"
        "class Programs(MemoryPrograms):\n"
        "    def exits(self, code):\n        return self.script(f'exit {code + 1}')\n\n\n"
        "class TestMine(MemoryContract):\n    programs = Programs()\n",
        *("-k", "clean_command"),
    )
    out, _ = failing.communicate()
    assert failing.returncode == 1, out
    assert "<RunStatus.FAILED: 'FAILED'> != <RunStatus.SUCCEEDED: 'SUCCEEDED'>" in out


def test_without_pytest_the_contract_says_what_to_install(place: Place) -> None:
    """The import names the extra; nothing else of the package needs it."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import qwex_jupyter.testing.memory\n"
        "import qwex_jupyter.testing.contract"
    )
    done = place.run(place.env("tester"), "python", "-c", code)
    *_, said = done.stderr.splitlines()
    needs = "ImportError: The contract needs pytest: pip install 'qwex-jupyter[testing]'."
    assert said == needs


def test_a_cell_goes_there(k: Kernel) -> None:
    """``%%qwex --runner=NAME`` finds it in a kernel, with its option and its setting."""
    for line, number in (("", 10), ("--niceness 7", 7), ("--niceness=0", 0)):
        cell = k.run(f"%%qwex --runner=nice {line}\nnice")
        assert cell.status == "ok", cell.error
        assert f"\n  {level(number)}" in cell.text
    assert re.search(r"✓ succeeded .* nice · \w{6} · .*s", cell.text)
    k.run("%config Qwex.niceness = '3'")
    assert f"\n  {level(3)}" in k.run("%%qwex --runner=nice\nnice").text
    k.run("%config Qwex.runner = 'nice'")
    assert f"\n  {level(3)}" in k.run("%%qwex\nnice").text
    k.run("%config Qwex.runner = ''")
    assert "nice" in k.value("qwex.runs().runner.unique().tolist()")


def test_a_kernel_tells_of_it(k: Kernel) -> None:
    """Completion, help and the doctor show the runner and its option."""
    assert "--runner=nice" in k.complete("%%qwex --runner=n")
    assert "--niceness" in k.complete("%%qwex --runner=nice --ni")
    assert "12" in k.complete("%%qwex --runner=nice --niceness 1")
    told = k.run("%qwex run --help --runner=nice").stream()
    assert re.search(r"--niceness N +how much it gives way to others: 0 to 19 \[nice\]", told)
    assert "✓ nice  nice://" in doctor(k)


def test_its_mistakes_are_one_line(k: Kernel) -> None:
    """What it refuses, and what others refuse that it can, is said before anything starts."""
    told = {
        "--niceness 99 --runner=nice": "--niceness='99': choose one of 0, 1, 2",
        "--niceness 5 --runner=local": "use --runner=nice",
        "--niceness 5": "use --runner=nice",
        "--runner=nice --memory 1g": "because nice holds no memory: use --runner=local",
    }
    before = k.value("len(qwex.runs())")
    for options, said in told.items():
        cell = k.run(f"%%qwex {options}\ntrue")
        assert said in cell.error or said in cell.stream("stderr"), cell.describe()
        assert "\n" not in (cell.error or cell.stream("stderr")).strip()
    assert k.value("len(qwex.runs())") == before


def test_a_restart_of_the_kernel_loses_nothing(k: Kernel) -> None:
    """A run of it goes on without its kernel, and the next one follows it to its end."""
    k.run(
        "%%qwex --runner=nice -d --as run\necho one; until [ -e go ]; do sleep 0.05; done; echo two"
    )
    handle = k.value("run.handle").strip("'")
    k.restart()
    k.run("%load_ext qwex_jupyter")
    (k.folder / "go").touch()
    cell = k.run(f"%qwex attach {handle}")
    assert cell.status == "ok", cell.error
    assert "\n  one\n  two" in cell.text


def test_a_terminal_goes_there(place: Place) -> None:
    """``qwex run --runner=NAME`` finds it, with help, doctor, option, setting and refusals."""
    env = place.env("terminal")
    for words, more, number in (
        ([], {}, 10),
        (["--niceness", "4"], {}, 4),
        ([], {"QWEX_NICENESS": "6"}, 6),
    ):
        done = place.run({**env, **more}, "qwex", "run", "--quiet", "--runner=nice", *words, "nice")
        assert (done.returncode, done.stdout) == (0, f"{level(number)}\n"), done.stderr
    done = place.run({**env, "QWEX_RUNNER": "nice"}, "qwex", "run", "--quiet", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert "nice" in place.run(env, "qwex", "runs").stdout
    assert "--niceness N" in place.run(env, "qwex", "run", "--help", "--runner=nice").stdout
    until(lambda: "✓ nice  nice://" in place.run(env, "qwex", "doctor").stdout)
    done = place.run(env, "qwex", "run", "--runner=local", "--niceness", "4", "true")
    assert (done.returncode, done.stdout) == (64, "")
    assert "--niceness: the local runner can't do this" in done.stderr
    assert "use --runner=nice" in done.stderr
    done = place.run(env, "qwex", "run", "--dry-run", "--runner=nice", "echo", "it's me")
    assert re.search(r"nice -n 10 echo 'it'\"'\"'s me'\n$", done.stdout), done.stdout


@pytest.mark.parametrize("runner", ["memory", "nice"])
def test_the_contract_holds(suites: dict[str, subprocess.Popen[str]], runner: str) -> None:
    """By what is installed, on the scripted runner in a file of a few lines, and on this one."""
    out, _ = suites[runner].communicate()
    assert suites[runner].returncode == 0, out
    assert re.search(r"^[6-9]\d passed", out, re.MULTILINE), out


def test_without_its_package_its_runs_are_still_there(place: Place) -> None:
    """Runs of a runner that was taken away are listed and read, and what lives says what to do."""
    env = place.env("leaver")
    gone = "runner='nice' isn't known: choose one of local, docker, k8s, or install the package"
    ended = place.run(
        env, "qwex", "run", "--quiet", "--runner=nice", "--name", "old", "echo", "kept"
    )
    assert ended.stdout == "kept\n"
    lives = place.run(env, "qwex", "run", "-d", "--runner=nice", "--name", "new", "sleep", "300")
    handle = lives.stdout.strip()
    until(lambda: "◐ running" in place.run(env, "qwex", "runs").stdout)
    pip = [sys.executable, "-m", "pip", "--python", place.python]
    subprocess.run([*pip, "uninstall", "-q", "-y", "qwex-nice"], check=True)
    try:
        listed = place.run(env, "qwex", "runs").stdout
        assert re.search(r"✓ succeeded +old +echo kept", listed), listed
        assert re.search(r"◐ running +runner='nice' isn't known: .* new +sleep 300", listed), listed
        assert "2 runs · 1 running · 1 succeeded · nice · as of" in listed
        assert place.run(env, "qwex", "logs", "old").stdout == "kept\n"
        code = (
            "import qwex_jupyter as qwex; print(*sorted(qwex.runs().status), *qwex.runs().runner)"
        )
        frame = place.run(env, "python", "-c", code).stdout
        assert frame.split() == ["RUNNING", "SUCCEEDED", "nice", "nice"]
        done = place.run(env, "qwex", "run", "--runner=nice", "true")
        assert done.returncode == 64
        assert gone in done.stderr, done.stderr
        # The wish to stop it is written down, and carried out by whoever has the package.
        done = place.run(env, "qwex", "cancel", handle)
        assert done.returncode == 0, done.stderr
        assert gone in done.stdout, done.stdout
        # Somebody who has the package may still write its end, so this goes on.
        with place.start(env, "qwex", "attach", handle) as attached:
            assert attached.stderr is not None
            assert gone in attached.stderr.readline()
            attached.kill()
        assert "nice" not in place.run(env, "qwex", "doctor").stdout
    finally:
        place.install(str(NICE))
    assert place.run(env, "qwex", "wait", handle).returncode == 128 + signal.SIGTERM
    assert "⊘ cancelled" in place.run(env, "qwex", "runs").stdout


def test_it_is_written_by_what_is_documented() -> None:
    """It imports only what CONTRIBUTING.md has for packages like it, and no private name."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Write your own runner")[2]
    table = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    meant = {f"qwex_jupyter.{name}" for row in table for name in re.findall(r"`([\w.]+)`", row)}
    for path in NICE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("qwex_jup"):
                continue
            assert node.module in meant or f"{node.module}".startswith("qwex_jupyter.testing.")
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_nothing_else_names_it() -> None:
    """The package, its documentation and all other tests know nothing of that runner."""
    names = re.compile(rb"qwex.nice|NiceRunner|niceness", re.IGNORECASE)
    folders = ("qwex_jupyter", "tests", "docs", "notebooks", "benchmarks")
    paths = [path for name in folders for path in (ROOT / name).rglob("*")]
    paths += [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    mine = (NICE, Path(__file__))
    others = [
        path
        for path in paths
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(path.is_relative_to(own) for own in mine)
    ]
    assert len(others) > 100
    assert [path for path in others if names.search(path.read_bytes())] == []
