"""The runners by name; each module is imported at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qwex_jupyter.errors import SpecError

if TYPE_CHECKING:
    from qwex_jupyter.runners.base import Runner

_RUNNERS: dict[str, str] = {
    "local": "qwex_jupyter.runners.local.runner:LocalRunner",
    "docker": "qwex_jupyter.runners.docker.runner:DockerRunner",
    "k8s": "qwex_jupyter.runners.k8s.runner:K8sRunner",
    "memory": "qwex_jupyter.testing.memory:MemoryRunner",
}

# Runners that a person chooses; `memory` is for tests of what is built on this package.
NAMES = ("local", "docker", "k8s")


def register_runner(name: str, target: str) -> None:
    """Adds a runner: ``target`` is ``"module:Class"``, imported when it is first asked for."""
    _RUNNERS[name] = target


def runner_class(name: str) -> type[Runner]:
    """The class of that runner.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in _RUNNERS:
        known = ", ".join(sorted(set(_RUNNERS) - {"memory"}))
        raise SpecError(f"runner={name!r} isn't known: choose one of {known}.")
    module, _, attribute = _RUNNERS[name].partition(":")
    found: type[Runner] = getattr(import_module(module), attribute)
    return found
