"""The folders that a cluster of the tests works in, and what it leaves outside of them.

Everything of a cluster is known by one of three things: its folders (in the command lines of its
programs, and in its mounts), its cgroup (all its containers are below it) and its bridge.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import leftovers
from engine_folder import Folder
from environment import ROOT
from shared import EACH, FIRST, PORT_RANGE

FOLDER = ROOT / ".clusters"
# Where kubelets put links to the logs of containers, whatever their own folders are.
_LINKS = Path("/var/log/containers")
_CGROUPS = Path("/sys/fs/cgroup")


class ClusterFolder(Folder):
    """A folder that this process holds; ``data`` in it goes when it is claimed and released.

    Attributes:
        name: Of its cgroup and its bridge: no other cluster of this machine has it.
    """

    @classmethod
    def parent(cls) -> Path:
        """Where such folders lie."""
        return FOLDER

    @property
    def name(self) -> str:
        """The name of its cgroup and its bridge, of at most 15 letters as an interface's."""
        return _name(self.path)

    @classmethod
    def clear(cls, path: Path, run: Path) -> None:
        """Ends and removes what worked in it; its logs stay."""
        sockets = _shim_sockets(run)
        groups = list(cgroups(_name(path)))
        leftovers.clear([path, run], groups=groups)
        for shim in sockets:
            shim.unlink(missing_ok=True)
        subprocess.run(["ip", "link", "delete", _name(path)], capture_output=True, check=False)
        for link in _LINKS.glob("*.log"):
            with contextlib.suppress(OSError):
                if str(link.readlink()).startswith(f"{path}/"):
                    link.unlink()
        leftovers.remove(path / "data")
        leftovers.remove(run)


def _name(path: Path) -> str:
    return f"qwex-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def cgroups(name: str) -> Iterator[Path]:
    """The cgroup of this cluster, in each hierarchy that has it."""
    for found in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")):
        if found.is_dir():
            yield found


def make_cgroups(name: str) -> None:
    """Makes it, where a kubelet would look for it."""
    if (_CGROUPS / "cgroup.controllers").exists():
        given = (_CGROUPS / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{each}" for each in given)
        (_CGROUPS / "cgroup.subtree_control").write_text(wanted)
        (_CGROUPS / name).mkdir(exist_ok=True)
        (_CGROUPS / name / "cgroup.subtree_control").write_text(wanted)
        return
    for root in {found.resolve() for found in _CGROUPS.iterdir()}:
        with contextlib.suppress(OSError):
            group = root / name
            group.mkdir(exist_ok=True)
            # A cpuset is empty at first, and then takes no process.
            for each in ("cpuset.cpus", "cpuset.mems"):
                if (group / each).exists():
                    (group / each).write_text((root / each).read_text())


def _shim_sockets(run: Path) -> list[Path]:
    """The sockets of its shims, which lie in a folder that all containerds share."""
    found = []
    for note in run.glob("containerd/io.containerd.runtime.v2.task/*/*/bootstrap.json"):
        with contextlib.suppress(OSError, ValueError):
            address = json.loads(note.read_text())["address"]
            found.append(Path(address.removeprefix("unix://")))
    return found


def free_network() -> str:
    """The first three numbers of a network that this machine has no route to, ``10.N.N``.

    The second goes by the ports of this process, so that no two take one at the same time.
    """
    assert PORT_RANGE.stop <= FIRST + 10 * EACH, PORT_RANGE
    seconds = [128 + 12 * (at - FIRST) // EACH for at in (PORT_RANGE.start, PORT_RANGE.stop)]
    routes = [line.split()[1] for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    while True:
        numbers = (10, random.randrange(*seconds), random.randrange(256))
        little = "".join(f"{number:02X}" for number in (*numbers, 0)[::-1])
        if little not in routes:
            return ".".join(map(str, numbers))
