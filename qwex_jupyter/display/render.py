"""Cards to HTML: pure functions. All escaping of cards lives here.

The HTML has to survive in a saved notebook, on a forge and under JupyterLab's sanitiser:
inline styles only. Text has the colour of the page's text, so that it can be read on each ground;
a status is told by a glyph and a bar, whose colours have 3 : 1 on light and on dark.
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
)
from qwex_jupyter.display.colours import FILLED, LINE, QUIET, WARN, to_html
from qwex_jupyter.display.format import GLYPHS, UNREACHABLE, doing, facts_of, moment
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain, short
from qwex_jupyter.model.units import say_bytes, say_count

# What the HTML of one card may add to a saved notebook, and to the wire each time it is painted.
_SAVED_BYTES, _LIVE_BYTES = 26_000, 12_000
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
        foot = _advice_html(told_below(card, shown))
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
    command = html.escape(short(record.command, 200), quote=True)
    name = html.escape(short(record.name))
    if name:
        cut = "white-space:nowrap;max-width:100%;overflow:hidden;text-overflow:ellipsis"
        name = f'<b style="{cut}">{name}</b> '
    submitted = html.escape(f"{record.run_id}, submitted {moment(record.created_at)}", quote=True)
    facts, ticks, last = map(html.escape, facts_of(record, card.now, card.last_time))
    if ticks:  # a page that lives moves it on
        ticks = f'<span class="qwex-clock">{ticks}</span>'
    return (
        '<div style="display:flex;gap:0 14px;flex-wrap:wrap;align-items:baseline">'
        f'<b style="white-space:nowrap">{status_html(record.status)}</b> '
        f"{_cause_html(record)}{name}"
        # It takes the room that is left, and gives way before the facts do.
        '<code style="flex:1 1 14em;min-width:0;overflow:hidden;text-overflow:ellipsis;'
        f'white-space:nowrap;background:none;padding:0;{_MONO};{_SMALL}" title="{command}">'
        f"{command}</code> "
        # Names of images may be long: alone in its row it wraps.
        f'<span style="{QUIET};{_SMALL};margin-left:auto;word-break:break-word" '
        f'title="{submitted}">{facts}{ticks}{last}</span></div>'
    )


def _log_html(card: Card) -> str:
    record, log = card.record, card.log
    if not log.lines:
        pulls = record.reason == Reason.PULLING  # which is said below
        waits = not (record.status.final or card.compact or pulls)
        quiet = f'<div style="{QUIET};{_SMALL}">waiting for output…</div>'
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
        f'<details{opened}><summary style="{QUIET};{_SMALL}">{summary}</summary>{newest}</details>'
    )


def _newest_html(lines: Sequence[str], rows: int, overflow: str = "hidden") -> str:
    """Lines in so many rows: the newest show, also where long ones wrap, the oldest may not."""
    text = to_html("\n".join(lines))
    return (
        f'<div style="{_SMALL};{_MONO};margin:2px 0;display:flex;flex-direction:column-reverse;'
        f'max-height:{1.35 * rows:g}em;overflow:{overflow}">'
        f'<pre style="{_PRE}">{text}</pre></div>'
    )


def _cause_html(record: RunRecord) -> str:
    """Beside the status of what has ended: why; "" where there is nothing to say."""
    if not record.cause:
        return ""
    weight = "normal" if record.status is RunStatus.CANCELLED else "bold"
    look = f"font-weight:{weight};word-break:break-word"
    return f'<span style="{look}">{html.escape(plain(record.cause))}</span> '


def _advice_html(card: Card) -> str:
    """Below the output of what has ended: the next step, and what is missing."""
    quiet = f"{QUIET};{_SMALL}"
    return "".join(f'<div style="{quiet}">{_step_html(line)}</div>' for line in advice_on(card))


def _foot_html(card: Card) -> str:
    """Below the output of what lives: what it waits for, how much there is, as of when."""
    why, share = doing(card.record)
    facts, _, when = advice_on(card)[-1].rpartition("as of ")
    mark = f'<span style="color:{WARN}">⚠</span> ' if card.record.reason in UNREACHABLE else ""
    waits = f"<div>{mark}{_step_html(plain(why))}</div>" if why else ""
    return (
        f"{waits}{_bar_html(share)}"
        f'<div style="display:flex;gap:0 14px;flex-wrap:wrap;{QUIET};{_SMALL}">'
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
        f'<div style="flex:1;border:1px solid {LINE};border-radius:4px;padding:1px">'
        f'<div style="width:{share}%;height:5px;border-radius:2px;background:{FILLED}"></div></div>'
        f' <span style="{QUIET};{_SMALL}">{share}%</span></div>'
    )


def _step_html(text: str) -> str:
    """A sentence whose commands stand out."""
    # A command goes into the next line as a whole: one that is cut behind a dash reads as two.
    look = f"display:inline-block;background:none;padding:0;color:inherit;{_MONO};{_SMALL}"
    code = f'<code style="{look}">'
    return _COMMAND.sub(lambda found: f"{code}{found[0]}</code>", html.escape(text))


def status_html(status: RunStatus) -> str:
    """The glyph of a status in its colour, and its word in that of the text around it."""
    glyph, colour = GLYPHS[status]
    return f'<span style="color:{colour}">{glyph}</span> {status.lower()}'


def note_html(text: str) -> str:
    """A quiet line."""
    return f'<div style="{QUIET};{_SMALL}">{_step_html(plain(text))}</div>'
