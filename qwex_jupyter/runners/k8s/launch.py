"""Starts a run: its Job, and the files and secrets that its pod waits for.

``launch.json`` is linked directly before the POST of the Job, the one call that can start the
program. After any answer that leaves it open whether there is a Job, looking for one of that
name decides: names are unique, so a POST that is repeated makes no second one.
"""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.disk.folder import RUN, STOP, RunFolder
from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable, SubmitFailed
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, NONCE_LABEL, RUN_LABEL, given
from qwex_jupyter.runners.container.retry import tries
from qwex_jupyter.runners.k8s import files, manifest
from qwex_jupyter.runners.k8s.cluster import Cluster, unsent
from qwex_jupyter.runners.k8s.objects import HANDOVER, uid_of
from qwex_jupyter.runners.k8s.refusals import PERHAPS, Refused, impersonates, not_created, passes

# Between two tries. Seconds.
_PAUSE = 0.5
# What a --pod-patch misspells is refused; else it would be left out in silence (1.25).
_STRICT = {"fieldValidation": "Strict"}
# A stop that came between launch.json and the Job was told "it is being started": it holds.
Stop = Callable[[], None]


def launch(
    cluster: Cluster, plan: Plan, folder: RunFolder, values: Mapping[str, str], stopped: Stop
) -> None:
    """Creates the Job of a run, and what belongs to it.

    Args:
        cluster: Where.
        plan: What; see `manifest.make_plan`.
        folder: The run's folder.
        values: What stands in no file; see `Runner.submit`.
        stopped: Called when a stop was asked for meanwhile.

    Raises:
        SubmitFailed: The API server refused it; nothing was started, and never will be.
    """
    job = manifest.with_values(plan, values)
    nonce = random.token_hex(8)
    awaited = "files and secrets follow" if plan["files"] or plan["secrets"] else ""
    job["metadata"]["annotations"] = given({NONCE_LABEL: nonce, HANDOVER: awaited})
    companions = [*files.config_maps(plan, folder), *filter(None, [files.secret(plan, values)])]
    if not folder.claim_launch("kernel", nonce=nonce):
        return
    made = _create(cluster, job, folder, nonce)
    if made is None:
        return  # it isn't known: whoever looks finds it, or finds that there is none
    if companions:
        _hand_over(cluster, made, companions)
    if folder.has(STOP):
        stopped()


def _create(
    cluster: Cluster, job: dict[str, Any], folder: RunFolder, nonce: str
) -> dict[str, Any] | None:
    """The Job as the API server has it; None where nothing is known of it.

    Raises:
        SubmitFailed: See `launch`.
    """
    name, patience = job["metadata"]["name"], cluster.patience
    begun = time.monotonic()
    until = begun + patience.try_for
    # Once a POST may have been carried out, no later answer says that it was not.
    unsure = False
    for _ in tries(_PAUSE, until=until):
        try:
            found: dict[str, Any] = cluster.call(
                "POST", cluster.path("jobs"), params=_STRICT, body=job, timeout=patience.post
            ).json()
            if found.get("kind") == "Job":
                return found
            unsure = True
        except Refused as error:
            if not (unsure or passes(error)):
                raise SubmitFailed(_refused(error, cluster, job)) from error
            unsure = unsure or error.status in PERHAPS
        except RunnerUnavailable as error:
            if not unsure:
                raise SubmitFailed(str(error)) from error
        except BackendUnreachable as error:
            unsure = unsure or not unsent(error)
            if not unsure and time.monotonic() - begun > patience.connects_for:
                raise SubmitFailed(f"{cluster.called} isn't there. Nothing was started.") from error
        try:
            there = cluster.get("jobs", name)
            if there is not None:
                return _adopted(there, job, nonce)
        except (BackendUnreachable, RunnerUnavailable):
            pass
        # A Job that was made and ended meanwhile, and that somebody cleaned up, isn't made anew.
        if folder.has(RUN) or folder.has(STOP):
            break
    if unsure or folder.has(RUN):
        return None
    raise SubmitFailed(f"{cluster.called} turned it away. Nothing was started.")


def _adopted(there: dict[str, Any], job: dict[str, Any], nonce: str) -> dict[str, Any] | None:
    """A Job of our name: ours, or that of another submit of this run, which goes on with it.

    Raises:
        SubmitFailed: It is no run of this history.
    """
    labels = there["metadata"].get("labels") or {}
    wanted = job["metadata"]["labels"]
    if any(labels.get(name) != wanted[name] for name in (RUN_LABEL, HISTORY_LABEL)):
        name = job["metadata"]["name"]
        raise SubmitFailed(
            f"The cluster has a Job {name} that isn't of this run, and it was left as it is. Run "
            f"it again for a new name, or look: kubectl describe job {name}"
        )
    mine = (there["metadata"].get("annotations") or {}).get(NONCE_LABEL) == nonce
    return there if mine else None


def _hand_over(cluster: Cluster, job: dict[str, Any], companions: list[dict[str, Any]]) -> None:
    """Makes what the pod waits for, owned by the Job, and lifts the Job's deadline then.

    Raises:
        SubmitFailed: It was refused; the Job, whose program can't have started, is gone.
    """
    name, uid = job["metadata"]["name"], uid_of(job)
    until = time.monotonic() + cluster.patience.try_for
    for companion in companions:
        kind = "configmaps" if companion["kind"] == "ConfigMap" else "secrets"
        body = files.owned(companion, name, uid)
        try:
            _made(cluster, kind, body, until)
        except (Refused, BackendUnreachable, RunnerUnavailable) as error:
            take_away(cluster, name, uid)
            why = f"The run's {kind} could not be handed over: {error} Nothing was started."
            if isinstance(error, Refused):
                why = _refused(error, cluster, body)
            raise SubmitFailed(why) from error
    for _ in tries(_PAUSE, until=until):
        if lift(cluster, name):
            return


def _made(cluster: Cluster, kind: str, body: dict[str, Any], until: float) -> None:
    for _ in tries(_PAUSE, until=until):
        try:
            cluster.call("POST", cluster.path(kind), body=body, timeout=cluster.patience.post)
            return
        except Refused as error:
            # By a try whose answer was lost: names hold the run's id, so nobody else's.
            if error.reason == "AlreadyExists":
                return
            if not passes(error):
                raise
            trouble: Exception = error
        except BackendUnreachable as error:
            trouble = error
    raise trouble


def lift(cluster: Cluster, name: str) -> bool:
    """Takes away the deadline of a Job whose files and secrets are there; whether it is gone.

    What fails here is done again by whoever sees its program run.
    """
    patch = {
        "metadata": {"annotations": {HANDOVER: None}},
        "spec": {"activeDeadlineSeconds": None},
    }
    try:
        cluster.call("PATCH", cluster.path("jobs", name), body=patch)
    except Refused as error:
        return not passes(error)  # nobody gets further with it
    except (BackendUnreachable, RunnerUnavailable):
        return False
    return True


def take_away(cluster: Cluster, name: str, uid: str, version: str = "") -> bool:
    """Deletes a Job that was looked at, with its pods; whether this call did.

    Args:
        cluster: Where.
        name: Its name.
        uid: Its uid; another one of that name stays.
        version: Its version, where it is to be gone only as it was looked at.

    Raises:
        BackendUnreachable: It isn't known whether it was.
    """
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": uid, **({"resourceVersion": version} if version else {})},
    }
    try:
        cluster.call("DELETE", cluster.path("jobs", name), body=body)
    except Refused as error:
        if error.status in (404, 409):
            there = cluster.get("jobs", name)
            if there is None or uid_of(there) != uid or version:
                return False  # it is gone, is another one by that name, or has changed
        raise cluster.forbidden(error, "delete", "jobs") from error
    return True


def _refused(error: Refused, cluster: Cluster, body: Mapping[str, Any]) -> str:
    if impersonates(error):
        return f"{cluster.acting(error)} Nothing was started."
    return not_created(error, str(body["kind"]), cluster.where.namespace)
