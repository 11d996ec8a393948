"""A wire that a test can cut, between a client and the apiserver of a cluster."""

from __future__ import annotations

import json
import ssl
import tempfile
from pathlib import Path
from typing import Any

from cluster_parts import certificate
from clusters import MINIMAL_RULES, Cluster
from wire import Rule, Wire

# What an apiserver calls its errors.
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class KubeWire(Wire):
    """Ends the client's TLS with a certificate of its own, and verifies the apiserver's.

    Its rules are about HTTP/1.1, which clients fall back to: no HTTP/2 is offered.

    Args:
        cluster: A started one.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._files = tempfile.TemporaryDirectory(prefix="kube-wire-", dir="/tmp")
        self._certificate, key = certificate(Path(self._files.name))
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(self._certificate, key)
        server, ca = cluster.address()
        super().__init__(server, tls=(ours, ssl.create_default_context(cadata=ca or None)))

    @property
    def server(self) -> str:
        """The URL that a client is told."""
        return f"https://{self.address}"

    def kubeconfig(
        self, rules: Any = MINIMAL_RULES, namespace: str = "", *, seconds: int = 36000
    ) -> Path:
        """As ``Cluster.kubeconfig``, but all goes through this wire."""
        return self.cluster.kubeconfig(
            rules, namespace, seconds=seconds, address=(self.server, self.ca)
        )

    @property
    def ca(self) -> str:
        """What signed its certificate: the certificate itself."""
        return self._certificate.read_text()

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The Status object of an apiserver."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": _REASONS.get(status, ""),
            "code": status,
        }

    def error_event(
        self, path: str, status: int = 410, message: str = "too old resource version: 1 (2)"
    ) -> Rule:
        """The request for a watch isn't forwarded: its only event is this error, then it ends.

        So an apiserver says that it can't go on from where the client is.
        """
        event = {"type": "ERROR", "object": self.error(status, message)}
        body = json.dumps(event) + "\n"
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        content = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        return self._add(Rule("GET", path, 1, answer=content))

    def close(self) -> None:
        """Ends everything of it."""
        super().close()
        self._files.cleanup()
