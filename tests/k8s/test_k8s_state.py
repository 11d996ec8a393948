"""What a Job and its pod mean for a run, as a real Kubernetes 1.34 shows them, to the last word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.model.verdict import Verdict, conclude
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.k8s import objects
from qwex_jupyter.runners.k8s import runner as k8s
from qwex_jupyter.runners.k8s import state as k8s_state
from qwex_jupyter.runners.k8s.seen import Seen, is_late

NOW = 1_795_500_100.0
ASKED = 1_795_500_050.0
ABOUT = {"handle": "k3x9qd", "timeout": 60, "start_timeout": 90, "memory": 64 * 1024**2}


def at(second: float) -> str:
    """So many seconds after six, as Kubernetes writes it."""
    return f"2026-11-24T06:{int(second) // 60:02}:{int(second) % 60:02}Z"


BEGUN, ENDED = at(10), at(40)


def terminated(code: int, reason: str = "", *, begin: Any = BEGUN, end: Any = ENDED, **more: Any):  # type: ignore[no-untyped-def]
    """A container's state."""
    why = reason or ("Completed" if not code else "Error")
    return {
        "terminated": {
            "exitCode": code,
            "reason": why,
            "startedAt": begin,
            "finishedAt": end,
            **more,
        }
    }


def disrupted(reason: str, message: str = "", since: str = at(39)) -> dict[str, Any]:
    """The condition of a pod whose place was taken."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


PULLING = {"waiting": {"reason": "ImagePullBackOff"}}
RUNNING = {"running": {"startedAt": at(10)}}


def pod(
    state: dict[str, Any] | None = None,
    *conditions: dict[str, Any],
    deleted: bool = False,
    deadline: int | None = None,
    others: tuple[dict[str, Any], ...] = (),
    **status: Any,
) -> dict[str, Any]:
    """What a watch keeps of a pod on the node n1."""
    meta = {"name": "qwex-r-x1", "uid": "p", "creationTimestamp": at(5)}
    if deleted:
        meta["deletionTimestamp"] = at(39)
    main = {"name": "main", "image": "busybox:1", "args": ["sh", "-c", "x"]}
    found = {"name": "main", "imageID": "docker.io/x@sha256:abc", "state": state}
    spec: dict[str, Any] = {"nodeName": "n1", "containers": [main]}
    if deadline:
        spec["activeDeadlineSeconds"] = deadline
    statuses = [*others, found] if state is not None else list(others)
    given = {"containerStatuses": statuses, "conditions": list(conditions), "startTime": at(6)}
    return objects.kept_pod({"metadata": meta, "spec": spec, "status": {**given, **status}})


def job(*conditions: tuple[str, str, str], at: str = at(42), **more: Any) -> dict[str, Any]:
    """What a watch keeps of a Job, with conditions as (type, reason, message)."""
    held = [
        {"type": kind, "status": "True", "reason": why, "message": text, "lastTransitionTime": at}
        for kind, why, text in conditions
    ]
    notes = {objects.HANDOVER: "files follow"} if more.pop("handover", False) else {}
    meta = {"name": "qwex-r", "uid": "j", "annotations": notes}
    return objects.kept_job({"metadata": meta, "spec": {}, "status": {"conditions": held, **more}})


def seen(pod: Any, job: Any = None, stop: Any = None) -> Snapshot:
    """What is said of a run."""
    return k8s_state.snapshot(Seen(job, pod, int(pod is not None)), stop, NOW)


def stopped(why: str, when: float = ASKED) -> dict[str, Any]:
    """A stop that was asked for."""
    return {"why": why, "who": "you", "at": when, "clock": when}


def concluded(found: Snapshot, stop: Any = None) -> Verdict:
    """The last word."""
    assert found.end is not None
    verdict = conclude(found.end, stop, ABOUT)
    if verdict.message:
        is_sentence(verdict.message)
    return verdict


def is_sentence(text: str) -> None:
    """What a person can read: no doubled full stop, no blank, no name of a Python thing."""
    assert ".." not in text and "  " not in text and "None" not in text and ": ;" not in text
    assert text[0].isupper() or not text.split()[0].isalpha()
    for command in re.findall(r"%qwex \S+ (\S+)", text):
        assert command.rstrip(",;.") == "k3x9qd"


NO_FILE = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc "
    'create failed: unable to start container process: exec: "/nope": stat /nope: no such file or '
    "directory: unknown"
)
NO_FOLDER = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc "
    "create failed: unable to start container process: error during container init: mkdir "
    "/dev/null: not a directory: unknown"
)
GONE = 'failed to start containerd task "1e113b269e65": context canceled'
LOW = (
    "The node was low on resource: %s. Threshold quantity: 100Mi, available: 53Mi. Container main "
    "was using 1Gi, request is 0, has larger consumption of %s. "
)
REJECTED = "Pod was rejected: %s"
EPOCH = "1970-01-01T00:00:00Z"
ENDS: dict[str, tuple[dict[str, Any], RunStatus, Reason, int | None, str]] = {
    "success": (pod(terminated(0)), RunStatus.SUCCEEDED, Reason.NONE, 0, ""),
    "exit code": (pod(terminated(7)), RunStatus.FAILED, Reason.NON_ZERO_EXIT, 7, "Exit code 7."),
    "signal": (pod(terminated(139)), RunStatus.FAILED, Reason.SIGNALLED, 139, "It crashed"),
    "memory": (
        pod(terminated(137, "OOMKilled")),
        RunStatus.FAILED,
        Reason.OUT_OF_MEMORY,
        137,
        "Killed for memory: used 64 MiB of the 64 MiB allowed. Try %qwex rerun k3x9qd --memory",
    ),
    "memory of a child": (
        pod(terminated(1, "OOMKilled")),
        RunStatus.FAILED,
        Reason.OUT_OF_MEMORY,
        1,
        "Killed for memory",
    ),
    "no such program": (
        pod(terminated(128, "StartError", begin=EPOCH, message=NO_FILE), phase="Failed"),
        RunStatus.FAILED,
        Reason.COMMAND_NOT_FOUND,
        None,
        "'sh' can't be run in busybox:1: it isn't in the image.",
    ),
    "no such folder to work in": (
        pod(terminated(128, "StartError", begin=EPOCH, message=NO_FOLDER), phase="Failed"),
        RunStatus.FAILED,
        Reason.COMMAND_NOT_FOUND,
        None,
        "'sh' can't be run in busybox:1: its working folder isn't there, and can't be made.",
    ),
    "a runtime that went as it was to start it": (
        pod(terminated(128, "StartError", begin=EPOCH, message=GONE), phase="Failed"),
        RunStatus.LOST,
        Reason.BACKEND_RESTARTED,
        None,
        "Its node's runtime was ended or restarted as it was to start it: its outcome isn't known",
    ),
    "its own deadline": (
        pod(terminated(143), reason="DeadlineExceeded", phase="Failed"),
        RunStatus.FAILED,
        Reason.TIMED_OUT,
        143,
        "Stopped after its timeout of 1m. Try %qwex rerun k3x9qd --timeout 2m",
    ),
    "its own deadline, and it ended well": (
        pod(terminated(0), reason="DeadlineExceeded", phase="Failed"),
        RunStatus.FAILED,
        Reason.TIMED_OUT,
        0,
        "Stopped after",
    ),
    "drained": (
        pod(
            terminated(143),
            disrupted("EvictionByEvictionAPI", "x"),
            deleted=True,
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        143,
        "It was evicted from n1, as when a node is drained; run it again.",
    ),
    "drained, and it ended well": (
        pod(terminated(0), disrupted("EvictionByEvictionAPI"), deleted=True),
        RunStatus.SUCCEEDED,
        Reason.NONE,
        0,
        "",
    ),
    "it had ended before it was drained": (
        pod(terminated(7), disrupted("EvictionByEvictionAPI", since=at(41)), deleted=True),
        RunStatus.FAILED,
        Reason.NON_ZERO_EXIT,
        7,
        "Exit code 7.",
    ),
    "preempted": (
        pod(terminated(143), disrupted("PreemptionByScheduler", "default-scheduler: preempting")),
        RunStatus.FAILED,
        Reason.EVICTED,
        143,
        "A pod of higher priority took its place; run it again.",
    ),
    "taint": (
        pod(
            terminated(143),
            disrupted("DeletionByTaintManager", "Taint manager: deleting"),
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        143,
        "n1 was not to be used any more, or was not heard of; run it again.",
    ),
    "short of memory": (
        pod(
            terminated(137),
            disrupted("TerminationByKubelet", LOW % ("memory", "memory")),
            reason="Evicted",
            message=LOW % ("memory", "memory"),
            phase="Failed",
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        137,
        "n1 ran short of memory: ask for what it needs with --memory; run it again.",
    ),
    "short of disk": (
        pod(
            terminated(137),
            disrupted("TerminationByKubelet", LOW % ("ephemeral-storage", "ephemeral-storage")),
            reason="Evicted",
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        137,
        "n1 ran short of ephemeral-storage; run it again.",
    ),
    "/dev/shm is too small": (
        pod(
            terminated(137),
            reason="Evicted",
            message='Usage of EmptyDir volume "shm" exceeds the limit "64Mi". ',
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        137,
        (
            'It was evicted from n1: Usage of EmptyDir volume "shm" exceeds the limit "64Mi": ask '
            "for more with --shm-size."
        ),
    ),
    "the node was shut down": (
        pod(
            terminated(143),
            disrupted("TerminationByKubelet", "x"),
            reason="Terminated",
            message="Pod was terminated in response to imminent node shutdown.",
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        143,
        "n1 ended it: Pod was terminated in response to imminent node shutdown; run it again.",
    ),
    "its pod was deleted": (
        pod(terminated(143), deleted=True),
        RunStatus.FAILED,
        Reason.SIGNALLED,
        143,
        "Its pod was deleted while it ran, so it was ended from outside; run it again.",
    ),
    "it had failed before its pod was deleted": (
        pod(terminated(3), deleted=True),
        RunStatus.FAILED,
        Reason.NON_ZERO_EXIT,
        3,
        "Exit code 3.",
    ),
    "its container was lost": (
        pod(
            terminated(
                137,
                "ContainerStatusUnknown",
                begin=None,
                end=None,
                message="The container could not be located when the pod was terminated",
            ),
            phase="Failed",
        ),
        RunStatus.LOST,
        Reason.NODE_LOST,
        None,
        "n1 was lost, or lost sight of its container, and nobody saw how it ended: its outcome",
    ),
    "node gone, container still said to run": (
        pod(RUNNING, disrupted("DeletionByPodGC", "PodGC: node no longer exists"), phase="Failed"),
        RunStatus.LOST,
        Reason.NODE_LOST,
        None,
        "n1 was lost",
    ),
    "refused by its node": (
        pod(
            None,
            phase="Failed",
            reason="OutOfcpu",
            message="Pod was rejected: Node didn't have enough resource: cpu, requested: 1000",
        ),
        RunStatus.FAILED,
        Reason.UNSCHEDULABLE,
        None,
        "n1 didn't take it (OutOfcpu): Pod was rejected: Node didn't have enough resource: cpu",
    ),
    "evicted before it began": (
        pod(
            None,
            phase="Failed",
            reason="Evicted",
            message="Pod was rejected: The node had condition: [DiskPressure]. ",
        ),
        RunStatus.FAILED,
        Reason.EVICTED,
        None,
        "It was evicted from n1: Pod was rejected: The node had condition: [DiskPressure]; run it",
    ),
    "deadline before it began": (
        pod(
            {"waiting": {"reason": "ImagePullBackOff"}},
            phase="Failed",
            reason="DeadlineExceeded",
            deadline=152,
        ),
        RunStatus.FAILED,
        Reason.START_DEADLINE_EXCEEDED,
        None,
        (
            "It had not started 2m32s after a node took it, its pod's own deadline; run it again "
            "with a longer --start-timeout."
        ),
    ),
    "what runs before it failed": (
        pod(
            {"waiting": {"reason": "PodInitializing"}},
            phase="Failed",
            initContainerStatuses=[{"name": "prep", "state": terminated(3)}],
        ),
        RunStatus.FAILED,
        Reason.ADMISSION_REFUSED,
        None,
        (
            "It never began, because what its pod runs before it failed: prep, with exit code 3. "
            "kubectl logs qwex-r-x1 -c prep says more."
        ),
    ),
    "succeeded, and no word of its container": (
        pod(None, phase="Succeeded", containerStatuses=None),
        RunStatus.SUCCEEDED,
        Reason.NONE,
        0,
        "",
    ),
    "failed, and no word of its container": (
        pod(None, phase="Failed", containerStatuses=None, conditions=None),
        RunStatus.LOST,
        Reason.VANISHED,
        None,
        "Its pod failed and says nothing of its container: its outcome isn't known.",
    ),
    "a sidecar runs on": (
        pod(terminated(0), others=({"name": "proxy", "state": RUNNING},), phase="Running"),
        RunStatus.SUCCEEDED,
        Reason.NONE,
        0,
        "",
    ),
    "a sidecar failed": (
        pod(terminated(0), others=({"name": "proxy", "state": terminated(1)},), phase="Failed"),
        RunStatus.SUCCEEDED,
        Reason.NONE,
        0,
        "",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_pod_ended(name: str) -> None:
    """Each end of a pod that was seen, or stands in the source, is one status and sentence."""
    found, status, reason, code, message = ENDS[name]
    snapshot = seen(found)
    verdict = concluded(snapshot)
    assert (verdict.status, verdict.reason, verdict.exit_code) == (status, reason, code)
    assert verdict.message.startswith(message)
    # The same when the Job is there, which says less.
    assert seen(found, job()) == k8s_state.replace(snapshot, uid="j")


def test_the_times_of_an_end() -> None:
    """A run has the times of its container, never a negative duration, none of the epoch."""
    found = seen(pod(terminated(0)))
    assert (found.started_at, found.finished_at) == (NOW - 90, NOW - 60)
    assert found.evidence["elapsed"] == 30.0
    assert found.evidence["image_digest"] == "sha256:abc"
    back = seen(pod(terminated(0, begin=at(40), end=at(30))))
    assert back.evidence["elapsed"] == 0.0
    never = seen(pod(terminated(128, "StartError", begin=EPOCH, message=NO_FILE)))
    assert (never.status, never.started_at, never.finished_at) == (RunStatus.PENDING, None, NOW)


def test_a_container_that_still_runs_at_a_deadline_is_not_lost() -> None:
    """A pod that failed by its deadline, before its container has ended, is no end yet."""
    found = seen(pod(RUNNING, reason="DeadlineExceeded", phase="Failed"))
    assert (found.status, found.end) == (RunStatus.RUNNING, None)
    lost = seen(pod(RUNNING, reason="NodeLost", phase="Failed"))
    assert lost.end is not None and lost.end.reason is Reason.NODE_LOST


def test_a_deadline_that_nobody_here_gave() -> None:
    """A pod's deadline without a --timeout was set there, and no time is made up for it."""
    found = seen(pod(terminated(143), reason="DeadlineExceeded", phase="Failed"))
    assert found.end is not None
    verdict = conclude(found.end, None, {"handle": "k3x9qd"})
    assert verdict.reason is Reason.TIMED_OUT
    assert verdict.message == (
        "Stopped by a deadline that was set where it ran, not with --timeout. %qwex rerun k3x9qd"
    )


# -- a stop ----------------------------------------------------------------------------------------

# (when it ended, of what, whether the deadline that we set ended it) -> what it is. The stop was
# asked for at second 50.
STOPS = [
    (40, 7, False, Reason.NON_ZERO_EXIT),
    (50, 7, False, Reason.NON_ZERO_EXIT),  # in the same second, by itself: before
    (50, 0, False, Reason.NONE),
    (50, 143, True, Reason.CANCELLED_BY_USER),  # in the same second, by us: after
    (51, 7, False, Reason.CANCELLED_BY_USER),
    (51, 0, False, Reason.CANCELLED_BY_USER),
    (52, 143, True, Reason.CANCELLED_BY_USER),
    (52, 0, True, Reason.CANCELLED_BY_USER),
    # Its own timeout had ended it before.
    (49, 143, True, Reason.TIMED_OUT),
]


@pytest.mark.parametrize(("second", "code", "by_us", "reason"), STOPS)
@pytest.mark.parametrize("late", [0.0, 0.9])
def test_before_and_after_a_stop(
    second: int, code: int, by_us: bool, reason: Reason, late: float
) -> None:
    """An end is before or after the stop by clocks of whole seconds, and who it was decides."""
    more = {"reason": "DeadlineExceeded", "phase": "Failed"} if by_us else {}
    stop = stopped("cancel", ASKED + late)
    verdict = concluded(seen(pod(terminated(code, end=at(second)), **more), stop=stop), stop)
    assert (verdict.reason, verdict.exit_code) == (reason, code)


@pytest.mark.parametrize(
    ("why", "reason", "message"),
    [
        ("cancel", Reason.CANCELLED_BY_USER, "Stopped by you. %qwex rerun k3x9qd"),
        ("timeout", Reason.TIMED_OUT, "Stopped after its timeout of 1m."),
        ("start-timeout", Reason.START_DEADLINE_EXCEEDED, "It had not started 1m30s after"),
    ],
)
def test_what_a_stop_was_for(why: str, reason: Reason, message: str) -> None:
    """The Job says the same of all stops; what it was for stands in the files."""
    stop = stopped(why)
    by_us = pod(terminated(143, end=at(52)), reason="DeadlineExceeded", phase="Failed")
    assert concluded(seen(by_us, stop=stop), stop).reason is reason
    for gone in (
        job(
            ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline"),
            at=at(52),
        ),
        job(
            ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
            at=at(52),
        ),
    ):
        verdict = concluded(seen(None, gone, stop), stop)
        assert verdict.reason is reason
        assert verdict.message.startswith(message)


def test_a_stop_before_anything_ran() -> None:
    """A pod that had not begun when it was stopped was cancelled before it started."""
    stop = stopped("cancel")
    for never in (
        pod(PULLING, phase="Failed", reason="DeadlineExceeded"),
        pod(None, deleted=True, phase="Failed"),
        pod(None, phase="Failed"),
    ):
        verdict = concluded(seen(never, stop=stop), stop)
        assert (verdict.status, verdict.exit_code) == (RunStatus.CANCELLED, None)
        assert verdict.message == "Cancelled before it started. %qwex rerun k3x9qd"
    lost = terminated(137, "ContainerStatusUnknown", begin=None, end=None)
    unsure = pod(lost, phase="Failed", reason="DeadlineExceeded")
    assert concluded(seen(unsure, stop=stop), stop).status is RunStatus.CANCELLED


# -- while it runs ---------------------------------------------------------------------------------


def test_a_run_that_runs() -> None:
    """A running container is a run that runs; being stopped, or unheard of, is said."""
    found = seen(pod(RUNNING, phase="Running"))
    assert (found.status, found.reason, found.message) == (RunStatus.RUNNING, Reason.NONE, "")
    assert (found.evidence["elapsed"], found.queued_by_backend, found.end) == (90.0, True, None)
    assert seen(pod(RUNNING), stop=stopped("cancel")).reason is Reason.STOPPING
    assert seen(pod(RUNNING, deleted=True)).message == "Its pod is being deleted."
    unheard = [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
    ]
    lost = seen(pod(RUNNING, *unheard, phase="Running"))
    assert (lost.status, lost.reason) == (RunStatus.RUNNING, Reason.NODE_LOST)
    assert lost.message == (
        "Nothing is heard of its node n1: it may still run there. kubectl describe node n1 says "
        "more."
    )


def test_the_pod_that_is_the_run() -> None:
    """Of several pods the first whose program began is the run, of this very Job."""
    ours, others = pod(RUNNING), pod(None)
    ours["metadata"]["ownerReferences"] = others["metadata"]["ownerReferences"] = [{"uid": "j"}]
    others["metadata"]["creationTimestamp"] = at(1)
    stranger = pod(RUNNING)
    stranger["metadata"]["ownerReferences"] = [{"uid": "another"}]
    assert objects.chosen([others, stranger, ours], job()) is ours
    assert objects.chosen([stranger], job()) is stranger
    assert objects.chosen([], None) is None
    found = k8s_state.snapshot(Seen(job(), ours, 2), None, NOW)
    assert "2 pods were made" in found.backend_message


def test_files_that_were_handed_over_and_not_said_so() -> None:
    """A program that runs while its Job waits for files is one whose Job must be told."""
    late = Seen(job(handover=True), pod(RUNNING))
    assert is_late(late)
    assert not is_late(Seen(job(), pod(RUNNING)))
    assert not is_late(Seen(job(handover=True), pod(terminated(0))))
    assert not is_late(Seen(job(handover=True), pod(None)))
    assert not is_late(Seen(job(handover=True), None))
    stopping = job(handover=True)
    stopping["metadata"]["annotations"][objects.INTENT] = "cancel by you"
    assert not is_late(Seen(stopping, pod(RUNNING)))


def test_a_look_at_such_a_run_tells_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Job's deadline is taken away by whoever looks, or it would end the program.

    A run without a timeout is held too, and one whose pod hasn't begun isn't told of yet.
    """
    lifted: list[str] = []
    monkeypatch.setattr(k8s.launch, "lift", lambda cluster, name: lifted.append(name))
    runner = k8s.K8sRunner(str(tmp_path), "h")
    found = {
        "late": Seen(job(handover=True), pod(RUNNING, deadline=1)),
        "fine": Seen(job(), pod(RUNNING, deadline=1)),
        "early": Seen(job(handover=True), pod(None, deadline=1)),
        "gone": Seen(job(handover=True), None),
    }
    monkeypatch.setattr(runner._finder, "seen", lambda ids: found)
    monkeypatch.setattr(runner._finder, "pod", lambda run_id: found[run_id].pod)
    monkeypatch.setattr(runner._finder, "known_job", lambda run_id: found[run_id].job)
    polled = runner.poll(found)
    assert polled["late"].status is polled["fine"].status is RunStatus.RUNNING
    assert lifted == []  # a look by itself changes nothing; the manager holds what it saw live
    for timeout in (None, 60.0):
        assert all(runner.enforce_timeout(run_id, timeout) for run_id in found)
        assert lifted == ["qwex-late"]
        lifted.clear()


# -- the Job alone ---------------------------------------------------------------------------------

MATCHED = (
    "Container main for pod q/qwex-r-x1 failed with exit code %d matching FailJob rule at index 1"
)
TAKEN = "Pod k8su/qwex-r-x1 has condition DisruptionTarget matching FailJob rule at index 0"
ALONE: list[tuple[dict[str, Any], RunStatus, Reason, int | None, str]] = [
    (job(("Complete", "CompletionsReached", "Reached expected number of pods")),
     RunStatus.SUCCEEDED, Reason.NONE, 0, ""),
    (job(("SuccessCriteriaMet", "", "x")), RunStatus.SUCCEEDED, Reason.NONE, 0, ""),
    (job(("Failed", "PodFailurePolicy", MATCHED % 7)),
     RunStatus.FAILED, Reason.NON_ZERO_EXIT, 7, "Exit code 7."),
    (job(("FailureTarget", "PodFailurePolicy", MATCHED % 143)),
     RunStatus.FAILED, Reason.SIGNALLED, 143, "Ended from outside (SIGTERM). Read %qwex logs"),
    (job(("Failed", "PodFailurePolicy", MATCHED % 128)),
     RunStatus.LOST, Reason.VANISHED, None, "Its pod is gone, and the Job says exit code 128,"),
    (job(("Failed", "PodFailurePolicy", TAKEN)), RunStatus.FAILED, Reason.EVICTED, None,
     "It was evicted, preempted, or its node was lost, and its pod is gone; run it again."),
    (job(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")),
     RunStatus.LOST, Reason.VANISHED, None,
     ("Its pod is gone, and the Job says only DeadlineExceeded: Job was active longer than "
     "specified deadline: its outcome isn't known.")),
    (job(("Failed", "DeadlineExceeded", "x"), handover=True), RunStatus.LOST, Reason.NEVER_STARTED,
     None, ("It never started: its files or secrets were never handed over: who submitted it was "
     "gone. %qwex rerun k3x9qd")),
    (job(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")),
     RunStatus.LOST, Reason.VANISHED, None,
     "Its pod is gone, and the Job says only BackoffLimitExceeded: Job has reached the"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "status", "reason", "code", "message"), ALONE)
def test_what_a_job_says_whose_pod_is_gone(
    found: dict[str, Any], status: RunStatus, reason: Reason, code: int | None, message: str
) -> None:
    """The condition of a Job is the second witness: exit code, disruption, deadline, or nothing."""
    snapshot = seen(None, found)
    verdict = concluded(snapshot)
    assert (verdict.status, verdict.reason, verdict.exit_code) == (status, reason, code)
    assert verdict.message.startswith(message)
    assert snapshot.finished_at == NOW - 58
    assert f"job {found['status']['conditions'][0]['type']}" in snapshot.backend_message


def test_a_pod_that_is_gone_before_its_job_says_how_it_ended() -> None:
    """Between the end of a pod and the word of its Job a run still runs."""
    for count in ("ready", "failed", "succeeded"):
        found = seen(None, job(**{count: 1}))
        assert (found.status, found.end) == (RunStatus.RUNNING, None)
        assert found.message == "Its pod is gone; the Job says how it ended in a moment."
    assert seen(None, job(active=1)).status is RunStatus.PENDING


def test_what_is_kept_says_the_same_as_what_there_is() -> None:
    """A pod that a watch keeps in part means what the whole one means."""
    for found, *_ in ENDS.values():
        assert objects.kept_pod(found) == found
    for found, *_ in ALONE:
        assert objects.kept_job(found) == found
    assert objects.kept_pod({"metadata": {}}) is not None
    assert objects.kept_job({"metadata": {"labels": None}, "status": None}) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (at(0), NOW - 100),
        ("2026-11-24T06:00:00.5Z", NOW - 99.5),
        (None, None),
        ("", None),
        (EPOCH, None),
    ],
)
def test_moments(text: Any, seconds: float | None) -> None:
    """The epoch and nothing are no time."""
    assert moment(text) == seconds


@pytest.mark.parametrize("times", [{}, {"startedAt": None}, {"startedAt": "1970-01-01T00:00:00Z"}])
@pytest.mark.parametrize("why", ["Completed", "Error", "OOMKilled", "StartError", "Unknown"])
def test_what_was_executed_has_begun_though_nobody_knows_when(
    why: str, times: dict[str, Any]
) -> None:
    """A runtime that was started anew forgets times; the output of what it ran is asked for."""
    ended = pod({"terminated": {"exitCode": 38, "reason": why, **times}})
    assert objects.started(ended) is None
    assert objects.begun(ended) is (why in ("Completed", "Error", "OOMKilled"))
    assert objects.over(ended)


def test_what_is_made_has_not_begun() -> None:
    """Nor has what waits; what runs has."""
    assert not objects.begun(pod(PULLING))
    assert not objects.begun(pod())
    assert objects.begun(pod(RUNNING))


def test_what_bash_tells_is_told_apart_from_the_users_own_words() -> None:
    """A pod's termination message may have both: each goes where it belongs."""
    answer = "qwex.failed\n1\n3\n1\n1\n0\n/qwex/cell.sh\nfalse\nqwex.end\n"
    ended = pod(terminated(1, message=f"mine\n{answer}theirs\n"), phase="Failed")
    found = k8s_state.snapshot(Seen(pod=ended), None, NOW)
    assert found.evidence["told"] == answer
    assert found.backend_message == "container terminated: Error (mine theirs)"
    alone = pod(terminated(1, message=answer), phase="Failed")
    assert k8s_state.snapshot(Seen(pod=alone), None, NOW).backend_message == (
        "container terminated: Error"
    )
    theirs = pod(terminated(1, message="mine"), phase="Failed")
    found = k8s_state.snapshot(Seen(pod=theirs), None, NOW)
    assert "told" not in found.evidence
    assert found.backend_message == "container terminated: Error (mine)"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_command_is_named_by_the_script_of_the_run(tmp_path: Path, stopped: bool) -> None:
    """Where the script in the folder has it at that line, and nobody had it stopped."""
    facts.link_once(tmp_path, "spec.json", {"spec": {"script_name": "cell.sh"}})
    (tmp_path / "cell.sh").write_text("\ntrue\nfalse\n")
    end = End(1, after_stop=stopped)
    evidence = {"told": "qwex.failed\n1\n3\n1\n1\n0\n/qwex/cell.sh\nfalse\nqwex.end\n", "a": 1}
    answer = Snapshot(RunStatus.RUNNING, end=end, evidence=evidence)
    said = k8s._with_failed(answer, RunFolder(str(tmp_path))).evidence
    assert said == {"a": 1} | ({} if stopped else {"failed": {"line": 3, "command": "false"}})
