"""The process that stays with one program: it starts it, stops it, and writes down its end.

Executed by its path, with nothing but the standard library. It reads the job from stdin, makes the
run's folder in the spool, and goes on alone once that can be found. The folder holds:

- ``life``, locked for as long as this process, or anything of the program, lives;
- ``ask``, a pipe by which this process is told to stop the program;
- ``began`` and ``end``, JSON that appears whole;
- ``stdout`` and ``stderr``, which the program itself writes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
_MOST = 1 << 16  # bytes that a pipe holds
_AGAIN = 0.02  # seconds after which what was started in the meantime is killed too


def main() -> None:
    """Accepts a job and returns; a child of this process goes on with it."""
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    made = folder.with_name(f".{folder.name}")
    made.mkdir(parents=True)
    life = os.open(made / "life", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(life, fcntl.LOCK_EX)
    os.mkfifo(made / "ask", 0o600)
    asked = os.open(made / "ask", os.O_RDWR | os.O_NONBLOCK)
    # It appears whole: a folder whose lock is free is that of a run which is over.
    made.rename(folder)
    if os.fork():
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    Keeper(folder, job, life, asked).keep()


class Keeper:
    """Keeps one program.

    Args:
        folder: Where it writes.
        job: What to run: ``argv`` by ``through``, ``env``, ``cwd``, ``timeout`` and ``grace``.
        life: The locked file, which the program inherits.
        asked: The pipe from which wishes to stop come.
    """

    def __init__(self, folder: Path, job: dict[str, Any], life: int, asked: int) -> None:
        self._folder, self._job, self._life, self._asked = folder, job, life, asked
        self._program = 0
        self._deadline = self._kill_at = math.inf
        self._why = ""

    def keep(self) -> None:
        """From the program's start to its end."""
        # `nice` doesn't tell whether it was its program that ended with 127.
        name, path = self._job["argv"][0], self._job["env"].get("PATH", os.defpath)
        if not shutil.which(
            os.path.join(self._job["cwd"], name) if "/" in name else name, path=path
        ):
            detail = f"{name!r} isn't a program that is found in PATH; install it"
            end = {"reason": "CommandNotFound", "detail": detail, "at": time.time()}
        else:
            try:
                end = self._run()
            except OSError as error:
                end = {"reason": "NeverStarted", "detail": str(error), "at": time.time()}
        self._write("end", end)

    def _run(self) -> dict[str, Any]:
        """Starts the program and waits for its end, which it returns."""
        if sys.platform == "linux":
            # What leaves the program's session comes to this process when its parent ends.
            ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)
        wakes, wake = os.pipe()
        os.set_blocking(wakes, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with open(self._folder / "stdout", "ab") as out, open(self._folder / "stderr", "ab") as err:
            program = subprocess.Popen(
                [*self._job["through"], *self._job["argv"]],
                env=self._job["env"],
                cwd=self._job["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=[self._life],
            )
        began = time.time()
        self._program = program.pid
        self._write("began", {"at": began, "pid": program.pid})
        self._deadline = began + (self._job["timeout"] or math.inf)
        while program.poll() is None:
            self._stop_what_is_late()
            due = min(self._deadline, self._kill_at)
            wait = None if due == math.inf else max(0.0, due - time.time())
            select.select([wakes, self._asked], [], [], wait)
            with contextlib.suppress(BlockingIOError):
                os.read(wakes, _MOST)
            self._hear()
        at, code = time.time(), program.returncode
        if self._why:
            self._end_the_rest()
        return {
            "exit_code": code if code >= 0 else 128 - code,
            "signal": -code if code < 0 else None,
            "reason": "TimedOut" if self._why == "timeout" else "",
            "after_stop": self._why == "cancel",
            "at": at,
        }

    def _hear(self) -> None:
        """Reads the wishes to stop that came, a JSON object on each line."""
        with contextlib.suppress(BlockingIOError):
            for wish in map(json.loads, os.read(self._asked, _MOST).splitlines()):
                now = wish["force"] or not wish["grace"]
                self._stop("cancel", time.time() if now else wish["at"] + wish["grace"])

    def _stop_what_is_late(self) -> None:
        now = time.time()
        if now >= self._deadline:
            self._stop("timeout", now + self._job["grace"])
        if now >= self._kill_at:
            _signal(self._program, signal.SIGKILL)
            self._kill_at = now + _AGAIN

    def _stop(self, why: str, kill_at: float) -> None:
        """Asks the program to end, once; of several moments to kill it the earliest holds."""
        if not self._why:
            self._why, self._deadline = why, math.inf
            _signal(self._program, signal.SIGTERM)
            _signal(self._program, signal.SIGCONT)  # or what stands still never hears of it
        self._kill_at = min(self._kill_at, kill_at)

    def _end_the_rest(self) -> None:
        """Returns when nothing is left of a program that was stopped, whose grace is for it all."""
        while left := list(_below(os.getpid())):
            if time.time() >= self._kill_at:
                for pid in left:
                    _send(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            self._hear()
            time.sleep(_AGAIN)

    def _write(self, name: str, value: dict[str, Any]) -> None:
        made = self._folder / f".{name}"
        made.write_text(json.dumps(value))
        made.rename(self._folder / name)


def _signal(program: int, number: int) -> None:
    """To the group of a program, and to what left it."""
    # Looked for first: what a program leaves behind it moves to this process as it ends.
    left = [pid for pid in _below(os.getpid()) if _group(pid) != program]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program, number)
    for pid in left:
        _send(pid, number)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _below(pid: int) -> Iterator[int]:
    """The processes below one, where the system tells; the dead ones among them too."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, found):
        yield child
        yield from _below(child)


if __name__ == "__main__":
    main()
