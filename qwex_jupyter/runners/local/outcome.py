"""What is written down of the end of a local run. Standard library and plain modules only."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import FAILED, SPEC, RunFolder
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.model.status import End, Reason, Snapshot
from qwex_jupyter.system import files

_Made = TypeVar("_Made")
# A run of so many seconds is on the disk before it is told.
_LONG = 1.0
# What bash tells of a failed command is shorter. Bytes.
_MOST_TOLD = 1 << 16


def patiently(call: Callable[[], _Made], otherwise: _Made) -> _Made:
    """What a call that writes a fact returns, tried while the disk refuses: nobody else writes it.

    Args:
        call: Writes it.
        otherwise: The folder was taken away by hand, or the fact damaged.
    """
    pause = 0.05
    while True:
        try:
            return call()
        except (FileNotFoundError, FactUnreadable):
            return otherwise
        except OSError:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def record(
    folder: RunFolder,
    spec_fact: Fact,
    snapshot: Snapshot,
    stop: Fact | None,
    secrets: Iterable[str] = (),
) -> None:
    """Links run.json from an end that was seen, and takes the run off the open list.

    Args:
        folder: The folder of the run.
        spec_fact: The content of its ``spec.json``.
        snapshot: What was seen; has an end.
        stop: The stop that was carried out.
        secrets: Values that must not stand in what is said of it.
    """
    # Syncing takes as long as a short program. What ended so soon is left to the system to
    # write: if power fails within its half minute, the run is LOST / Unreadable, which is true.
    long = (snapshot.evidence.get("elapsed") or 0) > _LONG
    patiently(lambda: folder.conclude(spec_fact, snapshot, stop, sync=long, secrets=secrets), None)
    _settle(folder)


def never_started(folder: RunFolder, why: str) -> None:
    """Closes the launch, so that nobody can start the run, and says that it never started."""
    if not folder.has(SPEC):
        return  # deleted
    try:
        closed = folder.close_launch(why)
    except OSError:
        return  # whoever takes the run up closes it
    if closed is not None:
        end = End(reason=Reason.NEVER_STARTED, detail=str(closed["closed"]))
        patiently(lambda: folder.finish(end), None)
        _settle(folder)


def _settle(folder: RunFolder) -> None:
    folder.release()
    folder.leave_open_list()


def end_of(status: int, refused: dict[str, Any], out_of_memory: bool, *, after_stop: bool) -> End:
    """How a program ended.

    Args:
        status: Its wait status.
        refused: What its child said instead of executing it; {} when it was executed.
        out_of_memory: It was killed for its memory.
        after_stop: It was told to stop before.
    """
    if refused:
        return not_executed(refused)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return End(
        exit_code=128 + killed if killed else os.WEXITSTATUS(status),
        signal=killed,
        reason=Reason.OUT_OF_MEMORY if out_of_memory else Reason.NONE,
        after_stop=after_stop,
    )


def failed(folder: RunFolder, spec: Fact, end: End) -> dict[str, Any] | None:
    """Which command of a bash script brought that end, as far as bash has told it."""
    if not end.failed_by_itself:
        return None  # nobody looks for a command behind that
    path = os.path.join(folder, str(spec.get("script_name")))
    try:
        with open(os.open(os.path.join(folder, FAILED), files.READ), "rb") as file:
            told = file.read(_MOST_TOLD).decode("utf-8", "replace")
        from qwex_jupyter.runners import bash  # not what each run's begin waits for

        with open(os.open(path, files.READ), "rb") as file:
            return bash.failed(told, file.read().decode("utf-8", "replace"), path)
    except OSError:
        return None  # nothing was told, which is usual


def not_executed(refused: dict[str, Any]) -> End:
    """No process of the user's ever ran: there is no exit code."""
    if "sentence" in refused:
        return End(reason=Reason.NEVER_STARTED, detail=refused["sentence"])
    code = refused["errno"]
    cause = os.strerror(code) if code else "unknown cause"
    if "folder" in refused:
        detail = f"its working folder {refused['folder']!r} can't be entered: {cause}"
        return End(reason=Reason.COMMAND_NOT_FOUND, detail=detail)
    if code == errno.ENOENT:
        cause = _not_there(refused)
    elif code == errno.EACCES:
        cause = "it isn't executable. Mend that with chmod +x, or put its interpreter before it"
    elif code == errno.ENOEXEC:
        cause = (
            "it has no #! line that names its interpreter, or is made for another kind of "
            "processor. Put its interpreter before it, like bash"
        )
    detail = f"{refused.get('program', '')!r} could not be run: {cause}"
    return End(reason=Reason.COMMAND_NOT_FOUND, detail=detail)


def _not_there(refused: dict[str, Any]) -> str:
    needs = refused.get("needs")
    if needs is None:
        return "it isn't there. Install it, or name an --image that has it"
    if needs.endswith("\r"):
        return (
            f"its #! line ends as lines of Windows do, so it asks for {needs!r}. "
            f"Mend it with sed -i 's/\\r$//' {refused['program']}"
        )
    what = f"{needs!r}, which its #! line names," if needs else "what it has to be loaded by"
    return f"{what} isn't there. Install that, or name an --image that has it"
