"""Kills kernels whose runs are Jobs, breaks what is between them and the cluster, and judges.

``python tests/k8s_chaos.py --seconds 600 --seed 1 --mode faults`` prints a table. It is the
campaign of ``chaos.py`` with a real Kubernetes: kernels take up what is open, submit self-checking
workloads (``k8s_workload.py``), follow some, and are killed with -9 at a random moment; a fresh
process takes everything up; each run is compared with what its id asks for.

Modes: ``kernel`` kills nothing else; ``faults`` also has a wire answer every fifth request with a
401, 403, 404, 409, 410, 429, 5xx or a page, drop its answer, cut or reset it after some bytes, or
let it hang for two seconds; ``parts`` also kills or freezes parts of the cluster. A Job that is
left without a day to go when all is taken up is a fault as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "rigs"))
import chaos
import k8s_workload
from clusters import Cluster
from k8s_place import RULES, counted, page
from kube_wire import KubeWire
from wire import Rule

from qwex_jupyter import launches
from qwex_jupyter.errors import QwexError
from qwex_jupyter.history import RunHistory
from qwex_jupyter.manager import RunManager
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus

MODES = ("kernel", "faults", "parts")
PARTS = ("apiserver", "etcd", "controller-manager", "kubelet", "containerd", "scheduler")
_SCRIPT = Path(k8s_workload.__file__).read_text()
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


class K8sCampaign(chaos.Campaign):
    """One campaign.

    Args:
        root: An empty folder; each round has a home of its own in it.
        seed: Of everything that is random here.
        mode: One of `MODES`.
        cluster: A started one; of its own for ``parts``.
        parallel: So many kernels live at a time.

    Attributes:
        more: How many faults of the wire, and of parts, there were.
    """

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
        self.more = {"wire_faults": 0, "parts_killed": 0, "parts_frozen": 0}

    def run(self, seconds: float) -> chaos.Tally:
        """See `chaos.Campaign.run`."""
        before = os.environ.get("KUBECONFIG")
        os.environ["KUBECONFIG"] = self._kubeconfig
        try:
            return super().run(seconds)
        finally:
            self.more["wire_faults"] = self._wire.faults
            self._wire.close()
            if before is None:
                del os.environ["KUBECONFIG"]
            else:
                os.environ["KUBECONFIG"] = before

    def _kill_kernels(self, base: str, until: float) -> None:
        self._released = time.monotonic()
        self._shot = self._released + 2.0
        self._wire.bad = self._mode == "faults"
        super()._kill_kernels(base, until)
        self._wire.bad = False
        self._wire.clear()

    def _play(self, base: str, seed: float) -> None:
        _play_kernel(base, seed, self._image)

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

    def _take_up(self, home: str) -> None:
        # Nobody lives who could still be in the middle of a POST.
        before, launches.GOOD_FOR = launches.GOOD_FOR, 8.0
        try:
            super()._take_up(home)
        finally:
            launches.GOOD_FOR = before

    def _judge(self, base: str, history: RunHistory) -> None:
        super()._judge(base, history)
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        found = self._cluster.api.get(f"{path}?labelSelector=qwex.history%3D{history.id}")
        for job in found["items"]:
            if not job["spec"].get("ttlSecondsAfterFinished"):
                run_id = job["metadata"]["labels"]["qwex.run"]
                self.tally.fault("left_open", run_id, f"its Job is left: {job['status']}")

    def _judge_run(self, base: str, history: RunHistory, run_id: str, *, told: bool) -> None:
        record = history.record(run_id)
        executed = Path(base, "counters", run_id).exists()
        # Between launch.json and the POST, or its answer lost, a kernel was killed.
        unmade = record.reason in (Reason.VANISHED, Reason.NEVER_STARTED) and not executed
        if record.status is RunStatus.LOST and unmade and (not told or self._mode != "kernel"):
            self.tally.never_started += 1
            return
        known = record.reason in (Reason.NODE_LOST, Reason.EVICTED)
        if record.status is RunStatus.LOST and known and self._mode == "parts":
            self.tally.rightly_lost += 1
            return
        super()._judge_run(base, history, run_id, told=told)

    def _judge_bytes(self, folder: str, run_id: str, stream: str) -> None:
        if stream == "stderr":
            return  # both come as one
        found = b"".join(Path(folder, f"{name}.log").read_bytes() for name in k8s_workload.STREAMS)
        self.tally.bytes += len(found)
        *lacking, rest = k8s_workload.apart(run_id, found)
        missing = sum(map(len, lacking))
        said = f"{missing} bytes lack, from {lacking[0][:30]!r} and {lacking[1][:30]!r} on"
        if missing:
            self.tally.fault("lost_bytes", run_id, f"{said}; instead {rest[:60]!r}", missing)
        elif rest:
            self.tally.fault("doubled_bytes", run_id, f"then once more {rest[:60]!r}", len(rest))


def _play_kernel(base: str, seed: float, image: str) -> None:
    """A kernel: takes up what is open, then submits, follows and waits until it is killed."""
    rng = random.Random(seed)
    told = os.open(f"{base}/told", os.O_WRONLY | os.O_APPEND)
    manager = RunManager(f"{base}/home")
    manager.take_up(within=0.1)
    while True:
        run = None
        for _ in range(rng.randint(1, 2)):
            spec = JobSpec(
                command=("python3", "-I", "-S", "-"),
                script=_SCRIPT,
                image=image,
                options={"pod-patch": json.dumps(counted(Path(f"{base}/counters"), {}))},
            )
            try:
                run = manager.submit(spec, "k8s")
            except QwexError:
                continue  # that nothing was started is judged too
            os.write(told, f"{run.run_id}\n".encode())
        if run is None:
            time.sleep(0.2)
        elif rng.random() < 0.7:
            with manager.following(run.run_id):
                run.wait(check=False)


def main() -> int:
    """The command line; 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(description="Kills kernels and judges their Jobs.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, default="kernel")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one line for programs to read")
    asked = parser.parse_args()
    root = tempfile.mkdtemp(prefix="k8s-chaos-")
    with Cluster(private=True) as cluster:
        campaign = K8sCampaign(root, asked.seed, asked.mode, cluster, asked.parallel)
        tally = campaign.run(asked.seconds)
    about = {"mode": asked.mode, "seed": asked.seed, **campaign.more}
    if asked.json:
        print(json.dumps({**about, **dict(tally.rows())}))
    else:
        print(about)
        print("\n".join(chaos._lines(tally)))
    if tally.clean:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"kept: {root}")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
