"""The process that stays with one local program when the kernel goes.

It starts the command in a process group of its own, waits for it, holds timeout and memory
limit, obeys ``stop.json``, and links ``launch.json`` and ``run.json``. Beside it stands a
scribe, which copies the program's output into the log files. `server` forks both.

Standard library and this package's plainest modules only: it runs under ``python -I -S``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import KILL, SPEC, STOP, SUPERVISOR_LOG, RunFolder
from qwex_jupyter.model.status import RunStatus, Snapshot, StopCause
from qwex_jupyter.runners.local import limits, outcome, remains
from qwex_jupyter.runners.local.pipes import read_message, write_all
from qwex_jupyter.runners.local.program import Program
from qwex_jupyter.runners.local.scribe import Scribe
from qwex_jupyter.system import process

Request = dict[str, Any]

# What it says when it waits for its request; anything else is why it can't.
READY = b"+"

# How often stop.json is looked for when no signal says so: another machine may have
# written it. Seconds.
_LOOK = 0.5
_MEMORY_LOOK = 0.1


def stand_by(pipe: int, ready: int, scribe: Scribe) -> NoReturn:
    """Waits for a request, and looks after the run that it is for.

    Args:
        pipe: Brings the request.
        ready: Is told READY when nothing that a start needs is missing, else why not.
        scribe: Its scribe, waiting for a folder.
    """
    folder = ""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        wake = _take_signals()
        # Before the program is forked: older systems tell only later children.
        adopted = process.use_proc and remains.adopt(True)
        program = Program(scribe.out, scribe.err, closing=(pipe, ready))
        write_all(ready, READY)
        os.close(ready)
        ready = -1
        body = read_message(pipe)
        if body:
            request = json.loads(body)
            folder = request["folder"]
            if request.get("portable"):
                process.use_proc = False
                adopted = remains.adopt(False)
            supervise(request, program, scribe, wake, adopted=adopted)
        else:
            program.abandon()
            scribe.abandon()
    except BaseException as error:  # noqa: BLE001 - whatever it was, it is said
        _say_why(folder, ready, error)
    finally:
        os._exit(0)


def _say_why(folder: str, ready: int, error: BaseException) -> None:
    """Tells who forked this process, or writes beside the run, what ended it."""
    if ready >= 0:
        write_all(ready, limits.cause(error).encode("utf-8", "replace"))
    if not folder:
        return
    try:
        path = os.path.join(folder, SUPERVISOR_LOG)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            traceback.print_exc(file=file)
    except OSError:
        pass  # no place left to say it; the run becomes LOST, which is true


def supervise(
    request: Request, program: Program, scribe: Scribe, wake: int, *, adopted: bool
) -> None:
    """Runs one program to its end and writes down how it ended.

    Args:
        request: ``folder`` and the program's `Order`.
        program: It, waiting at its gate.
        scribe: Its scribe, waiting for a folder.
        wake: The descriptor that tells of signals.
        adopted: This process is the one that the program's orphans go to.
    """
    folder = RunFolder(request["folder"])
    spec_fact = folder.read(SPEC)
    why = ""
    if spec_fact is None:
        pass  # deleted meanwhile
    elif folder.has(STOP):
        why = "it was stopped before"
    elif not scribe.lives:
        why = "the process that was to keep its output was killed"
    else:
        launched = False
        try:
            # Not synced: when the machine loses power, the program ends with it.
            leader = process.identify(program.pid)
            launched = folder.claim_launch("supervisor", sync=False, leader=leader)
        except OSError as error:
            why = f"its launch could not be written down ({error.strerror})"
        if launched:
            scribe.begin(folder.path)
            program.open_gate(request)
            watch = _Watch(folder, spec_fact, program, scribe, wake, adopted=adopted)
            watch.until_recorded(_secrets(spec_fact["spec"], request["env"]))
            return
    program.abandon()
    scribe.abandon()
    if why:
        outcome.never_started(folder, why)


def _take_signals() -> int:
    """From here on signals wake and don't kill; the descriptor that tells of them.

    Set before launch.json says whom a cancel is to wake.
    """
    wake_in, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return wake_in


class _Watch:
    """From the opened gate to the linked run.json."""

    def __init__(
        self,
        folder: RunFolder,
        spec_fact: dict[str, Any],
        program: Program,
        scribe: Scribe,
        wake: int,
        *,
        adopted: bool,
    ) -> None:
        self._folder, self._spec_fact, self._spec = folder, spec_fact, spec_fact["spec"]
        self._program, self._scribe, self._adopted = program, scribe, adopted
        self._wake = wake
        self._poller = select.poll()
        self._poller.register(wake, select.POLLIN)

    def until_recorded(self, secrets: Sequence[str] = ()) -> None:
        """Waits for the end, and for that of what is left; writes down how it ended.

        Args:
            secrets: Values that must not stand in what is said of it.
        """
        program, floor = self._program, own_peak()
        refused = program.refused()
        stop, out_of_memory, peak = None, False, 0
        if not refused:
            stop, out_of_memory, peak = self._until_ended()
        elapsed = time.monotonic() - program.started
        if stop or out_of_memory:
            program.signal(signal.SIGKILL)
        status, usage = program.reap()
        remaining = remains.Remains(
            program.identity,
            program.mark,
            adopted=self._adopted,
            written=lambda: self._scribe.copied,
            stopped=self._stopped,
            pause=self._pause,
        )
        left = ""
        if stop or out_of_memory:
            remaining.kill()
        else:
            left = remaining.end()
        missing, why_missing = self._scribe.finish()
        peak = max(peak, _peak(usage) if _peak(usage) > floor else 0)
        now = program.started_at + elapsed
        end = outcome.end_of(status, refused, out_of_memory, after_stop=stop is not None)
        told = outcome.failed(self._folder, self._spec, end)
        snapshot = Snapshot(
            status=RunStatus.RUNNING,
            end=end,
            started_at=program.started_at,
            finished_at=now,
            observed_at=now,
            uid=str(program.pid),
            log_missing=missing,
            evidence={
                "elapsed": elapsed,
                "cpu_time": usage.ru_utime + usage.ru_stime,
                "peak_memory": peak or None,
                "missing": why_missing,
                "left": left,
                **({"failed": told} if told else {}),
            },
        )
        outcome.record(self._folder, self._spec_fact, snapshot, stop, secrets)

    def _until_ended(self) -> tuple[dict[str, Any] | None, bool, int]:
        """Waits for the end; carries out what is wanted of it meanwhile.

        Returns:
            The stop that was carried out, whether it was killed for memory, and the highest
            memory seen in bytes (0 without a limit).
        """
        folder, program = self._folder, self._program
        limit = (self._spec.get("resources") or {}).get("memory")
        timeout, grace = self._spec.get("timeout"), self._spec.get("grace", 10.0)
        deadline = program.started + timeout if timeout else float("inf")
        stop: dict[str, Any] | None = None
        kill_at = memory_at = float("inf")
        if limit:
            memory_at = 0.0
        out_of_memory, peak = False, 0
        while not program.ended():
            now = time.monotonic()
            if stop is None and now >= deadline:
                timed_out: Fact = {"why": str(StopCause.TIMEOUT), "grace": grace}
                stop = outcome.patiently(
                    lambda: folder.ask_stop("timeout", StopCause.TIMEOUT, grace), timed_out
                )
            elif stop is None:
                stop = folder.stop()
            if stop is not None and kill_at == float("inf"):
                kill_at = now + float(stop.get("grace", grace))
                program.signal(signal.SIGTERM)
            if stop is not None and (now >= kill_at or folder.has(KILL)):
                kill_at = now
                program.signal(signal.SIGKILL)
            if limit and now >= memory_at:
                memory_at = now + _MEMORY_LOOK
                tree = [one["pid"] for one in remains.tree(program.identity, program.mark)]
                used = process.resident_bytes(tree, enough=limit) if tree else 0
                peak = max(peak, used)
                if used > limit:
                    out_of_memory = True
                    program.signal(signal.SIGKILL)
            wait = min(deadline if stop is None else kill_at, memory_at, now + _LOOK) - now
            if self._pause(wait if wait > 0 else 0.02) and self._adopted:
                remains.reap(program.pid)
        return stop, out_of_memory, peak

    def _pause(self, seconds: float) -> bool:
        """Waits for a signal, so many seconds at the most; whether one came."""
        self._poller.poll(max(1, int(seconds * 1000)))
        try:
            return bool(os.read(self._wake, 4096))
        except BlockingIOError:
            return False

    def _stopped(self) -> int:
        """Whether a stop came after the end: 1, or 2 where its grace is over too."""
        stop = self._folder.stop()
        if stop is None:
            return 0
        over = time.time() - float(stop.get("at", 0)) >= float(stop.get("grace", 0))
        return 2 if over or self._folder.has(KILL) else 1


def _secrets(spec: dict[str, Any], env: dict[str, str]) -> list[str]:
    return [env[name] for name in spec.get("secrets") or () if name in env]


def own_peak() -> int:
    """What the program's peak would read at the least: the memory it was forked with."""
    import resource

    return _peak(resource.getrusage(resource.RUSAGE_SELF))


def _peak(usage: Any) -> int:
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
