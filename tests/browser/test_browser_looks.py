"""Whether what is shown in JupyterLab is what was meant, under its own scripts and styles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from browser import Notebook

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
        "runs[runs.status == 'SUCCEEDED']",
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
