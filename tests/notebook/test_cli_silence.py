"""Whoever waits for a run is told that nobody can be asked about it, in a terminal and a notebook.

The run is of a runner that is in the test's own process only: for everybody else it is of a
package that isn't installed any more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kernel import PATIENCE, environment
from local_helpers import until

from qwex_jupyter import runners
from qwex_jupyter.commands.told import Told
from qwex_jupyter.display.format import UNREACHABLE
from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.declaration import Declaration
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.notebook.verbs import NotebookVerbs
from qwex_jupyter.testing.declared import DECLARED

WHY = "runner='gone' isn't known"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A terminal's environment."""
    return environment(tmp_path / "terminal")


@pytest.fixture
def gone(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run that lives, and whose runner nobody has by now."""
    declared = Declaration(
        name="gone", runner=DECLARED.runner, promises=DECLARED.promises, options=DECLARED.options
    )
    monkeypatch.setattr(runners, "_registered", {"gone": declared})
    manager = RunManager(env["QWEX_HOME"])
    run = manager.submit(JobSpec(script="sleep 600", name="left"), "gone")
    until(lambda: run.poll() is RunStatus.RUNNING)
    monkeypatch.setattr(runners, "_registered", {})
    yield run
    manager.close()


@pytest.mark.parametrize("verb", ["wait", "logs -f", "attach", "wait --json"])
def test_a_terminal_says_it(env: dict[str, str], gone: Run, verb: str) -> None:
    """``wait``, ``logs -f`` and ``attach`` say on stderr why nothing new is known of a run."""
    line = [sys.executable, "-m", "qwex_jupyter.cli", *verb.split(), gone.handle]
    process = subprocess.Popen(
        line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    said = process.stderr.readline().decode()
    if "--json" in verb:
        assert json.loads(said)["note"].startswith(WHY)
    else:
        assert said.startswith(f"qwex: {WHY}")
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == (b"", 130)


def _notebook(manager: RunManager) -> NotebookVerbs:
    shell: Any = SimpleNamespace(display_pub=None, user_ns={})
    return NotebookVerbs(lambda: manager, shell, {})


@pytest.mark.parametrize("line", ["wait --timeout 60", "logs -f"])
def test_a_notebook_says_it(gone: Run, line: str) -> None:
    """``%qwex wait``, and ``logs -f`` of a console, say once why nothing new is known of a run."""
    verbs = _notebook(RunManager(gone.manager.history.home))
    noted: list[str] = []
    verbs.note = lambda text, **_: noted.append(text)  # type: ignore[method-assign]
    waiting = threading.Thread(target=lambda: verbs.line(f"{line} {gone.handle}"))
    waiting.start()
    until(lambda: noted)
    assert noted[0].startswith(WHY)
    folder = gone.manager.history.folder(gone.run_id)
    folder.conclude(gone.manager.history.spec_fact(gone.run_id), _ended(), None)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert len(noted) == 1


def _ended() -> Snapshot:
    return Snapshot(RunStatus.RUNNING, end=End(exit_code=0), finished_at=1.0, observed_at=1.0)


def test_what_a_run_waits_for_is_said_once() -> None:
    """A sentence is said when it changes; of some reasons only, and with the run's title."""
    said: list[str] = []
    record = RunRecord("20261123-163045-k3x9qd", "local", RunStatus.RUNNING, name="x")
    waits = {"reason": str(Reason.STARTING), "message": "It waits."}
    silent = {"reason": str(Reason.BACKEND_UNREACHABLE), "message": "No answer."}
    for only, expected in (((), ["It waits.", "No answer."]), (UNREACHABLE, ["No answer."])):
        said.clear()
        told = Told(record.run_id, said.append, only=only)
        for values in ({}, waits, waits, silent, silent, {"status": RunStatus.SUCCEEDED}):
            told(RunRecord.from_json({**record.to_json(), **values}))
        assert said == expected
    said.clear()
    Told(record.run_id, said.append, named=True)(
        RunRecord.from_json({**record.to_json(), **silent})
    )
    assert said == ["x (k3x9qd): No answer."]


def test_a_notebook_refuses_the_option_of_a_terminal(home: str) -> None:
    """``--json`` in a cell is a mistake that says what a notebook has instead."""
    verbs = _notebook(RunManager(home))
    for line in ("runs --json", "run --json true", "doctor --json"):
        with pytest.raises(SpecError, match="--json is for terminals"):
            verbs.line(line)
