"""``runs()`` over 10 000 and 100 000 records, beside the naive loop, MLflow and Feather.

Each reading is of a process of its own, which has made its imports, and one frame of nearly
nothing, before the clock starts.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import rotate, table

SIZES = (10_000, 100_000)
# MLflow takes seconds for 10 000 runs, and is asked about no more.
MLFLOW_SIZE, MLFLOW_ROUNDS = 10_000, 3
CHANGES = 10
LETTERS = "bcdfghjkmnpqrstvwxz"


def main(rounds: int) -> list[str]:
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            lines += [*_compare(os.path.join(folder, str(size)), size, rounds), ""]
    lines.append(
        "Cold: no cache of ours; the files are in the system's. Changed: since the last call "
        f"{CHANGES} runs are new, {CHANGES} have ended and {2 * CHANGES} were deleted, and it is "
        "checked that all this was seen."
    )
    absent = [name for name in ("mlflow", "sqlalchemy", "pyarrow") if not find_spec(name)]
    return [*lines, *(f"Absent, so not measured: {name}." for name in absent)]


def _compare(folder: str, size: int, rounds: int) -> list[str]:
    home, kept = os.path.join(folder, "home"), os.path.join(folder, "cache")
    runs = os.path.join(home, "runs")
    os.environ["XDG_CACHE_HOME"] = kept
    for number in range(size):
        _write(runs, number)
    deleted = iter(sorted(os.listdir(runs), reverse=True))

    def cold() -> float:
        shutil.rmtree(kept, ignore_errors=True)
        return _timed("ours", home, size)

    def warm() -> float:
        # A folder's time that is younger than its clock's step isn't believed.
        time.sleep(2.1)
        _timed("ours", home, size)
        return _timed("ours", home, size)

    def changed() -> float:
        live = [_write(runs, size + random.randrange(10**6), ended=False) for _ in range(CHANGES)]
        _timed("ours", home, size + CHANGES, living=CHANGES)
        for folder in live:
            os.rename(os.path.join(folder, ".end"), os.path.join(folder, "run.json"))
            _write(runs, size + random.randrange(10**6))
            for _ in range(2):
                shutil.rmtree(os.path.join(runs, next(deleted)))
        return _timed("ours", home, size)

    cases: dict[str, Callable[[], float]] = {
        "naive: `json.loads` in a loop": lambda: _timed("naive", home, size),
        "`runs()`, cold": cold,
        "`runs()`, warm": warm,
        "`runs()`, warm, changed": changed,
    }
    _timed("ours", home, size)
    if find_spec("pyarrow"):
        feather = os.path.join(folder, "runs.feather")
        _child("make_feather", home, feather)
        cases["Feather to pandas"] = lambda: _timed("feather", feather, size)
    found = rotate(cases, rounds)
    if size <= MLFLOW_SIZE and find_spec("mlflow") and find_spec("sqlalchemy"):
        database = os.path.join(folder, "mlflow.db")
        _child("make_mlflow", home, database)
        found["MLflow `search_runs`"] = [
            _timed("mlflow", database, size) for _ in range(MLFLOW_ROUNDS)
        ]
    return table(f"The history, {size:,} records", found, "naive: `json.loads` in a loop")


def _run_id(began: float) -> str:
    handle = "".join(random.choices(LETTERS, k=6))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-{handle}"


def _write(runs: str, number: int, *, ended: bool = True) -> str:
    """Makes the folder of a run by writing its two files; the folder."""
    began = 1.6e9 + 7 * number
    run_id = _run_id(began)
    failed = number % 10 == 0
    handle = run_id[-6:]
    about = {
        "run_id": run_id,
        "runner": "local",
        "created_at": began,
        "notebook": f"/home/user/notebooks/n{number % 20}.ipynb",
        "session": f"kernel-{number % 300}",
        "git_commit": f"{number // 100:040x}",
        "identity": "local:host:4f0c3d5e8b1a:4026531836",
        "host": "host",
        "cwd": "/home/user/notebooks",
        "command": f"python train.py --seed {number} --lr 0.{number % 97}",
    }
    words = {
        "name": f"train-{number % 50}",
        "image": "python:3.12",
        "labels": {"team": "a", "lr": f"0.{number % 97}"},
    }
    end = {
        "status": "FAILED" if failed else "SUCCEEDED",
        "reason": "NonZeroExit" if failed else "",
        "message": f"Exit code 1. All of its lines: %qwex logs {handle}" if failed else "",
        "exit_code": int(failed),
        "started_at": began + 0.5,
        "finished_at": began + 6.5,
        "observed_at": began + 6.5,
        "elapsed": 6.0,
        "cpu_time": 5.5,
        "peak_memory": 10**8 + number,
        "overrun": None,
        "progress": "",
        "log_missing": {},
        "uid": "12345:67890",
        "image_digest": "",
        "nonce": "0123456789abcdef",
    }
    folder = os.path.join(runs, run_id)
    os.makedirs(folder)
    spec = json.dumps({**about, "spec": words}) + "\n"
    for name, text in (
        ("spec.json", spec),
        ("run.json" if ended else ".end", json.dumps({**about, **words, **end}) + "\n"),
    ):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return folder


def _timed(case: str, where: str, rows: int, living: int = 0) -> float:
    seconds, found, alive = json.loads(_child(case, where))
    if (found, alive) != (rows, living):
        raise RuntimeError(f"{case}: {found} rows, {alive} live, and not {rows} and {living}")
    return float(seconds)


def _child(case: str, *arguments: str) -> str:
    command = [sys.executable, os.path.abspath(__file__), case, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().rpartition("\n")[2]


def _measure(call: Callable[[], Any]) -> None:
    start = time.perf_counter()
    rows = call()
    seconds = time.perf_counter() - start
    living = sum(str(word) in ("PENDING", "RUNNING") for word in rows.get("status", ()))
    print(json.dumps([seconds, len(rows), living]))


def ours(home: str) -> None:
    from qwex_jupyter.history.history import RunHistory

    with tempfile.TemporaryDirectory() as empty:
        RunHistory(empty).frame()
    _measure(RunHistory(home).frame)


def naive(home: str) -> None:
    import pandas as pd

    def read(home: str) -> pd.DataFrame:
        records = []
        for folder in sorted(Path(home, "runs").iterdir(), reverse=True):
            path = folder / "run.json"
            if path.exists():
                records.append(json.loads(path.read_text()))
        rows = pd.DataFrame(records)
        for name in ("created_at", "started_at", "finished_at", "observed_at"):
            rows[name] = pd.to_datetime(rows[name], unit="s", utc=True)
        return rows

    with tempfile.TemporaryDirectory() as tiny:
        _write(os.path.join(tiny, "runs"), 0)
        read(tiny)
    _measure(lambda: read(home))


def feather(path: str) -> None:
    import io

    import pandas as pd

    tiny = io.BytesIO()
    pd.DataFrame({"a": ["b"]}).to_feather(tiny)
    pd.read_feather(tiny)
    _measure(lambda: pd.read_feather(path))


def make_feather(home: str, path: str) -> None:
    from qwex_jupyter.history.history import RunHistory

    rows = RunHistory(home).frame().reset_index()
    rows["labels"] = rows["labels"].map(json.dumps)
    rows.to_feather(path, compression="uncompressed")


def mlflow(path: str) -> None:
    import mlflow as library

    library.set_tracking_uri(f"sqlite:///{path}")
    library.search_runs(max_results=1)
    _measure(lambda: library.search_runs(max_results=MLFLOW_SIZE))


def make_mlflow(home: str, path: str) -> None:
    """A database with the same runs, put in by SQL: by the API it would take minutes."""
    import sqlite3

    import mlflow as library

    library.set_tracking_uri(f"sqlite:///{path}")
    library.search_runs(max_results=1)  # makes the tables
    runs, params, metrics, tags = [], [], [], []
    for number, name in enumerate(os.listdir(os.path.join(home, "runs"))[:MLFLOW_SIZE]):
        key, began = f"{number:032x}", 1_600_000_000_000 + 7000 * number
        runs.append((key, name, "user", "FINISHED", began, began + 6500, "active", "0"))
        params += [(key, "image", "python:3.12"), (key, "lr", f"0.{number % 97}")]
        params.append((key, "command", f"python train.py --seed {number}"))
        metrics += [(key, "exit_code", 0.0), (key, "cpu_time", 5.5), (key, "peak_memory", 1e8)]
        tags += [(key, "mlflow.runName", name), (key, "runner", "local"), (key, "git", "0" * 40)]
    with sqlite3.connect(path) as database:
        database.executemany(
            "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, "
            "lifecycle_stage, experiment_id, artifact_uri) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
            runs,
        )
        database.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", params)
        database.executemany(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) "
            "VALUES (?, ?, ?, 0, 0, 0)",
            metrics,
        )
        database.executemany("INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", tags)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
