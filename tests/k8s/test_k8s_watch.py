"""The watches of a cluster and the calls to it, by everything that servers and proxies answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Server, status, write

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.container.http_stream import Guard
from qwex_jupyter.runners.k8s import settings
from qwex_jupyter.runners.k8s.cluster import Cluster, Refused
from qwex_jupyter.runners.k8s.watch import Mirror

pytest_plugins = ["api_server"]

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

    where = settings.Where("https://here", "mine", "ca")
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
        fake.where = settings.Where("https://there", "mine", "ca")

    mirror.run(notify, stop)
    assert fake.asked == ["list", "1", "list", "7"]
    assert sorted(notified) == [A, A, B]
    assert mirror.of(A) == []


@pytest.mark.parametrize("kind", ["DELETED", "MODIFIED"])
def test_what_lost_its_label_is_gone(kind: str) -> None:
    """A server tells it as deleted or changed, as it is now: without what said that it is ours."""
    stop = Stop()
    bare = {"metadata": {"uid": "u", "resourceVersion": "3", "labels": {}}}
    fake = Fake([page(thing(A, 1))], [Stream(told(kind, bare))], stop)
    guard = Guard(lambda patience: None, "none")

    def run_of(item: Any) -> str:
        return str(item["metadata"]["labels"].get("run", ""))

    mirror = Mirror(fake, "pods", "x", run_of, dict, guard)  # type: ignore[arg-type]
    heard: list[str] = []
    mirror.run(heard.append, stop)
    assert mirror.of(A) == []
    assert heard == [A, A]


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
    at._time.learn("", 0.0, 1.0)
    at._time.learn("yesterday", 0.0, 1.0)
    assert at._time._ahead is None
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
    at.call("GET", "/x")
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
