"""Deletion: a run goes out of the history, and before that what its backend holds of it."""

from __future__ import annotations

from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
)
from qwex_jupyter.history import reading
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.backends import mistakes_of
from qwex_jupyter.manager.tracker import Tracker
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason
from qwex_jupyter.system import process

# As what a run is seen that can't be asked about from here.
_OUT_OF_REACH = (Reason.HOST_UNREACHABLE, Reason.BACKEND_UNREACHABLE)


def delete(history: RunHistory, tracker: Tracker, run_id: str, *, gone: bool) -> None:
    """Frees the backend's object and takes the folder away.

    Args:
        history: Where the run is.
        tracker: Knows how it is.
        run_id: The run.
        gone: The user says that where it ran is gone for good: a run that can't be asked about
            is called LOST first, and what a backend out of reach may hold is left to it.

    Raises:
        RunStillLive: The run has not ended.
        RunnerUnavailable: What its backend may hold of it can't be freed.
        NotRemoved: Not all of it could be removed.
    """
    record = history.record(run_id)
    if not record.status.final:
        try:
            tracker.look([run_id])
            seen = tracker.record(run_id)
            if gone and seen.reason in _OUT_OF_REACH and not _answers(tracker, seen):
                tracker.closing.give_up(run_id)
        except FactUnreadable:
            if not (gone and record.reason == Reason.HOST_UNREACHABLE):
                raise
            history.delete(run_id)  # damaged: its user's word is all there is
            return
        record = history.record(run_id)
    if not record.status.final:
        damaged = "is damaged, and " if record.reason == Reason.UNREADABLE else ""
        raise RunStillLive(
            f"{record.title} {damaged}has not ended, so it is not deleted: "
            f"first %qwex cancel {record.handle}"
        )
    if record.reason == Reason.UNREADABLE:
        _refuse_if_alive(history, run_id)
    else:
        _free(tracker, record, gone=gone)
    history.delete(run_id)


def _answers(tracker: Tracker, record: RunRecord) -> bool:
    """Whether the backend of a run is there, so that it isn't gone for good."""
    if record.reason == Reason.HOST_UNREACHABLE:
        return False  # that of another host, which answers here for this one only
    try:
        return bool(tracker.backends.runner_of(record.run_id).identity() == record.identity)
    except Exception:  # noqa: BLE001 - whatever it is, it doesn't say who it is
        return False


def _refuse_if_alive(history: RunHistory, run_id: str) -> None:
    """Refuses to delete a run with an unreadable end whose supervisor still lives.

    Raises:
        RunStillLive: Its supervisor does.
    """
    who = reading.keeper(history.folder(run_id))
    if who is not None and process.standing(who) == process.ALIVE:
        raise RunStillLive(
            f"{run_id} is damaged, and its process {who['pid']} still lives: "
            f"end that with kill {who['leader']['pid']}, then delete it."
        )


def _free(tracker: Tracker, record: RunRecord, *, gone: bool) -> None:
    """Takes away what the backend holds of a run that has ended."""
    try:
        runner = tracker.backends.runner_of(record.run_id)
        with mistakes_of(record.runner):
            if record.identity in ("", runner.identity()):
                runner.delete(record.run_id)
    except (FactUnreadable, RunNotFound):
        return  # its spec is damaged, or gone, and with it where that would be
    except (RunnerUnavailable, BackendUnreachable, SpecError) as error:
        if not gone:
            raise RunnerUnavailable(
                f"{record.title} is not deleted, as what its backend may hold of it can't be "
                f"freed: {error} Where that is gone for good: %qwex delete {record.handle} --gone"
            ) from error
