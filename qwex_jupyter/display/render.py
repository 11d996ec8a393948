"""Cards to HTML: pure functions. All escaping of cards lives here.

The HTML has to survive in a saved notebook, on a forge and under JupyterLab's sanitiser:
inline styles only. Text has the colour of the page's text, so that it can be read on each ground;
a status is told by a glyph and a bar, whose colours have 3 : 1 on light and on dark.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from itertools import groupby

from qwex_jupyter.display.card import (
    SAVED_LINES,
    STDERR,
    Card,
    advice_on,
    bounded,
    facts_on,
    stream_of,
    told_below,
    usual_of,
)
from qwex_jupyter.display.colours import FILLED, LINE, QUIET, WARN, to_html
from qwex_jupyter.display.format import (
    GLYPHS,
    UNREACHABLE,
    as_of,
    doing,
    facts_of,
    moment,
    since,
)
from qwex_jupyter.display.progress import Progress
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain, short
from qwex_jupyter.model.units import say_bytes, say_count

# What the HTML of one card may add to a saved notebook, and to the wire each time it is painted.
_SAVED_BYTES, _LIVE_BYTES = 26_000, 12_000
_SMALL = "font-size:0.92em"
_MONO = "font-family:monospace;line-height:1.35"
_PRE = (
    f"{_MONO};font-size:inherit;margin:0;padding:0 0 0 8px;border:0;background:none;"
    "white-space:pre-wrap;word-break:break-word;flex:none"
)
_ROW = f"{QUIET};{_SMALL}"
# What tells lines of stderr apart, with an eye on `APART`.
_STDERR = (
    "display:inline-block;vertical-align:top;width:100%;box-sizing:border-box;margin-left:-6px;"
    "padding-left:4px;border-left:2px solid #c2578a"
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
    submitted = html.escape(f"{record.run_id}, submitted {moment(record.created_at)}", quote=True)
    facts, ticks = map(html.escape, facts_of(record, card.now))
    if ticks:  # a page that lives moves it on
        ticks = f'<span class="qwex-clock">{ticks}</span>'
    return (
        '<div style="display:flex;gap:0 14px;flex-wrap:wrap;align-items:baseline">'
        # One item: the cause stands beside the status however little room there is.
        f'<span><b style="white-space:nowrap">{status_html(record.status)}</b>'
        f"{_cause_html(record)}</span> {_title_html(card)}"
        # Names of images may be long: alone in its row it wraps.
        f'<span style="{QUIET};{_SMALL};margin-left:auto;word-break:break-word" '
        f'title="{submitted}">{facts}{ticks}</span></div>'
    )


def _title_html(card: Card) -> str:
    """Name and command; of a run whose cell stands right above only the name, which it may lack."""
    record = card.record
    title = ""
    if record.name:
        cut = "white-space:nowrap;max-width:100%;overflow:hidden;text-overflow:ellipsis"
        title = f'<b style="{cut}">{html.escape(short(record.name))}</b> '
    if card.below:
        return title
    command = html.escape(short(record.command, 200), quote=True)
    return (
        f"{title}"
        # It takes the room that is left, and gives way before the facts do.
        '<code style="flex:1 1 14em;min-width:0;overflow:hidden;text-overflow:ellipsis;'
        f'white-space:nowrap;background:none;padding:0;{_MONO};{_SMALL}" title="{command}">'
        f"{command}</code> "
    )


def _log_html(card: Card) -> str:
    """A row of facts, and below it the output: the same rows while it lives and when it has ended.

    Folding is the reader's: nothing does it by itself.
    """
    record, log = card.record, card.log
    if not record.status.final:
        newest = bounded(log.lines[-card.rows :], _LIVE_BYTES)
        return _facts_html(card) + (_newest_html(newest, card.rows) if newest else "")
    lines = bounded(log.lines[-SAVED_LINES:], _SAVED_BYTES)
    if not (card.lived or log.before(card.rows)):
        return _newest_html(lines, card.rows) if lines else ""
    if not lines:
        none = f'<div style="{_ROW}">no output</div>'
        return none if record.status is RunStatus.SUCCEEDED else ""
    count = "" if log.count is None else f"{say_count(log.count, 'line')}, "
    more = f", last {len(lines):,} shown" if log.before(len(lines)) else ""
    summary = f"output: {count}{say_bytes(log.size)}{more}"
    return (
        f'<details open><summary style="{_ROW}">{summary}</summary>'
        f"{_newest_html(lines, card.rows)}</details>"
    )


def _facts_html(card: Card) -> str:
    """Above the output of what lives: how much there is, what can be done, as of when.

    The last is for whoever reads it later: a page that is told each second hides it.
    """
    record = card.record
    facts = _step_html(facts_on(card))
    # Of a pull it is said below.
    if not (card.log.lines or card.compact or record.reason == Reason.PULLING):
        facts = " · ".join(word for word in ("waiting for output…", facts) if word)
    old = " qwex-old" if record.reason in UNREACHABLE else ""
    # One row whatever comes and goes in it, so that nothing below it moves.
    cut = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    when = html.escape(as_of(record, card.now), quote=True)
    return (
        '<div style="display:flex;gap:0 14px;align-items:center">'
        f'<span style="flex:0 1 auto;min-width:0;{cut};{_ROW}">{facts}</span> '
        f"{_progress_html(card)}"
        # This gives way first, to where its title tells it.
        f'<span class="qwex-as-of{old}" title="{when}" style="margin-left:auto;flex:0 99 auto;'
        f'min-width:4em;{cut};{_ROW}">{when}</span></div>'
    )


def _newest_html(lines: Sequence[str], rows: int) -> str:
    """Lines in so many rows: the newest show, also where long ones wrap; the others by scrolling.

    A box of more lines than rows has just those rows, and a corner by which a reader makes it
    larger.
    """
    height = f"{1.35 * rows:g}em"
    size = f"height:{height};resize:vertical" if len(lines) > rows else f"max-height:{height}"
    return (
        # So far to the left that there is room for what tells stderr apart.
        f'<div class="qwex-log" style="{_SMALL};{_MONO};margin:2px 0 2px -8px;'
        f'display:flex;flex-direction:column-reverse;overflow:auto;{size}">'
        f'<pre style="{_PRE}">{_lines_html(lines)}</pre></div>'
    )


def _lines_html(lines: Sequence[str]) -> str:
    """Lines as HTML; those of stderr stand together, and have a mark and a name.

    The name is a title, as a sanitiser may leave no other.
    """
    parts = []
    for stream, block in groupby(lines, stream_of):
        text = to_html("\n".join(block))
        # Set apart within its line, so that what is copied has no empty lines around it.
        parts.append(
            f'<span role="group" title="stderr" style="{_STDERR}">{text}</span>'
            if stream == STDERR
            else text
        )
    return "\n".join(parts)


def _cause_html(record: RunRecord) -> str:
    """Beside the status of what has ended: why; "" where there is nothing to say."""
    if not record.cause:
        return ""
    weight = "normal" if record.status is RunStatus.CANCELLED else "bold"
    look = f"font-weight:{weight};word-break:break-word;margin-left:0.6em"
    return f' <span style="{look}">{html.escape(plain(record.cause))}</span>'


def _advice_html(card: Card) -> str:
    """Below the output of what has ended: the next step, and what is missing."""
    quiet = f"{QUIET};{_SMALL}"
    return "".join(f'<div style="{quiet}">{_step_html(line)}</div>' for line in advice_on(card))


def _foot_html(card: Card) -> str:
    """Below the output of what lives: what it waits for, and how far a pull is."""
    why, share = doing(card.record)
    mark = f'<span style="color:{WARN}">⚠</span> ' if card.record.reason in UNREACHABLE else ""
    waits = f"<div>{mark}{_step_html(plain(why))}</div>" if why else ""
    return waits if share is None else waits + _bar_html(Progress(share / 100, said=f"{share}%"), 0)


def _progress_html(card: Card) -> str:
    """How far a program is, by its own word, or by how long it usually takes."""
    if doing(card.record)[1] is not None:
        return ""  # of a pull, which is told below
    if card.progress is not None:
        return _bar_html(card.progress, card.now)
    usual, seconds = usual_of(card), card.usual_time
    if not usual or not seconds:
        return ""
    gone = min(1.0, max(0.0, card.now - since(card.record)) / seconds)
    return _row_html(
        f'<div style="flex:1;height:2px;background:{LINE}55"><div class="qwex-usual" '
        f'data-seconds="{seconds:.0f}" style="width:{100 * gone:.0f}%;height:2px;'
        f'background:{LINE}"></div></div>',
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
        f'style="flex:1;border:1px solid {LINE};border-radius:4px;padding:1px">'
        f'<div style="width:{percent}%;height:5px;border-radius:2px;background:{FILLED}"></div>'
        "</div>",
        f"{said}{left}",
    )


def _row_html(drawn: str, words: str) -> str:
    return (
        '<div style="display:flex;gap:0 10px;align-items:center;flex:1 1 10em;max-width:40em;'
        f'white-space:nowrap">{drawn} <span style="{_ROW};font-variant-numeric:tabular-nums">'
        f"{words}</span></div> "
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
