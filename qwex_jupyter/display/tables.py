"""Many runs as text and as HTML, as they stand in a saved notebook.

What `render` says of its HTML holds here: it has to survive without styles or scripts of ours.
"""

from __future__ import annotations

import html
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwex_jupyter.display import listing
from qwex_jupyter.display.colours import QUIET
from qwex_jupyter.display.format import moment
from qwex_jupyter.history import cache, columns
from qwex_jupyter.history.columns import Words
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.model.text import plain, width_of
from qwex_jupyter.model.units import say_count
from qwex_jupyter.system import frontend

if TYPE_CHECKING:
    from qwex_jupyter.history.folders import RunFolders
    from qwex_jupyter.history.history import RunHistory

# So many of the newest stand in a table, and of a frame so many where a limit was given.
ROWS, MOST = 20, 100
# What stands in the place of one: where there is no run at all, and where none is as was asked.
NONE = "No runs yet. Start one: write %%qwex above the code of a cell, or %qwex run COMMAND."
NONE_LIKE_IT = "No run is like that: %qwex runs lists them all."
# As wide as a table of text is where nobody says how wide the place is.
_WIDTH = 80


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
    env = listing.env_of(history, records)
    return Table(records, counts, time.time(), note=note, env=env)


def of_runs(folders: RunFolders, records: Sequence[RunRecord]) -> Table:
    """These runs as they are now.

    Args:
        folders: Where they are.
        records: What is known of them.
    """
    return Table(records, now=time.time(), env=listing.env_of(folders, records))


def face_of(folders: RunFolders, *, none: str = NONE) -> Callable[..., Table]:
    """What makes a table of some rows of a history; see `history.frame.with_face`.

    Args:
        folders: Whose runs.
        none: What is said where there are no rows.
    """
    known: dict[str, Mapping[str, str]] = {}

    def face(records: Sequence[RunRecord], counts: Mapping[str, int], now: float) -> Table:
        new = [record for record in records if record.run_id not in known]
        known.update({record.run_id: {} for record in new} | dict(listing.env_of(folders, new)))
        total = sum(counts.values())
        note = f"The frame has all {total:,} rows; --limit 100 shows 100 of them."
        note = note if total > len(records) else ""
        return Table(records, counts, now, note=note, env=known, none=none)

    return face


def terminal_width() -> int | None:
    """How wide a table that is printed may be; None for what goes to a file or another program."""
    if sys.stdout is not None and sys.stdout.isatty():
        return shutil.get_terminal_size((_WIDTH, 24)).columns
    return _WIDTH if frontend.is_kernel() else None


@dataclass(frozen=True)
class Table:
    """Some runs, and how many there are in all.

    Attributes:
        records: The runs that are shown, in their order.
        counts: How many there are of each status; {} where these are all.
        now: When this is shown, seconds since the epoch.
        place: Which display it is; "" for none.
        note: What else is to be said below it.
        env: The variables that each was given; see `listing.env_of`.
        none: What is said where there are no runs.
    """

    records: Sequence[RunRecord]
    counts: Mapping[str, int] = field(default_factory=dict)
    now: float = 0.0
    place: str = ""
    note: str = ""
    env: listing.Words = field(default_factory=dict)
    none: str = NONE

    @property
    def _sum(self) -> list[str]:
        counts = self.counts or Counter(str(record.status) for record in self.records)
        found = {status: counts.get(status, 0) for status in map(str, RunStatus)}
        parts = [f"{count:,} {status.lower()}" for status, count in found.items() if count]
        return [say_count(sum(found.values()), "run"), *parts]

    @property
    def _as_of(self) -> str:
        return f"as of {moment(self.now)}"

    def headline(self) -> dict[str, str]:
        """One line: how many of what, as of when."""
        text = " · ".join([*self._sum, self._as_of])
        return {
            "text/plain": text,
            "text/html": f'<div style="{QUIET};font-size:0.92em">{html.escape(text)}</div>',
        }

    def text(self, width: int | None = _WIDTH) -> str:
        """For a terminal of so many columns; None for as wide as it gets."""
        foot = [line for words in self._foot() for line in _wrapped(words, width)]
        return "\n".join([self.rows_text(width), *foot] if self.records else foot)

    def rows_text(self, width: int | None = _WIDTH) -> str:
        """Its rows alone, for a terminal."""
        found = listing.columns(self.records, self.now, self.env, width)
        return "\n".join(listing.lines(found, width))

    def html(self) -> str:
        """For a notebook."""
        made = listing.page(self.records, self.now, self.env) if self.records else ""
        foot = "<br>".join(html.escape(" · ".join(words)) for words in self._foot())
        name = f"qwex-table qwex-table-{self.place}" if self.place else "qwex-table"
        return (
            # The first two keep MathJax from reading `$x ... $y` of a command as a formula.
            f'<div class="tex2jax_ignore mathjax_ignore {name}" '
            f'style="max-width:100%;overflow:auto">{made}'
            f'<div style="{QUIET};font-size:0.92em">{foot}</div></div>'
        )

    def bundle(self) -> dict[str, str]:
        """Both."""
        return {"text/plain": self.text(), "text/html": self.html()}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.html()}

    def __repr__(self) -> str:
        return self.text(terminal_width() or _WIDTH)

    def _foot(self) -> list[list[str]]:
        """What stands below the rows: lines of words."""
        note = [[self.note]] if self.note else []
        if not self.records:
            return [[self.none], *note]
        count, *parts = self._sum
        total = sum(self.counts.values()) or len(self.records)
        if total != len(self.records):
            count = f"the newest {len(self.records)} of {count}"
        common = map(plain, listing.alike(self.records))
        return [[count, *parts, *common, self._as_of], *note]


def _wrapped(words: Sequence[str], width: int | None) -> list[str]:
    """Words in lines, with a dot between two; one that is longer than a line has its own."""
    made: list[str] = []
    for word in words:
        longer = f"{made[-1]} · {word}" if made else word
        if made and (width is None or width_of(longer) <= width):
            made[-1] = longer
        else:
            made.append(word)
    return made
