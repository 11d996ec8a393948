"""Tracker: reads the files, asks the backends, writes down what they say.

This is all there is to recovery: `look` is what the loop calls all the time, and what a
fresh kernel begins with.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from qwex_jupyter import facts, launches, logs
from qwex_jupyter.backends import Backend, Backends
from qwex_jupyter.due import Due
from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    QwexError,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
)
from qwex_jupyter.flag import Flag
from qwex_jupyter.followers import Followers
from qwex_jupyter.history import RunHistory
from qwex_jupyter.logs import RunLog
from qwex_jupyter.observations import Observations
from qwex_jupyter.patience import Patience
from qwex_jupyter.record import RunRecord
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, Why
from qwex_jupyter.unwritten import Unwritten

_TAIL_BYTES = 4096
# What reading a file that isn't ours, or not whole, may raise.
_DAMAGE = (FactUnreadable, ValueError, KeyError, TypeError, AttributeError)
# An observation is new enough to be answered with for so long. Seconds.
_FRESH = 0.1
# When to look again at what waits for its start, or for its output after its end; at what a
# backend didn't answer about; and how long a look waits for the output of an end. Seconds.
_SOON = 1.0
_RETRY = 2.0
_DRAIN = 0.25
# For so long after its output last found no room that is what is said of a run. Seconds.
_UNKEPT = 5.0
# Above so many live runs each is polled less often, so that all the polls together cost the same.
_AT_EASE = 1000


class Tracker:
    """Knows of every run what its files and its backend say.

    Args:
        home: The history folder; None for ``$QWEX_HOME`` or the platform's.
        settings: Constructor arguments of runners, by the runner's name.
        patience: How long it waits for what; that of a runner is one of its settings.
    """

    def __init__(
        self,
        home: str | None = None,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.history = RunHistory(home)
        self.backends = Backends(self.history, settings or {})
        self.observations = Observations(self.history)
        self._patience = patience
        self._due = Due()
        self._followers = Followers(self._drained, self._silent, self._full)
        self._gathered: dict[str, float] = {}
        self._unseen = Unwritten(self.history.home, "What becomes of it can't be written down")
        self._unkept = Unwritten(self.history.home, "Its output can't be kept")
        # Who waits for an end in this process is told at once.
        self._end_seen = Flag()

    def runner(self, name: str, options: Mapping[str, str] | None = None) -> Runner:
        """The runner of that name, and of the backend that a spec's options choose.

        Raises:
            SpecError: There is none of that name.
        """
        return self.backends.at(self.backends.find(name, options))

    def runner_of(self, run_id: str) -> Runner:
        """The runner of a run.

        Raises:
            RunNotFound: There is no such run.
            SpecError, RunnerUnavailable: This version has no such runner.
        """
        return self.backends.at(self.backends.of(run_id))

    def due(self, run_ids: Iterable[str]) -> tuple[set[str], float]:
        """Which of these are to be looked at now, and in how many seconds the next one is."""
        return self._due.among(run_ids, _RETRY)

    @contextmanager
    def following(self, run_id: str) -> Iterator[None]:
        """While the block lasts, the output of a run comes to disk as it is written."""
        try:
            follow = None if self.ended(run_id) else self._follow(run_id)
        except (QwexError, OSError):
            follow = None  # what is on disk is what can be shown
        if follow is None:
            yield
            return
        with self._followers.following(run_id, follow):
            yield

    def _follow(self, run_id: str) -> Callable[[threading.Event], bool] | None:
        """Brings a run's output to disk; None where the program writes it there itself."""
        runner = self.runner_of(run_id)
        if runner.writes_itself:
            return None
        return functools.partial(runner.follow, run_id, RunLog(self.history.folder(run_id)))

    def _gather(self, run_id: str) -> None:
        """Brings output to disk that nobody looks at, before its backend forgets it."""
        now, every = time.monotonic(), self._patience.gather_every
        if now - self._gathered.get(run_id, -every) < every:
            return
        follow = self._follow(run_id)
        if follow is not None:
            self._gathered[run_id] = now
            self._followers.gather(run_id, follow)

    def _drained(self, run_id: str) -> None:
        """Called by a follower that is done: what waited for it can be concluded."""
        self._due.again(run_id, 0.0)
        self.wake()

    def _silent(self, run_id: str, why: str) -> None:
        """Called by a follower whose backend doesn't answer."""
        try:
            if not self.ended(run_id):
                self._unreachable(run_id, Reason.BACKEND_UNREACHABLE, why)
                self._due.again(run_id, _RETRY)
        except (QwexError, OSError):
            pass  # deleted meanwhile

    def _full(self, run_id: str, error: OSError) -> None:
        """Called by a follower that finds no room for output."""
        why = self._unkept.note(run_id, error)
        try:
            if not self.ended(run_id):
                self.observations.note(replace(self.record(run_id), message=why))
        except (QwexError, OSError):
            pass  # deleted meanwhile

    def own_look(self, run_id: str) -> float:
        """After how many seconds who waits for a run asks for himself, should nobody else do so."""
        try:
            polled_every = self.runner_of(run_id).polled_every
        except (QwexError, OSError):
            polled_every = Runner.polled_every
        return self._patience.own_look * polled_every

    def wake(self) -> None:
        """Has what is due looked at now, where something looks by itself."""

    def fresh(self, run_id: str) -> RunRecord:
        """`record`, after asking the backend when nobody has for a moment."""
        seen = self.observations.last(run_id)
        if seen is None or time.time() - seen.observed_at > _FRESH:
            self.look([run_id])
        return self.record(run_id)

    def record(self, run_id: str) -> RunRecord:
        """What is known of a run: its final record, else the last observation of it."""
        return self.observations.record(run_id)

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
        """
        ids = self.history.open_ids() if run_ids is None else list(run_ids)
        by_backend: dict[Backend, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for run_id in ids:
            if self.ended(run_id):
                try:
                    self._settle(run_id)
                except RunNotFound:
                    pass  # deleted meanwhile
                continue
            self._due.again(run_id, _RETRY)
            self._unseen.forget(run_id)
            try:
                spec_fact = self.history.spec_fact(run_id)
                by_backend[self.backends.of(run_id, spec_fact)].append((run_id, spec_fact))
            except (RunNotFound, FactUnreadable):
                continue
            except (RunnerUnavailable, SpecError) as error:
                self._unreachable(run_id, Reason.BACKEND_UNREACHABLE, str(error))
            except _DAMAGE as error:
                if len(ids) == 1:
                    raise FactUnreadable(f"{run_id} is damaged: {error}.") from error
        for backend, found in by_backend.items():
            try:
                self._ask(backend, dict(found))
            except (*_DAMAGE, RunNotFound, OSError):
                # One of the folders is damaged, can't be written, or was deleted meanwhile; it
                # must not keep the others from being seen.
                for run_id, spec_fact in found:
                    try:
                        self._ask(backend, {run_id: spec_fact})
                    except RunNotFound:
                        continue
                    except OSError as error:
                        self._unwritten(run_id, error)
                    except _DAMAGE as error:
                        if len(ids) == 1:
                            raise FactUnreadable(f"{run_id} is damaged: {error}.") from error

    def _ask(self, backend: Backend, found: dict[str, dict[str, Any]]) -> None:
        try:
            runner = self.backends.at(backend)
            identity = runner.identity()
            mine = [i for i, spec_fact in found.items() if spec_fact["identity"] == identity]
            answers = runner.poll(mine) if mine else {}
        except (BackendUnreachable, RunnerUnavailable, SpecError) as error:
            for run_id in found:
                self._unreachable(run_id, Reason.BACKEND_UNREACHABLE, str(error))
            return
        for run_id, spec_fact in found.items():
            try:
                if run_id in answers:
                    self._take(runner, run_id, spec_fact, answers[run_id])
                else:
                    self._foreign(runner, run_id, spec_fact)
            except (BackendUnreachable, RunnerUnavailable) as error:
                # It answered a moment ago, and what is wanted of the run wasn't carried out.
                self._unreachable(run_id, Reason.BACKEND_UNREACHABLE, str(error))
                self._due.again(run_id, _RETRY)

    def _foreign(self, runner: Runner, run_id: str, spec_fact: dict[str, Any]) -> None:
        """A run of another backend: it is what it was, unless it never began."""
        if not facts.exists(self.history.folder(run_id), facts.LAUNCH) and self._undertake(
            runner, run_id, spec_fact
        ):
            return
        self._due.again(run_id, self._patience.seen_again)
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
            elif time.time() - float(launch.get("at", 0)) < launches.GOOD_FOR:
                return
            else:
                end = End(reason=Reason.VANISHED, detail=str(answer))
                answer = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        unstarted = answer.status is RunStatus.PENDING and (launch is None or "closed" in launch)
        if unstarted and self._undertake(runner, run_id, spec_fact):
            return
        if answer.end is not None:
            self._end(runner, run_id, spec_fact, answer)
            return
        if answer.status is RunStatus.PENDING:
            waits_for_us = not (unstarted or answer.accepted)
            if waits_for_us and launches.overdue(launch or {}) and self._unstarted(runner, run_id):
                return
            self._due.again(run_id, _SOON)
        else:
            self._followers.poke(run_id)
            if not runner.promises.keeps_output:
                self._gather(run_id)
            # All at the same moments, so that they share the polls.
            every = runner.polled_every * math.ceil(len(self._due) / _AT_EASE)
            self._due.again(run_id, every - time.monotonic() % every)
        self._wishes(runner, run_id, spec_fact, answer)
        if why := self._unkept.why(run_id, _UNKEPT):
            answer = replace(answer, message=why)
        self.observations.note(RunRecord.submitted(spec_fact).seen(answer))

    def _unstarted(self, runner: Runner, run_id: str) -> bool:
        """Takes away what was made and never started; whether the run is over with that."""
        try:
            runner.delete(run_id)
        except RunStillLive:
            return False  # it was started this moment
        self._never(run_id, {"closed": "who was to start it was killed, or not answered"})
        return True

    def _end(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot
    ) -> None:
        """The backend saw an end: output to disk, verdict, one final record."""
        assert answer.end is not None
        folder = self.history.folder(run_id)
        log = RunLog(folder)
        if not runner.writes_itself:
            follow = functools.partial(runner.follow, run_id, log)
            if not self._followers.drained(run_id, follow, _DRAIN):
                self._due.again(run_id, _SOON)
                why = self._unkept.why(run_id, _UNKEPT)
                said = why or "It has ended; its output is being read."
                reading = replace(answer, end=None, message=said)
                if answer.started_at and answer.status is RunStatus.RUNNING:
                    self.observations.note(RunRecord.submitted(spec_fact).seen(reading))
                return
            if why := logs.trouble(folder):
                missing = {**dict.fromkeys(logs.STREAMS, -1), **answer.log_missing}
                evidence = {**answer.evidence, "missing": why}
                answer = replace(answer, log_missing=missing, evidence=evidence)
        stop = facts.asked(folder)
        limit, ran = spec_fact["spec"].get("timeout"), answer.evidence.get("elapsed")
        if limit and ran and ran > limit and not runner.promises.holds_timeout:
            # Nobody watched when its time was over.
            answer = replace(answer, evidence={**answer.evidence, "overrun": ran - limit})
        try:
            tail = log.tail("stderr", _TAIL_BYTES)
            if not (tail or runner.promises.separate_streams):
                tail = log.tail("stdout", _TAIL_BYTES)
        except FactUnreadable:
            tail = b""  # it only helps to say why
        self._finish(run_id, spec_fact, answer, stop, tail.decode("utf-8", "replace"))

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
        # While the backend remembers the end, this may wait until it is freed.
        sync = self.runner_of(run_id).writes_itself
        facts.link_once(self.history.folder(run_id), facts.RUN, record.to_json(), sync=sync)
        self._settle(run_id, free=False)
        self._end_seen.wake()

    def _settle(self, run_id: str, *, free: bool = True) -> None:
        """Bookkeeping after an end, by whoever comes by: idempotent.

        Args:
            run_id: The run.
            free: Also frees what the backend holds, which may take its time.
        """
        folder = self.history.folder(run_id)
        if os.path.isdir(folder):
            if not facts.exists(folder, facts.RUN):
                # Damaged. It stays as it is, and on the list, should it be mended.
                self._due.again(run_id, self._patience.seen_again)
            else:
                facts.release(folder)
                if self._is_free(run_id, free=free):
                    self.history.mark_closed(run_id)
                    self._due.forget(run_id)
                    self.backends.forget(run_id)
            self.observations.note(self.history.record(run_id))
        self.observations.forget(run_id)
        self._gathered.pop(run_id, None)

    def _is_free(self, run_id: str, *, free: bool) -> bool:
        """Whether the backend holds nothing of a run that has ended, and that should be so."""
        if not self.history.is_open(run_id):
            return True
        try:
            spec_fact = self.history.spec_fact(run_id)
            runner = self.backends.at(self.backends.of(run_id, spec_fact))
            if runner.writes_itself:
                return True
            if free:
                # The backend may forget it only when a loss of power can't take it from here.
                facts.sync(self.history.folder(run_id), facts.RUN, "stdout.log", "stderr.log")
                if spec_fact["spec"].get("keep"):
                    return True
                if runner.identity() == spec_fact["identity"]:
                    runner.release(run_id)
                    return True
        except (QwexError, OSError):
            pass  # it is on the list of open runs, so the next kernel tries too
        except _DAMAGE:
            return True
        self._due.again(run_id, self._patience.seen_again if free else 0.0)
        self.wake()
        return False

    def _undertake(self, runner: Runner, run_id: str, spec_fact: dict[str, Any]) -> bool:
        """Closes a launch that can't come any more; whether the run is over with that."""
        folder = self.history.folder(run_id)
        stop = self._too_late(run_id, spec_fact)
        launch = facts.read_fact(folder, facts.LAUNCH) or {}
        if stop is not None:
            why = "it was stopped before"
        elif "closed" in launch:
            why = str(launch["closed"])
        else:
            why = launches.silence(folder, spec_fact, writes_itself=runner.writes_itself)
        return bool(why) and self.close_launch(run_id, why)

    def _too_late(self, run_id: str, spec_fact: dict[str, Any]) -> dict[str, Any] | None:
        """``stop.json`` of a run that hasn't started, which its start timeout may write now."""
        stop = facts.asked(self.history.folder(run_id))
        limit = spec_fact["spec"].get("start_timeout")
        if stop is None and limit:
            left = limit - (time.time() - spec_fact["created_at"])
            if left < 0:
                return self.write_stop(run_id, "start-timeout", Why.START_TIMEOUT, 0.0)
            self._due.sooner(run_id, left + 0.01)
        return stop

    def close_launch(self, run_id: str, why: str) -> bool:
        """Links ``launch.json`` as closed; whether nobody can start the run now."""
        folder = self.history.folder(run_id)
        winner = facts.link_once(folder, facts.LAUNCH, {"closed": why, "at": time.time()})
        if "closed" not in winner:
            return False
        self._never(run_id, winner)
        return True

    def _never(self, run_id: str, launch: Mapping[str, Any]) -> None:
        """Concludes a run that can't be started any more.

        Args:
            run_id: The run.
            launch: Says why (``closed``), and as which reason when that is known
                (``reason``, an image that doesn't exist).
        """
        now = time.time()
        reason = Reason(launch.get("reason") or Reason.NEVER_STARTED)
        stop = facts.asked(self.history.folder(run_id))
        if stop is not None:
            reason = Reason.NEVER_STARTED  # what was wanted goes before what would have been
        end = End(reason=reason, detail=str(launch["closed"]))
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=now, finished_at=now)
        self._finish(run_id, self.history.spec_fact(run_id), snapshot, stop)

    def _wishes(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot
    ) -> None:
        """Carries out what is wanted of a live run: every look repeats an unfulfilled stop."""
        folder = self.history.folder(run_id)
        spec = spec_fact["spec"]
        if answer.status is RunStatus.PENDING:
            stop = self._too_late(run_id, spec_fact)
            if stop is None and answer.hopeless is not None:
                end = answer.hopeless
                stop = self.write_stop(
                    run_id, "qwex", Why.HOPELESS, 0.0, reason=str(end.reason), detail=end.detail
                )
        else:
            stop = facts.asked(folder)
            limit = spec.get("timeout")
            held = stop is not None or runner.hold(run_id, limit)
            if not held and limit and answer.started_at:
                now = answer.observed_at or time.time()
                left = limit - answer.evidence.get("elapsed", now - answer.started_at)
                if left < 0:
                    stop = self.write_stop(run_id, "timeout", Why.TIMEOUT, spec["grace"])
                else:
                    self._due.sooner(run_id, left + 0.01)
        if stop is not None:
            self._due.sooner(run_id, max(0.1, stop["at"] + stop["grace"] - time.time()))
            insist = facts.exists(folder, facts.KILL)
            runner.cancel(run_id, float(stop["grace"]), str(stop["why"]), insist=insist)

    def _unwritten(self, run_id: str, error: OSError) -> None:
        """What was seen of a run finds no place: whoever looks at it is told; it is tried on."""
        try:
            if not self.ended(run_id):
                why = self._unseen.note(run_id, error)
                self.observations.note(replace(self.record(run_id), message=why))
        except RunNotFound:
            pass  # deleted meanwhile

    def _unreachable(self, run_id: str, reason: Reason, message: str) -> None:
        before = self.record(run_id)
        self.observations.note(replace(before, reason=str(reason), message=message))

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
        if self.ended(run_id):
            return
        now = Flag()
        now.set()
        try:
            follow = self._follow(run_id)
            if follow is not None:
                follow(now)
        except (QwexError, OSError):
            pass  # what is on disk is what can be shown; the next look tries again

    def write_stop(
        self, run_id: str, who: str, why: Why, grace: float, **more: str
    ) -> dict[str, Any]:
        """Links ``stop.json``; what it says, whoever was first."""
        value = {"who": who, "why": str(why), "grace": grace, "at": time.time(), **more}
        try:
            value["clock"] = self.runner_of(run_id).clock()
        except (BackendUnreachable, RunnerUnavailable):
            pass  # the own clock is the next best
        except FactUnreadable:
            pass  # a damaged run whose supervisor lives, and reads this
        try:
            return facts.link_once(self.history.folder(run_id), facts.STOP, value)
        except FactUnreadable:
            return value  # a damaged one stands there: this is carried out all the same

    def give_up(self, run_id: str) -> None:
        """Calls a run LOST because its user says that its machine is gone for good."""
        spec_fact = self.history.spec_fact(run_id)
        detail = f"{spec_fact['host']} was said to be gone for good"
        end = End(reason=Reason.VANISHED, detail=detail)
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        self._finish(run_id, spec_fact, snapshot, None)
