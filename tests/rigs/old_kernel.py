"""A kernel of an older ipykernel beside the one of this environment, from the package index.

What a widget's message does while a cell runs is the kernel's choice, and it was another one
before version 7.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from environment import CACHE

VERSION = "6.29.5"
# What that needs and what this environment's own kernel doesn't bring.
_WANTED = (f"ipykernel=={VERSION}", "nest-asyncio==1.6.0")


def packages() -> tuple[Path | None, str]:
    """The folder of the older kernel, got once and kept; or why it isn't there."""
    folder = CACHE / f"ipykernel-{VERSION}"
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
        return None, f"no ipykernel {VERSION} from the package index: {done.stderr.strip()[-200:]}"
    try:
        part.rename(folder)
    except OSError:
        shutil.rmtree(part)  # another session was faster
    return folder, ""


def install(folder: Path, kernels: Path) -> str:
    """Puts it among a server's kernels, as one more that has all else of this environment."""
    name = f"ipykernel-{VERSION}"
    # Not by PYTHONPATH, which the runs would inherit.
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from ipykernel import kernelapp; "
    start += "kernelapp.launch_new_instance()"
    spec = {
        "argv": [sys.executable, "-c", start, "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
    }
    (kernels / name).mkdir(parents=True, exist_ok=True)
    (kernels / name / "kernel.json").write_text(json.dumps(spec))
    return name
