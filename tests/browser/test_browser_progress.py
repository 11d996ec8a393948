"""Bars of what programs print, in JupyterLab, with real runs and kernels."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from local_helpers import until

if TYPE_CHECKING:
    from browser import Notebook

pytest_plugins = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("nothing_lives")]

Opener: TypeAlias = "Callable[..., Notebook]"

LOAD = "%load_ext qwex_jupyter"
PRINTED = Path(__file__).parents[1] / "unit" / "progress" / "tqdm_nested.log"


def _script(tmp_path: Path) -> tuple[str, Path]:
    """Prints what nested bars print until the first of three is done, then waits for a file."""
    data = PRINTED.read_bytes()
    begun, go = tmp_path / "begun", tmp_path / "go"
    begun.write_bytes(data[: data.index(b"100%", data.index(b" 1/3"))])
    files = [shlex.quote(str(path)) for path in (begun, go)]
    return f"cat {files[0]} >&2; until [ -e {files[1]} ]; do sleep 0.05; done", go


@pytest.mark.parametrize("detached", [False, True], ids=["foreground", "detached"])
def test_nested_bars_are_one_bar_and_two_lines(lab: Opener, tmp_path: Path, detached: bool) -> None:
    """A card has the outer bar with its number, the lines stand in place, and the end has none."""
    script, go = _script(tmp_path)
    notebook = lab([LOAD, f"%%qwex {'-d' if detached else ''}\n{script}"])
    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    web = notebook.web
    web.wait_for_selector(".qwex-live")
    bar = web.get_by_role("progressbar", name="progress")
    until(lambda: bar.count() == 1 and bar.get_attribute("aria-valuenow") == "33")
    assert bar.get_attribute("aria-valuetext") == "epochs 33%"
    assert web.text_content(".qwex-spoken") == "epochs 33%"
    shown = notebook.text(1)
    assert shown.count("epochs:") == 1
    assert shown.count("batches:") == 1
    go.touch()
    notebook.wait()
    notebook.until(1, "✓ succeeded")
    until(lambda: bar.count() == 0)
    assert "progressbar" not in str(notebook.data(1))


def test_without_a_bar_it_is_told_how_long_it_takes(lab: Opener, tmp_path: Path) -> None:
    """What ran before says how long it usually takes, while it says nothing itself."""
    cell = f"%%qwex\nsleep 2; [ -e {shlex.quote(str(tmp_path / 'again'))} ] && sleep 60; exit 0"
    notebook = lab([LOAD, cell])
    notebook.run_cell(0)
    notebook.run_cell(1)
    (tmp_path / "again").touch()
    notebook.run_cell(1, wait=False)
    notebook.until(1, "usually 0:02")
    notebook.web.wait_for_selector(".qwex-usual")
    notebook.stop()
    notebook.wait()
    assert "usually" not in notebook.text(1)


def test_the_monitor_has_it_too(lab: Opener, tmp_path: Path) -> None:
    """The status cell of a live run has the same bar as its card, and none when it has ended."""
    script, go = _script(tmp_path)
    notebook = lab([LOAD, f"%%qwex -d\n{script}", "%qwex monitor"])
    for index in range(3):
        notebook.run_cell(index)
    bar = notebook.web.locator(".qwex-monitor [role=progressbar]:visible")
    until(lambda: bar.count() == 1 and bar.get_attribute("aria-valuenow") == "33")
    assert "running 33%" in notebook.web.inner_text(".qwex-monitor .body [role=row] .status")
    go.touch()
    until(lambda: "succeeded" in notebook.web.inner_text(".qwex-monitor .body .status"))
    assert bar.count() == 0
