"""The runners by name; each module is imported at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qwex_jupyter.errors import RunnerUnavailable, SpecError

if TYPE_CHECKING:
    from qwex_jupyter.runners.base import Runner

_RUNNERS: dict[str, str] = {
    "local": "qwex_jupyter.runners.local:LocalRunner",
    "memory": "qwex_jupyter.runners.memory:MemoryRunner",
}

_TO_COME = ("docker", "k8s")

# Runners that a person chooses; `memory` is for tests of what is built on this package.
NAMES = ("local",)


def register_runner(name: str, target: str) -> None:
    """Adds a runner: ``target`` is ``"module:Class"``, imported when it is first asked for."""
    _RUNNERS[name] = target


def runner_class(name: str) -> type[Runner]:
    """The class of that runner.

    Raises:
        SpecError: There is none of that name.
        RunnerUnavailable: This version doesn't have it.
    """
    if name in _TO_COME and name not in _RUNNERS:
        raise RunnerUnavailable(
            f"This version has no {name} runner, so there are no images: "
            "leave --image out, or use --runner=local."
        )
    if name not in _RUNNERS:
        known = ", ".join(sorted(set(_RUNNERS) - {"memory"}))
        raise SpecError(f"runner={name!r} isn't known: choose one of {known}.")
    module, _, attribute = _RUNNERS[name].partition(":")
    found: type[Runner] = getattr(import_module(module), attribute)
    return found
