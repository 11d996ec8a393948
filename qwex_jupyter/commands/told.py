"""What is said beside a run while somebody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason

# How far a pull is, is said so often. Seconds.
_EVERY = 5.0


class Told:
    """Says what a run waits for, when that changes, and not too often.

    Args:
        run_id: The run; others are of no interest.
        say: Says it.
        only: Only where one of these is the reason; none named means all.
        named: Whether it is said which run that is.
    """

    def __init__(
        self,
        run_id: str,
        say: Callable[[str], None],
        *,
        only: Collection[Reason] = (),
        named: bool = False,
    ) -> None:
        self._run_id, self._say, self._only, self._named = run_id, say, only, named
        self._said, self._again = "", 0.0

    def __call__(self, record: RunRecord) -> None:
        """Takes an observation."""
        if record.run_id != self._run_id or record.status.final or record.reason == Reason.STOPPING:
            return
        message = record.message if not self._only or record.reason in self._only else ""
        now = time.monotonic()
        if message == self._said or (record.reason == Reason.PULLING and now < self._again):
            return
        self._said, self._again = message, now + _EVERY
        if message:
            share = f" {record.progress}" if record.progress else ""
            self._say(f"{f'{record.title}: ' if self._named else ''}{message}{share}")
