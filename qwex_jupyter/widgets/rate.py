"""How often anything goes to a page: one rate for all displays of a process.

A server drops everything above 1,000 messages a second, and a page that is told of each
change has no time left for its user: so changes are collected, and each listener is told a
few times a second, all together not more often than `_MOST`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from qwex_jupyter.system.flag import Flag

Call = Callable[[], object]

# Seconds between two messages to the same listener, and messages a second to all of them.
EVERY = 0.25
_MOST = 40.0
# So long the thread waits for more to do.
_IDLE = 5.0


class Pulse:
    """Calls who asks for it: at once when that was quiet, else when its turn has come.

    Args:
        every: Seconds between two calls of the same.
        most: Calls a second, of all.
        clock: Seconds; a test's own.
    """

    def __init__(
        self,
        every: float = EVERY,
        most: float = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every, self._least, self._clock = every, 1 / most, clock
        self._wanted: dict[Call, float] = {}
        self._called: dict[Call, float] = {}
        self._free = 0.0
        self._lock, self._changed = threading.Lock(), Flag()
        self._thread: threading.Thread | None = None

    def ask(self, call: Call, *, after: float = 0.0) -> None:
        """Has this called soon, once, however often it is asked for until then.

        Args:
            call: Takes no arguments.
            after: Not before so many seconds have passed.
        """
        with self._lock:
            if call in self._wanted:
                return
            turn = self._called.get(call, float("-inf")) + self._every
            self._wanted[call] = max(self._clock() + after, turn)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="qwex-pulse", daemon=True)
                self._thread.start()
            self._changed.set()

    def forget(self, call: Call) -> None:
        """It isn't called any more."""
        with self._lock:
            self._wanted.pop(call, None)
            self._called.pop(call, None)

    def take(self) -> tuple[Call | None, float]:
        """Who is to be called now, or else in how many seconds to ask again."""
        now = self._clock()
        if not self._wanted:
            return None, _IDLE
        call = min(self._wanted, key=self._wanted.__getitem__)
        pause = max(self._wanted[call], self._free) - now
        if pause > 0:
            return None, pause
        del self._wanted[call]
        self._called[call], self._free = now, now + self._least
        return call, 0.0

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.clear()
                call, pause = self.take()
            if call is None:
                self._changed.wait(pause)
                with self._lock:
                    if pause == _IDLE and not self._wanted:
                        self._thread = None
                        return
                continue
            try:
                call()
            except Exception:
                # A mistake of ours with one display must not stop the others.
                logging.getLogger("qwex_jupyter").exception("a display could not be updated")


# The one of this process.
pulse = Pulse()
