"""Output: brings what backends hold of a run's output to disk.

That happens while somebody looks, now and then where a backend keeps only the newest, and before
an end is concluded. A program that writes its own log files, as local ones do, needs none of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import QwexError
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.backends import Backends, mistakes_of
from qwex_jupyter.manager.followers import Follow, Followers
from qwex_jupyter.manager.observations import Observations
from qwex_jupyter.manager.schedule import RETRY, Schedule
from qwex_jupyter.manager.unwritten import Unwritten
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.system.flag import Flag

# How long a look waits for the output of an end; and for how long after its output last found no
# room that is what is said of a run. Seconds.
_DRAIN = 0.25
_UNKEPT = 5.0


class Output:
    """Decides whose output comes to disk, and remembers what prevents it.

    Args:
        history: The folders it comes to.
        backends: Where it comes from.
        observations: Where it is said that it can't come.
        schedule: A run whose output is complete is due at once.
        patience: How long it waits for what.
        wake: Has what is due looked at now.
    """

    def __init__(
        self,
        history: RunHistory,
        backends: Backends,
        observations: Observations,
        schedule: Schedule,
        patience: Patience,
        wake: Callable[[], None],
    ) -> None:
        self._history, self._backends, self._observations = history, backends, observations
        self._schedule, self._patience, self._wake = schedule, patience, wake
        self._followers = Followers(self._complete, self._silent, self._full)
        self._gathered: dict[str, float] = {}
        self._unkept = Unwritten(history.home, "Its output can't be kept")

    @contextmanager
    def following(self, run_id: str) -> Iterator[None]:
        """While the block lasts, the output of a run comes to disk as it is written."""
        try:
            follow = None if self._history.ended(run_id) else self._follow(run_id)
        except (QwexError, OSError):
            follow = None  # what is on disk is what can be shown
        if follow is None:
            yield
            return
        with self._followers.following(run_id, follow):
            yield

    def fetch(self, run_id: str) -> None:
        """Brings what the backend holds of a live run's output to disk, and returns then."""
        if self._history.ended(run_id):
            return
        once = Flag()
        once.set()
        try:
            follow = self._follow(run_id)
            if follow is not None:
                follow(once)
        except (QwexError, OSError):
            pass  # what is on disk is what can be shown; the next look tries again

    def gather(self, run_id: str) -> None:
        """Brings output to disk that nobody looks at, before its backend forgets it."""
        now, every = time.monotonic(), self._patience.gather_every
        if now - self._gathered.get(run_id, -every) < every:
            return
        follow = self._follow(run_id)
        if follow is not None:
            self._gathered[run_id] = now
            self._followers.gather(run_id, follow)

    def drained(self, run_id: str) -> bool:
        """Whether all output of a run that has ended is on disk; begins to bring it."""
        follow = self._follow(run_id)
        return follow is None or self._followers.drained(run_id, follow, _DRAIN)

    def poke(self, run_id: str) -> None:
        """A run is alive: whoever waits for its output may go on."""
        self._followers.poke(run_id)

    def no_room(self, run_id: str) -> str:
        """Why output of a run couldn't be written down lately; "" where it could."""
        return self._unkept.why(run_id, _UNKEPT)

    def forget(self, run_id: str) -> None:
        """A run is over, and its output complete."""
        self._gathered.pop(run_id, None)

    def settle(self) -> None:
        """Waits a moment until output is fetched only for those who look."""
        self._followers.settle(self._patience.settle)

    def _follow(self, run_id: str) -> Follow | None:
        runner = self._backends.runner_of(run_id)
        if runner.promises.writes_output:
            return None
        log = RunLog(self._history.folder(run_id))

        def follow(stop: Event) -> bool:
            with mistakes_of(runner.name):
                return runner.follow(run_id, log, stop)

        return follow

    def _complete(self, run_id: str) -> None:
        """Called by a follower that is done: what waited for it can be concluded."""
        self._schedule.again(run_id, 0.0)
        self._wake()

    def _silent(self, run_id: str, why: str) -> None:
        """Called by a follower whose backend doesn't answer."""
        try:
            if not self._history.ended(run_id):
                self._observations.unreachable(run_id, why)
                self._schedule.again(run_id, RETRY)
        except (QwexError, OSError):
            pass  # deleted meanwhile

    def _full(self, run_id: str, error: OSError) -> None:
        """Called by a follower that finds no room for output."""
        why = self._unkept.note(run_id, error)
        try:
            if not self._history.ended(run_id):
                self._observations.amend(run_id, why)
        except (QwexError, OSError):
            pass  # deleted meanwhile
