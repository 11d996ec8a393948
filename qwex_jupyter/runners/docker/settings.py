"""The settings of the docker client: its ``config.json``, its contexts, and its variables.

See https://docs.docker.com/reference/cli/docker/. docker-py finds contexts only beside a
``config.json``, and takes one that it can't read for none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.errors import RunnerUnavailable, SpecError
from qwex_jupyter.model.text import without_secrets
from qwex_jupyter.runners.container.proxies import has_a_port
from qwex_jupyter.system import windows

_PLATFORM = re.compile(r"\w+(/[\w.]+){0,2}", re.ASCII)
# What an engine's address may begin with, as the docker client has it.
_SCHEMES = ("unix://", "tcp://", "ssh://", "http://", "https://", "/")
# The variables that the docker client gives to a container, and what they are called in the file.
_PROXIES = {
    "HTTP_PROXY": "httpProxy",
    "HTTPS_PROXY": "httpsProxy",
    "FTP_PROXY": "ftpProxy",
    "NO_PROXY": "noProxy",
    "ALL_PROXY": "allProxy",
}
# What is false to strconv.ParseBool, https://pkg.go.dev/strconv: all else has signatures checked.
_UNTRUSTING = ("0", "f", "F", "false", "False", "FALSE")


@dataclass(frozen=True)
class Context:
    """A context of the docker client.

    Attributes:
        host: Where its engine is; "" for the socket of this machine.
        verify: Whether the engine's certificate is checked.
        tls: The paths of ``ca``, ``cert`` and ``key``, those that there are.
    """

    host: str
    verify: bool
    tls: Mapping[str, str]


def folder() -> str:
    """Where they lie."""
    return os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")


def changed() -> tuple[Any, ...]:
    """What the choice of an engine is made of: when it changes, it is made anew."""
    tls = ("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
    names = ("DOCKER_HOST", "DOCKER_CONTEXT", *tls)
    try:
        stamp = os.stat(os.path.join(folder(), "config.json")).st_mtime_ns
    except OSError:
        stamp = 0
    return (folder(), stamp, *map(os.environ.get, names))


def content() -> dict[str, Any]:
    """What stands in ``config.json``; {} where there is none.

    Raises:
        RunnerUnavailable: It can't be read.
    """
    path = os.path.join(folder(), "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RunnerUnavailable(f"{path} can't be read ({error.strerror}): mend that.") from error
    except ValueError as error:
        raise RunnerUnavailable(
            f"{path}, the docker client's settings, isn't JSON ({error}): mend it, or move it away."
        ) from error
    if not isinstance(found, dict):
        raise RunnerUnavailable(f"{path} holds no settings of the docker client: mend it.")
    return found


def chosen() -> str:
    """The name of the context that is chosen (``docker context use``), or ``default``."""
    return os.environ.get("DOCKER_CONTEXT") or str(content().get("currentContext") or "default")


def context(name: str) -> Context | None:
    """A context; None where there is none of that name.

    Raises:
        RunnerUnavailable: What is written of it can't be read.
    """
    key = hashlib.sha256(name.encode()).hexdigest()
    path = os.path.join(folder(), "contexts", "meta", key, "meta.json")
    try:
        with open(path, encoding="utf-8") as file:
            engine = json.load(file)["Endpoints"]["docker"]
        host, verify = str(engine.get("Host") or ""), not engine.get("SkipTLSVerify")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerUnavailable(
            f"The Docker context {name!r} can't be read ({path}: {error}): docker context rm "
            f"{name}, and make it anew."
        ) from error
    tls = certificates(os.path.join(folder(), "contexts", "tls", key, "docker"))
    return Context(host, verify, tls)


def certificates(folder: str) -> dict[str, str]:
    """The paths of ``ca``, ``cert`` and ``key`` in a folder, those that there are."""
    paths = {part: os.path.join(folder, f"{part}.pem") for part in ("ca", "cert", "key")}
    return {part: path for part, path in paths.items() if os.path.exists(path)}


def address(host: str, by: str) -> str:
    """An engine's address as docker-py takes it.

    Args:
        host: What is set.
        by: What sets it, in words.

    Raises:
        RunnerUnavailable: It is none. What logs in isn't shown.
    """
    schemes = (*_SCHEMES, "npipe://") if windows.HERE else _SCHEMES
    if not host.startswith(schemes) or host.endswith("://") or not has_a_port(host):
        shown = without_secrets(host)
        if "://" not in shown:
            shown = re.sub("^.*@", "***@", shown)
        raise RunnerUnavailable(
            f"{shown!r} (by {by}) is no address of an engine: write "
            "unix:///var/run/docker.sock, tcp://HOST:PORT or ssh://USER@HOST."
        )
    return f"unix://{host}" if host.startswith("/") else host


def headers() -> dict[str, str]:
    """What every call carries besides (``HttpHeaders``).

    Raises:
        RunnerUnavailable: The settings can't be read, or these are none.
    """
    found = content().get("HttpHeaders") or {}
    if isinstance(found, dict) and all(
        isinstance(value, str) and value.isprintable() for words in found.items() for value in words
    ):
        return found
    raise RunnerUnavailable(
        f"HttpHeaders in {os.path.join(folder(), 'config.json')} must be names with texts of one "
        "line: mend them."
    )


def refuse_unsigned(image: str) -> None:
    """Refuses an image whose signature the docker client would look at (``DOCKER_CONTENT_TRUST``).

    Raises:
        SpecError: It would, and nobody here can.
    """
    said = os.environ.get("DOCKER_CONTENT_TRUST", "")
    if said and said not in _UNTRUSTING and "@sha256:" not in image:
        raise SpecError(
            f"DOCKER_CONTENT_TRUST={said}, and signatures of images aren't looked at here: name "
            "the image by its digest (NAME@sha256:...), or unset that."
        )


def proxies(host: str) -> dict[str, str]:
    """The variables by which the settings have containers go through a proxy.

    As for ``docker run`` in either case, since programs differ in which they read.

    Args:
        host: The engine's address: its own entry goes before the default one.

    Raises:
        RunnerUnavailable: The settings can't be read.
    """
    known = content().get("proxies")
    if not isinstance(known, dict):
        return {}
    found = known.get(host) or known.get("default") or {}
    values = {ours: found.get(theirs) for ours, theirs in _PROXIES.items()}
    return {
        spelled: str(value)
        for name, value in values.items()
        if value
        for spelled in (name, name.lower())
    }


def platform(option: str) -> str:
    """For which system and processor an image is to be; "" for the engine's own.

    Args:
        option: ``--platform``; else ``DOCKER_DEFAULT_PLATFORM`` counts.

    Raises:
        SpecError: It is none.
    """
    word = option or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    if word and not _PLATFORM.fullmatch(word):
        by = "--platform=" if option else "DOCKER_DEFAULT_PLATFORM="
        raise SpecError(f"{by}{word}: write a system and a processor, like linux/arm64.")
    return word.lower()
