"""Interrupts: presses of the stop button are counted where none may break a line in two.

A press is a SIGINT, which Python turns into a `KeyboardInterrupt` wherever the main thread
happens to be. While a run is handed over or watched that could be between its start and the
moment when anybody knows of it, so there a press only counts, and whoever holds it back asks
for it when he can obey.

A press need not be a wish to stop the run: who restarts or shuts down a kernel by its menu has it
interrupted first, and asked to end a moment later.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from qwex_jupyter.system import frontend

# The request to shut down reaches a kernel 2 to 5 ms after the interrupt, later on a busy machine.
# Seconds.
_UNDECIDED = 0.3
# After more presses than anything here asks for, the user gets the prompt back, whatever hangs.
_TOO_MANY = 5


class Presses:
    """How often the stop button was pressed since they are held back.

    Attributes:
        count: How often.
        taken: Somebody has obeyed them; else they are passed on in the end.
    """

    def __init__(self, before: Callable[[int, FrameType | None], Any] | None = None) -> None:
        self.count, self.taken = 0, False
        self._before, self._first = before, 0.0

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT meanwhile.

        Raises:
            KeyboardInterrupt: Nobody has obeyed for too long.
        """
        if not self.count:
            self._first = time.monotonic()
        self.count += 1
        if self.count >= _TOO_MANY:
            raise KeyboardInterrupt

    @property
    def undecided(self) -> bool:
        """Whether it isn't known yet what the only press so far was for."""
        return (
            self.count == 1
            and frontend.is_kernel()
            and not frontend.is_ending()
            and time.monotonic() - self._first < _UNDECIDED
        )

    @property
    def of_an_end(self) -> bool:
        """Whether the presses belong to a restart or shutdown of this kernel, as far as known."""
        return self.count > 0 and frontend.is_ending()

    def pass_on(self) -> None:
        """Has the presses do what they would have done at once, unless the kernel is to end.

        Raises:
            KeyboardInterrupt: Which is what that is, as a rule.
        """
        self.taken = True
        while self.undecided:
            time.sleep(0.005)
        if self.count and not self.of_an_end and self._before is not None:
            self._before(signal.SIGINT, None)


@contextmanager
def held() -> Iterator[Presses]:
    """Counts presses of the stop button; those that nobody took are passed on at the end.

    Only the main thread is ever interrupted: in another one nothing is held back, and none comes.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield Presses()
        return
    presses = Presses(before)
    signal.signal(signal.SIGINT, presses.press)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)
        if not presses.taken:
            presses.pass_on()
