"""The runners by name. Each declares itself in plain data; its class is imported at first use.

Runners of other packages are found by their entry points in the group ``qwex_jupyter.runners``,
which name a `Declaration`. Those are looked up only for a name or an option that none of the
known runners has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwex_jupyter.errors import RunnerUnavailable, SpecError
from qwex_jupyter.model.declaration import Declaration

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# The entry-point group of runners that other packages bring.
GROUP = "qwex_jupyter.runners"
# The runner of a cell for which nobody chose one, without and with an image.
DEFAULT, OF_IMAGES = "local", "docker"

BUILT_IN = {
    name: f"qwex_jupyter.runners.{name}.declared:DECLARED" for name in ("local", "docker", "k8s")
}
# A runner for tests of what is built on this package: nobody is offered it.
_FOR_TESTS = {"memory": "qwex_jupyter.testing.declared:DECLARED"}
_registered: dict[str, Declaration] = {}
# Seconds after which what is installed is looked through anew for a name that isn't known.
_LOOK_AGAIN = 10.0


def register_runner(declaration: Declaration) -> None:
    """Adds a runner to this process.

    A package that is installed does better to name its declaration in an entry point of the
    group ``qwex_jupyter.runners``, which serves every process.

    Raises:
        SpecError: One of that name is built in.
    """
    if declaration.name in BUILT_IN:
        raise SpecError(
            f"runner={declaration.name!r} is built in: give the new runner another name."
        )
    _registered[declaration.name] = declaration


def declared(name: str) -> Declaration:
    """The declaration of the runner of that name.

    Raises:
        SpecError: There is none of that name.
        RunnerUnavailable: A package names one, and can't be imported.
    """
    if name in _registered:
        return _registered[name]
    if where := (BUILT_IN | _FOR_TESTS).get(name):
        found: Declaration = _load(where)
        return found
    if (entry := _entry_points(wanted=name).get(name)) is not None:
        return _of_package(entry)
    known = ", ".join(names(installed=True))
    raise SpecError(
        f"runner={name!r} isn't known: choose one of {known}, or install the package that brings "
        "it into this Python."
    )


def names(*, installed: bool = False) -> list[str]:
    """The names of the runners that a person chooses among.

    Args:
        installed: Also those of other packages, which takes a look through what is installed.
    """
    others = [*_registered, *(_entry_points() if installed else ())]
    return list(dict.fromkeys([*BUILT_IN, *others]))


def declarations(*, installed: bool = False) -> list[Declaration]:
    """The declarations of those runners. A package that can't be imported is left out.

    Args:
        installed: Also those of other packages.
    """
    found = []
    for name in names(installed=installed):
        try:
            found.append(declared(name))
        except RunnerUnavailable:  # it is said to whoever asks for that runner, and by the doctor
            continue
    return found


def promises(name: str, promise: str) -> bool:
    """Whether the runner of that name promises something; one that isn't here promises nothing."""
    try:
        return bool(getattr(declared(name).promises, promise))
    except (SpecError, RunnerUnavailable):
        return False


def uid_is(name: str) -> str:
    """What the `uid` of a run of that runner is, in words; of one that isn't here too."""
    try:
        return declared(name).uid_is
    except (SpecError, RunnerUnavailable):
        return Declaration.uid_is


def honoured_by(option: str) -> list[str]:
    """The names of the runners that honour an option; of packages only where no other does."""
    for installed in (False, True):
        if can := [each.name for each in declarations(installed=installed) if each.honours(option)]:
            return can
    return []


def runner_class(name: str) -> type[Any]:
    """The class of that runner, a `runners.base.Runner`.

    Raises:
        SpecError: There is none of that name.
        RunnerUnavailable: Its package can't be imported.
    """
    declaration = declared(name)
    try:
        found: type[Any] = _load(declaration.runner)
    except Exception as error:
        if name in BUILT_IN:
            raise
        raise _broken(name, declaration.runner, error) from error
    return found


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


@dataclass
class _Installed:
    """What was found of other packages: their entry points, and each declaration or its failure.

    Attributes:
        looked_at: When that was, by the monotonic clock.
    """

    entries: dict[str, EntryPoint]
    looked_at: float
    declared: dict[str, Declaration | str] = field(default_factory=dict)


_installed: _Installed | None = None


def _entry_points(*, wanted: str = "") -> dict[str, EntryPoint]:
    """The entry points of other packages.

    Args:
        wanted: Looks anew where this one isn't among them, as it may have been installed since.
    """
    global _installed
    now = time.monotonic()
    known = _installed
    lacks = known is not None and wanted and wanted not in known.entries
    if known is None or (lacks and now - known.looked_at > _LOOK_AGAIN):
        from importlib import invalidate_caches
        from importlib.metadata import entry_points

        invalidate_caches()
        known = _installed = _Installed({e.name: e for e in entry_points(group=GROUP)}, now)
    return known.entries


def _of_package(entry: EntryPoint) -> Declaration:
    assert _installed is not None
    found = _installed.declared.get(entry.name)
    if found is None:
        try:
            found = _declaration_of(entry)
        except RunnerUnavailable as error:
            found = str(error)  # nothing is imported again that couldn't be
        _installed.declared[entry.name] = found
    if isinstance(found, str):
        raise RunnerUnavailable(found)
    return found


def _declaration_of(entry: EntryPoint) -> Declaration:
    try:
        found = entry.load()
    except Exception as error:
        raise _broken(entry.name, entry.value, error) from error
    if not isinstance(found, Declaration) or found.name != entry.name:
        raise RunnerUnavailable(
            f"The runner {entry.name!r} can't be used: {entry.value} of its package isn't a "
            f"Declaration of that name. Update that package, or uninstall it."
        )
    return found


def _broken(name: str, where: str, error: Exception) -> RunnerUnavailable:
    why = f"{type(error).__name__}: {error}"
    return RunnerUnavailable(
        f"The runner {name!r} can't be used: {where} of its package can't be imported ({why}). "
        "Update that package, or uninstall it."
    )
