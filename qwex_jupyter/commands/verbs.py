"""Verbs whose answer is a text, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter._version import __version__
from qwex_jupyter.disk import awaited, logs
from qwex_jupyter.display.card import log_view
from qwex_jupyter.display.format import (
    details_text,
    ended_meanwhile,
    lost_output,
    one_line,
    still_running,
)
from qwex_jupyter.display.terminal import last_within
from qwex_jupyter.errors import FactUnreadable, QwexError, RunNotFound
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason
from qwex_jupyter.model.text import plain
from qwex_jupyter.model.units import parse_duration, parse_memory, say_bytes, say_count
from qwex_jupyter.system import frontend, libraries

# So many lines are read when nobody says how many; and so much text a server lets through at
# once, which drops what comes above three megabytes in three seconds.
_LINES, _TEXT_BYTES = 1000, 2_000_000
# How long `doctor` waits for whoever doesn't answer. Seconds.
_PATIENCE = 2.0
# So many lines of each kind greet after a restart.
_NEWS = 5


def news(manager: RunManager) -> list[str]:
    """What runs, and what became of runs whose cards an earlier kernel of this notebook left.

    Asks once about what is open, and never waits for long.
    """
    home = manager.history.home
    live = manager.recover()
    lines = []
    for record in live[:_NEWS]:
        alone = len(live) == 1 and frontend.is_mine(record.notebook, record.session)
        which = "" if alone else f" {record.handle}"
        lines.append(f"{still_running(record, time.time())} · %qwex attach{which}")
    if len(live) > _NEWS:
        lines.append(f"and {len(live) - _NEWS:,} more · %qwex runs --status RUNNING")
    ended = [
        record for record in manager.tracker.records(awaited.listed(home)) if record.status.final
    ]
    lines += [ended_meanwhile(record) for record in ended[: -_NEWS - 1 : -1]]
    if len(ended) > _NEWS:
        lines.append(f"and {len(ended) - _NEWS:,} more ended meanwhile · %qwex runs")
    for record in ended:
        awaited.remove(home, record.run_id)
    return lines


def output_text(run: Run, tail: int | None, stream: str | None) -> str:
    """The last lines of what a run said, and how many there are before, as a page can take them.

    Args:
        run: The run.
        tail: So many lines; None for as many as one reads.
        stream: Of this stream only.
    """
    wanted = _LINES if tail is None else tail
    if not wanted:
        return ""
    view = log_view(run.log, wanted, (stream,) if stream else logs.STREAMS)
    lines = last_within(view.lines, _TEXT_BYTES, lambda line: len(line.encode()))
    before = view.before(len(lines))
    if before and (tail is None or len(lines) < tail):
        path = run.log.path(stream or logs.STDOUT)
        lines.insert(0, f"… {before} before these, all of them: {path}")
    return "\n".join(lines)


def details(manager: RunManager, record: RunRecord) -> str:
    """All that is known of a run."""
    spec_fact: dict[str, Any] = {}
    with suppress(FactUnreadable, RunNotFound):  # its record says why
        spec_fact = manager.history.spec_fact(record.run_id)
    path = logs.RunLog(manager.history.folder(record.run_id)).path(logs.STDOUT)
    return details_text(record, spec_fact, path)


def delete(manager: RunManager, run: Run, *, gone: bool) -> str:
    """Deletes a run, and says which it was.

    Args:
        manager: Whose run it is.
        run: The run.
        gone: Whether its machine is gone for good.
    """
    title = run.record.title
    manager.delete(run.run_id, gone=gone)
    return f"Deleted {title}."


def about_output(record: RunRecord) -> list[str]:
    """What is to be known beside the output: what is missing of it, or why none can be read."""
    damage = [record.sentence] if record.reason == Reason.UNREADABLE else []
    return [*damage, *lost_output(record)]


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
        lines = [one_line(record) for record, _ in found[:20]]
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
    until = time.monotonic() + _PATIENCE
    answers: dict[str, list[str]] = {name: [] for name in runners.names(installed=True)}
    threads = {
        name: threading.Thread(target=_examine, args=(manager, name, lines), daemon=True)
        for name, lines in answers.items()
    }
    for thread in threads.values():
        thread.start()
    live = manager.recover(within=_PATIENCE)
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    free = say_bytes(shutil.disk_usage(manager.history.home).free)
    lines = [
        f"qwex_jupyter {__version__}, Python {sys.version.split()[0]}, {sys.platform}",
        f"✓ history  {manager.history.home} ({free} free)",
    ]
    if lacks := libraries.missing(libraries.WIDGETS):
        lines.append(f"✗ widgets  {lacks}, for live cards and the monitor.")
    for name, thread in threads.items():
        found = answers[name][:]
        if thread.is_alive():
            slow = f"hasn't answered within {_PATIENCE:g} s; once more: %qwex doctor"
            found.append(f"    the rest {slow}" if found else f"✗ {name}  It {slow}")
        lines += found
    lines.append(f"  {say_count(len(live), 'run')} not ended")
    return "\n".join(plain(line) for line in lines)


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
