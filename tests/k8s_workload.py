"""The self-checking workload for pods: what it prints and returns follows from its run id.

As a program it appends one byte to ``/counters/<run id>``, prints on both streams and exits with
a code of its own. As a module it says what is expected. Its text is what a pod executes.

A kubelet gives both streams as one, and keeps bytes: so each line says whose it is, and some
aren't UTF-8. A runtime keeps a long line in pieces, between which lines of the other stream may
come: only stdout has such lines. The last line of each has no newline.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

STREAMS = ("stdout", "stderr")
# So long is each piece of a long line but its last: containerd's max_container_log_line_size.
PIECE = 16384


def _digest(run_id: str, *more: object) -> bytes:
    return hashlib.sha256(" ".join([run_id, *map(str, more)]).encode()).digest()


def code_of(run_id: str) -> int:
    """The exit code of a run: 0 for a third of them, else 1 to 120."""
    digest = _digest(run_id)
    return 0 if digest[0] < 85 else 1 + digest[1] % 120


def seconds_of(run_id: str) -> float:
    """How long it sleeps in all: 0 to 3 s, a quarter of the runs not at all."""
    digest = _digest(run_id)
    return 0.0 if digest[2] < 64 else digest[3] / 255 * 3.0


def lines_of(run_id: str, stream: str) -> list[bytes]:
    """What the run prints on one stream, line by line."""
    lines = []
    count = 1 + _digest(run_id)[4] % 60
    for number in range(count):
        digest = _digest(run_id, stream, number).hex()[:8]
        line = f"{stream} {number} {digest}".encode()
        if number % 5 == 1:
            line += b" \xff\xfe\x80 " + "Grüße \N{SNOWMAN} \N{HATCHING CHICK}".encode()
        if number % 7 == 3:
            line += b" 10%\r 50%\r100%"
        if number % 11 == 10 and stream == "stdout":
            line += b" " + digest.encode() * 2500
        lines.append(line + b"." if number == count - 1 else line + b"\n")
    return lines


def pieces_of(run_id: str, stream: str) -> list[bytes]:
    """What the run prints on one stream, in the pieces that a runtime keeps."""
    return [
        line[at : at + PIECE]
        for line in lines_of(run_id, stream)
        for at in range(0, len(line), PIECE)
    ]


def apart(run_id: str, found: bytes) -> tuple[bytes, bytes, bytes]:
    """What lacks of stdout and of stderr, and what came instead.

    Each stream comes in its order, piece by piece, one between the pieces of the other. A piece
    that isn't whole, or isn't the next of its stream, ends what is believed.
    """
    left = [pieces_of(run_id, stream) for stream in STREAMS]
    at = 0
    while at < len(found):
        for pieces in left:
            if pieces and found.startswith(pieces[0], at):
                at += len(pieces.pop(0))
                break
        else:
            break
    return b"".join(left[0]), b"".join(left[1]), found[at:]


def main() -> int:
    """Plays the run whose id stands in the environment."""
    run_id = os.environ["QWEX_RUN_ID"]
    counter = os.open(f"/counters/{run_id}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(counter, b"x")
    os.close(counter)
    pause = seconds_of(run_id) / len(lines_of(run_id, "stdout"))
    for pair in zip(*(lines_of(run_id, stream) for stream in STREAMS), strict=True):
        for descriptor, line in enumerate(pair, start=1):
            left = line
            while left:
                left = left[os.write(descriptor, left) :]
            if len(line) > PIECE:
                time.sleep(0.1)  # so its pieces mostly come together
        if pause:
            time.sleep(pause)
    return code_of(run_id)


if __name__ == "__main__":
    sys.exit(main())
