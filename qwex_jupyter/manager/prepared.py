"""Prepared: a run as it will be handed over, collected at one moment.

The plan is made once, and what the program gets of this process (its environment, values of
secrets, the current folder) is read with it. What is shown of a `Prepared` is what is handed over,
whatever becomes of this process in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from qwex_jupyter.errors import NotRemoved, QwexError, RunnerUnavailable, SubmitFailed
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.submission import command_text, refuse_too_long, values
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.base import Plan, Runner
from qwex_jupyter.system import frontend, process
from qwex_jupyter.system.paths import current_folder


@dataclass(frozen=True)
class Prepared:
    """A run that is to be handed over; nothing of it is written down or started.

    Attributes:
        run_id: Its id.
        runner: The name of its runner.
        spec: What to run.
        plan: What its runner hands over. It is JSON and holds no secret.
        fact: The content of its ``spec.json``; {} where it is only to be shown.
        secrets: The values that are written into no file.
    """

    run_id: str
    runner: str
    spec: JobSpec
    plan: Plan
    fact: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def to_be_shown(spec: JobSpec, name: str, runner: Runner) -> Prepared:
    """A run that is only to be shown: no backend is asked, and the history isn't touched.

    Raises:
        SpecError, UnsupportedOption: The spec can't be run there.
    """
    run_id = new_run_id(time.time())
    return Prepared(run_id, name, spec, runner.plan(spec, run_id))


def to_be_handed_over(spec: JobSpec, name: str, runner: Runner, history: RunHistory) -> Prepared:
    """A run with all that the program gets of this process.

    Raises:
        SpecError, UnsupportedOption: The spec can't be run there.
        RunnerUnavailable: Its backend can't be used now.
    """
    now = time.time()
    run_id = new_run_id(history.next_moment(now))
    runner.check()
    if spec.files:
        # They are copied when the run is handed over, by paths that count from here, and from
        # the home that is set now.
        files = tuple(map(os.path.expanduser, spec.files))
        spec = replace(spec, files=files, cwd=spec.cwd or current_folder())
    plan = runner.plan(spec, run_id)
    given = values(spec)
    refuse_too_long(spec, given)
    fact = {
        "version": 1,
        "run_id": run_id,
        "runner": name,
        "identity": runner.identity(),
        "created_at": now,
        "command": command_text(spec),
        "spec": spec.to_json(),
        **frontend.here(spec.cwd),
    }
    secrets = {**runner.inherited(plan), **given}
    return Prepared(run_id, name, spec, plan, fact, secrets)


def hand_over(
    made: Prepared, runner: Runner, history: RunHistory, close_launch: Callable[[str, str], bool]
) -> None:
    """Writes a run down and hands it over.

    Args:
        made: The run.
        runner: Its runner.
        history: Where it is written down.
        close_launch: Sees to it that nobody can start a run any more, for a reason; whether
            nobody has.

    Raises:
        SpecError: What is to go along can't.
        RunnerUnavailable: Another backend answers than the one that it was prepared for.
        SubmitFailed: It was not started, and never will be.
    """
    identity = runner.identity()
    if identity != made.fact["identity"]:
        raise RunnerUnavailable(
            f"It was prepared for {made.fact['identity']}, and {identity} answers now: choose that "
            "backend again, or prepare it anew."
        )
    # From now on it is known how long it waits, and for whom.
    fact = {**made.fact, "created_at": time.time(), "submitter": process.identify(os.getpid())}
    folder = history.create(made.spec, fact, sync=runner.promises.outlives_machine)
    try:
        runner.submit(made.plan, folder, made.secrets)
    except Exception as error:
        why = str(error) if isinstance(error, QwexError) else f"{type(error).__name__}: {error}"
        # Where the runner itself says that nothing was started, that holds though a launch was
        # linked.
        if close_launch(made.run_id, why) or isinstance(error, SubmitFailed):
            with suppress(NotRemoved):  # then it is listed, as what it is
                history.delete(made.run_id)
            raise SubmitFailed(why) from error
