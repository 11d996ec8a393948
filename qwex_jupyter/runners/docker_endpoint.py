"""Where a Docker engine is, and a connection to it, by the rules of the docker client.

docker-py knows contexts, certificates and credentials; this is the only room that imports it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable

_SOCKETS = (
    "/var/run/docker.sock",
    "{runtime}/docker.sock",
    "~/.docker/run/docker.sock",
    "~/.docker/desktop/docker.sock",
    "~/.colima/default/docker.sock",
    "~/.orbstack/run/docker.sock",
    "{runtime}/podman/podman.sock",
    "/run/podman/podman.sock",
)
_OTHERS = (
    "or leave --image out and run it here (local; for all cells: %config Qwex.runner = 'local')"
)


class Refused(Exception):
    """The engine answered no.

    Args:
        status: The HTTP status.
        text: Its message.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(f"{status}: {text}")


@dataclass(frozen=True)
class Endpoint:
    """Where an engine is.

    Attributes:
        host: ``unix:///var/run/docker.sock``, ``tcp://...`` or ``ssh://...``.
        why: What chose it, in words.
        tls: docker-py's TLS settings, or False.
    """

    host: str
    why: str
    tls: Any = False

    @property
    def path(self) -> str:
        """The path of a socket on this machine, "" for an engine elsewhere."""
        return self.host.removeprefix("unix://") if self.host.startswith("unix://") else ""


def find_endpoint(context: str = "") -> Endpoint:
    """Where the engine is, by the rules of the docker client, and then where others put it.

    A context that is named, DOCKER_HOST, DOCKER_CONTEXT, the current context
    (``docker context use``), the socket of Docker, rootless Docker, Docker Desktop, Podman.

    Args:
        context: The name of a context of the docker client.

    Raises:
        RunnerUnavailable: There is no such context, or no socket anywhere.
    """
    try:
        from docker import context as contexts
        from docker.context.config import get_current_context_name
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env
    except ImportError as error:
        raise RunnerUnavailable(
            f"The Python package docker can't be imported ({error}): pip install -U docker, "
            f"{_OTHERS}."
        ) from error
    try:
        if not context and os.environ.get("DOCKER_HOST"):
            found = kwargs_from_env()
            return Endpoint(_whole(found["base_url"]), "DOCKER_HOST", found.get("tls", False))
        name = context or os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
        if name != "default":
            chosen = contexts.ContextAPI.get_context(name)
            if chosen is None:
                raise RunnerUnavailable(
                    f"There is no Docker context {name!r} here: docker context ls lists them; "
                    "name one of those, or leave --context out."
                )
            return Endpoint(_whole(chosen.Host), f"the context {name}", chosen.TLSConfig or False)
    except (DockerException, OSError, ValueError, KeyError) as error:
        raise RunnerUnavailable(
            f"The settings of the docker client can't be used ({error}): mend DOCKER_HOST or "
            f"the context, {_OTHERS}."
        ) from error
    return _default_socket()


def _default_socket() -> Endpoint:
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    paths = [os.path.expanduser(path.format(runtime=runtime)) for path in _SOCKETS]
    there = [path for path in paths if os.path.exists(path)]
    for path in there:
        if _answers(path):
            return Endpoint(f"unix://{path}", "its socket")
    if there:
        return Endpoint(f"unix://{there[0]}", "its socket")
    raise RunnerUnavailable(
        f"No Docker here: there is no socket at {paths[0]}, nor where Docker Desktop, rootless "
        "Docker or Podman have theirs. Start Docker, or point DOCKER_HOST or docker context use "
        f"at one, {_OTHERS}."
    )


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _whole(host: str) -> str:
    return f"unix://{host}" if host.startswith("/") else host


def connect(endpoint: Endpoint, timeout: float) -> tuple[Any, list[Any]]:
    """A connection of docker-py's, and what the engine consists of (``/version``).

    Args:
        endpoint: Where the engine is.
        timeout: Seconds for an answer.

    Raises:
        RunnerUnavailable: It can't be used: no socket, no permission, nothing listens.
        BackendUnreachable: It is there and doesn't answer.
    """
    import docker
    import requests

    if endpoint.path and not os.path.exists(endpoint.path):
        raise RunnerUnavailable(
            f"No Docker at {endpoint.host} (by {endpoint.why}): there is no such socket. "
            f"Start the engine, {_OTHERS}."
        )
    try:
        client = docker.APIClient(
            base_url=endpoint.host,
            tls=endpoint.tls,
            version="auto",
            timeout=timeout,
            use_ssh_client=endpoint.host.startswith("ssh://"),
            max_pool_size=32,
        )
        components = client.version().get("Components") or []
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise _cannot_connect(endpoint, error) from error
    return client, components


def pull(client: Any, image: str) -> Iterator[dict[str, Any]]:
    """Has an engine get an image; yields what it tells on the way. See `Engine.pull`."""
    import docker
    import requests
    import urllib3

    timeout = client.timeout
    try:
        client.timeout = None  # minutes may pass between two lines
        yield from client.pull(image, stream=True, decode=True)
    except docker.errors.APIError as error:
        raise Refused(error.status_code or 500, str(error.explanation or error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise BackendUnreachable(f"The engine went away ({short(error)}).") from error
    finally:
        client.timeout = timeout


def settings_changed() -> float:
    """When the docker client's settings last changed: ``docker context use`` writes there."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        return os.stat(os.path.join(folder, "config.json")).st_mtime
    except OSError:
        return 0.0


def _cannot_connect(endpoint: Endpoint, error: Exception) -> Exception:
    text = str(error)
    where = f"the Docker engine at {endpoint.host} (by {endpoint.why})"
    if "SSHHTTPAdapter" in text or "paramiko" in text:
        return RunnerUnavailable(
            f"To reach {where}, docker's Python package needs one more: pip install paramiko."
        )
    if "Permission denied" in text:
        return RunnerUnavailable(
            f"You may not use {where}: permission denied. Have an administrator add you to the "
            "group docker (sudo usermod -aG docker $USER) and log in again, or use rootless "
            f"Docker or Podman, {_OTHERS}."
        )
    if "Connection refused" in text:
        return RunnerUnavailable(
            f"Nothing listens where {where} should be: start it (sudo systemctl start docker, or "
            f"Docker Desktop), {_OTHERS}."
        )
    if endpoint.host.startswith("ssh:"):
        return RunnerUnavailable(
            f"By ssh {where} can't be reached ({short(error)}): try ssh to that host first."
        )
    if any(word in text for word in ("CERTIFICATE", "certificate", "TLS", "SSL")):
        return RunnerUnavailable(
            f"With these certificates {where} can't be used ({short(error)}): check "
            "DOCKER_CERT_PATH and DOCKER_TLS_VERIFY."
        )
    return BackendUnreachable(
        f"No answer from {where} ({short(error)}); it is asked again. See docker info."
    )


def short(error: BaseException) -> str:
    """The innermost cause of requests' nested errors, without object addresses."""
    while True:
        inner = (
            error.__cause__
            or error.__context__
            or next((a for a in error.args if isinstance(a, BaseException)), None)
        )
        if inner is None:
            break
        error = inner
    text = " ".join(str(error).split())
    return (text[:200] or type(error).__name__).rstrip(".")
