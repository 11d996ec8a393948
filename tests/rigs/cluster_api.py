"""A few words with a Kubernetes apiserver, in the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 180.0


class ApiFailed(Exception):
    """The apiserver refused; ``status`` and ``reason`` are its own."""

    def __init__(self, status: int, body: Any) -> None:
        said = body if isinstance(body, dict) else {}
        super().__init__(f"{status} {said.get('message') or body}")
        self.status, self.reason = status, str(said.get("reason", ""))


class Api:
    """Speaks to one server; each request has a connection of its own.

    Args:
        server: Its URL.
        ca: What signed its certificate, as PEM; empty to trust any.
        token: Of the one who asks.
    """

    def __init__(self, server: str, ca: str = "", token: str = "") -> None:
        self.server, self._headers = urlsplit(server), {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = ssl.create_default_context(cadata=ca or None)
        if not ca:
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def get(self, path: str) -> Any:
        """What is there: parsed where it is JSON."""
        return self.request("GET", path)

    def create(self, path: str, body: dict[str, Any]) -> Any:
        """Creates an object in a collection; as the server made it."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: dict[str, Any], kind: str = "merge-patch") -> Any:
        """Changes an object."""
        return self.request("PATCH", path, body, kind=f"application/{kind}+json")

    def delete(self, path: str, **options: Any) -> None:
        """Deletes an object or a collection, which may be of thousands; gone is fine."""
        try:
            self.request("DELETE", path, options, timeout=120)
        except ApiFailed as error:
            if error.status != 404:
                raise

    def ok(self, path: str) -> bool:
        """Whether it answers this with a success."""
        try:
            self.request("GET", path, timeout=5)
        except (ApiFailed, OSError, http.client.HTTPException):
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        kind: str = "application/json",
        timeout: float = 30,
    ) -> Any:
        """One request.

        Raises:
            ApiFailed: The answer isn't a success.
        """
        if self.server.scheme == "https":
            wire: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.server.netloc, timeout=timeout, context=self._tls
            )
        else:
            wire = http.client.HTTPConnection(self.server.netloc, timeout=timeout)
        content = None if body is None else json.dumps(body)
        try:
            wire.request(method, path, content, {**self._headers, "Content-Type": kind})
            answer = wire.getresponse()
            said: Any = answer.read().decode(errors="replace")
            if "json" in answer.headers.get("Content-Type", ""):
                said = json.loads(said)
        finally:
            wire.close()
        if answer.status >= 300:
            raise ApiFailed(answer.status, said)
        return said

    def wait(
        self,
        path: str,
        until: Callable[[Any], Any],
        seconds: float = PATIENCE,
        every: float = 0.05,
    ) -> Any:
        """Looks until an object is as wanted; the object.

        Args:
            path: Of the object, or of a collection.
            until: Whether it is as wanted.
            seconds: For how long.
            every: Seconds between two looks.

        Raises:
            TimeoutError: It isn't in time; says what was there.
        """
        end, found = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                found = self.get(path)
                if until(found):
                    return found
            except ApiFailed as error:
                if error.status != 404:
                    raise
            time.sleep(every)
        raise TimeoutError(
            f"{path} doesn't become what was waited for: {json.dumps(found)[-1000:]}"
        )
