"""The card of one run: what is shown of it and of its output, and the card as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.display import terminal
from qwex_jupyter.display.colours import to_html
from qwex_jupyter.display.format import as_of, doing, missing_of, one_line
from qwex_jupyter.display.paths import short_lines
from qwex_jupyter.display.progress import Progress, minutes
from qwex_jupyter.display.screen import Line, Screen, moves
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.model.text import plain
from qwex_jupyter.model.units import say_bytes, say_count

# So many rows of its output a card has in sight, live and ended, and one of a detached run; what
# has ended keeps more lines, which are scrolled to.
ROWS = 20
DETACHED_ROWS = 3
SAVED_LINES = 200
STDERR = "stderr"
# What it takes at the most to tell lines of stderr from those around them. Bytes.
APART = 200
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
        usual_time: How long the same command takes as a rule, seconds.
        progress: How far the program says that it is.
        below: Its cell stands right above, so that its first line needn't be told again.
        lived: It was shown while the run lived, and has rows for what it said then.
    """

    record: RunRecord
    log: LogView = LogView()
    note: str = ""
    now: float = 0.0
    compact: bool = False
    usual_time: float | None = None
    progress: Progress | None = None
    place: str = ""
    below: bool = False
    lived: bool = False

    @property
    def rows(self) -> int:
        """How many rows of its output are in sight."""
        return DETACHED_ROWS if self.compact else ROWS


def log_view(log: RunLog, lines: int = SAVED_LINES, streams: Sequence[str] = STREAMS) -> LogView:
    """The end of the output on disk, stdout before stderr; it is read from its end.

    Where a cursor was moved up, fewer lines are seen than there are newlines: what comes before is
    looked at too then, so that lines and their number are those which were seen live.
    """
    screen = Screen(lines)
    begins = {stream: log.where_last(stream, lines, _READ) for stream in streams}
    counted = sum(begins.values()) <= _COUNTED
    for stream, begin in begins.items():
        mark, moved = log.cut(stream, begin), False
        for data in log.pieces(stream, 0, begin) if counted else ():
            moved = moved or moves(data)
            if moved:
                screen.feed_whole(stream, data)
            else:
                screen.skip(data.count(b"\n"), len(data))
        if not counted:
            screen.skip(0, begin)
        if not moved:
            screen.skip(0, -len(mark))
            screen.feed_whole(stream, mark)
        for data in log.pieces(stream, begin):
            screen.feed_whole(stream, data)
    shown = short_lines(screen.tail(lines), log.folder)
    return LogView(shown, screen.count if counted else None, screen.bytes)


def card_text(card: Card) -> str:
    """The card as plain text."""
    shown = [plain(line) for line in card.log.lines[-text_rows(card) :]]
    shown = bounded(shown, _TEXT_BYTES)
    card = told_below(card, len(shown))
    lines = [one_line(card.record, card.now)]
    if before := card.log.before(len(shown)):
        lines.append(f"  … {before} before")
    lines += [f"  {line}" for line in shown]
    lines += [f"  {line}" for line in advice_on(card)]
    return "\n".join(lines)


def text_rows(card: Card) -> int:
    """How many lines of its output stand in the text of a card: text can't be scrolled."""
    return ROWS if card.record.status.final else card.rows


def bounded(lines: Sequence[str], limit: int) -> list[str]:
    """As many last lines as fit into so many bytes of HTML; of one too long, its beginning."""
    below = ""

    def size(line: str) -> int:
        nonlocal below
        stream, said = stream_of(line), below
        below = stream
        apart = APART if STDERR in (stream, said) and stream != said else 0
        return len(to_html(line).encode()) + apart

    kept = terminal.last_within(lines, limit, size)
    if lines and not kept:
        # Without its colours, as a cut could go through one of them.
        return [Line(f"{plain(lines[-1])[: limit // 8]}…", stream_of(lines[-1]))]
    return kept


def stream_of(line: str) -> str:
    """The stream that a line came on, "" for one of which nobody knows."""
    return line.stream if isinstance(line, Line) else ""


def told_below(card: Card, shown: int) -> Card:
    """The card as it is told below so many of its lines, which may be all there are."""
    whole = shown and shown == card.log.count and not card.record.log_missing
    return replace(card, record=card.record.below_its_output()) if whole else card


def usual_of(card: Card) -> str:
    """How long it takes as a rule, of what runs and doesn't say itself how far it is."""
    said = card.progress is not None or card.record.status is not RunStatus.RUNNING
    return "" if said or not card.usual_time else f"usually {minutes(card.usual_time)}"


def advice_on(card: Card) -> list[str]:
    """What stands below the output: the next step, or how to stop it."""
    record = card.record
    lines = []
    if record.status.final:
        lines += [*filter(None, [record.next_step]), *missing_of(record)]
    else:
        said, share = doing(record)
        if said or share is not None:
            lines.append(said if share is None else f"{said} {share}%".strip())
        if card.progress is not None and share is None:
            lines.append(card.progress.text(card.now))
        elif usual := usual_of(card):
            lines.append(usual)
        lines.append(" · ".join(word for word in (facts_on(card), as_of(record, card.now)) if word))
    return [plain(line) for line in lines]


def facts_on(card: Card) -> str:
    """How much output of a live run there is, and what can be done about it."""
    log = card.log
    size = f"{say_count(log.count, 'line')} · {say_bytes(log.size)}" if log.count else ""
    return plain(" · ".join(word for word in (size, card.note) if word))
