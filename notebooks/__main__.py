"""``python3 notebooks``: sets everything up, runs the quickstart and shows what came out.

``python3 notebooks --save`` runs the notebooks and keeps their outputs in the files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))


def main() -> int:
    """Runs the notebooks; the exit code."""
    if os.environ.get("QWEX_NOTEBOOKS_READY"):
        return _execute(save="--save" in sys.argv)
    from environment import environment

    interpreter = environment(".venv-quickstart", "[notebooks]")
    env = {**os.environ, "QWEX_NOTEBOOKS_READY": "1"}
    env.pop("PYTHONUNBUFFERED", None)
    command = [interpreter, str(HERE), *sys.argv[1:]]
    return subprocess.run(command, env=env, check=False).returncode


def _execute(*, save: bool) -> int:
    import nbformat
    from nbclient import NotebookClient

    paths = sorted(HERE.glob("*.ipynb")) if save else [HERE / "01_quickstart.ipynb"]
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            # A history and a working folder of its own: the story is the same every time.
            os.environ["QWEX_HOME"] = os.path.join(folder, "home")
            if save:
                os.environ["QWEX_DISPLAY"] = "pane"
            client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
            client.execute()
        if save:
            _settle(notebook)
            text = nbformat.writes(notebook)
            # A traceback names the history folder; in the saved story it is the usual one.
            path.write_text(text.replace(os.environ["QWEX_HOME"], "~/.local/share/qwex"))
        else:
            _show(notebook)
    return 0


def _settle(notebook: object) -> None:
    """Takes out what changes with each execution and tells nothing."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)


def _show(notebook: object) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            print(f"\n{cell.source}")
            continue
        print("\n" + "\n".join(f"    {line}" for line in cell.source.splitlines()))
        for output in cell.outputs:
            if output.output_type == "stream":
                print(output.text, end="")
            else:
                data = output.get("data", {})
                print(data.get("text/plain", ""))
    print("\nThat ran in a real kernel. Now in a notebook of yours: %load_ext qwex_jupyter")


if __name__ == "__main__":
    sys.exit(main())
