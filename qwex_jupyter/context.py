"""Where a run was submitted from: notebook, kernel, folder, commit, and by which process."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from qwex_jupyter import process

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def here(cwd: str | None = None) -> dict[str, Any]:
    """What ``spec.json`` remembers of the submitter, beside the spec.

    Args:
        cwd: The folder that it is submitted for; None for the one of this process.
    """
    cwd = cwd or os.getcwd()
    return {
        "cwd": cwd,
        "host": process.place()["host"],
        "submitter": process.identify(os.getpid()),
        "notebook": notebook(),
        "session": session(),
        "git_commit": git_commit(cwd),
    }


def notebook() -> str:
    """The path of this notebook as its server names it; "" in a terminal.

    Jupyter Server puts it into ``JPY_SESSION_NAME``; VS Code into a variable of the
    notebook's own namespace.
    """
    name = os.environ.get("JPY_SESSION_NAME", "")
    if not name and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        name = str(shell.user_ns.get("__vsc_ipynb_file__", "")) if shell else ""
    return name


def session() -> str:
    """What tells this kernel (or terminal) from others; a restart of the kernel keeps it."""
    if "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        file = getattr(getattr(shell, "kernel", None), "config", {})
        name = file.get("IPKernelApp", {}).get("connection_file", "") if file else ""
        if name:
            return os.path.splitext(os.path.basename(str(name)))[0]
    return f"pid-{os.getpid()}"


def is_mine(of_notebook: str, of_session: str) -> bool:
    """Whether that is this notebook, or this kernel where no server names the notebook."""
    book = notebook()
    return of_notebook == book if book else of_session == session()


def is_kernel() -> bool:
    """Whether this process is a notebook kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def is_watched() -> bool:
    """Whether a person looks at what this process displays: not so under nbclient or papermill."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    # Those forbid input; a person's front end allows it.
    return kernel is not None and getattr(kernel, "_allow_stdin", True)


def ends_with_server() -> str:
    """What a detached local run here ends with, "" when it outlives the session.

    A hub, a batch system or a container takes down everything in it when it goes.
    """
    if any(name.startswith("JUPYTERHUB_") for name in os.environ):
        return "this JupyterHub server"
    if os.environ.get("SLURM_JOB_ID"):
        return f"the Slurm job {os.environ['SLURM_JOB_ID']}"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "this pod"
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return "this container"
    return ""


def git_commit(folder: str) -> str:
    """The commit that is checked out at or above a folder, read from ``.git``; "" for none."""
    while True:
        git = os.path.join(folder, ".git")
        if os.path.exists(git):
            break
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent
    if os.path.isfile(git):  # a worktree or submodule: the file names the real folder
        git = os.path.join(folder, _first_line(git).removeprefix("gitdir:").strip())
    head = _first_line(os.path.join(git, "HEAD"))
    name = head.removeprefix("ref:").strip()
    if not head.startswith("ref:"):
        return name if _HASH.fullmatch(name) else ""
    common = os.path.join(git, _first_line(os.path.join(git, "commondir")) or ".")
    for base in (git, common):
        found = _first_line(os.path.join(base, name))
        if _HASH.fullmatch(found):
            return found
    for line in _text(os.path.join(common, "packed-refs")).splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name and _HASH.fullmatch(commit):
            return commit
    return ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _first_line(path: str) -> str:
    return _text(path).split("\n", 1)[0].strip()
