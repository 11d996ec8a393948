"""What the runners declare, as tables for the docs.

``python tests/rigs/declared.py`` prints them; with ``--save`` they are put where they belong.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path

from environment import ROOT

from qwex_jupyter import runners
from qwex_jupyter.model.declaration import COMMON, Option, Promises

DOCS = ROOT / "docs"
DECLARED = [runners.declared(name) for name in runners.BUILT_IN]


def options() -> str:
    """Each option that a runner declares, what it does, and which of them honour it."""
    names = dict.fromkeys([*COMMON, *(n for each in DECLARED for n in each.own_options)])
    lines = ["| option | what it does | runners |", "|---|---|---|"]
    for name in names:
        its = [each for each in DECLARED if each.honours(name)]
        option = its[0].options[name]
        assert isinstance(option, Option)
        words = ", ".join(f"`{word}`" for word in (option.short, f"--{name}") if word)
        words = words.removesuffix("`") + (f" {option.value}`" if option.value else "`")
        does = "; ".join(filter(None, (option.help, option.more)))
        can = "all" if len(its) == len(DECLARED) else ", ".join(each.name for each in its)
        lines.append(f"| {words} | {does} | {can} |")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Each setting that a runner declares."""
    lines = ["| setting | default | | runner |", "|---|---|---|---|"]
    for each in DECLARED:
        for name, setting in each.settings.items():
            lines.append(f"| `Qwex.{name}` | `{setting.default}` | {setting.help} | {each.name} |")
    return "\n".join(lines) + "\n"


def promises() -> str:
    """Each promise, and who makes it."""
    text = inspect.getdoc(Promises) or ""  # whose indentation compilers differ about
    said = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    meaning = {name: " ".join(words.split()).rstrip(".") for name, words in said}
    head = " | ".join(each.name for each in DECLARED)
    lines = [f"| promise | | {head} |", "|---|---|" + "---|" * len(DECLARED)]
    for field in dataclasses.fields(Promises):
        cells = (_said(getattr(each.promises, field.name)) for each in DECLARED)
        lines.append(f"| `{field.name}` | {meaning[field.name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _said(value: bool | float) -> str:
    if isinstance(value, bool):
        return "✓" if value else "–"
    return f"{value:g} s"


TABLES = {
    ("options.md", "options"): options,
    ("options.md", "settings"): settings,
    ("design.md", "promises"): promises,
}


def placed(file: str, name: str, table: str | None = None) -> str:
    """A table as it stands in the docs; or the text of that file with another in its place."""
    text = Path(DOCS, file).read_text()
    begin, end = f"<!-- declared {name} -->\n", f"<!-- /declared {name} -->\n"
    start, stop = text.index(begin) + len(begin), text.index(end)
    return text[start:stop] if table is None else text[:start] + table + text[stop:]


def main() -> int:
    """Prints the tables; ``--save`` puts them into the docs."""
    for (file, name), make in TABLES.items():
        print(make())
        if "--save" in sys.argv:
            Path(DOCS, file).write_text(placed(file, name, make()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
