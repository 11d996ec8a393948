"""The self-checking workload for containers: what it prints and returns follows from its run id.

As a program, ``python3 docker_workload.py LINES SECONDS``, it prints so many lines on each
stream within about so many seconds, and exits with a code of its own. As a module it says what
is expected. It needs nothing but the standard library: its text is what a container executes.

Engines keep text, so all of it is UTF-8: among the numbered lines with their checksums are
characters of several bytes, carriage returns, empty lines and lines of 20 kB (engines cut
those at 16 KiB); the last line of each stream has no newline.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

STREAMS = ("stdout", "stderr")
_GROUP = 7


def _digest(run_id: str, *more: object) -> bytes:
    return hashlib.sha256(" ".join([run_id, *map(str, more)]).encode()).digest()


def code_of(run_id: str) -> int:
    """The exit code of a run: 0 for a third of them, else 1 to 120."""
    digest = _digest(run_id)
    return 0 if digest[0] < 85 else 1 + digest[1] % 120


def line_of(run_id: str, stream: str, number: int, lines: int) -> bytes:
    """One line of what the run prints on one stream."""
    digest = _digest(run_id, stream, number)
    line = b"%d %s" % (number, digest.hex()[:8].encode())
    if number % 50 == 1:
        line += " Grüße \N{SNOWMAN} \N{HATCHING CHICK}".encode()
    if number % 70 == 3:
        line += b" 10%\r 50%\r100%"
    if number % 90 == 5:
        line = b""
    if number % 1000 == 7:
        line += b" " + digest.hex().encode() * 320
    return line if number == lines - 1 else line + b"\n"


def expected(run_id: str, stream: str, lines: int) -> bytes:
    """Everything that the run prints on one stream."""
    return b"".join(line_of(run_id, stream, number, lines) for number in range(lines))


def main() -> int:
    """Plays the run whose id stands in the environment."""
    run_id, lines, seconds = os.environ["QWEX_RUN_ID"], int(sys.argv[1]), float(sys.argv[2])
    pause = seconds / (lines / _GROUP)
    for start in range(0, lines, _GROUP):
        numbers = range(start, min(start + _GROUP, lines))
        # By turns, so that stamps of the two are as near as they can be; then some at once.
        if start % 2:
            for number in numbers:
                for descriptor, stream in enumerate(STREAMS, start=1):
                    _write(descriptor, line_of(run_id, stream, number, lines))
        else:
            for descriptor, stream in enumerate(STREAMS, start=1):
                text = [line_of(run_id, stream, number, lines) for number in numbers]
                _write(descriptor, b"".join(text))
        if pause:
            time.sleep(pause)
    return code_of(run_id)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    sys.exit(main())
