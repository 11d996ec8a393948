"""Records to text and HTML: pure functions. All escaping of this package lives here.

The HTML has to survive in a saved notebook, on a forge and under JupyterLab's sanitiser:
inline styles only, and hex colours that can be read on white and on black.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass

from qwex_jupyter import terminal
from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import RunStatus, say_bytes

GLYPHS = {
    RunStatus.PENDING: ("○", "#7a7f87"),
    RunStatus.RUNNING: ("◐", "#1f7ad1"),
    RunStatus.SUCCEEDED: ("✓", "#2e9d4c"),
    RunStatus.FAILED: ("✗", "#e0453c"),
    RunStatus.CANCELLED: ("⊘", "#d9822b"),
    RunStatus.LOST: ("?", "#d9822b"),
}
_MUTED = "#7a7f87"
_LIVE_LINES = 15
_DETACHED_LINES = 3
_SAVED_LINES = 200
_SAVED_CHARS = 20_000
_MONO = "font-family:monospace;font-size:0.92em;line-height:1.35"


@dataclass(frozen=True)
class LogView:
    """So much of the output as a view shows.

    Attributes:
        lines: The last lines, clean (colours only).
        count: How many lines there are in all.
        size: How many bytes there are in all.
    """

    lines: Sequence[str] = ()
    count: int = 0
    size: int = 0


@dataclass(frozen=True)
class Card:
    """What a cell shows of one run.

    Attributes:
        record: The run.
        log: Its output.
        note: A line of advice below the output while it lives.
        now: When this is shown, seconds since the epoch.
        compact: The small form of a detached run.
        last_time: How long the same command took the last time, seconds.
    """

    record: RunRecord
    log: LogView = LogView()
    note: str = ""
    now: float = 0.0
    compact: bool = False
    last_time: float | None = None


def log_view(log: RunLog, lines: int = _SAVED_LINES) -> LogView:
    """The end of the output on disk, stdout before stderr."""
    screen = terminal.Screen(lines)
    for stream in STREAMS:
        offset = 0
        while data := log.read(stream, offset, 1 << 20):
            screen.feed(stream, data)
            offset += len(data)
    return LogView(screen.tail(lines), screen.count, screen.bytes)


def clock(seconds: float | None) -> str:
    """A duration for people: ``0:00:41`` for what takes long, ``3.2s`` for what doesn't."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds >= 0.1 else f"{seconds * 1000:.0f}ms"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def ticking(seconds: float) -> str:
    """A duration that is still growing: whole seconds."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def moment(when: float | None) -> str:
    """A point in time as ``2026-11-23 16:30:45 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when)) if when else ""


def count_of(number: int, word: str) -> str:
    """``1 line``, ``1,204 lines``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def facts_of(card: Card) -> str:
    """Where, what, how long: the quiet half of the header."""
    record = card.record
    words = [record.runner, record.image, record.title if record.name else record.handle]
    now = card.now or record.observed_at
    if record.status.final:
        words.append(clock(record.duration()))
        if record.exit_code is not None:
            words.append(f"exit {record.exit_code}")
    else:
        since = record.started_at or record.created_at
        last = f" (last {clock(card.last_time)})" if card.last_time else ""
        words.append(ticking(max(0.0, now - since)) + last)
    return " · ".join(word for word in words if word)


def one_line(record: RunRecord) -> str:
    """A run in one line of text."""
    glyph, _ = GLYPHS[record.status]
    card = Card(record, now=time.time())
    return f"{glyph} {record.status.lower()}  {_short(record.command)}   {facts_of(card)}"


def card_text(card: Card) -> str:
    """The card as plain text."""
    record = card.record
    lines = [one_line(record)]
    shown = [terminal.plain(line) for line in card.log.lines[-_limit(card) :]]
    if len(shown) < card.log.count:
        lines.append(f"  … {count_of(card.log.count - len(shown), 'line')} before")
    lines += [f"  {line}" for line in shown]
    lines += [f"  {line}" for line in _advice(card)]
    return "\n".join(lines)


def card_html(card: Card) -> str:
    """The card as HTML."""
    record = card.record
    _, colour = GLYPHS[record.status]
    body = _log_html(card)
    advice = "".join(
        f'<div style="{_advice_style(card, index)}">{html.escape(line)}</div>'
        for index, line in enumerate(_advice(card))
    )
    return (
        f'<div style="border-left:3px solid {colour};padding:2px 0 2px 10px;margin:2px 0">'
        f"{_header_html(card)}{body}{advice}</div>"
    )


def _header_html(card: Card) -> str:
    record = card.record
    glyph, colour = GLYPHS[record.status]
    title = html.escape(f"{record.run_id}, submitted {moment(record.created_at)}", quote=True)
    command = html.escape(_short(record.command))
    return (
        '<div style="display:flex;gap:14px;flex-wrap:wrap;align-items:baseline">'
        f'<span style="color:{colour};font-weight:bold;white-space:nowrap">'
        f"{glyph} {record.status.lower()}</span>"
        f'<code style="background:none;{_MONO};font-weight:bold">{command}</code>'
        f'<span style="color:{_MUTED};margin-left:auto;white-space:nowrap" title="{title}">'
        f"{html.escape(facts_of(card))}</span></div>"
    )


def _log_html(card: Card) -> str:
    record, log = card.record, card.log
    lines = _bounded(list(log.lines[-_limit(card) :]))
    text = terminal.to_html("\n".join(lines))
    pre = f"{_MONO};margin:4px 0;padding:0;white-space:pre-wrap;background:none"
    if not record.status.final:
        if card.compact:
            return f'<pre style="{pre}">{text}</pre>' if lines else ""
        waiting = f'<span style="color:{_MUTED}">waiting for output…</span>'
        return f'<pre style="{pre}">{text or waiting}</pre>'
    if not log.count:
        return ""
    more = f", last {len(lines):,} shown" if len(lines) < log.count else ""
    opened = " open" if record.status is not RunStatus.SUCCEEDED or log.count <= _LIVE_LINES else ""
    summary = f"output: {count_of(log.count, 'line')}, {say_bytes(log.size)}{more}"
    return (
        f'<details{opened}><summary style="color:{_MUTED}">{summary}</summary>'
        f'<pre style="{pre};max-height:320px;overflow:auto">{text}</pre></details>'
    )


def _limit(card: Card) -> int:
    if card.record.status.final:
        return _SAVED_LINES
    return _DETACHED_LINES if card.compact else _LIVE_LINES


def _bounded(lines: list[str]) -> list[str]:
    """As many last lines as fit into what a notebook may grow by."""
    size = 0
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index]) + 1
        if size > _SAVED_CHARS:
            kept = lines[index + 1 :]
            return kept or [lines[-1][-_SAVED_CHARS:]]
    return lines


def _advice(card: Card) -> list[str]:
    """What stands below the output: cause and next step, or how to stop it."""
    record, log = card.record, card.log
    lines = []
    if record.status.final:
        if record.message:
            lines.append(f"{record.reason}: {record.message}" if record.reason else record.message)
        lines += _missing(record)
    else:
        if record.reason and record.message:
            lines.append(record.message)
        elif record.progress:
            lines.append(record.progress)
        size = f"{count_of(log.count, 'line')} · {say_bytes(log.size)}" if log.count else ""
        as_of = f"as of {moment(card.now or record.observed_at)}"
        lines.append(" · ".join(word for word in (size, card.note, as_of) if word))
    return lines


def _missing(record: RunRecord) -> list[str]:
    lines = []
    for stream, lost in record.log_missing.items():
        much = f"{lost:,} bytes" if lost > 0 else "Some"
        lines.append(f"{much} of {stream} could not be kept: there was no room on the disk.")
    if record.overrun:
        lines.append(f"It ran {clock(record.overrun)} over its timeout: nobody watched it then.")
    return lines


def _advice_style(card: Card, index: int) -> str:
    if card.record.status.final and index == 0:
        return "margin-top:2px"
    return f"color:{_MUTED};font-size:0.92em"


def _short(command: str, limit: int = 100) -> str:
    text = terminal.plain(" ".join(command.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def table_text(records: Sequence[RunRecord], now: float) -> str:
    """Runs as an aligned table for a terminal."""
    if not records:
        return "No runs."
    rows = [("RUN", "STATUS", "NAME", "RUNNER", "TIME", "EXIT", "COMMAND")]
    for record in records:
        glyph, _ = GLYPHS[record.status]
        reason = f" {record.reason}" if record.reason else ""
        rows.append(
            (
                record.handle,
                f"{glyph} {record.status.lower()}{reason}",
                record.name,
                record.runner,
                clock(record.duration(now)),
                "" if record.exit_code is None else str(record.exit_code),
                _short(record.command, 60),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def details_text(record: RunRecord, spec_fact: dict[str, object], log_path: str) -> str:
    """Everything that is known of a run, one fact a line."""
    lines = [one_line(record)]
    if record.message:
        lines.append(f"  {record.message}")
    pairs = {
        "run id": record.run_id,
        "command": record.command,
        "folder": record.cwd,
        "notebook": record.notebook,
        "git commit": record.git_commit,
        "submitted": moment(record.created_at),
        "started": moment(record.started_at),
        "finished": moment(record.finished_at),
        "as of": "" if record.status.final else moment(record.observed_at),
        "cpu time": clock(record.cpu_time),
        "peak memory": say_bytes(record.peak_memory) if record.peak_memory else "",
        "backend": record.identity,
        "backend's id": record.uid,
        "labels": ", ".join(f"{k}={v}" for k, v in record.labels.items()),
        "output": log_path,
    }
    width = max(len(name) for name in pairs)
    lines += [f"  {name.ljust(width)}  {value}" for name, value in pairs.items() if value]
    spec = spec_fact.get("spec")
    script = spec.get("script") if isinstance(spec, dict) else None
    if script:
        lines += ["  script", *(f"    {line}" for line in str(script).splitlines())]
    return "\n".join(terminal.plain(line) for line in lines)


def still_running(record: RunRecord, now: float) -> str:
    """The line that greets after a restart: ``train (k3x9qd) still running 0:00:41``."""
    since = record.started_at or record.created_at
    state = "still running" if record.status is RunStatus.RUNNING else "still pending"
    why = f" · {record.message}" if record.message else ""
    return f"{record.title} {state} {ticking(max(0.0, now - since))}{why}"
