"""Nodes that are only played, by kwok, for as many Jobs as no machine could run."""

from __future__ import annotations

import json
import signal
import textwrap
from typing import TYPE_CHECKING, Any, Self

from cluster_parts import certificate
from go_build import CLUSTER, program
from shared import free_port

if TYPE_CHECKING:
    from clusters import Cluster

PART = "kwok"
LABEL = "qwex-test/played"
EXIT = "qwex-test/exit"
WORDS = "a word from a played pod"
_TAINT = {"key": LABEL, "value": "", "effect": "NoSchedule"}
_ENDED = """\
{{ $now := Now }}
{{ $root := . }}
{{ $code := "0" }}
{{ with .metadata.labels }}{{ with index . "EXIT" }}{{ $code = . }}{{ end }}{{ end }}
{{ $late := eq (printf "%v" .spec.activeDeadlineSeconds) "1" }}
{{ if $late }}{{ $code = "143" }}{{ end }}
containerStatuses:
{{ range $index, $item := .spec.containers }}
{{ $before := index $root.status.containerStatuses $index }}
- image: {{ $item.image | Quote }}
  imageID: {{ $item.image | Quote }}
  containerID: {{ $before.containerID | Quote }}
  name: {{ $item.name | Quote }}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      containerID: {{ $before.containerID | Quote }}
      exitCode: {{ $code }}
      reason: {{ if eq $code "0" }}Completed{{ else }}Error{{ end }}
      startedAt: {{ $before.state.running.startedAt | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
{{ if $late }}
reason: DeadlineExceeded
message: Pod was active on the node longer than the specified deadline
{{ end }}
phase: {{ if eq $code "0" }}Succeeded{{ else }}Failed{{ end }}
"""


class Kwok:
    """Played nodes of a cluster; their pods run as soon as they are scheduled, and do nothing.

    Only pods of ``namespace()`` come to them, or such as tolerate their taint, whose key is
    ``LABEL``, which is a label of theirs too. A pod that is stopped by a deadline of one second
    ends with 143, a deleted one goes at once, and each log is ``WORDS``.

    Args:
        cluster: A started one of ours.
        nodes: How many.
        seconds: After how long a pod completes; None for only when it is told.
    """

    def __init__(self, cluster: Cluster, nodes: int, seconds: float | None) -> None:
        self.cluster, self.machine = cluster, cluster.machine
        self._write(seconds)
        self.machine.begin(PART, self._command())
        taints, labels = [_TAINT], {LABEL: ""}
        for number in range(nodes):
            metadata = {"name": f"played-{number}", "labels": labels}
            body = {"metadata": metadata, "spec": {"taints": taints}}
            cluster.api.create("/api/v1/nodes", body)
        cluster.api.wait(f"/api/v1/nodes?labelSelector={LABEL}", _all_ready)

    def namespace(self, labels: dict[str, str] | None = None) -> str:
        """A fresh namespace whose pods all come to the played nodes, whatever they say."""
        tolerated = json.dumps([{"key": LABEL, "operator": "Exists"}])
        annotations = {
            "scheduler.alpha.kubernetes.io/node-selector": f"{LABEL}=",
            "scheduler.alpha.kubernetes.io/defaultTolerations": tolerated,
        }
        return self.cluster.namespace(labels, annotations=annotations)

    def end(self, namespace: str, code: int = 0) -> int:
        """Lets the pods of a namespace that run end with this exit code; how many."""
        pods = f"/api/v1/namespaces/{namespace}/pods"
        found = self.cluster.api.get(f"{pods}?fieldSelector=status.phase%3DRunning")["items"]
        for each in found:
            labels = {"metadata": {"labels": {EXIT: str(code)}}}
            self.cluster.api.patch(f"{pods}/{each['metadata']['name']}", labels)
        return len(found)

    def close(self) -> None:
        """Removes the nodes, and ends kwok."""
        self.cluster.api.delete(f"/api/v1/nodes?labelSelector={LABEL}")
        self.machine.end(PART, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------

    def _write(self, seconds: float | None) -> None:
        etc = self.machine.plan.etc
        self._log = etc / "kwok.words"
        self._log.write_text(f"2026-01-01T00:00:00.000000000Z stdout F {WORDS}\n")
        ended = textwrap.indent(_ENDED.replace("EXIT", EXIT), " " * 6).strip()
        # A year is never.
        delay = round((365 * 86400 if seconds is None else seconds) * 1000)
        stages = (CLUSTER / "kwok/stages.yaml").read_text()
        for word, value in {"MILLISECONDS": delay, "LOG": self._log, "ENDED": ended}.items():
            stages = stages.replace(f": {word}\n", f": {value}\n")
            stages = stages.replace(f" {word}\n", f" {value}\n")
        self._stages = etc / "kwok.yaml"
        self._stages.write_text(stages)

    def _command(self) -> list[str]:
        port = free_port()
        cert, key = certificate(self.machine.plan.etc)
        return [
            program("kwok"),
            f"--kubeconfig={self.cluster.admin_kubeconfig}",
            f"--config={self._stages}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-label-selector={LABEL}=",
            "--node-ip=127.0.0.1",
            f"--node-port={port}",
            f"--server-address=127.0.0.1:{port}",
            f"--tls-cert-file={cert}",
            f"--tls-private-key-file={key}",
            "--node-lease-duration-seconds=40",
            "--v=WARN",
        ]


def _all_ready(nodes: Any) -> bool:
    return all(
        {"type": "Ready", "status": "True"}.items() <= each.items()
        for node in nodes["items"]
        for each in node["status"].get("conditions", [{}])
        if each.get("type", "Ready") == "Ready"
    )
