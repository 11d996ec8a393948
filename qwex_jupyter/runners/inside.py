"""What is the same in every container, whoever runs it: paths, labels, the shell, defaults."""

from __future__ import annotations

import os
from collections.abc import Sequence

from qwex_jupyter.errors import SpecError
from qwex_jupyter.spec import JobSpec

# Where the cell's script lies, with the working folder of copies and a home.
INSIDE = "/qwex"
WORK, HOME = f"{INSIDE}/work", f"{INSIDE}/home"
# By which an object is known: its run, the history that this belongs to, and one submit of it.
RUN_LABEL, HISTORY_LABEL, NONCE_LABEL = "qwex.run", "qwex.history", "qwex.submit"
# With GPUs come data loaders, which hand tensors over in /dev/shm and die at the usual 64 MB.
GPU_SHM = 2 * 1024**3
PULLS = ("missing", "always", "never")


def default_interpreter() -> list[str]:
    """Bash where the image has it, else sh: found out inside, and replaced by what was found."""
    find = 'command -v bash >/dev/null && exec bash -eo pipefail "$0" "$@"; exec sh -e "$0" "$@"'
    return ["sh", "-c", find]


def is_python(spec: JobSpec, argv: Sequence[str]) -> bool:
    """Whether this is a Python script, which is to see its working folder on ``sys.path``."""
    return spec.script is not None and os.path.basename(argv[0]).startswith("python")


def when_to_pull(spec: JobSpec) -> str:
    """One of `PULLS`.

    Raises:
        SpecError: Another word.
    """
    pull = spec.options.get("pull", "missing")
    if pull not in PULLS:
        raise SpecError(f"--pull={pull!r}: choose one of {', '.join(PULLS)}.")
    return pull
