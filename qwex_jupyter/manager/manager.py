"""RunManager: the only room where runners, history and observers meet.

Taking a run up after a restart is not a feature beside tracking, it is tracking: read the
files, ask the backend, write down what it says (`look`). Everything else here is a loop
around that, or a wish of the user's written down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter.disk.folder import STOP
from qwex_jupyter.errors import (
    FactUnreadable,
    HomeUnusable,
    QwexError,
    RunInterrupted,
    RunNotFound,
    SpecError,
)
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager import again, deletion, prepared
from qwex_jupyter.manager.loop import Loop
from qwex_jupyter.manager.observations import Observer
from qwex_jupyter.manager.prepared import Prepared
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.tracker import Tracker
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import StopCause
from qwex_jupyter.runners.base import Runner
from qwex_jupyter.system import frontend, interrupts
from qwex_jupyter.system.interrupts import Presses
from qwex_jupyter.system.threads import started

# Of so many runs the middle one is what is usual.
_USUAL_OF = 5


class RunManager:
    """Submits runs, recovers those of others, and tells observers what happens.

    Args:
        home: The history folder; None for ``$QWEX_HOME`` or the platform's.
        default: The runner of specs for which none is asked; None for that of the settings.
        setting: Gives a setting by its name, as it is now; None for `config.setting`.
        settings: Constructor arguments of runners, by the runner's name.
        patience: How long it waits for what; that of a runner is one of its settings.

    Attributes:
        history: The history folder.
        tracker: Knows of every run what its files and its backend say.
        output: Brings a run's output to disk.
    """

    def __init__(
        self,
        home: str | None = None,
        *,
        default: str | None = None,
        setting: Callable[[str], Any] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.default, self.setting = default, setting or _setting
        self.history = RunHistory(home)
        self.tracker = Tracker(
            self.history,
            setting=self.setting,
            settings=settings,
            patience=patience,
            wake=lambda: self.wake(),
        )
        self.output = self.tracker.output
        self._loop = Loop(self.tracker, patience)
        self._handed_over: set[str] = set()

    def runner(self, name: str, options: Mapping[str, str] | None = None) -> Runner:
        """The runner of that name, and of the backend that a spec's options choose.

        Raises:
            SpecError: There is none of that name.
            RunnerUnavailable: This version doesn't have it.
        """
        return self.tracker.backends.runner(name, options)

    def choose(self, spec: JobSpec, runner: str | None = None) -> str:
        """The name of the runner for a spec: as asked, else as set, else by its image."""
        if chosen := runner or self.default:
            return chosen
        if chosen := self.setting("runner"):
            try:
                runners.declared(chosen)
            except SpecError as error:
                raise SpecError(f"{_origin('runner')}: {error}") from error
            return str(chosen)
        return runners.OF_IMAGES if spec.image else runners.DEFAULT

    def set_for_all(self) -> dict[str, Any]:
        """The fields of a spec that the settings give where nobody else does."""
        values = {name: self.setting(name) for name in ("grace", "timeout")}
        return {name: value for name, value in values.items() if value}

    def submit(self, spec: JobSpec, runner: str | None = None) -> Run:
        """Hands a run over and returns; it goes on without this process.

        Args:
            spec: What to run.
            runner: Where; None as by `choose`.

        Raises:
            SpecError, UnsupportedOption: The spec can't be run there.
            RunnerUnavailable, SubmitFailed: Nothing was started.
            RunInterrupted: It was cancelled.
        """
        return self.hand_over(self.prepare(spec, runner))

    def prepare(
        self, spec: JobSpec, runner: str | None = None, *, only_show: bool = False
    ) -> Prepared:
        """Makes the plan of a run and collects what its program gets of this process.

        Nothing is written down or started. What becomes of the environment and of the current
        folder after this doesn't matter to the run.

        Args:
            spec: What to run.
            runner: Where; None as by `choose`.
            only_show: It is only to be shown: no backend is asked whether it can be used, and
                no value of a secret is needed. It can't be handed over.

        Raises:
            SpecError, UnsupportedOption: The spec can't be run there.
            RunnerUnavailable: Its backend can't be used now.
        """
        chosen = self.choose(spec, runner)
        backend = self.runner(chosen, spec.options)
        if only_show:
            return prepared.to_be_shown(spec, chosen, backend)
        return prepared.to_be_handed_over(spec, chosen, backend, self.history)

    def show(self, made: Prepared) -> str:
        """A run as a person would start it by hand; see `Runner.show`."""
        return self.runner(made.runner, made.spec.options).show(made.plan)

    def hand_over(self, made: Prepared, *, presses: Presses | None = None) -> Run:
        """Hands a prepared run over, once, and returns; it goes on without this process.

        An interrupt that comes meanwhile waits until it is known whether the run was
        started, cancels it, and is raised then. That of a kernel that is to end cancels nothing.

        Args:
            made: The run, as `prepare` has made it.
            presses: The caller holds interrupts back, and will obey them.

        Raises:
            SpecError: What is to go along can't.
            RunnerUnavailable, SubmitFailed: Nothing was started.
            RunInterrupted: It was cancelled.
            ValueError: It was prepared only to be shown, or was handed over before.
        """
        if not made.fact or made.run_id in self._handed_over:
            raise ValueError(f"{made.run_id} can't be handed over, or was before: prepare it anew.")
        self._handed_over.add(made.run_id)
        if presses is not None:
            return self._hand_over(made)
        with interrupts.held() as presses:
            run = self._hand_over(made)
            try:
                presses.pass_on()
            except KeyboardInterrupt:
                run.cancel()
                raise RunInterrupted(run, f"{run.record.title} was cancelled") from None
        return run

    def _hand_over(self, made: Prepared) -> Run:
        runner = self.runner(made.runner, made.spec.options)
        if not runner.promises.writes_outcome and (names := made.spec.secrets):
            values = tuple(made.secrets[name] for name in names if name in made.secrets)
            self.tracker.closing.secrets[made.run_id] = values
        prepared.hand_over(made, runner, self.history, self.tracker.closing.close_launch)
        self._loop.ensure(made.run_id)
        if not runner.promises.writes_outcome:
            self._loop.wake()
        return Run(self, made.run_id)

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
        return self._mine(lambda mine: self.history.newest(live=live, **mine))

    def last(self) -> Run:
        """The run that this notebook submitted last, ended or not; without a notebook, of all.

        Raises:
            RunNotFound: There is none.
        """

        def last(mine: dict[str, str]) -> str | None:
            both = (self.history.newest(live=live, **mine) for live in (True, False))
            return max(filter(None, both), default=None)

        return self._mine(last)

    def _mine(self, find: Callable[[dict[str, str]], str | None]) -> Run:
        book, session = frontend.notebook(), frontend.session()
        found = find({"notebook": book} if book else {"session": session})
        if found is None and not book and not frontend.is_kernel():
            found = find({})
        if found is None:
            raise RunNotFound("There is no run of this notebook yet. %qwex runs lists all.")
        return Run(self, found)

    def wait(self, run_id: str, timeout: float | None = None) -> RunRecord:
        """Blocks until a run has ended; its final record.

        Raises:
            TimeoutError: It had not ended after ``timeout`` seconds; it goes on.
            HomeUnusable: What became of it can't be written down.
        """
        until = None if timeout is None else time.monotonic() + timeout
        begun = looked = time.monotonic()
        # An end that exists but can't be read at this moment isn't known yet.
        while not (
            self.tracker.ended(run_id) and (record := self.tracker.record(run_id)).status.final
        ):
            now = time.monotonic()
            if until is not None and now >= until:
                raise self.too_long(run_id, timeout or 0.0)
            if now - looked > 0.5:
                self.tracker.look([run_id])
                looked = time.monotonic()
                if why := self.tracker.stuck(run_id):
                    raise HomeUnusable(f"{self.tracker.record(run_id).title}: {why}")
                continue
            # The pause is a twentieth of the time so far: short runs are noticed at once, long ones
            # cost nothing.
            pause = min(max(0.0003, (now - begun) / 20), 0.05)
            self.tracker.closing.end_seen.wait(pause if until is None else min(pause, until - now))
        return record

    def too_long(self, run_id: str, seconds: float) -> TimeoutError:
        """What is raised where waiting for a run was given up after so many seconds."""
        title = self.tracker.record(run_id).title
        return TimeoutError(f"{title} had not ended after {round(seconds, 2):g} s; it goes on.")

    def cancel(self, run_id: str, *, grace: float | None = None, who: str = "you") -> None:
        """Writes down that a run is to stop, and has it carried out; see `Run.cancel`."""
        if self.tracker.ended(run_id):
            return
        seconds = _grace_of(self.history, run_id) if grace is None else grace
        folder = self.history.folder(run_id)
        try:
            if folder.has(STOP):
                folder.ask_kill(who)
            else:
                self.tracker.stops.write(run_id, who, StopCause.CANCEL, seconds)
            closed = self.tracker.closing.close_launch(run_id, "it was stopped before")
        except OSError as error:
            raise HomeUnusable(
                f"{run_id} can't be stopped, as that can't be written down: {error.strerror}. "
                f"Free some room in {self.history.home}, or have it writable, then cancel again."
            ) from error
        if not closed:
            self.tracker.look([run_id])
            self._loop.wake()

    def usual_time(self, record: RunRecord) -> float | None:
        """How many seconds the same command takes as a rule; None when it never succeeded.

        That is the median of the last few successes of the same command in the same notebook on
        the same runner.
        """
        same = {name: getattr(record, name) for name in ("command", "notebook", "runner")}
        found = self.history.newest_successes(_USUAL_OF, **same)
        times = [self.history.record(run_id).duration() for run_id in found]
        known = sorted(seconds for seconds in times if seconds is not None)
        return known[len(known) // 2] if known else None

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
            overrides: Other values for fields of the spec; see `again.spec_of`.

        Raises:
            SpecError: A value is wrong, or the run can't be had again.
        """
        spec_fact = self.history.spec_fact(run_id)
        changed = again.spec_of(run_id, spec_fact, overrides)
        if runner is None:
            runner = self.choose(changed) if "image" in overrides else spec_fact["runner"]
        return runner, changed

    def delete(self, run_id: str, *, gone: bool = False) -> None:
        """Frees the backend's object and takes the folder away; see `deletion.delete`.

        Args:
            run_id: The run.
            gone: The user says that where it ran is gone for good.
        """
        deletion.delete(self.history, self.tracker, run_id, gone=gone)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Calls ``observer`` with each new record, from another thread; returns how to stop it."""
        forget = self.tracker.observations.observe(observer)
        self._loop.wake()
        return forget

    def recover(self, within: float = 2.0) -> list[RunRecord]:
        """Asks once about everything that is open; what lives after that, newest first.

        Args:
            within: Seconds after which a backend that doesn't answer is not waited for; it
                is asked on, and the records say when they were observed.
        """

        def ask() -> None:
            try:
                self.history.sweep()
                self.tracker.look()
            except (QwexError, OSError):
                pass  # the records say when they were observed; the loop asks again

        thread = started(ask, "qwex-recover")
        if thread is not None:
            thread.join(within)
        records = self.tracker.records(self.history.open_ids())
        if records:
            self._loop.wake()
        return [record for record in reversed(records) if not record.status.final]

    def wake(self) -> None:
        """Has the loop look at once at what is due."""
        self._loop.wake()

    def close(self) -> None:
        """Stops watching. The runs go on, and what is being written of them is written first."""
        self._loop.stop()
        self.output.settle()
        self.tracker.backends.close()


def _grace_of(history: RunHistory, run_id: str) -> float:
    """The grace that a run was submitted with."""
    try:
        return float(history.spec_fact(run_id)["spec"].get("grace", JobSpec.grace))
    except FactUnreadable:
        return JobSpec.grace  # damaged, and its supervisor lives


def _setting(name: str) -> Any:
    """`config.setting`, whose room brings traitlets with it: it is entered when it is needed."""
    from qwex_jupyter import config

    return config.setting(name)


def _origin(name: str) -> str:
    from qwex_jupyter import config

    return config.origin(name)
