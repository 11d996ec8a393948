"""What an engine sends of a container's output, taken apart and put into the run's log files.

``GET /containers/<name>/logs`` sends frames: a stream's number, a length, and a time stamp in
front of what was written. A frame is up to 16 KiB of a line, each with a stamp, so stamps are
taken off frames, not lines.

Resuming. Time stamps grow within a stream but not across the two, so each stream has a cursor
of its own: the time stamp of the last frame that is on disk, and how many frames with just
that stamp there were (Podman's stamps have whole seconds; the pieces of a long line share
one). The engine is asked for everything since the older of the two, and what was written
before is skipped by count. Where a clock was set back, the stamps say nothing any more: then
everything is read again and skipped by bytes.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.runners.container.log_reader import Cursor
from qwex_jupyter.runners.container.times import read

_FRACTION = re.compile(rb"\.(\d+)")
_HEAD = struct.Struct(">BxxxL")
_STREAM_OF = {0: "stdout", 1: "stdout", 2: "stderr"}
# In frames of this number an engine says, in the midst of the output, that it can't read on.
_TROUBLE = 3
# At most this much is held before it is written. Bytes.
_BATCH = 1 << 18
# How far behind the newest frame is asked for, when one stream has been silent. Seconds.
WINDOW = 60
# This much of an answer's end is kept, to recognise the end of the log by. Bytes.
_RECENT = 1 << 18

# A request: of which streams, and its ``since``.
Request = tuple[tuple[str, ...], str]


class Position:
    """How far a run's output is on disk, and what is to be asked for to go on.

    Args:
        stored: What `to_json` gave; {} for the beginning.
    """

    def __init__(self, stored: dict[str, Any]) -> None:
        self.streams = {name: Cursor.of(stored.get(name, {})) for name in STREAMS}
        # Stamps went back in one stream: only bytes count.
        self.disordered = bool(stored.get("disordered"))
        # Streams of which only the end was asked for: something may have been overlooked.
        self.unsure = set(stored.get("unsure", ()))
        # Why the engine could not read its log to the end, in its own words.
        self.trouble = str(stored.get("trouble", ""))

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable dict from which an equal position is made."""
        cursors = {name: cursor.to_json() for name, cursor in self.streams.items()}
        unsure = sorted(self.unsure)
        more = {"disordered": self.disordered, "unsure": unsure, "trouble": self.trouble}
        return {**cursors, **more}

    @property
    def exact(self) -> bool:
        """Whether nothing before the last frame can be missing."""
        return not (self.disordered or self.unsure)

    def next_request(self) -> Request:
        """What to ask for while the program runs.

        A stream that has been silent for long isn't searched from its last frame on, which
        would have the engine send the other one again from there.
        """
        self.trouble = ""
        times = {name: seconds(cursor.stamp) for name, cursor in self.streams.items()}
        newest = max(times.values())
        if self.disordered or newest == (0, 0):
            self._begin_unsure_again()
            return STREAMS, ""
        border = (newest[0] - WINDOW, 0)
        self.unsure |= {name for name, time in times.items() if time < border}
        return STREAMS, _since(max(min(times.values()), border))

    def last_requests(self) -> Iterator[Request]:
        """What to ask for, one after the other, when the program has ended.

        Each stream by itself, from its own last frame on; of one that something may be
        missing of, everything is written again, in the same places.
        """
        self.trouble = ""
        self._begin_unsure_again()
        if not self.disordered and any(cursor.stamp for cursor in self.streams.values()):
            for name, cursor in self.streams.items():
                yield (name,), _since(seconds(cursor.stamp))
            if not self.disordered:
                return
        yield STREAMS, ""

    def _begin_unsure_again(self) -> None:
        for name in self.unsure:
            self.streams[name] = Cursor()
        self.unsure.clear()


def _since(time: tuple[int, int]) -> str:
    return f"{time[0]}.{time[1]:09}" if time[0] > 0 else ""


class _Stream:
    """One stream of the answer that is read."""

    __slots__ = ("cursor", "equal", "known", "parts", "skipping", "stamp")

    def __init__(self, cursor: Cursor, *, by_bytes: bool) -> None:
        self.cursor = cursor
        self.parts: list[bytes] = []
        # What is on disk already: up to so many frames of that stamp, or so many bytes.
        self.stamp, self.equal = cursor.stamp, cursor.equal
        self.known = cursor.size if by_bytes else 0
        self.skipping = bool(self.known if by_bytes else self.stamp)

    def rest_of(self, stamp: bytes, payload: bytes) -> bytes | None:
        """What is new in a frame while it is skipped; None for one that is known as a whole."""
        if self.known:
            if len(payload) <= self.known:
                self.known -= len(payload)
                self.skipping = self.known > 0
                return None
            payload = payload[self.known :]
            self.known = 0
        elif stamp == self.stamp:
            # The last of them: what comes now is new, even if a clock was set back.
            self.equal -= 1
            self.skipping = self.equal > 0
            return None
        elif _before(stamp, self.stamp):
            return None
        self.skipping = False
        return payload


class Writer:
    """Frames to bytes in the log files.

    Args:
        log: The files.
        position: Where they are; moved on.
    """

    def __init__(self, log: RunLog, position: Position) -> None:
        self._log, self.position = log, position
        self._streams: dict[str, _Stream] = {}
        self._held = 0
        self._rest = b""
        self._recent: deque[bytes] = deque()
        self._recent_size = 0
        # The position up to which everything is in the files; the other one is ahead of them.
        self.safe = position.to_json()

    def next_request(self) -> Request:
        """What to ask for while the program runs."""
        return self.position.next_request()

    def last_requests(self) -> Iterator[Request]:
        """What to ask for, one after the other, when the program has ended."""
        return self.position.last_requests()

    def end(self) -> None:
        """Its frames are whole, so nothing is left over."""

    def gone(self, why: str, *, heard_out: bool) -> None:
        """The engine has nothing more of it."""
        if not heard_out:
            self.position.trouble = why

    def begin(self, request: Request) -> Callable[[bytes], None]:
        """A new answer begins; what takes its bytes."""
        # From the first frame there ever was: what is on disk is skipped by bytes.
        whole = not request[1]
        self._rest = b""
        self._recent.clear()
        self._recent_size = 0
        self._streams = {
            name: _Stream(cursor, by_bytes=whole) for name, cursor in self.position.streams.items()
        }
        return self.feed

    def feed(self, data: bytes) -> None:
        """The next bytes of an answer; writes when enough came together.

        Raises:
            ValueError: These are no frames.
        """
        data = self._rest + data
        streams = {number: self._streams[name] for number, name in _STREAM_OF.items()}
        unpack, find = _HEAD.unpack_from, data.find
        at, size, held = 0, len(data), 0
        while size - at >= 8:
            number, length = unpack(data, at)
            begin = at + 8
            end = begin + length
            if end > size:
                break
            at = end
            stream = streams.get(number)
            if stream is None:
                self._trouble(number, data[begin:end])
                continue
            blank = find(b" ", begin, end)
            if blank < 0:
                blank = end
            stamp, payload = data[begin:blank], data[blank + 1 : end]
            if stream.skipping:
                rest = stream.rest_of(stamp, payload)
                if rest is None:
                    continue
                payload = rest
            cursor = stream.cursor
            last = cursor.stamp
            if stamp == last:
                cursor.equal += 1
            else:
                if last and _before(stamp, last):
                    self.position.disordered = True
                cursor.stamp = stamp
                cursor.equal = 1
            stream.parts.append(payload)
            held += length
        self._rest = data[at:]
        self._remember(data[:at])
        self._held += held
        if self._held >= _BATCH:
            self.flush()

    def _trouble(self, number: int, text: bytes) -> None:
        if number != _TROUBLE:
            raise ValueError(f"a frame of stream {number}")
        self.position.trouble = text.decode("utf-8", "replace").strip()

    def _remember(self, frames: bytes) -> None:
        self._recent.append(frames)
        self._recent_size += len(frames)
        while self._recent_size - len(self._recent[0]) >= _RECENT:
            self._recent_size -= len(self._recent.popleft())

    def ends_with(self, tail: bytes) -> bool:
        """Whether the last frame of the log is the last one that this answer had.

        Args:
            tail: The last frames of the log, of both streams.

        Returns:
            False also where that can't be told: all of them have one stamp.
        """
        theirs, ours = list(frames(tail)), list(frames(b"".join(self._recent)))
        group = _last_group(theirs)
        return 0 < len(group) < len(theirs) and group == _last_group(ours)

    def flush(self) -> None:
        """Writes what is held, at the cursor's place."""
        for name, stream in self._streams.items():
            if stream.parts:
                data = b"".join(stream.parts)
                self._log.write(name, data, stream.cursor.size)
                stream.cursor.size += len(data)
                stream.parts.clear()
        self._held = 0
        self.safe = self.position.to_json()


# One frame: the stream's number, the time stamp, what was written.
Frame = tuple[int, bytes, bytes]


def frames(data: bytes) -> Iterator[Frame]:
    """The whole frames in a piece of an answer."""
    at = 0
    while len(data) - at >= 8:
        number, length = _HEAD.unpack_from(data, at)
        stamp, _, payload = data[at + 8 : at + 8 + length].partition(b" ")
        at += 8 + length
        if at <= len(data):
            yield number, stamp, payload


def _last_group(found: list[Frame]) -> list[Frame]:
    """The frames at the end that share a stamp."""
    at = len(found)
    while at and found[at - 1][1] == found[-1][1]:
        at -= 1
    return found[at:]


def _before(one: bytes, other: bytes) -> bool:
    """Whether a stamp is older than another."""
    alike = len(one) == len(other) and one[-1:] == b"Z" == other[-1:]
    return one < other if alike else seconds(one) < seconds(other)


def seconds(stamp: bytes) -> tuple[int, int]:
    """A stamp as seconds since the epoch and nanoseconds; (0, 0) for none.

    Raises:
        ValueError: It is none.
    """
    if not stamp:
        return (0, 0)
    digits = _FRACTION.search(stamp)
    nanos = int(digits[1].ljust(9, b"0")[:9]) if digits else 0
    return (int(read(stamp.decode()).timestamp()), nanos)
