"""Jobs of Kubernetes: from submit to outcome, an end's way, many live, many at once, long output.

On a private cluster of this machine (see tests/rigs/clusters.py), its many Jobs on nodes that kwok
plays. Beside ours: HTTP by hand (a POST and a watch), the kubernetes client, kubectl.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
from clusters import Cluster
from measure import percentile, rotate, table

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.runners.container.http_stream import body, close
from qwex_jupyter.runners.k8s import cluster as k8s_cluster
from qwex_jupyter.runners.k8s import doctor

AT_ONCE, LINES, LIVE = 200, 1_000_000, (1000, 5000)
IDLE_SECONDS = 120
# More than a benchmark writes, so that nothing is rotated away between two readings.
KUBELET = {"containerLogMaxSize": "1Gi", "maxPods": 400}


def main(rounds: int) -> list[str]:
    with Cluster(private=True, kubelet=KUBELET) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig(doctor.role("b", "b")["rules"]))
        bench = Bench(cluster)
        made = (
            lambda: bench.first_use(rounds),
            lambda: bench.noop(rounds),
            lambda: bench.end(2 * rounds),
            lambda: bench.lines(max(3, rounds // 3)),
            bench.played,
        )
        sections = []
        for section in made:
            sections.append(section())
            print("\n".join(sections[-1]), file=sys.stderr, flush=True)  # it takes its time
        bench.close()
    return "\n\n".join("\n".join(lines) for lines in sections).split("\n")


class Bench:
    """What all cases share.

    Args:
        cluster: A started one; KUBECONFIG leads to a namespace of it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.image = cluster.image("busybox")
        self.folder = tempfile.mkdtemp()
        self.manager = RunManager(os.path.join(self.folder, "home"), default="k8s")
        self.api = k8s_cluster.Cluster()
        self.space = self.api.where.namespace
        self.number = 0

    def close(self) -> None:
        self.manager.close()

    def spec(self, *command: str) -> JobSpec:
        return JobSpec(command=command, image=self.image)

    def name(self) -> str:
        self.number += 1
        return f"bench-{os.getpid()}-{self.number}"

    def kubectl(self, *words: str) -> str:
        return self.cluster.kubectl("-n", self.space, *words)

    def job(self, name: str, *command: str) -> dict[str, Any]:
        container = {
            "name": "main", "image": self.image, "args": list(command),
            "imagePullPolicy": "IfNotPresent",
        }  # fmt: skip
        template = {
            "metadata": {"labels": {"bench": name}},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }
        return {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": template},
        }  # fmt: skip

    def ends(self, selector: str) -> Iterator[dict[str, Any]]:
        """The pods of a selector in the states that a watch tells, as they come."""
        params = {"labelSelector": selector, "watch": "true"}
        reply = self.api.stream(self.api.path("pods"), params, 120.0)
        rest = b""
        try:
            for data in body(reply):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield json.loads(line)["object"]
        finally:
            close(reply)

    def first_use(self, rounds: int) -> list[str]:
        theirs = (
            "from kubernetes import client, config\nconfig.load_kube_config()\n"
            f"client.BatchV1Api().list_namespaced_job({self.space!r})"
        )
        home = os.path.join(self.folder, "first")
        ours = (
            f"runner = RunManager({home!r}, default='k8s').runner('k8s')\nrunner.check()\n"
            "runner._cluster.list('jobs', 'qwex.history=x')"
        )

        def timed(before: str, code: str) -> float:
            text = f"{before}\nimport time\nt = time.perf_counter()\n{code}\n"
            text += "print(time.perf_counter() - t)"
            done = subprocess.run(
                [sys.executable, "-c", text], check=True, capture_output=True, text=True
            )
            return float(done.stdout)

        cases = {
            "`import kubernetes`, list": lambda: timed("", theirs),
            "qwex, from an imported manager": lambda: timed(
                "from qwex_jupyter.manager.manager import RunManager", ours
            ),
        }
        found = rotate(cases, rounds)
        return table(
            "The first use in a process, to the first list of Jobs", found, next(iter(cases))
        )

    def noop(self, rounds: int) -> list[str]:
        def raw() -> float:
            name = self.name()
            start = time.perf_counter()
            self.api.call("POST", self.api.path("jobs"), body=self.job(name, "true"))
            for pod in self.ends(f"bench={name}"):
                if _ended(pod):
                    break
            return time.perf_counter() - start

        def ours() -> float:
            start = time.perf_counter()
            run = self.manager.submit(self.spec("true"), "k8s")
            record = self.manager.wait(run.run_id)
            assert record.exit_code == 0
            return time.perf_counter() - start

        def kubectl_run() -> float:
            start = time.perf_counter()
            words = ["run", "--rm", "-i", "--quiet", "--restart=Never", f"--image={self.image}"]
            self.kubectl(*words, self.name(), "--", "true")
            return time.perf_counter() - start

        def kubectl_job() -> float:
            name = self.name()
            start = time.perf_counter()
            self.kubectl("create", "job", name, f"--image={self.image}", "--", "true")
            self.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=60s")
            return time.perf_counter() - start

        cases = {
            "a POST and a watch by hand": raw,
            "qwex, with record and output": ours,
            "`kubectl run --rm -i`": kubectl_run,
            "`kubectl create job` + `kubectl wait`": kubectl_job,
        }
        title = "A Job that does nothing, from submit to outcome, its image at hand"
        return table(title, rotate(cases, rounds), next(iter(cases)))

    def end(self, rounds: int) -> list[str]:
        """From the moment a watch by hand tells of an end until the record is there."""
        gaps = []
        for _ in range(rounds):
            run = self.manager.submit(self.spec("sleep", "1"), "k8s")
            saw: list[float] = []

            def watch(run_id: str = run.run_id, saw: list[float] = saw) -> None:
                for pod in self.ends(f"qwex.run={run_id}"):
                    if _ended(pod):
                        saw.append(time.time())
                        return

            thread = threading.Thread(target=watch)
            thread.start()
            self.manager.wait(run.run_id)
            ours = time.time()
            thread.join()
            gaps.append(ours - saw[0])
        half, most = (percentile(gaps, share) * 1e3 for share in (0.5, 0.9))
        return [
            "### From a watch by hand that tells of the container's end to the final record",
            "",
            "| | p50 ms | p90 ms | n |",
            "|---|---|---|---|",
            f"| qwex, output and record on disk | {half:.1f} | {most:.1f} | {rounds} |",
        ]

    def lines(self, rounds: int) -> list[str]:
        run = self.manager.submit(self.spec("seq", "1", str(LINES)), "k8s")
        self.manager.wait(run.run_id)
        expected = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
        assert run.log.read("stdout") == expected
        pods = self.api.list("pods", f"qwex.run={run.run_id}")
        pod = pods[0]["metadata"]["name"]

        def raw() -> float:
            start = time.perf_counter()
            reply = self.api.stream(
                f"{self.api.path('pods', pod)}/log", {"timestamps": "true"}, 60.0
            )
            for _ in body(reply):
                pass
            close(reply)
            return time.perf_counter() - start

        def cli() -> float:
            start = time.perf_counter()
            words = [*self.cluster._kubectl(), "-n", self.space, "logs", "-f", pod]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        def ours() -> float:
            folder = tempfile.mkdtemp(dir=self.folder)
            # As at the first reading: an empty log without a cursor.
            at = os.path.join(folder, run.run_id)
            os.mkdir(at)
            log = type(run.log)(at)
            runner = RunManager(self.manager.history.home, default="k8s").runner("k8s")
            start = time.perf_counter()
            assert runner.follow(run.run_id, log, threading.Event())
            seconds = time.perf_counter() - start
            assert log.read("stdout") == expected
            return seconds

        cases = {
            "`kubectl logs -f`, thrown away": cli,
            "the answer by hand, thrown away": raw,
            "qwex, into the log file": ours,
        }
        title = f"{LINES:,} lines of a Job that has ended, byte by byte the same"
        return table(title, rotate(cases, rounds), next(iter(cases)), unit=1, sign="s")

    def played(self) -> list[str]:
        """Many Jobs, whose pods no machine of this size could run: on nodes that kwok plays."""
        with self.cluster.kwok(nodes=50, seconds=None) as kwok:
            lines = self.at_once(kwok.namespace())
            rows = [row for count in LIVE for row in self._live(count, kwok.namespace())]
        return [
            *lines,
            "",
            f"### Jobs that live, nothing shown, for {IDLE_SECONDS} s (nodes played by kwok)",
            "",
            "| | Jobs | requests a minute | watches | memory | of one core |",
            "|---|---|---|---|---|---|",
            *rows,
        ]

    def at_once(self, space: str) -> list[str]:
        rules = doctor.role("b", "b")["rules"]
        before = os.environ["KUBECONFIG"]
        os.environ["KUBECONFIG"] = str(self.cluster.kubeconfig(rules, space))
        manager = RunManager(os.path.join(self.folder, "many"), default="k8s")
        start = time.perf_counter()
        for _ in range(AT_ONCE):
            words = ["create", "job", self.name(), f"--image={self.image}", "--", "true"]
            self.cluster.kubectl("-n", space, *words)
        theirs = time.perf_counter() - start
        start = time.perf_counter()
        runs = [manager.submit(self.spec("true"), "k8s") for _ in range(AT_ONCE)]
        ours = time.perf_counter() - start
        threads = psutil.Process().num_threads()
        while any(manager.tracker.record(r.run_id).status is not RunStatus.RUNNING for r in runs):
            threads = max(threads, psutil.Process().num_threads())
            time.sleep(0.2)
        manager.close()
        os.environ["KUBECONFIG"] = before
        found = {"`kubectl create job` in a loop": [theirs], "qwex.submit in a loop": [ours]}
        title = f"{AT_ONCE} Jobs submitted, one after the other (nodes played by kwok)"
        lines = table(title, found, next(iter(found)), unit=1, sign="s")
        return [*lines, "", f"At the most {threads} threads, until all of them ran."]

    def _live(self, count: int, space: str) -> list[str]:
        """In a process of its own, so that its memory is that of these Jobs alone."""
        rules = doctor.role("b", "b")["rules"]
        env = {
            **os.environ,
            "KUBECONFIG": str(self.cluster.kubeconfig(rules, space)),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        words = [sys.executable, __file__, str(count), str(IDLE_SECONDS)]
        done = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        return [
            f"| {name} | {count:,} | {row['requests']:.0f} | {row['watches']} | "
            f"{row['memory'] / 2**20:.0f} MiB | {row['share']:.1%} |"
            for name, row in found.items()
        ]


def _ended(pod: dict[str, Any]) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return "terminated" in (statuses[0].get("state") or {})


def live(count: int, seconds: float) -> dict[str, dict[str, Any]]:
    """So many live Jobs: what they cost by us, and by a poll for each every two seconds."""
    counted = {"requests": 0, "watches": 0}
    send = k8s_cluster.Cluster._send

    def counting(self: Any, method: str, path: str, params: Any, *rest: Any) -> Any:
        counted["requests"] += 1
        counted["watches"] += bool(params and "watch" in params)
        return send(self, method, path, params, *rest)

    k8s_cluster.Cluster._send = counting  # type: ignore[method-assign]
    process = psutil.Process()
    manager = RunManager(tempfile.mkdtemp(), default="k8s")
    manager.runner("k8s").check()
    before = process.memory_info().rss
    spec = JobSpec(command=("sleep", "3600"), image="anything:1")
    runs = [manager.submit(spec, "k8s") for _ in range(count)]
    records: list[RunRecord] = []
    while not records or any(r.status is not RunStatus.RUNNING for r in records):
        time.sleep(2)
        records = [manager.tracker.record(run.run_id) for run in runs]
    time.sleep(10)
    watches = counted["watches"]
    ours = _measured(process, counted, seconds, before)
    ours["watches"] = watches
    manager.close()
    api = k8s_cluster.Cluster()
    stop = time.monotonic() + seconds / 4
    begun, cpu = time.monotonic(), sum(process.cpu_times()[:2])
    asked = 0
    while time.monotonic() < stop:
        for run in runs:
            api.get("jobs", f"qwex-{run.run_id}")
            asked += 1
            if time.monotonic() > stop:
                break
    took = time.monotonic() - begun
    each = (sum(process.cpu_times()[:2]) - cpu) / asked
    theirs = {
        "requests": count * 30,
        "watches": 0,
        "memory": 0,
        "share": each * count / 2,
    }
    assert took > 0
    return {"qwex": ours, "a poll for each, every 2 s (reckoned)": theirs}


def _measured(
    process: psutil.Process, counted: dict[str, int], seconds: float, before: int
) -> dict[str, Any]:
    requests, cpu = counted["requests"], sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return {
        "requests": (counted["requests"] - requests) * 60 / seconds,
        "memory": process.memory_info().rss - before,
        "share": (sum(process.cpu_times()[:2]) - cpu) / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(live(int(sys.argv[1]), float(sys.argv[2]))))
