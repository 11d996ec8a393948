"""Aside: what may wait for a backend is done in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qwex_jupyter.errors import QwexError
from qwex_jupyter.threads import started


class Aside:
    """Does one thing at a time in a thread of its own.

    A backend that doesn't answer holds up who asks it, and must not stop a clock, or the
    other cells.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def begin(self, call: Callable[..., object], *args: object) -> None:
        """Calls, unless the last call hasn't returned yet; what a backend raises is no news."""
        if self._thread is not None and self._thread.is_alive():
            return

        def work() -> None:
            try:
                call(*args)
            except (QwexError, OSError):
                pass  # the record says what is known

        self._thread = started(work, "qwex-aside")

    def wait(self, seconds: float) -> None:
        """Waits for the call to return, so long at the most."""
        if self._thread is not None:
            self._thread.join(seconds)
