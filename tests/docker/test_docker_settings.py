"""The settings of the docker client: what is read of them, and what is said of those that fail."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.errors import (
    BackendUnreachable,
    QwexError,
    RunnerUnavailable,
    SpecError,
    asked_again,
)
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.docker import body, login
from qwex_jupyter.runners.docker import settings as docker_settings
from qwex_jupyter.runners.docker.endpoint import Endpoint, connect, find_endpoint
from qwex_jupyter.runners.docker.engine import Engine


@pytest.fixture
def config() -> Path:
    """The folder of the settings."""
    folder = Path(os.environ["DOCKER_CONFIG"])
    folder.mkdir()
    return folder


def write_context(config: Path, name: str, **engine: Any) -> Path:
    """A context as the docker client keeps it; its folder."""
    key = hashlib.sha256(name.encode()).hexdigest()
    folder = config / "contexts/meta" / key
    folder.mkdir(parents=True)
    content = {"Name": name, "Metadata": {}, "Endpoints": {"docker": engine}}
    (folder / "meta.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The address of a socket that takes connections and hangs up."""
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.setblocking(False)
        yield f"unix://{path}"


# -- where the engine is -------------------------------------------------------------------------


def test_a_context_needs_no_config_file(config: Path) -> None:
    """The docker client finds it all the same, and so does ``DOCKER_CONTEXT``."""
    write_context(config, "mine", Host="unix:///run/mine.sock", SkipTLSVerify=False)
    found = find_endpoint("mine")
    assert (found.host, found.why, found.tls) == (
        "unix:///run/mine.sock",
        "the context mine",
        False,
    )
    with pytest.raises(RunnerUnavailable, match="no Docker context 'other'"):
        find_endpoint("other")


def test_what_chooses_a_context(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--context``, DOCKER_HOST, DOCKER_CONTEXT, and then ``docker context use``."""
    for name in ("a", "b", "c"):
        write_context(config, name, Host=f"unix:///run/{name}.sock")
    (config / "config.json").write_text(json.dumps({"currentContext": "a"}))
    assert find_endpoint().why == "the context a"
    monkeypatch.setenv("DOCKER_CONTEXT", "b")
    assert find_endpoint().why == "the context b"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert (find_endpoint().why, find_endpoint().host) == ("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert find_endpoint("c").why == "the context c"


def test_the_docker_client_chooses_the_same(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked which engine it means, it says the address that we found."""
    if shutil.which("docker") is None:
        pytest.skip("needs docker.io")
    for name in ("a", "b"):
        write_context(config, name, Host=f"unix:///run/{name}.sock")

    def agrees() -> str:
        said = subprocess.run(["docker", "ps"], check=False, capture_output=True, text=True)
        host = find_endpoint().host
        assert host in said.stderr, said
        return host

    monkeypatch.setenv("DOCKER_CONTEXT", "a")
    assert agrees() == "unix:///run/a.sock"
    (config / "config.json").write_text(json.dumps({"currentContext": "b"}))
    assert agrees() == "unix:///run/a.sock"
    monkeypatch.delenv("DOCKER_CONTEXT")
    assert agrees() == "unix:///run/b.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/c.sock")
    assert agrees() == "unix:///run/c.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "a")
    assert agrees() == "unix:///run/c.sock"


@pytest.mark.parametrize("text", ["", "[", "{}", '{"Endpoints": []}', '{"Endpoints": {}}', "5"])
def test_a_context_that_can_not_be_read(config: Path, text: str) -> None:
    """It is said which, and what to do."""
    (write_context(config, "mine") / "meta.json").write_text(text)
    with pytest.raises(
        RunnerUnavailable, match=r"context 'mine' can't be read .*docker context rm"
    ):
        find_endpoint("mine")


@pytest.mark.parametrize("text", ["", "[", "[1]", "5", '"x"', "null", "\x00"])
def test_settings_that_can_not_be_read(config: Path, text: str) -> None:
    """They are refused in words that name the file."""
    (config / "config.json").write_text(text)
    with pytest.raises(RunnerUnavailable, match=r"config\.json"):
        docker_settings.content()
    with pytest.raises(RunnerUnavailable, match=r"config\.json"):
        find_endpoint()


@pytest.mark.parametrize(
    "host",
    [
        "localhost:2375",
        "tcp://",
        "unix://",
        "me:my-password@host:2375",
        "me:my@my-password@host:2375",
        "tcp://me:my/my-password@host:2375",
        "ssh://me:my/my-password@host",
        "foo://me:my@my-password@host",
        "fd://x",
        "nonsense",
        "npipe:////./pipe/docker_engine",
    ],
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """It is refused with what one looks like, and no password is shown."""
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(RunnerUnavailable, match="is no address of an engine: write") as caught:
        find_endpoint()
    assert "my-password" not in str(caught.value)
    assert "(by DOCKER_HOST)" in str(caught.value)
    assert "or ssh://USER@HOST." in str(caught.value)


@pytest.mark.parametrize("login", ["me:hunter2", "me:hu@hunter2", "me:1/hunter2"])
def test_an_address_is_shown_without_its_login(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    """What can't be reached is called by its address, and the login in it is masked."""
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{login}@127.0.0.1:1?token=hunter2")
    engine = Engine()
    with pytest.raises(QwexError, match=r"tcp://\*\*\*@127\.0\.0\.1:1\?\*\*\*") as caught:
        engine.info()
    assert "hunter2" not in str(caught.value)


def test_a_context_without_an_address(config: Path) -> None:
    """It is the context that is named then, and no variable."""
    write_context(config, "mine", Host="localhost:2375")
    with pytest.raises(RunnerUnavailable, match=r"'localhost:2375' \(by the context mine\)"):
        find_endpoint("mine")


def test_a_socket_may_be_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As people write it."""
    monkeypatch.setenv("DOCKER_HOST", "/run/mine.sock")
    assert find_endpoint().host == "unix:///run/mine.sock"


@pytest.mark.parametrize(
    "text",
    [
        '{"auths": {"registry.example.com": {"auth": "!!!"}}}',
        '{"auths": {"x": 5}}',
        '{"credHelpers": 5}',
        '{"proxies": 5}',
        '{"HttpHeaders": 5}',
    ],
)
def test_what_the_library_can_not_read_is_no_damage(
    config: Path, silent: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whatever a library makes of settings, it is one of our errors."""
    (config / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_HOST", silent)
    with pytest.raises(QwexError):
        connect(find_endpoint(), 0.2)
    with pytest.raises(QwexError):
        Engine(patience=Patience(answer=0.2)).client()


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a\\nb": "c"}', '{"a": "b\\nc"}'])
def test_headers_that_are_none(config: Path, text: str) -> None:
    """A header is a name and a text, in one line."""
    (config / "config.json").write_text(f'{{"HttpHeaders": {text}}}')
    if text == "[]":
        assert docker_settings.headers() == {}
    else:
        with pytest.raises(RunnerUnavailable, match=r"^HttpHeaders in .*config\.json"):
            connect(Endpoint("tcp://127.0.0.1:9", ""), 0.2)


def test_a_question_that_is_given_up_does_not_go_on(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is asked again is said of a run that is watched, not where a cell fails."""
    monkeypatch.setenv("DOCKER_HOST", silent)
    with pytest.raises(BackendUnreachable, match="No answer from the Docker engine") as found:
        Engine(patience=Patience(answer=0.2)).check()
    assert str(found.value).endswith("): see docker info.")
    assert asked_again(found.value).endswith("see docker info; it is asked again.")


# -- what a registry is shown --------------------------------------------------------------------


def told(image: str) -> dict[str, str]:
    """The login for an image, as the engine reads it."""
    header = login.header(image).get("X-Registry-Auth")
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(header)) if header else {}
    return found


def test_a_login_of_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``DOCKER_AUTH_CONFIG`` goes before the settings, for the registries that it names."""
    coded = {name: base64.b64encode(f"{name}:secret".encode()).decode() for name in "ab"}
    auths = {"one.example.com": {"auth": coded["a"]}, "two.example.com": {"auth": coded["a"]}}
    (config / "config.json").write_text(json.dumps({"auths": auths, "credsStore": "missing"}))
    with pytest.raises(RunnerUnavailable, match=r"login for one\.example\.com can.t be got"):
        told("one.example.com/x")
    mine = {"auths": {"https://one.example.com/v2/": {"auth": coded["b"]}}}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(mine))
    assert told("one.example.com/x:1")["username"] == "b"
    (config / "config.json").write_text(json.dumps({"auths": auths}))
    assert told("one.example.com/x@sha256:abc")["username"] == "b"
    assert told("two.example.com/x")["username"] == "a"
    assert login.header("three.example.com/x") == {}


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_the_login_of_docker_hub(config: Path, key: str) -> None:
    """It has several names."""
    (config / "config.json").write_text(json.dumps({"auths": {key: {"username": "me"}}}))
    assert told("python:3.12")["username"] == "me"
    assert told("docker.io/me/tool")["username"] == "me"
    assert login.header("registry.example.com/tool") == {}


@pytest.mark.parametrize("text", ["", "5", "[]", "{}", '{"auths": 5}', '{"auths": {"r.io": 5}}'])
def test_a_login_that_can_not_be_read(
    config: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """It is said where it stands; what it says is not."""
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", text or "my-password")
    with pytest.raises(RunnerUnavailable, match="DOCKER_AUTH_CONFIG holds no logins") as found:
        login.header("r.io/x")
    assert "my-password" not in str(found.value)
    monkeypatch.delenv("DOCKER_AUTH_CONFIG")
    auths = '{"auths": {"r.io": {"auth": "my-password"}}}'
    (config / "config.json").write_text(auths)
    with pytest.raises(RunnerUnavailable, match=r"for r.io in .*: docker login r.io") as found:
        login.header("r.io/x")
    assert "my-password" not in str(found.value)


@pytest.mark.parametrize("word", ["1", "true", "yes"])
def test_signatures_are_not_looked_at(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Who wants signed images gets a refusal, not any image; a digest needs no signature."""
    monkeypatch.setenv("DOCKER_CONTENT_TRUST", word)
    digest = f"r.io:5000/x@sha256:{'0' * 64}"
    body.make_plan(JobSpec(command=("true",), image=digest), "r", "h")
    with pytest.raises(SpecError, match=f"DOCKER_CONTENT_TRUST={word}, .*NAME@sha256"):
        body.make_plan(JobSpec(command=("true",), image="r.io:5000/x"), "r", "h")
    for off in ("0", "false", ""):
        monkeypatch.setenv("DOCKER_CONTENT_TRUST", off)
        body.make_plan(JobSpec(command=("true",), image="r.io:5000/x"), "r", "h")


# -- what a container is given -------------------------------------------------------------------


def test_proxies(config: Path) -> None:
    """The engine's own entry goes before the default one; each is given in both spellings."""
    default = {"httpProxy": "http://a", "noProxy": "x,y", "allProxy": ""}
    settings = {"proxies": {"default": default, "tcp://there:1": {"httpsProxy": "http://b"}}}
    (config / "config.json").write_text(json.dumps(settings))
    assert docker_settings.proxies("unix:///x") == {
        "HTTP_PROXY": "http://a",
        "http_proxy": "http://a",
        "NO_PROXY": "x,y",
        "no_proxy": "x,y",
    }
    assert docker_settings.proxies("tcp://there:1") == {
        "HTTPS_PROXY": "http://b",
        "https_proxy": "http://b",
    }
    (config / "config.json").unlink()
    assert docker_settings.proxies("unix:///x") == {}


@pytest.mark.parametrize(
    ("option", "variable", "meant"),
    [
        ("", "", ""),
        ("", "linux/s390x", "linux/s390x"),
        ("linux/arm/v7", "linux/s390x", "linux/arm/v7"),
        ("arm64", "", "arm64"),
        ("Linux/ARM64", "", "linux/arm64"),
    ],
)
def test_a_platform(
    monkeypatch: pytest.MonkeyPatch, option: str, variable: str, meant: str
) -> None:
    """``--platform`` goes before the variable of the docker client."""
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", variable)
    assert docker_settings.platform(option) == meant


@pytest.mark.parametrize("word", ["linux/", "a b", "linux/a/b/c", "-", "linux//x"])
def test_a_platform_that_is_none(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """The word is named, with where it stands."""
    with pytest.raises(SpecError, match="--platform="):
        docker_settings.platform(word)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", word)
    with pytest.raises(SpecError, match="DOCKER_DEFAULT_PLATFORM="):
        docker_settings.platform("")
