"""The monitor in JupyterLab and Notebook 7, in a real browser, with real runs and kernels."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import fetched
import old_kernel
import pytest
from converted import FORMATS, convert
from judged import findings
from monitor_page import many, put

from qwex_jupyter.manager.manager import RunManager

if TYPE_CHECKING:
    from browser import Jupyter, Notebook

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser

PATIENCE = 60.0
Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"
TICKS = "%%qwex -d --name ticks\nfor i in $(seq 10000); do echo tick $i; sleep 0.1; done"
FAILS = (
    "%%qwex -d --name bad python\nimport sys\nprint('reading')\nsys.exit('the data set is empty')"
)
# Until it is stopped, however long a busy machine takes for the rest.
BUSY = "import time\nprint('it begins', flush=True)\nwhile True: time.sleep(0.1)"


@pytest.fixture(autouse=True)
def fresh(jupyter: Jupyter) -> None:
    """Each test has a history with nothing in it."""
    jupyter.cancel()
    manager = RunManager(str(jupyter.runs))
    for run_id in manager.history.open_ids():
        manager.wait(run_id, PATIENCE)
    for run_id in manager.history.run_ids():
        manager.history.delete(run_id)
    manager.close()


class Shown:
    """The monitor that a cell shows.

    Args:
        notebook: Where.
    """

    def __init__(self, notebook: Notebook) -> None:
        self.notebook, self.web = notebook, notebook.web
        self.web.wait_for_selector(".qwex-monitor")

    def rows(self) -> list[str]:
        """The rows in sight, each as one text."""
        found = self.web.locator(".qwex-monitor [role=row][data-run]").all_inner_texts()
        return [" ".join(text.split()) for text in found]

    def until(self, said: Callable[[], Any]) -> Any:
        """Waits until something is so; what it is."""
        end = time.monotonic() + PATIENCE
        while not (found := said()):
            assert time.monotonic() < end, f"not seen: {self.rows()} {self.text()}"
            self.web.wait_for_timeout(50)
        return found

    def until_row(self, pattern: str) -> str:
        """Waits for a row that says this."""
        found: str = self.until(
            lambda: next((row for row in self.rows() if re.search(pattern, row)), "")
        )
        return found

    def text(self, part: str = "") -> str:
        """What it shows."""
        return str(self.web.inner_text(f".qwex-monitor {part}"))

    def row(self, name: str) -> Any:
        """The rows of that name, the first in sight first: which run is on top may vary."""
        rows = self.web.locator(".qwex-monitor [role=row][data-run]")
        return rows.filter(has=self.web.locator(f".name:text-is('{name}')"))

    def click_row(self, name: str) -> None:
        """Opens a run with the mouse; anew where another came to its place under the pointer."""

        def opened() -> bool:
            self.row(name).first.click()
            return self.shown() == name

        self.until(opened)

    def go_to(self, name: str) -> None:
        """Takes the keys to the first run of that name."""
        self.focus()
        cursor = self.web.locator(f".qwex-monitor .cursor .name:text-is('{name}')")

        def there() -> bool:
            self.press("Home")
            for _ in self.rows():
                if cursor.count():
                    return True
                self.press("ArrowDown")
            return bool(cursor.count())

        self.until(there)

    def shown(self) -> str:
        """The name of the run in the pane."""
        title = self.web.locator(".qwex-monitor .pane:visible .title b")
        return str(title.inner_text()) if title.count() else ""

    def output(self) -> str:
        """The lines of the pane."""
        return "\n".join(self.web.locator(".qwex-monitor .line").all_text_contents())

    def banner(self) -> str:
        """What it warns of."""
        banner = self.web.locator(".qwex-monitor .banner:not(.question)")
        return str(banner.inner_text()) if banner.is_visible() else ""

    def focus(self) -> None:
        """The table gets the keys."""
        self.web.focus(".qwex-monitor [role=grid]")

    def press(self, *keys: str) -> None:
        """Keys, one after the other."""
        for key in keys:
            self.web.keyboard.press(key)


def opened(notebook: Notebook, cell: int) -> Shown:
    """Runs the cells up to that one, which shows a monitor."""
    for index in range(cell + 1):
        notebook.run_cell(index)
    return Shown(notebook)


def keep_busy(notebook: Notebook, cell: int) -> None:
    """Begins a cell that goes on until it is stopped."""
    notebook.run_cell(cell, wait=False)
    notebook.until(cell, "it begins")


def test_a_failed_run_is_found_read_and_run_again_by_keys_alone(lab: Opener) -> None:
    """With the keyboard: filter, cause, output, rerun; the new run is at the keys and is read."""
    monitor = opened(lab([LOAD, FAILS, TICKS, "%qwex monitor"]), 3)
    monitor.until_row("✗ failed the data set is empty bad")
    monitor.focus()
    monitor.press("/")
    monitor.web.keyboard.type("failed")
    monitor.press("ArrowDown", "Enter")
    monitor.until(lambda: "the data set is empty. Read %qwex logs" in monitor.text(".why"))
    monitor.until(lambda: "reading\nthe data set is empty" in monitor.output())
    first = monitor.rows()[0]
    monitor.press("r")
    # The filter shows the new run as soon as it has failed too.
    monitor.until(lambda: len(monitor.rows()) == 2)
    assert monitor.rows()[1] == first
    assert "✗ failed the data set is empty bad" in monitor.rows()[0]
    selected = monitor.web.locator(".qwex-monitor [aria-selected=true]")
    monitor.until(
        lambda: (
            [text.split()[0] for text in selected.all_inner_texts()]
            == [monitor.rows()[0].split()[0]]
        )
    )
    monitor.until(lambda: "reading\nthe data set is empty" in monitor.output())
    monitor.press("Escape", "Escape")
    monitor.until_row("◐ running ticks")


@pytest.mark.tier("quick")
def test_output_comes_live_and_cancel_is_obeyed(lab: Opener) -> None:
    """A click on a row shows its output as it comes; Cancel ends it, and the row says so."""
    monitor = opened(lab([LOAD, TICKS, "%qwex monitor"]), 2)
    monitor.click_row("ticks")
    monitor.until(lambda: "tick 5" in monitor.output())
    before = len(monitor.output())
    monitor.until(lambda: len(monitor.output()) > before)
    monitor.web.click(".qwex-monitor [data-verb=cancel]")
    monitor.until_row("⊘ cancelled ticks")
    monitor.until(lambda: "Stopped by you" in monitor.text(".why"))
    monitor.web.click(".qwex-monitor [data-verb=delete]")
    monitor.web.click(".qwex-monitor .question button:text-is('Delete')")
    monitor.until(lambda: "No runs yet" in monitor.text(".empty"))


def test_jupyter_gets_none_of_its_keys(lab: Opener) -> None:
    """Keys that cut, delete or run cells do nothing to the notebook while they are pressed here."""
    notebook = lab([LOAD, FAILS, "%qwex monitor", "x = 1"])
    monitor = opened(notebook, 2)
    monitor.until_row("bad")
    monitor.focus()
    monitor.press(*"xddzabmyo", "Shift+M", "0", "0", "ArrowDown", "Enter", "Enter")
    monitor.press(*"xdd")
    count = monitor.web.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    )
    assert count == 4
    assert notebook.count(3) is None


def test_it_works_while_the_kernel_is_busy(lab: Opener) -> None:
    """While a cell runs, output, the button that cancels, and rerun work, as kernels 7 can."""
    notebook = lab([LOAD, TICKS, "%qwex monitor", BUSY])
    monitor = opened(notebook, 2)
    keep_busy(notebook, 3)
    monitor.click_row("ticks")
    monitor.until(lambda: "tick 5" in monitor.output())
    monitor.web.click(".qwex-monitor [data-verb=cancel]")
    monitor.until_row("⊘ cancelled ticks")
    monitor.focus()
    monitor.press("r")
    monitor.until_row("◐ running ticks")
    # On a slow machine it may have come up, but not to stay: every wish was acknowledged.
    monitor.until(lambda: monitor.banner() == "")
    assert notebook.count(3) is None
    notebook.stop()
    notebook.wait()


@pytest.fixture(scope="session")
def kernel_6(jupyter: Jupyter) -> str:
    """The name of a kernel as it was before kernels had subshells."""
    folder, why = fetched.kernel()
    if folder is None:
        pytest.skip(why)
    return old_kernel.install(folder, jupyter.root / "data" / "kernels")


def test_a_kernel_of_before_says_that_it_is_busy(lab: Opener, kernel_6: str) -> None:
    """With ipykernel 6 the button says that the kernel is busy, and is obeyed after the cell."""
    which = "import ipykernel; print(ipykernel.__version__)"
    notebook = lab([LOAD, TICKS, "%qwex monitor", which, BUSY], spec=kernel_6)
    monitor = opened(notebook, 3)
    assert notebook.text(3).strip() == old_kernel.VERSION
    monitor.click_row("ticks")
    monitor.until(lambda: "tick 5" in monitor.output())
    keep_busy(notebook, 4)
    assert monitor.banner() == ""
    monitor.web.click(".qwex-monitor [data-verb=cancel]")
    monitor.until(lambda: "The kernel is busy" in monitor.banner())
    assert "◐ running" in monitor.row("ticks").inner_text()
    assert notebook.count(4) is None
    notebook.stop()
    monitor.until_row("⊘ cancelled ticks")
    monitor.until(lambda: monitor.banner() == "")


def test_a_busy_kernel_without_subshells_is_told(lab: Opener) -> None:
    """Where wishes wait for the cell, the page says so, and carries them out when it has ended."""
    # As kernels before 7 do: all messages of the comm go to the thread that runs cells.
    main = "m = qwex.monitor(); m.comm._reply_subshell_for = lambda data, default: None; m"
    notebook = lab([LOAD + "\nimport qwex_jupyter as qwex", TICKS, main, BUSY])
    monitor = opened(notebook, 2)
    monitor.until_row("◐ running ticks")
    keep_busy(notebook, 3)
    monitor.go_to("ticks")
    monitor.press("c")
    monitor.until(lambda: "The kernel is busy" in monitor.banner())
    assert "◐ running" in monitor.row("ticks").inner_text()
    notebook.stop()
    monitor.until_row("⊘ cancelled")
    monitor.until(lambda: monitor.banner() == "")


def test_a_page_that_is_loaded_anew_is_alive(lab: Opener) -> None:
    """After a reload the monitor is there again, with what is now, and goes on."""
    notebook = lab([LOAD, TICKS, "%qwex monitor", FAILS])
    monitor = opened(notebook, 2)
    monitor.until_row("◐ running ticks")
    notebook.reload()
    monitor = Shown(notebook)
    monitor.until_row("◐ running ticks")
    notebook.run_cell(3)
    monitor.until_row("✗ failed the data set is empty bad")
    monitor.go_to("ticks")
    monitor.press("Enter")
    monitor.until(lambda: "tick" in monitor.output())


def restarted(notebook: Notebook, monitor: Shown) -> None:
    """Restarts the kernel: the monitor says so, and one key brings it back."""
    notebook.restart()
    monitor.until(lambda: "was restarted" in monitor.banner())
    monitor.focus()
    monitor.press("Enter")
    monitor.until(lambda: monitor.banner() == "")


def test_a_restarted_kernel_is_told_and_one_key_brings_it_back(lab: Opener) -> None:
    """After a restart the table is grey and says so; Enter has it live again, in the same place."""
    notebook = lab([LOAD, TICKS, "%qwex monitor", "print(2)", FAILS])
    monitor = opened(notebook, 2)
    monitor.until_row("◐ running ticks")
    restarted(notebook, monitor)
    notebook.run_cell(0)
    notebook.run_cell(4)
    monitor.until_row("✗ failed the data set is empty bad")
    monitor.go_to("ticks")
    monitor.press("c")
    monitor.until_row("⊘ cancelled ticks")
    assert notebook.web.evaluate("() => document.querySelectorAll('.qwex-monitor').length") == 1


def test_a_saved_notebook_has_a_table_in_its_place(lab: Opener, jupyter: Jupyter) -> None:
    """Without a kernel, trusted or not, the runs stand as a table; while it lives it isn't seen."""
    notebook = lab([LOAD, FAILS, "%qwex wait bad", "%qwex monitor"])
    monitor = opened(notebook, 3)
    monitor.until_row("✗ failed the data set is empty bad")
    monitor.until(lambda: not notebook.web.locator(".qwex-table").is_visible())
    saved = notebook.save()
    assert len(str(saved["cells"][3])) < 8_000
    for how in FORMATS:
        text = re.sub(r"</?span[^>]*>", "", convert(saved, how))
        assert "✗ failed" in text
        assert "the data set is empty" in text
        assert re.search(r"1 run · 1 failed · local · .* · as of 20\d\d-", text)
    stranger = jupyter.write("strange-monitor.ipynb", [*saved["cells"], "x = 1"])
    for path, trusted in ((notebook.path, True), (stranger, False)):
        again = lab([], path=path, kernel=False)
        assert again.trusted(3) is trusted
        shown = again.until(3, "✗ failed")
        assert re.search(r"✗ failed +the data set is empty", shown)
        assert re.search(r"1 run · 1 failed · local · .* · as of 20\d\d-", shown)
        again.web.locator(".qwex-table").wait_for(state="visible")


def test_two_monitors_show_the_same(lab: Opener) -> None:
    """Two cells may show it: both follow, and closing one leaves the other alive."""
    notebook = lab([LOAD, "%qwex monitor", "%qwex monitor", FAILS])
    monitor = opened(notebook, 2)
    both = notebook.web.locator(".qwex-monitor")
    monitor.until(lambda: both.count() == 2)
    notebook.run_cell(3)
    for index in (0, 1):
        monitor.until(lambda index=index: "✗ failed" in both.nth(index).inner_text())
    notebook.web.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.clearExecution()"
    )
    monitor.until(lambda: both.count() == 1)
    notebook.run_cell(3)
    monitor.until(lambda: "✗ failed 2" in both.first.inner_text())


def test_ten_thousand_runs_are_there_at_once(lab: Opener, jupyter: Jupyter) -> None:
    """All of 10,000 runs are counted in the first picture, and found soon after."""
    manager = RunManager(str(jupyter.runs))
    made = [record for record in many(14_000) if record.status.final][:10_000]
    for record in made:
        put(manager, record)
    notebook = lab([LOAD, "%qwex monitor"])
    monitor = opened(notebook, 1)
    assert "10,000 runs" in monitor.text(".count")
    monitor.until(lambda: "loading" not in monitor.text(".count"))
    monitor.web.fill(".qwex-monitor .filter", made[7].run_id)
    monitor.until(lambda: len(monitor.rows()) == 1)
    assert made[7].handle in monitor.rows()[0]
    manager.close()


@pytest.mark.parametrize("kind", ["lab", "notebook7"])
def test_in_the_dark_it_can_be_read(request: pytest.FixtureRequest, kind: str) -> None:
    """In the dark theme nothing in table, details and output is faint, and axe finds nothing."""
    notebook = request.getfixturevalue(kind)([LOAD, FAILS, TICKS, "%qwex monitor"], dark=True)
    monitor = opened(notebook, 3)
    monitor.until_row("✗ failed the data set is empty bad")
    monitor.click_row("bad")
    monitor.until(lambda: "the data set is empty" in monitor.output())
    faint = {k: v for k, v in notebook.contrast(3).items() if v < 4.5}
    disabled = {"Cancel", "Compare", "Delete", "Rerun"}
    assert not faint.keys() - disabled
    script, why = fetched.axe()
    if script is None:
        pytest.skip(why)
    assert findings(notebook.web, script, {"include": ".qwex-monitor"}) == []


def test_notebook_7_shows_output_live_and_cancels(notebook7: Opener) -> None:
    """In Notebook 7 a row shows its output as it comes; after a reload it can be cancelled."""
    notebook = notebook7([LOAD, TICKS, "%qwex monitor"])
    monitor = opened(notebook, 2)
    monitor.click_row("ticks")
    monitor.until(lambda: "tick 5" in monitor.output())
    notebook.reload()
    monitor = Shown(notebook)
    monitor.until_row("◐ running ticks")
    monitor.go_to("ticks")
    monitor.press("c")
    monitor.until_row("⊘ cancelled ticks")


def test_notebook_7_brings_it_back_after_a_restart(notebook7: Opener) -> None:
    """In Notebook 7 a restart is told, and Enter brings the monitor back."""
    notebook = notebook7([LOAD, FAILS, "%qwex monitor"])
    monitor = opened(notebook, 2)
    monitor.until_row("✗ failed the data set is empty bad")
    restarted(notebook, monitor)
    monitor.go_to("bad")
    monitor.press("r")
    monitor.until(lambda: len(monitor.rows()) == 2)
