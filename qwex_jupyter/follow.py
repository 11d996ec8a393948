"""What a cell shows while a run lives: reads the log on, paints, and obeys the interrupt button.

All displays of a process go out at a bounded rate, and threads never print: they only
update a display that a cell has made, through the publisher which that cell had.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Protocol

from qwex_jupyter import render, terminal
from qwex_jupyter.errors import QwexError, RunFailed, RunInterrupted
from qwex_jupyter.logs import Tail
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import RunStatus

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager
    from qwex_jupyter.run import Run

# The server drops everything above 1,000 messages a second, and people read slower still.
_PER_SECOND = 25.0
_BURST = 5.0
# A paint that is larger counts for more than one.
_PAINT_BYTES = 2_500
# How long the reader sleeps when nothing came: less than passing a line on takes, while
# lines come; after some quiet seconds a little more, at a third of the cost.
_SHORTEST, _LONGEST, _QUIET_LONGEST = 0.0003, 0.001, 0.005
_QUIET_AFTER = 2.0
_RECORD_AGE = 0.2
_FIRST_CHANGE = 0.1
_STREAM_PER_SECOND = 500_000
_STREAM_TOTAL = 1_000_000
_CARDS_PER_TICK = 40
_COMPACT_BYTES = 4096
# By how often the interrupt button was pressed.
_STOP_NOTES = (
    "stop with ■ (I, I)",
    "stopping… ■ again to stop it at once",
    "stopping at once…",
)


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
        if not self._dirty and now - self._begun < _FIRST_CHANGE:
            return
        before = self._painted
        shown = before and (before.note, before.record.status, before.record.reason)
        changed = shown != (note, record.status, record.reason)
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
        count = render.count_of(skipped.count - len(lines), "line")
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
    publisher.publish(data=bundle, metadata={}, transient={"display_id": display_id}, update=update)
    return sum(map(len, bundle.values()))


def foreground(
    manager: RunManager, run: Run, view: View, *, check: bool = True, stopped: bool = False
) -> Run:
    """Shows a run to its end; the interrupt button cancels it, a second one insists.

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        check: Raise when it does not succeed.
        stopped: The button was pressed once already, and the run is cancelled.

    Raises:
        RunFailed: It did not succeed, and ``check`` is set.
        RunInterrupted: It was stopped by the button.
    """
    watch: _Watch | None = None
    stops = asked = int(stopped)
    while True:
        try:
            watch = watch or _Watch(manager, run, view, note=_STOP_NOTES[0])
            if stops > asked:
                asked = stops
                run.cancel()
            if stops >= len(_STOP_NOTES):
                break  # nothing answers: the stop is written down, the prompt is back
            watch.note = _STOP_NOTES[stops]
            watch.to_the_end()
            break
        except KeyboardInterrupt:
            stops += 1
    if watch is not None:
        watch.close()
    record = manager.record(run.run_id)
    view.finish(record, f"it is to stop; nothing has answered yet · %qwex attach {run.handle}")
    brief = _brief(record) if view.told else ""
    sentence = terminal.plain(record.sentence)
    if stops:
        raise RunInterrupted(run, sentence, brief)
    if check and record.status is not RunStatus.SUCCEEDED:
        last = [] if view.told else [terminal.plain(line) for line in run.last_lines()]
        raise RunFailed(run, "\n".join([sentence, *last]), brief)
    return run


def _brief(record: RunRecord) -> str:
    """What is left to say below a view that has told the cause."""
    code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    if record.status is RunStatus.CANCELLED or not record.status.final:
        return f"{record.title} {record.status}"
    return f"{record.title} {record.status}{code} (cause above)"


def attach(manager: RunManager, run: Run, view: View) -> Run:
    """Shows a run as its own cell did; an interrupt stops only the watching."""
    watch = _Watch(manager, run, view, note="■ (I, I) ends only the watching")
    left = ""
    try:
        watch.to_the_end()
    except KeyboardInterrupt:
        left = f"no longer watched; it goes on · %qwex attach {run.handle}"
    finally:
        watch.close()
        view.finish(manager.record(run.run_id), left)
    return run


class _Watch:
    """Reads a run's output on and keeps a view up to date."""

    def __init__(self, manager: RunManager, run: Run, view: View, note: str) -> None:
        self._manager, self._run, self._view = manager, run, view
        self._tail = Tail(run.log)
        self._record = manager.record(run.run_id)
        self._asked = self._begun = self._look_at = time.monotonic()
        self._last: float | None = None
        self.note = note
        if isinstance(view, Stream):
            view.where(run.log_path)

    def to_the_end(self) -> None:
        pause, moved_at = _SHORTEST, self._begun
        while True:
            # Asked before reading: what is read after the end is all there is.
            ended = self._manager.ended(self._run.run_id)
            moved = False
            for stream, data in self._tail.read():
                self._view.output(stream, data)
                moved = True
            if ended and not moved:
                return
            now = time.monotonic()
            pending = self._record.status is RunStatus.PENDING
            if now - self._asked > (_FIRST_CHANGE / 2 if pending else _RECORD_AGE):
                self._asked = now
                if pending and now >= self._look_at:
                    # Nobody else may be about to look yet; the longer it waits, the rarer.
                    self._manager.look([self._run.run_id])
                    self._look_at = now + min(now - self._begun, 2.0)
                self._record = self._manager.record(self._run.run_id)
            if not ended:
                self._view.tick(self._record, self.note, self._last_time(now))
            if moved:
                pause, moved_at = _SHORTEST, now
            else:
                time.sleep(pause)
                longest = _LONGEST if now - moved_at < _QUIET_AFTER else _QUIET_LONGEST
                pause = min(max(_SHORTEST, (now - moved_at) / 20), longest)

    def _last_time(self, now: float) -> float | None:
        """Looked up once, and only for what doesn't end at once."""
        if self._last is None and now - self._begun > 0.5:
            self._last = self._manager.last_time(self._record) or 0.0
        return self._last

    def close(self) -> None:
        self._tail.close()


class Cards:
    """The small live cards of detached runs: one thread for all, about once a second each.

    Args:
        manager: Who is asked.
    """

    def __init__(self, manager: RunManager) -> None:
        self._manager = manager
        self._cards: dict[str, tuple[Run, Any, str, str]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        manager.observe(self._notice)

    def add(self, run: Run, shell: Any, note: str) -> None:
        """Shows a card in the cell that runs now, and keeps it up to date until the end."""
        display_id = uuid.uuid4().hex
        publisher = shell.display_pub
        publish(publisher, self._card(run, note), display_id, update=False)
        with self._lock:
            self._cards[display_id] = (run, publisher, display_id, note)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="qwex-cards", daemon=True)
                self._thread.start()

    def _notice(self, record: RunRecord) -> None:
        if record.status.final:
            self._changed.set()

    def _card(self, run: Run, note: str) -> render.Card:
        record = self._manager.record(run.run_id)
        if record.status.final:
            return render.Card(record, render.log_view(run.log), now=time.time())
        data = b"".join(run.log.tail(stream, _COMPACT_BYTES) for stream in ("stdout", "stderr"))
        screen = terminal.Screen()
        screen.feed("", data)
        view = render.LogView(screen.tail(3))
        return render.Card(record, view, note=note, now=time.time(), compact=True)

    def _run(self) -> None:
        turn = 0
        while True:
            self._changed.wait(1.0)
            self._changed.clear()
            with self._lock:
                cards = list(self._cards.values())
                if not cards:
                    self._thread = None
                    return
            ended = [card for card in cards if self._manager.ended(card[0].run_id)]
            live = [card for card in cards if card not in ended]
            turn = turn % len(live) if live else 0
            due = (live[turn:] + live[:turn])[:_CARDS_PER_TICK]
            turn += _CARDS_PER_TICK
            for run, publisher, display_id, note in [*ended[:_CARDS_PER_TICK], *due]:
                try:
                    card = self._card(run, note)
                    publish(publisher, card, display_id, update=True)
                except (QwexError, OSError):
                    card = None  # deleted meanwhile: its card stays as it was
                if card is None or card.record.status.final:
                    with self._lock:
                        self._cards.pop(display_id, None)
            if ended:
                time.sleep(0.2)
