"""Where the history is kept. Standard library only: ``%load_ext`` looks here at once."""

from __future__ import annotations

import functools
import os
import sys

from qwex_jupyter.errors import HomeUnusable


def default_home() -> str:
    """``$QWEX_HOME``, else ``qwex`` in the platform's folder for user data.

    Raises:
        HomeUnusable: It can't be told where that is.
    """
    if home := os.environ.get("QWEX_HOME"):
        return _whole(home)
    base = os.environ.get("XDG_DATA_HOME", "")
    if own := _of_windows():
        base = own
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    elif not os.path.isabs(base):  # which counts for nothing, by its specification
        base = "~/.local/share"
    return os.path.join(_whole(base), "qwex")


def _of_windows() -> str:
    """Its folder for the data of a user on this machine; "" elsewhere, where nothing names one."""
    found = os.environ.get("LOCALAPPDATA", "")
    if not found:
        return ""
    from qwex_jupyter.system import windows

    return found if windows.HERE else ""


@functools.cache
def _whole(path: str) -> str:
    """A path as it was first meant, even where this process changes its folder later."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise HomeUnusable(
            f"{path} can't be found: this user has no home folder (no HOME, and no entry in "
            "/etc/passwd). Set QWEX_HOME to a folder of your own."
        )
    try:
        return os.path.abspath(expanded)
    except OSError:
        raise HomeUnusable(
            f"QWEX_HOME={path} counts from the current folder, and that is gone: "
            "set it to a whole path."
        ) from None


def has_news() -> bool:
    """Whether anything may be running, or have ended unseen by this notebook: two short looks."""
    try:
        home = default_home()
    except HomeUnusable:
        return False
    if _holds_something(os.path.join(home, "open")):
        return True
    if not _holds_something(os.path.join(home, "awaited")):
        return False
    from qwex_jupyter.disk import awaited

    return bool(awaited.listed(home))  # what other notebooks wait for is no news here


def _holds_something(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
