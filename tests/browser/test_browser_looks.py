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
    (link,) = notebook.web.locator(".jp-OutputArea-output pre a:visible").all()
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
