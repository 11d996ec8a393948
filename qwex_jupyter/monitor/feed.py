"""Feed: all runs of one history as rows, kept up to date while a monitor is looked at.

One for each manager. It tells its listeners what changed and nothing else, numbered, so that
a page which missed something notices and asks for the whole.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qwex_jupyter import cache
from qwex_jupyter.errors import QwexError
from qwex_jupyter.flag import Flag
from qwex_jupyter.monitor import rows
from qwex_jupyter.monitor.pulse import pulse
from qwex_jupyter.monitor.rows import Rows
from qwex_jupyter.record import RunRecord

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager

Message = dict[str, Any]
Listener = Callable[[Message], None]

# So many rows go with the widget; the others are asked for, so many at a time.
FIRST, CHUNK = 500, 2000
# How often it is looked whether another process has submitted or deleted a run. Seconds.
_LOOK_EVERY = 1.0

_feeds: weakref.WeakKeyDictionary[RunManager, Feed] = weakref.WeakKeyDictionary()
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
        # The table of feeds holds managers weakly, and a feed must not keep its own alive.
        self._manager: weakref.ref[RunManager] = weakref.ref(manager)
        self._history = manager.history
        # Held while a message is made and sent, so that pages get them in their order.
        self.lock = threading.RLock()
        self._rows = Rows({})
        self._counts = self._rows.count()
        self._noted: dict[str, RunRecord] = {}
        self._gone: set[str] = set()
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
        manager = self._manager()
        if manager is None:
            return
        self._forget = manager.observe(self._note)
        self._over = Flag()
        self._read()
        threading.Thread(
            target=self._watch, args=(self._over,), name="qwex-monitor", daemon=True
        ).start()

    def _read(self) -> None:
        """All runs anew, by their files, and by what is known of those that live."""
        stamp = self._stamp_now()
        found, order = cache.look(self._history, rows.WANTED)
        self._rows = Rows(found, order)
        manager = self._manager()
        for record in manager.records(self._history.open_ids()) if manager else ():
            self._rows[record.run_id] = rows.of_record(record)
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
            live = [i for i in ids[FIRST:] if self._rows.status(i) in ("PENDING", "RUNNING")]
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
        records: list[RunRecord] = []
        with self.lock:
            if self._forget is None:
                self._read()
            ids, counts = sorted(self._rows, reverse=True)[:count], dict(self._counts)
        manager = self._manager()
        if manager is not None:
            records = manager.records(ids)
        return records, counts

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
        for run_id, record in noted.items():
            before, after = self._rows.get(run_id), rows.of_record(record)
            if before == after or run_id in gone:
                continue
            if before is None and not self._is_there(run_id):
                continue
            self._rows[run_id] = after
            self._counts[after[1]] += 1
            if before is None:
                fresh.append(after)
            else:
                self._counts[before[1]] -= 1
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

    def _watch(self, over: threading.Event) -> None:
        """Looks whether runs came or went without this process; it hears of its own at once."""
        while not over.wait(_LOOK_EVERY):
            manager = self._manager()
            if manager is None:
                return
            try:
                self.look(manager)
            except (QwexError, OSError):
                pass  # a bad moment of the disk; the next look is as good
            del manager

    def look(self, manager: RunManager) -> None:
        """Compares the folders with what is known, where any came or went."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        there = set(self._history.run_ids())
        with self.lock:
            new = there - self._rows.keys() - self._noted.keys()
            self._gone = self._rows.keys() - there
        for record in manager.records(sorted(new)):
            self._note(record)
        self._stamp = stamp
        manager.wake()  # and with it who lives among them is looked after
        pulse.ask(self._tell)

    def _is_there(self, run_id: str) -> bool:
        return os.path.isdir(os.path.join(self._history.runs_folder, run_id))

    def _stamp_now(self) -> tuple[int, ...]:
        found = os.stat(self._history.runs_folder)
        return found.st_mtime_ns, found.st_ino, found.st_nlink
