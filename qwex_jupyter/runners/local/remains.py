"""What a program leaves running when it ends: how long it may go on, and its end.

On Linux the supervisor is a child subreaper (prctl(2)): whatever the program leaves becomes
its child, however it tried to get away, so one ``waitpid`` says that nothing is left.
Elsewhere only the program's process group is known. Standard library only.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from typing import Any, cast

from qwex_jupyter.system import process

_PR_SET_CHILD_SUBREAPER = 36

# Seconds: for what still does something; where that can't be seen; for what does nothing;
# from SIGTERM to SIGKILL; for the system to take away what was killed.
_BUSY, _UNSEEN, _IDLE, _GRACE, _GOING = 2.0, 1.0, 0.2, 1.0, 1.0
_FIRST_PAUSE, _PAUSE = 0.002, 0.05


def adopt(want: bool) -> bool:
    """Makes this process the one that orphans below it go to, or no more; whether it is now."""
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, int(want), 0, 0, 0) == 0 and want


@functools.cache
def _prctl() -> Callable[..., int] | None:
    try:
        import ctypes  # not every Python has it

        return cast("Callable[..., int]", ctypes.CDLL(None).prctl)
    except (ImportError, OSError, AttributeError):
        return None


def reap(leader: int) -> bool:
    """Takes away the dead that were adopted; whether there is any child but the leader.

    Args:
        leader: The program, whose wait status isn't touched. As long as it hasn't been taken
            away itself, the dead behind it wait.
    """
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if found is None or found.si_pid == leader:
            return True
        os.waitpid(found.si_pid, 0)


class Remains:
    """What one program left.

    Args:
        leader: The program's identity; it was reaped.
        mark: What its processes carry in their environment.
        adopted: This process is the one that its orphans go to.
        written: How many bytes have come through its pipes so far.
        stopped: Whether somebody wants an end of it now: 0, 1 or, at once, 2.
        pause: Waits for so many seconds, or until a child ends.
    """

    def __init__(
        self,
        leader: process.Identity,
        mark: str,
        *,
        adopted: bool,
        written: Callable[[], int],
        stopped: Callable[[], int],
        pause: Callable[[float], object],
    ) -> None:
        self._leader, self._mark, self._adopted = leader, mark, adopted
        self._written, self._stopped, self._pause = written, stopped, pause

    def end(self) -> str:
        """Returns when nothing is left; what had to be ended, by name, "" for nothing."""
        found = self._let_end()
        if not found:
            return ""
        ended = {one["pid"]: process.name_of(one["pid"]) for one in found}
        for number in (signal.SIGTERM, signal.SIGCONT):
            for one in found:
                process.send(one, number)
        left = self._wait(_GRACE, lambda: self._stopped() > 1)
        alive = self._kill(left, ended)
        return _say(list(ended.values()), alive)

    def kill(self) -> None:
        """Ends at once what is left."""
        self._kill(self._look(), {})

    def _let_end(self) -> list[process.Identity]:
        """Waits while one of them does something; what is there then, doing nothing."""
        longest, idle = (_BUSY, _IDLE) if self._adopted else (_UNSEEN, _UNSEEN)
        begun = before = time.monotonic()
        quiet, pause, last = 0.0, _FIRST_PAUSE, None
        while (found := self._look()) and not self._stopped():
            now = time.monotonic()
            sign = (self._written(), [(one["pid"], one.get("did")) for one in found])
            if sign != last or any(one.get("busy") for one in found):
                quiet, last = 0.0, sign
            else:
                # Where nobody had a processor for a while, that is nobody's idleness.
                quiet += min(now - before, 2 * _PAUSE)
            if quiet >= idle or now - begun >= longest:
                break
            before = now
            self._pause(pause)
            pause = min(2 * pause, _PAUSE)
        return found

    def _kill(self, left: list[process.Identity], ended: dict[int, str]) -> list[str]:
        """Kills what didn't obey; the names of what can't be killed."""
        until = time.monotonic() + _GOING
        while left and time.monotonic() < until:
            for one in left:
                ended.setdefault(one["pid"], process.name_of(one["pid"]))
                process.send(one, signal.SIGKILL)
            left = self._wait(_PAUSE, lambda: False)
        return [process.name_of(one["pid"]) for one in left]

    def _wait(self, seconds: float, enough: Callable[[], bool]) -> list[process.Identity]:
        """What is still there after so many seconds, or as soon as it is enough."""
        until, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while (found := self._look()) and time.monotonic() < until and not enough():
            self._pause(pause)
            pause = min(2 * pause, _PAUSE)
        return found

    def _look(self) -> list[process.Identity]:
        """What is there now."""
        if self._adopted:
            if not reap(0):
                return []
            # Twice, as one that forks and ends while the list is read may be on it nowhere.
            return self._below() or self._below()
        try:
            os.killpg(int(self._leader["pid"]), 0)
        except OSError:
            return []  # nobody is in the group; or on macOS only zombies are
        found = process.members(self._leader, self._mark, os.getpid())
        return [one for one in found if one["in_group"]]

    def _below(self) -> list[process.Identity]:
        return process.descendants(os.getpid(), self._mark)


def _say(names: list[str], alive: list[str]) -> str:
    counts: dict[str, int] = {}
    for name in filter(None, names):  # one without was gone before anybody ended it
        # Whatever a process calls itself.
        text = "".join(letter if letter.isprintable() else "?" for letter in name)
        counts[text] = counts.get(text, 0) + 1
    said = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in counts.items())
    return f"{said}; can't be ended: {', '.join(alive)}" if alive else said


def signal_tree(leader: process.Identity, mark: str, number: int) -> None:
    """Signals all of a run that lives: the group, and on Linux what left it.

    SIGCONT comes behind SIGTERM, or a program that stands still never hears of it.
    """
    numbers = (number, signal.SIGCONT) if number == signal.SIGTERM else (number,)
    away = [one for one in tree(leader, mark) if not one["in_group"]]
    for each in numbers:
        try:
            os.killpg(int(leader["pid"]), each)
        except (ProcessLookupError, PermissionError):
            pass  # nobody there; or on macOS only a zombie is
        for one in away:
            process.send(one, each)


def tree(leader: process.Identity, mark: str) -> list[dict[str, Any]]:
    """All of a run that lives, as its supervisor sees it."""
    return process.members(leader, mark, os.getpid(), below=os.getpid())
