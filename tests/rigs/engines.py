"""Real engines for the tests: Debian's Docker, a current one, Podman.

Each works in a folder of its own under ``.engines`` of this checkout, which is kept with its
images, so that the next session is ready in seconds. One session at a time has such a folder
(a lock says so, and the kernel lets go of it when the session dies); another takes the next
one, and whoever takes one over first clears away what is left of the session before.

``python3 tests/rigs/engines.py`` builds the current engine and says which ones this machine has.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import go_build
import leftovers
from engine_folder import Folder
from shared import Owned, note

KINDS = ("docker", "moby", "podman")
PATIENCE = 180.0
LABEL = "qwex.run"
HISTORY = "qwex.history"

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# What would make an engine, or a client, talk to something else.
CLIENT_VARIABLES = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "CONTAINER_HOST",
)
# As the machine was when the tests began; a test takes these variables away.
_USERS_HOST = os.environ.get("DOCKER_HOST", "")
_DEBIAN = {
    "docker": {
        "dockerd": "docker.io",
        "containerd": "containerd",
        "runc": "runc",
        "busybox": "busybox-static",
    },
    "moby": {"containerd": "containerd", "busybox": "busybox-static"},
    "podman": {"podman": "podman", "runc": "runc", "busybox": "busybox-static"},
}
# Five attempts of a pull, the default, are 2.5 minutes of waiting.
_SETTINGS = {"max-download-attempts": 2}
# These machines may not raise limits, crun refuses hybrid cgroups, and the locks of another
# Podman of this machine are none of ours.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"""
# Docker takes a registry on loopback without TLS by itself, Podman has to be told.
_REGISTRIES_CONF = """\
unqualified-search-registries = []
[[registry]]
prefix = "127.0.0.1"
location = "127.0.0.1"
insecure = true
"""


# What a dockerd says that ended before its containerd was there, and how often it may.
_IMPATIENT, _TRIES = "timeout waiting for containerd to start", 3


class EngineFailed(Exception):
    """The engine did not come up; its last words are in the message."""


def which(program: str) -> str | None:
    """Where a program is; the folders of the system's programs are looked at as well."""
    return shutil.which(program, path=_PATH)


def has(program: str) -> bool:
    """Whether the machine has it; busybox only counts where it needs no libraries."""
    if program == "libseccomp":
        asked = ["pkg-config", "--exists", program]
        return (
            which("pkg-config") is not None and subprocess.run(asked, check=False).returncode == 0
        )
    path = which(program)
    if program != "busybox" or path is None:
        return path is not None
    # What is linked dynamically names its loader near the beginning.
    return b"/ld-" not in Path(path).read_bytes()[:4096]


def answers(host: str, seconds: float = 5.0, path: str = "/_ping") -> bool:
    """Whether one answers with 200 at ``unix://PATH`` or ``tcp://HOST:PORT``, without TLS."""
    at = urlsplit(host)
    local = at.scheme == "unix"
    with socket.socket(socket.AF_UNIX if local else socket.AF_INET) as wire:
        wire.settimeout(seconds)
        try:
            wire.connect(at.path if local else (at.hostname or "", at.port or 2375))
            wire.sendall(f"GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            return wire.recv(64).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False


def users_host() -> str:
    """Where this user's own engine answers; empty where none does."""
    hosts = [_USERS_HOST] if _USERS_HOST else ["unix:///var/run/docker.sock"]
    return next((host for host in hosts if answers(host)), "")


def available(kind: str) -> str:
    """Empty where an engine of this kind can be had; else one line: why not, and what to do."""
    if not sys.platform.startswith("linux"):
        return "needs Linux: the images of the tests are made of this machine's programs"
    root = os.geteuid() == 0
    if not root and not (kind == "docker" and users_host()):
        hint = ", or start one of your own" if kind == "docker" else ""
        return f"no {kind} engine here: only root may start one, run the tests as root{hint}"
    needed = _DEBIAN[kind] if root else {"busybox": "busybox-static"}
    packages = [name for program, name in needed.items() if not has(program)]
    if packages:
        return f"no {kind} engine for the tests: apt-get install {' '.join(packages)}"
    if kind == "moby" and not go_build.built(go_build.MOBY):
        return "the current Docker engine isn't built: python3 tests/rigs/engines.py"
    return ""


def build_moby() -> None:
    """Builds the current Docker engine once, as ``go_build.build`` says."""
    go_build.build(go_build.MOBY)


class Engine:
    """An engine that can be started, stopped, killed and frozen.

    Args:
        kind: ``docker``, ``moby`` or ``podman``.
        private: In a data folder of its own that goes when it stops.
        live_restore: Whether containers outlive the engine (Podman's always do).
        log_opts: The engine's default log options, like ``{"max-size": "1m"}``.
        config: More for its daemon.json.
        flags: More for its command line.
        data: Where it keeps its data, in place of its own folder.

    Attributes:
        host: Its address, ``unix://PATH``; empty until the first start.
        owned: Whose it is. Only one that is ours alone is killed or frozen.
    """

    def __init__(
        self,
        kind: str,
        *,
        private: bool = False,
        live_restore: bool = False,
        log_opts: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        data: Path | None = None,
    ) -> None:
        assert kind in KINDS, kind
        self.kind = kind
        self.private = private
        self.owned = Owned.ALONE if os.geteuid() == 0 else Owned.USERS
        self.host = "" if self.owned.ours else users_host()
        self.settings: dict[str, Any] = {
            **_SETTINGS,
            "live-restore": live_restore,
            **(config or {}),
        }
        if log_opts:
            self.settings["log-opts"] = dict(log_opts)
        self.flags = tuple(flags)
        self._data = data
        self._folder: Folder | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._note: dict[str, Any] = {}

    @classmethod
    def shared(cls, kind: str) -> Self | None:
        """The engine of this kind that was handed down; None: none was.

        Raises:
            EngineFailed: It did not come up where it was started.
        """
        found = note(kind)
        if found is None:
            return None
        if "failed" in found:
            raise EngineFailed(found["failed"])
        engine = cls(kind)
        engine.owned, engine.host, engine._note = Owned.SHARED, found["host"], found
        return engine

    def handed_down(self) -> dict[str, Any]:
        """What `shared` needs in another process."""
        return {"host": self.host, "folder": str(self.folder), "pid": self.pid}

    @property
    def folder(self) -> Path:
        """Where its data, its log and its lock are."""
        if self._note:
            return Path(self._note["folder"])
        assert self._folder is not None, "it wasn't started, or isn't ours"
        return self._folder.path

    @property
    def data(self) -> Path:
        """Where its images are, its containers and their logs."""
        return self._data or self.folder / "data"

    @property
    def name(self) -> str:
        """What the tests call it: the name of its folder, or where it is if it isn't ours."""
        return self.folder.name if self.owned.ours else self.host or self.kind

    @property
    def pid(self) -> int:
        """The engine's process; 0 while it isn't running."""
        if self._note:
            return int(self._note["pid"])
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def log(self) -> Path:
        """What the engine itself says."""
        return self.folder / "log"

    @property
    def frozen(self) -> bool:
        """Whether its process is stopped, with all of its threads."""
        return leftovers.frozen(self.pid)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts it and waits until it answers; again after ``kill`` or ``terminate`` too.

        Raises:
            EngineFailed: It doesn't come up.
        """
        if self.owned is not Owned.ALONE:
            until = time.monotonic() + PATIENCE
            while not answers(self.host):  # a busy one takes its time
                if not self.host or time.monotonic() > until:
                    raise EngineFailed(f"the engine at {self.host or 'the default socket'} is gone")
                time.sleep(0.2)
            return self
        if self.pid:
            return self
        fresh = self._folder is None
        if self._folder is None:
            self._folder = Folder.claim(self.kind, private=self.private)
            self.host = f"unix://{self._folder.run}/sock"
            self.log.write_bytes(b"")
        try:
            self._come_up()
            if fresh:
                self.remove_containers()
                self.remove_pulled()
        except BaseException:
            self._end(signal.SIGKILL)
            self._release()
            raise
        return self

    def stop(self) -> None:
        """Removes its containers and ends it; no process and no mount of it remains."""
        if self._folder is None:
            return
        try:
            if self.pid:
                self.thaw()
                with contextlib.suppress(Exception):  # what it can't remove is cleared below
                    self.remove_containers()
            self._end(signal.SIGTERM)
        finally:
            self._release()

    def kill(self) -> None:
        """SIGKILL for the engine's process alone; containers go on as it left them."""
        self._must_be_owned()
        assert self.pid, "it isn't running"
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Ends it as the system would (SIGTERM); its containers and data stay what they are."""
        self._must_be_owned()
        self.thaw()
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Ends it as the system would, and starts it again on the same data and socket."""
        self.terminate()
        self.start()

    def freeze(self) -> None:
        """Stops the engine's process: what is asked of it waits."""
        self._must_be_owned()
        os.kill(self.pid, signal.SIGSTOP)
        while not self.frozen:  # its threads follow one by one
            time.sleep(0.001)

    def thaw(self) -> None:
        """Lets a frozen one go on."""
        self._must_be_owned()
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    # -- what is in it --------------------------------------------------------------------------

    def client(self, timeout: float = 60, version: str = "") -> Any:
        """A ``docker.APIClient`` of it; the caller closes it.

        Args:
            timeout: Seconds for each answer.
            version: Of the API; empty for the engine's own.
        """
        import docker

        # To be asked for its version costs Podman 0.3 s.
        version = version or ("1.41" if self.owned.ours and self.kind != "moby" else "auto")
        return docker.APIClient(base_url=self.host, version=version, timeout=timeout)

    def remove_containers(self, label: str = "") -> list[str]:
        """Removes containers with their volumes, running or not; the ids of the removed.

        Args:
            label: Only those with this label. On a user's own engine only what was made of an
                image of the tests is touched, whatever the label.
        """
        import docker.errors

        removed = []
        filters = {"label": label} if label else {}
        with self.client() as client:
            for found in client.containers(all=True, filters=filters):
                of_tests = found["Image"].startswith(("qwex-test/", "127.0.0.1:"))
                if not (self.owned.ours or of_tests):
                    continue
                try:
                    client.remove_container(found["Id"], v=True, force=True)
                except docker.errors.APIError as error:
                    # Somebody else removes it, or has.
                    if error.status_code not in (404, 409):
                        raise
                removed.append(found["Id"])
        return removed

    def images(self, name: str | None = None) -> list[dict[str, Any]]:
        """Those of this name, or all, as the engine lists them."""
        import docker.errors

        until = time.monotonic() + PATIENCE
        with self.client() as client:
            while True:
                try:
                    found: list[dict[str, Any]] = client.images(name)
                    return found
                except docker.errors.APIError as error:
                    # Podman lists them and then reads each, with its layers: somebody removed one
                    # between.
                    gone = re.search("(image|layer) not known", str(error))
                    if not gone or time.monotonic() > until:
                        raise

    def remove_pulled(self, registry: str = "127.0.0.1") -> None:
        """Removes the images that came from a registry of the tests, in use or not.

        Args:
            registry: ``127.0.0.1:PORT``; by default all of them.
        """
        with self.client() as client:
            for found in self.images():
                for name in found["RepoTags"] or ():
                    if name.startswith((f"{registry}:", f"{registry}/")):
                        client.remove_image(name, force=True)

    # -- inside ---------------------------------------------------------------------------------

    def _must_be_owned(self) -> None:
        assert self.owned is not Owned.SHARED, "others use it: take own_engine"
        if self.owned is Owned.USERS:
            import pytest

            pytest.skip(f"the engine at {self.host} is the user's own: run the tests as root")

    def _release(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.release()

    @property
    def _run(self) -> Path:
        assert self._folder is not None, "it wasn't started"
        return self._folder.run

    def _spawn(self) -> None:
        # Whoever has its pid now is somebody else: the engine would refuse to start.
        for name in ("pid", "sock"):
            (self._run / name).unlink(missing_ok=True)
        # Its containerd died with it, but where pid 1 is slow to reap, the engine would wait for
        # an answer of the dead one.
        note = self._run / "exec/containerd/containerd.pid"
        if note.exists() and not leftovers.alive(int(note.read_text())):
            note.unlink()
        unwanted = (*CLIENT_VARIABLES, "NOTIFY_SOCKET", "CONTAINERS_CONF")
        env = {name: value for name, value in os.environ.items() if name not in unwanted}
        env["PATH"] = _PATH
        command = self._podman(env) if self.kind == "podman" else self._dockerd(env)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.flags],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # an interrupt of the tests isn't the engine's
            )

    def _dockerd(self, env: dict[str, str]) -> list[str]:
        # A file of ours instead of the machine's, which may contradict the command line.
        (self._run / "daemon.json").write_text(json.dumps(self.settings))
        command = [
            *("dockerd", "--config-file", f"{self._run}/daemon.json"),
            *("--iptables=false", "--bridge=none"),
            *("--data-root", str(self.data), "--exec-root", f"{self._run}/exec"),
            *("-p", f"{self._run}/pid", "-H", self.host),
        ]
        if self.kind == "moby":
            # Debian's runc is too old for it.
            moby, runc = (module.folder for module in go_build.MOBY)
            env["PATH"] = f"{runc}{os.pathsep}{_PATH}"
            command = [f"{moby}/dockerd", *command[1:], "--ip6tables=false"]
        else:
            command[0] = which("dockerd") or "dockerd"
        return command

    def _podman(self, env: dict[str, str]) -> list[str]:
        (self._run / "containers.conf").write_text(_CONTAINERS_CONF)
        (self._run / "registries.conf").write_text(_REGISTRIES_CONF)
        env["CONTAINERS_CONF"] = f"{self._run}/containers.conf"
        env["CONTAINERS_REGISTRIES_CONF"] = f"{self._run}/registries.conf"
        return [
            *(which("podman") or "podman", "--root", str(self.data)),
            *("--runroot", f"{self._run}/run", "--tmpdir", f"{self._run}/tmp"),
            *("--storage-driver", "overlay"),
            *("system", "service", "--time=0", self.host),
        ]

    def _come_up(self) -> None:
        for left in reversed(range(_TRIES)):
            self._spawn()
            try:
                self._wait()
            except EngineFailed as error:
                # On a busy machine it gives its containerd too little time, and ends: who keeps
                # services would start it again.
                if not left or _IMPATIENT not in str(error):
                    raise
                self._end(signal.SIGKILL)
            else:
                return

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while not answers(self.host):
            if not self.pid or time.monotonic() > until:
                words = self.log.read_text(errors="replace").strip().splitlines()[-3:]
                why = " | ".join(words) or "it said nothing"
                raise EngineFailed(f"the {self.kind} engine doesn't come up: {why}")
            time.sleep(0.05)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


if __name__ == "__main__":
    build_moby()
    for each in KINDS:
        print(f"{each}: {available(each) or 'can be started'}")
