"""What all clauses share: the manager of a test, and waiting for something."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.submission import command_text
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.system import frontend
from qwex_jupyter.testing.contract.programs import ShellPrograms

PATIENCE = 90.0
T = TypeVar("T")


class Contract:
    """What a subclass of `RunnerContract` sets and may override, and what the clauses share.

    Attributes:
        runner: Its name.
        programs: Behaviours to specs.
        settings: Constructor arguments, by the name of the runner.
        patience: Seconds after which something that must come is called missing.
        brief: Seconds in which a program has surely started and printed a line.
        keeps_bytes: The backend keeps every byte though the runner doesn't promise it.
        separates: The backend gives each stream by itself though the runner doesn't promise it.
    """

    runner: ClassVar[str]
    programs: ClassVar[ShellPrograms] = ShellPrograms()
    settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    patience: ClassVar[float] = 180.0
    brief: ClassVar[float] = 2
    keeps_bytes: ClassVar[bool] = False
    separates: ClassVar[bool] = False

    def make_manager(self, home: str) -> RunManager:
        """A manager whose runner is the one under test; each call makes new objects."""
        return RunManager(home, default=self.runner, settings=self.settings)

    def executions(self, run: Run, mark: str) -> int:
        """How often the program of `ShellPrograms.counted` was executed."""
        return run.logs("stdout").count("executed")

    @pytest.fixture
    def home(self, tmp_path: Path) -> str:
        """An empty history folder."""
        return str(tmp_path / "home")

    @pytest.fixture
    def manager(self, home: str) -> Iterator[RunManager]:
        """The manager of a test; what it leaves running is cancelled."""
        made = self.make_manager(home)
        yield made
        for run_id in made.history.open_ids():
            made.cancel(run_id, grace=0)
        made.close()

    def submit(self, manager: RunManager, spec: JobSpec) -> Run:
        """Submits to the runner under test."""
        return manager.submit(spec, self.runner)

    def running(self, manager: RunManager, spec: JobSpec) -> Run:
        """Submits, and returns once it runs."""
        run = self.submit(manager, spec)
        self.until(lambda: run.poll() is not RunStatus.PENDING)
        assert run.status is RunStatus.RUNNING, run.record.sentence
        return run

    def end(self, run: Run) -> RunRecord:
        """Its final record, once it is there.

        A runtime that doesn't get to open a stream before a short program has ended, on a busy
        machine, closes it unread; to whoever asks its backend that looks like no output.
        """
        record = run.wait(timeout=self.patience, check=False).record
        ran = record.exit_code is not None and record.reason in ("", Reason.NON_ZERO_EXIT)
        if ran and self.dropped(run):
            pytest.xfail("the backend dropped output: reading from a closed fifo")
        return record

    def dropped(self, run: Run) -> bool:
        """Whether the backend's own log says that it dropped the output of this run."""
        return False

    def until(self, true: Callable[[], bool]) -> None:
        """Returns when something is so; fails when it doesn't come."""
        until(true, self.patience)

    def settled(self) -> None:
        """Gives what must not happen the time to happen."""
        time.sleep(0.3)

    def snapshot(self, answers: Mapping[str, Snapshot | RunNotFound], run: Run) -> Snapshot:
        """One answer, without the moment it was given and how long the run had lasted then.

        And without the backend's own words, to which a second witness may add its own later.
        """
        answer = answers[run.run_id]
        assert isinstance(answer, Snapshot)
        evidence = {k: v for k, v in answer.evidence.items() if k != "elapsed"}
        return replace(answer, observed_at=0.0, backend_message="", evidence=evidence)

    def prepared(self, manager: RunManager, spec: JobSpec) -> tuple[Run, Plan]:
        """A run whose folder is whole, and which nobody has handed over yet; and its plan."""
        run = prepared(manager, spec, self.runner)
        return run, manager.runner(self.runner).plan(spec, run.run_id)

    def assert_said(self, manager: RunManager, run: Run, out: str, err: str) -> None:
        """Both streams arrived whole and in order, each by itself.

        Where a backend gives them as one (`Promises.separate_streams` is False), the lines of
        each are all there, in their order, in stdout. No line is of both here.
        """
        if self.separates or manager.runner(self.runner).promises.separate_streams:
            assert (run.logs("stdout"), run.logs("stderr")) == (out, err)
            return
        assert run.log.read("stderr") == b""
        lines = run.logs("stdout").splitlines(keepends=True)
        theirs = set(err.splitlines(keepends=True))
        assert "".join(line for line in lines if line in theirs) == err
        assert "".join(line for line in lines if line not in theirs) == out

    def kept(self, manager: RunManager, data: bytes) -> bytes:
        """What a backend keeps of these bytes in one line: all, or what it says that it keeps.

        Where a backend keeps text (`Promises.raw_bytes` is False), each byte that isn't UTF-8
        becomes U+FFFD, also where a character is cut in two after 16 KiB of a line (Docker's
        json-file).
        """
        if self.keeps_bytes or manager.runner(self.runner).promises.raw_bytes:
            return data
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)]
        return b"".join(as_text(piece) for piece in pieces)


def until(seen: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What is seen as soon as it is true; fails when it doesn't come.

    It looks less and less often, as a look may be a question to a backend.
    """
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (found := seen()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.05)
    return found


def contents(folder: str | Path) -> Iterator[tuple[Path, bytes]]:
    """The files below a folder, with what is in them; what goes meanwhile is none of them."""
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.read_bytes()


def prepared(manager: RunManager, spec: JobSpec, runner: str = "", **values: Any) -> Run:
    """A run whose folder is whole and which nobody has handed over.

    Args:
        manager: Whose history it is in.
        spec: What it is to run.
        runner: Its runner; "" for the one that the manager chooses.
        values: What is to stand in ``spec.json`` besides. With an identity among them, the
            backend isn't asked who it is.
    """
    runner = manager.choose(spec, runner)
    now = time.time()
    run_id = new_run_id(now)
    spec_fact = {
        "version": 1,
        "run_id": run_id,
        "runner": runner,
        "identity": values.get("identity") or manager.runner(runner).identity(),
        "created_at": now,
        "command": command_text(spec),
        "spec": spec.to_json(),
        **frontend.here(),
        **values,
    }
    manager.history.create(spec, spec_fact)
    return Run(manager, run_id)


def shown_files(run: Run) -> list[str]:
    """The names in a run's folder, but for those of a moment."""
    return sorted(name for name in os.listdir(run.log.folder) if not name.startswith("."))


def lives(pid: int) -> bool:
    """Whether a process of this machine lives; a zombie doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the second where it went meanwhile
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def as_text(data: bytes) -> bytes:
    """Each byte that is not part of a character becomes U+FFFD, as Go's JSON encoder does it."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text).encode()
