"""How far many live runs are, as the monitor is told of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from local_helpers import until
from monitor_page import record

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.widgets import gauges, rows
from qwex_jupyter.widgets.feed import Feed
from qwex_jupyter.widgets.gauges import Gauges

NOW = 1_790_000_000.0


class Logs:
    """Logs of runs that a test writes; counts what is read of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self.reads: list[str] = []
        read = RunLog.read

        def counted(log: RunLog, stream: str, *more: Any) -> bytes:
            self.reads.append(os.path.basename(os.fspath(log.folder)))
            return read(log, stream, *more)

        monkeypatch.setattr(RunLog, "read", counted)

    def of(self, run_id: str) -> RunLog:
        """That of a run."""
        (self._folder / run_id).mkdir(exist_ok=True)
        return RunLog(str(self._folder / run_id))

    def write(self, run_id: str, text: str) -> None:
        """Adds to a log."""
        with open(self.of(run_id).path("stderr"), "a") as file:
            file.write(text)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logs:
    """Logs that a test writes."""
    return Logs(tmp_path, monkeypatch)


@pytest.mark.once
def test_a_log_is_read_when_it_has_grown(logs: Logs) -> None:
    """What a log says is told when it is new, and a log that stands still isn't read."""
    made = Gauges(logs.of)
    assert made.look(["a", "b"], NOW) == {}
    logs.write("a", "epoch 1/10\nepoch 2/10\n")
    changes = made.look(["a", "b"], NOW + 1)
    assert [(run, said and said.said) for run, said in changes.items()] == [("a", "2/10")]
    read = len(logs.reads)
    assert made.look(["a", "b"], NOW + 2) == {}
    assert len(logs.reads) == read
    logs.write("a", "a long line without any number\n" * 500)
    assert made.look(["a", "b"], NOW + 3) == {}
    said = made.of("a")
    assert said is not None
    assert said.percent == 20
    logs.write("a", "epoch 10/10\nsaved\n")
    assert made.look(["a", "b"], NOW + 4) == {"a": None}
    assert made.look(["b"], NOW + 5) == {}
    assert made.of("a") is None


@pytest.mark.once
def test_of_many_runs_some_are_looked_at_in_turn(logs: Logs) -> None:
    """However many live, a turn looks at forty, and each of them has its turn."""
    live = [f"{number:03}" for number in range(100)]
    made = Gauges(logs.of)
    for run_id in live:
        logs.write(run_id, "step 1/4\nstep 2/4\n")
    told: list[str] = []
    for turn in range(3):
        before = len(logs.reads)
        told += made.look(live, NOW + turn)
        assert len(logs.reads) - before <= gauges._RUNS == 40
    assert sorted(told) == live


@pytest.mark.once
def test_a_log_that_is_gone_says_nothing(logs: Logs) -> None:
    """A run that is deleted meanwhile is no error."""
    made = Gauges(logs.of)
    logs.write("a", "step 1/4\nstep 2/4\n")
    assert list(made.look(["a"], NOW)) == ["a"]
    os.unlink(logs.of("a").path("stderr"))
    os.mkdir(logs.of("a").path("stderr"))
    assert made.look(["a"], NOW + 1) == {}


@pytest.mark.once
def test_a_row_has_what_a_program_or_a_backend_says() -> None:
    """A pull's percent and a program's progress are the same fields of a row."""
    pull = dict(zip(rows.FIELDS, rows.of_record(record(0, "PENDING", progress="33%")), strict=True))
    assert (pull["progress"], pull["done"], pull["until"]) == ("33%", 33, None)
    said = gauges.Progress(0.62, "training", "62%", NOW + 42.4)
    plain = rows.of_record(record(0, "RUNNING"))
    row = rows.with_progress(plain, said)
    found = dict(zip(rows.FIELDS, row, strict=True))
    assert {name: found[name] for name in ("progress", "done", "doing", "until")} == {
        "progress": "62%",
        "done": 62,
        "doing": "training",
        "until": NOW + 42,
    }
    assert rows.with_progress(row, None) == plain


def test_a_page_is_told_how_far_a_program_is(manager: RunManager, tmp_path: Path) -> None:
    """What a live program prints comes to the pages by itself, and goes with its end."""
    go = tmp_path / "go"
    script = f"printf 'epoch %s/4\\n' 1 3; until [ -e {go} ]; do sleep 0.05; done"
    feed, told = Feed(manager), list[dict[str, Any]]()
    feed.join(told.append)
    run = manager.submit(JobSpec(script=script), "local")

    def newest() -> dict[str, Any]:
        row: dict[str, Any] = {}
        for message in list(told):
            packed = message.get("rows", {})
            if run.run_id in packed.get("run", []):
                row |= {name: packed[name][0] for name in ("done", "doing") if name in packed}
            for run_id, fields in message.get("changed", []):
                row |= fields if run_id == run.run_id else {}
        return row

    until(lambda: newest().get("done") == 75)
    assert newest()["progress"] == "3/4"
    whole = feed.whole()["rows"]
    assert whole["done"] == [75]
    go.touch()
    until(lambda: newest().get("status") == "SUCCEEDED")
    assert newest()["done"] is None
    assert newest()["progress"] == ""
    folder = Path(manager.history.folder(run.run_id))
    assert not any("3/4" in path.read_text() for path in folder.glob("*.json"))
    feed.leave(told.append)


def test_a_page_is_told_how_long_it_usually_takes(manager: RunManager, tmp_path: Path) -> None:
    """Of what says nothing, a page is told how long it took before."""
    go = tmp_path / "go"
    go.touch()
    spec = JobSpec(script=f"sleep 0.3; until [ -e {go} ]; do sleep 0.05; done")
    first = manager.submit(spec, "local").wait()
    go.unlink()
    feed, told = Feed(manager), list[dict[str, Any]]()
    feed.join(told.append)
    run = manager.submit(spec, "local")

    def usual() -> float | None:
        whole = feed.whole()["rows"]
        made = {} if run.run_id not in whole["run"] else whole
        return made["usual"][made["run"].index(run.run_id)] if made else None

    until(lambda: usual() is not None)
    assert usual() == pytest.approx(first.record.duration(), abs=0.06)
    go.touch()
    run.wait()
    until(lambda: usual() is None)
    feed.leave(told.append)


def test_many_live_runs_cost_next_to_nothing(logs: Logs) -> None:
    """A turn, while 200 runs live whose logs stand still, is a few milliseconds of a processor."""
    live = [f"{number:03}" for number in range(200)]
    made = Gauges(logs.of)
    for run_id in live:
        logs.write(run_id, "step 1/4\nstep 2/4\n" + "x" * 4000)
    for turn in range(5):
        made.look(live, NOW + turn)
    begun = time.process_time()
    for turn in range(10):
        made.look(live, NOW + 10 + turn)
    assert (time.process_time() - begun) / 10 < 0.05
