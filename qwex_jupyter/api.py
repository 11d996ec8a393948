"""What `import qwex_jupyter as qwex` gives: the verbs over this process's one manager."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk.home import default_home
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.system import frontend, libraries

if TYPE_CHECKING:
    import pandas as pd

    from qwex_jupyter.display.tables import Table
    from qwex_jupyter.widgets.monitor import Monitor

# What a page has a new kernel evaluate, which knows nothing of it: the id of a new monitor.
_AGAIN = "__import__('qwex_jupyter.api', fromlist=['api']).monitor(place={place!r}).model_id"
_lock = threading.Lock()
_managers: dict[tuple[int, str], RunManager] = {}


def manager() -> RunManager:
    """The manager of this process for the home that is set now; it takes up what is open."""
    home = default_home()
    key = (os.getpid(), home)
    with _lock:
        if key in _managers and not _managers[key].history.is_there():
            _managers.pop(key).close()  # deleted meanwhile: another one is begun
        if key not in _managers:
            made = _managers[key] = RunManager(home)
            if made.history.open_ids():
                made.recover(within=0.0)
        return _managers[key]


def submit(
    command: JobSpec | list[str] | tuple[str, ...], *, runner: str | None = None, **values: Any
) -> Run:
    """Hands a run over and returns at once.

    Args:
        command: A JobSpec, or an argv.
        runner: Its name, like ``docker``; None for that of the settings, else docker with an
            image and local without.
        values: Other fields of `JobSpec`; they replace those of a JobSpec. With an argv, grace
            and timeout are those of the settings unless they stand here.

    Raises:
        SpecError, UnsupportedOption, RunnerUnavailable, SubmitFailed: Nothing was started.
    """
    if isinstance(command, JobSpec):
        spec = replace(command, **values)
    else:
        values = {**manager().set_for_all(), **values}
        spec = JobSpec(command=command, **values)  # type: ignore[arg-type]  # it makes a tuple
    return manager().submit(spec, runner)


def monitor(*, place: str = "") -> Monitor | Table:
    """All runs, live; where nobody watches, in a terminal or without anywidget, a table.

    Args:
        place: For the page itself, which has lost its kernel: where its table stands.
    """
    return monitor_of(manager(), place=place)


def monitor_of(manager: RunManager, *, place: str = "") -> Monitor | Table:
    """A monitor of the runs of a manager; see `monitor`."""
    from qwex_jupyter.display import tables

    if not frontend.is_watched():
        return tables.of_history(manager.history)
    if lacks := libraries.trouble(libraries.WIDGETS):
        return tables.of_history(manager.history, f"{lacks}, and this will be live.")
    from qwex_jupyter.widgets.monitor import Monitor

    return Monitor(manager, place=place, again=_AGAIN)


def get(ref: str) -> Run:
    """A run by run id, handle, unique prefix, or the newest of a name.

    Raises:
        RunNotFound, AmbiguousRun: It isn't one run.
    """
    return manager().get(ref)


def runs(**filters: Any) -> pd.DataFrame:
    """The history as a DataFrame, newest on top; filters as of `RunHistory.frame`.

    Shown as it is, it is a table of the newest 20 runs (with a limit, of up to 100). Whatever
    is made of it (rows, columns, a copy) is a frame that pandas shows.
    """
    return runs_of(manager(), **filters)


def runs_of(manager: RunManager, **filters: Any) -> pd.DataFrame:
    """The history of a manager; see `runs`."""
    from qwex_jupyter.display import tables
    from qwex_jupyter.history import frame

    made = manager.history.frame(**filters)
    asked = any(value is not None for name, value in filters.items() if name != "extra")
    face = tables.face_of(manager.history, none=tables.NONE_LIKE_IT if asked else tables.NONE)
    return frame.with_face(made, face, min(filters.get("limit") or tables.ROWS, tables.MOST))
