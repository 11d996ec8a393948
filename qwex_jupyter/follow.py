"""What a cell shows while a run lives: reads the log on, paints, and obeys the interrupt button.

All displays of a process go out at a bounded rate, and threads never print: they only
update a display that a cell has made, through the publisher which that cell had.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
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
# How long the reader sleeps when nothing came: half of what a person could notice.
_SHORTEST, _LONGEST = 0.0003, 0.004
_RECORD_AGE = 0.2
_FIRST_CHANGE = 0.1
_STREAM_PER_SECOND = 500_000
_STREAM_TOTAL = 1_000_000
_CARDS_PER_TICK = 40
_COMPACT_BYTES = 4096


class View(Protocol):
    """Where a foreground run is shown."""

    def begin(self, record: RunRecord) -> None:
        """Before anything is asked of a backend."""

    def output(self, stream: str, data: bytes) -> None:
        """The next bytes of a stream."""

    def tick(self, record: RunRecord, note: str) -> None:
        """Time has passed, or something came."""

    def finish(self, record: RunRecord) -> None:
        """It has ended, or watching stops."""


class Pane:
    """One output of one cell, updated in place: status, clock, tail, and the end folded.

    Args:
        shell: The shell whose publisher is used from now on, whatever captures later.
        lines: How many lines are shown while it lives.
    """

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

    def tick(self, record: RunRecord, note: str) -> None:
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
            self._tokens -= 1
            self._dirty, self._second = False, second
            self._paint(render.Card(record, self._view(), note=note, now=time.time()))

    def finish(self, record: RunRecord) -> None:
        """See `View.finish`."""
        self._paint(render.Card(record, self._view(), now=time.time()))

    def _view(self) -> render.LogView:
        screen = self._screen
        return render.LogView(screen.tail(200), screen.count, screen.bytes)

    def _paint(self, card: render.Card) -> None:
        publish(self._publisher, card, self._id, update=self._painted is not None)
        self._painted = card


class Stream:
    """Plain text, for terminals and for kernels that nobody watches.

    Args:
        limited: Bounded in rate and in all, for output that is saved in a notebook.
    """

    def __init__(self, *, limited: bool) -> None:
        self._limited = limited
        self._room, self._left = float(_STREAM_PER_SECOND), _STREAM_TOTAL
        self._refilled = time.monotonic()
        self._decoders: dict[str, Any] = {}
        self._skipped = 0
        self._path = ""
        self._begun = False
        self._mid_line = False

    def begin(self, record: RunRecord) -> None:
        """See `View.begin`: nothing yet, the handle isn't known."""

    def output(self, stream: str, data: bytes) -> None:
        """See `View.output`."""
        import codecs

        if stream not in self._decoders:
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        if not self._fits(len(data)):
            self._skipped += data.count(b"\n")
            return
        target: IO[str] = sys.stderr if stream == "stderr" else sys.stdout
        if self._skipped:
            target.write(f"… {self._skipped:,} lines skipped, all of them: {self._path}\n")
            self._skipped = 0
        text = self._decoders[stream].decode(data)
        target.write(text)
        target.flush()
        self._mid_line = not text.endswith("\n") if text else self._mid_line

    def tick(self, record: RunRecord, note: str) -> None:
        """See `View.tick`: the first one says which run it is."""
        if not self._begun:
            self._begun = True
            print(render.one_line(record), flush=True)  # noqa: T201

    def finish(self, record: RunRecord) -> None:
        """See `View.finish`."""
        if self._mid_line:
            print()  # noqa: T201
        if self._skipped:
            text = f"… {self._skipped:,} lines skipped, all of them: %qwex logs {record.handle}"
            print(text)  # noqa: T201
        lines = render.card_text(render.Card(record, now=time.time())).split("\n")
        print("\n".join(lines), flush=True)  # noqa: T201

    def _fits(self, size: int) -> bool:
        if not self._limited:
            return True
        now = time.monotonic()
        self._room += (now - self._refilled) * _STREAM_PER_SECOND
        self._room = min(self._room, float(_STREAM_PER_SECOND))
        self._refilled = now
        if size > self._room or size > self._left:
            return False
        self._room -= size
        self._left -= size
        return True

    def where(self, path: str) -> None:
        """Tells where all of the output is."""
        self._path = path


class Silent:
    """Shows nothing, unless it didn't go well."""

    def __init__(self, inner: View) -> None:
        self._inner = inner
        self._held: list[tuple[str, bytes]] = []

    def begin(self, record: RunRecord) -> None:
        """See `View.begin`."""

    def output(self, stream: str, data: bytes) -> None:
        """See `View.output`: the last of it is kept for a failure."""
        self._held.append((stream, data[-20_000:]))
        del self._held[:-8]

    def tick(self, record: RunRecord, note: str) -> None:
        """See `View.tick`."""

    def finish(self, record: RunRecord) -> None:
        """See `View.finish`."""
        if record.status is not RunStatus.SUCCEEDED:
            for stream, data in self._held:
                self._inner.output(stream, data)
            self._inner.finish(record)


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


def publish(publisher: Any, card: render.Card, display_id: str, *, update: bool) -> None:
    """Shows a card, or replaces what is shown under that id."""
    live = not card.record.status.final
    bundle = {
        "text/html": render.card_html(card),
        "text/plain": render.one_line(card.record) if live else render.card_text(card),
    }
    publisher.publish(data=bundle, metadata={}, transient={"display_id": display_id}, update=update)


def foreground(manager: RunManager, run: Run, view: View, *, check: bool = True) -> Run:
    """Shows a run to its end; the interrupt button cancels it, a second one insists.

    Raises:
        RunFailed: It did not succeed, and ``check`` is set.
        RunInterrupted: It was stopped by the button.
    """
    watch = _Watch(manager, run, view)
    stops = 0
    while True:
        try:
            if stops == 1:
                run.cancel()
                watch.note = "stopping… ■ again to stop it at once"
            elif stops == 2:
                run.cancel()
                watch.note = "stopping at once…"
            elif stops > 2:
                break  # the backend doesn't answer: the stop is written down, the prompt is back
            watch.to_the_end()
            break
        except KeyboardInterrupt:
            stops += 1
    watch.close()
    record = manager.record(run.run_id)
    view.finish(record)
    if stops:
        raise RunInterrupted(run, record.sentence)
    if check and record.status is not RunStatus.SUCCEEDED:
        raise RunFailed(run, record.sentence)
    return run


def attach(manager: RunManager, run: Run, view: View) -> Run:
    """Shows a run as its own cell did; an interrupt stops only the watching."""
    watch = _Watch(manager, run, view)
    try:
        watch.to_the_end()
    except KeyboardInterrupt:
        watch.note = "no longer watched; it goes on"
    finally:
        watch.close()
        view.finish(manager.record(run.run_id))
    return run


class _Watch:
    """Reads a run's output on and keeps a view up to date."""

    def __init__(self, manager: RunManager, run: Run, view: View) -> None:
        self._manager, self._run, self._view = manager, run, view
        self._tail = Tail(run.log)
        self._record = manager.record(run.run_id)
        self._asked = time.monotonic()
        self.note = "stop with ■ (I, I)"
        if isinstance(view, Stream):
            view.where(run.log_path)

    def to_the_end(self) -> None:
        pause = _SHORTEST
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
            if now - self._asked > _RECORD_AGE:
                self._asked = now
                self._record = self._manager.record(self._run.run_id)
            if not ended:
                self._view.tick(self._record, self.note)
            if moved:
                pause = _SHORTEST
            else:
                time.sleep(pause)
                pause = min(1.3 * pause, _LONGEST)

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

    def add(self, run: Run, shell: Any, note: str) -> None:
        """Shows a card in the cell that runs now, and keeps it up to date until the end."""
        display_id = uuid.uuid4().hex
        publisher = shell.display_pub
        publish(publisher, self._card(run, note), display_id, update=False)
        with self._lock:
            self._cards[display_id] = (run, publisher, display_id, note)
            if self._thread is None or not self._thread.is_alive():
                self._manager.observe(self._notice)
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
