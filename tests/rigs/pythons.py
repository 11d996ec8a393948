"""``python3 tests/rigs/pythons.py``: which supported Pythons are here; gets those that aren't.

They come by uv, from where it gets its builds of Python, and into the folder in which it keeps
them; ``environment.python`` looks there too.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

from environment import SUPPORTED, python, say


def main() -> int:
    """Tells of each; the exit code."""
    if lacking := [version for version in SUPPORTED if not found(version)]:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "uv"]
        uv = [sys.executable, "-m", "uv", "python", "install", *lacking]
        say(f"getting Python {', '.join(lacking)} by uv")
        for command in (pip, uv):
            if code := subprocess.run(command, check=False).returncode:
                return code
    for version in SUPPORTED:
        say(f"Python {version}: {found(version) or 'missing'}")
    return int(not all(map(found, SUPPORTED)))


def found(version: str) -> str:
    """The interpreter of that version, "" if there is none."""
    with contextlib.suppress(SystemExit):
        return python(version)
    return ""


if __name__ == "__main__":
    sys.exit(main())
