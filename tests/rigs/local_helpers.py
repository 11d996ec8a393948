"""What the tests of runs share: waiting for something, specs, and what a disk or user is like."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from qwex_jupyter import cli
from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.submission import command_text
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.local import client
from qwex_jupyter.system import frontend, process

PATIENCE = 90.0
T = TypeVar("T")
needs_proc = pytest.mark.skipif(not process.use_proc, reason="needs Linux: it looks into /proc")


def end(run: Run) -> RunRecord:
    """Its final record."""
    return run.wait(timeout=PATIENCE, check=False).record


def until(seen: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What is seen as soon as it is true; fails when it doesn't come.

    It looks less and less often, as a look may be a question to a backend.
    """
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (found := seen()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.05)
    return found


def contents(folder: str | Path) -> Iterator[tuple[Path, bytes]]:
    """The files below a folder, with what is in them; what goes meanwhile is none of them."""
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.read_bytes()


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Until the end of the block there is no room on a disk."""
    path = disk / "filling"
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
    except OSError as error:
        assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        path.unlink()


def sh(text: str, **values: Any) -> JobSpec:
    """A spec that runs this text with sh."""
    return JobSpec(command=("sh",), script=text, **values)


def python(text: str, **values: Any) -> JobSpec:
    """A spec that runs this text with this Python."""
    script = textwrap.dedent(text)
    return JobSpec(command=(sys.executable,), script=script, script_name="cell.py", **values)


def prepared(manager: RunManager, spec: JobSpec, runner: str = "local", **values: Any) -> Run:
    """A run whose folder is whole and which nobody has handed over; ``values`` into spec.json.

    A backend is asked who it is only where ``values`` have no identity.
    """
    now = time.time()
    run_id = new_run_id(now)
    spec_fact = {
        "version": 1,
        "run_id": run_id,
        "runner": runner,
        "identity": values.get("identity") or manager.runner(runner).identity(),
        "created_at": now,
        "command": command_text(spec),
        "spec": spec.to_json(),
        **frontend.here(),
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


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has each server of supervisors that is started from now on execute this first."""
    before = (
        "import os, sys; sys.path.append(sys.argv[1])\n"
        "from qwex_jupyter.disk import facts\n"
        "from qwex_jupyter.runners.local import remains, server, supervisor\n"
    )

    def boot(text: str) -> None:
        monkeypatch.setattr(client, "_BOOT", f"{before}{text}\nserver.serve()\n")

    return boot


def launch_of(run: Run) -> dict[str, Any]:
    """What launch.json says."""
    found = facts.read_fact(run.log.folder, LAUNCH)
    assert found is not None
    return found
