"""Web addresses in the output of programs: where they are, and as links.

`widgets/page/links.js` has the same rules for the monitor. Output is untrusted: a link leads to
what is read in it, and what could be read as another address isn't one.
"""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterator, Sequence

# Spaces end an address, also those without a width, and what stands around one.
_CANDIDATE = re.compile(
    r"https?://[^\x00-\x20\x7f-\xa0<>\"`|\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]+",
    re.IGNORECASE,
)
# Letters of other scripts can look the same, so a host is ASCII; and it isn't a login.
_HOST = re.compile(
    r"https?://(?:[a-z0-9][a-z0-9_.-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE
)
# What may stand in front of one, but not as part of the same word.
_WORD = re.compile(r"[A-Za-z0-9_+.-]")
# What ends a sentence and not an address, and what closes a bracket.
_AFTER = ".,;:!?'*_~。，、；：？！）】」』》”’"
_PAIRS = {")": "(", "]": "[", "}": "{"}
_BEHIND_A_HOST = ",;'*()[]{}!"
# Nobody follows a longer one.
_LONGEST = 2000
# Stands for what was cut off.
_CUT = "…"

Piece = tuple[str, str]


def found_in(text: str) -> Iterator[tuple[int, int]]:
    """Where the addresses of a text begin and end."""
    if "://" not in text:  # which is quickly known
        return
    for found in _CANDIDATE.finditer(text):
        begin = found.start()
        if begin and _WORD.match(text[begin - 1]):
            continue
        if address := _address(found[0]):
            yield begin, begin + len(address)


def _address(candidate: str) -> str:
    """The address that a word begins with, without what stands behind it; "" for none."""
    if _CUT in candidate or len(candidate) > _LONGEST:
        return ""
    end = len(candidate)
    while end and _is_behind(candidate[:end]):
        end -= 1
    address = candidate[:end]
    host = _HOST.match(address)
    if host is None:
        return ""
    rest = address[host.end() :]
    if rest[:1] in ("", "/", "?", "#"):
        return address
    return host[0] if rest[0] in _BEHIND_A_HOST and "@" not in rest else ""


def _is_behind(address: str) -> bool:
    """Whether the last character of it isn't part of it."""
    last = address[-1]
    opening = _PAIRS.get(last)
    if opening:
        return address.count(last) > address.count(opening)
    return last in _AFTER


def linked(pieces: Sequence[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """Pieces of a text, each with its style, by the address that they are part of; "" for none."""
    whole = "".join(text for text, _ in pieces)
    rest, at = deque(pieces), 0
    for begin, end in found_in(whole):
        yield "", _taken(rest, begin - at)
        yield whole[begin:end], _taken(rest, end - begin)
        at = end
    yield "", list(rest)


def _taken(rest: deque[Piece], count: int) -> list[Piece]:
    """So many characters off the pieces."""
    taken = []
    while count:
        text, style = rest.popleft()
        taken.append((text[:count], style))
        if len(text) > count:
            rest.appendleft((text[count:], style))
        count -= len(taken[-1][0])
    return taken


def link(address: str, shown: str) -> str:
    """A link as HTML, which looks like the text around it, underlined.

    Args:
        address: Where it leads.
        shown: What stands in it, as HTML.
    """
    href = html.escape(address, quote=True)
    return (
        f'<a href="{href}" target="_blank" rel="noopener noreferrer" '
        f'style="color:inherit;text-decoration:underline">{shown}</a>'
    )
