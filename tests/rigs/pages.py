"""The code blocks of the pages, and where each can be run.

A block without a language is a cell. It says by its options what it needs: a cluster, an engine, or
a GPU, of which the tests have none. One that names no place goes where the one above it went.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from environment import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
HERE, ENGINE, CLUSTER, GPU = "here", "engine", "cluster", "gpu"
# What a page says of its story, for those who can't see it: the kernel is restarted there.
RESTART = "<!-- restart -->\n"
_BLOCK = re.compile(r"^(<!-- restart -->\n)?```([^\n`]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NEEDS = {"--gpus": GPU, "--profile gpu": GPU, "--runner=k8s": CLUSTER, "--image": ENGINE}


@dataclass(frozen=True)
class Cell:
    """A cell of a page.

    Attributes:
        source: Its text.
        place: What it needs.
        restarted: The kernel is restarted before it.
    """

    source: str
    place: str
    restarted: bool = False


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [text for _, name, text in _BLOCK.findall(page.read_text()) if name == language]


def cells(page: Path, *places: str) -> list[Cell]:
    """The cells of a page, those of some places only."""
    found: list[Cell] = []
    for restart, language, source in _BLOCK.findall(page.read_text()):
        if language:
            continue
        line = source.partition("\n")[0]
        above = found[-1].place if found and line.startswith("%qwex") else HERE
        named = (place for word, place in _NEEDS.items() if word in line)
        place = above if " run " not in line else HERE
        found.append(Cell(source, next(named, place), bool(restart)))
    return [cell for cell in found if not places or cell.place in places]
