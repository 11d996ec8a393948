"""Program output to something that can be shown: bytes to lines, colours to HTML.

Output is untrusted: of all escape sequences only colours (SGR) are understood; cursor
moves, titles, links, clipboard writes and other control characters are dropped, and so are
the marks that turn text around. The bytes on disk keep everything.
"""

from __future__ import annotations

import codecs
import html
import re
from collections import deque
from collections.abc import Callable, Sequence

from qwex_jupyter.model.text import CONTROL, ESCAPE

_UNFINISHED = re.compile(r"\x1b(?:\[[0-9:;<=>?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")
_SGR = re.compile(r"\x1b\[([0-9;:]{0,200})m")
_CONTROL_BUT_RETURN = re.compile(CONTROL.pattern.replace("\x0b-\x1a", "\x0b\x0c\x0e-\x1a"))

LINE_LIMIT = 4000
# So many chunks wait at the most until somebody wants to see them.
_MOST_WAITING = 64
# Of a large chunk only so much is looked at, for each line that is kept.
_LOOKED_AT = 160
# So long the beginning of an escape sequence waits for its end.
_HELD = 4096

# Mid tones that can be read on white and on black.
_COLOURS = (
    "#6b7078",
    "#d63d36",
    "#2e9d4c",
    "#a87f00",
    "#1f7ad1",
    "#a64bc4",
    "#0e93a3",
    "#82888f",
    "#747a82",
    "#ef5b54",
    "#33a653",
    "#b88b10",
    "#4796e3",
    "#bd6bd8",
    "#1ca0b0",
    "#8f959d",
)
# What stands for the ground of a terminal where colours change places with it.
_GROUND = _COLOURS[0]
# The least contrast of text that is read with ease (WCAG 2.2, 1.4.3).
_CONTRAST = 4.5


def clean(text: str) -> str:
    """The text with its colours and nothing else that a terminal would act on."""
    if text.isprintable():  # which most lines are, and which is quickly known
        return text
    return CONTROL.sub("", _colours_only(text))


def last_state(line: str) -> str:
    r"""What is left of a line that was overwritten by means of ``\r``."""
    return line.rstrip("\r").rpartition("\r")[2]


def shown(line: str) -> str:
    """A line as it stands in the end, clean, and not too long."""
    text = clean(last_state(line))
    if len(text) > LINE_LIMIT:
        text = f"{text[:LINE_LIMIT]}… (+{len(text) - LINE_LIMIT:,})"
    return text


def _colours_only(text: str) -> str:
    return ESCAPE.sub(lambda found: found[0] if _SGR.fullmatch(found[0]) else "", text)


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
        found = None if last else _UNFINISHED.search(text, max(0, len(text) - _HELD))
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


def to_html(text: str) -> str:
    """Cleaned text as HTML: escaped, its colours as spans with inline styles."""
    parts: list[str] = []
    style = _Style()
    at = 0
    for found in _SGR.finditer(text):
        _span(parts, text[at : found.start()], style)
        style.apply(found[1])
        at = found.end()
    _span(parts, text[at:], style)
    return "".join(parts)


def _span(parts: list[str], text: str, style: _Style) -> None:
    if text:
        css = style.css()
        safe = html.escape(ESCAPE.sub("", text), quote=True)
        parts.append(f'<span style="{css}">{safe}</span>' if css else safe)


class _Style:
    """What the colour codes so far add up to (ECMA-48, 8.3.117)."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._colour = self._ground = ""
        self._marks: set[int] = set()

    def apply(self, codes: str) -> None:
        numbers = [int(code or 0) for code in re.split("[;:]", codes)] if codes else [0]
        while numbers:
            code = numbers.pop(0)
            if code == 0:
                self._reset()
            elif code in (1, 2, 3, 4, 7, 9):
                self._marks.add(code)
            elif code == 22:
                self._marks -= {1, 2}
            elif code in (23, 24, 27, 29):
                self._marks.discard(code - 20)
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self._colour = _COLOURS[code - 30 if code < 40 else code - 82]
            elif 40 <= code <= 47 or 100 <= code <= 107:
                self._ground = _COLOURS[code - 40 if code < 50 else code - 92]
            elif code == 39:
                self._colour = ""
            elif code == 49:
                self._ground = ""
            elif code == 38:
                self._colour = _extended(numbers)
            elif code == 48:
                self._ground = _extended(numbers)

    def css(self) -> str:
        colour, ground = self._colour, self._ground
        if 7 in self._marks:
            colour, ground = ground, colour or _GROUND
        words = []
        names = {1: "font-weight:bold", 2: "opacity:0.7", 3: "font-style:italic"}
        if ground:
            colour = readable(colour, ground)
            del names[2]  # it would make it faint
        if colour:
            words.append(f"color:{colour}")
        if ground:
            words.append(f"background-color:{ground}")
        words += [names[mark] for mark in sorted(self._marks & names.keys())]
        lines = {4: "underline", 9: "line-through"}
        drawn = " ".join(lines[mark] for mark in sorted(self._marks & lines.keys()))
        return ";".join([*words, f"text-decoration:{drawn}"] if drawn else words)


def readable(colour: str, ground: str) -> str:
    """The colour, or the nearest to it, that can be read on a ground; "" is none in particular.

    Whatever the ground is, black or white can be: they are where a colour that can't goes to.
    """
    shade = _light(ground)
    end = "#ffffff" if shade < 0.179 else "#000000"  # there both have the same contrast
    for step in range(10 if colour else 0):
        mixed = _mixed(colour, end, step / 10)
        high, low = sorted((_light(mixed), shade), reverse=True)
        if (high + 0.05) / (low + 0.05) >= _CONTRAST:
            return mixed
    return end


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mixed(colour: str, other: str, share: float) -> str:
    pairs = zip(_parts(colour), _parts(other), strict=True)
    return "#" + "".join(f"{int(a + (b - a) * share):02x}" for a, b in pairs)


def _light(colour: str) -> float:
    """How light a colour is, 0 to 1 (WCAG 2.2, relative luminance)."""
    shares = [part / 255 for part in _parts(colour)]
    lights = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * lights[0] + 0.7152 * lights[1] + 0.0722 * lights[2]


def _extended(numbers: list[int]) -> str:
    """The colour of 38;5;N or 38;2;R;G;B; takes its numbers off the list."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = (min(numbers.pop(0), 255) for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    if kind == 5 and numbers:
        number = min(numbers.pop(0), 255)
        if number < 16:
            return _COLOURS[number]
        if number > 231:
            grey = 8 + 10 * (number - 232)
            return f"#{grey:02x}{grey:02x}{grey:02x}"
        steps = (0, 95, 135, 175, 215, 255)
        number -= 16
        return f"#{steps[number // 36]:02x}{steps[number // 6 % 6]:02x}{steps[number % 6]:02x}"
    return ""


class Screen:
    r"""The last lines of a run's output, as a terminal would show them.

    Both streams in the order in which they were read. ``\r`` overwrites the line, so a
    progress bar is one line in its last state. However much is fed, memory and time are
    bounded: of what can't be shown only the newlines are counted.

    Args:
        keep: How many lines are kept.
    """

    def __init__(self, keep: int = 200) -> None:
        self._done: deque[str] = deque(maxlen=keep)
        self._looked_at = _LOOKED_AT * keep
        self._streams: dict[str, _Line] = {}
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
                self._streams.setdefault(stream, _Line()).clear()
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
        line = self._streams.setdefault(stream, _Line())
        # A newline that follows a carriage return ends the line; a lone one begins it anew.
        *ended, rest = line.decode(data).split("\n")
        for text in ended:
            self._done.append(line.finish(text))
        self._lines += len(ended)
        line.add(rest)

    def tail(self, count: int) -> list[str]:
        """The last lines, clean, an unfinished one included."""
        self._look()
        open_lines = [text for line in self._streams.values() if (text := line.shown())]
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


class _Line:
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
            found = _UNFINISHED.search(body, len(body) - _HELD)
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
