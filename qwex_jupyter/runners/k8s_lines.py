"""What a kubelet sends of a container's output, taken apart and put into the run's log files.

``GET .../pods/<name>/log?timestamps=true`` sends lines, each with a time stamp of nanoseconds in
front; a line that the runtime keeps in pieces has one, and the last line may have no end. Lines
stand in the order in which the runtime wrote them, which is that of their stamps to within a
moment only: two streams are stamped before they are put in order.

Resuming. The cursor is the stamp of the last line that is on disk, and how many lines with just
that stamp there were. ``sinceTime`` has whole seconds, so reading begins some seconds earlier,
and everything is skipped up to that very line. Where it doesn't come any more, it was rotated
away, and what was written since may be missing: that is a gap, and it is said.

Being late. A kubelet that waits for whoever reads may leave files out and send the newest again,
see `k8s_rotated`: what came already is skipped, as in resuming.

Each stream by itself. A kubelet stamps what follows the end of a line of either stream, so in
the answer for one of them a line may have no stamp, and one that is kept in pieces a stamp at
any of them (pkg/logs of k8s.io/cri-client, ``isNewLine``).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.runners import k8s_stamps
from qwex_jupyter.runners.k8s_rotated import Rotated
from qwex_jupyter.runners.k8s_stamps import STAMP
from qwex_jupyter.status import say_bytes, say_seconds

# So much earlier than the last line is asked for. Seconds.
EARLIER = 2
# So much is held before it is written, at the most.
_BATCH = 1 << 18
# What a kubelet or a runtime says in the place of output, with status 200.
_TROUBLE = re.compile(
    rb"unable to retrieve container logs for |failed to (?:try )?(?:resolve|read|create|watch|open|"
    rb"get).*log|rpc error|an error on the server|failed to follow"
)
# Fewer bytes say nothing of a rate; a kubelet rotates no file that is much smaller than 10 MiB
# (containerLogMaxSize); and sooner none is that large. Bytes, bytes, seconds.
_RATED, _FILE, _LATE = 1 << 19, 8 << 20, 5.0
# Lines of one stamp stand so near to each other. Bytes.
_NEAR = 1 << 13
# containerd keeps longer lines in pieces of this size: max_container_log_line_size.
_PIECE = 16 * 1024

# What is asked for: a stream, "" for both as one, and `sinceTime`, "" for everything.
Request = tuple[str, str]
# When the program began, what time it is, and when it ended or None, in seconds since the epoch;
# None where nobody knows.
Times = Callable[[], tuple[float, float, float | None] | None]


@dataclass(slots=True)
class Cursor:
    """How far one stream is on disk.

    Attributes:
        size: Bytes.
        stamp: The time stamp of the last line, as the kubelet writes it.
        equal: How many lines had just that stamp.
        bare: How many lines without a stamp came behind it.
    """

    size: int = 0
    stamp: bytes = b""
    equal: int = 0
    bare: int = 0


class Writer:
    """Lines to bytes in the log files.

    Args:
        log: The files.
        stored: What `safe` was; {} for the beginning.
        times: Asked at the beginning of a first answer.
        now: What time it is there, in seconds since the epoch.
    """

    def __init__(
        self,
        log: RunLog,
        stored: dict[str, Any],
        times: Times = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._times, self._now = log, times, now
        # Two streams may be read at once.
        self._lock = threading.Lock()
        self.cursors = {name: _cursor(stored.get(name, {})) for name in STREAMS}
        # Whether the streams come by themselves; None until the server was asked.
        self.split: bool | None = stored.get("split")
        # What kept the last answer from being all there is.
        self.trouble = ""
        self.gaps: list[str] = list(stored.get("gaps", ()))
        # Whether the last live answer came to its own end, and none has begun since: if the
        # program has ended too, all that it said is here.
        self.heard_out = False
        self.heard_until = 0.0
        # The same of another writer a moment ago.
        self.heard_lately = False
        self._ending = False
        self._readings: dict[str, _Reading] = {}
        self.safe = self._stored()

    def _stored(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            name: {**asdict(c), "stamp": c.stamp.decode("ascii", "replace")}
            for name, c in self.cursors.items()
        }
        return {
            **value,
            "split": self.split,
            "trouble": self.why_missing,
            "gaps": self.gaps,
        }

    @property
    def why_missing(self) -> str:
        """What is missing and why, in words; "" where nothing is."""
        return "; ".join([*self.gaps, *([self.trouble] if self.trouble else [])])

    @property
    def late(self) -> bool:
        """Whether the last lines came so late that more of them may have been rotated away."""
        return any(reading.is_late for reading in self._readings.values())

    def request(self, stream: str) -> Request:
        """What to ask for to go on with a stream, or with "", both as one."""
        return stream, k8s_stamps.before(self.cursors[stream or "stdout"].stamp, EARLIER)

    def next_request(self) -> Request:
        """What to ask for while the program runs, where both streams come as one."""
        return self.request("")

    def last_requests(self) -> Iterator[Request]:
        """What to ask for, one after the other, when the program has ended."""
        self.trouble = ""
        self._ending = True
        for stream in STREAMS if self.split else ("",):
            yield self.request(stream)

    def gone(self, why: str, *, heard_out: bool) -> None:
        """There is no more of it; what a live stream brought to its end is all there was."""
        if not (self.heard_out or self.heard_lately or heard_out):
            self.trouble = why
        self.safe = self._stored()

    def begin(self, request: Request) -> None:
        """A new answer begins, and no other one is read beside it."""
        self._readings.clear()
        self.begin_one(request)

    def begin_one(self, request: Request) -> None:
        """A new answer begins, beside that of the other stream."""
        stream, since = request
        name = stream or "stdout"
        told = self._times() if self.heard_out or not since else None
        ended = told[2] if told else None
        # By the server's clock: what came to an end before its program did is not all.
        heard = self.heard_out and ended is not None and ended <= self.heard_until
        times = told[:2] if told and not since else None
        self._readings[name] = _Reading(
            self.cursors[name], times, self._now, split=bool(stream), heard_out=heard
        )
        self.heard_out = self.heard_out and self._ending

    def feed(self, data: bytes) -> None:
        """The next bytes of the one answer that is read."""
        for name, reading in self._readings.items():
            if reading.feed(data) >= _BATCH:
                self._write(name, reading)

    def feed_one(self, name: str, data: bytes) -> None:
        """The next bytes of the answer of that stream, written at once."""
        with self._lock:
            self._readings[name].feed(data)
            self._write(name, self._readings[name])

    def end(self) -> None:
        """The program has ended, and the answer came to its own end: the rest is a line too."""
        for name, reading in self._readings.items():
            reading.finish()
            self._write(name, reading)

    def flush(self) -> None:
        """Writes what is held."""
        with self._lock:
            for name, reading in self._readings.items():
                self._write(name, reading)

    def _write(self, name: str, reading: _Reading) -> None:
        data = reading.take()
        cursor = reading.cursor
        if data:
            self._log.write(name, data, cursor.size)
            cursor.size += len(data)
        self.gaps += reading.gaps
        reading.gaps.clear()
        if reading.trouble:
            self.trouble = reading.trouble
        self.safe = self._stored()


class Half:
    """One stream of a writer whose streams are read at once, as a `reader.Writer`.

    Args:
        writer: The whole.
        name: The stream.
    """

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer, self._name = writer, name

    @property
    def safe(self) -> dict[str, Any]:
        """See `Writer.safe`: of both."""
        return self._writer.safe

    def begin(self, request: Request) -> None:
        """A new answer begins."""
        self._writer.begin_one(request)

    def feed(self, data: bytes) -> None:
        """The next bytes of it."""
        self._writer.feed_one(self._name, data)

    def flush(self) -> None:
        """Nothing is held."""


class _Reading:
    """One answer, and what of it is new.

    Args:
        cursor: Where its stream is on disk; moved on.
        times: See `Times`; where nothing is on disk yet.
        now: See `Writer`.
        split: It is the answer for one stream only.
        heard_out: What is on disk is all there was when the answer before this one ended.
    """

    def __init__(
        self,
        cursor: Cursor,
        times: tuple[float, float] | None,
        now: Callable[[], float],
        *,
        split: bool,
        heard_out: bool,
    ) -> None:
        self.cursor = cursor
        self._rotated = Rotated(now)
        self.gaps: list[str] = []
        self.trouble = ""
        self._times, self._split, self._heard_out = times, split, heard_out
        self._rest = b""
        self._parts: list[bytes] = []
        self._held = 0
        self._stamp = cursor.stamp
        # So many lines of that stamp, and so many without one behind, are to be seen before what
        # comes is new; until then it is kept, as it is all new where that line was rotated away.
        self._skip, self._bare = cursor.equal, cursor.bare
        self._skipped: list[bytes] = []
        # What is skipped came in this very answer already.
        self._repeats = False
        self._near = b""
        # What came of a first answer, by which it is judged whether something came before.
        self._judging = not (cursor.stamp or cursor.bare)
        self._came, self._first = 0, b""

    def feed(self, data: bytes) -> int:
        """The next bytes; how many bytes of output are held."""
        if self._rest:
            data = self._rest + data
        at = self._rotated.whole(data[: data.rfind(b"\n") + 1])
        self._rest = data[at:]
        if at:
            self._lines(data[:at])
        return self._held

    def finish(self) -> None:
        """The answer is whole: what is left is the last line, without an end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._lines(rest)
        if self._skip:
            # The log was read to its end without the line that is on disk.
            self._lost(b"")
        self._judge()

    def take(self) -> bytes:
        """What is held."""
        if self._came > _FILE:
            self._judge()
        data = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return data

    @property
    def is_late(self) -> bool:
        """Whether its last line came so late that more of them may have been rotated away."""
        return self._rotated.late and self._may_rotate(b"")

    def _may_rotate(self, data: bytes) -> bool:
        return self.cursor.size + self._held + len(data) >= _FILE

    def _lines(self, data: bytes) -> None:
        if self._skip or self._bare:
            data = self._new_of(data)
        while data:
            at = self._rotated.look(self.cursor.stamp, data, full=self._may_rotate(data))
            self._keep(data[:at] if at >= 0 else data)
            if why := self._rotated.why_missing():
                self.gaps.append(why)
            if at < 0:
                return
            self._stamp, self._skip, self._bare = (
                self.cursor.stamp,
                self.cursor.equal,
                self.cursor.bare,
            )
            self._repeats = True
            data = self._new_of(data[at:])

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        text, count = STAMP.subn(b"", data)
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        if count != lines or (self._split and len(data) > _PIECE):
            data, text = self._odd(data)
        self._remember(data)
        self._parts.append(text)
        self._held += len(text)

    def _remember(self, data: bytes) -> None:
        """Moves the cursor to the last line, and counts those that share its stamp."""
        if self._judging and not self._first:
            found = STAMP.match(data)
            self._first = found[1] if found else b""
        self._came += len(data)
        end, bare = len(data), 0
        while end > 0:
            begin = data.rfind(b"\n", 0, end - 1) + 1
            found = STAMP.match(data[begin : begin + 40])
            if found:
                break
            end, bare = begin, bare + 1
        else:
            self.cursor.bare += bare
            return
        # Streams are stamped before they are put in order, so others may stand between equal ones.
        self._near += data
        mark = b"\n" + found[1] + b" "
        self.cursor.equal = self._near.count(mark) + self._near.startswith(mark[1:])
        self.cursor.stamp, self.cursor.bare = found[1], bare
        self._near = self._near[-_NEAR:]

    def _new_of(self, data: bytes) -> bytes:
        """What comes behind the line that is on disk; b"" while that hasn't come."""
        at = 0
        limit = k8s_stamps.later_by(self._stamp, EARLIER) if self._skip else b""
        while at < len(data) and (self._skip or self._bare):
            end = data.find(b"\n", at) + 1 or len(data)
            found = STAMP.match(data[at : at + 40])
            if not self._skip:
                if found:
                    self._bare = 0
                    break
                self._bare -= 1
            elif found and found[1] == self._stamp:
                self._skip -= 1
            elif found and k8s_stamps.is_after(found[1], limit):
                self._skipped.append(data)
                self._lost(found[1])
                return b""
            at = end
        # A line without a stamp before that is the rest of one that began before.
        if self._skip:
            self._skipped.append(data)
            return b""
        self._near = (b"".join([*self._skipped, data[:at]]))[-_NEAR:]
        self._skipped.clear()
        self._repeats = False
        return data[at:]

    def _lost(self, stamp: bytes) -> None:
        """The line that is on disk was rotated away, and with it what came behind it.

        What is left stands behind both.
        """
        self._skip = self._bare = 0
        data = b"".join(self._skipped)
        self._skipped.clear()
        said = data if _TROUBLE.match(data) else b""
        # The rest of a line whose beginning isn't there.
        while data and not STAMP.match(data[:40]):
            data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
        if not data and self._heard_out:
            return  # it ended with the line that is on disk
        if self._repeats:
            # It didn't come already, whatever it looked like.
            self._repeats = False
            self._keep(data)
            return
        if not data and said:
            self.trouble = said.decode("utf-8", "replace").strip()[:300]
            return
        begin = k8s_stamps.clock(self._stamp)
        until = k8s_stamps.clock(stamp) if stamp else "its end"
        self.gaps.append(
            f"what it wrote between {begin} and {until}, if anything, was rotated away before it "
            "could be read"
        )
        if data:
            self._lines(data)

    def _judge(self) -> None:
        """Whether the first line that came is the first there was, as far as that can be told.

        A kubelet reads only the newest of the files it rotated, so what came before that was
        opened may be missing. Nothing says how many there were, so it is judged by the rate of
        what came: if the program wrote like that since it began, would a file have been full?
        """
        if not (self._judging and self._first):
            return
        self._judging = False
        first, last = k8s_stamps.seconds(self._first), k8s_stamps.seconds(self.cursor.stamp)
        if self._times is None or last <= first or self._came < _RATED:
            return
        began, opened = self._times
        silent = min(first, opened) - began
        missing = self._came / (last - first) * silent
        if silent > _LATE and missing > _FILE:
            self.gaps.append(
                f"the first {say_seconds(round(silent))} of its output (some "
                f"{say_bytes(missing)}, if it wrote then as it did later) may have been rotated "
                "away before they could be read"
            )

    def _odd(self, data: bytes) -> tuple[bytes, bytes]:
        """Lines that are not each a stamp and a text; what of them is output, and its text.

        Lines without a stamp are none, where both streams come as one: a kubelet says there what
        it can't read.
        """
        kept, texts = [], []
        for line in _split(data):
            found = STAMP.match(line)
            text = line[found.end() :] if found else line
            if found or (self._split and not _TROUBLE.match(line)):
                kept.append(line)
                texts.append(_joined(text) if self._split else text)
            else:
                said = line.decode("utf-8", "replace").strip()[:300]
                known = _TROUBLE.match(line)
                self.trouble = said if known else f"something that is no output came: {said}"
        return b"".join(kept), b"".join(texts)


def _joined(text: bytes) -> bytes:
    """A line without the stamps between its pieces."""
    at = _PIECE
    while at < len(text):
        if found := STAMP.match(text[at : at + 40]):
            text = text[:at] + text[at + found.end() :]
        at += _PIECE
    return text


def _split(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _cursor(stored: dict[str, Any]) -> Cursor:
    stamp = str(stored.get("stamp", "")).encode()
    size, equal, bare = (int(stored.get(name, 0)) for name in ("size", "equal", "bare"))
    return Cursor(size, stamp, equal, bare)
