"""A live card: the page's side of a detached run's card, with a button that cancels.

It stands below an output with the same card as HTML, and hides that while it lives: a saved
notebook, a forge and a front end without widgets have that one. A page that is loaded anew is
no longer reached by updates of outputs, but it is by the messages of a widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from qwex_jupyter import facts, render, tables, terminal
from qwex_jupyter.aside import Aside
from qwex_jupyter.errors import QwexError
from qwex_jupyter.monitor.pulse import pulse
from qwex_jupyter.monitor.widget import Widget
from qwex_jupyter.views import put

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager

_HERE = Path(__file__).parent
# Where nothing but the clock has changed, the page is told so often that this is still so.
_TICK_EVERY = 5.0


class LiveCard(Widget):
    """One run, live, until it has ended.

    Args:
        manager: Who cancels it.
        look: What is to be shown now.
        publisher: The publisher of the cell.
        place: The name by which the page finds the card that it hides.
        clock: Seconds.
    """

    _esm = _HERE / "card.js"
    _css = _HERE / "card.css"
    # Computed when a page asks, so that one which is loaded anew begins with what is now.
    snapshot = traitlets.Any().tag(sync=True, to_json=lambda _, widget: widget._begin())
    place = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        manager: RunManager,
        look: Callable[[], render.Card],
        publisher: Any,
        place: str,
        clock: Callable[[], float],
    ) -> None:
        self._manager, self._look, self._publisher, self._clock = manager, look, publisher, clock
        self._output = tables.new_place()
        self._newest, self._over = look(), False
        # Held while a message is made and sent, so that the end isn't overtaken.
        self._lock = threading.RLock()
        self._told: tuple[str, str] = ("", "")
        self._told_at = 0.0
        self._cancelling = Aside()
        # Whether a page shows it, as far as that is known.
        self.seen = False
        super().__init__(place=place)

    def display(self) -> None:
        """Shows it in the cell that runs now."""
        found: Any = self._repr_mimebundle_()
        data, metadata = found if isinstance(found, tuple) else (found, {})
        # Where its view can't be, nothing is shown: the card is in the output above.
        data = {**data, "text/plain": "", "text/html": ""}
        self._publish(data, metadata, update=False)

    def show(self, card: render.Card) -> None:
        """Has the page told, soon, what is so now."""
        self._newest = card
        pulse.ask(self._tell)

    def end(self) -> None:
        """Nothing more will come: the other card takes its place, where outputs are updated.

        In a page that was loaded anew they are not, so there this one shows the end and stays.
        """
        pulse.forget(self._tell)
        self._publish({}, {}, update=True)
        self._over = True
        self._tell()

    def close(self) -> None:
        """Takes it off every page."""
        pulse.forget(self._tell)
        super().close()

    def _publish(self, data: Any, metadata: Any, *, update: bool) -> None:
        put(self._publisher, data, self._output, update=update, metadata=metadata)

    # -- what the page is told ---------------------------------------------------------------

    def _begin(self) -> Mapping[str, Any]:
        if not self._newest.record.status.final:
            try:
                self._newest = self._look()
            except (QwexError, OSError):
                pass  # deleted meanwhile: it stays as it was
        return self._message()

    def _message(self) -> dict[str, Any]:
        card = self._newest
        record = card.record
        return {
            "kind": "card",
            # Markup of ours alone: what came from the run was escaped in `render`.
            "html": render.card_html(card),
            "state": self._state(),
            "title": terminal.plain(record.title),
            "since": render.since(record),
            "now": card.now,
            # What can't be undone is asked first, as in the monitor.
            "ask": record.runner == "k8s",
        }

    def _state(self) -> str:
        record = self._newest.record
        if self._over or record.status.final:
            return "ended"
        folder = self._manager.history.folder(record.run_id)
        return "stopping" if facts.exists(folder, facts.STOP) else "live"

    def _tell(self) -> None:
        """Sends the card where anything but its clock has changed, and else what time it is."""
        with self._lock:
            card = self._newest
            still = replace(card, now=card.record.created_at)
            what = (render.card_html(still), self._state())
            if what != self._told:
                self.send(self._message())
            elif self._clock() - self._told_at >= _TICK_EVERY:
                self.send({"kind": "tick", "now": card.now, "as_of": render.as_of(card)})
            else:
                return
            self._told, self._told_at = what, self._clock()

    # -- what the page wants -----------------------------------------------------------------

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        return {"hello": self._hello, "bye": self._bye, "cancel": self._cancel}

    def _hello(self, _: Any) -> None:
        self.seen = True
        with self._lock:
            self.send(self._begin())

    def _bye(self, _: Any) -> None:
        self.seen = False

    def _cancel(self, _: Any) -> None:
        """Cancels in a thread of its own: a backend may take its time."""
        self._cancelling.begin(self._carry_out)

    def _carry_out(self) -> None:
        failed = ""
        try:
            self._manager.cancel(self._newest.record.run_id)
        except (QwexError, OSError) as error:
            failed = terminal.plain(str(error))
        # A backend may take a moment to obey; what it says then comes as a change.
        self._manager.wake()
        self.send({"kind": "did", "failed": failed})
        pulse.ask(self._tell)
