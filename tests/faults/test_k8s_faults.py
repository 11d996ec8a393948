"""No run in a cluster is lost, doubled or given a wrong outcome: faults of the wire, one by one.

What is done to the cluster's own parts is in ``test_k8s_parts.py``; docs/reliability.md counts
what the campaign (``k8s_chaos``) did at random.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import clock
import pytest
from actors import Actor, end_once
from clusters import Cluster
from environment import ROOT
from k8s_place import PATIENCE, WAIT, Place, page, until
from kube_wire import KubeWire
from wire import Rule

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable, SubmitFailed
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.k8s import cluster as k8s_cluster
from qwex_jupyter.runners.k8s import watch

POST, NAMED = r"/jobs\?", "/jobs/qwex-"


@pytest.fixture
def place(
    cluster: Cluster, kube_wire: KubeWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A namespace of the session's cluster, behind a wire, under the documented Role."""
    here = Place(cluster, tmp_path, kube_wire)
    monkeypatch.setenv("KUBECONFIG", here.kubeconfig)
    yield here
    kube_wire.clear()
    here.close()


Trouble = Callable[[KubeWire, str, str, int], Rule]


def _answers(status: int) -> Trouble:
    return lambda wire, method, path, times: wire.answer(method, path, status, times=times)


def _pages(status: int) -> Trouble:
    return lambda wire, method, path, times: page(wire, method, path, status, times)


# What may come in place of an answer, without anything having been done.
TURNED_AWAY: dict[str, Trouble] = {
    **{str(status): _answers(status) for status in (409, 429, 500, 503, 504)},
    "login page": _pages(200),
    "redirect": _pages(302),
    "page of a proxy": _pages(502),
    "no answer": lambda wire, method, path, times: wire.refuse(method, path, times),
}
# And with it.
LOST = {
    "lost": lambda wire, method, path, times: wire.drop_response(method, path, times),
    "cut": lambda wire, method, path, times: wire.cut(method, path, 40, times),
    "reset": lambda wire, method, path, times: wire.cut(method, path, 40, times, reset=True),
}
# Something in between that says no once.
MISTAKEN = {str(status): _answers(status) for status in (401, 403, 404, 410)}
TROUBLES: dict[str, Trouble] = {**TURNED_AWAY, **LOST, **MISTAKEN}


def once_each(place: Place, run: Run, code: int | None) -> None:
    """Asserts that a run was executed once, by one Job, and ended with that code."""
    record = place.end(run)
    assert (record.status.final, record.exit_code) == (True, code), record.sentence
    assert place.executions(run) == 1
    assert len(place.jobs(run.run_id)) == 1


# -- the Job's POST -------------------------------------------------------------------------------


def test_a_post_that_is_lost_or_turned_away_makes_one_job(place: Place) -> None:
    """Whatever comes in place of the answer to the Job's POST, there is one Job, executed once."""
    assert place.wire is not None
    place.manager = place.another(Patience(post=1.5))
    troubles = {**TURNED_AWAY, **LOST, "401": MISTAKEN["401"]}
    troubles["stalled"] = lambda wire, method, path, times: wire.stall(method, path, 0, times)
    runs = {}
    for number, (name, trouble) in enumerate(troubles.items()):
        rule = trouble(place.wire, "POST", POST, 1)
        runs[name] = place.submit(f"exit {number}"), number
        assert rule.hits == 1, name
    for run, code in runs.values():
        once_each(place, run, code)


@pytest.mark.parametrize("status", MISTAKEN)
def test_a_job_that_is_refused_leaves_nothing(place: Place, status: str) -> None:
    """A POST that is refused for good is a SubmitFailed: no Job, no run."""
    assert place.wire is not None
    MISTAKEN[status](place.wire, "POST", POST, 2)
    with pytest.raises(SubmitFailed):
        place.submit("exit 0")
    assert place.manager.history.run_ids() == []
    assert place.jobs() == []


def test_a_post_that_nobody_took_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no connection the Job can't have been made: SubmitFailed, and no run."""
    assert place.wire is not None
    place.manager = place.another(Patience(connects_for=1.0))
    place.end(place.submit("exit 0"))
    place.wire.down()
    runner: Any = place.manager.runner("k8s")
    runner._cluster._heard = float("-inf")  # not a moment ago
    with pytest.raises(RunnerUnavailable):
        place.submit("exit 0")
    # It answered a moment ago, so this is first seen by the POST.
    monkeypatch.setattr(runner, "check", lambda: None)
    with pytest.raises(SubmitFailed, match="Nothing was started"):
        place.submit("exit 0")
    assert len(place.manager.history.run_ids()) == 1
    place.wire.up()
    assert len(place.jobs()) == 1


@pytest.mark.parametrize("then", ["403", "401", "503"])
def test_a_no_after_a_lost_answer_is_no_proof(place: Place, then: str) -> None:
    """Where the first POST may have been carried out, a later no doesn't make it undone."""
    assert place.wire is not None
    place.manager = place.another(Patience(try_for=2.0))
    {**TROUBLES}[then](place.wire, "POST", POST, 1000)
    place.wire.drop_response("POST", POST)  # the newer rule acts first
    named = place.wire.refuse("GET", NAMED, times=None)
    run = place.submit("exit 5")
    assert named.hits
    place.wire.clear()
    once_each(place, run, 5)


@pytest.mark.tier("quick")
def test_a_job_of_another_history_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Job of a run's name that is none of this history is refused, and never touched."""
    from qwex_jupyter.manager import prepared

    run_id = prepared.new_run_id(time.time())
    monkeypatch.setattr(prepared, "new_run_id", lambda _: run_id)
    plan = place.manager.runner("k8s").plan(place.spec("exit 0"), run_id)
    theirs = plan["job"]
    for labels in (theirs["metadata"]["labels"], theirs["spec"]["template"]["metadata"]["labels"]):
        labels["qwex.history"] = "another"
    path = f"/apis/batch/v1/namespaces/{place.namespace}/jobs"
    made = place.cluster.api.create(path, theirs)
    with pytest.raises(SubmitFailed, match="isn't of this run"):
        place.submit("exit 0")
    place.manager.runner("k8s").delete(run_id)
    assert place.jobs()[0]["metadata"]["uid"] == made["metadata"]["uid"]


# -- questions ------------------------------------------------------------------------------------


def test_no_answer_to_a_question_is_an_outcome(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes in place of answers to GET and list, a run is what it was, then ends."""
    assert place.wire is not None
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    runs = [place.submit(f"{WAIT}; exit {code}") for code in (0, 6)]
    place.running(*runs)
    place.manager.close()
    asking = place.another()  # without a loop, and so without watches
    questions = (NAMED, "/pods[?]", "")
    for path in questions:
        for name, trouble in TROUBLES.items():
            for times in (1, 4):
                trouble(place.wire, "GET", path, times)
                asking.tracker.look([run.run_id for run in runs])
                for run in runs:
                    record = asking.tracker.record(run.run_id)
                    assert record.status is RunStatus.RUNNING, (path, name, record.sentence)
                    assert record.reason in ("", Reason.BACKEND_UNREACHABLE), (path, name)
                place.wire.clear()
    place.manager = asking
    place.go()
    for run, code in zip(runs, (0, 6), strict=True):
        once_each(place, run, code)


def test_not_found_by_name_is_not_believed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 404 of a Job's name, be it said again and again, is no end while its label finds it."""
    assert place.wire is not None
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    run = place.submit("exit 3", command=("sh",), patch={"nodeSelector": {"no": "such"}})
    place.manager.close()
    asking = place.another()
    place.wire.answer("GET", NAMED, 404, times=None)
    for _ in range(3):
        asking.tracker.look([run.run_id])
        record = asking.tracker.record(run.run_id)
        assert record.status is RunStatus.PENDING, record.sentence
        with pytest.raises(QwexError):
            asking.delete(run.run_id)
    assert len(place.jobs(run.run_id)) == 1


# -- the watch ------------------------------------------------------------------------------------


def mirrors(place: Place) -> list[watch.Mirror]:
    """Those of the manager's runner."""
    return list(place.manager.runner("k8s")._finder._mirrors.values())  # type: ignore[attr-defined]


def heard(place: Place) -> None:
    """Waits until both watches are heard."""
    until(lambda: all(mirror.live for mirror in mirrors(place)))


def test_a_watch_goes_on_after_whatever_ended_it(place: Place) -> None:
    """After each kind of trouble, of the list too, both watches are heard again."""
    assert place.wire is not None
    place.manager = place.another(Patience(watch_pause=0.05, longest_watch_pause=0.05))
    run = place.submit(f"{WAIT}; exit 7")
    place.running(run)
    heard(place)
    for path in ("watch=true", "/(jobs|pods)[?]"):
        for name, trouble in {**TROUBLES, "too old": _too_old}.items():
            rule = trouble(place.wire, "GET", path, 2)
            place.wire.break_all()
            until(lambda rule=rule: rule.hits == 2)  # type: ignore[misc]
            heard(place)
            assert place.manager.tracker.record(run.run_id).status is RunStatus.RUNNING, name
            place.wire.clear()
    place.go()
    once_each(place, run, 7)


def _too_old(wire: KubeWire, method: str, path: str, times: int) -> Rule:
    rule = wire.error_event(path)
    rule.times = times
    return rule


def test_a_list_that_is_always_too_old_is_not_asked_for_without_end(place: Place) -> None:
    """While every list is 410, a few are asked for in a second, and not thousands."""
    assert place.wire is not None
    run = place.submit("exec sleep 600")
    place.running(run)
    heard(place)
    rule = place.wire.answer("GET", "/(jobs|pods)[?]", 410, times=None)
    place.wire.break_all()
    until(lambda: rule.hits)
    time.sleep(3.0)
    assert rule.hits < 40


def test_a_watch_that_hangs_is_given_up(place: Place) -> None:
    """A watch whose connection is dead, while others work, hides an end for a while only."""
    assert place.wire is not None
    assert Patience().watch_silence < 60
    place.manager = place.another(Patience(watch_silence=3.0))
    run = place.submit(f"{WAIT}; exit 4")
    place.running(run)
    heard(place)
    rule = place.wire.stall("GET", "watch=true", 0, times=2)
    place.wire.break_all()
    until(lambda: rule.hits == 2)
    place.go()
    once_each(place, run, 4)


def test_a_server_that_hangs_is_said_to(place: Place) -> None:
    """When nothing answers any more, a run that nobody looks at says so within 15 s."""
    assert place.wire is not None
    run = place.submit(f"{WAIT}; exit 2")
    place.running(run)
    heard(place)
    place.wire.stall("", "", 0, times=None)
    hang(place.wire)
    begun = time.monotonic()
    until(lambda: place.manager.tracker.record(run.run_id).reason == Reason.BACKEND_UNREACHABLE)
    assert time.monotonic() - begun < 15.0
    record = place.manager.tracker.record(run.run_id)
    assert record.status is RunStatus.RUNNING
    place.go()
    time.sleep(1.0)
    place.wire.clear()
    healed = time.monotonic()
    once_each(place, run, 2)
    assert time.monotonic() - healed < 60.0


def hang(wire: KubeWire) -> None:
    """Has the answers that are under way stop as well, without an end."""
    for connection in tuple(wire._connections):
        exchange = connection.exchange
        exchange.rule = replace(exchange.rule, stall=True)
        exchange.limit = 0


# -- output ---------------------------------------------------------------------------------------

TALK = "i=0; while [ $i -lt 300 ]; do echo out $i; i=$((i+1)); done; printf end"
TALKED = "".join(f"out {i}\n" for i in range(300)).encode() + b"end"


def test_output_comes_whole_after_whatever_came_instead(place: Place) -> None:
    """Whatever comes once or twice in place of a log's answer, its output is whole, and once."""
    assert place.wire is not None
    place.manager = place.another(Patience(rest_of_pod=2.0, log_silence=2.0))
    troubles = {**TROUBLES}
    troubles["stalled"] = lambda wire, method, path, times: wire.stall(method, path, 300, times)
    runs = {name: place.submit(f"{WAIT}; {TALK}; exit 1") for name in troubles}
    rules = {}
    for name, run in runs.items():
        at = f"/pods/qwex-{run.run_id}[^/]*/log"
        rules[name] = troubles[name](place.wire, "GET", at, 2)
    place.go()
    for name, run in runs.items():
        record = place.end(run)
        assert (record.exit_code, record.log_missing) == (1, {}), (name, record.message)
        assert run.log.read("stdout") == TALKED, name
        assert rules[name].hits == 2, name


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_log_cut_at_any_byte_is_whole_in_the_end(
    place: Place, tmp_path: Path, reset: bool
) -> None:
    """An answer that ends at any of many bytes is gone on with just there."""
    assert place.wire is not None
    run = place.submit(f"{WAIT}; {TALK}")
    place.running(run)
    place.go()  # what is said before a stream is open is dropped
    place.end(run)
    runner: Any = place.manager.runner("k8s")
    offsets = [*range(20, 700, 67), *range(700, 13000, 901)]
    for number, offset in enumerate(offsets):
        folder = tmp_path / str(number) / run.run_id
        folder.mkdir(parents=True)
        shutil.copy(Path(run.log.folder, LAUNCH), folder)
        log, stop = RunLog(str(folder)), threading.Event()
        place.wire.cut("GET", "/log[?]", offset, reset=reset)
        place.wire.cut("GET", "/log[?]", offset // 2 + 500, reset=reset)
        for _ in range(50):
            with contextlib.suppress(BackendUnreachable):
                if runner.follow(run.run_id, log, stop):
                    break
        assert log.read("stdout") == TALKED, offset
        place.wire.clear()


def test_a_silent_stream_that_is_closed_is_no_end(place: Place) -> None:
    """A log that something closes after each silence is gone on with, byte for byte."""
    assert place.wire is not None
    place.manager = place.another(Patience(log_silence=1.0))
    words = "for i in 1 2 3 4 5; do echo line $i; echo err $i >&2; sleep 0.7; done; printf last"
    run = place.submit(words)
    broken = threading.Event()

    def breaks() -> None:
        for _ in range(16):  # and then leaves it alone
            if broken.wait(0.5):
                return
            place.wire.break_all()  # type: ignore[union-attr]

    breaker = threading.Thread(target=breaks)
    breaker.start()
    try:
        with place.manager.output.following(run.run_id):
            record = place.end(run)
    finally:
        broken.set()
        breaker.join()
    assert (record.exit_code, record.log_missing) == (0, {})
    said = run.log.read("stdout").decode()
    out = "".join(f"line {i}\n" for i in range(1, 6)) + "last"
    err = "".join(f"err {i}\n" for i in range(1, 6))
    both = said + run.log.read("stderr").decode()
    assert sorted(both) == sorted(out + err)
    assert re.sub("err .\n", "", said) == out


# -- stops and deletes ----------------------------------------------------------------------------


def test_a_stop_is_carried_out_after_whatever_came_instead(place: Place) -> None:
    """Whatever comes in place of a PATCH's answer, a stop is repeated and the output is kept."""
    assert place.wire is not None
    runs = {name: place.submit("echo before; exec sleep 600") for name in TROUBLES}
    place.running(*runs.values())
    for name, run in runs.items():
        TROUBLES[name](place.wire, "PATCH", f"/(jobs|pods)/qwex-{run.run_id}", 2)
        run.cancel()
    for name, run in runs.items():
        record = place.end(run)
        if place.lost_sight(run):  # as a runtime does now and then on a busy machine
            assert (record.status, record.reason) == (RunStatus.LOST, Reason.NODE_LOST), name
            continue
        assert record.status is RunStatus.CANCELLED, (name, record.sentence)
        assert run.log.read("stdout") == b"before\n", name
        assert record.log_missing == {}, name


def test_a_job_is_released_after_whatever_came_instead(place: Place) -> None:
    """Whatever comes in place of the answers, in the end each Job has the day on which it goes."""
    assert place.wire is not None
    place.manager = place.another(Patience(seen_again=0.5))
    runs = {name: place.submit(f"{WAIT}; exit 0") for name in TROUBLES}
    place.running(*runs.values())
    for name, run in runs.items():
        TROUBLES[name](place.wire, "PATCH", f"/jobs/qwex-{run.run_id}", 1)
        if name == "404":
            TROUBLES[name](place.wire, "GET", f"/jobs/qwex-{run.run_id}", 1)
    place.go()
    for run in runs.values():
        place.end(run)

    def released(run: Run) -> bool:
        (job,) = place.jobs(run.run_id)
        return job["spec"].get("ttlSecondsAfterFinished") == 3600

    for run in runs.values():
        until(lambda run=run: released(run))  # type: ignore[misc]


def test_nothing_is_called_deleted_that_is_still_there(place: Place) -> None:
    """After a delete that returned the Job is gone, whatever came in place of an answer."""
    assert place.wire is not None
    runs = {name: place.submit("exit 0") for name in TROUBLES}
    for run in runs.values():
        place.end(run)
    for name, run in runs.items():
        for method in ("DELETE", "GET"):
            TROUBLES[name](place.wire, method, f"/jobs/qwex-{run.run_id}", 1)
        for _ in range(3):
            try:
                place.manager.delete(run.run_id)
                break
            except QwexError:
                assert run.run_id in place.manager.history.run_ids()
        else:
            pytest.fail(f"{name}: never deleted")
        until(lambda run=run: not place.jobs(run.run_id))  # type: ignore[misc]


# -- what the pod waits for -----------------------------------------------------------------------


@pytest.fixture
def carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a spec needs to carry a file and a secret."""
    (tmp_path / "carried.txt").write_text("carried")
    monkeypatch.setenv("TOKEN", "hunter2")
    return {"files": (str(tmp_path / "carried.txt"),), "secrets": ("TOKEN",)}


@pytest.mark.parametrize("kind", ["configmaps", "secrets"])
def test_files_and_secrets_arrive_after_whatever_came_instead(
    place: Place, carries: dict[str, Any], kind: str
) -> None:
    """Whatever comes in place of a companion's answer, it is there once and the program runs."""
    assert place.wire is not None
    runs = []
    for name in ("lost", "cut", "429", "503", "500", "login page", "no answer", "401"):
        rule = TROUBLES[name](place.wire, "POST", f"/{kind}$", 1)
        runs.append(place.submit('test "$(cat carried.txt)$TOKEN" = carriedhunter2', **carries))
        assert rule.hits == 1
    for run in runs:
        once_each(place, run, 0)
        (job,) = place.jobs(run.run_id)
        assert "activeDeadlineSeconds" not in job["spec"]


@pytest.mark.parametrize("kind", ["configmaps", "secrets"])
def test_a_companion_that_is_refused_leaves_nothing(
    place: Place, carries: dict[str, Any], kind: str
) -> None:
    """When a Secret or ConfigMap is refused the Job goes too, and nothing was executed."""
    assert place.wire is not None
    place.wire.answer("POST", f"/{kind}$", 403)
    with pytest.raises(SubmitFailed):
        place.submit("exit 0", **carries)
    assert place.manager.history.run_ids() == []
    until(lambda: not place.jobs() and not place.pods())
    assert list(place.counters.iterdir()) == []

    def left(each: str) -> list[Any]:
        found = place.cluster.api.get(f"{place.core}/{each}")["items"]
        return [one for one in found if one["metadata"]["name"].startswith("qwex-")]

    until(lambda: not left("configmaps") and not left("secrets"))


def test_a_deadline_that_could_not_be_lifted_ends_no_run(
    place: Place, carries: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with its files that waits to be scheduled isn't taken for one without them."""
    assert place.wire is not None
    rule = place.wire.answer("PATCH", NAMED, 503)
    # A label of the node would be read once more by the kubelet, from a copy that may be older.
    run = place.submit(
        "exit 9", patch={"schedulingGates": [{"name": "qwex.test/later"}]}, **carries
    )
    assert rule.hits == 1
    # Before that a Job looks like one that nobody told of its files.
    until(lambda: any(pod["status"].get("conditions") for pod in place.pods(run.run_id)))
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    place.manager.tracker.look([run.run_id])
    assert run.record.status is RunStatus.PENDING, run.record.sentence
    [pod] = place.pods(run.run_id)
    path = f"{place.core}/pods/{pod['metadata']['name']}"
    place.cluster.api.patch(path, {"spec": {"schedulingGates": None}})
    once_each(place, run, 9)


# -- who was to start it dies ---------------------------------------------------------------------


def killed_at(place: Place, step: str, **more: Any) -> None:
    """Submits in a process that is killed at a step: of a fact, or before a call's answer."""

    def work() -> None:
        def fault(now: str) -> None:
            if now == step:
                os.kill(os.getpid(), signal.SIGKILL)

        call = k8s_cluster.Cluster.call

        def called(self: Any, method: str, path: str, **options: Any) -> Any:
            kind = path.partition("?")[0].split("/")[6 if "/apis/" in path else 5 :]
            fault(f"before {method} {kind[0] if kind else path}")
            answer = call(self, method, path, **options)
            fault(f"after {method} {kind[0] if kind else path}")
            return answer

        facts.fault = fault
        k8s_cluster.Cluster.call = called  # type: ignore[method-assign]
        RunManager(place.home).submit(place.spec("exit 8", **more), "k8s")

    actor = Actor(work, "", diary=Path(f"{place.home}-diary"))
    assert actor.finish() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ("launch.json:create", False),
        ("launch.json:linked", False),
        ("before POST jobs", False),
        ("after POST jobs", True),
    ],
)
def test_a_submitter_killed_around_the_post(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str, made: bool
) -> None:
    """A run whose submitter was killed ran once if its Job was made, and else is LOST."""
    monkeypatch.setattr(closing, "GOOD_FOR", 3.0)
    monkeypatch.setattr(closing, "_LAST_BREATH", 1.0)
    killed_at(place, step)
    (run_id,) = place.manager.history.run_ids()
    run = place.manager.get(run_id)
    place.manager.recover()
    if made:
        once_each(place, run, 8)
        return
    record = place.end(run)
    assert record.status is RunStatus.LOST, record.sentence
    assert record.exit_code is None
    assert (place.jobs(), place.executions(run)) == ([], 0)


@pytest.mark.parametrize(
    "step", ["after POST jobs", "before POST secrets", "after POST configmaps"]
)
def test_a_submitter_killed_before_the_secret_leaves_nothing(
    place: Place, carries: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A Job whose Secret never comes is taken away: LOST / NeverStarted, and nothing is left."""
    killed_at(place, step, **carries)
    (run_id,) = place.manager.history.run_ids()
    run = place.manager.get(run_id)
    place.manager.recover()
    assert run.record.status is RunStatus.PENDING, run.record.sentence
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    record = place.end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert record.exit_code is None
    until(lambda: not place.jobs() and not place.pods())
    assert place.executions(run) == 0


# -- clocks, credentials, contexts ----------------------------------------------------------------

_ELSEWHERE = """
import sys
from qwex_jupyter.manager.manager import RunManager
manager = RunManager(sys.argv[1])
manager.recover()
for run_id in manager.history.run_ids():
    record = manager.get(run_id).wait(150, check=False).record
    print(run_id, record.status, record.exit_code, record.reason or "-", flush=True)
manager.close()
"""


# The certificate is an hour older than it is.
@pytest.mark.parametrize("seconds", [3600, -3000], ids=["ahead", "behind"])
def test_a_kernel_whose_clock_is_off_tells_the_same(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """A kernel an hour ahead of the cluster's clock or behind it ends runs, and stops, as any."""
    (tmp_path / "clock").mkdir()
    shifted = clock.off(tmp_path / "clock", seconds)
    command = [sys.executable, "-c", "import time; print(time.time())"]
    told = subprocess.run(command, env={**os.environ, **shifted}, capture_output=True, check=True)
    assert abs(float(told.stdout) - time.time() - seconds) < 60
    place = Place(cluster, tmp_path)
    monkeypatch.setenv("KUBECONFIG", place.kubeconfig)
    script = "for i in $(seq 40); do echo line $i; sleep 0.02; done"
    plain = place.submit(f"{script}; exit 4")
    stopped = place.submit("echo before; exec sleep 600")
    ended = place.submit("exit 3")
    place.running(plain, stopped)
    until(lambda: [p for p in place.pods(ended.run_id) if p["status"]["phase"] == "Failed"])
    place.manager.close()
    text = _ELSEWHERE.replace(
        "manager.recover()\n",
        f"manager.get({stopped.run_id!r}).cancel()\nmanager.get({ended.run_id!r}).cancel()\n",
    )
    done = subprocess.run(
        [sys.executable, "-c", text, place.home],
        env={**os.environ, **shifted}, capture_output=True, text=True, check=False, timeout=120,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert found[plain.run_id] == ["FAILED", "4", "NonZeroExit"]
    assert found[ended.run_id] == ["FAILED", "3", "NonZeroExit"]
    assert found[stopped.run_id][0] == "CANCELLED"
    assert plain.log.read("stdout") == b"".join(b"line %d\n" % i for i in range(1, 41))
    assert stopped.log.read("stdout") == b"before\n"


def _in_the_end(place: Place, cell: str) -> Run:
    """A run that was handed over, though some were turned away: who is twice in a row is told."""
    for _ in range(10):
        with contextlib.suppress(SubmitFailed, RunnerUnavailable):
            return place.submit(cell)
    raise AssertionError("it is always turned away")


def test_credentials_that_run_out_are_got_anew(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a plugin whose tokens are refused (401) or missing by turns runs start and end."""
    given = json.loads(Path(place.kubeconfig).read_text())
    token = given["users"][0]["user"]["token"]
    plugin = tmp_path / "plugin"
    plugin.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        printf x >> {tmp_path}/asked
        token={token}
        case $(($(wc -c < {tmp_path}/asked) % 4)) in 1) token=expired ;; 3) exit 1 ;; esac
        until=$(date -u -d @$(($(date +%s) + 2)) +%Y-%m-%dT%H:%M:%SZ)
        echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        echo '"status": {{"token": "'$token'", "expirationTimestamp": "'$until'"}}}}'
        """)
    )
    plugin.chmod(0o755)
    given["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    mine = tmp_path / "exec.kubeconfig"
    mine.write_text(json.dumps(given))
    monkeypatch.setenv("KUBECONFIG", str(mine))
    runs = []
    for code in (0, 5, 6):
        runs.append(_in_the_end(place, f"echo said; sleep 3; exit {code}"))
        time.sleep(1.0)
    for run, code in zip(runs, (0, 5, 6), strict=True):
        once_each(place, run, code)
        assert run.log.read("stdout") == b"said\n"
    assert (tmp_path / "asked").stat().st_size > 2


def test_a_login_that_is_refused_is_no_outcome(place: Place) -> None:
    """While every answer is 401 a run is what it was, and says that one has to log in."""
    assert place.wire is not None
    run = place.submit(f"{WAIT}; exit 3")
    place.running(run)
    place.wire.answer("", "", 401, times=None)
    place.wire.break_all()
    until(lambda: "log in" in place.manager.tracker.fresh(run.run_id).message)
    assert run.record.status is RunStatus.RUNNING
    place.go()
    time.sleep(2.0)
    assert run.record.status is RunStatus.RUNNING
    place.wire.clear()
    once_each(place, run, 3)


@pytest.mark.parametrize("what", ["namespace", "cluster"])
def test_another_place_is_not_believed(
    place: Place, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A run that another namespace or server doesn't have is what it was; back there it ends."""
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    run = place.submit(f"{WAIT}; exit 6")
    place.running(run)
    # The same server by another name: nobody can tell that it is the same.
    namespace = place.namespace if what == "cluster" else ""
    other = place.cluster.kubeconfig(namespace=namespace)
    monkeypatch.setenv("KUBECONFIG", str(other))

    def elsewhere(manager: RunManager) -> None:
        for _ in range(2):
            manager.tracker.look([run.run_id])
            record = manager.tracker.record(run.run_id)
            assert record.status is RunStatus.RUNNING, record.sentence
            assert record.reason == Reason.BACKEND_UNREACHABLE
            assert place.namespace in record.message

    elsewhere(place.manager)
    fresh = place.another()
    fresh.recover()
    elsewhere(fresh)
    place.go()
    time.sleep(2.0)
    elsewhere(place.manager)
    monkeypatch.setenv("KUBECONFIG", place.kubeconfig)
    once_each(place, run, 6)


# -- many -----------------------------------------------------------------------------------------


def test_kernels_that_share_runs_agree(place: Place) -> None:
    """Two kernels with four managers each end the same runs: one record, no doubled line."""
    count = 6
    script = f"{WAIT}\nfor i in $(seq 50); do echo out $i; echo err $i >&2; done; exit %d"
    runs = [place.submit(script % (i % 4)) for i in range(count)]
    place.running(*runs)
    place.manager.close()

    def work() -> None:
        mine = [RunManager(place.home) for _ in range(4)]
        for one in mine:
            one.recover()
        for one in mine:
            ended = [one.get(run.run_id).wait(PATIENCE, check=False) for run in runs]
            assert [run.exit_code for run in ended] == [i % 4 for i in range(count)]
        until(lambda: not mine[0].history.open_ids())

    end_once(work, runs, place.home, place.counters / "go")
    for number, run in enumerate(runs):
        once_each(place, run, number % 4)
        said = run.log.read("stdout").decode()
        for stream in ("out", "err"):
            wanted = "".join(f"{stream} {i}\n" for i in range(1, 51))
            assert "".join(re.findall(rf"{stream} \d+\n", said)) == wanted
