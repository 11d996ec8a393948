"""Loop: the one thread of this process that looks after what is open."""

from __future__ import annotations

import os
import threading
import time

from qwex_jupyter.errors import QwexError
from qwex_jupyter.tracker import Tracker


class Loop:
    """One thread that looks after everything open, while anything is.

    A runner's watch says "look again"; a slow poll stands behind it.

    Args:
        tracker: Who looks.
    """

    _SLOW = 2.0

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._watches: dict[str, threading.Thread] = {}
        self._changed: set[str] = set()
        self._owner = os.getpid()

    def wake(self) -> None:
        """Has the thread look at once."""
        self.ensure()
        self._wake.set()

    def ensure(self, run_id: str | None = None) -> None:
        """Makes sure that the thread runs; a fork of this process has one of its own.

        Args:
            run_id: A run to look at next time, which may have left the open ones by then.
        """
        with self._lock:
            if run_id is not None:
                self._changed.add(run_id)
            if self._owner != os.getpid():
                self._owner, self._thread, self._watches = os.getpid(), None, {}
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="qwex-loop", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Ends the thread and the watches."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _notify(self, run_id: str) -> None:
        self._changed.add(run_id)
        self._wake.set()

    def _run(self, stop: threading.Event) -> None:
        slow = 0.0
        before: set[str] = set()
        idle_since = time.monotonic()
        while not stop.is_set():
            self._wake.wait(self._SLOW)
            self._wake.clear()
            now = time.monotonic()
            try:
                open_ids = self._tracker.history.open_ids()
                self._start_watches(open_ids, stop)
                changed, self._changed = self._changed, set()
                # A supervisor takes its run off the list itself: its end is news all the same.
                changed.update(before.difference(open_ids))
                before = set(open_ids)
                if now - slow >= self._SLOW:
                    changed.update(open_ids)
                    slow = now
                if changed:
                    self._tracker.look(changed)
            except (QwexError, OSError):
                stop.wait(1.0)  # a bad moment of the disk; every look starts from the files
            if open_ids:
                idle_since = now
            elif now - idle_since > 10 * self._SLOW:
                with self._lock:  # against `ensure`, which would take it for living
                    if not self._changed and not self._wake.is_set():
                        stop.set()  # and with it the watches; the next submit starts anew
                        self._thread = None

    def _start_watches(self, open_ids: list[str], stop: threading.Event) -> None:
        names = {record.runner for record in self._tracker.records(open_ids[-50:])}
        for name in names - {""}:
            thread = self._watches.get(name)
            if thread is not None and thread.is_alive():
                continue
            runner = self._tracker.runner(name)
            thread = threading.Thread(
                target=runner.watch, args=(self._notify, stop), name=f"qwex-{name}", daemon=True
            )
            self._watches[name] = thread
            thread.start()
