"""What Jobs and pods are and how far they are, by the objects themselves: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, NONCE_LABEL, RUN_LABEL
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.k8s.manifest import MAIN, main_of, status_of

# An annotation of a Job whose files and secrets are not there yet.
HANDOVER = "qwex.handover"
# An annotation of a Job: what it was stopped for. The Job's own words are the same for all.
INTENT = "qwex.intent"
# kubelet: the container could not be started, so its exit code is made up.
_NOT_STARTED = {"StartError", "ContainerCannotRun"}
# What containerd says of a program that was executed, internal/cri/server/container_status.go.
_EXECUTED = {"Completed", "Error", "OOMKilled"}


def kept_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of a Job, a hundredth of what there is."""
    meta, spec, status = parts_of(job)
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
    meta, spec, status = parts_of(pod)
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
    before = [
        _some(c, "name", "state", "image", "restartCount", "started")
        for c in status.get("initContainerStatuses") or []
    ]
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


def parts_of(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The metadata, spec and status of an object."""
    return found.get("metadata") or {}, found.get("spec") or {}, found.get("status") or {}


def conditions_of(found: Mapping[str, Any], status: str) -> dict[str, Mapping[str, Any]]:
    """The conditions of an object that have that status, by their type."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return {str(c.get("type")): c for c in conditions if c.get("status") == status}


def run_of(found: Mapping[str, Any], history: str) -> str:
    """The run that an object belongs to; "" where it is none of this history."""
    labels = (found.get("metadata") or {}).get("labels") or {}
    return str(labels.get(RUN_LABEL, "")) if labels.get(HISTORY_LABEL) == history else ""


def is_awaiting(job: Mapping[str, Any] | None) -> bool:
    """Whether a Job's files and secrets are still on their way, as far as it says."""
    return HANDOVER in (((job or {}).get("metadata") or {}).get("annotations") or {})


def uid_of(found: Mapping[str, Any]) -> str:
    """An object's uid."""
    return str(found["metadata"].get("uid", ""))


def chosen(pods: Sequence[Mapping[str, Any]], job: Mapping[str, Any] | None) -> Any:
    """The pod that is the run: of this very Job, and the first whose program began."""
    if job is not None:
        pods = [p for p in pods if is_of(p, job)] or pods

    def order(pod: Mapping[str, Any]) -> tuple[bool, str]:
        return not begun(pod), str(pod["metadata"].get("creationTimestamp", ""))

    return min(pods, key=order, default=None)


def is_of(pod: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    """Whether a pod belongs to this very Job."""
    owners = pod["metadata"].get("ownerReferences") or []
    return any(str(owner.get("uid", "")) == uid_of(job) for owner in owners)


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


def begun(pod: Mapping[str, Any]) -> bool:
    """Whether the program began, be it that nobody knows when.

    A runtime that was started anew may have forgotten both times of what ended meanwhile.
    """
    why = (state_of(pod).get("terminated") or {}).get("reason")
    return started(pod) is not None or why in _EXECUTED


def finished_at(pod: Mapping[str, Any]) -> float | None:
    """When the program ended, seconds since the epoch, rounded down; None while it runs."""
    return moment((state_of(pod).get("terminated") or {}).get("finishedAt"))


def over(pod: Mapping[str, Any]) -> bool:
    """Whether the program of a pod runs no more, and never will."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(state_of(pod).get("terminated")) or phase in ("Failed", "Succeeded")


def kept_by_others(pod: Mapping[str, Any]) -> bool:
    """Whether the program has ended and its pod goes on for a container beside it.

    With no other one, the pod ends a moment after its container. It is Pending while one beside
    it can't be made.
    """
    ended = bool(state_of(pod).get("terminated"))
    goes_on = (pod.get("status") or {}).get("phase") in ("Running", "Pending")
    return ended and goes_on and len((pod.get("spec") or {}).get("containers") or []) > 1


def has_pod(job: Mapping[str, Any]) -> bool:
    """Whether a Job that goes on has a pod, by its own count."""
    return finished(job) is None and bool((job.get("status") or {}).get("active"))


def had_pod(job: Mapping[str, Any]) -> bool:
    """Whether a Job has a pod or had one, by its own counts; one that waits for it had none."""
    status = job.get("status") or {}
    return any(status.get(count) for count in ("active", "failed", "succeeded", "terminating"))


def finished(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition by which a Job has ended, or will as soon as its pod is gone; else None."""
    held = conditions_of(job, "True")
    ends = ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")
    return next((held[kind] for kind in ends if kind in held), None)


def program(pod: Mapping[str, Any]) -> str:
    """The program that a pod was to execute, as far as its manifest says it."""
    container = main_of(pod.get("spec") or {})
    argv = [*(container.get("command") or []), *(container.get("args") or [])]
    return str(argv[0]).replace("$$", "$") if argv else ""


def image(pod: Mapping[str, Any]) -> str:
    """The image as it was asked for."""
    return str(main_of(pod.get("spec") or {}).get("image", ""))
