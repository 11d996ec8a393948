"""The monitor with one row that changes 20 times a second, beside an HTML table of ipywidgets."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import Jupyter, Page, launched, missing
from monitor_page import many, monitor_page

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.manager.manager import RunManager

SIZES = (2_000, 10_000)
CHANGES, PER_SECOND = 200, 20

# In the kernel: what a backend's answers would do, by the door through which they come.
SETUP = """
import threading, time
from dataclasses import replace
import qwex_jupyter as qwex
from qwex_jupyter import api
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
manager = api.manager()
first = manager.history.record(manager.history.run_ids()[50])
def changes():
    for i in range(%d):
        yield replace(first, status=RunStatus.RUNNING, finished_at=None, progress=f"{i} done")
        time.sleep(1 / %d)
""" % (CHANGES, PER_SECOND)  # noqa: UP031 - braces stand in it
OURS = """
def play():
    global used
    # Only what telling costs: this thread sleeps in between, and the page's questions are few.
    begun = time.process_time()
    for record in changes():
        for observer in list(manager.tracker.observations._observers):
            observer(record)
    time.sleep(0.5)
    used = time.process_time() - begun
"""
THEIRS = """
import html, ipywidgets
table = ipywidgets.HTML()
rows = [manager.history.record(run_id) for run_id in manager.history.run_ids()[:50]]
def paint():
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in (
            r.handle, r.status, r.name, r.runner, r.image, r.command, r.exit_code, r.created_at,
            r.progress, r.notebook)) + "</tr>" for r in rows)
    table.value = f"<table>{cells}</table>"
paint()
def play():
    global used
    begun, painted = time.process_time(), 0.0
    for record in changes():
        rows[10] = record
        if time.monotonic() - painted >= EVERY:
            painted = time.monotonic()
            paint()
    time.sleep(0.5)
    used = time.process_time() - begun
"""
PLAY = "thread = threading.Thread(target=play); thread.start()"


def main(rounds: int) -> list[str]:
    """Tables for docs/performance.md."""
    if why := missing():
        return [f"The monitor was not measured: {why}."]
    rounds = max(1, rounds // 3)
    lines = [
        "### A monitor of N runs while one changes 20 times a second for 10 s",
        "",
        "| | N | messages | kB | kernel CPU, s | longest stall of the page, ms | n |",
        "|---|---|---|---|---|---|---|",
    ]
    cases = {
        "the monitor": (OURS, "%qwex monitor"),
        "ipywidgets table of 50 rows, each change": ("EVERY = 0\n" + THEIRS, "table"),
        "ipywidgets table of 50 rows, 5 times a second": ("EVERY = 0.2\n" + THEIRS, "table"),
    }
    paints: dict[int, list[float]] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, launched() as browser:
            jupyter = Jupyter(Path(folder))
            try:
                _fill(jupyter, size)
                page = Page(browser, jupyter.wait())
                paints[size] = [_first(page) for _ in range(5)]
                for name, (play, show) in cases.items():
                    found = [_one(page, play, show) for _ in range(rounds)]
                    middle = {key: statistics.median(e[key] for e in found) for key in found[0]}
                    lines.append(
                        f"| {name} | {size:,} | {middle['messages']:.0f} | {middle['kB']:.0f} | "
                        f"{middle['cpu']:.2f} | {middle['stall']:.0f} | {rounds} |"
                    )
                    print(lines[-1], file=sys.stderr, flush=True)
            finally:
                jupyter.close()
    shown = ", ".join(
        f"{statistics.median(v):.0f} ms with {n:,} runs ({v[0]:.0f} ms where the page loads what "
        "widgets need first)"
        for n, v in paints.items()
    )
    lines += [
        "",
        f"From the press of the key to the first picture in JupyterLab, in a new kernel: {shown}.",
    ]
    return [*lines, *_alone(rounds)]


def _fill(jupyter: Jupyter, size: int) -> None:
    manager = RunManager(str(jupyter.runs))
    made = [each for each in many(size * 2) if each.status.final][:size]
    for record in made:
        folder = Path(manager.history.runs_folder) / record.run_id
        folder.mkdir(mode=0o700)
        facts.link_once(str(folder), RUN, record.to_json(), sync=False)
    manager.history.frame()  # the cache of ended runs is there, as after any first look
    manager.close()


def _one(page: Page, play: str, show: str) -> dict[str, float]:
    notebook = page.open(
        ["%load_ext qwex_jupyter\n" + SETUP + play, show, PLAY, "thread.join(); print(used)"]
    )
    notebook.run_cell(0)
    notebook.run_cell(1)
    # Older rows come when the page has time.
    notebook.web.wait_for_function(
        "() => !document.querySelector('.qwex-monitor .count')?.textContent.includes('loading')"
    )
    notebook.web.wait_for_timeout(1000)
    notebook.run_cell(2)
    notebook.web.evaluate(_STALLS)
    page.watch()
    notebook.web.wait_for_timeout(int(1000 * CHANGES / PER_SECOND) + 1000)
    stall = notebook.web.evaluate("() => window.stalls()")
    messages = page.messages["comm_msg"] + page.messages["update_display_data"]
    size = page.bytes["comm_msg"] + page.bytes["update_display_data"]
    notebook.run_cell(3)
    used = float(notebook.text(3).strip().split()[-1])
    return {
        "messages": messages,
        "kB": size / 1e3,
        "cpu": used,
        "stall": stall,
    }


# The longest time for which a timer of 5 ms did not come: what a person feels as a jerk.
_STALLS = """() => {
    let last = performance.now(), longest = 0;
    const timer = setInterval(() => {
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
    }, 5);
    window.stalls = () => { clearInterval(timer); return longest; };
}"""
_PAINTED = """() => new Promise(resolve => {
    const look = () => document.querySelector('.qwex-monitor [role=row][data-run]')
        ? requestAnimationFrame(() => resolve(performance.now())) : setTimeout(look, 5);
    look();
})"""


def _first(page: Page) -> float:
    notebook = page.open(["%load_ext qwex_jupyter", "%qwex monitor"])
    notebook.run_cell(0)
    begun: float = notebook.web.evaluate("() => performance.now()")
    notebook.run_cell(1, wait=False)
    painted: float = notebook.web.evaluate(_PAINTED)
    notebook.wait()
    return painted - begun


def _alone(rounds: int) -> list[str]:
    """The page's own share, in a blank page: first paint, keystroke, sort."""
    found: dict[str, list[float]] = {"paint": [], "filter": [], "sort": []}
    from test_monitor_page import _KEYSTROKES

    with launched() as browser:
        for _ in range(rounds):
            with monitor_page(browser) as page:
                page.begin(many(10_000))
                times: dict[str, Any] = page.web.evaluate(_KEYSTROKES)
                found["paint"].append(page.web.evaluate("() => window.taken"))
                for key in ("filter", "sort"):
                    found[key].append(times[key])
    middle = {key: statistics.median(values) for key, values in found.items()}
    text = (
        f"In the page alone, with 10,000 runs: first picture {middle['paint']:.0f} ms, a keystroke "
        f"in the filter {middle['filter']:.1f} ms, another order {middle['sort']:.0f} ms."
    )
    return ["", text]
