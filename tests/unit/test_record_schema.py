"""The schema of a record in the package is that of the dataclass, and real records fit it."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import record_schema

from qwex_jupyter.commands import as_json
from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, RUN
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.testing import memory


def _fits(run: Run) -> tuple[str, str]:
    """Status and reason of a run, all of whose faces fit the schema."""
    record = run.record
    shown = as_json.of_run(record)
    assert not record_schema.mistakes(json.loads(as_json.line(shown)))
    assert not record_schema.mistakes(record.to_json())
    if record.status.final:
        ended = facts.read_fact(run.manager.history.folder(run.run_id), RUN)
        assert ended is not None
        assert not record_schema.mistakes(ended)
    return str(record.status), record.reason


@pytest.mark.once
def test_the_schema_is_that_of_the_dataclass() -> None:
    """A new field, status or reason is in the schema; it is made of them."""
    saved = (files("qwex_jupyter.model") / "record.schema.json").read_text()
    assert saved == record_schema.text(), "python tests/rigs/record_schema.py --save"


@pytest.fixture
def clock() -> list[float]:
    """Seconds that pass when a test says so."""
    return [1000.0]


@pytest.fixture
def played(home: str, clock: list[float]) -> RunManager:
    """A manager of scripted runs that go by that clock."""
    return RunManager(home, default="memory", settings={"memory": {"clock": lambda: clock[0]}})


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("out hello", ("SUCCEEDED", "")),
        ("exit 3", ("FAILED", "NonZeroExit")),
        ("signal 11", ("FAILED", "Signalled")),
        ("oom", ("FAILED", "OutOfMemory")),
    ],
)
def test_a_scripted_end_fits(played: RunManager, script: str, ended: tuple[str, str]) -> None:
    """The record of a run that ended by itself fits the schema, in its file and as it is shown."""
    run = played.submit(JobSpec(script=script, labels={"who": "Jörg"})).wait(check=False)
    assert _fits(run) == ended


def test_a_scripted_life_fits(played: RunManager, clock: list[float]) -> None:
    """The records of a run that lives, and then was cancelled, fit the schema."""
    run = played.submit(JobSpec(script="ignore-term\nsleep 600"))
    assert _fits(run)[0] in ("PENDING", "RUNNING")
    run.cancel(grace=100)
    clock[0] += 101
    assert _fits(run.wait(check=False)) == ("CANCELLED", "CancelledByUser")


def test_a_run_that_vanished_fits(played: RunManager) -> None:
    """The record of a run whose end nobody saw fits the schema."""
    run = played.submit(JobSpec(script="sleep 600"))
    memory._world().jobs.clear()
    folder = run.log.folder
    launch = facts.read_fact(folder, LAUNCH)
    assert launch is not None
    facts.replace(folder, LAUNCH, {**launch, "at": launch["at"] - 100})  # no longer fresh
    assert _fits(run.wait(check=False)) == ("LOST", "Vanished")


@pytest.mark.parametrize(
    ("spec", "ended"),
    [
        (JobSpec(["sh", "-c", "echo a; sleep 600 & exit 0"]), ("SUCCEEDED", "")),
        (JobSpec(["sh", "-c", "exit 3"]), ("FAILED", "NonZeroExit")),
        (JobSpec(["no-such-program"]), ("FAILED", "CommandNotFound")),
        (JobSpec(["sleep", "600"], timeout=0.2, grace=0), ("FAILED", "TimedOut")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_local_end_fits(manager: RunManager, spec: JobSpec, ended: tuple[str, str]) -> None:
    """The record that a supervisor writes fits the schema."""
    assert _fits(manager.submit(spec).wait(check=False)) == ended


def test_one_that_never_started_fits(manager: RunManager) -> None:
    """The record of a run whose launch was closed fits the schema."""
    made = manager.prepare(JobSpec(["true"]))
    folder = manager.history.create(made.spec, {**made.fact, "created_at": 1.0}, sync=False)
    assert folder.close_launch("it was closed here")
    run = Run(manager, made.run_id)
    assert _fits(run.wait(60, check=False)) == ("LOST", "NeverStarted")


def test_one_that_can_not_be_read_fits(home: str) -> None:
    """The row of a folder that holds no readable run fits the schema."""
    record = RunRecord.unreadable("20261123-163045-k3x9qd", "It is damaged.")
    assert not record_schema.mistakes(as_json.of_run(record))


@pytest.mark.parametrize(
    "wrong",
    [
        {"more": 1},
        {"status": "DONE"},
        {"reason": "Because"},
        {"exit_code": 3},
        {"labels": {"a": 1}},
        {"run_id": "x"},
        {"status": "RUNNING", "exit_code": 0},
    ],
    ids=str,
)
def test_what_is_no_record_does_not_fit(wrong: dict[str, object]) -> None:
    """The schema refuses another field, an unknown word, a success with a code above zero."""
    good = RunRecord(
        "20261123-163045-k3x9qd", "local", RunStatus.SUCCEEDED, Reason.NONE, exit_code=0
    ).to_json()
    assert not record_schema.mistakes(good)
    assert record_schema.mistakes({**good, **wrong})
    del good["message"]
    assert record_schema.mistakes(good)
