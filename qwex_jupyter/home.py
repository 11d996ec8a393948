"""Where the history is kept. Standard library only: ``%load_ext`` looks here at once."""

from __future__ import annotations

import os
import sys


def default_home() -> str:
    """``$QWEX_HOME``, else ``qwex`` in the platform's folder for user data."""
    if home := os.environ.get("QWEX_HOME"):
        return os.path.abspath(os.path.expanduser(home))
    if sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "qwex")


def has_open_runs() -> bool:
    """Whether anything may be running: one look into one folder."""
    try:
        with os.scandir(os.path.join(default_home(), "open")) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
