"""Stopping a run: cancel, timeout, memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import STOP
from qwex_jupyter.errors import UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.units import say_seconds
from qwex_jupyter.testing.contract.base import Contract, lives


class Stops(Contract):
    """A stop is asked for, has its grace, and its cause is recorded."""

    def test_cancelled_is_not_failed(self, manager: RunManager) -> None:
        """A run that was cancelled is CANCELLED / CancelledByUser."""
        run = self.running(manager, self.programs.prints_then_sleeps("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel()
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
        assert record.handle in record.message
        assert run.logs("stdout") == "up\n"

    def test_cancel_returns_at_once(self, manager: RunManager) -> None:
        """`cancel` doesn't wait for the end of the grace."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=10_000)
        assert not manager.tracker.ended(run.run_id)
        run.cancel()
        self.end(run)

    def test_the_second_cancel_ends_the_grace(self, manager: RunManager) -> None:
        """A program that ignores being asked goes at the second cancel."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=10_000)
        assert run.poll() is RunStatus.RUNNING
        run.cancel()
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)

    def test_the_grace_ends_by_itself(self, manager: RunManager) -> None:
        """A program that ignores being asked goes when the grace is over."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=0.3)
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)

    def test_cancel_twice_changes_nothing(self, manager: RunManager) -> None:
        """A run that was cancelled twice, and once more after its end, is simply CANCELLED."""
        run = self.running(manager, self.programs.sleeps(300))
        run.cancel()
        run.cancel()
        record = self.end(run)
        assert record.status is RunStatus.CANCELLED
        run.cancel()
        assert run.record == record

    def test_cancel_after_the_end_changes_nothing(self, manager: RunManager) -> None:
        """An end is never rewritten by a cancel that comes later."""
        run = self.submit(manager, self.programs.exits(3))
        record = self.end(run)
        run.cancel()
        manager.tracker.look([run.run_id])
        assert run.record == record
        assert not facts.exists(run.log.folder, STOP)

    def test_a_timeout_ends_the_run_and_says_so(self, manager: RunManager) -> None:
        """A run over its timeout is FAILED / TimedOut, and the message names a longer one."""
        spec = replace(self.programs.prints_then_sleeps("up", 300), timeout=self.brief)
        run = self.submit(manager, spec)
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT)
        longer = say_seconds(2 * self.brief)
        assert f"%qwex rerun {run.handle} --timeout {longer}" in record.message
        assert run.logs("stdout") == "up\n"

    def test_a_timeout_insists_after_the_grace(self, manager: RunManager) -> None:
        """A program that ignores the end of its time is killed when the grace is over."""
        spec = replace(self.programs.ignores_term("up", 300), timeout=self.brief, grace=0.3)
        record = self.end(self.submit(manager, spec))
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT)
        assert record.exit_code == 137

    def test_a_timeout_that_is_not_reached_changes_nothing(self, manager: RunManager) -> None:
        """A program that ends within its time keeps its exit code."""
        record = self.end(self.submit(manager, replace(self.programs.exits(5), timeout=3600)))
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 5)

    def test_a_memory_limit_is_held(self, manager: RunManager) -> None:
        """A run over its memory is FAILED / OutOfMemory and names a rerun with more."""
        limit = 128 * 1024 * 1024
        spec = self.programs.takes_memory(2 * limit)
        spec = replace(spec, resources=replace(spec.resources, memory=limit))
        if not manager.runner(self.runner).declaration.honours("memory"):
            with pytest.raises(UnsupportedOption):
                self.submit(manager, spec)
            return
        run = self.submit(manager, spec)
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.OUT_OF_MEMORY)
        assert record.exit_code == 137
        assert "of the 128 MiB allowed" in record.message
        assert f"%qwex rerun {run.handle} --memory 256MiB" in record.message

    def test_the_whole_tree_is_stopped(self, manager: RunManager) -> None:
        """Nothing of a cancelled run lives on, also not a child in a session of its own."""
        spec = self.programs.leaves_children(300)
        if spec is None:
            return
        run = self.running(manager, spec)
        self.until(lambda: "ready" in run.logs("stdout"))
        pids = [int(line.split()[1]) for line in run.logs("stdout").splitlines() if "pid" in line]
        assert pids and all(lives(pid) for pid in pids)
        run.cancel()
        assert self.end(run).status is RunStatus.CANCELLED
        self.until(lambda: not any(lives(pid) for pid in pids))
