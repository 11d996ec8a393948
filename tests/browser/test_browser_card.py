"""The cards of detached runs in JupyterLab and Notebook 7, with real runs and kernels."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
from local_helpers import until

if TYPE_CHECKING:
    from browser import Jupyter, Notebook

pytest_plugins = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("nothing_lives")]

Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"
TICKS = "%%qwex -d --name ticks\nfor i in $(seq 10000); do echo tick $i; sleep 0.1; done"
ENDS = "%%qwex -d --name ends\necho begun; until [ -e enough ]; do sleep 0.05; done; seq 40"
BUSY = "import time\nwhile True: time.sleep(0.1)"


def begun(notebook: Notebook, index: int = 1) -> None:
    """Runs the cell that starts a run, and waits until a page shows its card live."""
    notebook.run_cell(0)
    notebook.run_cell(index)
    notebook.web.wait_for_selector(".qwex-live")


@pytest.mark.tier("quick")
def test_a_card_lives_and_its_button_cancels(lab: Opener) -> None:
    """Lines and clock go on, once; Cancel works while another cell runs; the end is static."""
    notebook = lab([LOAD, TICKS, BUSY])
    begun(notebook)
    notebook.run_cell(2, wait=False)
    first = notebook.tick(1)
    notebook.tick(1, above=first + 5)
    assert notebook.text(1).count("running") == 1
    notebook.web.click(".qwex-live button")
    text = notebook.until(1, "⊘ cancelled")
    assert "Stopped by you" in text
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    assert notebook.count(2) is None
    notebook.stop()
    notebook.wait()
    assert notebook.text(1).count("cancelled") == 1
    card, nothing = notebook.data(1)
    assert sorted(card["data"]) == ["text/html", "text/plain"]
    assert nothing["data"] == {}


def test_jupyter_gets_none_of_its_keys(lab: Opener) -> None:
    """Keys that cut or delete cells do nothing to the notebook while the button has the focus."""
    notebook = lab([LOAD, TICKS, "x = 1"])
    begun(notebook)
    notebook.web.focus(".qwex-live button")
    for key in ("x", "d", "d", "a", "b", "y"):
        notebook.web.keyboard.press(key)
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    assert notebook.web.evaluate(cells) == 3
    notebook.web.keyboard.press("Enter")
    notebook.until(1, "⊘ cancelled")


def _alive_after_a_reload(notebook: Notebook) -> None:
    begun(notebook)
    before = notebook.tick(1)
    notebook.reload()
    notebook.web.wait_for_selector(".qwex-live")
    now = notebook.tick(1, above=before)
    notebook.tick(1, above=now)
    assert notebook.text(1).count("running") == 1
    notebook.web.click(".qwex-live button")
    text = notebook.until(1, "⊘ cancelled")
    assert "Stopped by you" in text
    assert "running" not in text
    assert not notebook.web.is_visible(".qwex-live button")


def test_a_page_that_is_loaded_anew_has_it_alive(lab: Opener) -> None:
    """After a reload the card is there with what is now, goes on, cancels, and shows the end."""
    _alive_after_a_reload(lab([LOAD, TICKS]))


def test_notebook_7_has_it_alive_after_a_reload(notebook7: Opener) -> None:
    """In Notebook 7 a card lives too, also in a page that is loaded anew."""
    _alive_after_a_reload(notebook7([LOAD, TICKS]))


def test_a_page_that_comes_back_after_the_end_shows_it(lab: Opener, jupyter: Jupyter) -> None:
    """What ended while the page was away is there as it ended, though saved while it ran."""
    notebook = lab([LOAD, ENDS])
    begun(notebook)
    notebook.until(1, "begun")
    notebook.save()
    (jupyter.work / "enough").touch()
    notebook.until(1, "✓ succeeded")
    notebook.reload(save=False)
    text = notebook.until(1, "✓ succeeded")
    assert "running" not in text
    assert "output: 41 lines" in text


def test_after_a_restart_the_card_says_as_of_when(lab: Opener) -> None:
    """A card whose kernel is gone has no button; what is left says as of when it was so."""
    notebook = lab([LOAD, TICKS])
    begun(notebook)
    notebook.tick(1, above=20)
    notebook.until(1, "running")
    # What is left is what was saved last, which a busy kernel writes later than a page is told.
    until(lambda: "running" in str(notebook.data(1)[0]))
    notebook.restart()
    notebook.web.wait_for_selector(".qwex-live", state="hidden")
    text = notebook.text(1)
    assert text.count("running") == 1
    assert re.search(r"as of 20\d\d-", text)
    assert "Cancel" not in text


def test_a_saved_notebook_has_the_card_alone(lab: Opener, jupyter: Jupyter) -> None:
    """Without a kernel, trusted or not, and in nbconvert, the final card stands there alone."""
    notebook = lab([LOAD, ENDS])
    begun(notebook)
    notebook.until(1, "begun")
    (jupyter.work / "enough").touch()
    notebook.until(1, "✓ succeeded")
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    live = notebook.text(1)
    saved = notebook.save()
    stranger = jupyter.write("strange-card.ipynb", [*saved["cells"], "x = 1"])
    for path, trusted in ((notebook.path, True), (stranger, False)):
        again = lab([], path=path, kernel=False)
        assert again.trusted(1) is trusted
        assert again.until(1, "✓ succeeded").strip() == live.strip()
        assert again.size(1)["height"] < 120
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", "--stdout", str(stranger)]
    done = subprocess.run(convert, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("✓</span> succeeded") == 1
    assert "widget-view" not in done.stdout


def test_a_notebook_that_was_saved_meanwhile_has_a_card(lab: Opener, jupyter: Jupyter) -> None:
    """Saved while the run lives, a notebook says without a kernel what was so, as of when."""
    notebook = lab([LOAD, TICKS])
    begun(notebook)
    saved = notebook.save()
    stranger = jupyter.write("strange-live-card.ipynb", [*saved["cells"], "x = 1"])
    for path in (notebook.path, stranger):
        again = lab([], path=path, kernel=False)
        text = again.until(1, "as of 20")
        assert "ticks" in text
        assert "Cancel" not in text.split()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read(lab: Opener, dark: bool) -> None:
    """On light and dark ground, wide and narrow, no text is faint and none sticks out."""
    notebook = lab([LOAD, TICKS], dark=dark)
    begun(notebook)
    notebook.tick(1)
    for width in (1200, 480):
        notebook.resize(width)
        assert not {k: v for k, v in notebook.contrast(1).items() if v < 3}
        assert notebook.contrast(1)["Cancel"] >= 4.5
        assert notebook.size(1)["over"] == 0
