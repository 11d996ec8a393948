"""How the bash of an image is asked which command of a script failed, and what its answer means.

By the words of the command, and not by a variable of the container: an image's ENTRYPOINT may be
a script of bash itself, and only inside is it known what BASH_ENV the image has of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from qwex_jupyter.disk.folder import BASH_ENV, FAILED, SPEC, RunFolder
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.container.conventions import INSIDE, default_interpreter
from qwex_jupyter.system import files

# Where the file lies that bash reads before the script.
ENV_FILE = f"{INSIDE}/{BASH_ENV}"


def asking(argv: Sequence[str], path: str, script: str | None) -> list[str] | None:
    """The words of a command that has bash tell it; None where there is nobody to be asked.

    Args:
        argv: What runs the script.
        path: Where that lies.
        script: Its text; None where there is none.
    """
    default = default_interpreter()
    if os.path.basename(path) in (BASH_ENV, FAILED):
        return None  # the script itself has that place
    if list(argv[: len(default)]) == default:
        words = ["bash", "-eo", "pipefail"]
        ask = default[2].replace("exec bash", f"{bash.shell_text(words, ENV_FILE)} && exec bash")
        return ["sh", "-c", ask, *argv[3:]] if bash.can_tell(words, script) else None
    words = list(argv[: argv.index(path)]) if path in argv else []
    if not bash.can_tell(words, script):
        return None
    at = 1 if os.path.basename(words[0]) == "env" else 0
    # With -p it reads no BASH_ENV itself.
    ask = f'{bash.shell_text(words, ENV_FILE)}; exec "$0" "$@"'
    return [*argv[: at + 1], "-pc", ask, *argv[at:]]


def failed(folder: RunFolder, answer: str) -> dict[str, Any] | None:
    """Which command of a run's script failed, by what bash has told; None where that isn't sure."""
    fact = folder.glance(SPEC) or {}
    name = str((fact.get("spec") or {}).get("script_name"))
    try:
        with open(os.open(os.path.join(folder, name), files.READ), "rb") as file:
            script = file.read().decode("utf-8", "replace")
    except OSError:
        return None  # deleted meanwhile
    return bash.failed(answer, script, f"{INSIDE}/{name}")
