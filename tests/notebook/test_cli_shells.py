"""Completion of ``qwex`` in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from environment import ROOT
from kernel import PATIENCE, end_runs, environment, qwex
from needs import need

from qwex_jupyter import runners
from qwex_jupyter.commands.completion import candidates
from qwex_jupyter.commands.table import ALIASES, NOTEBOOK_ONLY, VERBS, parser_of
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import RunStatus

SHELLS = ("bash", "zsh", "tcsh")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment, with `qwex` on its path and a run called ``finished-run``."""
    made = environment(tmp_path_factory.mktemp("shells"))
    folder = os.path.dirname(sys.executable)
    made = {**made, "PATH": os.pathsep.join([folder, made["PATH"]])}
    assert qwex(made, "run", "--quiet", "--name", "finished-run", "true").returncode == 0
    profiles = {"plain-one": "", "größer": "", "my prof": "", "$(touch x)": "", "a*": ""}
    made["QWEX_PROFILES"] = repr(profiles)
    yield made
    end_runs(made)


def _bash(env: Mapping[str, str], line: str, cwd: Path) -> list[str]:
    """What bash offers for the end of a line, whose words are as bash itself cuts them."""
    words = re.findall(r"[=:]|[^\s=:]+", line) + [""] * (line[-1] in " =:")
    script = f"""
        eval "$(qwex completion bash)"
        complete -p qwex >&2
        COMP_LINE={_quoted(line)} COMP_POINT={len(line)}
        COMP_WORDS=({" ".join(map(_quoted, words))}) COMP_CWORD={len(words) - 1}
        _qwex qwex
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert "complete -o default -F _qwex qwex" in done.stderr
    return [word for word in done.stdout.splitlines() if word]


def _quoted(word: str) -> str:
    return f"'{word}'"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("qwex ", {*VERBS, *ALIASES}),
        ("qwex can", {"cancel"}),
        ("qwex run --runner ", set(runners.BUILT_IN)),
        ("qwex run --runner=d", {"docker"}),
        ("qwex run --image=a:1 --pull=al", {"always"}),
        ("qwex run --image=a:1 python --", set()),
        ("qwex runs --status ", set(RunStatus)),
        ("qwex ps --status F", {"FAILED"}),
        ("qwex logs finished", {"finished-run"}),
        ("qwex --json sho", {"show"}),
        ("qwex --json runs --status F", {"FAILED"}),
        ("qwex run -- --", set()),
        ("qwex run -- --runner ", set()),
        ("qwex run python --runner ", set()),
        ("qwex run --profile ", {"plain-one", "größer"}),
    ],
)
def test_bash_offers(env: dict[str, str], line: str, offered: set[str], tmp_path: Path) -> None:
    """Bash offers verbs, options, their values and runs, and files where nothing of that fits."""
    assert set(_bash(env, line, tmp_path)) == offered


def test_bash_takes_a_word_as_it_is(env: dict[str, str], tmp_path: Path) -> None:
    """What is offered is a word a line: bash neither divides it nor takes it for a pattern."""
    (tmp_path / "axb").touch()
    shim = tmp_path / "bin" / "qwex"
    shim.parent.mkdir()
    real = shutil.which("qwex", path=env["PATH"])
    shim.write_text(
        f"#!/bin/sh\n[ $# = 2 ] && exec {real} \"$@\"\nprintf '%s\\n' 'a*b' 'c d' 'e\\f'\n"
    )
    shim.chmod(0o755)
    own = {**env, "PATH": os.pathsep.join([str(shim.parent), env["PATH"]])}
    assert _bash(own, "qwex show ", tmp_path) == ["a*b", "c d", "e\\f"]


def test_each_verb_offers_its_options(env: dict[str, str], tmp_path: Path) -> None:
    """What is offered behind a verb are the options of the one table, but for a notebook's own."""
    manager = RunManager(str(tmp_path / "home"))
    for verb in (*VERBS, *ALIASES):
        want = {word for word in parser_of(verb).flags if word.startswith("--")}
        found = candidates(manager, f"qwex {verb} --", {}, not_here=NOTEBOOK_ONLY)
        assert set(found) == want - set(NOTEBOOK_ONLY)
        in_a_notebook = candidates(manager, f"%qwex {verb} --", {})
        assert set(in_a_notebook) == want - {"--json"}
    assert set(_bash(env, "qwex run --", tmp_path)) == {
        word for word in parser_of("run").flags if word.startswith("--")
    } - set(NOTEBOOK_ONLY)


_SETUP = {
    "bash": (["bash", "--norc", "-i"], 'eval "$(qwex completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'eval "$(qwex completion zsh)"'),
    "tcsh": (["tcsh", "-f"], "eval `qwex completion tcsh`"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_at_tab(env: dict[str, str], shell: str, tmp_path: Path) -> None:
    """At a TAB the shell itself writes the rest of a verb, an option's value and a run's name."""
    need(shell, shell)
    words, setup = _SETUP[shell]
    (tmp_path / "subfolder").mkdir()
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - becomes another program
        os.chdir(tmp_path)
        # A tcsh edits no line of a terminal that can't move its cursor.
        own = {**env, "HOME": str(tmp_path), "TERM": "vt100" if shell == "tcsh" else "dumb"}
        os.execve(shutil.which(words[0]) or words[0], words, own)
    seen = ""

    def see(text: str) -> None:
        nonlocal seen
        until = time.monotonic() + PATIENCE
        while text not in seen:
            assert time.monotonic() < until, seen
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode("utf-8", "replace")

    try:
        os.write(terminal, f"{setup}\n".encode())
        os.write(terminal, b"echo rea''dy\n")
        see("ready")
        for typed, whole in (
            ("qwex doct", "qwex doctor"),
            ("qwex runs --status F", "qwex runs --status FAILED"),
            ("qwex run --runner=doc", "qwex run --runner=docker"),
            ("qwex show finished", "qwex show finished-run"),
            *((("qwex run --workdir=sub", "--workdir=subfolder"),) if shell != "tcsh" else ()),
        ):
            seen = ""
            os.write(terminal, f"{typed}\t".encode())
            see(whole)
            os.write(terminal, b"\x15")  # takes the line back
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_another_shell_is_told_which_there_are(env: dict[str, str]) -> None:
    """A shell that isn't known, or none, gets a line that names those that are, and 64."""
    for words in ([], ["fish"], ["--help"]):
        done = qwex(env, "completion", *words)
        assert (done.returncode, done.stdout) == (64, b"")
        assert b"name a shell of bash, zsh, tcsh" in done.stderr


def test_a_completion_disturbs_nobody(env: dict[str, str]) -> None:
    """Where nothing can be offered, nothing is said."""
    own = {**env, "QWEX_HOME": "/dev/null/home"}
    lines = ("qwex logs ", "qwex frobnicate --", "qwex run --runner=no --", "qwex", "", " ")
    for line in lines:
        done = qwex(own, "completion", "bash", line)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("line", ["", " "])
def test_of_an_empty_line_nothing_is_offered(tmp_path: Path, line: str) -> None:
    """A line in which not even the program stands yet is no mistake."""
    assert candidates(RunManager(str(tmp_path / "home")), line, {}) == []


@pytest.mark.once
def test_the_page_says_how() -> None:
    """The lines that a user puts into a shell's file stand in the page, and in the overview."""
    page = (ROOT / "docs" / "scripts.md").read_text()
    assert _SETUP["bash"][1] in page
    assert _SETUP["tcsh"][1] in page
