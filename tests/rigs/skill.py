"""The verbs and options in ``skills/qwex/SKILL.md``, made of the one table of the package.

``python tests/rigs/skill.py`` prints them; with ``--save`` they are put where they belong.
"""

from __future__ import annotations

import re
import sys

from environment import ROOT

from qwex_jupyter import runners
from qwex_jupyter.commands.table import (
    ALIASES,
    NOTEBOOK_ONLY,
    VERBS,
    Parser,
    run_parser,
    verb_parser,
)
from qwex_jupyter.model.declaration import Option

PAGE = ROOT / "skills" / "qwex" / "SKILL.md"
_BEGIN, _END = "<!-- made by: python tests/rigs/skill.py --save -->\n", "<!-- /made -->\n"
# What every verb has.
_ALWAYS = ("--json", "--help")


def _row(words: tuple[str, ...], option: Option) -> str:
    shown = ", ".join(f"`{word}`" for word in words)
    shown = shown.removesuffix("`") + (f" {option.value}`" if option.value else "`")
    declared = [runners.declared(name) for name in runners.BUILT_IN]
    long = words[-1].lstrip("-")
    refusable = any(long in each.options for each in declared)
    can = [each.name for each in declared if each.honours(long)]
    only = f" ({', '.join(can)})" if refusable and len(can) < len(declared) else ""
    return f"| {shown} | {option.help}{only} |"


def _rows(parser: Parser) -> list[str]:
    return [
        _row(words, option)
        for words, option in parser.options
        if not set(words) & {*_ALWAYS, *NOTEBOOK_ONLY}
    ]


def made() -> str:
    """Verbs and options."""
    lines = ["Every verb has `--json` and `--help`.", ""]
    lines += ["| verb | | its options |", "|---|---|---|"]
    for verb, text in VERBS.items():
        names = [verb, *(alias for alias, of in ALIASES.items() if of == verb)]
        if verb in ("run", "rerun"):
            own = "those below"
        else:
            found = verb_parser(verb).options
            own = ", ".join(f"`{w[-1]}`" for w, _ in found if w[-1] not in _ALWAYS)
        does = re.sub(r" \([a-z, ]+\)$", "", text)  # its other names stand in front
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {does} | {own} |")
    lines += ["", "Of `run` and `rerun`, with the runners that have it where not all do:", ""]
    lines += ["| option | |", "|---|---|", *_rows(run_parser())]
    return "\n".join(lines) + "\n"


def placed(text: str | None = None) -> str:
    """That part as it stands in the page; or the page with another in its place."""
    page = PAGE.read_text()
    begin = page.index(_BEGIN) + len(_BEGIN)
    end = page.index(_END)
    return page[begin:end] if text is None else page[:begin] + text + page[end:]


def main() -> int:
    """Prints it; ``--save`` puts it into the page."""
    print(made(), end="")
    if "--save" in sys.argv:
        PAGE.write_text(placed(made()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
