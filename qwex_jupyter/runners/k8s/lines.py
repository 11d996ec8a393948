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
see `rotation`: what came already is skipped, as in resuming.

Each stream by itself. A kubelet stamps what follows the end of a line of either stream, so in
the answer for one of them a line may have no stamp, and one that is kept in pieces a stamp at
any of them (pkg/logs of k8s.io/cri-client, ``isNewLine``).
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.runners.container.log_reader import Cursor
from qwex_jupyter.runners.k8s import rotation, stamps
from qwex_jupyter.runners.k8s.rotation import Beginning, Rotated
from qwex_jupyter.runners.k8s.stamps import STAMP

# Reading goes on this much before the last line that is on disk. Seconds.
EARLIER = 2
# At most this much is held before it is written. Bytes.
_BATCH = 1 << 18
# Lines of one stamp stand so near to each other. Bytes.
_NEAR = 1 << 13

# What is asked for: a stream, "" for both as one, and `sinceTime`, "" for everything.
Request = tuple[str, str]
# When the program began, what time it is, and when it ended or None, in seconds since the epoch;
# None where nobody knows.
Times = Callable[[], tuple[float, float, float | None] | None]


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
        self.cursors = {name: Cursor.of(stored.get(name, {})) for name in STREAMS}
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
        cursors = {name: cursor.to_json() for name, cursor in self.cursors.items()}
        more = {"split": self.split, "trouble": self.why_missing, "gaps": self.gaps}
        return {**cursors, **more}

    @property
    def why_missing(self) -> str:
        """What is missing and why, in words; "" where nothing is."""
        return "; ".join([*self.gaps, *([self.trouble] if self.trouble else [])])

    @property
    def unsure(self) -> bool:
        """Whether lines may have been rotated away that the last answer doesn't tell of.

        Its last lines came late, or it came to its end without the line that is on disk.
        """
        return any(reading.is_late or reading.skips for reading in self._readings.values())

    def request(self, stream: str) -> Request:
        """What to ask for to go on with a stream, or with "", both as one."""
        return stream, stamps.before(self.cursors[stream or "stdout"].stamp, EARLIER)

    def next_request(self) -> Request:
        """What to ask for while the program runs, where both streams come as one."""
        return self.request("")

    def last_requests(self) -> Iterator[Request]:
        """What to ask for, one after the other, when the program has ended."""
        self.trouble = ""
        self._ending = True
        for stream in STREAMS if self.split else ("",):
            self._readings.clear()  # what was read before of another one has its end
            yield self.request(stream)

    def gone(self, why: str, *, heard_out: bool) -> None:
        """There is no more of it; what a live stream brought to its end is all there was."""
        if not (self.heard_out or self.heard_lately or heard_out):
            self.trouble = why
        self.safe = self._stored()

    def begin(self, request: Request) -> Callable[[bytes], None]:
        """A new answer begins, perhaps beside that of the other stream; what takes its bytes."""
        stream, since = request
        name = stream or "stdout"
        told = self._times() if self.heard_out or not since else None
        ended = told[2] if told else None
        # By the server's clock: what came to an end before its program did is not all.
        heard = self.heard_out and ended is not None and ended <= self.heard_until
        times = told[:2] if told and not since else None
        reading = _Reading(
            self.cursors[name], times, self._now, split=bool(stream), heard_out=heard
        )
        with self._lock:
            self._readings[name] = reading
        self.heard_out = self.heard_out and self._ending
        return functools.partial(self.feed, name=name)

    def feed(self, data: bytes, name: str = "stdout") -> None:
        """The next bytes of the answer that is read for a stream, or for both."""
        with self._lock:
            if self._readings[name].feed(data) >= _BATCH:
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
        self._split, self._heard_out = split, heard_out
        self._rest = b""
        self._parts: list[bytes] = []
        self._held = 0
        self._stamp = cursor.stamp
        # What comes is new only behind this many lines of that stamp and this many without one.
        # Until then it is kept, as it is all new where that line was rotated away.
        self._skip, self._bare = cursor.equal, cursor.bare
        self._skipped: list[bytes] = []
        # What is skipped came in this very answer already.
        self._repeats = False
        self._near = b""
        self._beginning = Beginning(None if cursor.bare else times)

    def feed(self, data: bytes) -> int:
        """The next bytes; how many bytes of output are held."""
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
        if self._beginning.is_long:
            self._judge()
        data = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return data

    @property
    def skips(self) -> bool:
        """Whether the line that is on disk hasn't come yet."""
        return self._skip > 0

    @property
    def is_late(self) -> bool:
        """Whether its last line came so late that more of them may have been rotated away."""
        return self._rotated.late and self._may_rotate(b"")

    def _may_rotate(self, data: bytes) -> bool:
        return self.cursor.size + self._held + len(data) >= rotation.FILE

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
        if count != lines or (self._split and len(data) > stamps.PIECE):
            data, text, trouble = stamps.taken_off(data, split=self._split)
            self.trouble = trouble or self.trouble
        self._remember(data)
        self._parts.append(text)
        self._held += len(text)

    def _remember(self, data: bytes) -> None:
        """Moves the cursor to the last line, and counts those that share its stamp."""
        self._beginning.came(data)
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
        limit = stamps.later_by(self._stamp, EARLIER) if self._skip else b""
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
            elif found and stamps.is_after(found[1], limit):
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
        said = stamps.trouble_in(data)
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
            self.trouble = said
            return
        begin = stamps.clock(self._stamp)
        until = stamps.clock(stamp) if stamp else "its end"
        self.gaps.append(
            f"what it wrote between {begin} and {until}, if anything, was rotated away before it "
            "could be read"
        )
        if data:
            self._lines(data)

    def _judge(self) -> None:
        if why := self._beginning.why_missing(self.cursor.stamp):
            self.gaps.append(why)
