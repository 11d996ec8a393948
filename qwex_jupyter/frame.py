"""Records to a DataFrame. The only module that imports numpy and pandas, at first use.

Every dtype is said and not inferred, so an empty frame has the same ones, on pandas 2.1 as
on 3, with and without pyarrow.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from qwex_jupyter import cache, columns
from qwex_jupyter.columns import KINDS, Builder, Columns, Words
from qwex_jupyter.errors import SpecError
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import RunStatus

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from qwex_jupyter.history import RunHistory

COLUMNS = (
    *("handle", "name", "status", "exit_code", "duration", "runner", "image", "command"),
    *("reason", "created_at", "started_at", "finished_at", "queued", "cpu_time"),
    *("peak_memory", "notebook", "git_commit", "labels", "observed_at", "message"),
)
EXTRA = ("log_path", *(name for name in KINDS if name not in (*COLUMNS, "run_id")))
RUNNERS = ("local", "docker", "k8s", "memory")

_TIMES = ("created_at", "started_at", "finished_at", "observed_at")


def read(
    history: RunHistory,
    *,
    status: Collection[str] | None = None,
    runner: Collection[str] | None = None,
    since: str | None = None,
    name: str | None = None,
    limit: int | None = None,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """The rows that are wanted; see `RunHistory.frame`. ``since`` is a run id, or begins one.

    Raises:
        SpecError: ``extra`` names something that isn't remembered of a run.
    """
    import numpy as np

    for word in extra:
        if word not in (*COLUMNS, *EXTRA):
            raise SpecError(f"extra={word!r} isn't one of {', '.join(sorted(EXTRA))}.")
    filters = {"status": status, "runner": runner, "name": None if name is None else [name]}
    filtered = any(words is not None for words in filters.values())
    wanted = [field for field in KINDS if field not in EXTRA or field in (*extra, "elapsed")]
    found, order = cache.look(history, wanted, first=since or "", limit=None if filtered else limit)
    rows = np.array(order, dtype=np.intp)
    for field, words in filters.items():
        column = found[field]
        if words is not None and isinstance(column, Words):
            codes = np.frombuffer(column.codes, dtype=np.intc)[rows]
            rows = rows[np.isin(codes, list(column.numbers_of(words)))]
    return _frame(found, rows[:limit], extra, history.runs_folder)


def of_records(records: Sequence[RunRecord]) -> pd.DataFrame:
    """A frame of these records, in their order.

    Raises:
        ValueError: A record holds what its fields can't.
    """
    import numpy as np

    builder = Builder()
    builder.add([columns.row(record) for record in records])
    return _frame(builder.columns(), np.arange(len(records)), (), "")


def _frame(
    found: Columns, rows: np.ndarray[Any, Any], extra: Sequence[str], runs_folder: str
) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    text = pd.StringDtype("python")

    def numbers(name: str) -> Any:
        column = found[name]
        assert not isinstance(column, Words)
        return np.frombuffer(column, dtype=column.typecode)[rows]

    def words(name: str) -> tuple[list[Any], Any]:
        column = found[name]
        assert isinstance(column, Words)
        return column.values, np.frombuffer(column.codes, dtype=np.intc)[rows]

    def texts(values: list[str], codes: Any) -> Any:
        known = np.empty(len(values), dtype=object)
        known[:] = [value or pd.NA for value in values]
        return pd.array(known[codes], dtype=text)

    def category(name: str, fixed: Sequence[str]) -> Any:
        values, codes = words(name)
        used = {values[code] for code in np.unique(codes)}
        known = [*fixed, *sorted(used - {*fixed, ""})]
        dtype = pd.CategoricalDtype(pd.Index(known, dtype=object))
        place = {value: code for code, value in enumerate(known)}
        here = np.array([place.get(value, -1) for value in values], dtype=np.intc)
        return pd.Categorical.from_codes(here[codes], dtype=dtype)

    def ticks(seconds: Any) -> Any:
        out = np.full(len(seconds), np.iinfo(np.int64).min)  # which is how NaT is kept
        there = ~np.isnan(seconds)
        out[there] = np.rint(seconds[there] * 1e6).astype(np.int64)
        return out

    def spans(seconds: Any) -> Any:
        return pd.TimedeltaIndex(ticks(seconds).view("m8[us]"))

    def column(name: str) -> Any:
        kind = KINDS.get(name)
        if name == "handle":
            return texts([run_id[run_id.rfind("-") + 1 :] for run_id in ids], id_codes)
        if name == "status":
            return category(name, [str(status) for status in RunStatus])
        if name == "runner":
            return category(name, RUNNERS)
        if name == "duration":
            return spans(_duration(numbers, words))
        if name == "queued":
            return spans(np.maximum(0.0, numbers("started_at") - numbers("created_at")))
        if name == "log_path":
            return texts([os.path.join(runs_folder, i, "stdout.log") for i in ids], id_codes)
        if kind == columns.TEXT:
            return texts(*words(name))
        if kind == columns.WHOLE:
            whole = numbers(name)
            missing = whole == columns.NO_NUMBER
            return pd.arrays.IntegerArray(np.where(missing, 0, whole), missing)
        if kind == columns.SECONDS:
            seconds = numbers(name)
            if name not in _TIMES:
                return spans(seconds)
            known = np.where(seconds == 0, np.nan, seconds)
            return pd.DatetimeIndex(ticks(known).view("M8[us]")).tz_localize("UTC")
        values, codes = words(name)
        out, said = np.empty(len(codes), dtype=object), [dict(value) for value in values]
        out[:] = list(map(dict.copy, map(said.__getitem__, codes.tolist())))
        return out

    ids, id_codes = words("run_id")
    made = {name: column(name) for name in dict.fromkeys((*COLUMNS, *extra))}
    return pd.DataFrame(made, index=pd.Index(texts(ids, id_codes), name="run_id"), copy=False)


def _duration(numbers: Any, words: Any) -> Any:
    """`RunRecord.duration` of all rows at once."""
    import numpy as np

    values, codes = words("status")
    final = np.array([RunStatus(value).final for value in values], dtype=bool)[codes]
    end = np.where(final, numbers("finished_at"), numbers("observed_at"))
    ran = np.maximum(0.0, end - numbers("started_at"))
    elapsed = numbers("elapsed")
    return np.where(np.isnan(elapsed), ran, elapsed)
