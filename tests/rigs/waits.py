"""What a pod waits for, as a table: the rows of `k8s.causes` in words, for the docs.

``python tests/rigs/waits.py`` prints it; with ``--save`` it is put into ``docs/kubernetes.md``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from environment import ROOT

from qwex_jupyter.runners.k8s import causes

DOCS = ROOT / "docs" / "kubernetes.md"
BEGIN, END = "<!-- waits: python tests/rigs/waits.py --save -->\n", "<!-- /waits -->\n"
_WORDS = {
    "image": "IMAGE",
    "registry": "REGISTRY",
    "text": "ITS WORDS",
    "sizes": "ITS WORDS",
    "quota": "WHICH ONE",
    "policy": "--pull=never",
    "pod": "POD",
    "name": "NAME",
}


def in_words(pattern: str) -> str:
    """A pattern as a person reads it: ``…`` for whatever stands between, ``/`` for or."""
    text = pattern.replace('"?([^" ]+)"?', "NAME").replace("(Config)?", "[Config]").lstrip("^")
    text = re.sub(r"\s*\.\*\s*", " … ", text).replace("|^", "|").replace("|", " / ")
    return re.sub(r"\s+", " ", re.sub(r"[()?]", "", text)).strip() or "anything else"


def _rows(rows: Sequence[causes.Row]) -> str:
    lines = []
    for pattern, reason, sentence, never in rows:
        said = sentence.format(**_WORDS)
        said = said if said.startswith("IMAGE") else said[:1].upper() + said[1:]
        lines.append(f"| {in_words(pattern)} | `{reason}` | {said} | {'✓' if never else ''} |\n")
    return "".join(lines)


def table() -> str:
    """The whole table, in Markdown."""
    head = "| {} | reason | the cell says | given up |\n|---|---|---|---|\n"
    made = [
        head.format("of the container, with its text"),
        _rows(causes.CONTAINER),
        "\n" + head.format("of the Job: `FailedCreate`"),
        _rows(causes.CREATE),
        "\n| of the pod, while its container is made | reason | the cell says |\n|---|---|---|\n",
    ]
    for word, said in causes.MAKING.items():
        made.append(f"| {word} | `Unschedulable` | {said[:1].upper()}{said[1:]}: ITS WORDS |\n")
    return "".join(made)


def saved() -> str:
    """The table as it stands in the docs."""
    text = DOCS.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def main() -> int:
    """Prints the table; ``--save`` puts it into the docs."""
    print(table())
    if "--save" in sys.argv:
        text = DOCS.read_text()
        start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
        DOCS.write_text(text[:start] + table() + text[stop:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
