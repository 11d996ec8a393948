"""What a Job and its pod mean for a run: pure.

The pod's container is the first witness, the Job's condition the second: it stays when the pod
is gone. The left sides are Kubernetes' words, as they were seen on 1.34 or stand in its source
(k8s.io/api, pkg/kubelet, pkg/controller/job); the right sides are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.model.text import one_line
from qwex_jupyter.model.units import say_seconds
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.container import wording
from qwex_jupyter.runners.container.conventions import given
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.k8s import waiting
from qwex_jupyter.runners.k8s.manifest import main_of, status_of
from qwex_jupyter.runners.k8s.objects import (
    _NOT_STARTED,
    conditions_of,
    finished,
    image,
    is_awaiting,
    parts_of,
    program,
    started,
    state_of,
    uid_of,
)
from qwex_jupyter.runners.k8s.seen import Seen, words_of

# What is said between the stop and the end, where no program runs.
STOPPING = "It was asked to stop."
# What gRPC and ttrpc say where the other side went: it is about the runtime, not the program.
_START: tuple[wording.Row, ...] = (
    (
        r"context canceled|ttrpc: closed|transport is closing|error reading from server: EOF",
        Reason.BACKEND_RESTARTED,
        "its node's runtime was ended or restarted as it was to start it",
    ),
    *wording.START,
)
# pkg/kubelet/status: the kubelet lost sight of a container, and says 137 for it.
_UNKNOWN = "ContainerStatusUnknown"
# containerd, internal/cri: it was started anew and found no task of a container, for which it
# then says 255.
_TASKLESS = ("Unknown", 255)
_DEADLINE = "DeadlineExceeded"
# v1.PodStatus.reason of pods that a node or the cluster ended, beside the condition.
_TAKEN = {"Evicted", "Preempting", "NodeShutdown", "Terminated", "Shutdown"}
_EXIT_CODE = re.compile(r"failed with exit code (-?\d+) matching FailJob rule")
_DISRUPTED = "has condition DisruptionTarget matching FailJob rule"


def snapshot(
    seen: Seen,
    stop: Mapping[str, Any] | None,
    now: float,
    patient: Callable[[], bool] = lambda: False,
    *,
    forced: bool = False,
) -> Snapshot:
    """What the cluster says of a run.

    Args:
        seen: What there is; a Job or a pod at least.
        stop: The content of ``stop.json``.
        now: The server's time, seconds since the epoch.
        patient: Tells whether the user said how long to wait for the start; nothing that may
            still come is given up before. Asked of what waits.
        forced: The grace was to be ended.
    """
    found = _of_pod(seen, stop, now, forced) if seen.pod is not None else _of_job(seen, stop, now)
    if found is None:
        found = waiting.snapshot(seen.job, seen.pod, seen.events, now, patient=patient())
        if stop is not None:
            found = replace(found, reason=Reason.STOPPING, message=STOPPING, never_starts=None)
        if is_awaiting(seen.job):
            found = replace(found, queued_by_backend=False)  # it waits for who submitted it
    said = words_of(seen)
    uid = uid_of(seen.job) if seen.job else uid_of(seen.pod or {"metadata": {}})
    return replace(found, observed_at=now, uid=uid, backend_message=said)


def _of_pod(
    seen: Seen, stop: Mapping[str, Any] | None, now: float, forced: bool
) -> Snapshot | None:
    """What a pod says; None while its program hasn't begun."""
    pod = seen.pod
    assert pod is not None
    status = pod.get("status") or {}
    state = state_of(pod)
    began = started(pod)
    ended = state.get("terminated")
    evidence: dict[str, Any] = {}
    if image_id := status_of(pod).get("imageID"):
        evidence["image_digest"] = str(image_id).rpartition("@")[2]
    seen_as = RunStatus.PENDING if began is None else RunStatus.RUNNING
    found = Snapshot(seen_as, started_at=began, finished_at=now, evidence=evidence)
    if ended:
        until = moment(ended.get("finishedAt"))
        if began is not None and until is not None:
            until = max(began, until)
            evidence["elapsed"] = until - began
            found = replace(found, finished_at=until)
        # What an image's ENTRYPOINT executes isn't known.
        container = main_of(pod.get("spec") or {})
        evidence["program"] = program(pod) if container.get("command") else ""
        evidence |= given({"told": bash.split(str(ended.get("message") or ""))[0]})
        return replace(found, end=_terminated(pod, ended, stop, until))
    if status.get("phase") == "Succeeded":
        return replace(found, status=RunStatus.RUNNING, started_at=None, end=End(0))
    # At a deadline a busy kubelet may say that the pod failed before its container has ended.
    ending = status.get("reason") == _DEADLINE and "running" in state
    if status.get("phase") == "Failed" and not ending:
        return replace(found, end=_failed(pod, state, stop))
    if began is None:
        return None
    evidence["elapsed"] = max(0.0, now - began)
    reason, message = _of_program(pod, stop, forced)
    return replace(found, reason=reason, message=message, finished_at=None, queued_by_backend=True)


def _of_program(
    pod: Mapping[str, Any], stop: Mapping[str, Any] | None, forced: bool
) -> tuple[Reason, str]:
    """What is to be said of a program that runs."""
    if stop is not None:
        return Reason.STOPPING, _stopping(pod, stop, forced)
    if _node_is_silent(pod.get("status") or {}):
        node = (pod.get("spec") or {}).get("nodeName", "?")
        return Reason.NODE_LOST, (
            f"Nothing is heard of its node {node}: it may still run there. "
            f"kubectl describe node {node} says more."
        )
    going = (pod.get("metadata") or {}).get("deletionTimestamp")
    return Reason.NONE, "Its pod is being deleted." if going else ""


def _stopping(pod: Mapping[str, Any], stop: Mapping[str, Any], forced: bool) -> str:
    """How long a program that was asked to stop still has: its pod's grace, whoever wants less."""
    grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    if grace is None:
        return STOPPING
    text = f"It was asked to stop, and has {say_seconds(grace)} to end"
    if forced or float(stop.get("grace") or 0.0) < grace - 1:
        text += ": a pod's grace can't be cut short"
    return f"{text}."


def _node_is_silent(status: Mapping[str, Any]) -> bool:
    """A running container without a probe is ready, unless nobody hears of its node.

    pkg/controller/util/node, MarkPodsNotReady: the Ready condition becomes False.
    """
    ready = {c.get("type"): c.get("status") for c in status.get("conditions") or []}
    return ready.get("Ready") in ("False", "Unknown") and ready.get("ContainersReady") == "True"


def _terminated(
    pod: Mapping[str, Any],
    ended: Mapping[str, Any],
    stop: Mapping[str, Any] | None,
    until: float | None,
) -> End:
    """The end of a container that the kubelet saw."""
    meta, _, status = parts_of(pod)
    why = str(ended.get("reason") or "")
    code = int(ended.get("exitCode", -1))
    if why in _NOT_STARTED:
        said = str(ended.get("message") or why)
        return wording.refused_start(said, program(pod), image(pod), _START)
    by_deadline = status.get("reason") == _DEADLINE
    if why == _UNKNOWN or (why, code) == _TASKLESS:
        if stop is not None and (by_deadline or meta.get("deletionTimestamp")):
            return End(after_stop=True)  # it was stopped while its container was being made
        return _lost_sight(pod)
    # Where we may not patch pods, it is the Job's deadline, and that deletes the pod.
    by_us = by_deadline or bool(meta.get("deletionTimestamp"))
    after_stop = _after(stop, until, by_us=by_us)
    number = wording.signal_of(code)
    if why == "OOMKilled" and code:
        return End(code, 9 if code == 137 else None, Reason.OUT_OF_MEMORY, after_stop=after_stop)
    if by_deadline and not after_stop:
        return End(code, number, Reason.TIMED_OUT)
    if code and not after_stop and _was_taken(pod, until):
        return End(code, number, Reason.EVICTED, _taken_by(pod))
    if number in (9, 15) and not after_stop and meta.get("deletionTimestamp"):
        how = "its pod was deleted while it ran, so it was ended from outside; run it again"
        return End(code, number, Reason.SIGNALLED, how)
    detail = wording.CHILD_KILLED if why == "OOMKilled" else ""
    return End(code, number, detail=detail, after_stop=after_stop)


def _failed(pod: Mapping[str, Any], state: Mapping[str, Any], stop: Any) -> End:
    """The end of a pod that failed without a container that ended."""
    meta, spec, status = parts_of(pod)
    why, text = str(status.get("reason") or ""), one_line(str(status.get("message") or ""))
    if why == _DEADLINE:
        if stop is not None:
            return End(reason=Reason.NEVER_STARTED, after_stop=True)
        limit = int(spec.get("activeDeadlineSeconds") or 0)
        detail = (
            f"it had not started {say_seconds(limit)} after a node took it, its pod's own "
            "deadline; run it again with a longer --start-timeout"
        )
        return End(reason=Reason.START_DEADLINE_EXCEEDED, detail=detail)
    if "running" in state or why == "NodeLost":
        return _lost_sight(pod)
    if stop is not None and meta.get("deletionTimestamp"):
        return End(reason=Reason.NEVER_STARTED, after_stop=True)
    if _was_taken(pod):
        return End(reason=Reason.EVICTED, detail=_taken_by(pod))
    if why:
        # The kubelet's own admission: OutOfcpu, OutOfmemory, UnexpectedAdmissionError ...
        node = spec.get("nodeName", "its node")
        return End(reason=Reason.UNSCHEDULABLE, detail=f"{node} didn't take it ({why}): {text}")
    if stop is not None:
        return End(reason=Reason.NEVER_STARTED, after_stop=True)
    for one in status.get("initContainerStatuses") or []:
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            name = meta.get("name", "POD")
            detail = (
                f"it never began, because what its pod runs before it failed: {one['name']}, with "
                f"exit code {ended['exitCode']}. kubectl logs {name} -c {one['name']} says more"
            )
            return End(reason=Reason.ADMISSION_REFUSED, detail=detail)
    return End(reason=Reason.VANISHED, detail="its pod failed and says nothing of its container")


def _was_taken(pod: Mapping[str, Any], until: float | None = None) -> bool:
    """Whether a pod was ended by a node or the cluster, and not later than its program ended."""
    if (pod.get("status") or {}).get("reason") in _TAKEN:
        return True
    condition = conditions_of(pod, "True").get("DisruptionTarget")
    since = moment((condition or {}).get("lastTransitionTime"))
    return condition is not None and (until is None or since is None or since <= until)


def _taken_by(pod: Mapping[str, Any]) -> str:
    """Who took the place of a program, as a clause with a next step.

    The reasons of the condition: k8s.io/api/core/v1, PodReason...; of a node under pressure:
    pkg/kubelet/eviction.
    """
    _, spec, status = parts_of(pod)
    node = spec.get("nodeName", "its node")
    condition = conditions_of(pod, "True").get("DisruptionTarget") or {}
    why = str(condition.get("reason") or status.get("reason") or "")
    text = one_line(str(status.get("message") or condition.get("message") or ""))
    told = {
        "PreemptionByScheduler": "a pod of higher priority took its place",
        "DeletionByTaintManager": f"{node} was not to be used any more, or was not heard of",
        "EvictionByEvictionAPI": f"it was evicted from {node}, as when a node is drained",
        "DeletionByPodGC": f"{node} is gone",
        "TerminationByKubelet": f"{node} ended it: {text}" if text else f"{node} ended it",
    }.get(why, f"it was evicted from {node}: {text}" if text else f"it was evicted from {node}")
    short = re.search(r"low on resource: ([\w-]+)", text)
    if short:
        told = f"{node} ran short of {short[1]}"
        if short[1] == "memory":
            told += ": ask for what it needs with --memory"
    if 'EmptyDir volume "shm"' in text:
        return f"{told}: ask for more with --shm-size"
    return f"{told}; run it again"


def _lost_sight(pod: Mapping[str, Any]) -> End:
    node = (pod.get("spec") or {}).get("nodeName", "its node")
    return End(
        reason=Reason.NODE_LOST,
        detail=f"{node} was lost, or lost sight of its container, and nobody saw how it ended",
    )


def _of_job(seen: Seen, stop: Mapping[str, Any] | None, now: float) -> Snapshot | None:
    """What a Job without a pod says; None while it may still get one."""
    job = seen.job
    assert job is not None
    condition = finished(job)
    status = job.get("status") or {}
    if condition is None:
        if status.get("ready") or status.get("failed") or status.get("succeeded"):
            message = "Its pod is gone; the Job says how it ended in a moment."
            return Snapshot(RunStatus.RUNNING, Reason.NONE, message, queued_by_backend=True)
        return None
    until = moment(condition.get("lastTransitionTime")) or now
    end = _by_condition(job, condition, stop, until)
    never = end.reason is Reason.NEVER_STARTED
    return Snapshot(RunStatus.PENDING if never else RunStatus.RUNNING, end=end, finished_at=until)


def _by_condition(
    job: Mapping[str, Any],
    condition: Mapping[str, Any],
    stop: Mapping[str, Any] | None,
    until: float,
) -> End:
    """What a Job's condition says of a pod that nobody can ask any more."""
    why, text = str(condition.get("reason") or ""), str(condition.get("message") or "")
    after_stop = _after(stop, until, by_us=True)
    if condition.get("type") in ("Complete", "SuccessCriteriaMet"):
        return End(0, after_stop=after_stop)
    if found := _EXIT_CODE.search(text):
        code = int(found[1])
        if code in (128, 255):
            # pkg/kubelet: what a container has that could not be started; see also _TASKLESS.
            detail = (
                f"its pod is gone, and the Job says exit code {code}, which a program returned or "
                "Kubernetes made up for one that could not be started, or was lost sight of"
            )
            return End(reason=Reason.VANISHED, detail=detail, after_stop=after_stop)
        return End(code, wording.signal_of(code), after_stop=after_stop)
    if _DISRUPTED in text:
        detail = "it was evicted, preempted, or its node was lost, and its pod is gone"
        return End(reason=Reason.EVICTED, detail=f"{detail}; run it again", after_stop=after_stop)
    if after_stop and why in (_DEADLINE, "BackoffLimitExceeded"):
        return End(after_stop=True)
    if why == _DEADLINE and is_awaiting(job):
        detail = "its files or secrets were never handed over: who submitted it was gone"
        return End(reason=Reason.NEVER_STARTED, detail=detail)
    detail = f"its pod is gone, and the Job says only {why}: {one_line(text)}"
    return End(reason=Reason.VANISHED, detail=detail, after_stop=after_stop)


def _after(stop: Mapping[str, Any] | None, until: float | None, *, by_us: bool) -> bool:
    """Whether an end came after the stop was asked for, by times in whole seconds.

    Args:
        stop: The content of ``stop.json``.
        until: When it ended.
        by_us: The deadline that we set is what ended it, so in the same second it is after.
    """
    if stop is None:
        return False
    asked = int(float(stop.get("clock") or stop.get("at") or 0.0))
    if until is None:
        return by_us
    return int(until) >= asked if by_us else int(until) > asked
