"""Whatever meets whatever, a program is started once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, STOP
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.testing.contract.base import Contract


class Once(Contract):
    """However many submit a run, and whatever comes between, its program starts once at most."""

    def test_submitting_the_same_run_again_starts_nothing(
        self, manager: RunManager, home: str, tmp_path: Path
    ) -> None:
        """Two submits of one run id, by two runner objects, make one execution."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        runners = [manager.runner(self.runner), self.make_manager(home).runner(self.runner)]
        for runner in (*runners, runners[0]):
            runner.submit(plan, run.log.folder, runner.inherited(plan))
        assert self.end(run).status is RunStatus.SUCCEEDED
        runners[1].submit(plan, run.log.folder, runners[1].inherited(plan))
        manager.tracker.look([run.run_id])
        self.settled()
        assert self.executions(run, mark) == 1

    def test_many_submits_at_once_start_one(
        self, manager: RunManager, home: str, tmp_path: Path
    ) -> None:
        """Eight submits of one run id at the same moment make one execution."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        barrier = threading.Barrier(8)

        def submit() -> None:
            runner = self.make_manager(home).runner(self.runner)
            barrier.wait()
            runner.submit(plan, run.log.folder, runner.inherited(plan))

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.end(run).status is RunStatus.SUCCEEDED
        self.settled()
        assert self.executions(run, mark) == 1

    def test_a_closed_launch_is_never_started(self, manager: RunManager, tmp_path: Path) -> None:
        """Whoever comes to a launch that is closed starts nothing: the run is LOST."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        facts.link_once(run.log.folder, LAUNCH, {"closed": "a test", "at": time.time()})
        runner = manager.runner(self.runner)
        runner.submit(plan, run.log.folder, runner.inherited(plan))
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
        assert record.exit_code is None
        self.settled()
        assert self.executions(run, mark) == 0

    def test_a_stop_before_the_start_prevents_it(self, manager: RunManager, tmp_path: Path) -> None:
        """A run that is to stop before it was submitted is CANCELLED and never executed."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        stop = {"who": "you", "why": "cancel", "grace": 1.0, "at": time.time()}
        facts.link_once(run.log.folder, STOP, stop)
        runner = manager.runner(self.runner)
        runner.submit(plan, run.log.folder, runner.inherited(plan))
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
        assert record.exit_code is None
        self.settled()
        assert self.executions(run, mark) == 0

    def test_a_cancel_directly_after_submit_holds(self, manager: RunManager) -> None:
        """A cancel that meets the start ends the run, whichever of the two comes first."""
        for _ in range(5):
            run = self.submit(manager, self.programs.sleeps(300))
            run.cancel(grace=0)
            assert self.end(run).status is RunStatus.CANCELLED
