"""Calls to one Docker engine, and who it is.

Answers are read as JSON, by nobody's model of them, and every failure is one of three: the
engine can't be used (`RunnerUnavailable`), it doesn't answer (`BackendUnreachable`), or it
answers no (`Refused`).
"""

from __future__ import annotations

import os
import platform
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.container.http_stream import objects
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.docker import login, settings
from qwex_jupyter.runners.docker.endpoint import Endpoint, Refused, connect, find_endpoint, short
from qwex_jupyter.system import process, windows

# For an answer that makes a container, and between two lines of a pull: while a large layer is
# unpacked there are none. Seconds.
SLOW, _PULL = 120.0, 86400.0
# An engine that answered within this time is there; one that hangs is known after as long. Seconds.
_HEARD_FOR = 5.0
# So much of a file is read. Bytes.
_MOST_READ = 1 << 16
_PID_FILE = "/var/run/docker.pid"
# By how much the clock of an engine behind a local socket may seem to differ before it is taken
# for another. Seconds.
_SAME_CLOCK = 0.1
# For how long an engine is the one it was, where nothing depends on it.
_SAME_FOR = 20.0


class Engine:
    """Calls to one engine; opens its connections at first use, again after a fork.

    Args:
        context: The name of a context of the docker client; "" for the chosen one.
        patience: How long is waited for what.
    """

    def __init__(self, context: str = "", *, patience: Patience = Patience()) -> None:
        self._context, self.patience = context, patience
        self._lock = threading.RLock()
        self._client: Any = None
        self._owner = 0
        self._chosen: tuple[Any, ...] = ()
        self._identity: tuple[float, str] | None = None
        self._heard = float("-inf")  # when it answered last
        self._ahead = 0.0  # the engine's clock, before ours, seconds
        self._images: dict[str, dict[str, Any]] = {}
        self._started: tuple[int, float | None] | None = None
        self.podman = False
        self.endpoint = Endpoint("", "")
        # The folder of all that it keeps, where that is seen on this machine.
        self.folder = ""

    def client(self) -> Any:
        """docker-py's client of the engine that is chosen now.

        Raises:
            RunnerUnavailable: It can't be used: no socket, no permission, no such context.
            BackendUnreachable: It is there and doesn't answer.
        """
        chosen = settings.changed()
        with self._lock:
            if self._client is None or self._owner != os.getpid() or self._chosen != chosen:
                self._identity = None
                if self._client is not None and self._owner == os.getpid():
                    self._client.close()
                self._client = self._connect()
                self._owner, self._chosen = os.getpid(), chosen
            return self._client

    def _connect(self) -> Any:
        self.endpoint = endpoint = find_endpoint(self._context)
        client, components = connect(endpoint, self.patience.answer)
        self.podman = any("Podman" in str(part.get("Name")) for part in components)
        return client

    @property
    def _called(self) -> str:
        """How it is called in a sentence."""
        return f"The engine at {self.endpoint.shown}"

    def check(self) -> None:
        """Returns when it answers now, or did a moment ago.

        Raises:
            RunnerUnavailable, BackendUnreachable: See `client`.
        """
        self.client()
        if time.monotonic() - self._heard > _HEARD_FOR:
            try:
                self.call("GET", "/_ping", timeout=_HEARD_FOR)
            except Refused as error:
                raise BackendUnreachable(f"{self._called} is in trouble ({error}).") from error

    def close(self) -> None:
        """Closes the connections; the next call opens them again."""
        with self._lock:
            if self._client is not None and self._owner == os.getpid():
                self._client.close()
            self._client = None

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Any:
        """One call; requests' response.

        A question (GET) whose connection broke is asked once more; nothing else is. Without a
        timeout it is one that costs the engine little.

        Raises:
            Refused: The engine says no.
            RunnerUnavailable, BackendUnreachable: See `client`. Whether the call was carried
                out isn't known then.
        """
        import requests
        import urllib3

        quick = self.patience.answer
        for attempt in (1, 2):
            client = self.client()
            url = f"{client.base_url}/v{client.api_version}{path}"
            try:
                answer = client.request(
                    method,
                    url,
                    params=params,
                    json=body,
                    data=data,
                    headers=headers,
                    timeout=(quick, quick if timeout is None else timeout),
                    stream=stream,
                )
                break
            except QwexError:
                raise
            except Exception as error:
                broken = isinstance(error, requests.ConnectionError) or windows.is_of_pipe(error)
                if method == "GET" and attempt == 1 and broken:
                    continue
                silent = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
                said = f"({short(error)})"
                if broken or isinstance(error, silent):
                    raise BackendUnreachable(f"{self._called} doesn't answer {said}.") from error
                raise RunnerUnavailable(
                    f"{self._called} can't be asked {said}: mend the docker client's settings."
                ) from error
        self._heard = time.monotonic()
        if answer.status_code >= 400:
            try:
                text = str(answer.json().get("message") or answer.text)
            except (ValueError, AttributeError):
                text = answer.text
            raise Refused(answer.status_code, text.strip())
        return answer

    def ask(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a GET answers; see `call`. Overload is not an answer.

        Raises:
            BackendUnreachable: Also for 429 and 5xx: nothing follows from those.
        """
        try:
            answer = self.call("GET", path, params=params)
        except Refused as error:
            if error.status == 429 or error.status >= 500:
                raise BackendUnreachable(f"{self._called} is in trouble ({error}).") from error
            raise
        try:
            return answer.json()
        except ValueError as error:
            raise BackendUnreachable(
                f"{self._called} answered with something else than JSON."
            ) from error

    def inspect(self, name: str) -> dict[str, Any] | None:
        """A container as the engine describes it; None when there is none of that name."""
        try:
            found: dict[str, Any] = self.ask(f"/containers/{name}/json")
        except Refused as error:
            if error.status == 404:
                return None
            raise BackendUnreachable(f"{self._called} says {error}.") from error
        return found

    def read(self, name: str, path: str) -> str:
        """A small file in a container, which may have ended; "" where it can't be had."""
        try:
            answer = self.call(
                "GET", f"/containers/{name}/archive", params={"path": path}, stream=True
            )
            # Docker's engines compress it, as the library lets them.
            with answer, tarfile.open(fileobj=answer.raw, mode="r|*") as tar:
                entry = tar.next()
                file = tar.extractfile(entry) if entry is not None and entry.isreg() else None
                return file.read(_MOST_READ).decode("utf-8", "replace") if file else ""
        except Exception:  # noqa: BLE001 - it is gone, or cut: what it would have said isn't needed
            return ""

    def image(self, name: str) -> dict[str, Any]:
        """An image as the engine describes it; {} when it has none of that name."""
        if name not in self._images:
            try:
                found: dict[str, Any] = self.ask(f"/images/{name}/json")
            except Refused:
                return {}
            if not name.startswith("sha256:"):
                return found  # what a tag means may change
            self._images[name] = found
        return self._images[name]

    def digest(self, image_id: str) -> str:
        """By what a registry knows an image; its id where none does, or the engine doesn't say."""
        try:
            digests = self.image(image_id).get("RepoDigests") or []
        except BackendUnreachable:
            digests = []
        return str(digests[0]).rpartition("@")[2] if digests else image_id

    def info(self) -> dict[str, Any]:
        """What the engine says of itself."""
        try:
            found: dict[str, Any] = self.ask("/info")
        except Refused as error:
            raise BackendUnreachable(f"{self._called} says {error}.") from error
        return found

    def identity(self, *, fresh: bool = False) -> str:
        """Which engine this is: id, name and root folder; of Podman, whose id changes, without.

        Two engines of one machine may have the same id (``/etc/docker/key.json``), so the id
        alone would not do.

        Args:
            fresh: It is asked now, because something depends on it.
        """
        self.client()
        now = time.monotonic()
        if fresh or self._identity is None or now - self._identity[0] > _SAME_FOR:
            before = time.time()
            info = self.info()
            said = moment(info.get("SystemTime"))
            after = time.time()
            same = self.endpoint.path and abs((said or 0.0) - (before + after) / 2) < _SAME_CLOCK
            # Never later than it was when the question came: what ends from now on ends after.
            self._ahead = 0.0 if said is None or same else said - after
            name, root = info.get("Name", ""), info.get("DockerRootDir", "")
            # A socket may lead to another machine, or into a virtual one.
            self.folder = root if self.endpoint.path and name == platform.node() else ""
            known = f"podman/{name}" if self.podman else f"{name}/{info.get('ID', '')}"
            self._identity = (now, f"docker://{known}{root}")
        return self._identity[1]

    def clock(self) -> float:
        """The engine's time now, seconds since the epoch, as near as it can be told."""
        self.identity()
        if self._ahead:
            self.identity(fresh=True)
        return self.now()

    def now(self) -> float:
        """The engine's time, by how far its clock was ahead of ours when it was last asked."""
        if self._identity is None:
            self.identity()
        return time.time() + self._ahead

    def shares_files(self) -> bool:
        """Whether paths of this process are those of the engine, as far as that can be told.

        It can where the process behind its socket is seen and lives in the same mount namespace.
        """
        try:
            path = (self.endpoint if self.endpoint.host else find_endpoint(self._context)).path
            pid = _listener(path) if path else None
            mine = os.readlink("/proc/self/ns/mnt")
            return pid is not None and os.readlink(f"/proc/{pid}/ns/mnt") == mine
        except (OSError, RunnerUnavailable):
            return False

    def started_at(self) -> float | None:
        """When the process behind a local socket began, seconds since the epoch, if it can be told.

        Podman's isn't asked for: its containers have a process of their own to witness their end.
        Found by SO_PEERCRED, unix(7): the process that listens; where that is systemd, by
        Docker's own pid file.
        """
        if self.podman or not self.endpoint.path or not hasattr(socket, "SO_PEERCRED"):
            return None
        pid = _listener(self.endpoint.path)
        if pid == 1:
            pid = _pid_in(_PID_FILE)  # systemd listened before the engine was there
        if pid is None:
            return None
        if self._started is None or self._started[0] != pid:
            self._started = (pid, process.began_at(pid))
        return self._started[1]

    def pull(self, image: str, platform: str = "") -> Iterator[dict[str, Any]]:
        """Has the engine get an image, with the user's credentials; yields what it tells.

        Args:
            image: Its name.
            platform: For which system and processor; "" for the engine's own.

        Raises:
            Refused: There is no such image, or no access.
            RunnerUnavailable: The credentials can't be got.
            BackendUnreachable: The connection broke.
        """
        name, tag = login.reference(image)
        params = {"fromImage": name, "tag": tag, **({"platform": platform} if platform else {})}
        headers = login.header(image)
        reply = self.call(
            "POST", "/images/create", params=params, headers=headers, timeout=_PULL, stream=True
        )
        try:
            yield from objects(reply.raw)
        except (EOFError, OSError, ValueError) as error:
            raise BackendUnreachable(f"The engine went away ({short(error)}).") from error
        finally:
            reply.close()


def _listener(path: str) -> int | None:
    """The process that listens at a socket, SO_PEERCRED of unix(7); None where it isn't seen."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    return int(struct.unpack("3i", raw)[0]) or None


def _pid_in(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
