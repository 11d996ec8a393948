"""The user's program, from its fork to its end. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, NoReturn

from qwex_jupyter import process
from qwex_jupyter.runners import limits, remains
from qwex_jupyter.runners.pipes import write_all

# ``argv``, ``env`` (whole), ``cwd``, ``umask`` and ``has``, its `limits`.
Order = dict[str, Any]


def reset_signals() -> None:
    """Default dispositions and an empty mask, whatever the kernel had.

    A notebook that ignores SIGCHLD, or a kernel that ignores SIGINT between two cells,
    would hand that on to everything it starts.
    """
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # reserved by the C library
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Program:
    """The supervisor's end of it. Forked at once, it waits at a gate until `open_gate`.

    Args:
        out: Where its stdout goes; closed here.
        err: Where its stderr goes; closed here.
        closing: Descriptors that it must not hold: with them it would stand for a supervisor
            that was killed.
    """

    def __init__(self, out: int, err: int, closing: tuple[int, ...] = ()) -> None:
        gate, self._gate = os.pipe()
        self._status, status_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in (self._gate, self._status, *closing):
                os.close(descriptor)
            _become(gate, status_in, out, err)
        for descriptor in (gate, status_in, out, err):
            os.close(descriptor)
        _set_group(self.pid)
        self.identity: process.Identity = {"pid": self.pid}
        self.mark = ""
        self.started, self.started_at = time.monotonic(), time.time()
        self._reaped: tuple[int, Any] | None = None

    def open_gate(self, order: Order) -> None:
        """Tells it what to become: from here on the user's program runs."""
        self.mark = f"QWEX_RUN_ID={order['env'].get('QWEX_RUN_ID', '')}"
        self.identity = process.identify(self.pid)
        self.started, self.started_at = time.monotonic(), time.time()
        # Where it was killed while it waited, its end says so.
        write_all(self._gate, json.dumps(order).encode())
        # The end of the order is the end of the pipe; a torn one can't be read, so a
        # supervisor that dies in the middle has started nothing.
        os.close(self._gate)

    def abandon(self) -> None:
        """Closes the gate: the child leaves without having run anything."""
        os.close(self._gate)
        os.waitpid(self.pid, 0)

    def refused(self) -> str:
        """Why the program could not be executed; "" when it was. Blocks until known."""
        text = b""
        while chunk := os.read(self._status, 4096):
            text += chunk
        return text.decode("utf-8", "replace")

    def ended(self) -> bool:
        """Whether it ended. It stays a zombie, so that the group's number stays its own."""
        if hasattr(os, "waitid") and process.use_proc:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)  # macOS: no waitid before 3.13
        self._reaped = (status, usage) if pid else None
        return bool(pid)

    def reap(self) -> tuple[int, Any]:
        """The wait status and the resources used, of it and the children it waited for."""
        if self._reaped is None:
            self._reaped = os.wait4(self.pid, 0)[1:]
        return self._reaped

    def signal(self, number: int) -> None:
        """Signals the whole tree: the group, and on Linux what left it."""
        remains.signal_tree(self.identity, self.mark, number)


def _become(gate: int, status: int, out: int, err: int) -> NoReturn:
    """In the child: waits for its order, then becomes the user's program."""
    word = ""
    try:
        _set_group(0)
        reset_signals()
        os.dup2(out, 1)
        os.dup2(err, 2)
        text = b""
        while chunk := os.read(gate, 1 << 16):
            text += chunk
        try:
            order = json.loads(text)
        except ValueError:
            os._exit(0)  # abandoned
        os.umask(order["umask"])
        word = order["cwd"]
        os.chdir(word)
        limits.take(order["has"])
        word = order["argv"][0]
        os.execvpe(word, order["argv"], order["env"])
    except limits.Refused as error:
        os.write(status, f"-1 {error}".encode())
    except BaseException as error:  # noqa: BLE001 - the supervisor says it, this child can't
        code = getattr(error, "errno", 0) or 0
        os.write(status, f"{code} {word}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(127)


def _set_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # parent and child both do it; whoever is second may find it done or exec'd
