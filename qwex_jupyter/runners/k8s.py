"""K8sRunner: a run is a Job of a cluster, tracked through the API server and nothing else."""

from __future__ import annotations

import functools
import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from qwex_jupyter import carry, facts
from qwex_jupyter.errors import (
    BackendUnreachable,
    QwexError,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
)
from qwex_jupyter.flag import Flag
from qwex_jupyter.logs import RunLog
from qwex_jupyter.patience import Patience
from qwex_jupyter.runners import (
    k8s_doctor,
    k8s_launch,
    k8s_manifest,
    k8s_state,
)
from qwex_jupyter.runners.base import Plan, Promises, Runner, finish
from qwex_jupyter.runners.k8s_cluster import Cluster, Refused
from qwex_jupyter.runners.k8s_finder import Finder
from qwex_jupyter.runners.k8s_logs import Reader
from qwex_jupyter.runners.k8s_state import Seen
from qwex_jupyter.runners.streams import Guard
from qwex_jupyter.spec import JobSpec, parse_duration
from qwex_jupyter.status import End, Reason, Snapshot

DEFAULTS = {"gpu_resource": "nvidia.com/gpu", "pod_security": "baseline", "job_ttl": "1h"}


class K8sRunner(Runner):
    """Runs are Jobs of one namespace of one cluster.

    Args:
        home: The history folder.
        history: Its id.
        context: A context of the kubeconfig; "" for the current one, or this pod's account.
        namespace: "" for the context's.
        setting: Gives a setting as it is now: ``gpu_resource``, what a GPU is called there;
            ``pod_security``, ``restricted`` for namespaces that enforce that level; ``job_ttl``,
            how long a Job stays after its outcome and output are on disk.
        patience: How long it waits for what.
    """

    name = "k8s"
    promises = Promises(
        durable=True,
        raw_bytes=True,
        separate_streams=False,  # they are where the cluster gives each by itself
        holds_timeout=True,
        outlives_machine=True,
        keeps_output=False,  # a kubelet gives the newest 10 MiB, unless somebody follows
        insists=False,  # the grace is the pod's own
        grain=1.0,
    )
    supports = frozenset(
        {
            "image", "cpus", "memory", "gpus", "shm-size", "user", "volume", "files", "pull",
            "context", "namespace", "service-account", "pull-secret", "pod-patch", "keep",
            "entrypoint", "read-only",
        }
    )  # fmt: skip
    place = frozenset({"context", "namespace"})
    polled_every = 30.0

    def __init__(
        self,
        home: str,
        history: str,
        *,
        context: str = "",
        namespace: str = "",
        setting: Callable[[str], Any] = DEFAULTS.__getitem__,
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(home, history)
        self._setting = setting
        self._cluster = Cluster(context, namespace, patience=patience)
        self._guard = Guard(self._cluster.ping, "qwex-k8s-streams", patience)
        self._finder = Finder(self._cluster, history, self._guard)
        self._reader = Reader(self._cluster, self._finder.pod, self._guard)
        self._may_patch_pods = True
        self._closing = Flag()

    def check(self) -> None:
        """See `Runner.check`."""
        try:
            self._cluster.check()
        except BackendUnreachable as error:
            raise RunnerUnavailable(
                f"{str(error).removesuffix('; it is asked again.')}: start it, or choose another "
                "with --context."
            ) from error

    def identity(self) -> str:
        """See `Runner.identity`: the server, its certificate authority, the namespace."""
        return self._cluster.where.identity

    def clock(self) -> float:
        """See `Runner.clock`."""
        return self._cluster.clock()

    def close(self) -> None:
        """See `Runner.close`."""
        self._closing.set()
        self._closing = Flag()  # it may be asked again
        self._cluster.close()

    def examine(self) -> Iterator[str]:
        """See `Runner.examine`."""
        self.check()
        yield from k8s_doctor.examine(self._cluster, self.history, self.folder, self._dry_run())

    def _dry_run(self) -> dict[str, Any]:
        spec = JobSpec(command=("true",), image="busybox")
        job: dict[str, Any] = self.plan(spec, "20260101-000000-doctor")["job"]
        return job

    def foreign(self, identity: str) -> tuple[Reason, str]:
        """See `Runner.foreign`."""
        theirs, _, _ = identity.removeprefix("k8s://").partition("#")
        space, _, host = theirs.partition("@")
        where = self._cluster.where
        message = (
            f"It runs in the namespace {space} of {host}, and {where.namespace} of {where.host} "
            f"is chosen now (by {where.why}): kubectl config use-context, or KUBECONFIG."
        )
        return Reason.BACKEND_UNREACHABLE, message

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """See `Runner.plan`: the Job and what belongs to it, see `k8s_manifest.make_plan`."""
        self.refuse_unsupported(spec)
        return k8s_manifest.make_plan(
            spec,
            run_id,
            self.history,
            carried=carry.going_along(spec, self.home, self.folder(run_id)),
            gpu_resource=str(self._setting("gpu_resource")),
            restricted=self._setting("pod_security") == "restricted",
        )

    def show(self, plan: Plan) -> str:
        """See `Runner.show`: YAML for ``kubectl apply -f -``."""
        return k8s_manifest.as_yaml(plan)

    def submit(self, spec: JobSpec, run_id: str, folder: str, secrets: Mapping[str, str]) -> None:
        """See `Runner.submit`: the API server has the Job when this returns."""
        if any(facts.exists(folder, name) for name in (facts.LAUNCH, facts.STOP)):
            return

        def stopped() -> None:
            self.cancel(run_id, spec.grace, "")

        plan = self.plan(spec, run_id)
        k8s_launch.launch(self._cluster, plan, folder, secrets, stopped)

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """See `Runner.poll`: from what the watches told, or by one list of each kind."""
        ids = list(run_ids)
        if not ids:
            return {}
        found = self._finder.seen(ids)
        answers: dict[str, Snapshot | RunNotFound] = {}
        now = self._cluster.now()
        for run_id, seen in found.items():
            if seen is None:
                answers[run_id] = RunNotFound(
                    f"the cluster has no Job qwex-{run_id}: it was never made, or somebody "
                    "removed it"
                )
                continue
            folder = self.folder(run_id)
            stop = facts.asked(folder)
            patient = functools.partial(self._is_patient, folder)
            insisted = stop is not None and facts.exists(folder, facts.KILL)
            answers[run_id] = k8s_state.snapshot(seen, stop, now, patient, insisted=insisted)
        return answers

    def _is_patient(self, folder: str) -> bool:
        asked = facts.read_fact(folder, facts.SPEC) or {}
        return bool((asked.get("spec") or {}).get("start_timeout"))

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """See `Runner.watch`."""
        self._finder.watch(notify, stop)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:
        """See `Runner.follow`."""

        def look() -> tuple[bool, bool]:
            pod = self._finder.pod(run_id)
            if pod is not None:
                return k8s_state.started(pod) is not None, k8s_state.over(pod)
            job = self._finder.known_job(run_id)
            if job is not None and k8s_state.finished(job) is None:
                return False, False
            return self._has_begun(run_id, job), True

        return self._reader.follow(run_id, log, stop, look)

    def _has_begun(self, run_id: str, job: Mapping[str, Any] | None) -> bool:
        """Whether a run without a pod had begun: its output can't be asked for any more."""
        folder = self.folder(run_id)
        if (facts.read_fact(folder, facts.SEEN) or {}).get("started_at"):
            return True
        if job is None:
            return facts.exists(folder, facts.LAUNCH)  # it isn't known
        stop = facts.asked(folder)
        end = k8s_state.snapshot(Seen(job), stop, 0.0).end
        return end is not None and (end.exit_code is not None or end.reason is not Reason.NONE)

    def hold(self, run_id: str, timeout: float | None) -> bool:
        """See `Runner.hold`: the pod's own deadline is lowered to the program's timeout."""
        pod = self._finder.pod(run_id)
        if pod is None:
            return True
        if k8s_state.is_late(Seen(self._finder.known_job(run_id), pod)):
            # Whoever was to say that its files are there has not; else it would be ended.
            k8s_launch.lift(self._cluster, f"qwex-{run_id}")
        if timeout is None:
            return True
        began = k8s_state.started(pod)
        taken = k8s_state.moment((pod.get("status") or {}).get("startTime"))
        if began is None or taken is None:
            return True
        wanted = k8s_manifest.deadline_of(timeout, taken, began)
        now = (pod.get("spec") or {}).get("activeDeadlineSeconds")
        if now is not None and now <= wanted:
            return True
        return self._end_pod_after(pod, wanted)

    def _end_pod_after(self, pod: Mapping[str, Any], seconds: int) -> bool:
        """Lowers the deadline of a pod; False where we may not.

        Raises:
            BackendUnreachable: It isn't known whether it was.
        """
        if not self._may_patch_pods:
            return False
        path = self._cluster.path("pods", pod["metadata"]["name"])
        patch = {
            "metadata": {"uid": k8s_state.uid_of(pod)},
            "spec": {"activeDeadlineSeconds": max(1, seconds)},
        }
        try:
            self._cluster.call("PATCH", path, body=patch)
        except Refused as error:
            # Admission and RBAC say so; a 403 of something else is tried again.
            if error.status == 403 and re.search("is forbidden|denied", error.text):
                self._may_patch_pods = False
                return False
            if error.status in (404, 409, 422):
                return True  # it is gone, another has its name, or it ends sooner already
            raise BackendUnreachable(f"Its pod could not be given a deadline: {error}.") from error
        return True

    def cancel(self, run_id: str, grace: float, why: str, *, insist: bool = False) -> None:
        """See `Runner.cancel`: by deadlines, which keep pod, exit code and output.

        The grace is the pod's own, from its creation; it can't be cut short.
        """
        folder = self.folder(run_id)
        stop = facts.asked(folder) or {}
        job = self._finder.known_job(run_id)
        if job is None:
            return
        pod = self._finder.pod(run_id)
        if pod is None and (job.get("spec") or {}).get("suspend"):
            self._never_start(run_id, job)
            return
        intent = f"{stop.get('why', 'cancel')} by {stop.get('who', 'you')}"
        notes = job["metadata"].get("annotations") or {}
        spec = job.get("spec") or {}
        patch: dict[str, Any] = {}
        if notes.get(k8s_state.INTENT) != intent:
            patch["metadata"] = {"annotations": {k8s_state.INTENT: intent}}
        runs = pod is not None and "running" in k8s_state.state_of(pod)
        if pod is not None and runs:
            deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
            if deadline == 1 or self._end_pod_after(pod, 1):
                self._patch_job(job, patch)
                return
        if k8s_state.finished(job) is None and spec.get("activeDeadlineSeconds") != 1:
            patch["spec"] = {"activeDeadlineSeconds": 1}
            if runs:
                self._hear_out(run_id)
        self._patch_job(job, patch)

    def _never_start(self, run_id: str, job: Mapping[str, Any]) -> None:
        """Takes away a Job that is suspended and has no pod: a deadline doesn't count there.

        Only as it was looked at: whoever lets it start changes it.
        """
        name = job["metadata"]["name"]
        version = str(job["metadata"].get("resourceVersion", ""))
        if k8s_launch.take_away(self._cluster, name, k8s_state.uid_of(job), version):
            finish(self.folder(run_id), End(reason=Reason.NEVER_STARTED, after_stop=True))

    def _hear_out(self, run_id: str) -> None:
        """Follows a run whose pod goes when it ends, and with it what nobody has read."""

        def follow() -> None:
            try:
                self.follow(run_id, RunLog(self.folder(run_id)), self._closing)
            except (QwexError, OSError):
                pass  # what is missing then is said at the end

        threading.Thread(target=follow, name=f"qwex-last-{run_id[-6:]}", daemon=True).start()

    def _patch_job(self, job: Mapping[str, Any], patch: dict[str, Any]) -> None:
        if not patch:
            return
        patch.setdefault("metadata", {})["uid"] = k8s_state.uid_of(job)
        try:
            self._cluster.call(
                "PATCH", self._cluster.path("jobs", job["metadata"]["name"]), body=patch
            )
        except Refused as error:
            if error.status in (404, 409) and self._is_gone(job):
                return  # the next look sees it
            raise self._cluster.forbidden(error, "patch", "jobs") from error

    def _is_gone(self, job: Mapping[str, Any]) -> bool:
        there = self._cluster.get("jobs", job["metadata"]["name"])
        return there is None or k8s_state.uid_of(there) != k8s_state.uid_of(job)

    def release(self, run_id: str) -> None:
        """See `Runner.release`: from now on the Job goes by itself, after an hour.

        What still runs beside the program is stopped.
        """
        job = self._finder.job(run_id)
        if job is None or (job.get("spec") or {}).get("ttlSecondsAfterFinished") is not None:
            self._finder.forget(run_id)
            return
        ttl = math.ceil(parse_duration(self._setting("job_ttl"), "job_ttl"))
        wanted = {"ttlSecondsAfterFinished": ttl}
        pod = self._finder.pod(run_id) if k8s_state.finished(job) is None else None
        if pod is not None and not k8s_state.over(pod):
            raise RunStillLive(f"{run_id} has not ended: %qwex cancel {run_id[-6:]}")
        if pod is not None and k8s_state.kept_by_others(pod):
            # A mesh's proxy, or one of --pod-patch, would keep what it holds for ever.
            wanted["activeDeadlineSeconds"] = 1
        self._patch_job(job, {"spec": wanted})
        self._finder.forget(run_id)

    def delete(self, run_id: str) -> None:
        """See `Runner.delete`: of what was looked at, by its uid."""
        job = self._finder.job(run_id)
        if job is None:
            self._finder.forget(run_id)
            return
        pods = self._finder.pods(run_id)
        pod = k8s_state.chosen(pods, job)
        begun = pod is not None and k8s_state.started(pod) is not None
        if begun and not k8s_state.over(pod):
            raise RunStillLive(f"{run_id} has not ended: %qwex cancel {run_id[-6:]}")
        if not begun and k8s_state.finished(job) is None and self._may_start(run_id, job):
            raise RunStillLive(f"{run_id} waits to start: %qwex cancel {run_id[-6:]}")
        k8s_launch.take_away(self._cluster, job["metadata"]["name"], k8s_state.uid_of(job))
        self._finder.forget(run_id, k8s_state.uid_of(job))

    def _may_start(self, run_id: str, job: Mapping[str, Any]) -> bool:
        """Whether the cluster itself will start it: nothing of what it waits for is ours."""
        waits_for_us = k8s_state.is_awaiting(job)
        return not waits_for_us and not facts.exists(self.folder(run_id), facts.RUN)
