"""Colours of program output as HTML: what the codes add up to, and what can be read on what."""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from functools import lru_cache

from qwex_jupyter.display.links import link, linked
from qwex_jupyter.model.text import ESCAPE

SGR = re.compile(r"\x1b\[([0-9;:]{0,200})m")

# Text that is less important than what stands beside it: of the text's own colour, so that it can
# be read on each ground. Never within itself.
QUIET = "opacity:0.75"
# What isn't text (lines, bars, glyphs) has 3 : 1 on white, on grey of tables and on dark pages.
LINE, WARN, FILLED = "#7a7f87", "#cf7920", "#1f7ad1"

# Mid tones, as grounds; text that has none is made to be read on the page's, see `on_a_page`.
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
# How light a colour is that has 4.5 : 1 on white and 4.1 : 1 on #111: none has 4.5 on both, so the
# colour of the page's text adds what is missing. So much is the program's own.
_DARKEST, _LIGHTEST = 0.178, 0.1833
_SHARE = "65%"
_STEPS = 256


def to_html(text: str) -> str:
    """Cleaned text as HTML: escaped, colours as spans with inline styles, addresses as links."""
    pieces: list[tuple[str, str]] = []
    style = _Style()
    at = 0
    for found in SGR.finditer(text):
        pieces.append((ESCAPE.sub("", text[at : found.start()]), style.css()))
        style.apply(found[1])
        at = found.end()
    pieces.append((ESCAPE.sub("", text[at:]), style.css()))
    parts = []
    for address, inner in linked(pieces):  # an address may change its colour on the way
        shown = "".join(_span(piece, css) for piece, css in inner)
        parts.append(link(address, shown) if address else shown)
    return "".join(parts)


def _span(text: str, css: str) -> str:
    safe = html.escape(text, quote=True)
    return f'<span style="{css}">{safe}</span>' if css and text else safe


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
            words += [f"color:{readable(colour, ground)}", f"background-color:{ground}"]
        elif colour:
            words.append(on_a_page(colour))
        if colour or ground:
            del names[2]  # it would be too faint
        words += [names[mark] for mark in sorted(self._marks & names.keys())]
        lines = {4: "underline", 9: "line-through"}
        drawn = " ".join(lines[mark] for mark in sorted(self._marks & lines.keys()))
        return ";".join([*words, f"text-decoration:{drawn}"] if drawn else words)


@lru_cache(maxsize=2048)
def on_a_page(colour: str) -> str:
    """The style of text in a colour, or the nearest to it, on a page that may be light or dark.

    A sanitiser, as of notebooks that aren't trusted, leaves the first of both.
    """
    dark = _light(colour) < _DARKEST

    def mixed(step: int) -> str:
        return _mixed(colour, "#ffffff" if dark else "#000000", step / _STEPS)

    def does(step: int) -> bool:
        light = _light(mixed(step))
        return light >= _DARKEST if dark else light <= _LIGHTEST

    made = mixed(bisect_left(range(_STEPS), True, key=does))
    return f"color:{made};color:color-mix(in srgb,{made} {_SHARE},currentcolor)"


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
