"""Records to a DataFrame. The only module that imports pandas, at first use."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import RunStatus

if TYPE_CHECKING:
    import pandas as pd

    from qwex_jupyter.history import RunHistory

RUNNERS = ("local", "docker", "k8s", "memory", "")


def read(
    history: RunHistory,
    *,
    status: Collection[str] | None,
    runner: Collection[str] | None,
    since: float | None,
    name: str | None,
    limit: int | None,
) -> pd.DataFrame:
    """The rows that are wanted; see `RunHistory.frame`."""
    rows: list[RunRecord] = []
    for record in history.records(since=since):
        if limit is not None and len(rows) >= limit:
            break
        if status is not None and record.status not in status:
            continue
        if runner is not None and record.runner not in runner:
            continue
        if name is not None and record.name != name:
            continue
        rows.append(record)
    return of_records(rows)


def of_records(records: list[RunRecord]) -> pd.DataFrame:
    """A frame of these records, typed the same when there is none."""
    import pandas as pd

    def texts(values: list[Any]) -> Any:
        return pd.array([v or None for v in values], dtype="string")

    def times(values: list[float | None]) -> Any:
        seconds = pd.array(values, dtype="Float64").to_numpy(dtype="float64", na_value=float("nan"))
        return pd.to_datetime(seconds, unit="s", utc=True).as_unit("us")

    def spans(values: list[float | None]) -> Any:
        seconds = pd.array(values, dtype="Float64").to_numpy(dtype="float64", na_value=float("nan"))
        return pd.to_timedelta(seconds, unit="s").as_unit("us")

    runners = [*RUNNERS, *sorted({r.runner for r in records} - set(RUNNERS))]
    columns = {
        "handle": texts([r.handle for r in records]),
        "name": texts([r.name for r in records]),
        "status": pd.Categorical([str(r.status) for r in records], categories=list(RunStatus)),
        "exit_code": pd.array([r.exit_code for r in records], dtype="Int64"),
        "duration": spans([r.duration() for r in records]),
        "runner": pd.Categorical([r.runner for r in records], categories=runners),
        "image": texts([r.image for r in records]),
        "command": texts([r.command for r in records]),
        "reason": texts([r.reason for r in records]),
        "created_at": times([r.created_at or None for r in records]),
        "started_at": times([r.started_at for r in records]),
        "finished_at": times([r.finished_at for r in records]),
        "queued": spans([r.queued for r in records]),
        "cpu_time": spans([r.cpu_time for r in records]),
        "peak_memory": pd.array([r.peak_memory for r in records], dtype="Int64"),
        "notebook": texts([r.notebook for r in records]),
        "git_commit": texts([r.git_commit for r in records]),
        "labels": pd.Series([dict(r.labels) for r in records], dtype=object).array,
        "observed_at": times([r.observed_at or None for r in records]),
        "message": texts([r.message for r in records]),
    }
    index = pd.Index(pd.array([r.run_id for r in records], dtype="string"), name="run_id")
    return pd.DataFrame(columns, index=index)
