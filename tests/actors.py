"""Forked processes that stop, or die, at the n-th of their file operations.

An `Actor` does a piece of work in a process of its own. A step is everything by which it
could be seen, or could see others: each fault point of `facts`, and each open, link, rename,
unlink, mkdir and listing below one folder (told by Python's audit events, so no code can
forget to announce one), and each fork.

`interleavings` stops two actors at each of their steps in turn, so that every order of their
operations with one change of turn each is played: A to its step i, B to its step j, A to its
end, B to its end.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from qwex_jupyter import facts

_EVENTS = {
    "open": 0,
    "os.link": 1,
    "os.listdir": 0,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.scandir": 0,
    "shutil.rmtree": 0,
}
_FAILED = 70


class Actor:
    """One process with a piece of work.

    Args:
        work: What it does; its exit code is 0 when that returns.
        root: Operations on paths below it are steps.
        at: The number of the step before which it stops, or dies; None for none.
        by: The signal it sends itself there.
        diary: A file that its steps, and an error, are written to.
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
                _count_steps(root, at, by, diary)
                work()
                os._exit(0)
            except BaseException:
                if diary is not None:
                    os.write(_appending(diary), traceback.format_exc().encode())
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

    def done(self) -> None:
        """As `finish`, and asserts that its work did not fail."""
        code = self.finish()
        told = self._diary.read_text() if self._diary is not None and self._diary.exists() else ""
        assert code == 0, f"exit code {code}\n{told}"


def steps(work: Callable[[], object], root: str, diary: Path) -> list[str]:
    """The steps of this work, by doing it once."""
    diary.unlink(missing_ok=True)
    Actor(work, root, diary=diary).done()
    return diary.read_text().splitlines()


def interleavings(first: int, second: int) -> Iterator[tuple[int, int]]:
    """Every (i, j) with the first at its step i while the second goes to its step j.

    One more than the number of steps stands for "to its end".
    """
    for i in range(first + 1):
        for j in range(second + 1):
            yield i, j


def _count_steps(root: str, at: int | None, by: int, diary: Path | None) -> None:
    me, count, inside = os.getpid(), 0, False
    out = None if diary is None else _appending(diary)

    def step(what: str) -> None:
        nonlocal count, inside
        if inside or os.getpid() != me:
            return
        inside = True
        if out is not None:
            os.write(out, f"{what}\n".encode())
        here, count = count, count + 1
        if here == at:
            os.kill(me, by)
        inside = False

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.fork":
            step(event)
        elif event in _EVENTS:
            path = arguments[_EVENTS[event]]
            if isinstance(path, str) and path.startswith(root):
                step(f"{event} {path[len(root) :]}")

    facts.fault = step
    sys.addaudithook(audit)


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
