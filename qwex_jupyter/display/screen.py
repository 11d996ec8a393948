"""The last lines of a run's output, as a terminal would show them."""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import Self

from qwex_jupyter.display.terminal import HELD, LINE_LIMIT, UNFINISHED, begun_anew, clean

# So many chunks wait at the most until somebody wants to see them.
_MOST_WAITING = 64
# Of a large chunk only so much is looked at, for each line that is kept; of one that moves the
# cursor so much, as what stands where depends on what came before.
_LOOKED_AT, _MOVING = 160, 1 << 18
# So far up a cursor goes, among the lines of its own stream.
_REACH = 100
# Up, down, the same to the beginning of a line, and away with what follows.
_MOVE = re.compile(r"\x1b\[([0-9]{0,4})([ABEFJ])")
_MOVE_BYTES = re.compile(_MOVE.pattern.encode())
# Where a plain line ends, and where a cursor does more than go back.
_STEPS = re.compile(r"(\n|\x1b\[[0-9]{0,4}[ABEFJ])")
_OBEYED = re.compile(r"\x1b\[(?:[0-9]{0,4}[ABEFJ]|2K|[01]?G)")
# What may be the beginning of one of these.
_CUT_OFF = re.compile(r"\x1b(?:\[[0-9;]{0,16})?\Z")
_LONGEST_CUT = 20


def moves(data: bytes) -> bool:
    """Whether these bytes move the cursor to other lines than the next."""
    return bool(_MOVE_BYTES.search(data))


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
    progress bar is one line in its last state. A cursor that goes up does so among the last
    lines of its own stream; these can change again, and stand below all others until a newline
    leaves them. So bars below each other are in their places, and are counted as the lines that
    they are. However much is fed, memory and time are bounded: of what can't be shown only the
    newlines are counted.

    Args:
        keep: How many lines are kept.
    """

    def __init__(self, keep: int = 200) -> None:
        self._done: deque[Line] = deque(maxlen=keep)
        self._looked_at = _LOOKED_AT * keep
        self._streams: dict[str, _Rows] = {}
        self._waiting: list[tuple[str, bytes]] = []
        # How many lines are finished, and the fewest since `unchanged` was asked.
        self._lines = self._fewest = 0
        self.bytes = 0

    def feed(self, stream: str, data: bytes) -> None:
        """Takes the next bytes of a stream; they are looked at when somebody wants to see."""
        self.bytes += len(data)
        moving = False
        if len(data) > self._looked_at:
            moving = moves(data)
            most = max(self._looked_at, _MOVING) if moving else self._looked_at
            cut = data.rfind(b"\n", 0, max(0, len(data) - most)) + 1
            if cut:
                self._pass_over(stream, data, cut)
                data = data[cut:]
        self._waiting.append((stream, data))
        # What moves the cursor takes its time: not all of it at once, when somebody wants to see.
        if moving or len(self._waiting) > _MOST_WAITING:
            self._look()

    def _pass_over(self, stream: str, data: bytes, cut: int) -> None:
        """Counts what comes before and nobody will see; what is shown has no gap."""
        if any(name != stream for name, _ in self._waiting):
            self._look()
        self._lines += data.count(b"\n", 0, cut)
        self._lines += sum(text.count(b"\n") for _, text in self._waiting)
        self._waiting.clear()
        self._done.clear()
        rows = self._streams.setdefault(stream, _Rows())
        self._lines += len(rows.all) - 1
        rows.forget()

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
        rows = self._streams.setdefault(stream, _Rows())
        text = rows.decode(data)
        if len(rows.all) > 1 or ("\x1b" in text and _OBEYED.search(text)):
            self._obey(stream, rows, begun_anew(text))
            return
        # A newline that follows a carriage return ends the line; a lone one begins it anew.
        *ended, rest = text.split("\n")
        for line in ended:
            self._done.append(Line(rows.here.finish(line), stream))
        self._lines += len(ended)
        rows.here.add(rest)

    def _obey(self, stream: str, rows: _Rows, text: str) -> None:
        """Takes text that moves the cursor, or comes where it was moved to."""
        for step in _STEPS.split(text):
            if step == "\n":
                if not rows.down():
                    self._done += [Line(row.shown(), stream) for row in rows.all]
                    self._lines += len(rows.all)
                    rows.leave()
            elif move := _MOVE.fullmatch(step):
                count, way = min(int(move[1] or 1), _REACH), move[2]
                if way == "J":
                    if move[1] in ("", "0"):
                        rows.erase_below()
                elif way in "AF":
                    for _ in range(count):
                        if not (rows.up() or self._take_back(stream, rows)):
                            break
                else:  # a terminal doesn't scroll for it either
                    for _ in range(count):
                        if not rows.down():
                            break
            elif step:
                rows.here.add(step)

    def _take_back(self, stream: str, rows: _Rows) -> bool:
        """Has the finished line above the rows of a stream change again, where it is near."""
        if len(rows.all) >= _REACH:
            return False
        for back in range(1, min(len(self._done), 2 * _REACH) + 1):
            line = self._done[-back]
            if line.stream == stream:
                del self._done[-back]
                self._fewest = min(self._fewest, self._lines - back)
                self._lines -= 1
                rows.put_above(line)
                return True
        return False

    def tail(self, count: int) -> list[Line]:
        """The last lines, clean, those included that can change."""
        self._look()
        return [*list(self._done)[-count:], *self.unfinished()][-count:] if count else []

    def unfinished(self) -> list[Line]:
        """The lines that can change, which are the last."""
        self._look()
        return [
            Line(text, stream) for stream, rows in self._streams.items() for text in rows.shown()
        ]

    @property
    def finished(self) -> int:
        """How many lines stand before those that can change."""
        self._look()
        return self._lines

    def unchanged(self) -> int:
        """How many of the first lines are what they were when this was last asked, and finished."""
        self._look()
        fewest, self._fewest = min(self._fewest, self._lines), self._lines
        return fewest

    @property
    def count(self) -> int:
        """How many lines there were, those included that can change."""
        return self.finished + len(self.unfinished())


class _Rows:
    """The lines of one stream that can change: one, and more where its cursor went up."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.all = [_Row()]
        self._at = 0

    @property
    def here(self) -> _Row:
        """The one with the cursor."""
        return self.all[self._at]

    def decode(self, data: bytes) -> str:
        """Bytes as text; a character or an escape sequence that is cut off waits for its end."""
        text = self._held + self._decoder.decode(data)
        found = "\x1b" in text[-_LONGEST_CUT:] and _CUT_OFF.search(text, len(text) - _LONGEST_CUT)
        if not found:
            self._held = ""
            return text
        self._held = found[0]
        return text[: found.start()]

    def forget(self) -> None:
        """Begins anew behind a gap."""
        self._decoder.reset()
        self._held = ""
        self.leave()

    def leave(self) -> None:
        """Begins a row below all others, which are finished."""
        self.all, self._at = [_Row()], 0

    def down(self) -> bool:
        """To the next row, where there is one."""
        if self._at + 1 == len(self.all):
            return False
        self._at += 1
        self.here.add("\r")
        return True

    def up(self) -> bool:
        """To the row above, where there is one."""
        if not self._at:
            return False
        self._at -= 1
        self.here.add("\r")
        return True

    def put_above(self, line: str) -> None:
        """A finished line is the first row, and has the cursor."""
        self.all.insert(0, _Row())
        self.here.add(f"{line}\r")

    def erase_below(self) -> None:
        """Erases what follows the cursor."""
        del self.all[self._at + 1 :]
        self.here.add("\x1b[K")

    def shown(self) -> list[str]:
        """The rows, without blank ones at their end."""
        if len(self.all) == 1:
            return [text] if (text := self.here.shown()) else []
        texts = [row.shown() for row in self.all]
        while texts and not texts[-1].strip():
            texts.pop()
        return texts


class _Row:
    r"""A line that can change. Of a long one its beginning is kept, and its length.

    What follows a ``\r`` takes the place of all that was before.
    """

    def __init__(self) -> None:
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
