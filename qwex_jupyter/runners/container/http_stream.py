"""Answers that are read while a server writes them: their pieces, their end, and whether it lives.

A stream is a view and never a witness. Its end means: ask.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.system import compat, windows

# At most this much is read at once. Bytes.
_PIECE = 1 << 18


def body(reply: Any) -> Iterator[bytes]:
    """The body of an answer, in pieces as large as what has arrived.

    urllib3 would wait for pieces of a fixed size, or give one for each line.

    Args:
        reply: urllib3's response, whose content was not read yet.

    Raises:
        EOFError: It was cut.
        TimeoutError: Nothing came for long.
    """
    try:
        yield from _pieces(reply)
    except Exception as error:
        if windows.is_of_pipe(error):
            raise EOFError("the pipe was closed") from error
        raise


def _pieces(reply: Any) -> Iterator[bytes]:
    try:
        source = compat.source_of(reply)
    except AttributeError:
        yield from compat.pieces_of(reply, _PIECE)
        return
    if source is None:
        return  # an answer without a body
    if "Content-Length" in reply.headers:
        # Short answers of Go's HTTP server have one; the connection stays open behind them.
        left = int(reply.headers["Content-Length"])
        while left and (data := source.read1(min(left, _PIECE))):
            left -= len(data)
            yield data
        if left:
            raise EOFError("the answer was cut")
        return
    if "chunked" not in reply.headers.get("Transfer-Encoding", ""):
        raise EOFError("an answer without a length: its end can't be told from a cut")
    rest = b""
    need = 0  # of the chunk that was begun, with the line end behind it
    while data := source.read1(_PIECE):
        rest += data
        parts: list[bytes] = []
        at, size = 0, len(rest)
        while True:
            line_end = rest.find(b"\r\n", at)
            if line_end < 0:
                break
            need = int(rest[at:line_end].partition(b";")[0], 16)
            if not need:
                yield b"".join(parts)
                return
            begin = line_end + 2
            if begin + need + 2 > size:
                break
            parts.append(rest[begin : begin + need])
            at = begin + need + 2
        rest = rest[at:]
        if parts:
            yield b"".join(parts)
    raise EOFError("the answer was cut")


def objects(reply: Any) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer that has one in each line, each as it comes.

    Args:
        reply: See `body`.

    Raises:
        EOFError, OSError: It was cut; TimeoutError where nothing came for long.
        ValueError: A line is something else.
    """
    rest = b""
    for data in body(reply):
        *lines, rest = (rest + data).split(b"\n")
        yield from map(_object, filter(bytes.strip, lines))
    if rest.strip():
        yield _object(rest)


def _object(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("something else than an object")
    return found


def close(reply: Any) -> None:
    """Gives an answer back, read to its end or not."""
    reply.close()
    reply.release_conn()


@dataclass(eq=False)
class Watched:
    """A stream that somebody reads.

    Attributes:
        reply: The answer.
        stop: Set when nobody looks any more.
        keep: Called every now and then: what is read is not abandoned.
        dead: The server doesn't answer, so the stream was ended.
    """

    reply: Any
    stop: threading.Event
    keep: Callable[[], object] = field(default=lambda: None)
    dead: bool = False


class Guard:
    """One thread for all streams of a server: ends those that nobody reads, or that hang.

    A silent stream is no sign of anything, so beside it the server is asked whether it lives.

    Args:
        ping: Asks; what it raises is no answer. Its argument is how long that may take, in
            seconds.
        name: Of the thread.
        patience: How long it waits for what.
    """

    def __init__(
        self, ping: Callable[[float], object], name: str, patience: Patience = Patience()
    ) -> None:
        self._ping, self._name, self._patience = ping, name, patience
        self._lock = threading.Lock()
        self._watched: list[Watched] = []
        self._thread: threading.Thread | None = None

    def watch(
        self, reply: Any, stop: threading.Event, keep: Callable[[], object] = lambda: None
    ) -> Watched:
        """Looks after a stream until `forget`."""
        watched = Watched(reply, stop, keep)
        with self._lock:
            self._watched.append(watched)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return watched

    def forget(self, watched: Watched) -> None:
        """It came to its end; what is kept of it from now on, its reader keeps."""
        with self._lock:
            self._watched.remove(watched)

    def _run(self) -> None:
        beat = alive = time.monotonic()
        while True:
            time.sleep(self._patience.guard_every)
            with self._lock:
                found = list(self._watched)
                if not found:
                    self._thread = None
                    return
            if time.monotonic() - beat > self._patience.beat:
                beat = time.monotonic()
                for watched in found:
                    self._keep(watched)
                try:
                    self._ping(self._patience.beat)
                    alive = time.monotonic()
                except Exception:  # noqa: BLE001 - whatever it is, it is no answer
                    pass
            dead = time.monotonic() - alive > self._patience.dead
            for watched in found:
                if watched.stop.is_set() or dead:
                    watched.dead = dead
                    compat.shut_down(watched.reply)

    def _keep(self, watched: Watched) -> None:
        """A silent stream's lease is no abandoned one."""
        with self._lock:  # against one that was given back this moment
            if watched in self._watched:
                try:
                    watched.keep()
                except (OSError, QwexError):
                    pass  # the reader meets it too
