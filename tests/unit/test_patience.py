"""Patience is handed down: from a manager's settings to all that waits for its backend."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.patience import Patience


@pytest.mark.parametrize("name", ["docker", "k8s"])
def test_what_waits_for_a_backend_has_its_runners_patience(home: str, name: str) -> None:
    """Calls, streams, watches and readers of one runner have its patience, and no other's do."""
    given = Patience(log_silence=1.0)
    runner: Any = RunManager(home, settings={name: {"patience": given}}).runner(name)
    calls = runner._engine if name == "docker" else runner._cluster
    watches = runner._finder._mirrors.values() if name == "k8s" else ()
    found = [calls.patience, runner._reader.patience, runner._reader.guard._patience]
    assert all(each is given for each in [*found, *(mirror._patience for mirror in watches)])
    other: Any = RunManager(home).runner(name)
    assert other._reader.patience == Patience()


def test_nobody_changes_how_long_others_wait() -> None:
    """It can't be changed, only replaced."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Patience().idle = 0.0  # type: ignore[misc]
