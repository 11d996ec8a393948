"""Damaged records: one answer to whether a run has ended, and every verb returns with it."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_helpers import PATIENCE, end, launch_of, plain_user, prepared, sh, terminal, until

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import KILL, LAUNCH, LAUNCHER, RUN, SEEN, SPEC, STOP
from qwex_jupyter.disk.logs import Lease
from qwex_jupyter.errors import RunStillLive
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.notebook import cell, wait_table
from qwex_jupyter.notebook.view import View
from qwex_jupyter.system import process

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(b'{"run_id": "2026'),
    "not JSON": lambda path: path.write_bytes(b"\x7fELF\0\0"),
    "a list": lambda path: path.write_bytes(b"[]\n"),
    "nonsense": lambda path: path.write_bytes(b"{}\n"),
    "too large": lambda path: (path.touch(), os.truncate(path, facts.MOST_BYTES + 1)),
    "a folder": lambda path: path.mkdir(),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a pipe": os.mkfifo,
}
# Where a spec is missing nothing is known; a launch may not be there yet.
CASES = [(name, damage) for name in (RUN, SPEC, LAUNCH) for damage in DAMAGES]
CASES.append((SPEC, "gone"))


def harm(run: Run, name: str, damage: str) -> None:
    """Damages a file of a run."""
    path = Path(run.log.folder, name)
    path.unlink(missing_ok=True)
    if damage != "gone":
        DAMAGES[damage](path)


def each_verb(capfd: pytest.CaptureFixture[str], manager: RunManager, run: Run, ref: str) -> None:
    """Every verb returns, says that the run can't be read, and deletes it at last."""
    said = f"{ref} lost: It can't be read: "
    for words, code, where in (
        (("runs",), 0, "? lost  It can't be read"),
        (("show", ref), 0, "It can't be read"),
        (("show", "--json", ref), 0, '"reason": "Unreadable"'),
        (("logs", ref), 0, "said before\n"),
        (("logs", "-f", ref), 0, said),
        (("wait", ref), 1, said),
        (("attach", ref), 1, said),
        (("cancel", ref), 0, "It can't be read"),
        (("prune", "--yes"), 0, "Nothing to prune"),
    ):
        found, out, err = terminal(capfd, *words)
        assert (found, where in out + err) == (code, True), (words, out, err)
        assert "Traceback" not in err
    assert manager.tracker.ended(run.run_id)
    assert manager.history.record(run.run_id).status.final
    assert [row.reason for row in manager.history.frame().itertuples()] == ["Unreadable"]
    found, out, err = terminal(capfd, "delete", ref)
    assert (found, out, err) == (0, f"Deleted {ref}.\n", "")
    assert os.listdir(manager.history.runs_folder) == []
    assert manager.history.open_ids() == []


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_every_verb_returns_and_says_so(
    manager: RunManager,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    damage: str,
) -> None:
    """Whatever a record has become, runs, show, logs, wait, attach, cancel, delete end with it."""
    monkeypatch.setenv("QWEX_HOME", manager.history.home)
    run = prepared(manager, sh("x"))
    run.log.write("stdout", b"said before\n", 0)
    harm(run, name, damage)
    each_verb(capfd, manager, run, run.handle)


def test_what_may_not_be_read_is_damage_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A record without the right to read it is told like any other that can't be."""
    for name in (RUN, SPEC):
        with plain_user() as folder, monkeypatch.context() as patch:
            patch.setenv("QWEX_HOME", str(folder / "home"))
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            manager = RunManager(str(folder / "home"))
            run = prepared(manager, sh("x"))
            run.log.write("stdout", b"said before\n", 0)
            facts.link_once(run.log.folder, name, {})
            Path(run.log.folder, name).chmod(0)
            each_verb(capfd, manager, run, run.handle)
            manager.close()


@pytest.mark.parametrize("only", [None, "stdout"])
@pytest.mark.parametrize("name", [RUN, SPEC])
def test_a_cell_that_watches_ends_with_it(manager: RunManager, name: str, only: str | None) -> None:
    """What %qwex attach and logs -f show in a notebook ends, and with that word."""
    run = prepared(manager, sh("x"))
    run.log.write("stdout", b"said before\n", 0)
    harm(run, name, "torn")
    view = _View()
    thread = threading.Thread(target=cell.attach, args=(manager, run, view), kwargs={"only": only})
    thread.daemon = True
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert view.said == b"said before\n"
    assert view.last is not None
    assert (view.last.status, view.last.reason) == (RunStatus.LOST, Reason.UNREADABLE)


class _View(View):
    """Takes what is shown."""

    told = True

    def __init__(self) -> None:
        self.said = b""
        self.last: RunRecord | None = None

    def output(self, stream: str, data: bytes) -> None:
        """Takes it."""
        self.said += data

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Takes the end."""
        self.last = record


def test_a_link_in_the_place_of_a_run_ends_nobody_else(manager: RunManager) -> None:
    """A link is no run of this home, so it isn't waited for, whatever it points at."""
    run = prepared(manager, sh("x"))
    link = run.run_id[:-3] + "zzz"
    os.symlink(run.log.folder, Path(run.log.folder).parent / link)
    assert manager.wait(link, 60).reason == Reason.UNREADABLE
    assert not manager.tracker.ended(run.run_id)
    manager.delete(link)
    assert os.listdir(manager.history.runs_folder) == [run.run_id]


@pytest.mark.parametrize("name", [SPEC, LAUNCH])
def test_who_waits_when_the_damage_comes_is_told(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A wait, a follower and a table that began before the damage end with it."""
    run = prepared(manager, sh("x"))
    other = prepared(manager, sh("x"))
    calls: dict[str, Callable[[], Any]] = {
        "wait": lambda: manager.wait(run.run_id),
        "follow": lambda: list(run.follow()),
        "table": lambda: wait_table.wait(manager, [run, other], _Publisher(), None),
    }
    begun = {key: threading.Event() for key in calls}
    threads = []
    real = manager.tracker.ended
    before = threading.local()

    def asked(run_id: str) -> bool:
        begun[before.key].set()
        return real(run_id)

    def work(key: str) -> None:
        before.key = key
        calls[key]()

    monkeypatch.setattr(manager.tracker, "ended", asked)
    for key in calls:
        threads.append(threading.Thread(target=work, args=(key,), daemon=True))
        threads[-1].start()
        assert begun[key].wait(PATIENCE)
    for each in (run, other):
        harm(each, name, "torn")
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


class _Publisher:
    """Takes displays, and shows none."""

    def publish(self, *_: object, **__: object) -> None:
        """Takes one."""


@pytest.mark.parametrize("damage", ["torn", "gone", "too large"])
def test_a_damaged_spec_of_what_lives_ends_nothing(
    local: RunManager, tmp_path: Path, damage: str
) -> None:
    """While its supervisor is seen to live a run is waited for, and its true end comes."""
    text = f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done; exit 7"
    run = local.submit(sh(text))
    until(lambda: facts.exists(run.log.folder, LAUNCH))
    harm(run, SPEC, damage)
    record = run.record
    assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.UNREADABLE)
    assert str(launch_of(run)["pid"]) in record.message
    with pytest.raises(TimeoutError):
        run.wait(0.2)
    assert not local.tracker.ended(run.run_id)
    (tmp_path / "go").touch()
    assert (end(run).status, end(run).exit_code) == (RunStatus.FAILED, 7)
    run.delete()
    assert os.listdir(local.history.runs_folder) == []


def test_what_is_damaged_and_lives_can_be_cancelled(local: RunManager) -> None:
    """A stop needs no spec: the supervisor has read all it needs."""
    run = local.submit(sh("sleep 300"))
    until(lambda: facts.exists(run.log.folder, LAUNCH))
    harm(run, SPEC, "torn")
    run.cancel()
    assert end(run).status is RunStatus.CANCELLED


def test_a_damaged_spec_of_what_was_killed_is_lost(local: RunManager) -> None:
    """When the supervisor goes nobody is left who could write down an end: that is the answer."""
    run = local.submit(sh("echo up; exec sleep 300"))
    until(lambda: run.logs() == "up\n")
    harm(run, SPEC, "torn")
    launch = launch_of(run)
    os.kill(launch["pid"], signal.SIGKILL)
    os.kill(launch["leader"]["pid"], signal.SIGKILL)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.UNREADABLE)
    assert record.exit_code is None


def test_a_damaged_end_of_what_lives_is_not_deleted(manager: RunManager) -> None:
    """Where something else stands in the place of its end, a program that runs keeps its folder."""
    run = manager.submit(sh("sleep 300"))
    until(lambda: facts.exists(run.log.folder, LAUNCH))
    harm(run, RUN, "torn")
    leader = launch_of(run)["leader"]["pid"]
    with pytest.raises(RunStillLive, match=f"end that with kill {leader}"):
        run.delete()
    os.kill(leader, signal.SIGKILL)
    who = launch_of(run)
    until(lambda: process.standing(who) == process.GONE)
    run.delete()
    assert os.listdir(manager.history.runs_folder) == []


def test_what_is_damaged_and_elsewhere_has_not_ended(manager: RunManager) -> None:
    """A supervisor that can't be looked into may live; its user can say that it doesn't."""
    run = prepared(manager, sh("x"))
    there = {**process.identify(os.getpid()), "host": "elsewhere"}
    launch = {"by": "supervisor", **there, "leader": there, "at": 1.0}
    facts.link_once(run.log.folder, LAUNCH, launch)
    harm(run, SPEC, "torn")
    record = run.record
    assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.HOST_UNREACHABLE)
    assert "elsewhere" in record.message
    assert not manager.tracker.ended(run.run_id)
    with pytest.raises(RunStillLive):
        run.delete()
    run.cancel()
    assert facts.exists(run.log.folder, STOP)
    manager.delete(run.run_id, gone=True)
    assert os.listdir(manager.history.runs_folder) == []


def test_a_kernel_that_lives_keeps_no_damaged_run_of_another_backend(manager: RunManager) -> None:
    """Who asked an engine for a start isn't who runs it: its life says nothing of the run."""
    run = prepared(manager, sh("x"), runner="docker", identity="an engine")
    me = {"by": "kernel", **process.identify(os.getpid()), "at": 1.0}
    facts.link_once(run.log.folder, LAUNCH, me)
    harm(run, SPEC, "torn")
    assert manager.tracker.ended(run.run_id)
    run.delete()


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, RuntimeError])
@pytest.mark.parametrize("asked", ["identity", "poll"])
def test_a_runner_that_fails_says_nothing_of_a_run(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, asked: str, error: type[Exception]
) -> None:
    """Its own mistake, or a library's below it, is no damage of the run's files."""
    run = manager.submit(sh("sleep 600"))
    with monkeypatch.context() as patch:

        def fails(*_: Any) -> Any:
            raise error("Authorization: Bearer abc")

        patch.setattr(type(manager.runner("local")), asked, fails)
        manager.tracker.look([run.run_id])
        record = manager.tracker.record(run.run_id)
    assert (record.status.final, record.reason) == (False, Reason.BACKEND_UNREACHABLE)
    assert error.__name__ in record.message
    assert "abc" not in record.message
    assert run.cancel(0).wait(60, check=False).status is RunStatus.CANCELLED


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_what_can_t_be_read_this_moment_has_not_ended(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Too many open files are a process's own trouble, and no end of any run."""
    run = prepared(manager, sh("x"))
    real = os.open

    def opened(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith(SPEC):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        assert not manager.tracker.ended(run.run_id)
        record = manager.history.record(run.run_id)
        assert (record.status, record.reason) == (RunStatus.PENDING, Reason.UNREADABLE)
        assert "at this moment" in record.message
    assert manager.history.record(run.run_id).reason == ""


def test_an_end_that_can_t_be_read_this_moment_is_waited_for(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait gives the true end, and never what too many open files have made of it."""
    run = manager.submit(sh("exit 3"))
    until(lambda: facts.exists(run.log.folder, RUN))
    real, failures = os.open, [errno.EMFILE] * 20

    def opened(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith(RUN) and failures:
            raise OSError(failures.pop(), "Too many open files")
        return real(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        assert manager.wait(run.run_id, 60).exit_code == 3
    assert not failures


def test_an_observation_ends_nothing(manager: RunManager) -> None:
    """seen.json, which anybody may have left, never says an end."""
    run = prepared(manager, sh("x"))
    manager.tracker.look([run.run_id])
    seen = facts.read_fact(run.log.folder, SEEN) or {}
    facts.replace(run.log.folder, SEEN, {**seen, "status": "SUCCEEDED"})
    assert manager.history.record(run.run_id).status is RunStatus.PENDING
    assert not manager.tracker.ended(run.run_id)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [STOP, LAUNCHER, SEEN, KILL])
def test_a_damaged_word_beside_the_record_costs_no_outcome(
    manager: RunManager, name: str, damage: str
) -> None:
    """What was wanted, or last seen, may be unreadable: the end comes all the same."""
    run = prepared(manager, sh("x"))
    gone = {**process.identify(os.getpid()), "ticks": "1"}
    launch = {"by": "supervisor", **gone, "leader": gone, "at": 1.0}
    facts.link_once(run.log.folder, LAUNCH, launch)
    harm(run, name, damage)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.VANISHED)


@pytest.mark.parametrize("damage", ["torn", "nonsense"])
def test_a_damaged_stop_keeps_nobody_from_stopping(manager: RunManager, damage: str) -> None:
    """Where a damaged stop.json stands, a run that never started is closed by a cancel."""
    run = prepared(manager, sh("x"))
    harm(run, STOP, damage)
    run.cancel()
    assert end(run).reason == Reason.NEVER_STARTED


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_timeout_holds_where_a_damaged_stop_stands(manager: RunManager, damage: str) -> None:
    """It can't be written down there; the program is stopped, and the record says why."""
    run = manager.submit(sh("sleep 3000", timeout=1, grace=0))
    until(lambda: facts.exists(run.log.folder, LAUNCH))
    harm(run, STOP, damage)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_lease_is_taken_over(tmp_path: Path, damage: str) -> None:
    """A log whose cursor can't be read is brought again from its beginning, to the same places."""
    DAMAGES[damage](tmp_path / "log.3.json")
    lease = Lease(str(tmp_path), quiet=0.05)
    until(lease.acquire)
    assert lease.cursor == {}


@pytest.mark.parametrize("damage", ["a folder", "a dangling link", "a pipe"])
def test_a_damaged_log_costs_no_outcome(
    manager: RunManager,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    """What isn't a log any more is named in one line; the run is what it was."""
    monkeypatch.setenv("QWEX_HOME", manager.history.home)
    run = manager.submit(sh("exit 3"))
    assert end(run).exit_code == 3
    harm(run, "stdout.log", damage)
    for words in (("logs", run.handle), ("logs", "-f", run.handle), ("attach", run.handle)):
        code, out, err = terminal(capfd, *words)
        if damage == "a dangling link":  # nothing is there, as before the first line
            assert (code, out) == (3 if "attach" in words else 0, "")
            assert err.count("\n") == ("attach" in words)
        else:
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert "stdout.log can't be read: it isn't a plain file" in err
    assert terminal(capfd, "wait", run.handle)[0] == 3
    assert terminal(capfd, "delete", run.handle)[0] == 0


# What is written has the bound of what can be read.


@pytest.mark.parametrize("size", [1_000_000, 3_900_000])
@pytest.mark.parametrize("filling", ["x", "ü", "\x01"])
def test_a_large_cell_is_kept_byte_for_byte(manager: RunManager, size: int, filling: str) -> None:
    """A cell below 4 MiB runs and can be read again, also of what JSON writes six bytes for."""
    line = filling * 99 + "\n"
    lines = size // len(line.encode())
    text = f"cat > /dev/null <<'END'\n{line * lines}END\necho end\n"
    run = manager.submit(sh(text))
    assert (end(run).status, run.logs()) == (RunStatus.SUCCEEDED, "end\n")
    assert Path(run.log.folder, "cell.sh").read_bytes() == text.encode()
    assert manager.history.spec_fact(run.run_id)["spec"]["script"] == text
    assert end(run.rerun()).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("size", [4_300_000, 8_000_000])
def test_a_cell_above_4_mib_is_refused_in_one_sentence(
    manager: RunManager,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    size: int,
) -> None:
    """It is refused before anything is left of it, with what to do instead."""
    text = "x" * size
    with pytest.raises(ValueError, match=r"4 MiB .* put its data into a file .* --files\.$"):
        manager.submit(JobSpec(command=("sh",), script=text))
    assert os.listdir(manager.history.runs_folder) == []
    JobSpec(command=("sh",), script="x" * 4 * 1024 * 1024)


@pytest.mark.parametrize("what", ["env", "labels", "command"])
def test_what_is_too_much_to_be_kept_is_refused(manager: RunManager, what: str) -> None:
    """A spec that could not be read again is refused, and leaves nothing."""
    much = "x" * 100_000  # each by itself could be executed
    values = {
        "env": {f"X{i}": much for i in range(300)},
        "labels": {"x": 300 * much},
        "command": ("echo", *[much] * 300),
    }
    spec = JobSpec(**{"command": ("true",), what: values[what]})
    with pytest.raises(ValueError, match=r"too much to be kept: .* --files"):
        manager.submit(spec)
    assert os.listdir(manager.history.runs_folder) == []
    assert manager.history.open_ids() == []


def test_a_fact_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """Neither a fact nor an observation is larger than what is read again."""
    value = {"text": "x" * facts.MOST_BYTES}
    for write in (facts.link_once, facts.replace):
        with pytest.raises(facts.FactTooLarge):
            write(str(tmp_path), RUN, value)
    assert os.listdir(tmp_path) == []
    value = {"text": "x" * (facts.MOST_BYTES - 100)}
    assert facts.link_once(str(tmp_path), RUN, value)["text"] == value["text"]
    assert facts.read_fact(str(tmp_path), RUN) is not None
