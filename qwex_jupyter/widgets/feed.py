"""All runs of one history as rows, which are kept up to date while a monitor is looked at.

One for each manager. It tells its listeners what changed and nothing else, numbered, so that
a page which missed something notices and asks for the whole.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import QwexError
from qwex_jupyter.history import cache
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.widgets import rows
from qwex_jupyter.widgets.gauges import Gauges
from qwex_jupyter.widgets.rate import pulse
from qwex_jupyter.widgets.rows import Rows

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

Message = dict[str, Any]
Listener = Callable[[Message], None]

# So many rows go with the widget; the others are asked for, so many at a time.
FIRST, CHUNK = 500, 2000
_LIVE = (RunStatus.PENDING, RunStatus.RUNNING)
# How often it is looked whether a run came, ended or went without a word. Seconds.
_LOOK_EVERY = 1.0
# How often it is looked how far some of the programs are. Seconds.
_MEASURE_EVERY = 1.9
# Of so many new runs it is looked up each time how long they take as a rule.
_USUAL_AT_ONCE = 4

# Managers that have a monitor live as long as their process.
_feeds: dict[RunManager, Feed] = {}
_lock = threading.Lock()


def feed_of(manager: RunManager) -> Feed:
    """The feed of a manager, the same for all monitors."""
    with _lock:
        if manager not in _feeds:
            _feeds[manager] = Feed(manager)
        return _feeds[manager]


class Feed:
    """What the pages are told of all runs.

    Args:
        manager: Who knows them.
    """

    def __init__(self, manager: RunManager) -> None:
        self._manager, self._history = manager, manager.history
        # Held while a message is made and sent, so that pages get them in their order.
        self.lock = threading.RLock()
        self._rows = Rows({})
        self._counts = self._rows.count()
        # Whose rows say that they live.
        self._live: set[str] = set()
        self._noted: dict[str, RunRecord] = {}
        self._gone: set[str] = set()
        # How far the programs of runs are, and what of that isn't told yet.
        self._gauges = Gauges(lambda run_id: RunLog(self._history.folder(run_id)))
        self._moved: set[str] = set()
        # How long what runs takes as a rule; 0 for not known.
        self._usual: dict[str, float] = {}
        self._listeners: list[Listener] = []
        self._number = 0
        self._stamp: tuple[int, ...] = ()
        self._forget: Callable[[], None] | None = None
        self._over = Flag()

    def join(self, listener: Listener) -> None:
        """Tells this listener of changes from now on."""
        with self.lock:
            if listener in self._listeners:
                return
            self._listeners.append(listener)
            if self._forget is None:
                self._begin()

    def leave(self, listener: Listener) -> None:
        """Tells it nothing more; without listeners nothing is watched."""
        with self.lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if not self._listeners and self._forget is not None:
                self._forget()
                self._forget = None
                self._over.set()
                pulse.forget(self._tell)

    def _begin(self) -> None:
        self._forget = self._manager.observe(self._note)
        self._over = Flag()
        self._read()
        threading.Thread(
            target=self._watch, args=(self._over,), name="qwex-monitor", daemon=True
        ).start()

    def _read(self) -> None:
        """All runs anew, by their files, and by what is known of those that live."""
        stamp = self._stamp_now()
        found, order = cache.look(self._history, rows.WANTED)
        self._rows, self._live = Rows(found, order), set()
        for record in self._manager.tracker.records(self._history.open_ids()):
            self._put(record.run_id, self._row(record))
        self._counts = self._rows.count()
        self._stamp = stamp
        self._number += 1

    def whole(self) -> Message:
        """What a page begins with: the newest rows and those that live, counts, the number."""
        with self.lock:
            if self._forget is None:
                self._read()
            self._flush()
            ids = sorted(self._rows, reverse=True)
            live = [i for i in ids[FIRST:] if i in self._live]
            return {
                **self._state(),
                "rows": rows.pack([self._rows[run_id] for run_id in (*ids[:FIRST], *live)]),
                "before": ids[FIRST - 1] if len(ids) > FIRST else "",
            }

    def more(self, before: str) -> Message:
        """The next rows, older than this run."""
        with self.lock:
            ids = sorted(self._rows)
            at = bisect_left(ids, before)
            some = ids[max(0, at - CHUNK) : at]
            left = some[0] if at > CHUNK else ""
            return {"rows": rows.pack([self._rows[run_id] for run_id in some]), "before": left}

    def newest(self, count: int) -> tuple[list[RunRecord], dict[str, int]]:
        """The newest runs as records, and how many there are of each status."""
        with self.lock:
            if self._forget is None:
                self._read()
            ids, counts = sorted(self._rows, reverse=True)[:count], dict(self._counts)
        return self._manager.tracker.records(ids), counts

    def _state(self) -> Message:
        return {"number": self._number, "counts": self._counts, "total": len(self._rows)}

    def _note(self, record: RunRecord) -> None:
        """Called by the manager, in whichever thread."""
        with self.lock:
            self._noted[record.run_id] = record
        pulse.ask(self._tell)

    def _tell(self) -> None:
        with self.lock:
            message = self._flush()
            if message is not None:
                for listener in list(self._listeners):
                    listener(message)

    def _flush(self) -> Message | None:
        """What changed since the last time; None for nothing."""
        noted, self._noted = self._noted, {}
        gone, self._gone = self._gone & self._rows.keys(), set()
        fresh, changed = [], []
        # A run may have come after the folders were listed, and one that is told of may be gone.
        gone = {run_id for run_id in gone if not self._is_there(run_id)}
        for run_id in gone:
            self._counts[self._rows.pop(run_id)[1]] -= 1
            self._live.discard(run_id)
        for run_id, record in noted.items():
            before, after = self._rows.get(run_id), self._row(record)
            if before == after or run_id in gone:
                continue
            if before is None and not self._is_there(run_id):
                continue
            self._put(run_id, after)
            self._counts[after[1]] += 1
            if before is None:
                fresh.append(after)
            else:
                self._counts[before[1]] -= 1
                changed.append([run_id, rows.difference(before, after)])
        moved, self._moved = self._moved, set()
        for run_id in moved & self._live:
            before = self._rows[run_id]
            after = rows.with_progress(before, self._gauges.of(run_id), self._usual.get(run_id))
            if before != after:
                self._put(run_id, after)
                changed.append([run_id, rows.difference(before, after)])
        if not (fresh or changed or gone):
            return None
        self._number += 1
        message = {"kind": "changes", **self._state()}
        if fresh:
            message["rows"] = rows.pack(fresh)
        if changed:
            message["changed"] = changed
        if gone:
            message["gone"] = sorted(gone)
        return message

    def _row(self, record: RunRecord) -> rows.Row:
        """What is known of a run, with how far its program says that it is."""
        row = rows.of_record(record)
        said, usual = self._gauges.of(record.run_id), self._usual.get(record.run_id)
        running = record.status is RunStatus.RUNNING
        return rows.with_progress(row, said, usual) if running and (said or usual) else row

    def _put(self, run_id: str, row: rows.Row) -> None:
        self._rows[run_id] = row
        if row[1] in _LIVE:
            self._live.add(run_id)
        else:
            self._live.discard(run_id)

    def _watch(self, over: threading.Event) -> None:
        """Looks whether runs came, ended or went unheard; of most that is heard at once."""
        measured_at = 0.0
        while not over.wait(_LOOK_EVERY):
            with suppress(QwexError, OSError):  # a bad moment of the disk; the next look is as good
                self.look()
                if time.monotonic() >= measured_at + _MEASURE_EVERY:
                    measured_at = time.monotonic()
                    self.measure()

    def measure(self) -> None:
        """Reads on how far the programs of some runs are."""
        with self.lock:
            running = [i for i in self._live if self._rows.status(i) == RunStatus.RUNNING]
        changed = set(self._gauges.look(running, time.time()))
        self._usual = {run_id: self._usual[run_id] for run_id in running if run_id in self._usual}
        new = [i for i in sorted(running) if i not in self._usual and not self._gauges.of(i)]
        for record in self._manager.tracker.records(new[:_USUAL_AT_ONCE]):
            self._usual[record.run_id] = self._manager.usual_time(record) or 0.0
            changed.add(record.run_id)
        if changed:
            with self.lock:
                self._moved |= changed
            pulse.ask(self._tell)

    def look(self) -> None:
        """Compares the folders with what is known, where any came, ended or went."""
        with self.lock:
            live = list(self._live)
        # Of most ends the manager tells. One may come after a run was read and before the manager
        # first looks at it, and what is told by several threads may come out of its order.
        for record in self._manager.tracker.records(i for i in live if self._history.ended(i)):
            self._note(record)
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        there = set(self._history.run_ids())
        with self.lock:
            new = there - self._rows.keys() - self._noted.keys()
            self._gone = self._rows.keys() - there
        for record in self._manager.tracker.records(sorted(new)):
            self._note(record)
        self._stamp = stamp
        self._manager.wake()  # and with it who lives among them is looked after
        pulse.ask(self._tell)

    def _is_there(self, run_id: str) -> bool:
        return os.path.isdir(os.path.join(self._history.runs_folder, run_id))

    def _stamp_now(self) -> tuple[int, ...]:
        found = os.stat(self._history.runs_folder)
        return found.st_mtime_ns, found.st_ino, found.st_nlink
