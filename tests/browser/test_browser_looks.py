"""Whether what is shown in JupyterLab is what was meant, under its own scripts and styles."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
from fetched import axe
from judged import findings

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
        "%qwex attach",
        "runs = get_ipython().run_line_magic('qwex', 'runs --name ticks')\nruns",
        "runs['more'] = 1\nruns",
        "HTML('<b>a formula</b> $x_1$ ')",
    ]
    notebook = lab(cells)
    notebook.run_all()
    notebook.until(5, lambda _: "<mjx-" in notebook.html(5))
    for cell in (2, 3, 4):
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


SPEAKS = """%%qwex --name speaks
printf 'go to https://example.org/\\033[31mred\\033[0m. \\033[33mYellow\\033[0m\\n'
echo 'javascript:alert(1)'
echo https://good.example@bad.example/ >&2
exit 3"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("trusted", [True, False], ids=["own", "stranger"])
def test_cards_can_be_read_and_lead_where_they_say(
    lab: Opener, jupyter: Jupyter, trusted: bool, dark: bool
) -> None:
    """Links and colours of output are there and can be read, also where nobody trusts them."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    notebook = lab([LOAD, SPEAKS, "%%qwex --name fine\necho good"], dark=dark)
    for cell in range(3):
        notebook.run_cell(cell)
    if not trusted:
        # A signature is of the content, so one more cell makes it a notebook of somebody else.
        path = jupyter.write("speaks.ipynb", [*notebook.save()["cells"], "x = 1"])
        notebook = lab([], path=path, kernel=False, dark=dark)
    notebook.until(1, "Yellow")
    assert notebook.trusted(1) is trusted
    (link,) = notebook.web.locator(".tex2jax_ignore pre a:visible").all()
    assert link.text_content() == "https://example.org/red"
    looks = {name: link.get_attribute(name) for name in ("href", "target", "rel")}
    assert looks["href"] == "https://example.org/red"
    assert looks["target"] == "_blank"
    assert "noopener" in looks["rel"]
    wrong = findings(notebook.web, script, {"include": ".jp-OutputArea-output .tex2jax_ignore"})
    if not trusted and dark:  # of a program's colours less is left, see `on_a_page`
        wrong = [each for each in wrong if not re.search(r"<span.* contrast of 4\.[1-4]", each)]
    assert wrong == []


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
    edges = web.evaluate(
        "() => ['.keys', '.grid'].map(name => document.querySelector(`.qwex-monitor ${name}`)"
        ".getBoundingClientRect().right)"
    )
    assert abs(edges[0] - edges[1]) < 1


SAID = ("out 0", "err 0", "err 1", "out 1", "end")
# Each line waits until the one before was shown, so that there is an order.
MIXED = f"""%%qwex python
import os, sys, time
for said in {SAID}:
    stream = sys.stderr if "err" in said else sys.stdout
    print(said, end="" if said == "end" else "\\n", file=stream, flush=True)
    while not os.path.exists("shown " + said):
        time.sleep(0.05)"""
# Of each text: where it begins, and the colour of what is painted at the left of its block.
BLOCKS = """index => {
    const area = window.panelOfTest.content.widgets[index].outputArea.node;
    const pre = area.querySelector('.qwex-log pre');
    const left = node => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return Math.round(range.getBoundingClientRect().left);
    };
    const marks = [...pre.querySelectorAll('[title=stderr]')];
    return {
        lines: pre.innerText.split('\\n'),
        lefts: [...pre.childNodes].filter(node => node.textContent.trim()).map(left),
        marks: marks.map(mark => [mark.textContent, getComputedStyle(mark).borderLeftWidth]),
        rows: Math.round(pre.getBoundingClientRect().height
            / parseFloat(getComputedStyle(pre).lineHeight)),
    };
}"""


@pytest.mark.parametrize("trusted", [True, False], ids=["live", "saved"])
def test_stderr_is_told_apart(lab: Opener, jupyter: Jupyter, trusted: bool) -> None:
    """Lines of stderr have a mark and a name, begin where all lines do, and copy as they are."""
    for said in SAID:
        (jupyter.work / f"shown {said}").unlink(missing_ok=True)
    notebook = lab([LOAD, MIXED])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    for said in SAID:
        notebook.until(1, said)
        (jupyter.work / f"shown {said}").touch()
    notebook.wait()
    notebook.until(1, "✓ succeeded")
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    if not trusted:
        stranger = jupyter.write("strange-streams.ipynb", [*notebook.save()["cells"], "x = 1"])
        notebook = lab([], path=stranger, kernel=False)
        assert not notebook.trusted(1)
        notebook.until(1, "✓ succeeded")
    found = notebook.web.evaluate(BLOCKS, 1)
    assert found["lines"] == list(SAID)
    assert found["marks"] == [["err 0\nerr 1", "2px"]]
    assert found["rows"] == 5
    assert len(set(found["lefts"])) == 1


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


def test_the_moment_of_a_card_has_no_row_of_its_own(lab: Opener, jupyter: Jupyter) -> None:
    """In a narrow window a saved card of a run that lived is one row of facts, the moment in it."""
    notebook = lab([LOAD, "%%qwex -d --name lives\necho said; sleep 600"])
    notebook.run_all()
    notebook.until(1, "said")
    notebook.web.wait_for_selector(".qwex-live")
    saved = notebook.save()
    jupyter.cancel()
    path = jupyter.write("strange-lives.ipynb", [*saved["cells"], "x = 1"])
    notebook = lab([], path=path, kernel=False)
    notebook.until(1, "as of 20")
    for width in (1400, 700):
        notebook.web.set_viewport_size({"width": width, "height": 1000})
        notebook.web.wait_for_function("w => window.innerWidth === w", arg=width)
        when, row, line, shown = notebook.web.evaluate(
            "() => { const when = document.querySelector('.qwex-as-of');"
            " const size = node => node.getBoundingClientRect();"
            " return [size(when).height, size(when.parentElement).height,"
            "  size(when.previousElementSibling).height, size(when).width]; }"
        )
        assert row <= max(when, line) + 1
        assert shown > 40
