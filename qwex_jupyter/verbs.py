"""Verbs whose answer is a text, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import Any

from qwex_jupyter import render, runners, terminal
from qwex_jupyter.errors import FactUnreadable, QwexError, RunNotFound
from qwex_jupyter.manager import RunManager
from qwex_jupyter.spec import parse_duration, parse_memory
from qwex_jupyter.status import say_bytes, say_count

# How long `doctor` waits for whoever doesn't answer. Seconds.
_PATIENCE = 2.0


def spec_of(manager: RunManager, run_id: str) -> dict[str, Any]:
    """What ``spec.json`` says of a run; {} where it can't be read, as its record says."""
    try:
        return manager.history.spec_fact(run_id)
    except (FactUnreadable, RunNotFound):
        return {}


def prune(manager: RunManager, args: argparse.Namespace) -> tuple[str, list[str]]:
    """Lists what could be deleted, and deletes it when ``--yes`` is given.

    Returns:
        What was done, and a line for each run that was to go and is still there.
    """
    older = None if args.older is None else parse_duration(args.older, "older")
    keep = None if args.keep_size is None else parse_memory(args.keep_size, "keep-size")
    found = manager.history.prunable(older=older, keep_bytes=keep, status=args.status)
    if not found:
        return "Nothing to prune: no ended run is that old or over that size.", []
    total = say_bytes(sum(size for _, size in found))
    count = say_count(len(found), "run")
    if not args.yes:
        lines = [render.one_line(record) for record, _ in found[:20]]
        more = [f"and {len(found) - 20:,} more"] if len(found) > 20 else []
        narrowed = args.older or args.keep_size or args.status
        all_of_it = "" if narrowed else ", all that have ended: --older 30d takes only old ones"
        last = f"{count}, {total}{all_of_it}. Add --yes to delete them."
        return "\n".join([*lines, *more, last]), []
    failed = []
    for record, _ in found:
        try:
            manager.delete(record.run_id)
        except QwexError as error:
            failed.append(f"{record.handle}: {error}")
    return f"Deleted {say_count(len(found) - len(failed), 'run')}.", failed


def doctor(manager: RunManager) -> str:
    """What works here, what doesn't, and what to do about it; within two seconds."""
    import qwex_jupyter

    until = time.monotonic() + _PATIENCE
    answers: dict[str, list[str]] = {name: [] for name in runners.NAMES}
    threads = {
        name: threading.Thread(target=_examine, args=(manager, name, lines), daemon=True)
        for name, lines in answers.items()
    }
    for thread in threads.values():
        thread.start()
    live = manager.take_up(within=_PATIENCE)
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    lines = [
        f"qwex_jupyter {qwex_jupyter.__version__}, Python {sys.version.split()[0]}, {sys.platform}",
        f"✓ history  {manager.history.home} ({_free(manager.history.home)} free)",
    ]
    for name, thread in threads.items():
        found = answers[name][:]
        if thread.is_alive():
            slow = f"hasn't answered within {_PATIENCE:g} s; once more: %qwex doctor"
            found.append(f"    the rest {slow}" if found else f"✗ {name}  It {slow}")
        lines += found
    lines.append(f"  {say_count(len(live), 'run')} not ended")
    return "\n".join(terminal.plain(line) for line in lines)


def _examine(manager: RunManager, name: str, lines: list[str]) -> None:
    """Puts the lines about one runner into a list, each as soon as it is known."""
    try:
        for line in manager.runner(name).examine():
            lines.append(line)  # noqa: PERF402 - each as soon as it is known
    except QwexError as error:
        lines.append(f"    {error}" if lines else f"✗ {name}  {error}")
    except Exception as error:  # noqa: BLE001 - a doctor who falls ill is of no use
        why = " ".join(str(error).split()) or type(error).__name__
        lines.append(f"    could not be examined: {why}" if lines else f"✗ {name}  {why}")


def _free(folder: str) -> str:
    found: Any = os.statvfs(folder)
    return say_bytes(found.f_bavail * found.f_frsize)
