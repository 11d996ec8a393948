"""What a foreground run shows, and when: nothing too early, nothing twice, no empty words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.notebook import stream, view, views
from qwex_jupyter.notebook.stream import Stream
from qwex_jupyter.notebook.views import Pane

pytestmark = pytest.mark.once

NOTE = "stop with ■"
PENDING = RunRecord("20261123-163003-k3x9qd", "local", command="make", created_at=1.0)
RUNNING = replace(PENDING, status=RunStatus.RUNNING, started_at=1.0)
DONE = replace(RUNNING, status=RunStatus.SUCCEEDED, exit_code=0, elapsed=2.0)
WAITS = replace(PENDING, message="No node has a GPU free.")


class Clock:
    """Time, which a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    time = monotonic


class Cell:
    """A cell with a pane, and what it has shown."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.shown: list[tuple[str, bool]] = []
        self.display_pub = self
        self.history = RunHistory(str(home))
        self.pane = Pane(self, self, below=True)  # type: ignore[arg-type]
        self.pane.begin(PENDING)

    def publish(self, *, data: Mapping[str, str], update: bool, **_: Any) -> None:
        """As the publisher of a cell."""
        self.shown.append((data["text/html"], update))

    def tick(self, record: RunRecord, seconds: float = 0.0, note: str = NOTE) -> None:
        """Time passes, then the pane is brought up to date."""
        self.clock.now += seconds
        self.pane.tick(record, note)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all views."""
    made = Clock()
    for module in (views, stream):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def cell(tmp_path: Path, clock: Clock) -> Cell:
    """A cell."""
    return Cell(tmp_path / "home", clock)


@pytest.mark.parametrize("record", [RUNNING, WAITS], ids=["running", "waits"])
def test_nothing_is_shown_at_first(cell: Cell, record: RunRecord) -> None:
    """A run that says nothing has no card before a quarter of a second."""
    cell.tick(record)
    cell.tick(record, 0.24)
    assert cell.shown == []
    cell.tick(record, 0.02)
    ((html, update),) = cell.shown
    assert record.status.lower() in html
    assert not update


def test_what_ends_at_once_is_painted_once(cell: Cell) -> None:
    """A run that has ended before its first card has one paint, its end, also with output."""
    cell.tick(RUNNING)
    cell.pane.output("stdout", b"hello\n")
    cell.tick(RUNNING, 0.01)
    cell.pane.finish(DONE)
    ((html, update),) = cell.shown
    assert "✓</span> succeeded" in html
    assert "hello" in html
    assert not update


def test_the_first_output_shows_the_card(cell: Cell) -> None:
    """A line that isn't the last word of a run is shown at once."""
    cell.pane.output("stdout", b"epoch 1\n")
    cell.tick(RUNNING)
    cell.tick(RUNNING, 0.03)
    ((html, _),) = cell.shown
    assert "epoch 1" in html


@pytest.mark.parametrize("record", [PENDING, RUNNING, WAITS], ids=["pending", "running", "waits"])
def test_a_press_of_the_button_is_answered_at_once(cell: Cell, record: RunRecord) -> None:
    """That it stops is painted whenever the button was pressed, however early that is."""
    cell.tick(record, 0.01)
    assert cell.shown == []
    cell.tick(record, 0.01, "stopping…")
    assert "stopping…" in cell.shown[-1][0]
    cell.tick(record, 0.01, "stopping at once…")
    assert "stopping at once…" in cell.shown[-1][0]


def test_pending_is_never_shown_without_a_word_on_it(cell: Cell) -> None:
    """What is pending without a reason shows nothing, and goes on to running."""
    cell.tick(PENDING, 0.3)
    assert cell.shown == []
    assert "It hasn't started yet." in view.waiting(PENDING).message
    assert view.waiting(WAITS) == WAITS
    cell.tick(RUNNING, 0.1)
    assert "pending" not in "".join(html for html, _ in cell.shown)
    assert len(cell.shown) == 1


def test_what_has_said_something_runs() -> None:
    """A program that printed was started, whether anybody has looked since or not."""
    assert view.running(PENDING).status is RunStatus.RUNNING
    assert view.running(WAITS).message == ""
    assert view.running(DONE) is DONE


def test_what_was_shown_live_keeps_its_rows(cell: Cell) -> None:
    """The end of what was painted before has the row of facts, that of what wasn't has none."""
    cell.tick(RUNNING, 0.3)
    cell.pane.finish(DONE)
    assert "no output" in cell.shown[-1][0]


def test_a_terminal_names_a_run_when_there_is_more_to_say(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """Nothing is printed of what is only pending: its first output names it, and that it runs."""
    shown = Stream(limited=False)
    shown.tick(PENDING, NOTE)
    shown.tick(PENDING, NOTE)
    assert capsys.readouterr().out == ""
    shown.output("stdout", b"hello\n")
    shown.tick(RUNNING, NOTE)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("◐ running  make")
    assert second == "hello"


def test_a_terminal_says_nothing_before_the_end_of_what_ends_at_once(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """A run without a word that has ended is one line, its end."""
    shown = Stream(limited=False)
    shown.tick(PENDING, NOTE)
    shown.finish(DONE)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("✓ succeeded  make")


@pytest.mark.parametrize(
    ("record", "note", "said"),
    [
        (WAITS, NOTE, ["○ pending  make", "  No node has a GPU free."]),
        (RUNNING, NOTE, ["◐ running  make"]),
        (PENDING, "stopping…", ["○ pending  make", "  stopping…"]),
    ],
    ids=["waits", "runs", "stops"],
)
def test_a_terminal_says_at_once_what_there_is_to_say(
    capsys: pytest.CaptureFixture[str],
    clock: Clock,
    record: RunRecord,
    note: str,
    said: list[str],
) -> None:
    """That it runs, what it waits for and that it stops are told as soon as they are known."""
    shown = Stream(limited=False)
    shown.tick(PENDING, NOTE)
    shown.tick(record, note)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(lines, said, strict=True))
