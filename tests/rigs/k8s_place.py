"""A home, and a cluster behind a wire, for the tests of faults: runs whose executions are counted.

A program says that it was executed by a byte in a file of this machine, which its pod mounts, so
that twice shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster_api import ApiFailed
from clusters import Cluster
from kube_wire import KubeWire
from local_helpers import PATIENCE, until
from wire import Rule

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.container.conventions import RUN_LABEL
from qwex_jupyter.runners.k8s import doctor

RULES = doctor.role("qwex", "anywhere")["rules"]
# A page that something between a client and the API server shows.
_PAGE = "<html><body><h1>Please log in</h1>exit code 0</body></html>\n"


class Place:
    """A home and a namespace.

    Args:
        cluster: A started one.
        root: An empty folder.
        wire: What its runs' client goes through; None to go without one.
    """

    def __init__(self, cluster: Cluster, root: Path, wire: KubeWire | None = None) -> None:
        self.cluster, self.wire = cluster, wire
        self.image = cluster.image("busybox")
        self.home = str(root / "home")
        self.counters = root / "counters"
        self.counters.mkdir()
        self.namespace = cluster.namespace()
        self.kubeconfig = str((wire or cluster).kubeconfig(RULES, self.namespace))
        self.managers: list[RunManager] = []
        self.manager = self.another()

    def another(self, patience: Patience = Patience()) -> RunManager:
        """One more manager of this home."""
        settings = {"k8s": {"patience": patience}}
        self.managers.append(RunManager(self.home, settings=settings, patience=patience))
        return self.managers[-1]

    def forget(self) -> None:
        """The manager is gone, as that of a killed kernel, and another is in its place."""
        self.manager.close()
        self.manager = self.another()

    def close(self) -> None:
        """Closes the managers."""
        for manager in self.managers:
            manager.close()

    # -- runs -------------------------------------------------------------------------------------

    def spec(self, script: str, *, patch: dict[str, Any] | None = None, **more: Any) -> JobSpec:
        """A run that counts its execution first.

        Args:
            script: Goes on after that.
            patch: More for its pod.
            more: More for the spec.
        """
        text = f"printf x >> /counters/$QWEX_RUN_ID\n{script}\n"
        options = {"pod-patch": json.dumps(counted(self.counters, patch or {}))}
        given = {"command": ("sh",), "script": text, "image": self.image, "grace": 3, **more}
        return JobSpec(options=options, **given)

    def submit(self, script: str, **more: Any) -> Run:
        """Hands one over."""
        return self.manager.submit(self.spec(script, **more), "k8s")

    def executions(self, run: Run) -> int:
        """How often its program began."""
        path = self.counters / run.run_id
        return path.stat().st_size if path.exists() else 0

    def end(self, run: Run) -> Any:
        """The final record of a run, as the manager of now sees it."""
        return self.manager.get(run.run_id).wait(PATIENCE, check=False).record

    def running(self, *runs: Run) -> None:
        """Waits until these have begun, and the manager knows it."""
        for run in runs:
            until(lambda run=run: self.executions(run))  # type: ignore[misc]
            until(lambda run=run: self.manager.tracker.fresh(run.run_id).status != "PENDING")  # type: ignore[misc]

    def said(self, run: Run, lines: int) -> None:
        """Waits until the node keeps so many lines of a run: its program printed them before."""

        def kept() -> bool:
            try:
                log = self.cluster.api.get(f"{self.pod_path(run)}/log")
            except ApiFailed:
                return False  # it has no container yet
            return len(str(log).splitlines()) >= lines

        until(kept)

    def go(self) -> None:
        """Lets programs go on that wait for it; see `WAIT`."""
        (self.counters / "go").touch()

    # -- the cluster, past the wire ---------------------------------------------------------------

    def jobs(self, run_id: str = "") -> list[dict[str, Any]]:
        """The Jobs of a run, or of all."""
        return self._list(f"/apis/batch/v1/namespaces/{self.namespace}/jobs", run_id)

    def pods(self, run_id: str = "") -> list[dict[str, Any]]:
        """The pods of a run, or of all."""
        return self._list(f"{self.core}/pods", run_id)

    def made(self, run: Run) -> set[str]:
        """The names of all pods of a run that events tell of, gone or not."""
        return pods_made(self.cluster, self.namespace, run.run_id)

    def _list(self, path: str, run_id: str) -> list[dict[str, Any]]:
        more = f"?labelSelector={RUN_LABEL}%3D{run_id}" if run_id else ""
        found: list[dict[str, Any]] = self.cluster.api.get(path + more)["items"]
        return found

    @property
    def core(self) -> str:
        """The path of the namespace's pods and the like."""
        return f"/api/v1/namespaces/{self.namespace}"

    def pod_path(self, run: Run) -> str:
        """The path of the one pod of a run."""
        (pod,) = self.pods(run.run_id)
        return f"{self.core}/pods/{pod['metadata']['name']}"

    def lost_sight(self, run: Run) -> bool:
        """Whether the node itself says that it doesn't know how the run's container ended."""
        (pod,) = self.pods(run.run_id)
        (found,) = pod["status"]["containerStatuses"]
        why = found["state"].get("terminated", {}).get("reason")
        return why in ("Unknown", "ContainerStatusUnknown")

    def evict(self, run: Run) -> None:
        """Evicts the pod of a run, as when its node is drained."""
        path = self.pod_path(run)
        name = path.rpartition("/")[2]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        self.cluster.api.create(f"{path}/eviction", body)

    def remove_pod(self, run: Run, *, force: bool = False) -> None:
        """Deletes the pod of a run, as kubectl would."""
        more = {"gracePeriodSeconds": 0} if force else {}
        self.cluster.api.delete(self.pod_path(run), **more)


WAIT = "while [ ! -e /counters/go ]; do sleep 0.1; done"


def counted(counters: Path, more: dict[str, Any]) -> dict[str, Any]:
    """A patch of a pod that mounts the folder of the counters, joined with another patch."""
    volumes = [{"name": "counters", "hostPath": {"path": str(counters)}}, *more.get("volumes", ())]
    mounts = [{"name": "counters", "mountPath": "/counters"}]
    containers = [{"name": "main", "volumeMounts": mounts}, *more.get("containers", ())]
    return {**more, "volumes": volumes, "containers": containers}


def page(wire: KubeWire, method: str, path: str, status: int = 200, times: int | None = 1) -> Rule:
    """The request isn't forwarded: something in between answers with a page for people."""
    more = "Location: /login\r\n" if status in (301, 302, 307) else ""
    head = f"HTTP/1.1 {status} Page\r\nContent-Type: text/html\r\nConnection: close\r\n{more}"
    content = f"{head}Content-Length: {len(_PAGE)}\r\n\r\n{_PAGE}".encode()
    return wire._add(Rule(method, path, times, answer=content))


def pods_made(cluster: Cluster, namespace: str, run_id: str) -> set[str]:
    """The names of all pods of a run that events of the last hour tell of, gone or not.

    Where the answer to the making of a Job's pod is lost, its controller may make another:
    kubernetes.io/docs/concepts/workloads/controllers/job says that a program may then start twice.
    """
    found = cluster.api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    about = [event["involvedObject"] for event in found]
    pods = {str(each.get("name")) for each in about if each.get("kind") == "Pod"}
    return {name for name in pods if name.startswith(f"qwex-{run_id}-")}
