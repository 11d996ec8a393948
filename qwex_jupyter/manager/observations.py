"""Observations: what was last seen of live runs, and who is told when it changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason

Observer = Callable[[RunRecord], None]

# An observation without a change is written again after this many seconds.
_WRITTEN_AGAIN = 60.0


class Observations:
    """The last observation of each live run, in this process and in ``seen.json``.

    Args:
        history: Where they are written down.
    """

    def __init__(self, history: RunHistory) -> None:
        self._history = history
        self._observers: list[Observer] = []
        self._seen: dict[str, RunRecord] = {}
        self._written: dict[str, float] = {}
        # The reasons of the ends that were told, by run.
        self._told: dict[str, set[str]] = {}
        self._lock = threading.RLock()

    def last(self, run_id: str) -> RunRecord | None:
        """The last observation of this process; None when there was none."""
        return self._seen.get(run_id)

    def record(self, run_id: str) -> RunRecord:
        """What is known of a run: its final record, else the last observation of it."""
        record = self._history.record(run_id)
        seen = self._seen.get(run_id)
        if record.status.final or seen is None or seen.observed_at < record.observed_at:
            return record
        return seen

    def note(self, record: RunRecord) -> None:
        """Keeps an observation and tells observers when something changed; an end once.

        Of two threads that asked about a run one may come with its older answer later: what was
        seen since stays, an end above all.
        """
        if self._has_ended(record):
            return
        with self._lock:
            last = self._seen.get(record.run_id)
            if last is not None and _is_older(record, last):
                return
            same = last is not None and replace(last, observed_at=record.observed_at) == record
            if record.status.final:
                # A record that couldn't be read may be repaired, and then its end is news once
                # more.
                ends = self._told.setdefault(record.run_id, set())
                same = record.reason in ends
                ends.add(record.reason)
            else:
                self._seen[record.run_id] = record
        if record.status.final:
            if not same:
                self._tell(record)
            return
        written = self._written.get(record.run_id, 0.0)
        if not same or record.observed_at - written > _WRITTEN_AGAIN:
            self._written[record.run_id] = record.observed_at
            self._each(record, self._write)
        if not same:
            self._each(record, self._tell)

    def _has_ended(self, record: RunRecord) -> bool:
        """Whether an observation of a live run comes when its end was told and is written."""
        if record.status.final or record.run_id not in self._told:
            return False
        return self._history.folder(record.run_id).has(RUN)

    def _each(self, record: RunRecord, do: Callable[[RunRecord], object]) -> None:
        """Does something with the last observation of a run, and again with one that came since.

        So who was overtaken by another thread doesn't leave the older one behind. No lock is held
        meanwhile, as a fork would take it along.
        """
        done: RunRecord | None = None
        while (last := self._seen.get(record.run_id)) is not None and last is not done:
            do(last)
            done = last

    def _write(self, record: RunRecord) -> None:
        """Puts an observation on the disk."""
        try:
            self._history.observe(record)
        except OSError:
            pass  # an observation may be missing; the next one is as good

    def _tell(self, record: RunRecord) -> None:
        """Tells all observers."""
        for observer in list(self._observers):
            try:
                observer(record)
            except Exception:
                # An observer that fails must not stop the others, or the loop.
                logging.getLogger("qwex_jupyter").exception("an observer failed")

    def amend(self, run_id: str, message: str, reason: Reason | None = None) -> None:
        """Notes a run as it was last seen, with another message and, where given, reason.

        Raises:
            RunNotFound: It was deleted.
        """
        before = self.record(run_id)
        self.note(replace(before, message=message, reason=str(reason or before.reason)))

    def unreachable(self, run_id: str, message: str) -> None:
        """Notes that a run's backend doesn't answer, and in a sentence why.

        Raises:
            RunNotFound: It was deleted.
        """
        self.amend(run_id, message, Reason.BACKEND_UNREACHABLE)

    def forget(self, run_id: str) -> None:
        """Forgets a run that has ended: its final record says all."""
        self._seen.pop(run_id, None)
        self._written.pop(run_id, None)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Calls ``observer`` with each new record; returns how to stop it."""
        self._observers.append(observer)

        def forget() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return forget


def _is_older(record: RunRecord, last: RunRecord) -> bool:
    """Whether an observation is of before the last one, and not of a clock that was set back."""
    return not record.status.final and record.observed_at < last.observed_at <= time.time()
