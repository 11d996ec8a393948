"""Whether what is shown in JupyterLab is what was meant, under its own scripts and styles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from browser import Jupyter, Notebook

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser

Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"


def test_no_command_is_typeset(lab: Opener) -> None:
    """What stands between two dollars of a command is shown as it is, a formula isn't."""
    command = "for k in $(seq 60); do echo tick $k; done"
    cells = [
        f"{LOAD}\nfrom IPython.display import HTML",
        f"%%qwex --name ticks\n{command}",
        "runs = get_ipython().run_line_magic('qwex', 'runs --name ticks')\nruns",
        "runs['more'] = 1\nruns",
        "HTML('<b>a formula</b> $x_1$ ')",
    ]
    notebook = lab(cells)
    notebook.run_all()
    notebook.until(4, lambda _: "<mjx-" in notebook.html(4))
    for cell in (1, 2, 3):
        assert "$(seq 60); do echo tick $k" in notebook.text(cell)
        assert "<mjx-" not in notebook.html(cell)


def test_find_looks_through_a_whole_log(lab: Opener) -> None:
    """What stands far before the lines of a pane is found, counted, and gone to; so is line 1."""
    script = "for i in range(100_000): print('row', i)"
    cells = [LOAD, f"%%qwex --name rows --quiet python\n{script}", "%qwex monitor"]
    notebook = lab(cells)
    notebook.run_all()
    web = notebook.web
    web.locator(".qwex-monitor [role=row][data-run]").first.click()
    web.locator(".qwex-monitor .line", has_text="row 99999").wait_for()
    find = web.locator(".qwex-monitor .output input")
    said = web.locator(".qwex-monitor .output .bar [role=status]")
    find.fill("ROW 5")
    said.locator("text=11,111 of 11,111 in all of the log: stdout line 60,000").wait_for()
    assert web.locator(".qwex-monitor .here").text_content() == "row 59999"
    web.locator(".qwex-monitor .lines").press("g")
    web.locator(".qwex-monitor .info", has_text="stdout, lines 1 to ").wait_for()
    assert web.locator(".qwex-monitor .line").first.text_content() == "row 0"
    web.locator(".qwex-monitor .lines").press("G")
    web.locator(".qwex-monitor .line", has_text="row 99999").wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_names_of_help_and_details_are_whole(lab: Opener, dark: bool) -> None:
    """Under the front end's own styles each name stands in one line, beside what it means."""
    notebook = lab([LOAD, "%%qwex --name named\ntrue", "%qwex monitor"], dark=dark)
    notebook.run_all()
    web = notebook.web
    web.locator(".qwex-monitor [role=row][data-run]").first.click()
    web.locator(".qwex-monitor .details summary").click()
    web.locator(".qwex-monitor [aria-label=Keys]").click()
    found = web.evaluate(
        "() => [...document.querySelectorAll('.qwex-monitor dt')].map(dt => {"
        " const range = document.createRange();"
        " range.selectNodeContents(dt);"
        " const [one, other] = [dt, dt.nextSibling].map(e => e.getBoundingClientRect());"
        " return [dt.textContent, new Set([...range.getClientRects()].map(r => r.top)).size,"
        "  Math.abs(one.top - other.top) < 4, other.left >= one.right, other.width > 200]; })"
    )
    assert len(found) > 15
    for name, *looks in found:
        assert looks == [1, True, True, True], name


# Runs that differ in all that a table can show, made up in the history of the notebook's kernel.
_MADE = """%load_ext qwex_jupyter
import os, time
from qwex_jupyter.api import manager
from qwex_jupyter.disk import facts
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import new_run_id
os.environ["QWEX_HOME"] += "-made"
now = time.time()
for i in range(30):
    at, code = now - 400 * (30 - i), (0, 1, 3)[i % 3]
    made = RunRecord(
        new_run_id(at), ("local", "docker")[i % 2], "FAILED" if code else "SUCCEEDED",
        cause="ZeroDivisionError: division by zero, and more words than there is room for " * code,
        exit_code=code, name=f"train-{i}", image=("", "python:3.12-slim")[i % 2],
        command="for k in $(seq 60); do echo tick $k; sleep 1; done; echo this is a long command",
        created_at=at, started_at=at, finished_at=at + 41, elapsed=41.0, peak_memory=2**30 + i,
        labels={"lr": f"0.{i}", "seed": f"{i}", "all": "x"}, notebook="work/train.ipynb",
    )
    folder = f"{manager().history.runs_folder}/{made.run_id}"
    os.mkdir(folder, 0o700)
    facts.link_once(folder, "run.json", made.to_json(), sync=False)"""
_ROWS = """() => [...document.querySelectorAll('.qwex-table')].map(table => {
    const rows = [...table.querySelectorAll('tr')];
    return {
        heights: rows.map(row => row.getBoundingClientRect().height),
        line: parseFloat(getComputedStyle(rows[1]).fontSize),
        wide: table.scrollWidth - table.clientWidth,
        widths: [...rows[1].children].map(cell => cell.clientWidth),
        heads: [...rows[0].children].map(cell => cell.textContent),
    };
})"""


def test_runs_are_a_table_in_any_window(lab: Opener, jupyter: Jupyter) -> None:
    """Each run is one line, in wide and narrow windows, live or saved and not trusted."""
    notebook = lab([_MADE, "%qwex runs"])
    notebook.run_all()
    shown = notebook.until(1, "the newest 20 of 30 runs")
    assert "train.ipynb" in shown
    assert "<NA>" not in shown
    saved = notebook.save()
    for kernel in (True, False):
        if not kernel:
            path = jupyter.write("strange-runs.ipynb", [*saved["cells"], "x = 1"])
            notebook = lab([], path=path, kernel=False)
            assert notebook.trusted(1) is False
            notebook.until(1, "the newest 20 of 30 runs")
        for width in (1400, 700):
            notebook.web.set_viewport_size({"width": width, "height": 1000})
            notebook.web.wait_for_function("w => window.innerWidth === w", arg=width)
            (found,) = notebook.web.evaluate(_ROWS)
            assert len(found["heights"]) == 21
            assert max(found["heights"]) < 2.5 * found["line"]
            heads = ["run", "status", "name", "lr", "seed", "runner", "submitted", "time", "exit"]
            assert found["heads"] == heads
            assert found["wide"] < 60
            assert found["widths"][1] > 100
