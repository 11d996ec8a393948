"""The private API of other libraries: that each piece is there, and what happens without it."""

from __future__ import annotations

import atexit
import importlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from local_helpers import until

from qwex_jupyter.runners.container import http_stream
from qwex_jupyter.system import compat

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PARTS = [b"one\n", b"t" * 300_000, b"\x00\r\n\r\n", b"last"]


def chunks(*parts: bytes) -> bytes:
    """Parts as HTTP sends them."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def test_a_module_is_whole_when_its_import_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, nor while it is being imported; without a word about that it isn't known."""
    source = "from qwex_jupyter.system import compat\nwithin = compat.is_whole(__name__)"
    (tmp_path / "qwex_begun.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert not compat.is_whole("qwex_begun")
    made = importlib.import_module("qwex_begun")
    try:
        assert made.within is False
        assert compat.is_whole("qwex_begun")
        monkeypatch.setattr(made, "__spec__", None)
        assert not compat.is_whole("qwex_begun")
        monkeypatch.setitem(sys.modules, "qwex_begun", None)
        assert not compat.is_whole("qwex_begun")
    finally:
        sys.modules.pop("qwex_begun", None)


class Server:
    """Answers with what it is told to, on real sockets."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.pool = urllib3.HTTPConnectionPool(*self.listening.getsockname(), retries=False)
        self.replies: list[Any] = []
        self.peers: list[socket.socket] = []

    def answer(self, *sent: bytes, end: bool = True) -> Any:
        """urllib3's response to this; with ``end`` the connection is closed behind it."""
        taken = threading.Thread(target=self._take, args=(sent, end), daemon=True)
        taken.start()
        reply = self.pool.request("GET", "/", preload_content=False, timeout=60.0)
        self.replies.append(reply)
        if end:
            return reply
        taken.join()
        return reply

    def _take(self, sent: tuple[bytes, ...], end: bool) -> None:
        peer, _ = self.listening.accept()
        self.peers.append(peer)
        peer.recv(1 << 16)
        with suppress(OSError):
            peer.sendall(b"".join(sent))
            if end:
                peer.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes all of it."""
        for reply in self.replies:
            http_stream.close(reply)
        for peer in self.peers:
            peer.close()
        self.pool.close()
        self.listening.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server, and connections that don't outlive the test."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(params=["private", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the private API of urllib3 as it is installed, and without."""
    if request.param == "public":

        def gone(_: object) -> None:
            raise AttributeError("_fp")

        monkeypatch.setattr(compat, "source_of", gone)
    return str(request.param)


def test_an_answer_s_source_is_read_as_bytes_come(server: Server) -> None:
    """urllib3 keeps the file of `http.client`, whose ``read1`` gives what has arrived."""
    reply = server.answer(CHUNKED, chunks(b"one\n"), end=False)
    assert compat.source_of(reply).read1(1 << 16) == chunks(b"one\n")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "sent",
    [
        [CHUNKED, chunks(*PARTS), b"0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(b"".join(PARTS)), *PARTS],
    ],
    ids=["chunked", "length"],
)
def test_a_body_comes_whole(server: Server, sent: list[bytes]) -> None:
    """All of an answer is read, by whichever way."""
    assert b"".join(http_stream.body(server.answer(*sent))) == b"".join(PARTS)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "sent",
    [
        [CHUNKED, chunks(b"one\n"), b"5\r\ntw"],
        [CHUNKED, chunks(b"one\n")],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"one\n"],
        [b"HTTP/1.1 200 OK\r\n\r\n", b"one\n"],
    ],
    ids=["in a chunk", "between chunks", "length", "no length"],
)
def test_a_cut_body_is_told_from_a_whole_one(server: Server, sent: list[bytes]) -> None:
    """What ends before its end, or has none, raises EOFError."""
    with pytest.raises(EOFError):
        list(http_stream.body(server.answer(*sent)))


@pytest.mark.usefixtures("way")
def test_an_answer_without_a_body_is_empty(server: Server) -> None:
    """One of no bytes gives none."""
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert not list(http_stream.body(server.answer(empty)))


@pytest.mark.usefixtures("way")
def test_silence_is_told_from_an_end(server: Server) -> None:
    """What is read in vain until the timeout raises TimeoutError."""
    reply = server.answer(CHUNKED, chunks(b"a"), end=False)
    reply.connection.sock.settimeout(0.1)  # from here on: the answer itself may take its time
    with pytest.raises(TimeoutError):
        list(http_stream.body(reply))


@pytest.mark.usefixtures("way")
def test_a_line_comes_at_once(server: Server) -> None:
    """A chunk is given while the next one hasn't come."""
    reply = server.answer(CHUNKED, chunks(b"one\n"), end=False)
    assert next(http_stream.body(reply)) == b"one\n"


@pytest.mark.usefixtures("way")
def test_reading_ends_from_another_thread(server: Server) -> None:
    """Who waits for an answer that says nothing is let go."""
    reply = server.answer(CHUNKED, chunks(b"one\n"), end=False)
    got: list[bytes] = []
    ended: list[type] = []

    def read() -> None:
        try:
            for data in http_stream.body(reply):
                got.append(data)  # noqa: PERF402 - each as it comes
        except (EOFError, OSError) as error:
            ended.append(type(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until(lambda: got == [b"one\n"])
    compat.shut_down(reply)
    reader.join(30.0)  # the timeout of the read is longer
    assert not reader.is_alive()
    assert ended == [EOFError]


def test_what_has_no_socket_is_closed(way: str) -> None:
    """Where no socket can be shut down, the answer is closed."""
    closed: list[str] = []

    def no_socket() -> None:
        raise ValueError("Cannot shutdown socket")

    compat.shut_down(SimpleNamespace(shutdown=no_socket, close=lambda: closed.append(way)))
    compat.shut_down(SimpleNamespace(close=lambda: closed.append(way)))
    assert closed == [way, way]


def _ipykernel() -> tuple[int, ...]:
    return tuple(int(part) for part in version("ipykernel").split(".")[:2])


def test_a_comm_answers_where_its_page_asked() -> None:
    """The method that is replaced is there from that ipykernel on which needs it."""
    from ipykernel.comm.comm import BaseComm

    made = BaseComm(primary=False)
    there = hasattr(made, "_reply_subshell_for")
    assert there is (_ipykernel() >= (7, 4))
    if there:
        made._reply_subshell_id = "that of the cells"
        assert made._reply_subshell_for({}, "the page's") == "that of the cells"
        compat.answer_while_busy(made)
        assert made._reply_subshell_for({}, "the page's") == "the page's"


def test_a_comm_without_that_is_left_alone() -> None:
    """A comm of another kind stays as it is."""
    made = SimpleNamespace()
    compat.answer_while_busy(made)
    assert not vars(made)


EXIT = (
    "import atexit, os; from qwex_jupyter.system import compat; atexit.register(print, 'ran'); "
    "{before}compat.run_exit_functions(); print('after', flush=True); os._exit(0)"
)


@pytest.mark.parametrize(
    ("before", "said"), [("", "ran\nafter\n"), ("del atexit._run_exitfuncs; ", "after\n")]
)
def test_what_is_registered_for_the_exit_runs(before: str, said: str) -> None:
    """`atexit` can be asked to run it; where it can't, the process ends all the same."""
    assert hasattr(atexit, "_run_exitfuncs")
    command = [sys.executable, "-c", EXIT.format(before=before)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == said


def test_a_line_knows_the_variables_of_its_function() -> None:
    """The frames between a function and its line are those of a real IPython alone."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.register_magic_function(lambda _: compat.locals_of_caller(), magic_name="asks")

    def function() -> Any:
        mine = 42  # noqa: F841 - it is looked for
        return shell.run_line_magic("asks", "")

    assert function()["mine"] == 42


def test_without_frames_a_line_knows_no_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has no frames gives no variables, and fails in nothing."""
    assert compat.locals_of_caller()
    with monkeypatch.context() as patch:
        patch.delattr(sys, "_getframe")
        found = compat.locals_of_caller()
    assert found == {}
