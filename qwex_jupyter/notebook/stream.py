"""A run as plain text: in a terminal, and where a cell's output is text alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import IO

from qwex_jupyter.display import terminal
from qwex_jupyter.display.card import ROWS, Card, card_text
from qwex_jupyter.display.format import one_line
from qwex_jupyter.display.paths import Pieces, short_lines
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason
from qwex_jupyter.model.text import plain
from qwex_jupyter.model.units import say_count
from qwex_jupyter.notebook.tell import held_by, tell
from qwex_jupyter.notebook.view import STOPPING, View, has_begun, running, stopping

# What is told at once.
URGENT = (Reason.BACKEND_UNREACHABLE, Reason.HOST_UNREACHABLE)
# How often plain text tells what a run waits for, when that changes. Seconds.
_SAY_EVERY = 10.0
_STREAM_PER_SECOND = 500_000
_STREAM_TOTAL = 1_000_000


class Written:
    """A run's output as text, without what a terminal would obey, in this process's own streams."""

    def __init__(self) -> None:
        self._texts: dict[str, terminal.Text] = {}
        self._pieces: dict[str, Pieces] = {}
        # The run's folder, once it has one: until then nothing of it can be said.
        self.folder = ""
        self.mid_line = False

    def write(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """Writes what is whole by now."""
        target: IO[str] = sys.stderr if stream == "stderr" else sys.stdout
        text = self._texts.setdefault(stream, terminal.Text()).feed(data, last=last)
        if self.folder:
            pieces = self._pieces.setdefault(stream, Pieces(self.folder))
            text = pieces.feed(text, last=last)
        if text:
            target.write(held_by(target, text))
            target.flush()
            self.mid_line = not text.endswith("\n")

    def close(self) -> None:
        """Writes what is left."""
        for stream in list(self._texts):
            self.write(stream, b"", last=True)


class Stream(View):
    """Plain text, for terminals and for kernels that nobody watches.

    Args:
        limited: Bounded in rate and in all, for output that is saved in a notebook. What
            doesn't fit is counted, and the last lines are shown all the same.
    """

    names = True

    def __init__(self, *, limited: bool) -> None:
        # What runs unwatched is read in the error alone, by whoever looks into a log.
        self._limited, self.told = limited, not limited
        self._room, self._left = float(_STREAM_PER_SECOND), _STREAM_TOTAL
        self._refilled = time.monotonic()
        self._output = Written()
        self._skipped = Screen(ROWS)
        self._path = ""
        self._record: RunRecord | None = None
        self._begun = self._stopping = self._left_out = False
        self._doing, self._say_at = "", 0.0

    def where(self, path: str) -> None:
        """Learns where all of the output is, to tell it beside what isn't shown."""
        self._path, self._output.folder = path, os.path.dirname(path)

    def output(self, stream: str, data: bytes) -> None:
        """Writes what fits of the next bytes, and counts the others."""
        if self._record is not None:
            self._name(running(self._record))
        fits = self._fits(data)
        if fits:
            self._say_skipped(last=0)
            self._output.write(stream, data[:fits])
        if fits < len(data):
            self._left_out = True
            self._skipped.feed(stream, data[fits:])

    def leave_out(self, lines: int, size: int) -> None:
        """Counts what isn't shown."""
        self._left_out = True
        self._skipped.skip(lines, size)

    def tick(self, record: RunRecord, note: str, usual_time: float | None = None) -> None:
        """Says which run it is as soon as there is more to say, and what it waits for."""
        stops = stopping(note)
        if stops or has_begun(record):
            self._name(record)
        elif not self._begun:
            self._record = record
            return
        if stops and not self._stopping:
            self._stopping = True
            self._end_line()
            tell(f"  {STOPPING}…")
        now = time.monotonic()
        if record.message == self._doing or self._output.mid_line:
            return
        if now >= self._say_at or record.reason in URGENT:
            self._doing, self._say_at = record.message, now + _SAY_EVERY
            if record.message:
                tell(f"  {plain(record.message)}")

    def _name(self, record: RunRecord) -> None:
        """Says which run it is, once."""
        self._record = None
        if not self._begun:
            self._begun = True
            tell(one_line(record))

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Writes what is left, and the card as text."""
        self._output.close()
        self._end_line()
        self._say_skipped(last=ROWS)
        if not self._left_out and not record.log_missing:
            record = record.below_its_output()
        card = Card(record, note=note, now=time.time())
        tell(card_text(card))

    def _end_line(self) -> None:
        if self._output.mid_line:
            tell("")
            self._output.mid_line = False

    def _say_skipped(self, last: int) -> None:
        """Says how much wasn't shown since this was last said, and shows the last of it."""
        skipped, self._skipped = self._skipped, Screen(ROWS)
        if not skipped.bytes:
            return
        self._end_line()
        lines: Sequence[str] = skipped.tail(last) if last else []
        count = say_count(skipped.count - len(lines), "line")
        where = f", all of them: {self._path}" if self._path else ""
        lines = short_lines(lines, self._output.folder)
        text = "\n".join([f"… {count} skipped{where}", *lines])
        tell(text)

    def _fits(self, data: bytes) -> int:
        """How many of these bytes may be shown now: whole lines, or all."""
        if not self._limited:
            return len(data)
        now = time.monotonic()
        self._room += (now - self._refilled) * _STREAM_PER_SECOND
        self._room = min(self._room, float(_STREAM_PER_SECOND))
        self._refilled = now
        size = len(data)
        room = int(min(self._room, self._left))
        if self._skipped.bytes and room < _STREAM_PER_SECOND // 2:
            return 0  # not a few lines now and then: pieces that can be read
        if size > room:
            size = data.rfind(b"\n", 0, room) + 1
        self._room -= size
        self._left -= size
        return size
