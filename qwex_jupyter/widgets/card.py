"""A live card: the page's side of a detached run's card, with a button that cancels.

It stands below an output with the same card as HTML, and hides that while it lives: a saved
notebook, a forge and a front end without widgets have that one. A page that is loaded anew is
no longer reached by updates of outputs, but it is by the messages of a widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import traitlets

from qwex_jupyter import runners
from qwex_jupyter.disk.folder import STOP
from qwex_jupyter.display import tables
from qwex_jupyter.display.card import Card
from qwex_jupyter.display.format import as_of, since
from qwex_jupyter.display.publish import put
from qwex_jupyter.display.render import card_html
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.text import plain
from qwex_jupyter.system.background import Background
from qwex_jupyter.widgets.rate import pulse
from qwex_jupyter.widgets.widget import Widget, page

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

# Where nothing but the clock has changed, the page is told so often that this is still so.
_TICK_EVERY = 5.0
# So many widgets of a card wait for a page to find it; each is sent whatever the card is.
_FOUND = 6


class _Page(Widget):
    """The page of a card."""

    _esm = page("elements.js", "calm.js", "card.js")
    _css = page("common.css", "card.css")
    # It looks for the card by itself, as no output of a cell shows it.
    finds = traitlets.Bool(False).tag(sync=True)


class _Found(_Page):
    """The same card, for pages that were loaded anew while the kernel can't answer them."""

    def __init__(self, of: LiveCard) -> None:
        self._of = of
        super().__init__(place=of.place, finds=True)

    def _begin(self) -> Mapping[str, Any]:
        return self._of._begin()

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        return {"hello": lambda _: self.send(self._begin()), "cancel": self._of._cancel}


class LiveCard(_Page):
    """One run, live, until it has ended.

    Args:
        manager: Who cancels it.
        look: What is to be shown now; asked from any thread.
        publisher: The publisher of the cell.
        place: The name by which the page finds the card that it hides.
        clock: Seconds.
    """

    def __init__(
        self,
        manager: RunManager,
        look: Callable[[], Card],
        publisher: Any,
        place: str,
        clock: Callable[[], float],
    ) -> None:
        self._manager, self._publisher, self._clock = manager, publisher, clock
        self.look = look
        self._output = tables.new_place()
        self._newest, self._over = look(), False
        # Held while a message is made and sent, so that the end isn't overtaken.
        self._lock = threading.RLock()
        self._told: tuple[str, str] = ("", "")
        self._told_at = 0.0
        self._cancelling = Background()
        self._found: list[_Found] = []
        # Whether a page shows it, as far as that is known.
        self.seen = False
        # How often a page has asked for it.
        self.greetings = 0
        super().__init__(place=place)

    def display(self) -> None:
        """Shows it in the cell that runs now."""
        data, metadata = self._view()
        # Where its view can't be, nothing is shown: the card is in the output above.
        data = {**data, "text/plain": "", "text/html": ""}
        self._publish(data, metadata, update=False)

    def show(self, card: Card, *, at_once: bool = False) -> int:
        """Has the page told, soon, what is so now; about how many bytes were sent by then.

        Args:
            card: What is so.
            at_once: The caller bounds how often that is.
        """
        self._newest = card
        if at_once:
            return self._tell()
        pulse.ask(self._tell)
        return 0

    def announce(self) -> None:
        """Has pages show it that were loaded anew: from a busy kernel they hear, and can't ask."""
        self._found.append(_Found(self))
        while len(self._found) > _FOUND:
            self._found.pop(0).close()

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
        for found in self._found:
            found.close()
        super().close()

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for shown in (self, *self._found):
            shown.send(message)

    def _publish(self, data: Any, metadata: Any, *, update: bool) -> None:
        put(self._publisher, data, self._output, update=update, metadata=metadata)

    # -- what the page is told ---------------------------------------------------------------

    def _begin(self) -> Mapping[str, Any]:
        if not self._newest.record.status.final:
            with suppress(QwexError, OSError):  # deleted meanwhile: it stays as it was
                self._newest = self.look()
        return self._message()

    def _message(self) -> dict[str, Any]:
        card = self._newest
        record = card.record
        return {
            "kind": "card",
            # Markup of ours alone: what came from the run was escaped in `render`.
            "html": card_html(card),
            "state": self._state(),
            "title": plain(record.title),
            "since": since(record),
            "now": card.now,
            # What can't be undone is asked first, as in the monitor.
            "ask": runners.promises(record.runner, "asks_before_cancel"),
        }

    def _state(self) -> str:
        record = self._newest.record
        if self._over or record.status.final:
            return "ended"
        folder = self._manager.history.folder(record.run_id)
        return "stopping" if folder.has(STOP) else "live"

    def _tell(self) -> int:
        """Sends the card where anything but its clock has changed, and else what time it is."""
        with self._lock:
            card = self._newest
            still = replace(card, now=card.record.created_at)
            what = (card_html(still), self._state())
            if what != self._told:
                self._send_all(self._message())
            elif self._clock() - self._told_at >= _TICK_EVERY:
                self._send_all(
                    {"kind": "tick", "now": card.now, "as_of": as_of(card.record, card.now)}
                )
            else:
                return 0
            self._told, self._told_at = what, self._clock()
        return len(what[0])

    # -- what the page wants -----------------------------------------------------------------

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        return {"hello": self._hello, "bye": self._bye, "cancel": self._cancel}

    def _hello(self, _: Any) -> None:
        self.seen = True
        self.greetings += 1
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
            failed = plain(str(error))
        # A backend may take a moment to obey; what it says then comes as a change.
        self._manager.wake()
        self._send_all({"kind": "did", "failed": failed})
        pulse.ask(self._tell)
