"""``python3 notebooks``: sets everything up, runs the quickstart and shows what came out.

``python3 notebooks --save`` runs the notebooks and keeps their outputs in the files. With names,
like ``03_kubernetes.ipynb``, only these are run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "rigs")]


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
    named = [HERE / word for word in sys.argv[1:] if word.endswith(".ipynb")]
    paths = named or (sorted(HERE.glob("*.ipynb")) if save else [HERE / "01_quickstart.ipynb"])
    for path in paths:
        with contextlib.ExitStack() as stack:
            env = dict(os.environ)
            if why := _bring(path, stack, env):
                print(f"{path.name} stays as it is: {why}")
                continue
            _tell(path, env, save=save)
    return 0


def _bring(path: Path, stack: contextlib.ExitStack, env: dict[str, str]) -> str:
    """Brings what a notebook is about; why there is none, "" if there is, or if it needs none."""
    if "docker" in path.stem:
        return _bring_engine(stack, env)
    if "kubernetes" in path.stem:
        return _bring_cluster(stack, env)
    return ""


def _bring_cluster(stack: contextlib.ExitStack, env: dict[str, str]) -> str:
    """Starts a cluster of the tests, or takes the user's; why there is none, "" if there is."""
    from clusters import Cluster, available
    from story import public_image_on

    if why := available():
        return why
    cluster = stack.enter_context(Cluster())
    public_image_on(cluster)
    env["KUBECONFIG"] = str(cluster.kubeconfig())
    return ""


def _bring_engine(stack: contextlib.ExitStack, env: dict[str, str]) -> str:
    """Starts an engine of the tests, or takes the user's; why there is none, "" if there is."""
    from engines import CLIENT_VARIABLES, Engine, available
    from story import public_image

    if why := available("docker"):
        return why
    engine = stack.enter_context(Engine("docker"))
    for name in CLIENT_VARIABLES:
        env.pop(name, None)
    env["DOCKER_HOST"] = engine.host
    return stack.enter_context(public_image(engine))


def _tell(path: Path, env: dict[str, str], *, save: bool) -> None:
    import nbformat
    from story import Client

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # A history and a working folder of its own: the story is the same every time.
        env["QWEX_HOME"] = os.path.join(folder, "home")
        if save:
            env["QWEX_DISPLAY"] = "pane"
        Client(notebook, folder).run(env)
    if not save:
        _show(notebook)
        return
    _settle(notebook)
    text = nbformat.writes(notebook)
    # A traceback names the history folder; in the saved story it is the usual one.
    path.write_text(text.replace(env["QWEX_HOME"], "~/.local/share/qwex"))


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
