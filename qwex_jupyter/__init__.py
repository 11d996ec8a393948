"""Run any notebook cell as a local process, in a Docker container or as a Kubernetes Job.

::

    %load_ext qwex_jupyter

    %%qwex --image=python:3.12 python
    import platform; print(platform.platform())

From Python: `submit`, `get`, `runs`, `monitor`, `timeline`, `JobSpec`, `RunStatus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwex_jupyter._version import __version__ as __version__
    from qwex_jupyter.api import get, monitor, runs, submit
    from qwex_jupyter.display.timeline import timeline
    from qwex_jupyter.manager.run import Run
    from qwex_jupyter.model.spec import JobSpec, Resources
    from qwex_jupyter.model.status import RunStatus
    from qwex_jupyter.runners import register_runner

__all__ = [
    "JobSpec",
    "Resources",
    "Run",
    "RunStatus",
    "get",
    "monitor",
    "register_runner",
    "runs",
    "submit",
    "timeline",
]

_WHERE = {
    "__version__": "_version",
    "JobSpec": "model.spec",
    "Resources": "model.spec",
    "Run": "manager.run",
    "RunStatus": "model.status",
    "get": "api",
    "monitor": "api",
    "register_runner": "runners",
    "runs": "api",
    "submit": "api",
    "timeline": "display.timeline",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from qwex_jupyter.system.frontend import shell

    if (here := shell()) is not None:
        from qwex_jupyter.notebook.hooks import install

        install(here)
    return getattr(import_module(f"qwex_jupyter.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext qwex_jupyter``."""
    from qwex_jupyter.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext qwex_jupyter``. Runs go on."""
    from qwex_jupyter.notebook.magics import unload

    unload(shell)
