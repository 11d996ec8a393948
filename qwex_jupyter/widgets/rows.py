"""What the page knows of a run: records to rows, and rows to what goes over the wire. Pure."""

from __future__ import annotations

import math
from array import array
from collections import UserDict
from collections.abc import Iterable, Sequence
from typing import Any

from qwex_jupyter.display.format import share_of
from qwex_jupyter.display.progress import Progress
from qwex_jupyter.history.columns import NO_NUMBER, Column, Columns, Words, names_of
from qwex_jupyter.model.cause import beyond
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain

# The names are those that monitor.js uses. Times are seconds since the epoch.
FIELDS = (
    *("run", "status", "reason", "cause", "name", "runner", "image", "created", "started", "took"),
    *("exit", "command", "notebook", "labels", "message", "progress", "seen"),
    # How far it is of 100, by what, when it will be done, and how long it takes as a rule.
    *("done", "doing", "until", "usual"),
)
Row = tuple[Any, ...]

# What a cell of the table can show, and a filter look at; the whole stands in the details.
_TEXT = 300
_RECORD_FIELDS = (
    *("run_id", "status", "reason", "cause", "name", "runner", "image", "created_at", "started_at"),
    *("finished_at", "elapsed", "exit_code", "command", "notebook", "labels", "message"),
    *("progress", "observed_at"),
)
# Fields in which many rows say the same.
_REPEATED = frozenset(
    (
        *("status", "reason", "cause", "name", "runner", "image", "exit", "command"),
        *("notebook", "labels"),
    )
)
_FINAL = frozenset(str(status) for status in RunStatus if status.final)
# While one of these holds, the row says when it was last seen.
_UNREACHABLE = frozenset((str(Reason.BACKEND_UNREACHABLE), str(Reason.HOST_UNREACHABLE)))
WANTED = _RECORD_FIELDS


def of_record(record: RunRecord) -> Row:
    """The row of one run."""
    return _row(tuple(getattr(record, name) for name in _RECORD_FIELDS))


class Rows(UserDict[str, Any]):
    """The rows of many runs by run id; those of a history are made when they are wanted.

    A page begins with few of them, and should not wait for the others.

    Args:
        found: The columns `WANTED` of a history.
        order: Which rows of them.
    """

    def __init__(self, found: Columns, order: Iterable[int] = ()) -> None:
        self._columns = [found.get(name, array("d")) for name in _RECORD_FIELDS]
        names = names_of(found) if found else []
        # A row, or where in the columns it will be made of.
        super().__init__()
        self.data = {names[number]: number for number in order}

    def __getitem__(self, run_id: str) -> Row:
        row: Row | int = self.data[run_id]
        if isinstance(row, int):
            self.data[run_id] = row = _row(tuple(self._at(column, row) for column in self._columns))
        return row

    def status(self, run_id: str) -> str:
        """The status in one of them."""
        row = self.data[run_id]
        return str(self._at(self._columns[1], row) if isinstance(row, int) else row[1])

    def count(self) -> dict[str, int]:
        """How many there are of each status."""
        counts = dict.fromkeys(map(str, RunStatus), 0)
        for run_id in self.data:
            counts[self.status(run_id)] += 1
        return counts

    @staticmethod
    def _at(column: Column, number: int) -> Any:
        if isinstance(column, Words):
            return column.values[column.codes[number]]
        return _number(column[number])


def _number(value: float) -> float | None:
    return None if value == NO_NUMBER or math.isnan(value) else value


def _row(values: tuple[Any, ...]) -> Row:
    (run_id, status, reason, cause, name, runner, image, created, started, finished, elapsed, code,
     command, notebook, labels, message, progress, observed) = values  # fmt: skip
    status, reason = str(status), str(reason)
    if elapsed is None and status in _FINAL and started is not None and finished is not None:
        elapsed = max(0.0, finished - started)
    return (
        run_id,
        status,
        reason,
        _text(cause),
        _text(name),
        runner,
        _text(image),
        _second(created) or None,
        _second(started),
        round(elapsed, 6) if elapsed is not None and status in _FINAL else None,
        code,
        _text(command),
        _text(notebook),
        _text(" ".join(f"{key}={value}" for key, value in dict(labels).items())),
        _text(beyond(message, cause)),
        _text(progress),
        _second(observed) if reason in _UNREACHABLE else None,
        share_of(progress),
        "",
        None,
        None,
    )


def with_progress(row: Row, progress: Progress | None, usual: float | None = None) -> Row:
    """The row of a run whose program says how far it is, or which takes so long as a rule."""
    if progress is None:
        said: Row = "", None, "", None
    else:
        until = None if progress.until is None else round(progress.until)
        said = progress.said, progress.percent, _text(progress.label), until
    values = dict(zip(("progress", "done", "doing", "until"), said, strict=True))
    values["usual"] = round(usual, 1) if usual else None
    return tuple(values.get(field, old) for field, old in zip(FIELDS, row, strict=True))


def _text(value: str) -> str:
    """In one line and not longer than can be shown; what a terminal would obey is dropped."""
    if not value:
        return ""
    text = plain(" ".join(value[: 2 * _TEXT].split()))
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"


def _second(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def pack(rows: Sequence[Row]) -> dict[str, Any]:
    """Many rows, field by field: a list, or, where many say the same, what is said and by whom."""
    packed: dict[str, Any] = {}
    for number, field in enumerate(FIELDS):
        values = [row[number] for row in rows]
        if field in _REPEATED and len(rows) > 1:
            place: dict[Any, int] = {}
            at = [place.setdefault(value, len(place)) for value in values]
            packed[field] = {"of": list(place), "at": at if len(place) > 1 else []}
        else:
            packed[field] = values
    return packed


def difference(before: Row, after: Row) -> dict[str, Any]:
    """The fields that say something else now."""
    pairs = zip(FIELDS, before, after, strict=True)
    return {field: new for field, old, new in pairs if old != new}
