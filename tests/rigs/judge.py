"""The judge of the campaigns of kills: what must not be found in a home when all is taken up.

What a run printed and how it ended follows from its id (``workload.py``), so the judge needs
nothing from the processes that were killed. A round of a campaign leaves him, beside the home:
``counters/``, a byte for each execution of a run; ``told``, the ids of runs whose submit returned;
``faults/``, what went wrong in a kernel.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import workload

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, RUN, SPEC, STOP
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.status import Reason, RunStatus


@dataclass
class Counts:
    """What was done, and what became of it: one count each.

    Attributes:
        told: What to look at.
        FIRST: The first of the counts that must be 0, as all behind it must.
    """

    FIRST: ClassVar[str]
    told: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int]]:
        """Everything as (name, count)."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)[1:]]

    @property
    def faults(self) -> dict[str, int]:
        """The counts that must be 0."""
        names = [name for name, _ in self.rows()]
        return dict(self.rows()[names.index(self.FIRST) :])

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.faults.values())

    def fault(self, name: str, run_id: str, why: str, count: int = 1) -> None:
        """Counts one thing that must not be, and keeps what to look at."""
        setattr(self, name, getattr(self, name) + count)
        self.told.append(f"{name} {run_id}: {why}")

    def compare(self, run_id: str, stream: str, found: bytes, wanted: bytes) -> None:
        """Counts what a stream lacks, has too much, or has otherwise."""
        if found == wanted:
            return
        pairs = enumerate(zip(found, wanted, strict=False))
        shorter = min(len(found), len(wanted))
        same = next((at for at, (one, other) in pairs if one != other), shorter)
        more = len(found) - len(wanted)
        name = "lost_bytes" if more < 0 else "doubled_bytes" if more else "altered_streams"
        self.fault(name, run_id, f"{stream}: {more:+d} bytes, equal up to {same}", abs(more) or 1)

    def lines(self) -> Iterator[str]:
        """A table, and the first of what to look at."""
        yield from (f"{name:18} {count:>12,}" for name, count in self.rows())
        yield from self.told[:5]


@dataclass
class Tally(Counts):
    """Of a campaign of kills. All from `lost` on must be 0."""

    FIRST = "lost"
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


class Judge:
    """Compares each run of a home with what its id asks for.

    Attributes:
        tally: What he found.
        drained_in: Seconds that output may take to be whole, where somebody may still bring it.
        killed: The processes whose runs nobody could see the end of, as pid and ticks.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.drained_in = 10.0
        self.killed: set[tuple[int, str]] = set()
        self._ends: dict[str, tuple[int, bytes]] = {}

    def _look_at_ends(self, base: str) -> None:
        """Remembers each run.json as it first was: it must never be another."""
        with contextlib.suppress(FileNotFoundError):
            for run_id in os.listdir(f"{base}/home/runs"):
                if run_id not in self._ends and not run_id.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        self._ends[run_id] = _end(f"{base}/home/runs/{run_id}")

    def _judge(self, base: str, history: RunHistory) -> None:
        """Judges a round whose runs have all been taken up."""
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
        for run_id, what in self._left(history):
            tally.fault("left_open", run_id, what)
        for run_id in sorted(known):
            tally.runs += 1
            self._judge_run(base, history, run_id, told=run_id in told)

    def _left(self, history: RunHistory) -> Iterator[tuple[str, str]]:
        """What of this history is left in the backend, as run id and sentence."""
        yield from ()

    def _judge_run(self, base: str, history: RunHistory, run_id: str, *, told: bool) -> None:
        """Judges one run."""
        tally, folder = self.tally, history.folder(run_id)
        record = history.record(run_id)
        counter = Path(base, "counters", run_id)
        executions = counter.stat().st_size if counter.exists() else 0
        self._judge_executions(run_id, executions)
        for name in (SPEC, LAUNCH, STOP, RUN):
            try:
                facts.read_fact(folder, name)
            except FactUnreadable as error:
                tally.fault("torn_facts", run_id, str(error))
        if facts.exists(folder, RUN) and self._ends.get(run_id) != _end(folder):
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
            launch = facts.read_fact(folder, LAUNCH) or {}
            if (launch.get("pid"), launch.get("ticks")) in self.killed:
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
            self._judge_output(folder, run_id)

    def _judge_executions(self, run_id: str, executions: int) -> None:
        """A run is executed once."""
        if executions > 1:
            self.tally.fault("double_executions", run_id, f"it ran {executions} times")

    def _workload(self, folder: str, run_id: str) -> workload.Process:
        """What a run played."""
        return workload.Process(run_id)

    def _judge_output(self, folder: str, run_id: str) -> None:
        """Each stream is what the run printed, byte for byte."""
        played = self._workload(folder, run_id)
        for stream in workload.STREAMS:
            wanted = played.text(stream)
            # Where the supervisor was killed, the scribe may still have a pipe to empty.
            until = time.monotonic() + self.drained_in
            while (found := Path(folder, f"{stream}.log").read_bytes()) != wanted:
                if time.monotonic() > until:
                    break
                time.sleep(0.05)
            self.tally.bytes += len(found)
            self.tally.compare(run_id, stream, found, wanted)


def _end(folder: str) -> tuple[int, bytes]:
    path = os.path.join(folder, RUN)
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read()
