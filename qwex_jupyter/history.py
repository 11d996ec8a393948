"""RunHistory: run folders to records to a DataFrame.

It reads files only and waits for no backend. Nothing here knows a runner.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qwex_jupyter import carry, facts, lookup, opening, reading, removing
from qwex_jupyter.errors import (
    FactTooLarge,
    FactUnreadable,
    NotRemoved,
    RunNotFound,
    SpecError,
    SubmitFailed,
)
from qwex_jupyter.home import default_home
from qwex_jupyter.process import check_platform
from qwex_jupyter.record import RunRecord, is_run_id
from qwex_jupyter.spec import JobSpec, parse_duration
from qwex_jupyter.status import RunStatus

if TYPE_CHECKING:
    import pandas as pd

# No vowels, so no words; nothing that reads like another.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
_ID_TIME = "%Y%m%d-%H%M%S"


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
        home: The folder; made, for its owner only, when it isn't there, and only read when it is.

    Raises:
        RunnerUnavailable: This system can't hold what the history promises.
        HomeUnusable: It belongs to somebody else, others may write to it, or it can't
            hold hard links.
    """

    def __init__(self, home: str | None = None) -> None:
        check_platform()
        self.home = os.path.abspath(home) if home else default_home()
        self.runs_folder = os.path.join(self.home, opening.RUNS)
        self.open_folder = os.path.join(self.home, opening.OPEN)
        self.id = opening.open_home(self.home)
        self._reader = reading.Reader(self.runs_folder)

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
            SpecError: Something that is to go along can't, or what is asked is too much to be
                kept.
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
            labels = len(json.dumps(dict(spec.labels)).encode())
            facts.reserve(making, facts.LAUNCH, facts.STOP, facts.RUN, more=labels)
            facts.link_once(making, facts.SPEC, dict(spec_fact), sync=sync)
            os.rename(making, folder)
            # A submitter that slept for minutes may have been taken off the list.
            self.mark_open(run_id)
        except BaseException as error:
            removing.remove(making)
            if not os.path.exists(folder):
                self.mark_closed(run_id)
            if isinstance(error, FactTooLarge):
                raise SpecError(f"This is too much to be kept: {error}") from error
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
        """Takes a run off the list of `open_ids`, which may be longer than what lives."""
        try:
            os.unlink(os.path.join(self.open_folder, run_id))
        except OSError:
            pass  # somebody was first, or it can only be read: who comes by later does it

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
        try:
            reading.submitted(value)
        except reading.DAMAGE as error:
            path = os.path.join(self.folder(run_id), facts.SPEC)
            raise FactUnreadable(f"{path} isn't a spec of ours: {error}") from error
        return value

    def record(self, run_id: str) -> RunRecord:
        """What is remembered of a run, by files alone. Damage is a record too.

        Raises:
            RunNotFound: There is no such run.
        """
        return self._reader.record(run_id)

    def ended(self, run_id: str) -> bool:
        """Whether a run has ended, or no end of it can be expected: its record is final.

        What was deleted has ended too.

        Raises:
            RunNotFound: It can't be a run's name.
        """
        self.folder(run_id)
        return self._reader.ended(run_id)

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
        """Takes the folder of a run away; the caller has made sure that it ended.

        Raises:
            NotRemoved: Not all of it could be removed; what could not is still listed.
        """
        if "/" in run_id or run_id.startswith(".") or not run_id:
            raise RunNotFound(f"{run_id!r} isn't a run id.")
        folder = os.path.join(self.runs_folder, run_id)
        gone = os.path.join(self.runs_folder, f".gone-{run_id[:80]}-{secrets.token_hex(4)}")
        try:
            os.rename(folder, gone)
        except FileNotFoundError:
            trouble = None  # deleted before
        except OSError as error:
            # A longer name may need room that a full disk hasn't got.
            full = error.errno in facts.NO_SPACE
            trouble = removing.remove(folder) if full else error
        else:
            trouble = removing.remove(gone)
            if trouble is not None:
                try:
                    os.rename(gone, folder)
                except OSError:
                    pass  # it is said where it is, and `sweep` tries again
        if trouble is not None:
            where = str(trouble.filename or folder).replace(gone, folder, 1)
            if not os.path.lexists(folder):
                where = str(trouble.filename or gone)
            raise NotRemoved(
                f"{run_id} could not be removed: {where}: {trouble.strerror}. "
                "Mend that (as its owner, with chmod -R u+w, or as root), then delete it again."
            )
        self.mark_closed(run_id)

    def sweep(self, older: float = 86400.0) -> None:
        """Removes what a process left that was killed in `create` or `delete`, where that goes."""
        try:
            names = os.listdir(self.runs_folder)
        except OSError:
            return
        for name in names:
            path = os.path.join(self.runs_folder, name)
            if name.startswith((".new-", ".gone-")):
                try:
                    if time.time() - os.stat(path).st_mtime > older:
                        removing.remove(path)
                except OSError:
                    pass  # another sweeps too
        for run_id in self.open_ids():
            entry = os.path.join(self.open_folder, run_id)
            try:
                old = time.time() - os.stat(entry).st_mtime > 600
                if old and not os.path.exists(self.folder(run_id)):
                    self.mark_closed(run_id)
                    # Its submitter may have slept until now, and have gone on between the two.
                    if os.path.exists(self.folder(run_id)):
                        self.mark_open(run_id)
            except OSError:
                continue

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


def _first_id(since: float) -> str:
    """Where the run ids of this moment begin."""
    try:
        return datetime.fromtimestamp(since, UTC).strftime(_ID_TIME)
    except (ValueError, OverflowError, OSError):
        raise SpecError(f"since={since!r} isn't a point in time: write 2026-11-23 or 7d.") from None


def _write_new(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
