"""What `import qwex_jupyter as qwex` gives: the verbs over this process's one manager."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwex_jupyter import context
from qwex_jupyter.home import default_home
from qwex_jupyter.manager import RunManager
from qwex_jupyter.run import Run
from qwex_jupyter.spec import JobSpec

if TYPE_CHECKING:
    import pandas as pd

_lock = threading.Lock()
_managers: dict[tuple[int, str], RunManager] = {}


def manager() -> RunManager:
    """The manager of this process for the home that is set now; it takes up what is open."""
    import sys

    home = default_home()
    key = (os.getpid(), home)
    with _lock:
        if key not in _managers:
            python = sys.executable if context.is_kernel() else ""
            made = RunManager(home, settings={"local": {"python": python}})
            _managers[key] = made
            if made.history.open_ids():
                made.take_up(within=0.0)
        return _managers[key]


def submit(
    command: JobSpec | list[str] | tuple[str, ...], *, runner: str | None = None, **values: Any
) -> Run:
    """Hands a run over and returns at once.

    Args:
        command: A JobSpec, or an argv.
        runner: ``local``, ``docker``, ``k8s``; None for docker with an image, else local.
        values: Other fields of `JobSpec`; they replace those of a JobSpec.

    Raises:
        SpecError, UnsupportedOption, RunnerUnavailable, SubmitFailed: Nothing was started.
    """
    if isinstance(command, JobSpec):
        spec = replace(command, **values)
    else:
        spec = JobSpec(command=command, **values)  # type: ignore[arg-type]  # it makes a tuple
    return manager().submit(spec, runner)


def get(ref: str) -> Run:
    """A run by run id, handle, unique prefix, or the newest of a name.

    Raises:
        RunNotFound, AmbiguousRun: It isn't one run.
    """
    return manager().get(ref)


def runs(**filters: Any) -> pd.DataFrame:
    """The history as a DataFrame, newest on top; filters as of `RunHistory.frame`."""
    return manager().history.frame(**filters)
