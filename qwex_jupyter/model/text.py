"""Text in lines that nothing can break: without escapes, cut to a length or a width."""

from __future__ import annotations

import re

# CSI (colours are kept), OSC and other strings up to BEL or ST, two-character escapes.
ESCAPE = re.compile(
    r"\x1b\[[0-9:;<=>?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\|$|(?=\n))"
    r"|\x1b[ -/]*[0-~]"
    r"|\x1b"
)
# C0 and C1 except tab, newline and escape; the bidirectional overrides and isolates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text without colours."""
    return CONTROL.sub("", ESCAPE.sub("", text))


def short(text: str, limit: int = 100) -> str:
    """In one line, and not longer than that."""
    text = plain(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def width_of(text: str) -> int:
    """How many columns of a terminal a line takes: of some characters two, of others none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fitted(text: str, width: int) -> str:
    """A line that takes no more than so many columns of a terminal."""
    if width_of(text) <= width:
        return text
    left, kept = width - 1, ""
    for char in text:
        left -= _columns(char)
        if left < 0:
            break
        kept += char
    return f"{kept}…"


def padded(text: str, width: int) -> str:
    """A line with blanks behind it, up to so many columns of a terminal."""
    return text + " " * (width - width_of(text))


def _columns(char: str) -> int:
    import unicodedata  # of few lines alone

    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0  # it joins the one before
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


# What logs in by an address: all up to its last @, as nobody escapes the @ or / of a password, but
# for the @ of an image's digest. What stands behind the ? of one may be a token.
_LOGIN = r"://[^/\s]\S*@(?!sha256:)"
_QUERY = r"(/[^\s?'\"]*)\?[^\s'\"<>)]+"


def without_secrets(text: str) -> str:
    """A text from outside, or an address, without what logs in: headers, logins and queries."""
    text = re.sub(r"(?i)\b(bearer|basic)(\s+|%20)[^\s'\"]+", r"\1 ***", text)
    return re.sub(_QUERY, r"\1?***", re.sub(_LOGIN, "://***@", text))


def one_line(text: str, most: int = 300) -> str:
    """A text of any length in one line, without its full stop."""
    return " ".join(text.split()).rstrip(".")[:most]
