"""How a run ends, and what is recorded of it."""

from __future__ import annotations

import pytest

from qwex_jupyter.errors import RunFailed
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.testing.contract.base import Contract


class Ends(Contract):
    """How a run ends, and what is recorded of it."""

    def test_a_clean_command_succeeds_with_zero(self, manager: RunManager) -> None:
        """A program that ends well is SUCCEEDED with exit code 0 and nothing to explain."""
        record = self.end(self.submit(manager, self.programs.exits(0)))
        assert (record.status, record.exit_code) == (RunStatus.SUCCEEDED, 0)
        assert (record.reason, record.message) == ("", "")

    @pytest.mark.parametrize("code", [1, 7, 77, 255])
    def test_an_exit_code_is_kept(self, manager: RunManager, code: int) -> None:
        """A program that ends badly is FAILED with its own exit code."""
        run = self.submit(manager, self.programs.exits(code))
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.FAILED, code)
        assert record.reason == Reason.NON_ZERO_EXIT
        assert str(code) in record.message
        with pytest.raises(RunFailed) as caught:
            run.wait(timeout=self.patience)
        assert (caught.value.exit_code, caught.value.reason) == (code, Reason.NON_ZERO_EXIT)

    @pytest.mark.parametrize("number", [9, 15])
    def test_a_signal_is_said_as_128_and_its_number(self, manager: RunManager, number: int) -> None:
        """A program ended by signal N is FAILED / Signalled with exit code 128+N."""
        record = self.end(self.submit(manager, self.programs.signals_itself(number)))
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 128 + number)
        assert record.reason == Reason.SIGNALLED
        assert record.message

    def test_no_exit_code_before_the_end(self, manager: RunManager) -> None:
        """While a run lives it has no exit code and no end."""
        run = self.running(manager, self.programs.sleeps(300))
        assert run.status is RunStatus.RUNNING
        assert run.exit_code is None
        assert run.record.finished_at is None
        run.cancel(grace=0)
        assert self.end(run).finished_at is not None

    def test_submit_returns_before_the_end(self, manager: RunManager) -> None:
        """`submit` doesn't wait for the program."""
        run = self.submit(manager, self.programs.sleeps(300))
        assert not run.record.status.final
        run.cancel(grace=0)
        self.end(run)

    def test_times_are_in_order(self, manager: RunManager) -> None:
        """A run is submitted, starts and ends in this order, and says how long it ran."""
        record = self.end(self.submit(manager, self.programs.sleeps(0.3)))
        assert record.started_at is not None and record.finished_at is not None
        # The backend's clock need not be this one's to the second.
        assert record.created_at - 2 <= record.started_at <= record.finished_at
        duration = record.duration()
        assert duration is not None
        # Some backends date to the second: what they say is true to that.
        assert duration >= 0.25 - manager.runner(self.runner).promises.time_resolution

    def test_wait_gives_up_without_ending_the_run(self, manager: RunManager) -> None:
        """`wait` with a timeout raises TimeoutError, and the run goes on."""
        run = self.running(manager, self.programs.sleeps(300))
        with pytest.raises(TimeoutError):
            run.wait(timeout=0.05)
        assert run.poll() is RunStatus.RUNNING
        run.cancel(grace=0)
        self.end(run)

    def test_a_missing_program_fails_and_says_so(self, manager: RunManager) -> None:
        """A program that isn't there is FAILED / CommandNotFound, has no exit code, names it."""
        record = self.end(self.submit(manager, self.programs.missing()))
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
        assert record.exit_code is None
        assert "no-such-program-anywhere" in record.message
