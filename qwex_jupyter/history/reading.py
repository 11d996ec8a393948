"""Reading: what a run's folder says of the run, by files alone. Damage is an answer too.

A run has ended when its ``run.json`` is there. Beside that only one thing ends the waiting
for it: where ``spec.json`` or ``launch.json`` is damaged nobody can be asked about the run,
so no end of it will ever be written down, and it is ``LOST / Unreadable``; unless its
supervisor is seen to live, which has read all it needs.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import LAUNCH, RUN, SEEN, SPEC, RunFolder
from qwex_jupyter.errors import FactUnreadable, RunNotFound
from qwex_jupyter.history import columns
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.system import process

# What reading a file may raise that isn't ours, or isn't whole.
DAMAGE = (FactUnreadable, OSError, ValueError, KeyError, TypeError, AttributeError)

# It tells whether the files of a live run are still those that were read.
_Stamp = tuple[tuple[int, ...], ...]


class Reader:
    """Reads the folders of one history. What a run was asked to be is read once.

    Args:
        runs_folder: Where they are.
    """

    def __init__(self, runs_folder: str) -> None:
        self._runs = runs_folder
        self._asked: dict[str, tuple[_Stamp, RunRecord]] = {}

    def record(self, run_id: str) -> RunRecord:
        """What is remembered of a run.

        Raises:
            RunNotFound: There is no such run.
        """
        folder = RunFolder(os.path.join(self._runs, run_id))
        try:
            if not run_id or "/" in run_id or run_id.startswith("."):
                raise OSError
            mode = os.lstat(folder).st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode):
                raise OSError
        except (OSError, ValueError):
            raise self._unknown(run_id) from None
        try:
            if stat.S_ISLNK(mode):
                raise ValueError("it is a link, and what it points at is no run of this home")
            ended = folder.read(RUN)
            if ended is not None:
                self._asked.pop(run_id, None)
                return _final(ended, run_id)
        except DAMAGE as error:
            return _damaged(run_id, error)
        return self._unended(folder, run_id)

    def ended(self, run_id: str) -> bool:
        """Whether a run has ended, or no end of it will ever be known: its record is final.

        It is asked all the time, and opens a file only where one has changed.
        """
        folder = RunFolder(os.path.join(self._runs, run_id))
        if folder.has(RUN):
            return True
        known = self._asked.get(run_id)
        if known is not None and known[0] == _stamp(folder):
            return False
        try:
            return self.record(run_id).status.final
        except RunNotFound:
            return True

    def _unended(self, folder: RunFolder, run_id: str) -> RunRecord:
        try:
            record = self._submitted(folder, run_id)
        except DAMAGE as error:
            if not os.path.isdir(folder):
                raise self._unknown(run_id) from None  # deleted since the first look
            if folder.has(RUN):
                return self.record(run_id)  # it ended since
            return _damaged(run_id, error, keeper(folder))
        try:
            seen = folder.read(SEEN)
            return _checked(_observed(record, seen), run_id) if seen else record
        except DAMAGE:
            return record  # an observation is replaced, not synced; the next one is as good

    def _submitted(self, folder: RunFolder, run_id: str) -> RunRecord:
        stamp = _stamp(folder)
        known = self._asked.get(run_id)
        if known is not None and known[0] == stamp:
            return known[1]
        asked = folder.read(SPEC)
        if asked is None:
            raise ValueError(f"the folder holds no {SPEC}")
        record = _checked(submitted(asked), run_id)
        _check_launch(folder.read(LAUNCH))
        self._asked[run_id] = stamp, record
        return record

    def _unknown(self, run_id: str) -> RunNotFound:
        return RunNotFound(f"{run_id!r}: there is no such run in {os.path.dirname(self._runs)}.")


def submitted(asked: Mapping[str, Any]) -> RunRecord:
    """The record of what ``spec.json`` says.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is no spec of ours.
    """
    if not isinstance(asked["identity"], str) or not isinstance(asked["spec"], dict):
        raise ValueError(f"{SPEC} isn't what this package writes")
    return RunRecord.submitted(asked)


def _check_launch(launch: Mapping[str, Any] | None) -> None:
    if launch is None or isinstance(launch.get("closed"), str):
        return
    supervised = launch.get("by") == "supervisor"
    whose = [launch, launch["leader"]] if supervised else [launch]
    if not isinstance(launch.get("at"), int | float) or any(
        not isinstance(each["pid"], int) for each in whose
    ):
        raise ValueError(f"{LAUNCH} isn't what this package writes")


def keeper(folder: RunFolder) -> Fact | None:
    """The supervisor of a run, unless it is known to be gone."""
    try:
        launch = folder.glance(LAUNCH) or {}
        _check_launch(launch)
        if launch.get("by") == "supervisor" and process.standing(launch) != process.GONE:
            return launch
    except DAMAGE:
        pass  # nothing is left by which it could be known
    return None


def _damaged(run_id: str, error: BaseException, who: Fact | None = None) -> RunRecord:
    """The record of what can't be read; final unless it may still become another."""
    record = RunRecord.unreadable(_shown(run_id), _shown(f"It can't be read: {error}."))
    if who is not None:
        here = process.standing(who) == process.ALIVE
        reason = Reason.UNREADABLE if here else Reason.HOST_UNREACHABLE
        said = (
            f"Its supervisor, process {who['pid']}, lives and will write down how it ends: "
            f"%qwex wait {record.handle}"
            if here
            else f"It runs on {who.get('host')}, which can't be looked into from here. If that "
            f"machine is gone for good: %qwex delete {record.handle} --gone"
        )
        return replace(
            record,
            status=RunStatus.RUNNING,
            reason=reason,
            message=_shown(f"It can't be read: {error}. {said}"),
            started_at=float(who["at"]),
            observed_at=time.time(),
        )
    if isinstance(error, FactUnreadable) and error.passing:
        return replace(
            record,
            status=RunStatus.PENDING,
            message=_shown(f"It can't be read at this moment: {error}. Look again soon."),
            observed_at=time.time(),
        )
    return record


def _final(ended: Mapping[str, Any], run_id: str) -> RunRecord:
    record = _checked(RunRecord.from_json(ended), run_id)
    if not record.status.final:
        raise ValueError(f"{RUN} says {record.status}, which is no end")
    return record


def _checked(record: RunRecord, run_id: str) -> RunRecord:
    if record.run_id != run_id:
        raise ValueError(f"the folder says it is {record.run_id}")
    columns.row(record)
    return record


def _observed(record: RunRecord, seen: Mapping[str, Any]) -> RunRecord:
    status = RunStatus(seen["status"])
    if status.final:
        raise ValueError(f"{SEEN} says {status}, which only {RUN} may say")
    return record.seen(
        Snapshot(
            status,
            reason=seen["reason"],
            message=seen["message"],
            started_at=seen["started_at"],
            observed_at=seen["observed_at"],
            uid=seen["uid"],
            progress=seen["progress"],
            backend_message=seen.get("backend_message", ""),
        )
    )


def _stamp(folder: RunFolder) -> _Stamp:
    return tuple(_stamp_of(path) for path in (f"{folder.path}/{SPEC}", f"{folder.path}/{LAUNCH}"))


def _stamp_of(path: str) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _shown(text: str) -> str:
    """A text of any bytes, as one that can be shown."""
    return text.encode(errors="backslashreplace").decode()
