"""The streams of ``qwex`` itself: what is said, what is passed on, and that it can't be.

Whatever keeps output from being written, a reader that left, a full disk or a stream that was
closed, is one error here, so that it is handled in one place.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

from qwex_jupyter.disk.logs import STDOUT

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class Unwritable(Exception):
    """Output could not be written.

    Args:
        cause: What the system says.
    """

    def __init__(self, cause: OSError) -> None:
        self.nobody_reads = isinstance(cause, BrokenPipeError)
        super().__init__(f"its output can't be written: {cause.strerror}")


def settle() -> None:
    """Has all three streams there, and glyphs that a terminal hasn't got replaced.

    One that was closed gets its number back, so that no file of ours can get it, and can't be
    written to, as before.
    """
    for name, number in _NUMBERS.items():
        if getattr(sys, name) is None:
            closed = os.open(os.devnull, os.O_RDONLY)
            os.dup2(closed, number)
            if closed != number:
                os.close(closed)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """Prints an answer.

    Raises:
        Unwritable: It can't be.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        raise Unwritable(error) from error


def note(text: str) -> None:
    """Says something beside the output, on stderr. That nobody can read it ends nothing."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def pass_on(output: Iterable[tuple[str, bytes]], written: dict[str, int] | None = None) -> None:
    """Writes output to this process's own streams; ``written`` counts along, for a resume.

    Raises:
        Unwritable: It can't be.
    """
    for stream, data in output:
        view = memoryview(data)
        while view:
            try:
                done = os.write(1 if stream == STDOUT else 2, view)
            except OSError as error:
                raise Unwritable(error) from error
            view = view[done:]
            if written is not None:
                written[stream] += done
