"""What an earlier version wrote is read, and what it started by name is there."""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus

HOMES = Path(__file__).parent / "homes"
# What became of the runs there, by their names.
ENDS = {
    "sum": (RunStatus.SUCCEEDED, Reason.NONE, 0),
    "bad": (RunStatus.FAILED, Reason.NON_ZERO_EXIT, 3),
    "stopped": (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER, 143),
    "": (RunStatus.FAILED, Reason.TIMED_OUT, 143),
}
# What is said of those that were written before a record had a cause.
CAUSES = {
    "sum": "",
    "bad": "Exit code 3",
    "stopped": "Stopped by you",
    "": "Stopped after its timeout of 1s",
}


@pytest.fixture(params=sorted(os.listdir(HOMES)))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a home that an earlier version wrote, as its owner has it."""
    home = Path(shutil.copytree(HOMES / request.param, tmp_path / "home"))
    (home / "open").mkdir()
    for folder, _, files in os.walk(home):
        os.chmod(folder, 0o700)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o600)
    for run in (home / "runs").iterdir():
        if not (run / RUN).exists():
            (home / "open" / run.name).touch(0o600)
    return home


def test_records_of_an_earlier_version_are_read(home: Path) -> None:
    """Each final record is what was written, field by field, and the files beside it are read."""
    history = RunHistory(str(home))
    records = {record.name: record for record in history.records() if record.status.final}
    assert {n: (r.status, r.reason, r.exit_code) for n, r in records.items()} == ENDS
    for record in records.values():
        written = json.loads((home / "runs" / record.run_id / RUN).read_text())
        assert record == RunRecord.from_json(written)
        del written["nonce"]  # a fact's own
        written["backend_message"] = written.pop("said")
        written["cause"] = CAUSES[record.name]
        assert written == record.to_json()
    frame = history.frame(extra=["log_path"])
    assert list(frame["name"].fillna("")) == ["gone", "", "stopped", "bad", "sum"]
    assert frame.loc[records["sum"].run_id, "labels"] == {"team": "blue"}


def test_a_frame_says_of_an_earlier_version_s_runs_what_their_records_say(home: Path) -> None:
    """The causes in a table are those of the records, which have none of their own."""
    frame = RunHistory(str(home)).frame()
    told = dict(zip(frame["name"].fillna(""), frame["cause"].fillna(""), strict=True))
    assert {name: told[name] for name in CAUSES} == CAUSES


def test_runs_of_an_earlier_version_can_be_had_again(home: Path) -> None:
    """Their output is there, their specs with files and script, and one that lives elsewhere."""
    manager = RunManager(str(home))
    run = manager.get("sum")
    assert run.logs("stdout") == "total 6\nß ✓\n"
    assert manager.get("bad").logs("stderr") == "oh no\n"
    runner, spec = manager.again(run.run_id, name="more")
    assert (runner, spec.name, spec.env, spec.files) == (
        "local",
        "more",
        {"A": "1"},
        ("numbers.txt",),
    )
    assert spec.script == "print('total', 6)\nprint('ß ✓')\n"
    (far,) = manager.recover()
    assert (far.status, far.reason) == (RunStatus.RUNNING, Reason.HOST_UNREACHABLE)
    manager.close()


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("runners.server:serve", "runners.local.server"),
        ("runners.docker_pull:main", "runners.docker.puller"),
    ],
)
def test_what_a_kernel_of_before_starts_is_there(name: str, now: str) -> None:
    """A kernel whose package was upgraded under it starts its helpers by their old names."""
    module, _, function = name.partition(":")
    old = import_module(f"qwex_jupyter.{module}")
    assert getattr(old, function) is getattr(import_module(f"qwex_jupyter.{now}"), function)
