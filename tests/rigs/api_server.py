"""An API server that is played: it answers as the test says, and remembers what it was asked."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.runners.k8s.cluster import Cluster


class Server:
    """An HTTP server that answers as the test says, and remembers what it was asked.

    Args:
        certificate: The paths of one and of its key, for HTTPS.
    """

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.default: tuple[int, Any, dict[str, str]] = (200, {"gitVersion": "v1.34.4"}, {})
        self.tokens: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[Message] = []
        self.bodies: list[bytes] = []
        self.accepted: set[str] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + outer.ahead, usegmt=True)

            def answer(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                token = self.headers.get("Authorization", "")
                outer.tokens.append(token)
                outer.headers.append(self.headers)
                outer.asked.append((self.command, self.path))
                status, body, headers = outer.answers.pop(0) if outer.answers else outer.default
                if outer.accepted is not None and token not in outer.accepted:
                    status, body, headers = 401, {"kind": "Status", "reason": "Unauthorized"}, {}
                if status == 0:
                    self.close_connection = True
                    return
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET = do_POST = do_PATCH = do_DELETE = answer

        self.ahead = 0.0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http{'s' if certificate else ''}://{self.address}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def say(self, status: int, body: Any = "", **headers: str) -> None:
        """The next answer; status 0 hangs up."""
        self.answers.append((status, body, headers))

    def close(self) -> None:
        """Ends it."""
        self._http.shutdown()
        self._http.server_close()


def write(path: Path, url: str, user: dict[str, Any], namespace: str = "mine") -> None:
    """A kubeconfig with one context, ``here``."""
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(content))
    # As if it were written later, on a file system that counts seconds.
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def status(code: int, reason: str = "", message: str = "") -> dict[str, Any]:
    """The Status object of an API server."""
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def at(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that the kubeconfig of this test leads to."""
    write(tmp_path / "config", server.url, {"token": "one"})
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    made = Cluster()
    yield made
    made.close()
