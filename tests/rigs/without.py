"""A Python in which libraries are not installed, though they are."""

from __future__ import annotations

import os
import subprocess
import sys

# What the package can do without.
ALL = ("docker", "kubernetes", "anywidget")
# As the import system says it of what isn't there.
_BLOCK = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
"""
# Prints the modules that can't be imported for want of a library; those that begin with a test.
IMPORT_ALL = """
import importlib, pkgutil, qwex_jupyter
for found in pkgutil.walk_packages(qwex_jupyter.__path__, "qwex_jupyter.", onerror=lambda name: 1):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        assert error.name in ("docker", "kubernetes", "anywidget"), (found.name, error)
        print(found.name)
"""


def python(
    gone: tuple[str, ...], code: str, *words: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process.

    Args:
        gone: The libraries that aren't there.
        code: The code.
        words: Its arguments.
        more: Further variables.
    """
    return subprocess.run(
        [sys.executable, "-c", _BLOCK.format(gone=gone) + code, *words],
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def qwex(gone: tuple[str, ...], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``qwex ...`` in a terminal without these libraries."""
    code = "sys.argv[0] = 'qwex'\nfrom qwex_jupyter.cli import entry\n"
    if words[:1] == ("doctor",):  # who waits for more than two seconds here
        code += "from qwex_jupyter.commands import doctor\ndoctor._PATIENCE = 60.0\n"
    code += "entry()"
    return python(gone, code, *words, **more)
