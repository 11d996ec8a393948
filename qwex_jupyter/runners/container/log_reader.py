"""Reader: brings output that a backend keeps into a run's log files, whatever happens on the way.

What an answer's end means is never taken from the answer: the backend is asked about the run.
While the run lives, reading begins again where it stopped; when it has ended, the rest is read.
A runner says how its answers are opened and taken apart; who may write (the lease), when to
begin again, and when all is there, is the same for all of them.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from qwex_jupyter.disk import logs
from qwex_jupyter.disk.logs import Lease, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.container.http_stream import Guard, body, close

# How often the cursor is written down. Seconds.
_KEEP_EVERY = 1.0


class Answer(StrEnum):
    """How the reading of one answer came to its end."""

    WHOLE = "whole"  # the backend said that it is all
    CUT = "cut"  # the connection broke
    SILENT = "silent"  # nothing came for long
    STOPPED = "stopped"  # nobody looks any more
    TAKEN = "taken"  # another process writes the log now


@dataclass(slots=True)
class Cursor:
    """How far one stream is on disk.

    Attributes:
        size: Bytes.
        stamp: The time stamp of the last piece, as the backend writes it.
        equal: How many pieces had just that stamp.
        bare: How many pieces without a stamp came behind it.
    """

    size: int = 0
    stamp: bytes = b""
    equal: int = 0
    bare: int = 0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Cursor:
        """What `to_json` gave; the beginning for {}."""
        size, equal, bare = (int(stored.get(name, 0)) for name in ("size", "equal", "bare"))
        return cls(size, str(stored.get("stamp", "")).encode(), equal, bare)

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable dict from which an equal cursor is made."""
        return {**asdict(self), "stamp": self.stamp.decode("ascii", "replace")}


class Gone(Exception):
    """The backend has no output of this run any more: why, as a clause."""


class Writer(Protocol):
    """Takes answers apart, and puts what is new in them into the log files."""

    @property
    def safe(self) -> dict[str, Any]:
        """The position up to which everything is in the files, JSON-serialisable."""

    def begin(self, request: Any) -> Callable[[bytes], None]:
        """A new answer begins.

        Returns:
            What takes its bytes; it raises ValueError where they can't be what was asked for.
        """

    def flush(self) -> None:
        """Writes what is held."""

    def end(self) -> None:
        """The program has ended, and the answer that was read came to its own end."""

    def next_request(self) -> Any:
        """What to ask for while the program runs."""

    def last_requests(self) -> Iterator[Any]:
        """What to ask for, one after the other, when the program has ended."""

    def gone(self, why: str, *, heard_out: bool) -> None:
        """The backend has nothing more; ``heard_out``: the live stream came to its own end."""


class Reader(ABC):
    """Brings the output of one backend's runs to disk.

    Args:
        guard: Looks after the streams.
        patience: How long it waits for what.
    """

    def __init__(self, guard: Guard, patience: Patience) -> None:
        self.guard, self.patience = guard, patience
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._busy: dict[str, threading.Lock] = {}

    @abstractmethod
    def writer(self, log: RunLog, stored: dict[str, Any]) -> Writer:
        """A writer that goes on at a position which was stored."""

    @abstractmethod
    def open(self, run_id: str, request: Any, *, live: bool) -> Any:
        """Asks for output; urllib3's response.

        Args:
            run_id: The run.
            request: What the writer said is to be asked for.
            live: The answer goes on as long as the program does.

        Raises:
            BackendUnreachable: No answer, or none that says anything.
            Gone: There is no output of this run any more.
        """

    @abstractmethod
    def host(self) -> str:
        """Who didn't answer, for a sentence."""

    def has_all(self, run_id: str, writer: Any) -> bool:
        """Whether a live stream, which ended as it should, brought everything."""
        return False

    def follow(
        self,
        run_id: str,
        log: RunLog,
        stop: threading.Event,
        look: Callable[[], tuple[bool, bool]],
    ) -> bool:
        """Does what `Runner.follow` says.

        Args:
            run_id: The run.
            log: Its files.
            stop: Ends it.
            look: Whether the program has begun, and whether it has ended, asked now.
        """
        with self._lock:
            lease = self._leases.setdefault(run_id, Lease(log.folder))
            mine = self._busy.setdefault(run_id, threading.Lock())
        if not mine.acquire(blocking=False):
            return False  # another thread of this process brings it
        complete = False
        try:
            complete = logs.is_whole(log.folder) or (
                lease.acquire() and self._bring(run_id, log, lease, stop, look)
            )
        except FileNotFoundError:
            complete = True  # the folder was deleted: nobody will read it
        finally:
            mine.release()
            if complete:
                with self._lock:
                    self._leases.pop(run_id, None)
                    self._busy.pop(run_id, None)
        return complete

    def _bring(
        self,
        run_id: str,
        log: RunLog,
        lease: Lease,
        stop: threading.Event,
        look: Callable[[], tuple[bool, bool]],
    ) -> bool:
        writer = self.writer(log, lease.cursor)
        once = stop.is_set()
        answer: Answer | None = None
        pause = self.patience.log_pause
        whole = False
        try:
            while True:
                begun, ended = look()
                if not begun:
                    return ended
                try:
                    if ended:
                        known = answer is Answer.WHOLE and self.has_all(run_id, writer)
                        whole = known or self.read_rest(run_id, writer, lease, stop)
                        return whole
                    answer = self.read_now(run_id, writer, lease, stop, live=not once)
                except Gone as why:
                    if ended:
                        writer.gone(str(why), heard_out=answer is Answer.WHOLE)
                        whole = True
                        return True
                    answer = Answer.CUT  # whether the run has ended is asked again
                if once or answer not in (Answer.SILENT, Answer.WHOLE):
                    return False
                # A live stream that ended says: ask.
                stop.wait(pause)
                pause = min(2 * pause, self.patience.longest_log_pause)
        finally:
            writer.flush()
            lease.keep(writer.safe, release=True, whole=whole)

    def read_now(
        self, run_id: str, writer: Any, lease: Lease, stop: threading.Event, *, live: bool
    ) -> Answer:
        """Reads on from where the writer is, to the end of what is there, or on and on."""
        return self.read(run_id, writer, lease, stop, writer.next_request(), live=live)

    def read_rest(self, run_id: str, writer: Any, lease: Lease, stop: threading.Event) -> bool:
        """Reads what an ended program's log still has; whether that is all now.

        What the backend itself can't read of it is not asked for again: it will never come.
        """
        for request in writer.last_requests():
            answer = self.read(run_id, writer, lease, stop, request, live=False)
            if answer is not Answer.WHOLE:
                return False
            writer.end()
        return True

    def read(
        self,
        run_id: str,
        writer: Any,
        lease: Lease,
        stop: threading.Event,
        request: Any,
        *,
        live: bool,
    ) -> Answer:
        """Reads one answer.

        Raises:
            BackendUnreachable: The backend doesn't answer, or not any more.
            Gone: See `open`.
        """
        reply = self.open(run_id, request, live=live)
        feed = writer.begin(request)
        kept = time.monotonic()
        watched = self.guard.watch(reply, stop, lambda: lease.keep(writer.safe)) if live else None
        answer = Answer.WHOLE
        try:
            for data in body(reply):
                feed(data)
                if live:
                    writer.flush()
                now = time.monotonic()
                if now - kept > _KEEP_EVERY:
                    kept = now
                    writer.flush()
                    if not lease.keep(writer.safe):
                        return Answer.TAKEN
        except TimeoutError:
            answer = Answer.SILENT
        except (EOFError, OSError, ValueError):
            answer = Answer.CUT
        finally:
            if watched is not None:
                self.guard.forget(watched)
            writer.flush()
            close(reply)
        if live and stop.is_set():
            return Answer.STOPPED
        if watched is not None and watched.dead:
            raise BackendUnreachable(f"{self.host()} doesn't answer any more.")
        return answer
