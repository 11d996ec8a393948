"""Records to text and HTML: pure functions. All escaping of this package lives here.

The HTML has to survive in a saved notebook, on a forge and under JupyterLab's sanitiser:
inline styles only, and hex colours that can be read on white and on black.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from qwex_jupyter import terminal
from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import Reason, RunStatus, say_bytes, say_count

GLYPHS = {
    RunStatus.PENDING: ("○", "#7a7f87"),
    RunStatus.RUNNING: ("◐", "#1f7ad1"),
    RunStatus.SUCCEEDED: ("✓", "#2e9d4c"),
    RunStatus.FAILED: ("✗", "#e0453c"),
    RunStatus.CANCELLED: ("⊘", "#cf7920"),
    RunStatus.LOST: ("?", "#cf7920"),
}
_MUTED, _WARN = "#7a7f87", "#cf7920"
# While one of these holds, what is shown is what was last seen.
_UNREACHABLE = (Reason.BACKEND_UNREACHABLE, Reason.HOST_UNREACHABLE)
_SHARE = re.compile(r"([0-9]{1,3})%")
# An overrun below this is what a stop takes. Seconds.
_WORTH_SAYING = 2.0
LIVE_LINES = 15
_DETACHED_LINES = 3
_SAVED_LINES = 200
# So many rows of the output of what has ended are in sight; the others are scrolled to.
_ROWS = 20
# What one card may add to a saved notebook, and to the wire each time it is painted.
_SAVED_BYTES, _LIVE_BYTES, _TEXT_BYTES = 26_000, 8_000, 4_000
_SMALL = "font-size:0.92em"
_MONO = "font-family:monospace;line-height:1.35"
_PRE = (
    f"{_MONO};font-size:inherit;margin:0;padding:0;border:0;background:none;"
    "white-space:pre-wrap;word-break:break-word;flex:none"
)
# A command in a sentence: what a person would select and copy.
_COMMAND = re.compile(r"%qwex \w+(?: [a-z0-9]{6}\b)?(?: --[\w-]+ [\w.]+)*")


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


def log_view(log: RunLog, lines: int = _SAVED_LINES, streams: Sequence[str] = STREAMS) -> LogView:
    """The end of the output on disk, stdout before stderr."""
    screen = terminal.Screen(lines)
    for stream in streams:
        offset = 0
        while data := log.read(stream, offset, 1 << 20):
            screen.feed(stream, data)
            offset += len(data)
    return LogView(screen.tail(lines), screen.count, screen.bytes)


def clock(seconds: float | None) -> str:
    """A duration for people: ``0:00:41`` for what takes long, ``3.2s`` for what doesn't."""
    if seconds is None:
        return ""
    if seconds == int(seconds) and seconds < 60:  # of a backend with whole seconds
        return f"{seconds:.0f}s" if seconds else "<1s"
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


def facts_of(card: Card) -> str:
    """Where, what, how long: the quiet half of the header."""
    return "".join(_facts(card))


def since(record: RunRecord) -> float:
    """From when on the clock of what lives runs."""
    return record.started_at or record.created_at


def _facts(card: Card) -> tuple[str, str, str]:
    """What stands before a clock that ticks, the clock, and what stands behind it."""
    record = card.record
    words = [record.runner, record.image, record.handle]
    ticks = last = ""
    if record.status.final:
        words.append(clock(record.duration()))
        if record.exit_code is not None:
            words.append(f"exit {record.exit_code}")
    else:
        ticks = ticking(max(0.0, (card.now or record.observed_at) - since(record)))
        last = f" (last {clock(card.last_time)})" if card.last_time else ""
    before = terminal.plain(" · ".join(word for word in words if word))
    return (f"{before} · " if ticks else before), ticks, last


def one_line(record: RunRecord, now: float | None = None) -> str:
    """A run in one line of text, as of now or of another moment."""
    glyph, _ = GLYPHS[record.status]
    card = Card(record, now=time.time() if now is None else now)
    name = f"{short(record.name)}  " if record.name else ""
    return f"{glyph} {record.status.lower()}  {name}{short(record.command)}   {facts_of(card)}"


def card_text(card: Card) -> str:
    """The card as plain text."""
    shown = [terminal.plain(line) for line in card.log.lines[-_limit(card) :]]
    shown = _bounded(shown, _TEXT_BYTES)
    lines = [one_line(card.record, card.now)]
    if len(shown) < card.log.count:
        lines.append(f"  … {say_count(card.log.count - len(shown), 'line')} before")
    lines += [f"  {line}" for line in shown]
    lines += [f"  {line}" for line in _advice(card)]
    return "\n".join(lines)


def card_html(card: Card) -> str:
    """The card as HTML."""
    record = card.record
    _, colour = GLYPHS[record.status]
    foot = _cause_html(card) if record.status.final else _foot_html(card)
    place = f" qwex-card-{card.place}" if card.place else ""
    return (
        # The first two keep MathJax from reading `$x ... $y` of a command as a formula.
        f'<div class="tex2jax_ignore mathjax_ignore{place}" '
        f'style="border-left:3px solid {colour};padding:1px 0 1px 10px;margin:2px 0">'
        f"{_header_html(card)}{_log_html(card)}{foot}</div>"
    )


def _header_html(card: Card) -> str:
    """Status, name and command on the left, quiet facts on the right; one row where it fits.

    The spaces between the parts are for front ends that drop the styles.
    """
    record = card.record
    glyph, colour = GLYPHS[record.status]
    command = html.escape(short(record.command, 200), quote=True)
    name = html.escape(short(record.name))
    if name:
        cut = "white-space:nowrap;max-width:100%;overflow:hidden;text-overflow:ellipsis"
        name = f'<b style="{cut}">{name}</b> '
    submitted = html.escape(f"{record.run_id}, submitted {moment(record.created_at)}", quote=True)
    facts, ticks, last = map(html.escape, _facts(card))
    if ticks:  # a page that lives moves it on
        ticks = f'<span class="qwex-clock">{ticks}</span>'
    return (
        '<div style="display:flex;gap:0 14px;flex-wrap:wrap;align-items:baseline">'
        f'<span style="color:{colour};font-weight:bold;white-space:nowrap">'
        f"{glyph} {record.status.lower()}</span> {name}"
        # It takes the room that is left, and gives way before the facts do.
        '<code style="flex:1 1 14em;min-width:0;overflow:hidden;text-overflow:ellipsis;'
        f'white-space:nowrap;background:none;padding:0;{_MONO};{_SMALL}" title="{command}">'
        f"{command}</code> "
        # Names of images may be long: alone in its row it wraps.
        f'<span style="color:{_MUTED};{_SMALL};margin-left:auto;word-break:break-word" '
        f'title="{submitted}">{facts}{ticks}{last}</span></div>'
    )


def _log_html(card: Card) -> str:
    record, log = card.record, card.log
    if not log.lines:
        pulls = record.reason == Reason.PULLING  # which is said below
        waits = not (record.status.final or card.compact or pulls)
        quiet = f'<div style="color:{_MUTED};{_SMALL}">waiting for output…</div>'
        return quiet if waits else ""
    if not record.status.final:
        return _newest_html(_bounded(log.lines[-_limit(card) :], _LIVE_BYTES), _limit(card))
    lines = _bounded(log.lines[-_SAVED_LINES:], _SAVED_BYTES)
    newest = _newest_html(lines, _ROWS, "auto")
    # What went well takes no more room than it did while it ran.
    live = _DETACHED_LINES if card.compact else LIVE_LINES
    if log.count <= (live if record.status is RunStatus.SUCCEEDED else _ROWS):
        return newest
    more = f", last {len(lines):,} shown" if len(lines) < log.count else ""
    summary = f"output: {say_count(log.count, 'line')}, {say_bytes(log.size)}{more}"
    opened = "" if record.status is RunStatus.SUCCEEDED else " open"
    return (
        f'<details{opened}><summary style="color:{_MUTED};{_SMALL}">{summary}</summary>'
        f"{newest}</details>"
    )


def _newest_html(lines: Sequence[str], rows: int, overflow: str = "hidden") -> str:
    """Lines in so many rows: the newest show, also where long ones wrap, the oldest may not."""
    return (
        f'<div style="{_SMALL};{_MONO};margin:2px 0;display:flex;flex-direction:column-reverse;'
        f'max-height:{1.35 * rows:g}em;overflow:{overflow}">'
        f'<pre style="{_PRE}">{_to_html(lines)}</pre></div>'
    )


def _to_html(lines: Sequence[str]) -> str:
    return terminal.to_html("\n".join(lines))


def _limit(card: Card) -> int:
    if card.record.status.final:
        return _ROWS
    return _DETACHED_LINES if card.compact else LIVE_LINES


def _bounded(lines: Sequence[str], limit: int) -> list[str]:
    """As many last lines as fit into so many bytes of HTML; of one that is too long, its end."""
    left = limit
    kept: list[str] = []
    for line in reversed(lines):
        left -= len(terminal.to_html(line).encode()) + 1
        if left < 0:
            if not kept:
                # Without its colours, as a cut could go through one of them.
                kept.append(f"…{terminal.plain(line)[-limit // 8 :]}")
            break
        kept.append(line)
    return kept[::-1]


def _cause_html(card: Card) -> str:
    """Below the output of what has ended: the cause, then the next step."""
    record = card.record
    _, colour = GLYPHS[record.status]
    weight = "normal" if record.status is RunStatus.CANCELLED else "bold"
    parts = []
    for index, line in enumerate(_advice(card)):
        if index == 0 and record.message:
            cause, stop, step = line.partition(". ")
            parts.append(
                f'<div style="margin-top:2px"><span style="color:{colour};font-weight:{weight}">'
                f"{html.escape(cause + stop.strip())}</span> {_step_html(step)}</div>"
            )
        else:
            parts.append(f'<div style="color:{_MUTED};{_SMALL}">{_step_html(line)}</div>')
    return "".join(parts)


def _foot_html(card: Card) -> str:
    """Below the output of what lives: what it waits for, how much there is, as of when."""
    why, share = _doing(card.record)
    facts, _, when = _advice(card)[-1].rpartition("as of ")
    colour = f' style="color:{_WARN}"' if card.record.reason in _UNREACHABLE else ""
    doing = f"<div{colour}>{_step_html(terminal.plain(why))}</div>" if why else ""
    return (
        f"{doing}{_bar_html(share)}"
        f'<div style="display:flex;gap:0 14px;flex-wrap:wrap;color:{_MUTED};{_SMALL}">'
        f"<span>{_step_html(facts.removesuffix(' · '))}</span> "
        '<span class="qwex-as-of" style="margin-left:auto;white-space:nowrap">'
        f"as of {html.escape(when)}</span></div>"
    )


def _bar_html(share: int | None) -> str:
    """How much of something is done, of a hundred, as a bar with its number; "" for None."""
    if share is None:
        return ""
    return (
        '<div style="display:flex;gap:0 10px;align-items:center;max-width:30em">'
        f'<div style="flex:1;border:1px solid {_MUTED};border-radius:4px;padding:1px">'
        f'<div style="width:{share}%;height:5px;border-radius:2px;background:#1f7ad1"></div></div>'
        f' <span style="color:{_MUTED};{_SMALL}">{share}%</span></div>'
    )


def _doing(record: RunRecord) -> tuple[str, int | None]:
    """What keeps a live run from being what it shows, and how much of that is done, of 100."""
    share = _SHARE.fullmatch(record.progress)
    said = record.message or ("" if share else record.progress)
    return said, min(100, int(share[1])) if share else None


def _step_html(text: str) -> str:
    """A sentence whose commands stand out."""
    # A command goes into the next line as a whole: one that is cut behind a dash reads as two.
    look = f"display:inline-block;background:none;padding:0;color:inherit;{_MONO};{_SMALL}"
    code = f'<code style="{look}">'
    return _COMMAND.sub(lambda found: f"{code}{found[0]}</code>", html.escape(text))


def _advice(card: Card) -> list[str]:
    """What stands below the output: cause and next step, or how to stop it."""
    record, log = card.record, card.log
    lines = []
    if record.status.final:
        if record.message:
            lines.append(f"{record.reason}: {record.message}" if record.reason else record.message)
        lines += _missing(record)
    else:
        said, share = _doing(record)
        done = "" if share is None else f"{share}%"
        if said or done:
            lines.append(f"{said} {done}".strip())
        size = f"{say_count(log.count, 'line')} · {say_bytes(log.size)}" if log.count else ""
        lines.append(" · ".join(word for word in (size, card.note, as_of(card)) if word))
    return [terminal.plain(line) for line in lines]


def as_of(card: Card) -> str:
    """When what a live card shows was so."""
    record = card.record
    seen = record.observed_at if record.reason in _UNREACHABLE else card.now
    return f"as of {moment(seen or record.observed_at)}"


def _missing(record: RunRecord) -> list[str]:
    lines = []
    if record.missing:
        lines.append(f"Output is missing: {record.missing}.")
    for stream, lost in record.log_missing.items():
        if lost < 0 and record.missing:
            continue  # said above
        if lost < 0:
            lines.append(
                f"Some of {stream} may be missing: what kept it was killed or restarted while it "
                "ran, or could not read or write it."
            )
            continue
        lines.append(
            f"{lost:,} bytes of {stream} could not be kept"
            + ("." if record.missing else ": there was no room on the disk.")
        )
    if record.left:
        lines.append(f"What it had left running was ended: {record.left}.")
    if record.overrun and record.overrun >= _WORTH_SAYING:
        over = clock(record.overrun)
        lines.append(f"It ran {over} over its timeout: its grace, and while nobody watched it.")
    return lines


def short(text: str, limit: int = 100) -> str:
    """In one line, and not longer than that."""
    text = terminal.plain(" ".join(text.split()))
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
                short(record.name),
                short(record.runner),
                clock(record.duration(now)),
                "" if record.exit_code is None else str(record.exit_code),
                short(record.command, 60),
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
    lines += [f"  {line}" for line in _missing(record)]
    pairs = details(record, log_path)
    width = max(len(name) for name in pairs)
    lines += [f"  {name.ljust(width)}  {value}" for name, value in pairs.items() if value]
    if record.said:
        lines += ["  the backend's own words", *(f"    {line}" for line in record.said.split("\n"))]
    spec = spec_fact.get("spec")
    script = spec.get("script") if isinstance(spec, dict) else None
    if script:
        lines += ["  script", *(f"    {line}" for line in str(script).splitlines())]
    return "\n".join(terminal.plain(line) for line in lines)


def details(record: RunRecord, log_path: str) -> dict[str, str]:
    """The facts about a run by what they are called; "" for what isn't known of it."""
    return {
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
        "image digest": record.image_digest,
        "backend": record.identity,
        "backend's id": record.uid,
        "labels": ", ".join(f"{k}={v}" for k, v in record.labels.items()),
        "output": log_path,
    }


def stopping_text(record: RunRecord, now: float | None = None) -> str:
    """A run that was asked to stop: its line, and as long as it goes on, how long it still may."""
    line = one_line(record, now)
    said = "" if record.status.final else terminal.plain(record.message)
    return f"{line}\n  {said}" if said else line


def still_running(record: RunRecord, now: float) -> str:
    """The line that greets after a restart: ``train (k3x9qd) still running 0:00:41``."""
    since = record.started_at or record.created_at
    state = "still running" if record.status is RunStatus.RUNNING else "still pending"
    why = f" · {record.message.removesuffix('.')}" if record.message else ""
    return terminal.plain(f"{record.title} {state} {ticking(max(0.0, now - since))}{why}")
