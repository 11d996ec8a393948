"""The thread that looks after what is open, and who waits for an end without it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from local_helpers import PATIENCE, end, launch_of, sh, until

from qwex_jupyter.manager import tracker
from qwex_jupyter.manager.backends import Backend
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.notebook import cell, wait_table
from qwex_jupyter.notebook.stream import Stream
from qwex_jupyter.notebook.view import View
from qwex_jupyter.system.interrupts import Presses


class _Forgetful(dict[str, Backend]):
    """Forgets what it is asked about directly after the answer, as another thread may."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.pop(str(key), None)
        return found


def test_a_run_that_is_forgotten_meanwhile_is_of_no_backend(manager: RunManager) -> None:
    """Which backends are in use is answered also while a run ends in another thread."""
    run = manager.submit(sh("exit 0"))
    end(run)
    backends = manager.tracker.backends
    backends._of = _Forgetful({run.run_id: backends.find("local")})
    assert set(backends.in_use([run.run_id, "20260101-000000-k3x9qd"])) <= {("local", ())}


@pytest.mark.parametrize("error", [KeyError("a mistake"), PermissionError(13, "no")])
def test_the_loop_outlives_what_nobody_thought_of(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A look that fails, be it the first, doesn't end the thread on which all ends rely."""
    real, left = manager.history.open_ids, [error]

    def failing() -> list[str]:
        if left and threading.current_thread().name == "qwex-loop":
            raise left.pop()
        return real()

    monkeypatch.setattr(manager.history, "open_ids", failing)
    told = threading.Event()
    manager.observe(lambda record: told.set() if record.status.final else None)
    until(lambda: not left)
    thread = manager._loop._thread
    end(manager.submit(sh("exit 0")))
    assert told.wait(PATIENCE), "nobody was told of the end"
    assert manager._loop._thread is thread


def test_a_wake_that_meets_a_leaving_thread_is_not_lost(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wakes the thread at the moment at which it leaves for want of work is heard."""
    manager = RunManager(home, patience=Patience(idle=-1.0))
    loop, asked, go_on, looked = manager._loop, *(threading.Event() for _ in range(3))
    ensure = loop.ensure

    def open_ids() -> list[str]:
        if asked.is_set():
            looked.set()
        asked.set()
        go_on.wait(PATIENCE)
        return []

    def ensured(run_id: str | None = None) -> None:
        ensure(run_id)
        thread = loop._thread
        assert thread is not None
        # It finds nothing, and has all the time it needs to leave.
        go_on.set()
        thread.join(0.3)

    monkeypatch.setattr(manager.history, "open_ids", open_ids)
    loop.wake()
    assert asked.wait(PATIENCE)
    monkeypatch.setattr(loop, "ensure", ensured)
    loop.wake()
    assert looked.wait(PATIENCE), "nobody looked"


class _View(View):
    """Remembers the last it was given."""

    told = True

    def __init__(self) -> None:
        self.last: RunRecord | None = None

    def tick(self, record: RunRecord, note: str, usual_time: float | None = None) -> None:
        """Kept."""
        self.last = record

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Kept."""
        self.last = record


def _shown(manager: RunManager, run: Run) -> RunStatus:
    view = _View()
    cell.foreground(manager, run, view, Presses(), check=False)
    assert view.last is not None
    return view.last.status


def _followed(manager: RunManager, run: Run) -> RunStatus:
    assert list(run.follow()) == []
    return manager.tracker.record(run.run_id).status


def _waited(manager: RunManager, run: Run) -> RunStatus:
    return end(run).status


def test_a_run_is_named_before_its_output(
    manager: RunManager, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain text begins with the run's name also when it has ended before anybody looks."""
    run = manager.submit(sh("echo out", name="soon"))
    end(run)
    cell.foreground(manager, run, Stream(limited=True), Presses())
    first, output, last = capsys.readouterr().out.splitlines()
    assert first.startswith("◐ running  soon  sh: echo out")
    assert output == "out"
    assert last.startswith("✓ succeeded  soon  sh: echo out")


@pytest.mark.parametrize("wait", [_shown, _followed, _waited])
def test_who_waits_for_an_end_asks_for_himself(home: str, wait: Callable[..., RunStatus]) -> None:
    """A cell, ``follow`` and ``wait`` see a killed run end though no thread looks any more."""
    manager = RunManager(home, patience=Patience(own_look=0.1))
    run = manager.submit(sh("sleep 300"))
    until(lambda: run.poll() is RunStatus.RUNNING)
    manager.close()
    os.unlink(os.path.join(manager.history.open_folder, run.run_id))
    said: list[Any] = []
    waiting = threading.Thread(target=lambda: said.append(wait(manager, run)), daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert said == []
    launch = launch_of(run)
    os.kill(launch["pid"], signal.SIGKILL)
    os.killpg(launch["leader"]["pid"], signal.SIGKILL)
    waiting.join(PATIENCE)
    assert said == [RunStatus.LOST]
    assert run.reason == Reason.VANISHED


def test_the_more_live_the_rarer_each_is_polled(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands cost what a thousand cost, and are still polled at the same moments."""
    monkeypatch.setattr(tracker, "_AT_EASE", 2)
    runs = [manager.submit(JobSpec(script="sleep 3600"), "memory") for _ in range(5)]
    until(lambda: all(run.status is RunStatus.RUNNING for run in runs))
    moments: dict[str, float] = {}
    every = 1e12  # the clock is at the beginning of the first such period, on any machine
    alone = tracker.Tracker(manager.history)  # without a loop that looks meanwhile
    alone.backends.runner("memory").polled_every = every
    monkeypatch.setattr(
        alone.schedule,
        "again",
        lambda run_id, seconds, again=alone.schedule.again: (
            again(run_id, seconds),
            moments.update({run_id: time.monotonic() + seconds}),
        ),
    )
    alone.look([run.run_id for run in runs])
    assert len(moments) == len(runs)
    assert list(moments.values()) == pytest.approx([3 * every] * len(runs), rel=0.001)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_interrupt_while_ends_are_looked_for_ends_the_table(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The stop button ends the waiting for several, whatever is done at that moment."""
    runs = [manager.submit(JobSpec(script="sleep 3600"), "memory") for _ in range(2)]
    asked = itertools.count(1)
    real = manager.tracker.ended

    def interrupted(run_id: str) -> bool:
        here = threading.current_thread() is threading.main_thread()
        if here and next(asked) == calls:
            raise KeyboardInterrupt
        return real(run_id)

    monkeypatch.setattr(manager.tracker, "ended", interrupted)
    shown: list[dict[str, Any]] = []
    publisher = SimpleNamespace(publish=lambda **said: shown.append(said))
    wait_table.wait(manager, runs, publisher, None)
    assert "No longer waited for" in shown[-1]["data"]["text/plain"]
    assert not any(run.status.final for run in runs)
