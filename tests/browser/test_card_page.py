"""A live card's page, alone in a browser: what it shows, clock, button, nothing as markup."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from card_page import CardPage, message
from fetched import axe
from local_helpers import until
from monitor_page import blank_page, record

from qwex_jupyter.display.format import moment
from qwex_jupyter.display.progress import Progress
from qwex_jupyter.model.status import RunStatus

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser

BUSY = "The kernel is busy: this waits until its cell has ended. Interrupt the kernel to stop"


@pytest.fixture
def page(chromium: Any) -> Iterator[CardPage]:
    """A blank page for a live card."""
    with blank_page(chromium, CardPage) as made:
        yield made


def _train(**values: Any) -> Any:
    return record(0, "RUNNING", name="train", **{"started_at": time.time() - 41, **values})


@pytest.mark.tier("quick")
def test_it_shows_the_card_and_hides_the_other(page: CardPage) -> None:
    """Status, name, command, clock and lines stand there once, with a button beside them."""
    made = _train()
    page.begin(made, ["one", "\x1b[32mtwo\x1b[0m"])
    shown = page.text(".card")
    for part in ("◐ running", "train", made.command, f"local · {made.handle} · 0:00:", "one\ntwo"):
        assert part in shown
    assert "as of" not in shown  # it is told what is so as long as a kernel lives
    assert not page.saved()
    assert page.button() == {
        "text": "Cancel",
        "name": f"Cancel {made.title}",
        "title": f"cancel {made.title}",
        "off": False,
        "hidden": False,
    }
    assert len(page.sent("hello")) == 1


def test_nothing_that_a_program_or_a_user_wrote_becomes_markup(page: CardPage) -> None:
    """Scripts, pictures and quotes in command, name, message, output and title are text."""
    evil = "\"'><img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
    made = record(0, "RUNNING", runner="k8s", name=evil, command=evil, message=evil, progress=evil)
    page.begin(made, [evil])
    page.click("button >> text=Cancel")
    page.tell({"kind": "did", "failed": evil})
    page.tell({"kind": "tick", "now": time.time(), "as_of": evil})
    page.web.wait_for_timeout(100)
    assert page.web.locator(".qwex-live img, .qwex-live script").count() == 0
    assert page.web.evaluate("() => window.hacked === undefined")
    assert evil in page.text(".note")
    assert evil in page.text(".question")


def _stand_still(page: CardPage, now: float) -> None:
    """From here on the page's clock goes on by `run_for` alone."""
    page.web.clock.install(time=now - 100)
    page.web.clock.pause_at(now)


def test_the_clock_goes_on_until_the_kernel_is_silent(page: CardPage) -> None:
    """Between messages the clock ticks; 15 s after the last it stops, until the next one comes."""
    now = time.time()
    _stand_still(page, now)
    page.begin(_train(started_at=now - 41), now=now)
    clock = page.web.locator(".qwex-clock")
    page.web.clock.run_for(5000)
    assert clock.inner_text() in ("0:00:45", "0:00:46")  # by the second that it began in
    assert not page.shows(".qwex-as-of")
    page.web.clock.run_for(60_000)
    assert clock.inner_text() == "0:00:56"
    # Only now it is old.
    assert page.text(".qwex-as-of") == f"as of {moment(now)}"
    page.tell({"kind": "tick", "now": now + 65, "as_of": "as of then"})
    page.web.clock.run_for(1000)
    assert clock.inner_text() in ("0:01:46", "0:01:47")
    assert not page.shows(".qwex-as-of")
    page.web.clock.run_for(20_000)
    assert page.text(".qwex-as-of") == "as of then"


def test_what_a_silent_backend_told_is_dated(page: CardPage) -> None:
    """A run whose backend doesn't answer says as of when it was so, however alive the kernel is."""
    now = time.time()
    why = "The engine doesn't answer."
    made = _train(reason="BackendUnreachable", message=why, observed_at=now - 60)
    page.begin(made, now=now)
    assert page.text(".qwex-as-of") == f"as of {moment(now - 60)}"


def test_a_card_that_is_painted_anew_stays_as_its_reader_has_it(page: CardPage) -> None:
    """Folded, scrolled and made larger by a reader, a card is so after the next paint as well."""
    made = record(0, name="train")
    lines = [f"line {i}" for i in range(60)]
    page.begin(made, lines)
    log = page.web.locator(".card .qwex-log")
    newest = log.evaluate("log => log.scrollTop")
    assert newest == 0
    page.tell(message(made, [*lines, "one more"]))
    assert log.evaluate("log => log.scrollTop") == newest  # who reads the end goes on with it
    log.evaluate("log => { log.style.height = '123px'; log.scrollTop = -200; }")
    page.tell(message(made, [*lines, "one more"]))
    looks = log.evaluate("log => [log.scrollTop, log.style.height]")
    assert looks == [-200, "123px"]
    page.click(".card summary")
    assert not page.shows(".card .qwex-log")
    page.tell(message(made, [*lines, "two more"]))
    assert not page.shows(".card .qwex-log")


def test_a_clock_of_the_page_that_is_wrong_does_no_harm(page: CardPage) -> None:
    """Time is told by the kernel's clock, however far the page's is from it."""
    now = time.time()
    _stand_still(page, now - 86_400)
    page.begin(_train(started_at=now - 41), now=now)
    page.web.clock.run_for(3000)
    assert page.text(".qwex-clock") in ("0:00:43", "0:00:44")


@pytest.mark.tier("quick")
def test_cancel_is_sent_once_and_stays_at_the_keys(page: CardPage) -> None:
    """The button asks the kernel, says so, and is off afterwards without losing the focus."""
    made = _train()
    page.begin(made)
    page.web.focus(".qwex-live .row button")
    page.press("Enter")
    until(lambda: page.text(".note") == "asked to stop")
    assert (page.button()["off"], page.button()["title"]) == (True, "it is stopping")
    assert page.focus() == f"button Cancel {made.title}"
    page.press("Enter", "Space")
    page.tell(message(made, ["more"], state="stopping"))
    page.press("Enter")
    assert len(page.sent("cancel")) == 1
    assert "more" in page.text(".card")


def test_what_is_stopping_already_can_not_be_cancelled(page: CardPage) -> None:
    """Of a run that somebody else stops, the button says so and does nothing."""
    page.begin(_train(), state="stopping")
    page.click(".row button", force=True)
    assert page.button()["title"] == "it is stopping"
    assert page.sent("cancel") == []


def test_a_busy_kernel_is_told_and_how_to_stop_it(page: CardPage) -> None:
    """Without an acknowledgement within 1.5 s it says that the kernel is busy, until one comes."""
    now = time.time()
    _stand_still(page, now)
    page.begin(_train(started_at=now - 41), now=now)
    page.web.evaluate("() => { window.busy = true; }")
    page.click(".row button")
    page.web.clock.run_for(1499)
    assert page.text(".note") == "cancelling…"
    page.web.clock.run_for(1)
    assert page.text(".note").startswith(BUSY)
    page.tell({"kind": "ack", "number": page.sent("cancel")[0]["number"]})
    assert page.text(".note") == "asked to stop"


def test_on_a_cluster_it_is_asked_first(page: CardPage) -> None:
    """Cancelling a Job is confirmed; Escape and "Keep running" leave it, back at the button."""
    made = _train(runner="k8s")
    page.begin(made)
    page.click(".row button")
    assert page.text(".question span") == f"Cancel {made.title}?"
    assert page.focus() == "button Cancel it"
    page.press("Escape")
    assert not page.shows(".question")
    assert page.focus() == f"button Cancel {made.title}"
    page.press("Enter")
    page.press("Tab", "Enter")
    assert not page.shows(".question")
    assert page.sent("cancel") == []
    page.click(".row button")
    page.press("Enter")
    assert len(page.sent("cancel")) == 1
    assert not page.shows(".question")


def test_what_could_not_be_cancelled_can_be_tried_again(page: CardPage) -> None:
    """A refusal stands below the card, and the button works once more."""
    page.begin(_train())
    page.click(".row button")
    until(lambda: page.button()["off"])
    page.tell({"kind": "did", "failed": "The engine doesn't answer."})
    assert page.text(".note") == "The engine doesn't answer."
    assert not page.button()["off"]
    page.click(".row button")
    assert len(page.sent("cancel")) == 2


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED", "LOST"])
def test_an_end_has_no_button_and_no_clock(page: CardPage, status: str) -> None:
    """At the end the card is the final one; question, notes and button are gone."""
    made = _train(runner="k8s")
    page.begin(made)
    page.click(".row button")
    page.tell({"kind": "did", "failed": "The engine doesn't answer."})
    final = replace(made, status=RunStatus(status), finished_at=made.started_at + 9, elapsed=9.0)
    page.tell(message(final, [f"line {i}" for i in range(30)]))
    assert status.lower() in page.text(".card")
    assert page.button()["hidden"]
    assert not page.shows(".question")
    assert page.text(".note") == ""
    assert page.web.locator(".qwex-clock").count() == 0
    assert not page.saved()
    summary = page.web.locator(".card summary")
    assert summary.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_without_its_kernel_the_other_card_is_seen(page: CardPage) -> None:
    """After a restart the card with its "as of" stands there again, and this one doesn't."""
    page.begin(_train())
    page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
    assert page.saved()
    assert not page.web.is_visible(".qwex-live")
    page.web.evaluate("() => { window.gone = false; window.listeners.comm_live_update[0](); }")
    assert not page.saved()
    assert page.web.is_visible(".qwex-live")


def test_a_kernel_that_was_away_for_a_moment_is_found_again(page: CardPage) -> None:
    """Once wishes can be sent again, the card is back within a second, also if nobody says so."""
    page.begin(_train())
    page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
    page.web.wait_for_timeout(1200)
    assert page.saved()
    page.web.evaluate("() => { window.gone = false; }")
    until(lambda: not page.saved())
    assert page.web.is_visible(".qwex-live")
    assert len(page.sent("hello")) == 2


def test_a_click_after_the_kernels_end_shows_the_other_card(page: CardPage) -> None:
    """A button whose kernel turns out to be gone pretends nothing."""
    page.begin(_train())
    page.web.evaluate("() => { window.gone = true; }")
    page.click(".row button")
    assert page.saved()
    assert not page.web.is_visible(".qwex-live")


def test_an_end_stays_without_a_kernel(page: CardPage) -> None:
    """What has ended is true without a kernel, truer than the card that was saved before."""
    page.begin(record(0, "FAILED", name="train"))
    page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
    assert not page.saved()
    assert "failed" in page.text(".card")


def test_closing_says_goodbye(page: CardPage) -> None:
    """A page that shows the card no more tells the kernel, and shows the other one."""
    page.begin(_train())
    page.web.evaluate("() => { window.cleanup(); document.querySelector('main').remove(); }")
    assert len(page.sent("bye")) == 1
    assert page.saved()
    assert page.web.evaluate("() => window.listeners['msg:custom'].length") == 0


def test_a_view_takes_the_place_of_what_was_found(page: CardPage) -> None:
    """A view that comes while the page shows the card by itself is alone at once, and yields it."""
    page.begin(_train())
    page.web.evaluate(
        "() => { window.cleanup(); document.querySelector('main').replaceChildren();"
        "const get = name => name === 'finds' || window.model.get(name);"
        "window.made.initialize({model: {...window.model, get}}); }"
    )
    live = page.web.locator(".qwex-live")
    assert live.count() == 1
    both = page.web.evaluate(
        "() => { window.cleanup = window.made.render("
        "{model: window.model, el: document.querySelector('main')});"
        "return document.querySelectorAll('.qwex-live').length; }"
    )
    assert both == 1
    assert page.web.locator("main .qwex-live").count() == 1
    page.web.evaluate("() => { window.cleanup(); document.querySelector('main').remove(); }")
    until(lambda: live.count() == 1)
    assert not page.saved()


def test_every_button_keeps_jupyters_keys_away(page: CardPage) -> None:
    """Whatever can have the focus has the mark by which Jupyter's own keys are off."""
    page.begin(_train(runner="k8s"))
    page.click(".row button")
    marks = page.web.evaluate(
        "() => [...document.querySelectorAll('.qwex-live button')]"
        ".map(b => b.getAttribute('data-lm-suppress-shortcuts'))"
    )
    assert marks == ["true"] * 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(chromium: Any, dark: bool) -> None:
    """By axe-core's rules nothing is wrong, also with a question and a note, light and dark."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    with blank_page(chromium, CardPage, dark=dark) as page:
        page.begin(_train(runner="k8s"), ["one"])
        assert page.axe(script) == []
        page.click(".row button")
        page.tell({"kind": "did", "failed": "The engine doesn't answer."})
        assert page.axe(script) == []
        page.click("button >> text=Cancel it")
        until(lambda: page.text(".note") == "asked to stop")
        assert page.axe(script) == []


def test_a_narrow_place_is_enough(chromium: Any) -> None:
    """In 320 pixels nothing sticks out, and the button can be seen whole."""
    with blank_page(chromium, CardPage, width=320) as page:
        page.begin(_train(image="registry.example.org/" + "x" * 80), ["y" * 200])
        box = page.web.locator(".row button").bounding_box()
        assert box["x"] + box["width"] <= 320
        assert page.web.evaluate("() => document.documentElement.scrollWidth") <= 320


def _heard(page: CardPage) -> str:
    """What a screen reader was told last of how far it is."""
    return str(page.web.text_content(".qwex-spoken"))


def test_a_bar_is_told_once_for_each_tenth(page: CardPage) -> None:
    """A bar has a role and a value, and what it says is announced when another tenth is done."""
    made, until_then = _train(), time.time() + 3600.5
    heard = []
    for percent in (4, 9, 31, 35, 39, 40, 12, 19, 20):
        bar = Progress(percent / 100, "training", f"{percent}%", until_then)
        if percent == 4:
            page.begin(made, ["one"], progress=bar)
        else:
            page.tell(message(made, ["one"], progress=bar))
        shown = page.web.get_by_role("progressbar", name="progress")
        assert shown.get_attribute("aria-valuenow") == str(percent)
        assert shown.get_attribute("aria-valuetext") == f"training {percent}%"
        assert shown.bounding_box()["width"] > 100
        heard.append(re.sub(r" · .* left", "", _heard(page)))
    assert [words.removeprefix("training ") for words in heard] == [
        *("", "", "31%", "31%", "31%", "40%", "40%", "40%", "20%")
    ]
    assert re.search(r"training 20% · 1:00:00 left|training 20% · 59:5\d left", _heard(page))
    assert page.web.get_attribute(".qwex-spoken", "role") == "status"
    assert page.errors == []


def test_what_is_left_is_counted_down_in_the_page(page: CardPage) -> None:
    """What is left goes on without a word of the kernel, and so does the line of the usual time."""
    page.web.clock.install(time=time.time())
    bar = Progress(0.62, "training", "62%", time.time() + 43)
    page.begin(_train(), ["one"], progress=bar)
    page.web.clock.run_for(10_000)
    assert re.search(r"training 62% · 0:3\d left", page.text(".card"))
    page.tell(message(_train(), ["one"], usual_time=182.0))
    assert "usually 3:02" in page.text(".card")
    before = page.web.get_attribute(".qwex-usual", "style")
    page.web.clock.run_for(4_000)
    assert page.web.get_attribute(".qwex-usual", "style") != before


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_in_a_bar(chromium: Any, dark: bool) -> None:
    """A card with a bar, and one with the usual time, are accessible, light and dark."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    with blank_page(chromium, CardPage, dark=dark) as page:
        for more in ({"progress": Progress(0.62, "training", "62%")}, {"usual_time": 182.0}):
            page.begin(_train(), ["one"], **more)
            # The colours of the card itself are told elsewhere.
            wrong = [each for each in page.axe(script) if not each.startswith("color-contrast")]
            assert wrong == []
