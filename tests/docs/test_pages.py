"""The cells of the pages are executed, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pages
import pytest
import story
from pages import CLUSTER, ENGINE, GPU, HERE, PAGES, Cell

from qwex_jupyter.commands.line import split
from qwex_jupyter.commands.options import make_spec, parse_run

pytestmark = pytest.mark.once

# What a page takes for granted: the extension, and what its reader has.
BEFORE = {
    "take-a-run-along": ["from pathlib import Path", 'Path("data.txt").write_text("1\\n2\\n3\\n")'],
    "home-on-nfs": ["%qwex run --name train true"],
    "monitor": ["%qwex run true"],
}
# What the outputs of a page hold, which stands there as what one sees.
SHOWN = {
    "outlive-a-restart": ("train (", "still running", "%qwex attach", "CANCELLED 143 True"),
    "take-a-run-along": ("mean 2.0 at rate 0.1",),
    "home-on-nfs": ("Deleted",),
    "gpu": ("this run sees GPU 0", "--gpus 1 ", "2147483648", "nvidia.com/gpu", "amd.com/gpu"),
    "behind-a-proxy": ("by ",),
    "monitor": ("as of 20",),
}
# Those of the README are run in the quick tier, in test_docs.py.
WITH_CELLS = [p for p in PAGES if pages.cells(p, HERE, GPU) and p.stem != "README"]


def _shown_only(source: str) -> str:
    """A cell that prints what it would hand over: there is no GPU to give it one."""
    return re.sub(r"^(%%qwex|%qwex run)", r"\1 --dry-run", source) if "qwex" in source else source


def tell(cells: list[Cell], before: list[str], folder: Path) -> str:
    """Runs cells in a real kernel with a history of its own; what they showed."""
    notebook = nbformat.v4.new_notebook()
    for source in ["%load_ext qwex_jupyter", *before]:
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    for cell in cells:
        if cell.restarted:
            notebook.cells[-1].metadata["tags"] = [story.RESTART]
        source = _shown_only(cell.source) if cell.place == GPU else cell.source
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    places = {"QWEX_HOME": str(folder / "home"), "IPYTHONDIR": str(folder / "ipython")}
    # As on a page that shows outputs, which nobody watches here.
    story.Client(notebook, folder).run({**os.environ, **places, "QWEX_DISPLAY": "pane"})
    return "".join(str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.kernel
@pytest.mark.tier("all")
@pytest.mark.parametrize("page", WITH_CELLS, ids=lambda page: page.stem)
def test_the_cells_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Every cell of a page that needs no engine and no cluster runs, and shows what it says."""
    pytest.importorskip("matplotlib")
    shown = tell(pages.cells(page, HERE, GPU), BEFORE.get(page.stem, []), tmp_path)
    for word in SHOWN.get(page.stem, ()):
        assert word in shown, word


@pytest.mark.kernel
@pytest.mark.tier("all")
def test_a_run_is_taken_to_another_history(tmp_path: Path) -> None:
    """The terminal's block of "Take a run to a colleague" does it, in a history of her own."""
    page = next(page for page in PAGES if page.stem == "take-a-run-along")
    tell(pages.cells(page), BEFORE[page.stem], tmp_path)
    theirs = tmp_path / "theirs"
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "QWEX_HOME": str(theirs), "PATH": path}
    (tmp_path / "data.txt").unlink()  # which only the run has, from now on
    (block,) = pages.blocks(page, "sh")
    script = f"set -e\nqwex runs\n{block}"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "✓ succeeded  fit" in done.stdout
    assert "mean 2.0 at rate 0.1" in done.stdout
    assert "mean 2.0 at rate 0.2" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_lines_of_a_page_are_understood(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of a cell or of a command is one that is taken, wherever it is to run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("")
    monkeypatch.setenv("QWEX_PROFILES", "{'gpu': '--runner=k8s --image=a --gpus 1'}")
    for cell in pages.cells(page):
        line, _, body = cell.source.partition("\n")
        found = re.match(r"%%qwex|%qwex run", line)
        if found:
            words = split(line[found.end() :], {"seed": 1})
            args, command = parse_run(words)
            assert make_spec(args, command, body or None, {}), line


def test_a_page_says_what_its_cells_need() -> None:
    """Cells that need an engine, a cluster or a GPU are told from the others."""
    needed = {cell.place for page in PAGES for cell in pages.cells(page)}
    assert needed == {HERE, ENGINE, CLUSTER, GPU}
    pod = next(page for page in PAGES if page.stem == "my-pod-waits")
    assert [cell.place for cell in pages.cells(pod)] == [CLUSTER, CLUSTER]
    restart = next(page for page in PAGES if page.stem == "outlive-a-restart")
    assert sum(cell.restarted for cell in pages.cells(restart)) == 1
