"""Runs as rows of cells, and these as lines of text or as a table of HTML.

Which columns there are depends on what tells the runs apart, and on the room. All escaping of
these cells lives here.
"""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from qwex_jupyter.display.colours import QUIET
from qwex_jupyter.display.format import GLYPHS, took
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.cause import of_message
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.model.text import fitted, padded, short, width_of, without_secrets
from qwex_jupyter.model.units import ago, say_bytes

if TYPE_CHECKING:
    from qwex_jupyter.history.folders import RunFolders

Words: TypeAlias = Mapping[str, Mapping[str, str]]

# So many variables and labels have a column, those that most runs have; and of as many runs as
# that the specs are read for them.
_VARYING, _SPECS = 3, 100
# So much of a command, of a variable's value, and of a name.
_COMMAND, _VALUE, _NAME = 200, 16, 40
# The room of a page, in characters: a narrow window shows them all.
_PAGE = 96
# A column that gives way keeps that much, and a part of a cell that would show less is left out.
_LEAST = 6
# Variables whose names say that nobody is to read them.
_SECRET = re.compile(r"(?i)secret|token|passw|credential|(^|_)(key|pwd|auth)($|_)")

_MONO = "font-family:monospace;font-size:0.92em"
_CELL = "text-align:left;padding:2px 14px 2px 0;border:0;vertical-align:top;white-space:nowrap"
# What takes the room that the others leave, and gives way first.
_GIVES_WAY = "overflow:hidden;text-overflow:ellipsis;max-width:0"


@dataclass(frozen=True)
class Cell:
    """What stands in a row below a column's name.

    Attributes:
        parts: Texts, each with how it looks in HTML.
        title: What a page says of it to who points at it.
    """

    parts: Sequence[tuple[str, str]] = ()
    title: str = ""

    def text(self, width: int | None = None) -> str:
        """In so many columns of a terminal; a part of which little could be seen is left out."""
        texts = [text for text, _ in self.parts]
        whole = "".join(texts)
        if width is None or width_of(whole) <= width:
            return whole
        before = "".join(texts[:-1])
        return fitted(before if before and width - width_of(before) < _LEAST else whole, width)

    def html(self) -> str:
        """With its looks."""
        return "".join(
            f'<span style="{look}">{html.escape(text)}</span>' if look else html.escape(text)
            for text, look in self.parts
        )


@dataclass(frozen=True)
class Column:
    """A column of a table of runs.

    Attributes:
        name: What stands above it.
        cells: One for each run.
        rank: Where there is no room, the column with the highest goes first; 0 never goes.
        least: It gives way to so many columns of a terminal; 0 for not at all.
    """

    name: str
    cells: Sequence[Cell]
    rank: int = 0
    least: int = 0
    widths: Sequence[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        widths = [width_of(self.name), *(width_of(cell.text()) for cell in self.cells)]
        object.__setattr__(self, "widths", widths)

    @property
    def natural(self) -> int:
        """The width that shows all of it."""
        return max(self.widths)

    @property
    def narrow(self) -> int:
        """The least width that it can have."""
        return min(self.natural, self.least or self.natural)


def alike(records: Sequence[RunRecord]) -> list[str]:
    """What is the same of all of these runs: what they are called, and where they ran."""
    asked = [of for _, of in _WHERE]
    if len(records) > 1:  # else the row says it
        asked = [_NAMED, _RAN, *asked]
    said = (max(map(of, records)) for of in asked if records and _same(records, of))
    return [short(words, 60) for words in said if words]


def columns(
    records: Sequence[RunRecord], now: float, env: Words | None = None, room: int | None = None
) -> list[Column]:
    """The columns of a table of runs, as many as there is room for.

    Args:
        records: The runs.
        now: When this is shown, seconds since the epoch.
        env: The variables that each was given, by its run id; see `env_of`.
        room: How wide the table may be, in characters; None for as wide as it gets.
    """
    found = [column for column in _all(records, now, env or {}) if any(column.widths[1:])]
    while room is not None and sum(c.narrow for c in found) + 2 * (len(found) - 1) > room:
        last = max(found, key=lambda column: column.rank)
        if not last.rank:
            break
        found.remove(last)
    return found


def lines(found: Sequence[Column], room: int | None = None) -> list[str]:
    """Columns as aligned lines, the names first."""
    widths = _widths(found, room)
    rows = zip(*([column.name, *column.cells] for column in found), strict=True)
    return ["  ".join(_line(row, widths)).rstrip() for row in rows]


def table(found: Sequence[Column]) -> str:
    """Columns as a table of HTML."""
    give = [column for column in found if column.least and column.natural > column.least]
    share = sum(column.natural for column in give)
    styles = [
        f"{_CELL};{_GIVES_WAY};width:{100 * column.natural // share}%" if column in give else _CELL
        for column in found
    ]
    head = "".join(
        f'<th style="{style};font-weight:normal"><span style="{QUIET}">'
        f"{html.escape(column.name)}</span></th>"
        for column, style in zip(found, styles, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(map(_td, row, styles)) + "</tr>"
        for row in zip(*(column.cells for column in found), strict=True)
    )
    least = sum(column.narrow + 2 for column in found)
    most = sum(column.natural + 2 for column in found)
    look = f"width:100%;min-width:{0.45 * least:.0f}em;max-width:{0.62 * most:.0f}em;"
    return (
        f'<table style="{look if give else ""}table-layout:auto;border-collapse:collapse;margin:0">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def page(records: Sequence[RunRecord], now: float, env: Words | None = None) -> str:
    """Runs as a table of HTML that has room in a page."""
    return table(columns(records, now, env, _PAGE))


def env_of(folders: RunFolders, records: Sequence[RunRecord]) -> Words:
    """The variables that runs were given in plain words, by run id; not one that is a secret.

    What is inherited, read from a file or a secret stands in nothing that we write.

    Args:
        folders: Whose runs.
        records: The runs; of many only the first are looked at.
    """
    found: dict[str, Mapping[str, str]] = {}
    for record in records[:_SPECS]:
        try:
            env = folders.spec_fact(record.run_id)["spec"].get("env") or {}
            found[record.run_id] = {
                name: without_secrets(value)
                for name, value in env.items()
                if isinstance(value, str) and not _SECRET.search(name)
            }
        except (QwexError, OSError, AttributeError):
            continue  # deleted meanwhile, or it can't be read
    return found


def why(record: RunRecord) -> str:
    """What a row says behind the status: what it waits for, or why it is no success."""
    if record.status is RunStatus.SUCCEEDED:
        return ""
    if not record.status.final:
        return record.message or record.reason
    return record.cause or of_message(record.message) or record.reason


_Asks: TypeAlias = "Callable[[RunRecord], str]"
_NAMED: _Asks = attrgetter("name")
_RAN: _Asks = attrgetter("command")
_WHERE: tuple[tuple[str, _Asks], ...] = (
    ("runner", attrgetter("runner")),
    ("image", attrgetter("image")),
    ("notebook", lambda record: os.path.basename(record.notebook)),
)


def _same(records: Sequence[RunRecord], of: _Asks) -> bool:
    # Which runner it was isn't known of a run that can't be read.
    return len({of(record) for record in records if record.runner}) <= 1


def _all(records: Sequence[RunRecord], now: float, env: Words) -> Iterator[Column]:
    """Every column that there could be, in their order."""
    handles = [Cell([(record.handle, _MONO)], record.run_id) for record in records]
    yield Column("run", handles)
    yield Column("status", list(map(_status, records)), least=28)
    yield from _what(records)
    for place, (key, values) in enumerate(_varying(records, env)):
        rank = (2, 4, 5)[place]
        yield Column(key, [_said(value, _VALUE) for value in values], rank)
    for place, (key, of) in enumerate(_WHERE):
        places = [of(record) for record in records]
        if not _same(records, of):
            # Where there is no room for the images, the runners know them.
            titles = [record.image if key == "runner" else "" for record in records]
            cells = map(_said, places, repeat(_NAME), titles)
            yield Column(key, list(cells), (6, 7, 9)[place])
    yield Column("submitted", [_submitted(record, now) for record in records], 1)
    yield Column("time", [_said(took(record, now)) for record in records])
    yield Column("memory", [_said(_peak(record)) for record in records], 8)
    yield Column(
        "exit", [_said(str(record.exit_code) if record.tells_code else "") for record in records], 3
    )


def _said(text: str, most: int = 100, title: str = "") -> Cell:
    cut = short(text, most)
    return Cell([(cut, "")], short(text if cut != text else title, _COMMAND))


def _status(record: RunRecord) -> Cell:
    glyph, colour = GLYPHS[record.status]
    cause = short(why(record), 120)
    said = [cause, "" if record.status is RunStatus.SUCCEEDED else short(record.message, 300)]
    title = " · ".join(word for word in dict.fromkeys(said) if word)
    parts = [(glyph, f"color:{colour}"), (f" {record.status.lower()}", "")]
    return Cell([*parts, (f"  {cause}", "margin-left:0.4em")] if cause else parts, title)


def _what(records: Sequence[RunRecord]) -> Iterator[Column]:
    """What the runs are: name and command, as far as these tell them apart."""
    one = len(records) == 1
    by_name, by_command = (one or not _same(records, of) for of in (_NAMED, _RAN))
    by_name = by_name and any(record.name for record in records)
    cells = []
    for record in records:
        command = short(record.command, _COMMAND)
        parts = [(short(record.name, _NAME), "font-weight:bold")] if by_name else []
        parts = [part for part in parts if part[0]]
        if by_command and command:
            parts.append((f"  {command}" if parts else command, _MONO))
        cells.append(Cell(parts, command))
    head = ["name"] * by_name + ["command"] * by_command
    if head:
        yield Column(", ".join(head), cells, least=14)


def _submitted(record: RunRecord, now: float) -> Cell:
    if not record.created_at:
        return Cell()  # it can't be read
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created_at))
    return Cell([(ago(record.created_at, now), "")], f"submitted {at}")


def _peak(record: RunRecord) -> str:
    return say_bytes(record.peak_memory) if record.peak_memory else ""


def _varying(records: Sequence[RunRecord], env: Words) -> list[tuple[str, list[str]]]:
    """The variables and labels that differ between the runs, with the value that each has."""
    given: dict[tuple[str, str], list[str]] = {}
    for place, record in enumerate(records):
        for kind, pairs in (("env", env.get(record.run_id, {})), ("label", record.labels)):
            for key, value in pairs.items():
                given.setdefault((kind, key), [""] * len(records))[place] = value
    differ = []
    for (_, key), values in given.items():
        have = len(values) - values.count("")
        # What one of many has says nothing of the others.
        if len(set(values)) > 1 and (have > 1 or 2 * have >= len(values)):
            differ.append((-have, key, values))
    differ.sort(key=lambda found: found[0])
    return [(short(key, _VALUE), values) for _, key, values in differ[:_VARYING]]


def _widths(found: Sequence[Column], room: int | None) -> list[int]:
    """How wide each column is: those that give way share what the others leave."""
    widths = [column.natural for column in found]
    over = 0 if room is None else sum(widths) + 2 * (len(found) - 1) - room
    for _ in range(over):
        give = [place for place, column in enumerate(found) if widths[place] > column.narrow]
        give = give or [
            place for place, column in enumerate(found) if column.least and widths[place] > _LEAST
        ]
        if not give:
            break
        widths[max(give, key=widths.__getitem__)] -= 1  # the widest first
    return widths


def _line(row: Sequence[str | Cell], widths: Sequence[int]) -> Iterator[str]:
    for cell, width in zip(row, widths, strict=True):
        yield padded(fitted(cell, width) if isinstance(cell, str) else cell.text(width), width)


def _td(cell: Cell, style: str) -> str:
    title = f' title="{html.escape(cell.title)}"' if cell.title else ""
    return f'<td style="{style}"{title}>{cell.html()}</td>'
