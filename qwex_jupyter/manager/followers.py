"""Followers: the threads that bring output of a backend to disk while somebody looks, or at an end.

Only runners whose programs don't write their files themselves need them. A run has one
follower at the most in this process; between processes the log's lease decides who writes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qwex_jupyter.disk import facts
from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable, asked_again
from qwex_jupyter.system.flag import Flag

# One call of `Runner.follow` with everything bound but the stop: it answers whether all that
# there will ever be is on disk.
Follow = Callable[[threading.Event], bool]

# This many ends are drained at once; more would only share the same connection.
_DRAINS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
# Between two runs whose output is gathered. Seconds.
_PACE = 1.0


class Followers:
    """One thread for each run that is shown, and a few more for runs that have ended.

    Args:
        done: Called with a run's id when all of its output is on disk.
        silent: Called with a run's id, and in words why, when its backend doesn't answer.
        full: Called with a run's id and the disk's error when there is no room for its output.
    """

    def __init__(
        self,
        done: Callable[[str], None],
        silent: Callable[[str, str], None],
        full: Callable[[str, OSError], None] = lambda *_: None,
    ) -> None:
        self._done, self.silent, self.full = done, silent, full
        self._lock = threading.Lock()
        self._live: dict[str, _Follower] = {}
        self._drains = threading.BoundedSemaphore(_DRAINS)
        self._turns: dict[str, Follow] = {}
        self._gatherer: threading.Thread | None = None
        self._hurry = Flag()

    @contextmanager
    def following(self, run_id: str, follow: Follow) -> Iterator[None]:
        """While the block lasts, output of that run comes to disk as it is written."""
        follower = self._ensure(run_id, follow, watched=True)
        try:
            yield
        finally:
            follower.leave()

    def drained(self, run_id: str, follow: Follow, patience: float) -> bool:
        """Whether all output of a run that has ended is on disk; begins to bring it.

        Args:
            run_id: The run.
            follow: Brings it.
            patience: Seconds to wait for that; `done` is called when it takes longer.
        """
        follower = self._ensure(run_id, follow, watched=False)
        follower.poke()
        follower.finished.wait(patience)
        return follower.complete

    def gather(self, run_id: str, follow: Follow) -> None:
        """Has the output of a live run fetched once, in its turn; returns at once.

        One at a time and with pauses, however many there are: their number must not become
        the number of a backend's requests.
        """
        with self._lock:
            if run_id not in self._live:
                self._hurry.clear()
                self._turns.setdefault(run_id, follow)
                if self._gatherer is None or not self._gatherer.is_alive():
                    self._gatherer = threading.Thread(
                        target=self._gather, name="qwex-gather", daemon=True
                    )
                    self._gatherer.start()

    def _gather(self) -> None:
        once = Flag()
        once.set()
        while True:
            with self._lock:
                if not self._turns:
                    self._gatherer = None
                    return
                run_id = next(iter(self._turns))
                follow = self._turns.pop(run_id)
            try:
                follow(once)
            except (QwexError, OSError):
                pass  # whoever looks at the run is told
            self._hurry.wait(_PACE)

    def settle(self, patience: float) -> None:
        """Waits until output is fetched only for those who look.

        Args:
            patience: Seconds at the most.
        """
        end = time.monotonic() + patience
        with self._lock:
            self._turns.clear()
            self._hurry.set()
            leaving = [each.thread for each in self._live.values() if each.watchers <= 0]
            gatherer = [self._gatherer] if self._gatherer is not None else []
        for thread in gatherer + leaving:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    def poke(self, run_id: str) -> None:
        """Something new is known of the run: its follower goes on at once."""
        follower = self._live.get(run_id)
        if follower is not None:
            follower.poke()

    def _ensure(self, run_id: str, follow: Follow, *, watched: bool) -> _Follower:
        with self._lock:
            found = self._live.get(run_id)
            # A thread whose start an interrupt prevented never lives.
            if found is None or not found.thread.is_alive() or not found.join(watched=watched):
                found = self._live[run_id] = _Follower(run_id, follow, self, watched=watched)
                found.thread.start()
            return found

    def _run(self, follower: _Follower) -> None:
        while True:
            if follower.watchers:
                complete = follower.bring(self)
            else:
                with self._drains:
                    complete = follower.bring(self)
            with self._lock:
                if complete or not follower.watchers:
                    follower.close(complete=complete)
                    if self._live.get(follower.run_id) is follower:
                        del self._live[follower.run_id]
                    break
            follower.rest()
        if complete:
            self._done(follower.run_id)


class _Follower:
    """One run's thread, and who waits for it."""

    def __init__(self, run_id: str, follow: Follow, home: Followers, *, watched: bool) -> None:
        self.run_id, self._follow = run_id, follow
        self.watchers = int(watched)
        self.finished = Flag()
        self.complete = False
        self._stop, self._poked = Flag(), Flag()
        self._pause = _FIRST_PAUSE
        self.thread = threading.Thread(
            target=home._run, args=(self,), name=f"qwex-follow-{run_id[-6:]}", daemon=True
        )

    def join(self, *, watched: bool) -> bool:
        """One more waits for this follower; False when it is over."""
        if self.finished.is_set():
            return False
        self.watchers += watched
        if watched:
            self._stop.clear()
        return True

    def leave(self) -> None:
        """One fewer looks at the run."""
        self.watchers -= 1
        if self.watchers <= 0:
            self._stop.set()
            self.poke()

    def poke(self) -> None:
        """Ends the pause."""
        self._pause = _FIRST_PAUSE
        self._poked.set()

    def bring(self, home: Followers) -> bool:
        """One call of the runner; a backend that doesn't answer is asked again later."""
        try:
            return self._follow(self._stop)
        except (BackendUnreachable, RunnerUnavailable) as error:
            home.silent(self.run_id, asked_again(error))
        except OSError as error:
            if error.errno in facts.NO_ROOM:
                home.full(self.run_id, error)  # else it is a bad moment of the disk
        except Exception:
            # Whatever went wrong, somebody waits for this thread to say that it is over.
            logging.getLogger("qwex_jupyter").exception("output could not be brought")
        return False

    def rest(self) -> None:
        """Waits before the next call."""
        self._poked.wait(self._pause)
        self._poked.clear()
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def close(self, *, complete: bool) -> None:
        """Marks it as over."""
        self.complete = complete
        self.finished.set()
