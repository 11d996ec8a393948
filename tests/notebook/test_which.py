"""Which value a line means, and which run a verb does."""

from __future__ import annotations

import datetime
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kernel import PATIENCE, Kernel, environment, qwex
from local_helpers import end, sh

from qwex_jupyter.errors import SpecError
from qwex_jupyter.history.since import parse_moment
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.run_ids import new_run_id

# Which value.


@pytest.mark.parametrize(
    "line",
    [
        "    %qwex run --quiet --as made echo {seed} $seed",
        "    get_ipython().run_line_magic('qwex', 'run --quiet --as made echo {seed} ${seed}')",
        "    get_ipython().run_cell_magic('qwex', '--quiet --as made bash - {seed}', 'echo $1 $1')",
        "    made = %qwex rerun echoes --quiet -e SEED={seed}",
        "    %qwex run --quiet --as made --profile seeded sh -c 'echo $SEED $SEED'",
    ],
    ids=["line", "line magic", "cell magic", "rerun", "profile"],
)
def test_the_locals_of_a_function_come_first(k: Kernel, line: str) -> None:
    """A sweep that a function launches runs each of its values, as with ``!``."""
    k.run("%qwex run --quiet --name echoes -e SEED=0 sh -c 'echo $SEED $SEED'")
    k.run("%config Qwex.profiles = {'seeded': '-e SEED={seed}'}")
    k.run(f"seed = 99\ndef launch(seed):\n{line}\n    return made.logs().strip()")
    assert k.value("[launch(i) for i in (1, 2)]") == "['1 1', '2 2']"


def test_what_is_no_local_is_the_notebooks(k: Kernel) -> None:
    """In a function the notebook's variables are there too, and expressions may mix both."""
    k.run("lr = 0.5\ndef launch(n):\n    r = %qwex run --quiet echo {n * lr} $lr\n    return r")
    assert k.value("launch(3).logs()") == "'1.5 0.5\\n'"
    k.run("def only(n):\n    r = %qwex run --quiet echo {[n + i for i in range(2)]}\n    return r")
    assert k.value("only(3).logs()") == "'[3, 4]\\n'"
    assert "neither a variable" in k.run("%qwex run echo $n").stream("stderr")


# Which run.


def test_the_run_of_the_last_cell(k: Kernel) -> None:
    """``rerun``, ``show`` and ``logs`` take the last run and say which; a live one is older."""
    k.run("%%qwex -d --quiet --name old\necho old; sleep 600")
    k.run("%%qwex --no-raise-error --name failed\necho failed; exit 3")
    try:
        cell = k.run("%qwex logs")
        assert cell.stream() == "failed\n"
        assert "the last run, failed (" in cell.text
        cell = k.run("%qwex show")
        assert "failed" in cell.stream().splitlines()[0]
        assert "the last run, failed (" in cell.text
        cell = k.run("again = %qwex rerun --no-raise-error --name again")
        assert k.value("again.logs()") == "'failed\\n'"
        assert "the last run, failed (" in cell.text
        # And those that are about what lives take what lives.
        assert "had not ended" in k.run("%qwex wait --timeout 0.1").stream()
        assert "old" in k.run("%qwex cancel").stream()
        assert k.value("__import__('qwex_jupyter').get('old').wait(60, check=False).reason") == (
            "'CancelledByUser'"
        )
    finally:
        k.run("%qwex cancel --all --grace 0")
    assert k.run("%qwex logs failed").shown == []


def test_a_terminal_takes_the_last_run(tmp_path: Path) -> None:
    """``qwex`` does so too; a person is told which, a pipe gets the run's own bytes."""
    env = environment(tmp_path / "user")
    qwex(env, "run", "-d", "--name", "old", "sleep", "600")
    qwex(env, "run", "--quiet", "--name", "new", "sh", "-c", "echo new; exit 3")
    try:
        done = qwex(env, "logs")
        assert (done.stdout, done.stderr) == (b"new\n", b"")
        assert json.loads(qwex(env, "show", "--json").stdout)["name"] == "new"
        assert qwex(env, "rerun", "--quiet", "--name", "again").stdout == b"new\n"
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "qwex_jupyter.cli", "logs"]
        done = subprocess.run(
            command, env=env, stdout=subprocess.PIPE, stderr=theirs, timeout=PATIENCE, check=True
        )
        os.close(theirs)
        assert done.stdout == b"new\n"
        assert b"qwex: the last run, again (" in os.read(ours, 9999)
        os.close(ours)
        assert qwex(env, "wait", "--timeout", "0.1").returncode == 1
    finally:
        assert "old" in qwex(env, "cancel", "--grace", "0").stdout.decode()


# The newest, and the clock.


def test_a_clock_that_went_back_makes_no_run_the_older(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was submitted last is the newest, by name, in tables, and for other processes."""
    before = end(manager.submit(sh("true", name="n")))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    ids = [end(manager.submit(sh("true", name="n"))).run_id for _ in range(3)]
    other = RunManager(manager.history.home)
    ids.append(end(other.submit(sh("true", name="n"))).run_id)
    for asked in (manager, other):
        assert asked.history.run_ids() == [*reversed(ids), before.run_id]
        assert asked.get("n").run_id == asked.newest().run_id == asked.last().run_id == ids[-1]
        assert list(asked.history.frame().index) == [*reversed(ids), before.run_id]
    other.close()


def test_a_submit_lists_no_runs(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last run was named by is the time of one file, however many runs there are."""
    end(manager.submit(sh("true")))
    listed: list[Any] = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", real=real: listed.append(path) or real(path))
    manager.history.next_moment(0.0)
    assert manager.history.runs_folder not in listed


def test_where_the_last_moment_is_not_known_the_clock_counts(manager: RunManager) -> None:
    """The file that keeps it is made anew where it was removed, and may be a folder."""
    history, path = manager.history, Path(manager.history.home, "last")
    assert history.next_moment(1000.0) == 1000.0
    assert 1000.0 < history.next_moment(10.0) < 1000.001
    path.unlink()
    assert history.next_moment(10.0) == 10.0
    path.unlink()
    path.mkdir()
    assert history.next_moment(20.0) > time.time() - 60


def test_moments_make_names_that_sort() -> None:
    """Two moments one step apart, and a long row of them, make run ids in their order."""
    from qwex_jupyter.model.run_ids import STEP

    ids, moment = [], 1_700_000_000.9
    for _ in range(3000):
        ids.append(new_run_id(moment)[:-3])
        moment += STEP
    assert sorted(set(ids)) == ids


# Since when.

DAY = 86400.0


@pytest.mark.parametrize(
    ("since", "ago"),
    [
        (datetime.timedelta(days=2), 2 * DAY),
        (pd.Timedelta("2D"), 2 * DAY),
        (np.timedelta64(2, "D"), 2 * DAY),
        (np.timedelta64(2 * 86400 * 10**9, "ns"), 2 * DAY),
        ("2 days", 2 * DAY),
        ("1 day 2h", DAY + 7200),
        ("2d", 2 * DAY),
        ("now", 0.0),
    ],
)
def test_an_age_in_any_form(since: Any, ago: float) -> None:
    """Ages of Python, numpy and pandas, and their words for them, count back from now."""
    assert parse_moment(since) == pytest.approx(time.time() - ago, abs=60)


def _local(*parts: int) -> float:
    return datetime.datetime(*parts).timestamp()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        (datetime.date(2020, 5, 1), _local(2020, 5, 1)),
        (datetime.datetime(2020, 5, 1, 12), _local(2020, 5, 1, 12)),
        (pd.Timestamp("2020-05-01 12:00"), _local(2020, 5, 1, 12)),
        (pd.Timestamp("2020-05-01", tz="UTC"), 1588291200.0),
        (np.datetime64("2020-05-01"), 1588291200.0),
        (np.datetime64("2020-05-01T00:00:00.000000001"), 1588291200.0),
        ("2020-05-01", _local(2020, 5, 1)),
        ("2020-05", _local(2020, 5, 1)),
        ("2020/05/01", _local(2020, 5, 1)),
        ("1 May 2020", _local(2020, 5, 1)),
        ("2020-05-01T00:00:00Z", 1588291200.0),
        (1588291200, 1588291200.0),
        (np.int64(1588291200), 1588291200.0),
        (np.float64(1588291200), 1588291200.0),
    ],
)
def test_a_moment_in_any_form(since: Any, moment: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments of Python, numpy and pandas are local time without a zone, numpy's are UTC."""
    assert parse_moment(since) == moment


@pytest.mark.parametrize(
    "since",
    [True, [1], object(), pd.NaT, np.datetime64("NaT"), np.timedelta64("NaT"), "", "NaT",
     "yesterday", "2020-99-99", datetime.datetime(1, 1, 1), float("nan"), 1e300],
)  # fmt: skip
def test_no_moment_is_a_mistake(manager: RunManager, since: Any) -> None:
    """Whatever else is given is refused in one sentence."""
    with pytest.raises(SpecError, match=r"^since="):
        manager.history.frame(since=since)
