"""The package is used locally where docker, kubernetes and anywidget were never installed.

The wheel is installed without what it depends on, and then the rest of that.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path
from zipfile import Path as ZipPath

import environment
import pytest
import without
from environment import ROOT
from kernel import Kernel, doctor, kernel
from kernel import environment as variables

pytestmark = [pytest.mark.once, pytest.mark.tier("all")]

# ipywidgets is what anywidget is made of; nothing here imports it.
GONE = (*without.ALL, "ipywidgets")
# Goes on until there is a file; longer than a card takes to become a live one.
WAITS = "echo one; until [ -e {go} ]; do sleep 0.05; done; echo two"
NOT_INSTALLED = "The Python package {0} isn't installed: pip install {0}, "


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the wheel and a kernel, and without those three."""
    folder = tmp_path_factory.mktemp("light")
    assert not folder.is_relative_to(ROOT)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    wheel = environment.wheel(folder)
    (about,) = [path for path in ZipPath(wheel).iterdir() if path.name.endswith(".dist-info")]
    needs = [need for need in PathDistribution(about).requires or () if "extra ==" not in need]
    kept = [need for need in needs if not need.startswith(GONE)]
    assert len(kept) == len(needs) - len(GONE)
    made = str(folder / "env" / "bin" / "python")
    environment.install(made, ["--no-deps", str(wheel)], sys.executable, ready=False)
    environment.install(made, [*kept, "ipykernel"], sys.executable, ready=False)
    tried = f"import importlib.util as u; print(*map(u.find_spec, {GONE!r}))"
    done = subprocess.run([made, "-I", "-c", tried], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"None"}
    return made


@pytest.fixture(scope="module")
def k(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel there."""
    folder = tmp_path_factory.mktemp("work")
    with kernel(folder, python, PYTHONDONTWRITEBYTECODE="") as made:
        yield made


def test_a_cell_is_shown_while_it_runs_and_when_it_has_ended(k: Kernel) -> None:
    """Its card is brought up to date in place, longer than until it would become a live one."""
    cell = k.begin("%%qwex --name first\n" + WAITS.format(go="go1"))
    cell.until(lambda cell: sum(m["msg_type"] == "update_display_data" for m in cell.mine) > 4)
    (k.folder / "go1").touch()
    cell.done()
    assert cell.status == "ok", cell.error
    assert "two" in cell.text
    assert re.search(r"✓ succeeded .* first", cell.text)
    assert len(cell.display_ids) == 1
    assert "anywidget" not in cell.everything + cell.stream() + cell.stream("stderr")


def test_a_detached_run_has_a_card_that_goes_on(k: Kernel) -> None:
    """The card of another cell tells of its end, without a widget; it is attached to and read."""
    cell = k.run("%%qwex -d --name second --as run\n" + WAITS.format(go="go2"))
    assert cell.status == "ok", cell.error
    cell.until_shown("running")
    attached = k.begin("%qwex attach second").until_text("one")
    (k.folder / "go2").touch()
    attached.done()
    assert "two" in attached.text
    # What was published in between came with the messages of this one.
    cell.messages += attached.messages
    cell.until(lambda cell: "succeeded" in cell.shown[0].get("text/html", ""))
    assert k.run("%qwex wait second").status == "ok"
    assert k.run("%qwex logs second").stream() == "one\ntwo\n"
    assert k.value("run.exit_code") == "0"
    assert "anywidget" not in cell.everything


def test_several_runs_are_waited_for(k: Kernel) -> None:
    """The table of a wait is there too, and in the end says how they ended."""
    waits = ["bash", "-c", WAITS.format(go="go3")]
    begin = f"two = [qwex.submit({waits!r}, name=f'waited{{n}}') for n in '12']"
    k.run(f"import qwex_jupyter as qwex\n{begin}")
    cell = k.begin("%qwex wait --all")
    cell.until(lambda cell: "waited2" in cell.text)
    (k.folder / "go3").touch()
    cell.done()
    assert cell.status == "ok", cell.error
    assert k.value("[str(run.status) for run in two]") == "['SUCCEEDED', 'SUCCEEDED']"
    (table,) = cell.shown
    for name in ("waited1", "waited2"):
        (line,) = [line for line in table["text/plain"].splitlines() if name in line]
        assert "succeeded" in line


@pytest.mark.parametrize("line", ["%qwex monitor", "qwex.monitor()"])
def test_the_monitor_is_a_table_that_says_what_to_install(k: Kernel, line: str) -> None:
    """The runs stand there, and one sentence below them."""
    k.run("import qwex_jupyter as qwex\nqwex.submit(['true'], name='listed').wait()")
    cell = k.run(line)
    assert cell.status == "ok", cell.error
    (shown,) = cell.shown
    for text in shown.values():
        assert "listed" in text
        assert text.replace("&#x27;", "'").count(NOT_INSTALLED.format("anywidget")) == 1


@pytest.mark.parametrize(
    ("options", "library"),
    [
        ("--runner=docker --image=x", "docker"),
        ("--image=x", "docker"),
        ("--runner=k8s --image=x", "kubernetes"),
    ],
)
def test_a_cell_elsewhere_says_what_to_install(k: Kernel, options: str, library: str) -> None:
    """The first line of its error names the package and what brings it."""
    cell = k.run(f"%%qwex {options}\ntrue")
    assert cell.ename == "RunnerUnavailable"
    assert NOT_INSTALLED.format(library) in (cell.error or cell.text or cell.stream("stderr"))


def test_the_doctor_tells_and_goes_on(k: Kernel) -> None:
    """A line for each of the three, and what works here."""
    told = doctor(k)
    assert "✓ local" in told
    for name, library in (("docker", "docker"), ("k8s", "kubernetes"), ("widgets", "anywidget")):
        assert f"✗ {name}  {NOT_INSTALLED.format(library)}" in told


def test_a_terminal_does_without_them(python: str, tmp_path: Path) -> None:
    """``qwex`` and IPython run, list and show."""
    env = variables(tmp_path, python, PYTHONDONTWRITEBYTECODE="")
    programs = Path(python).parent

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs / words[0]), *words[1:]]
        return subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run("qwex", "run", "--quiet", "sh", "-c", "echo here; exit 3")
    assert (done.returncode, done.stdout) == (3, "here\n")
    assert "failed" in run("qwex", "runs").stdout
    done = run("qwex", "run", "--image=x", "true")
    assert done.stderr.startswith(f"qwex: {NOT_INSTALLED.format('docker')}")
    script = tmp_path / "cells.ipy"
    script.write_text(
        "%load_ext qwex_jupyter\n%qwex run --name ours echo in a cell\n"
        "import qwex_jupyter as qwex\nprint(qwex.monitor())\n"
    )
    done = run("ipython", "--colors=NoColor", str(script))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "in a cell" in done.stdout
    assert "ours" in done.stdout
    assert "anywidget" not in done.stdout + done.stderr
