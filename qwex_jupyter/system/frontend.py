"""Where a run was submitted from: notebook, kernel, folder, commit, and by which process."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.system import process
from qwex_jupyter.system.paths import current_folder

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def here(cwd: str | None = None) -> dict[str, Any]:
    """What ``spec.json`` remembers of the submitter, beside the spec.

    Args:
        cwd: The folder that it is submitted for; None for the one of this process.
    """
    cwd = cwd or _folder()
    return {
        "cwd": cwd,
        "host": process.place()["host"],
        "submitter": process.identify(os.getpid()),
        "notebook": notebook(),
        "session": session(),
        "git_commit": git_commit(cwd),
    }


def _folder() -> str:
    """The current folder; "" where there is none to write down: what needs it refuses."""
    try:
        return current_folder()
    except SpecError:
        return ""


def notebook() -> str:
    """The path of this notebook as its server names it; "" in a terminal.

    Jupyter Server puts it into ``JPY_SESSION_NAME``; VS Code into a variable of the
    notebook's own namespace.
    """
    name = os.environ.get("JPY_SESSION_NAME", "")
    if not name and (found := shell()):
        name = str(found.user_ns.get("__vsc_ipynb_file__", ""))
    return name.encode("utf-8", "backslashreplace").decode()  # a path may be no UTF-8


def session() -> str:
    """What tells this kernel (or terminal) from others; a restart of the kernel keeps it."""
    file = getattr(_kernel(), "config", None) or {}
    if name := file.get("IPKernelApp", {}).get("connection_file", ""):
        return os.path.splitext(os.path.basename(str(name)))[0]
    return f"pid-{os.getpid()}"


def is_mine(of_notebook: str, of_session: str) -> bool:
    """Whether that is this notebook, or this kernel where no server names the notebook."""
    book = notebook()
    return of_notebook == book if book else of_session == session()


def is_kernel() -> bool:
    """Whether this process is a notebook kernel."""
    return _kernel() is not None


def kernel_python() -> str:
    """The interpreter of this kernel, which a cell means by ``python``; "" in a terminal."""
    return sys.executable if is_kernel() else ""


def is_ending() -> bool:
    """Whether this kernel was asked to end, to be restarted or for good.

    ipykernel notes it in its control thread, also while a cell keeps the main one.
    """
    return is_kernel() and bool(getattr(shell(), "exit_now", False))


def is_watched() -> bool:
    """Whether a person looks at what this process displays: not so under nbclient or papermill."""
    # Those forbid input; a person's front end allows it.
    return is_kernel() and bool((_request().get("content") or {}).get("allow_stdin", True))


def updates_displays() -> bool:
    """Whether the front end of the cell that runs now is known to update what it displays.

    JupyterLab and Notebook name the cell in the metadata of what they have executed, as VS Code
    does, which also leaves the notebook's path. A console does neither, and drops updates; of
    what else is unknown nobody can say.
    """
    if not is_watched():
        return False
    named = "cellId" in (_request().get("metadata") or {})
    return named or "__vsc_ipynb_file__" in shell().user_ns


def cell_code() -> str:
    """The code of the cell that runs now, "" where no front end has sent one."""
    return str((_request().get("content") or {}).get("code", "")).lstrip()


def _request() -> Mapping[str, Any]:
    """The message by which the front end asked for what runs now."""
    return getattr(shell(), "parent_header", None) or {}


def asker() -> str:
    """Which client last asked this kernel anything beside its cells; "" for none.

    A page does that when it is loaded, and is answered also while a cell runs.
    """
    ask = getattr(_kernel(), "get_parent", None)
    parent = ask("control") if ask else None
    return str((parent or {}).get("header", {}).get("session", ""))


def shell() -> Any:
    """The IPython shell of this process; None where there is none."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _kernel() -> Any:
    return getattr(shell(), "kernel", None)


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
