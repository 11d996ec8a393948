"""That all text of ours can be read, in each place where it is shown and on each ground."""

from __future__ import annotations

from typing import Any

import monitor_page
import pytest
from card_page import CardPage
from converted import page_of
from fetched import axe
from judged import findings
from monitor_page import BEGAN, MonitorPage, blank_page, record

from qwex_jupyter.display.card import Card, LogView
from qwex_jupyter.display.render import card_html, note_html
from qwex_jupyter.display.tables import Table
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus

pytest_plugins = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.once]

CODES = [
    *map(str, (*range(30, 38), *range(90, 98), 2, 7)),
    *("38;5;16", "38;5;21", "38;5;226", "38;5;231", "38;2;255;255;1", "38;2;0;0;90", "2;31"),
    *("30;47", "97;44", "93;103", "41", "7;32"),
]
# So few that the smallest card shows all of them.
LINES = [
    " ".join(f"\x1b[{code}mcolour\x1b[0m" for code in CODES[:15]),
    " ".join(f"\x1b[{code}mcolour\x1b[0m" for code in CODES[15:]),
    "no colour; see \x1b[34mhttps://example.org/a\x1b[0m and https://example.org/b",
]
SAID = "Killed: it needed more memory. Next: a higher --memory, %qwex rerun k3x9qd."
DARK = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


def _runs() -> list[RunRecord]:
    """One of each status, and one whose backend doesn't answer."""
    made = [
        record(n, status, name=f"job-{n}", message=SAID if status in ("FAILED", "LOST") else "")
        for n, status in enumerate(map(str, RunStatus))
    ]
    away = {"reason": "BackendUnreachable", "message": "The engine is asked again.", "progress": ""}
    return [*made, record(20, "RUNNING", **away), record(21, "RUNNING", progress="62%")]


def _cards() -> list[str]:
    view = LogView(LINES, 500, 20_000)
    note = "interrupt the kernel to stop it"
    return [card_html(Card(run, view, note=note, now=BEGAN + 60)) for run in _runs()]


@pytest.fixture
def script() -> Any:
    """axe-core."""
    found, why = axe()
    if found is None:
        pytest.skip(why)
    return found


def test_what_is_faint_is_found(chromium: Any, script: Any) -> None:
    """The check finds grey on white and text over a picture, and fails where it judged nothing."""
    web = chromium.new_page()
    main = "<html lang=en><title>t</title><main>{}</main>"
    web.set_content(main.format("<p style='color:#888'>faint</p><p>clear</p>"))
    (found,) = findings(web, script, {"include": "main"})
    assert found.startswith("color-contrast: ")
    pictures = "background-image:linear-gradient(#fff,#888)"
    web.set_content(main.format(f"<p>clear</p><p style='{pictures}'>over it</p>"))
    (found,) = findings(web, script, {"include": "main"})
    assert found.startswith("its contrast isn't known: 'over it'")
    web.set_content(main.format("<p>✗</p>"))
    with pytest.raises(AssertionError, match="of no text"):
        findings(web, script, {"include": "main"})
    web.close()


@DARK
def test_a_saved_page_can_be_read(chromium: Any, script: Any, dark: bool) -> None:
    """In nbconvert's page, light and dark, all cards, notes and tables have 4.5 : 1."""
    table = Table(_runs(), now=BEGAN + 60, note="A note.")
    outputs = [*_cards(), note_html("No longer watched."), table.html()]
    web = chromium.new_page(viewport={"width": 1000, "height": 900})
    web.set_content(page_of(outputs, dark=dark), wait_until="domcontentloaded")
    wrong = findings(web, script, {"include": ".jp-OutputArea-output"})
    ground = web.evaluate("() => getComputedStyle(document.body).backgroundColor")
    web.close()
    assert (ground == "rgb(255, 255, 255)") is not dark
    assert wrong == []


@DARK
def test_a_live_card_can_be_read(chromium: Any, script: Any, dark: bool) -> None:
    """Each status and each colour of output has 4.5 : 1 in a live card, and so has its end."""
    with blank_page(chromium, CardPage, dark=dark) as page:
        for run in _runs():
            page.begin(run, LINES)
            assert page.axe(script) == []


@DARK
def test_output_in_the_monitor_can_be_read(chromium: Any, script: Any, dark: bool) -> None:
    """Each colour of output has 4.5 : 1 in the monitor, also where something was found in it."""
    with monitor_page.monitor_page(chromium, dark=dark) as page:
        page.begin(_runs())
        page.click("[role=row][data-run] >> nth=0")
        page.output(page.cursor(), LINES)
        assert page.axe(script) == []
        page.web.fill(".output input", "colour")
        assert page.web.locator(".hit").count() == len(LINES)
        assert page.axe(script) == []


# How far the ring of what has the focus is cut off by what it stands in, in pixels; and the ring.
_RINGS = """root => {
    const found = [];
    const all = 'a, button, input, summary, [tabindex]';
    for (const one of document.querySelectorAll(`${root} :is(${all})`)) {
        if (!one.checkVisibility() || one.disabled) continue;
        one.focus({focusVisible: true});
        if (document.activeElement !== one || !one.matches(':focus-visible')) continue;
        const style = getComputedStyle(one);
        const out = Math.max(0, parseFloat(style.outlineOffset) + parseFloat(style.outlineWidth));
        const box = one.getBoundingClientRect();
        const ring = [box.left - out, box.top - out, -box.right - out, -box.bottom - out];
        let cut = 0;
        for (let at = one.parentElement; at; at = at.parentElement) {
            const {overflowX, overflowY, contain, contentVisibility} = getComputedStyle(at);
            const cuts = [overflowX, overflowY].some(word => word !== 'visible')
                || /strict|content|paint/.test(contain) || contentVisibility === 'auto';
            if (!cuts || at === document.body || at === document.documentElement) continue;
            const room = at.getBoundingClientRect();
            const sides = [room.left, room.top, -room.right, -room.bottom];
            cut = Math.max(cut, ...sides.map((side, place) => side - ring[place]));
        }
        found.push([`${one.localName}.${one.className} ${one.textContent.slice(0, 20)}`,
            style.outlineStyle, parseFloat(style.outlineWidth), Math.round(10 * cut) / 10]);
    }
    return found;
}"""


def _rings(page: MonitorPage | CardPage, least: int) -> None:
    found = page.web.evaluate(_RINGS, f".{page.root}")
    assert len(found) >= least
    for name, style, width, cut in found:
        assert (style != "none", width >= 1) == (True, True), name
        assert cut <= 0, (name, cut)


@pytest.mark.parametrize("width", [1000, 420])
def test_the_ring_of_what_has_the_focus_is_whole(chromium: Any, width: int) -> None:
    """Nothing cuts off the ring around any button, field or link of a card and of the monitor."""
    with blank_page(chromium, CardPage, width=width) as page:
        page.begin(record(0, "RUNNING", runner="k8s"), LINES)
        page.click(".row button")
        _rings(page, 5)
    with monitor_page.monitor_page(chromium, width=width) as page:
        page.begin(_runs())
        page.click("[role=row][data-run] >> nth=0")
        page.output(page.cursor(), ["https://example.org/first", *LINES])
        _rings(page, 15)
