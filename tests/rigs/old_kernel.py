"""A kernel of an older ipykernel beside the one of this environment, from the package index.

What a widget's message does while a cell runs is the kernel's choice, and it was another one
before version 7.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fetched

VERSION = fetched.KERNEL


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
