"""The self-checking workload: what a run prints and how it ends follows from its run id.

As a program, ``python tests/rigs/workload.py KIND FOLDER ...``, it appends one byte to
``FOLDER/<run id>`` (the execution counter; "" for none), prints numbered lines with checksums on
both streams and exits with a code of its own. As a module it says what is expected, so that a
checker needs nothing from the process that submitted the run. It needs the standard library
alone: its text is what a container executes.

The kinds differ by what stands between a program and its log. Among the lines of each are
characters of several bytes, carriage returns and lines of 20 kB; the last line of each stream has
no newline.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator

STREAMS = ("stdout", "stderr")
# A write that failed or was cut: no run id asks for this code, so it is a wrong outcome.
TORN = 126
# So long is each piece of a long line but its last: containerd's max_container_log_line_size.
PIECE = 16384
_ODD = " Grüße \N{SNOWMAN} \N{HATCHING CHICK}".encode()
_BAR = b" 10%\r 50%\r100%"


def _digest(run_id: str, *more: object) -> bytes:
    return hashlib.sha256(" ".join([run_id, *map(str, more)]).encode()).digest()


def code_of(run_id: str) -> int:
    """The exit code of a run: 0 for a third of them, else 1 to 120."""
    digest = _digest(run_id)
    return 0 if digest[0] < 85 else 1 + digest[1] % 120


class Process:
    """What a local run prints: on two streams of bytes, some of which aren't UTF-8.

    Attributes:
        most: So many lines at the most, on each stream.
        longest: So many seconds at the most; a quarter of the runs doesn't sleep at all.
        long: The streams that have lines of 20 kB.
        slow: Seconds that it sleeps after such a line.
    """

    most, longest, long, slow = 30, 0.4, STREAMS, 0.0

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def lines(self, stream: str) -> list[bytes]:
        """What the run prints on one stream, line by line."""
        lines = []
        count = 1 + _digest(self.run_id)[4] % self.most
        for number in range(count):
            digest = _digest(self.run_id, stream, number).hex()[:8]
            line = f"{stream} {number} {digest}".encode()
            if number % 5 == 1:
                line += b" \xff\xfe\x80" + _ODD
            if number % 7 == 3:
                line += _BAR
            if number % 11 == 10 and stream in self.long:
                line += b" " + digest.encode() * 2500
            lines.append(line + b"." if number == count - 1 else line + b"\n")
        return lines

    def text(self, stream: str) -> bytes:
        """All that the run prints on one stream."""
        return b"".join(self.lines(stream))

    def writes(self) -> Iterator[tuple[int, bytes, float]]:
        """What it does: a descriptor, what is written to it, and how long it sleeps then."""
        out, err = map(self.lines, STREAMS)
        digest = _digest(self.run_id)
        pause = 0.0 if digest[2] < 64 else digest[3] / 255 * self.longest / len(out)
        for one, other in zip(out, err, strict=True):
            yield 1, one, self.slow if len(one) > PIECE else 0.0
            yield 2, other, pause


class Pod(Process):
    """What a pod prints, of which a kubelet gives both streams as one, and keeps bytes.

    So each line says whose it is. A runtime keeps a long line in pieces, between which lines of
    the other stream may come: only stdout has such lines, and sleeps then, so that their pieces
    mostly come together.
    """

    most, longest, long, slow = 60, 3.0, STREAMS[:1], 0.1

    def pieces(self, stream: str) -> list[bytes]:
        """What the run prints on one stream, in the pieces that a runtime keeps."""
        return [
            line[at : at + PIECE]
            for line in self.lines(stream)
            for at in range(0, len(line), PIECE)
        ]

    def apart(self, found: bytes) -> tuple[bytes, bytes, bytes]:
        """What lacks of stdout and of stderr, and what came instead.

        Each stream comes in its order, piece by piece, one between the pieces of the other. A
        piece that isn't whole, or isn't the next of its stream, ends what is believed.
        """
        left = [self.pieces(stream) for stream in STREAMS]
        at = 0
        while at < len(found):
            for pieces in left:
                if pieces and found.startswith(pieces[0], at):
                    at += len(pieces.pop(0))
                    break
            else:
                break
        return b"".join(left[0]), b"".join(left[1]), found[at:]


class Container(Process):
    """What a container prints: so many lines on each stream, within about so many seconds.

    Engines keep text, so all of it is UTF-8. Empty lines are among it, and engines cut the long
    ones at 16 KiB.
    """

    def __init__(self, run_id: str, lines: int, seconds: float = 0.0) -> None:
        super().__init__(run_id)
        self._count, self._seconds = lines, seconds

    def _line(self, stream: str, number: int) -> bytes:
        digest = _digest(self.run_id, stream, number)
        line = b"%d %s" % (number, digest.hex()[:8].encode())
        if number % 50 == 1:
            line += _ODD
        if number % 70 == 3:
            line += _BAR
        if number % 90 == 5:
            line = b""
        if number % 1000 == 7:
            line += b" " + digest.hex().encode() * 320
        return line if number == self._count - 1 else line + b"\n"

    def lines(self, stream: str) -> list[bytes]:
        """What the run prints on one stream, line by line."""
        return [self._line(stream, number) for number in range(self._count)]

    def writes(self) -> Iterator[tuple[int, bytes, float]]:
        """Seven lines by turns, so that stamps of the two are as near as can be; seven at once."""
        pause = self._seconds / (self._count / 7)
        for start in range(0, self._count, 7):
            numbers = range(start, min(start + 7, self._count))
            for part in [[number] for number in numbers] if start % 2 else [numbers]:
                for descriptor, stream in enumerate(STREAMS, start=1):
                    text = b"".join(self._line(stream, number) for number in part)
                    last = descriptor == 2 and part[-1] == numbers[-1]
                    yield descriptor, text, pause if last else 0.0


def main(kind: str, folder: str, lines: str = "0", seconds: str = "0") -> int:
    """Plays the run whose id stands in the environment.

    Args:
        kind: ``process``, ``pod`` or ``container``.
        folder: Of the execution counters; "" for none.
        lines: Of a container.
        seconds: Of a container.
    """
    run_id = os.environ["QWEX_RUN_ID"]
    if folder:
        counter = os.open(os.path.join(folder, run_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(counter, b"x")
        os.close(counter)
    if kind == "container":
        run: Process = Container(run_id, int(lines), float(seconds))
    else:
        run = {"process": Process, "pod": Pod}[kind](run_id)
    for descriptor, data, pause in run.writes():
        try:
            if os.write(descriptor, data) != len(data):
                return TORN
        except OSError:
            return TORN
        if pause:
            time.sleep(pause)
    return code_of(run_id)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
