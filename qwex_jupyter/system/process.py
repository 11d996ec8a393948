"""Which process is meant: a pid alone names a stranger as soon as it is used again.

A process is pid + start ticks + boot + pid namespace + host. On Linux these come from
``/proc`` (proc(5)); on macOS from ``ps`` and ``sysctl``. On Windows a process is pid + the moment
it began + host, and where that isn't told, nothing is said of it. Standard library only: the
supervisor imports this module.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.system import windows

# Tests switch this off to run the paths of systems that have no /proc.
use_proc = os.path.exists("/proc/self/stat")

ALIVE, GONE, ELSEWHERE = "alive", "gone", "elsewhere"

# The inode number of the first pid namespace of every Linux (PROC_PID_INIT_INO in
# include/linux/proc_ns.h): outside containers.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"

Identity = dict[str, Any]

# States of a process that will never run again.
_DEAD = (b"Z", b"X")

_place: dict[bool, Identity] = {}


def check_platform() -> None:
    """Refuses a platform on which this package can't work.

    Raises:
        RunnerUnavailable: It can't; says where it can.
    """
    if sys.platform == "emscripten":
        raise RunnerUnavailable(
            "A browser can't start processes: open this notebook in a Jupyter on a machine."
        )


def check_processes() -> None:
    """Refuses a platform on which programs can't be run as this package promises.

    Raises:
        RunnerUnavailable: They can't; says where they can.
    """
    check_platform()
    if windows.HERE:
        raise RunnerUnavailable(
            "Processes of this machine need Linux or macOS: on Windows use Jupyter inside WSL 2, "
            "or take another place: --image for a container, --runner=k8s for a cluster."
        )


def place() -> Identity:
    """Where this process lives: host, machine, boot and pid namespace, as strings.

    An empty string means that this system doesn't tell.
    """
    if use_proc not in _place:
        if use_proc:
            machine = _first_line("/etc/machine-id") or _first_line("/var/lib/dbus/machine-id")
            boot = _first_line("/proc/sys/kernel/random/boot_id")
            namespace = _readlink("/proc/self/ns/pid")
        elif windows.HERE:
            machine = boot = namespace = ""
        else:
            machine = _ask("sysctl", "-n", "kern.uuid")
            boot = _ask("sysctl", "-n", "kern.bootsessionuuid")
            namespace = ""
        host = os.environ.get("COMPUTERNAME", "") if windows.HERE else os.uname().nodename
        _place[use_proc] = {"host": host, "machine": machine, "boot": boot, "pidns": namespace}
    return dict(_place[use_proc])


def identify(pid: int) -> Identity:
    """The full identity of a living process of this machine; ticks is "" when it is gone."""
    ticks = (windows.began(pid) or "") if windows.HERE else _ticks_and_state(pid)[0]
    return {"pid": pid, "ticks": ticks, **place()}


def standing(who: Identity) -> str:
    """Whether that process lives: ALIVE, GONE, or ELSEWHERE when it can't be told from here.

    A zombie is gone: it will never run again. After another boot of the same machine,
    outside containers, everything from before is gone.
    """
    here = place()
    if who.get("host") != here["host"] or who.get("machine") != here["machine"]:
        return ELSEWHERE
    if who.get("pidns") != here["pidns"]:
        return ELSEWHERE
    if who.get("boot") != here["boot"]:
        return GONE if here["pidns"] in ("", _FIRST_PID_NAMESPACE) else ELSEWHERE
    if windows.HERE:
        began = windows.began(int(who["pid"]))
        if began is None or not who.get("ticks"):
            return ELSEWHERE  # the system didn't tell, now or when it was identified
        return ALIVE if began == who["ticks"] else GONE
    ticks, state = _ticks_and_state(int(who["pid"]))
    if not ticks or ticks != who.get("ticks") or state.startswith("Z"):
        return GONE
    return ALIVE


def rebooted(who: Identity) -> bool:
    """Whether that process belongs to an earlier boot of this same machine."""
    return standing(who) == GONE and who.get("boot") != place()["boot"]


def send(who: Identity, number: int) -> bool:
    """Sends a signal to exactly that process, never to one that has its pid now.

    With a pidfd (Linux 5.3) the identity is looked at after the descriptor holds the
    process, so the signal can't reach another; without, it is looked at directly before.

    Returns:
        Whether the signal was delivered.
    """
    pid = int(who["pid"])
    try:
        if use_proc and hasattr(os, "pidfd_open"):
            held = os.pidfd_open(pid)
            try:
                if standing(who) != ALIVE:
                    return False
                signal.pidfd_send_signal(held, number)
            finally:
                os.close(held)
        elif standing(who) == ALIVE:
            os.kill(pid, number)
        else:
            return False
    except OSError:
        return False
    return True


def members(leader: Identity, mark: str, session: int, *, below: int = 0) -> list[Identity]:
    """The living processes of one run: its process group and what carries its mark.

    A group's number is a pid, and outlives its leader only while the group has members. So
    the group is the run's while the leader is there (a zombie will do); when another has the
    leader's pid, it is that one's; when nobody has it, each member must be of the session.

    Args:
        leader: The first process of the run, whose pid is the number of the group.
        mark: ``QWEX_RUN_ID=...`` as it stands in the environment of every process of the
            run; it finds, on Linux, what left the group into a session of its own.
        session: The pid of the run's supervisor, which leads the session.
        below: A process that is known to live, as it asks itself: on Linux what descends from
            it counts too, whatever it made of its environment; see `descendants`.

    Returns:
        Identities, each with ``in_group``: whether a signal to the group reaches it.
    """
    group = int(leader["pid"])
    here = place()
    if any(leader.get(key) != here[key] for key in here):
        return []
    ticks, _ = _ticks_and_state(group)
    if ticks and ticks != leader.get("ticks"):
        group = -1
    found = _group_by_proc(group, mark.encode(), below) if use_proc else _group_by_ps(group)
    return [
        {"pid": pid, "ticks": began, "in_group": own, **here}
        for pid, began, own, marked in found
        if marked or ticks or _session(pid) == session
    ]


def descendants(root: int, mark: str) -> list[Identity]:
    """The living processes below one, on Linux; none where there is no /proc.

    What belongs to another run is none of them, nor what is below it: the processes of this
    package that look after one, and what carries another mark.

    Args:
        root: The process; it isn't among them.
        mark: ``QWEX_RUN_ID=...`` of the run whose they are.

    Returns:
        Identities, each with ``did``: whatever of it changes when it does something, and
        ``busy``: whether it wants a processor, or waits for a disk, at this moment.
    """
    if not use_proc:
        return []
    here = place()
    stats = _stats()
    return [
        {
            "pid": pid,
            "ticks": stats[pid][19].decode(),
            "did": (*stats[pid][11:13], _read(f"/proc/{pid}/schedstat").split()[:1]),
            "busy": stats[pid][0] in (b"R", b"D"),
            **here,
        }
        for pid in _below(root, stats, mark.encode())
        if stats[pid][0] not in _DEAD
    ]


def name_of(pid: int) -> str:
    """What a process is called, as ``ps`` says it; "" when it is gone."""
    if use_proc:
        return _first_line(f"/proc/{pid}/comm")
    return os.path.basename(_ask("ps", "-o", "comm=", "-p", str(pid)))


def resident_bytes(pids: list[int], enough: int) -> int:
    """Memory of these processes in bytes; shared pages are counted once when it matters.

    Args:
        pids: Process ids.
        enough: Only when the cheap sum (resident pages, shared ones counted in each
            process) is above this is the exact and slow one (``smaps_rollup``) taken.
    """
    if not use_proc:
        lines = _ask("ps", "-o", "rss=", "-p", ",".join(map(str, pids))).split()
        return sum(int(word) for word in lines if word.isdigit()) * 1024
    page = os.sysconf("SC_PAGE_SIZE")
    cheap = 0
    for pid in pids:
        words = _first_line(f"/proc/{pid}/statm").split()
        cheap += int(words[1]) * page if len(words) > 1 else 0
    if cheap <= enough:
        return cheap
    exact = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                exact += int(line.split()[1]) * 1024
    return exact or cheap


def umask() -> int:
    """The file mode mask of this process, without the race of setting it."""
    for line in _read("/proc/self/status").splitlines() if use_proc else ():
        if line.startswith(b"Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _ticks_and_state(pid: int) -> tuple[str, str]:
    if use_proc:
        # comm may hold spaces and brackets: the fields begin after the last bracket.
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return (fields[19].decode(), fields[0].decode()) if len(fields) > 19 else ("", "")
    words = _ask("ps", "-o", "stat=,lstart=", "-p", str(pid)).split()
    return (" ".join(words[1:]), words[0]) if words else ("", "")


def _stats() -> dict[int, list[bytes]]:
    """The fields of /proc/PID/stat behind the name, proc(5), of each process."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
            if len(fields) > 19:
                found[int(name)] = fields
    return found


def _below(root: int, stats: dict[int, list[bytes]], mark: bytes) -> set[int]:
    """The descendants of a process, dead ones too, less those of another run."""
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    more = [root]
    while more:
        for pid in children.get(more.pop(), ()):
            words = _read(f"/proc/{pid}/cmdline").split(b"\0")
            if _looks_after_runs(words) or _is_of_another(pid, mark):
                continue
            found.add(pid)
            # A process without a command line is about to end, and nobody can say what it was.
            # What is below it will be below another one in a moment.
            if words[0]:
                more.append(pid)
    return found


def _looks_after_runs(words: list[bytes]) -> bool:
    """Whether a command line is that of a server, supervisor, scribe or launcher of ours."""
    return b"-c" in words[:9] and not {b"qwex-supervisor", b"qwex-pull"}.isdisjoint(words[:10])


def _is_of_another(pid: int, mark: bytes) -> bool:
    name = mark.partition(b"=")[0] + b"="
    for word in _read(f"/proc/{pid}/environ").split(b"\0"):
        if word.startswith(name):
            return word not in (mark, name)
    return False


def _group_by_proc(group: int, mark: bytes, root: int) -> list[tuple[int, str, bool, bool]]:
    """Pid, ticks, whether it is in the group, whether it carries the mark or is below the root."""
    found = []
    mine = os.getuid()
    stats = _stats()
    below = _below(root, stats, mark) if root else set()
    for pid, fields in stats.items():
        if fields[0] in _DEAD:
            continue
        own, marked = int(fields[2]) == group, pid in below
        if not own and not marked:
            try:
                if mine and os.stat(f"/proc/{pid}").st_uid != mine:
                    continue
            except OSError:
                continue
            marked = mark in _read(f"/proc/{pid}/environ").split(b"\0")
            if marked:
                marked = not _looks_after_runs(_read(f"/proc/{pid}/cmdline").split(b"\0"))
        if own or marked:
            found.append((pid, fields[19].decode(), own, marked))
    return found


def _group_by_ps(group: int) -> list[tuple[int, str, bool, bool]]:
    found = []
    for line in _ask("ps", "-A", "-o", "pid=,pgid=,stat=,lstart=").splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == str(group) and not words[2].startswith("Z"):
            found.append((int(words[0]), " ".join(words[3:]), True, False))
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _first_line(path: str) -> str:
    return _read(path).split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _ask(*command: str) -> str:
    """The output of a small system tool, "" when it isn't there or fails.

    Read from a pipe and not waited for by exit status: where SIGCHLD is ignored, a
    status of 0 is invented by the standard library.
    """
    import subprocess  # not at the head: where /proc is, no supervisor needs it

    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "") + ":/bin:/usr/bin:/usr/sbin"},
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


def began_at(pid: int) -> float | None:
    """When a process of this machine began, seconds since the epoch; None where it isn't seen.

    From its start in ticks and the time since boot, proc(5); right to some hundredths.
    """
    try:
        ticks, _ = _ticks_and_state(pid)
        up = float(_first_line("/proc/uptime").split()[0])
        return time.time() - (up - int(ticks) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None
