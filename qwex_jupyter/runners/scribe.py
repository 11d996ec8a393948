"""The scribe: the process that copies a program's two pipes into its log files.

Pipes and not the files themselves, because ``echo x > /dev/stderr`` opens the file behind
the descriptor anew and empties it. A process of its own, so that the program can go on
writing when its supervisor is killed. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from typing import NoReturn

_CHUNK = 1 << 18
_DRAINED_IN = 10.0
# On the control pipe: behind the folder; and once more for "empty the pipes and report".
_DONE = b"\0"


class Scribe:
    """The supervisor's end of it. Forked at once, it begins to copy at `begin`.

    Args:
        out: The reading end of the program's stdout; closed here.
        err: The reading end of its stderr; closed here.
        closing: Descriptors that the scribe must not hold: the program's writing ends.
    """

    def __init__(self, out: int, err: int, closing: tuple[int, ...]) -> None:
        control, self._control = os.pipe()
        self._report, report = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            for descriptor in (self._control, self._report, *closing):
                os.close(descriptor)
            _copy_and_leave(out, err, control, report)
        for descriptor in (out, err, control, report):
            os.close(descriptor)

    def begin(self, folder: str) -> None:
        """Says which run's log files it writes."""
        os.write(self._control, os.fsencode(folder) + _DONE)

    def finish(self) -> dict[str, int]:
        """Waits until all output is on disk; bytes that found no room, per stream.

        -1 where how much is missing isn't known.
        """
        try:
            os.write(self._control, _DONE)
        except BrokenPipeError:
            pass  # all writers were gone, or it was killed: its report says which
        os.close(self._control)
        text = b""
        until = time.monotonic() + _DRAINED_IN
        while select.select([self._report], [], [], max(0.0, until - time.monotonic()))[0]:
            chunk = os.read(self._report, 4096)
            if not chunk:
                break
            text += chunk
        else:
            os.kill(self._pid, signal.SIGKILL)  # a dead disk: the outcome must not wait for it
            text = b""
        os.close(self._report)
        try:
            return {key: count for key, count in json.loads(text).items() if count}
        except ValueError:
            return {"stdout": -1, "stderr": -1}  # it was killed

    def reap(self) -> None:
        """Leaves no zombie; after `finish`, when nobody waits any more."""
        os.waitpid(self._pid, 0)

    def abandon(self) -> None:
        """Lets it go before it began."""
        os.close(self._control)
        os.close(self._report)
        self.reap()


def _copy_and_leave(out: int, err: int, control: int, report: int) -> NoReturn:
    try:
        text = b""
        while _DONE not in text:
            word = os.read(control, 4096)
            if not word:
                os._exit(0)  # abandoned
            text += word
        folder, _, done = text.partition(_DONE)
        lost = {"stdout": 0, "stderr": 0}
        files = {}
        for pipe, name in ((out, "stdout"), (err, "stderr")):
            path = os.path.join(os.fsdecode(folder), f"{name}.log")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            files[pipe] = (os.open(path, flags, 0o600), name)
            os.set_blocking(pipe, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                try:
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
                except OSError:
                    pass  # the user's quota of pipe memory is spent: the usual size does
        _copy(files, control, lost, draining=bool(done))
        os.write(report, json.dumps(lost).encode())
    finally:
        os._exit(0)


def _copy(
    files: dict[int, tuple[int, str]], control: int, lost: dict[str, int], *, draining: bool
) -> None:
    """Copies until all writers are gone, or until the pipes are empty once it is to end."""
    poller = select.poll()
    for pipe in files:
        poller.register(pipe, select.POLLIN)
    poller.register(control, select.POLLIN)
    open_pipes = set(files)
    while open_pipes:
        ready = {number for number, _ in poller.poll(0 if draining else None)}
        if control in ready:
            poller.unregister(control)
            # An end without a word: the supervisor was killed. The program goes on, and so
            # does its output. (The parent's pid would not tell: it changes after the pipe.)
            draining = draining or bool(os.read(control, 1))
        moved = False
        for pipe in ready & open_pipes:
            try:
                data = os.read(pipe, _CHUNK)
            except BlockingIOError:
                continue
            if not data:
                open_pipes.discard(pipe)
                poller.unregister(pipe)
                continue
            moved = True
            descriptor, name = files[pipe]
            lost[name] += _write_all(descriptor, data)
        if draining and control not in ready and not moved:
            return


def _write_all(descriptor: int, data: bytes) -> int:
    """Writes; returns how many bytes found no room. The program isn't made to wait for disk."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except InterruptedError:
            continue
        except OSError:
            return len(view)
    return 0
