"""What tests fetch from package indexes, once, into the user's cache folder.

``python fetched.py`` fetches all of it, before tests begin that have no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import CACHE, say

AXE = "4.14.1"
TYPESCRIPT = "5.9.3"
KERNEL = "6.29.5"
# What that needs and what this environment's own kernel doesn't bring.
_WANTED = (f"ipykernel=={KERNEL}", "nest-asyncio==1.6.0")


def axe() -> tuple[Path | None, str]:
    """The script of axe-core, or why it isn't there."""
    folder, why = _from_npm("axe-core", AXE, r"axe\.min\.js")
    return folder and folder / "axe.min.js", why


def typescript() -> tuple[Path | None, str]:
    """TypeScript's compiler, a script for Node, or why it isn't there."""
    folder, why = _from_npm("typescript", TYPESCRIPT, r"lib/(_?tsc\.js|lib\..*d\.ts)")
    return folder and folder / "lib" / "tsc.js", why


def _from_npm(name: str, version: str, wanted: str) -> tuple[Path | None, str]:
    """The folder with some files of a package, got once with npm and kept; or why it isn't there.

    Args:
        name: The package.
        version: Which.
        wanted: A pattern of the names of these files.
    """
    folder = CACHE / f"{name}-{version}"
    if folder.is_dir():
        return folder, ""
    npm = shutil.which("npm")
    if npm is None:
        return None, f"no npm to get {name} with: apt-get install npm"
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        done = subprocess.run(
            [npm, "pack", "--silent", f"{name}@{version}"],
            cwd=made,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            return None, f"{name} could not be had from npm: {done.stderr.strip()[-200:]}"
        part = Path(made, "part")
        with tarfile.open(Path(made, done.stdout.split()[-1])) as archive:
            for member in archive.getmembers():
                path = member.name.partition("/")[2]
                if member.isfile() and re.fullmatch(wanted, path):
                    file = archive.extractfile(member)
                    assert file is not None
                    (part / path).parent.mkdir(parents=True, exist_ok=True)
                    (part / path).write_bytes(file.read())
        with suppress(OSError):  # another session was faster
            part.rename(folder)
    return folder, ""


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
    for found, why in (axe(), typescript(), kernel()):
        if found is None:
            say(f"some tests are skipped: {why}")
