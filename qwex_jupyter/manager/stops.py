"""Stops: writes down that a run is to stop, when its time is over, and has that carried out."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import KILL
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.backends import Backends, mistakes_of
from qwex_jupyter.manager.schedule import Schedule
from qwex_jupyter.model.status import RunStatus, Snapshot, StopCause
from qwex_jupyter.runners.base import Runner


@dataclass(frozen=True)
class Stops:
    """What is to stop: by its user, by a timeout, or as it can never start.

    Attributes:
        history: The folders in which a stop is written down.
        backends: Who carries it out, and by whose clock it was asked for.
        schedule: When a limit is over, the run is looked at.
    """

    history: RunHistory
    backends: Backends
    schedule: Schedule

    def write(self, run_id: str, who: str, why: StopCause, grace: float, **more: str) -> Fact:
        """Links ``stop.json``; what it says, whoever was first."""
        clock = {}
        # Without it the own clock is the next best: nothing keeps a stop from being written down.
        # A damaged run has none whose supervisor lives, and reads this.
        with suppress(Exception):
            clock = {"clock": self.backends.runner_of(run_id).clock()}
        return self.history.folder(run_id).ask_stop(who, why, grace, **clock, **more)

    def before_start(self, run_id: str, spec_fact: Fact) -> Fact | None:
        """``stop.json`` of a run that hasn't started, which its start timeout may write now."""
        stop = self.history.folder(run_id).stop()
        limit = spec_fact["spec"].get("start_timeout")
        if stop is None and limit:
            left = limit - (time.time() - spec_fact["created_at"])
            if left < 0:
                return self.write(run_id, "start-timeout", StopCause.START_TIMEOUT, 0.0)
            self.schedule.sooner(run_id, left + 0.01)
        return stop

    def carry_out(self, runner: Runner, run_id: str, spec_fact: Fact, answer: Snapshot) -> None:
        """Stops a live run where that is wanted; every look repeats a stop that isn't fulfilled."""
        if answer.status is RunStatus.PENDING:
            stop = self.before_start(run_id, spec_fact)
            if stop is None and answer.never_starts is not None:
                end = answer.never_starts
                stop = self.write(
                    run_id,
                    "qwex",
                    StopCause.NEVER_STARTS,
                    0.0,
                    reason=str(end.reason),
                    detail=end.detail,
                )
        else:
            stop = self._of_running(runner, run_id, spec_fact["spec"], answer)
        if stop is not None:
            self.schedule.sooner(run_id, max(0.1, stop["at"] + stop["grace"] - time.time()))
            force = self.history.folder(run_id).has(KILL)
            with mistakes_of(runner.name):
                runner.cancel(run_id, float(stop["grace"]), str(stop["why"]), force=force)

    def _of_running(
        self, runner: Runner, run_id: str, spec: dict[str, Any], answer: Snapshot
    ) -> Fact | None:
        """``stop.json`` of a run that runs, which its timeout may write now."""
        stop = self.history.folder(run_id).stop()
        limit = spec.get("timeout")
        with mistakes_of(runner.name):
            held = stop is not None or runner.enforce_timeout(run_id, limit)
        if held or not limit or not answer.started_at:
            return stop
        left = limit - answer.evidence.get("elapsed", time.time() - answer.started_at)
        if left < 0:
            return self.write(run_id, "timeout", StopCause.TIMEOUT, spec["grace"])
        self.schedule.sooner(run_id, left + 0.01)
        return None
