"""``python tests/rigs/imports.py``: imports every module of the installed package.

For systems on which nothing else of the tests runs. Says what could not be imported, and why. The
contract of runners is left out where pytest isn't installed, as it needs that.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys

import qwex_jupyter

CONTRACT = "qwex_jupyter.testing.contract"


def main() -> int:
    """Imports them all; the exit code."""
    names = sorted(modules())
    failed = {name: why for name in names if (why := imported(name))}
    for name, why in failed.items():
        print(f"{name}: {why}")
    print(f"{len(names) - len(failed)} of {len(names)} modules import here ({sys.platform}).")
    return int(bool(failed))


def modules() -> list[str]:
    """The names of all modules of the package that may be imported here."""
    folders = qwex_jupyter.__path__
    found = pkgutil.walk_packages(folders, "qwex_jupyter.", onerror=lambda name: None)
    tested = importlib.util.find_spec("pytest") is not None
    return [each.name for each in found if tested or not each.name.startswith(CONTRACT)]


def imported(name: str) -> str:
    """Why a module can't be imported, "" if it can."""
    try:
        importlib.import_module(name)
    except BaseException as why:  # a module that exits fails like any other
        return f"{type(why).__name__}: {why}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
