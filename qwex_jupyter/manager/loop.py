"""Loop: the one thread of this process that looks after what is open."""

from __future__ import annotations

import logging
import os
import threading
import time

from qwex_jupyter.errors import QwexError
from qwex_jupyter.manager.backends import Backend
from qwex_jupyter.manager.tracker import Tracker
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.system.threads import started


class Loop:
    """One thread that looks after everything open, while anything is.

    A runner's watch says "look again"; a slow poll stands behind it.

    Args:
        tracker: Who looks.
        patience: How long it waits for what.
    """

    # Seconds between two looks at what other processes have submitted.
    _SLOW = 2.0
    _LEAST = 0.01

    def __init__(self, tracker: Tracker, patience: Patience = Patience()) -> None:
        self._tracker, self._patience = tracker, patience
        self._lock = threading.Lock()
        self._wake, self._stop = Flag(), Flag()
        self._thread: threading.Thread | None = None
        self._watches: dict[Backend, threading.Thread] = {}
        self._changed: set[str] = set()
        self._owner = os.getpid()

    def wake(self) -> None:
        """Has the thread look at once."""
        # In this order, a thread that is about to end for lack of work sees that there is some.
        self._wake.set()
        self.ensure()

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
                self._stop = Flag()
                self._thread = started(self._run, "qwex-loop", self._stop)

    def stop(self) -> None:
        """Ends the thread and the watches."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _notify(self, run_id: str) -> None:
        with self._lock:  # or it may be added to the set that was just taken out
            self._changed.add(run_id)
        self._wake.set()

    def _run(self, stop: threading.Event) -> None:
        before: set[str] = set()
        open_ids: list[str] = []
        idle_since = time.monotonic()
        pause = self._SLOW
        while not stop.is_set():
            self._wake.wait(max(self._LEAST, min(pause, self._SLOW)))
            self._wake.clear()
            now = time.monotonic()
            try:
                open_ids = self._tracker.history.open_ids()
                with self._lock:
                    changed, self._changed = self._changed, set()
                # A supervisor takes its run off the list itself, but the end is news all the same.
                changed.update(before.difference(open_ids))
                before = set(open_ids)
                changed.update(self._tracker.due(open_ids)[0])
                if changed:
                    self._tracker.look(changed)
                self._start_watches(open_ids, stop)
                _, pause = self._tracker.due(open_ids)
            except (QwexError, OSError):
                stop.wait(1.0)  # a bad moment of the disk; every look starts from the files
            except Exception:
                # This is a mistake of ours, and everybody who waits for an end here relies on this
                # thread.
                logging.getLogger("qwex_jupyter").exception("a look failed")
                stop.wait(1.0)
            if open_ids:
                idle_since = now
            elif now - idle_since > self._patience.idle:
                with self._lock:  # against `ensure`, which would take it for living
                    if not self._changed and not self._wake.is_set():
                        stop.set()  # and with it the watches; the next submit starts anew
                        self._thread = None

    def _start_watches(self, open_ids: list[str], stop: threading.Event) -> None:
        for backend, runner in self._tracker.backends.in_use(open_ids).items():
            thread = self._watches.get(backend)
            if thread is not None and thread.is_alive():
                continue
            thread = started(self._watch, f"qwex-{runner.name}", runner, stop)
            if thread is not None:
                self._watches[backend] = thread

    def _watch(self, runner: Runner, stop: threading.Event) -> None:
        try:
            runner.watch(self._notify, stop)
        except Exception:
            # A mistake of a runner's: the polls go on without it, and it is called again.
            logging.getLogger("qwex_jupyter").debug(
                "%s: a watch failed", runner.name, exc_info=True
            )
            stop.wait(runner.polled_every)
