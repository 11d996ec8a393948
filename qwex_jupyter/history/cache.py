"""The cache of ended runs: what was read once is not read again.

Ended runs never change, so their records are kept as columns outside the home, in the
platform's cache folder. It is no part of the truth: it may be deleted, torn, or never
written, and then the run folders are read. What is open or damaged is read each time.

Two files per history: ``runs`` holds the columns; ``names`` says which folders there were
besides when the runs folder was last listed, so that an unchanged one isn't listed again.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.history import columns
from qwex_jupyter.history.columns import KINDS, Builder, Columns
from qwex_jupyter.history.folders import RunFolders
from qwex_jupyter.model.record import RunRecord, is_run_id
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.system import files, windows

# Below this many ended runs a cache isn't worth its cost; and up to this many (or this
# share) may be read again each time before the cache is written anew.
LEAST, SHARE = 64, 0.01
# A folder that changed this recently may change once more without a new time.
SETTLED_NS = 2_000_000_000

_CHUNK = 256
_READ_BYTES = 16384
_FINAL = {str(status) for status in RunStatus if status.final}
# Whether a file is opened by its name in a folder that is open, which is quicker.
_BY_FOLDER = os.open in os.supports_dir_fd


def look(
    folders: RunFolders,
    fields: Iterable[str] = KINDS,
    *,
    first: str = "",
    limit: int | None = None,
) -> tuple[Columns, list[int]]:
    """The records of all runs as columns, opening as few files as can be.

    Args:
        folders: Whose runs.
        fields: Which fields of `RunRecord` are wanted.
        first: Only run ids from this one on.
        limit: Only so many of the newest.

    Returns:
        The columns, and the numbers of the wanted rows, newest first.
    """
    try:
        shelf = _Shelf(folders)
    except FileNotFoundError:
        raise folders.vanished() from None
    kept = shelf.columns({*fields, "run_id"})
    known = columns.names_of(kept)
    listing = shelf.listing(set(known))
    others = listing.plain + listing.odd
    there = [name for name in known if name not in listing.gone] if listing.gone else known
    if first:
        there = [name for name in there if name >= first]
        others = [name for name in others if name >= first]
    if limit is not None and len(there) + len(others) > limit:
        newest = set(sorted([*there, *others], reverse=True)[:limit])
        others = [name for name in others if name in newest]
    ended, rest = _read(folders, others, set(listing.odd))
    shelf.keep(ended, known, listing)
    found = columns.join(kept, columns.join(ended, rest)) if others else kept
    names = columns.names_of(found) if others else known
    rows: Iterable[int] = range(len(names))
    if first or listing.gone:
        rows = [i for i in rows if names[i] >= first and names[i] not in listing.gone]
    # Both parts are sorted already, and sorting sorted parts is quick.
    return found, sorted(rows, key=names.__getitem__, reverse=True)[:limit]


def folder() -> str:
    """The platform's folder for what can be made again; "" where this user has no home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if windows.HERE:
        base = os.path.join(os.environ.get("LOCALAPPDATA", ""), "qwex", "Cache")
    elif not os.path.isabs(base):
        mac = sys.platform == "darwin"
        base = os.path.expanduser("~/Library/Caches" if mac else "~/.cache")
    return os.path.join(base, "qwex") if os.path.isabs(base) else ""


@dataclass
class _Listing:
    """Which folders aren't in the cache yet, and which cached ones are gone.

    Attributes:
        stamp: What the runs folder said of itself before it was listed.
        lasting: The same stamp will mean the same names.
        noted: It was read from ``names``.
        plain: Folders with the name of a run.
        odd: Other folders, and links.
        gone: Run ids whose records are kept and whose folders were deleted.
    """

    stamp: list[int]
    lasting: bool = False
    noted: bool = False
    plain: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)


class _Shelf:
    """The two files of one history's cache. A file that is damaged counts as empty."""

    def __init__(self, folders: RunFolders) -> None:
        self._runs = folders.runs_folder
        # Two copies of a home have the same id, and may have diverged.
        about = f"{folders.id} {os.stat(self._runs).st_ino}"
        self._key = hashlib.sha256(about.encode()).hexdigest()[:32]
        # Without a folder for it there is no cache, and everything is read each time.
        self._folder = os.path.join(folder(), self._key) if folder() else ""
        self._data = self._get("runs")
        self._mark = ""

    def columns(self, names: Iterable[str]) -> Columns:
        """These columns of the ended runs that are kept."""
        try:
            about, found = columns.decode(self._data, names)
            if about["key"] != self._key:
                raise ValueError("of another home")
            self._mark = str(about["mark"])
        except (ValueError, KeyError, TypeError):
            self._mark = ""
            return Builder().columns()
        return found

    def listing(self, known: set[str]) -> _Listing:
        """The folders, from ``names`` while the runs folder is what it was."""
        now = time.time_ns()
        found = os.stat(self._runs)
        stamp = [found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink]
        try:
            kept = json.loads(self._get("names"))
            if self._mark and kept["mark"] == self._mark and kept["stamp"] == stamp:
                plain, odd, gone = (list(map(str, kept[k])) for k in ("plain", "odd", "gone"))
                return _Listing(stamp, True, True, plain, odd, set(gone))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # none, or none of ours
        listing = _Listing(stamp, lasting=now - max(stamp[1:3]) > SETTLED_NS)
        folders, links, listing.gone = self._new(known)
        listing.plain = sorted(filter(is_run_id, folders), reverse=True)
        listing.odd = [name for name in folders if name[0] != "." and not is_run_id(name)]
        listing.odd += [name for name in links if name[0] != "."]
        return listing

    def _new(self, known: set[str]) -> tuple[list[str], list[str], set[str]]:
        """The folders and the links that aren't known, and what is known and not there."""
        if not known:
            with os.scandir(self._runs) as found:  # which says the kind with the name
                entries = list(found)
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            return folders, [entry.name for entry in entries if entry.is_symlink()], set()
        there, modes = set(os.listdir(self._runs)), {}
        new = there - known
        for name in new:
            try:
                modes[name] = os.lstat(os.path.join(self._runs, name)).st_mode
            except OSError:
                pass  # deleted since
        folders = [name for name, mode in modes.items() if stat.S_ISDIR(mode)]
        links = [name for name, mode in modes.items() if stat.S_ISLNK(mode)]
        gone = set() if len(there) == len(known) + len(new) else known - there
        return folders, links, gone

    def keep(self, ended: Columns, known: list[str], listing: _Listing) -> None:
        """Writes the cache anew where that is worth it."""
        gone, plain, written = listing.gone, listing.plain, False
        changes = columns.rows_of(ended) + len(gone)
        if changes >= max(LEAST, SHARE * len(known)) and self._ready():
            kept = self.columns(KINDS)
            if gone:
                there = [i for i, name in enumerate(known) if name not in gone]
                kept = columns.choose(kept, there)
            self._mark = secrets.token_hex(8)
            about = {"key": self._key, "mark": self._mark}
            self._put("runs", columns.encode(columns.join(kept, ended), about))
            read = set(columns.names_of(ended))
            gone, plain, written = set(), [name for name in plain if name not in read], True
        if self._mark and listing.lasting and (written or not listing.noted):
            names = {"mark": self._mark, "stamp": listing.stamp, "gone": sorted(gone)}
            names |= {"plain": plain, "odd": listing.odd}
            self._put("names", json.dumps(names).encode())

    def _get(self, name: str) -> bytes:
        try:
            if not files.is_own(os.stat(self._folder)):
                return b""
            with open(os.open(os.path.join(self._folder, name), files.READ), "rb") as file:
                return file.read() if files.is_own(os.fstat(file.fileno())) else b""
        except OSError:
            return b""

    def _ready(self) -> bool:
        """Whether the folder is there, ours alone and can be written to."""
        try:
            os.makedirs(os.path.dirname(folder()), exist_ok=True)
            for path in (folder(), self._folder):
                if not os.path.isdir(path):
                    os.mkdir(path, 0o700)
            return files.is_own(os.stat(self._folder)) and os.access(self._folder, os.W_OK)
        except OSError:
            return False

    def _put(self, name: str, data: bytes) -> None:
        mine = os.path.join(self._folder, f".{name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(mine, files.NEW, 0o600), "wb") as file:
                file.write(data)
            files.move(mine, os.path.join(self._folder, name))
        except OSError:
            try:
                os.unlink(mine)
            except OSError:
                pass  # a folder that can't be written to; the runs are read again next time


def _read(folders: RunFolders, names: list[str], odd: set[str]) -> tuple[Columns, Columns]:
    """The records of these runs, from their files: the ended ones, and the others."""
    ended, others = Builder(), Builder()
    where: dict[str, int] = {}
    before = os.path.join(folders.runs_folder, "")
    if _BY_FOLDER:
        runs = os.open(folders.runs_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        where, before = {"dir_fd": runs}, ""
    try:
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            slow = set(chunk)
            found = _final_records(before, where, [name for name in chunk if name not in odd])
            try:
                ended.add(_parse(found))
                slow -= found.keys()
            except (ValueError, TypeError, LookupError, RecursionError):
                pass  # one of them is damaged: they are read one by one
            for name in chunk if slow else ():
                if name in slow:
                    _read_one(folders, name, ended, others)
    finally:
        for folder in where.values():
            os.close(folder)
    return ended.columns(), others.columns()


def _final_records(before: str, where: dict[str, int], names: list[str]) -> dict[str, bytes]:
    """The content of ``run.json`` in these folders, as far as it can be read quickly.

    Args:
        before: What stands before a folder's name in a path.
        where: The descriptor of what that path counts from.
        names: The folders.
    """
    found = {}
    opened, read, close, path, flags = os.open, os.read, os.close, "/" + RUN, files.READ
    for name in names:
        try:
            file = opened(before + name + path, flags, **where)
        except OSError:
            continue  # not ended, or not readable
        try:
            data = read(file, _READ_BYTES)
        except OSError:
            continue
        finally:
            close(file)
        if len(data) < _READ_BYTES:
            found[name] = data
    return found


def _parse(found: dict[str, bytes]) -> list[tuple[Any, ...]]:
    """The rows of many final records by one call of the JSON parser.

    It then makes each key once and not once for each file, which is half of its work. Each
    file ends with a newline, which no text of JSON may hold, so a torn one can't swallow the
    next; and each row must come from its own folder.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: One of them is damaged.
    """
    ends = {data[:1] + data[-2:] for data in found.values()}
    if ends - {b"{}\n"}:
        raise ValueError("not all are whole")
    values = _JSON.decode((b"[" + b",".join(found.values()) + b"]").decode())
    try:
        rows = list(map(columns.pick_values, values))
    except KeyError:  # written by an earlier version
        rows = [columns.row(RunRecord.from_json(value)) for value in values]
    ids = [row[_ID] for row in rows]
    if ids != list(found) or not {row[_STATUS] for row in rows} <= _FINAL:
        raise ValueError("not what its folder says")
    return rows


def _read_one(folders: RunFolders, name: str, ended: Builder, others: Builder) -> None:
    try:
        record = folders.record(name)
    except RunNotFound:
        return  # deleted since the folder was listed
    keeps = record.status.final and record.reason != Reason.UNREADABLE
    (ended if keeps else others).add([columns.row(record)])


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
_ID, _STATUS = list(KINDS).index("run_id"), list(KINDS).index("status")
