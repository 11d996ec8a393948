"""The cards of detached runs: what is saved, what a page is told, and when; Cancel; the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from monitor_page import record

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import STOP
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import QwexError, RunNotFound
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.notebook import twin
from qwex_jupyter.notebook.cards import _KEPT, Cards
from qwex_jupyter.widgets import card as room
from qwex_jupyter.widgets.card import LiveCard

NOTE = "watch it: %qwex attach k3x9qd"
VIEW = "application/vnd.jupyter.widget-view+json"


class Manager:
    """Knows what a test says, and is its own tracker."""

    def __init__(self, home: Path) -> None:
        self.tracker = self.output = self
        self.history = RunHistory(str(home))
        self.known: dict[str, RunRecord] = {}
        self.cancelled: list[str] = []
        self.refuses = ""
        self.woken = 0
        self.usual: float | None = None

    def record(self, run_id: str) -> RunRecord:
        """What is known of it."""
        if run_id not in self.known:
            raise RunNotFound(f"{run_id} is gone")
        return self.known[run_id]

    def usual_time(self, record: RunRecord) -> float | None:
        """What a test says."""
        return self.usual

    def ended(self, run_id: str) -> bool:
        """Whether it has."""
        return run_id not in self.known or self.known[run_id].status.final

    def cancel(self, run_id: str) -> None:
        """Notes it."""
        if self.refuses:
            raise QwexError(self.refuses)
        self.cancelled.append(run_id)

    def wake(self) -> None:
        """Notes it."""
        self.woken += 1

    def observe(self, observer: object) -> None:
        """Tells nothing."""

    look = fetch = observe


class Run(NamedTuple):
    """As much of a run as a card needs."""

    run_id: str
    log: RunLog


class Published(NamedTuple):
    """What went into an output."""

    data: Mapping[str, Any]
    display_id: str
    update: bool


class Notebook:
    """A cell, a page, a clock that a test moves, and the cards."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manager = Manager(tmp_path / "home")
        self.now = 100.0
        self.published: list[Published] = []
        self.told: list[dict[str, Any]] = []
        self.display_pub = self
        monkeypatch.setattr(LiveCard, "send", lambda _, message: self.told.append(message))
        monkeypatch.setattr(room, "pulse", self)
        self.cards = Cards(self.manager, clock=lambda: self.now)  # type: ignore[arg-type]
        # No thread paints what a test wants to paint.
        self.cards._thread = type("", (), {"is_alive": lambda _: True})()

    def publish(
        self, *, data: Any, metadata: Any, transient: Mapping[str, str], update: bool
    ) -> None:
        """As the publisher of a cell."""
        self.published.append(Published(data, transient["display_id"], update))

    def ask(self, call: Callable[[], None], *, after: float = 0.0) -> None:
        """As the pulse, whose turn has come."""
        call()

    def forget(self, call: Callable[[], None]) -> None:
        """As the pulse."""

    def submit(self, made: RunRecord) -> Run:
        """A run of which this is known."""
        folder = Path(self.manager.history.runs_folder, made.run_id)
        folder.mkdir(parents=True)
        for stream in ("stdout", "stderr"):
            (folder / f"{stream}.log").touch()
        self.manager.known[made.run_id] = made
        return Run(made.run_id, RunLog(str(folder)))

    def begin(self, made: RunRecord | None = None) -> tuple[Run, LiveCard]:
        """Shows the card of a run that runs; a page sees it."""
        run = self.submit(made or record(0, "RUNNING", name="train"))
        self.cards.add(run, self, NOTE)  # type: ignore[arg-type]
        live = self.live(run)
        self.wish(live, "hello")
        self.published.clear()
        self.told.clear()
        return run, live

    def live(self, run: Run) -> LiveCard:
        """The widget of a card."""
        (found,) = (s.twin.live for s in self.cards._cards.values() if s.run is run)
        assert found is not None
        return found

    def wish(self, live: LiveCard, kind: str) -> None:
        """What a page sends."""
        live._take(live, {"kind": kind, "number": 7}, None)

    def becomes(self, run: Run, **values: Any) -> None:
        """Something else is known of the run now."""
        self.manager.known[run.run_id] = replace(self.manager.known[run.run_id], **values)

    def ends(self, run: Run, status: str = "SUCCEEDED") -> None:
        """The run ends."""
        self.becomes(run, status=RunStatus(status), finished_at=time.time(), elapsed=3.0)

    def pass_time(self, seconds: float) -> None:
        """So much time passes, and the cards are painted once a second."""
        for _ in range(round(seconds)):
            self.now += 1
            self.cards._paint_all()


@pytest.fixture
def nb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A notebook with cards."""
    return Notebook(tmp_path, monkeypatch)


def test_a_card_is_two_outputs(nb: Notebook) -> None:
    """The cell gets the card as HTML and text, and below it a widget that is nothing elsewhere."""
    run = nb.submit(record(0, "RUNNING", name="train"))
    nb.cards.add(run, nb, NOTE)  # type: ignore[arg-type]
    card, widget = nb.published
    live = nb.live(run)
    assert f"qwex-card-{live.place}" in card.data["text/html"]
    assert "◐ running" in card.data["text/plain"]
    assert VIEW not in card.data
    assert widget.data[VIEW]["model_id"] == live.model_id
    assert widget.data["text/html"] == widget.data["text/plain"] == ""
    assert card.display_id != widget.display_id
    assert not card.update
    assert not widget.update


def test_what_has_ended_already_needs_no_widget(nb: Notebook) -> None:
    """A run that ended before its card was shown has the final card alone."""
    nb.cards.add(nb.submit(record(0)), nb, NOTE)  # type: ignore[arg-type]
    assert len(nb.published) == 1
    assert "✓ succeeded" in nb.published[0].data["text/plain"]


def test_a_card_waits_a_moment_until_there_is_more_to_say(
    nb: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has just been started is shown as running, and never as pending before."""
    run = nb.submit(record(0, "PENDING", name="train"))
    started = {"status": RunStatus.RUNNING, "started_at": time.time()}
    monkeypatch.setattr(
        nb.manager.tracker, "look", lambda _: nb.becomes(run, **started), raising=False
    )
    nb.cards.add(run, nb, NOTE)  # type: ignore[arg-type]
    assert "◐ running" in nb.published[0].data["text/plain"]
    assert "pending" not in str(nb.published)


def test_a_card_of_what_is_pending_has_a_word_on_it(nb: Notebook) -> None:
    """What hasn't started after that moment says so; what waits for something, for what."""
    for number, message in ((0, ""), (1, "No node has a GPU free.")):
        run = nb.submit(record(number, "PENDING", message=message))
        nb.cards.add(run, nb, NOTE)  # type: ignore[arg-type]
        shown = nb.published[-2].data["text/plain"]
        assert "○ pending" in shown
        assert (message or "It hasn't started yet.") in shown
    Path(run.log.path("stderr")).write_text("begun\n")
    nb.pass_time(1)
    assert "◐ running" in nb.published[-1].data["text/plain"]
    assert 'title="stderr"' in nb.published[-1].data["text/html"]


def test_a_page_is_told_what_changed_and_else_the_time(nb: Notebook) -> None:
    """While nothing but the clock changes a page gets the time each 5 s; a new line at once."""
    run, _ = nb.begin()
    nb.pass_time(1)
    nb.told.clear()
    nb.pass_time(15)
    assert [message["kind"] for message in nb.told] == ["tick"] * 3
    assert "as of 20" in nb.told[-1]["as_of"]
    assert abs(nb.told[-1]["now"] - time.time()) < 60
    nb.told.clear()
    Path(run.log.path("stdout")).write_text("epoch 1\n")
    nb.pass_time(1)
    nb.becomes(run, message="Looks for room.")
    nb.pass_time(1)
    assert [message["kind"] for message in nb.told] == ["card", "card"]
    assert "epoch 1" in nb.told[0]["html"]
    assert "Looks for room." in nb.told[1]["html"]
    assert max(len(json.dumps(message)) for message in nb.told) < 3_000


def test_what_is_saved_follows_slowly_where_a_page_lives(nb: Notebook) -> None:
    """The hidden card is brought up to date each 15 s; where no page lives, each second."""
    _, live = nb.begin()
    nb.pass_time(31)
    assert len(nb.published) == 2
    assert {p.display_id for p in nb.published} == {live.place}
    assert all(p.update and "qwex-card-" in p.data["text/html"] for p in nb.published)
    nb.published.clear()
    nb.wish(live, "bye")
    nb.pass_time(5)
    assert len(nb.published) == 5
    nb.wish(live, "hello")
    nb.published.clear()
    nb.pass_time(10)
    assert nb.published == []


def test_a_card_that_is_not_seen_does_not_wait_for_a_status(nb: Notebook) -> None:
    """That a run has started is saved at once, as after a restart that card is all there is."""
    run, _ = nb.begin(record(0, "PENDING"))
    nb.becomes(run, status=RunStatus.RUNNING, started_at=time.time())
    nb.pass_time(3)
    assert ["◐ running" in p.data["text/plain"] for p in nb.published] == [True]


def test_at_the_end_the_other_card_takes_its_place(nb: Notebook) -> None:
    """First the final card is there, then the widget's output is emptied; then pages are told."""
    run, live = nb.begin()
    Path(run.log.path("stdout")).write_text("".join(f"line {i}\n" for i in range(9)))
    nb.ends(run)
    nb.pass_time(1)
    final, widget = nb.published
    assert final.display_id == live.place
    assert "✓ succeeded" in final.data["text/plain"]
    assert "output: 9 lines" in final.data["text/html"]
    assert (widget.data, widget.update) == ({}, True)
    # A page that was loaded anew isn't reached by those two.
    assert nb.told[-1]["state"] == "ended"
    assert "✓</span> succeeded" in nb.told[-1]["html"]
    nb.told.clear()
    nb.pass_time(20)
    assert len(nb.published) == 2
    assert nb.told == []


def test_a_page_that_is_loaded_anew_begins_with_now(nb: Notebook) -> None:
    """The state that a page asks for is made when it asks, live and after the end."""
    run, live = nb.begin()
    Path(run.log.path("stdout")).write_text("only just now\n")
    state = live.get_state()
    assert "only just now" in state["snapshot"]["html"]
    assert state["place"] == live.place
    nb.ends(run, "FAILED")
    nb.pass_time(1)
    assert "failed" in live.get_state()["snapshot"]["html"]
    assert live.get_state()["snapshot"]["state"] == "ended"
    nb.told.clear()
    nb.wish(live, "hello")
    assert [message["kind"] for message in nb.told] == ["ack", "card"]


def test_of_those_that_ended_the_newest_stay(nb: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widgets of the last 50 ended runs wait for pages that come back; older ones are closed."""
    closed: list[LiveCard] = []
    monkeypatch.setattr(LiveCard, "close", lambda self: closed.append(self))
    lives = []
    for number in range(_KEPT + 2):
        run, live = nb.begin(record(number, "RUNNING"))
        lives.append(live)
        nb.ends(run)
        nb.pass_time(1)
    assert closed == lives[:2]


def test_a_card_that_can_t_be_shown_stops_no_other(
    nb: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one card fails, those behind it are painted all the same, to their end."""
    broken, _ = nb.begin(record(0, "RUNNING", name="broken"))
    whole, _ = nb.begin(record(1, "RUNNING", name="whole"))
    real = nb.publish

    def publish(**values: Any) -> None:
        if "broken" in values["data"].get("text/plain", ""):
            raise OSError(5, "Input/output error")
        real(**values)

    monkeypatch.setattr(nb, "publish", publish)
    nb.ends(broken)
    nb.ends(whole)
    nb.pass_time(2)
    assert any("✓ succeeded  whole" in str(shown.data) for shown in nb.published)


def test_of_a_run_that_was_deleted_the_card_stays(nb: Notebook) -> None:
    """A run that is gone leaves its last card, without a button, and is asked for no more."""
    run, live = nb.begin()
    nb.pass_time(1)
    nb.published.clear()
    del nb.manager.known[run.run_id]
    nb.pass_time(3)
    assert [p.data for p in nb.published] == [{}]
    assert nb.told[-1]["state"] == "ended"
    assert "running" in live.get_state()["snapshot"]["html"]
    assert nb.cards._cards == {}


def test_cancel_is_acknowledged_first_and_then_carried_out(nb: Notebook) -> None:
    """A page hears at once that its wish was taken; the manager is asked aside."""
    run, live = nb.begin()
    nb.wish(live, "cancel")
    assert nb.told[0] == {"kind": "ack", "number": 7}
    live._cancelling.wait(60)
    assert nb.manager.cancelled == [run.run_id]
    assert nb.manager.woken == 1
    assert {"kind": "did", "failed": ""} in nb.told


def test_a_refusal_is_told(nb: Notebook) -> None:
    """What keeps a cancel from being written down is told in words, without control characters."""
    _, live = nb.begin()
    nb.manager.refuses = "no \x1b[31mroom"
    nb.wish(live, "cancel")
    live._cancelling.wait(60)
    assert {"kind": "did", "failed": "no room"} in nb.told


def test_who_stops_it_does_not_matter(nb: Notebook) -> None:
    """From the moment at which a stop is written down, by whomever, a page knows of it."""
    run, _ = nb.begin()
    nb.pass_time(1)
    assert nb.told[-1]["state"] == "live"
    facts.link_once(nb.manager.history.folder(run.run_id), STOP, {}, sync=False)
    nb.pass_time(1)
    assert nb.told[-1]["state"] == "stopping"


def test_only_a_cluster_is_asked_about_first(nb: Notebook) -> None:
    """A page asks before it cancels a Job, as the monitor does."""
    for number, runner in enumerate(("local", "docker", "k8s")):
        _, live = nb.begin(record(number, "RUNNING", runner=runner))
        assert live.get_state()["snapshot"]["ask"] is (runner == "k8s")


def test_a_page_that_comes_while_the_kernel_is_busy_is_told(
    nb: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for the first time is told of a card by widgets that find it, few at any time."""
    asker = ["page 1"]
    monkeypatch.setattr("qwex_jupyter.system.frontend.asker", lambda: asker[0])
    _, live = nb.begin()
    nb.pass_time(30)
    assert live._found == []
    for number in range(3):
        asker[0] = f"page {number + 2}"
        nb.pass_time(60)
        last = live._found[-1]
        nb.pass_time(40)
        assert last is not live._found[-1]  # one that took a minute to be there is told as well
        assert len(live._found) == room._FOUND == len(twin._ANNOUNCED_AFTER)
        assert all(found.finds and found.place == live.place for found in live._found)
        state = live._found[-1].get_state()
        assert state["snapshot"]["html"] == live.get_state()["snapshot"]["html"]


def test_a_page_that_can_ask_is_not_told(nb: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that has said hello by the time has the widget itself."""
    asker = ["page 1"]
    monkeypatch.setattr("qwex_jupyter.system.frontend.asker", lambda: asker[0])
    _, live = nb.begin()
    asker[0] = "page 2"
    nb.pass_time(1)
    nb.wish(live, "hello")
    nb.pass_time(30)
    assert live._found == []


def test_an_unknown_wish_is_only_acknowledged(nb: Notebook) -> None:
    """A page of another version asks for what isn't there, and nothing breaks."""
    _, live = nb.begin()
    nb.wish(live, "dance")
    assert nb.told == [{"kind": "ack", "number": 7}]


def test_no_widget_is_imported_before_there_is_a_card() -> None:
    """Cards and magics can be there without anywidget; it comes with the first card."""
    code = (
        "import sys, qwex_jupyter.notebook.cards, qwex_jupyter.notebook.magics\n"
        "print('anywidget' in sys.modules, 'ipywidgets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
