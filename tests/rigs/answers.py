"""Answers for a log that end as a test says: what the models of an engine and of a kubelet share.

The readers under test are the real ones, down to the chunks of HTTP.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.container.http_stream import Guard

RUN = "20261124-120000-k3x9qd"
SECOND = 10**9
BEGAN = 1_795_500_000 * SECOND
_FOLDERS: list[str] = []


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders for logs, one for all of a file as hypothesis calls a test many times; no guard."""
    _FOLDERS.append(str(tmp_path_factory.mktemp("logs")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "_run", lambda self: None)
        yield
    _FOLDERS.clear()


def new_log() -> RunLog:
    """An empty one."""
    return RunLog(tempfile.mkdtemp(dir=_FOLDERS[-1]))


@dataclass
class Entry:
    """What a backend keeps of one write: the stream, its clock in nanoseconds, the bytes."""

    stream: str
    at: int
    text: bytes


@dataclass
class Kept:
    """What a backend has of a program's output; how it answers, a subclass says.

    Attributes:
        entries: All there will be.
        there: So many of them are there now.
        requests: What it was asked.
    """

    entries: list[Entry]
    there: int = field(default=0, kw_only=True)
    requests: list[dict[str, Any]] = field(default_factory=list, kw_only=True)

    def answer(self, params: dict[str, Any]) -> bytes:
        """What a request gets."""
        raise NotImplementedError

    @property
    def printed(self) -> dict[str, bytes]:
        """What the log files are to hold in the end."""
        return {
            name: b"".join(each.text for each in self.entries if each.stream == name)
            for name in STREAMS
        }


@dataclass
class Step:
    """One answer: how many entries more the log has by then, and how it ends."""

    more: int
    how: str = "whole"  # cut, reset, silent, stop (one pass over what is there)
    after: int = 10**6
    chunk: int = 1 << 16
    piece: int = 1 << 16
    new_reader: bool = False
    rotate: bool = False


def any_steps(most: int) -> st.SearchStrategy[list[Step]]:
    """Any faults on the way, at most so many."""
    return st.lists(
        st.builds(
            Step,
            more=st.integers(0, 6),
            how=st.sampled_from(["whole", "cut", "reset", "silent", "stop"]),
            after=st.integers(0, 600),
            chunk=st.sampled_from([1, 3, 7, 45, 1 << 16]),
            piece=st.sampled_from([1, 2, 5, 50, 1 << 16]),
            new_reader=st.booleans(),
        ),
        max_size=most,
    )


class Socket:
    """The connection of one answer, as `http_stream.body` reads it."""

    def __init__(self, data: bytes, step: Step) -> None:
        chunks = [data[at : at + step.chunk] for at in range(0, len(data), step.chunk)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        if step.how in ("cut", "reset", "silent"):
            # Never with the last chunk, which says that it is all.
            sent = sent[: min(step.after, len(sent) - 5)]
        self.raw = self._fp = self.fp = self
        self.headers = {"Transfer-Encoding": "chunked"}
        self._sent, self._step = sent, step

    def read1(self, size: int) -> bytes:
        """As a buffered socket's: what has come."""
        found, self._sent = self._sent[: self._step.piece], self._sent[self._step.piece :]
        if not found and self._step.how == "silent":
            raise TimeoutError("timed out")
        if not found and self._step.how == "reset":
            raise ConnectionResetError("reset by peer")
        return found

    def close(self) -> None:
        """As urllib3's response."""

    release_conn = close


class Backend:
    """Who answers for a log as the steps say; when those are used up, as he should."""

    patience = Patience(log_pause=0.0)

    def __init__(self, log: Any, steps: list[Step]) -> None:
        self.log, self.steps, self._count = log, list(steps), len(steps)
        self._lock = threading.Lock()

    def answer(self, params: dict[str, Any]) -> Socket:
        """The next answer, for which more of the log is there."""
        log = self.log
        with self._lock:
            step = self.steps.pop(0) if self.steps else Step(len(log.entries))
            if step.rotate:
                log.begin = log.there
            log.there = min(len(log.entries), log.there + step.more)
            return Socket(log.answer(params), step)

    def bring(
        self, reader: Callable[[], Any], ended_after: int, end: Callable[[], None] = lambda: None
    ) -> RunLog:
        """Has readers bring the log to disk through all steps.

        Args:
            reader: Makes a reader.
            ended_after: So many steps, and the program has ended.
            end: Called when it has.
        """
        files, one = new_log(), reader()

        def look() -> tuple[bool, bool]:
            ended = self._count - len(self.steps) >= ended_after
            if ended:
                self.log.there = len(self.log.entries)
                end()
            return True, ended

        for _ in range(3 * self._count + 3):
            stop = threading.Event()
            step = self.steps[0] if self.steps else None
            if step and step.how == "stop":
                stop.set()
            if step and step.new_reader:
                one = reader()
            if one.follow(RUN, files, stop, look):
                return files
            if step and self.steps and self.steps[0] is step:
                self.steps.pop(0)  # there was nothing to read yet
        raise AssertionError("it never came to its end")
