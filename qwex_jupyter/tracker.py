"""Tracker: reads the files, asks the backends, writes down what they say.

This is all there is to recovery: `look` is what the loop calls all the time, and what a
fresh kernel begins with.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter import facts, process
from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    RunnerUnavailable,
    RunNotFound,
    SpecError,
)
from qwex_jupyter.history import RunHistory
from qwex_jupyter.logs import RunLog
from qwex_jupyter.record import RunRecord
from qwex_jupyter.runners import runner_class
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, Why

Observer = Callable[[RunRecord], None]

# How long a launch that is written down may still act, and how long a submitter may be
# silent before its run is closed. Seconds.
LAUNCH_GOOD_FOR = 60.0
QUIET = 600.0
# A submitter that is gone may have handed the request over with its last breath.
_LAST_BREATH = 5.0
# A live run's observation is written anew so often when nothing changed.
_SEEN_AGAIN = 60.0
_TAIL_BYTES = 4096
# What reading a file that isn't ours, or not whole, may raise.
_DAMAGE = (FactUnreadable, ValueError, KeyError, TypeError, AttributeError)
# An observation is new enough to be answered with for so long. Seconds.
_FRESH = 0.1


class Tracker:
    """Knows of every run what its files and its backend say.

    Args:
        home: The history folder; None for ``$QWEX_HOME`` or the platform's.
        settings: Constructor arguments of runners, by the runner's name.
    """

    def __init__(
        self,
        home: str | None = None,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.history = RunHistory(home)
        self._settings = dict(settings or {})
        self._runners: dict[str, Runner] = {}
        self._observers: list[Observer] = []
        self._seen: dict[str, RunRecord] = {}
        self._written: dict[str, float] = {}
        self._told: set[str] = set()
        self._lock = threading.RLock()

    def runner(self, name: str) -> Runner:
        """The runner of that name, made at first use.

        Raises:
            SpecError: There is none of that name.
        """
        with self._lock:
            if name not in self._runners:
                made = runner_class(name)
                self._runners[name] = made(
                    self.history.home, self.history.id, **self._settings.get(name, {})
                )
            return self._runners[name]

    def fresh(self, run_id: str) -> RunRecord:
        """`record`, after asking the backend when nobody has for a moment."""
        seen = self._seen.get(run_id)
        if seen is None or time.time() - seen.observed_at > _FRESH:
            self.look([run_id])
        return self.record(run_id)

    def record(self, run_id: str) -> RunRecord:
        """What is known of a run: its final record, else the last observation of it."""
        record = self.history.record(run_id)
        seen = self._seen.get(run_id)
        if record.status.final or seen is None or seen.observed_at < record.observed_at:
            return record
        return seen

    def ended(self, run_id: str) -> bool:
        """Whether a run has ended: its final record exists."""
        folder = self.history.folder(run_id)
        return facts.exists(folder, facts.RUN) or not os.path.isdir(folder)

    def look(self, run_ids: Iterable[str] | None = None) -> None:
        """Asks the backends once and writes down what they say.

        Args:
            run_ids: Which runs; None for all that are open. Ended ones cost nothing.
        """
        ids = self.history.open_ids() if run_ids is None else list(run_ids)
        by_runner: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for run_id in ids:
            if self.ended(run_id):
                try:
                    self._settle(run_id)
                except RunNotFound:
                    pass  # deleted meanwhile
                continue
            try:
                spec_fact = self.history.spec_fact(run_id)
            except (RunNotFound, FactUnreadable):
                continue
            by_runner[str(spec_fact.get("runner"))].append((run_id, spec_fact))
        for name, found in by_runner.items():
            try:
                self._ask(name, dict(found))
            except (*_DAMAGE, RunNotFound, OSError):
                # One of the folders is damaged, can't be written, or was deleted meanwhile; it
                # must not keep the others from being seen.
                for run_id, spec_fact in found:
                    try:
                        self._ask(name, {run_id: spec_fact})
                    except RunNotFound:
                        continue
                    except OSError:
                        if len(ids) == 1 and os.path.isdir(self.history.folder(run_id)):
                            raise
                    except _DAMAGE as error:
                        if len(ids) == 1:
                            raise FactUnreadable(f"{run_id} is damaged: {error}.") from error

    def _ask(self, name: str, found: dict[str, dict[str, Any]]) -> None:
        try:
            runner = self.runner(name)
            identity = runner.identity()
            mine = [i for i, spec_fact in found.items() if spec_fact["identity"] == identity]
            answers = runner.poll(mine) if mine else {}
        except (BackendUnreachable, RunnerUnavailable, SpecError) as error:
            for run_id in found:
                self._unreachable(run_id, Reason.BACKEND_UNREACHABLE, str(error))
            return
        for run_id, spec_fact in found.items():
            if run_id in answers:
                self._take(runner, run_id, spec_fact, answers[run_id])
            else:
                self._foreign(runner, run_id, spec_fact)

    def _foreign(self, runner: Runner, run_id: str, spec_fact: dict[str, Any]) -> None:
        """A run of another backend: it is what it was, unless it never began."""
        if not facts.exists(self.history.folder(run_id), facts.LAUNCH) and self._undertake(
            run_id, spec_fact
        ):
            return
        self._unreachable(run_id, *runner.foreign(spec_fact["identity"]))

    def _take(
        self,
        runner: Runner,
        run_id: str,
        spec_fact: dict[str, Any],
        answer: Snapshot | RunNotFound,
    ) -> None:
        """Writes down one answer of a backend."""
        folder = self.history.folder(run_id)
        # The answer may be older than the end that somebody else has written down since.
        if facts.exists(folder, facts.RUN):
            self._settle(run_id)
            return
        launch = facts.read_fact(folder, facts.LAUNCH)
        if isinstance(answer, RunNotFound):
            if launch is None or "closed" in launch:
                answer = Snapshot(RunStatus.PENDING, Reason.STARTING, observed_at=time.time())
            elif time.time() - float(launch.get("at", 0)) < LAUNCH_GOOD_FOR:
                return
            else:
                end = End(reason=Reason.VANISHED, detail=str(answer))
                answer = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        unstarted = answer.status is RunStatus.PENDING and (launch is None or "closed" in launch)
        if unstarted and self._undertake(run_id, spec_fact):
            return
        if answer.end is not None:
            self._end(runner, run_id, spec_fact, answer)
            return
        self._wishes(runner, run_id, spec_fact, answer)
        self._bring(runner, run_id)
        self._note(RunRecord.submitted(spec_fact).seen(answer))

    def _end(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot
    ) -> None:
        """The backend saw an end: output to disk, verdict, one final record."""
        assert answer.end is not None
        folder = self.history.folder(run_id)
        log = RunLog(folder)
        runner.follow(run_id, log, threading.Event())
        stop = facts.read_fact(folder, facts.STOP)
        limit, ran = spec_fact["spec"].get("timeout"), answer.evidence.get("elapsed")
        if limit and ran and ran > limit and not runner.promises.holds_timeout:
            # Nobody watched when its time was over.
            answer = replace(answer, evidence={**answer.evidence, "overrun": ran - limit})
        tail = log.tail("stderr", _TAIL_BYTES).decode("utf-8", "replace")
        self._finish(run_id, spec_fact, answer, stop, tail)

    def _finish(
        self,
        run_id: str,
        spec_fact: dict[str, Any],
        answer: Snapshot,
        stop: dict[str, Any] | None,
        tail: str = "",
    ) -> None:
        """Links the final record, unless somebody was first."""
        record = RunRecord.submitted(spec_fact).concluded(answer, stop, spec_fact["spec"], tail)
        facts.link_once(self.history.folder(run_id), facts.RUN, record.to_json())
        self._settle(run_id)

    def _settle(self, run_id: str) -> None:
        """Bookkeeping after an end, by whoever comes by: idempotent."""
        folder = self.history.folder(run_id)
        if os.path.isdir(folder):
            facts.release(folder)
            self.history.mark_closed(run_id)
            self._note(self.history.record(run_id))
        self._seen.pop(run_id, None)
        self._written.pop(run_id, None)

    def _undertake(self, run_id: str, spec_fact: dict[str, Any]) -> bool:
        """Closes a launch that can't come any more; whether the run is over with that."""
        submitter = spec_fact["submitter"]
        age = time.time() - spec_fact["created_at"]
        folder = self.history.folder(run_id)
        stop = facts.read_fact(folder, facts.STOP)
        limit = spec_fact["spec"].get("start_timeout")
        if stop is None and limit and age > limit:
            stop = self.write_stop(run_id, "start-timeout", Why.START_TIMEOUT, 0.0)
        if stop is not None:
            why = "it was stopped before"
        elif age > _LAST_BREATH and process.standing(submitter) == process.GONE:
            why = "the kernel that submitted it was gone before it was started"
            if process.rebooted(submitter):
                why = "this machine was restarted, and nothing is known of a start before that"
        elif (
            age > LAUNCH_GOOD_FOR
            and submitter["pid"] == os.getpid()
            and (process.standing(submitter) == process.ALIVE)
        ):
            why = "the process that was to start it was killed"
        elif age > QUIET:
            why = f"nothing was heard of its submitter on {spec_fact['host']} for 10 minutes"
        else:
            launch = facts.read_fact(folder, facts.LAUNCH)
            if launch is None or "closed" not in launch:
                return False
            why = str(launch["closed"])
        return self.close_launch(run_id, why)

    def close_launch(self, run_id: str, why: str) -> bool:
        """Links ``launch.json`` as closed; whether nobody can start the run now."""
        folder = self.history.folder(run_id)
        winner = facts.link_once(folder, facts.LAUNCH, {"closed": why, "at": time.time()})
        if "closed" not in winner:
            return False
        now = time.time()
        end = End(reason=Reason.NEVER_STARTED, detail=str(winner["closed"]))
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=now, finished_at=now)
        stop = facts.read_fact(folder, facts.STOP)
        self._finish(run_id, self.history.spec_fact(run_id), snapshot, stop)
        return True

    def _wishes(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot
    ) -> None:
        """Carries out what is wanted of a live run: every look repeats an unfulfilled stop."""
        folder = self.history.folder(run_id)
        spec = spec_fact["spec"]
        stop = facts.read_fact(folder, facts.STOP)
        if stop is None and not runner.promises.holds_timeout:
            limit = spec.get("timeout")
            if limit and answer.started_at and time.time() - answer.started_at > limit:
                stop = self.write_stop(run_id, "timeout", Why.TIMEOUT, spec["grace"])
        if stop is not None:
            insist = facts.exists(folder, facts.KILL)
            runner.cancel(run_id, float(stop["grace"]), str(stop["why"]), insist=insist)

    def _unreachable(self, run_id: str, reason: Reason, message: str) -> None:
        before = self.record(run_id)
        self._note(replace(before, reason=str(reason), message=message))

    def _note(self, record: RunRecord) -> None:
        """Keeps an observation and tells observers when something changed; an end once."""
        with self._lock:
            last = self._seen.get(record.run_id)
            same = last is not None and replace(last, observed_at=record.observed_at) == record
            if record.status.final:
                same = record.run_id in self._told
                self._told.add(record.run_id)
            else:
                self._seen[record.run_id] = record
        if not record.status.final and (
            not same or record.observed_at - self._written.get(record.run_id, 0.0) > _SEEN_AGAIN
        ):
            self._written[record.run_id] = record.observed_at
            try:
                self.history.observe(record)
            except OSError:
                pass  # an observation may be missing; the next one is as good
        if not same:
            for observer in list(self._observers):
                try:
                    observer(record)
                except Exception:
                    # One that fails must not keep the others, or the loop, from going on.
                    logging.getLogger("qwex_jupyter").exception("an observer failed")

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

    def fetch_logs(self, run_id: str) -> None:
        """Brings what the backend holds of a live run's output to disk."""
        if not self.ended(run_id):
            self._bring(self.runner(self.record(run_id).runner), run_id)

    def _bring(self, runner: Runner, run_id: str) -> None:
        """Has the runner write what its backend holds now, where the program doesn't itself."""
        now = threading.Event()
        now.set()
        try:
            runner.follow(run_id, RunLog(self.history.folder(run_id)), now)
        except (BackendUnreachable, RunnerUnavailable, OSError):
            pass  # what is on disk is what can be shown; the next look tries again

    def write_stop(self, run_id: str, who: str, why: Why, grace: float) -> dict[str, Any]:
        """Links ``stop.json``; what it says, whoever was first."""
        value = {"who": who, "why": str(why), "grace": grace, "at": time.time()}
        return facts.link_once(self.history.folder(run_id), facts.STOP, value)

    def give_up(self, run_id: str) -> None:
        """Calls a run LOST because its user says that its machine is gone for good."""
        spec_fact = self.history.spec_fact(run_id)
        detail = f"{spec_fact['host']} was said to be gone for good"
        end = End(reason=Reason.VANISHED, detail=detail)
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        self._finish(run_id, spec_fact, snapshot, None)
