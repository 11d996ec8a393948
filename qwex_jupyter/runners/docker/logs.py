"""Readers of containers' output: `log_reader.Reader` with an engine's answers.

`frames` takes the answers apart and knows what to ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.runners.container import log_reader
from qwex_jupyter.runners.container.conventions import given
from qwex_jupyter.runners.container.http_stream import Guard, body, close
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import Engine
from qwex_jupyter.runners.docker.frames import Position, Request, Writer

# By this many frames at its end it is told whether the end of a log is known.
_TAIL = 8


class Reader(log_reader.Reader):
    """Brings the output of the containers of one engine to disk.

    Args:
        engine: The engine, whose patience is the reader's.
        name_of: What the container of a run is asked for by.
    """

    def __init__(self, engine: Engine, name_of: Callable[[str], str]) -> None:
        def ping(timeout: float) -> object:
            return engine.call("GET", "/_ping", timeout=timeout)

        super().__init__(Guard(ping, "qwex-docker-streams", engine.patience), engine.patience)
        self._engine, self._name_of = engine, name_of

    def host(self) -> str:
        return f"The engine at {self._engine.endpoint.shown}"

    def writer(self, log: RunLog, stored: dict[str, Any]) -> Writer:
        return Writer(log, Position(stored))

    def open(self, run_id: str, request: Request, *, live: bool) -> Any:
        timeout = self.patience.log_silence if live else self.patience.rest_of_container
        return self._ask(run_id, request, timeout=timeout, follow=int(live))

    def has_all(self, run_id: str, writer: Writer) -> bool:
        """Whether the last frame of the log is the last that came.

        Podman isn't asked: its tail puts the lines of both streams into one.
        """
        if self._engine.podman or not writer.position.exact:
            return False
        reply = self._ask(run_id, (STREAMS, ""), timeout=self.patience.answer, tail=_TAIL)
        try:
            return writer.ends_with(b"".join(body(reply)))
        except (EOFError, OSError, ValueError):
            return False
        finally:
            close(reply)

    def _ask(self, run_id: str, request: Request, *, timeout: float, **more: int) -> Any:
        try:
            return self._answer(run_id, request, timeout=timeout, **more)
        except Refused as error:
            raise BackendUnreachable(f"The engine keeps its log to itself: {error}.") from error

    def _answer(self, run_id: str, request: Request, *, timeout: float, **more: int) -> Any:
        streams, since = request
        params = {"timestamps": 1, **dict.fromkeys(streams, 1), **more, **given({"since": since})}
        path = f"/containers/{self._name_of(run_id)}/logs"
        return self._engine.call("GET", path, params=params, timeout=timeout, stream=True).raw
