"""Points in time, as backends write them (RFC 3339)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def read(text: str) -> datetime:
    """A point in time to the microsecond; one without a zone is UTC.

    Raises:
        ValueError: It is none.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def moment(text: Any) -> float | None:
    """Seconds since the epoch for ``2026-11-24T11:33:32.459398228Z``; None where that is no time.

    For "never" Go writes ``0001-01-01T00:00:00Z``, and others write the epoch itself.
    """
    try:
        found = read(str(text))
    except ValueError:
        return None
    return None if found.year < 1971 else found.timestamp()


class ServerTime:
    """How far a server's clock is ahead of ours, by the dates of its HTTP answers.

    Those are cut to the second, so each tells two bounds.
    """

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None

    def learn(self, date: str, before: float, after: float) -> None:
        """Narrows the bounds by one answer.

        Args:
            date: Its ``Date``.
            before: When it was asked for, and
            after: when it came, by our clock.
        """
        try:
            said = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return
        low, high = said - after, said + 1.0 - before
        if self._ahead is not None:
            both = max(low, self._ahead[0]), min(high, self._ahead[1])
            if both[0] <= both[1]:
                low, high = both
        self._ahead = low, high

    def now(self) -> float:
        """Its time, most likely; ours where it has told nothing yet."""
        return time.time() + sum(self._ahead or (0.0, 0.0)) / 2

    def earliest(self) -> float:
        """Its time, or a moment before it."""
        return time.time() + (self._ahead or (0.0, 0.0))[0]
