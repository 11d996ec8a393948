"""What the monitor tells its page: rows, changes, chunks, output, actions; and how often."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_helpers import until
from monitor_page import many, put, record

from qwex_jupyter.disk.folder import SPEC
from qwex_jupyter.display import tables
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.widgets import rows
from qwex_jupyter.widgets.details import about
from qwex_jupyter.widgets.feed import CHUNK, FIRST, Feed, feed_of
from qwex_jupyter.widgets.output import Output
from qwex_jupyter.widgets.rate import EVERY, Pulse

Message = dict[str, Any]


def unpack(packed: Message) -> list[Message]:
    """What `rows.pack` made, as the page reads it."""
    plain: dict[str, list[Any]] = {}
    for field, values in packed.items():
        if isinstance(values, dict):
            at = values["at"] or [0] * len(packed["run"])
            values = [values["of"][number] for number in at]
        plain[field] = values
    return [dict(zip(plain, each, strict=True)) for each in zip(*plain.values(), strict=True)]


# -- rows ------------------------------------------------------------------------------------


def test_a_row_is_the_same_from_a_record_and_from_columns(manager: RunManager) -> None:
    """What is read from the cache and what is observed live make equal rows."""
    made = [*many(20), record(30, "FAILED", labels={"a": "b"}, message="x " * 400, exit_code=137)]
    for each in made:
        if each.status.final:
            put(manager, each)
    from qwex_jupyter.history import cache

    found, order = cache.look(manager.history, rows.WANTED)
    by_id = rows.Rows(found, order)
    ended = [each for each in made if each.status.final]
    assert [by_id[each.run_id] for each in ended] == [rows.of_record(each) for each in ended]


def test_rows_survive_the_way_to_the_page() -> None:
    """Packed field by field and unpacked they are what they were, also one alone or none."""
    for count in (0, 1, 2, 50):
        made = [rows.of_record(each) for each in many(count)]
        packed = json.loads(json.dumps(rows.pack(made)))
        assert [tuple(row.values()) for row in unpack(packed)] == made


def test_a_row_holds_no_more_than_can_be_shown() -> None:
    """Long texts are cut, line breaks and control characters go."""
    made = record(0, "FAILED", command="a\n\x1b[31mb\x07" + "c" * 5000, message="m" * 5000)
    row = dict(zip(rows.FIELDS, rows.of_record(made), strict=True))
    assert row["command"].startswith("a bccc")
    assert len(row["command"]) == len(row["message"]) == 300


def test_only_what_differs_is_told() -> None:
    """A run that was observed once more has no news; one that started has status and time."""
    before = record(0, "PENDING")
    row = rows.of_record(before)
    assert (
        rows.difference(row, rows.of_record(replace(before, observed_at=before.observed_at + 9)))
        == {}
    )
    after = replace(before, status=RunStatus.RUNNING, started_at=before.created_at + 1.25)
    assert rows.difference(row, rows.of_record(after)) == {
        "status": "RUNNING",
        "started": after.started_at,
    }


def test_what_does_not_answer_says_when_it_was_last_seen() -> None:
    """Only while its backend is silent does a row carry the time of its last observation."""
    quiet = record(0, "RUNNING", reason="BackendUnreachable")
    row = dict(zip(rows.FIELDS, rows.of_record(quiet), strict=True))
    assert row["seen"] == quiet.observed_at
    assert rows.of_record(record(0, "RUNNING"))[rows.FIELDS.index("seen")] is None


def test_500_rows_are_small() -> None:
    """The rows that go with the widget take less than 75 kB."""
    made = [rows.of_record(each) for each in many(FIRST)]
    assert len(json.dumps(rows.pack(made))) < 75_000


# -- how often -------------------------------------------------------------------------------


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def run_for(pulse: Pulse, clock: Clock, seconds: float, ask: Callable[[], None]) -> int:
    """Lets so much time pass in steps of 10 ms; how many calls there were."""
    count = 0
    for _ in range(round(seconds * 100)):
        ask()
        while (call := pulse.take()[0]) is not None:
            call()
            count += 1
        clock.now += 0.01
    return count


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread takes what a test asks for."""
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)


def test_a_change_is_told_at_once_and_a_flood_four_times_a_second(still: None) -> None:
    """The first call comes without delay; however often it is asked for, then every 250 ms."""
    clock = Clock()
    pulse = Pulse(clock=clock)

    def call() -> None:
        pass

    pulse.ask(call)
    assert pulse.take() == (call, 0.0)
    assert 38 <= run_for(pulse, clock, 10.0, lambda: pulse.ask(call)) <= 41


def test_many_displays_share_one_pulse(still: None) -> None:
    """A hundred listeners are told 40 times a second together, each in its turn."""
    clock = Clock()
    pulse = Pulse(clock=clock)
    told = [0] * 100
    calls = [lambda i=i: told.__setitem__(i, told[i] + 1) for i in range(100)]

    def ask() -> None:
        for call in calls:
            pulse.ask(call)

    assert run_for(pulse, clock, 10.0, ask) <= 401
    assert max(told) - min(told) <= 1


def test_what_is_forgotten_is_not_called(still: None) -> None:
    """A display that was closed is told nothing more, and one may ask for later."""
    clock = Clock()
    pulse = Pulse(clock=clock)
    pulse.ask(print)
    pulse.forget(print)
    assert pulse.take()[0] is None
    pulse.ask(print, after=3.0)
    assert pulse.take()[1] == pytest.approx(3.0)


def test_one_that_fails_does_not_stop_the_others() -> None:
    """An error in one display is logged; the thread goes on."""
    pulse, called = Pulse(every=0.01), threading.Event()

    def fails() -> None:
        raise RuntimeError("on purpose")

    pulse.ask(fails)
    pulse.ask(called.set)
    assert called.wait(60)


# -- the feed --------------------------------------------------------------------------------


@pytest.fixture
def told() -> list[Message]:
    """What a page was told."""
    return []


@pytest.fixture
def feed(manager: RunManager, told: list[Message]) -> Iterator[Feed]:
    """A feed with a listener."""
    made = feed_of(manager)
    made.join(told.append)
    yield made
    made.leave(told.append)


def changed(told: list[Message]) -> dict[str, Message]:
    """All changes so far, by run."""
    found: dict[str, Message] = {}
    for message in told:
        for row in unpack(message.get("rows", {"run": []})):
            found[row["run"]] = row
        for run, fields in message.get("changed", ()):
            found.setdefault(run, {}).update(fields)
    return found


def test_one_feed_for_all_monitors(manager: RunManager) -> None:
    """Monitors of the same manager share its rows."""
    assert feed_of(manager) is feed_of(manager)


def test_a_run_is_told_from_its_submit_to_its_end(
    manager: RunManager, feed: Feed, told: list[Message]
) -> None:
    """A listener hears of a new run, and of its end with exit code, by changes alone."""
    run = manager.submit(JobSpec(script="sleep 0.5; exit 3"), "local")
    row = until(lambda: changed(told).get(run.run_id))
    assert row["command"]
    until(lambda: changed(told)[run.run_id]["status"] == "FAILED")
    row = changed(told)[run.run_id]
    assert (row["exit"], row["reason"]) == (3, "NonZeroExit")
    numbers = [message["number"] for message in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert told[-1]["counts"]["FAILED"] == told[-1]["total"] == 1


def test_what_others_do_is_seen(manager: RunManager, feed: Feed, told: list[Message]) -> None:
    """A run of another process is told of, to its end, and its deletion too."""
    other = RunManager(manager.history.home)
    run = other.submit(JobSpec(script="sleep 1"), "local")
    until(lambda: run.run_id in changed(told))
    until(lambda: changed(told)[run.run_id]["status"] == "SUCCEEDED")
    other.delete(run.run_id)
    until(lambda: run.run_id in told[-1].get("gone", ()))
    assert told[-1]["total"] == 0


def test_an_end_that_nobody_tells_is_seen(
    manager: RunManager, feed: Feed, told: list[Message]
) -> None:
    """A run may end after it was read and before it is first looked at."""
    ended = record(0, exit_code=0)
    put(manager, ended)
    feed._note(replace(ended, status=RunStatus.RUNNING, finished_at=None, elapsed=None))
    until(lambda: changed(told).get(ended.run_id, {}).get("status") == "SUCCEEDED")
    assert told[-1]["counts"]["SUCCEEDED"] == told[-1]["total"] == 1


def test_what_a_page_begins_with_is_now(manager: RunManager, feed: Feed) -> None:
    """The snapshot has the newest rows, all counts, and what lives however old it is."""
    feed._over.set()  # of the old one it would see that it has ended
    made = [record(i) for i in range(FIRST + 700)]
    for each in made:
        put(manager, each)
    feed.look()
    old = replace(made[3], status=RunStatus.RUNNING, finished_at=None, elapsed=None)
    feed._note(old)
    whole = feed.whole()
    ids = [row["run"] for row in unpack(whole["rows"])]
    assert ids == [each.run_id for each in made[: -FIRST - 1 : -1]] + [old.run_id]
    assert (whole["total"], sum(whole["counts"].values())) == (FIRST + 700, FIRST + 700)
    assert whole["before"] == made[700].run_id


def test_older_rows_come_in_chunks(manager: RunManager) -> None:
    """Asked for what is older, the feed gives chunk after chunk, each run once."""
    made = [record(i) for i in range(FIRST + 2 * CHUNK + 30)]
    feed = feed_of(manager)
    feed._rows.update({each.run_id: rows.of_record(each) for each in made})
    before, ids = made[-FIRST].run_id, []
    sizes = []
    while before:
        chunk = feed.more(before)
        found = [row["run"] for row in unpack(chunk["rows"])]
        sizes.append(len(found))
        ids += found
        before = chunk["before"]
    assert sizes == [CHUNK, CHUNK, 30]
    assert sorted(ids) == [each.run_id for each in made[:-FIRST]]


def test_a_flood_of_changes_is_a_few_small_messages(feed: Feed, told: list[Message]) -> None:
    """One row that changes 20 times a second is told four times a second, by what changed."""
    feed._over.set()  # of empty folders it would see that nothing runs there
    made = many(50)
    for each in made:
        Path(feed._history.runs_folder, each.run_id).mkdir()
        feed._note(each)
    until(lambda: told and told[-1]["total"] == 50)
    time.sleep(0.3)
    told.clear()
    row = replace(made[3], status=RunStatus.RUNNING)
    begun = time.monotonic()
    for i in range(40):
        feed._note(replace(row, progress=f"{i}%"))
        time.sleep(0.05)
    until(lambda: changed(told).get(row.run_id, {}).get("progress") == "39%")
    # However slowly this machine went through that.
    assert len(told) <= (time.monotonic() - begun) / EVERY + 4
    assert max(len(json.dumps(message)) for message in told) < 300


def test_nobody_listens_and_nothing_is_watched(manager: RunManager, told: list[Message]) -> None:
    """With its last listener a feed lets go of the manager; with a new one it reads anew."""
    feed = feed_of(manager)
    feed.join(told.append)
    assert len(manager.tracker.observations._observers) == 1
    feed.leave(told.append)
    assert manager.tracker.observations._observers == []
    put(manager, record(0))
    feed.join(told.append)
    assert feed.whole()["total"] == 1
    feed.leave(told.append)


# -- output ----------------------------------------------------------------------------------


def lines_of(told: list[Message]) -> list[str]:
    """The lines of a pane after these messages, as the page keeps them."""
    lines: list[str] = []
    for message in told:
        del lines[min(message["from"], message["after"]) :]
        lines += ["GAP"] * (message["from"] - len(lines)) + message["lines"]
    return lines


def test_output_is_the_last_lines_and_then_what_comes(
    manager: RunManager, told: list[Message], tmp_path: Path
) -> None:
    """A pane begins with the last 1,000 lines, goes on live, and is told of the end."""
    go = tmp_path / "go"
    script = (
        f"seq 1500; printf 50%%; until [ -e {go} ]; do sleep 0.05; done; printf '\\r100%%\\nend\\n'"
    )
    run = manager.submit(JobSpec(script=script), "local")
    until(lambda: run.log.tail("stdout", 3) == b"50%")
    output = Output(manager, run.run_id, told.append)
    until(lambda: told and told[-1]["lines"][-1:] == ["50%"])
    assert len(told[0]["lines"]) == 1000
    assert told[0]["from"] == 501
    go.touch()
    until(lambda: told[-1]["ended"])
    assert lines_of(told)[-3:] == ["1500", "100%", "end"]
    assert told[-1]["bytes"] == run.log.size("stdout")
    output.close()


def test_a_pane_is_told_which_lines_are_of_stderr(manager: RunManager, told: list[Message]) -> None:
    """Beside its lines a message has the blocks of them that came on stderr."""
    run = manager.submit(JobSpec(script="seq 3; seq 4 5 >&2"), "local").wait()
    output = Output(manager, run.run_id, told.append)
    until(lambda: told and told[-1]["ended"])
    assert lines_of(told) == ["1", "2", "3", "4", "5"]
    found = [line for m in told for begin, end in m["apart"] for line in m["lines"][begin:end]]
    assert set(found) == {"4", "5"}
    output.close()


def test_a_line_that_was_sent_and_changes_again_is_sent_again(
    manager: RunManager, told: list[Message], tmp_path: Path
) -> None:
    """Where a cursor goes back to finished lines, the page has them as a terminal would."""
    steps = [tmp_path / str(number) for number in range(2)]
    waits = [f"until [ -e {step} ]; do sleep 0.05; done" for step in steps]
    script = "; ".join(
        (
            "printf 'one\\nouter 1\\ninner 1\\n'",
            waits[0],
            "printf '\\033[2A\\router 2\\n\\rinner 2\\nmore\\n'",
            waits[1],
            "printf '\\033[3A\\router 3\\n\\rinner 3\\n\\nend\\n'",
        )
    )
    run = manager.submit(JobSpec(script=script), "local")
    output = Output(manager, run.run_id, told.append)
    until(lambda: lines_of(told) == ["one", "outer 1", "inner 1"])
    steps[0].touch()
    until(lambda: lines_of(told) == ["one", "outer 2", "inner 2", "more"])
    steps[1].touch()
    until(lambda: told[-1]["ended"])
    assert lines_of(told) == ["one", "outer 3", "inner 3", "more", "end"]
    assert [message["after"] for message in told].count(1) >= 2
    output.close()


def test_a_flood_is_bounded(manager: RunManager, told: list[Message]) -> None:
    """However much a program says, a message holds at most 64 kB, and the last lines come."""
    script = "for i in 1 2 3 4 5; do seq -f '%080.0f' 20000; sleep 0.1; done"
    run = manager.submit(JobSpec(script=script), "local")
    output = Output(manager, run.run_id, told.append)
    until(lambda: told and told[-1]["ended"])
    assert max(len(json.dumps(message["lines"])) for message in told) < 70_000
    assert lines_of(told)[-1] == f"{20000:080d}"
    output.close()


def test_of_a_huge_log_only_the_end_is_read(manager: RunManager, told: list[Message]) -> None:
    """A pane of a long log begins at a line near its end, and says that there was more."""
    run = manager.submit(JobSpec(script="seq -f '%0999.0f' 3000"), "local").wait()
    output = Output(manager, run.run_id, told.append)
    until(lambda: told and told[-1]["ended"])
    assert told[0]["before"] > 2_000_000
    assert told[0]["before"] % 1000 == 0
    assert lines_of(told)[-1] == f"{3000:0999d}"
    output.close()


def test_output_of_what_was_deleted_ends(manager: RunManager, told: list[Message]) -> None:
    """A pane of a run that isn't there any more ends without a word."""
    output = Output(manager, record(0).run_id, told.append)
    time.sleep(0.5)
    output.close()
    assert [line for message in told for line in message["lines"]] == []


# -- details ---------------------------------------------------------------------------------


def test_details_are_what_is_known(manager: RunManager) -> None:
    """Details have the facts, the script, and texts to copy: id, command, log path."""
    run = manager.submit(JobSpec(script="echo hi; exit 2", labels={"a": "b"}), "local")
    run.wait(check=False)
    found = about(manager, run.run_id)
    said = dict(found["facts"])
    assert said["run id"] == run.run_id
    assert said["labels"] == "a=b"
    assert found["script"] == "echo hi; exit 2"
    copies = dict(found["copy"])
    assert copies == {"id": run.run_id, "command": "echo hi; exit 2", "log path": run.log_path}


@pytest.mark.parametrize(
    ("runner", "more", "label", "line"),
    [
        ("docker", {}, "docker", "docker logs -f qwex-{id}"),
        ("docker", {"context": "far"}, "docker", "docker --context far logs -f qwex-{id}"),
        ("k8s", {}, "kubectl", "kubectl -n team describe job/qwex-{id}"),
        ("k8s", {"context": "c"}, "kubectl", "kubectl --context c -n team describe job/qwex-{id}"),
    ],
)
def test_the_backends_own_line_is_there(
    manager: RunManager, runner: str, more: dict[str, str], label: str, line: str
) -> None:
    """A run in a container or on a cluster has the line of its backend's own tool."""
    made = record(0, "RUNNING", runner=runner)
    spec = JobSpec(script="true", options=more)
    fact = {
        "version": 1,
        "run_id": made.run_id,
        "runner": runner,
        "created_at": made.created_at,
        "identity": "k8s://team@host#ca",
        "command": "true",
        "spec": spec.to_json(),
        "cwd": "/",
    }
    manager.history.create(spec, fact, sync=False)
    assert dict(about(manager, made.run_id)["copy"])[label] == line.format(id=made.run_id)


def test_a_damaged_run_has_details_too(manager: RunManager) -> None:
    """Of a folder that can't be read the details say what is wrong with it."""
    made = record(0)
    folder = Path(manager.history.runs_folder, made.run_id)
    folder.mkdir()
    (folder / SPEC).write_text("{torn")
    with pytest.raises(FactUnreadable):
        manager.history.spec_fact(made.run_id)
    assert "can't be read" in about(manager, made.run_id)["message"]


# -- wishes ----------------------------------------------------------------------------------


@pytest.fixture
def wish(manager: RunManager) -> Iterator[Callable[..., Message]]:
    """Sends a wish to a monitor as a page does; returns the answer of that kind."""
    from qwex_jupyter.widgets.monitor import Monitor

    widget, sent = Monitor(manager), []
    widget.send = sent.append

    def ask(answer: str, **wish: Any) -> Message:
        sent.clear()
        widget._handle_custom_msg({**wish, "number": 7}, [])
        first = next(m for m in sent if m["kind"] != "changes")
        assert first == {"kind": "ack", "number": 7}
        found: Message = until(lambda: next((m for m in sent if m["kind"] == answer), None))
        return found

    yield ask
    widget.close()


def test_several_wishes_are_carried_out_and_mistakes_told(
    manager: RunManager, wish: Callable[..., Message]
) -> None:
    """Of several runs each is cancelled, run again or deleted; one that can't be says why."""
    script = JobSpec(script="sleep 600")
    ids = [manager.submit(script, "local").run_id for _ in range(2)]
    gone = record(0).run_id
    done = wish("did", kind="do", verb="cancel", runs=ids)
    assert (done["failed"], done["made"]) == ([], [])
    assert [manager.wait(run_id, 60).status for run_id in ids] == [RunStatus.CANCELLED] * 2
    done = wish("did", kind="do", verb="rerun", runs=[*ids, gone])
    new = done["made"]
    assert len(set(new) - set(ids)) == 2
    assert [run_id for run_id, _ in done["failed"]] == [gone]
    assert "there is no such run" in done["failed"][0][1]
    done = wish("did", kind="do", verb="delete", runs=[*ids, new[0]])
    assert [run_id for run_id, _ in done["failed"]] == [new[0]]
    assert sorted(manager.history.run_ids()) == sorted(new)
    wish("did", kind="do", verb="cancel", runs=new)


def test_six_runs_are_told_of_and_what_is_gone_is_left_out(
    manager: RunManager, wish: Callable[..., Message]
) -> None:
    """Details come for at most six runs at once; a run that was deleted is left out."""
    ids = [put(manager, record(number)) for number in range(9)]
    assert [run["run"] for run in wish("about", kind="about", runs=ids)["runs"]] == ids[:6]
    found = wish("about", kind="about", runs=[ids[8], record(99).run_id])
    assert ([run["run"] for run in found["runs"]], found["number"]) == ([ids[8]], 7)
    assert wish("ack", kind="something of a later version") == {"kind": "ack", "number": 7}


# -- the table in its stead ------------------------------------------------------------------


def test_the_table_has_the_newest_and_all_counts(manager: RunManager) -> None:
    """In text and HTML stand the newest 20, the counts of all, and as of when."""
    for each in (made := [record(i, "FAILED" if i % 2 else "SUCCEEDED") for i in range(30)]):
        put(manager, each)
    table = tables.of_history(manager.history)
    for text in (table.text(), table.html()):
        assert made[-1].handle in text
        assert made[9].handle not in text
        said = text.replace("\n", " · ")  # as wide as a terminal
        assert "the newest 20 of 30 runs · 15 succeeded · 15 failed · local · as of " in said
    assert "<style" not in table.html()
    assert "No runs yet" in tables.Table([]).text()
    assert "No runs yet" in tables.Table([]).html()


def test_the_table_escapes_everything() -> None:
    """What stands in names, images, commands and messages is text."""
    evil = "<script>alert(1)</script>\x1b[2J"
    made = record(0, "FAILED", name=evil, command=evil, message=evil, runner=evil, image=evil)
    table = tables.Table([made], now=time.time())
    assert "<script" not in table.html()
    assert "\x1b" not in table.text() + table.html()
