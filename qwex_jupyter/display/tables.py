"""Many runs as text and as HTML, as they stand in a saved notebook.

What `render` says of its HTML holds here: it has to survive without styles or scripts of ours.
"""

from __future__ import annotations

import html
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwex_jupyter.display.colours import QUIET
from qwex_jupyter.display.format import moment, table_text, took
from qwex_jupyter.display.render import status_html
from qwex_jupyter.history import cache, columns
from qwex_jupyter.history.columns import Words
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.model.text import short
from qwex_jupyter.model.units import say_count

if TYPE_CHECKING:
    from qwex_jupyter.history.history import RunHistory

# So many of the newest stand in a table.
ROWS = 20
# So much of a reason's sentence.
_TEXT = 120

_CELL = "text-align:left;padding:2px 12px 2px 0;border:0;vertical-align:top"
_ONE_LINE = f"{_CELL};white-space:nowrap"
_MONO = "font-family:monospace;font-size:0.92em;background:none;padding:0"


def new_place() -> str:
    """A name for a display, which is also the end of a class's name in its HTML."""
    return uuid.uuid4().hex[:16]


def of_history(history: RunHistory, note: str = "") -> Table:
    """The newest runs, by files alone.

    Args:
        history: All of them.
        note: What else is to be said below.
    """
    found, order = cache.look(history)
    status = found["status"]
    assert isinstance(status, Words)
    counts = Counter(status.values[status.codes[number]] for number in order)
    records = [columns.record_at(found, number) for number in order[:ROWS]]
    return Table(records, counts, time.time(), note=note)


@dataclass(frozen=True)
class Table:
    """Some runs, and how many there are in all.

    Attributes:
        records: The runs that are shown, in their order.
        counts: How many there are of each status; {} where these are all.
        now: When this is shown, seconds since the epoch.
        place: Which display it is; "" for none.
        note: What else is to be said below it.
    """

    records: Sequence[RunRecord]
    counts: Mapping[str, int] = field(default_factory=dict)
    now: float = 0.0
    place: str = ""
    note: str = ""

    @property
    def _sum(self) -> str:
        counts = self.counts or Counter(str(record.status) for record in self.records)
        found = {status: counts.get(status, 0) for status in map(str, RunStatus)}
        parts = [f"{count:,} {status.lower()}" for status, count in found.items() if count]
        return " · ".join([say_count(sum(found.values()), "run"), *parts])

    def headline(self) -> dict[str, str]:
        """One line: how many of what, as of when."""
        text = f"{self._sum} · as of {moment(self.now)}"
        return {
            "text/plain": text,
            "text/html": f'<div style="{QUIET};font-size:0.92em">{html.escape(text)}</div>',
        }

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([self.rows_text(), *self._foot()])

    def rows_text(self) -> str:
        """Its rows alone, for a terminal."""
        return table_text(self.records, self.now)

    def html(self) -> str:
        """For a notebook."""
        head = "".join(
            f'<th style="{_ONE_LINE};{QUIET};font-weight:normal">{word}</th>'
            for word in ("run", "status", "name", "runner", "time", "exit", "command")
        )
        rows = "".join(map(self._row, self.records))
        foot = "<br>".join(map(html.escape, self._foot()))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        name = f"qwex-table qwex-table-{self.place}" if self.place else "qwex-table"
        return (
            f'<div class="tex2jax_ignore mathjax_ignore {name}" '
            f'style="max-width:100%;overflow:auto">{table if self.records else ""}'
            f'<div style="{QUIET};font-size:0.92em">{foot}</div></div>'
        )

    def bundle(self) -> dict[str, str]:
        """Both."""
        return {"text/plain": self.text(), "text/html": self.html()}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.bundle()

    def __repr__(self) -> str:
        return self.text()

    def _foot(self) -> list[str]:
        if self.records:
            total = sum(self.counts.values()) or len(self.records)
            which = "" if total == len(self.records) else f"the newest {len(self.records)} of "
            line = f"{which}{self._sum} · as of {moment(self.now)}"
        else:
            line = "No runs yet. Start one: write %%qwex above the code of a cell."
        return [line, self.note] if self.note else [line]

    def _row(self, record: RunRecord) -> str:
        why = record.cause or ("" if record.status.final else record.message)
        command = short(record.command, 70)
        cells = [
            (_ONE_LINE, f'<code style="{_MONO}">{html.escape(record.handle)}</code>'),
            (_ONE_LINE, status_html(record.status)),
            (_ONE_LINE, html.escape(short(record.name, 30))),
            (_ONE_LINE, html.escape(short(record.runner, 30))),
            (_ONE_LINE, took(record, self.now)),
            (_ONE_LINE, "" if record.exit_code is None else str(record.exit_code)),
            (
                _CELL,
                f'<code style="{_MONO}">{html.escape(command)}</code>'
                + (f'<div style="{QUIET}">{html.escape(short(why, _TEXT))}</div>' if why else ""),
            ),
        ]
        tds = "".join(f'<td style="{style}">{cell}</td>' for style, cell in cells)
        return f"<tr>{tds}</tr>"
