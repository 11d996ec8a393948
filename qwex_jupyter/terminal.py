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

# CSI (colours are kept), OSC and other strings up to BEL or ST, two-character escapes.
_ESCAPE = re.compile(
    r"\x1b\[[0-9:;<=>?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\|$|(?=\n))"
    r"|\x1b[ -/]*[0-~]"
    r"|\x1b"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9:;<=>?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")
_SGR = re.compile(r"\x1b\[([0-9;:]{0,200})m")
# C0 and C1 but tab, newline and escape; the bidirectional overrides and isolates.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CONTROL_BUT_RETURN = re.compile(_CONTROL.pattern.replace("\x0b-\x1a", "\x0b\x0c\x0e-\x1a"))

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


def clean(text: str) -> str:
    """The text with its colours and nothing else that a terminal would act on."""
    return _CONTROL.sub("", _colours_only(text))


def plain(text: str) -> str:
    """The text without colours."""
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def _colours_only(text: str) -> str:
    return _ESCAPE.sub(lambda found: found[0] if _SGR.fullmatch(found[0]) else "", text)


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
        safe = html.escape(_ESCAPE.sub("", text), quote=True)
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
            elif code in (1, 2, 3, 4, 9):
                self._marks.add(code)
            elif code == 22:
                self._marks -= {1, 2}
            elif code in (23, 24, 29):
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
        words = []
        if self._colour:
            words.append(f"color:{self._colour}")
        if self._ground:
            words.append(f"background-color:{self._ground}")
        names = {1: "font-weight:bold", 2: "opacity:0.7", 3: "font-style:italic"}
        words += [names[mark] for mark in sorted(self._marks & names.keys())]
        lines = {4: "underline", 9: "line-through"}
        drawn = " ".join(lines[mark] for mark in sorted(self._marks & lines.keys()))
        return ";".join([*words, f"text-decoration:{drawn}"] if drawn else words)


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
    """The unfinished line of one stream."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    def decode(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def clear(self) -> None:
        self._decoder.reset()
        self._text = ""

    def add(self, text: str) -> None:
        self._text += text
        if len(self._text) > 16 * LINE_LIMIT:
            self._text = self._text[-8 * LINE_LIMIT :]
        if "\r" in self._text[:-1]:
            head, _, last = self._text.rstrip("\r").rpartition("\r")
            self._text = (last or head.rpartition("\r")[2]) + (
                "\r" if self._text.endswith("\r") else ""
            )

    def finish(self, text: str) -> str:
        self.add(text)
        shown, self._text = self.shown(), ""
        return shown

    def shown(self) -> str:
        text = clean(self._text.rstrip("\r").rpartition("\r")[2])
        if len(text) > LINE_LIMIT:
            text = f"{text[:LINE_LIMIT]}… (+{len(text) - LINE_LIMIT:,})"
        return text
