"""Finding runs among many: by what a person says, the newest, those that may go.

It goes through the `cache`, so that of 100 000 runs only those are opened that have not ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from qwex_jupyter import cache, columns
from qwex_jupyter.columns import Words
from qwex_jupyter.errors import AmbiguousRun, RunNotFound
from qwex_jupyter.record import RunRecord, is_run_id
from qwex_jupyter.status import Reason, RunStatus

if TYPE_CHECKING:
    from qwex_jupyter.history import RunHistory

_LISTED = 8


def resolve(history: RunHistory, ref: str) -> str:
    """See `RunHistory.resolve`."""
    if is_run_id(ref) and os.path.isdir(history.folder(ref)):
        return ref
    known, rows = cache.look(history, ["name"])
    all_ids, names = columns.names_of(known), known["name"]
    assert isinstance(names, Words)
    ids = [all_ids[row] for row in rows]
    if ref in ids:
        return ref
    found = [run_id for run_id in ids if run_id.rpartition("-")[2] == ref]
    codes = names.numbers_of([ref]) if ref else set()
    named = next((all_ids[row] for row in rows if names.codes[row] in codes), None)
    if named and named not in found:
        found.append(named)
    if not found and len(ref) >= 2:
        found = [i for i in ids if i.startswith(ref) or i.rpartition("-")[2].startswith(ref)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFound(f"No run goes by {ref!r}. %qwex runs lists them.")
    listed = ", ".join(f"{history.record(run_id).title} of {run_id}" for run_id in found[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise AmbiguousRun(f"{ref!r} may mean {listed}{more}: give more letters or the run id.")


def newest(history: RunHistory, live: bool | None, wanted: Mapping[str, str]) -> str | None:
    """See `RunHistory.newest`."""
    if live is not False:
        for run_id in reversed(history.open_ids()):
            try:
                record = history.record(run_id)
            except RunNotFound:
                continue  # on the list before its folder, or longer than it
            mine = all(getattr(record, key) == value for key, value in wanted.items())
            if mine and not record.status.final:
                return run_id
    if live:
        return None
    known, rows = cache.look(history, ["reason", "status", *wanted])
    ended = [str(status) for status in RunStatus if status.final or live is None]
    allowed = {"status": ended, **{key: [value] for key, value in wanted.items()}}
    for key, words in allowed.items():
        column = known[key]
        assert isinstance(column, Words)
        codes = column.numbers_of(words)
        rows = [row for row in rows if column.codes[row] in codes]
    reasons = known["reason"]
    assert isinstance(reasons, Words)
    damaged = reasons.numbers_of([Reason.UNREADABLE])
    first = next((row for row in rows if reasons.codes[row] not in damaged), None)
    return None if first is None else columns.names_of(known)[first]


def prunable(
    history: RunHistory,
    older: float | None,
    keep_bytes: int | None,
    statuses: Collection[str] | None,
) -> list[tuple[RunRecord, int]]:
    """See `RunHistory.prunable`."""
    known, rows = cache.look(history)
    ids, now = columns.names_of(known), time.time()
    sizes: dict[str, int] = {}
    if keep_bytes is not None:
        sizes = {ids[row]: _size(os.path.join(history.runs_folder, ids[row])) for row in rows}
    total = sum(sizes.values())
    going = []
    for row in reversed(rows):
        record = columns.record_at(known, row)
        if not record.status.final or record.reason == Reason.UNREADABLE:
            continue
        if statuses is not None and record.status not in statuses:
            continue
        ended_at = record.finished_at or record.observed_at
        too_old = older is not None and now - ended_at > older
        too_much = keep_bytes is not None and total > keep_bytes
        if too_old or too_much or (older is None and keep_bytes is None):
            folder = os.path.join(history.runs_folder, record.run_id)
            size = sizes[record.run_id] if sizes else _size(folder)
            total -= size
            going.append((record, size))
    return going


def _size(folder: str) -> int:
    """The bytes of the files in a folder."""
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(root, file)).st_size
            except OSError:
                pass  # gone since it was listed
    return total
