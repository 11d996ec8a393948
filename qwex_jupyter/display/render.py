"""Cards to HTML: pure functions. All escaping of cards lives here.

The HTML has to survive in a saved notebook, on a forge and under JupyterLab's sanitiser:
inline styles only, and hex colours that can be read on white and on black.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from qwex_jupyter.display.card import (
    DETACHED_LINES,
    LIVE_LINES,
    ROWS,
    SAVED_LINES,
    Card,
    advice_on,
    bounded,
    limit_of,
    told_below,
    usual_of,
)
from qwex_jupyter.display.colours import to_html
from qwex_jupyter.display.format import GLYPHS, UNREACHABLE, doing, facts_of, moment, since
from qwex_jupyter.display.progress import Progress
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain, short
from qwex_jupyter.model.units import say_bytes, say_count

_MUTED, _WARN = "#7a7f87", "#cf7920"
# What the HTML of one card may add to a saved notebook, and to the wire each time it is painted.
_SAVED_BYTES, _LIVE_BYTES = 26_000, 8_000
_SMALL = "font-size:0.92em"
_MONO = "font-family:monospace;line-height:1.35"
_PRE = (
    f"{_MONO};font-size:inherit;margin:0;padding:0;border:0;background:none;"
    "white-space:pre-wrap;word-break:break-word;flex:none"
)
# A command in a sentence: what a person would select and copy.
_COMMAND = re.compile(r"%qwex \w+(?: [a-z0-9]{6}\b)?(?: --[\w-]+ [\w.]+)*")


def card_html(card: Card) -> str:
    """The card as HTML."""
    record = card.record
    _, colour = GLYPHS[record.status]
    if record.status.final:
        shown = len(bounded(card.log.lines[-SAVED_LINES:], _SAVED_BYTES))
        foot = _cause_html(told_below(card, shown))
    else:
        foot = _foot_html(card)
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
    facts, ticks = map(html.escape, facts_of(record, card.now))
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
        f'title="{submitted}">{facts}{ticks}</span></div>'
    )


def _log_html(card: Card) -> str:
    record, log = card.record, card.log
    if not log.lines:
        pulls = record.reason == Reason.PULLING  # which is said below
        waits = not (record.status.final or card.compact or pulls)
        quiet = f'<div style="color:{_MUTED};{_SMALL}">waiting for output…</div>'
        return quiet if waits else ""
    if not record.status.final:
        return _newest_html(bounded(log.lines[-limit_of(card) :], _LIVE_BYTES), limit_of(card))
    lines = bounded(log.lines[-SAVED_LINES:], _SAVED_BYTES)
    newest = _newest_html(lines, ROWS, "auto")
    # What went well takes no more room than it did while it ran.
    live = DETACHED_LINES if card.compact else LIVE_LINES
    if not log.before(live if record.status is RunStatus.SUCCEEDED else ROWS):
        return newest
    count = "" if log.count is None else f"{say_count(log.count, 'line')}, "
    more = f", last {len(lines):,} shown" if log.before(len(lines)) else ""
    summary = f"output: {count}{say_bytes(log.size)}{more}"
    opened = "" if record.status is RunStatus.SUCCEEDED else " open"
    return (
        f'<details{opened}><summary style="color:{_MUTED};{_SMALL}">{summary}</summary>'
        f"{newest}</details>"
    )


def _newest_html(lines: Sequence[str], rows: int, overflow: str = "hidden") -> str:
    """Lines in so many rows: the newest show, also where long ones wrap, the oldest may not."""
    text = to_html("\n".join(lines))
    return (
        f'<div style="{_SMALL};{_MONO};margin:2px 0;display:flex;flex-direction:column-reverse;'
        f'max-height:{1.35 * rows:g}em;overflow:{overflow}">'
        f'<pre style="{_PRE}">{text}</pre></div>'
    )


def _cause_html(card: Card) -> str:
    """Below the output of what has ended: the cause, then the next step."""
    record = card.record
    _, colour = GLYPHS[record.status]
    weight = "normal" if record.status is RunStatus.CANCELLED else "bold"
    parts = []
    for index, line in enumerate(advice_on(card)):
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
    why, share = doing(card.record)
    facts, _, when = advice_on(card)[-1].rpartition("as of ")
    colour = f' style="color:{_WARN}"' if card.record.reason in UNREACHABLE else ""
    waits = f"<div{colour}>{_step_html(plain(why))}</div>" if why else ""
    return (
        f"{waits}{_progress_html(card, share)}"
        f'<div style="display:flex;gap:0 14px;flex-wrap:wrap;color:{_MUTED};{_SMALL}">'
        f"<span>{_step_html(facts.removesuffix(' · '))}</span> "
        '<span class="qwex-as-of" style="margin-left:auto;white-space:nowrap">'
        f"as of {html.escape(when)}</span></div>"
    )


def _progress_html(card: Card, pulled: int | None) -> str:
    """How far it is: of a pull, by the program's own word, or by how long it usually takes."""
    if pulled is not None:
        return _bar_html(Progress(pulled / 100, said=f"{pulled}%"), card.now)
    if card.progress is not None:
        return _bar_html(card.progress, card.now)
    usual, seconds = usual_of(card), card.usual_time
    if not usual or not seconds:
        return ""
    gone = min(1.0, max(0.0, card.now - since(card.record)) / seconds)
    return _row_html(
        f'<div style="flex:1;height:2px;background:{_MUTED}55"><div class="qwex-usual" '
        f'data-seconds="{seconds:.0f}" style="width:{100 * gone:.0f}%;height:2px;'
        f'background:{_MUTED}"></div></div>',
        usual,
    )


def _bar_html(progress: Progress, now: float) -> str:
    """How much of something is done, as a bar, in words and for a screen reader."""
    percent = progress.percent
    said = html.escape(plain(f"{progress.label} {progress.said}".strip()), quote=True)
    left = html.escape(progress.left(now))
    if left:  # a page that lives counts it down
        left = f'<span class="qwex-left" data-until="{progress.until:.1f}"> · {left}</span>'
    return _row_html(
        f'<div class="qwex-bar" role="progressbar" aria-label="progress" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}" aria-valuetext="{said}" '
        f'style="flex:1;border:1px solid {_MUTED};border-radius:4px;padding:1px">'
        f'<div style="width:{percent}%;height:5px;border-radius:2px;background:#1f7ad1"></div>'
        "</div>",
        f"{said}{left}",
    )


def _row_html(drawn: str, words: str) -> str:
    return (
        '<div style="display:flex;gap:0 10px;align-items:center;max-width:40em">'
        f'{drawn} <span style="color:{_MUTED};{_SMALL};font-variant-numeric:tabular-nums">'
        f"{words}</span></div>"
    )


def _step_html(text: str) -> str:
    """A sentence whose commands stand out."""
    # A command goes into the next line as a whole: one that is cut behind a dash reads as two.
    look = f"display:inline-block;background:none;padding:0;color:inherit;{_MONO};{_SMALL}"
    code = f'<code style="{look}">'
    return _COMMAND.sub(lambda found: f"{code}{found[0]}</code>", html.escape(text))


def note_html(text: str) -> str:
    """A quiet line."""
    return f'<div style="color:{_MUTED};{_SMALL}">{_step_html(plain(text))}</div>'
