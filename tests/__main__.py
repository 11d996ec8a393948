"""``python3 tests``: sets everything up and runs all tests. Arguments go to pytest.

With ``CI=true`` it also installs what the machine lacks, runs every supported Python and
both ends of the dependency ranges, and a skipped test is a failure. Without, it uses what
is there and says what was skipped and how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import CI, ROOT, environment, install_packages, say

SYSTEM = {"chromium": ["chromium", "fonts-dejavu-core"], "ps": ["procps"], "faketime": ["faketime"]}
# What depends on the versions of Python and of the libraries; the rest is run once.
MATRIX = ["-m", "not browser and not chaos"]


def main() -> int:
    """Runs it all; the exit code."""
    for program, packages in SYSTEM.items():
        if shutil.which(program) is None:
            if CI:
                install_packages(packages, why=f"{program}, for the tests")
            else:
                say(f"without {program} some tests are skipped: apt-get install {packages[0]}")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    main_python = environment(".venv", "[test]")
    if CI:
        checks = [
            ["-m", "ruff", "check", "."],
            ["-m", "ruff", "format", "--check", "."],
            ["-m", "mypy"],
        ]
        for check in checks:
            say(" ".join(check[1:]))
            if subprocess.run([main_python, *check], cwd=ROOT, check=False).returncode:
                return 1
    code = _pytest(main_python, sys.argv[1:], clean)
    if code or not CI:
        return code
    others = [
        ("3.12", ".venv-3.12", None),
        ("3.13", ".venv-3.13", None),
        ("3.11", ".venv-lowest", ROOT / "tests" / "lowest.txt"),
    ]
    for version, name, constraints in others:
        interpreter = environment(name, "[test]", constraints, version)
        code = _pytest(interpreter, MATRIX, clean)
        if code:
            return code
    return 0


def _pytest(interpreter: str, arguments: list[str], env: dict[str, str]) -> int:
    say(f"pytest {' '.join(arguments)} with {interpreter}")
    command = [interpreter, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
