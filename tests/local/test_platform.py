"""Systems on which this can't work say so in one sentence."""

from __future__ import annotations

import sys

import pytest

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.system import process, windows


def test_windows_is_told_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a process of this machine is refused in one sentence that names WSL 2."""
    monkeypatch.setattr(windows, "HERE", True)
    process.check_platform()
    with pytest.raises(RunnerUnavailable, match="WSL 2"):
        process.check_processes()


def test_a_browser_is_told_where_it_works(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """In JupyterLite the first use is one sentence that says what is needed."""
    monkeypatch.setattr(sys, "platform", "emscripten")
    with pytest.raises(RunnerUnavailable, match="Jupyter on a machine"):
        RunHistory(home)
