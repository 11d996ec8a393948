"""What the site needs of Sphinx beyond its settings.

The pages are written for a forge. So the index is a page of links, of which the navigation is made;
a picture names its light variant, beside which the dark one lies; two dashes are the beginning of
an option; and docstrings put names between single backticks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/index"
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"^- \[[^\]]+\]\(([^)#]+)\.(?:md|ipynb)\)", re.MULTILINE)
# A character that no docstring has.
_COLON = "\ue000"
# Code of so many characters fits into a line of the narrowest page.
_SHORT = 24
_CLASS = re.compile(r"(?<![`:\w])`([A-Z]\w*(?:\.\w+)*)`(?!`)")
# What stands in front of the pages, for who opens the site's own folder.
_FRONT = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>qwex_jupyter</title>
<meta http-equiv="refresh" content="0; url={INDEX}.html">
<a href="{INDEX}.html">qwex_jupyter</a>
</html>
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds it all."""
    if Path(app.srcdir).resolve() != ROOT:
        raise ConfigError("The root of the pages is the checkout: python3 docs builds the site.")
    app.connect("source-read", _add_navigation)
    # Before and after napoleon reads a docstring.
    app.connect("autodoc-process-docstring", _hide_colon, priority=400)
    app.connect("autodoc-process-docstring", _link_classes, priority=600)
    app.connect("autodoc-process-signature", _say_default)
    app.connect("build-finished", _put_front)
    app.add_transform(DarkPictures)
    app.add_transform(Words)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes the navigation of the index: what its sections list, under their titles.

    Its last section is about the project: whatever else lies beside the README goes there.
    """
    if name != INDEX:
        return
    (text,) = source
    sections = [(title, _ENTRY.findall(body)) for title, body in _SECTION.findall(text)]
    sections = [(title, entries) for title, entries in sections if entries]
    listed = {entry for _, entries in sections for entry in entries}
    beside = sorted(f"../{page}" for page in app.project.docnames if "/" not in page)
    sections[-1][1].extend(page for page in beside if page not in listed)
    for title, entries in sections:
        text += (
            f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(entries) + "\n```\n"
        )
    source[0] = text


class DarkPictures(SphinxTransform):
    """Puts the dark variant of a picture beside it; the theme shows one of the two."""

    # Before pictures are collected.
    default_priority = 300

    def apply(self, **_: Any) -> None:
        """Looks for ``NAME-dark.png`` beside each ``NAME.png``."""
        for light in list(self.document.findall(nodes.image)):
            path = Path(light["uri"])
            dark = path.with_name(f"{path.stem}-dark{path.suffix}")
            if not (Path(self.document["source"]).parent / dark).is_file():
                continue
            other = light.deepcopy()
            other["uri"] = dark.as_posix()
            light["classes"].append("only-light")
            other["classes"].append("only-dark")
            light.parent.insert(light.parent.index(light) + 1, other)


class Words(SphinxTransform):
    """Keeps an option in one line, and puts a dash behind the name of an argument."""

    # Before references are resolved.
    default_priority = 300

    def apply(self, **_: Any) -> None:
        """Looks at all code within sentences, and at what the domain of Python puts there."""
        for code in self.document.findall(nodes.literal):
            if len(code.astext()) <= _SHORT:
                code["classes"].append("whole")
        for text in list(self.document.findall(nodes.Text)):
            if text.astext() == " -- ":
                text.parent.replace(text, nodes.Text(" – "))


def _hide_colon(_app: Sphinx, what: str, *said: Any) -> None:
    """Keeps what a property's sentence has before a colon from being read as its type."""
    lines: list[str] = said[-1]
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", f"{_COLON} ")


def _link_classes(*said: Any) -> None:
    """Lets the name of a class lead to it from wherever it stands."""
    lines: list[str] = said[-1]
    lines[:] = [_CLASS.sub(r"`.\1`", line.replace(_COLON, ":")) for line in lines]


def _say_default(*said: Any) -> tuple[str, str] | None:
    """Puts what can be parsed in place of a default that is made anew for each object."""
    signature, returned = said[-2:]
    return (signature.replace("<factory>", "..."), returned) if signature else None


def _put_front(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        Path(app.outdir, "index.html").write_text(_FRONT)
