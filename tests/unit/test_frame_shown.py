"""What a frame of runs looks like; in all else it is one of pandas'."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import monitor_page
import pandas as pd
import pytest
from kernel import environment

from qwex_jupyter.manager.manager import RunManager

COMMAND = "for k in $(seq 60); do echo tick $k; sleep 1; done"


@pytest.fixture
def runs(manager: RunManager) -> pd.DataFrame:
    """A history with runs of all kinds, a hundred in all."""
    for record in monitor_page.many(99):
        monitor_page.put(manager, record)
    last = {"command": COMMAND, "name": "ticks", "reason": "StartDeadlineExceeded"}
    monitor_page.put(manager, monitor_page.record(900, "FAILED", **last))
    return manager.history.frame()


@pytest.mark.usefixtures("new_york")
def test_a_frame_fits_a_terminal(runs: pd.DataFrame) -> None:
    """In 80 columns there is which, how and why it ended, where, when, how long, and what."""
    head, first, *lines = repr(runs).split("\n")
    assert head.split() == ["run", "status", "reason", "runner", "started", "duration", "command"]
    assert max(map(len, (head, first, *lines))) <= 80
    words = (runs.handle.iloc[0], "FAILED", "StartDeadlineE", "local", "10:28", "2s", "for k")
    assert all(word in first for word in words)
    assert lines[-1] == "[100 rows x 21 columns, times are local]"
    assert lines[4] == "…"
    assert len(lines) == 12
    with pd.option_context("display.width", 160, "display.max_rows", None):
        wide = repr(runs).split("\n")
    assert COMMAND in wide[1]
    assert len(wide) == 103


def test_a_frame_shows_what_was_chosen(runs: pd.DataFrame) -> None:
    """With columns that a person chose, added or asked to see, a frame is shown by pandas."""
    plain = pd.DataFrame(runs)
    for change in (
        lambda one: one[["status", "runner"]],
        lambda one: one.assign(lr=0.1),
        lambda one: one.reset_index(),
        lambda one: one.head(0),
    ):
        assert repr(change(runs)) == repr(change(plain))
    with pd.option_context("display.max_columns", None):
        assert repr(runs) == repr(plain)


def test_a_frame_is_one_of_pandas(runs: pd.DataFrame) -> None:
    """What is made of it, kept or read again is as of a frame that pandas made."""
    plain = pd.DataFrame(runs)
    assert isinstance(runs, pd.DataFrame)
    pd.testing.assert_frame_equal(runs, plain)
    assert type(pickle.loads(pickle.dumps(runs))) is pd.DataFrame
    assert type(pickle.loads(pickle.dumps(runs[runs.status == "FAILED"]))) is pd.DataFrame
    joined = pd.concat([runs, plain]).merge(plain, left_index=True, right_index=True)
    assert len(joined) == 200
    assert isinstance(runs.groupby("status", observed=True).duration.max(), pd.Series)
    assert runs.copy().drop(columns="labels").to_csv() == plain.drop(columns="labels").to_csv()


def test_no_command_is_a_formula(runs: pd.DataFrame) -> None:
    """A front end is told to leave dollars alone, also in rows that were chosen."""
    for one in (runs, runs[runs.status == "FAILED"], runs[["command"]]):
        made = one._repr_html_()
        assert made.startswith('<div class="tex2jax_ignore mathjax_ignore">')
        assert "$(seq 60)" in made
        with pd.option_context("display.notebook_repr_html", False):
            assert one._repr_html_() is None


def test_a_notebook_tells_durations_as_cards_do(runs: pd.DataFrame) -> None:
    """In HTML a duration reads as everywhere else, and in the frame it is what it was."""
    made = runs._repr_html_()
    assert "<td>2s</td>" in made
    assert "0 days" not in made
    assert "0 days" in pd.DataFrame(runs)._repr_html_()
    assert runs.duration.dtype.kind == "m"
    assert runs[["handle", "queued"]]._repr_html_().count("<td>0.5s</td>") > 5


def test_a_terminal_shows_it(tmp_path: Path) -> None:
    """``%qwex runs`` in IPython has the columns that matter, and keeps the frame in ``_``."""
    code = "%load_ext qwex_jupyter\n%qwex run --name seen true\n%qwex runs\nprint(_.name.iloc[0])\n"
    (tmp_path / "x.ipy").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt"],
        input=code, env=environment(tmp_path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "run     status     reason  runner  started       duration  command\n" in done.stdout
    assert "[1 rows x 21 columns, times are local]" in done.stdout
    assert "seen\n" in done.stdout
