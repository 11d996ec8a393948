"""Foreground runs in JupyterLab and Notebook 7: true after a reload, a restart and a reopening."""

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
# How soon the request to end comes behind the interrupt of a restart is this machine's.
DECIDES = f"{LOAD}\nfrom qwex_jupyter.system import interrupts\ninterrupts._UNDECIDED = 60.0"
TICKS = (
    "%%qwex --name ticks\n"
    "for i in $(seq 10000); do echo tick $i; [ -e enough ] && exit 5; sleep 0.1; done"
)


def begun(notebook: Notebook) -> int:
    """Runs the cell in the foreground until a page shows it live; the line it is at."""
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.web.wait_for_selector(".qwex-live")
    return notebook.tick(1, above=20)


def left(notebook: Notebook) -> float:
    """How far from its cell's code the live card begins."""
    card = notebook.web.locator(".qwex-live").bounding_box()
    code = notebook.web.locator(".jp-InputArea-editor").nth(1).bounding_box()
    assert card is not None
    assert code is not None
    return float(card["x"] - code["x"])


def _alive_after_a_reload(notebook: Notebook, jupyter: Jupyter) -> None:
    before = begun(notebook)
    assert notebook.text(1).count("running") == 1
    place = left(notebook)
    notebook.reload()
    notebook.web.wait_for_selector(".qwex-live")
    assert left(notebook) == place
    assert "Loading widget" not in notebook.text(1)
    notebook.tick(1, above=notebook.tick(1, above=before))
    assert notebook.text(1).count("running") == 1
    (jupyter.work / "enough").touch()
    text = notebook.until(1, "✗ failed")
    assert "running" not in text
    assert "exit code 5" in text


@pytest.mark.tier("quick")
def test_a_reload_heals_a_foreground_run(lab: Opener, jupyter: Jupyter) -> None:
    """A page that is loaded anew while a cell's run lives shows its lines, clock and end."""
    _alive_after_a_reload(lab([LOAD, TICKS]), jupyter)


def test_a_reload_heals_it_in_notebook_7(notebook7: Opener, jupyter: Jupyter) -> None:
    """In Notebook 7 a foreground run lives too in a page that is loaded anew."""
    _alive_after_a_reload(notebook7([LOAD, TICKS]), jupyter)


def test_a_reload_heals_what_other_cells_show(lab: Opener, jupyter: Jupyter) -> None:
    """While one cell keeps the kernel busy, the card of a detached run lives in a new page too."""
    notebook = lab([LOAD, TICKS.replace("ticks", "ticks -d"), "import time\ntime.sleep(600)"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    notebook.web.wait_for_selector(".qwex-live")
    notebook.run_cell(2, wait=False)
    before = notebook.tick(1, above=20)
    notebook.reload()
    notebook.web.wait_for_selector(".qwex-live")
    notebook.tick(1, above=notebook.tick(1, above=before))
    (jupyter.work / "enough").touch()
    assert "running" not in notebook.until(1, "✗ failed")


def test_a_restart_by_the_menu_leaves_the_run_alone(lab: Opener, jupyter: Jupyter) -> None:
    """The old card says as of when it is, and the new kernel what became of the run."""
    notebook = lab([DECIDES, TICKS, LOAD])
    begun(notebook)
    notebook.restart()
    notebook.web.wait_for_selector(".qwex-live", state="hidden")
    text = notebook.text(1)
    assert re.search(r"as of 20\d\d-", text)
    assert "cancelled" not in text
    assert "Cancel" not in text
    notebook.run_cell(2)
    assert "ticks" in notebook.until(2, "still running")
    notebook.restart()
    (jupyter.work / "enough").touch()
    jupyter.until_nothing_is_open()
    notebook.run_cell(2)
    assert re.search(r"ticks \(\w{6}\) failed meanwhile", notebook.until(2, "meanwhile"))
    notebook.reload()
    assert "as of 20" in notebook.text(1)
    assert "Cancel" not in notebook.text(1)


def test_what_is_no_longer_watched_lives_on_and_ends(lab: Opener, jupyter: Jupyter) -> None:
    """An attach that was broken off goes on as a card with a button, to the end of the run."""
    notebook = lab([LOAD, TICKS.replace("%%qwex", "%%qwex -d"), "%qwex attach ticks"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    notebook.run_cell(2, wait=False)
    seen = notebook.tick(2)
    notebook.stop()
    notebook.wait()
    text = notebook.until(2, "no longer watched")
    assert "Cancel" in notebook.until(2, "Cancel")
    notebook.tick(2, above=seen + 10)
    (jupyter.work / "enough").touch()
    text = notebook.until(2, "✗ failed")
    assert "running" not in text
    assert "no longer watched" not in text


def test_a_foreground_run_is_saved_as_one_card(lab: Opener, jupyter: Jupyter) -> None:
    """The saved notebook has the final card once, and nothing of the widget."""
    notebook = lab([LOAD, TICKS])
    begun(notebook)
    (jupyter.work / "enough").touch()
    notebook.until(1, "✗ failed")
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    notebook.until(1, "RunFailed")  # which comes behind the card
    saved = notebook.save()
    card, nothing, error = saved["cells"][1]["outputs"]
    assert sorted(card["data"]) == ["text/html", "text/plain"]
    assert nothing["data"] == {}
    assert error["ename"] == "RunFailed"
    again = lab([], path=notebook.path, kernel=False)
    assert again.until(1, "✗ failed").count("✗ failed") == 1
