"""RunHistory: run folders to records to a DataFrame.

It reads files only and waits for no backend. Nothing here knows a runner.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qwex_jupyter import carry, columns, facts, lookup
from qwex_jupyter.errors import (
    FactUnreadable,
    HomeUnusable,
    RunNotFound,
    SpecError,
    SubmitFailed,
)
from qwex_jupyter.home import default_home
from qwex_jupyter.process import check_platform
from qwex_jupyter.record import RunRecord, is_run_id
from qwex_jupyter.spec import JobSpec, parse_duration
from qwex_jupyter.status import RunStatus, Snapshot

if TYPE_CHECKING:
    import pandas as pd

# No vowels, so no words; nothing that reads like another.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
_ID_TIME = "%Y%m%d-%H%M%S"
# What reading a folder that isn't a run of ours may raise.
_DAMAGE = (FactUnreadable, OSError, ValueError, KeyError, TypeError, AttributeError)


def new_run_id(now: float) -> str:
    """A run id for this moment: UTC time and a handle, whose first character is a letter.

    The first half of the handle is the fraction of the second (in steps of 72 µs), so that
    run ids sort by time; the second half is random.
    """
    fraction = now % 1.0
    letters = ""
    for alphabet in (_ALPHABET[8:], _ALPHABET, _ALPHABET):
        fraction *= len(alphabet)
        letters += alphabet[min(int(fraction), len(alphabet) - 1)]
        fraction %= 1.0
    letters += "".join(secrets.choice(_ALPHABET) for _ in range(3))
    return f"{datetime.fromtimestamp(int(now), UTC).strftime(_ID_TIME)}-{letters}"


class RunHistory:
    """All runs of one home folder.

    Args:
        home: The folder; made, for its owner only, when it isn't there.

    Raises:
        RunnerUnavailable: This system can't hold what the history promises.
        HomeUnusable: It belongs to somebody else, others may write to it, or it can't
            hold hard links.
    """

    def __init__(self, home: str | None = None) -> None:
        check_platform()
        self.home = os.path.abspath(home) if home else default_home()
        self.runs_folder = os.path.join(self.home, "runs")
        self.open_folder = os.path.join(self.home, "open")
        try:
            for folder in (self.home, self.runs_folder, self.open_folder):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            found = os.stat(self.home)
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise HomeUnusable(
                    f"{self.home} belongs to somebody else or others may write to it: "
                    "set QWEX_HOME to a folder of your own (chmod 700)."
                )
            found_id = facts.link_once(self.home, "id", {"id": secrets.token_hex(8)}).get("id")
            if not isinstance(found_id, str) or not re.fullmatch(r"[0-9a-f]{16}", found_id):
                raise HomeUnusable(
                    f"{self.home}/id holds no id of a history: if that folder isn't one, "
                    "set QWEX_HOME to another; if it is, remove this file."
                )
            self.id = found_id
        except OSError as error:
            raise HomeUnusable(
                f"{self.home} can't be used: {error.strerror}. "
                "Set QWEX_HOME to a folder that you may write to."
            ) from error

    def folder(self, run_id: str) -> str:
        """The folder of a run; any text that isn't a run id is refused.

        Raises:
            RunNotFound: It can't be a run's name.
        """
        if not is_run_id(run_id):
            raise RunNotFound(f"{run_id!r} isn't a run id.")
        return os.path.join(self.runs_folder, run_id)

    def create(self, spec: JobSpec, spec_fact: Mapping[str, Any], *, sync: bool = True) -> str:
        """Makes the folder of a new run, whole from the moment it has its name.

        Args:
            spec: What to run; its files are copied, its script is written.
            spec_fact: The content of ``spec.json``, with ``run_id``.
            sync: It survives a loss of power from the moment this returns.

        Returns:
            The folder.

        Raises:
            SpecError: Something that is to go along can't.
            SubmitFailed: The folder can't be written; nothing is left of it.
        """
        run_id = spec_fact["run_id"]
        folder = self.folder(run_id)
        making = os.path.join(self.runs_folder, f".new-{run_id}-{secrets.token_hex(4)}")
        try:
            self.mark_open(run_id)
            os.mkdir(making, 0o700)
            if spec.script is not None:
                _write_new(os.path.join(making, spec.script_name), spec.script.encode())
            for stream in ("stdout", "stderr"):
                _write_new(os.path.join(making, f"{stream}.log"), b"")
            if spec.has_own_folder:
                carry.take(spec, self.home, making, sync=sync)
            facts.reserve(making, facts.LAUNCH, facts.STOP, facts.RUN)
            facts.link_once(making, facts.SPEC, dict(spec_fact), sync=sync)
            os.rename(making, folder)
            # A submitter that slept for minutes may have been taken off the list.
            self.mark_open(run_id)
        except BaseException as error:
            shutil.rmtree(making, ignore_errors=True)
            if not os.path.exists(folder):
                self.mark_closed(run_id)
            if isinstance(error, OSError):
                raise SubmitFailed(
                    f"The run's folder can't be written in {self.home}: {error.strerror}. "
                    "Nothing was started. Free some room, or set QWEX_HOME to another disk."
                ) from error
            raise
        return folder

    def open_ids(self) -> list[str]:
        """The runs that may not have ended, oldest first."""
        try:
            return sorted(name for name in os.listdir(self.open_folder) if is_run_id(name))
        except FileNotFoundError:
            return []

    def mark_open(self, run_id: str) -> None:
        """Puts a run on the list of `open_ids`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(os.path.join(self.open_folder, run_id), flags, 0o600))

    def is_open(self, run_id: str) -> bool:
        """Whether a run is on the list of `open_ids`."""
        return os.path.exists(os.path.join(self.open_folder, run_id))

    def mark_closed(self, run_id: str) -> None:
        """Takes a run off the list of `open_ids`."""
        try:
            os.unlink(os.path.join(self.open_folder, run_id))
        except FileNotFoundError:
            pass  # somebody else was first

    def run_ids(self, since: float | None = None) -> list[str]:
        """All runs, newest first; needs no file opened.

        Args:
            since: Only those submitted at or after this time (seconds since the epoch).
        """
        names = [name for name in os.listdir(self.runs_folder) if not name.startswith(".")]
        if since is not None:
            first = _first_id(since)
            names = [name for name in names if name >= first]
        return sorted(names, reverse=True)

    def spec_fact(self, run_id: str) -> dict[str, Any]:
        """The content of ``spec.json``.

        Raises:
            RunNotFound: There is no such run.
            FactUnreadable: The file is damaged.
        """
        value = facts.read_fact(self.folder(run_id), facts.SPEC)
        if value is None:
            raise RunNotFound(f"{run_id}: there is no such run in {self.home}.")
        return value

    def record(self, run_id: str) -> RunRecord:
        """What is remembered of a run, by files alone. Damage is a record too.

        Raises:
            RunNotFound: There is no such run.
        """
        folder = os.path.join(self.runs_folder, run_id)
        try:
            if not run_id or "/" in run_id or run_id.startswith("."):
                raise OSError
            mode = os.lstat(folder).st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode):
                raise OSError
        except (OSError, ValueError):
            raise RunNotFound(f"{run_id!r}: there is no such run in {self.home}.") from None
        try:
            if stat.S_ISLNK(mode):
                raise ValueError("it is a link, and what it points at is no run of this home")
            return self._read(folder, run_id)
        except _DAMAGE as error:
            return RunRecord.unreadable(_shown(run_id), _shown(f"It can't be read: {error}."))

    def _read(self, folder: str, run_id: str) -> RunRecord:
        ended = facts.read_fact(folder, facts.RUN)
        if ended is not None:
            record = _checked(RunRecord.from_json(ended), run_id)
            if not record.status.final:
                raise ValueError(f"{facts.RUN} says {record.status}, which is no end")
            return record
        asked = facts.read_fact(folder, facts.SPEC)
        if asked is None:
            # The end may have come, and with it the folder's deletion, since the first look.
            if not os.path.isdir(folder):
                raise RunNotFound(f"{run_id!r}: there is no such run in {self.home}.")
            raise ValueError(f"the folder holds no {facts.SPEC}")
        record = _checked(RunRecord.submitted(asked), run_id)
        try:
            seen = facts.read_fact(folder, facts.SEEN)
            return _checked(_observed(record, seen), run_id) if seen else record
        except _DAMAGE:
            return record  # an observation is replaced, not synced; the next one is as good

    def observe(self, record: RunRecord) -> None:
        """Puts the last observation of a live run into ``seen.json``."""
        keys = (
            "status", "reason", "message", "started_at", "observed_at", "progress", "said", "uid",
        )  # fmt: skip
        values = record.to_json()
        facts.replace(self.folder(record.run_id), facts.SEEN, {key: values[key] for key in keys})

    def records(self, *, since: float | None = None) -> Iterator[RunRecord]:
        """The records of all runs, newest first."""
        for run_id in self.run_ids(since):
            try:
                yield self.record(run_id)
            except RunNotFound:
                continue  # deleted since the list was read

    def resolve(self, ref: str) -> str:
        """The run id that a person means.

        A run id, a handle, a ``--name`` (its newest run), or the unique beginning of a
        handle or run id.

        Raises:
            RunNotFound: Nothing goes by that.
            AmbiguousRun: More than one does; the message lists them.
        """
        return lookup.resolve(self, ref)

    def newest(self, *, live: bool | None = None, **wanted: str) -> str | None:
        """The newest run, unfinished ones first; None when there is none.

        Args:
            live: Only runs that live (True) or that ended (False).
            wanted: Fields of its record and what they must say.
        """
        return lookup.newest(self, live, wanted)

    def prunable(
        self,
        *,
        older: float | None = None,
        keep_bytes: int | None = None,
        status: str | Iterable[str] | None = None,
    ) -> list[tuple[RunRecord, int]]:
        """The ended runs that go, oldest first, each with the bytes of its folder.

        Those go that are too old, and the oldest of those that are too much; without a
        bound all go. What lives, and what can't be read (it may live), never goes.

        Args:
            older: Seconds since its end.
            keep_bytes: What all runs together, live ones too, may take up on disk.
            status: Only these statuses, in any case.

        Raises:
            SpecError: A status isn't one that ends a run.
        """
        wanted = statuses_of(status)
        for word in wanted or ():
            if not RunStatus(word).final:
                raise SpecError(f"status={word!r}: a run that lives is never pruned.")
        return lookup.prunable(self, older, keep_bytes, wanted)

    def delete(self, run_id: str) -> None:
        """Takes the folder of a run away; the caller has made sure that it ended."""
        if "/" in run_id or run_id.startswith(".") or not run_id:
            raise RunNotFound(f"{run_id!r} isn't a run id.")
        gone = os.path.join(self.runs_folder, f".gone-{run_id[:80]}-{secrets.token_hex(4)}")
        try:
            os.rename(os.path.join(self.runs_folder, run_id), gone)
        except FileNotFoundError:
            pass  # deleted before
        else:
            _remove(gone)
        self.mark_closed(run_id)

    def sweep(self, older: float = 86400.0) -> None:
        """Removes what a process left that was killed in `create` or `delete`."""
        for name in os.listdir(self.runs_folder):
            path = os.path.join(self.runs_folder, name)
            if name.startswith((".new-", ".gone-")):
                try:
                    if time.time() - os.stat(path).st_mtime > older:
                        _remove(path)
                except OSError:
                    pass  # another sweeps too
        for run_id in self.open_ids():
            entry = os.path.join(self.open_folder, run_id)
            try:
                old = time.time() - os.stat(entry).st_mtime > 600
            except OSError:
                continue
            if old and not os.path.exists(self.folder(run_id)):
                self.mark_closed(run_id)
                # Its submitter may have slept until now, and have gone on between the two.
                if os.path.exists(self.folder(run_id)):
                    self.mark_open(run_id)

    def frame(
        self,
        *,
        status: str | Iterable[str] | None = None,
        runner: str | Iterable[str] | None = None,
        since: str | float | datetime | None = None,
        name: str | None = None,
        limit: int | None = None,
        extra: str | Iterable[str] = (),
    ) -> pd.DataFrame:
        """One row per run, newest on top. See `qwex_jupyter.frame` for the columns.

        Args:
            status: Only these statuses, in any case.
            runner: Only these runners.
            since: A time, or an age like ``2h`` or ``7d``.
            name: Only runs of this ``--name``.
            limit: So many rows at the most.
            extra: More columns: further fields of `RunRecord`, or ``log_path``.

        Raises:
            SpecError: A value isn't one of the allowed.
        """
        from qwex_jupyter import frame

        if limit is not None and limit < 0:
            raise SpecError(f"limit={limit} must not be negative.")
        return frame.read(
            self,
            status=statuses_of(status),
            runner=_words(runner, str.lower),
            since=None if since is None else _first_id(parse_moment(since)),
            name=name,
            limit=limit,
            extra=_words(extra, str) or [],
        )


def _words(value: str | Iterable[str] | None, form: Any) -> list[str] | None:
    if value is None:
        return None
    return [form(str(word)) for word in ([value] if isinstance(value, str) else value)]


def statuses_of(status: str | Iterable[str] | None) -> list[str] | None:
    """Statuses in any case as the members of `RunStatus`; None for no wish.

    Raises:
        SpecError: A word isn't one.
    """
    wanted = _words(status, str.upper)
    for word in wanted or ():
        if word not in RunStatus.__members__:
            allowed = ", ".join(RunStatus.__members__)
            raise SpecError(f"status={word!r} isn't one of {allowed}.")
    return wanted


def parse_moment(since: str | float | datetime) -> float:
    """A point in time: seconds since the epoch, a datetime, an ISO date, or an age."""
    if isinstance(since, datetime):
        return since.timestamp()
    if isinstance(since, str):
        if re.match(r"\d{4}-", since):
            try:
                return datetime.fromisoformat(since).timestamp()
            except ValueError:
                raise SpecError(f"since={since!r} isn't a date: write 2026-11-23 or 7d.") from None
        return time.time() - parse_duration(since, "since")
    return float(since)


def _checked(record: RunRecord, run_id: str) -> RunRecord:
    if record.run_id != run_id:
        raise ValueError(f"the folder says it is {record.run_id}")
    columns.row(record)
    return record


def _shown(text: str) -> str:
    """A text of any bytes, as one that can be shown."""
    return text.encode(errors="backslashreplace").decode()


def _first_id(since: float) -> str:
    """Where the run ids of this moment begin."""
    try:
        return datetime.fromtimestamp(since, UTC).strftime(_ID_TIME)
    except (ValueError, OverflowError, OSError):
        raise SpecError(f"since={since!r} isn't a point in time: write 2026-11-23 or 7d.") from None


def _remove(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _observed(record: RunRecord, seen: Mapping[str, Any]) -> RunRecord:
    return record.seen(
        Snapshot(
            RunStatus(seen["status"]),
            reason=seen["reason"],
            message=seen["message"],
            started_at=seen["started_at"],
            observed_at=seen["observed_at"],
            uid=seen["uid"],
            progress=seen["progress"],
        )
    )


def _write_new(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
