"""Finding runs among many: by what a person says, the newest, those that may go.

It goes through the `cache`, so that of 100 000 runs only those are opened that have not ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import islice

from qwex_jupyter.errors import AmbiguousRun, RunNotFound, SpecError
from qwex_jupyter.history import cache, columns
from qwex_jupyter.history.columns import Words
from qwex_jupyter.history.folders import RunFolders
from qwex_jupyter.model.record import RunRecord, is_run_id
from qwex_jupyter.model.status import Reason, RunStatus

_LISTED = 8


def resolve(folders: RunFolders, ref: str) -> str:
    """The run id that a person means.

    A run id, a handle, a ``--name`` (its newest run), or the unique beginning of a
    handle or run id.

    Raises:
        RunNotFound: Nothing goes by that.
        AmbiguousRun: More than one does; the message lists them.
    """
    if is_run_id(ref) and os.path.isdir(folders.folder(ref)):
        return ref
    known, rows = cache.look(folders, ["name"])
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
    listed = ", ".join(f"{folders.record(run_id).title} of {run_id}" for run_id in found[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise AmbiguousRun(f"{ref!r} may mean {listed}{more}: give more letters or the run id.")


def newest(folders: RunFolders, *, live: bool | None = None, **wanted: str) -> str | None:
    """The newest run, unfinished ones first; None when there is none.

    Args:
        folders: Where the runs are.
        live: Only runs that live (True) or that ended (False).
        wanted: Fields of its record and what they must say.
    """
    if live is not False:
        for run_id in reversed(folders.open_ids()):
            try:
                record = folders.record(run_id)
            except RunNotFound:
                continue  # on the list before its folder, or longer than it
            mine = all(getattr(record, key) == value for key, value in wanted.items())
            if mine and not record.status.final:
                return run_id
    if live:
        return None
    statuses = [str(status) for status in RunStatus if status.final or live is None]
    found = _newest_with(folders, {"status": statuses, **{k: [v] for k, v in wanted.items()}}, 1)
    return found[0] if found else None


def newest_successes(folders: RunFolders, count: int, **wanted: str) -> list[str]:
    """The newest runs that succeeded, so many at the most.

    Args:
        folders: Where the runs are.
        count: How many.
        wanted: Fields of their records and what they must say.
    """
    allowed = {"status": [str(RunStatus.SUCCEEDED)], **{k: [v] for k, v in wanted.items()}}
    return _newest_with(folders, allowed, count)


def _newest_with(folders: RunFolders, allowed: dict[str, list[str]], count: int) -> list[str]:
    """The newest runs of which these columns say one of these words, damaged ones left out."""
    known, rows = cache.look(folders, ["reason", *allowed])
    for key, words in allowed.items():
        column = known[key]
        assert isinstance(column, Words)
        codes = column.numbers_of(words)
        rows = [row for row in rows if column.codes[row] in codes]
    reasons = known["reason"]
    assert isinstance(reasons, Words)
    damaged = reasons.numbers_of([Reason.UNREADABLE])
    found = islice((row for row in rows if reasons.codes[row] not in damaged), count)
    return [columns.names_of(known)[row] for row in found]


def prunable(
    folders: RunFolders,
    *,
    older: float | None = None,
    keep_bytes: int | None = None,
    status: str | Iterable[str] | None = None,
) -> list[tuple[RunRecord, int]]:
    """The ended runs that go, oldest first, each with the bytes of its folder.

    Those go that are too old, and the oldest of those that are too much; without a
    bound all go. What lives, and what can't be read (it may live), never goes.

    Args:
        folders: Where the runs are.
        older: Seconds since its end.
        keep_bytes: What all runs together, live ones too, may take up on disk.
        status: Only these statuses, in any case.

    Raises:
        SpecError: A status isn't one that ends a run.
    """
    statuses = statuses_of(status)
    for word in statuses or ():
        if not RunStatus(word).final:
            raise SpecError(f"status={word!r}: a run that lives is never pruned.")
    known, rows = cache.look(folders)
    ids, now = columns.names_of(known), time.time()
    sizes: dict[str, int] = {}
    if keep_bytes is not None:
        sizes = {ids[row]: _size(os.path.join(folders.runs_folder, ids[row])) for row in rows}
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
            folder = os.path.join(folders.runs_folder, record.run_id)
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


def words(value: str | Iterable[str] | None, form: Callable[[str], str]) -> list[str] | None:
    """One text or several as a list of texts in one form; None for no wish."""
    if value is None:
        return None
    return [form(str(word)) for word in ([value] if isinstance(value, str) else value)]


def statuses_of(status: str | Iterable[str] | None) -> list[str] | None:
    """Statuses in any case as the members of `RunStatus`; None for no wish.

    Raises:
        SpecError: A word isn't one.
    """
    wanted = words(status, str.upper)
    for word in wanted or ():
        if word not in RunStatus.__members__:
            allowed = ", ".join(RunStatus.__members__)
            raise SpecError(f"status={word!r} isn't one of {allowed}.")
    return wanted
