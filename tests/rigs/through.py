"""A proxy for tests: it leads to one server, and remembers what it was asked for."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading


class Proxy:
    """A proxy that leads to one server, whatever it is asked for, and remembers that.

    Args:
        address: The server's ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        host, _, port = address.partition(":")
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            rbufsize = 0  # what comes behind the head isn't taken

            def handle(self) -> None:
                lines = [self.rfile.readline()]
                outer.asked.append(lines[0].decode().split()[1])
                while lines[-1].strip():
                    lines.append(self.rfile.readline())
                with socket.create_connection((host, int(port))) as there:
                    if lines[0].startswith(b"CONNECT"):
                        self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                    else:
                        there.sendall(b"".join(lines))
                    back = threading.Thread(target=_carry, args=(there, self.connection))
                    back.start()
                    _carry(self.connection, there)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
