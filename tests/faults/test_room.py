"""No room: a full disk and a read-only one can be read, and a full one gets room again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end, full, plain_user, prepared, sh, terminal, until

from qwex_jupyter.disk import facts, removing
from qwex_jupyter.disk.folder import LAUNCH, RUN, SPEC
from qwex_jupyter.errors import HomeUnusable, NotRemoved, SubmitFailed
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.system import process

Mount = Callable[[str], Path]
# What reads the history, and what is to be seen of a run that said "kept" and ended with 3.
READING = [
    (("runs",), 0, "xit code 3"),
    (("runs", "--json"), 0, '"exit_code": 3'),
    (("show", "first"), 0, "exit code 3, last line: kept"),
    (("logs", "first"), 0, "kept\n"),
    (("logs", "-f", "first"), 0, "kept\n"),
    (("attach", "first"), 3, "kept\n"),
    (("wait", "first"), 3, ""),
    (("cancel", "first"), 0, "failed"),
    (("monitor",), 0, "1 failed"),
    (("doctor",), 0, "0 runs not ended"),
    (("prune",), 0, "Add --yes to delete them"),
]


@pytest.fixture
def small(mounted: Mount, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small disk with a home on it that holds one ended run."""
    disk = mounted("size=2m")
    monkeypatch.setenv("QWEX_HOME", str(disk / "home"))
    manager = RunManager(str(disk / "home"))
    assert end(manager.submit(sh("echo kept; exit 3", name="first"))).exit_code == 3
    manager.close()
    return disk


def read_all(capfd: pytest.CaptureFixture[str], home: Path) -> None:
    """Everything that only reads does so."""
    for words, code, said in READING:
        found, out, err = terminal(capfd, *words)
        assert (found, said in out) == (code, True), (words, out, err)
        assert "Traceback" not in err
    assert list(RunHistory(str(home)).frame().exit_code) == [3]


def test_a_full_disk_is_read_and_gets_room_again(
    small: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every verb works on a full disk but those that submit; delete and prune make room."""
    manager = RunManager(str(small / "home"))
    for number in range(3):
        end(manager.submit(sh("echo kept", name=f"more{number}")))
    manager.delete(manager.get("more2").run_id)
    with full(small):
        assert terminal(capfd, "delete", "more1")[0] == 0
    manager.delete(manager.get("more0").run_id)
    with full(small):
        read_all(capfd, small / "home")
        for words in (("run", "true"), ("rerun", "first")):
            code, out, err = terminal(capfd, *words)
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert "No space left on device. Nothing was started. Free some room" in err
        assert len(os.listdir(small / "home" / "runs")) == 1
        code, out, err = terminal(capfd, "prune", "--older", "0", "--yes")
        assert (code, out, err) == (0, "Deleted 1 run.\n", "")
        assert os.listdir(small / "home" / "runs") == []
    assert terminal(capfd, "run", "--quiet", "echo", "again") == (0, "again\n", "")
    manager.close()


def read_only(disk: Path) -> None:
    """Nothing can be written there any more, once those are gone who still hold files open."""
    remount = ["mount", "-o", "remount,ro", str(disk)]
    until(lambda: subprocess.run(remount, check=False).returncode == 0)


def test_a_read_only_disk_is_read(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What can't be written is read as ever; what would have to be written is one sentence."""
    read_only(small)
    read_all(capfd, small / "home")
    for words, said in (
        (("run", "true"), "Read-only file system. Nothing was started."),
        (("rerun", "first"), "Read-only file system. Nothing was started."),
        (("delete", "first"), "could not be removed: "),
    ):
        code, out, err = terminal(capfd, *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert said in err
    code, out, _ = terminal(capfd, "prune", "--yes")
    assert code == 1
    assert "Deleted 0 runs.\n" in out
    assert "Read-only file system" in out
    with pytest.raises(HomeUnusable, match=r"Read-only file system\. Set QWEX_HOME"):
        RunHistory(str(small / "another"))


def test_a_home_that_one_may_only_read_is_read(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the right to write into one's own home all that reads works."""
    with plain_user() as folder:
        home = folder / "home"
        monkeypatch.setenv("QWEX_HOME", str(home))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        manager = RunManager(str(home))
        run = prepared(manager, sh("x", name="first"))
        run.log.write("stdout", b"kept\n", 0)
        run.cancel()
        manager.close()
        folders = [home, home / "runs", home / "open", Path(run.log.folder)]
        for each in folders:
            each.chmod(0o500)
        for verb in ("runs", "show", "logs", "monitor", "prune"):
            code, out, err = terminal(capfd, verb)
            assert (code, "Traceback" in err) == (0, False), (verb, out, err)
        assert terminal(capfd, "logs")[1] == "kept\n"
        code, out, err = terminal(capfd, "delete", "first")
        assert (code, out) == (1, "")
        assert "Permission denied" in err
        for each in folders:
            each.chmod(0o700)
        for each in folders[:3]:
            each.chmod(0)
            code, out, err = terminal(capfd, "runs")
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert "Permission denied. Set QWEX_HOME" in err
            each.chmod(0o700)
        assert terminal(capfd, "delete", "first")[0] == 0


def test_a_run_that_fills_the_disk_can_be_deleted(small: Path) -> None:
    """After a run that wrote until nothing went any more, delete makes room for the next."""
    manager = RunManager(str(small / "home"))
    labels = {"about": "x" * 100_000}  # and they stand in the record of its end
    run = manager.submit(sh("head -c 5000000 /dev/zero; exit 7", labels=labels))
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 7)
    assert record.log_missing["stdout"] > 0
    with pytest.raises(SubmitFailed, match="Free some room"):
        manager.submit(sh("echo no " + "x" * 4096))
    run.delete()
    again = manager.submit(sh("echo again"))
    assert (end(again).status, again.logs()) == (RunStatus.SUCCEEDED, "again\n")
    manager.close()


def test_what_becomes_of_a_run_and_can_t_be_written_is_said(small: Path) -> None:
    """On a read-only disk who waits for a run that was killed isn't kept waiting for ever."""
    manager = RunManager(str(small / "home"))
    run = prepared(manager, sh("x"))
    gone = {**process.identify(os.getpid()), "ticks": "1"}
    launch = {"by": "supervisor", **gone, "leader": gone, "at": 1.0}
    facts.link_once(run.log.folder, LAUNCH, launch)
    read_only(small)
    manager.tracker.look()
    assert "Read-only file system. Free some room" in run.message
    with pytest.raises(HomeUnusable, match="can't be written down: Read-only file system"):
        run.wait(60)
    assert list(run.follow()) == []
    with pytest.raises(HomeUnusable, match="can't be written down: Read-only file system"):
        run.cancel()
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert end(run).reason == Reason.VANISHED
    manager.close()


def test_output_that_finds_no_room_is_said_and_comes_later(small: Path) -> None:
    """A far run whose output can't be kept says so; nothing of it is lost when room is made."""
    now = [0.0]
    manager = RunManager(str(small / "home"), settings={"memory": {"clock": lambda: now[0]}})
    text = f"hex-out {b'x'.hex()} 1000000\nsleep 0.2\n"
    run = manager.submit(JobSpec(command=("memory",), script=text), "memory")
    with full(small):
        now[0] = 1.0
        until(lambda: "Its output can't be kept: No space left on device" in run.message)
        assert not manager.tracker.ended(run.run_id)
        assert run.reason == ""
    assert end(run).status is RunStatus.SUCCEEDED
    assert run.logs() == "x" * 1_000_000
    assert run.message == ""
    manager.close()


# What can't be removed.


def _ended(manager: RunManager) -> Run:
    run = prepared(manager, sh("x"))
    run.cancel()
    assert manager.tracker.ended(run.run_id)
    return run


def test_read_only_folders_of_a_run_go_with_it() -> None:
    """What a tool has left without the right to write, like Go's module cache, is deleted."""
    with plain_user() as folder:
        manager = RunManager(str(folder / "home"))
        for modes in ((0o555,), (0o555, 0o500), (0, 0o100), (0o400, 0o555, 0)):
            run = _ended(manager)
            inside = Path(run.log.folder, "work")
            for _ in modes:
                inside = inside / "m"
                inside.mkdir(parents=True)
                (inside / "big").write_text("x")
            for mode in reversed(modes):
                inside.chmod(mode)
                inside = inside.parent
            inside.chmod(0o555)
            Path(run.log.folder).chmod(0o555)
            run.delete()
            assert os.listdir(manager.history.runs_folder) == []
        manager.close()


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that can't be removed, as with `chattr +i` or of another owner."""
    names: set[str] = set()
    for call in ("unlink", "remove"):
        real = getattr(os, call)

        def refuse(path: Any, *rest: Any, real: Any = real, **more: Any) -> None:
            if os.path.basename(path) in names:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
            real(path, *rest, **more)

        monkeypatch.setattr(os, call, refuse)
    return names


@pytest.mark.parametrize("place", ["", "work/deep"])
def test_what_is_not_removed_is_said_and_still_listed(
    manager: RunManager,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    stubborn: set[str],
    place: str,
) -> None:
    """Delete and prune name what stays and why, go on with the others, and can be repeated."""
    monkeypatch.setenv("QWEX_HOME", manager.history.home)
    run, other = _ended(manager), _ended(manager)
    inside = Path(run.log.folder, place)
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "stays").write_text("x")
    (inside / "goes").write_text("x")
    stubborn.add("stays")
    with pytest.raises(NotRemoved, match=r"Operation not permitted\. Mend that") as caught:
        manager.delete(run.run_id)
    assert str(inside / "stays") in str(caught.value)
    record = manager.history.record(run.run_id)
    assert record.status is RunStatus.CANCELLED
    assert not (inside / "goes").exists()
    third = _ended(manager)
    code, out, err = terminal(capfd, "delete", run.handle, third.handle)
    assert (code, out) == (1, f"Deleted {third.handle}.\n")
    assert str(inside / "stays") in err
    code, out, err = terminal(capfd, "prune", "--yes")
    assert (code, err, out.startswith("Deleted 1 run.\n")) == (1, "", True)
    assert str(inside / "stays") in out
    assert os.listdir(manager.history.runs_folder) == [run.run_id]
    stubborn.clear()
    assert terminal(capfd, "delete", run.handle) == (0, f"Deleted {run.handle}.\n", "")
    assert os.listdir(manager.history.runs_folder) == []
    assert not Path(other.log.folder).exists()


@pytest.mark.parametrize("whole", [True, False], ids=["ended", "damaged"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_without_room_for_a_rename_it_is_removed_in_place(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, *, number: int, whole: bool
) -> None:
    """Who is killed at any step of that leaves what looks ended, or nothing."""
    real, one = os.rename, removing._one

    def rename(old: str, new: str) -> None:
        if ".gone-" in new:
            raise OSError(number, os.strerror(number))
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    for step in range(20):
        run = _ended(manager)
        Path(run.log.folder, "work").mkdir()
        if not whole:
            os.unlink(os.path.join(run.log.folder, RUN))
            Path(run.log.folder, SPEC).write_text("{")
        left = step

        def die(path: str, **how: bool) -> OSError | None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return one(path, **how)

        with monkeypatch.context() as patch:
            patch.setattr(removing, "_one", die)
            killed = False
            try:
                manager.history.delete(run.run_id)
            except KeyboardInterrupt:
                killed = True
        if not killed:
            assert step > 4
            break
        record = manager.history.record(run.run_id)
        assert record.status is (RunStatus.CANCELLED if whole else RunStatus.LOST)
        assert manager.tracker.ended(run.run_id)
        manager.delete(run.run_id)
        assert os.listdir(manager.history.runs_folder) == []
    assert os.listdir(manager.history.runs_folder) == []


def test_what_nfs_holds_for_an_open_file_is_gone(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is open elsewhere on NFS goes when it is closed: the run is deleted."""
    run = _ended(manager)
    Path(run.log.folder, ".nfs0001").write_text("x")
    monkeypatch.setattr(removing, "_one", _spare_nfs(removing._one))
    run.delete()
    assert [name[:6] for name in os.listdir(manager.history.runs_folder)] == [".gone-"]
    assert not list(manager.history.records())


def _spare_nfs(one: Callable[..., OSError | None]) -> Callable[..., OSError | None]:
    def spare(path: str, **how: bool) -> OSError | None:
        return None if ".nfs" in path else one(path, **how)

    return spare


def test_a_sweep_goes_on_where_something_stays(manager: RunManager, stubborn: set[str]) -> None:
    """What can't be swept keeps nobody from taking up, and is tried again."""
    for name in (".gone-a", ".gone-b"):
        folder = Path(manager.history.runs_folder, name)
        folder.mkdir()
        (folder / f"file{name}").write_text("x")
        os.utime(folder, (1, 1))
    stubborn.add("file.gone-a")
    manager.recover()
    assert os.listdir(manager.history.runs_folder) == [".gone-a"]
    stubborn.clear()
    os.utime(Path(manager.history.runs_folder, ".gone-a"), (1, 1))
    manager.history.sweep()
    assert os.listdir(manager.history.runs_folder) == []


def test_an_existing_home_is_opened_without_writing(home: str) -> None:
    """To open a history that is there takes neither a file nor a folder nor a link."""
    before = RunHistory(home).id
    folders = (home, f"{home}/runs", f"{home}/open")
    for folder in folders:
        os.utime(folder, (1, 1))
    history = RunHistory(home)
    list(history.records())
    history.sweep()
    assert history.id == before
    assert [os.stat(folder).st_mtime for folder in folders] == [1, 1, 1]
