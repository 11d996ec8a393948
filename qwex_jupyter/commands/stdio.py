"""The streams of ``qwex`` itself: what is said, what is passed on, and that it can't be.

Whatever keeps output from being written, a reader that left, a full disk or a stream that was
closed, is one error here, so that it is handled in one place.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress

from qwex_jupyter.disk.logs import STDOUT

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


# Notes come from other threads too, and none may begin within a line of the program's.
_turn = threading.Lock()
_unfinished = False


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
    """Says something beside the output, on stderr, in lines of its own.

    That nobody can read it ends nothing.
    """
    global _unfinished
    with _turn, suppress(OSError):
        begin, _unfinished = "\n" if _unfinished and text else "", False
        print(f"{begin}{text}", file=sys.stderr, flush=True)


def pass_on(output: Iterable[tuple[str, bytes]], written: dict[str, int] | None = None) -> None:
    """Writes output to this process's own streams; ``written`` counts along, for a resume.

    Raises:
        Unwritable: It can't be.
    """
    for stream, data in output:
        view = memoryview(data)
        while view:
            done = _write(stream, view)
            view = view[done:]
            if written is not None:
                written[stream] += done


def _write(stream: str, view: memoryview) -> int:
    """Writes some of it, and remembers whether stderr is within a line; how much that was.

    Raises:
        Unwritable: It can't be.
    """
    global _unfinished
    try:
        if stream == STDOUT:
            return os.write(1, view)
        with _turn:
            done = os.write(2, view)
            _unfinished = done > 0 and view[done - 1] != ord("\n")
            return done
    except OSError as error:
        raise Unwritable(error) from error
