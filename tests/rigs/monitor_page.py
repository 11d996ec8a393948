"""The pages of widgets without Jupyter: a module in a blank page, with a model that a test plays.

What costs seconds in JupyterLab takes a fraction of one here: rows, sorting, keys, output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from judged import findings

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.widgets import rows
from qwex_jupyter.widgets.monitor import Monitor

BEGAN = 1_790_000_000.0

_PLAY = """async ([code, css, state]) => {
    document.body.replaceChildren();
    const style = document.createElement('style');
    style.textContent = css;
    const el = document.createElement('main');
    document.body.append(style, el);
    window.sent = [];
    window.listeners = {};
    window.busy = false;
    window.gone = false;
    window.model = {
        get: name => state[name],
        on: (name, call) => (window.listeners[name] ??= []).push(call),
        off: (name, call) => {
            window.listeners[name] = (window.listeners[name] ?? []).filter(one => one !== call);
        },
        send: wish => {
            if (window.gone) throw new Error('Cannot send');
            window.sent.push(wish);
            if (!window.busy) queueMicrotask(() => window.tell({kind: 'ack', number: wish.number}));
        },
        widget_manager: {},
    };
    window.tell = message => (window.listeners['msg:custom'] ?? []).forEach(call => call(message));
    const blob = new Blob([code], {type: 'text/javascript'});
    const {default: factory} = await import(URL.createObjectURL(blob));
    const begun = performance.now();
    window.made = factory();
    window.cleanup = await window.made.render({model: window.model, el});
    window.taken = performance.now() - begun;
}"""


def record(number: int, status: str = "SUCCEEDED", **values: Any) -> RunRecord:
    """The record of a run that was submitted so many seconds after `BEGAN`."""
    at = BEGAN + number
    given: dict[str, Any] = {
        "runner": "local",
        "command": f"python train.py --seed {number}",
        "created_at": at,
        "observed_at": at + 1,
    }
    if status != "PENDING":
        given["started_at"] = at + 0.5
    if RunStatus(status).final:
        given |= {"finished_at": at + 2.5, "elapsed": 2.0}
    if status in ("SUCCEEDED", "FAILED"):
        given["exit_code"] = int(status == "FAILED")
    return RunRecord(new_run_id(at), status=RunStatus(status), **{**given, **values})


def many(count: int) -> list[RunRecord]:
    """So many runs of all statuses, oldest first."""
    words = ("SUCCEEDED", "FAILED", "SUCCEEDED", "RUNNING", "CANCELLED", "PENDING", "LOST")
    return [record(i, words[i % len(words)], name=f"job-{i % 10}") for i in range(count)]


def put(manager: RunManager, made: RunRecord) -> str:
    """A run that has ended, in the history."""
    folder = Path(manager.history.runs_folder) / made.run_id
    folder.mkdir(mode=0o700)
    facts.link_once(str(folder), RUN, made.to_json(), sync=False)
    return made.run_id


def whole(records: Sequence[RunRecord], number: int = 1, before: str = "") -> dict[str, Any]:
    """What a page begins with, of these runs."""
    made = rows.Rows({})
    made.update({r.run_id: rows.of_record(r) for r in reversed(records)})
    return {
        "number": number,
        "counts": made.count(),
        "total": len(made),
        "rows": rows.pack(list(made.values())),
        "before": before,
        "now": time.time(),
    }


class WidgetPage:
    """A page with a widget in it.

    Args:
        web: Playwright's page.
    """

    # The class of all that it shows, and the texts of its module and its styles.
    root, code, css = "", "", ""

    def __init__(self, web: Any) -> None:
        self.web = web
        self.errors: list[str] = []
        web.on("pageerror", lambda error: self.errors.append(str(error)))
        web.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def play(self, state: Mapping[str, Any]) -> None:
        """Shows the widget with these traits."""
        self.web.evaluate(_PLAY, [self.code, self.css, state])

    def tell(self, message: Mapping[str, Any]) -> None:
        """A message of the kernel."""
        self.web.evaluate("message => window.tell(message)", message)

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """The wishes of a kind so far."""
        found = self.web.evaluate("() => window.sent")
        return [wish for wish in found if wish["kind"] == kind]

    def text(self, selector: str) -> str:
        """What an element shows."""
        return str(self.web.inner_text(f".{self.root} {selector}"))

    def line(self, selector: str = ".here") -> str:
        """What a line of output is, in sight or not.

        What has just come into sight shows nothing before the next frame (content-visibility).
        """
        return str(self.web.text_content(f".{self.root} {selector}"))

    def shows(self, selector: str) -> bool:
        """Whether it can be seen."""
        return bool(self.web.is_visible(f".{self.root} {selector}"))

    def click(self, selector: str, **how: Any) -> None:
        """A click."""
        self.web.click(f".{self.root} {selector}", **how)

    def press(self, *keys: str) -> None:
        """Keys, one after the other, to what has the focus."""
        for key in keys:
            self.web.keyboard.press(key)

    def focus(self) -> str:
        """What has the focus: its role or tag, and its name."""
        return str(
            self.web.evaluate(
                "() => { const e = document.activeElement; return `${e.getAttribute('role') ?? "
                "e.tagName.toLowerCase()} ${e.getAttribute('aria-label') ?? e.textContent}`; }"
            )
        )

    def axe(self, script: Path, **without: str) -> list[str]:
        """What axe finds wrong in the widget, one line each.

        Args:
            script: See `axe`.
            without: ``exclude``, a selector of what isn't looked at.
        """
        return findings(self.web, script, {"include": f".{self.root}", **without})


class MonitorPage(WidgetPage):
    """A page with a monitor in it."""

    root, code, css = "qwex-monitor", Monitor._esm, Monitor._css

    def begin(self, records: Sequence[RunRecord], **more: Any) -> MonitorPage:
        """Shows these runs."""
        self.records = list(records)
        self.number = 1
        self.play(
            {"snapshot": {**whole(records), **more}, "place": "abc", "again": "", "asks": ["k8s"]}
        )
        return self

    def stop_clock(self) -> MonitorPage:
        """From now on time goes by only where a test says so: `pass_time`."""
        self.web.clock.install(time=BEGAN)
        self.web.clock.pause_at(BEGAN + 1)
        return self

    def pass_time(self, milliseconds: int) -> None:
        """Lets so much of the page's time go by, and calls what is due."""
        self.web.clock.run_for(milliseconds)

    def change(self, *records: RunRecord, gone: Sequence[str] = (), number: int = 0) -> None:
        """Tells of runs as they are now, and of those that are gone."""
        known = {r.run_id: r for r in self.records}
        fresh = [r for r in records if r.run_id not in known]
        changed = [
            [r.run_id, rows.difference(rows.of_record(known[r.run_id]), rows.of_record(r))]
            for r in records
            if r.run_id in known
        ]
        known |= {r.run_id: r for r in records}
        self.records = [r for run_id, r in sorted(known.items()) if run_id not in gone]
        self.number = number or self.number + 1
        made = rows.Rows({})
        made.update({r.run_id: rows.of_record(r) for r in self.records})
        message = {
            "kind": "changes",
            "number": self.number,
            "counts": made.count(),
            "total": len(made),
            "changed": changed,
            "gone": list(gone),
        }
        if fresh:
            message["rows"] = rows.pack([rows.of_record(r) for r in fresh])
        self.tell(message)

    def progress(
        self,
        run: str,
        said: str,
        done: int | None,
        left: float | None = None,
        usual: float | None = None,
    ) -> None:
        """Tells how far a program is, and how long it usually takes."""
        self.number += 1
        until = None if left is None else time.time() + left
        row = {"progress": said, "done": done, "doing": "training" if said else "", "until": until}
        row["usual"] = usual
        made = rows.Rows({})
        made.update({r.run_id: rows.of_record(r) for r in self.records})
        counts = {"counts": made.count(), "total": len(made), "number": self.number}
        self.tell({"kind": "changes", **counts, "changed": [[run, row]], "now": time.time()})

    def output(self, run: str, lines: Sequence[str], first: int = 0, **more: Any) -> None:
        """What a run says, from its line of that number on."""
        size = sum(len(line) + 1 for line in lines)
        given = {"from": first, "after": first, "lines": list(lines), "before": 0, "bytes": size}
        self.tell({"kind": "output", "run": run, "ended": False, **given, **more})

    def table(self) -> list[dict[str, str]]:
        """The rows in sight, from the top, by column."""
        found: list[dict[str, str]] = self.web.evaluate(_TABLE)
        return found

    def column(self, name: str) -> list[str]:
        """What a column says, from the top."""
        return [row[name] for row in self.table()]

    def cursor(self) -> str:
        """The run at which the keys are, as the grid tells a screen reader."""
        return str(
            self.web.evaluate(
                "() => document.getElementById(document.querySelector('[role=grid]')"
                ".getAttribute('aria-activedescendant'))?.dataset.run ?? ''"
            )
        )

    def picked(self) -> list[str]:
        """The selected runs among those in the page."""
        return [row["id"] for row in self.table() if row["picked"] == "true"]


_TABLE = """() => [...document.querySelectorAll('.qwex-monitor [role=row][data-run]')]
    .map(row => [Number(row.getAttribute('aria-rowindex')), row])
    .sort((a, b) => a[0] - b[0])
    .map(([index, row]) => ({
        id: row.dataset.run, index: String(index), picked: row.getAttribute('aria-selected'),
        ...Object.fromEntries(
            [...row.children].map(cell => [cell.className, cell.textContent.trim()])),
    }))"""


Kind = TypeVar("Kind", bound=WidgetPage)


def monitor_page(browser: Any, **how: Any) -> AbstractContextManager[MonitorPage]:
    """A blank page for a monitor."""
    return blank_page(browser, MonitorPage, **how)


@contextmanager
def blank_page(
    browser: Any, kind: type[Kind], *, width: int = 1000, dark: bool = False, zone: str = "UTC"
) -> Iterator[Kind]:
    """A blank page for a widget; what its module throws fails the test."""
    web = browser.new_page(viewport={"width": width, "height": 900}, timezone_id=zone)
    ground = "#111" if dark else "#fff"
    web.set_content(
        f"<!doctype html><html lang=en><title>runs</title>"
        f"<body data-jp-theme-light={str(not dark).lower()} style='background:{ground};margin:8px;"
        f"--jp-layout-color1:{ground};--jp-ui-font-color1:{'#eee' if dark else '#212121'};"
        f"--jp-layout-color2:{'#222' if dark else '#eee'}'>"
    )
    page = kind(web)
    try:
        yield page
        assert page.errors == []
    finally:
        web.close()
