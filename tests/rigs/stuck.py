"""What stands behind a run that doesn't end: its files and its processes, in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

_TOLD = ("wchan", "syscall", "stack")


def describe(home: Path) -> str:
    """The open runs of a home: what their folders hold, and what their processes wait for."""
    lines = []
    for run_id in sorted(os.listdir(home / "open")) if (home / "open").is_dir() else ():
        folder = home / "runs" / run_id
        lines.append(f"{run_id} is open")
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            try:
                size = path.stat().st_size
            except OSError:
                continue  # it got its name meanwhile
            text = _read(path) if path.suffix == ".json" or size < 2000 else ""
            lines.append(f"  {path.name}, {size} bytes: {text.strip()}")
        lines += [f"  {line}" for pid in sorted(_processes(folder)) for line in _process(pid)]
    return "\n".join(lines)


def _processes(folder: Path) -> Iterator[int]:
    """Supervisor and program as launch.json names them, and all that is of their session."""
    try:
        launch = json.loads(_read(folder / "launch.json"))
        leader, supervisor = launch["leader"]["pid"], launch["pid"]
    except (ValueError, KeyError):
        leader = supervisor = -1
    mark = f"QWEX_RUN_ID={folder.name}"
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            fields = _read(Path("/proc", name, "stat")).rpartition(")")[2].split()
            ours = len(fields) > 3 and int(fields[3]) == supervisor
            if int(name) in (leader, supervisor) or ours or mark in _read(_environ(name)):
                yield int(name)


def _environ(name: str) -> Path:
    return Path("/proc", name, "environ")


def _process(pid: int) -> Iterator[str]:
    folder = Path("/proc", str(pid))
    words = _read(folder / "cmdline").replace("\0", " ").strip()
    fields = _read(folder / "stat").rpartition(")")[2].split()
    state = f"state {fields[0]}, parent {fields[1]}, group {fields[2]}" if fields else "gone"
    yield f"process {pid}: {words or '(no command line)'}, {state}"
    for name in _TOLD:
        text = _read(folder / name).strip()
        yield f"  {name}: {text.replace(chr(10), ' < ')}"
    try:
        ends = {fd: os.readlink(folder / "fd" / fd) for fd in os.listdir(folder / "fd")}
    except OSError:
        return  # it ended meanwhile
    yield f"  descriptors: {ends}"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
