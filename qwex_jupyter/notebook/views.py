"""Where a run is shown: a pane of a cell that is updated in place, or plain text.

All displays of a process go out at a bounded rate, and threads never print: they only
update a display that a cell has made, through the publisher which that cell had.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk import logs
from qwex_jupyter.display.card import Card, LogView
from qwex_jupyter.display.format import lost_output
from qwex_jupyter.display.paths import short_lines
from qwex_jupyter.display.progress import Meter
from qwex_jupyter.display.publish import is_captured, publish
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.display.tables import new_place
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.model.units import say_count
from qwex_jupyter.notebook.stream import Stream, Written
from qwex_jupyter.notebook.tell import tell
from qwex_jupyter.notebook.twin import Twin
from qwex_jupyter.notebook.view import FIRST_PAINT, View, has_begun, stopping
from qwex_jupyter.system import frontend

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

# The server drops everything above 1,000 messages a second, and people read slower still.
_PER_SECOND = 25.0
_BURST = 5.0
# A paint that is larger counts for more than one.
_PAINT_BYTES = 2_500
# What ends so soon after its first output is painted once. Seconds.
_LAST_WORDS = 0.02
# What lives longer gets a widget beside its output. Seconds.
_LIVE_AFTER = 2.0


class Pane(View):
    """One card of one cell, updated in place: status, clock, tail, and the end.

    Of what ends at once nothing but its end is shown. What lives longer than a moment is shown
    live, as a detached run is, so that a page which is loaded anew has it too; and what isn't
    watched to its end goes on as one of those.

    Args:
        shell: The shell whose publisher is used from now on, whatever captures later.
        manager: Who knows the run.
        below: Whether the run's cell stands right above.
    """

    told = in_place = True

    def __init__(self, shell: Any, manager: RunManager, *, below: bool = False) -> None:
        self._streams: Sequence[str] = logs.STREAMS
        self._manager, self._twin = manager, Twin(manager, shell.display_pub, below=below)
        self._screen, self._meter = Screen(), Meter()
        self._painted: Card | None = None
        self._tokens, self._refilled = _BURST, time.monotonic()
        self._dirty, self._begun = False, time.monotonic()
        self._second, self._spoke_at = int(self._begun), 0.0

    def begin(self, record: RunRecord) -> None:
        """Paints nothing yet: that comes with the first words, the end, or some time."""
        self._begun = time.monotonic()

    def narrow(self, stream: str) -> None:
        """Has the card that goes on without a cell show only this stream too."""
        self._streams = (stream,)

    def output(self, stream: str, data: bytes) -> None:
        """Takes the next bytes; they are painted with the next tick."""
        self._screen.feed(stream, data)
        self._dirty, self._spoke_at = True, self._spoke_at or time.monotonic()

    def leave_out(self, lines: int, size: int) -> None:
        """Counts what isn't shown."""
        self._screen.skip(lines, size)

    def tick(self, record: RunRecord, note: str, usual_time: float | None = None) -> None:
        """Paints the card where anything but its clock has changed, else once a second."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled) * _PER_SECOND)
        self._refilled = now
        second = int(now)
        self._twin.look_for_pages()
        before = self._painted
        if before is None and not self._due(record, note, now):
            return
        shown = before and (before.note, *_said(before.record))
        changed = shown != (note, *_said(record))
        if self._tokens >= 1 and (self._dirty or changed or second != self._second):
            self._dirty, self._second = False, second
            card = self._card(record, note, usual_time)
            self._tokens -= max(1.0, self._paint(card) / _PAINT_BYTES)
            lives = now - self._begun > _LIVE_AFTER and record.run_id and frontend.is_watched()
            if lives and self._twin.live is None:
                self._twin.go_live(self._look)

    def _due(self, record: RunRecord, note: str, now: float) -> bool:
        """Whether the card is painted for the first time, although the run hasn't ended."""
        spoke = self._dirty and now - self._spoke_at >= _LAST_WORDS
        lives = now - self._begun >= FIRST_PAINT and has_begun(record)
        return spoke or lives or stopping(note)

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Paints the end; before it, the card goes on as that of a detached run does."""
        from qwex_jupyter.manager.run import Run
        from qwex_jupyter.notebook.cards import cards_of

        if not record.status.final and frontend.is_watched() and not frontend.is_ending():
            run = Run(self._manager, record.run_id)
            cards_of(self._manager).take(self._twin, run, note, self._streams)
            return
        card = self._card(record, note)
        self._twin.write(card)
        if self._twin.live is not None:
            self._twin.live.show(card, at_once=True)
            if record.status.final:
                cards_of(self._manager).keep(self._twin)

    def _card(self, record: RunRecord, note: str, usual_time: float | None = None) -> Card:
        screen = self._screen
        twin, now = self._twin, time.time()
        folder = self._manager.history.folder(record.run_id) if record.run_id else ""
        log = LogView(short_lines(screen.tail(200), folder), screen.count, screen.bytes)
        return Card(
            record,
            log,
            note=note,
            now=now,
            usual_time=usual_time,
            progress=None if record.status.final else self._meter.look(screen, now),
            below=twin.below,
            lived=twin.begun,
        )

    def _look(self) -> Card:
        """What a page that is loaded anew begins with: what was painted last, a moment ago."""
        assert self._painted is not None
        return replace(self._painted, now=time.time())

    def _paint(self, card: Card) -> int:
        self._painted = card
        # What a cell advises, its kernel has to be there for.
        saved = replace(card, note=f"%qwex attach {card.record.handle}")
        return self._twin.show(card, saved=saved, at_once=True)


def _said(record: RunRecord) -> tuple[str, ...]:
    return record.status, record.reason, record.message, record.progress


class Captured(View):
    """For a cell that keeps what it shows for itself: output as such, and a card of two paints.

    Args:
        shell: The shell, whose publisher is the capturing one.
    """

    def __init__(self, shell: Any) -> None:
        self._publisher, self._place, self._output = shell.display_pub, new_place(), Written()
        self._left_out = 0

    def begin(self, record: RunRecord) -> None:
        """Paints the card."""
        card = Card(record, now=time.time())
        publish(self._publisher, card, self._place, update=False)

    def output(self, stream: str, data: bytes) -> None:
        """Writes the output as a program would."""
        if self._left_out:
            tell(f"… {say_count(self._left_out, 'line')} skipped")
            self._left_out = 0
        self._output.write(stream, data)

    def leave_out(self, lines: int, size: int) -> None:
        """Counts what isn't shown, to say so before the next output."""
        self._left_out += lines

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Paints the card once more."""
        self._output.close()
        card = Card(record, note=note, now=time.time())
        publish(self._publisher, card, self._place, update=True)


class Silent(View):
    """Shows nothing, unless it didn't go well."""

    def __init__(self, inner: View) -> None:
        self._inner, self.told = inner, inner.told
        self._held: list[tuple[str, bytes]] = []

    def where(self, path: str) -> None:
        """Has it told beside what a failure doesn't show."""
        self._inner.where(path)

    def output(self, stream: str, data: bytes) -> None:
        """Keeps the last of the output for a failure."""
        cut = data.find(b"\n", len(data) - 20_000) + 1 if len(data) > 20_000 else 0
        self._leave_out(data[:cut])
        self._held.append((stream, data[cut:]))
        for _, old in self._held[:-8]:
            self._leave_out(old)
        del self._held[:-8]

    def _leave_out(self, data: bytes) -> None:
        if data:
            self._inner.leave_out(data.count(b"\n"), len(data))

    def leave_out(self, lines: int, size: int) -> None:
        """Has it counted for a failure."""
        self._inner.leave_out(lines, size)

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Shows what was kept, where it didn't go well."""
        if record.status is not RunStatus.SUCCEEDED or lost_output(record):
            for stream, data in self._held:
                self._inner.output(stream, data)
            self._inner.finish(record, note)


def view_for(
    shell: Any, manager: RunManager, display: str, *, quiet: bool = False, below: bool = False
) -> View:
    """The view for this front end.

    Args:
        shell: The IPython shell.
        manager: Who knows what is shown.
        display: ``auto``, ``pane``, ``stream`` or ``none``.
        quiet: Only failures are shown.
        below: Whether the run's cell stands right above.
    """
    view: View
    if display != "stream" and is_captured(shell.display_pub):
        view = Captured(shell)
    elif has_panes(shell, display):
        view = Pane(shell, manager, below=below)
    else:
        view = Stream(limited=frontend.is_kernel())
    return Silent(view) if quiet or display == "none" else view


def has_panes(shell: Any, display: str) -> bool:
    """Whether what the cell that runs now shows is updated in place.

    Args:
        shell: The IPython shell.
        display: ``auto``, ``pane``, ``stream`` or ``none``.
    """
    wanted = display == "pane" or (display == "auto" and frontend.updates_displays())
    return wanted and not is_captured(shell.display_pub)


def has_live_cards(shell: Any, display: str) -> bool:
    """Whether a card that goes on by itself is of use to anybody; as `has_panes`."""
    return frontend.is_watched() and has_panes(shell, display)
