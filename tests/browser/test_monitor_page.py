"""The monitor's page, alone in a browser: rows, order, filter, keys, output, nothing as markup."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import monitor_page
import pytest
from fetched import axe
from local_helpers import until
from monitor_page import BEGAN, MonitorPage, many, record

from qwex_jupyter.display.colours import to_html
from qwex_jupyter.display.format import one_line, took
from qwex_jupyter.display.tables import Table
from qwex_jupyter.model.status import RunStatus

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Any) -> Iterator[MonitorPage]:
    """A blank page for a monitor."""
    with monitor_page.monitor_page(chromium) as made:
        yield made


def _about(page: MonitorPage, *runs: str, **more: Any) -> None:
    """Answers the page's last question about runs."""
    known = {r.run_id: r for r in page.records}
    answers = [
        {
            "run": run,
            "title": known[run].title,
            "message": known[run].message,
            "facts": [["command", known[run].command], ["host", "here"]],
            "asked": [],
            "script": "",
            "said": "",
            "copy": [["id", run], ["log path", f"/runs/{run}/stdout.log"]],
            **more,
        }
        for run in runs
    ]
    number = page.sent("about")[-1]["number"]
    page.tell({"kind": "about", "number": number, "runs": answers})


@pytest.mark.tier("quick")
def test_a_row_says_what_is_known_of_a_run(page: MonitorPage) -> None:
    """A row has handle, status with its cause, name, runner, times, exit code and command."""
    made = record(0, "FAILED", name="train", cause="Killed", message="Killed.", image="python:3.12")
    row = page.begin([made]).table()[0]
    assert row["run"] == made.handle
    assert row["status"] == "✗ failed Killed"
    assert (row["name"], row["runner"], row["image"]) == ("train", "local", "python:3.12")
    assert (row["time"], row["exit"], row["command"]) == ("2s", "1", "python train.py --seed 0")
    assert page.text(".count") == "1 run"


@pytest.mark.tier("quick")
def test_the_newest_is_on_top_and_what_waits_above_it(page: MonitorPage) -> None:
    """Runs come newest first; those that haven't started yet stand above all."""
    records = [record(0), record(1), record(2, "PENDING"), record(3, "RUNNING")]
    page.begin(records)
    assert [row["id"] for row in page.table()] == [records[i].run_id for i in (2, 3, 1, 0)]


def test_every_column_sorts(page: MonitorPage) -> None:
    """A click on a head sorts by it, a second the other way; what has no value comes last."""
    nothing = dict.fromkeys(("exit_code", "elapsed", "started_at", "finished_at"))
    records = [
        record(
            *(0, "FAILED"),
            name="b",
            exit_code=3,
            elapsed=9.0,
            runner="docker",
            image="x",
            command="b",
        ),
        record(*(1, "SUCCEEDED"), name="a", elapsed=1.0, runner="k8s", image="y", command="c"),
        record(2, "LOST", runner="local", command="a", **nothing),
    ]
    page.begin(records)
    number = {r.run_id: i for i, r in enumerate(records)}

    def order(column: str) -> list[int]:
        page.click(f"[role=columnheader].{column} button")
        assert page.web.locator("[aria-sort]").count() == 1
        return [number[row["id"]] for row in page.table()]

    def direction(column: str) -> str:
        return str(page.web.get_attribute(f"[role=columnheader].{column}", "aria-sort"))

    for column, first, second in [
        *(("run", [2, 1, 0], [0, 1, 2]), ("status", [1, 0, 2], [2, 0, 1])),
        *(("name", [1, 0, 2], [0, 1, 2]), ("runner", [0, 1, 2], [2, 1, 0])),
        *(("image", [0, 1, 2], [1, 0, 2]), ("started", [2, 1, 0], [0, 1, 2])),
        *(("time", [0, 1, 2], [1, 0, 2]), ("exit", [1, 0, 2], [0, 1, 2])),
        ("command", [2, 0, 1], [1, 0, 2]),
    ]:
        assert order(column) == first, column
        downward = column in ("run", "started", "time")
        assert direction(column) == ("descending" if downward else "ascending")
        assert order(column) == second, column
        assert direction(column) == ("ascending" if downward else "descending")


def test_heads_are_reached_and_pressed_by_keys(page: MonitorPage) -> None:
    """One Tab stop is in the heads; arrows go from one to the next, Enter and Space sort."""
    page.begin([record(0, name="b"), record(1, name="a")])
    page.web.focus("[role=columnheader].started button")
    page.press("ArrowLeft")
    # Runs without an image have no column for it, nor have runs of one runner.
    assert page.focus() == "button name"
    page.press("Enter")
    assert page.column("name") == ["a", "b"]
    page.press("Space")
    assert page.column("name") == ["b", "a"]
    stops = page.web.locator("[role=columnheader] button[tabindex='0']")
    assert stops.all_inner_texts() == ["name"]
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert page.focus() == "button command"


def test_the_tab_key_goes_from_left_to_right(page: MonitorPage) -> None:
    """Tab goes through filter, chips, buttons, table, and the pane with its output."""
    page.begin([record(0, "RUNNING"), record(1, "FAILED")])
    page.click(f"[data-run='{page.records[0].run_id}']")
    page.web.focus(".filter")
    stops = []
    while "Output" not in (stop := page.focus()):
        stops.append(stop.removeprefix("button "))
        assert len(stops) < 40, stops
        page.press("Tab")
    assert stops == [
        *("input Filter runs", "◐ running 1", "✗ failed 1", "Cancel", "Rerun", "Keys"),
        *("grid Runs", "started", "Close", "input Find in the output", "follow", "wrap"),
    ]


def test_order_and_selection_hold_while_runs_come_and_go(page: MonitorPage) -> None:
    """Changes keep the chosen order, the run at the keys and the selected ones that are left."""
    records = [record(i, "RUNNING", name=f"job-{i}") for i in (0, 2, 4)]
    page.begin(records)
    page.click("[role=columnheader].name button")
    page.click("[data-run] >> nth=1")
    page.click("[data-run] >> nth=2", modifiers=["Control"])
    page.change(record(1, "RUNNING", name="job-1"))
    assert page.column("name") == ["job-0", "job-1", "job-2", "job-4"]
    inside = page.web.evaluate(_READ_ORDER)
    assert inside == sorted(inside)
    assert page.cursor() == records[2].run_id
    assert page.picked() == [records[1].run_id, records[2].run_id]
    page.change(replace(records[0], name="job-9"))
    assert page.column("name") == ["job-1", "job-2", "job-4", "job-9"]
    page.change(gone=[records[1].run_id])
    assert page.picked() == [records[2].run_id]
    page.web.focus("[role=grid]")
    page.press("c")
    assert page.sent("do")[-1]["runs"] == [records[2].run_id]


def test_the_wheel_shows_what_is_there(page: MonitorPage) -> None:
    """In the middle of 10,000 runs stand those of that place, in order and under their numbers."""
    records = many(10_000)
    page.begin(records)
    page.web.hover("[role=grid]")
    page.web.mouse.wheel(0, 28 * 5000)
    table = until(lambda: (rows := page.table()) and int(rows[0]["index"]) > 4990 and rows)
    assert len(table) < 40
    indexes = [int(row["index"]) for row in table]
    assert indexes == list(range(indexes[0], indexes[0] + len(table)))
    ids = [r.run_id for r in sorted(records, key=_as_the_page_orders)]
    assert [row["id"] for row in table] == [ids[index - 2] for index in indexes]
    inside = page.web.evaluate(_READ_ORDER)
    assert inside == sorted(inside)
    box, grid = (
        page.web.locator(f".qwex-monitor {which}").bounding_box()
        for which in (f"[data-run='{table[len(table) // 2]['id']}']", "[role=grid]")
    )
    assert grid["y"] < box["y"] < grid["y"] + grid["height"]


def _as_the_page_orders(one: Any) -> Any:
    waits = one.status is RunStatus.PENDING
    started = one.created_at if one.started_at is None else one.started_at
    return (not waits, -started)


_READ_ORDER = """() => [...document.querySelectorAll('.qwex-monitor .body > [role=row]')]
    .map(row => Number(row.getAttribute('aria-rowindex')))"""


def test_a_filter_looks_at_all_columns_of_all_runs(page: MonitorPage) -> None:
    """Words must all be found, in whichever column; ``field:word`` looks in one."""
    records = [
        *(record(i) for i in range(60)),
        record(100, "FAILED", name="Alpha", labels={"team": "red"}, notebook="deep/learn.ipynb"),
        record(101, "FAILED", name="beta", reason="OutOfMemory", message="used 2 GiB"),
    ]
    page.begin(records)
    for words, names in {
        "alpha": ["Alpha"],
        "failed": ["beta", "Alpha"],
        "failed gib": ["beta"],
        "status:failed name:al": ["Alpha"],
        "outofmem": ["beta"],
        "team=red": ["Alpha"],
        "learn.ipynb failed": ["Alpha"],
        '"--seed 59"': [""],
        'command:"seed 59"': [""],
        "exit:1": ["beta", "Alpha"],
        "nothing-like-it": [],
    }.items():
        page.web.fill(".filter", words)
        assert page.column("name") == names, words
        assert page.text(".count") == f"{len(names)} of 62"
    assert page.text(".empty") == "0 of 62 runs — \nclear the filter (Esc)".replace("\n", "")
    page.press("Escape")
    assert page.text(".count") == "62 runs"
    assert page.focus() == "grid Runs"


def test_chips_count_and_choose(page: MonitorPage) -> None:
    """A chip for each status that there is, with its count; pressed ones choose."""
    page.begin(many(14))
    chips = page.web.locator(".chip:visible").all_inner_texts()
    assert chips == [
        *("○ pending 2", "◐ running 2", "✓ succeeded 4", "✗ failed 2", "⊘ cancelled 2", "? lost 2")
    ]
    page.click(".chip.FAILED")
    assert set(page.column("status")) == {"✗ failed"}
    page.click(".chip.LOST")
    assert len(page.table()) == 4
    assert page.text(".count") == "4 of 14"
    assert page.web.get_attribute(".chip.LOST", "aria-pressed") == "true"
    page.click(".chip.LOST")
    page.click(".chip.FAILED")
    assert page.text(".count") == "14 runs"


def test_ten_thousand_rows_are_a_few_elements(
    page: MonitorPage, record_property: Callable[..., None]
) -> None:
    """Of 10,000 runs a few are in the page; scrolling, sorting and filtering stay quick."""
    records = many(10_000)
    page.begin(records)
    assert page.web.locator("[role=row][data-run]").count() < 40
    assert page.web.get_attribute("[role=grid]", "aria-rowcount") == "10001"
    page.web.focus("[role=grid]")
    page.press("End")
    assert page.cursor() == records[0].run_id
    # `many` begins with a run that has started, so the oldest stands at the very end.
    last = page.table()[-1]
    assert (last["id"], last["index"]) == (records[0].run_id, "10001")
    took = page.web.evaluate(_KEYSTROKES)
    most = took.pop("touched")
    for name, value in {"first paint": page.web.evaluate("() => window.taken"), **took}.items():
        record_property(name, value)
        print(f"{name}: {value:.1f} ms")
    # How long it takes is the machine's; how much of the page is touched is ours.
    assert most < 600
    assert page.text(".count") == "1,000 of 10,000"


# The median of some keystrokes in the filter, and of as many sorts; and how many changes to the
# page one of them made at the most.
_KEYSTROKES = """() => {
    const watch = new MutationObserver(() => {});
    watch.observe(document.querySelector('.qwex-monitor'),
        {subtree: true, childList: true, characterData: true, attributes: true});
    let touched = 0;
    const input = document.querySelector('.filter');
    const median = list => list.sort((a, b) => a - b)[list.length >> 1];
    const filter = [], sort = [];
    for (const text of ['j', 'jo', 'job', 'job-', 'job-7', 'job-', 'job-7']) {
        const begun = performance.now();
        input.value = text;
        input.dispatchEvent(new Event('input'));
        filter.push(performance.now() - begun);
        touched = Math.max(touched, watch.takeRecords().length);
    }
    for (let i = 0; i < 4; i++) {
        const begun = performance.now();
        document.querySelector('[role=columnheader].command button').click();
        sort.push(performance.now() - begun);
        touched = Math.max(touched, watch.takeRecords().length);
    }
    return {filter: median(filter), sort: median(sort), touched};
}"""


def test_older_rows_come_by_and_by(page: MonitorPage) -> None:
    """What isn't there yet is asked for; total and counts are those of all from the beginning."""
    records = many(30)
    older, newer = records[:20], records[20:]
    everything = monitor_page.whole(records)
    page.begin(newer, total=30, counts=everything["counts"], before=newer[0].run_id)
    assert page.text(".count") == "30 runs, loading 10"
    chips = page.web.locator(".chip:visible").all_inner_texts()
    assert sum(int(chip.split()[-1]) for chip in chips) == 30
    page.web.fill(".filter", records[3].run_id)
    assert page.table() == []
    wish = until(lambda: page.sent("more"))[0]
    assert wish["before"] == newer[0].run_id
    page.tell({"kind": "more", "rows": monitor_page.whole(older)["rows"], "before": ""})
    assert [row["id"] for row in page.table()] == [records[3].run_id]
    page.web.fill(".filter", "")
    assert page.text(".count") == "30 runs"
    page.web.focus("[role=grid]")
    page.press("End")
    assert page.cursor() == records[0].run_id
    assert len(page.sent("more")) == 1


def test_changes_reach_the_row(page: MonitorPage) -> None:
    """A run that starts, ends, comes or goes does so in its row, in the counts and the order."""
    records = [record(0), record(1, "PENDING")]
    page.stop_clock().begin(records, now=BEGAN + 10)
    running = replace(records[1], status=RunStatus.RUNNING, started_at=BEGAN + 5)
    page.change(running)
    assert page.table()[0]["status"] == "◐ running"
    assert page.table()[0]["time"] == "0:00:05"
    page.change(
        replace(running, status=RunStatus.FAILED, exit_code=7, elapsed=5.0, reason="NonZeroExit")
    )
    assert page.table()[0]["exit"] == "7"
    assert "✗ failed 1" in page.web.locator(".chip:visible").all_inner_texts()
    page.change(record(5, "RUNNING", name="new", started_at=BEGAN + 8))
    assert page.column("name")[0] == "new"
    assert page.text(".count") == "3 runs"
    page.change(gone=[records[0].run_id])
    assert page.text(".count") == "2 runs"
    assert records[0].run_id not in [row["id"] for row in page.table()]


def test_a_missed_change_is_noticed(page: MonitorPage) -> None:
    """A number that doesn't follow makes the page ask for the whole; an old one is passed over."""
    records = many(3)
    page.begin(records)
    page.change(record(9), number=7)
    assert page.text(".count") == "3 runs"
    assert [wish["seen"] for wish in page.sent("hello")] == [1, 1]
    page.tell({"kind": "whole", **monitor_page.whole([*records, record(9)], number=7)})
    assert page.text(".count") == "4 runs"
    page.change(gone=[records[0].run_id], number=7)
    assert page.text(".count") == "4 runs"


def test_a_ticking_clock_runs_without_the_kernel(page: MonitorPage) -> None:
    """The time of what runs goes on by itself, by the kernel's clock, until the kernel is gone."""
    # The kernel's clock is an hour ahead of the page's.
    skewed = BEGAN + 3600
    page.stop_clock().begin([record(0, "RUNNING", started_at=skewed - 99)], now=skewed + 1)
    assert page.column("time") == ["0:01:40"]
    for later in ("0:01:41", "0:01:42"):
        page.pass_time(1000)
        assert page.column("time") == [later]
    assert len(page.sent("hello")) == len(page.web.evaluate("() => window.sent")) == 1
    page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
    page.pass_time(5000)
    assert page.column("time") == ["0:01:42"]


TOOK = [0.0, 0.0004, 0.0145, 0.015, 0.0149999, 0.0996, 0.1, 0.25, 0.35, 1.25, 3.0, 3.0000001, 3.04]
TOOK += [5.004991, 59.94, 59.95, 59.97, 60.0, 61.2, 3599.97, 360000.0, 1e6 + 0.5]


@pytest.mark.parametrize("lengths", [TOOK[:12], TOOK[12:]])
def test_a_run_has_one_duration(page: MonitorPage, lengths: list[float]) -> None:
    """Card, table and monitor say the same of how long a run took, to the last digit."""
    records = [record(number, elapsed=seconds) for number, seconds in enumerate(lengths)]
    page.begin(records)
    said = []
    for one in records:
        text = one_line(one)
        assert text.endswith(f" · {took(one, BEGAN)}")
        assert f"  {took(one, BEGAN)}\n" in Table([one], now=BEGAN).text()
        said.append(took(one, BEGAN))
    assert page.column("time") == said[::-1]


def test_the_keyboard_goes_everywhere(page: MonitorPage) -> None:
    """Arrows, j and k, pages, ends; Enter opens details and then the output, Escape goes back."""
    records = [record(i) for i in range(100)]
    page.begin(records)
    newest = [r.run_id for r in reversed(records)]
    page.web.focus("[role=grid]")
    for key, place in [
        *(("ArrowDown", 0), ("ArrowDown", 1), ("j", 2), ("k", 1), ("ArrowUp", 0), ("ArrowUp", 0)),
        *(("PageDown", 11), ("End", 99), ("PageUp", 88), ("Home", 0)),
    ]:
        page.press(key)
        assert page.cursor() == newest[place], key
    page.press("Enter")
    assert page.shows(".pane")
    assert page.focus() == "grid Runs"
    page.press("Enter")
    assert page.focus() == "log Output"
    page.press("Escape")
    assert page.focus() == "grid Runs"
    page.press("Escape")
    assert not page.shows(".pane")
    page.press("/")
    assert page.focus() == "input Filter runs"
    page.web.keyboard.type('"seed 42"')
    page.press("ArrowDown")
    assert page.cursor() == newest[57]
    page.press("Escape")
    assert page.text(".count") == "100 runs"
    page.press("?")
    assert "in the output" in page.text(".keys")
    page.press("Escape")
    assert not page.shows(".keys")


def test_nothing_in_it_lets_a_key_through_to_jupyter(page: MonitorPage) -> None:
    """All that can have the focus carries the mark by which Jupyter leaves its keys alone."""
    page.begin([record(0, "RUNNING"), record(1)])
    page.click("[role=row][data-run] >> nth=0")
    _about(page, page.cursor(), script="print(1)")
    bare = page.web.evaluate(
        "() => [...document.querySelectorAll('.qwex-monitor button, .qwex-monitor input, "
        ".qwex-monitor summary, .qwex-monitor [tabindex]')]"
        ".filter(e => !e.hasAttribute('data-lm-suppress-shortcuts')).map(e => e.outerHTML)"
    )
    assert bare == []


def test_several_are_selected(page: MonitorPage) -> None:
    """Shift extends, Space and Ctrl toggle, Ctrl+A takes all that the filter shows."""
    records = [record(i) for i in range(6)]
    page.begin(records)
    page.web.focus("[role=grid]")
    page.press("ArrowDown", "Shift+ArrowDown", "Shift+ArrowDown")
    assert len(page.picked()) == 3
    page.press("ArrowDown")
    assert len(page.picked()) == 1
    page.click("[role=row][data-run] >> nth=0", modifiers=["Control"])
    assert len(page.picked()) == 2
    page.press("Space")
    assert len(page.picked()) == 1
    page.click("[role=row][data-run] >> nth=5", modifiers=["Shift"])
    assert len(page.picked()) == 6
    page.web.fill(".filter", '"seed 3"')
    page.press("ArrowDown", "Control+a")
    assert page.picked() == [records[3].run_id]


def test_what_a_filter_hides_is_left_alone(page: MonitorPage) -> None:
    """Nothing happens to selected runs that aren't seen; they are selected again when they are."""
    records = [record(i, "RUNNING") for i in range(3)]
    page.begin(records)
    page.web.focus("[role=grid]")
    page.press("Control+a")
    page.web.fill(".filter", '"seed 1"')
    page.web.focus("[role=grid]")
    page.press("c")
    assert [wish["runs"] for wish in page.sent("do")] == [[records[1].run_id]]
    page.web.fill(".filter", "nothing has this")
    assert page.web.is_disabled("[data-verb=cancel]")


def test_only_what_can_be_done_is_offered(page: MonitorPage) -> None:
    """A button that can't do anything is grey and its title says why."""
    page.begin([record(0), record(1, "RUNNING")])

    def state() -> dict[str, bool]:
        return {
            verb: page.web.is_enabled(f"[data-verb={verb}]")
            for verb in ("cancel", "rerun", "delete", "compare")
        }

    assert not any(state().values())
    page.click("[role=row][data-run] >> nth=0")
    assert state() == {"cancel": True, "rerun": True, "delete": False, "compare": False}
    assert "still runs" in str(page.web.get_attribute("[data-verb=delete]", "title"))
    page.click("[role=row][data-run] >> nth=1")
    assert state() == {"cancel": False, "rerun": True, "delete": True, "compare": False}
    page.click("[role=row][data-run] >> nth=0", modifiers=["Shift"])
    assert state() == {"cancel": True, "rerun": True, "delete": False, "compare": True}


def test_what_hurts_is_asked_first(page: MonitorPage) -> None:
    """One local run is cancelled at once; several, one on a cluster, and deleting are asked."""
    records = [record(0), record(1, "RUNNING", runner="k8s"), record(2, "RUNNING")]
    page.begin(records)
    page.web.focus("[role=grid]")
    page.press("ArrowDown", "c")
    assert page.sent("do")[-1]["runs"] == [records[2].run_id]
    page.press("ArrowDown", "c")
    assert len(page.sent("do")) == 1
    assert page.text(".question").startswith(f"Cancel {records[1].handle}?")
    assert page.focus() == "button Cancel it"
    page.press("Escape")
    assert not page.shows(".question")
    assert len(page.sent("do")) == 1
    page.press("c", "Enter")
    assert page.sent("do")[-1] == {
        **page.sent("do")[-1],
        "verb": "cancel",
        "runs": [records[1].run_id],
    }
    page.press("End", "Delete")
    assert "with output and record" in page.text(".question")
    assert page.focus() == "button Keep"
    page.press("Enter")
    assert not page.shows(".question")
    assert page.sent("do")[-1]["verb"] == "cancel"
    page.press("Delete", "Shift+Tab", "Enter")
    assert page.sent("do")[-1]["verb"] == "delete"
    page.press("Control+a", "c")
    assert "Cancel 2 runs?" in page.text(".question")
    page.press("Enter")
    assert set(page.sent("do")[-1]["runs"]) == {records[1].run_id, records[2].run_id}
    page.press("r")
    assert "Run 3 runs again?" in page.text(".question")


# How JupyterLab and others lay out a list of definitions.
LISTS = "dl dt { float: left; width: 20%; padding: 0 9px } dl dd { float: left; width: 78% }"


@pytest.mark.parametrize("width", [1200, 640, 420])
def test_a_name_stands_in_one_line_beside_what_it_means(page: MonitorPage, width: int) -> None:
    """In help and details no style of a front end breaks names, or puts them elsewhere."""
    page.web.set_viewport_size({"width": width, "height": 800})
    page.begin([record(0)])
    page.web.evaluate(
        "css => document.head.append(Object.assign(document.createElement('style'),"
        " {textContent: css}))",
        LISTS,
    )
    page.click("[role=row][data-run]")
    names = ("cpu time", "peak memory", "image digest", "container id", "git commit")
    _about(page, page.cursor(), facts=[[name, "sha256:" + "0" * 64] for name in names])
    page.click("summary")
    page.click("[aria-label=Keys]")
    found = page.web.evaluate(
        "() => [...document.querySelectorAll('dt')].filter(dt => dt.offsetParent).map(dt => {"
        " const one = dt.getBoundingClientRect(), range = document.createRange();"
        " range.selectNodeContents(dt);"
        " const other = dt.nextSibling.getBoundingClientRect();"
        " return [dt.textContent, new Set([...range.getClientRects()].map(r => r.top)).size,"
        "  Math.abs(one.top - other.top) < 4, other.left >= one.right, other.width > 60]; })"
    )
    assert len(found) == 15
    for name, *looks in found:
        assert looks == [1, True, True, True], name


def test_a_rerun_is_selected_when_it_comes(page: MonitorPage) -> None:
    """After a rerun the new run is at the keys; what failed is told in words."""
    records = [record(0, "FAILED"), record(1)]
    page.begin(records)
    page.click("[role=row][data-run] >> nth=1")
    page.web.focus("[role=grid]")
    page.press("r")
    assert page.sent("do")[0]["verb"] == "rerun"
    new = record(50, "RUNNING")
    did = {"kind": "did", "number": 1, "verb": "rerun"}
    page.tell({**did, "failed": [], "made": [new.run_id]})
    assert page.text(".note") == f"started {new.handle}"
    page.change(new)
    until(lambda: page.cursor() == new.run_id)
    page.tell({**did, "failed": [[records[0].run_id, "the file is gone"]], "made": []})
    assert page.text(".note") == f"{records[0].handle}: the file is gone"


def test_the_cause_is_read_at_once(page: MonitorPage) -> None:
    """Selecting a failed run shows its cause and next step without an answer of the kernel."""
    made = record(
        *(0, "FAILED"),
        reason="OutOfMemory",
        cause="Killed for memory",
        message="Killed for memory. Try %qwex rerun x.",
    )
    page.begin([made])
    page.web.evaluate("() => { window.busy = true; }")
    page.click("[role=row][data-run]")
    assert page.text(".why") == "Killed for memory. Try %qwex rerun x."
    assert "✗ failed" in page.text(".title")
    assert "exit" not in page.text(".title")  # 1 tells nothing
    page.change(replace(made, exit_code=137))
    assert "exit 137" in page.text(".title")


def test_a_busy_kernel_is_told_and_forgotten(page: MonitorPage) -> None:
    """After 1.5 s without an acknowledgement the page says that the kernel is busy."""
    page.stop_clock().begin([record(0, "RUNNING")])
    page.web.focus("[role=grid]")
    page.web.evaluate("() => { window.busy = true; }")
    page.press("ArrowDown", "c")
    page.pass_time(1499)
    assert not page.shows(".banner:not(.question)")
    page.pass_time(1)
    assert page.shows(".banner:not(.question)")
    assert "The kernel is busy" in page.text(".banner:not(.question)")
    assert "Interrupt the kernel" in page.text(".banner:not(.question)")
    for wish in page.web.evaluate("() => window.sent"):
        page.tell({"kind": "ack", "number": wish["number"]})
    assert not page.shows(".banner:not(.question)")


def test_a_kernel_that_is_gone_is_told_and_comes_back(page: MonitorPage) -> None:
    """A restart greys the table and says so; Enter has the new kernel make a monitor again."""
    page.begin([record(0), record(1)])
    page.web.evaluate(_RESTARTED, {"snapshot": monitor_page.whole([record(7, name="after")])})
    assert "was restarted" in page.text(".banner:not(.question)")
    page.web.fill(".filter", '"seed 1"')  # what is known can still be looked at
    assert len(page.table()) == 1
    page.press("ArrowDown")
    assert not page.web.is_enabled("[data-verb=rerun]")
    page.press("Enter")
    until(lambda: not page.shows(".banner:not(.question)"))
    page.press("Escape")
    assert page.column("name") == ["after"]
    assert page.web.evaluate("() => window.asked.user_expressions.id") == "MAKE ANOTHER"
    page.tell(
        {"kind": "changes", "number": 2, "counts": {}, "total": 0, "gone": [page.table()[0]["id"]]}
    )
    assert page.table() == []


# The model dies as one does at a restart; the front end's manager has a new kernel.
_RESTARTED = """state => {
    const model = {...window.model, get: name => state[name], send: w => window.sent.push(w)};
    const id = {status: 'ok', data: {'text/plain': "'new'"}};
    const done = {content: {user_expressions: {id}}};
    Object.assign(window.model.widget_manager, {
        kernel: {requestExecute: asked => {
            window.asked = asked;
            return {done: Promise.resolve(done)};
        }},
        has_model: id => id === 'new',
        get_model: async () => model,
    });
    const before = window.model.get;
    window.model.get = name => name === 'again' ? 'MAKE ANOTHER' : before(name);
    window.gone = true;
    window.listeners.comm_live_update.forEach(call => call());
}"""


def test_a_kernel_that_cannot_come_back_says_what_to_do(page: MonitorPage) -> None:
    """Where the page can't reach the new kernel it says which cell to run."""
    page.begin([record(0)])
    page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
    page.web.focus("[role=grid]")
    page.press("ArrowDown", "Enter")
    until(lambda: "run the cell of the monitor again" in page.text(".banner:not(.question)"))


def test_output_is_shown_followed_and_found(page: MonitorPage) -> None:
    """Lines come live and are followed, until one scrolls up; /, n, N, f, w, g, G do as said."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    run = page.cursor()
    assert page.sent("output")[-1]["run"] == run
    page.output(run, [f"line {i}" for i in range(100)])
    assert page.text(".info") == "100 lines · 790 B"
    assert _at_the_end(page)
    page.web.focus(".lines")
    page.press("g")
    assert not _at_the_end(page)
    page.output(run, ["x 100", "x 101"], first=100)
    assert page.text(".more") == "↓ 2 new lines"
    assert not _at_the_end(page)
    page.press("f")
    assert _at_the_end(page)
    assert not page.shows(".more")
    page.press("/")
    page.web.keyboard.type("LINE 1")
    assert page.text(".output .bar [role=status]") == "11 of 11"
    page.press("Enter", "Escape", "/")
    page.web.keyboard.type("line 42")
    assert page.text(".output .bar [role=status]") == "1 of 1"
    assert page.line() == "line 42"
    page.press("Escape")
    page.press("w")
    assert page.web.get_attribute("button:text-is('wrap')", "aria-pressed") == "false"
    page.press("G")
    assert _at_the_end(page)


def _at_the_end(page: MonitorPage) -> bool:
    return bool(
        page.web.evaluate(
            "() => { const e = document.querySelector('.lines');"
            " return e.scrollTop + e.clientHeight >= e.scrollHeight - 4; }"
        )
    )


def test_a_line_that_grows_is_one_line(page: MonitorPage) -> None:
    """A line that wasn't finished is replaced by its next state."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    run = page.cursor()
    page.output(run, ["a", "10%"])
    page.output(run, ["90%"], first=1)
    page.output(run, ["100%", "b"], first=1)
    assert page.web.locator(".lines .line").all_text_contents() == ["a", "100%", "b"]
    assert page.text(".info").startswith("3 lines")


def test_output_keeps_two_thousand_lines(page: MonitorPage) -> None:
    """Of a flood the last 2,000 lines stay; those that weren't sent are counted."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    run = page.cursor()
    page.output(run, [f"line {i}" for i in range(1000)])
    page.output(run, [f"line {i}" for i in range(5000, 6000)], first=5000, after=1000)
    lines = page.web.locator(".lines .line").all_text_contents()
    assert lines[999] == "… 4,000 lines not shown, all of them in the log"
    assert lines[-1] == "line 5999"
    assert len(lines) == 2000
    page.output(run, ["last"], first=6000)
    assert page.text(".info").startswith("6,001 lines")
    assert page.web.locator(".lines .line").count() == 2000


def test_colours_are_those_of_the_terminal(page: MonitorPage) -> None:
    """Of any colour codes the page makes the same runs of text as display/colours.py."""
    rng = random.Random(6)
    codes = [*map(str, (0, 1, 2, 3, 4, 9, 22, 23, 24, 29, 31, 36, 39, 42, 49, 90, 107))]
    codes += ["38;5;3", "38;5;100", "48;5;240", "38;2;1;2;300", "38;5", "1;4;9;33", ""]
    lines = []
    for _ in range(60):
        parts = [f"\x1b[{rng.choice(codes)}m{rng.choice(['a<b', 'x', '&'])}" for _ in range(6)]
        lines.append("".join(parts) + "\x1b[0m")
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), lines)
    found = page.web.evaluate(
        "() => [...document.querySelectorAll('.lines .line')].map(line => [...line.childNodes]"
        ".map(node => [node.textContent, node.style ? node.style.fontWeight : '',"
        " node.style ? node.style.textDecoration : '', node.style ? node.style.fontStyle : '',"
        " /c\\d/.test(node.className ?? '') || !!node.style?.color,"
        " /b\\d/.test(node.className ?? '') || !!node.style?.backgroundColor]))"
    )
    for line, nodes in zip(lines, found, strict=True):
        assert _joined(nodes) == _joined(_expected(line)), repr(line)


def _joined(nodes: list[list[Any]]) -> list[list[Any]]:
    """Neighbours that look the same as one."""
    joined: list[list[Any]] = []
    for text, *look in nodes:
        if joined and joined[-1][1:] == look:
            joined[-1][0] += text
        else:
            joined.append([text, *look])
    return joined


def _expected(line: str) -> list[list[Any]]:
    nodes = []
    for style, marked, bare in re.findall(
        r'<span style="([^"]*)">([^<]*)</span>|([^<]+)', to_html(line)
    ):
        css = dict(part.split(":", 1) for part in style.split(";") if part)
        text = (marked or bare).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        look = [css.get("font-weight", ""), css.get("text-decoration", "")]
        look += [css.get("font-style", ""), "color" in css, "background-color" in css]
        nodes.append([text, *look])
    return nodes


EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>&amp;\"'"


def test_nothing_is_taken_for_markup(page: MonitorPage) -> None:
    """Names, commands, messages, details and output are text, whatever stands in them."""
    made = record(
        *(0, "FAILED"),
        name=EVIL,
        command=EVIL,
        image=EVIL,
        reason=EVIL,
        message=EVIL,
        labels={EVIL: EVIL},
        notebook=EVIL,
        progress=EVIL,
        runner=EVIL,
    )
    page.begin([made, record(1, "RUNNING", name=EVIL)])
    page.click("[role=row][data-run] >> nth=1")
    _about(page, made.run_id, title=EVIL, facts=[[EVIL, EVIL]], script=EVIL, said=EVIL)
    page.output(made.run_id, [EVIL, f"\x1b[31m{EVIL}"])
    page.tell({"kind": "did", "number": 1, "verb": "rerun", "failed": [[EVIL, EVIL]], "made": []})
    page.click("summary")
    page.web.focus("[role=grid]")
    page.press("Control+a", "v")
    _about(page, *(r.run_id for r in page.records), title=EVIL, facts=[[EVIL, EVIL], ["a", EVIL]])
    page.press("Escape", "r")
    # What the page might have begun to load has failed when this has, which came last.
    page.web.evaluate(
        "() => new Promise(done => { const last = new Image(); last.onerror = done;"
        " last.src = 'x'; document.body.append(last); })"
    )
    assert page.web.evaluate("() => window.hacked === undefined")
    assert page.web.locator(".qwex-monitor img, .qwex-monitor script").count() == 0
    assert EVIL in page.web.text_content(".qwex-monitor")


def test_runs_are_compared(page: MonitorPage) -> None:
    """Selected runs stand side by side, first in what they differ; what is the same is folded."""
    records = [record(0, "FAILED"), record(1)]
    page.begin(records)
    page.web.focus("[role=grid]")
    page.press("Control+a", "v")
    _about(page, *(r.run_id for r in reversed(records)))
    table = page.text(".compare > table")
    assert f"{records[1].handle}\t{records[0].handle}" in table
    assert "status\t✓ succeeded\t✗ failed" in table
    assert "command\tpython train.py --seed 1\tpython train.py --seed 0" in table
    assert page.text(".compare summary") == "the same in all: host"


def test_a_run_is_titled_after_a_comparison_too(page: MonitorPage) -> None:
    """Who goes from a comparison back to the run that was open before sees that run's title."""
    page.stop_clock().begin([record(0, "FAILED"), record(1)])
    page.click("[role=row][data-run] >> nth=0")
    titled = page.text(".title")
    assert titled.startswith("✓ succeeded")
    page.web.focus("[role=grid]")
    page.press("Control+a", "v")
    page.pass_time(1000)  # the pane follows the keys after a moment, and not over a comparison
    assert page.text(".title") == "Comparison"
    page.click("[role=row][data-run] >> nth=0")
    assert page.text(".title") == titled


def test_what_is_copied_is_whole(page: MonitorPage, chromium: Any) -> None:
    """The buttons of a run copy its id, command, backend's line and log path."""
    page.web.evaluate(
        "() => Object.defineProperty(navigator, 'clipboard', {value: {"
        "writeText: async text => { window.copied = text; }}})"
    )
    page.begin([record(0)])
    page.click("[role=row][data-run]")
    _about(
        page, page.cursor(), copy=[["id", "one"], ["command", "a\nb"], ["docker", "docker logs x"]]
    )
    for label, text in (("id", "one"), ("command", "a\nb"), ("docker", "docker logs x")):
        page.click(f".details button:text-is('{label}')")
        assert page.web.evaluate("() => window.copied") == text
        assert page.text(".note") == f"copied the {label}"


def test_an_empty_history_says_how_to_begin(page: MonitorPage) -> None:
    """Without runs there is a sentence with the first command, and no empty table."""
    page.begin([])
    assert page.text(".empty").startswith("No runs yet. Start one: write %%qwex above")
    assert not page.shows("[role=grid]")
    page.change(record(0, "RUNNING"))
    assert not page.shows(".empty")
    assert len(page.table()) == 1


@pytest.mark.parametrize("width", [1200, 700, 480])
def test_it_fits_where_it_is(chromium: Any, width: int) -> None:
    """Nothing sticks out; where it is narrow, run, status, name, time and exit code are left."""
    with monitor_page.monitor_page(chromium, width=width) as page:
        page.begin([record(0, "FAILED", name="n" * 80, image="i" * 99, reason="R" * 40)])
        page.click("[role=row][data-run]")
        over = page.web.evaluate(
            "() => ['.qwex-monitor', '[role=grid]'].map(s => document.querySelector(s))"
            ".map(e => e.scrollWidth - e.clientWidth)"
        )
        assert over == [0, 0]
        seen = page.web.locator("[role=columnheader]:visible").all_inner_texts()
        narrow = ["run", "status", "name", "time", "exit"]
        assert (seen == narrow) is (width < 620)


@pytest.mark.parametrize("width", [1400, 700])
def test_what_is_the_same_in_all_rows_is_said_once(chromium: Any, width: int) -> None:
    """The runner that all runs have stands above the table, and its room is the command's."""
    with monitor_page.monitor_page(chromium, width=width) as page:
        one = record(0, "RUNNING")
        page.begin([one, record(1)])

        def room() -> float:
            box = page.web.locator("[role=row][data-run] .command").first.bounding_box()
            return float(box["width"]) if box else 0.0

        assert not page.shows("[role=columnheader].runner")
        assert "all local" in page.text(".tools")
        before = room()
        assert before > (600 if width > 1000 else 120)
        page.change(replace(record(2), runner="k8s"))
        assert page.shows("[role=columnheader].runner")
        assert "all" not in page.text(".tools").split()
        assert room() < before


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(chromium: Any, dark: bool) -> None:
    """Axe has no finding: table, details, output in colours, question, keys, empty state."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    with monitor_page.monitor_page(chromium, dark=dark) as page:
        page.begin([])
        assert page.axe(script) == []
        page.begin([*many(30), record(99, "FAILED", reason="NonZeroExit", message="Exit code 1.")])
        assert page.axe(script) == []
        page.web.fill(".filter", "exit:1 nonzero")
        page.press("ArrowDown", "Enter")
        _about(page, page.cursor(), script="print(1)\n" * 50)
        colours = [f"\x1b[{code}mtext\x1b[0m" for code in (*range(31, 38), *range(90, 97))]
        page.output(page.cursor(), colours * 5)
        page.click("summary")
        assert page.axe(script) == []
        page.web.fill(".output input", "text")
        page.web.focus("[role=grid]")
        page.press("?", "Delete")
        assert page.axe(script) == []
        page.press("Escape", "Control+a")
        page.web.fill(".filter", "nothing at all")
        assert page.axe(script) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_where_the_kernel_is_silent(chromium: Any, dark: bool) -> None:
    """Axe has no finding: comparison, a busy kernel, one that is gone, one that can't come back."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    with monitor_page.monitor_page(chromium, dark=dark) as page:
        page.begin([record(i, "FAILED", reason="NonZeroExit", message="Code 1.") for i in (0, 1)])
        page.web.focus("[role=grid]")
        page.press("Control+a", "v")
        _about(page, *(r.run_id for r in page.records))
        assert page.shows(".compare")
        assert page.axe(script) == []
        page.web.evaluate("() => { window.busy = true; }")
        page.click("[data-run] >> nth=0")
        page.output(page.cursor(), ["\x1b[31mred\x1b[0m plain", "\x1b[2mfaint\x1b[0m"])
        _about(page, page.cursor(), script="print(1)")
        until(lambda: page.shows(".banner[data-state=busy]"))
        assert page.axe(script) == []
        page.web.evaluate("() => { window.gone = true; window.listeners.comm_live_update[0](); }")
        _faded(page)
        assert page.shows(".banner[data-state=gone]")
        assert page.axe(script) == []
        page.click(".banner[data-state=gone] button")
        until(lambda: "could not be brought back" in page.text(".banner:not(.question)"))
        assert page.axe(script) == []


def _faded(page: MonitorPage) -> None:
    """Waits until what moves has come to rest."""
    page.web.evaluate(
        "() => Promise.all(document.getAnimations().map(one => one.finished)).then(() => null)"
    )


def test_a_screen_reader_hears_what_it_is(page: MonitorPage) -> None:
    """Roles, names, counts and states are there for who doesn't see the page."""
    page.begin(many(10))
    page.click("[role=row][data-run] >> nth=0")
    tree = page.web.locator(".qwex-monitor").aria_snapshot()
    for part in (
        'region "Run monitor"',
        'searchbox "Filter runs"',
        'group "Only these statuses"',
        "status: 10 runs",
        'grid "Runs"',
        "columnheader",
        "row ",
        "[selected]",
        'log "Output"',
    ):
        assert part in tree, part
    grid = page.web.locator("[role=grid]")
    assert grid.get_attribute("aria-rowcount") == "11"
    assert grid.get_attribute("aria-activedescendant")


def test_it_moves_only_for_who_likes_that(page: MonitorPage) -> None:
    """Under reduced motion nothing is animated."""
    page.web.emulate_media(reduced_motion="reduce")
    page.begin([record(0)])
    moving = page.web.evaluate(
        "() => [...document.querySelectorAll('.qwex-monitor, .qwex-monitor *')]"
        ".map(element => getComputedStyle(element))"
        ".filter(s => s.transitionDuration !== '0s' || s.animationName !== 'none').length"
    )
    assert moving == 0


def test_closing_says_goodbye(page: MonitorPage) -> None:
    """A page that shows the monitor no more tells the kernel, and leaves no clock behind."""
    page.begin([record(0, "RUNNING", created_at=BEGAN)])
    page.web.evaluate("() => window.cleanup()")
    assert len(page.sent("bye")) == 1
    assert page.web.evaluate("() => window.listeners['msg:custom'].length") == 0


def test_a_whole_that_says_something_else_reaches_the_rows(page: MonitorPage) -> None:
    """A row that was shown already is shown anew when the page is given all rows once more."""
    waits = record(0, "PENDING")
    page.begin([waits])
    page.click("[role=row][data-run]")
    page.press("Escape")
    page.click("[role=row][data-run]")
    failed = record(0, "FAILED", cause="Killed", message="Killed. Try again.")
    failed = replace(failed, run_id=waits.run_id)
    page.tell({"kind": "whole", **monitor_page.whole([failed], number=5)})
    assert page.column("status") == ["✗ failed Killed"]
    assert page.column("exit") == ["1"]
    assert "✗ failed" in page.text(".title")
    assert page.text(".why") == "Killed. Try again."


def _rerun_under_a_filter(page: MonitorPage) -> tuple[Any, Any]:
    """Runs what failed again while only failed runs are shown: the first run and the new one."""
    records = [record(0, "FAILED"), record(1, "FAILED"), record(2)]
    page.stop_clock().begin(records)
    page.web.fill(".filter", "status:failed")
    page.press("ArrowDown", "r")
    new = record(50, "RUNNING")
    page.tell({"kind": "did", "number": 1, "verb": "rerun", "failed": [], "made": [new.run_id]})
    page.change(new)
    page.pass_time(60_000)
    assert page.cursor() == records[1].run_id
    return records[1], new


def test_a_rerun_is_selected_however_late_it_comes(page: MonitorPage) -> None:
    """A new run that the filter doesn't show yet is selected as soon as it does."""
    _, new = _rerun_under_a_filter(page)
    failed = replace(new, status=RunStatus.FAILED, exit_code=1)
    page.change(failed)
    assert page.cursor() == new.run_id
    assert page.picked() == [new.run_id]
    page.press("End")
    page.change(replace(failed, message="more is known"))
    assert page.cursor() != new.run_id


@pytest.mark.parametrize("how", ["ArrowUp", "Control+a", "Space", "click", "output"])
def test_who_went_on_is_not_called_back(page: MonitorPage, how: str) -> None:
    """A new run that comes late doesn't take the keys from who selected or reads something else."""
    first, new = _rerun_under_a_filter(page)
    if how == "click":
        page.click(f"[data-run='{first.run_id}']")
    elif how == "output":
        page.press("Enter", "Enter")
        assert page.focus() == "log Output"
    else:
        page.press(how)
    page.change(replace(new, status=RunStatus.FAILED, exit_code=1))
    assert new.run_id in [row["id"] for row in page.table()]
    assert page.cursor() == first.run_id


def test_a_chunk_that_crosses_a_new_whole_leaves_no_hole(page: MonitorPage) -> None:
    """Older rows that were asked for before the page was given a newer beginning are no end."""
    records = many(30)
    everything = monitor_page.whole(records)
    page.begin(records[10:20], total=20, before=records[10].run_id)
    until(lambda: page.sent("more"))
    begin = {**monitor_page.whole(records[25:], number=4), "before": records[25].run_id}
    page.tell({"kind": "whole", **begin, "total": 30, "counts": everything["counts"]})
    page.tell({"kind": "more", "rows": monitor_page.whole(records[:10])["rows"], "before": ""})
    until(lambda: len(page.sent("more")) == 2)
    assert page.sent("more")[1]["before"] == records[25].run_id
    page.tell({"kind": "more", "rows": monitor_page.whole(records[:25])["rows"], "before": ""})
    assert page.text(".count") == "30 runs"


def test_details_are_shown_and_asked_for_anew(page: MonitorPage) -> None:
    """Facts, script and the backend's words are shown, stay open, and are asked for at an end."""
    records = [record(0), record(1, "RUNNING")]
    page.begin(records)
    page.click("[data-run] >> nth=0")
    assert page.sent("about")[-1]["runs"] == [records[1].run_id]
    _about(page, records[1].run_id, script="print('hi')", said="raw words", asked=[["env", "A=1"]])
    assert not page.web.is_visible(".details dl")
    page.click("summary")
    facts = page.text(".details dl").split("\n")
    assert facts == ["command", records[1].command, "host", "here", "env", "A=1"]
    assert page.web.locator(".details pre").all_inner_texts() == ["print('hi')", "raw words"]
    before = len(page.sent("about"))
    page.change(replace(records[1], status=RunStatus.FAILED, exit_code=1))
    assert len(page.sent("about")) == before + 1
    _about(page, records[1].run_id, script="print('later')")
    assert page.web.is_visible(".details dl")
    assert page.text(".details pre") == "print('later')"
    # An answer to an older question says nothing here.
    stale = {"kind": "about", "number": page.sent("about")[0]["number"], "runs": []}
    page.tell(stale)
    assert page.text(".details pre") == "print('later')"
    page.click("[data-run] >> nth=1")
    page.tell({**stale, "number": page.sent("about")[-1]["number"]})
    assert page.text(".details") == "It was deleted."


def test_who_scrolls_up_is_left_alone(page: MonitorPage) -> None:
    """The wheel ends following; a button says how much came since, and a click on it follows."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), [f"line {i}" for i in range(300)])
    pressed = page.web.locator("button:text-is('follow')")
    assert pressed.get_attribute("aria-pressed") == "true"
    page.web.hover(".lines")
    page.web.mouse.wheel(0, -500)
    until(lambda: pressed.get_attribute("aria-pressed") == "false")
    # What is in sight stays there; the wheel may take a moment to come to rest.
    top = until(lambda: (at := _scrolled(page)) == _scrolled(page) and at)
    page.output(page.cursor(), [f"line {i}" for i in range(300, 1514)], first=300)
    assert page.text(".more") == "↓ 1,214 new lines"
    assert not _at_the_end(page)
    assert _scrolled(page) <= top
    page.click(".more")
    assert _at_the_end(page)
    assert not page.shows(".more")
    assert pressed.get_attribute("aria-pressed") == "true"
    page.output(page.cursor(), ["the last"], first=1514)
    assert _at_the_end(page)


def _scrolled(page: MonitorPage) -> float:
    return float(page.web.evaluate("() => document.querySelector('.lines').scrollTop"))


def test_what_is_found_is_gone_through(page: MonitorPage) -> None:
    """Next and previous find go round; the place is kept while lines come and old ones go."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    run = page.cursor()
    page.output(run, [f"{'hit' if i % 100 == 0 else 'x'} {i}" for i in range(500)])
    place = ".output .bar [role=status]"
    page.web.focus(".lines")
    page.press("/")
    page.web.keyboard.type("HIT")
    assert (page.text(place), page.line()) == ("5 of 5", "hit 400")
    page.press("Enter")
    assert (page.text(place), page.line()) == ("1 of 5", "hit 0")
    page.press("Shift+Enter")
    assert page.line() == "hit 400"
    page.web.focus(".lines")
    page.press("n", "n")
    assert (page.text(place), page.line()) == ("2 of 5", "hit 100")
    page.press("N")
    assert (page.text(place), page.line()) == ("1 of 5", "hit 0")
    page.press("n")
    assert page.web.evaluate(_IN_SIGHT)
    page.output(run, ["hit new", "nothing"], first=500)
    assert (page.text(place), page.line()) == ("2 of 6", "hit 100")
    page.press("n")
    assert (page.text(place), page.line()) == ("3 of 6", "hit 200")
    # Of 2,000 lines that are kept, the one that was looked at is none any more.
    page.output(run, [f"x {i}" for i in range(1798)], first=502)
    assert page.text(place) == "3 found"
    assert page.web.locator(".here").count() == 0
    page.press("N")
    assert (page.text(place), page.line()) == ("3 of 3", "hit new")
    page.press("n")
    assert (page.text(place), page.line()) == ("1 of 3", "hit 300")
    page.press("/", "Escape")
    assert page.text(place) == ""
    assert page.web.locator(".hit, .here").count() == 0


_IN_SIGHT = """() => {
    const [line, lines] = ['.here', '.lines'].map(s => document.querySelector(s)
        .getBoundingClientRect());
    return line.top >= lines.top && line.bottom <= lines.bottom;
}"""


def test_long_lines_are_wrapped_or_cut(page: MonitorPage) -> None:
    """By itself a long line is wrapped; w has it in one line that can be scrolled."""
    page.begin([record(0, "RUNNING")])
    page.click("[role=row][data-run]")
    page.output(page.cursor(), ["word " * 300])
    over = (
        "() => { const e = document.querySelector('.lines'); return e.scrollWidth > e.clientWidth }"
    )
    assert not page.web.evaluate(over)
    page.web.focus(".lines")
    page.press("w")
    assert page.web.evaluate(over)
    page.press("w")
    assert not page.web.evaluate(over)


def test_where_a_page_may_not_copy_it_is_done_as_of_old(page: MonitorPage) -> None:
    """Without the clipboard's new interface the text is selected and copied as of old."""
    page.web.evaluate(
        "() => { Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        " document.execCommand = what => { window.copied ="
        " [what, document.activeElement.value.slice(document.activeElement.selectionStart,"
        " document.activeElement.selectionEnd)]; }; }"
    )
    page.begin([record(0)])
    page.click("[role=row][data-run]")
    _about(page, page.cursor(), copy=[["kubectl", "kubectl describe\njob/x"]])
    page.click(".details button:text-is('kubectl')")
    assert page.web.evaluate("() => window.copied") == ["copy", "kubectl describe\njob/x"]
    assert page.text(".note") == "copied the kubectl"
    assert page.web.locator("textarea").count() == 0


def test_a_key_that_can_do_nothing_says_why(page: MonitorPage) -> None:
    """Keys for what isn't possible do nothing and say why; so do too many to compare."""
    page.begin([record(i) for i in range(8)])
    page.web.focus("[role=grid]")
    page.press("r")
    assert page.text(".note") == "select a run first"
    page.press("ArrowDown", "c")
    assert page.text(".note") == "nothing selected is still running"
    page.press("v")
    assert page.text(".note") == "select two runs or more (Space, Shift or Ctrl)"
    page.press("Control+a", "v")
    assert page.text(".note") == "six runs at the most"
    page.change(record(9, "RUNNING"))
    page.press("Control+a", "Delete")
    assert page.text(".note") == "what still runs can't be deleted: cancel it first"
    assert page.sent("do") == []


def test_who_says_no_has_done_nothing(page: MonitorPage) -> None:
    """Enter keeps everything, as what the keys are at says, and they are in the table again."""
    page.begin([record(0), record(1)])
    page.web.focus("[role=grid]")
    page.press("Control+a", "Delete")
    assert page.text(".question") == "Delete 2 runs, with output and record?\nDelete\nKeep"
    page.press("Enter")
    assert not page.shows(".question")
    assert page.focus() == "grid Runs"
    assert page.sent("do") == []
    page.web.fill(".filter", "nothing")
    page.click(".empty button")
    assert page.text(".count") == "2 runs"
    assert page.focus() == "grid Runs"


def test_tooltips_say_the_whole(page: MonitorPage) -> None:
    """Over a row stand the run id, cause and next step, and start and submit."""
    made = record(0, "FAILED", cause="Killed", message="Killed. Try again.", image="i:1")
    page.begin([made, record(1, "PENDING", reason="Pulling", progress="40 of 90 MB")])

    def over(column: str, row: int = 1) -> str:
        return str(page.web.get_attribute(f"[data-run] >> nth={row} >> .{column}", "title"))

    assert over("run") == made.run_id
    assert over("status") == "Killed. Try again."
    assert (over("image"), over("command")) == ("i:1", made.command)
    assert over("started") == "2026-09-21 14:13:20 UTC"
    assert over("started", 0) == "submitted 2026-09-21 14:13:21 UTC"
    assert page.table()[0]["status"] == "○ pending Pulling 40 of 90 MB"


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Europe/Berlin", "2026-09-21 16:13:20 UTC+2"),
        ("Asia/Kolkata", "2026-09-21 19:43:20 UTC+5:30"),
        ("America/New_York", "2026-09-21 10:13:20 UTC-4"),
    ],
)
def test_a_start_is_told_by_the_clock_of_the_reader(chromium: Any, zone: str, told: str) -> None:
    """Over a start stands all of it, local, with how far that is from UTC."""
    with monitor_page.monitor_page(chromium, zone=zone) as page:
        page.begin([record(0)])
        assert page.web.get_attribute("[data-run] .started", "title") == told


def test_a_silent_backend_is_told_with_what_was_known(page: MonitorPage) -> None:
    """A run whose backend doesn't answer says so, and when it was last seen."""
    why = "The cluster does not answer."
    page.begin([record(0, "RUNNING", reason="BackendUnreachable", message=why, runner="k8s")])
    assert page.column("status") == ["◐ running BackendUnreachable"]
    page.click("[role=row][data-run]")
    seen = "Last seen 2026-09-21 14:13:21 UTC."
    assert page.text(".why") == f"BackendUnreachable: {why} {seen}"


def test_a_column_without_values_takes_no_room(page: MonitorPage) -> None:
    """Images have a column where a run has one, from the moment that it comes."""
    page.begin([record(0)])
    assert not page.shows("[role=columnheader].image")
    page.change(record(1, image="python:3.12"))
    assert page.shows("[role=columnheader].image")
    assert page.column("image") == ["python:3.12", ""]


def test_without_colours_of_our_own_it_can_be_used(page: MonitorPage) -> None:
    """Under forced colours outlines tell selected rows, the cursor, pressed chips and finds."""
    page.web.emulate_media(forced_colors="active")
    page.begin([record(0), record(1), record(2, "FAILED")])
    page.click(".chip.SUCCEEDED")
    page.click("[data-run] >> nth=0")
    page.click("[data-run] >> nth=1", modifiers=["Control"])
    # The pane follows the keys after a moment.
    until(lambda: page.sent("output")[-1]["run"] == page.cursor())
    page.output(page.cursor(), ["hit 1", "x", "hit 2"])
    page.web.fill(".output input", "hit")

    def look(selector: str) -> list[str]:
        found: list[str] = page.web.locator(f".qwex-monitor {selector}").first.evaluate(
            "e => { const s = getComputedStyle(e);"
            " return [s.outlineStyle, s.outlineWidth, s.borderLeftWidth] }"
        )
        return found

    picked, cursor = look("[aria-selected=true]:not(.cursor)"), look(".cursor")
    assert picked[0] == cursor[0] == "solid"
    assert picked != cursor
    page.click(".chip.SUCCEEDED")
    assert look("[aria-selected=false]")[0] == "none"
    pressed = look("button:text-is('wrap')")
    page.click("button:text-is('wrap')")
    assert (pressed[2], look("button:text-is('wrap')")[2]) == ("2px", "1px")
    assert look(".hit:not(.here)")[0] == "solid"
    assert look(".here") != look(".hit:not(.here)")


def test_the_kernel_is_told_once_that_nobody_looks(page: MonitorPage) -> None:
    """Two views of one monitor both live; only the last that closes says goodbye."""
    page.begin([record(0)])
    page.web.evaluate(
        "async () => { const el = document.createElement('div'); document.body.append(el);"
        " window.second = await window.made.render({model: window.model, el}); }"
    )
    page.change(record(1))
    both = page.web.locator(".qwex-monitor .count")
    assert both.all_inner_texts() == ["2 runs", "2 runs"]
    page.web.evaluate("() => window.second()")
    assert page.sent("bye") == []
    page.change(record(2))
    assert both.first.inner_text() == "3 runs"
    page.web.evaluate("() => window.cleanup()")
    assert len(page.sent("bye")) == 1


def test_how_far_a_program_is_stands_in_its_status(page: MonitorPage) -> None:
    """A status cell has a bar with its number and what is left, and a tooltip of what it is."""
    made, other = record(1, "RUNNING", name="train"), record(0, "RUNNING")
    page.begin([other, made])
    assert page.web.get_by_role("progressbar").count() == 0
    page.progress(made.run_id, "62%", 62, 42.9)
    bar = page.web.get_by_role("progressbar", name="progress")
    assert bar.count() == 1
    assert bar.get_attribute("aria-valuenow") == "62"
    assert bar.get_attribute("aria-valuetext") == "training 62%"
    assert re.fullmatch(r"◐ running 62% · 0:4\d left", page.column("status")[0])
    assert page.column("status")[1] == "◐ running"
    row = f'[data-run="{made.run_id}"] .status'
    assert page.web.get_attribute(row, "title") == "training 62%"
    wide, part = bar.bounding_box(), bar.locator("i").bounding_box()
    assert part["width"] / wide["width"] == pytest.approx(0.62, abs=0.02)
    page.progress(made.run_id, "", None)
    assert page.web.get_by_role("progressbar").count() == 0
    assert page.column("status")[0] == "◐ running"


def test_a_row_without_a_bar_says_how_long_it_usually_takes(page: MonitorPage) -> None:
    """A thin line and words say how long the same takes as a rule, until a bar or the end comes."""
    made = record(0, "RUNNING")
    page.begin([made])
    page.progress(made.run_id, "", None, usual=182.0)
    assert page.column("status") == ["◐ running · usually 3:02"]
    assert page.web.locator(".usual i").bounding_box()["width"] > 0
    assert page.web.get_by_role("progressbar").count() == 0
    page.progress(made.run_id, "62%", 62, usual=182.0)
    assert page.column("status") == ["◐ running 62%"]
    assert not page.web.is_visible(".usual")


def test_a_pull_has_a_bar_too(page: MonitorPage) -> None:
    """What a backend says of a pull is the same bar."""
    page.begin([record(0, "PENDING", reason="Pulling", progress="33%")])
    bar = page.web.get_by_role("progressbar", name="progress")
    assert bar.get_attribute("aria-valuenow") == "33"
    assert page.column("status") == ["○ pending Pulling 33%"]


def test_of_the_run_that_is_open_each_tenth_is_told(page: MonitorPage) -> None:
    """A screen reader hears of the run whose pane is open, once for each tenth, of no other."""
    made, other = record(1, "RUNNING"), record(0, "RUNNING")
    page.begin([other, made])
    page.progress(other.run_id, "50%", 50)
    page.click(f'[data-run="{made.run_id}"]')
    heard = []
    for percent in (4, 31, 38, 40):
        page.progress(made.run_id, f"{percent}%", percent)
        heard.append(page.web.text_content(".qwex-spoken"))
    assert heard == ["", "training 31%", "training 31%", "training 40%"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_in_a_bar(chromium: Any, dark: bool) -> None:
    """Rows with bars, and the pane of one, are accessible, light and dark."""
    script, why = axe()
    if script is None:
        pytest.skip(why)
    with monitor_page.monitor_page(chromium, dark=dark) as page:
        made = record(0, "RUNNING")
        page.begin([made])
        page.click(f'[data-run="{made.run_id}"]')
        page.progress(made.run_id, "62%", 62, 42)
        assert page.axe(script) == []
