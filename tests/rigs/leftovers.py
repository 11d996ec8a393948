"""What an engine leaves behind when it was killed, or its test session was: found and removed.

Processes are known by the folders in their command line and by the container ids in their
cgroup, mounts by the folder they lie in. No engine needs to answer for that. A cluster's
containers are known by the cgroup that they are all below.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

# Only these: an editor or a pager may have such a folder in its command line as well.
_PROGRAMS = (
    *("dockerd", "containerd", "containerd-shim", "conmon", "podman", "runc", "crun"),
    *("etcd", "kube-", "kubelet", "kwok"),
)
_DETACH = 2  # MNT_DETACH of umount2(2)


def processes(
    folders: Collection[Path], ids: Collection[str] = (), groups: Iterable[Path] = ()
) -> list[int]:
    """The programs of an engine that works in one of these folders, and its containers' processes.

    Args:
        folders: What the engine was told as its data, state or run folder.
        ids: The ids of its containers, 64 hexadecimal digits each.
        groups: Cgroups; all processes in and below them are its.
    """
    found = []
    inside = set(_members(groups))
    for pid in _pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            named = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue  # it ended meanwhile
        if not alive(pid):
            continue
        program = os.path.basename(words[0])
        ours = program.startswith(_PROGRAMS) and any(_names(word, folders) for word in words)
        ours = ours or pid in inside
        if ours or not set(re.findall(r"[0-9a-f]{64}", named)).isdisjoint(ids):
            found.append(pid)
    return found


def alive(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped isn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def frozen(pid: int) -> bool:
    """Whether this process is stopped, with all of its threads; 0, or one that is gone, isn't."""
    states = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            states.add(stat.read_text().rpartition(")")[2].split()[0])
    return states == {"T"}


def _members(groups: Iterable[Path]) -> Iterator[int]:
    for group in groups:
        for folder, _, _ in os.walk(group):
            try:
                yield from map(int, Path(folder, "cgroup.procs").read_text().split())
            except OSError:
                pass  # it went meanwhile


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


def _names(word: str, folders: Collection[Path]) -> bool:
    path = word.partition("=")[2] if word.startswith("--") else word.removeprefix("unix://")
    return any(path == str(folder) or path.startswith(f"{folder}/") for folder in folders)


def mounts(folders: Collection[Path]) -> list[str]:
    """The mount points in and at these folders, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
        if any(point == str(folder) or point.startswith(f"{folder}/") for folder in folders):
            found.append(point)
    return found[::-1]


def clear(
    folders: Collection[Path], ids: Collection[str] = (), groups: Collection[Path] = ()
) -> None:
    """Ends those processes at once, and removes those mounts and the containers' cgroups.

    Raises:
        RuntimeError: Some of it can't be removed; names it.
    """
    end(lambda: processes(folders, ids, groups))
    unmount(mounts(folders))
    for name in ids:
        for group in _groups(name):
            _remove_group(group)
    for group in groups:
        _remove_group(group)
    left = [*processes(folders, ids, groups), *mounts(folders)]
    if left:
        raise RuntimeError(f"an engine left this behind and it can't be removed: {left}")


def end(found: Callable[[], list[int]]) -> None:
    """Kills the processes that are found, until none is, for 20 seconds at the most."""
    until = time.monotonic() + 20
    while (pids := found()) and time.monotonic() < until:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was on its way out
        time.sleep(0.02)


def unmount(points: Iterable[str]) -> None:
    """Detaches these mounts, busy or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    for point in points:
        libc.umount2(os.fsencode(point), _DETACH)


def _groups(name: str) -> Iterator[Path]:
    for parent in ("docker", "libpod_parent"):
        for root in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
            yield from root.glob(f"*{name}*")
        yield from Path("/sys/fs/cgroup", parent).glob(f"*{name}*")


def _remove_group(group: Path) -> None:
    # Threads of what was killed may be in it for a moment longer.
    until = time.monotonic() + 5
    while group.exists() and time.monotonic() < until:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # an empty cgroup harms nobody
                os.rmdir(folder)
        time.sleep(0.02)


def remove(folder: Path) -> None:
    """Removes a folder with whatever an engine made in it; gone is fine.

    What the kernel still lets go of, on a busy machine, is tried again.
    """
    until = time.monotonic() + 20
    while folder.exists() and time.monotonic() < until:
        unmount(mounts([folder]))
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
