"""The card of one run: what is shown of it and of its output, and the card as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.display import terminal
from qwex_jupyter.display.colours import to_html
from qwex_jupyter.display.format import as_of, doing, missing_of, one_line
from qwex_jupyter.display.paths import short_lines
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.text import plain
from qwex_jupyter.model.units import say_bytes, say_count

# So many of the last lines a live card shows, a detached one, and one that is saved.
LIVE_LINES = 15
DETACHED_LINES = 3
SAVED_LINES = 200
# So many rows of the output of what has ended are in sight; the others are scrolled to.
ROWS = 20
# What the text of one card may add to a saved notebook.
_TEXT_BYTES = 4_000
# So much of the end of a log is read at the most, and the lines before it are counted where they
# are no more. Bytes.
_READ = _COUNTED = 16 << 20


@dataclass(frozen=True)
class LogView:
    """So much of the output as a view shows.

    Attributes:
        lines: The last lines, clean (colours only).
        count: How many lines there are in all; None where nobody has counted so many.
        size: How many bytes there are in all.
    """

    lines: Sequence[str] = ()
    count: int | None = 0
    size: int = 0

    def before(self, shown: int) -> str:
        """How much there is before the last so many lines, in words; "" for nothing."""
        if self.count is None:
            return f"more lines (of {say_bytes(self.size)})"
        return say_count(self.count - shown, "line") if shown < self.count else ""


@dataclass(frozen=True)
class Card:
    """What a cell shows of one run.

    Attributes:
        record: The run.
        log: Its output.
        note: A line of advice below the output while it lives.
        now: When this is shown, seconds since the epoch.
        compact: The small form of a detached run.
        place: A name by which a page finds it, to hide it while it shows the same live.
        last_time: How long the same command took the last time, seconds.
    """

    record: RunRecord
    log: LogView = LogView()
    note: str = ""
    now: float = 0.0
    compact: bool = False
    last_time: float | None = None
    place: str = ""


def log_view(log: RunLog, lines: int = SAVED_LINES, streams: Sequence[str] = STREAMS) -> LogView:
    """The end of the output on disk, stdout before stderr; it is read from its end."""
    screen = Screen(lines)
    begins = {stream: log.where_last(stream, lines, _READ) for stream in streams}
    counted = sum(begins.values()) <= _COUNTED
    for stream, begin in begins.items():
        mark, before = log.cut(stream, begin), log.pieces(stream, 0, begin) if counted else ()
        screen.skip(sum(data.count(b"\n") for data in before), begin - len(mark))
        screen.feed_whole(stream, mark)
        for data in log.pieces(stream, begin):
            screen.feed_whole(stream, data)
    shown = short_lines(screen.tail(lines), log.folder)
    return LogView(shown, screen.count if counted else None, screen.bytes)


def card_text(card: Card) -> str:
    """The card as plain text."""
    shown = [plain(line) for line in card.log.lines[-limit_of(card) :]]
    shown = bounded(shown, _TEXT_BYTES)
    card = told_below(card, len(shown))
    lines = [one_line(card.record, card.now)]
    if before := card.log.before(len(shown)):
        lines.append(f"  … {before} before")
    lines += [f"  {line}" for line in shown]
    lines += [f"  {line}" for line in advice_on(card)]
    return "\n".join(lines)


def limit_of(card: Card) -> int:
    """How many of the last lines of its output are in sight."""
    if card.record.status.final:
        return ROWS
    return DETACHED_LINES if card.compact else LIVE_LINES


def bounded(lines: Sequence[str], limit: int) -> list[str]:
    """As many last lines as fit into so many bytes of HTML; of one too long, its beginning."""
    kept = terminal.last_within(lines, limit, lambda line: len(to_html(line).encode()))
    if lines and not kept:
        # Without its colours, as a cut could go through one of them.
        return [f"{plain(lines[-1])[: limit // 8]}…"]
    return kept


def told_below(card: Card, shown: int) -> Card:
    """The card as it is told below so many of its lines, which may be all there are."""
    whole = shown and shown == card.log.count and not card.record.log_missing
    return replace(card, record=card.record.below_its_output()) if whole else card


def advice_on(card: Card) -> list[str]:
    """What stands below the output: the next step, or how to stop it."""
    record, log = card.record, card.log
    lines = []
    if record.status.final:
        lines += [*filter(None, [record.next_step]), *missing_of(record)]
    else:
        said, share = doing(record)
        done = "" if share is None else f"{share}%"
        if said or done:
            lines.append(f"{said} {done}".strip())
        size = f"{say_count(log.count, 'line')} · {say_bytes(log.size)}" if log.count else ""
        words = (size, card.note, as_of(record, card.now))
        lines.append(" · ".join(word for word in words if word))
    return [plain(line) for line in lines]
