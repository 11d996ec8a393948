"""Run ids: a moment and a handle; they sort by time."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from qwex_jupyter.errors import SpecError

# Without vowels no words come about; no two characters look alike.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
_ID_TIME = "%Y%m%d-%H%M%S"
# Run ids sort by time where the times are this many seconds apart.
STEP = 2 / (19 * 27 * 27)


def new_run_id(now: float) -> str:
    """A run id for this moment: UTC time and a handle, whose first character is a letter.

    The first half of the handle is the fraction of the second (in steps of 72 µs), so that
    run ids sort by time; the second half is random.
    """
    fraction = now % 1.0
    letters = ""
    for alphabet in (_ALPHABET[8:], _ALPHABET, _ALPHABET):
        fraction *= len(alphabet)
        letters += alphabet[min(int(fraction), len(alphabet) - 1)]
        fraction %= 1.0
    letters += "".join(secrets.choice(_ALPHABET) for _ in range(3))
    return f"{datetime.fromtimestamp(int(now), UTC).strftime(_ID_TIME)}-{letters}"


def first_id(since: float) -> str:
    """Where the run ids of this moment begin.

    Raises:
        SpecError: There are none.
    """
    try:
        return datetime.fromtimestamp(since, UTC).strftime(_ID_TIME)
    except (ValueError, OverflowError, OSError):
        raise no_moment(since) from None


def no_moment(since: object) -> SpecError:
    """What is raised for something that is no point in time."""
    return SpecError(f"since={since!r} isn't a point in time: write 2026-11-23 or 7d.")
