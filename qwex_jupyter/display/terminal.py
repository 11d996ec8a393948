"""Program output to something that can be shown: bytes to lines, colours to HTML.

Output is untrusted: of all escape sequences only colours (SGR) are understood; cursor
moves, titles, links, clipboard writes and other control characters are dropped, and so are
the marks that turn text around. The bytes on disk keep everything.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence

from qwex_jupyter.display.colours import SGR
from qwex_jupyter.model.text import CONTROL, ESCAPE

UNFINISHED = re.compile(r"\x1b(?:\[[0-9:;<=>?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")
_CONTROL_BUT_RETURN = re.compile(CONTROL.pattern.replace("\x0b-\x1a", "\x0b\x0c\x0e-\x1a"))

# The cursor to the first column, and a line that is erased.
_ANEW = re.compile(r"\x1b\[(?:2K|[01]?G)")

LINE_LIMIT = 4000
# So long the beginning of an escape sequence waits for its end.
HELD = 4096


def clean(text: str) -> str:
    """The text with its colours and nothing else that a terminal would act on."""
    if text.isprintable():  # which most lines are, and which is quickly known
        return text
    return CONTROL.sub("", _colours_only(text))


def begun_anew(text: str) -> str:
    r"""The text with ``\r`` for what goes to the beginning of a line, or erases all of one."""
    return _ANEW.sub(lambda found: "\r\x1b[K" if found[0][-1] == "K" else "\r", text)


def last_state(line: str) -> str:
    r"""What is left of a line that was overwritten by means of ``\r``."""
    if "\x1b" in line:
        line = begun_anew(line)
    return line.rstrip("\r").rpartition("\r")[2]


def shown(line: str) -> str:
    """A line as it stands in the end, clean, and not too long."""
    text = clean(last_state(line))
    if len(text) > LINE_LIMIT:
        text = f"{text[:LINE_LIMIT]}… (+{len(text) - LINE_LIMIT:,})"
    return text


def _colours_only(text: str) -> str:
    return ESCAPE.sub(lambda found: found[0] if SGR.fullmatch(found[0]) else "", text)


class Text:
    """The bytes of a stream as text that may be printed: `clean`, with carriage returns.

    The beginning of a character or of an escape sequence waits for the bytes that end it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """What can be printed now; with ``last`` all of it."""
        text = self._held + self._decoder.decode(data, last)
        found = None if last else UNFINISHED.search(text, max(0, len(text) - HELD))
        cut = found.start() if found else len(text)
        self._held = text[cut:]
        return _CONTROL_BUT_RETURN.sub("", _colours_only(text[:cut]))


def last_within(lines: Sequence[str], room: int, size: Callable[[str], int]) -> list[str]:
    """As many of the last lines as fit.

    Args:
        lines: All lines.
        room: How much there is room for.
        size: How much of it a line takes without its end, which takes one.
    """
    kept: list[str] = []
    for line in reversed(lines):
        room -= size(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept[::-1]
