"""Where a Docker engine is, and a connection to it, by the rules of the docker client.

docker-py knows sockets, ssh and certificates.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable
from qwex_jupyter.model.text import without_secrets
from qwex_jupyter.runners.container import clients
from qwex_jupyter.runners.container.proxies import proxy_for
from qwex_jupyter.runners.docker import settings
from qwex_jupyter.system import windows

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
# Where Docker Desktop listens on Windows.
_PIPE = "npipe:////./pipe/docker_engine"
_OTHERS = (
    "or leave --image out and run it here (local; for all cells: %config Qwex.runner = 'local')"
)
if windows.HERE:  # which runs nothing itself: that would be refused, too
    _OTHERS = "or take a cluster: --runner=k8s"


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
    def shown(self) -> str:
        """The address as a text has it: without what logs in there."""
        return without_secrets(self.host)

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
    clients.load("docker", _OTHERS)
    try:
        if not context and (host := os.environ.get("DOCKER_HOST")):
            host = settings.address(host, "DOCKER_HOST")
            return Endpoint(host, "DOCKER_HOST", _tls_of_variables())
        name = context or settings.chosen()
        if name == "default":
            return _default_socket()
        found = settings.context(name)
        if found is None:
            raise RunnerUnavailable(
                f"There is no Docker context {name!r} here: docker context ls lists them; "
                "name one of those, or leave --context out."
            )
        if not found.host:
            return _default_socket()
        why = f"the context {name}"
        return Endpoint(
            settings.address(found.host, why),
            why,
            _tls(found.tls, found.verify) if found.tls else False,
        )
    except QwexError:
        raise
    except Exception as error:
        # What is wrong with addresses and certificates, the library says in many ways.
        raise RunnerUnavailable(
            f"The settings of the docker client can't be used ({short(error)}): mend DOCKER_HOST "
            f"or the context, {_OTHERS}."
        ) from error


def _tls_of_variables() -> Any:
    """docker-py's TLS settings for DOCKER_HOST; False without DOCKER_TLS and DOCKER_TLS_VERIFY."""
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not os.environ.get("DOCKER_TLS"):
        return False
    folder = os.environ.get("DOCKER_CERT_PATH") or settings.folder()
    # Without an authority nothing could be verified: the library says that it isn't there.
    needed = {"ca": os.path.join(folder, "ca.pem")} if verify else {}
    return _tls({**settings.certificates(folder), **needed}, verify)


def _tls(paths: Mapping[str, str], verify: bool) -> Any:
    from docker.tls import TLSConfig

    pair = (paths["cert"], paths["key"]) if {"cert", "key"} <= set(paths) else None
    return TLSConfig(client_cert=pair, ca_cert=paths.get("ca"), verify=verify)


def _default_socket() -> Endpoint:
    if windows.HERE:
        return Endpoint(_PIPE, "its pipe")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    paths = [os.path.expanduser(path.format(runtime=runtime)) for path in _SOCKETS]
    there = [path for path in paths if os.path.exists(path)]
    if there:
        return Endpoint(f"unix://{next(filter(_answers, there), there[0])}", "its socket")
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
            f"No Docker at {endpoint.shown} (by {endpoint.why}): there is no such socket. "
            f"Start the engine, {_OTHERS}."
        )
    try:
        # Which version of the API it has, an engine says by any of them.
        client = _client(endpoint, docker.constants.MINIMUM_DOCKER_API_VERSION, timeout)
        try:
            about = client.version(api_version=False)
        finally:
            client.close()
        return _client(endpoint, about["ApiVersion"], timeout), about.get("Components") or []
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise _cannot_connect(endpoint, error) from error
    except QwexError:
        raise
    except Exception as error:
        if windows.is_of_pipe(error):
            raise RunnerUnavailable(
                f"No Docker at {endpoint.shown} (by {endpoint.why}): {short(error)}. Start Docker "
                f"Desktop, or point DOCKER_HOST or docker context use at an engine, {_OTHERS}."
            ) from error
        raise RunnerUnavailable(
            "The settings of the docker client can't be used "
            f"({short(error)}): mend config.json in {settings.folder()}, {_OTHERS}."
        ) from error


def _client(endpoint: Endpoint, version: str, timeout: float) -> Any:
    """docker-py's client, which goes through a proxy where the docker client would."""
    import docker

    client = docker.APIClient(
        base_url=endpoint.host,
        tls=endpoint.tls,
        version=version,
        timeout=timeout,
        use_ssh_client=endpoint.host.startswith("ssh://"),
        max_pool_size=32,
    )
    client.trust_env = False
    if endpoint.tls and not endpoint.tls.verify:
        clients.unwarned(endpoint.host)
    client.headers.update(settings.headers())
    if endpoint.host.startswith(("tcp://", "http")):
        scheme = "https" if endpoint.tls else "http"
        proxy = proxy_for(f"{scheme}://{endpoint.host.partition('://')[2]}")
        client.proxies = {"http": proxy, "https": proxy} if proxy else {}
    return client


def _cannot_connect(endpoint: Endpoint, error: Exception) -> Exception:
    text = str(error)
    where = f"the Docker engine at {endpoint.shown} (by {endpoint.why})"
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
    return BackendUnreachable(f"No answer from {where} ({short(error)}): see docker info.")


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
    text = without_secrets(" ".join(str(error).split()))
    return (text[:200] or type(error).__name__).rstrip(".")
