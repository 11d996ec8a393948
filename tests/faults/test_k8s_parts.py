"""No run is lost, doubled or given a wrong outcome when parts of its cluster die, or take its pod.

Faults of the wire are in ``test_k8s_faults.py``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import k8s_chaos
import pytest
import workload
from campaign import assert_clean
from clusters import Cluster
from k8s_place import WAIT, Place, until

from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.k8s import state as k8s_state
from qwex_jupyter.runners.k8s.seen import Seen


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A namespace of the session's cluster, without a wire."""
    here = Place(cluster, tmp_path)
    monkeypatch.setenv("KUBECONFIG", here.kubeconfig)
    yield here
    here.close()


@pytest.fixture(scope="class")
def parts(request: pytest.FixtureRequest, class_cluster: Callable[..., Cluster]) -> Cluster:
    """The cluster of an `OwnCluster`."""
    return class_cluster(**request.cls.settings)


class OwnCluster:
    """Tests in a cluster of their own, one after the other, whose parts may be killed."""

    settings: Mapping[str, Any] = {}

    @pytest.fixture
    def cluster(self, parts: Cluster) -> Iterator[Cluster]:
        """The cluster of the class, whole and with nothing in it."""
        yield parts
        parts.start()  # what a test left killed or frozen
        parts.remove_namespaces()


# -- parts ----------------------------------------------------------------------------------------

PARTS = ("apiserver", "etcd", "controller-manager", "kubelet", "containerd")
SAY = "echo out; echo err >&2"


def until_there(name: str) -> str:
    """A piece of a program that waits for a file beside the counters."""
    return f"while [ ! -e /counters/{name} ]; do sleep 0.1; done"


def through(
    place: Place, part: str, fault: Callable[[str], None], heal: Callable[[str], None]
) -> None:
    """A fault of one part at several points of runs' lives; each has its own code in the end."""
    begin, away, back = f"{part}.begin", f"{part}.away", f"{part}.back"
    running = place.submit(f"{SAY}; {until_there(away)}; {until_there(back)}; {SAY}; exit 3")
    ending = place.submit(f"{SAY}; {until_there(away)}; touch /counters/$QWEX_RUN_ID.over; exit 4")
    over = place.submit(f"{until_there(begin)}; {SAY}; exit 5")
    place.running(running, ending, over)
    (place.counters / begin).touch()  # what is said before a stream is open is dropped
    for run in (running, ending, over):
        place.said(run, 2)  # what is on its way through a part that is killed would be lost
    late = {}
    late[6] = place.submit(f"{SAY}; exit 6")  # not started yet
    fault(part)
    if part not in ("apiserver", "etcd"):
        late[7] = place.submit(f"{SAY}; exit 7")
    (place.counters / away).touch()
    until(lambda: (place.counters / f"{ending.run_id}.over").exists())
    time.sleep(1.0)  # so long nobody hears of that end
    place.forget()
    heal(part)
    (place.counters / back).touch()
    place.manager.recover()
    for code, run in {3: running, 4: ending, 5: over, **late}.items():
        record = place.end(run)
        told = (part, code, record.sentence)
        if part == "containerd" and record.status is RunStatus.LOST:
            # One that is killed may forget a container that ends meanwhile; it says 255 then.
            assert (record.reason, record.exit_code) == (Reason.NODE_LOST, None), told
            assert place.executions(run) <= 1, told
            continue
        assert (record.status, record.exit_code) == (RunStatus.FAILED, code), told
        if part in ("apiserver", "etcd") and code == 6 and place.executions(run) > 1:
            # The answer to the making of its pod was lost, and its controller made another:
            # kubernetes.io/docs/concepts/workloads/controllers/job says that this may happen.
            until(lambda run=run: len(place.made(run)) == place.executions(run))  # type: ignore[misc]
        else:
            assert place.executions(run) == 1, told
        times = 2 if code == 3 else 1
        got = sorted(run.log.read("stdout").splitlines())
        if part == "containerd" and got == [] and code == 5:
            # One that is killed may forget what a container said that has ended: that is told.
            assert record.log_missing or record.missing, told
            continue
        assert got == sorted([b"out", b"err"] * times), told
        assert record.log_missing == {}, told


class TestParts(OwnCluster):
    """Parts that are killed and frozen."""

    @pytest.mark.timeout(600)
    def test_a_killed_part_loses_no_run(self, place: Place) -> None:
        """Each run ends once, with its code and output, after any part's SIGKILL and restart."""
        for part in PARTS:
            through(place, part, place.cluster.kill, place.cluster.restart)
        for run in map(place.manager.get, place.manager.history.run_ids()):
            assert len(place.pods(run.run_id)) <= max(1, place.executions(run))

    @pytest.mark.timeout(600)
    def test_a_frozen_part_loses_no_run(self, place: Place) -> None:
        """Each run ends once, with its code and output, after any part's SIGSTOP and SIGCONT."""
        for part in PARTS:
            through(place, part, place.cluster.freeze, place.cluster.thaw)

    def test_a_restarted_controller_executes_nothing_twice(self, place: Place) -> None:
        """Jobs whose pods die while there is no controller are not executed again by the next."""
        runs = {
            "sleeps": place.submit("exec sleep 600"),
            "taken": place.submit("exec sleep 600"),
            "fails": place.submit(f"{WAIT}; exit 7"),
        }
        place.running(*runs.values())
        place.forget()
        place.manager.close()
        place.cluster.kill("controller-manager")
        place.remove_pod(runs["taken"], force=True)
        place.evict(runs["sleeps"])
        place.go()
        until(lambda: all(ended_or_gone(place, run) for run in runs.values()))
        place.cluster.restart("controller-manager")
        place.forget()
        place.manager.recover()
        found = {name: place.end(run) for name, run in runs.items()}
        assert found["fails"].exit_code == 7
        for name in ("sleeps", "taken"):
            record = found[name]
            assert record.exit_code in (None, 143), record.sentence
            assert record.status in (RunStatus.LOST, RunStatus.FAILED)
        # The controller is done with each, so it makes no more pods.
        for run in runs.values():
            until(lambda run=run: place.jobs(run.run_id)[0]["status"].get("conditions"))  # type: ignore[misc]
        assert {place.executions(run) for run in runs.values()} == {1}


def ended_or_gone(place: Place, run: Run) -> bool:
    """Whether a run's program has ended, or its pod is one that is to go at once."""
    for pod in place.pods(run.run_id):
        states = [each["state"] for each in pod["status"].get("containerStatuses", ())]
        at_once = pod["metadata"].get("deletionGracePeriodSeconds") == 0
        if not at_once and not (states and all("terminated" in state for state in states)):
            return False
    return True


# -- the node -------------------------------------------------------------------------------------


class TestShort(OwnCluster):
    """A cluster that is quick to find that something is silent."""

    settings: Mapping[str, Any] = {
        "kubelet": {
            "nodeStatusUpdateFrequency": "1s",
            "nodeLeaseDurationSeconds": 4,
            "streamingConnectionIdleTimeout": "1s",
        },
        "flags": {
            "controller-manager": [
                "--node-monitor-grace-period=5s",
                "--node-monitor-period=1s",
            ]
        },
    }

    def test_a_stream_that_the_kubelet_closes_is_no_end(self, place: Place) -> None:
        """With a short idle timeout of the kubelet the output of a silent run is whole, once."""
        run = place.submit("for i in 1 2 3; do echo line $i; sleep 2; done; printf last")
        with place.manager.output.following(run.run_id):
            record = place.end(run)
        assert (record.exit_code, record.log_missing) == (0, {})
        assert run.log.read("stdout") == b"line 1\nline 2\nline 3\nlast"

    def test_a_lost_node_is_no_outcome(self, place: Place) -> None:
        """While its node is silent a run is RUNNING / NodeLost, and then as it really is."""
        taken = place.submit(f"{WAIT}; exit 5")
        waits = place.submit(f"{WAIT}; exit 6")
        ends = place.submit(f"{until_there('away')}; echo said; touch /counters/over; exit 7")
        place.running(taken, waits, ends)
        place.cluster.kill("kubelet")
        (place.counters / "away").touch()
        for run in (taken, waits, ends):
            until(
                lambda run=run: place.manager.tracker.fresh(run.run_id).reason == Reason.NODE_LOST
            )  # type: ignore[misc]
            record = place.manager.tracker.record(run.run_id)
            assert (record.status, record.exit_code) == (RunStatus.RUNNING, None)
            assert place.cluster.node in record.message
        deleted = place.pod_path(taken)
        # As the cluster does by itself, unless all of its nodes are silent.
        place.remove_pod(taken)
        place.cluster.api.wait(deleted, lambda pod: pod["metadata"].get("deletionTimestamp"))
        place.manager.tracker.look([taken.run_id])
        assert place.manager.tracker.record(taken.run_id).status is RunStatus.RUNNING
        until((place.counters / "over").exists)
        place.cluster.start()
        place.go()
        codes = {run: place.end(run).exit_code for run in (waits, ends)}
        assert list(codes.values()) == [6, 7]
        assert ends.log.read("stdout") == b"said\n"
        record = place.end(taken)
        # It read the file in time, or was ended as the pod's deletion wants it.
        assert record.exit_code in (5, 143, 137), record.sentence
        assert record.status is RunStatus.FAILED
        for run in (taken, waits, ends):
            assert place.executions(run) == 1


# -- the pod --------------------------------------------------------------------------------------

_OBEYS = "trap 'exit {}' TERM; touch /counters/$QWEX_RUN_ID.up; while :; do sleep 0.1; done"


def test_a_pod_that_is_taken_while_nobody_looks(place: Place) -> None:
    """Evicted, deleted or force-deleted, a run has the code that was seen, or none."""
    take = {
        "evict": place.evict,
        "delete": place.remove_pod,
        "force": lambda run: place.remove_pod(run, force=True),
    }
    runs: dict[tuple[str, str], Run] = {}
    for way in take:
        runs[way, "sleeps"] = place.submit("touch /counters/$QWEX_RUN_ID.up; exec sleep 600")
        runs[way, "nine"] = place.submit(_OBEYS.format(9))
        runs[way, "zero"] = place.submit(_OBEYS.format(0))
        runs[way, "ended"] = place.submit("touch /counters/$QWEX_RUN_ID.up; exit 4")
        runs[way, "done"] = place.submit("touch /counters/$QWEX_RUN_ID.up; exit 0")
    place.manager.close()
    place.managers[-1] = place.manager = place.another()
    for run in runs.values():
        until(lambda run=run: (place.counters / f"{run.run_id}.up").exists())  # type: ignore[misc]
    for (_, what), run in runs.items():
        if what in ("ended", "done"):
            until(lambda run=run: place.jobs(run.run_id)[0]["status"].get("conditions"))  # type: ignore[misc]
    for (way, _), run in runs.items():
        take[way](run)
    until(lambda: all(_settled(place, run) for run in runs.values()))
    place.manager.recover()
    for (way, what), run in runs.items():
        record = place.end(run)
        told = (way, what, record.status, record.exit_code, record.reason, record.message)
        print(*told)
        assert place.executions(run) == 1, told
        seen = {"sleeps": 143, "nine": 9, "zero": 0, "ended": 4, "done": 0}[what]
        none = record.exit_code is None and record.reason in (Reason.EVICTED, Reason.VANISHED)
        lost = none and record.status is not RunStatus.SUCCEEDED
        if what in ("ended", "done"):
            assert record.exit_code == seen, told
        else:
            assert record.exit_code == seen or lost, told
        if record.exit_code is not None:
            good = RunStatus.FAILED if record.exit_code else RunStatus.SUCCEEDED
            assert record.status is good, told
        if way == "evict" and none:
            assert record.reason == Reason.EVICTED, told


def _settled(place: Place, run: Run) -> bool:
    (job,) = place.jobs(run.run_id)
    return not place.pods(run.run_id) and bool(job["status"].get("conditions"))


@pytest.mark.tier("quick")
def test_a_sidecar_that_goes_on_keeps_no_run(place: Place) -> None:
    """A run ends with its own program, though another container of its pod would go on for ever."""
    beside = {"name": "beside", "image": place.image, "command": ["sleep", "600"]}
    run = place.submit(f"{WAIT}; echo said; exit 5", patch={"containers": [beside]})
    place.running(run)
    place.go()  # what is said before a stream is open is dropped
    record = place.end(run)
    assert (record.exit_code, run.log.read("stdout")) == (5, b"said\n")
    # What it was for is over: nothing of it runs on.
    until(lambda: not [p for p in place.pods(run.run_id) if p["status"]["phase"] == "Running"])


# -- campaigns, see docs/reliability.md -----------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.timeout(0)
class TestCampaigns(OwnCluster):
    """Campaigns, and their judge."""

    @pytest.mark.parametrize("mode", k8s_chaos.MODES)
    def test_killed_kernels_lose_no_job(
        self, cluster: Cluster, tmp_path: Path, chaos_seconds: int, mode: str
    ) -> None:
        """When kernels are killed, answers spoiled or parts die, each Job ends once, rightly."""
        campaign = k8s_chaos.K8sCampaign(str(tmp_path), 1, mode, cluster)
        tally = assert_clean(campaign, chaos_seconds)
        assert tally.right + tally.never_started + tally.rightly_lost == tally.runs
        more = campaign.more
        assert bool(more["wire_faults"]) == (mode == "faults")
        assert bool(more["parts_killed"] + more["parts_frozen"]) == (mode == "parts")
        assert mode == "parts" or not more["unwritten"]

    def test_the_judge_sees_what_is_wrong_with_a_job(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        """A campaign with a Job left behind, a lost byte and a second execution is not clean."""
        campaign = k8s_chaos.K8sCampaign(str(tmp_path), 2, "kernel", cluster, parallel=1)
        judge = campaign._judge

        def tamper(base: str, history: Any) -> None:
            ended = [run for run in history.run_ids() if history.record(run).exit_code is not None]
            lost, twice = ended[0], ended[-1]
            log = Path(history.folder(lost), "stdout.log")
            log.write_bytes(log.read_bytes()[:-1])
            Path(base, "counters", twice).write_bytes(b"xx")
            jobs = f"/apis/batch/v1/namespaces/{campaign._namespace}/jobs"
            path = f"{jobs}/qwex-{lost}"
            campaign._cluster.api.patch(path, {"spec": {"ttlSecondsAfterFinished": None}})
            judge(base, history)

        campaign._judge = tamper  # type: ignore[method-assign]
        faults = campaign.run(1.0).faults
        found = {name for name, count in faults.items() if count}
        assert found == {"left_open", "lost_bytes", "double_executions"}


# One whose stdout has five lines of two pieces each.
_LONG = next(
    name
    for name in (f"20261128-120000-{number:06d}" for number in range(1000))
    if len(workload.Pod(name).lines("stdout")) == 56
)


def woven(run_id: str) -> list[bytes]:
    """The pieces of a run's output, with lines of stderr between those of a line of stdout."""
    out, err = map(workload.Pod(run_id).pieces, workload.STREAMS)
    assert len(out) == len(err) + 5
    return [piece for pair in itertools.zip_longest(out, err) for piece in pair if piece]


def test_lines_between_the_pieces_of_another_are_no_loss() -> None:
    """Where stderr comes between the pieces of a line of stdout, all bytes are there."""
    pieces = woven(_LONG)
    cut = next(at for at, piece in enumerate(pieces) if len(piece) == workload.PIECE)
    assert pieces[cut + 1].startswith(b"stderr ")
    assert workload.Pod(_LONG).apart(b"".join(pieces)) == (b"", b"", b"")
    # Early, or late, as a whole.
    pieces.sort(key=lambda piece: piece.startswith(b"stderr "))
    for found in (pieces, pieces[-56:] + pieces[:-56]):
        assert workload.Pod(_LONG).apart(b"".join(found)) == (b"", b"", b"")


def test_each_piece_that_lacks_or_is_altered_is_seen() -> None:
    """A piece that is lost, cut, altered or comes twice or too late is no whole output."""
    pieces = woven(_LONG)
    for at, piece in enumerate(pieces):
        wrong = {
            "lost": [],
            "its last byte lost": [piece[:-1]],
            "its first byte lost": [piece[1:]],
            "altered": [piece[:-2] + bytes([piece[-2] ^ 1]) + piece[-1:]],
            "twice": [piece, piece],
            "a byte more": [piece, b"x"],
        }
        for what, instead in wrong.items():
            found = b"".join([*pieces[:at], *instead, *pieces[at + 1 :]])
            *lacking, rest = workload.Pod(_LONG).apart(found)
            assert any(lacking) or rest, (at, what)
            # What is believed and what lacks is what was printed, so nothing is counted twice.
            wanted = sum(map(len, pieces))
            assert len(found) - len(rest) + sum(map(len, lacking)) == wanted, (at, what)
    halves = [at for at, piece in enumerate(pieces) if len(piece) == workload.PIECE]
    for at in halves:  # the second half of a line before its first
        later = next(i for i in range(at + 1, len(pieces)) if pieces[i][:3] != b"std")
        swapped = list(pieces)
        swapped[at], swapped[later] = swapped[later], swapped[at]
        assert any(workload.Pod(_LONG).apart(b"".join(swapped))[:2])


@pytest.mark.parametrize(
    ("reason", "code", "expected"),
    [("Unknown", 255, None), ("Error", 255, 255), ("ContainerStatusUnknown", 137, None)],
)
def test_a_code_that_nobody_saw_is_none(reason: str, code: int, expected: int | None) -> None:
    """What containerd and the kubelet say of a container they lost is NodeLost, without a code."""
    ended = {"reason": reason, "exitCode": code, "startedAt": "2026-11-24T11:33:32Z"}
    statuses = [{"name": "main", "state": {"terminated": ended}}]
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Failed", "containerStatuses": statuses}}
    end = k8s_state.snapshot(Seen(None, pod, 1), None, 0.0).end
    assert end is not None
    assert (end.exit_code, end.reason == Reason.NODE_LOST) == (expected, expected is None)
