"""Readers of containers' output: `reader.Reader` with an engine's answers.

`docker_frames` takes the answers apart and knows what to ask for.
"""

from __future__ import annotations

from typing import Any

from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.runners import reader
from qwex_jupyter.runners.docker_endpoint import Refused
from qwex_jupyter.runners.docker_engine import Engine
from qwex_jupyter.runners.docker_frames import Position, Request, Writer, frames
from qwex_jupyter.runners.reader import Answer as Answer
from qwex_jupyter.runners.streams import Guard, body, close

# So many frames tell whether the end of a log is known.
_TAIL = 8
# So much is enough for an init's words. Bytes.
_WORDS = 4096


class Reader(reader.Reader):
    """Brings the output of the containers of one engine to disk.

    Args:
        engine: The engine, whose patience is the reader's.
    """

    def __init__(self, engine: Engine) -> None:
        def ping(timeout: float) -> object:
            return engine.call("GET", "/_ping", timeout=timeout)

        super().__init__(Guard(ping, "qwex-docker-streams", engine.patience), engine.patience)
        self._engine = engine

    def host(self) -> str:
        """See `reader.Reader.host`."""
        return f"The engine at {self._engine.endpoint.host}"

    def writer(self, log: RunLog, stored: dict[str, Any]) -> Writer:
        """See `reader.Reader.writer`."""
        return Writer(log, Position(stored))

    def open(self, run_id: str, request: Request, *, live: bool) -> Any:
        """See `reader.Reader.open`."""
        timeout = self.patience.log_silence if live else self.patience.rest_of_container
        return self._ask(run_id, request, timeout=timeout, follow=int(live))

    def has_all(self, run_id: str, writer: Writer) -> bool:
        """See `reader.Reader.has_all`: the last frame of the log is the last that came.

        Not asked of Podman: its tail puts the streams' lines into one.
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

    def first_words(self, run_id: str) -> str:
        """The beginning of stderr; "" where there is none to be had.

        Of a program that can't be executed it is all that its init said. Not the end: of a line
        that is kept in pieces, Podman's tail gives the last one.

        Raises:
            BackendUnreachable: No whole answer.
        """
        try:
            reply = self._answer(run_id, (("stderr",), ""), timeout=self.patience.answer)
        except Refused:
            return ""
        data = b""
        try:
            for piece in body(reply):
                data += piece
                if len(data) > _WORDS:
                    break
        except (EOFError, OSError, ValueError) as error:
            raise BackendUnreachable(f"{self.host()} was cut; it is asked again.") from error
        finally:
            close(reply)
        return b"".join(payload for _, _, payload in frames(data)).decode("utf-8", "replace")

    def _ask(self, run_id: str, request: Request, *, timeout: float, **more: int) -> Any:
        try:
            return self._answer(run_id, request, timeout=timeout, **more)
        except Refused as error:
            raise BackendUnreachable(f"The engine keeps its log to itself: {error}.") from error

    def _answer(self, run_id: str, request: Request, *, timeout: float, **more: int) -> Any:
        streams, since = request
        params: dict[str, Any] = {"timestamps": 1, **dict.fromkeys(streams, 1), **more}
        if since:
            params["since"] = since
        path = f"/containers/qwex-{run_id}/logs"
        return self._engine.call("GET", path, params=params, timeout=timeout, stream=True).raw
