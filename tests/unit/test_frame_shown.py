"""What a frame of runs looks like; in all else it is one of pandas'."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monitor_page
import pandas as pd
import pytest
from kernel import environment

from qwex_jupyter import api
from qwex_jupyter.display import listing, tables
from qwex_jupyter.history import frame
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.text import width_of

COMMAND = "for k in $(seq 60); do echo tick $k; sleep 1; done"


@pytest.fixture
def history(manager: RunManager) -> RunManager:
    """A history with runs of all kinds, a hundred in all."""
    for record in monitor_page.many(99):
        monitor_page.put(manager, record)
    last = {
        "command": COMMAND, "name": "ticks", "cause": "ZeroDivisionError: division by zero",
        "cpu_time": 1.5, "peak_memory": 2**30, "labels": {"a": "b"}, "notebook": "x.ipynb",
        "git_commit": "0" * 40, "message": "Exit code 1.", "reason": "NonZeroExit",
    }  # fmt: skip
    monitor_page.put(manager, monitor_page.record(900, "FAILED", **last))
    return manager


@pytest.fixture
def runs(history: RunManager) -> pd.DataFrame:
    """Its frame."""
    return api.runs_of(history)


def test_a_frame_fits_a_terminal(runs: pd.DataFrame) -> None:
    """In 80 columns there is which, how and why it ended, what, when and how long."""
    head, first, *lines = repr(runs).split("\n")
    assert head.split() == ["run", "status", "name,", "command", "submitted", "time", "memory"]
    assert max(map(width_of, (head, first, *lines))) <= 80
    words = (runs.handle.iloc[0], "✗ failed  ZeroDivisionError…", "ticks  for k", "2s")
    assert all(word in first for word in words)
    assert lines[19].startswith("the newest 20 of 100 runs · 29 succeeded")
    assert lines[-1] == "The frame has all 100 rows; --limit 100 shows 100 of them."
    with pd.option_context("display.width", 180):
        wide = repr(runs).split("\n")
    assert COMMAND in wide[1]
    assert not any(word in repr(runs) for word in ("<NA>", "NaT", "0 days", "None"))


def test_a_terminal_has_the_width_that_it_has(
    runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is printed to a terminal, a frame is as wide as that."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for width in (60, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert width - 12 < max(map(width_of, repr(runs).split("\n"))) <= width


# What is done with a frame; each makes another one.
MADE: dict[str, Callable[[pd.DataFrame], Any]] = {
    "filter": lambda one: one[one.status == "FAILED"],
    "query": lambda one: one.query("exit_code == 1"),
    "sort": lambda one: one.sort_values("duration"),
    "assign": lambda one: one.assign(lr=0.1),
    "columns": lambda one: one[["handle", "name", "status"]],
    "all columns": lambda one: one[list(one.columns)],
    "drop": lambda one: one.drop(columns="labels"),
    "rename": lambda one: one.rename(columns={"name": "called"}),
    "copy": lambda one: one.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "concat": lambda one: pd.concat([one, one]),
    "merge": lambda one: one.merge(one[["message"]], left_index=True, right_index=True),
    "join": lambda one: one.join(one[["message"]].rename(columns={"message": "more"})),
    "head": lambda one: one.head(),
    "tail": lambda one: one.tail(3),
    "iloc": lambda one: one.iloc[:],
    "loc": lambda one: one.loc[one.index[:5]],
    "slice": lambda one: one[:],
    "index": lambda one: one.reset_index(),
    "groupby": lambda one: one.groupby("status", observed=True).head(2),
    "apply": lambda one: one.groupby("status", observed=True)[["exit_code"]].max(),
    "astype": lambda one: one.astype({"name": object}),
    "where": lambda one: one.where(one.exit_code == 1),
    "sample": lambda one: one.sample(3, random_state=1),
    "transposed": lambda one: one.T,
    "described": lambda one: one.describe(),
    "of it": pd.DataFrame,
}


@pytest.mark.parametrize("how", MADE)
def test_what_is_made_of_a_frame_is_one_of_pandas(runs: pd.DataFrame, how: str) -> None:
    """After any operation it is a frame of pandas' own class, with its values and its look."""
    plain = pd.DataFrame(runs)
    made, expected = MADE[how](runs), MADE[how](plain)
    assert type(made) is pd.DataFrame
    pd.testing.assert_frame_equal(made, expected)
    assert repr(made) == repr(expected)
    assert getattr(made, "_repr_html_")() == getattr(expected, "_repr_html_")()  # noqa: B009


def test_a_frame_is_one_of_pandas(runs: pd.DataFrame, history: RunManager) -> None:
    """All columns with their types are there, whatever it looks like."""
    assert isinstance(runs, pd.DataFrame)
    assert list(runs.columns) == list(frame.COLUMNS)
    plain = history.history.frame()
    assert type(plain) is pd.DataFrame
    pd.testing.assert_frame_equal(pd.DataFrame(runs), plain)
    assert runs.duration.dtype.kind == "m"
    assert isinstance(runs.groupby("status", observed=True).duration.max(), pd.Series)
    assert runs.to_csv() == plain.to_csv()


def _add(one: pd.DataFrame) -> None:
    one["lr"] = 0.1


def _write(one: pd.DataFrame) -> None:
    one["status"] = 7


def _name(one: pd.DataFrame) -> None:
    one["name"] = [1] * len(one)


def _rename(one: pd.DataFrame) -> None:
    one.index.name = "id"
    one.index = one.index.astype(object)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize(
    "change",
    [
        _add,
        _write,
        _name,
        _rename,
        lambda one: one.pop("labels"),
        lambda one: one.sort_values("duration", inplace=True),
        lambda one: one.drop(index=one.index[:2], inplace=True),
        lambda one: one.reset_index(inplace=True),
    ],
)
def test_a_frame_that_was_changed_looks_as_pandas_shows_it(
    runs: pd.DataFrame, change: Callable[[pd.DataFrame], None]
) -> None:
    """What a person did to it in place is seen, as pandas shows it."""
    change(runs)
    assert repr(runs) == repr(pd.DataFrame(runs))
    assert "tex2jax_ignore" in (runs._repr_html_() or "")


def test_a_value_that_was_changed_is_shown(runs: pd.DataFrame) -> None:
    """The look of a frame is made of what it holds, not of what was read once."""
    runs.loc[runs.index[0], "name"] = "renamed"
    assert "renamed" in repr(runs)
    assert "ticks" not in repr(runs)


def test_a_frame_shows_what_was_asked_for(runs: pd.DataFrame, history: RunManager) -> None:
    """With all columns or rows asked of pandas, or more columns of the history, pandas shows it."""
    plain = pd.DataFrame(runs)
    for option in ("display.max_columns", "display.max_rows"):
        with pd.option_context(option, None):
            assert repr(runs) == repr(plain)
            assert "20 of 100" not in (runs._repr_html_() or "")
    with pd.option_context("display.max_rows", 5):
        assert "the newest 5 of 100 runs" in repr(runs)
    assert "the newest" not in repr(api.runs_of(history, extra="cwd"))
    assert "the newest" not in repr(api.runs_of(history, limit=30))
    assert len(repr(api.runs_of(history, limit=30)).split("\n")) == 33


def test_a_frame_without_rows_says_what_to_do(manager: RunManager) -> None:
    """No runs yet, and none that are like that, are two things."""
    for look in (repr, lambda one: one._repr_html_()):
        assert "Start one: write %%qwex above" in look(api.runs_of(manager))
        assert "No run is like that" in look(api.runs_of(manager, status="failed"))


def test_no_command_is_a_formula(runs: pd.DataFrame) -> None:
    """A front end is told to leave dollars alone, also in a frame that was changed in place."""
    for change in (lambda _: None, _add):
        change(runs)
        made = runs._repr_html_() or ""
        assert made.startswith('<div class="tex2jax_ignore mathjax_ignore')
        assert "$(seq 60)" in made
        with pd.option_context("display.notebook_repr_html", False):
            assert runs._repr_html_() is None


def test_a_page_has_the_newest_runs(runs: pd.DataFrame) -> None:
    """In HTML there are 20 rows, causes, and durations as they read everywhere else."""
    made = runs._repr_html_() or ""
    assert made.count("<tr>") == 21
    assert "ZeroDivisionError: division by zero" in made
    assert ">2s<" in made
    assert not any(word in made for word in ("&lt;NA&gt;", "NaT", "0 days", "None"))


def test_a_look_costs_few_rows_however_many_there_are(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred thousand runs 20 are made into text, and their specs are read once."""
    monitor_page.put(manager, monitor_page.record(0))
    one = manager.history.frame()
    many = one.loc[one.index.repeat(100_000)]
    made, read = [], []
    told = listing.why
    monkeypatch.setattr(listing, "why", lambda record: made.append(record) or told(record))

    def spec_fact(_: Any, run: str) -> dict[str, Any]:
        read.append(run)
        return {"spec": {}}

    monkeypatch.setattr(type(manager.history), "spec_fact", spec_fact)
    shown = frame.with_face(many, tables.face_of(manager.history), 20)
    text, html = repr(shown), shown._repr_html_()
    assert "the newest 20 of 100,000 runs" in text
    assert "the newest 20 of 100,000 runs" in html
    assert len(made) == 40
    assert set(read) == {one.index[0]}
    assert len(read) <= 20


def test_a_terminal_shows_it(tmp_path: Path) -> None:
    """``%qwex runs`` in IPython has the columns that matter, and keeps the frame in ``_``."""
    code = "%load_ext qwex_jupyter\n%qwex run --name seen true\n%qwex runs\nprint(_.name.iloc[0])\n"
    (tmp_path / "x.ipy").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt"],
        input=code, env=environment(tmp_path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert re.search("run +status +name, command +submitted +time", done.stdout)
    assert re.search("✓ succeeded +seen  true +", done.stdout)
    assert "1 run · 1 succeeded · local · as of " in done.stdout
    assert max(map(width_of, done.stdout.split("\n"))) <= 80
    assert "seen\n" in done.stdout


def test_runs_are_read_when_pandas_is_there(tmp_path: Path) -> None:
    """The first table isn't older than it says: runs are read after pandas was imported."""
    code = (
        "import sys\n"
        "from qwex_jupyter.history import cache, frame\n"
        "from qwex_jupyter.history.folders import RunFolders\n"
        "class Looked(Exception): pass\n"
        "def look(*args, **more): raise Looked('pandas' in sys.modules)\n"
        "cache.look = look\n"
        "try: frame.read(RunFolders(sys.argv[1]))\n"
        "except Looked as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
