"""Opening and moving files, as each system has it.

Windows has no flag against links and pipes, adds a carriage return to each newline unless it is
told not to, and lets nobody move, replace or remove what somebody else has open at that moment: a
virus scanner, an indexer, a reader of ours. Standard library only: the supervisor imports this
module.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import TypeVar

from qwex_jupyter.system import windows

_Given = TypeVar("_Given")


def _flags(*names: str) -> int:
    """Those of these flags that this system has, and what keeps bytes as they are."""
    flags = 0
    for name in (*names, "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    return flags


# To read a plain file. Opened without blocking, because somebody's named pipe may lie there.
READ = _flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
# The same, also behind a link.
READ_LINKED = _flags("O_RDONLY", "O_NONBLOCK")
# To write a file that isn't there; one that is there or not; and that only if no link.
NEW = _flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW")
MARK = _flags("O_WRONLY", "O_CREAT")
WRITE = _flags("O_WRONLY", "O_CREAT", "O_NOFOLLOW")
# To have what was written to it put on the disk.
SYNC = _flags("O_RDWR") if windows.HERE else READ_LINKED
# The mode of what nobody is to change. Windows doesn't remove what has it.
UNCHANGED = 0o600 if windows.HERE else 0o400
# For how long another one may have a file open on Windows. Seconds.
_PATIENCE = 2.0


def patient(call: Callable[..., _Given], *words: object) -> _Given:
    """Calls a function of the system; on Windows again, for a while, where a file is in use."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return call(*words)
        except PermissionError:
            if not windows.HERE or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def move(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
    """Gives a file or a folder another name; a file that had it is replaced."""
    patient(os.replace if windows.HERE else os.rename, old, new)


def is_own(found: os.stat_result) -> bool:
    """Whether only this user can have written something. Windows says that in another way.

    There it is taken for so: folders of ours lie in the user's own, which others can't write to.
    """
    if windows.HERE:
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Has the names in a folder survive a loss of power, where a system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # the link is made; only its age on disk is unknown
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems can't sync a folder
    finally:
        os.close(descriptor)
