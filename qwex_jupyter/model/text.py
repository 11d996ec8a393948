"""Text in lines that nothing can break: without escapes, cut to a length, aligned."""

from __future__ import annotations

import re
from collections.abc import Sequence

# CSI (colours are kept), OSC and other strings up to BEL or ST, two-character escapes.
ESCAPE = re.compile(
    r"\x1b\[[0-9:;<=>?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\|$|(?=\n))"
    r"|\x1b[ -/]*[0-~]"
    r"|\x1b"
)
# C0 and C1 except tab, newline and escape; the bidirectional overrides and isolates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# The last column of aligned rows has at least this many characters.
_LEAST = 8


def plain(text: str) -> str:
    """The text without colours."""
    return CONTROL.sub("", ESCAPE.sub("", text))


def short(text: str, limit: int = 100) -> str:
    """In one line, and not longer than that."""
    text = plain(" ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows as lines, the last column cut so that each has no more than so many characters."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    left = max(_LEAST, width - sum(widths) - 2 * len(widths))
    return [
        "  ".join(
            [*(cell.ljust(size) for cell, size in zip(row, widths, strict=False)),
             short(row[-1], left)]
        )
        for row in rows
    ]  # fmt: skip


# What logs in by an address: all up to its last @, as nobody escapes the @ or / of a password, but
# for the @ of an image's digest. What stands behind the ? of one may be a token.
_LOGIN = re.compile(r"://[^/\s]\S*@(?!sha256:)")
_QUERY = re.compile(r"(/[^\s?'\"]*)\?[^\s'\"<>)]+")


def without_secrets(text: str) -> str:
    """A text from outside, or an address, without what logs in: headers, logins and queries."""
    text = re.sub(r"(?i)\b(bearer|basic)(\s+|%20)[^\s'\"]+", r"\1 ***", text)
    return _QUERY.sub(r"\1?***", _LOGIN.sub("://***@", text))


def one_line(text: str, most: int = 300) -> str:
    """A text of any length in one line, without its full stop."""
    return " ".join(text.split()).rstrip(".")[:most]
