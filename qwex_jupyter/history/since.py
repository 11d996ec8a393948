"""Points in time, as a person says them."""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta
from numbers import Real
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.run_ids import no_moment
from qwex_jupyter.model.units import parse_duration


def parse_moment(since: Any) -> float:
    """A point in time as seconds since the epoch.

    Args:
        since: Those, a date, a datetime, an ISO date, an age (``7d``, a timedelta), or what else
            pandas takes for one of these. What names no zone is local time, but for numpy's
            times, which are UTC.

    Raises:
        SpecError: It is none of these.
    """
    try:
        return _seconds(since)
    except (ValueError, OverflowError, OSError) as error:  # which SpecError is too
        from qwex_jupyter.history import frame

        if (found := frame.moment(since)) is not None:
            return found
        if isinstance(error, SpecError):
            raise
        raise no_moment(since) from error


def _seconds(since: Any) -> float:
    if isinstance(since, str):
        if re.match(r"\d{4}-", since):
            try:
                return datetime.fromisoformat(since).timestamp()
            except ValueError:
                raise SpecError(f"since={since!r} isn't a date: write 2026-11-23 or 7d.") from None
        return time.time() - parse_duration(since, "since")
    if isinstance(since, Real) and type(since).__name__ not in ("bool", "timedelta64"):
        return float(since)
    if isinstance(since, timedelta):
        return time.time() - since.total_seconds()
    if type(since) is datetime:
        return since.timestamp()
    if type(since) is date:
        return datetime(since.year, since.month, since.day).timestamp()
    raise no_moment(since)
