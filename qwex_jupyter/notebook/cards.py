"""The small live cards of runs that no cell watches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk import logs
from qwex_jupyter.display.card import DETACHED_ROWS, Card, LogView, log_view
from qwex_jupyter.display.paths import short_lines
from qwex_jupyter.display.progress import Meter
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.notebook.twin import Twin
from qwex_jupyter.notebook.view import FIRST_PAINT, has_begun, running, waiting
from qwex_jupyter.system.background import Background
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.system.threads import started

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.manager.run import Run
    from qwex_jupyter.widgets.card import LiveCard

# How often a backend is asked about the cards of detached runs, all by one question: one that
# doesn't answer within its ten seconds is told of within fifteen. What is shown in the
# foreground is read all the time, and a backend's silence noticed by that.
_ASK_EVERY = 3.0
_CARDS_PER_TICK = 40
# Asking a backend for output costs a call each.
_FETCHES_PER_TICK = 10
_COMPACT_BYTES = 4096
# How often it is asked whether a run has begun whose card is to be shown. Seconds.
_LOOK_PAUSE = 0.005
# The widgets of so many runs that have ended stay, for pages that are loaded anew from a file
# that still has them.
_KEPT = 50

# Managers that have cards live as long as their process.
_all: dict[RunManager, Cards] = {}
_lock = threading.Lock()


def cards_of(manager: RunManager) -> Cards:
    """The cards of a manager's runs, the same for all cells."""
    with _lock:
        if manager not in _all:
            _all[manager] = Cards(manager)
        return _all[manager]


def note_of(run: Run) -> str:
    """What is to be known below the card of a run that nobody watches."""
    return f"watch it: %qwex attach {run.handle}, stop it: %qwex cancel {run.handle}"


@dataclass
class _Shown:
    """A card, and what it is of."""

    run: Run
    twin: Twin
    note: str
    streams: Sequence[str]
    meter: Meter = field(default_factory=Meter)
    usual_time: float | None = None


class Cards:
    """The small live cards of runs: one thread for all, about once a second each.

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
        self._looking, self._fetching, self._look_at = Background(), Background(), 0.0
        manager.observe(self._notice)

    def add(self, run: Run, shell: Any, note: str, *, below: bool = False) -> None:
        """Shows a card in the cell that runs now, and keeps it up to date until the end.

        Args:
            run: What it is of.
            shell: The shell of the cell.
            note: What is to be said below it while the run lives.
            below: Whether the run's cell stands right above.
        """
        self._wait_for_more(run.run_id)
        self.take(Twin(self._manager, shell.display_pub, self._clock, below=below), run, note)

    def _wait_for_more(self, run_id: str) -> None:
        """Waits a moment until there is more to say than "pending", which most runs are not."""
        looking, until = Background(), time.monotonic() + FIRST_PAINT
        while not has_begun(self._manager.tracker.record(run_id)) and time.monotonic() < until:
            looking.begin(self._manager.tracker.look, [run_id])
            looking.wait(_LOOK_PAUSE)
            time.sleep(_LOOK_PAUSE)

    def take(self, twin: Twin, run: Run, note: str, streams: Sequence[str] = logs.STREAMS) -> None:
        """Keeps a card up to date that nobody else does any more.

        Args:
            twin: The card.
            run: What it is of.
            note: What is to be said below it while the run lives.
            streams: The output that it shows.
        """
        shown = _Shown(run, twin, note, streams)

        def look() -> Card:
            return self._card(shown)

        card = look()
        twin.write(card)
        if card.record.status.final:
            self.keep(twin)
            return
        if twin.live is None:
            twin.go_live(look)
        else:
            twin.live.look = look
            twin.live.show(card)
        with self._lock:
            self._cards[twin.place] = shown
            if self._thread is None or not self._thread.is_alive():
                self._thread = started(self._run, "qwex-cards")

    def keep(self, twin: Twin) -> None:
        """Ends a card whose run has ended; its widget stays for pages that come back."""
        if twin.live is not None:
            twin.live.end()
            self._ended.append(twin.live)
        while len(self._ended) > _KEPT:
            self._ended.popleft().close()

    def _notice(self, record: RunRecord) -> None:
        if record.status.final:
            self._changed.set()

    def _card(self, shown: _Shown) -> Card:
        log, now, below = shown.run.log, time.time(), shown.twin.below
        record = self._manager.tracker.record(shown.run.run_id)
        if record.status.final:
            view = log_view(log, streams=shown.streams)
            return Card(record, view, now=now, compact=True, below=below, lived=shown.twin.begun)
        screen = Screen()
        for stream in shown.streams:
            screen.feed(stream, log.last(stream, within=_COMPACT_BYTES))
        view = LogView(short_lines(screen.tail(DETACHED_ROWS), log.folder))
        record = running(record) if view.lines else waiting(record)
        progress = shown.meter.look(screen, now, log.written_at(shown.streams))
        usual = self._usual_time(shown, record)
        return Card(
            record,
            view,
            shown.note,
            now,
            compact=True,
            usual_time=usual,
            progress=progress,
            below=below,
        )

    def _usual_time(self, shown: _Shown, record: RunRecord) -> float | None:
        """Looked up once, when it runs."""
        if shown.usual_time is None and record.status is RunStatus.RUNNING:
            shown.usual_time = self._manager.usual_time(record) or 0.0
        return shown.usual_time

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
        ended = [shown for shown in cards if self._manager.tracker.ended(shown.run.run_id)]
        live = [shown for shown in cards if shown not in ended]
        turn = self._turn % len(live) if live else 0
        due = (live[turn:] + live[:turn])[:_CARDS_PER_TICK]
        self._turn = turn + _CARDS_PER_TICK
        self._ask([shown.run.run_id for shown in live], [shown.run.run_id for shown in due])
        for shown in [*ended[:_CARDS_PER_TICK], *due]:
            try:
                card = self._card(shown)
                shown.twin.show(card)
                shown.twin.look_for_pages()
            except Exception:  # noqa: BLE001 - the cards of others go on
                self._drop(shown)  # deleted meanwhile, or it can't be shown: it stays as it was
                continue
            if card.record.status.final:
                self._drop(shown)
        return bool(ended)

    def _drop(self, shown: _Shown) -> None:
        with self._lock:
            self._cards.pop(shown.twin.place, None)
        self.keep(shown.twin)

    def _ask(self, live: list[str], due: list[str]) -> None:
        """Has the backends asked about what lives, and for the output of what is painted."""
        now = time.monotonic()
        if live and now >= self._look_at:
            self._look_at = now + _ASK_EVERY
            self._looking.begin(self._manager.tracker.look, live)
        self._fetching.begin(self._fetch, due[:_FETCHES_PER_TICK])

    def _fetch(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            self._manager.output.fetch(run_id)
