"""Libraries of backends and of widgets: imported at their first use, and missed by nobody else.

They are imported one at a time. Two threads that import libraries with a part in common, as docker
and kubernetes have requests, can each come to wait for a module that the other one is in the
middle of. Python then lets one of them go on with half a module, and its import fails by chance
(``importlib._bootstrap._ModuleLock``).
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.util import find_spec

from qwex_jupyter.system import compat

# What live cards and the monitor are made with.
WIDGETS = "anywidget"
_ONE = threading.Lock()
# What was wrong with a library that is there, when this process last tried to import it.
_broken: dict[str, str] = {}


def missing(package: str, *, brought_by: str = "") -> str:
    """Says of a library that it isn't there, and what to install; it isn't imported for that.

    Args:
        package: What Python calls it.
        brought_by: What pip installs it with; "" for what has the same name.

    Returns:
        The words up to where a sentence may go on; "" when it is there.
    """
    if sys.modules.get(package) is not None:
        return ""
    importlib.invalidate_caches()  # it may have been installed a moment ago
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        found = None
    # A folder of that name in the current one is a package for Python, and holds nothing.
    if found is not None and found.origin is not None:
        return ""
    return f"The Python package {package} isn't installed: pip install {brought_by or package}"


def known_trouble(package: str) -> str:
    """What is wrong with a library, as far as it is known without an import; as `missing`."""
    return missing(package) or _broken.get(package, "")


def trouble(package: str, *, brought_by: str = "") -> str:
    """Imports a library, unless it is there; what is wrong with it, as `missing` says it."""
    if compat.is_whole(package):
        return ""  # a card isn't to wait until another thread has imported something else
    with _ONE:
        _broken.pop(package, None)
        if lacks := missing(package, brought_by=brought_by):
            return lacks
        try:
            importlib.import_module(package)
        except Exception as error:  # noqa: BLE001 - what is installed may be broken in any way
            why = " ".join(str(error).split()) or type(error).__name__
            mend = f"pip install -U {brought_by or package}"
            _broken[package] = f"The Python package {package} can't be imported ({why}): {mend}"
        return _broken.get(package, "")
