"""RunManager: the only room where runners, history and observers meet.

Taking a run up after a restart is not a feature beside tracking, it is tracking: read the
files, ask the backend, write down what it says (`look`). Everything else here is a loop
around that, or a wish of the user's written down.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter import context, facts, process
from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    QwexError,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
    SubmitFailed,
)
from qwex_jupyter.history import RunHistory, new_run_id
from qwex_jupyter.logs import RunLog
from qwex_jupyter.record import RunRecord
from qwex_jupyter.run import Run
from qwex_jupyter.runners import runner_class
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, Why, conclude

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


class RunManager:
    """Submits runs, takes up those of others, and tells observers what happens.

    Args:
        home: The history folder; None for ``$QWEX_HOME`` or the platform's.
        default: The runner of a spec without an image.
        settings: Constructor arguments of runners, by the runner's name.
    """

    def __init__(
        self,
        home: str | None = None,
        *,
        default: str = "local",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.history = RunHistory(home)
        self.default = default
        self._settings = dict(settings or {})
        self._runners: dict[str, Runner] = {}
        self._observers: list[Observer] = []
        self._seen: dict[str, RunRecord] = {}
        self._written: dict[str, float] = {}
        self._lock = threading.RLock()
        self._loop = _Loop(self)

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

    def choose(self, spec: JobSpec, runner: str | None = None) -> str:
        """The name of the runner for a spec: as asked, else by image, else the default."""
        if runner:
            return runner
        return "docker" if spec.image and self.default == "local" else self.default

    def submit(self, spec: JobSpec, runner: str | None = None) -> Run:
        """Hands a run over and returns; it goes on without this process.

        An interrupt that comes meanwhile waits until it is known whether the run was
        started, cancels it, and is raised then.

        Raises:
            SpecError, UnsupportedOption: The spec can't be run there.
            RunnerUnavailable, SubmitFailed: Nothing was started.
        """
        return _unbroken(lambda: self._submit(spec, runner), undo=lambda run: run.cancel())

    def _submit(self, spec: JobSpec, runner_name: str | None) -> Run:
        chosen = self.choose(spec, runner_name)
        runner = self.runner(chosen)
        now = time.time()
        run_id = new_run_id(now)
        runner.check()
        runner.plan(spec, run_id)
        secrets = _values(spec)
        spec_fact = {
            "version": 1,
            "run_id": run_id,
            "runner": chosen,
            "identity": runner.identity(),
            "created_at": now,
            "command": command_text(spec),
            "spec": spec.to_json(),
            **context.here(),
        }
        sync = runner.promises.outlives_machine
        folder = self.history.create(spec, spec_fact, sync=sync)
        try:
            runner.submit(spec, run_id, folder, secrets)
        except QwexError as error:
            self._withdraw(run_id, str(error))
        self._loop.ensure(run_id)
        if not runner.writes_itself:
            self._loop.wake()
        return Run(self, run_id)

    def _withdraw(self, run_id: str, why: str) -> None:
        """After a submit that failed: nothing is left, unless it was started all the same.

        Raises:
            SubmitFailed: It was not started, and never will be.
        """
        if self._close_launch(run_id, why):
            self.history.delete(run_id)
            raise SubmitFailed(why)

    def get(self, ref: str) -> Run:
        """The run that a person means; see `RunHistory.resolve`."""
        return Run(self, self.history.resolve(ref))

    def newest(self, *, live: bool | None = None) -> Run:
        """This notebook's newest run, unfinished ones first; without a notebook, of all.

        Args:
            live: Only runs that live (True) or that ended (False).

        Raises:
            RunNotFound: There is none.
        """
        book, session = context.notebook(), context.session()
        mine = {"notebook": book} if book else {"session": session}
        found = self.history.newest(live=live, **mine)
        if found is None and not book and not context.is_kernel():
            found = self.history.newest(live=live)
        if found is None:
            raise RunNotFound("There is no run of this notebook yet. %qwex runs lists all.")
        return Run(self, found)

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
                self._settle(run_id)
                continue
            try:
                spec_fact = self.history.spec_fact(run_id)
            except (RunNotFound, FactUnreadable):
                continue
            by_runner[str(spec_fact.get("runner"))].append((run_id, spec_fact))
        for name, found in by_runner.items():
            try:
                self._ask(name, dict(found))
            except _DAMAGE:
                # One of the folders is damaged; it must not keep the others from being seen.
                for run_id, spec_fact in found:
                    try:
                        self._ask(name, {run_id: spec_fact})
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
                self._unreachable(run_id, *runner.foreign(spec_fact["identity"]))
                self._wishes(runner, run_id, spec_fact, None)

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
        unstarted = answer.end is None and (launch is None or "closed" in launch)
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
        spec = spec_fact["spec"]
        before = RunRecord.submitted(spec_fact)
        about = {
            "handle": before.handle,
            "command": before.command,
            "timeout": spec.get("timeout"),
            "start_timeout": spec.get("start_timeout"),
            "memory": (spec.get("resources") or {}).get("memory"),
            "peak_memory": answer.evidence.get("peak_memory"),
            "tail": log.tail("stderr", _TAIL_BYTES).decode("utf-8", "replace"),
        }
        verdict = conclude(answer.end, stop, about)
        facts.link_once(folder, facts.RUN, before.ended(verdict, answer).to_json())
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
            stop = self._write_stop(run_id, "start-timeout", Why.START_TIMEOUT, 0.0)
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
        return self._close_launch(run_id, why)

    def _close_launch(self, run_id: str, why: str) -> bool:
        """Links ``launch.json`` as closed; whether nobody can start the run now."""
        folder = self.history.folder(run_id)
        winner = facts.link_once(folder, facts.LAUNCH, {"closed": why, "at": time.time()})
        if "closed" not in winner:
            return False
        now = time.time()
        end = End(reason=Reason.NEVER_STARTED, detail=str(winner["closed"]))
        spec_fact = self.history.spec_fact(run_id)
        before = RunRecord.submitted(spec_fact)
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=now, finished_at=now)
        about = {"handle": before.handle, "start_timeout": spec_fact["spec"].get("start_timeout")}
        verdict = conclude(end, facts.read_fact(folder, facts.STOP), about)
        facts.link_once(folder, facts.RUN, before.ended(verdict, snapshot).to_json())
        self._settle(run_id)
        return True

    def _wishes(
        self, runner: Runner, run_id: str, spec_fact: dict[str, Any], answer: Snapshot | None
    ) -> None:
        """Carries out what is wanted of a live run: every look repeats an unfulfilled stop."""
        folder = self.history.folder(run_id)
        spec = spec_fact["spec"]
        stop = facts.read_fact(folder, facts.STOP)
        if stop is None and answer is not None and not runner.promises.holds_timeout:
            limit = spec.get("timeout")
            if limit and answer.started_at and time.time() - answer.started_at > limit:
                stop = self._write_stop(run_id, "timeout", Why.TIMEOUT, spec["grace"])
        if stop is not None and answer is not None:
            insist = facts.exists(folder, facts.KILL)
            runner.cancel(run_id, float(stop["grace"]), str(stop["why"]), insist=insist)

    def _unreachable(self, run_id: str, reason: Reason, message: str) -> None:
        before = self.record(run_id)
        self._note(replace(before, reason=str(reason), message=message))

    def _note(self, record: RunRecord) -> None:
        """Keeps an observation and tells observers when something changed."""
        with self._lock:
            last = self._seen.get(record.run_id)
            same = last is not None and replace(last, observed_at=record.observed_at) == record
            if not record.status.final:
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
                observer(record)

    def wait(self, run_id: str, timeout: float | None = None) -> RunRecord:
        """Blocks until a run has ended; its final record.

        Raises:
            TimeoutError: It had not ended after ``timeout`` seconds; it goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        begun = looked = time.monotonic()
        while not self.ended(run_id):
            now = time.monotonic()
            if until is not None and now >= until:
                raise TimeoutError(
                    f"{self.record(run_id).title} had not ended after {timeout:g} s; it goes on."
                )
            if now - looked > 0.5:
                self.look([run_id])
                looked = time.monotonic()
                continue
            # A twentieth of what it took so far: short runs are noticed at once, long ones
            # cost nothing.
            pause = min(max(0.0003, (now - begun) / 20), 0.05)
            time.sleep(pause if until is None else min(pause, until - now))
        return self.record(run_id)

    def cancel(self, run_id: str, *, grace: float | None = None, who: str = "you") -> None:
        """Writes down that a run is to stop, and has it carried out; see `Run.cancel`."""
        if self.ended(run_id):
            return
        spec_fact = self.history.spec_fact(run_id)
        seconds = spec_fact["spec"]["grace"] if grace is None else grace
        folder = self.history.folder(run_id)
        if facts.exists(folder, facts.STOP):
            facts.link_once(folder, facts.KILL, {"who": who, "at": time.time()})
        else:
            self._write_stop(run_id, who, Why.CANCEL, seconds)
        if not self._close_launch(run_id, "it was stopped before"):
            self.look([run_id])
            self._loop.wake()

    def _write_stop(self, run_id: str, who: str, why: Why, grace: float) -> dict[str, Any]:
        value = {"who": who, "why": str(why), "grace": grace, "at": time.time()}
        return facts.link_once(self.history.folder(run_id), facts.STOP, value)

    def rerun(self, run_id: str, *, runner: str | None = None, **overrides: Any) -> Run:
        """Submits the spec of a run anew; see `again`."""
        chosen, spec = self.again(run_id, runner=runner, **overrides)
        return self.submit(spec, chosen)

    def again(
        self, run_id: str, *, runner: str | None = None, **overrides: Any
    ) -> tuple[str, JobSpec]:
        """The runner and spec for running something once more.

        Args:
            run_id: The run.
            runner: Another runner; None for the same, unless an image is given now.
            overrides: Other values for fields of the spec; a mapping for ``resources``
                changes only the limits it names.

        Raises:
            SpecError: A value is wrong.
        """
        spec_fact = self.history.spec_fact(run_id)
        spec = JobSpec.from_json(spec_fact["spec"])
        if "resources" in overrides and isinstance(overrides["resources"], Mapping):
            overrides["resources"] = replace(spec.resources, **overrides["resources"])
        changed = replace(spec, **overrides)
        if spec.files and "files" not in overrides:
            # The copies that were taken at submit, not what those files have become.
            work = os.path.join(self.history.folder(run_id), "work")
            changed = replace(changed, files=tuple(_kept(work, spec.files, spec_fact["cwd"])))
        elif not changed.image and changed.workdir is None and os.path.isdir(spec_fact["cwd"]):
            changed = replace(changed, workdir=spec_fact["cwd"])
        if runner is None:
            runner = self.choose(changed) if "image" in overrides else spec_fact["runner"]
        return runner, changed

    def delete(self, run_id: str, *, gone: bool = False) -> None:
        """Frees the backend's object and takes the folder away.

        Args:
            run_id: The run.
            gone: The user says that the machine it ran on is gone for good: a run that
                can't be asked about is called LOST first.

        Raises:
            RunStillLive: The run has not ended.
        """
        record = self.history.record(run_id)
        if gone and self.record(run_id).reason == Reason.HOST_UNREACHABLE:
            self._give_up(run_id)
            record = self.history.record(run_id)
        if record.reason != Reason.UNREADABLE:
            if not record.status.final:
                self.look([run_id])
                record = self.history.record(run_id)
            if not record.status.final:
                raise RunStillLive(
                    f"{record.title} has not ended, so it is not deleted: "
                    f"first %qwex cancel {record.handle}"
                )
            runner = self.runner(record.runner)
            if record.identity in ("", runner.identity()):
                runner.delete(run_id)
        self.history.delete(run_id)

    def _give_up(self, run_id: str) -> None:
        before = self.record(run_id)
        end = End(reason=Reason.VANISHED, detail=f"{before.host} was said to be gone for good")
        now = time.time()
        snapshot = Snapshot(RunStatus.LOST, end=end, observed_at=now)
        verdict = conclude(end, None, {"handle": before.handle})
        folder = self.history.folder(run_id)
        facts.link_once(folder, facts.RUN, before.ended(verdict, snapshot).to_json())
        self._settle(run_id)

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

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Calls ``observer`` with each new record, from another thread; returns how to stop it."""
        self._observers.append(observer)
        self._loop.wake()

        def forget() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return forget

    def take_up(self, within: float = 2.0) -> list[RunRecord]:
        """Asks once about everything that is open; what lives after that, newest first.

        Args:
            within: Seconds after which a backend that doesn't answer is not waited for; it
                is asked on, and the records say when they were observed.
        """

        def ask() -> None:
            try:
                self.history.sweep()
                self.look()
            except (QwexError, OSError):
                pass  # the records say when they were observed; the loop asks again

        thread = threading.Thread(target=ask, name="qwex-take-up", daemon=True)
        thread.start()
        thread.join(within)
        records = self.records(self.history.open_ids())
        if records:
            self._loop.wake()
        return [record for record in reversed(records) if not record.status.final]

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

    def close(self) -> None:
        """Stops watching. The runs go on."""
        self._loop.stop()


class _Loop:
    """One thread that looks after everything open, while anything is.

    A runner's watch says "look again"; a slow poll stands behind it.
    """

    _SLOW = 2.0

    def __init__(self, manager: RunManager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._watches: dict[str, threading.Thread] = {}
        self._changed: set[str] = set()
        self._owner = os.getpid()

    def wake(self) -> None:
        """Has the thread look at once."""
        self.ensure()
        self._wake.set()

    def ensure(self, run_id: str | None = None) -> None:
        """Makes sure that the thread runs; a fork of this process has one of its own.

        Args:
            run_id: A run to look at next time, which may have left the open ones by then.
        """
        if run_id is not None:
            self._changed.add(run_id)
        with self._lock:
            if self._owner != os.getpid():
                self._owner, self._thread, self._watches = os.getpid(), None, {}
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="qwex-loop", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _notify(self, run_id: str) -> None:
        self._changed.add(run_id)
        self._wake.set()

    def _run(self, stop: threading.Event) -> None:
        slow = 0.0
        before: set[str] = set()
        idle_since = time.monotonic()
        while not stop.is_set():
            self._wake.wait(self._SLOW)
            self._wake.clear()
            now = time.monotonic()
            try:
                open_ids = self._manager.history.open_ids()
                self._start_watches(open_ids, stop)
                changed, self._changed = self._changed, set()
                # A supervisor takes its run off the list itself: its end is news all the same.
                changed.update(before.difference(open_ids))
                before = set(open_ids)
                if now - slow >= self._SLOW:
                    changed.update(open_ids)
                    slow = now
                if changed:
                    self._manager.look(changed)
            except (QwexError, OSError):
                stop.wait(1.0)  # a bad moment of the disk; every look starts from the files
            if open_ids:
                idle_since = now
            elif now - idle_since > 10 * self._SLOW:
                stop.set()  # and with it the watches; the next submit starts anew

    def _start_watches(self, open_ids: list[str], stop: threading.Event) -> None:
        names = {record.runner for record in self._manager.records(open_ids[-50:])}
        for name in names - {""}:
            thread = self._watches.get(name)
            if thread is not None and thread.is_alive():
                continue
            runner = self._manager.runner(name)
            thread = threading.Thread(
                target=runner.watch, args=(self._notify, stop), name=f"qwex-{name}", daemon=True
            )
            self._watches[name] = thread
            thread.start()


def command_text(spec: JobSpec) -> str:
    """What a person would call it: the command line, or the first line of the cell."""
    import shlex

    line = shlex.join(spec.command)
    if spec.script is None:
        return line
    lines = [text.strip() for text in spec.script.splitlines()]
    first = next((text for text in lines if text and not text.startswith(("#", "//"))), lines[0])
    return f"{line}: {first}" if line else first


def _values(spec: JobSpec) -> dict[str, str]:
    """The values that stand in no file: secrets, inherited variables, env files.

    Raises:
        SpecError: One isn't there.
    """
    values: dict[str, str] = {}
    for path in spec.env_files:
        values.update(_env_file(path))
    for name, value in spec.env.items():
        if value is None:
            if name not in os.environ:
                raise SpecError(f"-e {name}: there is no such variable here; write {name}=VALUE.")
            values[name] = os.environ[name]
        else:
            values.pop(name, None)
    for name in spec.secrets:
        if name not in os.environ:
            raise SpecError(
                f"--secret {name}: there is no such variable in this kernel's environment: "
                f"set it with os.environ[{name!r}] = getpass.getpass() and run this again."
            )
        values[name] = os.environ[name]
    return values


def _env_file(path: str) -> dict[str, str]:
    """``NAME=VALUE`` lines as ``docker run --env-file`` reads them: no quotes, no expansion."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it isn't UTF-8"
        raise SpecError(f"--env-file {path}: {why}.") from error
    values = {}
    for line in lines:
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not name or name != name.strip():
            raise SpecError(f"--env-file {path}: {line!r} isn't NAME=VALUE.")
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values


def _kept(work: str, files: Iterable[str], cwd: str) -> list[str]:
    return [os.path.join(work, name) for name in sorted(os.listdir(work))] if files and cwd else []


def _unbroken(call: Callable[[], Run], undo: Callable[[Run], object]) -> Run:
    """Calls in another thread, so that an interrupt can't cut the call in two."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    done: list[Run] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work, name="qwex-submit", daemon=True)
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            if thread.ident is None:
                thread.start()
            thread.join()
            break
        except KeyboardInterrupt as error:
            interrupt = error
            if thread.ident is None:
                raise
    if interrupt is not None:
        for run in done:
            undo(run)
        raise interrupt
    if failed:
        raise failed[0]
    return done[0]
