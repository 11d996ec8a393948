"""Asking about a run, watching it, and being told of its end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.testing.contract.base import Contract, shown_files

# Threads of a manager that write into a run's folder; one that is closed waits for them a moment.
_WRITERS = ("qwex-loop", "qwex-gather", "qwex-follow")


def writers(before: set[threading.Thread]) -> list[threading.Thread]:
    """Those that have begun since and still live."""
    begun = set(threading.enumerate()) - before
    return [thread for thread in begun if thread.name.startswith(_WRITERS)]


class Asking(Contract):
    """A question changes nothing, and an end is told of without one."""

    def test_an_unknown_run_is_not_found(self, manager: RunManager) -> None:
        """A name that nothing has is RunNotFound, never a status."""
        run_id = new_run_id(time.time())
        answer = manager.runner(self.runner).poll([run_id])[run_id]
        assert isinstance(answer, RunNotFound)
        with pytest.raises(RunNotFound):
            manager.get(run_id)
        with pytest.raises(RunNotFound):
            manager.delete(run_id)

    def test_poll_is_a_question(self, manager: RunManager) -> None:
        """Asked twice, a backend answers the same and nothing has changed, live or ended."""
        runner = manager.runner(self.runner)
        # What is kept can be asked about after its end too; else it may have been released.
        kept = runner.declaration.honours("keep")
        others = set(threading.enumerate())
        spec = replace(self.programs.sleeps(300), keep=kept)
        run = self.running(manager, spec)
        for status in (RunStatus.RUNNING, RunStatus.CANCELLED):
            manager.close()  # its own loop may be writing down what it saw
            self.until(lambda: not writers(others))
            files = shown_files(run)
            answers = [runner.poll([run.run_id]) for _ in range(2)]
            assert shown_files(run) == files
            released = any(isinstance(answer[run.run_id], RunNotFound) for answer in answers)
            if not released or kept or status is RunStatus.RUNNING:
                first, second = (self.snapshot(answer, run) for answer in answers)
                assert first == second
            if status is RunStatus.RUNNING:
                assert first.status is status
                run.cancel(grace=0)
                self.end(run)
            assert run.status is RunStatus.CANCELLED

    def test_poll_of_nothing_is_nothing(self, manager: RunManager) -> None:
        """Asked about no run, a backend answers about none."""
        assert manager.runner(self.runner).poll([]) == {}

    def test_watch_tells_of_an_end(self, manager: RunManager) -> None:
        """`watch` says that a run changed, and leaves when it is told to."""
        told: list[str] = []
        stop = threading.Event()
        runner = self.make_manager(manager.history.home).runner(self.runner)
        if type(runner).watch is Runner.watch:
            return  # its backend tells nothing by itself: it is polled
        thread = threading.Thread(target=runner.watch, args=(told.append, stop), daemon=True)
        run = self.running(manager, self.programs.sleeps(300))
        thread.start()
        try:
            # What is there when it begins is told too.
            self.until(lambda: run.run_id in told)
            told.clear()
            run.cancel(grace=0)
            self.end(run)
            self.until(lambda: run.run_id in told)
        finally:
            stop.set()
            thread.join(self.patience)
        assert not thread.is_alive()

    def test_observers_hear_of_the_end(self, manager: RunManager) -> None:
        """An observer is told of the end without anybody asking."""
        heard: list[RunRecord] = []
        forget = manager.observe(heard.append)
        run = self.submit(manager, self.programs.exits(4))
        self.until(lambda: any(r.run_id == run.run_id and r.exit_code == 4 for r in heard))
        forget()
