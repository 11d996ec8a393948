"""What a kubelet gets wrong where whoever reads is late, told by the stamps of what it sends.

It follows a log over a rotation, but not over two while it waits for its reader: it then opens
the newest file, and what lies between is left out without a sign. And as it was told of each
new file, it opens the newest as often, and sends it again from its beginning
(pkg/kubelet/kuberuntime/logs, ``ReadLogs`` and ``waitLogs``).

Both happen behind a pause in the stamps. So the line behind a pause is remembered: where it
comes once more, a file does. And where the lines before a pause came late, it is said that
something may be missing.

A first answer may have lost its beginning: a kubelet reads only the newest of the files it
rotated.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from qwex_jupyter.model.units import say_bytes, say_seconds
from qwex_jupyter.runners.k8s import stamps
from qwex_jupyter.runners.k8s.stamps import STAMP

# A line is late when it comes so long after it was written. Files are rotated so long apart at the
# least: half the smallest containerLogMonitorInterval, as a busy kubelet comes late to one
# rotation and not to the next. Seconds.
_LATE, _APART = 2.0, 1.5
# A kubelet rotates no file that is much smaller than 10 MiB (containerLogMaxSize), sooner than
# after so long none is that large, and fewer bytes than these say nothing of a rate. Bytes,
# seconds, bytes.
FILE, _SOON, _RATED = 8 << 20, 5.0, 1 << 19
# The last pauses, this many, are remembered: a file that was sent twice began at one of them.
_PAUSES = 16


class Rotated:
    """Looks at the lines of one answer as they come.

    Args:
        now: What time it is there, in seconds since the epoch.

    Attributes:
        late: The last line came late.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._opened = now, now()
        self.late = False
        # The lines behind the last pauses, each after the stamps between which its pause lay: which
        # of them a file begins with, nothing tells.
        self._behind: deque[tuple[bytes, bytes, bytes]] = deque(maxlen=_PAUSES)
        self._left_out = b""
        self._said = False

    def look(self, before: bytes, data: bytes, *, full: bool) -> int:
        """Where in these lines a file begins that came already; -1 for nowhere.

        Args:
            before: The stamp of the line before them, b"" for none.
            data: Whole lines.
            full: Enough has come that a file may have been full.
        """
        now, was_late = self._now(), self.late and full
        found = STAMP.match(data, data.rfind(b"\n", 0, -1) + 1) or _last(data)
        last = stamps.seconds(found[1]) if found else 0.0
        if last <= self._opened:
            return self._repeated(before, data, [])  # of before it was asked for: nothing waited
        self.late = now - last > _LATE
        first = STAMP.search(data)
        here: list[int] = []
        if first and last - stamps.seconds(before or first[1]) >= _APART:
            here = self._pauses(before, data, now, was_late=was_late, full=full)
        return self._repeated(before, data, here)

    def whole(self, data: bytes) -> int:
        """How many bytes of these lines can be looked at: a last one may be a second half.

        Only the line behind it tells what it belongs to.
        """
        if not self._behind:
            return len(data)
        at = data.rfind(b"\n", 0, -1) + 1
        found = STAMP.match(data, at)
        return at if found and self._is_half(found[1]) else len(data)

    def _is_half(self, stamp: bytes) -> bool:
        """Whether it lies in a pause: a rotation cut a line in two, and this is its second half."""
        return any(begin < stamp < end for begin, end, _ in self._behind)

    def why_missing(self) -> str:
        """Why something may be missing, once; "" where nothing says so."""
        if self._said or not self._left_out:
            return ""
        self._said = True
        return (
            f"some of what it wrote after {stamps.clock(self._left_out)} may have been rotated "
            "away before it could be read, as it was read late"
        )

    def _pauses(
        self, before: bytes, data: bytes, now: float, *, was_late: bool, full: bool
    ) -> list[int]:
        """Remembers the lines behind pauses; where each of them stands."""
        here = []
        late, stamp = was_late, before
        earlier = stamps.seconds(before) if before else float("inf")
        for found in STAMP.finditer(data):
            at = stamps.seconds(found[1])
            if at - earlier >= _APART and at > self._opened:
                line = data[found.start() : data.find(b"\n", found.start() + 1) + 1]
                if line:
                    self._behind.append((stamp, found[1], line))
                    here.append(found.start())
                if late and full:
                    self._left_out = self._left_out or stamp
            stamp, earlier = found[1], at
            late = now - max(at, self._opened) > _LATE
        return here

    def _repeated(self, before: bytes, data: bytes, here: list[int]) -> int:
        """Where one of the lines behind pauses stands again; -1 for nowhere.

        Args:
            before: See `look`.
            data: See `look`.
            here: Where those of them stand that came in this data, which are the last ones.
        """
        places = []
        begins = [0] * (len(self._behind) - len(here)) + [at + 1 for at in here]
        for begin, (_, end, line) in zip(begins[-_PAUSES:], self._behind, strict=True):
            at = _find(line, data, begin)
            while at >= 0:
                place = at
                head, previous = _line_before(before, data, at)
                if self._is_half(previous):
                    place, (_, previous) = head, _line_before(before, data, head)
                # Of a coarse clock lines that are the same may come one after the other.
                if previous > end:
                    places.append(place)
                    break
                at = _find(line, data, at + 1)
        return min(places, default=-1)


class Beginning:
    """Whether the first line that came is the first there was, as far as that can be told.

    What came before the oldest file that is left may be missing. Nothing says how many files
    there were, so it is judged by the rate of what came: if the program wrote like that since it
    began, would a file have been full?

    Args:
        times: When the program began, and when the answer was asked for, in seconds since the
            epoch; None where nobody knows, or where something is on disk already.
    """

    def __init__(self, times: tuple[float, float] | None) -> None:
        self._times, self._came, self._first = times, 0, b""

    @property
    def is_long(self) -> bool:
        """Whether enough has come to judge by."""
        return self._came > FILE

    def came(self, data: bytes) -> None:
        """The next lines of the answer."""
        self._first = self._first or _stamp(data)
        self._came += len(data)

    def why_missing(self, last: bytes) -> str:
        """Why something may be missing, once; "" where nothing says so.

        Args:
            last: The stamp of the last line that came.
        """
        if self._times is None or not self._first:
            return ""
        (began, opened), self._times = self._times, None
        first, until = stamps.seconds(self._first), stamps.seconds(last)
        if until <= first or self._came < _RATED:
            return ""
        silent = min(first, opened) - began
        missing = self._came / (until - first) * silent
        if silent <= _SOON or missing <= FILE:
            return ""
        return (
            f"the first {say_seconds(round(silent))} of its output (some {say_bytes(missing)}, if "
            "it wrote then as it did later) may have been rotated away before they could be read"
        )


def _stamp(line: bytes) -> bytes:
    found = STAMP.match(line)
    return found[1] if found else b""


def _line_before(before: bytes, data: bytes, at: int) -> tuple[int, bytes]:
    """Where the line before this place begins, and its stamp."""
    head = data.rfind(b"\n", 0, max(0, at - 1)) + 1
    return head, _stamp(data[head:at]) if at else before


def _find(line: bytes, data: bytes, begin: int) -> int:
    at = data.find(line, begin)
    while at > 0 and data[at - 1 : at] != b"\n":
        at = data.find(line, at + 1)
    return at


def _last(data: bytes) -> re.Match[bytes] | None:
    found = deque(STAMP.finditer(data), maxlen=1)
    return found[0] if found else None
