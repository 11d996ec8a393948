"""Containers: from create to outcome, many at once, many that live, long output, and a line's way.

On a private engine of this machine (Debian's Docker, see tests/rigs/engines.py) with an image made
on the spot. Beside ours: HTTP on the engine's socket by hand, docker-py, the docker client.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import psutil
from engines import Engine
from images import image
from measure import percentile, rotate, table

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus

AT_ONCE, LIVE, LINES, STARTERS = 50, 200, 1_000_000, 4
IDLE_SECONDS = 60


def main(rounds: int) -> list[str]:
    with Engine("docker") as engine:
        os.environ["DOCKER_HOST"] = engine.host
        bench = Bench(engine, image(engine, "busybox"))
        sections = [
            bench.noop("none", 3 * rounds),
            bench.noop("host", 3 * rounds),
            bench.at_once(max(3, rounds // 2)),
            bench.live(),
            bench.lines(max(3, rounds // 3)),
            bench.latency(max(3, rounds // 3)),
        ]
        bench.close()
    return "\n\n".join("\n".join(lines) for lines in sections).split("\n")


class Bench:
    """What all cases share.

    Args:
        engine: The engine.
        image: An image with a shell.
    """

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine, self.image = engine, image
        self.folder = tempfile.mkdtemp()
        self.manager = RunManager(os.path.join(self.folder, "home"))
        self.client = docker.APIClient(base_url=engine.host, version="auto", timeout=300)
        self.number = 0

    def close(self) -> None:
        self.manager.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spec(self, *command: str, network: str = "none") -> JobSpec:
        return JobSpec(command=command, image=self.image, options={"network": network})

    def name(self) -> str:
        self.number += 1
        return f"bench-{os.getpid()}-{self.number}"

    def freed(self) -> None:
        """Waits until nothing is left of runs that have ended."""
        while self.manager.history.open_ids():
            time.sleep(0.01)

    def noop(self, network: str, rounds: int) -> list[str]:
        host = {"NetworkMode": network}
        body = {"Image": self.image, "Cmd": ["true"], "HostConfig": host}

        def raw() -> float:
            name = self.name()
            connection = Unix(self.engine.host)
            start = time.perf_counter()
            connection.ask("POST", f"/containers/create?name={name}", body)
            connection.ask("POST", f"/containers/{name}/start")
            code = connection.ask("POST", f"/containers/{name}/wait")["StatusCode"]
            seconds = time.perf_counter() - start
            connection.ask("DELETE", f"/containers/{name}")
            assert code == 0
            return seconds

        def docker_py() -> float:
            name = self.name()
            start = time.perf_counter()
            self.client.create_container_from_config(body, name)
            self.client.start(name)
            code = self.client.wait(name)["StatusCode"]
            seconds = time.perf_counter() - start
            self.client.remove_container(name)
            assert code == 0
            return seconds

        def cli() -> float:
            start = time.perf_counter()
            command = ["docker", "run", "--rm", "--network", network, self.image, "true"]
            subprocess.run(command, check=True)
            return time.perf_counter() - start

        def ours() -> float:
            start = time.perf_counter()
            run = self.manager.submit(self.spec("true", network=network), "docker")
            record = self.manager.wait(run.run_id)
            seconds = time.perf_counter() - start
            self.freed()
            assert record.exit_code == 0
            return seconds

        cases = {"socket by hand": raw, "docker-py": docker_py, "qwex": ours}
        if shutil.which("docker"):
            cases["`docker run --rm`"] = cli
        found = rotate(cases, rounds, warm=3)
        title = f"A container that does nothing, from create to outcome (network {network})"
        return table(title, found, "socket by hand")

    def at_once(self, rounds: int) -> list[str]:
        body = {"Image": self.image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "host"}}

        def one() -> None:
            name = self.name() + f"-{threading.get_ident()}"
            client = self.client
            client.create_container_from_config(body, name)
            client.start(name)
            assert client.wait(name)["StatusCode"] == 0
            client.logs(name)
            client.remove_container(name)

        def theirs() -> float:
            threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return time.perf_counter() - start

        def ours() -> float:
            spec = self.spec("true", network="host")
            start = time.perf_counter()
            with ThreadPoolExecutor(STARTERS) as pool:
                runs = list(pool.map(lambda _: self.manager.submit(spec, "docker"), range(AT_ONCE)))
            codes = {self.manager.wait(run.run_id).exit_code for run in runs}
            self.freed()
            seconds = time.perf_counter() - start
            assert codes == {0}
            return seconds

        cases = {"docker-py, a thread for each": theirs, f"qwex, {STARTERS} submitters": ours}
        found = rotate(cases, rounds)
        title = f"{AT_ONCE} containers at once: outcome, output, nothing left (network host)"
        return table(title, found, "docker-py, a thread for each", unit=1, sign="s")

    def live(self) -> list[str]:
        me = psutil.Process()
        before = (me.num_threads(), me.num_fds())
        with ThreadPoolExecutor(STARTERS) as pool:
            spec = self.spec("sleep", "3600", network="none")
            runs = list(pool.map(lambda _: self.manager.submit(spec, "docker"), range(LIVE)))
        while any(
            self.manager.tracker.record(r.run_id).status is not RunStatus.RUNNING for r in runs
        ):
            time.sleep(0.2)
        time.sleep(2)
        busy = sum(me.cpu_times()[:2])
        time.sleep(IDLE_SECONDS)
        share = (sum(me.cpu_times()[:2]) - busy) / IDLE_SECONDS
        threads, files = me.num_threads(), me.num_fds()
        for run in runs:
            run.cancel(grace=0)
        ended = [self.manager.wait(run.run_id).status for run in runs]
        self.freed()
        assert set(ended) == {RunStatus.CANCELLED}
        return [
            f"### {LIVE} containers that live, nothing shown",
            "",
            "| | threads | descriptors | of one core while idle |",
            "|---|---|---|---|",
            f"| qwex (before: {before[0]}, {before[1]}) | {threads} | {files} | {share:.2%} |",
        ]

    def lines(self, rounds: int) -> list[str]:
        """Reads the log of a container that has ended, whole."""
        name = self.name()
        config = {"Type": "json-file", "Config": {"max-size": "1000g", "max-file": "1"}}
        body = {
            "Image": self.image,
            "Cmd": ["seq", "1", str(LINES)],
            "HostConfig": {"NetworkMode": "none", "LogConfig": config},
        }
        self.client.create_container_from_config(body, name)
        self.client.start(name)
        self.client.wait(name)
        command = self.spec("seq", "1", str(LINES))
        expected = b"".join(b"%d\n" % number for number in range(1, LINES + 1))

        def raw() -> float:
            start = time.perf_counter()
            with socket.socket(socket.AF_UNIX) as wire:
                wire.connect(self.engine.host.removeprefix("unix://"))
                query = "stdout=1&stderr=1&timestamps=1&follow=1"
                head = f"GET /containers/{name}/logs?{query} HTTP/1.0\r\nHost: d\r\n\r\n"
                wire.sendall(head.encode())
                while wire.recv(1 << 18):
                    pass
            return time.perf_counter() - start

        def cli() -> float:
            start = time.perf_counter()
            command = ["docker", "logs", "-f", name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        def ours() -> float:
            run = self.manager.submit(
                command.__class__(**{**vars(command), "keep": True}), "docker"
            )
            self.manager.wait(run.run_id)
            assert run.log.read("stdout") == expected
            folder = run.log.folder
            for number in range(1, 99):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, f"log.{number}.json"))
            os.truncate(run.log.path("stdout"), 0)
            runner = RunManager(self.manager.history.home).runner("docker")
            start = time.perf_counter()
            assert runner.follow(run.run_id, run.log, threading.Event())
            seconds = time.perf_counter() - start
            assert run.log.read("stdout") == expected
            runner.delete(run.run_id)
            return seconds

        cases = {"the answer of the socket, thrown away": raw, "qwex, into the log file": ours}
        if shutil.which("docker"):
            cases["`docker logs -f`, thrown away"] = cli
        found = rotate(cases, rounds)
        self.client.remove_container(name)
        title = f"{LINES:,} lines of a container that has ended, byte by byte the same"
        return table(title, found, next(iter(cases)), unit=1, sign="s")

    def latency(self, rounds: int) -> list[str]:
        """A line's way from the engine to a reader: the engine's own stream, and ours."""
        lines = "i=0; while [ $i -lt 300 ]; do echo $i; usleep 10000; i=$((i+1)); done"
        gaps: dict[str, list[float]] = {"the engine's own stream": [], "qwex, in the log file": []}
        for _ in range(rounds):
            spec = JobSpec(
                command=("sh",), script=lines, image=self.image, options={"network": "none"}
            )
            run = self.manager.submit(spec, "docker")
            engine_saw: dict[int, float] = {}
            reader = threading.Thread(target=self._engine_times, args=(run, engine_saw))
            reader.start()
            ours: dict[int, float] = {}
            text = b""
            for _, data in run.follow():
                now = time.time()
                text += data
                *whole, text = text.split(b"\n")
                for line in whole:
                    ours[int(line)] = now
            reader.join()
            written = dict(self._stamps)
            for number, at in written.items():
                if number in engine_saw and number in ours:
                    gaps["the engine's own stream"].append(engine_saw[number] - at)
                    gaps["qwex, in the log file"].append(ours[number] - at)
            self.freed()
        rows = []
        for name, values in gaps.items():
            half, most = (percentile(values, share) * 1e3 for share in (0.5, 0.99))
            rows.append(f"| {name} | {half:.2f} | {most:.2f} |")
        added = statistics.median(b - a for a, b in zip(*gaps.values(), strict=True))
        return [
            "### A line's way, every 10 ms: from the engine's time stamp to the reader",
            "",
            "| | p50 ms | p99 ms |",
            "|---|---|---|",
            *rows,
            f"| added by qwex | {added * 1e3:.2f} | |",
        ]

    _stamps: dict[int, float]

    def _engine_times(self, run: Run, seen: dict[int, float]) -> None:
        from qwex_jupyter.runners.container.times import moment

        self._stamps = {}
        while self.manager.tracker.record(run.run_id).status is RunStatus.PENDING:
            time.sleep(0.005)
        query = "stdout=1&timestamps=1&follow=1"
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(self.engine.host.removeprefix("unix://"))
            head = f"GET /containers/qwex-{run.run_id}/logs?{query} HTTP/1.0\r\nHost: d\r\n\r\n"
            wire.sendall(head.encode())
            rest = b""
            head_done = False
            while data := wire.recv(1 << 16):
                now = time.time()
                rest += data
                if not head_done:
                    _, found, rest = rest.partition(b"\r\n\r\n")
                    head_done = bool(found)
                while len(rest) >= 8:
                    size = int.from_bytes(rest[4:8], "big")
                    if len(rest) < 8 + size:
                        break
                    stamp, _, text = rest[8 : 8 + size].partition(b" ")
                    rest = rest[8 + size :]
                    number = int(text)
                    seen[number] = now
                    self._stamps[number] = moment(stamp.decode()) or 0.0


class Unix:
    """HTTP on a unix socket, by hand."""

    def __init__(self, host: str) -> None:
        self.path = host.removeprefix("unix://")
        self.connection = http.client.HTTPConnection("localhost")
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.connect(self.path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status >= 400:
            raise RuntimeError(f"{method} {path}: {reply.status} {text!r}")
        return json.loads(text) if text.strip() else None
