"""Background: calls that may wait for a backend are made in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qwex_jupyter.errors import QwexError
from qwex_jupyter.system.threads import started


class Background:
    """Makes one call at a time, in a thread of its own.

    A backend that doesn't answer holds up who asks it, and must not stop a clock, or the
    other cells.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def begin(self, call: Callable[..., object], *args: object) -> None:
        """Makes the call unless the last one still runs; errors of a backend are dropped."""
        if self._thread is not None and self._thread.is_alive():
            return

        def work() -> None:
            try:
                call(*args)
            except (QwexError, OSError):
                pass  # the record says what is known

        self._thread = started(work, "qwex-background")

    def wait(self, seconds: float) -> None:
        """Waits for the call to return, at most this many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)
