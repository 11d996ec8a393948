"""Schedule: when each run is to be looked at again."""

from __future__ import annotations

import time
from collections.abc import Iterable

# When to look again at what waits for its start, or for its output after its end; and at what a
# backend didn't answer about. Seconds.
SOON, RETRY = 1.0, 2.0


class Schedule:
    """Moments of this process's monotonic clock, by run."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def __len__(self) -> int:
        """How many runs are watched."""
        return len(self._at)

    def due(self, run_ids: Iterable[str], most: float) -> tuple[set[str], float]:
        """Which of these are to be looked at now, and in how many seconds the next one is.

        Args:
            run_ids: The runs; one of which nothing is said is due.
            most: The longest pause. Seconds.
        """
        now = time.monotonic()
        due: set[str] = set()
        pause = most
        for run_id in run_ids:
            left = self._at.get(run_id, now) - now
            if left <= 0:
                due.add(run_id)
            else:
                pause = min(pause, left)
        return due, pause

    def again(self, run_id: str, seconds: float) -> None:
        """A run is to be looked at again after so many seconds."""
        self._at[run_id] = time.monotonic() + seconds

    def sooner(self, run_id: str, seconds: float) -> None:
        """A run is to be looked at again within so many seconds."""
        self._at[run_id] = min(self._at.get(run_id, float("inf")), time.monotonic() + seconds)

    def forget(self, run_id: str) -> None:
        """Stops looking at a run."""
        self._at.pop(run_id, None)
