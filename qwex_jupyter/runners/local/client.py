"""The kernel's end of the small process that forks supervisors."""

from __future__ import annotations

import _thread
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from qwex_jupyter import _version
from qwex_jupyter.errors import SubmitFailed
from qwex_jupyter.runners.local import limits
from qwex_jupyter.runners.local.pipes import FOR_A_KERNEL, SERVING, write_all

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from qwex_jupyter.runners.local.server import serve; serve()"
)
# How long a Python may take to start.
_PATIENCE = 60.0


class Broken(SubmitFailed):
    """It was there a moment ago, and a request didn't reach it whole."""


class Server:
    """One of this process.

    Raises:
        SubmitFailed: It could not be started; says why.
    """

    def __init__(self) -> None:
        # What this process is now, the server is born with.
        self._owner, self._gone, self._born = os.getpid(), False, limits.here()
        self._pid, self._pipe, self._said = 0, -1, -1
        root = os.path.dirname(os.path.dirname(os.path.abspath(_version.__file__)))
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, root, "qwex-supervisor"]
        request = saying = -1
        try:
            request, self._pipe = os.pipe()
            self._said, saying = os.pipe()
            # It is born behind a mask: for a moment it is still of the kernel's group, all of
            # which an interrupt or a restart is sent to.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_A_KERNEL)
            try:
                server = subprocess.Popen(
                    command,
                    stdin=request,
                    stdout=saying,
                    stderr=saying,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except OSError as error:
            self._close()
            raise _not_started(limits.cause(error)) from error
        finally:
            for descriptor in (request, saying):
                if descriptor >= 0:
                    os.close(descriptor)
        self._pid = server.pid
        # It is waited for here, by its pid: a Popen that is collected before this object
        # would complain that its process still runs.
        server.returncode = 0

    def __del__(self) -> None:
        """Ends it: it reads the requests that are still in the pipe, and leaves at its end."""
        self._close()
        if self._pid and self._owner == os.getpid() and not self._ended():
            # Not by `threading`, whose lock may be held where the collector comes.
            with suppress(RuntimeError):  # this process ends
                _thread.start_new_thread(_reap, (self._pid,))

    def usable(self, has: limits.Limits) -> bool:
        """Whether a program of it can have what this process is now, and it lives.

        A forked child makes one for itself.
        """
        mine = self._owner == os.getpid() and self._pipe >= 0
        return mine and self.fits(has) and not self._ended()

    def fits(self, has: limits.Limits) -> bool:
        """Whether a program of it can have what this process was when that was noted."""
        return limits.within(has, self._born)

    def send(self, message: bytes) -> None:
        """Hands a request over whole; a torn one starts nothing, and ends this server.

        The first one lies in the pipe before it is known whether the server comes up, so that
        it is read whatever becomes of this process meanwhile.

        Raises:
            Broken: It didn't reach the server.
            SubmitFailed: The server doesn't come up, and so has read none.
        """
        try:
            reached = write_all(self._pipe, message)
            why = self._why_not() if self._said >= 0 else ""
        except BaseException:
            self._close()
            raise
        if why or not reached:
            self._close()
            raise (
                _not_started(why)
                if why
                else Broken("The supervisor could not be reached. Nothing was started.")
            )

    def _why_not(self) -> str:
        """Waits until it reads requests; else its last words, by which it can't."""
        text = b""
        until = time.monotonic() + _PATIENCE
        poller = select.poll()  # not select(), which a kernel with many files can't use
        poller.register(self._said, select.POLLIN)
        while not text.endswith(SERVING):
            if not poller.poll(max(0, int(1000 * (until - time.monotonic())))):
                return f"it did not come up within {_PATIENCE:g} s"
            chunk = os.read(self._said, 4096)
            if not chunk:
                lines = text.decode("utf-8", "replace").split("\n")
                return next((line for line in reversed(lines) if line.strip()), "it ended at once")
            text += chunk
        os.close(self._said)
        self._said = -1
        return ""

    def _close(self) -> None:
        for descriptor in (self._pipe, self._said):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipe = self._said = -1

    def _ended(self) -> bool:
        if not self._gone:
            try:
                self._gone = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._gone = True  # reaped by the system, where SIGCHLD is ignored
        return self._gone


def _reap(pid: int) -> None:
    """Waits for a child, which would stay as a zombie of the kernel."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _not_started(why: str) -> SubmitFailed:
    return SubmitFailed(f"No supervisor could be started: {why}. Nothing runs.")
