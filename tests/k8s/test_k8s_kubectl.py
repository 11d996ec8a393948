"""What a kubeconfig and the environment mean, beside kubectl: who asks whom, and on which way."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import go_build
import pytest
from api_server import Server, write
from cluster_parts import certificate
from clusters import Cluster as Real
from through import Proxy

from qwex_jupyter.errors import QwexError
from qwex_jupyter.runners.k8s.cluster import Cluster

API = "client.authentication.k8s.io/v1"
GIVEN = {"apiVersion": API, "kind": "ExecCredential", "status": {"token": "given"}}
PLUGIN = {"apiVersion": API, "command": "echo", "args": [json.dumps(GIVEN)]}
ELSEWHERE = "https://k8s.example.invalid:6443"


@dataclass(frozen=True)
class Case:
    """Settings; ``{proxy}`` in them is the address of one that leads to the played server.

    Attributes:
        user: The user of the kubeconfig.
        cluster: More for its cluster.
        context: More for its context.
        environment: Variables.
        reaches: Whether the server is asked.
    """

    user: dict[str, Any] = field(default_factory=lambda: {"token": "one"})
    cluster: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    reaches: bool = True


CASES: dict[str, Case] = {
    "token": Case(),
    "tokenFile": Case({"tokenFile": "{folder}/token"}),
    "username": Case({"username": "me", "password": "my-password"}),
    "as": Case({"token": "one", "as": "somebody"}),
    "as with more": Case(
        {
            "token": "one",
            "as": "jörg",
            "as-uid": "42",
            "as-groups": ["a", "b"],
            "as-user-extra": {"example.com/team": ["c"]},
        }
    ),
    "exec": Case({"exec": {**PLUGIN, "interactiveMode": "Never"}}),
    "exec that isn't there": Case(
        {"exec": {**PLUGIN, "command": "not-there", "interactiveMode": "Never"}}, reaches=False
    ),
    "exec that fails": Case(
        {"exec": {**PLUGIN, "command": "false", "interactiveMode": "Never"}}, reaches=False
    ),
    "gcp": Case({"auth-provider": {"name": "gcp"}}, reaches=False),
    "azure": Case({"auth-provider": {"name": "azure"}}, reaches=False),
    "no such user": Case(context={"user": "elsewhere"}, reaches=False),
    "no such cluster": Case(context={"cluster": "elsewhere"}, reaches=False),
    "no server": Case(cluster={"server": ""}, reaches=False),
    "proxy, and a server here": Case(environment={"HTTPS_PROXY": "http://127.0.0.1:9"}),
    "proxy": Case(cluster={"server": ELSEWHERE}, environment={"HTTPS_PROXY": "{proxy}"}),
    "proxy in small letters": Case(
        cluster={"server": ELSEWHERE}, environment={"https_proxy": "{proxy}"}
    ),
    "proxy without a scheme": Case(
        cluster={"server": ELSEWHERE}, environment={"HTTPS_PROXY": "{bare}"}
    ),
    "proxy of the other scheme": Case(
        cluster={"server": ELSEWHERE}, environment={"HTTP_PROXY": "{proxy}"}, reaches=False
    ),
    "spared": Case(
        cluster={"server": ELSEWHERE},
        environment={"HTTPS_PROXY": "{proxy}", "NO_PROXY": "example.invalid"},
        reaches=False,
    ),
    "proxy-url": Case(cluster={"server": ELSEWHERE, "proxy-url": "{proxy}"}),
    "proxy-url and spared": Case(
        cluster={"server": ELSEWHERE, "proxy-url": "{proxy}"}, environment={"NO_PROXY": "*"}
    ),
}


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key."""
    made = certificate(tmp_path_factory.mktemp("certificate"))
    return str(made[0]), str(made[1])


@pytest.fixture
def server(issued: tuple[str, str]) -> Iterator[Server]:
    """A server with TLS: kubectl shows nobody's login to another."""
    made = Server(issued)
    yield made
    made.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy that leads there."""
    made = Proxy(server.address)
    yield made
    made.close()


def test_a_certificate_that_nobody_looks_at_is_no_warning(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for kubectl: the settings say so, and a word at each look would fill the notebook."""
    path = tmp_path / "config"
    write(path, server.url, {"token": "one"})
    settings = json.loads(path.read_text())
    settings["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    path.write_text(json.dumps(settings))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with warnings.catch_warnings(record=True) as said:
        cluster = Cluster()
        try:
            cluster.call("GET", "/version")
            cluster.call("GET", "/version")
        finally:
            cluster.close()
    assert said == []
    assert len(server.asked) == 2


@pytest.mark.parametrize("name", CASES)
def test_what_kubectl_does(
    session_cluster: Callable[[], Real],
    server: Server,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Both ask the same server as the same person on the same way, or neither asks anybody."""
    session_cluster()  # kubectl is built with it
    case = CASES[name]
    (tmp_path / "token").write_text("of a file\n")

    def filled(value: Any) -> Any:
        text = json.dumps(value).replace("{folder}", str(tmp_path))
        text = text.replace("{proxy}", f"http://{proxy.address}").replace("{bare}", proxy.address)
        return json.loads(text)

    path = tmp_path / "config"
    write(path, server.url, filled(case.user))
    settings = json.loads(path.read_text())
    settings["clusters"][0]["cluster"].update(
        {"insecure-skip-tls-verify": True, **filled(case.cluster)}
    )
    settings["contexts"][0]["context"].update(filled(case.context))
    path.write_text(json.dumps(settings))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, filled(value))

    def told() -> list[Any]:
        """What the server was asked, and by whom."""
        names = ("Authorization", "Impersonate-User", "Impersonate-Uid", "Impersonate-Group")
        extra = "Impersonate-Extra-Example.com%2fteam"
        found: list[Any] = [
            (
                asked,
                [headers.get_all(one) for one in names],
                [value for key, value in headers.items() if key.lower() == extra.lower()],
            )
            for asked, headers in zip(server.asked, server.headers, strict=True)
        ]
        found += proxy.asked
        server.asked.clear()
        server.headers.clear()
        proxy.asked.clear()
        return found

    command = [go_build.program("kubectl"), "get", "--raw", "/version"]
    theirs = subprocess.run(command, env={**os.environ}, check=False, capture_output=True)
    asked = told()
    assert bool(asked) is case.reaches, theirs.stderr
    assert (theirs.returncode == 0) is case.reaches, theirs.stderr
    cluster = Cluster()
    try:
        cluster.call("GET", "/version")
        assert case.reaches
    except QwexError:
        assert not case.reaches
    finally:
        cluster.close()
    assert told() == asked
