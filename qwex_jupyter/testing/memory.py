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
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qwex_jupyter.disk.folder import LAUNCH, STOP, RunFolder
from qwex_jupyter.disk.logs import STREAMS, Lease, RunLog
from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.runners.argv import script_argv, script_text
from qwex_jupyter.runners.base import Plan, Runner, still_live
from qwex_jupyter.system import process
from qwex_jupyter.testing.declared import DECLARED
from qwex_jupyter.testing.program import INTERPRETER, Job
from qwex_jupyter.testing.program import WORDS as WORDS

_MOMENT = 0.02


class MemoryRunner(Runner):
    """Runs are entries of a table of this process.

    Args:
        home: The history folder.
        history: Its id.
        clock: Seconds that only grow; a run keeps the clock it was submitted with.
        setting: Gives a setting as it is now; none is declared.
    """

    declaration = DECLARED

    def __init__(
        self,
        home: str,
        history: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        setting: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(home, history, setting=setting)
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def identity(self) -> str:
        """This machine; which process a run lives in stands in its launch.json."""
        here = process.place()
        return f"memory://{here['host']}/{here['machine']}/{here['pidns']}"

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        self.refuse_unsupported(spec)
        path = f"{self.folder(run_id)}/{spec.script_name}"
        ours = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
        return {
            "name": f"qwex-{run_id}",
            "argv": script_argv(spec, path, lambda: [INTERPRETER]),
            "env": {**ours, **spec.env, **dict.fromkeys(spec.secrets)},
            "script": None if spec.script is None else script_text(spec),
            "path": path if spec.script is not None else None,
            "memory": spec.resources.memory,
            "timeout": spec.timeout,
        }

    def show(self, plan: Plan) -> str:
        """The instructions."""
        return str(plan["script"] or " ".join(plan["argv"]))

    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        run_id = folder.run_id
        if folder.has(STOP):
            return  # whoever looks next closes the launch
        world = _world()
        with world.lock:
            if plan["name"] in world.jobs:
                return
            job = Job(plan, self.history, run_id, folder, dict(secrets), self._clock)
            if not folder.claim_launch("kernel"):
                return
            world.jobs[plan["name"]] = job
            world.started[run_id] = world.started.get(run_id, 0) + 1
            job.start()
        # A stop that came between the two was told "it is being started": it holds now.
        stop = folder.stop()
        if stop is not None:
            self.cancel(run_id, float(stop["grace"]), str(stop["why"]))

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        return {run_id: self._look(run_id) for run_id in run_ids}

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
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
        """Holds the lease while it writes at the cursor's offsets."""
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

    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        job = self._job(run_id)
        if job is not None:
            with _world().lock:
                job.stop(grace, force=force)

    def delete(self, run_id: str) -> None:
        job = self._job(run_id)
        if job is None:
            return
        with _world().lock:
            if job.advance() is None:
                raise still_live(run_id)
            _world().jobs.pop(job.plan["name"], None)

    @staticmethod
    def executions(run_id: str) -> int:
        """How often the program of that run was started in this process."""
        return _world().started.get(run_id, 0)

    def _job(self, run_id: str) -> Job | None:
        job = _world().jobs.get(f"qwex-{run_id}")
        return job if job is not None and job.history == self.history else None

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        job = self._job(run_id)
        if job is not None:
            with _world().lock:
                return job.look()
        launch = self.folder(run_id).read(LAUNCH)
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

    def _write(self, job: Job, log: RunLog, lease: Lease) -> bool:
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


class _World:
    """All runs of this process, by the name of the object."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self.started: dict[str, int] = {}


_worlds: list[_World] = []


def _world() -> _World:
    """This process's own: a fork begins with an empty one, its parent's goes on there."""
    if not _worlds or _worlds[-1].pid != os.getpid():
        _worlds[:] = [_World()]
    return _worlds[-1]
