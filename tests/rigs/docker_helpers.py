"""What tests on engines share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from engines import Engine

from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.docker import runner

# docker-py leaves a socket whose connect failed to the collector (docker/transport/unixconn.py).
LEAVES_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
# A busy Podman takes longer than 10 s for its version; how silence is told is tested by itself.
UNHURRIED: Mapping[str, Mapping[str, Any]] = {"docker": {"patience": Patience(answer=60.0)}}


@pytest.fixture
def engine_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines see this machine's files, also where the tests themselves are in a container."""
    monkeypatch.setattr(runner, "_IN_CONTAINER", ())


def let_off(engine: Engine, run: Run) -> None:
    """Ends a test whose output is missing where its engine says that it dropped some meanwhile.

    A runtime that doesn't get to open a stream before a short program has ended, on a busy
    machine, closes it unread. An engine doesn't say of which container it speaks, but when.
    """
    record = run.record
    if record.exit_code is None or run.logs():
        return
    if says_it_dropped(engine, record.created_at, (record.finished_at or 0.0) + 2.0):
        pytest.xfail("the engine dropped output: reading from a closed fifo")


def says_it_dropped(engine: Engine, since: float, until: float) -> bool:
    """Whether an engine of ours says that it dropped output between these moments."""
    if not engine.owned.ours:
        return False
    said = engine.log.read_text(errors="replace")
    found = re.findall(r'^time="([^"]+)" .*reading from a closed fifo', said, re.MULTILINE)
    return any(since <= datetime.fromisoformat(when).timestamp() <= until for when in found)
