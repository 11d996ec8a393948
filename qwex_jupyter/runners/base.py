"""The contract of a runner.

A runner translates a spec, starts it, and afterwards answers questions about a name. It
keeps no opinions and no memory. Strings and values cross this seam, never live objects: a
second runner object, in another process, can do everything the first could.

What a runner may rely on:

- A run's folder is whole, with ``spec.json`` and the script in it, before `submit`.
- A run is planned once, and what its program gets of the submitting process is read with the
  plan (`inherited`): what is shown is what is handed over.
- Whoever makes the one call that can start the program has linked ``launch.json``
  directly before it (`RunFolder.claim_launch`), and reads ``stop.json`` directly after it. If
  ``launch.json`` is there already, the run is started, or closed, by somebody else: it must not
  be started.
- A stop is written down (``stop.json``) before `cancel` is called.
- The status of an end is decided by `qwex_jupyter.model.verdict.conclude`, from the `End` in a
  snapshot; a runner never decides it.

`qwex_jupyter.testing.contract` is this page in executable form; CONTRIBUTING.md shows how a runner
of your own joins it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event
from typing import Any, ClassVar

from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import (
    BackendUnreachable,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
    UnsupportedOption,
)
from qwex_jupyter.model.declaration import Declaration, Promises
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, Snapshot
from qwex_jupyter.model.text import without_secrets
from qwex_jupyter.runners import honoured_by

Plan = dict[str, Any]


class Runner(ABC):
    """Where runs are executed.

    Args:
        home: The history folder (``$QWEX_HOME``); run folders are ``home/runs/<run_id>``.
        history: The id of that history, for labels.
        setting: Gives one of the declared settings as it is now; by default what is declared.
    """

    # What it says of itself; its name and its promises are taken from there.
    declaration: ClassVar[Declaration]
    name: ClassVar[str]
    promises: ClassVar[Promises]

    # Seconds between the polls that stand behind `watch`.
    polled_every: float = 2.0

    def __init__(
        self, home: str, history: str, *, setting: Callable[[str], Any] | None = None
    ) -> None:
        self.home, self.history = home, history
        self.setting = setting or self._default

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "declaration" in vars(cls):
            cls.name, cls.promises = cls.declaration.name, cls.declaration.promises

    def _default(self, name: str) -> str:
        return self.declaration.settings[name].default

    def folder(self, run_id: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder.of(self.home, run_id)

    def check(self) -> None:
        """Returns when the backend can be used now.

        Called by ``%qwex doctor``, and once before a run is handed over. Unless a runner knows
        better, a backend that says who it is can be used.

        Raises:
            RunnerUnavailable: It can't; cause and next step are in the message.
        """
        try:
            self.identity()
        except BackendUnreachable as error:
            raise RunnerUnavailable(str(error)) from error

    @abstractmethod
    def identity(self) -> str:
        """Which backend this is.

        Called by the manager at submit, and compared before any "not found" is believed:
        a run of another identity is what it last was.

        Raises:
            BackendUnreachable: It doesn't answer.
        """

    @abstractmethod
    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """Exactly what `submit` hands over, JSON-serialisable.

        Called once for a run, whether it is only shown (``--dry-run``) or handed over. Pure: no
        daemon is asked, nothing changes, the same spec and id give the same plan. It holds no
        secret value, and all that `submit` needs to know: nothing is read of the environment and
        of the current folder after it.

        Args:
            spec: What to run.
            run_id: Its id; the backend's object is named ``qwex-<run_id>``. Its folder isn't
                there yet.

        Raises:
            UnsupportedOption: An option can't be honoured here.
            SpecError: A value can't be right here.
        """

    @abstractmethod
    def show(self, plan: Plan) -> str:
        """A plan as a person would run it by hand: a shell line, ``docker run ...`` or YAML."""

    def inherited(self, plan: Plan) -> dict[str, str]:
        """The variables that the program gets of this process beside those of its spec.

        Called once, directly after `plan`, because what they are may change until `submit`. They
        are treated as secrets: they reach the program and stand in no file. Those that the plan
        says something else of are left out.

        Raises:
            RunnerUnavailable: They can't be read.
        """
        return {}

    @abstractmethod
    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        """Hands the run over.

        Called once by the manager, after the folder is whole. On return the backend, or a
        launcher that outlives us, has accepted it. Never waits for an image or a node.
        Something of that name that is there already is adopted, not made twice. What can be
        told to be impossible now (no such image) closes the launch with its reason.

        Args:
            plan: What `plan` has made of it.
            folder: Its folder, which knows its id.
            secrets: The values of secrets, of `inherited` variables and of env files. They
                reach the program and nothing else, and go before those of the plan.

        Raises:
            RunnerUnavailable: The backend can't be used.
            SubmitFailed: It was not accepted, and can't have been started.
        """

    @abstractmethod
    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """What the backend says of each of these runs now.

        Called by the manager in its loop. A question: asked twice it answers the same, and
        nothing changes. Costs a constant number of lists, plus a look at each that ended.
        ``observed_at`` is the time of this process; all other times are the backend's, so where
        its clock may be another, ``elapsed`` in the evidence says how long a program has run.

        Raises:
            BackendUnreachable: No answer; nothing follows for any run.
        """

    def watch(self, notify: Callable[[str], None], stop: Event) -> None:
        """Calls ``notify(run_id)`` whenever something may have changed, until ``stop``.

        Called by the manager in one thread per runner. May miss changes: a slow poll stands
        behind it. Returns early when it can't go on; it is then called again. A backend that
        tells nothing by itself is only polled, every `polled_every` seconds.
        """
        stop.wait()

    def clock(self) -> float:
        """The backend's time now, seconds since the epoch.

        Called by the manager when a stop is asked for: whether a run ended before or after
        that is told by one clock, the one that dates its end.

        Raises:
            BackendUnreachable: It doesn't answer.
        """
        return time.time()

    @abstractmethod
    def follow(self, run_id: str, log: RunLog, stop: Event) -> bool:
        """Writes output into the run's log files, at the cursor stored beside them.

        Called by the manager while somebody looks, and after the end until it says so. Returns
        at ``stop`` (set before, it is one pass over what is there now), when it can't go on
        now, or when there will be nothing more. Resumable at any byte.

        Returns:
            Whether the run has ended and all of its output is on disk.

        Raises:
            BackendUnreachable: The backend doesn't answer.
        """

    @abstractmethod
    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        """Carries out a stop that is written down: asks nicely, and after ``grace`` kills.

        Called by the manager once ``stop.json`` is linked, and again at every poll until
        the run has ended: idempotent. ``force`` ends the grace (``kill.json`` is linked).
        Returns without waiting for the end. The record and the output stay.
        """

    @abstractmethod
    def delete(self, run_id: str) -> None:
        """Frees the backend's object, after outcome and output are on disk. Idempotent.

        Raises:
            RunStillLive: The backend says that it has not ended.
        """

    def release(self, run_id: str) -> None:
        """Frees the backend's object, now or later, after outcome and output. Idempotent.

        Called by the manager, unless the run is to be kept (``--keep``). A backend that cleans
        up by itself is told when; others free it now.

        Raises:
            RunStillLive: The backend says that it has not ended.
        """
        self.delete(run_id)

    def enforce_timeout(self, run_id: str, timeout: float | None) -> bool:
        """Has the backend itself end a run at its timeout, not earlier; returns whether it will.

        Called by the manager at every look while the run lives. Where it doesn't, the manager
        stops the run when its time is over, if it looks then.

        Args:
            run_id: The run.
            timeout: Seconds from the start of its program; None for no limit.
        """
        return self.promises.enforces_timeout

    def hear(self, answer: Snapshot, said: str, image: str) -> Snapshot:
        """Completes an end by the run's output, in which some backends tell what happened.

        Args:
            answer: What `poll` said, with an end.
            said: All output of the run, both streams; "" where that is more than a few lines.
            image: Its image, as it was asked for.
        """
        return answer

    def examine(self) -> Iterator[str]:
        """What ``%qwex doctor`` says of this runner, line by line, the first with its mark.

        Raises:
            QwexError: It can't be used; what was said before stands.
        """
        self.check()
        yield f"✓ {self.name}  {without_secrets(self.identity())}"

    def close(self) -> None:  # noqa: B027 - most have none
        """Gives back the connections that it holds; it opens them again when it is asked."""

    @classmethod
    def by_hand(cls, record: RunRecord, spec: Mapping[str, Any]) -> str:  # noqa: ARG003
        """The backend's own command by which a person looks at a run; "" where there is none.

        Called for a page, also long after the run and where the backend isn't there: nothing is
        asked.

        Args:
            record: What is known of the run.
            spec: What was asked, as it stands in ``spec.json``; {} where that is damaged.
        """
        return ""

    def foreign(self, identity: str) -> tuple[Reason, str]:
        """Why a run of another backend identity can't be asked about from here."""
        return (
            Reason.BACKEND_UNREACHABLE,
            f"It belongs to another backend ({identity}) than the one that answers now.",
        )

    def refuse_unsupported(self, spec: JobSpec) -> None:
        """Refuses the first option of the spec that isn't declared as honoured.

        Raises:
            UnsupportedOption: Naming the runners that can.
            SpecError: An option has a value that it can't have.
        """
        for name in used_options(spec):
            if not self.declaration.honours(name):
                can = [other for other in honoured_by(name) if other != self.name]
                why = self.declaration.why_not(name)
                raise UnsupportedOption(f"--{name}", self.name, can, why)
        for name, option in self.declaration.own_options.items():
            value = spec.options.get(name)
            if value is not None and option.choices and value not in option.choices:
                raise SpecError(f"--{name}={value!r}: choose one of {', '.join(option.choices)}.")


def used_options(spec: JobSpec) -> list[str]:
    """The options, by their long names, that a spec uses and not every runner has."""
    resources = spec.resources
    used = {
        "image": spec.image,
        "cpus": resources.cpus,
        "memory": resources.memory,
        "gpus": resources.gpus,
        "shm-size": resources.shm_size,
        "user": spec.user,
        "volume": spec.volumes,
        "files": spec.has_own_folder,
        "here": spec.here,
        "keep": spec.keep,
    }
    return [name for name, value in used.items() if value] + sorted(spec.options)


def still_live(run_id: str) -> RunStillLive:
    """That a run can't be deleted yet."""
    return RunStillLive(f"{run_id} has not ended: %qwex cancel {run_id.rpartition('-')[2]}")
