"""How Jobs and pods go: by themselves after their outcome, or at once, and never what lives.

All of it names the uid of what was looked at, so that another object of that name stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.disk.folder import RUN, RunFolder
from qwex_jupyter.errors import BackendUnreachable, RunStillLive
from qwex_jupyter.model.units import parse_duration
from qwex_jupyter.runners.base import still_live
from qwex_jupyter.runners.k8s import launch, objects
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.finder import Finder
from qwex_jupyter.runners.k8s.refusals import Refused


class Remover:
    """Takes away what a cluster has of runs.

    Args:
        cluster: The cluster.
        finder: Finds Jobs and pods there.
        folder: Gives the folder of a run.
        setting: Gives ``job_ttl``, how long a Job stays after its outcome is on disk.
    """

    def __init__(
        self,
        cluster: Cluster,
        finder: Finder,
        folder: Callable[[str], RunFolder],
        setting: Callable[[str], Any],
    ) -> None:
        self._cluster, self._finder = cluster, finder
        self._folder, self._setting = folder, setting

    def release(self, run_id: str) -> None:
        """Has a Job go by itself from now on, after an hour; see `Runner.release`.

        What still runs beside the program is stopped. A Job that would be executed once more goes
        at once: one that a queue has suspended is started anew when it is resumed.

        Raises:
            RunStillLive: It has not ended.
            BackendUnreachable: It isn't known whether it will go, or we may not have it go.
        """
        job = self._finder.job(run_id)
        if job is None:
            self._take_orphans(run_id)
            return
        spec, goes_on = job.get("spec") or {}, objects.finished(job) is None
        pod = self._finder.pod(run_id) if goes_on else None
        if pod is not None and not objects.over(pod):
            raise still_live(run_id)
        if goes_on and spec.get("suspend"):
            if not as_it_is(self._cluster, job):
                raise BackendUnreachable("Its Job was changed this moment; it is freed soon.")
            self._finder.forget(run_id, objects.uid_of(job))
            return
        if spec.get("ttlSecondsAfterFinished") is None:
            ttl = math.ceil(parse_duration(self._setting("job_ttl"), "job_ttl"))
            wanted = {"ttlSecondsAfterFinished": ttl}
            if pod is not None and objects.kept_by_others(pod):
                # A mesh's proxy, or one of --pod-patch, would keep what it holds for ever.
                wanted["activeDeadlineSeconds"] = 1
            patch_job(self._cluster, job, {"spec": wanted})
        self._finder.forget(run_id)

    def delete(self, run_id: str) -> None:
        """Takes a Job away with its pods; see `Runner.delete`."""
        job = self._finder.job(run_id)
        if job is None:
            self._take_orphans(run_id)
            return
        pod = objects.chosen(self._finder.pods(run_id), job)
        begun = pod is not None and objects.begun(pod)
        if begun and not objects.over(pod):
            raise still_live(run_id)
        # Nothing that it waits for is ours, so the cluster itself will start it.
        waits = not objects.is_awaiting(job) and not self._folder(run_id).has(RUN)
        if not begun and objects.finished(job) is None and waits:
            raise RunStillLive(f"{run_id} waits to start: %qwex cancel {run_id[-6:]}")
        launch.take_away(self._cluster, job["metadata"]["name"], objects.uid_of(job))
        self._finder.forget(run_id, objects.uid_of(job))

    def _take_orphans(self, run_id: str) -> None:
        """Takes away the pods of a run whose Job somebody deleted without them."""
        for pod in self._finder.pods(run_id):
            if pod["metadata"].get("deletionTimestamp"):
                continue
            if not objects.over(pod):
                raise still_live(run_id)
            path = self._cluster.path("pods", pod["metadata"]["name"])
            body = {"preconditions": {"uid": objects.uid_of(pod)}}
            try:
                self._cluster.call("DELETE", path, body=body)
            except Refused as error:
                if error.status not in (404, 409):
                    raise self._cluster.forbidden(error, "delete", "pods") from error
        self._finder.forget(run_id)


def as_it_is(cluster: Cluster, job: Mapping[str, Any]) -> bool:
    """Deletes a Job unless it was changed since it was looked at; whether this call did."""
    version = str(job["metadata"].get("resourceVersion", ""))
    name = job["metadata"]["name"]
    return launch.take_away(cluster, name, objects.uid_of(job), version)


def patch_job(cluster: Cluster, job: Mapping[str, Any], patch: dict[str, Any]) -> None:
    """Changes a Job; one that is gone stays gone.

    Raises:
        BackendUnreachable: It isn't known whether it was changed, or we may not.
    """
    if not patch:
        return
    patch.setdefault("metadata", {})["uid"] = objects.uid_of(job)
    name = job["metadata"]["name"]
    try:
        cluster.call("PATCH", cluster.path("jobs", name), body=patch)
    except Refused as error:
        if error.status in (404, 409):
            there = cluster.get("jobs", name)
            if there is None or objects.uid_of(there) != objects.uid_of(job):
                return  # the next look sees it
        raise cluster.forbidden(error, "patch", "jobs") from error
