"""Records to text and HTML."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.display.card import Card, LogView, card_text, log_view
from qwex_jupyter.display.format import (
    details_text,
    ended_meanwhile,
    moment,
    one_line,
    still_running,
)
from qwex_jupyter.display.render import card_html
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.display.tables import Table
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.units import clock

NOW = 1795451445.0  # 2026-11-23 16:30:45 UTC
RECORD = RunRecord(
    "20261123-163003-k3x9qd",
    "local",
    status=RunStatus.RUNNING,
    name="train",
    command="python: import time",
    created_at=NOW - 42,
    started_at=NOW - 41,
    observed_at=NOW - 1,
)
DONE = replace(
    RECORD, status=RunStatus.SUCCEEDED, exit_code=0, finished_at=NOW, elapsed=41.0, observed_at=NOW
)
FAILED = replace(
    DONE,
    status=RunStatus.FAILED,
    exit_code=3,
    reason=Reason.NON_ZERO_EXIT,
    message="Exit code 3. Read %qwex logs k3x9qd, then %qwex rerun k3x9qd",
    cause="ZeroDivisionError: division by zero · cell line 3",
)
EVIL = (
    "<script>alert('x')</script>\"' onload=\"x "
    "\x1b]8;;http://e\x07l\x1b]8;;\x07 \u202eexe.gnp\u202c\x07"
)
NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.open, self.names, self.details = "", [""][:0], {""}, [False][:0]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps the tag open; remembers names."""
        self.open.append(tag)
        self.names |= {tag, *(name for name, _ in attrs)}
        if tag == "details":
            self.details.append(("open", None) in attrs)

    def handle_endtag(self, tag: str) -> None:
        """Closes the tag, which must be the one that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keeps text."""
        self.text += data


def _page(card: Card) -> Page:
    page = Page(card_html(card))
    assert page.open == []
    assert page.names <= {"", "div", "span", "b", "code", "pre", "details", "summary"} | {
        "style", "title", "class", "open", "role", "data-until", "data-seconds", "aria-label",
        "aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext",
    }  # fmt: skip
    return page


def _view(count: int, width: int = 20) -> LogView:
    screen = Screen()
    screen.feed("stdout", b"".join(b"%06d %s\n" % (n, b"x" * width) for n in range(count)))
    return LogView(screen.tail(200), screen.count, screen.bytes)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0042, "4ms"),
        (0.61, "0.6s"),
        (0, "<1s"),
        (7.0, "7s"),
        (0.0145, "15ms"),
        (0.25, "0.3s"),
        (59.94, "59.9s"),
        (59.97, "0:01:00"),
        (61, "0:01:01"),
        (3723.9, "1:02:03"),
        (360000, "100:00:00"),
    ],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    """A duration is milliseconds, tenths of seconds or a clock, by its size; or whole seconds."""
    assert clock(seconds) == text


def test_a_live_card_has_status_clock_tail_and_moment() -> None:
    """While it lives: status, name, command, where, clock, the last lines, and as of when."""
    card = Card(RECORD, _view(40), note="interrupt the kernel to stop it", now=NOW)
    text, page = card_text(card), _page(card)
    for made in (text, page.text):
        assert "◐ running" in made
        assert "train" in made
        assert "python: import time" in made
        assert "local · k3x9qd · 0:00:4" in made
        assert "40 lines · 1.09 KiB · interrupt the kernel to stop it" in made
        assert f"as of {moment(NOW)}" in made
        assert re.findall(r"^ *(\d{6}) x", made, re.MULTILINE)[-1] == "000039"
    assert len(re.findall(r"(\d{6}) x", page.text)) == 20
    assert page.details == []


def test_the_card_of_a_detached_run_is_small() -> None:
    """A detached run shows three lines while it lives."""
    page = _page(Card(RECORD, _view(40), now=NOW, compact=True))
    assert len(re.findall(r"\d{6} x", page.text)) == 3


BOX = re.compile(r"(?:max-)?height:([\d.]+)em;?(resize:vertical)?")


@pytest.mark.parametrize("done", [DONE, FAILED], ids=["succeeded", "failed"])
@pytest.mark.parametrize(("compact", "rows"), [(True, 3), (False, 20)])
def test_the_output_of_what_has_ended_has_the_rows_that_it_had(
    done: RunRecord, compact: bool, rows: int
) -> None:
    """Below as many rows as live, all that is kept is there, open; the reader makes it larger."""
    height = f"{1.35 * rows:g}"
    live, ended = (
        Card(record, _view(1204), now=NOW, compact=compact, lived=record.status.final)
        for record in (RECORD, done)
    )
    assert BOX.findall(card_html(live)) == [(height, "")]
    assert BOX.findall(card_html(ended)) == [(height, "resize:vertical")]
    assert len(re.findall(r"\d{6} x", _page(live).text)) == rows
    assert len(re.findall(r"\d{6} x", _page(ended).text)) == 200
    assert _page(ended).details == [True]
    few = Card(done, _view(rows), now=NOW, compact=compact)
    assert BOX.findall(card_html(few)) == [(height, "")]


def test_what_was_shown_live_keeps_its_row_of_facts() -> None:
    """How much there is stands above the output, live and ended; what ended at once needs none."""
    for count, live, ended in (
        (0, "waiting for output…", "no output"),
        (3, "3 lines · 84 B", "output: 3 lines, 84 B"),
    ):
        assert live in _page(Card(RECORD, _view(count), now=NOW)).text
        assert ended in _page(Card(DONE, _view(count), now=NOW, lived=True)).text
        assert ended not in _page(Card(DONE, _view(count), now=NOW)).text
    assert "no output" not in _page(Card(FAILED, now=NOW, lived=True)).text


def test_a_cell_that_stands_above_is_not_told_again() -> None:
    """Below its own cell a card has the name and no command; anywhere else it has both."""
    for record in (RECORD, DONE, FAILED):
        below, elsewhere = (_page(Card(record, now=NOW, below=where)) for where in (True, False))
        assert "train" in below.text
        assert "python: import time" not in below.text
        assert "train" in elsewhere.text
        assert "python: import time" in elsewhere.text
    nameless = _page(Card(replace(DONE, name=""), now=NOW, below=True))
    assert nameless.text == "✓ succeeded local · k3x9qd · 41s"


def test_stderr_is_told_apart() -> None:
    """Lines of stderr in a row are one block with a mark and a name, in their place."""
    screen = Screen()
    for stream, text in (
        ("stdout", b"one\ntwo\n"),
        ("stderr", b"\x1b[31mthree\x1b[0m\nfour\n"),
        ("stdout", b"five\n"),
        ("stderr", b"six"),
    ):
        screen.feed(stream, text)
    log = LogView(screen.tail(200), screen.count, screen.bytes)
    for card in (Card(RECORD, log, now=NOW), Card(DONE, log, now=NOW)):
        made = card_html(card)
        assert made.count('title="stderr"') == made.count('role="group"') == 2
        assert "one\ntwo\nthree\nfour\nfive\nsix" in _page(card).text
        assert ">two" not in made
        assert "</span>\nfour</span>\nfive\n<span" in made


@pytest.mark.parametrize("record", [RECORD, DONE, FAILED], ids=lambda r: str(r.status))
def test_a_card_of_two_streams_is_bounded(record: RunRecord) -> None:
    """Where each line comes on another stream a notebook grows by no more than with one."""
    screen = Screen()
    for _ in range(300):
        screen.feed("stdout", b"x" * 60 + b"\n")
        screen.feed("stderr", b"y" * 60 + b"\n")
    card = Card(record, LogView(screen.tail(200), screen.count, screen.bytes), now=NOW)
    assert len(card_html(card).encode()) + len(card_text(card).encode()) <= 40_000


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("UTC0", "2026-11-23 16:30:45 UTC"),
        ("CET-1", "2026-11-23 17:30:45 UTC+1"),
        ("IST-5:30", "2026-11-23 22:00:45 UTC+5:30"),
        ("NST3:30", "2026-11-23 13:00:45 UTC-3:30"),
    ],
)
def test_a_moment_is_local_and_true_elsewhere(
    monkeypatch: pytest.MonkeyPatch, zone: str, told: str
) -> None:
    """A point in time is told by the clock of who made it, with how far that is from UTC."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert moment(NOW) == told
        assert f"as of {told}" in card_html(Card(RECORD, now=NOW))
        assert moment(None) == ""
    finally:
        monkeypatch.undo()
        time.tzset()


def test_before_the_first_output_a_card_says_that_it_waits() -> None:
    """An empty pane isn't a hanging one."""
    waiting = replace(RECORD, status=RunStatus.PENDING, message="Looks for room", reason="Starting")
    page = _page(Card(waiting, now=NOW))
    assert "○ pending" in page.text
    assert "waiting for output…" in page.text
    assert "Looks for room" in page.text


PULLING = replace(
    RECORD,
    runner="docker",
    image="python:3.12",
    status=RunStatus.PENDING,
    reason=Reason.PULLING,
    message="Pulling python:3.12: 3 of 7 layers, 120 MiB of 360 MiB.",
    progress="33%",
)


def test_a_pull_has_a_bar_and_its_text_a_percent() -> None:
    """While an image is pulled: what is here of it, a bar as long, and the same number in text."""
    card = Card(PULLING, now=NOW)
    page, text = _page(card), card_text(card)
    assert "Pulling python:3.12: 3 of 7 layers, 120 MiB of 360 MiB. 33%" in text
    assert "3 of 7 layers, 120 MiB of 360 MiB.33%" in re.sub(r"\. +(?=33%)", ".", page.text)
    assert "width:33%;height" in card_html(card)
    assert "waiting for output" not in page.text
    nothing = replace(PULLING, progress="", message="Getting the image ready.")
    assert "height:5px" not in card_html(Card(nothing, now=NOW))
    assert "Getting the image ready." in _page(Card(nothing, now=NOW)).text


@pytest.mark.parametrize("progress", ["4000%", "33%;background:url(x)", "-5%", "1e3%", "٣٣%"])
def test_a_bar_is_never_longer_than_its_frame(progress: str) -> None:
    """Whatever a backend calls progress, a bar is 0 to 100 % long, or there is none."""
    made = card_html(Card(replace(PULLING, progress=progress), now=NOW))
    widths = [int(width) for width in re.findall(r"width:(\w+)%", made)]
    assert all(width <= 100 for width in widths)
    assert len(widths) <= 1
    assert "url(" not in re.sub(r">[^<]*<", "><", made)


def test_a_silent_backend_is_told_as_of_when_it_last_answered() -> None:
    """A run whose backend doesn't answer keeps its status, and says why and since when."""
    silent = replace(
        RECORD,
        reason=Reason.BACKEND_UNREACHABLE,
        message="The engine doesn't answer (timed out); it is asked again.",
        observed_at=NOW - 60,
    )
    for compact in (False, True):
        card = Card(silent, _view(3), now=NOW, compact=compact)
        for made in (card_text(card), _page(card).text):
            assert "◐ running" in made
            assert "The engine doesn't answer (timed out)" in made
            assert f"as of {moment(NOW - 60)}" in made
            assert moment(NOW) not in made
        # A page that is told each second hides it elsewhere.
        assert "qwex-as-of qwex-old" in card_html(card)
        assert "qwex-old" not in card_html(replace(card, record=RECORD))


def test_what_a_live_run_is_about_is_said_without_a_reason_too() -> None:
    """A message that isn't a problem, like output that is still read, stands in the card."""
    reading = replace(RECORD, message="It has ended; its output is read.")
    for made in (card_text(Card(reading, now=NOW)), _page(Card(reading, now=NOW)).text):
        assert "It has ended; its output is read." in made


def test_an_overrun_that_is_worth_a_word_gets_one() -> None:
    """What a stop takes isn't called an overrun; a minute over is."""
    assert "over its timeout" not in card_text(Card(replace(DONE, overrun=0.4), now=NOW))
    told = card_text(Card(replace(DONE, overrun=75.0), now=NOW))
    assert "It ran 0:01:15 over its timeout: its grace, and while nobody watched it." in told


def test_a_success_leaves_its_output_open() -> None:
    """Output folds when a reader folds it; above what is long stands how much it is."""
    assert _page(Card(DONE, _view(10), now=NOW)).details == []
    page = _page(Card(DONE, _view(1204), now=NOW))
    assert page.details == [True]
    assert "✓ succeeded" in page.text
    assert "1,204 lines, " in page.text
    assert "last 200 shown" in page.text
    assert "exit" not in page.text


def test_a_failure_is_open_with_cause_and_next_step() -> None:
    """A failed run shows its last lines, the cause and the command to go on with."""
    card = Card(FAILED, _view(1204), now=NOW)
    page, text = _page(card), card_text(card)
    assert page.details == [True]
    for made in (page.text, text):
        assert "✗ failed" in made
        assert "001203 x" in made
        first = made.partition("output: ")[0] if made == page.text else made.split("\n")[0]
        assert re.match(r"✗ failed +ZeroDivisionError: division by zero · cell line 3 ", first)
        assert first.endswith("41s · exit 3")
        assert "Read %qwex logs k3x9qd, then %qwex rerun k3x9qd" in made
        assert made.count("ZeroDivisionError") == 1
        assert "NonZeroExit" not in made and "Exit code" not in made


def test_what_was_lost_of_the_output_is_said() -> None:
    """Missing bytes and a run over its timeout are told below the output."""
    record = replace(DONE, log_missing={"stdout": 1200, "stderr": -1}, overrun=75.0)
    for made in (_page(Card(record, now=NOW)).text, card_text(Card(record, now=NOW))):
        assert "1,200 bytes of stdout could not be kept" in made
        assert "Some of stderr may be missing" in made
        assert "It ran 0:01:15 over its timeout" in made


@pytest.mark.parametrize("status", list(RunStatus))
def test_nothing_that_a_program_or_a_user_wrote_becomes_markup(status: RunStatus) -> None:
    """Scripts, links and direction marks in command, name, message and output are text."""
    record = replace(
        DONE,
        status=status,
        **dict.fromkeys(
            ("command", "name", "message", "cause", "image", "runner", "progress"), EVIL
        ),
    )
    screen = Screen()
    screen.feed("stdout", EVIL.encode())
    for compact in (False, True):
        card = Card(record, LogView(screen.tail(9), 1, 9), note=EVIL, now=NOW, compact=compact)
        page = _page(card)
        assert "<script>alert('x')</script>" in page.text
        assert not NOT_SHOWN.search(page.text)
        assert not NOT_SHOWN.search(card_html(card))
        assert not NOT_SHOWN.search(card_text(card))
    for text in (
        one_line(record),
        Table([record], now=NOW).text(),
        details_text(record, {"spec": {"script": EVIL}}, EVIL),
        still_running(record, NOW),
    ):
        assert not NOT_SHOWN.search(text)


@pytest.mark.parametrize("record", [RECORD, DONE, FAILED], ids=lambda r: str(r.status))
@pytest.mark.parametrize(
    "line",
    [b"x" * 60, b"x" * 3999, b"<&\"'>" * 800, b"\x1b[31mr\x1b[0m" * 400, "🙂".encode() * 900],
    ids=["short", "long", "markup", "coloured", "wide"],
)
def test_a_card_is_bounded(record: RunRecord, line: bytes) -> None:
    """However long and coloured the lines are, a notebook grows by at most 40 kB."""
    screen = Screen()
    screen.feed("stdout", (line + b"\n") * 500)
    card = Card(record, LogView(screen.tail(200), screen.count, screen.bytes), now=NOW)
    size = len(card_html(card).encode()) + len(card_text(card).encode())
    assert size <= 40_000
    _page(card)


def test_colours_are_hex_and_inline() -> None:
    """The HTML has no class, script or variable that a forge or a saved notebook lacks."""
    made = card_html(Card(FAILED, _view(50), now=NOW))
    assert "var(" not in made
    assert "<style" not in made
    assert "http" not in made


def test_a_log_is_read_from_disk_in_bounded_pieces(tmp_path: object) -> None:
    """The end of a log on disk is its last lines, stderr behind stdout, and its counts."""
    log = RunLog(str(tmp_path))
    log.write("stdout", b"".join(b"out %d\n" % n for n in range(400_000)), 0)
    log.write("stderr", b"err 1\nerr 2", 0)
    view = log_view(log, 5)
    assert list(view.lines) == ["out 399997", "out 399998", "out 399999", "err 1", "err 2"]
    assert view.count == 400_002
    assert view.size == log.size("stdout") + 11
    only = log_view(log, 1, ("stdout",))
    assert (list(only.lines), only.count) == (["out 399999"], 400_000)


def test_the_greeting_names_run_and_time() -> None:
    """After a restart one line says what still runs, and for how long."""
    when = f" · as of {moment(NOW)}"
    assert still_running(RECORD, NOW) == f"train (k3x9qd) still running 0:00:41{when}"
    pending = replace(RECORD, status=RunStatus.PENDING, started_at=None)
    assert still_running(pending, NOW) == f"train (k3x9qd) still pending 0:00:42{when}"


def test_what_ended_unseen_is_greeted_with_its_cause() -> None:
    """One line says how a run ended that no kernel saw end, why, and where its output is."""
    assert ended_meanwhile(FAILED) == (
        "train (k3x9qd) failed meanwhile after 41s: ZeroDivisionError: division by zero · "
        "cell line 3 · %qwex logs k3x9qd"
    )
    done = replace(RECORD, status=RunStatus.SUCCEEDED, elapsed=3.0, message="")
    assert ended_meanwhile(done).startswith("train (k3x9qd) succeeded meanwhile after 3s ·")


def test_details_are_one_fact_a_line() -> None:
    """``%qwex show`` lists what is known, and the script."""
    record = replace(FAILED, cwd="/srv", labels={"team": "a"}, peak_memory=5 << 20, cpu_time=1.5)
    record = replace(record, image_digest="sha256:ab")
    text = details_text(record, {"spec": {"script": "a\nb"}}, "/h/stdout.log")
    for line in (
        "run id",
        "submitted",
        "exit 3",
        "team=a",
        "5 MiB",
        "1.5s",
        "sha256:ab",
        "/h/stdout.log",
    ):
        assert line in text
    assert text.endswith("  script\n    a\n    b")
    # What looks like an address leads nowhere, and each id is called what it is.
    placed = replace(record, identity="docker://4F:2A", uid="ab12", runner="docker")
    text = details_text(placed, {}, "/h")
    assert "://" not in text
    assert re.search(r"^  container id +ab12$", text, re.MULTILINE)
    assert re.search(
        r"^  its id there +ab12$",
        details_text(replace(placed, runner="else"), {}, "/h"),
        re.MULTILINE,
    )
    lost = replace(record, missing="its pod is gone", log_missing={"stdout": -1, "stderr": -1})
    assert "  Output is missing: its pod is gone.\n" in details_text(lost, {}, "/h")
