"""Images for the tests, made on the spot from this machine's programs; no network, no builder.

Each is an archive as ``docker save`` makes it, loaded through the engine's own API under a
fixed name, and made anew only when what it is made from has changed.

| name | what is in it |
|---|---|
| busybox | all applets, ``/etc/passwd`` with root, nobody and worker (1234), ``/tmp`` for all |
| python | this Python with its standard library, no packages; the applets (``sh``) beside it |
| bash | busybox, and this machine's bash |
| bare | ``/bin/cat`` and ``/bin/echo``, and nothing else: no shell, no ``/tmp``, no ``/etc`` |
| entry | busybox behind an ENTRYPOINT that sets ``MARK=entry`` and executes its arguments |
| worker | busybox with USER 1234 in WORKDIR ``/srv``, which belongs to root |
| wrongarch | of another architecture: none of its programs can be executed here |
| big | busybox and two layers of 15 MB that don't compress, for slow pulls; three come at once |
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import random
import struct
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import Engine, which

MADE_OF = "qwex.test.made-of"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
_OTHER = {"amd64": "arm64", "arm64": "amd64"}[ARCHITECTURE]
_PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
worker:x:1234:1234:worker:/home/worker:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
_GROUP = b"root:x:0:\nworker:x:1234:\nnogroup:x:65534:\n"
# Of the standard library, what no test needs and what is large.
_LEFT_OUT = {
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"),
    *("site-packages", "dist-packages", "pydoc_data"),
}


class Layer:
    """A tar archive that is filled file by file."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._bytes, mode="w", format=tarfile.PAX_FORMAT)
        self._names: set[str] = set()

    def folder(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        """A folder; those above it are made as they are missing."""
        self._add(name, tarfile.DIRTYPE, mode, owner=owner)

    def file(
        self, name: str, content: bytes, mode: int = 0o644, owner: int = 0, mtime: int = 0
    ) -> None:
        """A file with this content."""
        self._add(name, tarfile.REGTYPE, mode, content, owner=owner, mtime=mtime)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, target=target)

    def hard_link(self, name: str, target: str) -> None:
        """A second name of a file that is in this layer."""
        self._add(name, tarfile.LNKTYPE, 0o755, target=target.lstrip("/"))

    def done(self) -> bytes:
        """The archive."""
        self._tar.close()
        return self._bytes.getvalue()

    def _add(
        self,
        name: str,
        kind: bytes,
        mode: int,
        content: bytes = b"",
        *,
        target: str = "",
        owner: int = 0,
        mtime: int = 0,
    ) -> None:
        name = name.strip("/")
        if name in self._names:
            return
        parent = os.path.dirname(name)
        if parent and parent not in self._names:
            self.folder(parent)
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname = kind, mode, target
        entry.uid = entry.gid = owner
        entry.size, entry.mtime = len(content), mtime
        self._tar.addfile(entry, io.BytesIO(content))


# -- what is in them ----------------------------------------------------------------------------


def _busybox() -> bytes:
    path = which("busybox")
    assert path, "apt-get install busybox-static"
    return Path(path).read_bytes()


@functools.cache
def _applets() -> list[str]:
    said = subprocess.run([which("busybox") or "", "--list"], capture_output=True, check=True)
    return [name for name in said.stdout.decode().split() if name != "busybox"]


def _fill_busybox(layer: Layer) -> None:
    layer.file("/bin/busybox", _busybox(), 0o755)
    for name in _applets():
        layer.link(f"/bin/{name}", "/bin/busybox")
    layer.link("/usr/bin/env", "/bin/busybox")
    layer.file("/etc/passwd", _PASSWD)
    layer.file("/etc/group", _GROUP)
    layer.folder("/tmp", 0o1777)
    layer.folder("/root", 0o700)
    layer.folder("/home/worker", owner=1234)
    layer.folder("/srv")


def _tree() -> Iterator[bytes]:
    layer = Layer()
    _fill_busybox(layer)
    yield layer.done()


def _bash_files() -> list[Path]:
    bash = Path(which("bash") or "")
    return [bash, *_libraries([bash])]


def _bash() -> Iterator[bytes]:
    layer = Layer()
    _fill_busybox(layer)
    program, *libraries = _bash_files()
    layer.file("/bin/bash", program.read_bytes(), 0o755)
    for path in libraries:
        layer.file(str(path), path.read_bytes(), 0o755)
    yield layer.done()


def _bash_state() -> str:
    return repr([(str(path), path.stat().st_size) for path in _bash_files()])


def _bare() -> Iterator[bytes]:
    layer = Layer()
    layer.file("/bin/cat", _busybox(), 0o755)
    layer.hard_link("/bin/echo", "/bin/cat")
    yield layer.done()


def _wrongarch() -> Iterator[bytes]:
    machine = {"arm64": 183, "amd64": 62}[_OTHER]
    # An ELF header alone: the kernel looks at the machine in it and refuses.
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 0, 64, 0, 0)
    layer = Layer()
    for name in ("sh", "cat", "echo", "true"):
        layer.file(f"/bin/{name}", ident + header, 0o755)
    yield layer.done()


def _big() -> Iterator[bytes]:
    yield from _tree()
    for number in range(2):
        layer = Layer()
        content = random.Random(number).randbytes(15_000_000)  # equal on every machine
        layer.file(f"/big/{number}", content)
        yield layer.done()


@functools.cache
def _python_files() -> dict[str, Path]:
    """Where each file of this Python's goes; libraries keep their places."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter = Path(sys.base_prefix, "bin", version)
    if not interpreter.exists():
        interpreter = Path(os.path.realpath(sys.executable))
    found = {f"/usr/local/bin/{version}": interpreter}
    library = f"/usr/local/{sys.platlibdir}/{version}"
    for source in dict.fromkeys([sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]):
        for root, folders, names in os.walk(source):
            folders[:] = sorted(
                f for f in folders if f not in _LEFT_OUT and not f.startswith("config-")
            )
            for name in sorted(names):
                optimised = name.endswith((".opt-1.pyc", ".opt-2.pyc"))
                if not (optimised or "_test" in name or "_tkinter" in name):
                    path = Path(root, name)
                    found.setdefault(f"{library}/{path.relative_to(source)}", path)
    programs = [interpreter, *(p for p in found.values() if p.suffix == ".so")]
    for path in _libraries(programs):
        if str(path).startswith(("/lib", "/usr/lib")):
            found[str(path)] = path
        else:  # where a loader looks that doesn't find it in its old place
            found.update({f"{folder}/{path.name}": path for folder in ("/usr/lib", "/usr/lib64")})
    return found


def _libraries(programs: list[Path]) -> list[Path]:
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, check=False)
    words = said.stdout.decode().split()
    return sorted({Path(word) for word in words if word.startswith("/") and word[-1] != ":"})


def _python() -> Iterator[bytes]:
    layer = Layer()
    _fill_busybox(layer)
    for name, path in _python_files().items():
        status = path.stat()
        # The time belongs to it: what was compiled goes by its source's.
        layer.file(name, path.read_bytes(), status.st_mode & 0o755, mtime=int(status.st_mtime))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("python", "python3"):
        layer.link(f"/usr/local/bin/{name}", version)
    yield layer.done()


def _python_state() -> str:
    status = [(name, os.stat(path)) for name, path in _python_files().items()]
    # What is compiled comes and goes with whoever imports it.
    kept = [(name, s) for name, s in status if not name.endswith(".pyc")]
    return repr([(name, s.st_size, int(s.st_mtime)) for name, s in kept])


@dataclass(frozen=True)
class Recipe:
    """How an image is made: its layers, its settings, and what tells that they changed."""

    layers: Callable[[], Iterator[bytes]]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = ARCHITECTURE
    state: Callable[[], str] = str


_SHELL = {"Cmd": ["/bin/sh"]}
RECIPES = {
    "busybox": Recipe(_tree, _SHELL),
    "python": Recipe(_python, {"Cmd": ["python3"]}, state=_python_state),
    "bash": Recipe(_bash, _SHELL, state=_bash_state),
    "bare": Recipe(_bare),
    "entry": Recipe(_tree, {**_SHELL, "Entrypoint": ["/bin/env", "MARK=entry"]}),
    "worker": Recipe(_tree, {**_SHELL, "User": "1234", "WorkingDir": "/srv"}),
    "wrongarch": Recipe(_wrongarch, _SHELL, architecture=_OTHER),
    "big": Recipe(_big, _SHELL),
}
_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def image(engine: Engine, name: str) -> str:
    """The name under which this engine has the image; it is made and loaded where it lacks it.

    Args:
        engine: A started engine.
        name: One of ``RECIPES``.

    Returns:
        ``qwex-test/<name>:1``.
    """
    import docker.errors

    tag, made_of = f"qwex-test/{name}:1", _made_of(name)
    client = engine.client(timeout=300)
    try:
        before = ""
        with contextlib.suppress(docker.errors.ImageNotFound):
            found = client.inspect_image(tag)
            before = found["Id"]
            if (found["Config"].get("Labels") or {}).get(MADE_OF) == made_of:
                return tag
        said = list(client.load_image(archive(name, tag), quiet=True) or ())
        found = client.inspect_image(tag)
        assert found["Config"]["Labels"][MADE_OF] == made_of, said
        if before:
            with contextlib.suppress(docker.errors.APIError):  # it may be in use, or gone by now
                client.remove_image(before)
    finally:
        client.close()
    return tag


@functools.cache
def _made_of(name: str) -> str:
    made_of = hashlib.sha256(Path(__file__).read_bytes())
    if name != "wrongarch":
        made_of.update(_busybox())
    made_of.update(RECIPES[name].state().encode())
    return made_of.hexdigest()


def archive(name: str, tag: str, architecture: str = "") -> bytes:
    """The image under this tag, as ``docker save`` would give it.

    Args:
        name: One of ``RECIPES``.
        tag: Its name.
        architecture: What the image says that it is for; empty for what it is for.
    """

    def settings(diff_ids: list[str]) -> dict[str, Any]:
        found = config(name, diff_ids)
        return {**found, "architecture": architecture or found["architecture"]}

    return packed(tag, RECIPES[name].layers(), settings)


def packed(
    tag: str, contents: Iterable[bytes], config: Callable[[list[str]], dict[str, Any]]
) -> bytes:
    """An image of these layers, as ``docker save`` would give it.

    Args:
        tag: Its name.
        contents: The layers, not compressed.
        config: What makes its settings of the layers' digests.
    """
    whole = Layer()
    layers, digests = [], []
    for content in contents:
        digest = hashlib.sha256(content).hexdigest()
        whole.file(f"{digest}/layer.tar", content)
        layers.append(f"{digest}/layer.tar")
        digests.append(f"sha256:{digest}")
    written = json.dumps(config(digests), sort_keys=True).encode()
    config_name = f"{hashlib.sha256(written).hexdigest()}.json"
    whole.file(config_name, written)
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": layers}]
    whole.file("manifest.json", json.dumps(manifest).encode())
    return whole.done()


def pause(program: str, tag: str) -> bytes:
    """An archive of an image that is this program alone, as ``docker save`` would give it."""
    layer = Layer()
    layer.file("/pause", Path(program).read_bytes(), 0o755)

    def settings(diff_ids: list[str]) -> dict[str, Any]:
        return {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }

    return packed(tag, [layer.done()], settings)


def config(name: str, diff_ids: list[str]) -> dict[str, Any]:
    """The image's settings, for layers with these digests (of what isn't compressed)."""
    recipe = RECIPES[name]
    return {
        "architecture": recipe.architecture,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": _ENV, "Labels": {MADE_OF: _made_of(name)}, **recipe.config},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"tests/rigs/images.py {name}"} for _ in diff_ids],
    }


def with_file(layer: bytes, name: str, content: bytes) -> bytes:
    """A layer with one more file in it."""
    whole = io.BytesIO(layer)
    with tarfile.TarFile(fileobj=whole, mode="a") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()
