"""A wire that a test can cut: a proxy between a client and an engine, a registry or a cluster.

It understands the heads of requests, so that a rule can be about ``POST /containers/create``
alone; bodies, chunked streams, hijacked connections and answers pass byte for byte. Without a
rule nothing is changed. Where both sides speak TLS, it ends the client's with a certificate of its
own and begins one of its own with the target. One thread serves all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
_PIECE = 1 << 16
_HEAD = 1 << 20
# Requests after whose answer both sides may speak as they like.
_HIJACK = re.compile(r"/attach(\?|$)|/exec/[^/]+/start(\?|$)|/(session|grpc)(\?|$)")


@dataclass
class Rule:
    """What happens to the requests that it is about.

    Attributes:
        method: Of the request; empty for any.
        path: A regular expression, searched in path and query.
        times: How often it still acts; None for always.
        hits: How often it acted.
    """

    method: str
    path: str
    times: int | None = 1
    refuse: bool = False
    answer: bytes = b""
    drop: bool = False
    after: Callable[[], int] | None = None
    stall: bool = False
    reset: bool = False
    delay: float = 0.0
    rate: float = 0.0
    hits: int = 0

    def take(self, method: str, path: str) -> bool:
        """Whether it acts on this request; counts if so."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.method not in ("", method) or not re.search(self.path, path):
            return False
        self.hits += 1
        return True


@dataclass
class _Exchange:
    """A request and what of its answer has passed."""

    rule: Rule
    limit: int | None
    passed: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    hijacked: bool = False
    clears: int = 0  # how often the wire had been cleared when it began


class Wire:
    """Stands between a client and ``target``.

    Args:
        target: ``unix://PATH`` or ``tcp://HOST:PORT``.
        tcp: Listen at TCP on loopback though the target is a unix socket (only there a reset
            differs from a plain end).
        tls: For clients that speak TLS: with what the wire proves who it is, and with what it
            speaks to the target.

    Attributes:
        host: What a client is told: ``unix://PATH`` or ``tcp://127.0.0.1:PORT``.
        requests: Each request that came, as (method, path with query), in order.
    """

    def __init__(
        self,
        target: str,
        *,
        tcp: bool = False,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None] = (None, None),
    ) -> None:
        self.target = urlsplit(target)
        self._tls = tls
        self.requests: list[tuple[str, str]] = []
        self._rules: list[Rule] = []
        self._tcp = tcp or self.target.scheme != "unix"
        # Short, since the address of a socket has room for 108 bytes.
        self._folder = "" if self._tcp else tempfile.mkdtemp(prefix="wire-", dir="/tmp")
        self._port = 0
        self._listener: socket.socket | None = None
        self._place: socket.socket | None = None  # keeps the port while nobody listens there
        self._serving: set[asyncio.Task[None]] = set()
        self._greeting: set[asyncio.Task[None]] = set()  # they may never say a word
        self._connections: set[_Connection] = set()
        self._breaks = 0  # how often all connections were ended
        self._clears = 0
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        self.up()

    @property
    def host(self) -> str:
        """The address to give to a client."""
        return f"tcp://{self.address}" if self._tcp else f"unix://{self._folder}/sock"

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``; of one that listens at TCP."""
        assert self._tcp
        return f"127.0.0.1:{self._port}"

    # -- rules: the newest that is about a request acts on it ------------------------------------

    def refuse(self, method: str, path: str, times: int | None = 1) -> Rule:
        """The request isn't forwarded, and the connection ends without an answer."""
        return self._add(Rule(method, path, times, refuse=True))

    def answer(
        self,
        method: str,
        path: str,
        status: int,
        message: str = "",
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> Rule:
        """The request isn't forwarded; the wire answers it, as the target would put an error."""
        body = json.dumps(self.error(status, message or "the wire says so"))
        more = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        lines = [f"HTTP/1.1 {status} Wire", *(f"{name}: {value}" for name, value in more.items())]
        head = "".join(f"{line}\r\n" for line in lines)
        content = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        return self._add(Rule(method, path, times, answer=content))

    def error(self, status: int, message: str) -> dict[str, Any]:
        """How the target puts an error."""
        return {"message": message}

    def drop_response(self, method: str, path: str, times: int | None = 1) -> Rule:
        """The request is forwarded and obeyed; when the answer begins, the connection ends."""
        return self._add(Rule(method, path, times, drop=True))

    def cut(
        self,
        method: str,
        path: str,
        after: int | Callable[[], int],
        times: int | None = 1,
        *,
        reset: bool = False,
    ) -> Rule:
        """The connection ends after so many bytes of the answer, its head included.

        Args:
            method: Of the request; empty for any.
            path: A regular expression for path and query.
            after: The bytes, or what says them anew each time.
            times: How often; None for always.
            reset: End it with a reset instead of an end of file; TCP only.
        """
        assert self._tcp or not reset, "a unix socket knows no reset"
        count = after if callable(after) else lambda: after
        return self._add(Rule(method, path, times, after=count, reset=reset))

    def stall(self, method: str, path: str, after: int = 0, times: int | None = 1) -> Rule:
        """After so many bytes of the answer nothing more comes, and nothing ends.

        It goes on after ``clear``.
        """
        return self._add(Rule(method, path, times, after=lambda: after, stall=True))

    def delay(self, method: str, path: str, seconds: float, times: int | None = 1) -> Rule:
        """The request is held for so long before it is forwarded."""
        return self._add(Rule(method, path, times, delay=seconds))

    def slow(self, method: str, path: str, rate: float, times: int | None = None) -> Rule:
        """The answer comes at so many bytes per second."""
        return self._add(Rule(method, path, times, rate=rate))

    def clear(self) -> None:
        """Takes all rules away, and lets go on what was stalled or slow."""
        for rule in self._rules:
            rule.rate = 0.0
        self._rules.clear()
        self._call(self._release())

    def count(self, method: str, path: str) -> int:
        """How many such requests came."""
        return sum(
            method in ("", each[0]) and re.search(path, each[1]) is not None
            for each in self.requests
        )

    # -- the whole wire --------------------------------------------------------------------------

    def break_all(self) -> int:
        """Ends all connections that are open now; how many."""
        return self._call(self._break_all())

    def down(self) -> None:
        """Ends all connections and takes no new ones: as if the engine weren't there."""
        self._call(self._down())

    def up(self) -> None:
        """Takes connections (again), at the same address."""
        self._call(self._up())

    def close(self) -> None:
        """Ends everything of it."""
        self.down()
        self._call(self._let_go())
        if self._place is not None:
            self._place.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._folder:
            shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- in the thread ---------------------------------------------------------------------------

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def _add(self, rule: Rule) -> Rule:
        self._rules.insert(0, rule)
        return rule

    def _rule(self, method: str, path: str) -> Rule:
        self.requests.append((method, path))
        found = (rule for rule in tuple(self._rules) if rule.take(method, path))
        return next(found, Rule(method, path))

    async def _release(self) -> None:
        self._clears += 1  # what comes to its stall only now goes on too
        self._released.set()
        self._released = asyncio.Event()

    async def _up(self) -> None:
        assert self._listener is None
        if self._tcp:
            listener, self._place = self._place or self._bound(), None
            listener.listen(100)
            self._port = listener.getsockname()[1]
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{self._folder}/sock")
            listener.listen(100)
        listener.setblocking(False)
        self._listener = listener
        # Not asyncio's server: closed at the wrong moment, it forgets a connection it just took.
        self._loop.add_reader(listener, self._accept, listener)

    def _bound(self) -> socket.socket:
        """A socket at the wire's port, any at first, on which nobody listens."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", self._port))
        return made

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            taken, _ = listener.accept()
            serving = self._loop.create_task(self._serve(taken, self._breaks))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _down(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            if self._tcp:
                self._place = self._bound()
        if self._folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._folder}/sock")
        await self._break_all()

    async def _let_go(self) -> None:
        """Waits until every socket is closed; what doesn't end by itself, as TLS may, is ended.

        Whose greeting was broken off has a transport that nobody else holds: the loop knows it.
        """
        known: Mapping[int, Any] = getattr(self._loop, "_transports", {})

        def left() -> list[Any]:
            return [each for each in known.values() if each.get_extra_info("socket").fileno() >= 0]

        patience = time.monotonic() + 5
        while left() and time.monotonic() < patience:
            if time.monotonic() > patience - 4:
                for each in left():
                    each.abort()
            await asyncio.sleep(0.01)

    async def _break_all(self) -> int:
        self._breaks += 1
        broken = list(self._serving)
        for connection in self._connections:
            connection.end()
        for task in self._greeting:
            task.cancel()
        # Those that are still on their way to the target see that they came before.
        await asyncio.gather(*broken, return_exceptions=True)
        return len(broken)

    async def _serve(self, taken: socket.socket, breaks: int) -> None:
        if self._breaks > breaks:
            taken.close()
            return
        try:
            reader, writer = await self._greet(taken)
        except (OSError, asyncio.CancelledError):
            # It doesn't trust us, or nobody wants it any more. Not closed here: its transport,
            # which may be on its way still, owns it, and another would be given its number.
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
            return
        try:
            if self.target.scheme == "unix":
                ends = await asyncio.open_unix_connection(self.target.path, limit=_HEAD)
            else:
                host, port = self.target.hostname, self.target.port
                ends = await asyncio.open_connection(host, port, limit=_HEAD, ssl=self._tls[1])
        except OSError:
            writer.close()  # nobody is there: neither are we
            return
        if self._breaks > breaks:
            writer.close()
            ends[1].close()
            return
        connection = _Connection(self, (reader, writer), ends)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def _greet(
        self, taken: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._tls[0] is None:
            return await asyncio.open_connection(sock=taken, limit=_HEAD)
        reader = asyncio.StreamReader(limit=_HEAD)
        protocol = asyncio.StreamReaderProtocol(reader)
        task = asyncio.current_task()
        assert task is not None
        self._greeting.add(task)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, taken, ssl=self._tls[0]
            )
        finally:
            self._greeting.discard(task)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)


class _Connection:
    """One connection of a client, and the one to the target that belongs to it."""

    def __init__(
        self,
        wire: Wire,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.wire = wire
        self.client, self.to_client = client
        self.server, self.to_server = server
        self.exchange = _Exchange(Rule("", ""), None)
        self._over = asyncio.Event()

    def end(self, *, reset: bool = False) -> None:
        """Ends both sides."""
        if reset:
            wire: socket.socket = self.to_client.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.to_client.transport.abort()
        self._over.set()

    async def serve(self) -> None:
        """Forwards until one side is done, or a rule ends it."""
        tasks = [
            asyncio.create_task(self._requests()),
            asyncio.create_task(self._answers()),
            asyncio.create_task(self._over.wait()),
        ]
        # A client that is done may still wait for its answer; the others are the end.
        _, answers, over = tasks
        await asyncio.wait([answers, over], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in (self.to_client, self.to_server):
            writer.close()
        for writer in (self.to_client, self.to_server):
            try:
                await asyncio.wait_for(writer.wait_closed(), 5)
            except TimeoutError:
                writer.transport.abort()  # it doesn't take what is left for it
            except OSError:
                pass  # it was the other side that ended it

    # -- from the client --------------------------------------------------------------------------

    async def _requests(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._request():
                pass
        if not self.to_server.can_write_eof():  # TLS ends both ways at once
            return self.end()
        with contextlib.suppress(OSError):
            self.to_server.write_eof()
        return None

    async def _request(self) -> bool:
        """Forwards one request; False when no further one will come."""
        first = await self.client.read(1)
        if not first.isupper():
            # The end, or no HTTP: an engine tries TLS before it talks plainly to a registry.
            self.to_server.write(first)
            await self._copy(None, self.to_server)
            return False
        head = first + await self.client.readuntil(b"\r\n\r\n")
        method, path = head.decode("latin-1").split(" ", 2)[:2]
        rule = self.wire._rule(method, path)
        limit = rule.after() if rule.after else None
        self.exchange = _Exchange(rule, limit, clears=self.wire._clears)
        if rule.refuse:
            self.end()
            return False
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.answer:
            await self._body(head, None)
            self.to_client.write(rule.answer)
            await self.to_client.drain()
            self.end()
            return False
        self.to_server.write(head)
        await self._body(head, self.to_server)
        if _HIJACK.search(path) or b"\r\nupgrade:" in head.lower():
            await self.exchange.begun.wait()
            if self.exchange.hijacked:
                await self._copy(None, self.to_server)
                return False
        return True

    async def _body(self, head: bytes, to: asyncio.StreamWriter | None) -> None:
        fields = dict(re.findall(rb"\r\n([^:\r]+): *([^\r]*)", head.lower()))
        if fields.get(b"transfer-encoding") == b"chunked":
            size = 1
            while size:
                line = await self.client.readuntil(b"\r\n")
                if to is not None:
                    to.write(line)
                size = int(line.split(b";")[0], 16)
                await self._copy(size + 2, to)
        else:
            await self._copy(int(fields.get(b"content-length", 0)), to)

    async def _copy(self, size: int | None, to: asyncio.StreamWriter | None) -> None:
        """Forwards so many bytes of the client's, or all (None)."""
        while size is None or size > 0:
            data = await self.client.read(_PIECE if size is None else min(size, _PIECE))
            if not data:
                return
            size = None if size is None else size - len(data)
            if to is not None:
                to.write(data)
                await to.drain()

    # -- from the target --------------------------------------------------------------------------

    async def _answers(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self.server.read(_PIECE):
                exchange = self.exchange
                if not exchange.begun.is_set():
                    exchange.hijacked = data.startswith(b"HTTP/1.1 101") or b"-stream\r\n" in data
                    exchange.begun.set()
                if exchange.rule.drop:
                    return self.end()
                await self._answer(exchange, data)
        return None

    async def _answer(self, exchange: _Exchange, data: bytes) -> None:
        rule, limit = exchange.rule, exchange.limit
        if limit is not None and exchange.passed + len(data) >= limit:
            allowed = max(0, limit - exchange.passed)
            await self._send(exchange, data[:allowed])
            if not rule.stall:
                self.end(reset=rule.reset)
                await asyncio.Event().wait()  # until this task is cancelled
            if exchange.clears == self.wire._clears:
                await self.wire._released.wait()
            exchange.limit, data = None, data[allowed:]
        await self._send(exchange, data)

    async def _send(self, exchange: _Exchange, data: bytes) -> None:
        rate = exchange.rule.rate
        piece = max(1, int(rate / 20)) if rate else len(data) or 1
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            self.to_client.write(part)
            exchange.passed += len(part)
            await self.to_client.drain()
            if exchange.rule.rate:  # until it was cleared
                await asyncio.sleep(len(part) / rate)
