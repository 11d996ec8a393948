"""Which addresses in a program's output become links, and what those are."""

from __future__ import annotations

import html
import re

import pytest
from link_cases import CASES

from qwex_jupyter.display.colours import to_html
from qwex_jupyter.model.text import plain

pytestmark = pytest.mark.once

LINK = re.compile(r"<a ([^>]*)>(.*?)</a>")


@pytest.mark.parametrize(("line", "addresses"), CASES.items())
def test_addresses_are_links(line: str, addresses: list[str]) -> None:
    """A link is the whole address and nothing else, and the text around it stays what it was."""
    made = to_html(line)
    found = LINK.findall(made)
    assert [html.unescape(re.sub("<[^>]*>", "", shown)) for _, shown in found] == addresses
    for attributes, shown in found:
        href = html.unescape(re.findall(r'^href="([^"]*)"', attributes)[0])
        assert href == html.unescape(re.sub("<[^>]*>", "", shown))
        assert 'rel="noopener noreferrer"' in attributes
        assert 'target="_blank"' in attributes
    assert html.unescape(re.sub("<[^>]*>", "", made)) == plain(line)


def test_colours_go_on_within_and_behind_a_link() -> None:
    """Elements are closed in the order in which they were opened, whatever the colours do."""
    made = to_html("\x1b[1ma https://a.org/\x1b[3mb c\x1b[0m d")
    bold, both = "font-weight:bold", "font-weight:bold;font-style:italic"
    assert re.sub(r"<a [^>]*>", "<a>", made) == (
        f'<span style="{bold}">a </span><a><span style="{bold}">https://a.org/</span>'
        f'<span style="{both}">b</span></a><span style="{both}"> c</span> d'
    )


def test_no_link_goes_over_the_end_of_a_line() -> None:
    """What a line ends with isn't joined to the next one."""
    assert [shown for _, shown in LINK.findall(to_html("https://a.org/b\nc/d"))] == [
        "https://a.org/b"
    ]
