"""What a Job and its pod mean for a run: pure.

The pod's container is the first witness, the Job's condition the second: it stays when the pod
is gone. The left sides are Kubernetes' words, as they were seen on 1.34 or stand in its source
(k8s.io/api, pkg/kubelet, pkg/controller/job); the right sides are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from qwex_jupyter.runners import k8s_waiting, words
from qwex_jupyter.runners.inside import HISTORY_LABEL, NONCE_LABEL, RUN_LABEL
from qwex_jupyter.runners.k8s_manifest import MAIN, main_of, status_of
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, say_seconds

# An annotation of a Job whose files and secrets are not there yet.
HANDOVER = "qwex.handover"
# An annotation of a Job: what it was stopped for. The Job's own words are the same for all.
INTENT = "qwex.intent"
# What is said between the stop and the end, where no program runs.
STOPPING = "It was asked to stop."
# kubelet: the container could not be started, so its exit code is made up.
_NOT_STARTED = {"StartError", "ContainerCannotRun"}
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
_MOST_SAID = 2000


@dataclass(frozen=True)
class Seen:
    """What the cluster has of one run; None for what isn't there.

    Attributes:
        job: The Job, or what `kept_job` kept of it.
        pod: The pod that ran it, or what `kept_pod` kept of it.
        pods: How many pods there are.
        events: What was told of Job and pod, oldest first; see `k8s_waiting.Event`.
    """

    job: Mapping[str, Any] | None = None
    pod: Mapping[str, Any] | None = None
    pods: int = 0
    events: Sequence[k8s_waiting.Event] = field(default_factory=tuple)


def kept_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of a Job, a hundredth of what there is."""
    meta, spec, status = _parts(job)
    notes = meta.get("annotations") or {}
    return {
        "metadata": {
            **_some(
                meta, "name", "uid", "resourceVersion", "deletionTimestamp", "creationTimestamp"
            ),
            "labels": _some(meta.get("labels") or {}, RUN_LABEL, HISTORY_LABEL),
            "annotations": _some(notes, NONCE_LABEL, HANDOVER, INTENT),
        },
        "spec": _some(spec, "suspend", "activeDeadlineSeconds", "ttlSecondsAfterFinished"),
        "status": _some(
            status, "active", "ready", "failed", "succeeded", "terminating", "startTime",
            "conditions",
        ),
    }  # fmt: skip


def kept_pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of a pod."""
    meta, spec, status = _parts(pod)
    owners = [_some(owner, "uid") for owner in meta.get("ownerReferences") or []]
    conditions = [
        _some(c, "type", "status", "reason", "message", "lastTransitionTime")
        for c in status.get("conditions") or []
    ]
    containers = [
        _some(c, "name", "image", "args", "command") if c.get("name") == MAIN else _some(c, "name")
        for c in spec.get("containers") or []
    ]
    statuses = [
        _some(c, "name", "state", "imageID", "restartCount")
        for c in status.get("containerStatuses") or []
        if c.get("name") == MAIN
    ]
    before = [_some(c, "name", "state") for c in status.get("initContainerStatuses") or []]
    return {
        "metadata": {
            **_some(meta, "name", "uid", "deletionTimestamp", "creationTimestamp"),
            "labels": _some(meta.get("labels") or {}, RUN_LABEL, HISTORY_LABEL),
            "ownerReferences": owners,
        },
        "spec": {
            **_some(spec, "nodeName", "activeDeadlineSeconds", "terminationGracePeriodSeconds"),
            "containers": containers,
        },
        "status": {
            **_some(status, "phase", "reason", "message", "startTime"),
            "conditions": conditions,
            "containerStatuses": statuses,
            "initContainerStatuses": before,
        },
    }


def _some(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value[name] for name in names if value.get(name) is not None}


def _parts(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    return found.get("metadata") or {}, found.get("spec") or {}, found.get("status") or {}


def run_of(found: Mapping[str, Any], history: str) -> str:
    """The run that an object belongs to; "" where it is none of this history."""
    labels = (found.get("metadata") or {}).get("labels") or {}
    return str(labels.get(RUN_LABEL, "")) if labels.get(HISTORY_LABEL) == history else ""


def is_awaiting(job: Mapping[str, Any] | None) -> bool:
    """Whether a Job's files and secrets are still on their way, as far as it says."""
    return HANDOVER in (((job or {}).get("metadata") or {}).get("annotations") or {})


def is_late(seen: Seen) -> bool:
    """Whether a program runs and its Job still has the deadline of one that waits for files."""
    if seen.job is None or seen.pod is None or started(seen.pod) is None or over(seen.pod):
        return False
    notes = (seen.job.get("metadata") or {}).get("annotations") or {}
    return is_awaiting(seen.job) and INTENT not in notes


def uid_of(found: Mapping[str, Any]) -> str:
    """An object's uid."""
    return str(found["metadata"].get("uid", ""))


def chosen(pods: Sequence[Mapping[str, Any]], job: Mapping[str, Any] | None) -> Any:
    """The pod that is the run: of this very Job, and the first whose program began."""
    if job is not None:
        pods = [p for p in pods if uid_of(job) in _owners(p)] or pods

    def order(pod: Mapping[str, Any]) -> tuple[bool, str]:
        return started(pod) is None, str(pod["metadata"].get("creationTimestamp", ""))

    return min(pods, key=order, default=None)


def _owners(pod: Mapping[str, Any]) -> list[str]:
    return [str(o.get("uid", "")) for o in pod["metadata"].get("ownerReferences") or []]


def state_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the program's container; {} where nothing is said of it."""
    return status_of(pod).get("state") or {}


def started(pod: Mapping[str, Any]) -> float | None:
    """When the program began, seconds since the epoch; None where it didn't."""
    state = state_of(pod)
    end = state.get("terminated") or {}
    if end.get("reason") in _NOT_STARTED:
        return None
    return moment((state.get("running") or end).get("startedAt"))


def finished_at(pod: Mapping[str, Any]) -> float | None:
    """When the program ended, seconds since the epoch, rounded down; None while it runs."""
    return moment((state_of(pod).get("terminated") or {}).get("finishedAt"))


def over(pod: Mapping[str, Any]) -> bool:
    """Whether the program of a pod runs no more, and never will."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(state_of(pod).get("terminated")) or phase in ("Failed", "Succeeded")


def kept_by_others(pod: Mapping[str, Any]) -> bool:
    """Whether the program has ended and its pod goes on for a container beside it.

    With no other one, the pod ends a moment after its container.
    """
    ended = bool(state_of(pod).get("terminated"))
    goes_on = (pod.get("status") or {}).get("phase") == "Running"
    return ended and goes_on and len((pod.get("spec") or {}).get("containers") or []) > 1


def finished(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition by which a Job has ended, or will as soon as its pod is gone; else None."""
    held = {c.get("type"): c for c in (job.get("status") or {}).get("conditions") or []}
    for kind in ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"):
        if (held.get(kind) or {}).get("status") == "True":
            return held[kind]  # type: ignore[no-any-return]
    return None


def snapshot(
    seen: Seen,
    stop: Mapping[str, Any] | None,
    now: float,
    patient: Callable[[], bool] = lambda: False,
    *,
    insisted: bool = False,
) -> Snapshot:
    """What the cluster says of a run.

    Args:
        seen: What there is; a Job or a pod at least.
        stop: The content of ``stop.json``.
        now: The server's time, seconds since the epoch.
        patient: Tells whether the user said how long to wait for the start; nothing that may
            still come is given up before. Asked of what waits.
        insisted: The grace was to be ended.
    """
    found = _of_pod(seen, stop, now, insisted) if seen.pod is not None else _of_job(seen, stop, now)
    if found is None:
        found = k8s_waiting.snapshot(seen.job, seen.pod, seen.events, now, patient=patient())
        if stop is not None:
            found = replace(found, reason=Reason.STOPPING, message=STOPPING, hopeless=None)
        if is_awaiting(seen.job):
            found = replace(found, accepted=False)  # it waits for who submitted it
    said = _said(seen)
    more = {"attempts": seen.pods} if seen.pods > 1 else {}
    uid = uid_of(seen.job) if seen.job else uid_of(seen.pod or {"metadata": {}})
    return replace(found, observed_at=now, uid=uid, said=said, evidence={**found.evidence, **more})


def _of_pod(
    seen: Seen, stop: Mapping[str, Any] | None, now: float, insisted: bool
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
    if ended:
        until = moment(ended.get("finishedAt"))
        if began is not None and until is not None:
            until = max(began, until)
            evidence["elapsed"] = until - began
        end = _terminated(pod, ended, stop, until)
        when = until if began is not None else None
        return Snapshot(
            RunStatus.RUNNING if began is not None else RunStatus.PENDING,
            end=end,
            started_at=began,
            finished_at=when or now,
            evidence=evidence,
        )
    if status.get("phase") == "Succeeded":
        return Snapshot(RunStatus.RUNNING, end=End(0), finished_at=now, evidence=evidence)
    # At a deadline a busy kubelet may say that the pod failed before its container has ended.
    ending = status.get("reason") == _DEADLINE and "running" in state
    if status.get("phase") == "Failed" and not ending:
        end = _failed(pod, state, stop)
        return Snapshot(
            RunStatus.RUNNING if began is not None else RunStatus.PENDING,
            end=end,
            started_at=began,
            finished_at=now,
            evidence=evidence,
        )
    if began is None:
        return None
    evidence["elapsed"] = max(0.0, now - began)
    reason, message = Reason.NONE, ""
    if stop is not None:
        reason, message = Reason.STOPPING, _stopping(pod, stop, insisted)
    elif _node_is_silent(status):
        node = (pod.get("spec") or {}).get("nodeName", "?")
        reason = Reason.NODE_LOST
        message = (
            f"Nothing is heard of its node {node}: it may still run there. "
            f"kubectl describe node {node} says more."
        )
    elif (pod.get("metadata") or {}).get("deletionTimestamp"):
        message = "Its pod is being deleted."
    return Snapshot(
        RunStatus.RUNNING,
        reason,
        message,
        started_at=began,
        accepted=True,
        evidence=evidence,
    )


def _stopping(pod: Mapping[str, Any], stop: Mapping[str, Any], insisted: bool) -> str:
    """How long a program that was asked to stop still has: its pod's grace, whoever wants less."""
    grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    if grace is None:
        return STOPPING
    text = f"It was asked to stop, and has {say_seconds(grace)} to end"
    if insisted or float(stop.get("grace") or 0.0) < grace - 1:
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
    meta, _, status = _parts(pod)
    why = str(ended.get("reason") or "")
    code = int(ended.get("exitCode", -1))
    if why in _NOT_STARTED:
        return words.refused_start(str(ended.get("message") or why), program(pod), image(pod))
    by_deadline = status.get("reason") == _DEADLINE
    if why == _UNKNOWN or (why, code) == _TASKLESS:
        if stop is not None and (by_deadline or meta.get("deletionTimestamp")):
            return End(after_stop=True)  # it was stopped while its container was being made
        return _lost_sight(pod)
    # Where we may not patch pods, it is the Job's deadline, and that deletes the pod.
    by_us = by_deadline or bool(meta.get("deletionTimestamp"))
    after_stop = _after(stop, until, by_us=by_us)
    number = words.signal_of(code)
    if why == "OOMKilled" and code:
        return End(code, 9 if code == 137 else None, Reason.OUT_OF_MEMORY, after_stop=after_stop)
    if by_deadline and not after_stop:
        return End(code, number, Reason.TIMED_OUT)
    if code and not after_stop and _was_taken(status, until):
        return End(code, number, Reason.EVICTED, _taken_by(pod))
    if number in (9, 15) and not after_stop and meta.get("deletionTimestamp"):
        how = "its pod was deleted while it ran, so it was ended from outside; run it again"
        return End(code, number, Reason.SIGNALLED, how)
    return End(code, number, after_stop=after_stop)


def _failed(pod: Mapping[str, Any], state: Mapping[str, Any], stop: Any) -> End:
    """The end of a pod that failed without a container that ended."""
    meta, spec, status = _parts(pod)
    why, text = str(status.get("reason") or ""), words.one_line(str(status.get("message") or ""))
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
    if _was_taken(status):
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


def _was_taken(status: Mapping[str, Any], until: float | None = None) -> bool:
    """Whether a pod was ended by a node or the cluster, and not later than its program ended."""
    if status.get("reason") in _TAKEN:
        return True
    condition = _held(status).get("DisruptionTarget")
    since = moment((condition or {}).get("lastTransitionTime"))
    return condition is not None and (until is None or since is None or since <= until)


def _held(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        str(c.get("type")): c for c in status.get("conditions") or [] if c.get("status") == "True"
    }


def _taken_by(pod: Mapping[str, Any]) -> str:
    """Who took the place of a program, as a clause with a next step.

    The reasons of the condition: k8s.io/api/core/v1, PodReason...; of a node under pressure:
    pkg/kubelet/eviction.
    """
    _, spec, status = _parts(pod)
    node = spec.get("nodeName", "its node")
    condition = _held(status).get("DisruptionTarget") or {}
    why = str(condition.get("reason") or status.get("reason") or "")
    text = words.one_line(str(status.get("message") or condition.get("message") or ""))
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
            return Snapshot(RunStatus.RUNNING, Reason.NONE, message, accepted=True)
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
        return End(code, words.signal_of(code), after_stop=after_stop)
    if _DISRUPTED in text:
        detail = "it was evicted, preempted, or its node was lost, and its pod is gone"
        return End(reason=Reason.EVICTED, detail=f"{detail}; run it again", after_stop=after_stop)
    if after_stop and why in (_DEADLINE, "BackoffLimitExceeded"):
        return End(after_stop=True)
    if why == _DEADLINE and is_awaiting(job):
        detail = "its files or secrets were never handed over: who submitted it was gone"
        return End(reason=Reason.NEVER_STARTED, detail=detail)
    detail = f"its pod is gone, and the Job says only {why}: {words.one_line(text)}"
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


def program(pod: Mapping[str, Any]) -> str:
    """The program that a pod was to execute, as far as its manifest says it."""
    container = main_of(pod.get("spec") or {})
    argv = [*(container.get("command") or []), *(container.get("args") or [])]
    return str(argv[0]).replace("$$", "$") if argv else ""


def image(pod: Mapping[str, Any]) -> str:
    """The image as it was asked for."""
    return str(main_of(pod.get("spec") or {}).get("image", ""))


def _said(seen: Seen) -> str:
    """The cluster's own words, for who wants to read on."""
    lines = []
    if seen.pods > 1:
        lines.append(f"job: {seen.pods} pods were made for it; this tells of the first that began")
    if seen.pod is not None:
        _, _, status = _parts(seen.pod)
        for kind, value in state_of(seen.pod).items():
            if kind != "running" and value:
                lines.append(f"container {kind}: {_pair(value.get('reason'), value)}")
        if status.get("reason"):
            lines.append(f"pod {status.get('phase')}: {_pair(status['reason'], status)}")
        for condition in status.get("conditions") or []:
            off = condition.get("type") == "PodScheduled" and condition.get("status") == "False"
            if off or (condition.get("type") == "DisruptionTarget"):
                lines.append(f"{condition['type']}: {_pair(condition.get('reason'), condition)}")
    if seen.job is not None and (condition := finished(seen.job)):
        lines.append(f"job {condition['type']}: {_pair(condition.get('reason'), condition)}")
    lines += [f"event {e.reason}: {words.one_line(e.message)}" for e in seen.events if e.warning]
    return "\n".join(lines)[:_MOST_SAID]


def _pair(reason: Any, value: Mapping[str, Any]) -> str:
    text = words.one_line(str(value.get("message") or ""), 500)
    return f"{reason or '?'} ({text})" if text else str(reason or "?")


def moment(text: Any) -> float | None:
    """Seconds since the epoch for ``2026-11-24T11:33:32Z``; None for none, or the epoch itself."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if found.year < 1971 else found.timestamp()
