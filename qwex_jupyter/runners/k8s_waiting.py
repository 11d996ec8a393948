"""Why a pod that was asked for doesn't run yet: pure.

Kubernetes waits for ever for what may come: an image, a node, a quota. Here stands what its
words mean, and which of them say that it will never come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwex_jupyter.runners import words
from qwex_jupyter.runners.k8s_manifest import main_of, status_of
from qwex_jupyter.status import End, Reason, RunStatus, Snapshot, capital, say_bytes

# So long a pod is waited for whose image isn't there, that the kubelet has tried twice. Seconds.
_TWICE = 15.0
# A text -> (reason, sentence without a full stop, whether it will never come). Sentences are
# made with {image} and {text}.
_Row = tuple[str, Reason, str, bool]

# ``waiting.reason`` of a container and its message, as one text: pkg/kubelet/images/types.go,
# pkg/kubelet/kuberuntime; the messages are containerd's and the registries'.
_CONTAINER: tuple[_Row, ...] = (
    (
        "^InvalidImageName",
        Reason.IMAGE_NOT_FOUND,
        "{image} isn't the name of an image",
        True,
    ),
    (
        "^ErrImageNeverPull",
        Reason.IMAGE_NOT_FOUND,
        "the node doesn't have {image}, and --pull=never forbids to get it",
        True,
    ),
    (
        "ImagePull.*(no match for platform|no matching manifest)",
        Reason.IMAGE_PULL_FAILED,
        "there is no variant of {image} for the node's kind of processor: choose another tag",
        True,
    ),
    (
        (
            "ImagePull.*(unauthorized|authentication required|no basic auth|forbidden|"
            "authorization failed|insufficient_scope|access denied|requested access)"
        ),
        Reason.IMAGE_PULL_FAILED,
        (
            "the cluster has no access to {image}, or it doesn't exist: check its name, or name "
            "the Secret with the login, --pull-secret NAME"
        ),
        True,
    ),
    (
        "ImagePull.*(no such host|server misbehaving)",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} can't be pulled yet: the node finds no host {registry}. Check its name; "
            "Kubernetes tries again"
        ),
        False,
    ),
    (
        "ImagePull.*(not found|manifest unknown|does not exist|name unknown)",
        Reason.IMAGE_NOT_FOUND,
        "there is no image {image}: check its name and tag",
        True,
    ),
    (
        "ImagePull.*(toomanyrequests|too many requests|rate limit)",
        Reason.IMAGE_PULL_FAILED,
        (
            "the registry gives the cluster no more images for a while: wait, or name a Secret "
            "with a login, --pull-secret NAME"
        ),
        False,
    ),
    (
        "ImagePull.*(x509|certificate|HTTPS client)",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} can't be pulled: the node doesn't trust {registry}. Who runs the cluster can "
            "change that"
        ),
        False,
    ),
    (
        "ImagePull|^RegistryUnavailable|^ImageInspectError|^SignatureValidationFailed",
        Reason.IMAGE_PULL_FAILED,
        "{image} can't be pulled yet ({text}); Kubernetes tries again",
        False,
    ),
    (
        "^CreateContainerConfigError.*runAsNonRoot",
        Reason.ADMISSION_REFUSED,
        "the image runs as root, which its pod may not: give a user by number, --user 1000",
        True,
    ),
    (
        '^CreateContainerConfigError.*(secret|configmap) "?([^" ]+)"? not found',
        Reason.UNSCHEDULABLE,
        "it waits for something that isn't there: {text}",
        False,
    ),
    ("", Reason.UNSCHEDULABLE, "its container can't be made: {text}", False),
)

# Messages of a Job's FailedCreate events, from the API server's admission:
# plugin/pkg/admission/resourcequota, limitranger, podsecurity, serviceaccount; webhooks.
_CREATE: tuple[_Row, ...] = (
    (
        "exceeded quota",
        Reason.QUOTA_EXCEEDED,
        "the namespace's quota is used up: {quota}. It starts when there is room",
        False,
    ),
    (
        "failed quota.*must specify",
        Reason.QUOTA_EXCEEDED,
        (
            "the namespace's quota wants limits to be given: name them with --cpus and --memory "
            "({text})"
        ),
        True,
    ),
    (
        'violates PodSecurity "restricted',
        Reason.ADMISSION_REFUSED,
        (
            "the namespace's Pod Security refuses its pod: set QWEX_POD_SECURITY=restricted and "
            "give --user 1000 ({text})"
        ),
        True,
    ),
    (
        "violates PodSecurity",
        Reason.ADMISSION_REFUSED,
        "the namespace's Pod Security refuses its pod: {text}",
        True,
    ),
    (
        "(maximum|minimum) .*(per (Container|Pod)|usage)",
        Reason.QUOTA_EXCEEDED,
        "the namespace's LimitRange refuses that much or that little: {sizes}",
        True,
    ),
    (
        "admission webhook .*denied",
        Reason.ADMISSION_REFUSED,
        "a rule of the cluster refuses its pod: {text}",
        True,
    ),
    (
        # A namespace that was made this moment gets its default one a moment later.
        'serviceaccount "default" not found',
        Reason.STARTING,
        "the namespace has no service account yet: {text}",
        False,
    ),
    (
        "serviceaccount .*not found",
        Reason.ADMISSION_REFUSED,
        "the namespace has no such service account: {text}",
        True,
    ),
    (
        "forbidden|denied|invalid",
        Reason.ADMISSION_REFUSED,
        "the cluster refuses its pod: {text}",
        False,
    ),
    ("", Reason.UNSCHEDULABLE, "its pod can't be made yet: {text}", False),
)

# Reasons of a pod's events while its container is being made: pkg/kubelet/events.
_MAKING = {
    "FailedMount": "a volume can't be mounted yet",
    "FailedAttachVolume": "a volume can't be attached yet",
    "FailedCreatePodSandBox": "its node can't make its sandbox yet",
    "FailedPodSandBoxStatus": "its node can't make its sandbox yet",
    "NetworkNotReady": "its node's network isn't ready yet",
}


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
    waiting = _waiting(pod)
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
    waiting = _waiting(pod)
    text = f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    if text and waiting.get("reason") not in _CREATING:
        failed = [e for e in events if e.reason == "Failed" and "Failed to pull" in e.message]
        if failed and _says_nothing(waiting):
            waiting = {**waiting, "message": failed[-1].message}
            text = f"{waiting['reason']} {waiting['message']}"
        about = _about(pod, waiting)
        # What the image is called is no cause, whatever words stand there.
        reason, why, never = _told(_CONTAINER, text.replace(about["image"], ""), about)
        if waiting["reason"] in _PULLS:
            # A pull may succeed later: the kubelet is to have tried twice.
            twice = waiting["reason"] == "ImagePullBackOff" and _age(pod, now) > _TWICE
            never = never and twice and not patient
        return _wait(reason, why, hopeless=never)
    told = [event for event in events if event.reason in _MAKING and event.warning]
    if told and not _pulling(events, told[-1].at):
        said = words.one_line(told[-1].message)
        return _wait(Reason.UNSCHEDULABLE, f"{_MAKING[told[-1].reason]}: {said}")
    if since := _pulling(events):
        return _wait(Reason.PULLING, f"its node gets {_image(pod)} since {since}")
    if node := (pod.get("spec") or {}).get("nodeName"):
        return _wait(Reason.STARTING, f"its container is made on {node}")
    return _wait(Reason.STARTING, "it waits for a node")


def _wait(reason: Reason, why: str, *, hopeless: bool = False) -> Snapshot:
    end = End(reason=reason, detail=why) if hopeless else None
    return Snapshot(RunStatus.PENDING, reason, f"{capital(why)}.", accepted=True, hopeless=end)


def _without_pod(job: Mapping[str, Any], events: Sequence[Event]) -> Snapshot:
    if (job.get("spec") or {}).get("suspend"):
        return _wait(Reason.STARTING, "its Job is suspended: a queue of the cluster lets it start")
    told = [event for event in events if event.reason == "FailedCreate"]
    if not told:
        return _wait(Reason.STARTING, "its pod is being made")
    text = told[-1].message
    said = _refusal(text)
    about = {"text": said, "sizes": _sizes(said), "quota": _quota(text)}
    reason, why, never = _told(_CREATE, text, about)
    return _wait(reason, why, hopeless=never)


def _told(rows: Sequence[_Row], text: str, about: Mapping[str, str]) -> tuple[Reason, str, bool]:
    for pattern, reason, sentence, never in rows:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return reason, sentence.format(**about), never
    raise AssertionError("the last row takes everything")


def _about(pod: Mapping[str, Any], waiting: Mapping[str, Any]) -> dict[str, str]:
    name = _image(pod)
    first, slash, _ = name.partition("/")
    elsewhere = slash and ("." in first or ":" in first or first == "localhost")
    text = str(waiting.get("message") or waiting.get("reason") or "")
    return {
        "image": name,
        "registry": first if elsewhere else "docker.io",
        "text": words.one_line(text),
    }


def _image(pod: Mapping[str, Any]) -> str:
    container = main_of(pod.get("spec") or {})
    return str(container.get("image", "")) if container else "its image"


def _waiting(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return (status_of(pod).get("state") or {}).get("waiting") or {}


def _unscheduled(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return condition  # type: ignore[no-any-return]
    return None


def _age(pod: Mapping[str, Any], now: float) -> float:
    text = (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp")
    try:
        return now - datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


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
    why = words.one_line(nodes[2] if nodes else text)
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
        return words.one_line(re.sub(r" \([^)]*\)", "", levels[1]))
    return words.one_line(found[1] if found else text)


def _quota(text: str) -> str:
    """``exceeded quota: NAME, requested: ..., used: ..., limited: ...`` for people."""
    found = re.search(
        r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (.*)", text, re.DOTALL
    )
    if not found:
        return _refusal(text)
    name, asked, used, limited = (words.one_line(part) for part in found.groups())
    return f"{name} allows {_sizes(limited)}, {_sizes(used)} is in use, it asks for {_sizes(asked)}"


def _sizes(text: str) -> str:
    """``memory=134217728`` as ``memory=128 MiB``, also where it ``is 134217728``."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{say_bytes(int(found[2]))}"

    return re.sub(r"(=|\bis )(\d{7,})\b", shorter, text)
