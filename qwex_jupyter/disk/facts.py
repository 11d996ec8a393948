"""Facts: small JSON files that appear once, by ``link()``, and are never replaced.

First wins, also between machines that share an NFS home: ``link()`` is atomic on the
server, where locks and O_APPEND are not. Whoever comes second reads the winner and goes by
it. Nothing else in this package creates or replaces a JSON file of a run: `link_once` for
facts, `replace` for what is an observation. What a file is called is the matter of
`folder.RunFolder`.

Standard library only: the supervisor imports this module.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qwex_jupyter.errors import FactTooLarge, FactUnreadable, HomeUnusable
from qwex_jupyter.system import files

Fact = dict[str, Any]

# A folder by its path, or a `RunFolder`.
Folder = str | os.PathLike[str]

# What a home that can't hard-link answers: FAT, exFAT, some SMB and FUSE mounts; the last is
# Windows' word for the first two.
_NO_LINKS = {
    errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
    errno.EINVAL,
}  # fmt: skip
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NO_ROOM = NO_SPACE | {errno.EROFS, errno.EFBIG}
# Errors of this process, or of the way to the disk, which say nothing about the file.
_PASSING = {
    errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
    errno.ETIMEDOUT,
}  # fmt: skip

_RESERVE = ".reserve."
# The largest fact that is written or read: a script of 4 MiB takes up to six times
# that as JSON.
MOST_BYTES = 32 * 1024 * 1024

# The seat of fault injection: called with "<file>:<step>" before each step.
fault: Callable[[str], None] | None = None


def _step(name: str, step: str) -> None:
    if fault is not None:
        fault(f"{name}:{step}")


def reserve(folder: Folder, sizes: Mapping[str, int]) -> None:
    """Sets room aside for facts that must be written when the disk is full.

    Args:
        folder: A run folder.
        sizes: By each fact's name, how many bytes it may take.
    """
    for name, size in sizes.items():
        with _create(os.path.join(folder, _RESERVE + name)) as file:
            file.write(b"\n" * size)


def release(folder: Folder, names: Iterable[str]) -> None:
    """Gives back what `reserve` set aside."""
    for name in names:
        _unlink(os.path.join(folder, _RESERVE + name))


def link_once(
    folder: Folder, name: str, value: Fact, *, sync: bool = True, most: int | None = None
) -> Fact:
    """Makes ``folder/name`` say ``value``, unless it already says something.

    Args:
        folder: A run folder.
        name: The fact's file name.
        value: What is to be said; JSON-serialisable. A random ``nonce`` is added unless
            it has one; the winner with one's own nonce is oneself.
        sync: It is on the disk, and survives a loss of power, before anybody can see it.
        most: How many bytes it may take; None for as many as can be read.

    Returns:
        What the file says: ``value`` when this call won, else the winner's value.

    Raises:
        HomeUnusable: The file system can't make hard links.
        FactTooLarge: It could not be read again.
        OSError: The fact could not be written (no space, no permission, gone folder).
    """
    path = os.path.join(folder, name)
    nonce = str(value.get("nonce") or os.urandom(8).hex())
    value = {**value, "nonce": nonce}
    data = _encoded(name, value, most)
    _step(name, "create")
    mine = os.path.join(folder, f".{name}.{nonce}")
    _write(folder, name, mine, data, sync=sync)
    try:
        _step(name, "link")
        try:
            os.link(mine, path)
        except OSError as error:
            # A lost reply makes an NFS client repeat a link that was made: the winner's
            # nonce tells, whatever the error was.
            winner = read_fact(folder, name)
            if winner is None:
                if error.errno in _NO_LINKS:
                    raise HomeUnusable(
                        f"{folder} can't hold hard links ({error.strerror}), which keep a run's "
                        "outcome from being written twice: set QWEX_HOME to a folder on "
                        "another disk."
                    ) from error
                raise
            return winner
        _step(name, "linked")
        if sync:
            files.sync_folder(folder)
        return value
    finally:
        _step(name, "unlink")
        _unlink(mine)


def _encoded(name: str, value: Fact, most: int | None = None) -> bytes:
    most = MOST_BYTES if most is None else most
    data = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    if len(data) > most:
        raise FactTooLarge(
            f"{name} would take {len(data):,} bytes, and can hold {most:,}: "
            "put what is large into a file and take that along with --files."
        )
    return data


def read_fact(folder: Folder, name: str) -> Fact | None:
    """What ``folder/name`` says, None when it doesn't exist.

    Raises:
        FactUnreadable: It exists and is not a JSON object of ours.
    """
    path = os.path.join(folder, name)
    for attempt in (1, 2):
        try:
            data = _read(path)
            break
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # An NFS client's handle can be stale once after another machine renamed.
            if error.errno == errno.ESTALE and attempt == 1:
                continue
            passing = error.errno in _PASSING
            raise FactUnreadable(f"{path}: {error.strerror}", passing=passing) from error
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise FactUnreadable(f"{path} is not readable: {error}") from error
    return value


def glance(folder: Folder, name: str) -> Fact | None:
    """`read_fact` of what may be missing without harm: None also where it can't be read."""
    try:
        return read_fact(folder, name)
    except FactUnreadable:
        return None


def _read(path: str) -> bytes:
    descriptor = files.patient(os.open, path, files.READ)
    try:
        chunks: list[bytes] = []
        size = 0
        if os.fstat(descriptor).st_size > MOST_BYTES:
            raise FactUnreadable(f"{path} is not readable: it has more than {MOST_BYTES:,} bytes")
        while size <= MOST_BYTES and (chunk := os.read(descriptor, 1 << 16)):
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def exists(folder: Folder, name: str) -> bool:
    """Whether the fact is there."""
    return os.path.lexists(os.path.join(folder, name))


def changed_at(folder: Folder, name: str) -> float:
    """When a file was last written, seconds since the epoch; 0.0 when it isn't there."""
    try:
        return os.stat(os.path.join(folder, name)).st_mtime
    except OSError:
        return 0.0


def replace(folder: Folder, name: str, value: Fact) -> None:
    """Puts an observation in the place of the last one, by rename; not a fact, not synced."""
    mine = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    data = _encoded(name, value)
    try:
        with _create(mine) as file:
            _step(name, "write")
            file.write(data)
        _step(name, "rename")
        files.move(mine, os.path.join(folder, name))
    except BaseException:
        _unlink(mine)
        raise


def _write(folder: Folder, name: str, mine: str, data: bytes, *, sync: bool) -> None:
    try:
        with _create(mine) as file:
            _step(name, "write")
            file.write(data)
            if sync:
                file.flush()
                _step(name, "fsync")
                os.fsync(file.fileno())
    except OSError as error:
        _unlink(mine)
        if error.errno not in NO_SPACE:
            raise
        # The room was set aside when the run was made. It is taken by rename, so two
        # writers never share it, and written in place.
        try:
            files.move(os.path.join(folder, _RESERVE + name), mine)
        except FileNotFoundError:
            raise error from None
        with open(mine, "r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _create(path: str) -> Any:
    return open(os.open(path, files.NEW, 0o600), "wb")


def _unlink(path: str) -> None:
    try:
        files.patient(os.unlink, path)
    except OSError:
        pass  # already gone, or the folder was renamed away by delete


def sync(folder: Folder, *names: str) -> None:
    """Has what those files say survive a loss of power from the moment this returns.

    Raises:
        OSError: The disk doesn't take it.
    """
    for name in names:
        _step(name, "sync")
        descriptor = os.open(os.path.join(folder, name), files.SYNC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    files.sync_folder(folder)
