"""What the docker client's settings mean, beside it: who is asked, on which way, for what."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.parse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from api_server import Server
from cluster_parts import certificate
from through import Proxy

from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.docker import body as docker_body
from qwex_jupyter.runners.docker import launch, settings
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import Engine

# An engine that takes whatever it is asked for.
ENGINE = {
    "ApiVersion": "1.41",
    "MinAPIVersion": "1.12",
    "Version": "20.10",
    "Id": "f" * 64,
    "status": "Downloaded newer image",
}
ELSEWHERE = "tcp://engine.example.invalid:2375"
IMAGE = "registry.example.invalid/team/tool:3"
REGISTRY = "registry.example.invalid"
LOGIN = {"auth": base64.b64encode(b"me:my-password").decode()}
HELPER = """#!/bin/sh
read server
[ "$1 $server" = "get %s" ] || { echo credentials not found in native keychain; exit 1; }
echo '{"ServerURL": "%s", "Username": "%s", "Secret": "helped"}'
"""
PROXIES = {"httpProxy": "http://p:1", "httpsProxy": "http://p:2", "noProxy": "a,b"}


@dataclass(frozen=True)
class Case:
    """Settings; in them ``{proxy}`` is one that leads to the played engine, ``{host}`` that itself.

    Attributes:
        config: What stands in config.json.
        environment: Variables.
        tls: Whether the engine speaks TLS.
        reaches: Whether it is asked to pull and to create.
    """

    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    reaches: bool = True


HERE = {"DOCKER_HOST": "{host}"}
CASES: dict[str, Case] = {
    "nothing": Case(),
    "auths": Case({"auths": {REGISTRY: LOGIN}}),
    "auths by a URL": Case({"auths": {f"https://{REGISTRY}/v1/": LOGIN}}),
    "auths of another": Case({"auths": {"other.example.invalid": LOGIN}}),
    "auths in plain words": Case({"auths": {REGISTRY: {"username": "me", "password": "plain"}}}),
    "auths with a token": Case({"auths": {REGISTRY: {"identitytoken": "of-identity"}}}),
    "auths with both": Case({"auths": {REGISTRY: {**LOGIN, "identitytoken": "of-identity"}}}),
    "auths with a registry's": Case({"auths": {REGISTRY: {"registrytoken": "of-registry"}}}),
    "credsStore": Case({"credsStore": "known"}),
    "credsStore with a token": Case({"credsStore": "token"}),
    "credsStore, and auths": Case({"credsStore": "known", "auths": {REGISTRY: LOGIN}}),
    "credsStore that has none": Case({"credsStore": "none"}),
    "credsStore that has none, and auths": Case({"credsStore": "none", "auths": {REGISTRY: LOGIN}}),
    "credHelpers": Case({"credHelpers": {REGISTRY: "known"}, "credsStore": "none"}),
    "credHelpers of another": Case(
        {"credHelpers": {"other.example.invalid": "known"}, "auths": {REGISTRY: LOGIN}}
    ),
    "HttpHeaders": Case({"HttpHeaders": {"X-Meta-Team": "one"}}),
    "proxies": Case({"proxies": {"default": PROXIES}}),
    "proxies of this engine": Case(
        {"proxies": {"default": PROXIES, "{host}": {"httpProxy": "http://here:3"}}}
    ),
    "proxies of another": Case({"proxies": {ELSEWHERE: PROXIES}}),
    "platform": Case(environment={"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}),
    "platform in capitals": Case(environment={"DOCKER_DEFAULT_PLATFORM": "LINUX/ARM64/v8"}),
    "proxy, and an engine here": Case(environment={"HTTP_PROXY": "http://127.0.0.1:9"}),
    "proxy": Case(environment={"DOCKER_HOST": ELSEWHERE, "HTTP_PROXY": "{proxy}"}),
    "proxy in small letters": Case(environment={"DOCKER_HOST": ELSEWHERE, "http_proxy": "{proxy}"}),
    "proxy of the other scheme": Case(
        environment={"DOCKER_HOST": ELSEWHERE, "HTTPS_PROXY": "{proxy}"}, reaches=False
    ),
    "spared": Case(
        environment={
            "DOCKER_HOST": ELSEWHERE,
            "HTTP_PROXY": "{proxy}",
            "NO_PROXY": "example.invalid",
        },
        reaches=False,
    ),
    "TLS": Case(
        environment={"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "{certificates}"}, tls=True
    ),
    "TLS of the settings' folder": Case(environment={"DOCKER_TLS_VERIFY": "1"}, tls=True),
    "TLS without a look": Case(
        environment={"DOCKER_TLS": "1", "DOCKER_CERT_PATH": "{certificates}"}, tls=True
    ),
    "certificates alone": Case(environment={"DOCKER_CERT_PATH": "{certificates}"}),
    "certificates that aren't there": Case(
        environment={"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"},
        tls=True,
        reaches=False,
    ),
}


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of this machine, as server, client and authority."""
    folder = tmp_path_factory.mktemp("certificates")
    made, key = certificate(folder)
    shutil.copy(made, folder / "ca.pem")
    shutil.copy(made, folder / "cert.pem")
    shutil.copy(key, folder / "key.pem")
    return folder


def _login(header: str | None) -> dict[str, str]:
    """What a registry is to be told, in the docker client's own words."""
    found = json.loads(base64.urlsafe_b64decode(header or "e30="))
    names = ("username", "password", "identitytoken", "registrytoken")
    return {key.lower(): value for key, value in found.items() if value and key.lower() in names}


def _told(server: Server, proxy: Proxy) -> dict[str, Any]:
    """What the engine was asked for: pulls, and containers to be made."""
    found: dict[str, Any] = {"through": bool(proxy.asked)}
    for (method, path), headers, body in zip(
        server.asked, server.headers, server.bodies, strict=True
    ):
        where = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(where.query))
        about = {"platform": query.get("platform", ""), "team": headers.get("X-Meta-Team")}
        if method == "POST" and where.path.endswith("/images/create"):
            about["image"] = f"{query['fromImage']}:{query['tag']}"
            found["pull"] = {**about, "login": _login(headers.get("X-Registry-Auth"))}
        elif method == "POST" and where.path.endswith("/containers/create"):
            env = json.loads(body)["Env"] or []
            found["create"] = {
                **about,
                "env": sorted(word for word in env if "proxy" in word.lower()),
            }
    for one in (server.asked, server.headers, server.bodies, proxy.asked):
        one.clear()
    return found


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credential helpers: one knows the registry, one has a token for it, one has nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, server, user in (
        ("known", REGISTRY, "somebody"),
        ("token", REGISTRY, "<token>"),
        ("none", "nobody", "nobody"),
    ):
        path = folder / f"docker-credential-{name}"
        path.write_text(HELPER % (server, server, user))
        path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def _ours(tmp_path: Path) -> bool:
    """Asks an engine for both; whether anything was refused."""
    engine = Engine()
    try:
        plan = docker_body.make_plan(JobSpec(command=("true",), image=IMAGE), "run", "history")
        list(engine.pull(IMAGE, plan["platform"]))
        inherited = settings.proxies(engine.endpoint.host)
        launch.launch(engine, plan, RunFolder(str(tmp_path)), inherited, by="kernel")
    except (QwexError, Refused):
        return False
    finally:
        engine.close()
    return True


@pytest.fixture
def played(issued: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """An engine, with TLS where the case says so."""
    pair = (str(issued / "cert.pem"), str(issued / "key.pem"))
    server = Server(pair if CASES[request.getfixturevalue("name")].tls else None)
    server.default = (200, ENGINE, {"Api-Version": "1.41"})
    yield server
    server.close()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("helpers")
def test_what_the_docker_client_does(
    played: Server, issued: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Both ask the same engine for the same on the same way, or neither asks for anything."""
    if shutil.which("docker") is None:
        pytest.skip("needs docker.io")
    case, config = CASES[name], Path(os.environ["DOCKER_CONFIG"])
    proxy = Proxy(played.address)
    replaced = {
        "{proxy}": f"http://{proxy.address}",
        "{host}": f"tcp://{played.address}",
        "{certificates}": str(issued),
    }

    def filled(value: Any) -> Any:
        text = json.dumps(value)
        for word, meant in replaced.items():
            text = text.replace(word, meant)
        return json.loads(text)

    shutil.copytree(issued, config)
    (config / "config.json").write_text(json.dumps(filled(case.config)))
    for variable, value in filled({**HERE, **case.environment}).items():
        monkeypatch.setenv(variable, value)
    try:
        said = ""
        for words in (("pull", IMAGE), ("create", "--pull=never", IMAGE, "true")):
            done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
            assert (done.returncode == 0) is case.reaches, done
            said += done.stdout + done.stderr
        theirs = _told(played, proxy)
        assert ("pull" in theirs) is ("create" in theirs) is case.reaches, said
        with warnings.catch_warnings(record=True) as warned:
            assert _ours(tmp_path) is case.reaches
        # That nobody looks at a certificate isn't said at each call.
        assert not [one for one in warned if "Unverified" in str(one.message)]
        ours = _told(played, proxy)
    finally:
        proxy.close()
    if case.reaches:
        assert ours == theirs
    else:
        assert not {"pull", "create"} & set(ours)
