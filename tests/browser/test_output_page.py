"""The pane of a run's output, alone in a browser: its colours, and what is found in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import monitor_page
import pytest
from link_cases import CASES
from monitor_page import MonitorPage, record

from qwex_jupyter.display.colours import to_html
from qwex_jupyter.model.text import plain

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser

FOUND = ".output .bar [role=status]"


@pytest.fixture
def page(chromium: Any) -> Iterator[MonitorPage]:
    """A blank page for a monitor."""
    with monitor_page.monitor_page(chromium) as made:
        yield made


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_grounds_of_the_page_can_be_read(page: MonitorPage, theme: str) -> None:
    """On a light page and on a dark one, what has a ground has the colours of cards."""
    page.web.evaluate(
        "light => document.body.dataset.jpThemeLight = light", str(theme == "light").lower()
    )
    colours = ["39", "30", "31", "37", "97", "38;5;226", "38;5;16", "7", "2"]
    grounds = ["40", "44", "47", "101", "107", "48;5;226", "48;5;16", "48;2;120;120;120", "7"]
    lines = [f"\x1b[0;{one};{other}mx" for one in colours for other in grounds]
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), lines)
    found = page.web.evaluate(
        "() => [...document.querySelectorAll('.lines .line span')].map(node => {"
        " const {color, backgroundColor, opacity} = getComputedStyle(node);"
        " return [color, backgroundColor, opacity].map(String); })"
    )
    for line, looks in zip(lines, found, strict=True):
        css = dict(re.findall(r"([a-z-]+):(#\w+)", to_html(line)))
        wanted = [_rgb(css[name]) for name in ("color", "background-color")]
        assert looks == [*wanted, "1"], repr(line)


def test_addresses_are_links_as_in_cards(page: MonitorPage) -> None:
    """The same addresses as in a card are links, to what they say, and the lines stay the same."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), list(CASES))
    found = page.web.evaluate(
        "() => [...document.querySelectorAll('.lines .line')].map(line => [line.textContent,"
        " [...line.querySelectorAll('a')].map(a => [a.textContent, a.getAttribute('href'),"
        " a.rel, a.target, a.dataset.lmSuppressShortcuts])])"
    )
    rest = ["noopener noreferrer", "_blank", "true"]
    for (line, addresses), (text, links) in zip(CASES.items(), found, strict=True):
        assert text == plain(line)
        assert links == [[address, address, *rest] for address in addresses], line


def test_a_link_that_is_still_written_grows(page: MonitorPage) -> None:
    """The address of an unfinished line is what the line has by now."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    for text in ("https://a.org/b", "https://a.org/b/c d"):
        page.output(page.cursor(), [text])
    assert page.web.locator(".lines a").evaluate_all("all => all.map(a => a.href)") == [
        "https://a.org/b/c"
    ]


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_stderr_is_told_apart(page: MonitorPage) -> None:
    """Lines of stderr have a mark and that name, and begin where the others do."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), ["one", "two", "three", "four"], apart=[[1, 3]])
    found = page.web.evaluate(
        "() => [...document.querySelectorAll('.lines .line')].map(line => {"
        " const range = document.createRange();"
        " range.selectNodeContents(line);"
        " return [line.title, line.getAttribute('role'), getComputedStyle(line).borderLeftWidth,"
        "  Math.round(range.getBoundingClientRect().left)]; })"
    )
    looks = [["", None, "0px"], ["stderr", "group", "2px"], ["stderr", None, "2px"]]
    assert [line[:3] for line in found] == [*looks, looks[0]]
    assert len({line[3] for line in found}) == 1


def _long(page: MonitorPage) -> str:
    """Opens the output of a run whose last 100 lines of 100,000 are here; which run."""
    page.begin([record(0)])
    page.click("[role=row][data-run]")
    run = page.cursor()
    lines = [f"row {number}" for number in range(99_900, 100_000)]
    page.output(run, lines, first=500, before=888_890, bytes=988_890)
    return run


def _told(page: MonitorPage, run: str, text: str, places: list[Any], **more: Any) -> None:
    """The kernel's answer to a find."""
    assert page.sent("find")[-1] == {**page.sent("find")[-1], "run": run, "text": text}
    found = {"kind": "found", "run": run, "text": text, "count": len(places), "part": None}
    page.tell({**found, "places": places, **more})


def _part(page: MonitorPage, run: str, first: int, here: int, **more: Any) -> None:
    """Lines of the log around a place, from a line of that number on."""
    lines = [f"row {number}" for number in range(first - 1, first + 19)]
    part = {"kind": "lines", "run": run, "stream": "stdout", "lines": lines, "number": first}
    size = {"begin": 10 * (first - 1), "end": 10 * (first + 19), "size": 1_000_000}
    page.tell({**part, "here": here, **size, **more})


def test_find_looks_through_all_of_the_log(page: MonitorPage) -> None:
    """What the lines here don't have is counted and shown where it stands, back and forth."""
    page.stop_clock()
    run = _long(page)
    page.web.focus(".lines")
    page.press("/")
    page.web.keyboard.type("row 5")
    assert "looking through all of the log" in page.text(FOUND)
    assert page.sent("find") == []
    page.pass_time(300)
    assert len(page.sent("find")) == 1
    # Of 11,111 places only the last are told.
    places = [["stdout", 10 * number, number + 1] for number in (5, *range(50, 60))]
    _told(page, run, "row 5", places, count=11_111)
    wish = page.sent("lines")[-1]
    assert (wish["run"], wish["stream"], wish["offset"], wish["line"]) == (run, "stdout", 590, 60)
    _part(page, run, 50, 10)
    assert page.text(FOUND) == "11,111 of 11,111 in all of the log: stdout line 60"
    assert page.line() == "row 59"
    assert page.text(".info").startswith("stdout, lines 50 to 69, of ")
    for _ in range(9):
        page.press("Shift+Enter")
    assert page.text(FOUND) == "11,102 of 11,111 in all of the log: stdout line 51"
    assert page.line() == "row 50"
    assert len(page.sent("lines")) == 1
    page.press("Shift+Enter")
    assert page.sent("lines")[-1]["offset"] == 50
    _part(page, run, 1, 5)
    assert page.line() == "row 5"
    assert page.text(FOUND) == "11,101 of 11,111 in all of the log: stdout line 6"
    page.press("Enter")
    assert page.sent("lines")[-1]["offset"] == 500


def test_find_without_a_place_says_so(page: MonitorPage) -> None:
    """Nothing is said to be nowhere before all of the log was searched, nor without a kernel."""
    page.stop_clock()
    run = _long(page)
    page.web.fill(".output input", "nowhere")
    assert "nothing in these lines; looking" in page.text(FOUND)
    page.pass_time(300)
    _told(page, run, "nowhere", [])
    assert page.text(FOUND) == "nothing in all of the log"
    _told(page, run, "nowhere", [], part=256 << 20)
    assert page.text(FOUND) == "nothing in the last 256 MiB of the log"
    _told(page, run, "nowhere", [], count=None)
    assert page.text(FOUND) == "nothing in these lines; the others can't be looked through now"
    page.web.evaluate("() => { window.gone = true; }")
    page.web.fill(".output input", "row 99999")
    page.pass_time(300)
    assert page.text(FOUND) == "1 of 1 in these lines; the others can't be looked through now"
    page.web.focus(".lines")
    page.press("g")
    assert page.text(".info").startswith("the first of the lines that are here")


def test_find_goes_on_from_the_last_lines(page: MonitorPage) -> None:
    """What is here is gone through first, then what stands before it, and all is counted."""
    page.stop_clock()
    run = _long(page)
    page.web.fill(".output input", "row 9999")
    page.pass_time(300)
    places = [["stdout", 9990, 1000], *(["stdout", 10 * n, n + 1] for n in range(99_990, 100_000))]
    _told(page, run, "row 9999", places)
    assert page.text(FOUND) == "10 of 10 in these lines, 11 in all of the log"
    for _ in range(9):
        page.press("Shift+Enter")
    assert page.line() == "row 99990"
    assert page.sent("lines") == []
    page.press("Shift+Enter")
    assert page.sent("lines")[-1]["line"] == 1000
    # An answer to what nobody asks any more changes nothing.
    page.tell(
        {"kind": "found", "run": run, "text": "older", "count": 7, "places": [], "part": None}
    )
    assert "11 in all" in page.text(FOUND)


def test_the_first_lines_are_those_of_the_log(page: MonitorPage) -> None:
    """``g`` shows the log's first lines and which they are; what comes is counted; G goes back."""
    run = _long(page)
    page.web.focus(".lines")
    page.press("g")
    wish = page.sent("lines")[-1]
    assert (wish["stream"], wish["offset"], wish["line"]) == ("", 0, 1)
    _part(page, run, 1, 0)
    assert page.text(".info") == "stdout, lines 1 to 20, of 977 KiB"
    assert page.line(".line >> nth=0") == "row 0"
    assert page.text(".more") == "↓ the last lines"
    page.output(run, ["new", "newer"], first=600, before=888_890)
    assert page.web.locator(".line").count() == 20
    assert page.text(".more") == "↓ 2 new lines"
    page.click(".lines button:has-text('then')")
    assert page.sent("lines")[-1]["offset"] == 200
    assert page.sent("lines")[-1]["line"] == 21
    _part(page, run, 21, 0)
    page.click(".lines button:has-text('before')")
    assert page.sent("lines")[-1]["offset"] == 199
    assert page.sent("lines")[-1]["line"] == 20
    page.web.focus(".lines")
    page.press("G")
    assert page.sent("output")[-1]["run"] == run
    page.output(run, ["the end"], first=0, before=988_000, bytes=988_890)
    assert page.web.locator(".line").all_text_contents() == ["the end"]
    assert page.text(".info") == "the last of 966 KiB"
    assert not page.shows(".more")
