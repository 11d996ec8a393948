"""The log files of a run: bytes on disk, written at a cursor, read at an offset.

``stdout.log`` and ``stderr.log`` hold exactly the bytes of the program. A local run's are
written by its supervisor; those of other runners by whichever process holds the lease, at
the byte offset of the cursor, never by appending: a writer that slept through the loss of
its lease writes the same bytes again, in the same place.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import STREAMS as STREAMS
from qwex_jupyter.disk.folder import RunFolder, lease_name, lease_number
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.system import files, process

STDOUT, STDERR = STREAMS

# A lease is taken over after this many seconds without a change, on the observer's own clock.
LEASE_QUIET = 15.0
_REST_OF_CHARACTER = bytes(range(0x80, 0xC0))  # in UTF-8
# A file is searched in pieces of this many bytes.
_STEP = 1 << 20


class RunLog:
    """The output of one run.

    Args:
        folder: The run's folder, or its path.
    """

    def __init__(self, folder: facts.Folder) -> None:
        self.folder = RunFolder(os.fspath(folder))

    def path(self, stream: str) -> str:
        """The file of a stream, ``stdout`` or ``stderr``."""
        if stream not in STREAMS:
            raise ValueError(f"stream={stream!r}: choose stdout or stderr")
        return self.folder.log(stream)

    def size(self, stream: str) -> int:
        """Bytes on disk; 0 where nothing was written yet."""
        try:
            return os.stat(self.path(stream)).st_size
        except FileNotFoundError:
            return 0

    def written_at(self, streams: Iterable[str] = STREAMS) -> float | None:
        """When any of these was last written, seconds since the epoch; None for not yet."""
        found = []
        for stream in streams:
            with suppress(FileNotFoundError):
                found.append(os.stat(self.path(stream)).st_mtime)
        return max(found, default=None)

    def read(self, stream: str, offset: int = 0, limit: int = -1) -> bytes:
        """Up to ``limit`` bytes from ``offset`` (all for -1); b"" at the end.

        Raises:
            FactUnreadable: There is something that isn't a log, or may not be read.
        """
        try:
            with open(_open(self.path(stream)), "rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _unreadable(self.path(stream), error) from error

    def pieces(self, stream: str, begin: int, end: int | None = None) -> Iterator[bytes]:
        """The bytes between two offsets, or behind one, piece by piece."""
        while end is None or begin < end:
            data = self.read(stream, begin, _STEP if end is None else min(_STEP, end - begin))
            if not data:
                return
            yield data
            begin += len(data)

    def tail(self, stream: str, limit: int) -> bytes:
        """The last ``limit`` bytes at the most."""
        return self.read(stream, max(0, self.size(stream) - limit))

    def where_last(self, stream: str, lines: int | None = None, within: int | None = None) -> int:
        """The offset at which the last lines begin; it is looked for from the end.

        Args:
            stream: ``stdout`` or ``stderr``.
            lines: So many, counting an unfinished one; None for all.
            within: So many bytes at the most; None for all. Where the last line alone is longer, it
                is an offset in that line.

        Raises:
            FactUnreadable: See `read`.
        """
        size = self.size(stream)
        first = 0 if within is None else max(0, size - within)
        found = None if lines is None else self._where(stream, lines, first, size)
        if found is not None or not first:
            return found or 0
        at = first - 1  # where the line before may end
        for data in self.pieces(stream, at, size - 1):
            if (cut := data.find(b"\n") + 1) > 0:
                return at + cut
            at += len(data)
        rest = self.read(stream, first, 3)  # a character has three more bytes at the most
        return first + len(rest) - len(rest.lstrip(_REST_OF_CHARACTER))

    def _where(self, stream: str, lines: int, first: int, end: int) -> int | None:
        """Where the last so many lines begin; None where that isn't behind ``first``."""
        if not lines:
            return end
        end -= self.read(stream, end - 1, 1) == b"\n" if end else 0
        while end > first:
            begin = max(first, end - _STEP)
            data = self.read(stream, begin, end - begin)
            found = data.count(b"\n")
            if found >= lines:
                at = len(data)
                for _ in range(lines):
                    at = data.rfind(b"\n", 0, at)
                return begin + at + 1
            lines, end = lines - found, begin
        return None

    def last(self, stream: str, lines: int | None = None, within: int | None = None) -> bytes:
        """The last lines, see `where_last`; of one that is cut its end, after a mark."""
        begin = self.where_last(stream, lines, within)
        return self.cut(stream, begin) + self.read(stream, begin)

    def cut(self, stream: str, begin: int) -> bytes:
        """What stands for the beginning of a line that is read from an offset in it, or nothing."""
        whole = not begin or self.read(stream, begin - 1, 1) == b"\n"
        return b"" if whole else "…".encode()

    def text(self, stream: str | None = None, lines: int | None = None) -> str:
        """Output as text, with U+FFFD for what isn't UTF-8, stdout before stderr.

        Args:
            stream: ``stdout`` or ``stderr``; None for both.
            lines: Only so many last lines of all of it; None for all.
        """
        text = ""
        for name in reversed(STREAMS) if stream is None else (stream,):
            begin = 0 if lines is None else self.where_last(name, lines)
            text = self.read(name, begin).decode("utf-8", "replace") + text
            if begin:
                break  # these are so many
        if lines is None:
            return text
        return "".join(io.StringIO(text).readlines()[-lines:])  # a newline alone ends a line

    def write(self, stream: str, data: bytes, offset: int) -> None:
        """Writes bytes of the program at their place."""
        descriptor = os.open(self.path(stream), files.WRITE, 0o600)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)


def _open(path: str) -> int:
    descriptor = os.open(path, files.READ_LINKED)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it isn't a plain file")
    return descriptor


def _unreadable(path: str, error: OSError) -> FactUnreadable:
    return FactUnreadable(f"{path} can't be read: {error.strerror}. Look what lies there.")


class Tail:
    """Reads a run's streams on from where it stopped: each byte once, in chunks.

    Args:
        log: The log to read.
        chunk: Bytes of one stream that one `read` returns at the most.
        offsets: Where to begin, by stream.
    """

    def __init__(
        self, log: RunLog, chunk: int = 1 << 20, offsets: Mapping[str, int] | None = None
    ) -> None:
        self.offsets = {**dict.fromkeys(STREAMS, 0), **(offsets or {})}
        self._log, self._chunk = log, chunk
        self._files: dict[str, int] = {}

    def read(self) -> Iterator[tuple[str, bytes]]:
        """What came since the last call, as (stream, bytes)."""
        for stream in STREAMS:
            descriptor = self._files.get(stream)
            if descriptor is None:
                try:
                    descriptor = _open(self._log.path(stream))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _unreadable(self._log.path(stream), error) from error
                self._files[stream] = descriptor
            try:
                os.lseek(descriptor, self.offsets[stream], os.SEEK_SET)
                data = os.read(descriptor, self._chunk)
            except OSError as error:
                raise _unreadable(self._log.path(stream), error) from error
            if data:
                self.offsets[stream] += len(data)
                yield stream, data

    def close(self) -> None:
        """Closes the descriptors."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lease:
    """The right to write a run's log, and how far the log came: ``log.<n>.json``.

    The highest number holds. A holder replaces only its own file; it is taken over, by
    linking the next number, after `LEASE_QUIET` seconds in which it did not change, on the
    clock of the one who looks, or at once where its process is known to be gone.

    Args:
        folder: The run's folder.
        quiet: Seconds, shorter in tests.
    """

    def __init__(self, folder: facts.Folder, quiet: float = LEASE_QUIET) -> None:
        self._folder, self._quiet = folder, quiet
        self._me = os.urandom(8).hex()
        self._number = 0
        self._seen: tuple[int, Any, float] | None = None
        self.cursor: dict[str, Any] = {}

    def acquire(self) -> bool:
        """Tries to hold it; on success `cursor` is where the last holder stopped."""
        number, value = _highest(self._folder)
        if number and value.get("holder") == self._me:
            return True
        if number and not value.get("released") and not _is_gone(value):
            state = (number, value.get("beat"))
            now = time.monotonic()
            if self._seen is None or self._seen[:2] != state:
                self._seen = (*state, now)
                return False
            if now - self._seen[2] < self._quiet:
                return False
        cursor = value.get("cursor", {})
        mine = {"holder": self._me, "beat": 0, "cursor": cursor, "process": _here()}
        # This isn't synced: after a loss of power the log is read again from an older cursor.
        winner = facts.link_once(self._folder, lease_name(number + 1), mine, sync=False)
        if winner.get("holder") != self._me:
            return False
        self._number, self.cursor = number + 1, dict(cursor)
        # Two writers that take turns would fill the folder. The last holder's file stays, as it
        # may be read this moment.
        try:
            files.patient(os.unlink, os.path.join(self._folder, lease_name(number - 1)))
        except OSError:
            pass  # there was none
        return True

    def keep(self, cursor: dict[str, Any], *, release: bool = False, whole: bool = False) -> bool:
        """Stores the cursor; False when the lease was taken over meanwhile.

        Args:
            cursor: How far the log is on disk.
            release: Nothing more is written now.
            whole: Nor ever, see `is_whole`.
        """
        number, value = _highest(self._folder)
        if number != self._number or value.get("holder") != self._me:
            return False
        self.cursor = dict(cursor)
        facts.replace(
            self._folder,
            lease_name(self._number),
            {
                "holder": self._me,
                "beat": value.get("beat", 0) + 1,
                "cursor": self.cursor,
                "released": release,
                "whole": whole,
                "process": value.get("process"),
            },
        )
        return True


def _here() -> dict[str, Any]:
    return process.identify(os.getpid())


def _is_gone(value: Mapping[str, Any]) -> bool:
    """Whether the process that holds a lease is gone, as far as this machine can tell."""
    holder = value.get("process")
    return isinstance(holder, dict) and process.standing(holder) == process.GONE


def trouble(folder: facts.Folder) -> str:
    """Why a backend could not read its own log to the end, in its words; "" for no trouble."""
    return str(_highest(folder)[1].get("cursor", {}).get("trouble", ""))


def is_whole(folder: facts.Folder) -> bool:
    """Whether all that the backend has of a log is on disk, so that it isn't asked again.

    A backend may have dropped since what was read. After a restart of this machine it isn't
    believed: the files aren't synced before the run's end is.
    """
    value = _highest(folder)[1]
    holder = value.get("process")
    here = not (isinstance(holder, dict) and process.rebooted(holder))
    return bool(value.get("whole")) and here


def _highest(folder: facts.Folder) -> tuple[int, dict[str, Any]]:
    numbers = map(lease_number, os.listdir(folder))
    number = max(numbers, default=0)
    if not number:
        return 0, {}
    # A lease that can't be read holds nothing: after a while it is taken over, and the log is
    # brought again from its beginning, to the same places.
    return number, facts.glance(folder, lease_name(number)) or {}
