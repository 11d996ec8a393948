"""What is written down of the end of a local run. Standard library and plain modules only."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from qwex_jupyter.disk import facts
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot

_TAIL = 4096
# A run of so many seconds is on the disk before it is told.
_LONG = 1.0


def link_patiently(
    folder: str, name: str, value: dict[str, Any], *, sync: bool = True
) -> dict[str, Any]:
    """Links a fact, again and again while the disk refuses: nobody else will write it."""
    pause = 0.05
    while True:
        try:
            return facts.link_once(folder, name, value, sync=sync)
        except (FileNotFoundError, FactUnreadable):
            return value  # the folder was taken away by hand, or the fact damaged
        except OSError:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def record(
    folder: str, spec_fact: dict[str, Any], snapshot: Snapshot, stop: dict[str, Any] | None
) -> None:
    """Links run.json from an end that was seen, and takes the run off the open list."""
    before = RunRecord.submitted(spec_fact)
    final = before.concluded(
        snapshot, stop, spec_fact["spec"], tail(folder), printed=printed(folder, snapshot)
    )
    # Syncing takes as long as a short program. What ended so soon is left to the system to
    # write: if power fails within its half minute, the run is LOST / Unreadable, which is true.
    long = (snapshot.evidence.get("elapsed") or 0) > _LONG
    link_patiently(folder, facts.RUN, final.to_json(), sync=long)
    facts.release(folder)
    try:
        os.unlink(os.path.join(folder, "..", "..", "open", before.run_id))
    except OSError:
        pass  # done by another, or by the next who takes up what is open


def tail(folder: str) -> str:
    """The last text on stderr, for the sentence that says why."""
    try:
        with open(os.path.join(folder, "stderr.log"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def printed(folder: str, snapshot: Snapshot) -> bool:
    """Whether the program said anything, be it that it could not be kept."""
    paths = (os.path.join(folder, f"{stream}.log") for stream in ("stdout", "stderr"))
    try:
        return bool(snapshot.log_missing) or any(os.stat(path).st_size for path in paths)
    except OSError:
        return True  # nobody knows


def never_started(folder: str, why: str) -> None:
    """Closes the launch, so that nobody can start the run, and says that it never started."""
    spec_fact = facts.read_fact(folder, facts.SPEC)
    if spec_fact is None:
        return
    nonce = os.urandom(8).hex()
    try:
        winner = facts.link_once(
            folder, facts.LAUNCH, {"closed": why, "at": time.time(), "nonce": nonce}
        )
    except OSError:
        return  # whoever takes the run up closes it
    if winner.get("nonce") == nonce:
        end = End(reason=Reason.NEVER_STARTED, detail=why)
        now = time.time()
        snapshot = Snapshot(RunStatus.LOST, end=end, finished_at=now, observed_at=now)
        record(folder, spec_fact, snapshot, facts.asked(folder))


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
