"""The timeline of runs as a chart: how long each waited, and how long it ran.

Drawn with matplotlib or altair, whichever is there; neither is needed for anything else.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qwex_jupyter.display.format import GLYPHS
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.status import RunStatus

if TYPE_CHECKING:
    import pandas as pd

# More bars than this can't be told apart; the newest are drawn.
MOST = 60
QUEUED = "#858c94"
# As all clocks that a person sees beside it.
_AXIS = "local time"
_COLOURS = {str(status): colour for status, (_, colour) in GLYPHS.items()}
_LIBRARIES = ("matplotlib", "altair")

Bar = dict[str, Any]


class NothingToDrawWith(QwexError, ImportError):
    """Neither matplotlib nor altair is installed in the kernel's environment."""


def timeline(runs: pd.DataFrame, *, library: str | None = None) -> Any:
    """Draws runs over time: grey while one waited, in its status's colour while it ran.

    Args:
        runs: What `qwex_jupyter.runs` returned, or some rows of it.
        library: ``matplotlib`` or ``altair``; None for the first that is there.

    Returns:
        A matplotlib figure or an altair chart; a notebook shows either.

    Raises:
        NothingToDrawWith: Neither is installed.
        ValueError: ``library`` is another one, or ``runs`` lacks a column.
    """
    if library is not None and library not in _LIBRARIES:
        raise ValueError(f"library={library!r}: choose matplotlib or altair.")
    wanted = (library,) if library else _LIBRARIES
    found = next((name for name in wanted if importlib.util.find_spec(name)), None)
    if found is None:
        raise NothingToDrawWith(
            f"A timeline is drawn with {' or '.join(wanted)}, and that isn't installed here: "
            f"%pip install {wanted[0]}, then once more."
        )
    drawn = bars(runs)
    return _matplotlib(drawn) if found == "matplotlib" else _altair(drawn)


def bars(runs: pd.DataFrame) -> list[Bar]:
    """One bar for each run, oldest first: what it is called, and when it waited and ran.

    Raises:
        ValueError: A column is missing.
    """
    needed = {"handle", "name", "status", "created_at", "started_at", "finished_at", "observed_at"}
    if missing := needed - set(runs.columns):
        raise ValueError(
            f"runs lacks {', '.join(sorted(missing))}: give what qwex.runs() returned."
        )
    found = []
    for row in runs.head(MOST).iloc[::-1].itertuples():
        begun, started = _when(row.created_at), _when(row.started_at)
        if begun is None:
            continue  # a run that can't be read
        status = RunStatus(str(row.status))
        # What lives is known as far as it was observed.
        end = _when(row.finished_at) if status.final else _when(row.observed_at)
        end = max(end or started or begun, started or begun)
        name = row.name if isinstance(row.name, str) else ""
        found.append(
            {
                "label": f"{name} ({row.handle})" if name else str(row.handle),
                "status": str(status),
                "queued": begun,
                "started": started,
                "ended": end,
            }
        )
    return found


def _when(value: Any) -> datetime | None:
    """A time of a frame as one of Python's, None for none."""
    if value is None or value != value:
        return None
    moment: datetime = value.to_pydatetime()
    return moment.astimezone(UTC)


def _matplotlib(drawn: Sequence[Bar]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    dates: Any = importlib.import_module("matplotlib.dates")
    # Of all times of a year, and what matplotlib itself needs.
    here = importlib.import_module("dateutil.tz").tzlocal()
    height = max(1.4, 0.28 * len(drawn) + 0.9)

    # Not through pyplot: its backend and its list of open figures are the notebook's own.
    class Chart(Figure):
        """A figure that a notebook shows as it is, without pyplot having been imported."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=110)
            return picture.getvalue()

    figure = Chart(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    numbers = dates.date2num
    for place, bar in enumerate(drawn):
        begun, ended = numbers(bar["queued"]), numbers(bar["ended"])
        started = ended if bar["started"] is None else numbers(bar["started"])
        axes.barh(place, started - begun, left=begun, height=0.35, color=QUEUED)
        if bar["started"] is not None:
            # So short that it would be nothing, it is a line.
            colour = _COLOURS[bar["status"]]
            axes.barh(
                *(place, ended - started), left=started, height=0.7, color=colour, edgecolor=colour
            )
    axes.set_yticks(range(len(drawn)), [bar["label"] for bar in drawn])
    axes.xaxis_date(tz=here)
    form = dates.ConciseDateFormatter(axes.xaxis.get_major_locator(), tz=here)
    axes.xaxis.set_major_formatter(form)
    axes.set_xlabel(_AXIS)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    used = [status for status in _COLOURS if any(bar["status"] == status for bar in drawn)]
    handles = [Patch(color=QUEUED, label="waited")]
    handles += [Patch(color=_COLOURS[status], label=status.lower()) for status in used]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False)
    return figure


def _altair(drawn: Sequence[Bar]) -> Any:
    import altair

    rows = []
    for bar in drawn:
        started = bar["started"] or bar["ended"]
        rows.append((bar["label"], "waited", bar["queued"], started))
        if bar["started"]:
            rows.append((bar["label"], bar["status"].lower(), started, bar["ended"]))
    values = [
        {"run": run, "what": what, "from": begun.isoformat(), "to": ended.isoformat()}
        for run, what, begun, ended in rows
    ]
    colours = {"waited": QUEUED, **{key.lower(): value for key, value in _COLOURS.items()}}
    scale = altair.Scale(domain=list(colours), range=list(colours.values()))
    order = [bar["label"] for bar in reversed(drawn)]
    return (
        altair.Chart(altair.Data(values=values))
        .mark_bar()
        .encode(
            x=altair.X("from:T", title=_AXIS),
            x2="to:T",
            y=altair.Y("run:N", sort=order, title=None),
            color=altair.Color("what:N", scale=scale, title=None),
            tooltip=["run:N", "what:N", "from:T", "to:T"],
        )
        .properties(width=600)
    )
