"""One table of several runs, which is updated in place until all of them have ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwex_jupyter.display import listing, tables
from qwex_jupyter.display.publish import put
from qwex_jupyter.notebook.cell import unshown
from qwex_jupyter.notebook.tell import tell
from qwex_jupyter.system.background import Background

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.manager.run import Run

# How often ends are looked for, the clocks tick, and backends are asked. Seconds.
_PAUSE, _TICK, _ASK_EVERY = 0.1, 1.0, 3.0


def wait(manager: RunManager, runs: Sequence[Run], publisher: Any, until: float | None) -> None:
    """Shows these runs until all have ended; an interrupt ends only the waiting.

    Args:
        manager: Who is asked.
        runs: Which.
        publisher: Shows displays.
        until: When to give up, by the monotonic clock; None for never.
    """
    ids = [run.run_id for run in runs]
    place = tables.new_place()
    asked, aside = time.monotonic(), Background()
    note, shown_at, shown, before = "", 0.0, False, -1
    env: listing.Words = {}
    while True:
        try:
            live = [run_id for run_id in ids if not manager.tracker.ended(run_id)]
            now = time.monotonic()
            if live and until is not None and now >= until:
                note = f"{len(live)} had not ended when the waiting did; they go on."
            if note or len(live) != before or now - shown_at >= _TICK:
                records = manager.tracker.records(ids)
                env = env or listing.env_of(manager.history, records)
                table = tables.Table(records, {}, time.time(), place, note, env)
                put(publisher, table.bundle(), place, update=shown)
                shown, shown_at, before = True, now, len(live)
            if note or not live:
                return
            if now - asked > _ASK_EVERY:
                asked = now
                aside.begin(manager.tracker.look, live)
            time.sleep(_PAUSE)
        except KeyboardInterrupt:
            note = "No longer waited for; what lives goes on."
        except Exception as error:  # noqa: BLE001 - whatever it was, the runs go on
            if note:
                tell(note, sys.stderr)
                return
            note = unshown(error, "RUN")
