"""What is the same in every container, whoever runs it: paths, labels, the shell, defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model import cause
from qwex_jupyter.model.spec import JobSpec

# Where the cell's script lies, with the working folder of copies and a home.
INSIDE = cause.INSIDE
WORK, HOME = f"{INSIDE}/work", f"{INSIDE}/home"
# By which an object is known: its run, the history that this belongs to, and one submit of it.
RUN_LABEL, HISTORY_LABEL, NONCE_LABEL = "qwex.run", "qwex.history", "qwex.submit"
# With GPUs come data loaders, which hand tensors over in /dev/shm and die at the usual 64 MB.
GPU_SHM = 2 * 1024**3


def default_interpreter() -> list[str]:
    """Bash where the image has it, else sh: found out inside, and replaced by what was found."""
    find = 'command -v bash >/dev/null && exec bash -eo pipefail "$0" "$@"; exec sh -e "$0" "$@"'
    return ["sh", "-c", find]


def when_to_pull(spec: JobSpec) -> str:
    """One of the choices that `options.PULL` declares."""
    return spec.options.get("pull", "missing")


def shm_of(spec: JobSpec) -> int | None:
    """How large ``/dev/shm`` is to be; None for as large as the backend makes it."""
    return spec.resources.shm_size or (GPU_SHM if spec.resources.gpus else None)


def target_of(word: str, parts: Sequence[str]) -> tuple[str, bool]:
    """Where a word of ``-v`` mounts something, and whether it may only be read there.

    Args:
        word: The whole word, for the message.
        parts: What stands between its colons.

    Raises:
        SpecError: It can't be mounted there.
    """
    target, mode = parts[1], parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise SpecError(f"-v {word}: behind the second colon stands ro or rw.")
    if not target.startswith("/"):
        raise SpecError(f"-v {word}: {target!r} must be a path inside, beginning with a slash.")
    if target == INSIDE or target.startswith(f"{INSIDE}/"):
        raise SpecError(f"-v {word}: {INSIDE} is where the cell's own script lies; take another.")
    return target, mode == "ro"


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for: a backend's own default stands where a value is empty."""
    return {name: value for name, value in values.items() if value}


def registry_of(image: str) -> str:
    """The registry that an image's name begins with; "" for Docker Hub."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


def context_words(spec: Mapping[str, Any]) -> list[str]:
    """The words by which a client is told of the context that a spec names; none without.

    Args:
        spec: What was asked, as it stands in ``spec.json``.
    """
    context = (spec.get("options") or {}).get("context")
    return ["--context", str(context)] if context else []
