"""Program output to what can be shown."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwex_jupyter.display.colours import FILLED, LINE, WARN, readable, to_html
from qwex_jupyter.display.format import GLYPHS
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.display.terminal import LINE_LIMIT, Text, clean
from qwex_jupyter.display.timeline import QUEUED
from qwex_jupyter.model.text import plain

RED, END = "\x1b[31m", "\x1b[0m"

HOSTILE = {
    "a link (OSC 8)": "\x1b]8;;https://evil.example\x07here\x1b]8;;\x07",
    "a clipboard write (OSC 52)": "\x1b]52;c;cm0gLXJm\x1b\\",
    "a title (OSC 0)": "\x1b]0;owned\x07",
    "an unfinished title": "\x1b]0;owned",
    "a device string (DCS)": "\x1bP$qm\x1b\\",
    "clear the screen": "\x1b[2J\x1b[H",
    "move the cursor": "\x1b[10;10H\x1b[3A",
    "the other screen": "\x1b[?1049h",
    "a full reset": "\x1bc",
    "a bell and a backspace": "\x07\x08",
    "C1 controls": "\x9b31m\x9d0;x\x9c",
    "a bidirectional override": "\u202egnp.exe\u202c",
    "an isolate": "\u2066x\u2069",
}


class Reader(HTMLParser):
    """What a browser would make of it: the text, and the tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", [("", "")][:0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps a tag."""
        self.tags += [(tag, name) for name, _ in attrs] or [(tag, "")]

    def handle_data(self, data: str) -> None:
        """Keeps text."""
        self.text += data


def _read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_only_colours_are_understood(text: str) -> None:
    """Links, titles, clipboard writes, cursor moves and direction marks are dropped."""
    for made in (clean(f"a{text}"), plain(f"a{text}"), _read(to_html(clean(f"a{text}"))).text):
        assert made.startswith("a")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)


def test_colours_stay_and_plain_drops_them() -> None:
    """`clean` keeps colours, `plain` doesn't."""
    text = f"{RED}red{END} and \x1b[1;38;5;208mloud{END}"
    assert clean(text) == text
    assert plain(text) == "red and loud"


def test_colours_become_inline_styles() -> None:
    """Colours, bold, underline and the 256 and 24-bit palettes become spans, and end."""
    made = to_html(f"{RED}r{END}n\x1b[1;4mb\x1b[22;24mp\x1b[38;2;1;2;3mt\x1b[48;5;196mg{END}")
    mixed = r"color:(#[0-9a-f]{6});color:color-mix\(in srgb,\%d 65%%,currentcolor\)"
    assert re.fullmatch(
        rf'<span style="{mixed % 1}">r</span>n'
        r'<span style="font-weight:bold;text-decoration:underline">b</span>p'
        rf'<span style="{mixed % 2}">t</span>'
        r'<span style="color:#010203;background-color:#ff0000">g</span>',
        made,
    )


def test_a_script_in_the_output_is_text() -> None:
    """HTML in output is shown, not run."""
    text = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    made = to_html(clean(f"{RED}{text}"))
    reader = _read(made)
    assert {tag for tag, _ in reader.tags} == {"span"}
    assert reader.text == text


@given(
    st.text(
        alphabet=st.sampled_from("\x1b[]0123456789;:mKHJ\x07\\P<>&\"'/a \n\r\u202e\x9b"),
        max_size=60,
    )
)
def test_whatever_comes_is_harmless(text: str) -> None:
    """No sequence of escape codes and markup makes a tag, an attribute or a control of ours."""
    reader = _read(to_html(clean(text)))
    assert set(reader.tags) <= {("span", "style")}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", reader.text)
    assert "\x1b" not in plain(text)


def test_a_colour_code_of_absurd_length_is_dropped() -> None:
    """A number too long to be read is no colour, and no error."""
    assert to_html(clean(f"\x1b[{'9' * 5000}mx")) == "x"
    assert to_html(f"\x1b[{';' * 150}mx") == "x"


def test_a_long_output_without_an_end_takes_linear_time() -> None:
    """Megabytes of unfinished escape sequences are read once, not again and again."""
    for text in ("\x1b]" * 200_000, "\x1b[" + "1;" * 200_000, "\x1b" * 400_000):
        assert len(clean(text)) <= len(text)
        Text().feed(text.encode())


def test_a_progress_bar_is_one_line_in_its_last_state() -> None:
    """A carriage return begins the line anew; a newline after it ends the line."""
    screen = Screen()
    for done in range(0, 101, 5):
        screen.feed("stderr", f"\r{done}%|{'#' * done}".encode())
    assert screen.tail(5) == ["100%|" + "#" * 100]
    assert screen.count == 1
    screen.feed("stderr", b"\r\nnext\r\n")
    assert screen.tail(5) == ["100%|" + "#" * 100, "next"]
    assert screen.count == 2


def test_an_unfinished_line_is_shown() -> None:
    """A prompt without a newline is on the screen, of both streams."""
    screen = Screen()
    screen.feed("stdout", b"one\ntwo")
    screen.feed("stderr", b"three")
    assert screen.tail(10) == ["one", "two", "three"]
    assert screen.count == 3


@given(st.text(max_size=40), st.lists(st.integers(1, 5), max_size=40))
def test_characters_cut_between_reads_are_whole(text: str, cuts: list[int]) -> None:
    """An emoji whose bytes come in two reads is one emoji; so is a colour."""
    data = f"{RED}🙂é{END}{text}".encode("utf-8", "replace")
    screen, whole = Screen(), Screen()
    whole.feed("stdout", data)
    made, at = Text(), 0
    parts = []
    for size in cuts:
        screen.feed("stdout", data[at : at + size])
        parts.append(made.feed(data[at : at + size]))
        at += size
    screen.feed("stdout", data[at:])
    parts.append(made.feed(data[at:], last=True))
    assert screen.tail(500) == whole.tail(500)
    assert "".join(parts) == Text().feed(data, last=True)


def test_what_is_not_utf_8_is_a_replacement_mark() -> None:
    """Bytes that aren't text are shown as U+FFFD and end nothing."""
    screen = Screen()
    screen.feed("stdout", b"a\xff\xfeb\n\xf0\x9f")
    screen.feed("stdout", b"\x99\x82\n")
    assert screen.tail(5) == ["a��b", "🙂"]


def test_a_long_line_is_cut_and_says_by_how_much() -> None:
    """Of a line of 54 kB its beginning is shown, and the number of characters that follow."""
    screen = Screen()
    screen.feed("stdout", b"x" * 54_000 + b"\n")
    (line,) = screen.tail(5)
    assert line == "x" * LINE_LIMIT + "… (+50,000)"


def test_however_much_comes_it_is_counted_and_bounded() -> None:
    """A flood costs its newlines only; what is kept are the last lines, without a gap."""
    screen = Screen(50)
    data = b"".join(b"line %06d %s\n" % (n, b"." * 80) for n in range(100_000))
    for at in range(0, len(data), 1 << 20):
        screen.feed("stdout", data[at : at + (1 << 20)])
    assert screen.count == 100_000
    assert screen.bytes == len(data)
    numbers = [int(line.split()[1]) for line in screen.tail(50)]
    assert numbers == list(range(100_000 - len(numbers), 100_000))
    assert len(numbers) == 50


def test_long_lines_in_a_flood_leave_no_gap() -> None:
    """Lines that are dropped between two reads are not skipped over in silence."""
    screen = Screen(200)
    for part in range(3):
        data = b"".join(b"%d %d %s\n" % (part, n, b"." * 3000) for n in range(100))
        screen.feed("stdout", data)
    shown = [tuple(map(int, line.split()[:2])) for line in screen.tail(200)]
    assert shown == [(2, n) for n in range(100 - len(shown), 100)]


def test_a_line_that_never_ends_is_bounded() -> None:
    """Megabytes without a newline keep no more than a few lines' worth."""
    screen = Screen()
    for _ in range(200):
        screen.feed("stdout", b"y" * 100_000)
    assert screen.bytes == 20_000_000
    assert len(screen.tail(5)[0]) < LINE_LIMIT + 40


def test_printed_text_keeps_carriage_returns_and_colours() -> None:
    """What goes to a terminal is clean, and a progress bar still moves there."""
    text = Text()
    assert text.feed(f"\r10%\r{RED}20%{END}\x1b]0;t\x07\x1b[2K\n".encode()) == (
        f"\r10%\r{RED}20%{END}\n"
    )


def test_an_unfinished_escape_waits_but_not_for_ever() -> None:
    """The beginning of an escape sequence is held back until its end, or until it is absurd."""
    text = Text()
    assert text.feed(b"a\x1b]0;ti") == "a"
    assert text.feed(b"tle\x07b") == "b"
    assert text.feed(b"\x1b[3") == ""
    assert text.feed(b"1mred") == f"{RED}red"
    assert text.feed(b"\x1b]0;" + b"z" * 10_000) == ""
    assert text.feed(b"\nnext") == "\nnext"


def test_html_of_text_is_its_escape() -> None:
    """Text without codes is escaped and nothing else."""
    text = "a < b & \"c\" 'd'"
    assert to_html(text) == html.escape(text, quote=True)


# Every colour that a code can name, and none.
COLOURS = ["39", *map(str, (*range(30, 38), *range(90, 98)))]
COLOURS += [f"38;5;{number}" for number in range(256)]


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2.2; written anew, so that it isn't the measured itself."""
    lights = []
    for colour in (one, other):
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
        lights.append(0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05)
    return max(lights) / min(lights)


@pytest.mark.parametrize("more", ["", "7;", "2;", "1;7;"])
def test_what_has_a_ground_can_be_read_on_it(more: str) -> None:
    """Whatever colours a program puts on each other, and turned around too: 4.5 : 1 or more."""
    grounds = [code.replace("3", "4", 1) for code in COLOURS if code[0] == "3"]
    grounds += [f"10{number}" for number in range(8)]
    for colour in COLOURS[:17] + COLOURS[17::7]:
        for ground in grounds:
            style = to_html(f"\x1b[{more}{colour};{ground}mx")
            found = dict(re.findall(r"([a-z-]+):([^;\"]+)", style))
            if (colour, ground) == ("39", "49") and "7" not in more:
                continue  # it has neither
            if ground == "49" and "7" not in more:
                continue  # the page's own ground
            assert "opacity" not in found
            made = contrast(found["color"], found["background-color"])
            assert made >= 4.5, (colour, ground, found)


@pytest.mark.parametrize("faint", ["", "2;"])
def test_what_has_no_ground_can_be_read_on_any_page(faint: str) -> None:
    """Any colour of a program has 4.5 : 1 on light and on dark pages, and nearly so by itself."""
    pages = [("#ffffff", "#000000"), ("#f5f5f5", "#000000"), ("#111111", "#ffffff")]
    codes = [*COLOURS[1:], "38;2;255;255;1", "38;2;0;0;255", "38;2;1;2;3"]
    for code in codes:
        made = to_html(f"\x1b[{faint}{code}mx")
        assert "opacity" not in made
        (alone, share) = re.findall(r"color:(#\w+);color:.*,#\w+ (\d+)%,currentcolor\)", made)[0]
        assert contrast(alone, "#ffffff") >= 4.5, code
        assert contrast(alone, "#111111") >= 4.1, code
        for page, text in pages:
            text = _mixed(text, page, 0.13)  # as Lab's, whose text isn't quite black
            assert contrast(_mixed(text, alone, int(share) / 100), page) >= 4.5, (code, page)


def _mixed(one: str, other: str, share: float) -> str:
    pairs = [(int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def test_what_is_no_text_can_be_told_from_each_page() -> None:
    """Glyphs, bars and lines have 3 : 1 on light and dark pages and on rows of tables."""
    for colour in (*(colour for _, colour in GLYPHS.values()), QUEUED, LINE, WARN, FILLED):
        for page in ("#ffffff", "#f5f5f5", "#111111", "#212121", "#1e1e1e"):
            assert contrast(colour, page) >= 3, (colour, page)


def test_what_can_be_read_keeps_its_colour() -> None:
    """A colour changes only as far as its ground demands."""
    assert readable("#ffff00", "#000000") == "#ffff00"
    assert readable("", "#1f7ad1") in ("#000000", "#ffffff")
    green = readable("#00aa00", "#ffffff")
    assert int(green[3:5], 16) > 100
    assert green[1:3] == green[5:7] == "00"


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("\x1b[41;7mx", "background-color:#6b7078"),
        ("\x1b[31;7mx", "background-color:#d63d36"),
        ("\x1b[7mx", "color:#ffffff;background-color:#6b7078"),
        ("\x1b[38;2;0;0;255;48;2;255;255;0;7mx", "color:#ffff00;background-color:#0000ff"),
        ("\x1b[7;27mx", ""),
        ("\x1b[30;47mx", "background-color:#82888f"),
    ],
)
def test_inverse_turns_colours_around(text: str, style: str) -> None:
    """Colour and ground change places, also where one of them is the terminal's own."""
    assert (style in to_html(text)) and bool(style) is ("<span" in to_html(text))
