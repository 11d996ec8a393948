"""Two who work on one run, stopped at every step between each other; and kills at every step.

Each test plays all orders in which the file operations of two actors can follow each other
with one change of turn each (see ``actors.py``). Whatever the order: one execution at the
most, exactly one final record, which agrees with the execution counter, and nothing open.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from actors import Actor

from qwex_jupyter import facts, process
from qwex_jupyter import manager as managers
from qwex_jupyter.errors import QwexError, RunNotFound
from qwex_jupyter.logs import Lease, RunLog
from qwex_jupyter.manager import RunManager
from qwex_jupyter.record import RunRecord
from qwex_jupyter.runners import local, supervisor
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus

pytestmark = pytest.mark.skipif(not process.use_proc, reason="needs Linux: it stops and looks")

CODE = 7
PATIENCE = 60.0


class Catcher:
    """Stands where the server of supervisors is, and keeps what is sent to it."""

    def __init__(self) -> None:
        self.message = b""

    def usable(self) -> bool:
        """It always is."""
        return True

    def send(self, message: bytes) -> None:
        """Keeps a request."""
        self.message = message


@dataclass
class Stage:
    """A run that was submitted, up to the message that no supervisor has read yet."""

    manager: RunManager
    run_id: str
    message: bytes
    counter: Path
    first_end: tuple[int, bytes] | None = None

    @property
    def folder(self) -> str:
        """The run's folder."""
        return self.manager.history.folder(self.run_id)

    @property
    def home(self) -> str:
        """The history folder."""
        return self.manager.history.home

    @property
    def executions(self) -> int:
        """How many times the program ran."""
        return self.counter.stat().st_size if self.counter.exists() else 0

    def supervise(self) -> None:
        """What the supervisor does that gets the message; never returns."""
        request, pipe = os.pipe()
        os.write(pipe, self.message)
        os.close(pipe)
        supervisor._supervise_and_leave(request)

    def look(self) -> None:
        """What a manager does that has no patience with submitters."""
        lose_patience()
        self.manager.look([self.run_id])

    def cancel(self) -> None:
        """A cancel, with the default grace."""
        self.manager.cancel(self.run_id)

    def glance(self) -> None:
        """Remembers the first run.json there was: there must never be another."""
        if self.first_end is None and os.path.exists(f"{self.folder}/{facts.RUN}"):
            self.first_end = end_of(self.folder)


def end_of(folder: str) -> tuple[int, bytes]:
    """Inode and content of run.json."""
    with open(os.path.join(folder, facts.RUN), "rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read()


def lose_patience() -> None:
    """All graces are over: each submitter has been silent for longer than that."""
    managers._LAST_BREATH = managers.QUIET = managers.LAUNCH_GOOD_FOR = -1.0


def quiet_manager(home: str) -> RunManager:
    """A manager that starts no thread, so that what it does is what is asked."""
    manager = RunManager(home)
    manager._loop.ensure = lambda run_id=None: None  # type: ignore[method-assign]
    return manager


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graces are restored after each test."""
    for name in ("_LAST_BREATH", "QUIET", "LAUNCH_GOOD_FOR"):
        monkeypatch.setattr(managers, name, getattr(managers, name))


@pytest.fixture
def stages(home: str, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Makes stages, all in one home."""
    manager = quiet_manager(home)
    counters = tmp_path / "counters"
    counters.mkdir()
    numbers = itertools.count()

    def made(after: str = f"exit {CODE}") -> Stage:
        counter = counters / str(next(numbers))
        runner = manager.runner("local")
        assert isinstance(runner, local.LocalRunner)
        runner._server = catcher = Catcher()  # type: ignore[assignment]
        spec = JobSpec(command=("/bin/sh", "-c", f"printf x >> {counter}; {after}"))
        run = manager._submit(spec, "local")
        return Stage(manager, run.run_id, catcher.message, counter)

    yield made


def judged(stage: Stage) -> RunRecord:
    """Takes the run up as a fresh manager does, and asserts what holds after any order."""
    lose_patience()
    fresh = quiet_manager(stage.home)
    until = time.monotonic() + PATIENCE
    while not fresh.ended(stage.run_id) or stage.run_id in fresh.history.open_ids():
        stage.glance()
        fresh.look([stage.run_id])
        assert time.monotonic() < until, f"it never ends: {fresh.record(stage.run_id)}"
        time.sleep(0.002)
    stage.glance()
    record = fresh.history.record(stage.run_id)
    launch = facts.read_fact(stage.folder, facts.LAUNCH)
    assert launch is not None
    assert record.status.final
    assert record.reason != Reason.UNREADABLE
    assert stage.first_end == end_of(stage.folder), "run.json was replaced"
    assert stage.executions <= 1
    if "closed" in launch:
        assert (stage.executions, record.exit_code) == (0, None)
    if record.reason == Reason.NEVER_STARTED:
        assert (record.status, stage.executions) == (RunStatus.LOST, 0)
    if record.status is RunStatus.SUCCEEDED:
        assert record.exit_code == 0
    if record.exit_code in (0, CODE):
        assert stage.executions == 1
    assert not os.path.exists(f"{stage.folder}/supervisor.log")
    return record


def tidy(stage: Stage) -> None:
    """Asserts that nobody left a half-made file or a reserve."""
    left = {name for name in os.listdir(stage.folder) if name.startswith(".")}
    assert not left


Work = Callable[[Stage], Callable[[], object]]


def all_orders(
    made: Callable[[], Stage], first: Work, second: Work, diary: Path, *, waits: bool = True
) -> Iterator[Stage]:
    """Stages on which two have worked, one for each order of their steps.

    Args:
        made: Makes a stage.
        first: The actor that begins.
        second: The one that has its turn at each step of the first.
        diary: A file for what goes wrong.
        waits: The first goes to its end before the second goes on; else both go on at once,
            because the first ends only by what the second does.
    """
    for i in itertools.count():
        for j in itertools.count():
            stage = made()
            one = Actor(first(stage), stage.home, at=i, diary=diary)
            first_stopped = one.until_stopped()
            stage.glance()
            two = Actor(second(stage), stage.home, at=j, diary=diary)
            second_stopped = two.until_stopped()
            stage.glance()
            if waits:
                one.done()
                stage.glance()
            else:
                one.go()
            two.done()
            one.done()
            yield stage
            if not second_stopped:
                break
        if not first_stopped:
            return


def test_starter_against_undertaker(stages: Callable[[], Stage], tmp_path: Path) -> None:
    """A supervisor that starts and a manager that gives up: the run ran once, or never will."""
    seen = set()
    orders = all_orders(stages, lambda s: s.supervise, lambda s: s.look, tmp_path / "diary")
    for stage in orders:
        record = judged(stage)
        assert (record.status, record.exit_code, stage.executions) in (
            (RunStatus.FAILED, CODE, 1),
            (RunStatus.LOST, None, 0),
        )
        tidy(stage)
        seen.add(record.status)
    assert seen == {RunStatus.FAILED, RunStatus.LOST}
