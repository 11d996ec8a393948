"""Flag: an event that an interrupt can't break."""

from __future__ import annotations

import threading


class Flag(threading.Event):
    """A `threading.Event` that the thread which gets interrupts may set and wait for.

    ``Condition.__enter__``, and so an event's every method, is Python code: an interrupt between
    the moment when it has its lock and its return leaves that lock held for ever, and whoever
    touches the event next hangs. Here each who waits has a lock of its own, and none is shared.
    """

    def __init__(self) -> None:
        super().__init__()
        self._up = False
        self._waiting: list[threading.Lock] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._up

    def set(self) -> None:
        """Sets it, and wakes all who wait."""
        self._up = True
        self.wake()

    def wake(self) -> None:
        """Wakes all who wait now, set or not."""
        for waiter in list(self._waiting):
            try:
                waiter.release()
            except RuntimeError:
                pass  # somebody else was first

    def clear(self) -> None:
        """Takes it back."""
        self._up = False

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set, or all are woken; returns whether it is set then.

        Args:
            timeout: Seconds; None for no limit.
        """
        waiter = threading.Lock()
        waiter.acquire()
        self._waiting.append(waiter)
        try:
            # Whoever sets it from here on sees the waiter.
            if not self._up:
                waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
            return self._up
        finally:
            self._waiting.remove(waiter)
