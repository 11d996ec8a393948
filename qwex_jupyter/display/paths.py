"""The path of a run's own script, which is called ``cell`` where its output is shown.

What is on the disk stays as the program wrote it; so does what is given to a program.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable

from qwex_jupyter.display.screen import Line
from qwex_jupyter.model.cause import INSIDE
from qwex_jupyter.runners.argv import PROGRAMS

# What is said for the path of it.
CELL = "cell"
# What stands in each path of it, which is quickly looked for.
MARK = "/cell."
_NAME = rf"/cell\.(?:{'|'.join(sorted(set(PROGRAMS.values())))})"


@functools.lru_cache(maxsize=64)
def _pattern(folder: str) -> re.Pattern[str]:
    """Its path as it is written by who runs it: Node says a URL."""
    # It begins a word, or stands behind a colour, or behind what of a URL has been shown.
    begin = r"(?:(?<![\w./-])|(?<=[\d;\[]m)|(?<=file://))"
    return re.compile(rf"{begin}(?:file://)?(?:{_places(folder)}){_NAME}\b")


def _places(folder: str) -> str:
    # Node gives a path without links.
    places = {INSIDE, folder, os.path.realpath(folder)} if folder else {INSIDE}
    return "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))


def short(text: str, folder: str | os.PathLike[str]) -> str:
    """A text with the path of the run's own script as ``cell``.

    Args:
        text: Whole lines.
        folder: The run's folder; "" where it has none yet.
    """
    return _pattern(os.fspath(folder)).sub(CELL, text) if MARK in text else text


def short_lines(lines: Iterable[str], folder: str | os.PathLike[str]) -> list[str]:
    """`short` of lines, which keep their streams."""
    return [_line(line, folder) if MARK in line else line for line in lines]


def _line(line: str, folder: str | os.PathLike[str]) -> str:
    text = short(line, folder)
    return Line(text, line.stream) if isinstance(line, Line) else text


class Pieces:
    """`short` of a text that comes in pieces: one may end within a path.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder, self._held, self._before = os.fspath(folder), "", ""
        places = {INSIDE, self._folder, os.path.realpath(self._folder)}
        self._begins = [f"{place}{MARK}" for place in places]
        # So much of an end may be the beginning of one.
        self._most = max(map(len, self._begins)) + len("py")

    def feed(self, text: str, *, last: bool = False) -> str:
        """What can be shown now; with ``last`` all of it."""
        text = self._held + text
        cut = len(text) if last else self._cut(text)
        self._held = text[cut:]
        text, before = text[:cut], self._before
        self._before = (before + text)[-len("file://") :]
        return self._short(before, text) if MARK in text else text

    def _short(self, before: str, text: str) -> str:
        """`short` of a text, by what stands before it."""
        whole, at, shown = before + text, len(before), ""
        for found in _pattern(self._folder).finditer(whole, at):
            shown += whole[at : found.start()] + CELL
            at = found.end()
        return shown + whole[at:]

    def _cut(self, text: str) -> int:
        """Where a path begins with which the text ends, whole or in part; its length for none."""
        at = max(0, len(text) - self._most)
        while (at := text.find("/", at)) >= 0:
            end = text[at:]
            if any(
                begin.startswith(end) or (end.startswith(begin) and end[len(begin) :].isalnum())
                for begin in self._begins
            ):
                return at - len("file://") if text.endswith("file://", 0, at) else at
            at += 1
        return len(text)
