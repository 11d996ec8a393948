"""What the tests of the cluster itself share: Jobs written by hand, and who asks."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

from cluster_api import PATIENCE, Api, ApiFailed
from clusters import Cluster


def job(cluster: Cluster, namespace: str, *command: str, **pod: Any) -> str:
    """A Job of one container of the image busybox; its name."""
    image = cluster.image("busybox")
    container = {"name": "main", "image": image, "command": list(command)}
    spec = {"restartPolicy": "Never", "containers": [container], **pod}
    body = {
        "metadata": {"generateName": "job-"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }
    made = cluster.api.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", body)
    return str(made["metadata"]["name"])


def pod(cluster: Cluster, namespace: str, name: str, phases: tuple[str, ...]) -> dict[str, Any]:
    """The only pod of a Job, once it is in one of these phases."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3D{name}"
    found = cluster.api.wait(
        path, lambda pods: any(each["status"].get("phase") in phases for each in pods["items"])
    )
    return dict(found["items"][0])


def quota(cluster: Cluster, namespace: str, name: str, spec: Any, memory: str = "") -> str:
    """Makes a quota, waits until it refuses a pod, and returns what the server says then.

    A quota has its status before the admission of pods knows of it, so the status tells nothing.

    Args:
        cluster: Where the quota is made.
        namespace: The namespace that it holds for.
        name: The name of the quota.
        spec: The ``spec`` of the quota.
        memory: The memory that the pod asks for; "" for a pod without limits.

    Raises:
        AssertionError: The quota refuses nothing.
    """
    core = f"/api/v1/namespaces/{namespace}"
    cluster.api.create(f"{core}/resourcequotas", {"metadata": {"name": name}, "spec": spec})
    container: dict[str, Any] = {"name": "main", "image": cluster.image("busybox")}
    if memory:
        container["resources"] = {"limits": {"memory": memory}}
    pod = {"metadata": {"name": "refused"}, "spec": {"containers": [container]}}
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            cluster.api.create(f"{core}/pods?dryRun=All", pod)
        except ApiFailed as error:
            if f"quota: {name}" in str(error):
                return str(error)
        time.sleep(0.1)
    raise AssertionError(f"the quota {name} refuses nothing")


def ended(cluster: Cluster, namespace: str, name: str) -> tuple[int, str]:
    """The exit code and the log of a Job that ends."""
    found = pod(cluster, namespace, name, ("Succeeded", "Failed"))
    code = found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    log = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/{found['metadata']['name']}/log")
    return int(code), str(log)


def as_account(path: Path) -> tuple[Api, str]:
    """Words with an apiserver as the kubeconfig at this path says; and its namespace."""
    content = json.loads(path.read_text())
    at, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    ca = base64.b64decode(at["certificate-authority-data"]).decode()
    return Api(at["server"], ca, user["token"]), content["contexts"][0]["context"]["namespace"]
