"""Notebooks as they are read without a kernel: what nbconvert makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

FORMATS = ("html", "markdown")
# What front ends and converters say where a widget should be and isn't.
_FAILED = re.compile(
    r"Error (displaying|creating|rendering|loading) widget|Loading widget|[Mm]odel not found"
    r"|Failed to load|A Jupyter Widget|widget-view\+json|Monitor\(",
)


def convert(notebook: Mapping[str, Any], how: str) -> str:
    """A notebook as ``html`` or ``markdown``, in which no widget is missed."""
    import nbformat
    from nbconvert import HTMLExporter, MarkdownExporter

    exporter = {"html": HTMLExporter, "markdown": MarkdownExporter}[how]()
    # As from a file, where a cell's text may be a list of lines.
    book = nbformat.reads(json.dumps(notebook), as_version=4)
    text: str = exporter.from_notebook_node(book)[0]
    # The page's own style sheet and scripts say such words too.
    bare = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)
    found = _FAILED.search(bare)
    assert found is None, bare[max(0, found.start() - 300) : found.end() + 300]
    return bare


def page_of(outputs: Sequence[str], *, dark: bool = False) -> str:
    """The whole page that is made of a notebook whose cells show these pieces of HTML."""
    import nbformat
    from nbconvert import HTMLExporter

    made = nbformat.v4
    cells = [
        made.new_code_cell("%%qwex", outputs=[made.new_output("display_data", {"text/html": one})])
        for one in outputs
    ]
    exporter = HTMLExporter(theme="dark" if dark else "light")
    page: str = exporter.from_notebook_node(made.new_notebook(cells=cells))[0]
    return page
