"""What tests fetch from package indexes, once, into the user's cache folder.

``python fetched.py`` fetches all of it, before tests begin that have no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import CACHE, say

AXE = "4.14.1"
KERNEL = "6.29.5"
# What that needs and what this environment's own kernel doesn't bring.
_WANTED = (f"ipykernel=={KERNEL}", "nest-asyncio==1.6.0")


def axe() -> tuple[Path | None, str]:
    """The script of axe-core, got once with npm and kept; or why it isn't there."""
    script = CACHE / f"axe-core-{AXE}" / "axe.min.js"
    if script.exists():
        return script, ""
    npm = shutil.which("npm")
    if npm is None:
        return None, "no npm to get axe-core with: apt-get install npm"
    script.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [npm, "pack", "--silent", f"axe-core@{AXE}"],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return None, f"axe-core could not be had from npm: {done.stderr.strip()[-200:]}"
    with tarfile.open(script.parent / done.stdout.split()[-1]) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        part = script.with_suffix(f".{os.getpid()}")
        part.write_bytes(member.read())
        part.rename(script)
    return script, ""


def kernel() -> tuple[Path | None, str]:
    """The folder of a kernel of before version 7; or why it isn't there."""
    folder = CACHE / f"ipykernel-{KERNEL}"
    if folder.is_dir():
        return folder, ""
    CACHE.mkdir(parents=True, exist_ok=True)
    part = CACHE / f"{folder.name}-{os.getpid()}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-compile", "--target", str(part), *_WANTED],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        return None, f"no ipykernel {KERNEL} from the package index: {done.stderr.strip()[-200:]}"
    try:
        part.rename(folder)
    except OSError:
        shutil.rmtree(part)  # another session was faster
    return folder, ""


if __name__ == "__main__":
    for found, why in (axe(), kernel()):
        if found is None:
            say(f"some tests are skipped: {why}")
