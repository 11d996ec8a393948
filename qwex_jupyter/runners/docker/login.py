"""The login that a registry is shown when an image is pulled, as the docker client has it.

See https://docs.docker.com/reference/cli/docker/login/. docker-py leaves out logins in plain words
and tokens of a registry's own, asks `auths` where a store has nothing, and doesn't know
``DOCKER_AUTH_CONFIG``.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.model.text import without_secrets
from qwex_jupyter.runners.docker import settings

_VARIABLE = "DOCKER_AUTH_CONFIG"
# What a helper calls the user whose secret is a token.
_NOBODY = "<token>"
# What the engine is told besides name and password.
_TOKENS = ("identitytoken", "registrytoken")


def reference(image: str) -> tuple[str, str]:
    """An image's name, and its tag or digest, as an engine is to be asked for them."""
    from docker.utils import parse_repository_tag

    name, tag = parse_repository_tag(image)
    return name, tag or "latest"


def header(image: str) -> dict[str, str]:
    """The header of a pull by which the engine can log in; {} without a login.

    Args:
        image: What is pulled.

    Raises:
        RunnerUnavailable: There is a login, and it can't be had.
    """
    from docker.auth import resolve_repository_name

    registry, _ = resolve_repository_name(reference(image)[0])
    found = _of_variable(registry) or _of_settings(registry)
    if not found:
        return {}
    text = json.dumps({**found, "serveraddress": registry})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def _of_variable(registry: str) -> dict[str, str]:
    if not (text := os.environ.get(_VARIABLE)):
        return {}
    try:
        return _of_entries(json.loads(text)["auths"], registry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerUnavailable(
            f"{_VARIABLE} holds no logins ({type(error).__name__}): give it "
            '{"auths": {"HOST": {"auth": "..."}}}, as docker login writes it, or unset it.'
        ) from error


def _of_settings(registry: str) -> dict[str, str]:
    from docker import auth

    content = settings.content()
    server = auth.INDEX_URL if registry == auth.INDEX_NAME else registry
    helpers = content.get("credHelpers")
    helper = (helpers if isinstance(helpers, dict) else {}).get(server, content.get("credsStore"))
    if helper:
        return _of_helper(str(helper), server)
    try:
        return _of_entries(content.get("auths") or {}, registry)
    except (ValueError, TypeError, AttributeError) as error:
        raise RunnerUnavailable(
            f"The login for {registry} in {settings.folder()}/config.json can't be read "
            f"({type(error).__name__}): docker login {registry}."
        ) from error


def _of_helper(name: str, server: str) -> dict[str, str]:
    from docker import credentials

    try:
        found: Mapping[str, Any] = credentials.Store(name).get(server)
    except credentials.CredentialsNotFound:
        return {}
    except credentials.StoreError as error:
        raise RunnerUnavailable(
            f"The login for {server} can't be got ({without_secrets(str(error))}): mend credsStore "
            f"or credHelpers in {settings.folder()}/config.json, or install what they name."
        ) from error
    user, secret = str(found["Username"]), str(found["Secret"])
    if user == _NOBODY:
        return {"identitytoken": secret}
    return {"username": user, "password": secret}


def _of_entries(entries: Mapping[str, Any], registry: str) -> dict[str, str]:
    """The login for a registry among those of `auths`; an address in them may be a URL's."""
    from docker.auth import resolve_index_name

    entry: Mapping[str, Any] | None = entries.get(registry)
    if entry is None:
        known = (value for key, value in entries.items() if resolve_index_name(key) == registry)
        entry = next(known, None) or {}
    user, password = entry.get("username"), entry.get("password")
    if coded := entry.get("auth"):
        user, _, password = base64.b64decode(coded).decode().partition(":")
        password = password.strip("\0")
    found = {"username": user, "password": password, **{name: entry.get(name) for name in _TOKENS}}
    return {name: str(value) for name, value in found.items() if value}
