"""What the documentation says is run: README blocks, the notebook, links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def execute(cells: list[str], folder: Path) -> nbformat.NotebookNode:
    """Runs cells in a real kernel, with a history of its own."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    env = {**os.environ, "QWEX_HOME": str(folder / "home"), "IPYTHONDIR": str(folder / "ipython")}
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute(
        env=env
    )
    return notebook


@pytest.mark.kernel
def test_the_magics_of_the_readme_run(tmp_path: Path) -> None:
    """Every magic block of the README runs in a real kernel."""
    cells = blocks(ROOT / "README.md", "")
    assert len(cells) >= 3
    notebook = execute(["seed = 1", *cells, "%qwex cancel train"], tmp_path)
    assert "cancelled" in notebook.cells[-1].outputs[0].text


def test_the_python_of_the_readme_runs(home: str) -> None:
    """Every Python block of the README runs as a script."""
    for block in blocks(ROOT / "README.md", "python"):
        env = {**os.environ, "QWEX_HOME": home}
        done = subprocess.run(
            [sys.executable, "-c", block], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["FAILED", "3", "hello"]


def test_the_verbs_of_the_readme_exist() -> None:
    """Every %qwex verb that a page names is one."""
    from qwex_jupyter import options

    known = {*options.VERBS, *options.ALIASES}
    for page in PAGES:
        for verb in re.findall(r"(?<!%)%qwex ([a-z]+)\b", page.read_text()):
            assert verb in known, f"{page.name}: %qwex {verb}"


def test_the_commands_of_the_readme_are_there() -> None:
    """The README's two commands are folders that Python can run."""
    commands = "".join(blocks(ROOT / "README.md", "sh"))
    for name in re.findall(r"^python3 (\w+)$", commands, re.MULTILINE):
        assert (ROOT / name / "__main__.py").exists(), name
    assert "python3 tests" in commands
    assert "python3 tests" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of this repository."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """A notebook runs from top to bottom in a real kernel."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    done = execute([cell.source for cell in code], tmp_path)
    shown = str(done.cells)
    for word in ("epoch 3", "step 4: loss 0.200", "TimedOut", "it asked for input", "SUCCEEDED"):
        assert word in shown, word


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_its_outputs(path: Path) -> None:
    """A notebook in the repository holds its outputs, small, and nothing of one machine."""
    text = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) > len(code) / 2
    assert len(text) < 200_000
    for mark in ("/root", "/home/", "/Users/", "/tmp/"):
        assert mark not in text, mark


def test_no_page_tells_of_one_machine() -> None:
    """No document names a path of a machine that it was written on."""
    for page in PAGES:
        for mark in ("/root/", "/home/", "/Users/"):
            assert mark not in page.read_text(), f"{page.name}: {mark}"
