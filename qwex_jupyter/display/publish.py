"""What is shown goes out here, through the publisher of the cell that shows it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from qwex_jupyter.display.card import Card, LogView, card_text
from qwex_jupyter.display.render import card_html, note_html


def publish(publisher: Any, card: Card, display_id: str, *, update: bool) -> int:
    """Shows a card, or replaces what is shown under that id; about how many bytes that took."""
    full = card.record.status.final or card.compact
    bundle = {
        "text/html": card_html(card),
        "text/plain": card_text(card if full else replace(card, log=LogView())),
    }
    put(publisher, bundle, display_id, update=update)
    return sum(map(len, bundle.values()))


def note(publisher: Any, text: str) -> None:
    """Shows a quiet line of its own."""
    publisher.publish(data={"text/plain": text, "text/html": note_html(text)})


def put(
    publisher: Any, bundle: Any, display_id: str, *, update: bool, metadata: Any = None
) -> None:
    """Shows a bundle of forms, or replaces what is shown under that id."""
    publisher.publish(
        data=bundle,
        metadata=metadata or {},
        transient={"display_id": display_id},
        update=update,
    )


def is_captured(publisher: Any) -> bool:
    """Whether a cell keeps what it shows for itself, as under ``%%capture``."""
    core = sys.modules.get("IPython.core.displaypub")
    return core is not None and isinstance(publisher, core.CapturingDisplayPublisher)
