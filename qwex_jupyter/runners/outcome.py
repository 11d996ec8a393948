"""What is written down of the end of a local run. Standard library and plain modules only."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from qwex_jupyter import facts
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot

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
    final = before.concluded(snapshot, stop, spec_fact["spec"], tail(folder))
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


def end_of(status: int, refused: str, out_of_memory: bool, *, after_stop: bool) -> End:
    """How a program ended.

    Args:
        status: Its wait status.
        refused: What its child said instead of executing it; "" when it was executed.
        out_of_memory: It was killed for its memory.
        after_stop: It was told to stop before.
    """
    if refused:
        code, _, word = refused.partition(" ")
        return not_executed(int(code), word)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return End(
        exit_code=128 + killed if killed else os.WEXITSTATUS(status),
        signal=killed,
        reason=Reason.OUT_OF_MEMORY if out_of_memory else Reason.NONE,
        after_stop=after_stop,
    )


def not_executed(code: int, word: str) -> End:
    """No process of the user's ever ran: there is no exit code.

    Args:
        code: The error number; -1 where ``word`` is the sentence itself.
        word: What could not be executed, or entered.
    """
    if code == -1:
        return End(reason=Reason.NEVER_STARTED, detail=word)
    cause = os.strerror(code) if code else "unknown cause"
    if code == errno.ENOENT:
        cause = "it isn't there. Install it, or name an --image that has it"
    elif code == errno.EACCES:
        cause = "it isn't executable"
    return End(reason=Reason.COMMAND_NOT_FOUND, detail=f"{word!r} could not be run: {cause}")
