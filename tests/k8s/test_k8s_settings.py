"""Which cluster kubectl's settings choose, as whom it is called, and what of them is refused."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import pytest
from api_server import Server, status, write

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.runners.k8s import settings as k8s_settings
from qwex_jupyter.runners.k8s.cluster import Cluster

pytest_plugins = ["api_server"]

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBtjCCAVugAwIBAgITBmyf1XSXNmY/Owua2eiedgPySjAKBggqhkjOPQQDAjA5
MQswCQYDVQQGEwJVUzEPMA0GA1UEChMGQW1hem9uMRkwFwYDVQQDExBBbWF6b24g
Um9vdCBDQSAzMB4XDTE1MDUyNjAwMDAwMFoXDTQwMDUyNjAwMDAwMFowOTELMAkG
A1UEBhMCVVMxDzANBgNVBAoTBkFtYXpvbjEZMBcGA1UEAxMQQW1hem9uIFJvb3Qg
Q0EgMzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCmXp8ZBf8ANm+gBG1bG8lKl
ui2yEujSLtf6ycXYqm0fc4E7O5hrOXwzpcVOho6AF2hiRVd9RFgdszflZwjrZt6j
QjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgGGMB0GA1UdDgQWBBSr
ttvXBp43rDCGB5Fwx5zEGbF4wDAKBggqhkjOPQQDAgNJADBGAiEA4IWSoxe3jfkr
BqWTrBqYaGFy+uGh0PsceGCmQ5nFuMQCIQCcAu/xlJyzlvnrxir4tiz+OpAUFteM
YyRIHN8wfdVoOw==
-----END CERTIFICATE-----
"""


def test_where_it_is(at: Cluster, server: Server) -> None:
    """The context says which server and namespace, and the identity holds both."""
    where = at.where
    assert (where.host, where.namespace, where.why) == (server.url, "mine", "the context here")
    assert where.identity == f"k8s://mine@{server.url}#system"
    assert Cluster("here", "other").where.namespace == "other"
    assert at.path("jobs", "x") == "/apis/batch/v1/namespaces/mine/jobs/x"
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@127.0.0.1:1",
        "https://me:hu@hunter2@127.0.0.1:1",
        "https://127.0.0.1:1/api?token=hunter2",
        "https://me:hu/hunter2@127.0.0.1:1",
    ],
)
def test_an_address_is_shown_without_what_logs_in(
    at: Cluster, tmp_path: Path, address: str
) -> None:
    """A server that can't be reached, or whose address is none, is called without its login."""
    write(tmp_path / "config", address, {"token": "one"})
    with pytest.raises((BackendUnreachable, RunnerUnavailable), match=r"\*\*\*") as caught:
        at.call("GET", "/version")
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    if isinstance(caught.value, BackendUnreachable):
        assert "hunter2" not in at.where.identity


def test_credentials_that_are_refused_are_renewed_once(
    at: Cluster, server: Server, tmp_path: Path
) -> None:
    """After a 401 the settings are read again; a second one is the user's to mend."""
    at.check()
    write(tmp_path / "config", server.url, {"token": "two"})
    server.accepted = {"Bearer two"}
    at.call("GET", "/version")
    assert server.tokens == ["Bearer one", "Bearer two"]
    server.accepted = {"Bearer three"}
    with pytest.raises(RunnerUnavailable, match="doesn't accept your login"):
        at.call("POST", "/x", body={})
    assert server.tokens[2:] == ["Bearer two"] * 2
    with pytest.raises(RunnerUnavailable, match="log in"):
        at.stream("/x", {}, 1.0)


def test_a_plugin_is_asked_for_new_credentials(
    at: Cluster, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An exec plugin's token is used until it is refused, or has run out, then asked for again."""
    plugin, count = tmp_path / "plugin.py", tmp_path / "count"
    plugin.write_text(
        f"""
import json, pathlib
count = pathlib.Path({str(count)!r})
n = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (n + 1))
year = 2020 if n == 1 else 2100
status = {{"token": f"t{{n}}", "expirationTimestamp": f"{{year}}-01-01T00:00:00Z"}}
print(json.dumps({{"kind": "ExecCredential", "status": status,
                  "apiVersion": "client.authentication.k8s.io/v1"}}))
"""
    )
    called = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin)],
        "interactiveMode": "Never",
    }
    write(tmp_path / "config", server.url, {"exec": called})
    server.accepted = {"Bearer t0"}
    at.check()
    at.call("GET", "/version")
    assert count.read_text() == "x"
    server.accepted = {"Bearer t2"}
    at.call("GET", "/version")
    assert server.tokens[-2:] == ["Bearer t0", "Bearer t2"]  # t1 has run out already
    at.call("GET", "/version")
    assert (server.tokens[-1], count.read_text()) == ("Bearer t2", "xxx")
    plugin.write_text("raise SystemExit(1)")
    server.accepted = set()
    with pytest.raises(RunnerUnavailable, match="log in again"):
        at.call("GET", "/version")


def test_settings_that_change_are_read_again(
    at: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another namespace, another file, another KUBECONFIG: the next call goes there."""
    at.check()
    write(tmp_path / "config", server.url, {"token": "one"}, "second")
    assert at.where.namespace == "second"
    write(tmp_path / "other", server.url, {"token": "three"}, "third")
    monkeypatch.setenv(
        "KUBECONFIG", os.pathsep.join([str(tmp_path / "nope"), str(tmp_path / "other")])
    )
    at.check()
    assert (at.where.namespace, server.tokens[-1]) == ("third", "Bearer three")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nope"))
    with pytest.raises(RunnerUnavailable, match="No Kubernetes here"):
        at.check()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "can't be used"),
        ("[", "can't be used"),
        ("5", "can't be used"),
        ("{}", "No context is chosen"),
        ('{"contexts": [], "clusters": [], "users": []}', "No context is chosen"),
        ('{"current-context": "x", "contexts": [{"name": "x"}], "clusters": []}', "can't be used"),
    ],
)
def test_settings_that_say_nothing(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a kubeconfig, it is one sentence with a next step."""
    (tmp_path / "config").write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(RunnerUnavailable, match=said) as caught:
        Cluster().check()
    assert "--context" in str(caught.value)


def test_a_context_that_is_not_there(at: Cluster) -> None:
    """The contexts that are there are named."""
    with pytest.raises(RunnerUnavailable, match=r"no context 'x'.*there is here"):
        Cluster("x").check()


def test_the_account_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig, in a pod, its service account says where; its token is read anew."""
    incluster = pytest.importorskip("kubernetes.config.incluster_config")
    for name, content in (("namespace", "spawned\n"), ("token", "t1"), ("ca.crt", CERTIFICATE)):
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(k8s_settings, "_ACCOUNT", str(tmp_path))
    monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    cluster = Cluster()
    where = cluster.where
    assert (where.host, where.namespace) == ("https://10.0.0.1:443", "spawned")
    assert where.why == "this pod's service account"
    assert len(where.authority) == 12
    assert cluster._open().headers()["authorization"].lower() == "bearer t1"
    (tmp_path / "token").write_text("t2\n")
    assert cluster._open(again=True).headers()["authorization"].endswith("t2")


# -- as whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_with", ["", "\n", "\r\n", "  \n\n"])
@pytest.mark.parametrize("kind", ["token", "tokenFile"])
def test_a_token_that_ends_in_a_line_break(
    at: Cluster, server: Server, tmp_path: Path, kind: str, ends_with: str
) -> None:
    """Editors end a file with one, and kubectl takes it away."""
    (tmp_path / "token").write_text(f"secret{ends_with}")
    given = str(tmp_path / "token") if kind == "tokenFile" else f"secret{ends_with}"
    write(tmp_path / "config", server.url, {kind: given})
    at.check()
    assert server.tokens == ["Bearer secret"]


@pytest.mark.parametrize("text", ["sec\nret", "sec\rret", "secret\x00", "sec\x1bret"])
def test_a_token_that_is_none_is_never_shown(
    at: Cluster, server: Server, tmp_path: Path, text: str
) -> None:
    """What no header can hold is refused in our words, not in the library's, which has it whole."""
    write(tmp_path / "config", server.url, {"token": text})
    with pytest.raises(RunnerUnavailable, match="no request can hold") as caught:
        at.check()
    assert "ret" not in str(caught.value).replace("secret", "").replace("request", "")
    assert not server.asked
    shown = "".join(traceback.format_exception(caught.value))
    assert "sec" not in shown.replace("self", "")


def test_somebody_else_is_acted_as(at: Cluster, server: Server, tmp_path: Path) -> None:
    """``as`` of a kubeconfig's user is what kubectl sends, with groups, uid and what else."""
    user = {
        "token": "one",
        "as": "jörg@example.com",
        "as-uid": "42",
        "as-groups": ["a", "b"],
        "as-user-extra": {"example.com/team": ["c", "d"]},
    }
    write(tmp_path / "config", server.url, user)
    at.check()
    sent = server.headers[-1]
    assert sent["Authorization"] == "Bearer one"
    assert sent["Impersonate-User"].encode("latin-1").decode() == "jörg@example.com"
    assert sent["Impersonate-Uid"] == "42"
    assert sent.get_all("Impersonate-Group") == ["a", "b"]
    assert sent.get_all("Impersonate-Extra-example.com%2Fteam") == ["c", "d"]


def test_who_may_not_act_as_somebody_is_told(at: Cluster, server: Server, tmp_path: Path) -> None:
    """It is no missing Role of theirs, and the text says whose right is missing."""
    write(tmp_path / "config", server.url, {"token": "one", "as": "somebody"})
    text = 'users "somebody" is forbidden: User "me" cannot impersonate resource "users"'
    server.say(403, status(403, "Forbidden", text))
    with pytest.raises(BackendUnreachable, match=r"acts as somebody .*may not"):
        at.get("jobs", "x")


def test_a_plugin_that_is_not_installed(
    at: Cluster,
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its name is said and how to get it; nothing is asked as nobody, nothing goes to a log."""
    called = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "a-plugin-that-is-not-there",
        "installHint": "Install it with:\n  our-tool get",
        "interactiveMode": "Never",
    }
    write(tmp_path / "config", server.url, {"exec": called})
    with pytest.raises(RunnerUnavailable, match="plugin 'a-plugin-that-is-not-there'") as caught:
        at.check()
    assert "Install it with: our-tool get" in str(caught.value)
    assert (server.asked, caplog.records, capfd.readouterr()) == ([], [], ("", ""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo gone >&2; exit 3", "gone"),
        ("echo '{}'", "missing key"),
        ("echo no", "decode"),
        (
            """echo '{"kind": "ExecCredential", "status": {},
                "apiVersion": "client.authentication.k8s.io/v1"}'""",
            "neither a token nor",
        ),
        ("echo Authorization: Bearer abc.def >&2; exit 3", "Bearer \\*"),
    ],
)
def test_a_plugin_that_fails(
    at: Cluster, server: Server, tmp_path: Path, text: str, said: str
) -> None:
    """Its own words are told, without what logs in."""
    called = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", text],
        "interactiveMode": "Never",
    }
    write(tmp_path / "config", server.url, {"exec": called})
    with pytest.raises(RunnerUnavailable, match=f"plugin 'sh'.*{said}") as caught:
        at.check()
    assert "abc.def" not in str(caught.value)
    assert server.asked == []


def test_what_a_plugin_gives_goes_into_no_file(at: Cluster, server: Server, tmp_path: Path) -> None:
    """The kubeconfig is as it was."""
    said = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "given"},
    }
    called = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "echo",
        "args": [json.dumps(said)],
        "interactiveMode": "Never",
    }
    write(tmp_path / "config", server.url, {"exec": called})
    before = (tmp_path / "config").read_bytes()
    at.check()
    assert server.tokens == ["Bearer given"]
    assert (tmp_path / "config").read_bytes() == before


@pytest.mark.parametrize(
    ("provider", "instead"), [("gcp", "gke-gcloud"), ("azure", "kubelogin"), ("x", "plugin")]
)
def test_logins_that_kubectl_has_no_more(
    at: Cluster, server: Server, tmp_path: Path, provider: str, instead: str
) -> None:
    """They are refused, with what took their place."""
    user = {"auth-provider": {"name": provider, "config": {"access-token": "x"}}}
    write(tmp_path / "config", server.url, user)
    with pytest.raises(RunnerUnavailable, match=f"auth-provider {provider}.*{instead}"):
        at.check()
    assert server.asked == []


def test_a_provider_whose_token_is_none(at: Cluster, server: Server, tmp_path: Path) -> None:
    """The client would go on as nobody."""
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": "none"}}}
    write(tmp_path / "config", server.url, user)
    with pytest.raises(RunnerUnavailable, match=r"oidc.*log in again"):
        at.check()
    assert server.asked == []


@pytest.mark.parametrize("kind", ["user", "cluster"])
def test_a_part_that_the_context_names_is_not_there(
    at: Cluster, server: Server, tmp_path: Path, kind: str
) -> None:
    """Which it is, and how to mend it; kubectl refuses that too."""
    write(tmp_path / "config", server.url, {"token": "one"})
    settings = json.loads((tmp_path / "config").read_text())
    settings["contexts"][0]["context"][kind] = "elsewhere"
    (tmp_path / "config").write_text(json.dumps(settings))
    with pytest.raises(RunnerUnavailable, match=f"the {kind} 'elsewhere'.*set-context here"):
        Cluster().check()
    assert server.asked == []


def test_a_cluster_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would take one at localhost."""
    write(tmp_path / "config", "", {"token": "one"})
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(RunnerUnavailable, match=r"'c'.*no server"):
        Cluster().check()


@pytest.mark.parametrize("name", ["My_Space", "a/b", "-a", "a" * 64, "a.b", "..", "a b"])
def test_a_namespace_that_can_not_be(at: Cluster, server: Server, name: str) -> None:
    """It is refused before it becomes a part of an address."""
    with pytest.raises(RunnerUnavailable, match="can't be the name of a namespace"):
        Cluster("", name).check()
    assert server.asked == []


# -- on which way --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_server_on_this_machine_is_behind_no_proxy(
    at: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """So kubectl reaches kind and minikube where everything else goes through a proxy."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    at.check()
    assert len(server.asked) == 1


def test_a_proxy_is_gone_through(at: Cluster, server: Server, tmp_path: Path) -> None:
    """The cluster's own ``proxy-url`` holds for any address, and before the environment's."""
    write(tmp_path / "config", "http://k8s.example.com:6443", {"token": "one"})
    settings = json.loads((tmp_path / "config").read_text())
    settings["clusters"][0]["cluster"]["proxy-url"] = server.url
    (tmp_path / "config").write_text(json.dumps(settings))
    at.check()
    assert server.asked == [("GET", "http://k8s.example.com:6443/version")]
    assert server.tokens == [""]  # without TLS a login is shown to nobody elsewhere


def test_the_proxy_of_the_environment_is_gone_through(
    at: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what isn't here; and no more once NO_PROXY names it."""
    write(tmp_path / "config", "http://k8s.example.invalid:6443", {"token": "one"})
    monkeypatch.setenv("HTTP_PROXY", server.url)
    at.check()
    assert server.asked == [("GET", "http://k8s.example.invalid:6443/version")]
    monkeypatch.setenv("NO_PROXY", "example.invalid")
    with pytest.raises(BackendUnreachable):
        at.call("GET", "/version")
    assert len(server.asked) == 1


def test_the_password_of_a_proxy_is_not_shown(
    at: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the address, and in what a library says of it."""
    write(tmp_path / "config", "http://k8s.example.invalid:6443", {"token": "one"})
    monkeypatch.setenv("HTTP_PROXY", "http://me:my-password@127.0.0.1:9")
    with pytest.raises(BackendUnreachable) as caught:
        at.check()
    assert "my-password" not in str(caught.value)
