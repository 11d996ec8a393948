"""The exit codes of ``qwex``, by the table of ``docs/scripts.md``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from environment import ROOT
from kernel import PATIENCE, end_runs, environment, qwex

from qwex_jupyter import cli
from qwex_jupyter.commands import codes
from qwex_jupyter.commands.table import VERBS

PAGE = ROOT / "docs" / "scripts.md"
# What each verb needs to get as far as the history.
_MORE = {"run": ["true"], "delete": ["x"]}


def _rows() -> list[tuple[str, str]]:
    text = PAGE.read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    rows = [line.replace("\\|", "").split("|") for line in text.splitlines() if line[:1] == "|"]
    return [(row[1].strip(), row[3].strip()) for row in rows[2:]]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment."""
    made = environment(tmp_path_factory.mktemp("codes"))
    yield made
    end_runs(made)


@pytest.mark.once
def test_the_page_has_every_code_and_verb() -> None:
    """The table has the codes of the package, the program's own, and no verb that there isn't."""
    known = {codes.USAGE, codes.NO_CODE, codes.INTERRUPTED, codes.NO_READER, 0}
    assert {code for code, _ in _rows()} == {"the program's own", *map(str, known)}
    for _, verbs in _rows():
        assert {name.split()[0] for name in re.findall(r"`([a-z][^`]*)`", verbs)} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_line_is_64(verb: str, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb ends a line that it can't read with 64."""
    monkeypatch.setenv("QWEX_HOME", home)
    assert cli.main([verb, "--no-such-option"]) == 64


@pytest.mark.parametrize("verb", VERBS)
def test_what_can_not_be_done_is_1(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb that finds no usable history ends with 1."""
    monkeypatch.setenv("QWEX_HOME", "/dev/null/home")
    assert cli.main([verb, *_MORE.get(verb, [])]) == 1


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"run", "runs", "prune", "monitor", "doctor"}))
def test_no_such_run_is_64(verb: str, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb that is given a run which isn't there ends with 64."""
    monkeypatch.setenv("QWEX_HOME", home)
    assert cli.main([verb, "nosuchrun"]) == 64


def test_what_was_done_is_0_whatever_became_of_the_run(env: dict[str, str]) -> None:
    """Looking at a failed run, and stopping or deleting it, is 0; waiting for it is its code."""
    assert qwex(env, "run", "--quiet", "--name", "bad", "sh", "-c", "exit 3").returncode == 3
    for verb in ("show", "logs", "cancel"):
        assert qwex(env, verb, "bad").returncode == 0
    for verb in ("attach", "wait", "rerun"):
        assert qwex(env, verb, "bad").returncode == 3
    assert qwex(env, "run", "--no-raise-error", "sh", "-c", "exit 3").returncode == 0
    assert qwex(env, "run", "-d", "sh", "-c", "exit 3").returncode == 0
    assert qwex(env, "delete", "bad").returncode == 0


def test_a_wait_has_the_code_of_the_first_that_failed(env: dict[str, str]) -> None:
    """Of several runs the first that didn't succeed gives the code, 1 where it has none."""
    for name, words in (
        ("zero", ["true"]),
        ("four", ["sh", "-c", "exit 4"]),
        ("five", ["sh", "-c", "exit 5"]),
        ("none", ["no-such-program"]),
    ):
        qwex(env, "run", "--quiet", "--name", name, *words)
    assert qwex(env, "wait", "zero").returncode == 0
    assert qwex(env, "wait", "zero", "four", "five").returncode == 4
    assert qwex(env, "wait", "zero", "none", "five").returncode == 1


@pytest.mark.parametrize("words", ["runs --json", "run yes"])
def test_nobody_reads_on_is_141(env: dict[str, str], words: str) -> None:
    """A pipe that nobody reads ends a list and a run in the foreground as SIGPIPE would."""
    qwex(env, "run", "-d", "true")
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "qwex_jupyter.cli", *words.split()]
    try:
        done = subprocess.run(
            line, env=env, stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    finally:
        os.close(write)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
