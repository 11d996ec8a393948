"""Verbs whose answer is a text, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from qwex_jupyter import render, runners
from qwex_jupyter.errors import QwexError
from qwex_jupyter.manager import RunManager
from qwex_jupyter.spec import parse_duration, parse_memory
from qwex_jupyter.status import say_bytes


def prune(manager: RunManager, args: argparse.Namespace) -> str:
    """Lists what could be deleted, and deletes it when ``--yes`` is given."""
    older = None if args.older is None else parse_duration(args.older, "older")
    keep = None if args.keep_size is None else parse_memory(args.keep_size, "keep-size")
    found = manager.history.prunable(older=older, keep_bytes=keep, status=args.status)
    if not found:
        return "Nothing to prune: no ended run is that old or over that size."
    total = say_bytes(sum(size for _, size in found))
    count = render.count_of(len(found), "run")
    if not args.yes:
        lines = [render.one_line(record) for record, _ in found[:20]]
        more = [f"and {len(found) - 20:,} more"] if len(found) > 20 else []
        narrowed = args.older or args.keep_size or args.status
        all_of_it = "" if narrowed else ", all that have ended: --older 30d takes only old ones"
        return "\n".join([*lines, *more, f"{count}, {total}{all_of_it}. Add --yes to delete them."])
    failed = []
    for record, _ in found:
        try:
            manager.delete(record.run_id)
        except QwexError as error:
            failed.append(f"{record.handle}: {error}")
    return "\n".join([f"Deleted {render.count_of(len(found) - len(failed), 'run')}.", *failed])


def doctor(manager: RunManager) -> str:
    """What works here, what doesn't, and what to do about it."""
    import qwex_jupyter

    lines = [
        f"qwex_jupyter {qwex_jupyter.__version__}, Python {sys.version.split()[0]}, {sys.platform}",
        f"✓ history  {manager.history.home} ({_free(manager.history.home)} free)",
    ]
    for name in runners.NAMES:
        try:
            manager.runner(name).check()
        except QwexError as error:
            lines.append(f"✗ {name}  {error}")
        else:
            lines.append(f"✓ {name}  {manager.runner(name).identity()}")
    live = manager.take_up()
    lines.append(f"  {render.count_of(len(live), 'run')} not ended")
    return "\n".join(lines)


def _free(folder: str) -> str:
    found: Any = os.statvfs(folder)
    return say_bytes(found.f_bavail * found.f_frsize)
