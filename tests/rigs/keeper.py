"""Keeps the engines and the cluster that all test processes of a run share.

``python keeper.py FILE NAME...`` starts those of these names (kinds of engine, ``cluster``), puts
every image of the tests into each, and writes where they are to FILE, whole. It ends them when its
standard input ends: then whoever started it is done, or was killed.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import images
from clusters import Cluster, ClusterFailed
from engines import Engine, EngineFailed


def _start(name: str, kept: ExitStack) -> dict[str, Any]:
    """Starts one of them with its images; what it hands down, or why it doesn't come up."""
    try:
        if name == "cluster":
            cluster = kept.enter_context(Cluster())
            for recipe in images.RECIPES:
                cluster.image(recipe)
            return cluster.handed_down()
        engine = kept.enter_context(Engine(name))
        for recipe in images.RECIPES:
            images.image(engine, recipe)
        return engine.handed_down()
    except (EngineFailed, ClusterFailed) as why:
        return {"failed": str(why)}


def main(file: Path, names: list[str]) -> None:
    """Keeps them until standard input ends."""
    with ExitStack() as kept, ThreadPoolExecutor() as pool:
        notes = dict(zip(names, pool.map(lambda name: _start(name, kept), names), strict=True))
        part = file.with_suffix(".part")
        part.touch(0o600)  # there are tokens in it
        part.write_text(json.dumps(notes))
        os.replace(part, file)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
