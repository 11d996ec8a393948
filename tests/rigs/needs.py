"""What a test needs of the machine besides engines, a cluster and a browser."""

from __future__ import annotations

import shutil

import pytest


def need(program: str, package: str) -> None:
    """Skips the test where a program isn't there; names the package that has it."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here: apt-get install {package}")
