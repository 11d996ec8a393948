"""Lines of output, and the addresses in them: what Python and the page have to agree about."""

from __future__ import annotations

# Each line, and what in it is a link; ESC [ ... m are colours, which are no part of the text.
CASES: dict[str, list[str]] = {
    "see https://example.org/a.html": ["https://example.org/a.html"],
    "http://localhost:8888/lab?token=0a1b": ["http://localhost:8888/lab?token=0a1b"],
    "HTTPS://EXAMPLE.ORG/A": ["HTTPS://EXAMPLE.ORG/A"],
    "http://[::1]:6006/": ["http://[::1]:6006/"],
    "http://127.0.0.1:6006 (Press CTRL+C to quit)": ["http://127.0.0.1:6006"],
    "https://a.org/x?b=c&d=e#f-1": ["https://a.org/x?b=c&d=e#f-1"],
    "two: https://a.org/1 https://b.org/2": ["https://a.org/1", "https://b.org/2"],
    # What stands behind one.
    "It is at https://a.org/b.": ["https://a.org/b"],
    "https://a.org, https://b.org; https://c.org!": [
        "https://a.org",
        "https://b.org",
        "https://c.org",
    ],
    "really https://a.org/b...?": ["https://a.org/b"],
    "a full stop of another script https://a.org/b。": ["https://a.org/b"],
    "<https://a.org/b>": ["https://a.org/b"],
    "\"https://a.org/b\" 'https://a.org/c'": ["https://a.org/b", "https://a.org/c"],
    "(https://a.org/b)": ["https://a.org/b"],
    "[text](https://a.org/b)": ["https://a.org/b"],
    "https://a.org/wiki/X_(y)": ["https://a.org/wiki/X_(y)"],
    "(see https://a.org/wiki/X_(y))": ["https://a.org/wiki/X_(y)"],
    "https://a.org/[1]{2}": ["https://a.org/[1]{2}"],
    "url=https://a.org;next": ["https://a.org"],
    "https://a.org|https://b.org": ["https://a.org", "https://b.org"],
    "| https://a.org/b | x |": ["https://a.org/b"],
    # What is of no web.
    "javascript:alert(1) file:///etc/passwd ftp://a.org": [],
    "javascript://https://": [],
    "git+https://a.org/b.git xhttps://a.org": [],
    "https:// http://. https:///a https://-a": [],
    # What could be read as another address.
    "https://good.example@bad.example/": [],
    "https://user:word@example.org/": [],
    "https://good.example:80@bad.example": [],
    "https://gооd.example/": [],  # its o is Cyrillic
    "https://münchen.example/": [],
    "https://a.org/straße": ["https://a.org/straße"],
    "https://a.org/\u200bhidden": ["https://a.org/"],
    "https://a.org\u2044b": [],
    # What was cut off isn't an address any more.
    "https://a.org/lo… (+1,234)": [],
    f"https://a.org/{'x' * 3000}": [],
    # Markup stays text.
    'https://a.org/"onclick="alert(1)': ["https://a.org/"],
    "https://a.org/&lt;b&gt;": ["https://a.org/&lt;b&gt"],
    "<a href=https://a.org/b>x</a>": ["https://a.org/b"],
    # Colours.
    "\x1b[31mhttps://a.org/b\x1b[0m rest": ["https://a.org/b"],
    "\x1b[4mhttps://a.org/\x1b[1;31mfound\x1b[0m/c.": ["https://a.org/found/c"],
    "https://a.org/\x1b[32m b": ["https://a.org/"],
    "\x1b[1mht\x1b[0mtps://a.org/": ["https://a.org/"],
}
