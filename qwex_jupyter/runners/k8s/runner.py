"""K8sRunner: a run is a Job of a cluster, tracked through the API server and nothing else."""

from __future__ import annotations

import functools
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.disk import carry
from qwex_jupyter.disk.folder import KILL, LAUNCH, SEEN, SPEC, STOP, RunFolder
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import BackendUnreachable, QwexError, RunnerUnavailable, RunNotFound
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, Snapshot
from qwex_jupyter.runners.base import Plan, Runner
from qwex_jupyter.runners.container import wording
from qwex_jupyter.runners.container.asking import failed
from qwex_jupyter.runners.container.conventions import context_words, given
from qwex_jupyter.runners.container.http_stream import Guard
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.k8s import doctor, launch, manifest, objects, remove, state
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.declared import DECLARED
from qwex_jupyter.runners.k8s.finder import Finder
from qwex_jupyter.runners.k8s.logs import Reader
from qwex_jupyter.runners.k8s.refusals import Refused
from qwex_jupyter.runners.k8s.seen import Seen, is_late
from qwex_jupyter.system.flag import Flag


class K8sRunner(Runner):
    """Runs are Jobs of one namespace of one cluster.

    Args:
        home: The history folder.
        history: Its id.
        context: A context of the kubeconfig; "" for the current one, or this pod's account.
        namespace: "" for the context's.
        setting: Gives a setting as it is now; those that are declared.
        patience: How long it waits for what.
    """

    declaration = DECLARED
    polled_every = 30.0

    def __init__(
        self,
        home: str,
        history: str,
        *,
        context: str = "",
        namespace: str = "",
        setting: Callable[[str], Any] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(home, history, setting=setting)
        self._cluster = Cluster(context, namespace, patience=patience)
        self._guard = Guard(self._cluster.ping, "qwex-k8s-streams", patience)
        self._finder = Finder(self._cluster, history, self._guard)
        self._reader = Reader(self._cluster, self._finder.pod, self._guard)
        self._remover = remove.Remover(self._cluster, self._finder, self.folder, self.setting)
        self._may_patch_pods = True
        self._closing = Flag()

    def check(self) -> None:
        try:
            self._cluster.check()
        except BackendUnreachable as error:
            raise RunnerUnavailable(
                f"{str(error).removesuffix('.')}: start it, or choose another with --context."
            ) from error

    def identity(self) -> str:
        """The server, its certificate authority and the namespace."""
        return self._cluster.where.identity

    def clock(self) -> float:
        return self._cluster.clock()

    def close(self) -> None:
        self._closing.set()
        self._closing = Flag()  # it may be asked again
        self._cluster.close()

    def examine(self) -> Iterator[str]:
        self.check()
        tried = self.plan(JobSpec(command=("true",), image="busybox"), "20260101-000000-doctor")
        yield from doctor.examine(self._cluster, self.history, self.folder, tried["job"])

    def foreign(self, identity: str) -> tuple[Reason, str]:
        space, host = _place_in(identity)
        where = self._cluster.where
        return Reason.BACKEND_UNREACHABLE, (
            f"It runs in the namespace {space} of {host}, and {where.namespace} of {where.shown} "
            f"is chosen now (by {where.why}): kubectl config use-context, or KUBECONFIG."
        )

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """The Job and what belongs to it: `manifest.make_plan` makes it."""
        self.refuse_unsupported(spec)
        return manifest.make_plan(
            spec,
            run_id,
            self.history,
            carried=carry.going_along(spec, self.home, self.folder(run_id)),
            gpu_resource=str(self.setting("gpu_resource")),
            restricted=self.setting("pod_security") == "restricted",
        )

    def show(self, plan: Plan) -> str:
        """YAML for ``kubectl apply -f -``."""
        return manifest.as_yaml(plan)

    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        """The API server has the Job when this returns."""
        if folder.has(LAUNCH) or folder.has(STOP):
            return

        def stopped() -> None:
            stop = folder.stop() or {}
            self.cancel(folder.run_id, float(stop.get("grace", 0.0)), str(stop.get("why", "")))

        launch.launch(self._cluster, plan, folder, secrets, stopped)

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """Answers from what the watches told, or by one list of each kind."""
        ids = list(run_ids)
        if not ids:
            return {}
        # An answer is as old as its first question, and the server's clock may be another than
        # ours.
        asked = time.time()
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
            stop = folder.stop()
            patient = functools.partial(self._is_patient, folder)
            forced = stop is not None and folder.has(KILL)
            answer = state.snapshot(seen, stop, now, patient, forced=forced)
            answer = _with_failed(answer, folder)
            answers[run_id] = replace(answer, observed_at=asked)
        return answers

    @classmethod
    def by_hand(cls, record: RunRecord, spec: Mapping[str, Any]) -> str:
        """Describes the Job."""
        space, _ = _place_in(record.identity)
        namespace = ["-n", space] if space else []
        words = ["kubectl", *context_words(spec), *namespace, "describe"]
        return shlex.join([*words, f"job/qwex-{record.run_id}"])

    def hear(self, answer: Snapshot, said: str, image: str) -> Snapshot:
        """Takes in what runc says of a program that it can't execute."""
        return wording.heard(answer, said, image)

    def _is_patient(self, folder: RunFolder) -> bool:
        asked = folder.read(SPEC) or {}
        return bool((asked.get("spec") or {}).get("start_timeout"))

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        self._finder.watch(notify, stop)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:

        def look() -> tuple[bool, bool]:
            pod = self._finder.pod(run_id)
            if pod is not None:
                return objects.begun(pod), objects.over(pod)
            job = self._finder.known_job(run_id)
            if job is not None and objects.finished(job) is None:
                return False, False
            return self._has_begun(run_id, job), True

        return self._reader.follow(run_id, log, stop, look)

    def _has_begun(self, run_id: str, job: Mapping[str, Any] | None) -> bool:
        """Whether a run without a pod had begun: its output can't be asked for any more."""
        folder = self.folder(run_id)
        if (folder.read(SEEN) or {}).get("started_at"):
            return True
        if job is None:
            return folder.has(LAUNCH)  # it isn't known
        stop = folder.stop()
        end = state.snapshot(Seen(job), stop, 0.0).end
        return end is not None and (end.exit_code is not None or end.reason is not Reason.NONE)

    def enforce_timeout(self, run_id: str, timeout: float | None) -> bool:
        """Lowers the pod's own deadline to the program's timeout."""
        pod = self._finder.pod(run_id)
        if pod is None:
            return True
        if is_late(Seen(self._finder.known_job(run_id), pod)):
            # Whoever was to say that its files are there has not; else it would be ended.
            launch.lift(self._cluster, f"qwex-{run_id}")
        began = objects.started(pod)
        taken = moment((pod.get("status") or {}).get("startTime"))
        if timeout is None or began is None or taken is None:
            return True
        wanted = manifest.deadline_of(timeout, taken, began)
        now = (pod.get("spec") or {}).get("activeDeadlineSeconds")
        return (now is not None and now <= wanted) or self._end_pod_after(pod, wanted)

    def _end_pod_after(self, pod: Mapping[str, Any], seconds: int) -> bool:
        """Lowers the deadline of a pod; False where we may not.

        Raises:
            BackendUnreachable: It isn't known whether it was.
        """
        if not self._may_patch_pods:
            return False
        path = self._cluster.path("pods", pod["metadata"]["name"])
        patch = {
            "metadata": {"uid": objects.uid_of(pod)},
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

    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        """Sets deadlines, which keep pod, exit code and output.

        The grace is the pod's own, from its creation; it can't be cut short.
        """
        folder = self.folder(run_id)
        stop = folder.stop() or {}
        job = self._finder.known_job(run_id)
        if job is None:
            return
        pod = self._finder.pod(run_id)
        if pod is None and (job.get("spec") or {}).get("suspend"):
            # A deadline doesn't count for a Job that is suspended: it is taken away.
            if remove.as_it_is(self._cluster, job):
                folder.finish(End(reason=Reason.NEVER_STARTED, after_stop=True))
            return
        intent = f"{stop.get('why', 'cancel')} by {stop.get('who', 'you')}"
        notes = job["metadata"].get("annotations") or {}
        spec = job.get("spec") or {}
        patch: dict[str, Any] = {}
        if notes.get(objects.INTENT) != intent:
            patch["metadata"] = {"annotations": {objects.INTENT: intent}}
        runs = pod is not None and "running" in objects.state_of(pod)
        if pod is not None and runs:
            deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
            if deadline == 1 or self._end_pod_after(pod, 1):
                remove.patch_job(self._cluster, job, patch)
                return
        if objects.finished(job) is None and spec.get("activeDeadlineSeconds") != 1:
            patch["spec"] = {"activeDeadlineSeconds": 1}
            if runs:
                self._hear_out(run_id)
        remove.patch_job(self._cluster, job, patch)

    def _hear_out(self, run_id: str) -> None:
        """Follows a run whose pod goes when it ends, and with it what nobody has read."""

        def follow() -> None:
            try:
                self.follow(run_id, RunLog(self.folder(run_id)), self._closing)
            except (QwexError, OSError):
                pass  # what is missing then is said at the end

        threading.Thread(target=follow, name=f"qwex-last-{run_id[-6:]}", daemon=True).start()

    def release(self, run_id: str) -> None:
        self._remover.release(run_id)

    def delete(self, run_id: str) -> None:
        """Deletes what was looked at, by its uid."""
        self._remover.delete(run_id)


def _with_failed(answer: Snapshot, folder: RunFolder) -> Snapshot:
    """An answer that says which command failed, in the place of bash's own words."""
    evidence = dict(answer.evidence)
    said = evidence.pop("told", "")
    if not said:
        return answer
    if answer.end is not None and answer.end.failed_by_itself:
        evidence |= given({"failed": failed(folder, said)})
    return replace(answer, evidence=evidence)


def _place_in(identity: str) -> tuple[str, str]:
    """The namespace and the server that stand in an identity."""
    theirs, _, _ = identity.removeprefix("k8s://").partition("#")
    space, _, host = theirs.partition("@")
    return space, host
