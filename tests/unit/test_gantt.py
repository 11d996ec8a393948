"""The timeline: a bar for each run, when it waited and when it ran, with either library."""

from __future__ import annotations

import importlib.util
from typing import Any

import frames
import pytest
from monitor_page import many, record

import qwex_jupyter as qwex
from qwex_jupyter.display import timeline
from qwex_jupyter.display.format import GLYPHS
from qwex_jupyter.model.record import RunRecord


def of(records: list[RunRecord]) -> Any:
    """What `runs()` would return of these, newest first."""
    return frames.of_records(records[::-1])


def test_each_run_is_a_bar_that_waits_and_runs() -> None:
    """A bar has the run's name and status, and the moments of submit, start and end."""
    made = [record(0, "FAILED", name="train"), record(1, "RUNNING"), record(2, "PENDING")]
    failed, running, pending = timeline.bars(of(made))
    assert failed["label"] == f"train ({made[0].handle})"
    assert failed["queued"].timestamp() == made[0].created_at
    assert failed["started"].timestamp() == made[0].started_at
    assert failed["ended"].timestamp() == made[0].finished_at
    assert running["label"] == made[1].handle
    assert running["ended"].timestamp() == made[1].observed_at
    assert pending["started"] is None
    assert pending["ended"].timestamp() == made[2].observed_at


def test_what_cannot_be_read_has_no_bar_and_many_are_too_many() -> None:
    """A damaged run is left out; of many runs the newest are drawn."""
    damaged = RunRecord.unreadable("20260101-000000-bbbbbb", "torn.")
    assert timeline.bars(of([damaged])) == []
    made = many(100)
    assert [bar["label"] for bar in timeline.bars(of(made))][-1].endswith(f"({made[-1].handle})")
    assert len(timeline.bars(of(made))) == timeline.MOST


def test_matplotlib_draws_in_the_statuses_colours() -> None:
    """The figure has a grey and a coloured bar for each run, names on its axis, and a legend."""
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    made = [record(0, "FAILED", name="train"), record(1, "SUCCEEDED"), record(2, "PENDING")]
    figure = qwex.timeline(of(made), library="matplotlib")
    axes = figure.axes[0]
    colours = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert colours.count(timeline.QUEUED) == 3
    assert {GLYPHS[r.status][1] for r in made[:2]} <= set(colours)
    assert axes.get_yticklabels()[0].get_text() == f"train ({made[0].handle})"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["waited", "pending", "succeeded", "failed"]
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.usefixtures("new_york")
def test_the_axis_has_the_hours_of_the_clock_on_the_wall() -> None:
    """Times are local ones, as in the monitor beside it, and the axis says so."""
    pytest.importorskip("matplotlib")
    figure = qwex.timeline(of([record(0), record(3600)]), library="matplotlib")
    axes = figure.axes[0]
    figure.canvas.draw()
    hours = [label.get_text() for label in axes.get_xticklabels()]
    assert "10:30" in hours  # the first began at 14:13 UTC
    assert not any(hour.startswith(("14:", "15:")) for hour in hours)
    assert axes.get_xlabel() == "local time"
    pytest.importorskip("altair")
    chart = qwex.timeline(of([record(0)]), library="altair").to_dict()
    # A browser shows a time with its offset by its own clock, unless a scale is of UTC.
    assert chart["encoding"]["x"]["title"] == "local time"
    assert "scale" not in chart["encoding"]["x"]
    assert chart["data"]["values"][0]["from"].endswith("+00:00")


def test_altair_draws_the_same() -> None:
    """The chart has the same bars and colours as data."""
    pytest.importorskip("altair")
    made = [record(0, "FAILED", name="train"), record(1, "SUCCEEDED")]
    chart = qwex.timeline(of(made), library="altair").to_dict()
    values = chart["data"]["values"]
    assert [value["what"] for value in values] == ["waited", "failed", "waited", "succeeded"]
    scale = chart["encoding"]["color"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True))["failed"] == "#e0453c"


def test_with_neither_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a library to draw with it says what to install."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("matplotlib", "altair") else found(name, *rest),
    )
    with pytest.raises(timeline.NothingToDrawWith, match="%pip install matplotlib"):
        qwex.timeline(of([record(0)]))
    with pytest.raises(timeline.NothingToDrawWith, match="%pip install altair"):
        qwex.timeline(of([record(0)]), library="altair")


def test_mistakes_are_told() -> None:
    """Another library, or a frame of something else, is refused."""
    with pytest.raises(ValueError, match="choose matplotlib or altair"):
        qwex.timeline(of([]), library="plotly")
    with pytest.raises(ValueError, match=r"lacks .*created_at.*qwex\.runs"):
        qwex.timeline(of([record(0)])[["name"]], library=None)


def test_no_runs_is_an_empty_chart() -> None:
    """An empty history is drawn as one."""
    pytest.importorskip("matplotlib")
    assert len(qwex.timeline(of([])).axes[0].patches) == 0
