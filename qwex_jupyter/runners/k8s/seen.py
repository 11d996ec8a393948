"""What is seen of one run on a cluster: its Job, its pod, and what was told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwex_jupyter.model.text import one_line
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.k8s import waiting
from qwex_jupyter.runners.k8s.objects import (
    INTENT,
    finished,
    is_awaiting,
    over,
    parts_of,
    started,
    state_of,
)

_MOST_SAID = 2000


@dataclass(frozen=True)
class Seen:
    """What the cluster has of one run; None for what isn't there.

    Attributes:
        job: The Job, or what `kept_job` kept of it.
        pod: The pod that ran it, or what `kept_pod` kept of it.
        pods: How many pods there are.
        events: What was told of Job and pod, oldest first; see `waiting.Event`.
    """

    job: Mapping[str, Any] | None = None
    pod: Mapping[str, Any] | None = None
    pods: int = 0
    events: Sequence[waiting.Event] = field(default_factory=tuple)


def is_late(seen: Seen) -> bool:
    """Whether a program runs and its Job still has the deadline of one that waits for files."""
    if seen.job is None or seen.pod is None or started(seen.pod) is None or over(seen.pod):
        return False
    notes = (seen.job.get("metadata") or {}).get("annotations") or {}
    return is_awaiting(seen.job) and INTENT not in notes


def words_of(seen: Seen) -> str:
    """The cluster's own words, for who wants to read on."""
    lines = []
    if seen.pods > 1:
        lines.append(f"job: {seen.pods} pods were made for it; this tells of the first that began")
    if seen.pod is not None:
        _, _, status = parts_of(seen.pod)
        for kind, value in state_of(seen.pod).items():
            if kind != "running" and value:
                # Without what we have bash write there.
                said = {"message": bash.split(str(value.get("message") or ""))[1]}
                lines.append(f"container {kind}: {_pair(value.get('reason'), said)}")
        if status.get("reason"):
            lines.append(f"pod {status.get('phase')}: {_pair(status['reason'], status)}")
        for condition in status.get("conditions") or []:
            off = condition.get("type") == "PodScheduled" and condition.get("status") == "False"
            if off or (condition.get("type") == "DisruptionTarget"):
                lines.append(f"{condition['type']}: {_pair(condition.get('reason'), condition)}")
    if seen.job is not None and (condition := finished(seen.job)):
        lines.append(f"job {condition['type']}: {_pair(condition.get('reason'), condition)}")
    lines += [f"event {e.reason}: {one_line(e.message)}" for e in seen.events if e.warning]
    return "\n".join(lines)[:_MOST_SAID]


def _pair(reason: Any, value: Mapping[str, Any]) -> str:
    text = one_line(str(value.get("message") or ""), 500)
    return f"{reason or '?'} ({text})" if text else str(reason or "?")
