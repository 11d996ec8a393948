"""What ``%qwex doctor`` says of a cluster: which one and why, what you may do, what it refuses."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from qwex_jupyter.disk.folder import RUN, SPEC, RunFolder
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.text import one_line
from qwex_jupyter.model.units import say_count
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL
from qwex_jupyter.runners.k8s import patch
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.objects import finished, run_of
from qwex_jupyter.runners.k8s.refusals import Refused

# What a runner asks of the API server: (group, resource, verbs, what for).
RULES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete"), "runs"),
    ("", "pods", ("get", "list", "watch"), "how they are"),
    ("", "pods/log", ("get",), "output"),
    ("", "pods", ("patch",), "stopping them, and timeouts, with the output kept"),
    ("", "pods", ("delete",), "those whose Job somebody took away without them"),
    ("", "events", ("list",), "why they wait"),
    ("", "configmaps", ("create",), "--files, and scripts that go along"),
    ("", "secrets", ("create",), "--secret"),
)
# Without these a run can't be had at all.
_NEEDED = 3
_RBAC = "rbac.authorization.k8s.io/v1"
# At most this many questions are on their way at once; the doctor has two seconds.
_AT_ONCE = 8


def role(name: str, namespace: str) -> dict[str, Any]:
    """The Role that is enough for all of it."""
    merged: dict[tuple[str, str], list[str]] = {}
    for group, resource, verbs, _ in RULES:
        merged.setdefault((group, resource), []).extend(verbs)
    return {
        "apiVersion": _RBAC,
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": verbs}
            for (group, resource), verbs in merged.items()
        ],
    }


def binding(namespace: str, user: str) -> dict[str, Any]:
    """What gives that Role to a user, by the name under which the API server knows them."""
    name = "-".join(["qwex", *re.findall(r"[a-z0-9]+", user.lower())])
    subject = {"kind": "User", "apiGroup": _RBAC.partition("/")[0], "name": user}
    if found := re.fullmatch(r"system:serviceaccount:([^:]+):([^:]+)", user):
        subject = {"kind": "ServiceAccount", "namespace": found[1], "name": found[2]}
    return {
        "apiVersion": _RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "subjects": [subject],
        "roleRef": {"apiGroup": _RBAC.partition("/")[0], "kind": "Role", "name": "qwex"},
    }


def examine(
    cluster: Cluster, history: str, folder: Callable[[str], RunFolder], job: Mapping[str, Any]
) -> Iterator[str]:
    """The lines about a cluster, each as soon as it is known.

    Args:
        cluster: The cluster.
        history: The id of the history.
        folder: Gives the folder of a run.
        job: A Job that is tried without being made.
    """
    where = cluster.where
    version = cluster.ask("/version").get("gitVersion", "?")
    yield (
        f"✓ k8s  Kubernetes {version} at {where.shown}, namespace {where.namespace}, by {where.why}"
    )
    verbs = [(group, resource, verb) for group, resource, many, _ in RULES for verb in many]
    may = _asked([partial(_may, cluster, *what) for what in verbs])
    security, quotas, tried, jobs, user = _asked(
        [
            lambda: [*_security(cluster)],
            lambda: [*_quotas(cluster)],
            lambda: [_tried(cluster, job)],
            lambda: [*_jobs(cluster, history, folder)],
            lambda: _user(cluster),
        ]
    )
    allowed = {what: answer.result() for what, answer in zip(verbs, may, strict=True)}
    missing = []
    for group, resource, many, what in RULES:
        if lacking := [verb for verb in many if not allowed[group, resource, verb]]:
            missing.append((group, resource, many, what))
            yield f"    ✗ you may not {'/'.join(lacking)} {resource}: {what}"
    if not missing:
        yield "    you may do all that is needed"
    yield from security.result()
    yield from quotas.result()
    if not any(rule in missing for rule in RULES[:_NEEDED]):
        yield from jobs.result()
    if missing:
        # The whole one: who applies a part of it takes the rest away from who has it.
        yield "    ask who runs the cluster to apply this:"
        items = [role("qwex", where.namespace)]
        if name := user.result():
            items.append(binding(where.namespace, name))
        # One document: an indented line between two would be none.
        text = patch.dumped([{"apiVersion": "v1", "kind": "List", "items": items}])
        yield from (f"      {line}" for line in text.splitlines())
    if allowed["batch", "jobs", "create"]:
        yield from tried.result()


def _asked(questions: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    """The answers to questions that are asked some at once."""
    answers: list[Future[Any]] = [Future() for _ in questions]
    waiting = deque(zip(answers, questions, strict=True))

    def ask() -> None:
        while waiting:
            try:
                answer, question = waiting.popleft()
            except IndexError:
                return
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 - raised again by who reads the answer
                answer.set_exception(error)

    # Nobody waits for the end of these: an answer that doesn't come keeps no process alive.
    for _ in range(min(_AT_ONCE, len(questions))):
        threading.Thread(target=ask, name="qwex-doctor", daemon=True).start()
    return answers


def _may(cluster: Cluster, group: str, resource: str, verb: str) -> bool:
    """Whether something may be done, by SelfSubjectAccessReview; everybody may ask that."""
    kind, _, part = resource.partition("/")
    about = {
        "namespace": cluster.where.namespace,
        "verb": verb,
        "group": group,
        "resource": kind,
        "subresource": part,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": about},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    said = cluster.call("POST", path, body=body).json()
    return bool((said.get("status") or {}).get("allowed"))


def _user(cluster: Cluster) -> str:
    """Who we are for the API server; "" where it doesn't tell, which it does from 1.28 on."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        said = cluster.call("POST", path, body=body).json()
    except (QwexError, Refused):
        return ""
    return str(((said.get("status") or {}).get("userInfo") or {}).get("username", ""))


def _security(cluster: Cluster) -> Iterator[str]:
    """The level of Pod Security that the namespace enforces, where it may be read."""
    try:
        found = cluster.ask(f"/api/v1/namespaces/{cluster.where.namespace}")
    except Refused:
        return
    labels = (found.get("metadata") or {}).get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce")
    if level == "restricted":
        yield (
            "    Pod Security: restricted is enforced: set QWEX_POD_SECURITY=restricted, and give "
            "--user with images that run as root"
        )
    elif level:
        yield f"    Pod Security: {level} is enforced"


def _quotas(cluster: Cluster) -> Iterator[str]:
    """Quotas and limits of the namespace, where they may be read."""
    for kind, word in (("resourcequotas", "quota"), ("limitranges", "limits")):
        try:
            found = cluster.ask(cluster.path(kind)).get("items") or []
        except Refused:
            continue
        for item in found:
            status = item.get("status") or {}
            hard, used = status.get("hard") or {}, status.get("used") or {}
            parts = [f"{name} {used.get(name, '0')} of {most}" for name, most in hard.items()]
            parts += [
                f"{limit.get('type')} {what} {name} {value}"
                for limit in (item.get("spec") or {}).get("limits") or []
                for what in ("max", "min", "default")
                for name, value in (limit.get(what) or {}).items()
            ]
            yield f"    {word} {item['metadata']['name']}: {', '.join(parts)}"


def _tried(cluster: Cluster, job: Mapping[str, Any]) -> str:
    """A Job, run through everything that admits it, and not made."""
    try:
        said = cluster.call("POST", cluster.path("jobs"), params={"dryRun": "All"}, body=job)
    except Refused as error:
        return f"    ✗ a Job would be refused: {one_line(error.text)}"
    # RFC 9111: 299 - "text"
    warned = re.search(r'299 \S+ "(.*)"', str(said.headers.get("Warning", "")))
    return f"    a Job would be taken{f', and warned of: {one_line(warned[1])}' if warned else ''}"


def _jobs(cluster: Cluster, history: str, folder: Callable[[str], RunFolder]) -> Iterator[str]:
    """The Jobs of this history that a cluster has, by what will become of them."""
    counts: dict[str, int] = {}
    strangers = []
    for job in cluster.list("jobs", f"{HISTORY_LABEL}={history}"):
        here = folder(run_of(job, history))
        if here.read(SPEC) is None:
            strangers.append(job["metadata"]["name"])
            continue
        ttl = (job.get("spec") or {}).get("ttlSecondsAfterFinished")
        what = "of runs that have not ended"
        if finished(job) is not None or here.has(RUN):
            what = "ended, kept (--keep)" if ttl is None else "ended, going by themselves"
        counts[what] = counts.get(what, 0) + 1
    for what, count in counts.items():
        yield f"    {say_count(count, 'Job')} {what}"
    if strangers:
        names = " ".join(strangers[:5]) + (" ..." if len(strangers) > 5 else "")
        yield (
            f"    {say_count(len(strangers), 'Job')} of deleted runs: kubectl -n "
            f"{cluster.where.namespace} delete job {names}"
        )
