"""Names, and what other runner objects see and do."""

from __future__ import annotations

import time

import pytest

from qwex_jupyter.errors import RunNotFound, RunStillLive
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import is_run_id
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.testing.contract.base import Contract


class Others(Contract):
    """A run is a name: another runner object sees, follows, cancels and deletes it."""

    def test_a_run_id_is_legal_everywhere(self, manager: RunManager) -> None:
        """A run id sorts by time, and is a legal name of a folder, a container and a Job."""
        run = self.submit(manager, self.programs.exits(0))
        assert is_run_id(run.run_id)
        name = f"qwex-{run.run_id}"
        assert len(name) <= 63 and name == name.lower()
        assert all(char.isalnum() or char == "-" for char in name) and name.isascii()
        assert run.handle == run.run_id[-6:] and not run.handle[0].isdigit()
        assert new_run_id(time.time() + 1) > run.run_id > new_run_id(0)
        self.end(run)

    def test_a_second_runner_sees_the_run(self, manager: RunManager, home: str) -> None:
        """Another runner object finds a live run, with the same identity and start."""
        run = self.running(manager, self.programs.sleeps(300))
        second = self.make_manager(home)
        assert second.runner(self.runner) is not manager.runner(self.runner)
        assert second.runner(self.runner).identity() == manager.runner(self.runner).identity()
        other = second.get(run.handle)
        assert other.poll() is RunStatus.RUNNING
        assert other.record.started_at == pytest.approx(run.record.started_at, abs=1.5)
        assert [record.run_id for record in second.recover()] == [run.run_id]
        run.cancel(grace=0)
        record = self.end(run)
        assert self.end(other) == record
        assert second.recover() == []

    def test_a_second_runner_follows_and_cancels(self, manager: RunManager, home: str) -> None:
        """Another runner object can follow a run to the end that it asks for."""
        run = self.running(manager, self.programs.prints_then_sleeps("seen", 300))
        other = self.make_manager(home).get(run.run_id)
        got = b""
        for _, data in other.follow():
            got += data
            if got == b"seen\n":
                other.cancel()
        assert got == b"seen\n"
        assert self.end(run).status is RunStatus.CANCELLED
        assert self.end(other) == self.end(run)

    def test_delete_refuses_a_live_run(self, manager: RunManager) -> None:
        """A run that has not ended is not deleted."""
        run = self.running(manager, self.programs.sleeps(300))
        with pytest.raises(RunStillLive):
            run.delete()
        with pytest.raises(RunStillLive):
            manager.runner(self.runner).delete(run.run_id)
        assert run.poll() is RunStatus.RUNNING
        run.cancel(grace=0)
        self.end(run)

    def test_delete_twice_is_harmless(self, manager: RunManager) -> None:
        """After delete nothing knows the run, and deleting it again changes nothing."""
        run = self.submit(manager, self.programs.prints("x"))
        self.end(run)
        runner = manager.runner(self.runner)
        runner.delete(run.run_id)
        runner.delete(run.run_id)
        assert run.logs("stdout") == "x\n"
        run.delete()
        runner.delete(run.run_id)
        assert isinstance(runner.poll([run.run_id])[run.run_id], RunNotFound)
        for call in (run.delete, lambda: manager.get(run.run_id), lambda: run.record):
            with pytest.raises(RunNotFound):
                call()
