"""A real registry on loopback, Debian's, behind a wire that can be slow and be cut."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import images
from engines import Engine, answers, which
from wire import Wire

PATIENCE = 90.0
USER, PASSWORD = "reader", "opensesame"
# Its bcrypt hash, as htpasswd -B writes it.
_HTPASSWD = f"{USER}:$2y$05$qwexTestsqwexTestsqweuArVawfmXUU0gJeTc4ZSsrcsMgD0Hjoe\n"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def available() -> str:
    """Empty where a registry can be started; else one line: why not, and what to do."""
    if which("docker-registry") is None:
        return "no registry here: apt-get install docker-registry"
    return ""


class Registry:
    """A registry in a folder of its own, gone with it.

    Args:
        private: Whether it asks for ``USER`` and ``PASSWORD``.

    Attributes:
        wire: All that comes to it comes through this.
        auth: What docker-py takes as ``auth_config``; None for one that doesn't ask.
    """

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.auth = {"username": USER, "password": PASSWORD} if private else None
        self.folder = Path(tempfile.mkdtemp(prefix="registry-", dir="/tmp"))
        self._process = self._spawn()
        try:
            self._wait()
            self.wire = Wire(self._socket, tcp=True)
        except BaseException:
            self._end()
            raise

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: what the names of its images begin with."""
        return self.wire.address

    @property
    def _socket(self) -> str:
        return f"unix://{self.folder}/sock"

    def close(self) -> None:
        """Ends it, and what it had is gone."""
        self.wire.close()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- what is in it --------------------------------------------------------------------------

    def push(self, engine: Engine, image: str, name: str) -> str:
        """Has an engine push an image that it has; the engine keeps it under its old name alone.

        Args:
            engine: It has the image, and so the layers: what it pulls later it doesn't fetch.
            image: As the engine knows it.
            name: Here, like ``team/app:1``.

        Returns:
            Its whole name, ``127.0.0.1:PORT/team/app:1``.
        """
        whole = f"{self.address}/{name}"
        repository, _, tag = whole.rpartition(":")
        client = engine.client(timeout=120)
        try:
            client.tag(image, repository, tag)
            said = list(client.push(repository, tag, stream=True, decode=True, **self._auth()))
            client.remove_image(whole)
        finally:
            client.close()
        failed = [each["error"] for each in said if "error" in each]
        assert not failed, failed
        return whole

    def put(self, recipe: str, name: str) -> str:
        """Puts an image here that no engine has seen: each of its layers has to be fetched.

        Args:
            recipe: One of ``images.RECIPES``; a file ``/unique`` is added to each layer.
            name: Here, like ``team/app:1``.

        Returns:
            Its whole name, ``127.0.0.1:PORT/team/app:1``.
        """
        layers, diff_ids = [], []
        for content in images.RECIPES[recipe].layers():
            unique = images.with_file(content, "unique", os.urandom(16))
            packed = gzip.compress(unique, 1)
            layers.append({"mediaType": _LAYER, **self._blob(name, packed)})
            diff_ids.append(f"sha256:{hashlib.sha256(unique).hexdigest()}")
        config = json.dumps(images.config(recipe, diff_ids)).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, **self._blob(name, config)},
            "layers": layers,
        }
        repository, _, tag = name.rpartition(":")
        content = json.dumps(manifest).encode()
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", content, _MANIFEST)
        return f"{self.address}/{name}"

    def _blob(self, name: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        repository = name.rpartition(":")[0]
        where = self._request("POST", f"/v2/{repository}/blobs/uploads/")
        where = where[where.index("/v2/") :]
        self._request("PUT", f"{where}&digest={digest}", content, "application/octet-stream")
        return {"size": len(content), "digest": digest}

    def _auth(self) -> dict[str, Any]:
        return {"auth_config": self.auth} if self.auth else {}

    def _request(self, method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        """Asks it past the wire's rules, which are for engines; the Location of the answer."""
        headers = {"Content-Type": kind} if kind else {}
        if self.private:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        connection = _Direct(f"{self.folder}/sock")
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (201, 202), (answer.status, said)
            return answer.headers.get("Location", "")
        finally:
            connection.close()

    # -- the process ------------------------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": f"{self.folder}/data"}},
            "http": {"net": "unix", "addr": f"{self.folder}/sock"},
        }
        if self.private:
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            where = {"realm": "tests", "path": f"{self.folder}/htpasswd"}
            settings["auth"] = {"htpasswd": where}
        # JSON is YAML.
        (self.folder / "settings.yml").write_text(json.dumps(settings))
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [which("docker-registry") or "", "serve", f"{self.folder}/settings.yml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while not answers(self._socket, path="/"):
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"the registry doesn't come up: {said[-500:]}")
            time.sleep(0.02)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.folder)


class _Direct(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("registry", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Opens the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)
