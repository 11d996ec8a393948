"""Opening: a history's folder is made, or found to be one of ours, and then it is only read."""

from __future__ import annotations

import os
import re
import secrets

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import OPEN, RUNS
from qwex_jupyter.errors import FactUnreadable, HomeUnusable
from qwex_jupyter.system import files

_ID = "id"


def open_home(home: str) -> str:
    """The id of the history in a folder.

    Only what isn't there is made, for its owner alone: a history on a disk that is full, or
    that one may only read, can be read.

    Raises:
        HomeUnusable: It belongs to somebody else, others may write to it, it can't be made, or
            it can't hold hard links.
    """
    try:
        for folder in (home, os.path.join(home, RUNS), os.path.join(home, OPEN)):
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            with os.scandir(folder):
                pass  # or else each verb finds out by itself that it can't be listed
        found = os.stat(home)
        if not files.is_own(found):
            raise HomeUnusable(
                f"{home} belongs to somebody else or others may write to it: "
                "set QWEX_HOME to a folder of your own (chmod 700)."
            )
        value = facts.read_fact(home, _ID)
        if value is None:
            value = facts.link_once(home, _ID, {"id": secrets.token_hex(8)})
    except OSError as error:
        raise HomeUnusable(
            f"{home} can't be used: {error.strerror}. "
            "Set QWEX_HOME to a folder of your own, on a disk with some room, or mend that."
        ) from error
    except FactUnreadable as error:
        if error.passing:
            raise HomeUnusable(
                f"{home} can't be read at this moment: {error}. Try again."
            ) from error
        raise _no_history(home, f": {error}") from error
    known = value.get("id")
    if not isinstance(known, str) or not re.fullmatch(r"[0-9a-f]{16}", known):
        raise _no_history(home)
    return known


def _no_history(home: str, why: str = "") -> HomeUnusable:
    return HomeUnusable(
        f"{home}/id holds no id of a history{why}: if that folder isn't one, "
        "set QWEX_HOME to another; if it is, remove this file."
    )
