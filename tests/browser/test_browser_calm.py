"""Nothing jumps: what stands below a cell stays in its place, in JupyterLab and Notebook 7."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from browser import Jupyter, Notebook

pytest_plugins = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("nothing_lives")]

Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"
# After which a page has the code of cards: what lives so long is shown by it.
LONG = "%%qwex\nsleep 2.5"
WAITS = "%%qwex {}\nseq 30; until [ -e enough ]; do sleep 0.05; done; seq 60"
# How far below a cell the next one begins, of each frame in which that isn't as in the one before.
WATCH = """index => {
    const [cell, next] = [0, 1].map(more => window.panelOfTest.content.widgets[index + more].node);
    const tops = window.topsOfTest = [];
    const look = () => {
        const top = Math.round(next.getBoundingClientRect().top - cell.getBoundingClientRect().top);
        if (tops.at(-1) !== top) tops.push(top);
        if (window.topsOfTest === tops) requestAnimationFrame(look);
    };
    look();
}"""
TOPS = """async () => {
    for (const _ of [1, 2, 3]) await new Promise(requestAnimationFrame);
    const tops = window.topsOfTest;
    window.topsOfTest = null;
    return tops;
}"""


def moves(notebook: Notebook, index: int, act: Callable[[], object]) -> list[int]:
    """How far below a cell the next one begins while something is done: one for each move."""
    notebook.web.evaluate(WATCH, index)
    act()
    found: list[int] = notebook.web.evaluate(TOPS)
    return found


AGAIN = (
    "%%qwex\nseq 10",
    "%%qwex\nseq 10; sleep 0.6; seq 5",
    "%%qwex -d\nseq 10",
    "%%qwex python\nprint('a')\n1 / 0",
)


def _run_again(notebook: Notebook) -> None:
    for index in range(len(AGAIN) + 2):
        notebook.run_cell(index)
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    for index in range(2, len(AGAIN) + 2):
        notebook.until(index, "✓ succeeded" if index < len(AGAIN) + 1 else "RunFailed")

        def again(index: int = index) -> None:
            notebook.run_cell(index)
            notebook.web.wait_for_function("() => !window.qwexCalm.held.size")

        before, *others = moves(notebook, index, again)
        # It may be a row higher or lower than before, as it was shown live or not: once.
        after = others[-1] if others else before
        low, high = sorted((before, after))
        assert all(low - 1 <= each <= high + 1 for each in others), (
            AGAIN[index - 2],
            before,
            others,
        )
        assert high - low < 40


def test_a_cell_that_is_run_again_moves_nothing_below(lab: Opener) -> None:
    """Once a page has shown a live card, a cell keeps its height until its new run has ended."""
    _run_again(lab([LOAD, LONG, *AGAIN, "'below'"]))


def test_nor_does_it_in_notebook_7(notebook7: Opener) -> None:
    """In Notebook 7 a cell that is run again keeps its height too."""
    _run_again(notebook7([LOAD, LONG, *AGAIN, "'below'"]))


def test_a_cell_that_becomes_something_else_keeps_no_room(lab: Opener) -> None:
    """What a cell shows instead of a card has its own height, once it is there."""
    notebook = lab([LOAD, LONG, "%%qwex\nseq 30", "'below'"])
    for index in range(3):
        notebook.run_cell(index)
    before = notebook.size(2)["height"]
    notebook.web.evaluate(
        "() => window.panelOfTest.content.widgets[2].model.sharedModel.setSource('1 + 1')"
    )
    notebook.run_cell(2)
    notebook.web.wait_for_function("() => !window.qwexCalm.held.size")
    height = "() => window.panelOfTest.content.widgets[2].node.getBoundingClientRect().height"
    assert notebook.web.evaluate(height) < before / 2


@pytest.mark.parametrize("options", ["", "-d"], ids=["foreground", "detached"])
def test_an_end_moves_nothing_below(lab: Opener, jupyter: Jupyter, options: str) -> None:
    """A run that ends has the height that it had, and all of its output to be scrolled to."""
    notebook = lab([LOAD, WAITS.format(options), "'below'"])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.web.wait_for_selector(".qwex-live")
    notebook.until(1, lambda text: bool(re.search("^30$", text, re.MULTILINE)))

    def end() -> None:
        (jupyter.work / "enough").touch()
        notebook.until(1, "✓ succeeded")
        notebook.web.wait_for_selector(".qwex-live", state="detached")
        notebook.wait()

    before, *others = moves(notebook, 1, end)
    assert all(abs(top - before) <= 1 for top in others), (before, others)
    assert "output: 90 lines" in notebook.text(1)
    # The newest line is in sight, and the first one is there.
    box, ends = notebook.web.evaluate(
        "() => ['.qwex-log', '.qwex-log pre'].map(name => window.panelOfTest.content.widgets[1]"
        ".outputArea.node.querySelector(name).getBoundingClientRect().bottom)"
    )
    assert abs(box - ends) < 2
    assert re.search(r"^1\n2\n3$", notebook.text(1), re.MULTILINE)
