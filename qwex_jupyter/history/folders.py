"""RunFolders: the folders of all runs of one home, and the record that each holds.

They are files only: nothing here waits for a backend, and nothing knows a runner.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from qwex_jupyter.disk import awaited, carry, facts, opening, removing
from qwex_jupyter.disk.folder import OPEN, RUNS, SPEC, STREAMS, RunFolder
from qwex_jupyter.disk.home import default_home
from qwex_jupyter.errors import (
    FactTooLarge,
    FactUnreadable,
    HomeUnusable,
    NotRemoved,
    RunNotFound,
    SpecError,
    SubmitFailed,
)
from qwex_jupyter.history import reading
from qwex_jupyter.model.record import RunRecord, is_run_id
from qwex_jupyter.model.run_ids import STEP, first_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.argv import script_text
from qwex_jupyter.system import files
from qwex_jupyter.system.process import check_platform

# The time of this empty file is the moment that the last run was named after.
_LAST = "last"


class RunFolders:
    """The folders of all runs of one home.

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
        self.runs_folder = os.path.join(self.home, RUNS)
        self.open_folder = os.path.join(self.home, OPEN)
        self.id = opening.open_home(self.home)
        self._opened = _number(self.runs_folder)
        self._reader = reading.Reader(self.runs_folder)

    def is_there(self) -> bool:
        """Whether what was opened is still there, and no other in its place."""
        return _number(self.runs_folder) == self._opened

    def vanished(self) -> HomeUnusable:
        """The error for a home that was deleted or replaced."""
        return HomeUnusable(
            f"{self.home} was deleted or unmounted since it was opened. Bring it back, set "
            "QWEX_HOME to another folder, or try again to begin with an empty history."
        )

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run; any text that isn't a run id is refused.

        Raises:
            RunNotFound: It can't be a run's name.
        """
        if not is_run_id(run_id):
            raise RunNotFound(f"{run_id!r} isn't a run id.")
        return RunFolder(os.path.join(self.runs_folder, run_id))

    def next_moment(self, now: float) -> float:
        """The moment that a new run is named after: now, but later than that of the last run.

        So the last that was submitted is the newest, though a clock went back meanwhile.
        """
        path = os.path.join(self.home, _LAST)
        try:
            moment = max(now, os.stat(path).st_mtime + STEP)
        except OSError:
            moment = now
        try:
            os.close(os.open(path, files.MARK, 0o600))
            os.utime(path, (moment, moment))
        except OSError:
            pass  # where nothing can be written there won't be a run either
        return moment

    def create(
        self, spec: JobSpec, spec_fact: Mapping[str, Any], *, sync: bool = True
    ) -> RunFolder:
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
        making = RunFolder(os.path.join(self.runs_folder, f".new-{run_id}-{secrets.token_hex(4)}"))
        try:
            self.mark_open(run_id)
            os.mkdir(making, 0o700)
            if spec.script is not None:
                _write_new(os.path.join(making, spec.script_name), script_text(spec).encode())
            for stream in STREAMS:
                _write_new(making.log(stream), b"")
            if spec.has_own_folder:
                carry.take(spec, self.home, making, sync=sync)
            labels = len(json.dumps(dict(spec.labels)).encode())
            making.begin(spec_fact, labels, sync=sync)
            files.move(making.path, folder.path)
            # Another kernel may have taken the run of a submitter that slept for minutes off the
            # list.
            self.mark_open(run_id)
        except BaseException as error:
            removing.remove(making.path)
            if not os.path.exists(folder):
                self.mark_closed(run_id)
            if isinstance(error, FactTooLarge):
                raise SpecError(f"This is too much to be kept: {error}") from error
            if isinstance(error, UnicodeEncodeError):
                near = error.object[max(0, error.start - 40) : error.end + 40]
                raise SpecError(
                    f"This can't be written down, as not all of it is UTF-8: {near!r}."
                ) from error
            if isinstance(error, FileNotFoundError) and not self.is_there():
                raise self.vanished() from error
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
        os.close(os.open(os.path.join(self.open_folder, run_id), files.MARK, 0o600))

    def is_open(self, run_id: str) -> bool:
        """Whether a run is on the list of `open_ids`."""
        return os.path.exists(os.path.join(self.open_folder, run_id))

    def mark_closed(self, run_id: str) -> None:
        """Takes a run off the list of `open_ids`, which may be longer than what lives."""
        RunFolder.of(self.home, run_id).leave_open_list()

    def run_ids(self, since: float | None = None) -> list[str]:
        """All runs, newest first; needs no file opened.

        Args:
            since: Only those submitted at or after this time (seconds since the epoch).
        """
        try:
            names = [name for name in os.listdir(self.runs_folder) if not name.startswith(".")]
        except FileNotFoundError:
            raise self.vanished() from None
        if since is not None:
            first = first_id(since)
            names = [name for name in names if name >= first]
        return sorted(names, reverse=True)

    def spec_fact(self, run_id: str) -> dict[str, Any]:
        """The content of ``spec.json``.

        Raises:
            RunNotFound: There is no such run.
            FactUnreadable: The file is damaged.
        """
        value = self.folder(run_id).read(SPEC)
        if value is None:
            raise RunNotFound(f"{run_id}: there is no such run in {self.home}.")
        try:
            reading.submitted(value)
        except reading.DAMAGE as error:
            path = os.path.join(self.folder(run_id), SPEC)
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
        self.folder(record.run_id).note_seen(record)

    def records(self, *, since: float | None = None) -> Iterator[RunRecord]:
        """The records of all runs, newest first."""
        for run_id in self.run_ids(since):
            try:
                yield self.record(run_id)
            except RunNotFound:
                continue  # deleted since the list was read

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
            files.move(folder, gone)
        except FileNotFoundError:
            trouble = None  # deleted before
        except OSError as error:
            # A longer name may need room that a full disk doesn't have.
            full = error.errno in facts.NO_SPACE
            trouble = removing.remove(folder) if full else error
        else:
            trouble = removing.remove(gone)
            if trouble is not None:
                try:
                    files.move(gone, folder)
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
        """Removes what processes left behind that were killed in `create` or `delete`."""
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
        awaited.sweep(self.home)
        for run_id in self.open_ids():
            entry = os.path.join(self.open_folder, run_id)
            try:
                old = time.time() - os.stat(entry).st_mtime > 600
                if old and not os.path.exists(self.folder(run_id)):
                    self.mark_closed(run_id)
                    # The submitter may have slept until now, and gone on between the two looks.
                    if os.path.exists(self.folder(run_id)):
                        self.mark_open(run_id)
            except OSError:
                continue


def _number(folder: str) -> tuple[int, int] | None:
    """Which folder that is, for as long as it is there."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _write_new(path: str, data: bytes) -> None:
    with open(os.open(path, files.NEW, 0o600), "wb") as file:
        file.write(data)
