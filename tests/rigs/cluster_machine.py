"""The parts of a cluster of the tests as processes: started, killed, frozen, gone in the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import images
import leftovers
from cluster_api import PATIENCE, Api
from cluster_folder import ClusterFolder
from cluster_parts import NODE, PARTS, PAUSE, Options, Plan, environment
from engines import answers
from go_build import program

# Each kubelet empties this folder as it starts, wherever its own folders are, and then listens in
# it: of two at a time one finds the other's socket in its place, and ends.
_PLUGINS = Path("/var/lib/kubelet/device-plugins")


class ClusterFailed(Exception):
    """It did not come up; the last words of the part that failed are in the message."""


class Machine:
    """The processes of one cluster, from an empty folder to nothing left.

    Args:
        options: What is different about it.
        private: In a folder that goes with it, with the logs.
        found: What another process's `handed_down` said, whose machine it is.

    Attributes:
        folder: What it works in.
        plan: How its parts are started.
    """

    def __init__(
        self, options: Options, *, private: bool, found: Mapping[str, Any] | None = None
    ) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._said_before: dict[str, int] = {}  # so much of its log is of the one before it
        self._theirs: Mapping[str, int] = found["pids"] if found else {}
        if found:
            self.folder = ClusterFolder(Path(found["path"]), Path(found["run"]), private, -1)
            self.plan = Plan(self.folder, options, found)
            return
        self.folder = ClusterFolder.claim("cluster", private=private)
        try:
            for log in self.folder.path.glob("*.log"):
                log.unlink()
            self.plan = Plan(self.folder, options)
        except BaseException:
            self.folder.release()
            raise

    def handed_down(self) -> dict[str, Any]:
        """What another process needs to use it too."""
        return {
            "path": str(self.folder.path),
            "run": str(self.folder.run),
            "token": self.plan.token,
            "ports": self.plan.ports,
            "pids": {part: self.pid(part) for part in PARTS},
        }

    def start(self) -> None:
        """Starts what doesn't run, and waits until the node is ready.

        Raises:
            ClusterFailed: Something of it doesn't come up.
        """
        fresh = not self._processes
        for part in self._processes:
            self.thaw(part)
        for part in ("etcd", "containerd", "apiserver"):
            self.begin(part)
        self.wait("containerd")
        if fresh:
            self.load(images.pause(program("pause"), PAUSE))
        self.wait("apiserver")
        self.plan.write_kubeconfig()
        for part in PARTS:
            self.begin(part)
        for part in PARTS:
            self.wait(part)

    def release(self) -> None:
        """Ends all of it at once; nothing remains."""
        for part in list(self._processes):
            self.end(part, signal.SIGKILL)
        self.folder.release()

    # -- one part ---------------------------------------------------------------------------------

    def pid(self, part: str) -> int:
        """Its process; 0 while it isn't running."""
        if part in self._theirs:
            return self._theirs[part]
        process = self._processes.get(part)
        return process.pid if process is not None and process.poll() is None else 0

    def frozen(self, part: str) -> bool:
        """Whether its process is stopped, with all of its threads."""
        return leftovers.frozen(self.pid(part))

    def begin(self, part: str, command: list[str] | None = None) -> None:
        """Starts a part unless it runs.

        Args:
            part: Its name, which its log has as well.
            command: For what isn't one of ``PARTS``.
        """
        if self.pid(part):
            return
        if part == "kubelet":
            with _turn():
                self._spawn(part, self.plan.command(part))
                until = time.monotonic() + PATIENCE
                while self.pid(part) and not self._listens() and time.monotonic() < until:
                    time.sleep(0.05)
        else:
            self._spawn(part, command or self.plan.command(part))

    def _spawn(self, part: str, command: list[str]) -> None:
        with self.log(part).open("ab") as log:
            self._said_before[part] = log.tell()
            self._processes[part] = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # an interrupt of the tests isn't the cluster's
            )

    def _listens(self) -> bool:
        """Whether the kubelet has its socket for plugins."""
        process = Path(f"/proc/{self.pid('kubelet')}")
        try:
            sockets = (process / "net/unix").read_text().splitlines()
            mine = {os.readlink(each) for each in (process / "fd").iterdir()}
        except OSError:
            return False
        return any(
            line.endswith(f" {_PLUGINS}/kubelet.sock") and f"socket:[{line.split()[6]}]" in mine
            for line in sockets
        )

    def end(self, part: str, how: signal.Signals) -> None:
        """Ends a part, frozen or not; containers go on."""
        process = self._processes.get(part)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def thaw(self, part: str) -> None:
        """Lets a frozen one go on."""
        if self.pid(part):
            os.kill(self.pid(part), signal.SIGCONT)

    def log(self, part: str) -> Path:
        """Where a part's own words go."""
        return self.folder.path / f"{part}.log"

    def containers(self, job: str) -> list[str]:
        """The ids of the containers in the pods of a Job, by containerd's own log."""
        said = self.log("containerd").read_text(errors="replace")
        found: list[str] = []
        for sandbox in re.findall(rf'Name:{job}-\w+,.* returns sandbox id \\"(\w+)\\"', said):
            made = rf'within sandbox \\"{sandbox}\\" for .* returns container id \\"(\w+)\\"'
            found += re.findall(made, said)
        return found

    def dropped(self, job: str) -> bool:
        """Whether containerd itself says that it dropped output of a Job's container."""
        said = self.log("containerd").read_text(errors="replace")
        named = set(
            re.findall(r'of container \\"(\w+)\\"" error="reading from a closed fifo"', said)
        )
        return bool(named) and not named.isdisjoint(self.containers(job))

    # -- whether it works -------------------------------------------------------------------------

    def wait(self, part: str) -> None:
        """Waits until a part works.

        Raises:
            ClusterFailed: It ended, or its time is up; says what it said last.
        """
        until = time.monotonic() + PATIENCE
        while not self.works(part):
            if not self.pid(part) or time.monotonic() > until:
                words = self.log(part).read_text(errors="replace").strip().splitlines()[-3:]
                why = " | ".join(words) or "it said nothing"
                raise ClusterFailed(f"{part} doesn't come up: {why}")
            time.sleep(0.05)

    def works(self, part: str) -> bool:
        """Whether it answers that all is well."""
        if part == "etcd":
            return answers(f"tcp://127.0.0.1:{self.plan.ports[part]}", path="/health")
        if part == "containerd":
            # It answers before it has taken up the containers of the one before it: the output of
            # one that ends meanwhile is lost.
            said = self.log(part).read_bytes()[self._said_before.get(part, 0) :]
            return b"successfully booted" in said and self._ctr("version").returncode == 0
        if part == "apiserver":
            return Api(self.plan.server, token=self.plan.token).ok("/readyz")
        if not Api(f"https://127.0.0.1:{self.plan.ports[part]}").ok("/healthz"):
            return False
        return part != "kubelet" or self._node_is_ready()

    def _node_is_ready(self) -> bool:
        api = Api(self.plan.server, token=self.plan.token)
        if not api.ok(f"/api/v1/nodes/{NODE}"):
            return False
        node = api.get(f"/api/v1/nodes/{NODE}")
        ready = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        return ready.get("Ready") == "True" and not node["spec"].get("taints")

    # -- images -----------------------------------------------------------------------------------

    def load(self, archive: bytes) -> None:
        """Puts the images of an archive, as ``docker save`` makes it, onto the node."""
        with tempfile.NamedTemporaryFile(dir=self.folder.path) as file:
            file.write(archive)
            file.flush()
            done = self._ctr("-n", "k8s.io", "images", "import", file.name)
        if done.returncode:
            raise ClusterFailed(f"an image can't be loaded: {done.stderr.strip()}")

    def _ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [program("ctr"), "--address", str(self.plan.containerd), *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=False
        )


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Holds the folder of plugins, for which the kubelets of a machine wait one by one."""
    _PLUGINS.mkdir(parents=True, exist_ok=True)
    folder = os.open(_PLUGINS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
