"""The process that stays with a local program when the kernel goes.

One small server per kernel (`serve`) forks a supervisor for each run (`supervise`) and
leaves when the kernel's end of its pipe closes; the supervisors live on. A supervisor
starts the command in a process group of its own, waits for it, holds timeout and memory
limit, obeys ``stop.json``, and links ``launch.json`` and ``run.json``. Beside it stands a
scribe, which copies the program's output into the log files.

Standard library and this package's plainest modules only: it runs under ``python -I -S``.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

from qwex_jupyter import facts, process
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.record import RunRecord
from qwex_jupyter.runners.program import Program, reset_signals
from qwex_jupyter.runners.scribe import Scribe
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, Why, conclude

Request = dict[str, Any]

# How often stop.json is looked for when no signal says so: another machine may have
# written it. Seconds.
_LOOK = 0.5
_MEMORY_LOOK = 0.1
_TAIL = 4096
# A run of so many seconds is on the disk before it is told.
_LONG = 1.0


def serve() -> None:
    """Hands each request on stdin to a supervisor, until stdin ends.

    A request is eight hexadecimal digits (its length in bytes) and a JSON object. A torn
    one is the last thing a dying kernel wrote: nothing is started for it. One supervisor
    with its scribe and its program, forked and waiting, is always kept ready, so that a run
    doesn't wait for forks.
    """
    reset_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped by the system
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _warm_up()
    spare = _fork_supervisor()
    while True:
        head = _read_exactly(0, 8)
        body = _read_exactly(0, int(head, 16)) if head else b""
        if not body:
            return
        # A spare that was killed is replaced. Had it begun, then its launch.json is there,
        # and nobody begins again.
        if spare is None or not _write_all(spare, head + body):
            spare = _fork_supervisor()
            if spare is None or not _write_all(spare, head + body):
                folder = json.loads(body)["folder"]
                _never_started(folder, "no further process could be made")
                continue
        os.close(spare)
        spare = _fork_supervisor()


def _fork_supervisor() -> int | None:
    """A supervisor that waits for its request; the pipe to write it to, None without one."""
    request, pipe = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(request)
        os.close(pipe)
        return None
    if child == 0:
        os.close(pipe)
        _supervise_and_leave(request)
    os.close(request)
    return pipe


def _warm_up() -> None:
    """Does once what every supervisor would do again after its fork.

    ``gc.freeze`` keeps the collector from touching, and so from copying, the shared pages.
    """
    import gc

    process.identify(os.getpid())
    _own_peak()
    conclude(End(exit_code=0), None, {})
    gc.disable()
    gc.freeze()


def _supervise_and_leave(pipe: int) -> NoReturn:
    folder = ""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        wake = _take_signals()
        out, err = os.pipe(), os.pipe()
        # In this order, so that the scribe holds no end of the program's gate.
        scribe_ends, program_ends = (out[0], err[0]), (out[1], err[1])
        scribe = Scribe(*scribe_ends, closing=program_ends)
        program = Program(*program_ends)
        head = _read_exactly(pipe, 8)
        body = _read_exactly(pipe, int(head, 16)) if head else b""
        if body:
            request = json.loads(body)
            folder = request["folder"]
            process.use_proc = process.use_proc and not request.get("portable")
            supervise(request, program, scribe, wake)
        else:
            program.abandon()
            scribe.abandon()
    except BaseException:  # noqa: BLE001 - whatever it was, it is written beside the run
        try:
            path = os.path.join(folder, "supervisor.log")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
                traceback.print_exc(file=file)
        except OSError:
            pass  # no place left to say it; the run becomes LOST, which is true
    finally:
        os._exit(0)


def supervise(request: Request, program: Program, scribe: Scribe, wake: int) -> None:
    """Runs one program to its end and writes down how it ended.

    Args:
        request: ``folder`` and the program's `Order`.
        program: It, waiting at its gate.
        scribe: Its scribe, waiting for a folder.
        wake: The descriptor that tells of signals.
    """
    folder = request["folder"]
    spec_fact = facts.read_fact(folder, facts.SPEC)
    why = ""
    if spec_fact is None:
        pass  # deleted meanwhile
    elif facts.exists(folder, facts.STOP):
        why = "it was stopped before"
    else:
        launched = False
        try:
            launched = _launch(folder, program)
        except OSError as error:
            why = f"its launch could not be written down ({error.strerror})"
        if launched:
            scribe.begin(folder)
            program.open_gate(request)
            _watch_over(folder, spec_fact, program, scribe, wake)
            return
    program.abandon()
    scribe.abandon()
    if why:
        _never_started(folder, why)


def _launch(folder: str, program: Program) -> bool:
    """Links launch.json; False when somebody has closed the run, so it must not start."""
    nonce = os.urandom(8).hex()
    launch = {
        "by": "supervisor",
        **process.identify(os.getpid()),
        "leader": process.identify(program.pid),
        "at": time.time(),
        "nonce": nonce,
    }
    # Not synced: when the machine loses power, the program ends with it.
    winner = facts.link_once(folder, facts.LAUNCH, launch, sync=False)
    return winner.get("nonce") == nonce


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


def _watch_over(
    folder: str, spec_fact: dict[str, Any], program: Program, scribe: Scribe, wake: int
) -> None:
    """From the opened gate to the linked run.json."""
    spec = spec_fact["spec"]
    floor = _own_peak()
    refused = program.refused()
    stop, out_of_memory = None, False
    limit = (spec.get("resources") or {}).get("memory")
    peak = 0
    if not refused:
        stop, out_of_memory, peak = _until_ended(folder, spec, program, wake, limit)
    elapsed = time.monotonic() - program.started
    if stop or out_of_memory:
        program.signal(signal.SIGKILL)
    else:
        _stop_rest_of_group(program.pid)
    status, usage = program.reap()
    missing = scribe.finish()
    peak = max(peak, _peak(usage) if _peak(usage) > floor else 0)
    end = _end_of(status, refused, out_of_memory, after_stop=stop is not None)
    now = program.started_at + elapsed
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
        },
    )
    record(folder, spec_fact, snapshot, stop)
    scribe.reap()


def _until_ended(
    folder: str, spec: dict[str, Any], program: Program, wake: int, limit: int | None
) -> tuple[dict[str, Any] | None, bool, int]:
    """Waits for the end; carries out what is wanted of it meanwhile.

    Returns:
        The stop that was carried out, whether it was killed for memory, and the highest
        memory seen in bytes (0 without a limit).
    """
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    timeout, grace = spec.get("timeout"), spec.get("grace", 10.0)
    deadline = program.started + timeout if timeout else float("inf")
    stop: dict[str, Any] | None = None
    kill_at = memory_at = float("inf")
    if limit:
        memory_at = 0.0
    out_of_memory, peak = False, 0
    while not program.ended():
        now = time.monotonic()
        if stop is None and now >= deadline:
            stop = _link_patiently(
                folder,
                facts.STOP,
                {"who": "timeout", "why": Why.TIMEOUT, "grace": grace, "at": time.time()},
            )
        elif stop is None:
            stop = _asked(folder)
        if stop is not None and kill_at == float("inf"):
            kill_at = now + float(stop.get("grace", grace))
            program.signal(signal.SIGTERM)
        if stop is not None and (now >= kill_at or facts.exists(folder, facts.KILL)):
            kill_at = now
            program.signal(signal.SIGKILL)
        if limit and now >= memory_at:
            memory_at = now + _MEMORY_LOOK
            found = process.members(program.identity, program.mark, os.getpid())
            tree = [member["pid"] for member in found]
            used = process.resident_bytes(tree, enough=limit) if tree else 0
            peak = max(peak, used)
            if used > limit:
                out_of_memory = True
                program.signal(signal.SIGKILL)
        wait = min(deadline if stop is None else kill_at, memory_at, now + _LOOK) - now
        poller.poll(max(1, int(wait * 1000)) if wait > 0 else 20)
        try:
            os.read(wake, 4096)
        except BlockingIOError:
            pass
    return stop, out_of_memory, peak


def _asked(folder: str) -> dict[str, Any] | None:
    """What stop.json says. One that can't be read now asks for nothing, and costs no outcome."""
    try:
        return facts.read_fact(folder, facts.STOP)
    except FactUnreadable:
        return None


def _link_patiently(
    folder: str, name: str, value: dict[str, Any], *, sync: bool = True
) -> dict[str, Any]:
    """Links a fact, again and again while the disk refuses: nobody else will write it."""
    pause = 0.05
    while True:
        try:
            return facts.link_once(folder, name, value, sync=sync)
        except FileNotFoundError:
            return value  # the folder was taken away by hand
        except OSError:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def record(
    folder: str, spec_fact: dict[str, Any], snapshot: Snapshot, stop: dict[str, Any] | None
) -> None:
    """Links run.json from an end that was seen, and takes the run off the open list."""
    before = RunRecord.submitted(spec_fact)
    final = before.concluded(snapshot, stop, spec_fact["spec"], tail(folder))
    # Syncing takes as long as a short program. What ended so soon is left to the system to
    # write: if power fails within its half minute, the run is LOST / Unreadable, which is true.
    long = (snapshot.evidence.get("elapsed") or 0) > _LONG
    _link_patiently(folder, facts.RUN, final.to_json(), sync=long)
    facts.release(folder)
    try:
        os.unlink(os.path.join(folder, "..", "..", "open", before.run_id))
    except OSError:
        pass  # done by another, or by the next who takes up what is open


def tail(folder: str) -> str:
    """The last text on stderr, for the sentence that says why."""
    try:
        with open(os.path.join(folder, "stderr.log"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _never_started(folder: str, why: str) -> None:
    """Closes the launch, so that nobody can start the run, and says that it never started."""
    spec_fact = facts.read_fact(folder, facts.SPEC)
    if spec_fact is None:
        return
    nonce = os.urandom(8).hex()
    try:
        winner = facts.link_once(
            folder, facts.LAUNCH, {"closed": why, "at": time.time(), "nonce": nonce}
        )
    except OSError:
        return  # whoever takes the run up closes it
    if winner.get("nonce") == nonce:
        end = End(reason=Reason.NEVER_STARTED, detail=why)
        now = time.time()
        snapshot = Snapshot(RunStatus.LOST, end=end, finished_at=now, observed_at=now)
        record(folder, spec_fact, snapshot, _asked(folder))


def _end_of(status: int, refused: str, out_of_memory: bool, *, after_stop: bool) -> End:
    if refused:
        code, _, word = refused.partition(" ")
        return _not_executed(int(code), word)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return End(
        exit_code=128 + killed if killed else os.WEXITSTATUS(status),
        signal=killed,
        reason=Reason.OUT_OF_MEMORY if out_of_memory else Reason.NONE,
        after_stop=after_stop,
    )


def _not_executed(code: int, word: str) -> End:
    """No process of the user's ever ran: there is no exit code."""
    cause = os.strerror(code) if code else "unknown cause"
    if code == errno.ENOENT:
        cause = "it isn't there. Install it, or name an --image that has it"
    elif code == errno.EACCES:
        cause = "it isn't executable"
    return End(reason=Reason.COMMAND_NOT_FOUND, detail=f"{word!r} could not be run: {cause}")


def _stop_rest_of_group(group: int) -> None:
    """What the program left behind in its group goes with it, as in a container."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # only the zombie leader is left


def _peak(usage: Any) -> int:
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _own_peak() -> int:
    """What the program's peak would read at the least: the memory it was forked with."""
    import resource

    return _peak(resource.getrusage(resource.RUSAGE_SELF))


def _read_exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            chunk = os.read(descriptor, count - len(data))
        except InterruptedError:
            continue
        if not chunk:
            return b""
        data += chunk
    return data


def _write_all(descriptor: int, data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True
