"""The kernel's end of the small process that forks supervisors."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import qwex_jupyter
from qwex_jupyter.errors import SubmitFailed
from qwex_jupyter.runners import limits
from qwex_jupyter.runners.pipes import SERVING

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from qwex_jupyter.runners.server import serve; serve()"
)
# How long a Python may take to start.
_PATIENCE = 60.0


class Broken(SubmitFailed):
    """It was there a moment ago, and a request didn't reach it whole."""


class Server:
    """One of this process.

    Args:
        has: What this process is now, and so what the server is born with.

    Raises:
        SubmitFailed: It could not be started; says why.
    """

    def __init__(self, has: limits.Limits) -> None:
        self._owner, self._gone, self._born, self._pipe = os.getpid(), False, has, -1
        root = os.path.dirname(os.path.dirname(os.path.abspath(qwex_jupyter.__file__)))
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, root, "qwex-supervisor"]
        request = said = saying = -1
        try:
            request, self._pipe = os.pipe()
            said, saying = os.pipe()
            server = subprocess.Popen(
                command,
                stdin=request,
                stdout=saying,
                stderr=saying,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
            self._pid = server.pid
            # It is waited for here, by its pid: a Popen that is collected before this object
            # would complain that its process still runs.
            server.returncode = 0
            os.close(saying)
            saying = -1
            why = _why_not(said)
        except OSError as error:
            why = limits.cause(error)
        finally:
            for descriptor in (request, said, saying):
                if descriptor >= 0:
                    os.close(descriptor)
        if why:
            self._close()
            raise SubmitFailed(f"No supervisor could be started: {why}. Nothing runs.")

    def __del__(self) -> None:
        """Ends it: it reads the requests that are still in the pipe, and leaves at its end."""
        self._close()
        if hasattr(self, "_pid") and self._owner == os.getpid():
            for pause in (0.0, 0.001, 0.01, 0.1, 1.0):
                time.sleep(pause)
                if self._ended():  # reaped, or it would stay as a zombie of the kernel
                    break

    def usable(self, has: limits.Limits) -> bool:
        """Whether a program of it can have what this process is now, and it lives.

        A forked child makes one for itself.
        """
        mine = self._owner == os.getpid() and self._pipe >= 0
        return mine and limits.within(has, self._born) and not self._ended()

    def send(self, message: bytes) -> None:
        """Hands a request over whole; a torn one starts nothing, and ends this server."""
        try:
            view = memoryview(message)
            while view:
                view = view[os.write(self._pipe, view) :]
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                raise Broken(
                    f"The supervisor could not be reached: {error.strerror}. Nothing was started."
                ) from error
            raise

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _ended(self) -> bool:
        if not self._gone:
            try:
                self._gone = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._gone = True  # reaped by the system, where SIGCHLD is ignored
        return self._gone


def _why_not(said: int) -> str:
    """Waits until it reads requests; else its last words, by which it can't."""
    text = b""
    until = time.monotonic() + _PATIENCE
    poller = select.poll()  # not select(), which a kernel with many files can't use
    poller.register(said, select.POLLIN)
    while not text.endswith(SERVING):
        if not poller.poll(max(0, int(1000 * (until - time.monotonic())))):
            return f"it did not come up within {_PATIENCE:g} s"
        chunk = os.read(said, 4096)
        if not chunk:
            lines = text.decode("utf-8", "replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "it ended at once")
        text += chunk
    return ""
