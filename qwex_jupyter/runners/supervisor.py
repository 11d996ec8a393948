"""The process that stays with a local program when the kernel goes.

One small server per kernel (`serve`) forks a supervisor for each run (`supervise`) and
leaves when the kernel's end of its pipe closes; the supervisors live on. A supervisor
starts the command in a process group of its own, waits for it, holds timeout and memory
limit, obeys ``stop.json``, and links ``launch.json`` and ``run.json``. Beside it stands a
scribe (`_scribe`), which copies the two pipes of the program into its log files: pipes and
not the files themselves, because ``echo x > /dev/stderr`` opens the file behind the
descriptor anew and empties it. The scribe is a process of its own so that the program can
go on writing when the supervisor is killed.

Standard library and this package's plainest modules only: it runs under ``python -I -S``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

from qwex_jupyter import facts, process
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, Why, conclude

Request = dict[str, Any]

# How often stop.json is looked for when no signal says so: another machine may have
# written it. Seconds.
_LOOK = 0.5
_MEMORY_LOOK = 0.1
_CHUNK = 1 << 18
_TAIL = 4096
_DRAINED_IN = 10.0


def serve() -> None:
    """Forks a supervisor for each request on stdin until stdin ends.

    A request is eight hexadecimal digits (its length in bytes) and a JSON object. A torn
    one is the last thing a dying kernel wrote: nothing is started for it.
    """
    reset_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped by the system
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        head = _read_exactly(0, 8)
        body = _read_exactly(0, int(head, 16)) if head else b""
        if not body:
            return
        request = json.loads(body)
        try:
            child = os.fork()
        except OSError as error:
            _never_started(
                request["folder"], f"no further process could be made ({error.strerror})"
            )
            continue
        if child == 0:
            _supervise_and_leave(request)


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


def _supervise_and_leave(request: Request) -> NoReturn:
    try:
        os.setsid()
        reset_signals()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        process.use_proc = process.use_proc and not request.get("portable")
        supervise(request)
    except BaseException:  # noqa: BLE001 - whatever it was, it is written beside the run
        try:
            path = os.path.join(request["folder"], "supervisor.log")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
                traceback.print_exc(file=file)
        except OSError:
            pass  # no place left to say it; the run becomes LOST, which is true
    finally:
        os._exit(0)


def supervise(request: Request) -> None:
    """Runs one program to its end and writes down how it ended.

    Args:
        request: ``folder``, ``argv``, ``env`` (whole), ``cwd``, ``umask``.
    """
    folder = request["folder"]
    spec_fact = facts.read_fact(folder, facts.SPEC)
    if spec_fact is None:
        return
    if facts.exists(folder, facts.STOP):
        _never_started(folder, "it was stopped before")
        return
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    out, err = os.pipe(), os.pipe()
    scribe = _Scribe(folder, out, err)
    program = _Program(request, out[1], err[1])
    os.close(out[1])
    os.close(err[1])
    nonce = os.urandom(8).hex()
    launch = {
        "by": "supervisor",
        **process.identify(os.getpid()),
        "leader": process.identify(program.pid),
        "at": time.time(),
        "nonce": nonce,
    }
    try:
        winner = facts.link_once(folder, facts.LAUNCH, launch)
    except OSError as error:
        program.abandon()
        scribe.finish()
        _never_started(folder, f"its launch could not be written down ({error.strerror})")
        return
    if winner.get("nonce") != nonce:
        # Somebody closed the run: it is over, and this program must not start.
        program.abandon()
        scribe.finish()
        return
    _watch_over(folder, spec_fact, program, scribe)


class _Program:
    """The user's program: forked at once, waiting at a gate until `open_gate`."""

    def __init__(self, request: Request, out: int, err: int) -> None:
        self._gate_in, self._gate = os.pipe()
        self._status, status_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become(request, self._gate_in, self._gate, status_in, out, err)
        os.close(self._gate_in)
        os.close(status_in)
        _set_group(self.pid)
        self.identity = process.identify(self.pid)
        self.mark = "QWEX_RUN_ID=" + request["env"].get("QWEX_RUN_ID", "")
        self.started, self.started_at = time.monotonic(), time.time()
        self._reaped: tuple[int, Any] | None = None

    def open_gate(self) -> None:
        self.started, self.started_at = time.monotonic(), time.time()
        try:
            os.write(self._gate, b"!")
        except BrokenPipeError:
            pass  # killed while it waited: its end says so
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
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody there; or on macOS only a zombie is
        for member in process.members(self.identity, self.mark):
            if not member["in_group"]:
                process.send(member, number)


def _become(
    request: Request, gate: int, gate_out: int, status: int, out: int, err: int
) -> NoReturn:
    """In the child: waits at the gate, then becomes the user's program."""
    word = ""
    try:
        os.close(gate_out)
        _set_group(0)
        reset_signals()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.umask(request["umask"])
        while True:
            try:
                opened = os.read(gate, 1)
                break
            except InterruptedError:
                continue
        if not opened:
            os._exit(0)
        word = request["cwd"]
        os.chdir(word)
        word = request["argv"][0]
        os.execvpe(word, request["argv"], request["env"])
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


class _Scribe:
    """The process that copies the program's two pipes into its log files."""

    def __init__(self, folder: str, out: tuple[int, int], err: tuple[int, int]) -> None:
        control, self._control = os.pipe()
        self._report, report = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            for descriptor in (out[1], err[1], self._control, self._report):
                os.close(descriptor)
            _scribe_and_leave(folder, out[0], err[0], control, report)
        for descriptor in (out[0], err[0], control, report):
            os.close(descriptor)

    def finish(self) -> dict[str, int]:
        """Waits until all output is on disk; bytes that found no room, per stream."""
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
            text = b'{"stdout": -1, "stderr": -1}'
        os.waitpid(self._pid, 0)
        try:
            return {key: count for key, count in json.loads(text).items() if count}
        except ValueError:
            return {"stdout": -1, "stderr": -1}  # it was killed: how much is missing isn't known


def _scribe_and_leave(folder: str, out: int, err: int, control: int, report: int) -> NoReturn:
    try:
        lost = {"stdout": 0, "stderr": 0}
        files = {}
        for pipe, name in ((out, "stdout"), (err, "stderr")):
            path = os.path.join(folder, f"{name}.log")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            files[pipe] = (os.open(path, flags, 0o600), name)
            os.set_blocking(pipe, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                try:
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
                except OSError:
                    pass  # the user's quota of pipe memory is spent: the usual size does
        _copy(files, control, lost)
        os.write(report, json.dumps(lost).encode())
    finally:
        os._exit(0)


def _copy(files: dict[int, tuple[int, str]], control: int, lost: dict[str, int]) -> None:
    """Copies until all writers are gone, or until the pipes are empty once ``control`` ended."""
    poller = select.poll()
    for pipe in files:
        poller.register(pipe, select.POLLIN)
    poller.register(control, select.POLLIN)
    parent = os.getppid()
    open_pipes = set(files)
    draining = False
    while open_pipes:
        ready = {number for number, _ in poller.poll(0 if draining else None)}
        if control in ready:
            poller.unregister(control)
            # Its end means "empty the pipes and report", unless the supervisor was killed:
            # then the program goes on, and so does its output.
            draining = os.getppid() == parent
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


def _watch_over(folder: str, spec_fact: dict[str, Any], program: _Program, scribe: _Scribe) -> None:
    """From the opened gate to the linked run.json."""
    spec = spec_fact["spec"]
    wake_in, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    floor = _own_peak()
    program.open_gate()
    refused = program.refused()
    stop, out_of_memory = None, False
    limit = (spec.get("resources") or {}).get("memory")
    peak = 0
    if not refused:
        stop, out_of_memory, peak = _until_ended(folder, spec, program, wake_in, limit)
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


def _until_ended(
    folder: str, spec: dict[str, Any], program: _Program, wake: int, limit: int | None
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
            stop = facts.read_fact(folder, facts.STOP)
        if stop is not None and kill_at == float("inf"):
            kill_at = now + float(stop.get("grace", grace))
            program.signal(signal.SIGTERM)
        if stop is not None and (now >= kill_at or facts.exists(folder, facts.KILL)):
            kill_at = now
            program.signal(signal.SIGKILL)
        if limit and now >= memory_at:
            memory_at = now + _MEMORY_LOOK
            tree = [member["pid"] for member in process.members(program.identity, program.mark)]
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


def _link_patiently(folder: str, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Links a fact, again and again while the disk refuses: nobody else will write it."""
    pause = 0.05
    while True:
        try:
            return facts.link_once(folder, name, value)
        except FileNotFoundError:
            return value  # the folder was taken away by hand
        except OSError:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def record(
    folder: str, spec_fact: dict[str, Any], snapshot: Snapshot, stop: dict[str, Any] | None
) -> None:
    """Links run.json from an end that was seen, and takes the run off the open list."""
    spec = spec_fact["spec"]
    before = RunRecord.submitted(spec_fact)
    assert snapshot.end is not None
    about = {
        "handle": before.handle,
        "command": before.command,
        "timeout": spec.get("timeout"),
        "start_timeout": spec.get("start_timeout"),
        "memory": (spec.get("resources") or {}).get("memory"),
        "peak_memory": snapshot.evidence.get("peak_memory"),
        "tail": tail(folder),
    }
    verdict = conclude(snapshot.end, stop, about)
    _link_patiently(folder, facts.RUN, before.ended(verdict, snapshot).to_json())
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
        record(folder, spec_fact, snapshot, facts.read_fact(folder, facts.STOP))


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
