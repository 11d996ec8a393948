"""The last lines of a run's output, as a terminal would show them."""

from __future__ import annotations

import codecs
from collections import deque
from typing import Self

from qwex_jupyter.display.terminal import HELD, LINE_LIMIT, UNFINISHED, clean

# So many chunks wait at the most until somebody wants to see them.
_MOST_WAITING = 64
# Of a large chunk only so much is looked at, for each line that is kept.
_LOOKED_AT = 160


class Line(str):
    """A line of output, clean, which knows the stream that it came on."""

    __slots__ = ("stream",)

    stream: str

    def __new__(cls, text: str, stream: str = "") -> Self:
        """A line of a stream, "" for one that nobody knows."""
        line = super().__new__(cls, text)
        line.stream = stream
        return line


class Screen:
    r"""The last lines of a run's output, as a terminal would show them.

    Both streams in the order in which they were read. ``\r`` overwrites the line, so a
    progress bar is one line in its last state. However much is fed, memory and time are
    bounded: of what can't be shown only the newlines are counted.

    Args:
        keep: How many lines are kept.
    """

    def __init__(self, keep: int = 200) -> None:
        self._done: deque[Line] = deque(maxlen=keep)
        self._looked_at = _LOOKED_AT * keep
        self._streams: dict[str, _Unfinished] = {}
        self._waiting: list[tuple[str, bytes]] = []
        self._lines = 0
        self.bytes = 0

    def feed(self, stream: str, data: bytes) -> None:
        """Takes the next bytes of a stream; they are looked at when somebody wants to see."""
        self.bytes += len(data)
        if len(data) > self._looked_at:
            cut = data.rfind(b"\n", 0, len(data) - self._looked_at) + 1
            if cut:
                if any(name != stream for name, _ in self._waiting):
                    self._look()
                self._lines += data.count(b"\n", 0, cut)
                self._lines += sum(text.count(b"\n") for _, text in self._waiting)
                self._waiting.clear()
                self._done.clear()  # what is shown has no gap
                self._streams.setdefault(stream, _Unfinished()).clear()
                data = data[cut:]
        self._waiting.append((stream, data))
        if len(self._waiting) > _MOST_WAITING:
            self._look()

    def skip(self, lines: int, size: int) -> None:
        """Counts whole lines of so many bytes that nobody will see."""
        self._lines += lines
        self.bytes += size

    def feed_whole(self, stream: str, data: bytes) -> None:
        """Takes the next bytes of a stream and looks at all of them, as the caller bounds them."""
        self._look()
        self.bytes += len(data)
        self._take(stream, data)

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for stream, data in waiting:
            self._take(stream, data)

    def _take(self, stream: str, data: bytes) -> None:
        line = self._streams.setdefault(stream, _Unfinished())
        # A newline that follows a carriage return ends the line; a lone one begins it anew.
        *ended, rest = line.decode(data).split("\n")
        for text in ended:
            self._done.append(Line(line.finish(text), stream))
        self._lines += len(ended)
        line.add(rest)

    def tail(self, count: int) -> list[Line]:
        """The last lines, clean, an unfinished one included."""
        self._look()
        open_lines = [
            Line(text, stream) for stream, line in self._streams.items() if (text := line.shown())
        ]
        return [*list(self._done)[-count:], *open_lines][-count:]

    @property
    def finished(self) -> int:
        """How many lines there were that nothing can change any more."""
        self._look()
        return self._lines

    @property
    def count(self) -> int:
        """How many lines there were, an unfinished one included."""
        self._look()
        return self._lines + sum(1 for line in self._streams.values() if line.shown())


class _Unfinished:
    """The unfinished line of one stream. Of a long one its beginning is kept, and its length."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begin, self._length, self._text = "", 0, ""

    def decode(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def clear(self) -> None:
        self._decoder.reset()
        self._begin, self._length, self._text = "", 0, ""

    def add(self, text: str) -> None:
        self._text += text
        body = self._text.rstrip("\r")
        returned = "\r" if body != self._text else ""
        if "\r" in body:
            self._begin, self._length, body = "", 0, body.rpartition("\r")[2]
        if len(body) > 16 * LINE_LIMIT:
            found = UNFINISHED.search(body, len(body) - HELD)
            cut = found.start() if found else len(body)
            self._begin, self._length = self._with(body[:cut])
            body = body[cut:]
        self._text = body + returned

    def finish(self, text: str) -> str:
        self.add(text)
        shown = self.shown()
        self._begin, self._length, self._text = "", 0, ""
        return shown

    def shown(self) -> str:
        text, length = self._with(self._text.rstrip("\r"))
        return f"{text}… (+{length - LINE_LIMIT:,})" if length > LINE_LIMIT else text

    def _with(self, more: str) -> tuple[str, int]:
        """The beginning of the line with this behind it, and how long all of it is."""
        more = clean(more)
        return (self._begin + more)[:LINE_LIMIT], self._length + len(more)
