"""An engine's disk, where this machine has it: an engine drops what finds no room, without a word.

It is looked at beside the engine's events, so for as long as a kernel looks after the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable

from qwex_jupyter.disk.folder import FULL, RunFolder
from qwex_jupyter.errors import QwexError

# One line may be cut, and Docker 20.10 then finds little of what comes behind it.
DROPPED = "what it wrote since the engine's disk was full, if anything"
# What a piece of 16 KiB may take in an engine's own file, where each of its bytes is escaped.
_ROOM = 6 * 16 * 1024


def is_full(folder: str) -> bool:
    """Whether a disk has no room; False where it isn't seen.

    What is kept for root doesn't count: to have only that is what ``df`` calls full.

    Args:
        folder: On that disk; "" for none of this machine's.
    """
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return False
    return disk.total > 0 and disk.free < _ROOM


class Doubts:
    """The runs that lived while it was full.

    Args:
        folder: Gives the folder of a run.
    """

    def __init__(self, folder: Callable[[str], RunFolder]) -> None:
        self._folder = folder
        # Should the run's own folder be on that disk too, it is written down when there is room.
        self._unwritten: set[str] = set()

    def look(self, disk: str, run_ids: Iterable[str]) -> None:
        """Looks whether it is full, and writes down what that means or found no room before.

        Args:
            disk: See `is_full`.
            run_ids: The runs that live now.
        """
        if is_full(disk):
            self._unwritten.update(run_id for run_id in run_ids if not self.of(run_id))
        for run_id in list(self._unwritten):
            try:
                self._folder(run_id).note_full()
            except FileNotFoundError:
                pass  # it was deleted
            except (OSError, QwexError):
                continue
            self._unwritten.discard(run_id)

    def of(self, run_id: str) -> bool:
        """Whether some of its output may be missing for that."""
        return run_id in self._unwritten or self._folder(run_id).has(FULL)
