"""What a local program leaves running when it ends: whole output, whole files, and then nothing."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_helpers import PATIENCE, end, launch_of, needs_proc, python, sh, until
from needs import need

from qwex_jupyter.display.format import details_text
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.runners.local import remains
from qwex_jupyter.system import process
from qwex_jupyter.testing.contract import lives

# What has no reason to be ended soon.
LONG = 3000


def bash(text: str, folder: Path) -> JobSpec:
    """A spec that runs this text with bash, in this folder."""
    need("bash", "bash")
    return JobSpec(command=("bash",), script=text, workdir=str(folder))


def pids_in(path: Path) -> list[int]:
    """The numbers in a file."""
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Path]:
    """A file for pids of processes that nobody else would end."""
    path = tmp_path / "pids"
    yield path
    for pid in pids_in(path):
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def patiently(boots: Callable[[str], None]) -> None:
    """What does something has time for it, however slow this machine is just now."""
    boots(f"remains._BUSY = remains._UNSEEN = {PATIENCE}\nremains._IDLE = 2.0")


# Readers of the program's pipes.


def test_what_tee_copies_is_whole(local: RunManager, tmp_path: Path, patiently: None) -> None:
    """`exec > >(tee file)` keeps each byte of both, 30 times, though bash doesn't wait for tee."""
    want = "".join(f"{number}\n" for number in range(1, 30_001))
    text = "exec > >(tee copy)\nseq 1 30000"
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = local.submit(bash(text, folder))
        assert end(run).exit_code == 0
        assert run.log.size("stdout") == len(want)
        assert (folder / "copy").read_text() == want
        assert run.logs("stdout") == want
        assert run.record.left == ""


def test_what_gzip_packs_is_whole(local: RunManager, tmp_path: Path, patiently: None) -> None:
    """`tee >(gzip > file)` is a whole file, 30 times; the run's code is the leader's."""
    need("gzip", "gzip")
    want = b"".join(b"%d\n" % number for number in range(1, 100_001))
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = local.submit(bash("seq 1 100000 | tee >(gzip > x.gz) | tail -1\nexit 5", folder))
        record = end(run)
        assert (record.exit_code, record.left, run.logs()) == (5, "", "100000\n")
        assert gzip.decompress((folder / "x.gz").read_bytes()) == want


@needs_proc
def test_a_leftover_that_goes_on_writing_is_heard(manager: RunManager, patiently: None) -> None:
    """What writes to the run's output after the leader's end is heard until it ends itself."""
    text = "(for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo $i; done) & exit 3"
    run = manager.submit(sh(text))
    record = end(run)
    assert (record.exit_code, record.left) == (3, "")
    assert run.logs() == "1\n2\n3\n4\n5\n6\n7\n8\n"
    # The end is the leader's.
    launch = launch_of(run)
    last = Path(run.log.folder, "stdout.log").stat().st_mtime
    assert record.finished_at is not None
    assert launch["at"] <= record.finished_at < last


@needs_proc
def test_a_leftover_that_works_has_time_for_it(
    manager: RunManager, tmp_path: Path, patiently: None
) -> None:
    """What computes without a word to the pipes is let come to its end."""
    text = f"""
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            while time.process_time() < 0.5:
                pass
            open({str(tmp_path / "done")!r}, "w").close()
    """
    record = end(manager.submit(python(text)))
    assert (record.status, record.left) == (RunStatus.SUCCEEDED, "")
    assert (tmp_path / "done").exists()


# What has to be ended, wherever it went.

AWAY = {
    "background": "sleep 3000 & echo $! > pids",
    "nohup": "nohup sleep 3000 > /dev/null 2>&1 & echo $! > pids",
    "job control": "set -m; sleep 3000 & echo $! > pids",
    "disowned": "sleep 3000 & disown; echo $! > pids",
    "session": "setsid sh -c 'echo $$ > pids; exec sleep 3000' & until [ -s pids ]; do :; done",
    "without its mark": (
        "env -i PATH=$PATH setsid sh -c 'echo $$ > pids; exec sleep 3000' > /dev/null 2>&1 &"
        "until [ -s pids ]; do :; done"
    ),
    "stopped": (
        "sleep 3000 & echo $! > pids; until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!"
    ),
}


@needs_proc
@pytest.mark.parametrize("how", AWAY)
def test_what_does_nothing_is_ended_and_named(
    manager: RunManager, sleeping: Path, how: str
) -> None:
    """An idle process is gone when the run's record is there, which says its name."""
    run = manager.submit(bash(AWAY[how] + "\nexit 3", sleeping.parent))
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 3)
    (pid,) = pids_in(sleeping)
    assert not lives(pid)
    assert record.left == "sleep"
    assert "What it had left running was ended: sleep." in details_text(record, {}, "")


DAEMON = f"""
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.environ.clear()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        with open("pids.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pids.new", "pids")
        os.execve("/bin/sleep", ["sleep", "{LONG}"], {{}})
    while not os.path.exists("pids"):
        time.sleep(0.01)
"""


@needs_proc
def test_a_daemon_is_ended(manager: RunManager, sleeping: Path) -> None:
    """What forked twice, left session, streams and environment is a child of the supervisor."""
    spec = python(DAEMON, workdir=str(sleeping.parent))
    record = end(manager.submit(spec))
    assert (record.status, record.left) == (RunStatus.SUCCEEDED, "sleep")
    (pid,) = pids_in(sleeping)
    assert not lives(pid)


@needs_proc
def test_a_cancel_reaches_a_daemon(manager: RunManager, sleeping: Path) -> None:
    """A stop asks what has neither the run's group nor its mark, before the grace is over."""
    text = """
        trap 'until [ -e saved ]; do sleep 0.05; done; exit 0' TERM
        env -i PATH=$PATH setsid sh -c '
            trap "touch saved; exit" TERM; echo $$ > pids; while :; do sleep 0.05; done
        ' > /dev/null 2>&1 &
        while :; do sleep 0.05; done
    """
    run = manager.submit(sh(text, workdir=str(sleeping.parent)))
    until(lambda: pids_in(sleeping))
    run.cancel(grace=PATIENCE)
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 0)
    (pid,) = pids_in(sleeping)
    until(lambda: not lives(pid))


def test_what_ignores_a_stop_is_killed_and_named(local: RunManager, tmp_path: Path) -> None:
    """A leftover that ignores SIGTERM gets SIGKILL; equal names are counted."""
    text = "trap '' TERM; sleep 3000 & echo $!; sleep 3000 & echo $!; exit 3"
    run = local.submit(sh(text))
    record = end(run)
    assert (record.exit_code, record.left) == (3, "sleep (2)")
    assert not [pid for pid in map(int, run.logs().split()) if lives(pid)]


def test_a_leftover_is_asked_before_it_is_killed(
    local: RunManager, tmp_path: Path, boots: Callable[[str], None]
) -> None:
    """SIGTERM comes first, and there is time to say something."""
    boots(f"remains._GRACE = {PATIENCE}")
    asked = "trap 'echo saved; exit' TERM; echo up; : > up; while :; do sleep 0.05; done"
    text = f"({asked}) &\nuntil [ -e up ]; do sleep 0.02; done"
    run = local.submit(sh(text, workdir=str(tmp_path)))
    assert end(run).status is RunStatus.SUCCEEDED
    assert run.logs("stdout") == "up\nsaved\n"
    assert run.record.left


@needs_proc
def test_what_a_leftover_starts_at_its_end_is_ended_too(manager: RunManager) -> None:
    """A handler that starts something doesn't get away with it; that is named too."""
    text = "(trap 'setsid tail -f /dev/null &' TERM; while :; do sleep 0.05; done) & exit 3"
    run = manager.submit(sh(text))
    record = end(run)
    assert record.exit_code == 3
    assert "tail" in record.left


@needs_proc
def test_what_never_rests_is_ended_too(manager: RunManager) -> None:
    """A loop that uses a processor for ever is ended, and named."""
    run = manager.submit(python("import os\nif os.fork() == 0:\n    while True: pass"))
    record = end(run)
    assert record.status is RunStatus.SUCCEEDED
    assert record.left == Path(sys.executable).name
    launch = launch_of(run)
    until(lambda: not lives(launch["pid"]))


@needs_proc
def test_orphans_of_a_live_program_leave_no_zombies(manager: RunManager, tmp_path: Path) -> None:
    """The dead that a program left are taken away while it lives."""
    text = "for i in 1 2 3 4 5; do (true &) ; done; echo up; until [ -e go ]; do sleep 0.05; done"
    run = manager.submit(sh(text, workdir=str(tmp_path)))
    until(lambda: run.logs() == "up\n")
    launch = launch_of(run)
    mine = [launch["pid"], launch["leader"]["pid"]]

    def zombies() -> list[int]:
        stats = process._stats()
        return [p for p, words in stats.items() if int(words[1]) in mine and words[0] == b"Z"]

    until(lambda: not zombies())
    (tmp_path / "go").touch()
    assert end(run).status is RunStatus.SUCCEEDED


# What must not be ended.


NESTED = """
    import os, subprocess, sys
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.model.spec import JobSpec
    inner = RunManager(sys.argv[1]).submit(JobSpec(
        command=("sh", "-c", "echo up; until [ -e go ]; do sleep 0.05; done; exit 4")))
    while inner.logs() != "up\\n":
        pass
    print(inner.run_id)
"""


@needs_proc
@pytest.mark.parametrize("killed", [False, True], ids=["", "its supervisor killed"])
def test_a_run_that_a_run_started_lives_on(
    manager: RunManager, home: str, tmp_path: Path, killed: bool
) -> None:
    """A run from within a run outlives it, its supervisor and what that looks after."""
    text = NESTED
    if killed:
        text += "    import signal; from qwex_jupyter.disk import facts\n"
        text += "    os.kill(facts.read_fact(inner.log.folder, 'launch.json')['pid'], 9)\n"
    spec = python(text, workdir=str(tmp_path))
    spec = JobSpec(**{**spec.to_json(), "command": (sys.executable, "-", home)})
    outer = manager.submit(spec)
    record = end(outer)
    assert (record.status, record.left) == (RunStatus.SUCCEEDED, ""), outer.logs()
    inner = manager.get(outer.logs().split()[-1])
    assert inner.poll() is RunStatus.RUNNING
    (tmp_path / "go").touch()
    found = end(inner)
    assert (found.status, found.exit_code) == (
        (RunStatus.LOST, None) if killed else (RunStatus.FAILED, 4)
    )


@needs_proc
def test_a_cancel_leaves_nested_runs_alone(manager: RunManager, home: str, tmp_path: Path) -> None:
    """A stop of a run isn't one of the run that it started."""
    text = NESTED + "    import time; sys.stdout.flush(); time.sleep(3000)\n"
    spec = python(text, workdir=str(tmp_path))
    outer = manager.submit(JobSpec(**{**spec.to_json(), "command": (sys.executable, "-", home)}))
    until(lambda: outer.logs().endswith("\n"))
    outer.cancel()
    assert end(outer).status is RunStatus.CANCELLED
    inner = manager.get(outer.logs().strip())
    assert inner.poll() is RunStatus.RUNNING
    (tmp_path / "go").touch()
    assert end(inner).exit_code == 4


# Stops.


@needs_proc
def test_a_stop_cuts_the_waiting_short(manager: RunManager, tmp_path: Path) -> None:
    """A stop ends a busy leftover now; the status stays that of the leader's own end."""
    text = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            while True:
                print("x", flush=True)
    """
    run = manager.submit(python(text))
    until(lambda: not lives(launch_of(run)["leader"]["pid"]) if launched(run) else False)
    run.cancel(grace=0)
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.SUCCEEDED, 0)
    assert record.left


def launched(run: Run) -> bool:
    """Whether somebody has linked launch.json."""
    return os.path.exists(os.path.join(run.log.folder, "launch.json"))


class Clock:
    """The time, which goes on only while somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        """What time it is."""
        return self.now


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("does nothing", 0.2),
        ("writes", 2.0),
        ("uses a processor", 2.0),
        ("wants a processor", 2.0),
        ("makes others", 2.0),
        ("ends", 1.5),
        ("writes for a while", 0.7),
    ],
)
@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "the group alone"])
def test_how_long_it_may_go_on(
    monkeypatch: pytest.MonkeyPatch, what: str, seconds: float, adopted: bool
) -> None:
    """Two seconds while something is done, 0.2 s while nothing is; one where that isn't seen."""
    clock = Clock()
    monkeypatch.setattr(remains, "time", clock)

    def pause(length: float) -> None:
        clock.now += length

    def written() -> int:
        writes = what == "writes" or (what == "writes for a while" and clock.now < 0.5)
        return int(clock.now * 1000) if writes else 0

    class Left(remains.Remains):
        """One process, or a changing one."""

        def _look(self) -> list[process.Identity]:
            if what == "ends" and clock.now >= 1.5:
                return []
            if not adopted:
                return [{"pid": 1}]
            did = clock.now if what in ("uses a processor", "ends") else 0
            pid = int(clock.now * 1000) if what == "makes others" else 1
            return [{"pid": pid, "did": did, "busy": what == "wants a processor"}]

    left = Left({"pid": 0}, "", adopted=adopted, written=written, stopped=lambda: 0, pause=pause)
    left._let_end()
    want = seconds if adopted else 1.0
    assert want <= clock.now < want + 0.15


def test_a_stop_is_seen_while_something_is_left() -> None:
    """The waiting ends with the stop, and not with its own time."""
    asked: list[float] = []

    class Busy(remains.Remains):
        """Something that writes all the time, until it is told to stop."""

        looks = 0

        def _look(self) -> list[process.Identity]:
            self.looks += 1
            return [process.identify(2**22 + 1)] if self.looks < 4 else []

    busy = Busy(
        {"pid": 0},
        "",
        adopted=True,
        written=lambda: busy.looks,
        stopped=lambda: int(busy.looks > 2),
        pause=asked.append,
    )
    busy.end()
    assert len(asked) == 2


def test_what_stands_still_hears_of_a_stop(local: RunManager) -> None:
    """SIGCONT comes behind SIGTERM: a stopped program's handler runs within its grace."""
    run = local.submit(sh("trap 'echo saved; exit 0' TERM; echo up; kill -STOP $$; echo on"))
    until(lambda: run.logs() == "up\n")
    leader = launch_of(run)["leader"]["pid"]
    until(lambda: process._ticks_and_state(leader)[1].startswith("T"))
    run.cancel(grace=PATIENCE)
    assert end(run).status is RunStatus.CANCELLED
    assert "saved" in run.logs()


def test_what_stands_still_hears_of_a_stop_without_a_supervisor(local: RunManager) -> None:
    """The same from a manager, where the supervisor was killed."""
    text = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    run = local.submit(sh(text))
    until(lambda: run.logs() == "up\n")
    launch = launch_of(run)
    os.kill(launch["pid"], signal.SIGKILL)
    until(lambda: not lives(launch["pid"]))
    # Not before: what stands still when its supervisor dies is hung up by the system.
    os.killpg(launch["leader"]["pid"], signal.SIGSTOP)
    until(lambda: process._ticks_and_state(launch["leader"]["pid"])[1].startswith("T"))
    run.cancel(grace=PATIENCE)
    assert end(run).status is RunStatus.LOST
    until(lambda: "saved" in run.logs())  # what keeps the output is a process of its own


# What is said.


def test_names_are_counted_and_can_be_shown() -> None:
    """One word for each name; what a process calls itself is no control sequence."""
    assert remains._say(["sleep", "tail", "sleep"], []) == "sleep (2), tail"
    assert remains._say(["a\x1b[31m", ""], []) == "a?[31m"
    assert remains._say(["sudo"], ["sudo"]) == "sudo; can't be ended: sudo"


def test_the_record_keeps_it() -> None:
    """A record says what was left, after it went through JSON too."""
    record = RunRecord("20260101-000000-bcdfgh", "local", left="sleep (2)")
    assert RunRecord.from_json(record.to_json()).left == "sleep (2)"


@needs_proc
def test_another_runs_processes_are_told_apart(tmp_path: Path) -> None:
    """Descendants are those below a process, but for what carries another run's mark."""
    import subprocess

    need("env", "coreutils")
    sleep = shutil.which("sleep")
    assert sleep
    mark, words = "QWEX_RUN_ID=one", f"{sleep}\0003000\0".encode()
    made = {
        name: subprocess.Popen([sleep, "3000"], env=env)
        for name, env in {
            "mine": {"QWEX_RUN_ID": "one"},
            "unmarked": {},
            "another": {"QWEX_RUN_ID": "two"},
        }.items()
    }
    try:
        # By its words, which are there when its variables are: the name is a moment earlier.
        said = (f"/proc/{child.pid}/cmdline" for child in made.values())
        for path in said:
            until(lambda path=path: process._read(path) == words)
        found = {one["pid"] for one in process.descendants(os.getpid(), mark)}
        told = {name for name, child in made.items() if child.pid in found}
        assert told == {"mine", "unmarked"}
    finally:
        for child in made.values():
            child.kill()
            child.wait()
