"""The time stamps that a kubelet puts in front of lines: read, compared, said. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

# pkg/kubelet/kuberuntime/logs: RFC3339NanoFixed, in the node's own time zone.
STAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)) ", re.MULTILINE)


def seconds(stamp: bytes) -> float:
    """Seconds since the epoch."""
    return _moment(stamp).timestamp()


def before(stamp: bytes, earlier: int) -> str:
    """``sinceTime`` so many seconds earlier, which has whole seconds; "" for no stamp."""
    if not stamp:
        return ""
    return (_moment(stamp) - timedelta(seconds=earlier)).strftime("%Y-%m-%dT%H:%M:%SZ")


def later_by(stamp: bytes, later: int) -> bytes:
    """A stamp so many seconds later, in UTC."""
    return (_moment(stamp) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()


def is_after(stamp: bytes, limit: bytes) -> bool:
    """Whether it is later; ``limit`` is in UTC."""
    if stamp.endswith(b"Z"):
        return stamp > limit
    return _moment(stamp) > _moment(limit)


def clock(stamp: bytes) -> str:
    """``16:30:45 UTC``."""
    return _moment(stamp).strftime("%H:%M:%S UTC")


def _moment(stamp: bytes) -> datetime:
    # To microseconds: what is compared by it needs no more.
    text = stamp.decode()
    return datetime.fromisoformat(text[:26] + text[29:]).astimezone(UTC)
