"""Kills kernels, and looks what became of their runs.

``python tests/chaos.py --seconds 600 --seed 1 --mode kernel`` prints a table. A kernel is a
plain process that takes up what is open and submits self-checking workloads
(``workload.py``) until it is killed with -9, at a random moment 0 to 150 ms after its start
or, every third, up to 600 ms; several live at a time and share one home. Every half minute
all are dead for six seconds (the manager's grace for a submitter's last breath is five); then
a fresh process takes everything up, and each run is compared with what its id asks for.

Modes: ``kernel`` kills nothing else; ``supervisor`` also kills supervisors, spare ones too,
and the servers that fork them; ``notebook`` kills real kernels (ipykernel) that submit with
``%qwex`` and `qwex_jupyter.submit`. Linux only: children are found in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from qwex_jupyter import facts, process
from qwex_jupyter.errors import FactUnreadable, SubmitFailed
from qwex_jupyter.history import RunHistory
from qwex_jupyter.manager import RunManager
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus

sys.path.insert(0, str(Path(__file__).resolve().parent / "rigs"))
import workload

MODES = ("kernel", "supervisor", "notebook")
_ROUND = 30.0
# Longer than the grace of a submitter that is gone (`launches._LAST_BREATH`).
_QUIET = 6.0
_SETTLED_IN = 90.0


@dataclass
class Tally:
    """What was done, and what became of it. All from `lost` on must be 0."""

    kernel_kills: int = 0
    supervisor_kills: int = 0
    server_kills: int = 0
    runs: int = 0
    bytes: int = 0
    right: int = 0
    never_started: int = 0
    rightly_lost: int = 0
    lost: int = 0
    wrong: int = 0
    invented: int = 0
    double_outcomes: int = 0
    double_executions: int = 0
    lost_bytes: int = 0
    doubled_bytes: int = 0
    altered_streams: int = 0
    torn_facts: int = 0
    unknown_runs: int = 0
    left_open: int = 0
    failed_kernels: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """The counts that must be 0."""
        names = [f.name for f in fields(self)]
        return {name: getattr(self, name) for name in names[names.index("lost") : -1]}

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.faults.values())

    def fault(self, name: str, run_id: str, why: str, count: int = 1) -> None:
        """Counts one thing that must not be, and keeps what to look at."""
        setattr(self, name, getattr(self, name) + count)
        self.told.append(f"{name} {run_id}: {why}")

    def rows(self) -> list[tuple[str, int]]:
        """Everything as (name, count)."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)[:-1]]


class Campaign:
    """One campaign of kills.

    Args:
        root: An empty folder; each round has a home of its own in it.
        seed: Of everything that is random here.
        mode: One of `MODES`.
        parallel: So many kernels live at a time.

    Attributes:
        lives: The longest life of a kernel in seconds: of most, and of every third.
        pause: Between two looks at who is to be killed, in seconds.
    """

    lives = (0.15, 0.6)
    pause = 0.001

    def __init__(self, root: str, seed: int, mode: str, parallel: int = 3) -> None:
        self.tally = Tally()
        self.drained_in = 10.0
        self._root, self._mode, self._parallel = root, mode, parallel
        self._random = random.Random(f"{seed} {mode}")
        self._kernels: dict[int, float] = {}
        self._killed: set[tuple[int, str]] = set()
        self._ends: dict[str, tuple[int, bytes]] = {}
        self._round = 0
        self._shot = 0.0

    def run(self, seconds: float) -> Tally:
        """Kills for so many seconds, settling times included; at least one round."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._round and left < 2 * _QUIET:
                return self.tally
            self._one_round(max(3.0, min(_ROUND, left - _QUIET - 2.0)))

    def _one_round(self, seconds: float) -> None:
        self._round += 1
        base = os.path.join(self._root, f"round-{self._round}")
        home, counters = os.path.join(base, "home"), os.path.join(base, "counters")
        os.makedirs(counters)
        os.makedirs(os.path.join(base, "faults"))
        os.close(os.open(os.path.join(base, "told"), os.O_WRONLY | os.O_CREAT, 0o600))
        history = RunHistory(home)
        kill = self._kill_notebooks if self._mode == "notebook" else self._kill_kernels
        kill(base, time.monotonic() + seconds)
        time.sleep(_QUIET)
        self._take_up(home)
        self._judge(base, history)
        if self.tally.clean:
            shutil.rmtree(base, ignore_errors=True)

    def _kill_kernels(self, base: str, until: float) -> None:
        """Starts kernels and kills them, until the time is up and none is left."""
        rng = self._random
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            while now < self._last(base, until) and len(self._kernels) < self._parallel:
                longest = self.lives[rng.random() < 1 / 3]
                pid = _fork(functools.partial(self._play, base, rng.random()), base)
                self._kernels[pid] = now + rng.random() * longest
            if not self._kernels:
                return
            self._kill_due(base, now, until)
            until = self._beside(base, now, until)
            if now - looked > 50 * self.pause:
                looked = now
                self._look_at_ends(base)
            time.sleep(self.pause)

    def _play(self, base: str, seed: float) -> None:
        """What a kernel does, in its process."""
        _play_kernel(base, seed)

    def _beside(self, base: str, now: float, until: float) -> float:
        """What else is done to kernels and backend; until when kernels are started."""
        if self._mode == "supervisor" and now >= self._shot:
            self._shot = now + self._random.random() * 0.1
            self._shoot(base)
        return until

    def _last(self, base: str, until: float) -> float:
        """Until when kernels start: where all is slow, until there is something to judge."""
        return until if self._begun(base) else until + _SETTLED_IN

    def _begun(self, base: str) -> bool:
        """Whether there is something to judge."""
        return os.path.getsize(f"{base}/told") > 0

    def _kill_due(self, base: str, now: float, until: float) -> None:
        """Kills the kernels whose time has come.

        Where all is slow nobody is killed before there is something to judge: a backend that
        others keep busy works on at what killed kernels had asked for.
        """
        if until <= now < self._last(base, until):
            return
        for pid, due in list(self._kernels.items()):
            if now >= due:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                del self._kernels[pid]
                self.tally.kernel_kills += 1

    def _shoot(self, base: str) -> None:
        """Kills a supervisor at work, one in waiting, or the server that forks them."""
        rng = self._random
        choice = rng.random()
        if choice < 0.5:
            for run_id in rng.sample(names := os.listdir(f"{base}/home/open"), len(names)):
                folder = f"{base}/home/runs/{run_id}"
                launch = facts.read_fact(folder, facts.LAUNCH)
                if launch and "pid" in launch and not facts.exists(folder, facts.RUN):
                    self._kill(launch)
                    return
            return
        servers = [child for kernel in self._kernels for child in _children(kernel)]
        if servers and choice > 0.95:
            self.tally.server_kills += process.send(
                process.identify(rng.choice(servers)), signal.SIGKILL
            )
            return
        # Not the scribes beside them.
        waiting = [one for server in servers for one in _children(server) if _children(one)]
        if waiting:
            self._kill(process.identify(rng.choice(waiting)))

    def _kill(self, who: process.Identity) -> None:
        # Remembered before it is sent: who is killed while it writes its last fact counts.
        self._killed.add((who["pid"], who["ticks"]))
        self.tally.supervisor_kills += process.send(who, signal.SIGKILL)

    def _kill_notebooks(self, base: str, until: float) -> None:
        from jupyter_client.manager import KernelManager

        rng = self._random
        words = ", ".join(map(repr, _command(f"{base}/counters")))
        code = (
            "%load_ext qwex_jupyter\n"
            "import os, time\n"
            f"told = os.open({base + '/told'!r}, os.O_WRONLY | os.O_APPEND)\n"
            "import qwex_jupyter as qwex\n"
            "while True:\n"
            f"    run = qwex.submit([{words}])\n"
            "    os.write(told, f'{run.run_id}\\n'.encode())\n"
            f"    run = get_ipython().run_line_magic('qwex', 'run --detach '"
            f" + ' '.join([{words}]))\n"
            "    os.write(told, f'{run.run_id}\\n'.encode()) if run else None\n"
            "    time.sleep(0.02)\n"
        )
        while time.monotonic() < until:
            environment = {**os.environ, "QWEX_HOME": f"{base}/home", "PYTHONWARNINGS": "ignore"}
            made = [KernelManager(kernel_name="python3") for _ in range(2)]
            # The name of a kernel may stand for another Python of this machine.
            for one in made:
                one.kernel_spec.argv[0] = sys.executable
                one.start_kernel(env=environment)
            clients = [one.blocking_client() for one in made]
            for client in clients:
                client.start_channels()
            try:
                for client in clients:
                    client.wait_for_ready(timeout=120)
                    client.execute(code, store_history=False)
                for one in made:
                    time.sleep(rng.random() * 0.6)
                    os.kill(one.provisioner.pid, signal.SIGKILL)
                    self.tally.kernel_kills += 1
                self._look_at_ends(base)
            finally:
                for client in clients:
                    client.stop_channels()
                for one in made:
                    one.shutdown_kernel(now=True)

    def _look_at_ends(self, base: str) -> None:
        """Remembers each run.json as it first was: it must never be another."""
        with contextlib.suppress(FileNotFoundError):
            for run_id in os.listdir(f"{base}/home/runs"):
                if run_id not in self._ends and not run_id.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        self._ends[run_id] = _end(f"{base}/home/runs/{run_id}")

    def _take_up(self, home: str) -> None:
        """What a fresh kernel does, until nothing is open that has a folder."""
        pid = _fork(lambda: _settle(home), os.path.dirname(home))
        until = time.monotonic() + _SETTLED_IN + 30
        while time.monotonic() < until:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _judge(self, base: str, history: RunHistory) -> None:
        tally = self.tally
        self._look_at_ends(base)
        for name in os.listdir(f"{base}/faults"):
            tally.fault("failed_kernels", name, Path(base, "faults", name).read_text())
        told = set(Path(base, "told").read_text().split())
        known = set(history.run_ids())
        for run_id in (told | set(os.listdir(f"{base}/counters"))) - known:
            tally.fault("unknown_runs", run_id, "it was told or executed, and has no folder")
        for run_id in history.open_ids():
            if run_id in known:
                tally.fault("left_open", run_id, "its entry is still there")
        for run_id in sorted(known):
            tally.runs += 1
            self._judge_run(base, history, run_id, told=run_id in told)

    def _judge_run(self, base: str, history: RunHistory, run_id: str, *, told: bool) -> None:
        tally, folder = self.tally, history.folder(run_id)
        record = history.record(run_id)
        counter = Path(base, "counters", run_id)
        executions = counter.stat().st_size if counter.exists() else 0
        if executions > 1:
            tally.fault("double_executions", run_id, f"it ran {executions} times")
        for name in (facts.SPEC, facts.LAUNCH, facts.STOP, facts.RUN):
            try:
                facts.read_fact(folder, name)
            except FactUnreadable as error:
                tally.fault("torn_facts", run_id, str(error))
        if facts.exists(folder, facts.RUN) and self._ends.get(run_id) != _end(folder):
            tally.fault("double_outcomes", run_id, "run.json is not the one it was")
        said = f"{record.sentence} (exit code {record.exit_code}, executed {executions} times)"
        if not record.status.final or record.reason == Reason.UNREADABLE:
            tally.fault("lost", run_id, said)
            return
        if record.reason == Reason.NEVER_STARTED:
            if executions or record.status is not RunStatus.LOST:
                tally.fault("wrong", run_id, said)
            elif told and not tally.server_kills and not tally.supervisor_kills:
                tally.fault("lost", run_id, f"submit returned, and {said}")
            else:
                tally.never_started += 1
            return
        code = workload.code_of(run_id)
        status = RunStatus.FAILED if code else RunStatus.SUCCEEDED
        if record.status is RunStatus.LOST:
            launch = facts.read_fact(folder, facts.LAUNCH) or {}
            if (launch.get("pid"), launch.get("ticks")) in self._killed:
                tally.rightly_lost += 1
            else:
                tally.fault("lost", run_id, said)
            if record.exit_code is not None:
                tally.fault("invented", run_id, said)
        elif not executions:
            tally.fault("invented", run_id, said)
        elif (record.status, record.exit_code) != (status, code) or record.log_missing:
            tally.fault("wrong", run_id, said)
        else:
            tally.right += 1
        if executions:
            for stream in workload.STREAMS:
                self._judge_bytes(folder, run_id, stream)

    def _judge_bytes(self, folder: str, run_id: str, stream: str) -> None:
        wanted = b"".join(workload.lines_of(run_id, stream))
        # Where the supervisor was killed, the scribe may still have a pipe to empty.
        until = time.monotonic() + self.drained_in
        while (found := Path(folder, f"{stream}.log").read_bytes()) != wanted:
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        self.tally.bytes += len(found)
        if found != wanted:
            more = len(found) - len(wanted)
            name = "lost_bytes" if more < 0 else "doubled_bytes" if more else "altered_streams"
            self.tally.fault(name, run_id, f"{stream}: {more:+d} bytes", abs(more) or 1)


def _command(counters: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", workload.__file__, counters)


def _fork(work: Callable[[], None], base: str) -> int:
    """A process that does this and leaves; what goes wrong in it is told in ``faults/``."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        work()
    except BaseException:
        Path(base, "faults", f"{os.getpid()}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _play_kernel(base: str, seed: float) -> None:
    """A kernel: takes up what is open, then submits and waits until it is killed."""
    rng = random.Random(seed)
    told = os.open(f"{base}/told", os.O_WRONLY | os.O_APPEND)
    manager = RunManager(f"{base}/home")
    manager.take_up()
    while True:
        run = None
        for _ in range(rng.randint(1, 4)):
            try:
                run = manager.submit(JobSpec(command=_command(f"{base}/counters")), "local")
            except SubmitFailed:
                continue  # its server was killed; that nothing was started is judged too
            os.write(told, f"{run.run_id}\n".encode())
            time.sleep(rng.random() * 0.03)
        if run and rng.random() < 0.5:
            run.wait(check=False)


def _settle(home: str) -> None:
    manager = RunManager(home)
    for run_id in manager.history.open_ids():
        # A kernel was killed before the folder had its name: its entry goes after 10 minutes.
        if not os.path.exists(manager.history.folder(run_id)):
            os.utime(os.path.join(manager.history.open_folder, run_id), (0, 0))
    manager.take_up()
    until = time.monotonic() + _SETTLED_IN
    while manager.history.open_ids() and time.monotonic() < until:
        manager.look()
        time.sleep(0.1)


def _end(folder: str) -> tuple[int, bytes]:
    path = os.path.join(folder, facts.RUN)
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read()


def _children(pid: int) -> list[int]:
    # Not from /proc/PID/task/TID/children, which not every Linux has.
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
            found += [int(name)] if int(parent) == pid else []
    return found


def _lines(tally: Tally) -> Iterator[str]:
    yield from (f"{name:18} {count:>12,}" for name, count in tally.rows())
    yield from tally.told[:5]


def main() -> int:
    """The command line; 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(description="Kills kernels and judges their runs.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, default="kernel")
    parser.add_argument("--parallel", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one line for programs to read")
    asked = parser.parse_args()
    root = tempfile.mkdtemp(prefix="chaos-")
    tally = Campaign(root, asked.seed, asked.mode, asked.parallel).run(asked.seconds)
    if asked.json:
        print(json.dumps({"mode": asked.mode, "seed": asked.seed, **dict(tally.rows())}))
    else:
        print(f"mode {asked.mode}, seed {asked.seed}, {asked.seconds:g} s")
        print("\n".join(_lines(tally)))
    if tally.clean:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"kept: {root}")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
