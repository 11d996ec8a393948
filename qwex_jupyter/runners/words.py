"""What runtimes of containers say of a program that they can't start: runc and containerd.

The same words reach us through an engine's API and through a pod's status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from qwex_jupyter.status import End, Reason

# Signals that end a program by themselves, signal(7); 128+N is reported for them, and the
# same for a program that returned that number itself.
ENDING = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 31}

# A pattern in such a text, the reason, and what that is, as a clause.
Row = tuple[str, Reason, str]

START: tuple[Row, ...] = (
    (r"executable file .*not found", Reason.COMMAND_NOT_FOUND, "it isn't in the image"),
    (
        r"container init: mkdir|chdir to cwd",
        Reason.COMMAND_NOT_FOUND,
        "its working folder isn't there, and can't be made",
    ),
    (r"exec format error", Reason.COMMAND_NOT_FOUND, "it is made for another kind of processor"),
    (r"stat .*: no such file or directory", Reason.COMMAND_NOT_FOUND, "it isn't in the image"),
    (
        r"(exec|start).*: (no such file or directory|not a directory)",
        Reason.COMMAND_NOT_FOUND,
        "it isn't in the image, or what should interpret it isn't",
    ),
    (r"(exec|start).*permission denied", Reason.COMMAND_NOT_FOUND, "it may not be executed"),
    (r"is a directory", Reason.COMMAND_NOT_FOUND, "it is a folder"),
    (r"no space left on device", Reason.QUOTA_EXCEEDED, "the disk there is full"),
    (
        r"unable to find user|no matching entries in passwd|no users found",
        Reason.COMMAND_NOT_FOUND,
        "the image has no such user: give --user as a number",
    ),
)


def signal_of(code: int) -> int | None:
    """The signal that an exit code of 128+N tells of; None where it tells of none."""
    return code - 128 if code - 128 in ENDING else None


def refused_start(text: str, name: str, image: str, rows: Iterable[Row] = START) -> End:
    """The end of a run whose program could not be started.

    Args:
        text: What was said of it.
        name: The program.
        image: The image as it was asked for.
        rows: Which texts are known.
    """
    for pattern, reason, what in rows:
        if re.search(pattern, text, re.IGNORECASE):
            if reason is Reason.NEVER_STARTED:
                return End(reason=reason, detail=what)
            if reason is Reason.COMMAND_NOT_FOUND:
                return End(reason=reason, detail=f"{name!r} can't be run in {image}: {what}")
            return End(reason=reason, detail=f"it could not be started: {what}")
    # One that no row knows is said in its own words.
    return End(
        reason=Reason.UNSCHEDULABLE,
        detail=f"{name!r} could not be started in {image}: {one_line(text)}",
    )


def one_line(text: str, most: int = 300) -> str:
    """A text of any length in one line, without its full stop."""
    return " ".join(text.split()).rstrip(".")[:most]
