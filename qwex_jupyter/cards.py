"""Cards: the small live displays of detached runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qwex_jupyter import render, tables, terminal
from qwex_jupyter.aside import Aside
from qwex_jupyter.errors import QwexError
from qwex_jupyter.flag import Flag
from qwex_jupyter.record import RunRecord
from qwex_jupyter.threads import started
from qwex_jupyter.views import publish

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager
    from qwex_jupyter.monitor.card import LiveCard
    from qwex_jupyter.run import Run

# How often a backend is asked about the cards of detached runs, all by one question: one that
# doesn't answer within its ten seconds is told of within fifteen. What is shown in the
# foreground is read all the time, and a backend's silence noticed by that.
_ASK_EVERY = 3.0
_CARDS_PER_TICK = 40
# Asking a backend for output costs a call each.
_FETCHES_PER_TICK = 10
_COMPACT_BYTES = 4096
# Where a page shows a card live, the one that will be in the saved notebook is kept up to date
# so often.
_SAVED_EVERY = 15.0
# The widgets of so many runs that have ended stay, for pages that are loaded anew from a file
# that still has them.
_KEPT = 50


@dataclass
class _Shown:
    """One card: an output of HTML, and the widget below it, which hides it while it lives."""

    run: Run
    publisher: Any
    place: str
    note: str
    live: LiveCard | None = None
    written: float = 0.0
    status: str = ""


class Cards:
    """The small live cards of detached runs: one thread for all, about once a second each.

    Args:
        manager: Who is asked.
        clock: Seconds; a test's own.
    """

    def __init__(self, manager: RunManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager, self._clock = manager, clock
        self._cards: dict[str, _Shown] = {}
        self._ended: deque[LiveCard] = deque()
        self._turn = 0
        self._lock = threading.Lock()
        self._changed = Flag()
        self._thread: threading.Thread | None = None
        self._looking, self._fetching, self._look_at = Aside(), Aside(), 0.0
        manager.observe(self._notice)

    def add(self, run: Run, shell: Any, note: str) -> None:
        """Shows a card in the cell that runs now, and keeps it up to date until the end."""
        shown = _Shown(run, shell.display_pub, tables.new_place(), note)
        card = self._card(run, note)
        self._write(shown, card, update=False)
        if not card.record.status.final:
            # Entered at the first card, as it takes a while to be imported.
            from qwex_jupyter.monitor.card import LiveCard

            shown.live = LiveCard(
                self._manager,
                lambda: self._card(run, note),
                shown.publisher,
                shown.place,
                self._clock,
            )
            shown.live.display()
        with self._lock:
            self._cards[shown.place] = shown
            if self._thread is None or not self._thread.is_alive():
                self._thread = started(self._run, "qwex-cards")

    def _notice(self, record: RunRecord) -> None:
        if record.status.final:
            self._changed.set()

    def _card(self, run: Run, note: str) -> render.Card:
        record = self._manager.record(run.run_id)
        if record.status.final:
            return render.Card(record, render.log_view(run.log), now=time.time(), compact=True)
        data = b"".join(run.log.tail(stream, _COMPACT_BYTES) for stream in ("stdout", "stderr"))
        screen = terminal.Screen()
        screen.feed("", data)
        view = render.LogView(screen.tail(3))
        return render.Card(record, view, note=note, now=time.time(), compact=True)

    def _run(self) -> None:
        while True:
            self._changed.wait(1.0)
            self._changed.clear()
            with self._lock:
                if not self._cards:
                    self._thread = None
                    return
            if self._paint_all():
                time.sleep(0.2)

    def _paint_all(self) -> bool:
        """Paints what has ended and whose turn it is; whether any had ended."""
        with self._lock:
            cards = list(self._cards.values())
        ended = [shown for shown in cards if self._manager.ended(shown.run.run_id)]
        live = [shown for shown in cards if shown not in ended]
        turn = self._turn % len(live) if live else 0
        due = (live[turn:] + live[:turn])[:_CARDS_PER_TICK]
        self._turn = turn + _CARDS_PER_TICK
        self._ask([shown.run.run_id for shown in live], [shown.run.run_id for shown in due])
        for shown in [*ended[:_CARDS_PER_TICK], *due]:
            try:
                card = self._card(shown.run, shown.note)
            except (QwexError, OSError):
                self._drop(shown)  # deleted meanwhile: its card stays as it was
                continue
            self._paint(shown, card)
            if card.record.status.final:
                self._drop(shown)
        return bool(ended)

    def _paint(self, shown: _Shown, card: render.Card) -> None:
        """Tells the page, and brings up to date what is saved, now and then where nobody sees it.

        At the end the latter is shown again, so it comes first.
        """
        live = shown.live
        old = self._clock() - shown.written >= _SAVED_EVERY
        if old or live is None or not live.seen or card.record.status != shown.status:
            self._write(shown, card, update=True)
        if live is not None:
            live.show(card)

    def _write(self, shown: _Shown, card: render.Card, *, update: bool) -> None:
        shown.written, shown.status = self._clock(), card.record.status
        publish(shown.publisher, replace(card, place=shown.place), shown.place, update=update)

    def _drop(self, shown: _Shown) -> None:
        with self._lock:
            self._cards.pop(shown.place, None)
        if shown.live is not None:
            shown.live.end()
            self._ended.append(shown.live)
        while len(self._ended) > _KEPT:
            self._ended.popleft().close()

    def _ask(self, live: list[str], due: list[str]) -> None:
        """Has the backends asked about what lives, and for the output of what is painted."""
        now = time.monotonic()
        if live and now >= self._look_at:
            self._look_at = now + _ASK_EVERY
            self._looking.begin(self._manager.look, live)
        self._fetching.begin(self._fetch, due[:_FETCHES_PER_TICK])

    def _fetch(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            self._manager.fetch_logs(run_id)
