"""Records to a DataFrame. The only module that imports numpy and pandas, at first use.

Every dtype is said and not inferred, so an empty frame has the same ones, on pandas 2.1 as
on 3, with and without pyarrow.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from qwex_jupyter import runners
from qwex_jupyter.disk.folder import log_name
from qwex_jupyter.errors import SpecError
from qwex_jupyter.history import cache, columns
from qwex_jupyter.history.columns import KINDS, Columns, Words
from qwex_jupyter.history.folders import RunFolders
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import first_id
from qwex_jupyter.model.status import RunStatus

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


COLUMNS = (
    *("handle", "name", "status", "cause", "exit_code", "duration", "runner", "image", "command"),
    *("reason", "created_at", "started_at", "finished_at", "queued", "cpu_time"),
    *("peak_memory", "notebook", "git_commit", "labels", "observed_at", "message"),
)
EXTRA = ("log_path", *(name for name in KINDS if name not in (*COLUMNS, "run_id")))
# Which columns are categories, and the values that they have whether or not a run has them.
_CATEGORIES: dict[str, Callable[[], Sequence[str]]] = {
    "status": lambda: [str(status) for status in RunStatus],
    "runner": runners.names,
}

_TIMES = ("created_at", "started_at", "finished_at", "observed_at")


def read(
    folders: RunFolders,
    *,
    status: Collection[str] | None = None,
    runner: Collection[str] | None = None,
    since: float | None = None,
    name: str | None = None,
    limit: int | None = None,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """The rows that are wanted; see `RunHistory.frame`. ``since`` is in seconds since the epoch.

    Raises:
        SpecError: ``extra`` names something that isn't remembered of a run.
    """
    import numpy as np

    # Its first import may take seconds: what was read before would be told as of after.
    import pandas  # noqa: F401

    for word in extra:
        if word not in (*COLUMNS, *EXTRA):
            raise SpecError(f"extra={word!r} isn't one of {', '.join(sorted(EXTRA))}.")
    filters = {"status": status, "runner": runner, "name": None if name is None else [name]}
    filtered = any(words is not None for words in filters.values())
    wanted = [field for field in KINDS if field not in EXTRA or field in (*extra, "elapsed")]
    first = "" if since is None else first_id(since)
    found, order = cache.look(folders, wanted, first=first, limit=None if filtered else limit)
    rows = np.array(order, dtype=np.intp)
    for field, words in filters.items():
        column = found[field]
        if words is not None and isinstance(column, Words):
            codes = np.frombuffer(column.codes, dtype=np.intc)[rows]
            rows = rows[np.isin(codes, list(column.numbers_of(words)))]
    return frame_of(found, rows[:limit], extra, folders.runs_folder)


def moment(said: Any) -> float | None:
    """What pandas takes for a point in time or for an age, in seconds since the epoch, or None.

    What has no zone is local time, but for numpy's times, which are UTC.
    """
    import numpy as np
    import pandas as pd

    try:
        if isinstance(said, np.datetime64):
            return _known(pd.Timestamp(said, tz="UTC"))
        if isinstance(said, np.timedelta64):
            return time.time() - _known(pd.Timedelta(said))
        return _known(pd.Timestamp(said))
    except (ValueError, TypeError, OverflowError):
        pass
    try:
        return time.time() - _known(pd.Timedelta(said))
    except (ValueError, TypeError, OverflowError):
        return None


def _known(value: Any) -> float:
    """A time or an age in seconds; a naive time is local, as everywhere in Python except pandas.

    Raises:
        ValueError: It is none (NaT).
    """
    when = hasattr(value, "tz")
    seconds = value.floor("us").to_pydatetime().timestamp() if when else value.total_seconds()
    if math.isnan(seconds):
        raise ValueError("NaT")
    return float(seconds)


def frame_of(
    found: Columns, rows: np.ndarray[Any, Any], extra: Sequence[str], runs_folder: str
) -> pd.DataFrame:
    """A frame of some rows of what was read.

    Args:
        found: The columns.
        rows: The numbers of the wanted rows, in their order.
        extra: More columns than `COLUMNS`.
        runs_folder: Where the runs' folders are.
    """
    import pandas as pd

    made = _Frame(found, rows, runs_folder)
    columns_made = {name: made.column(name) for name in dict.fromkeys((*COLUMNS, *extra))}
    index = pd.Index(made.texts(*made.words("run_id")), name="run_id")
    return pd.DataFrame(columns_made, index=index, copy=False)


class _Frame:
    """Some rows of what was read, as pandas' own arrays, column by column."""

    def __init__(self, found: Columns, rows: np.ndarray[Any, Any], runs_folder: str) -> None:
        import numpy as np
        import pandas as pd

        self.np, self.pd = np, pd
        self._found, self._rows, self._runs_folder = found, rows, runs_folder

    def numbers(self, name: str) -> Any:
        """The wanted rows of a column of numbers."""
        column = self._found[name]
        assert not isinstance(column, Words)
        return self.np.frombuffer(column, dtype=column.typecode)[self._rows]

    def words(self, name: str) -> tuple[list[Any], Any]:
        """The values of a column of words, and for each wanted row the index of its value."""
        column = self._found[name]
        assert isinstance(column, Words)
        return column.values, self.np.frombuffer(column.codes, dtype=self.np.intc)[self._rows]

    def texts(self, values: list[str], codes: Any) -> Any:
        """A column of text, in which an empty text is a missing one."""
        known = self.np.empty(len(values), dtype=object)
        known[:] = [value or self.pd.NA for value in values]
        return self.pd.array(known[codes], dtype=self.pd.StringDtype("python"))

    def column(self, name: str) -> Any:
        """A column of the frame."""
        derived = {
            "handle": self._handle,
            "log_path": self._log_path,
            "duration": self._duration,
            "queued": self._queued,
        }
        if name in derived:
            return derived[name]()
        if name in _CATEGORIES:
            return self._category(name)
        kind = KINDS.get(name)
        if kind == columns.TEXT:
            return self.texts(*self.words(name))
        if kind == columns.WHOLE:
            whole = self.numbers(name)
            missing = whole == columns.NO_NUMBER
            return self.pd.arrays.IntegerArray(self.np.where(missing, 0, whole), missing)
        if kind == columns.SECONDS:
            seconds = self.numbers(name)
            return self._times(seconds) if name in _TIMES else self._spans(seconds)
        values, codes = self.words(name)
        out, said = self.np.empty(len(codes), dtype=object), [dict(value) for value in values]
        out[:] = list(map(dict.copy, map(said.__getitem__, codes.tolist())))
        return out

    def _category(self, name: str) -> Any:
        """A category; the values that every frame has come first, in their order."""
        np, pd, fixed = self.np, self.pd, _CATEGORIES[name]()
        values, codes = self.words(name)
        used = {values[code] for code in np.unique(codes)}
        known = [*fixed, *sorted(used - {*fixed, ""})]
        dtype = pd.CategoricalDtype(pd.Index(known, dtype=object))
        place = {value: code for code, value in enumerate(known)}
        here = np.array([place.get(value, -1) for value in values], dtype=np.intc)
        return pd.Categorical.from_codes(here[codes], dtype=dtype)

    def _handle(self) -> Any:
        ids, codes = self.words("run_id")
        return self.texts([run_id[run_id.rfind("-") + 1 :] for run_id in ids], codes)

    def _log_path(self) -> Any:
        ids, codes = self.words("run_id")
        folders = (os.path.join(self._runs_folder, run_id) for run_id in ids)
        return self.texts([os.path.join(folder, log_name("stdout")) for folder in folders], codes)

    def _duration(self) -> Any:
        """`RunRecord.duration` of all rows at once."""
        np = self.np
        values, codes = self.words("status")
        final = np.array([RunStatus(value).final for value in values], dtype=bool)[codes]
        end = np.where(final, self.numbers("finished_at"), self.numbers("observed_at"))
        ran = np.maximum(0.0, end - self.numbers("started_at"))
        elapsed = self.numbers("elapsed")
        return self._spans(np.where(np.isnan(elapsed), ran, elapsed))

    def _queued(self) -> Any:
        waited = self.numbers("started_at") - self.numbers("created_at")
        return self._spans(self.np.maximum(0.0, waited))

    def _times(self, seconds: Any) -> Any:
        known = self.np.where(seconds == 0, self.np.nan, seconds)
        return self.pd.DatetimeIndex(self._ticks(known).view("M8[us]")).tz_localize("UTC")

    def _spans(self, seconds: Any) -> Any:
        return self.pd.TimedeltaIndex(self._ticks(seconds).view("m8[us]"))

    def _ticks(self, seconds: Any) -> Any:
        """Microseconds."""
        np = self.np
        out = np.full(len(seconds), np.iinfo(np.int64).min)  # which is how NaT is kept
        there = ~np.isnan(seconds)
        out[there] = np.rint(seconds[there] * 1e6).astype(np.int64)
        return out


class Shown(Protocol):
    """Some runs as a person reads them."""

    def text(self, width: int) -> str:
        """For a terminal of so many columns."""

    def html(self) -> str:
        """For a notebook."""


# Of the runs that are shown, how many of each status there are in all, and as of when.
Face: TypeAlias = Callable[[Sequence[RunRecord], Mapping[str, int], float], Shown]


def with_face(made: pd.DataFrame, face: Face, rows: int) -> pd.DataFrame:
    """The frame, shown so that a person can read it.

    In all else it is a DataFrame, and what is made of it is one of pandas' own. It shows itself
    as one of these, too, once it was changed in place, and where more is asked of it.

    Args:
        made: What `read` gave.
        face: Makes what is shown.
        rows: Of so many rows at the most.
    """
    read_at = time.time()

    def shown(frame: pd.DataFrame) -> Shown | None:
        import pandas as pd

        widest, longest = map(pd.get_option, ("display.max_columns", "display.max_rows"))
        more = widest is None or widest > len(COLUMNS) or longest is None
        if more or list(frame.columns) != list(COLUMNS) or not frame.index.is_(index):
            return None
        try:
            records = _records(pd.DataFrame(frame).head(min(rows, longest or rows)))
            counts = frame["status"].value_counts().items()
            return face(records, {str(status): count for status, count in counts}, read_at)
        except (ValueError, TypeError, AttributeError):
            return None  # somebody wrote into it what no run has

    frame: pd.DataFrame = _with_face()(made, copy=False)
    index = frame.index
    object.__setattr__(frame, "_shown_by", shown)  # which pandas would take for a column's name
    return frame


@functools.cache
def _with_face() -> type[Any]:
    import pandas as pd

    class DataFrame(pd.DataFrame):
        """Runs, one a row."""

        _shown_by: Callable[[pd.DataFrame], Shown | None] = staticmethod(lambda _: None)

        def __reduce__(self) -> Any:
            return pd.DataFrame(self).__reduce__()

        def __repr__(self) -> str:
            shown = self._shown_by(self)
            if shown is None:
                return repr(pd.DataFrame(self))
            width = pd.get_option("display.width") or 80
            if sys.stdout.isatty():
                width = shutil.get_terminal_size((width, 24)).columns
            return shown.text(width)

        def _repr_html_(self) -> str | None:
            shown = self._shown_by(self)
            if shown is not None and pd.get_option("display.notebook_repr_html"):
                return shown.html()
            # MathJax makes a formula of what stands between two dollars of a command.
            with pd.option_context("display.html.use_mathjax", False):
                made = getattr(pd.DataFrame(self), "_repr_html_")()  # noqa: B009 - not in the stubs
            return made and f'<div class="tex2jax_ignore mathjax_ignore">{made}</div>'

    return DataFrame


def _records(rows: pd.DataFrame) -> list[RunRecord]:
    """What these rows say, as records.

    Raises:
        ValueError, TypeError, AttributeError: No run can be like that.
    """
    import pandas as pd

    made = []
    for row in rows.reset_index().to_dict("records"):
        known: dict[str, Any] = {"runner": ""}  # as of what can't be read
        for name, said in row.items():
            if said is None or said is pd.NA or said != said:
                continue
            if isinstance(said, datetime):
                said = said.timestamp()
            known[str(name)] = said.total_seconds() if isinstance(said, timedelta) else said
        status = known["status"] = RunStatus(known.get("status", ""))
        took = known.get("duration") if status.final else None
        values = {name: value for name, value in known.items() if name in KINDS}
        made.append(RunRecord(**values, elapsed=took))
        columns.row(made[-1])
    return made
