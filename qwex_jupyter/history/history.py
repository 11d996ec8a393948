"""RunHistory: what can be asked of all runs: which is meant, the newest, a DataFrame of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.history import search
from qwex_jupyter.history.folders import RunFolders
from qwex_jupyter.history.since import parse_moment

if TYPE_CHECKING:
    import pandas as pd


class RunHistory(RunFolders):
    """All runs of one home folder; see `RunFolders`."""

    resolve, newest, prunable = search.resolve, search.newest, search.prunable
    newest_successes = search.newest_successes

    def frame(
        self,
        *,
        status: str | Iterable[str] | None = None,
        runner: str | Iterable[str] | None = None,
        since: Any = None,
        name: str | None = None,
        limit: int | None = None,
        extra: str | Iterable[str] = (),
    ) -> pd.DataFrame:
        """One row per run, newest on top. See `qwex_jupyter.history.frame` for the columns.

        Args:
            status: Only these statuses, in any case.
            runner: Only these runners.
            since: A time, or an age like ``2h`` or ``7d``; see `since.parse_moment`.
            name: Only runs of this ``--name``.
            limit: So many rows at the most.
            extra: More columns: further fields of `RunRecord`, or ``log_path``.

        Raises:
            SpecError: A value isn't one of the allowed.
        """
        from qwex_jupyter.history import frame

        if limit is not None and limit < 0:
            raise SpecError(f"limit={limit} must not be negative.")
        return frame.read(
            self,
            status=search.statuses_of(status),
            runner=search.words(runner, str.lower),
            since=None if since is None else parse_moment(since),
            name=name,
            limit=limit,
            extra=search.words(extra, str) or [],
        )
