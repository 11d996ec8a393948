"""What the tests of local runs share."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter import facts, process
from qwex_jupyter.record import RunRecord
from qwex_jupyter.run import Run
from qwex_jupyter.spec import JobSpec

PATIENCE = 60.0
needs_proc = pytest.mark.skipif(not process.use_proc, reason="needs Linux: it looks into /proc")


def end(run: Run) -> RunRecord:
    """Its final record."""
    return run.wait(timeout=PATIENCE, check=False).record


def until(true: Callable[[], object]) -> None:
    """Returns when something is so; fails when it doesn't come."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def contents(folder: str | Path) -> Iterator[tuple[Path, bytes]]:
    """The files below a folder, with what is in them; what goes meanwhile is none of them."""
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.read_bytes()


def sh(text: str, **values: Any) -> JobSpec:
    """A spec that runs this text with sh."""
    return JobSpec(command=("sh",), script=text, **values)


def python(text: str, **values: Any) -> JobSpec:
    """A spec that runs this text with this Python."""
    script = textwrap.dedent(text)
    return JobSpec(command=(sys.executable,), script=script, script_name="cell.py", **values)


def launch_of(run: Run) -> dict[str, Any]:
    """What launch.json says."""
    found = facts.read_fact(run.log.folder, facts.LAUNCH)
    assert found is not None
    return found
