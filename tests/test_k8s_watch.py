"""The watches of a cluster and the calls to it, by everything that servers and proxies answer."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.patience import Patience
from qwex_jupyter.runners import k8s_settings
from qwex_jupyter.runners.k8s_cluster import Cluster, Refused
from qwex_jupyter.runners.k8s_watch import Mirror
from qwex_jupyter.runners.streams import Guard

A, B = "20261124-120000-aaaaaa", "20261124-120000-bbbbbb"


def thing(run_id: str, version: int, phase: str = "", uid: str = "u") -> dict[str, Any]:
    """An object of a run."""
    meta = {"uid": uid, "resourceVersion": str(version), "labels": {"run": run_id}}
    return {"metadata": meta, "status": {"phase": phase}}


def page(*items: dict[str, Any], version: int = 1) -> dict[str, Any]:
    """A page of a list."""
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def told(kind: str, item: dict[str, Any]) -> bytes:
    """An event as it is sent."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def expired(code: int = 410) -> bytes:
    """The event by which an API server ends a watch."""
    return told("ERROR", {"kind": "Status", "code": code, "reason": "Expired", "message": "old"})


class Stream:
    """The answer of a watch, in pieces, and how it ends."""

    headers = {"Transfer-Encoding": "chunked"}  # noqa: RUF012

    def __init__(self, *events: bytes, end: str = "whole", piece: int = 7) -> None:
        data = b"".join(events)
        self.sent = b"%x\r\n%s\r\n" % (len(data), data) if data else b""
        self.sent += b"0\r\n\r\n" if end == "whole" else b""
        self.raw = self._fp = self.fp = self
        self.end, self.piece, self.closed = end, piece, 0

    def read1(self, size: int) -> bytes:
        """What has come."""
        found, self.sent = self.sent[: self.piece], self.sent[self.piece :]
        if not found and self.end == "silent":
            raise TimeoutError("timed out")
        if not found and self.end == "reset":
            raise ConnectionResetError("reset by peer")
        return found

    def close(self) -> None:
        """As urllib3's response."""
        self.closed += 1

    def release_conn(self) -> None:
        """As urllib3's response."""


class Stop(threading.Event):
    """Remembers for how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Doesn't."""
        self.waited.append(timeout or 0.0)
        return self.is_set()


class Fake:
    """A cluster whose lists and watches are what the test says; then it is over."""

    where = k8s_settings.Where("https://here", "mine", "ca")
    patience = Patience()

    def __init__(self, lists: list[Any], watches: list[Any], stop: Stop) -> None:
        self.lists, self.watches, self.stop = lists, watches, stop
        self.asked: list[str] = []

    def path(self, kind: str) -> str:
        """Of a kind."""
        return f"/{kind}"

    def forbidden(self, error: Refused, verb: str, kind: str) -> BackendUnreachable:
        """A no."""
        return BackendUnreachable(f"{verb} {kind}: {error}")

    def over(self) -> Refused:
        """The end, by an answer: that nobody answers would be told to every run."""
        self.stop.set()
        return Refused(410, "Expired", "it is over")

    def pages(self, kind: str, selector: str) -> Iterator[dict[str, Any]]:
        """A list."""
        if not self.lists:
            raise self.over()
        self.asked.append("list")
        found = self.lists.pop(0)
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, Exception):
                raise one
            yield one

    def stream(self, path: str, params: dict[str, Any], timeout: float) -> Any:
        """A watch."""
        if not self.watches:
            raise self.over()
        self.asked.append(params["resourceVersion"])
        found = self.watches.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "_run", lambda self: None)


def watched(lists: list[Any], watches: list[Any]) -> tuple[list[str], list[str], Mirror, Stop]:
    """What is asked, who is notified, and the mirror, after all that."""
    stop, notified = Stop(), list[str]()
    fake = Fake(lists, watches, stop)
    guard = Guard(lambda patience: None, "none")

    def run_of(item: Any) -> str:
        return str((item["metadata"].get("labels") or {}).get("run", ""))

    mirror = Mirror(fake, "pods", "x", run_of, lambda item: {"s": item["status"]}, guard)  # type: ignore[arg-type]
    states: list[bool] = []

    def notify(run_id: str) -> None:
        notified.append(run_id)
        states.append(mirror.live)

    mirror.run(notify, stop)
    assert not mirror.live
    return fake.asked, notified, mirror, stop


# -- the mirror ------------------------------------------------------------------------------------


def test_events_change_what_is_known() -> None:
    """Added, changed and deleted objects are as was told last, and each change is notified."""
    asked, notified, mirror, _ = watched(
        [[page(thing(A, 3), version=5), page(thing(B, 4), version=5)]],
        [
            Stream(
                told("MODIFIED", thing(A, 6, "Running")),
                told("MODIFIED", thing(A, 6, "Running")),  # twice
                told("ADDED", thing(A, 7, "Pending", "other")),
                told("DELETED", thing(B, 8)),
                told("DELETED", thing(B, 8)),
                told("BOOKMARK", {"metadata": {"resourceVersion": "99"}}),
                told("ADDED", {"metadata": {"resourceVersion": "100"}, "status": {}}),  # not ours
            ),
            Stream(end="whole"),
        ],
    )
    assert asked == ["list", "5", "100"]
    assert sorted(notified[:2]) == [A, B]
    assert notified[2:] == [A, A, B]
    assert mirror.of(A) == [{"s": {"phase": "Running"}}, {"s": {"phase": "Pending"}}]
    assert mirror.of(B) == []
    mirror.forget(A)
    assert mirror.of(A) == []


@pytest.mark.parametrize(
    "broken",
    [
        Refused(410, "Expired", "too old resource version: 1 (2)"),
        Stream(expired()),
        Stream(told("MODIFIED", thing(A, 6, "Running")), expired()),
        Stream(expired(500)),
        Stream(told("MODIFIED", thing(A, 6, "Running"))[:40], end="cut"),
        Stream(end="cut"),
        Stream(end="reset"),
        Stream(end="silent"),
        Stream(b"<html>502 Bad Gateway</html>\n"),
        Stream(b"5\n"),
        Stream(b"[]\n"),
        Refused(403, "Forbidden", "no"),
        Refused(429, "TooManyRequests", "later"),
        RunnerUnavailable("401"),
        BackendUnreachable("x"),
    ],
)
def test_after_anything_odd_everything_is_listed(broken: Any) -> None:
    """What was missed meanwhile is found by a list, and only what changed is notified.

    A watch that isn't given, by whatever but 410, is told to every run first, once.
    """
    first, second = page(thing(A, 1), thing(B, 1)), page(thing(A, 9, "Failed"), thing(B, 1))
    asked, notified, mirror, stop = watched([first, second], [broken, Stream()])
    assert asked[:3] == ["list", "1", "list"]
    refused = isinstance(broken, Exception) and getattr(broken, "status", 0) != 410
    assert notified.count(B) == 1 + refused
    assert not refused or sorted(notified[2:4]) == [A, B]
    assert notified[-1] == A
    assert mirror.of(A) == [{"s": {"phase": "Failed"}}]
    assert stop.waited[0] == Patience().watch_pause


def test_what_is_gone_from_a_list_is_notified() -> None:
    """An object that was deleted while nobody heard is gone, and its run is looked at."""
    _, notified, mirror, _ = watched([page(thing(A, 1)), page()], [Stream(end="cut"), Stream()])
    assert notified == [A, A]
    assert mirror.of(A) == []


def test_a_list_that_ends_in_the_middle_changes_nothing() -> None:
    """Half a list isn't taken for a whole one."""
    half = [page(thing(A, 1)), Refused(410, "Expired", "the continue token is too old")]
    _, notified, mirror, _ = watched([page(thing(A, 1), thing(B, 1)), half], [Stream(end="cut")])
    assert len(notified) == 2
    assert mirror.of(B) == [{"s": {"phase": ""}}]


def test_a_server_that_only_says_no_is_asked_ever_less() -> None:
    """Whatever it says, 410 too, the pauses grow; after a good watch they begin anew."""
    refusals = [Stream(expired()) for _ in range(4)]
    _, _, _, stop = watched([page()] * 6, [*refusals, Stream(), Stream(expired())])
    assert stop.waited[:5] == [0.2, 0.4, 0.8, 1.6, 0.2]
    _, _, _, stop = watched([Refused(403, "Forbidden", "no")] * 9, [])
    assert stop.waited[6:9] == [10.0] * 3


def test_that_nobody_answers_is_told_once() -> None:
    """Every known run is looked at when the answers end, and again only when they had come back."""
    gone = BackendUnreachable("nobody")
    lists = [page(thing(A, 1), thing(B, 1)), gone, gone, page(thing(A, 1), thing(B, 1)), gone, gone]
    asked, notified, mirror, _ = watched(lists, [gone, Stream(end="cut")])
    assert asked == ["list", "1", "list", "list", "list", "1", "list", "list"]
    assert [sorted(notified[n : n + 2]) for n in (0, 2, 4)] == [[A, B]] * 3
    assert len(notified) == 6
    assert mirror.of(A) == mirror.of(B) == [{"s": {"phase": ""}}]


def test_other_settings_are_another_list() -> None:
    """When they lead elsewhere, what was heard of the one cluster isn't gone on with."""
    first, second = Stream(), Stream()
    stop, notified = Stop(), list[str]()
    fake = Fake([page(thing(A, 1)), page(thing(B, 1), version=7)], [first, second], stop)
    guard = Guard(lambda patience: None, "none")

    def run_of(item: Any) -> str:
        return str(item["metadata"]["labels"]["run"])

    mirror = Mirror(fake, "pods", "x", run_of, dict, guard)  # type: ignore[arg-type]

    def notify(run_id: str) -> None:
        notified.append(run_id)
        fake.where = k8s_settings.Where("https://there", "mine", "ca")

    mirror.run(notify, stop)
    assert fake.asked == ["list", "1", "list", "7"]
    assert sorted(notified) == [A, A, B]
    assert mirror.of(A) == []


def test_it_is_live_only_while_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the watch is open, and after its end, nothing is known by it."""
    states = []
    stop = Stop()
    fake = Fake([page(thing(A, 1))], [Stream(told("MODIFIED", thing(A, 2, "x")))], stop)
    guard = Guard(lambda patience: None, "none")
    mirror = Mirror(fake, "pods", "x", lambda item: A, dict, guard)  # type: ignore[arg-type]
    mirror.run(lambda run_id: states.append(mirror.live), stop)
    assert states == [False, True]
    assert not mirror.live


# -- calls to a server -----------------------------------------------------------------------------

Answer = tuple[int, str, dict[str, str]] | Callable[["Server", str, str], tuple[int, str]]


class Server:
    """An HTTP server that answers as the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.default: tuple[int, Any, dict[str, str]] = (200, {"gitVersion": "v1.34.4"}, {})
        self.tokens: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.accepted: set[str] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + outer.ahead, usegmt=True)

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "")
                outer.tokens.append(token)
                outer.asked.append((self.command, self.path))
                status, body, headers = outer.answers.pop(0) if outer.answers else outer.default
                if outer.accepted is not None and token not in outer.accepted:
                    status, body, headers = 401, {"kind": "Status", "reason": "Unauthorized"}, {}
                if status == 0:
                    self.close_connection = True
                    return
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

        self.ahead = 0.0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def say(self, status: int, body: Any = "", **headers: str) -> None:
        """The next answer; status 0 hangs up."""
        self.answers.append((status, body, headers))

    def close(self) -> None:
        """Ends it."""
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def at(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that the kubeconfig of this test leads to."""
    write(tmp_path / "config", server.url, {"token": "one"})
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    made = Cluster()
    yield made
    made.close()


def write(path: Path, url: str, user: dict[str, Any], namespace: str = "mine") -> None:
    """A kubeconfig with one context, ``here``."""
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(content))
    # As if it were written later, on a file system that counts seconds.
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def status(code: int, reason: str = "", message: str = "") -> dict[str, Any]:
    """The Status object of an API server."""
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


def test_where_it_is(at: Cluster, server: Server) -> None:
    """The context says which server and namespace, and the identity holds both."""
    where = at.where
    assert (where.host, where.namespace, where.why) == (server.url, "mine", "the context here")
    assert where.identity == f"k8s://mine@{server.url}#system"
    assert Cluster("here", "other").where.namespace == "other"
    assert at.path("jobs", "x") == "/apis/batch/v1/namespaces/mine/jobs/x"
    assert server.asked == []


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
    configuration = cluster._configuration
    assert k8s_settings.authorization(configuration)["authorization"].lower() == "bearer t1"
    (tmp_path / "token").write_text("t2")
    cluster._open(again=True)
    assert k8s_settings.authorization(cluster._configuration)["authorization"].endswith("t2")


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0, 0.4])
def test_a_clock_that_is_off_is_learned(at: Cluster, server: Server, ahead: float) -> None:
    """The server's time is known to within a second, and never said to be later than it is."""
    server.ahead = ahead
    for _ in range(12):
        before = time.time()
        clock = at.clock()
        assert before + ahead - 1.3 <= clock <= time.time() + ahead
        time.sleep(0.09)
    assert abs(at.now() - time.time() - ahead) < 0.5
    server.ahead = ahead - 60  # it was set back
    assert at.clock() <= time.time() + ahead - 60
    assert abs(at.now() - time.time() - ahead + 60) < 1.1


def test_an_answer_without_a_date_tells_nothing(at: Cluster) -> None:
    """What is no date is no bound."""
    at._learn_clock("", 0.0, 1.0)
    at._learn_clock("yesterday", 0.0, 1.0)
    assert at._ahead is None
    assert abs(at.now() - time.time()) < 1


def test_what_a_no_says(at: Cluster, server: Server) -> None:
    """Kubernetes' own reasons are read, and a proxy's page is none."""
    server.say(403, status(403, "Forbidden", "jobs is forbidden: User x"))
    with pytest.raises(Refused) as caught:
        at.call("POST", "/x", body={})
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    for body in ("<html>Forbidden</html>", "[]", "5", "null", '"x"', "{", "", '{"kind": "x"}'):
        server.say(403, body)
        with pytest.raises(Refused) as caught:
            at.call("GET", "/x")
        assert (caught.value.reason, caught.value.text) == ("", body)
    server.asked.clear()
    server.say(302, "", Location="/login")
    with pytest.raises(BackendUnreachable, match="302"):
        at.call("GET", "/x")
    assert server.asked == [("GET", "/x")]


def test_only_kubernetes_says_that_something_is_not_there(at: Cluster, server: Server) -> None:
    """A 404 of the API server is none, of a proxy it is no answer."""
    server.say(404, status(404, "NotFound", 'jobs.batch "x" not found'))
    assert at.get("jobs", "x") is None
    for code, body in ((404, "404 page not found"), (302, ""), (400, "{}"), (403, status(403))):
        server.say(code, body)
        with pytest.raises(BackendUnreachable):
            at.get("jobs", "x")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 520])
def test_trouble_is_no_answer(at: Cluster, server: Server, code: int) -> None:
    """An overloaded server, or a proxy without one behind, says nothing of any run."""
    server.default = (code, "<html>Sorry</html>", {})
    for ask in (lambda: at.get("jobs", "x"), lambda: at.list("jobs", "a=b"), at.check, at.clock):
        with pytest.raises(BackendUnreachable):
            ask()


@pytest.mark.parametrize("body", ["<html>Hello</html>", "", "[]", "5", '{"items"'])
def test_a_page_in_the_place_of_an_answer(at: Cluster, server: Server, body: str) -> None:
    """200 with something else than an object is no answer."""
    server.default = (200, body, {})
    with pytest.raises(BackendUnreachable):
        at.list("pods", "a=b")


def test_a_question_is_asked_twice_and_nothing_else(at: Cluster, server: Server) -> None:
    """A GET whose connection broke is repeated once; a POST isn't, as it may have been heard."""
    at.check()
    server.say(0)
    assert at.call("GET", "/x").status == 200
    server.say(0)
    server.say(0)
    with pytest.raises(BackendUnreachable, match="doesn't answer"):
        at.call("GET", "/x")
    server.asked.clear()
    server.say(0)
    with pytest.raises(BackendUnreachable):
        at.call("POST", "/x", body={})
    assert [method for method, _ in server.asked] == ["POST"]


def test_a_list_comes_in_pages(at: Cluster, server: Server) -> None:
    """All pages are one list; one that became too old is no list."""
    server.say(200, {"kind": "PodList", "metadata": {"continue": "next"}, "items": [{"a": 1}]})
    server.say(200, {"kind": "PodList", "metadata": {}, "items": [{"a": 2}]})
    assert at.list("pods", "a=b") == [{"a": 1}, {"a": 2}]
    assert "continue=next" in server.asked[-1][1] and "labelSelector=a%3Db" in server.asked[-1][1]
    server.say(200, {"kind": "PodList", "metadata": {"continue": "next"}, "items": None})
    server.say(410, status(410, "Expired"))
    with pytest.raises(BackendUnreachable):
        at.list("pods", "a=b")


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address is one sentence."""
    write(tmp_path / "config", "http://127.0.0.1:9", {"token": "x"})
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(BackendUnreachable, match=r"at http://127.0.0.1:9 doesn't answer \("):
        Cluster().check()


# Any certificate: it is only hashed.
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
