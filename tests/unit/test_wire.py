"""The wire and the registry of the tests: they do what a rule says, and else nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.errors
import images
import pytest
import requests
from engines import Engine, answers
from local_helpers import until
from registry import Registry
from wire import Wire

LINES = 20_000


@pytest.fixture
def wire(docker_engine: Engine) -> Iterator[Wire]:
    """A wire to the engine."""
    images.image(docker_engine, "busybox")
    with Wire(docker_engine.host) as made:
        yield made


@pytest.fixture
def mine() -> str:
    """A label of the containers of this test alone."""
    return f"qwex.test={uuid.uuid4().hex}"


@pytest.fixture
def client(wire: Wire, mine: str, docker_engine: Engine) -> Iterator[Any]:
    """A client at the wire, whose containers are gone after the test."""
    for made in _client(wire.host):
        made.mine = mine
        yield made
    docker_engine.remove_containers(mine)


def _client(host: str, timeout: float = 90) -> Iterator[Any]:
    made = docker.APIClient(base_url=host, version="1.41", timeout=timeout)
    yield made
    made.close()


def create(client: Any, *command: str, **options: Any) -> str:
    """A container of busybox."""
    host = client.create_host_config(network_mode="none")
    name, _, value = client.mine.partition("=")
    labels = {"qwex.run": "", name: value}
    made = client.create_container(
        "qwex-test/busybox:1", list(command), host_config=host, labels=labels, **options
    )
    return str(made["Id"])


def finished(client: Any, *command: str) -> str:
    """A container of busybox that has ended."""
    name = create(client, *command)
    client.start(name)
    client.wait(name)
    return name


def names(engine: Engine, mine: str) -> list[str]:
    """The names of the containers with this label that the engine has."""
    with engine.client() as client:
        found = client.containers(all=True, filters={"label": mine})
        return [name for each in found for name in each["Names"]]


# -- without a rule -------------------------------------------------------------------------------


def test_streams_and_bodies_pass_unchanged(client: Any, wire: Wire) -> None:
    """A chunked upload, a download and a log of 20,000 lines are the same through the wire."""
    content = bytes(range(256)) * 8000
    packed = io.BytesIO()
    with tarfile.TarFile(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("data")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    name = create(client, "sh", "-c", f"sha256sum < /data; seq {LINES}")
    pieces = iter([packed.getvalue()[:7], packed.getvalue()[7:]])
    assert client.put_archive(name, "/", pieces)
    client.start(name)
    assert client.wait(name)["StatusCode"] == 0
    digest = hashlib.sha256(content).hexdigest()
    expected = f"{digest}  -\n" + "".join(f"{number}\n" for number in range(1, LINES + 1))
    assert client.logs(name).decode() == expected
    stream, _ = client.get_archive(name, "/data")
    with tarfile.TarFile(fileobj=io.BytesIO(b"".join(stream))) as tar:
        member = tar.extractfile("data")
        assert member is not None
        assert member.read() == content
    assert wire.count("PUT", r"/archive\?") == 1
    assert wire.count("GET", "/logs") == 1


def test_a_hijacked_connection_passes_both_ways(client: Any, wire: Wire) -> None:
    """What is typed into an attached container comes back, to the end of both directions."""
    name = create(client, "cat", stdin_open=True)
    # A half-closed end is what tells the engine that the input is over.
    attached = client.attach_socket(name, {"stdin": 1, "stdout": 1, "stream": 1})
    client.start(name)
    attached._sock.sendall(b"some words\n")
    attached._sock.shutdown(socket.SHUT_WR)
    said = b""
    while data := attached._sock.recv(1000):
        said += data
    attached._response.close()  # with all that is of it: its parts alone would leave it open
    assert said[8:] == b"some words\n"
    assert client.inspect_container(name)["State"]["ExitCode"] in (0, None)


def test_requests_are_counted_by_method_and_path(client: Any, wire: Wire) -> None:
    """Each request is counted once, on connections that are used again too."""
    for _ in range(3):
        client.ping()
    client.containers(all=True)
    assert wire.count("GET", "/_ping") == 3
    assert wire.count("GET", r"/containers/json\?.*all=1") == 1
    assert wire.count("", ".") == 4


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_a_dropped_response_was_obeyed(
    client: Any, wire: Wire, docker_engine: Engine, mine: str
) -> None:
    """The container exists, though the client never heard so; the next request goes through."""
    rule = wire.drop_response("POST", "/containers/create")
    with pytest.raises(requests.exceptions.ConnectionError):
        create(client, "true", name=f"dropped-{os.getpid()}")
    assert rule.hits == 1
    assert names(docker_engine, mine) == [f"/dropped-{os.getpid()}"]
    create(client, "true", name=f"second-{os.getpid()}")
    both = [f"/{name}-{os.getpid()}" for name in ("dropped", "second")]
    assert sorted(names(docker_engine, mine)) == both


def test_a_refused_request_was_not_obeyed(
    client: Any, wire: Wire, docker_engine: Engine, mine: str
) -> None:
    """The connection ends and the engine has not heard of it."""
    wire.refuse("POST", "/containers/create")
    with pytest.raises(requests.exceptions.ConnectionError):
        create(client, "true")
    assert names(docker_engine, mine) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_comes_from_the_wire_alone(
    client: Any, wire: Wire, docker_engine: Engine, mine: str, status: int
) -> None:
    """The client gets the status and the text, once, and the engine has not heard of it."""
    wire.answer("POST", "/containers/create", status, "not today")
    with pytest.raises(docker.errors.APIError, match="not today") as caught:
        create(client, "true")
    assert caught.value.status_code == status
    assert names(docker_engine, mine) == []
    create(client, "true")


def connect(wire: Wire) -> socket.socket:
    """A connection to the wire."""
    if wire.host.startswith("tcp"):
        host, port = wire.address.split(":")
        return socket.create_connection((host, int(port)), 30)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(wire.host.removeprefix("unix://"))
    return connection


def raw(wire: Wire, path: str) -> bytes:
    """The whole answer, as bytes, to its end."""
    with connect(wire) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while data := connection.recv(1 << 16):
            said += data
    return said


@pytest.mark.parametrize("after", [0, 1, 17, 1000, 70_000])
def test_an_answer_is_cut_after_so_many_bytes(client: Any, wire: Wire, after: int) -> None:
    """Exactly so many bytes of the answer come, and those are its beginning."""
    name = finished(client, "seq", str(LINES))
    path = f"/containers/{name}/logs?stdout=1&stderr=1"
    whole = raw(wire, path)
    assert len(whole) > LINES * 8
    wire.cut("GET", "/logs", after=after)
    cut = raw(wire, path)
    assert len(cut) == after
    assert _undated(cut) == _undated(whole)[: len(_undated(cut))]


def _undated(answer: bytes) -> bytes:
    return answer[:17] + answer.partition(b"\r\n\r\n")[2]


def test_a_cut_can_be_another_each_time(client: Any, wire: Wire) -> None:
    """A function says anew for each connection where it is cut."""
    places = iter([5, 50, 7])
    wire.cut("GET", "/info", after=lambda: next(places), times=3)
    assert [len(raw(wire, "/info")) for _ in range(3)] == [5, 50, 7]
    assert len(raw(wire, "/info")) > 50


def test_a_reset_is_no_end(docker_engine: Engine) -> None:
    """At TCP a cut can be a reset, which a client can tell from an end."""
    with Wire(docker_engine.host, tcp=True) as wire:
        wire.cut("GET", "/info", after=100, reset=True)
        with pytest.raises(ConnectionResetError):
            raw(wire, "/info")
        assert raw(wire, "/info").startswith(b"HTTP/1.1 200")


def test_a_stalled_answer_stays_away_and_then_goes_on(client: Any, wire: Wire) -> None:
    """Nothing comes after the stall and nothing ends; after `clear` the rest comes."""
    wire.stall("GET", "/info", after=100)
    arrived, got = threading.Event(), []

    def ask() -> None:
        got.append(raw(wire, "/info"))
        arrived.set()

    asking = threading.Thread(target=ask)
    asking.start()
    # However long the engine takes for it, the answer has come as far as that.
    until(lambda: any(each.exchange.passed == 100 for each in tuple(wire._connections)))
    assert not arrived.wait(0.5)
    wire.clear()
    asking.join(90)
    assert got[0].startswith(b"HTTP/1.1 200")
    assert got[0].endswith(b"\r\n0\r\n\r\n")


def test_a_delayed_request_is_answered_late(wire: Wire) -> None:
    """A client whose patience is shorter than the delay gets no answer, the next one does."""
    rule = wire.delay("GET", "/_ping", seconds=5)
    for client in _client(wire.host, timeout=0.5):
        with pytest.raises(requests.exceptions.RequestException):
            client.ping()
    for client in _client(wire.host):
        assert client.ping()
    assert rule.hits == 1


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_wire_that_is_down_comes_up_at_the_same_address(docker_engine: Engine, tcp: bool) -> None:
    """While it is down nobody answers, and no connection of before is left."""
    with Wire(docker_engine.host, tcp=tcp) as wire:
        host = wire.host
        assert answers(host)
        with connect(wire) as idle:
            idle.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: e\r\n\r\n")
            assert idle.recv(1000).startswith(b"HTTP/1.1 200")
            with connect(wire) as fresh:  # not served yet
                wire.down()
                assert idle.recv(1) == b""
                with contextlib.suppress(ConnectionResetError):
                    assert fresh.recv(1) == b""
        assert not answers(host)
        wire.up()
        assert wire.host == host
        assert answers(host)


def test_all_connections_break_at_once(client: Any, wire: Wire) -> None:
    """A stream that is being followed ends for its reader; new connections are taken."""
    name = create(client, "sh", "-c", "echo begun; sleep 1000")
    client.start(name)
    begun, ended = threading.Event(), threading.Event()

    def follow() -> None:
        for _ in client.logs(name, stream=True, follow=True):
            begun.set()
        ended.set()

    following = threading.Thread(target=follow)
    following.start()
    assert begun.wait(90)
    assert not ended.is_set()
    assert wire.break_all() >= 1
    following.join(90)
    assert ended.is_set()
    assert client.inspect_container(name)["State"]["Running"]


# -- the registry ---------------------------------------------------------------------------------


def pull(engine: Engine, name: str, **options: Any) -> str:
    """Pulls; the error, or nothing."""
    client = engine.client(timeout=120)
    try:
        said = list(client.pull(name, stream=True, decode=True, **options))
        return "".join(str(each["error"]) for each in said if "error" in each)
    except docker.errors.APIError as why:
        return str(why)
    finally:
        client.close()


def has(engine: Engine, name: str) -> bool:
    """Whether the engine has this image."""
    client = engine.client()
    try:
        return bool(client.inspect_image(name))
    except docker.errors.ImageNotFound:
        return False
    finally:
        client.close()


def test_an_image_is_pulled_from_the_registry(engine: Engine, registry: Registry) -> None:
    """What was put there is fetched layer by layer, and runs."""
    name = registry.put("big", "team/app:1")
    assert pull(engine, name) == ""
    assert registry.wire.count("GET", "/team/app/blobs/sha256:") >= 4
    with engine.client() as client:
        host = client.create_host_config(network_mode="none")
        made = client.create_container(
            name, ["sh", "-c", "cat /big/* | wc -c"], host_config=host, labels=["qwex.run"]
        )
        try:
            client.start(made["Id"])
            client.wait(made["Id"])
            assert client.logs(made["Id"]) == b"30000000\n"
        finally:
            client.remove_container(made["Id"], v=True, force=True)


def test_an_engine_pushes_what_it_has(engine: Engine, registry: Registry) -> None:
    """A pushed image can be pulled; the engine itself keeps it under its old name alone."""
    name = registry.push(engine, images.image(engine, "busybox"), "team/pushed:1")
    assert not has(engine, name)
    assert has(engine, "qwex-test/busybox:1")
    assert pull(engine, name) == ""
    assert has(engine, name)


def test_a_cut_pull_fails(engine: Engine, registry: Registry) -> None:
    """An image whose layers don't arrive is not there afterwards; with a whole wire it comes."""
    name = registry.put("busybox", "team/app:1")
    # Within the head: current engines go on where a cut answer ended.
    rule = registry.wire.cut("GET", "/blobs/", after=100, times=None)
    assert pull(engine, name)
    assert rule.hits
    assert not has(engine, name)
    registry.wire.clear()
    # A current engine may still be collecting what it had of the failed one, and then fails once.
    assert not (pull(engine, name) and pull(engine, name))
    assert has(engine, name)


def test_a_missing_tag_is_told(engine: Engine, registry: Registry) -> None:
    """A tag that isn't there is an error that says so."""
    registry.put("busybox", "team/app:1")
    assert "not found" in pull(engine, f"{registry.address}/team/app:2").lower().replace(
        "manifest unknown", "not found"
    )


def test_a_private_registry_wants_a_password(engine: Engine, private_registry: Registry) -> None:
    """Without the password nothing is given, with it the image is."""
    name = private_registry.put("busybox", "team/app:1")
    said = pull(engine, name).lower()
    assert "no basic auth credentials" in said or "authentication required" in said
    assert not has(engine, name)
    assert pull(engine, name, auth_config=private_registry.auth) == ""


def test_a_slow_layer_comes_whole(docker_engine: Engine, registry: Registry) -> None:
    """At 5 MB a second the pull takes as long as that says, tells of it, and is whole."""
    name = registry.put("big", "team/slow:1")
    registry.wire.slow("GET", "/blobs/", rate=5_000_000)
    started = time.monotonic()
    with docker_engine.client() as client:
        said = list(client.pull(name, stream=True, decode=True))
    took = time.monotonic() - started
    shares = [each["progressDetail"]["current"] for each in said if each.get("progressDetail")]
    # How often an engine tells its share depends on how busy the machine is; the least time
    # that so many bytes take doesn't.
    assert took > max(shares) / 5_000_000 * 0.9
    assert len({share for share in shares if 0 < share < 9_000_000}) >= 5
    assert has(docker_engine, name)


class TestAfterwards:
    """What is there when a test is over."""

    @pytest.fixture(scope="class")
    @classmethod
    def pulled(cls, session_engine: Callable[[str], Engine]) -> Iterator[list[str]]:
        """The image that the test pulls; it must be gone when all for one test is taken away."""
        names: list[str] = []
        yield names
        assert names
        assert not has(session_engine("docker"), names[0])

    def test_pulled_images_are_gone(
        self, docker_engine: Engine, registry: Registry, pulled: list[str]
    ) -> None:
        """What a test pulled from a registry doesn't stay in the engine's folder."""
        pulled.append(registry.put("busybox", "team/gone:1"))
        assert pull(docker_engine, pulled[0]) == ""
        assert has(docker_engine, pulled[0])
