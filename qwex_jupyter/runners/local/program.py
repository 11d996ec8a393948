"""The user's program, from its fork to its end. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection
from typing import Any, NoReturn

from qwex_jupyter.runners.local import limits, remains
from qwex_jupyter.runners.local.pipes import write_all
from qwex_jupyter.system import process

# ``argv``, ``env`` (whole), ``cwd``, ``umask`` and ``has``, its `limits`.
Order = dict[str, Any]
# A whole ``sentence``, or an ``errno`` with the ``folder`` that could not be entered or the
# ``program`` that could not be executed; where that is there, what it ``needs`` to be executed.
Refusal = dict[str, Any]


def reset_signals(ignored: Collection[int] = ()) -> None:
    """Default dispositions and an empty mask, whatever the kernel had.

    A notebook that ignores SIGCHLD, or a kernel that ignores SIGINT between two cells,
    would hand that on to everything it starts.

    Args:
        ignored: Signals that are ignored from now on, also one that waits behind the mask.
    """
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                wanted = signal.SIG_IGN if number in ignored else signal.SIG_DFL
                signal.signal(number, wanted)
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

    def refused(self) -> Refusal:
        """Why the program could not be executed; {} when it was. Blocks until known."""
        text = b""
        while chunk := os.read(self._status, 4096):
            text += chunk
        return json.loads(text) if text else {}

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
    said: dict[str, Any] = {}
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
        said = {"folder": order["cwd"]}
        os.chdir(order["cwd"])
        limits.take(order["has"])
        word = order["argv"][0]
        said = {"program": word}
        try:
            os.execvpe(word, order["argv"], order["env"])
        except FileNotFoundError:
            said |= _needed_by(word, order["env"].get("PATH", os.defpath))
            raise
    except limits.Refused as error:
        write_all(status, json.dumps({"sentence": str(error)}).encode())
    except BaseException as error:  # noqa: BLE001 - the supervisor says it, this child can't
        said["errno"] = getattr(error, "errno", 0) or 0
        write_all(status, json.dumps(said).encode())
    finally:
        os._exit(127)


def _needed_by(word: str, path: str) -> dict[str, str]:
    """What a program that is there, and could not be found, needs: its interpreter, "" for none."""
    folders = [""] if "/" in word else path.split(os.pathsep)
    for folder in folders:
        try:
            with open(os.path.join(folder, word), "rb") as file:
                first = file.read(256).split(b"\n", 1)[0]
        except OSError:
            continue
        words = first[2:].split(b" ") if first.startswith(b"#!") else []
        return {"needs": next(filter(None, words), b"").decode("utf-8", "replace")}
    return {}


def _set_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # parent and child both do it; whoever is second may find it done or exec'd
