"""Where a run is shown: a pane of a cell that is updated in place, or plain text.

All displays of a process go out at a bounded rate, and threads never print: they only
update a display that a cell has made, through the publisher which that cell had.
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import replace
from typing import IO, Any, Protocol

from qwex_jupyter import render, terminal
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import Reason, RunStatus, say_count

# The server drops everything above 1,000 messages a second, and people read slower still.
_PER_SECOND = 25.0
_BURST = 5.0
# A paint that is larger counts for more than one.
_PAINT_BYTES = 2_500
# What ends sooner is painted twice only. Seconds.
FIRST_CHANGE = 0.1
# How often plain text tells what a run waits for, when that changes. Seconds.
_SAY_EVERY = 10.0
_STREAM_PER_SECOND = 500_000
_STREAM_TOTAL = 1_000_000
# What is told at once.
_URGENT = (Reason.BACKEND_UNREACHABLE, Reason.HOST_UNREACHABLE)


class View(Protocol):
    """Where a foreground run is shown.

    Attributes:
        told: Whether a person has cause and next step before their eyes when it has ended.
    """

    told: bool

    def begin(self, record: RunRecord) -> None:
        """Before anything is asked of a backend."""

    def output(self, stream: str, data: bytes) -> None:
        """The next bytes of a stream."""

    def tick(self, record: RunRecord, note: str, last_time: float | None = None) -> None:
        """Time has passed, or something came.

        Args:
            record: What is known of the run.
            note: What can be done about it.
            last_time: How many seconds the same took the last time.
        """

    def finish(self, record: RunRecord, note: str = "") -> None:
        """It has ended, or watching stops: the note says so."""


class Pane:
    """One output of one cell, updated in place: status, clock, tail, and the end folded.

    Args:
        shell: The shell whose publisher is used from now on, whatever captures later.
    """

    told = True

    def __init__(self, shell: Any) -> None:
        self._publisher = shell.display_pub
        self._id = uuid.uuid4().hex
        self._screen = terminal.Screen()
        self._painted: render.Card | None = None
        self._tokens, self._refilled = _BURST, time.monotonic()
        self._dirty, self._begun = False, time.monotonic()
        self._second = int(self._begun)

    def begin(self, record: RunRecord) -> None:
        """See `View.begin`."""
        self._paint(render.Card(record, now=time.time()))

    def output(self, stream: str, data: bytes) -> None:
        """See `View.output`."""
        self._screen.feed(stream, data)
        self._dirty = True

    def tick(self, record: RunRecord, note: str, last_time: float | None = None) -> None:
        """See `View.tick`."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled) * _PER_SECOND)
        self._refilled = now
        second = int(now)
        # What ends at once is painted twice only: when it begins and when it has ended.
        if not self._dirty and now - self._begun < FIRST_CHANGE:
            return
        before = self._painted
        shown = before and (before.note, *_said(before.record))
        changed = shown != (note, *_said(record))
        if self._tokens >= 1 and (self._dirty or changed or second != self._second):
            self._dirty, self._second = False, second
            card = render.Card(
                record, self._view(), note=note, now=time.time(), last_time=last_time
            )
            self._tokens -= max(1.0, self._paint(card) / _PAINT_BYTES)

    def finish(self, record: RunRecord, note: str = "") -> None:
        """See `View.finish`."""
        self._paint(render.Card(record, self._view(), note=note, now=time.time()))

    def _view(self) -> render.LogView:
        screen = self._screen
        return render.LogView(screen.tail(200), screen.count, screen.bytes)

    def _paint(self, card: render.Card) -> int:
        # An interrupt may come while it is sent: what may have been shown is updated.
        update, self._painted = self._painted is not None, card
        return publish(self._publisher, card, self._id, update=update)


def _said(record: RunRecord) -> tuple[str, ...]:
    return record.status, record.reason, record.message, record.progress


class Stream:
    """Plain text, for terminals and for kernels that nobody watches.

    Args:
        limited: Bounded in rate and in all, for output that is saved in a notebook. What
            doesn't fit is counted, and the last lines are shown all the same.
    """

    def __init__(self, *, limited: bool) -> None:
        # What runs unwatched is read in the error alone, by whoever looks into a log.
        self._limited, self.told = limited, not limited
        self._room, self._left = float(_STREAM_PER_SECOND), _STREAM_TOTAL
        self._refilled = time.monotonic()
        self._texts: dict[str, terminal.Text] = {}
        self._skipped = terminal.Screen(render.LIVE_LINES)
        self._path = ""
        self._begun = self._mid_line = False
        self._doing, self._say_at = "", 0.0

    def begin(self, record: RunRecord) -> None:
        """See `View.begin`: nothing yet, the handle isn't known."""

    def output(self, stream: str, data: bytes) -> None:
        """See `View.output`."""
        fits = self._fits(data)
        if fits:
            self._say_skipped(last=0)
            self._write(stream, data[:fits])
        if fits < len(data):
            self._skipped.feed(stream, data[fits:])

    def tick(self, record: RunRecord, note: str, last_time: float | None = None) -> None:
        """See `View.tick`: the first one says which run it is."""
        if not self._begun:
            self._begun = True
            print(render.one_line(record), flush=True)  # noqa: T201
        now = time.monotonic()
        if record.message == self._doing or self._mid_line:
            return
        if now >= self._say_at or record.reason in _URGENT:
            self._doing, self._say_at = record.message, now + _SAY_EVERY
            if record.message:
                print(f"  {terminal.plain(record.message)}", flush=True)  # noqa: T201

    def finish(self, record: RunRecord, note: str = "") -> None:
        """See `View.finish`."""
        for stream in list(self._texts):
            self._write(stream, b"", last=True)
        self._end_line()
        self._say_skipped(last=render.LIVE_LINES)
        card = render.Card(record, note=note, now=time.time())
        print(render.card_text(card), flush=True)  # noqa: T201

    def where(self, path: str) -> None:
        """Tells where all of the output is."""
        self._path = path

    def _write(self, stream: str, data: bytes, *, last: bool = False) -> None:
        target: IO[str] = sys.stderr if stream == "stderr" else sys.stdout
        if text := self._texts.setdefault(stream, terminal.Text()).feed(data, last=last):
            target.write(text)
            target.flush()
            self._mid_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._mid_line:
            print(flush=True)  # noqa: T201
            self._mid_line = False

    def _say_skipped(self, last: int) -> None:
        """Says how much wasn't shown since this was last said, and shows the last of it."""
        skipped, self._skipped = self._skipped, terminal.Screen(render.LIVE_LINES)
        if not skipped.bytes:
            return
        self._end_line()
        lines = skipped.tail(last) if last else []
        count = say_count(skipped.count - len(lines), "line")
        text = "\n".join([f"… {count} skipped, all of them: {self._path}", *lines])
        print(text, flush=True)  # noqa: T201

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


class Silent:
    """Shows nothing, unless it didn't go well."""

    def __init__(self, inner: View) -> None:
        self._inner, self.told = inner, inner.told
        self._held: list[tuple[str, bytes]] = []

    def begin(self, record: RunRecord) -> None:
        """See `View.begin`."""

    def output(self, stream: str, data: bytes) -> None:
        """See `View.output`: the last of it is kept for a failure."""
        self._held.append((stream, data[-20_000:]))
        del self._held[:-8]

    def tick(self, record: RunRecord, note: str, last_time: float | None = None) -> None:
        """See `View.tick`."""

    def finish(self, record: RunRecord, note: str = "") -> None:
        """See `View.finish`."""
        if record.status is not RunStatus.SUCCEEDED:
            for stream, data in self._held:
                self._inner.output(stream, data)
            self._inner.finish(record, note)


def view_for(shell: Any, display: str, *, quiet: bool) -> View:
    """The view for this front end.

    Args:
        shell: The IPython shell.
        display: ``auto``, ``pane``, ``stream`` or ``none``.
        quiet: Only failures are shown.
    """
    kernel = getattr(shell, "kernel", None)
    # nbclient and papermill forbid input; a person's front end allows it.
    watched = kernel is not None and getattr(kernel, "_allow_stdin", True)
    pane = display == "pane" or (display == "auto" and watched)
    view: View = Pane(shell) if pane else Stream(limited=kernel is not None)
    return Silent(view) if quiet or display == "none" else view


def publish(publisher: Any, card: render.Card, display_id: str, *, update: bool) -> int:
    """Shows a card, or replaces what is shown under that id; about how many bytes that took."""
    full = card.record.status.final or card.compact
    bundle = {
        "text/html": render.card_html(card),
        "text/plain": render.card_text(card if full else replace(card, log=render.LogView())),
    }
    put(publisher, bundle, display_id, update=update)
    return sum(map(len, bundle.values()))


def put(
    publisher: Any, bundle: Any, display_id: str, *, update: bool, metadata: Any = None
) -> None:
    """Shows a bundle of forms, or replaces what is shown under that id."""
    publisher.publish(
        data=bundle,
        metadata=metadata or {},
        transient={"display_id": display_id},
        update=update,
    )
