"""Calls to one Kubernetes API server.

Answers are read as JSON, by nobody's model of them (a field that is missing would make the
kubernetes client's models refuse a whole list), and every failure is one of three: the cluster
can't be used (`RunnerUnavailable`), it doesn't answer (`BackendUnreachable`), or it answers no
(`Refused`).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.text import one_line
from qwex_jupyter.runners.container.times import ServerTime
from qwex_jupyter.runners.k8s import settings
from qwex_jupyter.runners.k8s.refusals import AWAY, Refused, impersonates
from qwex_jupyter.runners.k8s.settings import Access, Where, words_of

# A server that answered within this time is there; one that hangs is known after as long. Seconds.
HEARD_FOR = 5.0
# A list is asked for in pages of this many objects.
_PAGE = 500
# Who a request is of whose credentials' plugin failed: the client sends it without any.
_NOBODY = '"system:anonymous"'


@dataclass(frozen=True)
class Reply:
    """An answer that was read to its end."""

    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        """Its content.

        Raises:
            BackendUnreachable: It is something else: a proxy's page, half an answer.
        """
        try:
            return json.loads(self.data)
        except ValueError as error:
            raise BackendUnreachable(
                "The API server answered with something else than JSON."
            ) from error


class Cluster:
    """Calls to one cluster; opens its connections at first use, again after a fork.

    Args:
        context: A context of the kubeconfig; "" for the current one, or the service account of
            this pod.
        namespace: Where runs go; "" for the context's.
        patience: How long is waited for what.
    """

    def __init__(
        self, context: str = "", namespace: str = "", *, patience: Patience = Patience()
    ) -> None:
        self._context, self._namespace, self.patience = context, namespace, patience
        self._lock = threading.RLock()
        self._access: Access | None = None
        self._made_of: tuple[Any, ...] = ()
        self._heard = self._opened_at = -60.0
        # When it was asked in vain whether it lives, and what is said of that.
        self._silent = (-60.0, "")
        self._time = ServerTime()
        self._where = Where()

    @property
    def where(self) -> Where:
        """Which cluster and namespace; what the settings say now.

        Raises:
            RunnerUnavailable: They say nothing that can be used.
        """
        with self._lock:
            self._open()
            return self._where

    def _open(self, *, again: bool = False) -> Access:
        """Reads the settings, anew when they have changed or a login has run out."""
        access, made_of = self._access, (os.getpid(), *settings.made_of())
        if access and not again and made_of == self._made_of and time.time() < access.expires:
            return access
        access = settings.opened(self._context, self._namespace)
        if access.where != self._where:
            self._time = ServerTime()  # another server's clock
        self._access, self._where = access, access.where
        self._made_of, self._heard, self._opened_at = made_of, -60.0, time.monotonic()
        return access

    def path(self, kind: str, name: str = "") -> str:
        """The path of a kind of object in this namespace, like ``jobs`` or ``pods``."""
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        path = f"{group}/namespaces/{self.where.namespace}/{kind}"
        return f"{path}/{name}" if name else path

    def check(self) -> None:
        """Returns when it answers now, or did a moment ago.

        Raises:
            RunnerUnavailable, BackendUnreachable: It can't be used.
        """
        with self._lock:
            self._open()
        now, (silent, why) = time.monotonic(), self._silent
        if now - self._heard <= HEARD_FOR:
            return
        if now - silent <= HEARD_FOR and silent > self._heard:
            raise BackendUnreachable(why)  # as somebody was told a moment ago
        self.ping(HEARD_FOR)

    def ping(self, timeout: float) -> None:
        """Asks whether it lives; that we may not ask this is an answer too.

        Raises:
            RunnerUnavailable, BackendUnreachable: See `call`.
        """
        try:
            self.call("GET", "/version", timeout=timeout)
        except BackendUnreachable as error:
            self._silent = time.monotonic(), str(error)
            raise
        except Refused as error:
            self._raise_trouble(error)

    def _raise_trouble(self, error: Refused) -> None:
        """Raises a no that says nothing: of an overloaded server, or of a proxy."""
        if error.status >= 500 or error.status in AWAY:
            raise BackendUnreachable(f"{self.called} is in trouble ({error}).") from error

    @property
    def called(self) -> str:
        """How it is called in a sentence."""
        return f"The API server at {self._where.shown or 'this address'}"

    def close(self) -> None:
        """Closes the connections; the next call opens them again."""
        with self._lock:
            if self._access is not None and self._made_of[:1] == (os.getpid(),):
                self._access.pool.clear()
            self._access = None

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Reply:
        """One call, with its answer read to the end.

        A question (GET) whose connection broke is asked once more; nothing else is, nor what
        nobody answered in time. Credentials that are refused are renewed once. Without a
        timeout it is one that costs the server little.

        Raises:
            Refused: The server says no.
            RunnerUnavailable: Nobody may call it like this: no settings, no login.
            BackendUnreachable: It doesn't answer. Whether the call was carried out isn't known.
        """
        timeout = self.patience.answer if timeout is None else timeout
        for attempt in (1, 2):
            try:
                reply = self._request(method, path, params, body, timeout)
                data = bytes(reply.read())
                reply.release_conn()
                break
            except BackendUnreachable as error:
                broke = error.__cause__  # None: something in between answered
                if method != "GET" or attempt == 2 or broke is None or _is_late(broke):
                    raise
            except Exception as error:
                broken = self._broken(error)
                if method != "GET" or attempt == 2 or _is_late(error):
                    raise broken from error
        return Reply(reply.headers, data)

    def stream(self, path: str, params: Mapping[str, Any], timeout: float) -> Any:
        """An answer that goes on: urllib3's response, to be read by `http_stream.body`.

        Args:
            path: What is asked for.
            params: The query.
            timeout: Seconds without anything, after which reading it raises TimeoutError.

        Raises:
            Refused, RunnerUnavailable, BackendUnreachable: See `call`.
        """
        return self._request("GET", path, params, None, timeout)

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: Any, timeout: float
    ) -> Any:
        """urllib3's response, not read yet; a refusal is read and raised."""
        began = time.monotonic()
        for attempt in (1, 2):
            reply = self._send(method, path, params, body, timeout)
            page = str(reply.headers.get("Content-Type", "")).startswith("text/html")
            if reply.status < 300 and not page:
                return reply
            error = self._refusal(reply)
            if error.status != 401 and _NOBODY not in error.text:
                raise error
            if attempt == 1:
                with self._lock:
                    # A token or a plugin's credentials have run out; one of many renews them.
                    self._open(again=self._opened_at < began)
        raise RunnerUnavailable(
            f"{self.called} doesn't accept your login (401, by {self._where.why}): log in "
            "again as for kubectl; runs go on meanwhile."
        )

    def _refusal(self, reply: Any) -> Refused:
        """A no, read to its end.

        Raises:
            BackendUnreachable: It is none of the API server's, and says nothing.
        """
        try:
            data = reply.read()
        except Exception as error:
            raise self._broken(error) from error
        reply.release_conn()
        if reply.status < 400:
            raise BackendUnreachable(
                f"Something before {self.called[0].lower()}{self.called[1:]} answers in its place "
                f"({reply.status}, like a page for a login or an error)."
            )
        reason, text = "", data.decode("utf-8", "replace").strip()
        try:
            said = json.loads(data)
            if said.get("kind") == "Status":
                reason, text = str(said.get("reason", "")), str(said.get("message", ""))
        except (ValueError, AttributeError):
            pass  # a proxy's page
        return Refused(reply.status, reason, text)

    def _send(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: Any, timeout: float
    ) -> Any:
        import urllib3

        with self._lock:
            access = self._open()
            headers = access.headers()
        headers["Accept"] = "application/json"
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False).encode()
            merge = method == "PATCH"
            headers["Content-Type"] = f"application/{'merge-patch+' if merge else ''}json"
        url = f"{access.where.host}{path}" + (f"?{urlencode(params)}" if params else "")
        before = time.time()
        try:
            reply = access.pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=self.patience.answer, read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except Exception as error:
            raise self._broken(error) from error
        if reply.status < 500 and reply.status not in AWAY:  # others may be a proxy's alone
            self._heard = time.monotonic()
            self._time.learn(reply.headers.get("Date", ""), before, time.time())
        return reply

    def _broken(self, error: Exception) -> BackendUnreachable | RunnerUnavailable:
        """What an error of the network, or of what asks there, is for us; ours are raised on."""
        import urllib3

        if isinstance(error, QwexError | Refused):
            raise error
        if not isinstance(error, urllib3.exceptions.HTTPError | OSError):
            return RunnerUnavailable(
                f"With the settings of kubectl {self.called[0].lower()}{self.called[1:]} can't be "
                f"asked ({words_of(error)}): mend them, see kubectl config view."
            )
        return BackendUnreachable(f"{self.called} doesn't answer ({words_of(error)}).")

    def ask(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON that a GET answers; see `call`. Overload is not an answer.

        Raises:
            BackendUnreachable: Also for 429 and 5xx: nothing follows from those.
        """
        try:
            found = self.call("GET", path, params=params).json()
        except Refused as error:
            self._raise_trouble(error)
            raise
        if not isinstance(found, dict):
            raise BackendUnreachable(f"{self.called} answered with something else than an object.")
        return found

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object; None where the API server says that there is none of that name."""
        try:
            found = self.ask(self.path(kind, name))
        except Refused as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise self.forbidden(error, "get", kind) from error
        if (found.get("metadata") or {}).get("name") != name:
            raise BackendUnreachable(f"{self.called} answered with something else than {name}.")
        return found

    def pages(self, kind: str, selector: str) -> Iterator[dict[str, Any]]:
        """The lists that together hold all objects of a kind with those labels.

        Raises:
            Refused: 410: the list became too old between two pages; begin again.
        """
        params: dict[str, Any] = {"labelSelector": selector, "limit": _PAGE}
        while True:
            try:
                page = self.ask(self.path(kind), params)
            except Refused as error:
                if error.status == 410:
                    raise
                raise self.forbidden(error, "list", kind) from error
            if not str(page.get("kind")).endswith("List"):
                raise BackendUnreachable(f"{self.called} answered with something else than a list.")
            yield page
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return
            params["continue"] = more

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """All objects of a kind with those labels."""
        try:
            return [item for page in self.pages(kind, selector) for item in page.get("items") or []]
        except Refused as error:
            raise BackendUnreachable(f"{self.called} lists no {kind} ({error}).") from error

    def forbidden(self, error: Refused, verb: str, kind: str) -> BackendUnreachable:
        """A no to a question, which says nothing of any run."""
        if impersonates(error):
            return BackendUnreachable(self.acting(error))
        if error.status == 403:
            return BackendUnreachable(
                f"You may not {verb} {kind} in the namespace {self._where.namespace}: "
                "%qwex doctor prints the Role that is missing."
            )
        return BackendUnreachable(f"{self.called} answers {error}.")

    def acting(self, error: Refused) -> str:
        """That somebody may not be acted as, as cause and next step."""
        someone = dict(self._access.acts_as if self._access else ()).get("Impersonate-User")
        return (
            f"The kubeconfig acts as {someone} (by {self._where.why}), and you may not: "
            f"{one_line(error.text)}. Take its as: out, or ask for the right to impersonate."
        )

    def now(self) -> float:
        """The server's time, by how far its clock was ahead of ours when it last answered."""
        return self._time.now()

    def clock(self) -> float:
        """The server's time now, asked; never later than it was.

        Raises:
            BackendUnreachable, RunnerUnavailable: It doesn't answer.
        """
        self.ping(HEARD_FOR)
        return self._time.earliest()


def unsent(error: BackendUnreachable) -> bool:
    """Whether there was no connection, so that nothing can have been carried out."""
    import urllib3

    none = urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
    return isinstance(error.__cause__, none)


def _is_late(error: BaseException | None) -> bool:
    """Whether nobody answered in time: who asks again waits as long again."""
    import urllib3

    return isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError)
