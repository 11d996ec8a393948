"""Verbs whose answer is a text, the same in a notebook and in a terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

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
from qwex_jupyter.model.units import parse_duration, parse_memory, say_bytes, say_count
from qwex_jupyter.system import frontend

# So many lines are read when nobody says how many; and so much text a server lets through at
# once, which drops what comes above three megabytes in three seconds.
_LINES, _TEXT_BYTES = 1000, 2_000_000
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


def about_output(record: RunRecord) -> list[str]:
    """What is to be known beside the output: what is missing of it, or why none can be read."""
    damage = [record.sentence] if record.reason == Reason.UNREADABLE else []
    return [*damage, *lost_output(record)]


@dataclass(frozen=True)
class Pruning:
    """What can be deleted, or what became of it.

    Attributes:
        found: The runs, oldest first, each with the bytes of its folder.
        done: Whether it was to be done, and not only to be listed.
        all_of_it: Whether these are all that have ended.
        kept: By its run id, why one is still there that was to go.
    """

    found: Sequence[tuple[RunRecord, int]]
    done: bool
    all_of_it: bool
    kept: Mapping[str, str]

    def text(self) -> str:
        """What was done, or could be."""
        if not self.found:
            return "Nothing to prune: no ended run is that old or over that size."
        if self.done:
            return f"Deleted {say_count(len(self.found) - len(self.kept), 'run')}."
        lines = [one_line(record) for record, _ in self.found[:20]]
        more = [f"and {len(self.found) - 20:,} more"] if len(self.found) > 20 else []
        total = say_bytes(sum(size for _, size in self.found))
        which = ", all that have ended: --older 30d takes only old ones" if self.all_of_it else ""
        count = say_count(len(self.found), "run")
        last = f"{count}, {total}{which}. Add --yes to delete them."
        return "\n".join([*lines, *more, last])


def prune(manager: RunManager, args: argparse.Namespace) -> Pruning:
    """Finds what could be deleted, and deletes it when ``--yes`` is given."""
    older = None if args.older is None else parse_duration(args.older, "older")
    keep = None if args.keep_size is None else parse_memory(args.keep_size, "keep-size")
    found = manager.history.prunable(older=older, keep_bytes=keep, status=args.status)
    kept = {}
    for record, _ in found if args.yes else ():
        try:
            manager.delete(record.run_id)
        except QwexError as error:
            kept[record.run_id] = str(error)
    narrowed = args.older or args.keep_size or args.status
    return Pruning(found, bool(args.yes), not narrowed, kept)
