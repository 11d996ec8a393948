"""What a person sees and does in JupyterLab and Notebook 7, in a real browser."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from engines import Engine
from images import image
from registry import Registry
from wire import Wire

if TYPE_CHECKING:
    from browser import Jupyter, Notebook, Page

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser

Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"
# Each line waits to be asked for, so that a test sees it live however slow the machine is.
EPOCHS = '%%qwex\nfor i in 1 2 3; do echo "epoch $i"; until [ -e go-$i ]; do sleep 0.05; done; done'
FAILS = """%%qwex python
import sys, time
for epoch in range(40):
    print("epoch", epoch)
    time.sleep(0.03)
sys.exit("the data set is empty")"""
TRAIN = """%%qwex --detach --name train python
import itertools, os, sys, time
for i in itertools.count():
    print("step", i)
    if os.path.exists("enough"):
        sys.exit(3)
    time.sleep(0.1)"""


@pytest.fixture(autouse=True)
def nothing_waits(jupyter: Jupyter) -> None:
    """Removes the files for which programs wait."""
    for name in ("go-1", "go-2", "go-3", "enough"):
        (jupyter.work / name).unlink(missing_ok=True)


@pytest.mark.tier("quick")
def test_a_run_outlives_the_kernel_and_is_found_again(lab: Opener, jupyter: Jupyter) -> None:
    """Lines come live, and a detached run is greeted, attached and judged after a restart."""
    notebook = lab([LOAD, EPOCHS, TRAIN, "%qwex attach", "%qwex runs"])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    for i in (1, 2, 3):
        shown = notebook.until(1, f"epoch {i}")
        assert "running" in notebook.until(1, "running")
        assert f"epoch {i + 1}" not in shown
        (jupyter.work / f"go-{i}").touch()
    notebook.wait()
    shown = notebook.until(1, "succeeded")
    assert "epoch 1\nepoch 2\nepoch 3" in shown
    assert re.search(r"local · \w{6} · \S+s\n", shown)
    assert "running" not in shown

    notebook.run_cell(2)
    notebook.until(2, "step")
    notebook.restart()
    notebook.run_cell(0)
    greeting = notebook.until(0, "%qwex attach").strip()
    assert re.fullmatch(
        r"train \([a-z0-9]{6}\) still running \d:\d\d:\d\d · as of .* UTC\S* · %qwex attach",
        greeting,
    )

    notebook.run_cell(3, wait=False)
    notebook.until(3, "running")
    (jupyter.work / "enough").touch()
    notebook.wait()
    shown = notebook.until(3, "failed")
    numbers = [int(n) for n in re.findall(r"(?m)^step (\d+)$", shown)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    log = _newest(jupyter.runs)[0]
    lines = (log / "stdout.log").read_text().splitlines()
    assert lines == [f"step {i}" for i in range(numbers[-1] + 1)]
    assert "exit code 3, last line: step " in shown

    notebook.run_cell(4)
    shown = notebook.until(4, "train")
    assert re.search(r"\t✗ failed exit code 3, last line: step \d+\ttrain ", shown)


def _newest(runs: Path) -> list[Path]:
    """The run folders, newest first."""
    return sorted((runs / "runs").iterdir(), reverse=True)


def _failed_cell(notebook: Notebook) -> None:
    notebook.run_all()
    shown = notebook.until(1, "RunFailed")
    assert "✗ failed" in shown
    assert "epoch 39\nthe data set is empty" in shown
    assert notebook.colour(1, "✗") == "rgb(224, 69, 60)"
    assert re.search(r"✗ failed\s+the data set is empty\b", shown)
    # The error below says the same, and not another time which run it was.
    assert "RunFailed: the data set is empty" in shown
    assert "NonZeroExit" not in shown and "Exit code" not in shown
    assert notebook.count(2) is None
    assert notebook.text(2) == ""


def test_a_failed_cell_stops_run_all(lab: Opener) -> None:
    """A failed cell shows its last lines and the cause in red; the cells after it don't run."""
    _failed_cell(lab([LOAD, FAILS, "print('after')"]))


def test_a_failed_cell_stops_run_all_in_notebook_7(notebook7: Opener) -> None:
    """In Notebook 7 a failed cell looks the same and stops "Run all" too."""
    _failed_cell(notebook7([LOAD, FAILS, "print('after')"]))


def test_notebook_7_shows_lines_live(notebook7: Opener, jupyter: Jupyter) -> None:
    """In Notebook 7 lines come while the cell runs, and the stop button cancels."""
    notebook = notebook7([LOAD, EPOCHS])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.until(1, "epoch 1")
    (jupyter.work / "go-1").touch()
    notebook.until(1, "epoch 2")
    notebook.stop()
    notebook.wait()
    assert "⊘ cancelled" in notebook.until(1, "cancelled")


@pytest.mark.tier("quick")
def test_the_stop_button_cancels(lab: Opener) -> None:
    """The stop button ends the program; the cell says that it was cancelled and how to redo it."""
    notebook = lab([LOAD, '%%qwex\necho "pid $$"\nsleep 1000', "print('after')"])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    # The card also shows the cell's first line, which has "pid" in it.
    said = re.compile(r"^pid (\d+)$", re.MULTILINE)
    shown = notebook.until(1, lambda text: bool(said.search(text)) and "running" in text)
    pid = int(said.findall(shown)[0])
    assert "interrupt the kernel to stop it" in shown
    notebook.stop()
    notebook.wait()
    shown = notebook.until(1, "RunInterrupted")
    assert "⊘ cancelled" in shown
    assert re.search(r"cancelled\s+Stopped by you\b", shown)
    assert "%qwex rerun" in shown
    until = time.monotonic() + 60
    while _lives(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_100_megabytes_in_ten_seconds(
    lab: Opener, jupyter: Jupyter, pages: dict[str, Page], record_property: Callable[..., None]
) -> None:
    """A flood leaves the page alive, its pane still, the notebook small and the log whole."""
    flood = """%%qwex python
import sys, time
begun = time.monotonic()
for megabyte in range(100):
    sys.stdout.write(("x" * 98 + "\\n") * 10_101 + "y\\n")
    sys.stdout.flush()
    time.sleep(max(0.0, begun + megabyte / 10 - time.monotonic()))"""
    notebook = lab([LOAD, flood])
    notebook.run_cell(0)
    before = len(json.dumps(notebook.save()))
    pages["lab"].watch()
    notebook.run_cell(1, wait=False)
    heights = set()
    notebook.until(1, "MiB")
    while True:
        heights.add(notebook.size(1)["height"])
        if "running" not in notebook.text(1):
            break
        notebook.web.wait_for_timeout(100)
    notebook.wait()
    shown = notebook.until(1, "succeeded")
    blocked = pages["lab"].blocked()
    traffic = _displayed(pages["lab"])
    grown = len(json.dumps(notebook.save())) - before
    _measured(record_property, "100 MB", blocked, traffic, grown)
    assert "output: 1,010,200 lines, 95.4 MiB, last " in shown
    assert (_newest(jupyter.runs)[0] / "stdout.log").stat().st_size == 100 * 1_000_001
    # One more for the moment in which the page loads the widget that shows it live.
    assert len(heights) <= 2
    assert grown <= 40_000
    assert traffic <= 3_000_000


def test_100_000_lines_at_full_speed(
    lab: Opener, pages: dict[str, Page], record_property: Callable[..., None]
) -> None:
    """100,000 lines cost the browser less than a megabyte, and a failure shows the last ones."""
    lines = "%%qwex --no-raise-error python\nfor i in range(100_000): print(f'{i:07d}', 'x' * 86)"
    notebook = lab([LOAD, f"{lines}\nraise SystemExit(1)"])
    notebook.run_cell(0)
    before = len(json.dumps(notebook.save()))
    pages["lab"].watch()
    notebook.run_cell(1)
    shown = notebook.until(1, "0099999 xxx")
    traffic = _displayed(pages["lab"])
    grown = len(json.dumps(notebook.save())) - before
    _measured(record_property, "100,000 lines", pages["lab"].blocked(), traffic, grown)
    assert "output: 100,000 lines" in shown
    assert grown <= 40_000
    assert traffic <= 1_000_000


def _displayed(page: Page) -> int:
    return page.bytes["display_data"] + page.bytes["update_display_data"] + page.bytes["stream"]


def _measured(
    record: Callable[..., None], what: str, blocked: dict[str, float], traffic: int, grown: int
) -> None:
    values = {"long tasks": blocked, "bytes of display messages": traffic, "notebook": grown}
    for name, value in values.items():
        record(f"{what}: {name}", value)
    print(f"{what}: {values}")


def test_a_saved_notebook_can_be_read_without_a_kernel(lab: Opener, jupyter: Jupyter) -> None:
    """Reopened without a kernel, trusted or not, a cell says status, command, lines and cause."""
    notebook = lab([LOAD, FAILS, "%%qwex\necho $HOME$PATH; seq 300"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    notebook.run_cell(2)
    live = notebook.text(1), notebook.text(2)
    saved = notebook.save()
    # A signature is of the content, so one more cell makes it a notebook of somebody else.
    stranger = jupyter.write("stranger.ipynb", [*saved["cells"], "x = 1"])
    for path, trusted in ((notebook.path, True), (stranger, False)):
        again = lab([], path=path, kernel=False)
        assert again.trusted(1) is trusted
        for index, text in ((1, live[0]), (2, live[1])):
            assert again.until(index, text) == text
        assert again.colour(1, "✗") == "rgb(224, 69, 60)"
        assert again.size(2)["height"] < 500
        # The newest lines are in sight, not the first.
        seen = again.web.evaluate(
            "i => { const pane = window.jupyterapp.shell.currentWidget.content.widgets[i]"
            ".outputArea.node.querySelector('details > div').getBoundingClientRect();"
            " const line = window.jupyterapp.shell.currentWidget.content.widgets[i]"
            ".outputArea.node.querySelector('details pre').getBoundingClientRect();"
            " return Math.abs(pane.bottom - line.bottom); }",
            1,
        )
        assert seen < 2


def test_output_can_colour_itself_and_nothing_else(lab: Opener) -> None:
    """Colours and a progress bar look as in a terminal; markup and formulas stay what they are."""
    source = """%%qwex python
import time
shades = 2
print("\\x1b[32mgreen\\x1b[0m and \\x1b[1;31mred\\x1b[0m and \\x1b]0;title\\x07plain")
for i in range(0, 101, 5):
    print(f"\\r{i:3d}% done", end="", flush=True)
    time.sleep(0.01)
print()
print("<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>")
print("$x^2$ and \\\\(y\\\\) cost $5")"""
    command = "echo $((1 + 1)) $HOME > /dev/null; exit 4"
    notebook = lab([LOAD, source, f"%%qwex --as run\n{command}", "run"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    shown = notebook.until(1, "succeeded")
    assert "green and red and plain\n100% done\n<script>" in shown
    assert "onerror='window.hacked = 1'>\n$x^2$ and \\(y\\) cost $5" in shown
    for place, name in enumerate(("red", "green")):
        parts = [int(part) for part in re.findall(r"\d+", notebook.colour(1, name))]
        assert max(parts) == parts[place] > 1.4 * sorted(parts)[1]
    notebook.run_cell(2)
    assert command not in notebook.until(2, "failed")  # it stands right above
    notebook.run_cell(3)
    assert command in notebook.until(3, "failed")
    notebook.web.wait_for_timeout(300)  # a typesetter would come now
    for index in (1, 2, 3):
        assert "mjx-container" not in notebook.html(index)
    assert notebook.web.evaluate("() => window.hacked === undefined")


def test_detached_runs_keep_to_their_cells(lab: Opener) -> None:
    """Each detached run updates its own cell, and a cell that captures swallows none of it."""
    waits = "until [ -e all-three ]; do sleep 0.05; done"
    runs = [f"%%qwex --detach --name {n}\necho from-{n}; {waits}; echo end-{n}" for n in "abc"]
    goes = "import time\nopen('all-three', 'w').close()"
    busy = f"%%capture kept\n{goes}\nfor i in range(40):\n    time.sleep(0.05); print('mine')"
    told = "print(kept.stdout.count('mine'), len(kept.stdout), len(kept.outputs), kept.stderr)"
    notebook = lab([LOAD, *runs, busy, told])
    for index in range(6):
        notebook.run_cell(index)
    assert notebook.text(5).split() == ["40", "200", "0"]
    for index in (1, 2, 3):
        notebook.until(index, "✓ succeeded")
    notebook.web.wait_for_selector(".qwex-live", state="detached")
    for index, name in ((1, "a"), (2, "b"), (3, "c")):
        shown = notebook.text(index)
        assert re.findall(r"from-\w|end-\w(?=\n|$)", shown.partition("local · ")[2]) == [
            f"from-{name}",
            f"end-{name}",
        ]
        # What is left of the widget that showed it live holds nothing.
        assert [sorted(output["data"]) for output in notebook.data(index)] == [
            ["text/html", "text/plain"],
            [],
        ]
    assert notebook.text(4) == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_state_can_be_read(lab: Opener, dark: bool, tmp_path: Path) -> None:
    """On light and dark ground, wide and narrow, no text is faint and none sticks out."""
    long = "%%qwex\nfor i in $(seq 30); do echo $i; done # a long command, $PATH, " + "x" * 200
    lost = "%%qwex --timeout 1 --no-raise-error\necho begun; sleep 100"
    name = "%%qwex --name " + "a-long-name-" * 12 + "\n(exit 5)"
    notebook = lab([LOAD, TRAIN, long, FAILS, lost, name], dark=dark)
    for index in range(6):
        notebook.run_cell(index)
    notebook.until(1, "step")  # which one, depends on the machine: three are in sight
    for width in (1200, 480):
        notebook.resize(width)
        for index in range(1, 6):
            faint = {k: v for k, v in notebook.contrast(index).items() if v < 3}
            assert not faint
            assert notebook.size(index)["over"] == 0
        notebook.screenshot(tmp_path / f"{width}.png")


@pytest.fixture
def engine_here(docker_engine: Engine) -> Engine:
    """An engine to which the server's kernels are pointed by a cell."""
    image(docker_engine, "busybox")
    return docker_engine


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_run_in_a_container_can_be_read(
    lab: Opener, engine_here: Engine, registry: Registry, dark: bool
) -> None:
    """A pull with its bar, a silent engine, an end and a refusal are legible, wide and narrow."""
    name = registry.put("big", "team/big:1")
    registry.wire.slow("GET", "/blobs/", 300_000)
    with Wire(engine_here.host) as wire:
        notebook = lab(
            [
                f"%env DOCKER_HOST={wire.host}\n{LOAD}",
                f"%%qwex --image={name}\necho pulled",
                "%%qwex --image=qwex-test/busybox:1\necho begun; sleep 1000",
                "%%qwex --image=qwex-test/busybox:1 --gpus 1\ntrue",
            ],
            dark=dark,
        )
        notebook.run_cell(0)
        notebook.run_cell(1, wait=False)
        notebook.until(1, lambda text: bool(re.search(r"Pulling .* MiB\.\n[1-9]\d?%", text)))
        _legible(notebook, 1)
        share = notebook.web.evaluate(_BAR, 1)
        assert 0 < share < 1
        registry.wire.clear()
        notebook.wait()
        assert "✓ succeeded" in notebook.until(1, "pulled")
        assert "%" not in notebook.text(1)

        notebook.run_cell(2, wait=False)
        notebook.until(2, "1 line")
        wire.down()
        shown = notebook.until(2, "is asked again")
        assert "◐ running" in shown
        assert notebook.colour(2, "⚠") == "rgb(207, 121, 32)"
        _legible(notebook, 2)
        wire.up()
        notebook.until(2, lambda text: "is asked again" not in text)
        notebook.stop()
        notebook.wait()
        assert "⊘ cancelled" in notebook.until(2, "cancelled")

        notebook.run_cell(3)
        notebook.until(3, "NVIDIA Container Toolkit")
        _legible(notebook, 3)


# How much of a bar's frame is filled.
_BAR = """i => {
    const cell = window.jupyterapp.shell.currentWidget.content.widgets[i];
    const bar = [...cell.outputArea.node.querySelectorAll("div[style*='height:5px']")]
        .find(each => each.checkVisibility());
    const frame = bar.parentElement;
    return bar.getBoundingClientRect().width / frame.getBoundingClientRect().width;
}"""


def _legible(notebook: Notebook, index: int) -> None:
    for width in (1200, 480):
        notebook.resize(width)
        found = notebook.contrast(index).items()
        assert not {k: v for k, v in found if v < (4.5 if re.search(r"\w", k) else 3)}
        assert notebook.size(index)["over"] == 0
    notebook.resize(1200)
