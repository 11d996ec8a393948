"""What runtimes of containers say of a program that they can't start: runc and containerd.

The same words reach us through an engine's API and through a pod's status.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace

from qwex_jupyter.model.status import End, Reason, Snapshot
from qwex_jupyter.model.text import one_line

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
    (
        r"argument list too long",
        Reason.COMMAND_NOT_FOUND,
        "its arguments and variables are too long: put what is long into a file, with --files",
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

# What docker-init (tini), Podman's catatonit and runc say in the output of a program that they
# can't execute, after the runtime has told its engine or kubelet that the container runs.
_UNEXECUTED = re.compile(
    r"\[FATAL tini \(\d+\)\] exec (?P<tini>.*?) failed: (?P<why>.*)"
    r"|.*catatonit.*: failed to exec pid1: (?P<catatonit>.*)"
    r"|exec (?P<runc>/\S+): (?P<cause>exec format error|argument list too long"
    r"|no such file or directory|permission denied)"
)
# Of a program that returned 0 though memory ran out in its container.
CHILD_KILLED = (
    "one of its processes was killed because memory ran out; the program itself returned 0"
)
# The exit codes that come with it.
_THEIRS = {1, 126, 127, 255}
# Who couldn't be executed has lived no longer. Seconds, on a busy machine.
_A_MOMENT = 10.0


def heard(answer: Snapshot, said: str, image: str) -> Snapshot:
    """An end whose exit code is a runtime's own, without it; any other as it is.

    A program may print the same words. They are a runtime's where they are all that was said, on
    either stream, name this very program (``program`` of the evidence, "" where an image chose
    it), and it lived a moment.

    Args:
        answer: What was seen of the end.
        said: All output.
        image: The image as it was asked for.
    """
    end, lived = answer.end, answer.evidence.get("elapsed") or 0.0
    if end is None or end.exit_code not in _THEIRS or lived > _A_MOMENT:
        return answer
    found = _UNEXECUTED.fullmatch(said.strip("\r\n"))
    if found is None:
        return answer
    program, named = str(answer.evidence.get("program", "")), found["tini"] or found["runc"] or ""
    if program and named and os.path.basename(named) != os.path.basename(program):
        return answer
    why = found["why"] or found["catatonit"] or found["cause"]
    refused = refused_start(f"exec: {why}", program or named, image)
    return replace(
        answer, end=End(reason=refused.reason, detail=refused.detail, after_stop=end.after_stop)
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
            if reason in (Reason.NEVER_STARTED, Reason.BACKEND_RESTARTED):
                return End(reason=reason, detail=what)
            if reason is Reason.COMMAND_NOT_FOUND:
                return End(reason=reason, detail=f"{name!r} can't be run in {image}: {what}")
            return End(reason=reason, detail=f"it could not be started: {what}")
    # One that no row knows is said in its own words.
    return End(
        reason=Reason.UNSCHEDULABLE,
        detail=f"{name!r} could not be started in {image}: {one_line(text)}",
    )
