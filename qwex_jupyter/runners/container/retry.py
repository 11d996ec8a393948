"""Retry: the one loop around a call that may be made again, with its pauses and its end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator


def tries(pause: float, *, most: int = 0, until: float = math.inf) -> Iterator[None]:
    """One step for each try, at least one; what comes behind the loop is for when none did it.

    Args:
        pause: Seconds between two tries.
        most: So many at the most; 0 for any number.
        until: No try begins after that, by the monotonic clock.
    """
    number = 0
    while True:
        yield
        number += 1
        if number == most or time.monotonic() >= until:
            return
        time.sleep(pause)
