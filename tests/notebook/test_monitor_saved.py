"""The monitor in a notebook that a program executes, and that is read without a kernel."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from converted import FORMATS, convert
from kernel import PATIENCE, end_runs, environment, ports
from monitor_page import put, record
from nbclient import NotebookClient
from traitlets.config import Config

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.widgets.feed import FIRST

pytestmark = pytest.mark.kernel

RUNS = 2000
# A program that executes notebooks can't be asked; this one says that it can, as a person could.
ASKABLE = "get_ipython().parent_header['content']['allow_stdin'] = True\n"


def executed(folder: Path, *cells: str) -> Any:
    """A notebook after nbclient, with what that stores of widgets, over 2,000 runs."""
    env = environment(folder / "user")
    manager = RunManager(env["QWEX_HOME"])
    for number in range(RUNS):
        put(manager, record(number, "FAILED" if number % 4 == 0 else "SUCCEEDED", name="many"))
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in ("%load_ext qwex_jupyter", *cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    where = {"metadata": {"path": str(folder)}}
    try:
        client = NotebookClient(
            book,
            timeout=int(PATIENCE),
            resources=where,
            store_widget_state=True,
            config=Config(KernelManager=ports()),
        )
        client.execute(env={**os.environ, **env}, cwd=str(folder))
    finally:
        end_runs(env)
    return book


def test_an_executed_notebook_holds_a_table_and_no_widget(tmp_path: Path) -> None:
    """Under nbclient nothing of a widget is stored, and few bytes however long the history is."""
    book = executed(tmp_path, "%qwex monitor", "import qwex_jupyter\nqwex_jupyter.monitor()")
    assert "widgets" not in book.metadata
    for cell in book.cells[1:]:
        (output,) = cell.outputs
        assert sorted(output.data) == ["text/html", "text/plain"]
        assert (
            "the newest 20 of 2,000 runs · 1,500 succeeded · 500 failed" in output.data["text/html"]
        )
        assert len(json.dumps(cell)) < 30_000
    for how in FORMATS:
        text = convert(book, how)
        assert text.count("the newest 20 of 2,000 runs") == 2


def test_a_saved_monitor_says_everything_once(tmp_path: Path) -> None:
    """Read without a kernel, in any format, there is one table with one sum of all runs."""
    book = executed(tmp_path, f"{ASKABLE}%qwex monitor")
    plain = [output.data["text/plain"] for output in book.cells[1].outputs]
    assert "\n".join(plain).count("2,000 runs") == 1
    for _ in ("with the state of the widget", "without"):
        for how in FORMATS:
            assert convert(book, how).count("2,000 runs") == 1, how
        book.metadata.pop("widgets", None)


def test_a_widget_that_is_stored_holds_the_newest_runs_alone(tmp_path: Path) -> None:
    """Where the state of a widget is stored all the same, its runs take less than 100 kB."""
    book = executed(tmp_path, f"{ASKABLE}%qwex monitor")
    stored = book.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    (state,) = (each["state"] for each in stored.values() if "snapshot" in each["state"])
    code = sum(len(state.pop(name)) for name in ("_esm", "_css"))
    assert code > 10_000
    assert state["snapshot"]["total"] == RUNS
    assert len(state["snapshot"]["rows"]["run"]) == FIRST
    rest = len(json.dumps(state)) + sum(len(json.dumps(output)) for output in book.cells[1].outputs)
    assert rest < 100_000
