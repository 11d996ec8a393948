"""Followers: one thread per run that is shown, and what an end waits for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from local_helpers import until

from qwex_jupyter import runners
from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.manager.followers import Followers
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.declaration import Declaration, Option
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners import register_runner
from qwex_jupyter.testing.memory import MemoryRunner

PATIENCE = 30.0


@pytest.fixture
def done() -> list[str]:
    """The runs of which followers said that all is on disk."""
    return []


@pytest.fixture
def silent() -> list[tuple[str, str]]:
    """The runs whose backend didn't answer, and why."""
    return []


@pytest.fixture
def followers(done: list[str], silent: list[tuple[str, str]]) -> Followers:
    """Followers that tell into lists."""
    return Followers(done.append, lambda run_id, why: silent.append((run_id, why)))


def test_two_who_look_share_a_thread(followers: Followers, done: list[str]) -> None:
    """A run has one follower; it goes when the last one has left."""
    calls: list[threading.Event] = []

    def follow(stop: threading.Event) -> bool:
        calls.append(stop)
        stop.wait(PATIENCE)
        return False

    with followers.following("a", follow):
        until(lambda: calls)
        with followers.following("a", follow):
            pass
        assert not calls[0].is_set()
        assert len(calls) == 1
    until(calls[0].is_set)
    until(lambda: not [t for t in threading.enumerate() if t.name == "qwex-follow-a"])
    assert done == []


def test_who_settles_waits_for_what_is_gathered(followers: Followers) -> None:
    """What is being brought comes to its end, at once; what was to come after it isn't begun."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def follow(stop: threading.Event) -> bool:
        begun.set()
        assert may_end.wait(PATIENCE)
        ended.set()
        return False

    others: list[threading.Event] = []
    followers.gather("a", follow)
    assert begun.wait(PATIENCE)
    followers.gather("b", lambda stop: bool(others.append(stop)))
    followers.settle(0.01)
    assert not ended.is_set()
    threading.Timer(0.05, may_end.set).start()
    followers.settle(PATIENCE)
    assert ended.is_set()
    assert followers._gatherer is None
    assert others == []
    followers.gather("b", lambda stop: bool(others.append(stop)))
    until(lambda: others)


def test_an_end_waits_only_so_long(followers: Followers, done: list[str]) -> None:
    """What takes longer than the patience is told when it is done."""
    go = threading.Event()

    def follow(stop: threading.Event) -> bool:
        return go.wait(PATIENCE)

    assert not followers.drained("a", follow, 0.01)
    assert done == []
    go.set()
    until(lambda: done == ["a"])
    assert followers.drained("a", follow, PATIENCE)


def test_a_failed_drain_is_not_complete(followers: Followers, done: list[str]) -> None:
    """A backend that breaks off leaves the end open; the next look tries again."""
    assert not followers.drained("a", lambda stop: False, PATIENCE)
    assert followers.drained("a", lambda stop: True, PATIENCE)
    until(lambda: done == ["a"])  # said by the thread, after those who wait for it are let go


def test_silence_is_told(followers: Followers, silent: list[tuple[str, str]]) -> None:
    """A backend that doesn't answer is told of, and asked again."""
    answers: list[bool] = []

    def follow(stop: threading.Event) -> bool:
        answers.append(True)
        if len(answers) < 3:
            raise BackendUnreachable("no answer")
        return True

    with followers.following("a", follow):
        until(lambda: len(answers) == 3)
    assert silent[:2] == [("a", "no answer; it is asked again.")] * 2


class _Far(MemoryRunner):
    """A memory runner of two places, which counts what is asked of it."""

    declaration = Declaration(
        name="far",
        runner=f"{__name__}:_Far",
        promises=MemoryRunner.promises,
        options={**MemoryRunner.declaration.options, "context": Option("which place", "NAME")},
        target_options=frozenset({"context"}),
    )
    polled_every = 1e9
    asked: ClassVar[list[str]] = []

    def __init__(self, home: str, history: str, *, context: str = "here", **more: Any) -> None:
        super().__init__(home, history, **more)
        self.context = context

    def identity(self) -> str:
        """Each place is a backend of its own."""
        return f"far://{self.context}"

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:
        """Counted."""
        self.asked.append(run_id)
        return super().follow(run_id, log, stop)


@pytest.fixture
def far(home: str, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager with that runner."""
    monkeypatch.setattr(runners, "_registered", {})
    register_runner(_Far.declaration)
    _Far.asked.clear()
    return RunManager(home)


def test_a_place_is_a_backend_of_its_own(far: RunManager) -> None:
    """Runs of two places live side by side, each asked for where it was given to."""
    spec: Mapping[str, Any] = {"script": "out hello\nsleep 300"}
    here = far.submit(JobSpec(**spec), "far")
    there = far.submit(JobSpec(**spec, options={"context": "there"}), "far")
    assert far.tracker.backends.runner_of(here.run_id) is not far.tracker.backends.runner_of(
        there.run_id
    )
    assert far.history.spec_fact(there.run_id)["identity"] == "far://there"
    for run in (here, there):
        assert run.poll() is RunStatus.RUNNING
        run.cancel(grace=0)
        assert run.wait(check=False, timeout=PATIENCE).status is RunStatus.CANCELLED


def test_a_run_of_another_backend_is_not_lost(far: RunManager, home: str) -> None:
    """A run whose identity doesn't answer is what it was, with the reason."""
    run = far.submit(JobSpec(script="sleep 300"), "far")
    assert run.poll() is RunStatus.RUNNING
    far.close()
    other = RunManager(home, settings={"far": {"context": "elsewhere"}})
    record = other.get(run.run_id)
    assert record.poll() is RunStatus.RUNNING
    assert record.reason == Reason.BACKEND_UNREACHABLE
    assert "far://here" in record.message


def test_nothing_is_fetched_while_nobody_looks(far: RunManager) -> None:
    """Output is fetched for a view and for an end, not for each look."""
    run = far.submit(JobSpec(script="out hello\nsleep 300"), "far")
    until(lambda: run.poll() is RunStatus.RUNNING)
    for _ in range(20):
        far.tracker.look()
    assert _Far.asked == []
    assert run.logs("stdout") == "hello\n"
    assert len(_Far.asked) == 1
    run.cancel(grace=0)
    run.wait(check=False, timeout=PATIENCE)
    assert len(_Far.asked) > 1


def test_an_ended_run_is_open_until_its_backend_is_free(far: RunManager, home: str) -> None:
    """What the backend still holds is on the list of open runs, and freed by the next look."""
    runner = far.runner("far")
    frees: list[str] = []
    answers = threading.Event()

    def delete(run_id: str) -> None:
        frees.append(run_id)
        if not answers.is_set():
            raise BackendUnreachable("not now")

    runner.delete = delete  # type: ignore[method-assign]
    run = far.submit(JobSpec(script="exit 0"), "far")
    assert run.wait(timeout=PATIENCE).status is RunStatus.SUCCEEDED
    until(lambda: frees)
    assert facts.exists(run.log.folder, RUN)
    assert far.history.is_open(run.run_id)
    far.close()
    answers.set()
    far.tracker.look()
    assert not far.history.is_open(run.run_id)


def test_a_wish_that_is_not_heard_is_no_error(far: RunManager) -> None:
    """A backend that goes away between its answer and a stop leaves the run what it was."""
    run = far.submit(JobSpec(script="sleep 300"), "far")
    until(lambda: run.poll() is RunStatus.RUNNING)
    runner = far.runner("far")
    cancel = runner.cancel

    def gone(*args: Any, **options: Any) -> None:
        raise BackendUnreachable("gone this moment")

    runner.cancel = gone  # type: ignore[method-assign]
    run.cancel(grace=0)
    # A look of the loop that began before the cancel may say meanwhile what it saw then.
    until(lambda: run.poll() is RunStatus.RUNNING and run.reason == Reason.BACKEND_UNREACHABLE)
    runner.cancel = cancel  # type: ignore[method-assign]
    assert run.wait(check=False, timeout=PATIENCE).status is RunStatus.CANCELLED


def test_looks_are_due_by_run(far: RunManager) -> None:
    """A run that only waits is polled rarely; one with a timeout is looked at when it is over."""
    clock = [0.0]  # that of the runs: no pause of this machine's ends the timeout too early
    far = RunManager(far.history.home, settings={"far": {"clock": lambda: clock[0]}})
    slow = far.submit(JobSpec(script="sleep 3000"), "far")
    timed = far.submit(JobSpec(script="sleep 3000", timeout=5), "far")
    for run in (slow, timed):
        until(lambda run=run: run.poll() is RunStatus.RUNNING)
    far.close()
    far.tracker.look()
    due, pause = far.tracker.due([slow.run_id, timed.run_id])
    assert due == set()
    assert pause <= 5.01
    clock[0] += 5.01
    until(lambda: far.tracker.due([slow.run_id, timed.run_id])[0] == {timed.run_id})
    far.tracker.look([timed.run_id])
    assert timed.wait(check=False, timeout=PATIENCE).reason == Reason.TIMED_OUT
    slow.cancel(grace=0)
    slow.wait(check=False, timeout=PATIENCE)
