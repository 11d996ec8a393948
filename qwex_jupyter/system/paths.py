"""Paths of this process: the current folder, and what counts from it."""

from __future__ import annotations

import os
import re

from qwex_jupyter.errors import SpecError
from qwex_jupyter.system import windows

# A path of Windows begins so, and its colon parts nothing.
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def split_mount(word: str) -> list[str]:
    """What stands between the colons of a ``SRC:DST[:ro]`` word."""
    drive = word[:2] if windows.HERE and _DRIVE.match(word) else ""
    first, *more = word[len(drive) :].split(":")
    return [drive + first, *more]


def current_folder() -> str:
    """The current folder of this process.

    Raises:
        SpecError: It is gone, or can't be written down.
    """
    try:
        path = os.getcwd()
        path.encode()
    except OSError:
        why = "is gone: it was deleted or moved"
    except UnicodeEncodeError:
        why = "has a name that isn't UTF-8, and can't be written down"
    else:
        return path
    raise SpecError(f"the current folder {why}. Go to another, or name a whole path with -w.")


def whole_path(path: str, base: str | None = None) -> str:
    """A path as a whole one: a relative one counts from ``base``, or from the current folder."""
    path = os.path.expanduser(path)
    return os.path.normpath(
        path if os.path.isabs(path) else os.path.join(base or current_folder(), path)
    )
