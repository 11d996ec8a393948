r"""MemoryRunner: a scripted, deterministic fake that passes the same contract as the real ones.

Public, for tests of what is built on this package. Nothing is executed: a program is a few
lines, one instruction each, and a clock that a test may hold in its own hand::

    clock = [0.0]
    manager = RunManager(home, settings={"memory": {"clock": lambda: clock[0]}})
    run = manager.submit(JobSpec(script="out hello\nsleep 60\nexit 7"), runner="memory")
    clock[0] += 60
    run.wait(check=False).exit_code  # 7, at once

The instructions are in `WORDS`. A spec without a script is one instruction, its command. The
"backend" is a world of this process: every runner object sees it, another process doesn't.
"""

from __future__ import annotations

import os
import secrets as random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qwex_jupyter import facts, process
from qwex_jupyter.errors import RunNotFound, RunStillLive
from qwex_jupyter.logs import STREAMS, Lease, RunLog
from qwex_jupyter.runners.base import Plan, Promises, Runner, script_argv
from qwex_jupyter.spec import JobSpec, parse_memory
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot

WORDS = {
    "out": "out TEXT: a line on stdout",
    "err": "err TEXT: a line on stderr",
    "hex-out": "hex-out HEX [TIMES]: bytes on stdout, no newline is added",
    "hex-err": "hex-err HEX [TIMES]: the same on stderr",
    "env": "env NAME: the value of a variable, and a newline",
    "args": "args: each argument behind the program or script, and a NUL",
    "script": "script: the script's own text",
    "file": "file PATH: the content of a carried file",
    "sleep": "sleep SECONDS: until the clock says so",
    "use": "use SIZE: takes memory; above the limit that is the end",
    "oom": "oom: is killed for memory",
    "ignore-term": "ignore-term: from here on only the end of the grace stops it",
    "exit": "exit CODE: ends",
    "signal": "signal NUMBER: is ended by that signal",
}

_INTERPRETER = "memory"
_SIGKILL, _SIGTERM = 9, 15
_MOMENT = 0.02


class MemoryRunner(Runner):
    """Runs are entries of a table of this process.

    Args:
        home: The history folder.
        history: Its id.
        clock: Seconds that only grow; a run keeps the clock it was submitted with.
    """

    name = "memory"
    promises = Promises(
        durable=False,
        raw_bytes=True,
        separate_streams=True,
        holds_timeout=False,
        outlives_machine=False,
    )
    supports = frozenset({"image", "memory", "files", "keep"})

    def __init__(
        self, home: str, history: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(home, history)
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """See `Runner.check`: it is always there."""

    def identity(self) -> str:
        """See `Runner.identity`; which process a run lives in stands in its launch.json."""
        here = process.place()
        return f"memory://{here['host']}/{here['machine']}/{here['pidns']}"

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """See `Runner.plan`."""
        self.refuse_unsupported(spec)
        path = f"{self.folder(run_id)}/{spec.script_name}"
        env: dict[str, str | None] = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
        env.update(spec.env)
        env.update(dict.fromkeys(spec.secrets))
        return {
            "name": f"qwex-{run_id}",
            "argv": script_argv(spec, path, lambda: [_INTERPRETER]),
            "env": env,
            "script": spec.script,
            "path": path if spec.script is not None else None,
            "memory": spec.resources.memory,
            "timeout": spec.timeout,
        }

    def show(self, plan: Plan) -> str:
        """See `Runner.show`: the instructions."""
        return str(plan["script"] or " ".join(plan["argv"]))

    def submit(self, spec: JobSpec, run_id: str, folder: str, secrets: Mapping[str, str]) -> None:
        """See `Runner.submit`."""
        plan = self.plan(spec, run_id)
        if facts.exists(folder, facts.STOP):
            return  # whoever looks next closes the launch
        world = _world()
        with world.lock:
            if plan["name"] in world.jobs:
                return
            job = _Job(plan, self.history, run_id, folder, dict(secrets), self._clock)
            nonce = random.token_hex(8)
            launch = {
                "by": "kernel",
                **process.identify(os.getpid()),
                "at": time.time(),
                "nonce": nonce,
            }
            # Directly before the call that starts it: whoever links this file starts it.
            if facts.link_once(folder, facts.LAUNCH, launch)["nonce"] != nonce:
                return
            world.jobs[plan["name"]] = job
            world.started[run_id] = world.started.get(run_id, 0) + 1
            job.start()
        # A stop that came between the two was told "it is being started": it holds now.
        stop = facts.asked(folder)
        if stop is not None:
            self.cancel(run_id, float(stop["grace"]), str(stop["why"]))

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """See `Runner.poll`."""
        return {run_id: self._look(run_id) for run_id in run_ids}

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """See `Runner.watch`."""
        before: dict[str, tuple[int, ...]] = {}
        while not stop.is_set():
            world = _world()
            with world.lock:
                jobs = [job for job in world.jobs.values() if job.history == self.history]
                now = {job.run_id: job.state() for job in jobs}
            for run_id in now.keys() | before.keys():
                if now.get(run_id) != before.get(run_id):
                    notify(run_id)
            before = now
            stop.wait(_MOMENT)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:
        """See `Runner.follow`: holds the lease while it writes at the cursor's offsets."""
        while True:
            job = self._job(run_id)
            if job is None:
                return True
            with self._lock:
                lease = self._leases.setdefault(run_id, Lease(log.folder))
                try:
                    finished = lease.acquire() and self._write(job, log, lease)
                except FileNotFoundError:
                    finished = True  # the folder was deleted: nobody will read it
                if finished:
                    del self._leases[run_id]
            if finished or stop.is_set():
                return finished
            stop.wait(_MOMENT)

    def cancel(self, run_id: str, grace: float, why: str, *, insist: bool = False) -> None:
        """See `Runner.cancel`."""
        job = self._job(run_id)
        if job is not None:
            with _world().lock:
                job.stop(grace, insist=insist)

    def delete(self, run_id: str) -> None:
        """See `Runner.delete`."""
        job = self._job(run_id)
        if job is None:
            return
        with _world().lock:
            if job.advance() is None:
                handle = run_id.rpartition("-")[2]
                raise RunStillLive(f"{run_id} has not ended: %qwex cancel {handle}")
            _world().jobs.pop(job.plan["name"], None)

    @staticmethod
    def executions(run_id: str) -> int:
        """How often the program of that run was started in this process."""
        return _world().started.get(run_id, 0)

    def _job(self, run_id: str) -> _Job | None:
        job = _world().jobs.get(f"qwex-{run_id}")
        return job if job is not None and job.history == self.history else None

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        job = self._job(run_id)
        if job is not None:
            with _world().lock:
                return job.look()
        launch = facts.read_fact(self.folder(run_id), facts.LAUNCH)
        if launch is not None and "closed" not in launch and launch["pid"] != os.getpid():
            # It lives, if it lives, in the memory of the process that submitted it.
            if process.standing(launch) == process.ALIVE:
                return Snapshot(
                    RunStatus.RUNNING,
                    Reason.HOST_UNREACHABLE,
                    f"It lives in process {launch['pid']}, which can't be looked into from here.",
                    started_at=float(launch["at"]),
                    observed_at=time.time(),
                )
            return RunNotFound(f"the process {launch['pid']} that held it is gone")
        return RunNotFound(f"{run_id}: there is no such run in the memory of this process")

    def _write(self, job: _Job, log: RunLog, lease: Lease) -> bool:
        """One pass with the lease held; whether all that there will be is on disk."""
        with _world().lock:
            ended = job.advance() is not None
            output = {stream: bytes(job.output[stream]) for stream in STREAMS}
        cursor = {stream: int(lease.cursor.get(stream, 0)) for stream in STREAMS}
        for stream, data in output.items():
            if len(data) > cursor[stream]:
                log.write(stream, data[cursor[stream] :], cursor[stream])
                cursor[stream] = len(data)
        # Moved only after the bytes are written: who takes over writes them again at worst.
        return lease.keep(cursor, release=True) and ended


@dataclass
class _Job:
    """One run: its instructions, how far it is, and what it has said."""

    plan: Plan
    history: str
    run_id: str
    folder: str
    secrets: dict[str, str]
    clock: Callable[[], float]
    uid: str = field(default_factory=lambda: random.token_hex(6))
    output: dict[str, bytearray] = field(
        default_factory=lambda: {stream: bytearray() for stream in STREAMS}
    )
    end: End | None = None
    peak: int = 0
    began: float = 0.0  # by its clock
    began_at: float = 0.0  # since the epoch
    at: float = 0.0  # by its clock: when the next instruction is due, or when it ended
    kill_at: float = float("inf")
    stopped: bool = False
    deaf: bool = False
    done: int = 0

    def start(self) -> None:
        """Begins; the instructions up to the first sleep happen now."""
        self.began = self.at = self.clock()
        self.began_at = time.time()
        self.env = {k: v for k, v in self.plan["env"].items() if v is not None} | self.secrets
        argv, path = list(self.plan["argv"]), self.plan["path"]
        if path is None:
            self.lines = [" ".join(argv)]
            self.args = argv[1:]
            known = argv[0] in WORDS
        else:
            self.lines = self.plan["script"].splitlines()
            self.args = argv[argv.index(path) + 1 :]
            known = argv[0] == _INTERPRETER
        if not known:
            self._finish(None, Reason.COMMAND_NOT_FOUND, f"{argv[0]!r} could not be run: no word")
        self.advance()

    def advance(self) -> End | None:
        """Does everything that is due by its clock; how it ended, None while it lives."""
        now = self.clock()
        while self.end is None:
            if self.kill_at <= min(now, self.at):
                self.at = self.kill_at
                self._killed(_SIGKILL)
            elif self.at > now:
                break
            elif self.done == len(self.lines):
                self._finish(0)
            else:
                self.done += 1
                word, _, rest = self.lines[self.done - 1].strip("\r").partition(" ")
                if word and not word.startswith("#"):
                    try:
                        self._do(word, rest)
                    except ValueError as error:
                        self._say("err", f"memory: line {self.done}: {error}\n".encode())
                        self._finish(2)
        return self.end

    def stop(self, grace: float, *, insist: bool) -> None:
        """Asks it to end; the first call's grace holds, ``insist`` ends it."""
        if self.advance() is not None:
            return
        now = self.clock()
        if not self.stopped:
            self.stopped = True
            self.kill_at = now + grace
            if not self.deaf:
                self.at = now
                self._killed(_SIGTERM)
        if insist:
            self.kill_at = min(self.kill_at, now)
        self.advance()

    def state(self) -> tuple[int, ...]:
        """What changes when something happens."""
        ended = self.advance() is not None
        return (ended, *(len(data) for data in self.output.values()))

    def look(self) -> Snapshot:
        """See `Runner.poll`."""
        end = self.advance()
        elapsed = (self.at if end else self.clock()) - self.began
        timeout = self.plan["timeout"]
        evidence: dict[str, Any] = {"peak_memory": self.peak or None}
        if end is not None:
            evidence["elapsed"] = elapsed
            if timeout and elapsed > timeout and not self.stopped:
                evidence["overrun"] = elapsed - timeout
        return Snapshot(
            RunStatus.RUNNING,
            end=end,
            started_at=self.began_at,
            finished_at=self.began_at + elapsed if end else None,
            observed_at=self.began_at + elapsed,
            uid=self.uid,
            evidence=evidence,
        )

    def _do(self, word: str, rest: str) -> None:
        if word in ("out", "err"):
            self._say(word, rest.encode() + b"\n")
        elif word in ("hex-out", "hex-err"):
            data, _, times = rest.partition(" ")
            self._say(word[4:], bytes.fromhex(data) * int(times or 1))
        elif word == "env":
            self._say("out", self.env.get(rest, "").encode() + b"\n")
        elif word == "args":
            self._say("out", b"".join(arg.encode() + b"\0" for arg in self.args))
        elif word == "script":
            self._say("out", self.plan["script"].encode())
        elif word == "file":
            self._file(rest)
        elif word == "sleep":
            self.at += float(rest)
        elif word in ("use", "oom"):
            used = parse_memory(rest) if word == "use" else 0
            self.peak = max(self.peak, used)
            if word == "oom" or (self.plan["memory"] and used > self.plan["memory"]):
                self._killed(_SIGKILL, Reason.OUT_OF_MEMORY)
        elif word == "ignore-term":
            self.deaf = True
        elif word == "exit":
            self._finish(int(rest or 0))
        elif word == "signal":
            self._killed(int(rest))
        else:
            self._say("err", f"memory: line {self.done}: {word}: not found\n".encode())
            self._finish(127)

    def _file(self, name: str) -> None:
        try:
            with open(os.path.join(self.folder, "files", name), "rb") as file:
                self._say("out", file.read())
        except OSError as error:
            self._say("err", f"memory: {name}: {error.strerror}\n".encode())
            self._finish(1)

    def _say(self, stream: str, data: bytes) -> None:
        self.output[f"std{stream}"] += data

    def _killed(self, number: int, reason: Reason = Reason.NONE) -> None:
        self._finish(128 + number, reason, number=number)

    def _finish(
        self,
        code: int | None,
        reason: Reason = Reason.NONE,
        detail: str = "",
        number: int | None = None,
    ) -> None:
        self.end = End(code, number, reason, detail, after_stop=self.stopped)


class _World:
    """All runs of this process, by the name of the object."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.jobs: dict[str, _Job] = {}
        self.started: dict[str, int] = {}


_worlds: list[_World] = []


def _world() -> _World:
    """This process's own: a fork begins with an empty one, its parent's goes on there."""
    if not _worlds or _worlds[-1].pid != os.getpid():
        _worlds[:] = [_World()]
    return _worlds[-1]
