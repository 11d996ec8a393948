"""Unwritten: what was seen of a run, or came from it, and found no place on the disk."""

from __future__ import annotations

import time


class Unwritten:
    """Why something of a run couldn't be written down, and when that was last so.

    Args:
        home: The history folder.
        what: What it is, with a verb: ``Its output can't be kept``.
    """

    def __init__(self, home: str, what: str) -> None:
        self._home, self._what = home, what
        self._known: dict[str, tuple[str, float]] = {}

    def note(self, run_id: str, error: OSError) -> str:
        """Notes that something couldn't be written; returns cause and next step in a sentence."""
        why = (
            f"{self._what}: {error.strerror or error}. "
            f"Free some room in {self._home}, or have it writable."
        )
        self._known[run_id] = why, time.monotonic()
        return why

    def why(self, run_id: str, within: float) -> str:
        """Why it couldn't be written within the last so many seconds; "" where it could."""
        why, at = self._known.get(run_id, ("", 0.0))
        return why if why and time.monotonic() - at <= within else ""

    def forget(self, run_id: str) -> None:
        """Forgets it: it was written, or is tried anew."""
        self._known.pop(run_id, None)
