"""Text to a stream that may not be able to hold all of it."""

from __future__ import annotations

import sys
from typing import IO


def tell(text: object, stream: IO[str] | None = None) -> None:
    """Prints a text at once.

    Args:
        text: What is told.
        stream: Where; None for stdout as it is now.
    """
    target = stream or sys.stdout
    print(held_by(target, str(text)), file=target, flush=True)


def held_by(stream: IO[str], text: str) -> str:
    """The text as a stream can hold it: a terminal may have no glyph for what we say."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding, "replace")
