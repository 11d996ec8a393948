"""Observations: what two threads have seen of one run, in whichever order they say it."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from local_helpers import prepared, sh

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.observations import Observations
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import End, Reason, RunStatus
from qwex_jupyter.system import process


@pytest.fixture
def pending(manager: RunManager) -> RunRecord:
    """What is known of a run that nobody has handed over, as somebody saw it just now."""
    me = process.identify(os.getpid())
    run = prepared(manager, sh("x"), submitter=me, created_at=time.time() - 30)
    return replace(run.record, observed_at=time.time() - 1)


@pytest.fixture
def seen(manager: RunManager) -> Observations:
    """Observations of no manager's loop, which would look meanwhile."""
    return Observations(manager.history)


def test_an_answer_that_comes_late_replaces_no_later_one(
    manager: RunManager, seen: Observations, pending: RunRecord
) -> None:
    """Who asked first and says last what he was answered leaves what was seen since."""
    told: list[RunStatus] = []
    seen.observe(lambda record: told.append(record.status))
    running = replace(pending, status=RunStatus.RUNNING, observed_at=pending.observed_at + 0.5)
    seen.note(running)
    seen.note(pending)
    assert seen.record(pending.run_id) == running
    assert manager.history.record(pending.run_id).status is RunStatus.RUNNING
    assert told == [RunStatus.RUNNING]
    seen.amend(pending.run_id, "no answer", Reason.BACKEND_UNREACHABLE)
    assert seen.record(pending.run_id).reason == Reason.BACKEND_UNREACHABLE


def test_what_is_written_late_replaces_no_later_one(
    manager: RunManager, seen: Observations, pending: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is overtaken between its observation and the disk leaves the later one."""
    running = replace(pending, status=RunStatus.RUNNING, observed_at=pending.observed_at + 0.5)
    write, overtaken = manager.history.observe, [running]

    def slow(record: RunRecord) -> None:
        while overtaken:
            seen.note(overtaken.pop())
        write(record)

    told: list[RunStatus] = []
    seen.observe(lambda record: told.append(record.status))
    monkeypatch.setattr(manager.history, "observe", slow)
    seen.note(pending)
    assert manager.history.record(pending.run_id).status is RunStatus.RUNNING
    assert set(told) == {RunStatus.RUNNING}


def test_who_is_overtaken_while_he_tells_does_not_have_the_last_word(
    seen: Observations, pending: RunRecord
) -> None:
    """Observers hear last what was seen last, also of a thread that had begun to tell before."""
    running = replace(pending, status=RunStatus.RUNNING, observed_at=pending.observed_at + 0.5)
    overtaken, told = [running], []

    def slow(record: RunRecord) -> None:
        while overtaken:
            seen.note(overtaken.pop())
        told.append(record.status)

    seen.observe(slow)
    seen.note(pending)
    assert told[-1] is RunStatus.RUNNING


def test_an_answer_that_comes_after_the_end_is_told_to_nobody(
    manager: RunManager, seen: Observations, pending: RunRecord
) -> None:
    """A run that has ended isn't seen running any more, whoever was asked before."""
    running = replace(pending, status=RunStatus.RUNNING, observed_at=pending.observed_at + 0.5)
    seen.note(running)
    told: list[RunStatus] = []
    seen.observe(lambda record: told.append(record.status))
    manager.history.folder(pending.run_id).finish(End(reason=Reason.NEVER_STARTED))
    end = manager.history.record(pending.run_id)
    seen.note(end)
    seen.forget(pending.run_id)
    seen.note(replace(running, observed_at=time.time()))
    assert told == [end.status]
    assert seen.last(pending.run_id) is None


def test_a_clock_that_was_set_back_hides_nothing(seen: Observations, pending: RunRecord) -> None:
    """What was seen at a time that is still to come is replaced by what is seen now."""
    seen.note(replace(pending, observed_at=time.time() + 3600))
    running = replace(pending, status=RunStatus.RUNNING, observed_at=time.time())
    seen.note(running)
    assert seen.last(pending.run_id) == running
