"""The folders that an engine of the tests, or a cluster, works in, and whose they are."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import leftovers
from environment import ROOT

FOLDER = ROOT / ".engines"


@dataclass(frozen=True)
class Folder:
    """A data folder that this process holds, and the folder of the state that goes with it.

    Attributes:
        path: ``data``, ``log``, ``lock`` and ``run`` lie in it.
        run: Has a short path, for sockets; emptied when the engine is claimed and released.
        private: Whether it all goes on release.
    """

    path: Path
    run: Path
    private: bool
    lock: int

    @classmethod
    def claim(cls, kind: str, *, private: bool) -> Self:
        """Takes one that no living session has, and clears it of what a dead one left."""
        parent = cls.parent()
        parent.mkdir(exist_ok=True)
        with open(parent / "lock", "w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            cls._remove_dead()
            if private:
                path = Path(tempfile.mkdtemp(prefix=f"own-{kind}-", dir=parent))
                lock = _lock(path)
            else:
                number, lock = 1, -1
                while lock < 0:
                    path = parent / (kind if number == 1 else f"{kind}-{number}")
                    lock, number = _lock(path), number + 1
        run = _run_folder(path)
        cls.clear(path, run)
        run.mkdir(mode=0o700)
        return cls(path, run, private, lock)

    @classmethod
    def parent(cls) -> Path:
        """Where such folders lie."""
        return FOLDER

    @classmethod
    def clear(cls, path: Path, run: Path) -> None:
        """Ends and removes what worked in these two; what is kept for the next one stays."""
        roots = [path / "data" / "containers", path / "data" / "overlay-containers"]
        names = [entry.name for root in roots if root.is_dir() for entry in root.iterdir()]
        leftovers.clear([path, run], {name for name in names if len(name) == 64})
        leftovers.remove(run)

    @classmethod
    def _remove_dead(cls) -> None:
        """Removes the private folders of sessions that are no more."""
        for folder in cls.parent().glob("own-*"):
            with contextlib.suppress(OSError):
                lock = _lock(folder)
                if lock >= 0:
                    cls.clear(folder, _run_folder(folder))
                    leftovers.remove(folder)
                    os.close(lock)

    def release(self) -> None:
        """Ends what still works in it, and lets go of it."""
        self.clear(self.path, self.run)
        if self.private:
            leftovers.remove(self.path)
        os.close(self.lock)


def _lock(folder: Path) -> int:
    """A descriptor that holds this folder for as long as this process lives; -1: it is taken."""
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    return lock


def _run_folder(folder: Path) -> Path:
    """The folder with a short path that belongs to this one: the one it had, where possible.

    The address of a socket has room for 108 bytes, and Podman's database knows where its state
    was and takes no other place.
    """
    note = folder / "run"
    with contextlib.suppress(OSError):
        run = Path(note.read_text())
        run.mkdir(mode=0o700, exist_ok=True)
        if run.stat().st_uid == os.geteuid():
            return run
    run = Path(tempfile.mkdtemp(prefix="qwex-", dir="/tmp"))
    note.write_text(str(run))
    leftovers.remove(folder / "data" / "libpod")
    return run
