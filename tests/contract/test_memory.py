"""MemoryRunner passes the contract, and its clock and its limits are what they say."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from local_helpers import until

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH
from qwex_jupyter.disk.logs import Lease, RunLog
from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.testing import memory
from qwex_jupyter.testing.contract.memory import MemoryContract


class TestMemory(MemoryContract):
    """The contract, on the memory runner."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock in the test's hand."""
    return Clock()


@pytest.fixture
def manager(home: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager whose memory runner goes by that clock, and whose looks wait for output."""
    monkeypatch.setattr("qwex_jupyter.manager.output._DRAIN", 60.0)
    return RunManager(home, default="memory", settings={"memory": {"clock": clock}})


def test_time_passes_only_when_told(manager: RunManager, clock: Clock) -> None:
    """With a clock of its own a day passes in no time, and is recorded as a day."""
    run = manager.submit(JobSpec(script="out a\nsleep 86400\nout b\nexit 7"))
    assert run.poll() is RunStatus.RUNNING
    assert run.logs("stdout") == "a\n"
    clock.now += 86399
    assert run.poll() is RunStatus.RUNNING
    clock.now += 2
    assert run.poll() is RunStatus.FAILED
    assert (run.exit_code, run.record.elapsed) == (7, 86400)
    assert run.logs("stdout") == "a\nb\n"


def test_the_grace_goes_by_the_clock(manager: RunManager, clock: Clock) -> None:
    """A program that ignores being asked ends when the clock reaches the end of its grace."""
    run = manager.submit(JobSpec(script="ignore-term\nsleep 100\nout never"))
    run.cancel(grace=10)
    clock.now += 9
    assert run.poll() is RunStatus.RUNNING
    clock.now += 50
    assert run.poll() is RunStatus.CANCELLED
    assert (run.exit_code, run.record.elapsed) == (137, 10)
    assert run.logs() == ""


def test_a_program_that_overran_unwatched_keeps_its_exit_code(
    manager: RunManager, clock: Clock
) -> None:
    """A timeout that nobody enforced is no outcome: the record says by how much it ran over."""
    run = manager.submit(JobSpec(script="sleep 30\nexit 3", timeout=10))
    clock.now += 40
    assert run.poll() is RunStatus.FAILED
    assert (run.exit_code, run.reason) == (3, Reason.NON_ZERO_EXIT)
    assert run.record.overrun == 20


def test_an_unknown_instruction_is_like_a_shells(manager: RunManager) -> None:
    """A word that isn't an instruction ends the program with 127 and names it."""
    run = manager.submit(JobSpec(script="out a\nnosuch thing\nout b"))
    run.wait(timeout=60, check=False)
    assert (run.exit_code, run.logs("stdout")) == (127, "a\n")
    assert "'nosuch' was not found" in run.message


def test_a_wrong_instruction_is_an_outcome(manager: RunManager) -> None:
    """A value that can't be read ends the program with 2; asking about it never raises."""
    run = manager.submit(JobSpec(script="sleep soon"))
    run.wait(timeout=60, check=False)
    assert run.exit_code == 2
    assert "line 1" in run.logs("stderr")


def test_another_interpreter_is_not_found(manager: RunManager) -> None:
    """A script for another interpreter isn't taken for instructions."""
    run = manager.submit(JobSpec(command=("python",), script="out"))
    run.wait(timeout=60, check=False)
    assert (run.reason, run.exit_code) == (Reason.COMMAND_NOT_FOUND, None)


def test_an_image_is_allowed(manager: RunManager) -> None:
    """An image is remembered, so that what is built for containers can be tried here."""
    run = manager.submit(JobSpec(script="exit 0", image="busybox:1"))
    assert run.wait(timeout=60).record.image == "busybox:1"


def test_a_killed_for_memory_run_says_so(manager: RunManager) -> None:
    """The instruction oom ends a run as OutOfMemory without a limit too."""
    run = manager.submit(JobSpec(script="oom"))
    run.wait(timeout=60, check=False)
    assert (run.reason, run.exit_code) == (Reason.OUT_OF_MEMORY, 137)


def test_its_promises_are_true() -> None:
    """It doesn't outlive its process, and it doesn't hold a timeout by itself."""
    promises = memory.MemoryRunner.promises
    assert (promises.durable, promises.enforces_timeout) == (False, False)
    assert (promises.raw_bytes, promises.separate_streams) == (True, True)


def test_two_histories_don_t_see_each_other(manager: RunManager, home: str) -> None:
    """A run id of another history is not found."""
    other = RunManager(home + "2", default="memory")
    run = manager.submit(JobSpec(script="sleep 9"))
    assert isinstance(other.runner("memory").poll([run.run_id])[run.run_id], RunNotFound)


@pytest.mark.forks
def test_in_a_fork_the_world_is_empty(manager: RunManager) -> None:
    """A forked child doesn't hold its parent's runs, and doesn't call them lost."""
    run = manager.submit(JobSpec(script="sleep 9"))
    assert run.poll() is RunStatus.RUNNING
    child = os.fork()
    if child == 0:
        try:
            runner = RunManager(manager.history.home).runner("memory")
            seen = runner.poll([run.run_id])[run.run_id]
            os._exit(0 if getattr(seen, "reason", None) == Reason.HOST_UNREACHABLE else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.forks
def test_a_run_of_a_process_that_is_gone_is_lost(
    manager: RunManager, home: str, clock: Clock
) -> None:
    """What lived in the memory of a dead process is LOST, and its cancel hurts nobody."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            made = RunManager(home, default="memory").submit(JobSpec(script="sleep 9"))
            os.write(write, made.run_id.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        run = manager.get(pipe.read().decode())
    folder = run.log.folder
    # The launch is no longer fresh: what it was to start would be there.
    launch = facts.read_fact(folder, LAUNCH)
    assert launch is not None
    facts.replace(folder, LAUNCH, {**launch, "at": launch["at"] - 100})
    assert run.poll() is RunStatus.LOST
    assert (run.reason, run.exit_code) == (Reason.VANISHED, None)


def test_following_goes_on_where_a_dead_writer_stopped(manager: RunManager) -> None:
    """A writer that died with the lease is succeeded, and no byte is lost or doubled."""
    run = manager.submit(JobSpec(script="hex-out 00ff10\nout rest\nsleep 9"))
    run.logs()
    folder = run.log.folder
    dead = Lease(folder, quiet=0.0)
    assert dead.acquire()
    # It had written more than its cursor says, and then it died.
    dead.keep({"stdout": 1, "stderr": 0})
    RunLog(folder).write("stdout", b"\xff\x10re", 1)
    heir = Lease(folder, quiet=0.0)
    heir.acquire()
    assert heir.acquire()
    heir.keep(heir.cursor, release=True)
    assert heir.cursor == {"stdout": 1, "stderr": 0}
    run.logs()
    assert run.log.read("stdout") == b"\x00\xff\x10rest\n"
    assert not dead.keep({"stdout": 5})


def test_runners_that_take_turns_don_t_fill_the_folder(manager: RunManager, home: str) -> None:
    """However often writers change, at most two of their cursors lie in the folder."""
    second = RunManager(home, default="memory")
    run = manager.submit(JobSpec(script="out x\nsleep 9"))
    for _ in range(5):
        manager.output.fetch(run.run_id)
        second.output.fetch(run.run_id)
    assert len([name for name in os.listdir(run.log.folder) if name.startswith("log.")]) <= 2


def test_a_plan_shows_what_would_happen(manager: RunManager) -> None:
    """The dry run of a memory runner is its instructions."""
    runner = manager.runner("memory")
    spec = JobSpec(script="out a\nexit 1\n")
    assert runner.show(runner.plan(spec, "20260101-000000-bcdfgh")) == "out a\nexit 1\n"
    words = replace(spec, script=None, command=("exit", "3"))
    assert runner.show(runner.plan(words, "20260101-000000-bcdfgh")) == "exit 3"


def test_every_word_is_explained() -> None:
    """The table of instructions is the documentation: each entry begins with its word."""
    for word, text in memory.WORDS.items():
        assert text.startswith(word)


def test_a_watch_that_raises_costs_no_end(
    manager: RunManager,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in a runner's watch prints nothing, and the polls see how its runs end."""
    watched: list[str] = []

    def watch(self: memory.MemoryRunner, notify: object, stop: object) -> None:
        watched.append(self.name)
        raise ZeroDivisionError

    monkeypatch.setattr(memory.MemoryRunner, "watch", watch)
    raised: list[object] = []
    monkeypatch.setattr("threading.excepthook", raised.append)
    run = manager.submit(JobSpec(script="sleep 10"))
    until(lambda: watched)
    clock.now += 11
    assert run.wait(timeout=60).status is RunStatus.SUCCEEDED
    manager.close()
    assert (raised, caplog.records) == ([], [])
