"""A live card's page without Jupyter: see `monitor_page`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from monitor_page import WidgetPage

from qwex_jupyter.display.card import Card, LogView
from qwex_jupyter.display.format import since
from qwex_jupyter.display.progress import Progress
from qwex_jupyter.display.render import card_html
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.widgets.card import LiveCard

PLACE = "abc123"
NOTE = "watch it: %qwex attach k3x9qd, stop it: %qwex cancel k3x9qd"


def message(
    record: RunRecord,
    lines: Sequence[str] = (),
    now: float = 0.0,
    progress: Progress | None = None,
    usual_time: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What a page is told of a run, made as `LiveCard` makes it."""
    now = now or time.time()
    view = LogView(lines, len(lines), sum(len(line) + 1 for line in lines))
    card = Card(record, view, NOTE, now, compact=True, usual_time=usual_time, progress=progress)
    return {
        "kind": "card",
        "html": card_html(card),
        "state": "ended" if record.status.final else "live",
        "title": record.title,
        "since": since(record),
        "now": now,
        "ask": record.runner == "k8s",
        **more,
    }


class CardPage(WidgetPage):
    """A page with a live card in it, below the one that it hides."""

    root, code, css = "qwex-live", LiveCard._esm, LiveCard._css

    def begin(self, record: RunRecord, lines: Sequence[str] = (), **more: Any) -> CardPage:
        """Shows this run."""
        self.play({"snapshot": message(record, lines, **more), "place": PLACE})
        saved = f'<div class="qwex-card-{PLACE}">the saved card</div>'
        self.web.evaluate("html => document.body.insertAdjacentHTML('afterbegin', html)", saved)
        return self

    def saved(self) -> bool:
        """Whether the card that a saved notebook has can be seen."""
        return bool(self.web.is_visible(f".qwex-card-{PLACE}"))

    def button(self) -> dict[str, Any]:
        """What the button that cancels says of itself."""
        found: dict[str, Any] = self.web.evaluate(
            "() => { const b = document.querySelector('.qwex-live .row button'); return {"
            "text: b.textContent, name: b.getAttribute('aria-label'), title: b.title,"
            "off: b.getAttribute('aria-disabled') === 'true', hidden: b.hidden}; }"
        )
        return found
