"""The self-checking workload: what a run prints and how it ends follows from its run id.

As a program, ``python tests/workload.py FOLDER``, it appends one byte to ``FOLDER/<run id>``
(the execution counter), prints ``seq sha8`` lines on both streams and exits with a code of
its own. As a module it says what is expected, so that a checker needs nothing from the
process that submitted the run.

Among the lines are bytes that aren't UTF-8, characters of several bytes, carriage returns
and lines of 20 kB; the last line of each stream has no newline.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

STREAMS = ("stdout", "stderr")
# A write that failed or was cut: no run id asks for this code, so it is a wrong outcome.
TORN = 126


def _digest(run_id: str, *more: object) -> bytes:
    return hashlib.sha256(" ".join([run_id, *map(str, more)]).encode()).digest()


def code_of(run_id: str) -> int:
    """The exit code of a run: 0 for a third of them, else 1 to 120."""
    digest = _digest(run_id)
    return 0 if digest[0] < 85 else 1 + digest[1] % 120


def seconds_of(run_id: str) -> float:
    """How long it sleeps in all: 0 to 0.4 s, a quarter of the runs not at all."""
    digest = _digest(run_id)
    return 0.0 if digest[2] < 64 else digest[3] / 255 * 0.4


def lines_of(run_id: str, stream: str) -> list[bytes]:
    """What the run prints on one stream, line by line."""
    lines = []
    count = 1 + _digest(run_id)[4] % 30
    for number in range(count):
        line = b"%d %s" % (number, _digest(run_id, stream, number).hex()[:8].encode())
        if number % 5 == 1:
            line += b" \xff\xfe\x80 " + "Grüße \N{SNOWMAN} \N{HATCHING CHICK}".encode()
        if number % 7 == 3:
            line += b" 10%\r 50%\r100%"
        if number % 11 == 10:
            line += b" " + _digest(run_id, number).hex().encode() * 320
        lines.append(line if number == count - 1 else line + b"\n")
    return lines


def main() -> int:
    """Plays the run whose id stands in the environment."""
    run_id = os.environ["QWEX_RUN_ID"]
    counter = os.open(os.path.join(sys.argv[1], run_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(counter, b"x")
    os.close(counter)
    pause = seconds_of(run_id) / len(lines_of(run_id, "stdout"))
    pairs = zip(lines_of(run_id, "stdout"), lines_of(run_id, "stderr"), strict=True)
    for pair in pairs:
        for descriptor, line in enumerate(pair, start=1):
            try:
                if os.write(descriptor, line) != len(line):
                    return TORN
            except OSError:
                return TORN
        if pause:
            time.sleep(pause)
    return code_of(run_id)


if __name__ == "__main__":
    sys.exit(main())
