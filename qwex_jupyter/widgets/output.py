"""What a run says, for one pane of one page: its last lines, then what comes.

What a page gets is bounded in rate whatever a program writes: of what is too much it gets
the newest, and is told how many lines it wasn't given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk.logs import STREAMS, RunLog, Tail
from qwex_jupyter.display import terminal
from qwex_jupyter.display.card import STDERR, stream_of
from qwex_jupyter.display.paths import short_lines
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.errors import QwexError
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.widgets.rate import EVERY, pulse

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

# So many lines a pane begins with, and so much of a log is read for that.
_FIRST = 1000
_FIRST_BYTES = 1 << 19
# What one message may hold.
_BYTES = 64_000
# How often a run is asked about while its pane is open, should nobody else do so.
_LOOK_EVERY = 3.0


def _of_stderr(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Which of the lines are of stderr: the first of each block, and the one behind its last."""
    blocks, at = [], 0
    for stream, block in groupby(lines, stream_of):
        begin, at = at, at + sum(1 for _ in block)
        if stream == STDERR:
            blocks.append((begin, at))
    return blocks


class Output:
    """Reads one run's output on, and sends it, until it is closed or all is said.

    Args:
        manager: Who brings it to disk.
        run_id: The run.
        send: Takes a message.
    """

    def __init__(
        self, manager: RunManager, run_id: str, send: Callable[[dict[str, Any]], None]
    ) -> None:
        self._manager, self._run_id, self._send = manager, run_id, send
        self._screen = Screen(2 * _FIRST)
        self._folder = manager.history.folder(run_id)
        self._lock = threading.Lock()
        # How many lines were sent that are as they were, and those behind them that can change.
        self._sent, self._said_end = 0, False
        self._open: Sequence[str] = [""]
        self._skipped, self._ended = 0, False
        self._over = Flag()
        threading.Thread(target=self._run, name="qwex-output", daemon=True).start()

    def close(self) -> None:
        """Nothing more is sent."""
        self._over.set()
        pulse.forget(self._tell)

    def _run(self) -> None:
        try:
            with self._manager.output.following(self._run_id):
                self._follow(RunLog(self._manager.history.folder(self._run_id)))
        except (QwexError, OSError):
            self._ended = True  # deleted meanwhile: what was shown stays
            pulse.ask(self._tell)

    def _follow(self, log: RunLog) -> None:
        offsets = {stream: log.where_last(stream, within=_FIRST_BYTES) for stream in STREAMS}
        self._skipped = sum(offsets.values())
        waited = 0.0
        with Tail(log, offsets=offsets) as tail:
            while not self._over.is_set():
                ended = self._manager.tracker.ended(self._run_id)
                moved = False
                for stream, data in tail.read():
                    moved = True
                    with self._lock:
                        self._screen.feed(stream, data)
                if moved or ended:
                    self._ended = ended and not moved
                    pulse.ask(self._tell)
                if self._ended:
                    return
                waited = 0.0 if moved else waited + EVERY
                if waited > _LOOK_EVERY:
                    waited = 0.0
                    self._manager.tracker.look([self._run_id])
                self._over.wait(EVERY / 2 if moved else EVERY)

    def _tell(self) -> None:
        with self._lock:
            # A line that was sent as finished may have been overwritten since.
            self._sent = min(self._sent, self._screen.unchanged())
            open_lines = short_lines(self._screen.unfinished(), self._folder)
            finished = self._screen.finished
            count = finished + len(open_lines)
            lines = short_lines(self._screen.tail(min(count - self._sent, _FIRST)), self._folder)
            if (
                finished == self._sent
                and open_lines == self._open
                and self._ended is self._said_end
            ):
                return
            # As many of the last lines as one message may hold, and one at least.
            kept = terminal.last_within(lines, _BYTES, lambda line: len(line) + 2) or lines[-1:]
            message = {
                "kind": "output",
                "run": self._run_id,
                # The number of the first line here; what a page has from there on is replaced.
                "from": count - len(kept),
                "after": self._sent,
                "lines": kept,
                "apart": _of_stderr(kept),
                "before": self._skipped,
                "bytes": self._screen.bytes + self._skipped,
                "ended": self._ended,
            }
            self._sent, self._open, self._said_end = finished, open_lines, self._ended
        if not self._over.is_set():
            self._send(message)
