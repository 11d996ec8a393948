"""Closing: how a run ends, whether it ran or can't be started any more.

One final record is linked, by whoever comes first; after it the backend's object is freed, and
the run leaves the list of open ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from qwex_jupyter.disk import facts, logs
from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import LAUNCHER, PULL, RUN, RunFolder
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import FactUnreadable, QwexError, RunnerUnavailable, SpecError
from qwex_jupyter.history import reading
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.backends import Backends, mistakes_of
from qwex_jupyter.manager.observations import Observations
from qwex_jupyter.manager.output import Output
from qwex_jupyter.manager.schedule import SOON, Schedule
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.runners import declared
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.system import process
from qwex_jupyter.system.flag import Flag

# How long a launch that was written down may still start the program, and how long a submitter may
# be silent before its run is closed. Seconds.
GOOD_FOR = 60.0
QUIET = 600.0
# A submitter that is gone may have handed the request over just before.
_LAST_BREATH = 5.0
# This many bytes of a run's output are read to say why it ended.
_TAIL_BYTES = 4096


def overdue(launch: Fact) -> bool:
    """Whether the process that linked ``launch.json`` may not start the program any more."""
    return time.time() - float(launch["at"]) > GOOD_FOR


def silence(folder: RunFolder, spec_fact: dict[str, Any], *, starts_at_once: bool) -> str:
    """Why nobody will start a run any more; "" while somebody may.

    Args:
        folder: The run's folder, without ``launch.json``.
        spec_fact: The content of its ``spec.json``.
        starts_at_once: See `Promises`: another process than the submitter starts it.
    """
    holder, who = spec_fact.get("submitter"), "the kernel that submitted it"
    age = time.time() - spec_fact["created_at"]
    pulled = folder.has(LAUNCHER)
    if pulled:
        holder = folder.glance(LAUNCHER)
        who = "the process that pulled its image"
    if not isinstance(holder, dict) or "pid" not in holder:
        holder = {"pid": 0}  # it can't be read who it is: by its silence alone
    standing = process.standing(holder)
    if age > _LAST_BREATH and standing == process.GONE:
        if process.rebooted(holder):
            return "this machine was restarted, and nothing is known of a start before that"
        return f"{who} was gone before it was started"
    mine = holder["pid"] == os.getpid() and standing == process.ALIVE
    if starts_at_once and mine and age > GOOD_FOR:
        return "the process that was to start it was killed"
    if pulled:
        if standing == process.ALIVE:
            return ""  # an image may take hours
        age = time.time() - facts.changed_at(folder, PULL)
    if age > QUIET:
        return f"nothing was heard of {who} on {spec_fact['host']} for 10 minutes"
    return ""


@dataclass(frozen=True)
class Closing:
    """Ends: what is concluded, by which final record, and what is freed after it.

    Attributes:
        history: The folders in which an end is written down.
        backends: Who frees what a backend holds of a run that has ended.
        observations: Who is told.
        schedule: A run whose end isn't complete is looked at again.
        output: All of a run's output is on disk before its end is concluded.
        patience: How long it waits for what.
        wake: Has what is due looked at now.
        end_seen: Set at each end: who waits for one in this process is told at once.
        secrets: The values of secrets of runs that this process has submitted, which must not
            stand in what is said of their ends.
    """

    history: RunHistory
    backends: Backends
    observations: Observations
    schedule: Schedule
    output: Output
    patience: Patience
    wake: Callable[[], None]
    end_seen: Flag = field(default_factory=Flag)
    secrets: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def close_launch(self, run_id: str, why: str) -> bool:
        """Links ``launch.json`` as closed; whether nobody can start the run now."""
        closed = self.history.folder(run_id).close_launch(why)
        if closed is None:
            return False
        self.unstarted(run_id, closed)
        return True

    def unstarted(self, run_id: str, launch: Mapping[str, Any]) -> None:
        """Concludes a run that can't be started any more.

        Args:
            run_id: The run.
            launch: Says why (``closed``), and as which reason when that is known
                (``reason``, an image that doesn't exist).
        """
        now = time.time()
        reason = Reason(launch.get("reason") or Reason.NEVER_STARTED)
        stop = self.history.folder(run_id).stop()
        if stop is not None:
            reason = Reason.NEVER_STARTED  # what was wanted goes before what would have been
        end = End(reason=reason, detail=str(launch["closed"]))
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=now, finished_at=now)
        self._conclude(run_id, self.history.spec_fact(run_id), snapshot, stop)

    def give_up(self, run_id: str) -> None:
        """Calls a run LOST because its user says that where it ran is gone for good."""
        spec_fact = self.history.spec_fact(run_id)
        detail = f"where it ran ({spec_fact['identity']}) was said to be gone for good"
        end = End(reason=Reason.VANISHED, detail=detail)
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=time.time())
        # Its runner may be one that isn't installed here any more, so nobody is asked.
        self.history.folder(run_id).conclude(spec_fact, snapshot, None)
        self._concluded(run_id)

    def ended(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot
    ) -> None:
        """Concludes a run whose end the backend saw: output to disk, verdict, one final record."""
        folder = self.history.folder(run_id)
        log = RunLog(folder)
        if not self.output.drained(run_id):
            self.schedule.again(run_id, SOON)
            message = self.output.no_room(run_id) or "It has ended; its output is being read."
            if answer.started_at and answer.status is RunStatus.RUNNING:
                reading = replace(answer, end=None, message=message)
                self.observations.note(RunRecord.submitted(spec_fact).seen(reading))
            return
        if not runner.promises.writes_output and (why := logs.trouble(folder)):
            missing = {**dict.fromkeys(logs.STREAMS, -1), **answer.log_missing}
            evidence = {**answer.evidence, "missing": why}
            answer = replace(answer, log_missing=missing, evidence=evidence)
        stop = folder.stop()
        limit, ran = spec_fact["spec"].get("timeout"), answer.evidence.get("elapsed")
        if limit and ran and ran > limit and not runner.promises.enforces_timeout:
            # Nobody was watching when its time was over.
            answer = replace(answer, evidence={**answer.evidence, "overrun": ran - limit})
        with mistakes_of(runner.name):
            answer = runner.hear(answer, _all_of(log), spec_fact["spec"].get("image") or "")
        self._conclude(run_id, spec_fact, answer, stop)

    def _conclude(
        self,
        run_id: str,
        spec_fact: dict[str, Any],
        answer: Snapshot,
        stop: dict[str, Any] | None,
    ) -> None:
        """Links the final record, unless somebody was first."""
        sync = True
        with suppress(RunnerUnavailable, SpecError):  # it may not be installed here any more
            # While the backend remembers the end, the sync may wait until the backend is freed.
            sync = declared(str(spec_fact["runner"])).promises.writes_outcome
        # A later kernel knows those that its own environment has.
        names = [name for name in spec_fact["spec"].get("secrets") or () if name in os.environ]
        secrets = [*self.secrets.get(run_id, ()), *(os.environ[name] for name in names)]
        folder = self.history.folder(run_id)
        folder.conclude(spec_fact, answer, stop, sync=sync, secrets=secrets)
        self._concluded(run_id)

    def _concluded(self, run_id: str) -> None:
        self.settle(run_id, free=False)
        self.end_seen.wake()

    def settle(self, run_id: str, *, free: bool = True) -> None:
        """Does the bookkeeping after an end. Idempotent, as any kernel may do it.

        Args:
            run_id: The run.
            free: Also frees what the backend holds, which may take its time.

        Raises:
            RunNotFound: It was deleted meanwhile.
        """
        folder = self.history.folder(run_id)
        if os.path.isdir(folder):
            if not folder.has(RUN):
                # The run is damaged. It stays as it is, and on the list, in case it is repaired.
                self.schedule.again(run_id, self.patience.seen_again)
            else:
                folder.release()
                if self._is_free(run_id, free=free):
                    self.history.mark_closed(run_id)
                    self.schedule.forget(run_id)
                    self.backends.forget(run_id)
            self.observations.note(self.history.record(run_id))
        self.secrets.pop(run_id, None)
        self.observations.forget(run_id)
        self.output.forget(run_id)

    def _is_free(self, run_id: str, *, free: bool) -> bool:
        """Whether the backend holds nothing of an ended run that it should not hold."""
        if not self.history.is_open(run_id):
            return True
        try:
            spec_fact = self.history.spec_fact(run_id)
            backend = self.backends.of(run_id, spec_fact)
            kept, identity = spec_fact["spec"].get("keep"), spec_fact["identity"]
        except (QwexError, OSError):
            pass  # it is on the list of open runs, so the next kernel tries too
        except reading.DAMAGE:
            return True  # its spec isn't ours, or not whole
        else:
            with suppress(Exception):  # as above; be it a mistake of the runner's
                runner = self.backends.at(backend)
                if runner.promises.writes_output and runner.promises.writes_outcome:
                    return True  # no backend has anything of it
                if free:
                    # The backend may forget it only when a loss of power can't take it from here.
                    self.history.folder(run_id).sync()
                    if kept:
                        return True
                    if runner.identity() == identity:
                        runner.release(run_id)
                        return True
        self.schedule.again(run_id, self.patience.seen_again if free else 0.0)
        self.wake()
        return False


def _all_of(log: RunLog) -> str:
    """All output of a run where that is little; "" where it is more, or can't be read."""
    try:
        if sum(log.size(stream) for stream in logs.STREAMS) > _TAIL_BYTES:
            return ""
        data = b"".join(log.tail(stream, _TAIL_BYTES) for stream in logs.STREAMS)
    except FactUnreadable:
        return ""
    return data.decode("utf-8", "replace")
