"""How far the programs of many live runs are, by the ends of their logs.

Nothing of it is written down: it is what a log says, and whoever reads that knows it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.display.progress import Meter, Progress
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.errors import QwexError

# So many runs are looked at in one turn, and of each log so many bytes.
_RUNS, _BYTES = 40, 4096
# What is the end of a line whose beginning wasn't read.
_CUT = re.compile(rb"\A[^\r\n]*")


@dataclass
class _Gauge:
    """What is known of one run."""

    log: RunLog
    sizes: tuple[int, ...] = ()
    meter: Meter = field(default_factory=Meter)
    said: Progress | None = None


class Gauges:
    """What the logs of live runs say of their progress; only those that grew are read.

    Args:
        log_of: The log of a run.
    """

    def __init__(self, log_of: Callable[[str], RunLog]) -> None:
        self._log_of = log_of
        self._gauges: dict[str, _Gauge] = {}
        self._turn = 0

    def look(self, live: Collection[str], now: float) -> dict[str, Progress | None]:
        """Looks at some of the runs that live, the others follow; what any of them says anew.

        Args:
            live: All that live.
            now: Seconds since the epoch.
        """
        for run_id in self._gauges.keys() - set(live):
            del self._gauges[run_id]
        order = sorted(live)
        turn = self._turn % len(order) if order else 0
        self._turn = turn + _RUNS
        changes = {}
        for run_id in (order[turn:] + order[:turn])[:_RUNS]:
            if run_id not in self._gauges:
                self._gauges[run_id] = _Gauge(self._log_of(run_id))
            gauge = self._gauges[run_id]
            with suppress(QwexError, OSError):  # deleted meanwhile, or a bad moment of the disk
                if self._read(gauge, now):
                    changes[run_id] = gauge.said
        return changes

    def of(self, run_id: str) -> Progress | None:
        """What a run says, as far as it was looked at."""
        gauge = self._gauges.get(run_id)
        return None if gauge is None else gauge.said

    def _read(self, gauge: _Gauge, now: float) -> bool:
        """Whether a log says something else than before."""
        log, before = gauge.log, gauge.said
        sizes = tuple(map(log.size, STREAMS))
        if sizes == gauge.sizes:
            return False
        gauge.sizes = sizes
        screen = Screen()
        for stream, size in zip(STREAMS, sizes, strict=True):
            if size:
                data = log.read(stream, max(0, size - _BYTES), _BYTES)
                screen.feed(stream, _CUT.sub(b"", data) if size > _BYTES else data)
        gauge.said = gauge.meter.look(screen, now, log.written_at())
        return gauge.said != before
