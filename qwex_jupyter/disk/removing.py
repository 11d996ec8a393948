"""Removing: a run's folder goes whole, or it is said what stays and why."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable

from qwex_jupyter.disk.folder import RUN, SPEC
from qwex_jupyter.system import files


def remove(path: str) -> OSError | None:
    """Removes a run's folder; its final record goes last, so that a part of it looks ended.

    Returns:
        What keeps something of it from going, with the path; None when all of it is gone.
    """
    if not _is_folder(path):
        return _one(path)
    trouble: OSError | None = None
    for attempt in (1, 2):
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            names, trouble = [], error
        for name in sorted(names, key=_turn):
            if name == RUN and trouble is not None:
                break
            found = _one(os.path.join(path, name), patiently=trouble is None)
            trouble = found or trouble
        if trouble is None or attempt == 2:
            break
        _open_up(path)
        trouble = None
    trouble = trouble or _only(os.rmdir, path)
    return None if trouble is not None and _is_held(path) else trouble


def _is_held(path: str) -> bool:
    """Whether only files are left that NFS keeps while they are open, and then removes."""
    try:
        names = os.listdir(path)
    except OSError:
        return False
    return bool(names) and all(name.startswith(".nfs") for name in names)


def _turn(name: str) -> tuple[bool, bool, str]:
    # A folder that has an end and no spec is never taken for a run that lives.
    return name == RUN, name != SPEC, name


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _one(path: str, *, patiently: bool = True) -> OSError | None:
    """Removes a file, a link, or a folder with all that is in it."""
    if not _is_folder(path):
        return _only(os.unlink, path, patiently=patiently)
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return None
    _open_up(path)
    shutil.rmtree(path, ignore_errors=True)
    return _why(path, patiently=patiently) if os.path.lexists(path) else None


def _open_up(path: str) -> None:
    """Makes the folders at and below a path writable again: some tools make theirs read-only."""
    waiting = [path]
    while waiting:
        here = waiting.pop()
        try:
            mode = stat.S_IMODE(os.lstat(here).st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(here, mode | stat.S_IRWXU)
            with os.scandir(here) as entries:
                waiting += [each.path for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # what can't be opened is told when it can't be removed


def _why(path: str, *, patiently: bool) -> OSError | None:
    """Removes what can be, and says what keeps the first of the rest."""
    trouble: list[OSError] = []
    for root, folders, names in os.walk(path, topdown=False, onerror=trouble.append):
        for name in (*names, *folders):
            inside = os.path.join(root, name)
            call = os.rmdir if _is_folder(inside) else os.unlink
            if error := _only(call, inside, patiently=patiently and not trouble):
                trouble.append(error)
    return _only(os.rmdir, path, patiently=patiently) if not trouble else trouble[0]


def _only(call: Callable[[str], None], path: str, *, patiently: bool = True) -> OSError | None:
    # Where one thing stays anyway, no further one is waited for: there may be thousands.
    try:
        if patiently:
            files.patient(call, path)
        else:
            call(path)
    except FileNotFoundError:
        pass  # somebody else was first
    except OSError as error:
        return error
    return None
