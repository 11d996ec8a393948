"""Why a pod that was asked for doesn't run yet: pure.

Kubernetes waits for ever for what may come: an image, a node, a quota. Here stands what its
words mean, and which of them say that it will never come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.model.text import one_line
from qwex_jupyter.model.units import capital, say_bytes
from qwex_jupyter.runners.container.conventions import registry_of
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.k8s.causes import CONTAINER, CREATE, MAKING, Row
from qwex_jupyter.runners.k8s.manifest import MAIN, main_of, status_of
from qwex_jupyter.runners.k8s.objects import conditions_of

# After this time the kubelet has tried twice to get an image that isn't there. Seconds.
_TWICE = 15.0


@dataclass(frozen=True)
class Event:
    """What was told of a Job or a pod.

    Attributes:
        about: The object's name.
        reason: One word.
        message: The text.
        warning: It is one.
        at: When it was told last, as the server wrote it.
    """

    about: str
    reason: str
    message: str
    warning: bool
    at: str

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Event:
        """An event of the API."""
        at = found.get("lastTimestamp") or found.get("eventTime")
        meta = found.get("metadata") or {}
        return cls(
            str((found.get("involvedObject") or {}).get("name", "")),
            str(found.get("reason", "")),
            str(found.get("message", "")),
            found.get("type") == "Warning",
            str(at or meta.get("creationTimestamp") or ""),
        )


def wants_events(job: Mapping[str, Any] | None, pod: Mapping[str, Any] | None) -> str:
    """The name of the object whose events would say why it waits; "" where they say nothing."""
    if pod is None:
        return str(job["metadata"]["name"]) if job is not None else ""
    waiting = _waiting(_first(pod))
    if _unscheduled(pod):
        return ""
    if waiting.get("reason") in _CREATING or _says_nothing(waiting):
        return str(pod["metadata"]["name"])
    return ""


def _says_nothing(waiting: Mapping[str, Any]) -> bool:
    """A kubelet before 1.32 says why only while it tries, not while it waits to try again."""
    text = str(waiting.get("message") or "")
    return waiting.get("reason") == "ImagePullBackOff" and "ErrImagePull" not in text


_PULLS = ("ErrImagePull", "ImagePullBackOff")
_CREATING = (None, "", "ContainerCreating", "PodInitializing")


def snapshot(
    job: Mapping[str, Any] | None,
    pod: Mapping[str, Any] | None,
    events: Sequence[Event],
    now: float,
    *,
    patient: bool,
) -> Snapshot:
    """Why a run waits.

    Args:
        job: Its Job.
        pod: Its pod; None where the Job has none yet.
        events: What was told of it.
        now: The server's time, seconds since the epoch.
        patient: Only what can never come is given up.
    """
    if pod is None:
        return _without_pod(job or {}, events)
    if condition := _unscheduled(pod):
        return _wait(Reason.UNSCHEDULABLE, _unschedulable(str(condition.get("message") or "")))
    container = _first(pod)
    waiting = _waiting(container)
    text = f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    if text and waiting.get("reason") not in _CREATING:
        failed = [e for e in events if e.reason == "Failed" and "Failed to pull" in e.message]
        if failed and _says_nothing(waiting):
            waiting = {**waiting, "message": failed[-1].message}
            text = f"{waiting['reason']} {waiting['message']}"
        about = _about(pod, container, waiting)
        # What the image is called is no cause, whatever words stand there.
        reason, why, never = _told(CONTAINER, text.replace(about["image"], ""), about)
        if waiting["reason"] in _PULLS:
            # A pull may succeed later: the kubelet is to have tried twice.
            twice = waiting["reason"] == "ImagePullBackOff" and _age(pod, now) > _TWICE
            never = never and twice and not patient
        if container["name"] != MAIN:
            why = f"{container['name']}, which its pod runs before it: {why}"
        return _wait(reason, why, never_starts=never)
    told = [event for event in events if event.reason in MAKING and event.warning]
    if told and not _pulling(events, told[-1].at):
        said = one_line(told[-1].message)
        return _wait(Reason.UNSCHEDULABLE, f"{MAKING[told[-1].reason]}: {said}")
    if since := _pulling(events):
        return _wait(Reason.PULLING, f"its node gets {_image(pod)} since {since}")
    if container["name"] != MAIN:
        return _wait(Reason.STARTING, f"it waits for {container['name']}, which runs before it")
    if node := (pod.get("spec") or {}).get("nodeName"):
        return _wait(Reason.STARTING, f"its container is made on {node}")
    return _wait(Reason.STARTING, "it waits for a node")


def _wait(reason: Reason, why: str, *, never_starts: bool = False) -> Snapshot:
    end = End(reason=reason, detail=why) if never_starts else None
    return Snapshot(
        RunStatus.PENDING, reason, f"{capital(why)}.", queued_by_backend=True, never_starts=end
    )


def _without_pod(job: Mapping[str, Any], events: Sequence[Event]) -> Snapshot:
    if (job.get("spec") or {}).get("suspend"):
        return _wait(Reason.STARTING, "its Job is suspended: a queue of the cluster lets it start")
    told = [event for event in events if event.reason == "FailedCreate"]
    if not told:
        return _wait(Reason.STARTING, "its pod is being made")
    text = told[-1].message
    said = _refusal(text)
    about = {"text": said, "sizes": _sizes(said), "quota": _quota(text)}
    reason, why, never = _told(CREATE, text, about)
    return _wait(reason, why, never_starts=never)


def _told(rows: Sequence[Row], text: str, about: Mapping[str, str]) -> tuple[Reason, str, bool]:
    for pattern, reason, sentence, never in rows:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return reason, sentence.format(**about), never
    raise AssertionError("the last row takes everything")


def _about(
    pod: Mapping[str, Any], container: Mapping[str, Any], waiting: Mapping[str, Any]
) -> dict[str, str]:
    mine = container["name"] == MAIN
    name = _image(pod) if mine else str(container.get("image") or "its image")
    text = str(waiting.get("message") or waiting.get("reason") or "")
    return {
        "image": name,
        "registry": registry_of(name) or "docker.io",
        "text": one_line(text),
        "policy": "--pull=never" if mine else "its imagePullPolicy",
        "pod": str(pod["metadata"].get("name", "POD")),
        "name": str(container["name"]),
    }


def _image(pod: Mapping[str, Any]) -> str:
    container = main_of(pod.get("spec") or {})
    return str(container.get("image", "")) if container else "its image"


def _first(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the container that a pod is at: the first that waits, or the program's own.

    Those before it run one after the other; one that serves beside it (a sidecar) is past when it
    has started.
    """
    for one in (pod.get("status") or {}).get("initContainerStatuses") or []:
        state = one.get("state") or {}
        past = (state.get("terminated") or {}).get("exitCode") == 0 or one.get("started")
        if not past and (state or one.get("restartCount")):
            return one  # type: ignore[no-any-return]
    return {**status_of(pod), "name": MAIN}


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Why a container waits, in the kubelet's words; one that failed waits for its next try."""
    state = container.get("state") or {}
    ended = state.get("terminated") or {}
    if ended.get("exitCode"):
        return {"reason": "Error", "message": f"exit code {ended['exitCode']}"}
    waiting: Mapping[str, Any] = state.get("waiting") or {}
    return waiting


def _unscheduled(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return conditions_of(pod, "False").get("PodScheduled")


def _age(pod: Mapping[str, Any], now: float) -> float:
    text = (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp")
    began = moment(text)
    return 0.0 if began is None else now - began


def _pulling(events: Sequence[Event], since: str = "") -> str:
    """When a node began to get the image, ``HH:MM:SS`` of UTC; "" where it doesn't right now."""
    began = [event.at for event in events if event.reason == "Pulling" and event.at >= since]
    done = [event.at for event in events if event.reason in ("Pulled", "Failed", "BackOff")]
    if not began or (done and max(done) >= max(began)):
        return ""
    found = re.search(r"T(\d\d:\d\d:\d\d)", max(began))
    return f"{found[1]} UTC" if found else "a moment"


def _unschedulable(text: str) -> str:
    """The scheduler's word in ours: pkg/scheduler, FitError; its plugins give the reasons."""
    nodes = re.match(r"0/(\d+) nodes are available: (.*?)\.?(?:(?<=\.) .*)?$", text, re.DOTALL)
    why = one_line(nodes[2] if nodes else text)
    if "claim" in why.lower() and ("not found" in why or "unbound" in why or "not bound" in why):
        return f"it waits for a volume: {why}"
    if not nodes:
        return f"no node takes it yet: {why}" if text else "it waits for a node"
    count = nodes[1]
    short = re.findall(r"\d+ Insufficient ([^\s,]+)", why)
    for resource in short:
        if resource not in ("cpu", "memory", "pods", "ephemeral-storage"):
            return f"it waits for a GPU: 0 of {count} nodes have {resource} free"
    if short:
        named = {"cpu": "CPUs", "memory": "memory", "pods": "room for pods"}
        missing = " and ".join(named.get(name, name) for name in dict.fromkeys(short))
        return f"it waits for {missing}: 0 of {count} nodes have enough free"
    return f"none of {count} nodes takes it: {why}"


def _refusal(text: str) -> str:
    """Behind the head that says which pod, of a name that nobody knows."""
    found = re.search(r"is forbidden: (.*)", text, re.DOTALL)
    if levels := re.search(r'violates PodSecurity "[^"]*": (.*)', text, re.DOTALL):
        # What is wrong; behind it stands, in parentheses, of which container.
        return one_line(re.sub(r" \([^)]*\)", "", levels[1]))
    return one_line(found[1] if found else text)


def _quota(text: str) -> str:
    """``exceeded quota: NAME, requested: ..., used: ..., limited: ...`` for people."""
    found = re.search(
        r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (.*)", text, re.DOTALL
    )
    if not found:
        return _refusal(text)
    name, asked, used, limited = (one_line(part) for part in found.groups())
    return f"{name} allows {_sizes(limited)}, {_sizes(used)} is in use, it asks for {_sizes(asked)}"


def _sizes(text: str) -> str:
    """``memory=134217728`` as ``memory=128 MiB``, also where it ``is 134217728``."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{say_bytes(int(found[2]))}"

    return re.sub(r"(=|\bis )(\d{7,})\b", shorter, text)
