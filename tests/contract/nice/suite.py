"""The contract on the nice runner, for a Python in which this package is installed.

``python -m pip install 'qwex-jupyter[testing]' . && python -m pytest suite.py``
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.testing.contract import RunnerContract, ShellPrograms


class Programs(ShellPrograms):
    """Behaviours of programs of this machine."""

    def leaves_children(self, seconds: float) -> JobSpec:
        """One child in the program's group, and one in a session of its own."""
        return self.script(
            f"sleep {seconds} &\n"
            "echo pid $!\n"
            f"setsid sh -c 'echo pid $$; echo ready; exec sleep {seconds}' &\n"
            f"echo pid $$\nsleep {seconds}"
        )


class TestNice(RunnerContract):
    """The contract, on the nice runner."""

    runner = "nice"
    programs = Programs()
    brief = 1

    @pytest.fixture(autouse=True)
    def spool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each test has a spool of its own."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
