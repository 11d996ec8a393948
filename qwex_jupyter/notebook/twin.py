"""One card in two outputs: HTML that a notebook keeps, and a widget that shows it live.

Updates of an output never reach a page that was loaded anew, and messages of a widget never
reach a saved notebook: so there are both, and a page hides the first while it has the second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk import awaited
from qwex_jupyter.display import tables
from qwex_jupyter.display.card import Card
from qwex_jupyter.display.publish import publish
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.system import frontend, libraries

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.widgets.card import LiveCard

# Where a page shows a card live, the one that will be in the saved notebook is kept up to date
# so often. Seconds.
_SAVED_EVERY = 15.0
# When a page that has just come is told of a card: it takes a while until it can hear it.
# Seconds.
_ANNOUNCED_AFTER = (1.0, 3.0, 8.0, 20.0, 45.0, 90.0)


class Twin:
    """One card of one cell.

    Args:
        manager: Who knows the run.
        publisher: That of the cell.
        clock: Seconds; a test's own.
        below: Whether the run's cell stands right above.

    Attributes:
        place: By which a page finds the first output.
        live: The widget, once there is one.
        below: As given.
        begun: Whether anything was shown, as far as is known.
    """

    def __init__(
        self,
        manager: RunManager,
        publisher: Any,
        clock: Callable[[], float] = time.monotonic,
        *,
        below: bool = False,
    ) -> None:
        self.below, self.begun = below, False
        self.place = tables.new_place()
        self.live: LiveCard | None = None
        self._manager, self._publisher, self._clock = manager, publisher, clock
        # Whether there are no widgets here.
        self._bare = False
        self._awaited = self._hidden = False
        # Who last asked the kernel anything, and when a new one of these is told of the card.
        self._asker, self._greeted, self._due = "", 0, list[float]()
        self._written, self._status = 0.0, ""

    def write(self, card: Card) -> int:
        """Brings the first output up to date; about how many bytes that took."""
        # An interrupt may come while it is sent: what may have been shown is updated.
        update, self.begun = self.begun, True
        self._written, self._status = self._clock(), card.record.status
        self._note(card.record)
        card = replace(card, place=self.place)
        return publish(self._publisher, card, self.place, update=update)

    def _note(self, record: RunRecord) -> None:
        """Has the next kernel tell of the end, should this one not live to show it."""
        home = self._manager.history.home
        if record.run_id and not record.status.final and not self._awaited:
            self._awaited = True
            awaited.add(home, record.run_id)
        elif record.status.final and self._awaited:
            self._awaited = False
            awaited.remove(home, record.run_id)

    def go_live(self, look: Callable[[], Card]) -> None:
        """Has the cell show the widget as well, where there are widgets.

        Args:
            look: What is to be shown now; asked from any thread.
        """
        # Else the first output is all there is, and is brought up to date all the same.
        self._bare = self._bare or bool(libraries.trouble(libraries.WIDGETS))
        if self._bare:
            return
        # Entered at the first card, as it takes a while to be imported.
        from qwex_jupyter.widgets.card import LiveCard

        self._asker = frontend.asker()
        self.live = LiveCard(self._manager, look, self._publisher, self.place, self._clock)
        self.live.display()

    def show(self, card: Card, *, saved: Card | None = None, at_once: bool = False) -> int:
        """Tells the page, and brings up to date what is saved, now and then where it is hidden.

        At the end the latter is shown again, so it comes first.

        Args:
            card: What is so now.
            saved: The same for when this kernel is gone; None for just the same.
            at_once: The caller bounds how often that is.

        Returns:
            About how many bytes that took.
        """
        live, size = self.live, 0
        hidden = live is not None and live.seen
        old = self._clock() - self._written >= _SAVED_EVERY
        new = card.record.status != self._status or (saved is not None and hidden != self._hidden)
        if old or new or not hidden:
            self._hidden = hidden
            size = self.write(saved if saved is not None and hidden else card)
        if live is not None:
            size += live.show(card, at_once=at_once)
        return size

    def look_for_pages(self) -> None:
        """Has a page that was loaded anew show it too, while a cell keeps the kernel busy."""
        if self.live is None:
            return
        now, asker = self._clock(), frontend.asker()
        if asker != self._asker:
            self._asker, self._greeted = asker, self.live.greetings
            self._due = [now + pause for pause in _ANNOUNCED_AFTER]
        if self._due and now >= self._due[0]:
            del self._due[0]
            if self.live.greetings == self._greeted:
                self.live.announce()
            else:
                self._due.clear()  # it can ask, and has
