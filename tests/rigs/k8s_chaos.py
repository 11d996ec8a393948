"""Kills kernels whose runs are Jobs, breaks what is between them and the cluster, and judges.

``python tests/rigs/k8s_chaos.py --seconds 600 --seed 1 --mode faults`` prints a table. It is the
campaign of ``campaign.py`` with a real Kubernetes: kernels also follow some of their runs, and are
killed 0 to 1.5 s after their start, every third up to 6 s.

Modes: ``kernel`` kills nothing else; ``faults`` also has a wire answer every fifth request with a
401, 403, 404, 409, 410, 429, 5xx or a page, drop its answer, cut or reset it after some bytes, or
let it hang for two seconds; ``parts`` also kills or freezes parts of the cluster. A Job that is
left without a day to go when all is taken up is a fault as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import campaign
import workload
from clusters import Cluster
from judge import Tally
from k8s_place import RULES, counted, page, pods_made
from kept_logs import written
from kube_wire import KubeWire
from wire import Rule

from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus

MODES = ("kernel", "faults", "parts")
PARTS = ("apiserver", "etcd", "controller-manager", "kubelet", "containerd", "scheduler")
_SCRIPT = Path(workload.__file__).read_text()
_STATUSES = (401, 403, 404, 409, 410, 429, 500, 503, 504)
# One of so many requests meets a fault.
_RATE = 0.2


class RandomWire(KubeWire):
    """A wire on which faults happen at random while it is ``bad``.

    Args:
        cluster: A started one.
        seed: Of what happens.
    """

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self._random = random.Random(seed)
        self.bad, self.faults = False, 0
        super().__init__(cluster)

    def _rule(self, method: str, path: str) -> Rule:
        if self.bad and self._random.random() < _RATE:
            self.faults += 1
            self._fault(method)
            # The newest rule is about the request that comes now.
            rule = self._rules.pop(0)
            self.requests.append((method, path))
            return rule
        return super()._rule(method, path)

    def _fault(self, method: str) -> None:
        rng = self._random
        after = int(rng.expovariate(1 / 2000))
        kind = rng.choice(("answer", "answer", "page", "refuse", "drop", "cut", "reset", "stall"))
        if kind == "answer":
            self.answer("", "", rng.choice(_STATUSES))
        elif kind == "page":
            page(self, "", "", rng.choice((200, 302, 502, 403)))
        elif kind == "refuse":
            self.refuse("", "")
        elif kind == "drop":
            self.drop_response("", "")
        elif kind == "stall":
            self.stall("", "", after)
        else:
            self.cut("", "", after, reset=kind == "reset")


class K8sCampaign(campaign.Campaign):
    """One campaign.

    Args:
        cluster: A started one; of its own for ``parts``.

    Attributes:
        more: Counts of what was done, and of what no reader could have mended: faults of the
            wire, parts that were killed and frozen, bytes that never came into the node's file
            (``unwritten``), bytes of runs whose output containerd itself says that it dropped,
            and runs of which the Job's controller made a second pod.
    """

    runner = "k8s"
    most = 2
    lives = (1.5, 6.0)
    pause = 0.005

    def __init__(
        self, root: str, seed: int, mode: str, cluster: Cluster, parallel: int = 2
    ) -> None:
        super().__init__(root, seed, mode, parallel)
        self._cluster, self._image = cluster, cluster.image("python")
        self._namespace = cluster.namespace()
        self._released = 0.0
        self._wire = RandomWire(cluster, f"{seed} wire")
        self._kubeconfig = str(self._wire.kubeconfig(RULES, self._namespace))
        done, beyond = ("wire_faults", "parts_killed", "parts_frozen"), ("unwritten", "dropped")
        self.more = dict.fromkeys((*done, *beyond, "made_again"), 0)

    def run(self, seconds: float) -> Tally:
        """See `campaign.Campaign`."""
        with self._wire, mock.patch.dict(os.environ, KUBECONFIG=self._kubeconfig):
            tally = super().run(seconds)
        self.more["wire_faults"] = self._wire.faults
        return tally

    def _spec(self, base: str, rng: random.Random) -> JobSpec:
        return JobSpec(
            command=("python3", "-I", "-S", "-", "pod", "/counters"),
            script=_SCRIPT,
            image=self._image,
            options={"pod-patch": json.dumps(counted(Path(f"{base}/counters"), {}))},
        )

    def _watch(self, manager: RunManager, run: Run | None, rng: random.Random) -> None:
        """It follows some."""
        if run is None:
            time.sleep(0.2)
        elif rng.random() < 0.7:
            with manager.output.following(run.run_id):
                run.wait(check=False)

    def _kill_kernels(self, base: str, until: float) -> None:
        self._released = time.monotonic()
        self._shot = self._released + 2.0
        self._wire.bad = self._mode == "faults"
        super()._kill_kernels(base, until)
        self._wire.bad = False
        self._wire.clear()

    def _beside(self, base: str, now: float, until: float) -> float:
        if now - self._released > 2.0:
            self._released = now
            self._wire.clear()  # lets go on what hangs
        if self._mode == "parts" and now > self._shot:
            self._shoot_part()
            self._shot = time.monotonic() + self._random.random() * 4.0
        return until

    def _shoot_part(self) -> None:
        rng = self._random
        part, pause = rng.choice(PARTS), rng.random() * 3.0
        if rng.random() < 0.5:
            self.more["parts_killed"] += 1
            self._cluster.kill(part)
            time.sleep(pause)
            self._cluster.restart(part)
        else:
            self.more["parts_frozen"] += 1
            self._cluster.freeze(part)
            time.sleep(pause)
            self._cluster.thaw(part)

    def _recover(self, home: str) -> None:
        # Nobody lives who could still be in the middle of a POST.
        before, closing.GOOD_FOR = closing.GOOD_FOR, 8.0
        try:
            super()._recover(home)
        finally:
            closing.GOOD_FOR = before

    def _left(self, history: RunHistory) -> Iterator[tuple[str, str]]:
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        found = self._cluster.api.get(f"{path}?labelSelector=qwex.history%3D{history.id}")
        for job in found["items"]:
            if not job["spec"].get("ttlSecondsAfterFinished"):
                yield job["metadata"]["labels"]["qwex.run"], f"its Job is left: {job['status']}"

    def _judge_run(self, base: str, history: RunHistory, run_id: str, *, told: bool) -> None:
        record = history.record(run_id)
        executed = Path(base, "counters", run_id).exists()
        # Between launch.json and the POST, or its answer lost, a kernel was killed.
        unmade = record.reason in (Reason.VANISHED, Reason.NEVER_STARTED) and not executed
        if record.status is RunStatus.LOST and unmade and (not told or self._mode != "kernel"):
            self.tally.never_started += 1
            return
        known = record.reason in (Reason.NODE_LOST, Reason.EVICTED, Reason.BACKEND_RESTARTED)
        if record.status is RunStatus.LOST and known and self._mode == "parts":
            self.tally.rightly_lost += 1
            return
        super()._judge_run(base, history, run_id, told=told)

    def _judge_executions(self, run_id: str, executions: int) -> None:
        """The Job's controller may make a second pod where parts die."""
        made = pods_made(self._cluster, self._namespace, run_id) if executions > 1 else set()
        if self._mode == "parts" and 1 < executions == len(made):
            self.more["made_again"] += 1
        else:
            super()._judge_executions(run_id, executions)

    def _judge_output(self, folder: str, run_id: str) -> None:
        """Both streams come as one."""
        found = b"".join(Path(folder, f"{name}.log").read_bytes() for name in workload.STREAMS)
        self.tally.bytes += len(found)
        *lacking, rest = workload.Pod(run_id).apart(found)
        missing = sum(map(len, lacking))
        said = f"{missing} bytes lack, from {lacking[0][:30]!r} and {lacking[1][:30]!r} on"
        if missing and self._cluster.machine.dropped(f"qwex-{run_id}"):
            self.more["dropped"] += missing
        elif missing and found == self._on_node(run_id):
            self.more["unwritten"] += missing
        elif missing:
            self.tally.fault("lost_bytes", run_id, f"{said}; instead {rest[:60]!r}", missing)
        elif rest:
            self.tally.fault("doubled_bytes", run_id, f"then once more {rest[:60]!r}", len(rest))

    def _on_node(self, run_id: str) -> bytes:
        """What the runtime wrote down of a run, which is far below a rotation."""
        pods = Path(self._cluster.machine.plan.data, "pods")
        files = pods.glob(f"{self._namespace}_qwex-{run_id}-*/main/*.log")
        return b"".join(written(path.read_bytes(), b"stdout", b"stderr") for path in files)


@contextlib.contextmanager
def begin(root: str, asked: argparse.Namespace) -> Iterator[K8sCampaign]:
    """See `campaign.main`."""
    with Cluster(private=True) as cluster:
        yield K8sCampaign(root, asked.seed, asked.mode, cluster, asked.parallel)


if __name__ == "__main__":
    sys.exit(campaign.main("Kills kernels and judges their Jobs.", begin, MODES, parallel=2))
