"""What the tests of local runs share."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter import cli, context, facts, process
from qwex_jupyter.history import new_run_id
from qwex_jupyter.manager import RunManager, command_text
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


def prepared(manager: RunManager, spec: JobSpec, **values: Any) -> Run:
    """A run whose folder is whole and which nobody has handed over; ``values`` into spec.json."""
    now = time.time()
    run_id = new_run_id(now)
    spec_fact = {
        "version": 1,
        "run_id": run_id,
        "runner": "local",
        "identity": manager.runner("local").identity(),
        "created_at": now,
        "command": command_text(spec),
        "spec": spec.to_json(),
        **context.here(),
        **values,
    }
    manager.history.create(spec, spec_fact)
    return Run(manager, run_id)


def terminal(
    capfd: pytest.CaptureFixture[str], *words: str, bound: float = PATIENCE
) -> tuple[int, str, str]:
    """Exit code and output of a verb in a terminal, which returns within the bound."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(words)), daemon=True)
    thread.start()
    thread.join(bound)
    assert not thread.is_alive(), f"qwex {' '.join(words)} doesn't return"
    assert codes, f"qwex {' '.join(words)} fell over"
    out, err = capfd.readouterr()
    return codes[0], out, err


@contextlib.contextmanager
def plain_user() -> Iterator[Path]:
    """A folder of a user who isn't root, and until the end this process is that user."""
    before = os.geteuid()
    uid = 12345 if before == 0 else before
    folder = Path(tempfile.mkdtemp(prefix="qwex-plain-"))
    os.chown(folder, uid, -1)
    os.seteuid(uid)
    try:
        yield folder
    finally:
        os.seteuid(before)
        shutil.rmtree(folder)


def launch_of(run: Run) -> dict[str, Any]:
    """What launch.json says."""
    found = facts.read_fact(run.log.folder, facts.LAUNCH)
    assert found is not None
    return found
