"""``python docs/screenshots.py``: the pictures in ``docs/images``, from the real thing.

Each is a cell of JupyterLab in Chromium, run by this package, in light and in dark.
Needs what the browser tests need: Chromium, Playwright, JupyterLab.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import Jupyter, Notebook, Page, launched, missing

IMAGES = Path(__file__).resolve().parent / "images"
LARGEST = 150_000
WIDTH = 960

LOAD = "%load_ext qwex_jupyter"
FOREGROUND = '%%qwex\nfor i in 1 2 3; do echo "epoch $i"; sleep 1; done'
SUCCEEDED = """%%qwex python
for step in range(5000):
    print(f"step {step:4d}  loss {1 / (1 + step):.4f}")"""
FAILED = """%%qwex --memory 100m python
rows = []
while len(rows) < 10**9:
    rows += [str(n) for n in range(300_000)]
    print(f"{len(rows):,} rows read")"""
DETACHED = """%%qwex --detach --name train python
import time
for i in range(60): print(i); time.sleep(1)"""


def main() -> int:
    """Takes all pictures; the exit code."""
    if why := missing():
        print(why)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        jupyter = Jupyter(Path(folder))
        try:
            with launched() as browser:
                jupyter.wait()
                page = Page(browser, jupyter, sharpness=2)
                for dark in (False, True):
                    cells = [LOAD, FOREGROUND, SUCCEEDED, FAILED, DETACHED, "%qwex attach", ""]
                    notebook = page.open(cells, dark=dark)
                    notebook.resize(WIDTH)
                    take(notebook, "-dark" if dark else "")
                    jupyter.cancel()
        finally:
            jupyter.close()
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.glob("*.png"))}
    for name, size in sizes.items():
        print(f"{size:9,d}  {name}{'  is too large' if size > LARGEST else ''}")
    return int(max(sizes.values()) > LARGEST)


def take(notebook: Notebook, suffix: str) -> None:
    """Runs the cells of a notebook and takes a picture in each state.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
    """

    def shot(name: str, first: int, last: int = -1) -> None:
        notebook.leave()
        notebook.screenshot(IMAGES / f"{name}{suffix}.png", first, last)

    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.until(1, "epoch 2")
    shot("foreground", 1)
    notebook.wait()
    notebook.run_cell(2)
    notebook.until(2, "succeeded")
    shot("succeeded", 2)
    notebook.run_cell(3)
    notebook.until(3, "RunFailed")
    shot("failed", 3)
    notebook.run_cell(4)
    notebook.until(4, lambda text: len(re.findall(r"^\d+$", text, re.MULTILINE)) == 3)
    shot("detached", 4)
    notebook.restart()
    notebook.run_cell(0)
    notebook.until(0, "still running")
    shot("greeting", 0)
    notebook.run_cell(5, wait=False)
    notebook.until(5, "\n5\n")
    shot("attach", 5)
    notebook.stop()
    notebook.wait()


if __name__ == "__main__":
    sys.exit(main())
