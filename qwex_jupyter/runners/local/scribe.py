"""The scribe: the process that copies a program's two pipes into its log files.

Pipes and not the files themselves, because ``echo x > /dev/stderr`` opens the file behind
the descriptor anew and empties it. A process of its own, so that the program can go on
writing when its supervisor is killed. Standard library only.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import select
import signal
import struct
import time
from typing import NoReturn

from qwex_jupyter.disk.folder import log_name
from qwex_jupyter.runners.local.pipes import write_all

try:
    import fcntl
except ImportError:
    pass  # Windows, where this module is only imported

_CHUNK = 1 << 18
_DRAINED_IN = 10.0
# On the control pipe: behind the folder; and once more for "empty the pipes and report".
_DONE = b"\0"
_COUNT = struct.Struct("=Q")
_TOO_LONG = "the files of this kernel's first run could be no longer (ulimit -f)"


class Scribe:
    """The supervisor's end of it. Forked at once, it begins to copy at `begin`.

    It is forked by who forks the supervisor: a supervisor's only children are then the program
    and what that leaves.

    Attributes:
        out: Where the program's stdout is to go.
        err: Where its stderr is to go.
    """

    def __init__(self) -> None:
        control = report = out = err = -1
        self._control = self._report = self.out = self.err = -1
        # Counts what was copied, for who waits beside it.
        self._count = mmap.mmap(-1, _COUNT.size)
        try:
            control, self._control = os.pipe()
            self._report, report = os.pipe()
            out, self.out = os.pipe()
            err, self.err = os.pipe()
            self._pid = os.fork()
            if self._pid == 0:
                self.leave()
                _copy_and_leave(out, err, control, report, self._count)
        except BaseException:
            self.leave()
            raise
        finally:
            _close(out, err, control, report)

    def leave(self) -> None:
        """Closes this process's ends: another one's are the last."""
        _close(self.out, self.err, self._control, self._report)

    @property
    def copied(self) -> int:
        """How many bytes it has taken out of the pipes so far."""
        return int(_COUNT.unpack(self._count[:])[0])

    @property
    def lives(self) -> bool:
        """Whether it is there, before its end was asked for: only its death closes the report."""
        poller = select.poll()
        poller.register(self._report, 0)
        return not poller.poll(0)

    def begin(self, folder: str) -> None:
        """Says which run's log files it writes."""
        # Where it was killed before, there is no report at the end, which says so.
        write_all(self._control, os.fsencode(folder) + _DONE)

    def finish(self) -> tuple[dict[str, int], str]:
        """Waits until all output is on disk.

        Returns:
            Bytes that found no room, per stream, -1 where how much is missing isn't known; and
            why, a clause, where it isn't a full disk.
        """
        # Where all writers were gone, or it was killed, its report says which.
        write_all(self._control, _DONE)
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
            lost, why = json.loads(text)
            return {key: count for key, count in lost.items() if count}, why
        except ValueError:
            return {"stdout": -1, "stderr": -1}, ""  # it was killed

    def abandon(self) -> None:
        """Lets it go before it began."""
        os.close(self._control)
        os.close(self._report)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _copy_and_leave(out: int, err: int, control: int, report: int, count: mmap.mmap) -> NoReturn:
    try:
        os.setsid()  # nobody's signals to a group are for it
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
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
            path = os.path.join(os.fsdecode(folder), log_name(name))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            files[pipe] = (os.open(path, flags, 0o600), name)
            os.set_blocking(pipe, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                try:
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
                except OSError:
                    pass  # the user's quota of pipe memory is spent: the usual size does
        too_long = _copy(files, control, lost, count, draining=bool(done))
        os.write(report, json.dumps([lost, _TOO_LONG if too_long else ""]).encode())
    finally:
        os._exit(0)


def _copy(
    files: dict[int, tuple[int, str]],
    control: int,
    lost: dict[str, int],
    count: mmap.mmap,
    *,
    draining: bool,
) -> bool:
    """Copies until all writers are gone, or until the pipes are empty once it is to end.

    Returns:
        Whether a file came to the length that this process may give it.
    """
    copied, too_long = 0, False
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
            copied += len(data)
            count[:] = _COUNT.pack(copied)
            descriptor, name = files[pipe]
            missing, error = _write(descriptor, data)
            lost[name] += missing
            too_long = too_long or error == errno.EFBIG
        if draining and control not in ready and not moved:
            break
    return too_long


def _write(descriptor: int, data: bytes) -> tuple[int, int]:
    """Writes; how many bytes found no room, and the error. The program doesn't wait for disk."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        return len(view), error.errno or 0
    return 0, 0
