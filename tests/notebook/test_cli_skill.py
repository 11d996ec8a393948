"""The skill for coding agents: what it tells them to write does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import skill
import yaml
from kernel import PATIENCE, end_runs, environment, qwex

from qwex_jupyter.commands.options import asks_json
from qwex_jupyter.commands.table import ALIASES, VERBS, parser_of
from qwex_jupyter.model.status import RunStatus

PAGE = skill.PAGE.read_text()
BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment, with `qwex` on its path."""
    made = environment(tmp_path_factory.mktemp("skill"))
    folder = os.path.dirname(sys.executable)
    yield {**made, "PATH": os.pathsep.join([folder, made["PATH"]])}
    end_runs(made)


@pytest.mark.once
def test_its_tables_are_made_of_the_options() -> None:
    """Verbs and options of the skill are those of the package."""
    assert skill.placed() == skill.made(), "python tests/rigs/skill.py --save"


@pytest.mark.once
def test_its_head_is_what_an_agent_reads() -> None:
    """The front matter has a name, that of its folder, and a description of one line."""
    _, head, body = PAGE.split("---\n", 2)
    values = yaml.safe_load(head)
    assert set(values) == {"name", "description"}
    assert values["name"] == skill.PAGE.parent.name
    assert 100 < len(values["description"]) <= 1024
    assert "\n" not in values["description"]
    assert body.count("\n") < 500


@pytest.mark.once
def test_it_names_every_status() -> None:
    """What each status means for an agent is told."""
    assert set(re.findall(r"^\| `([A-Z]+)` \|", PAGE, re.MULTILINE)) == set(RunStatus)


@pytest.mark.once
def test_what_it_writes_are_verbs_and_options() -> None:
    """Each line of ``qwex`` in the skill has a verb and options that there are."""
    said = re.findall(r"`(qwex [^`]+)`", PAGE) + [
        line.strip() for block in BLOCKS for line in block.splitlines()
    ]
    assert len(said) > 10
    for line in said:
        verb, *rest = shlex.split(line)[1:]
        assert verb in {*VERBS, *ALIASES}, line
        for word in rest:
            if word.startswith("-"):
                assert word in parser_of(verb).flags, line
        assert asks_json(verb, rest) == ("--json" in rest), line


@pytest.mark.once
def test_it_has_no_words_of_a_notebook() -> None:
    """What options and verbs do is said as it is in a terminal."""
    assert not re.search(r"the Run\b|raises nothing \||%config|getpass", PAGE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_whose_tool_call_is_killed_goes_on(
    env: dict[str, str], number: signal.Signals
) -> None:
    """Only Ctrl-C cancels: any other signal that ends a foreground ``qwex run`` leaves its run."""
    own = {**env, "QWEX_HOME": f"{env['QWEX_HOME']}-{number.name}"}
    words = ["run", "--json", "--name", number.name, "sh", "-c", "echo up; exec sleep 600"]
    with subprocess.Popen(
        [sys.executable, "-m", "qwex_jupyter.cli", *words],
        env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
    run = json.loads(qwex(own, "show", "--json", number.name).stdout)
    assert run["status"] == "RUNNING"
    end_runs(own)


def test_its_way_leads_to_the_end_of_a_run(env: dict[str, str], tmp_path: Path) -> None:
    """The lines of the skill, one after the other, submit a run, wait, read it and find it."""
    (tmp_path / "train.py").write_text("print('trained')\nraise SystemExit(3)\n")

    def sh(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return done.returncode, done.stdout

    submit, wait, read, look = BLOCKS
    code, out = sh(submit)
    assert code == 0
    handle = json.loads(out)["handle"]
    code, out = sh(wait.replace("HANDLE", handle))
    assert (code, json.loads(out)["status"]) == (3, "FAILED")
    show, logs = read.strip().splitlines()
    assert json.loads(sh(show.replace("HANDLE", handle))[1])["message"].startswith("Exit code 3")
    assert sh(logs.replace("HANDLE", handle)) == (0, "trained\n")
    for line in look.strip().splitlines():
        code, out = sh(line)
        assert (code, json.loads(out)["handle"]) == (0, handle)
