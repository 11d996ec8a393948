"""Forked processes that stop, or die, at the n-th of their file operations.

An `Actor` does a piece of work in a process of its own. Its steps are told by Python's audit
events, so no code can forget to announce one. To be stopped between two steps, those count by
which it can be seen, or can see others: each open, link, rename, unlink, mkdir and listing of
a name that others use. To be killed, also what it does to its own half-made files, the fault
points of `facts`, and each fork.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from local_helpers import until

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.manager.run import Run

# The number of arguments that are paths.
_EVENTS = {
    "open": 1,
    "os.link": 2,
    "os.listdir": 1,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.scandir": 1,
}
_FAILED = 70
# Half-made facts: nobody else ever looks at one.
_PRIVATE = re.compile(r"\.(\w+\.json|id)\.\w+")


class Actor:
    """One process with a piece of work.

    Args:
        work: What it does; its exit code is 0 when that returns.
        root: Operations on paths below it are steps; "" for none.
        at: The number of the step before which it stops, or dies; None for none.
        by: The signal it sends itself there.
        diary: A file that an error is written to.
    """

    def __init__(
        self,
        work: Callable[[], object],
        root: str,
        *,
        at: int | None = None,
        by: int = signal.SIGSTOP,
        diary: Path | None = None,
    ) -> None:
        self.stopped = False
        self.status: int | None = None
        self._diary = diary
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if root:
                    _count_steps(root, at, by)
                work()
                os._exit(0)
            except BaseException:
                if diary is not None:
                    diary.write_text(traceback.format_exc())
                os._exit(_FAILED)

    def until_stopped(self) -> bool:
        """Waits until it stands at its step, True; or has left without coming there, False."""
        if self.status is None and not self.stopped:
            _, status = os.waitpid(self.pid, os.WUNTRACED)
            self.stopped = os.WIFSTOPPED(status)
            self.status = None if self.stopped else status
        return self.stopped

    def go(self) -> None:
        """Lets it go on from its step."""
        if self.stopped:
            os.kill(self.pid, signal.SIGCONT)
            self.stopped = False

    def finish(self) -> int:
        """Lets it go on and waits for its end; its exit code, negative for a signal."""
        self.go()
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self.status)

    def kill(self) -> None:
        """Ends it where it is, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]

    def done(self, within: float | None = None) -> None:
        """As `finish`, and asserts that its work did not fail; nor last longer, in seconds."""
        until = time.monotonic() + (within or 0.0)
        while within is not None and self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        code = self.finish()
        told = self._diary.read_text() if self._diary is not None and self._diary.exists() else ""
        assert code == 0, f"exit code {code}\n{told}"


def end_once(work: Callable[[], None], runs: Sequence[Run], home: str, go: Path) -> None:
    """Two processes do this with the same runs, whose programs end when `go` is there.

    Each run has one record then, which is the first.
    """
    actors = [Actor(work, "", diary=Path(home, f"diary-{number}")) for number in range(2)]
    go.touch()
    paths = [Path(run.log.folder, RUN) for run in runs]
    until(lambda: all(path.exists() for path in paths))
    first = [(path.stat().st_ino, path.read_bytes()) for path in paths]
    for actor in actors:
        actor.done()
    assert [(path.stat().st_ino, path.read_bytes()) for path in paths] == first


def _count_steps(root: str, at: int | None, by: int) -> None:
    me, count = os.getpid(), 0
    dying = by == signal.SIGKILL

    def step(_: str) -> None:
        nonlocal count
        if os.getpid() == me:
            here, count = count, count + 1
            if here == at:
                os.kill(me, by)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.fork" and dying:
            step(event)
        elif event in _EVENTS:
            paths = [path for path in arguments[: _EVENTS[event]] if isinstance(path, str)]
            names = [os.path.basename(path) for path in paths if path.startswith(root)]
            if names and (dying or not all(map(_PRIVATE.fullmatch, names))):
                step(event)

    if dying:
        facts.fault = step
    sys.addaudithook(audit)
