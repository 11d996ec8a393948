"""Tracker: reads the files, asks the backends, writes down what they say.

This is all there is to recovery: `look` is what the loop calls all the time, and what a
fresh kernel begins with.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.disk.folder import LAUNCH, RUN
from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    QwexError,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
    asked_again,
)
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.backends import Backend, Backends, mistakes_of
from qwex_jupyter.manager.closing import Closing
from qwex_jupyter.manager.observations import Observations
from qwex_jupyter.manager.output import Output
from qwex_jupyter.manager.schedule import RETRY, SOON, Schedule
from qwex_jupyter.manager.stops import Stops
from qwex_jupyter.manager.unwritten import Unwritten
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.runners.base import Runner

# What reading a file may raise that isn't ours, or isn't whole.
_DAMAGE = (FactUnreadable, ValueError, KeyError, TypeError, AttributeError)
# An observation younger than this many seconds is answered with.
_FRESH = 0.1
# Above this many live runs each is polled less often, so that the polls together cost the same.
_AT_EASE = 1000

SpecFacts = dict[str, dict[str, Any]]


class Tracker:
    """Knows of every run what its files and its backend say.

    Args:
        history: The files.
        setting: Gives a setting of a runner as it is now; None for what is declared.
        settings: Constructor arguments of runners, by the runner's name.
        patience: How long it waits for what; that of a runner is one of its settings.
        wake: Has what is due looked at now, where something looks by itself.

    Attributes:
        history: The files.
        backends: The runners that are asked.
        observations: What was last seen of live runs.
        schedule: When each run is looked at again.
        output: Brings output to disk.
        stops: Has runs stopped.
        closing: Concludes what has ended.
    """

    def __init__(
        self,
        history: RunHistory,
        *,
        setting: Callable[[str], Any] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        patience: Patience = Patience(),
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.history, self._patience = history, patience
        self.backends = backends = Backends(history, setting, settings or {})
        self.observations = seen = Observations(history)
        self.schedule = schedule = Schedule()
        self.output = output = Output(history, backends, seen, schedule, patience, wake)
        self.stops = Stops(history, backends, schedule)
        self.closing = Closing(history, backends, seen, schedule, output, patience, wake)
        self._unseen = Unwritten(history.home, "What becomes of it can't be written down")

    def due(self, run_ids: Iterable[str]) -> tuple[set[str], float]:
        """Which of these are to be looked at now, and in how many seconds the next one is."""
        return self.schedule.due(run_ids, RETRY)

    def own_look(self, run_id: str) -> float:
        """Seconds after which a waiter looks at a run itself, unless somebody else has."""
        try:
            polled_every = self.backends.runner_of(run_id).polled_every
        except (QwexError, OSError):
            polled_every = Runner.polled_every
        return self._patience.own_look * polled_every

    def fresh(self, run_id: str) -> RunRecord:
        """`record`, after asking the backend when nobody has for a moment."""
        seen = self.observations.last(run_id)
        if seen is None or time.time() - seen.observed_at > _FRESH:
            self.look([run_id])
        return self.record(run_id)

    def record(self, run_id: str) -> RunRecord:
        """What is known of a run: its final record, else the last observation of it."""
        return self.observations.record(run_id)

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        """The records of those runs that have a folder.

        A run is on the list of open ones before it has one: another kernel makes it right
        now, or was killed while it did.
        """
        records = []
        for run_id in run_ids:
            try:
                records.append(self.record(run_id))
            except RunNotFound:
                continue
        return records

    def ended(self, run_id: str) -> bool:
        """Whether a run has ended, or no end of it can be expected; see `RunHistory.ended`."""
        return self.history.ended(run_id)

    def stuck(self, run_id: str) -> str:
        """Why what was last seen of a run couldn't be written down; "" where it could.

        As long as that is so it has no end, so nobody waits for one.
        """
        return self._unseen.why(run_id, math.inf)

    def look(self, run_ids: Iterable[str] | None = None) -> None:
        """Asks the backends once and writes down what they say.

        Args:
            run_ids: Which runs; None for all that are open. Ended ones cost nothing.

        Raises:
            FactUnreadable: The one run that was asked for is damaged. Among several, a damaged
                one keeps nobody from being seen.
        """
        ids = self.history.open_ids() if run_ids is None else list(run_ids)
        for backend, spec_facts in self._by_backend(ids).items():
            try:
                self._ask(backend, spec_facts)
            except (*_DAMAGE, RunNotFound, OSError):
                # One of the folders is damaged, can't be written, or was deleted meanwhile; it
                # must not keep the others from being seen.
                self._ask_singly(backend, spec_facts, alone=len(ids) == 1)

    def _by_backend(self, ids: list[str]) -> dict[Backend, SpecFacts]:
        """The specs of those that live, by the backend to ask; what has ended is settled."""
        by_backend: dict[Backend, SpecFacts] = defaultdict(dict)
        for run_id in ids:
            if self.ended(run_id):
                try:
                    self.closing.settle(run_id)
                except RunNotFound:
                    pass  # deleted meanwhile
                continue
            self.schedule.again(run_id, RETRY)
            self._unseen.forget(run_id)
            try:
                spec_fact = self.history.spec_fact(run_id)
                by_backend[self.backends.of(run_id, spec_fact)][run_id] = spec_fact
            except (RunNotFound, FactUnreadable):
                continue
            except (RunnerUnavailable, SpecError) as error:
                self.observations.unreachable(run_id, str(error))
            except _DAMAGE as error:
                if len(ids) == 1:
                    raise FactUnreadable(f"{run_id} is damaged: {error}.") from error
        return by_backend

    def _ask_singly(self, backend: Backend, spec_facts: SpecFacts, *, alone: bool) -> None:
        for run_id, spec_fact in spec_facts.items():
            try:
                self._ask(backend, {run_id: spec_fact})
            except RunNotFound:
                continue
            except OSError as error:
                self._unwritten(run_id, error)
            except _DAMAGE as error:
                if alone:
                    raise FactUnreadable(f"{run_id} is damaged: {error}.") from error

    def _ask(self, backend: Backend, spec_facts: SpecFacts) -> None:
        try:
            with mistakes_of(backend[0]):
                runner = self.backends.at(backend)
                identity = runner.identity()
                mine = [i for i, fact in spec_facts.items() if fact["identity"] == identity]
                answers = runner.poll(mine) if mine else {}
        except (BackendUnreachable, RunnerUnavailable, SpecError) as error:
            for run_id in spec_facts:
                self.observations.unreachable(run_id, asked_again(error))
            return
        for run_id, spec_fact in spec_facts.items():
            try:
                if run_id in answers:
                    self._take(runner, run_id, spec_fact, answers[run_id])
                else:
                    self._foreign(runner, run_id, spec_fact)
            except (BackendUnreachable, RunnerUnavailable, SpecError) as error:
                # The backend answered a moment ago, but what was wanted of the run wasn't carried
                # out.
                self.observations.unreachable(run_id, asked_again(error))
                self.schedule.again(run_id, RETRY)

    def _foreign(self, runner: Runner, run_id: str, spec_fact: dict[str, Any]) -> None:
        """Handles a run of another backend: it stays what it was, unless it never began."""
        launched = self.history.folder(run_id).has(LAUNCH)
        if not launched and self._undertake(runner, run_id, spec_fact):
            return
        self.schedule.again(run_id, self._patience.seen_again)
        with mistakes_of(runner.name):
            reason, message = runner.foreign(spec_fact["identity"])
        self.observations.amend(run_id, message, reason)

    def _take(
        self,
        runner: Runner,
        run_id: str,
        spec_fact: dict[str, Any],
        answer: Snapshot | RunNotFound,
    ) -> None:
        """Writes down one answer of a backend."""
        folder = self.history.folder(run_id)
        # The answer may be older than an end that somebody else has written down since.
        if folder.has(RUN):
            self.closing.settle(run_id)
            return
        launch = folder.read(LAUNCH)
        if isinstance(answer, RunNotFound):
            if launch is None or "closed" in launch:
                answer = Snapshot(RunStatus.PENDING, Reason.STARTING, observed_at=time.time())
            elif time.time() - float(launch.get("at", 0)) < closing.GOOD_FOR:
                return
            else:
                end = End(reason=Reason.VANISHED, detail=str(answer))
                answer = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        unstarted = answer.status is RunStatus.PENDING and (launch is None or "closed" in launch)
        if unstarted and self._undertake(runner, run_id, spec_fact):
            return
        if answer.end is not None:
            self.closing.ended(runner, run_id, spec_fact, answer)
            return
        if answer.status is RunStatus.PENDING:
            waits_for_us = not (unstarted or answer.queued_by_backend)
            if waits_for_us and closing.overdue(launch or {}) and self._withdraw(runner, run_id):
                return
            self.schedule.again(run_id, SOON)
        else:
            self.output.poke(run_id)
            if not runner.promises.keeps_output:
                self.output.gather(run_id)
            # All runs are due at the same moments, so that they share the polls.
            every = runner.polled_every * math.ceil(len(self.schedule) / _AT_EASE)
            self.schedule.again(run_id, every - time.monotonic() % every)
        self.stops.carry_out(runner, run_id, spec_fact, answer)
        if why := self.output.no_room(run_id):
            answer = replace(answer, message=why)
        self.observations.note(RunRecord.submitted(spec_fact).seen(answer))

    def _undertake(self, runner: Runner, run_id: str, spec_fact: dict[str, Any]) -> bool:
        """Closes a launch that can't happen any more; returns whether that ended the run."""
        folder = self.history.folder(run_id)
        stop = self.stops.before_start(run_id, spec_fact)
        launch = folder.read(LAUNCH) or {}
        if stop is not None:
            why = "it was stopped before"
        elif "closed" in launch:
            why = str(launch["closed"])
        else:
            why = closing.silence(folder, spec_fact, starts_at_once=runner.promises.starts_at_once)
        return bool(why) and self.closing.close_launch(run_id, why)

    def _withdraw(self, runner: Runner, run_id: str) -> bool:
        """Removes what was made and never started; returns whether that ended the run."""
        try:
            with mistakes_of(runner.name):
                runner.delete(run_id)
        except RunStillLive:
            return False  # it was started this moment
        why = "who was to start it was killed, or not answered"
        self.closing.unstarted(run_id, {"closed": why})
        return True

    def _unwritten(self, run_id: str, error: OSError) -> None:
        """Says that what was seen of a run couldn't be written down; the next look tries again."""
        try:
            if not self.ended(run_id):
                self.observations.amend(run_id, self._unseen.note(run_id, error))
        except RunNotFound:
            pass  # deleted meanwhile
