"""What goes wrong around a local run, injected one by one, and what is said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end, launch_of, needs_proc, prepared, sh, until
from needs import need

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, RUN, SEEN, SPEC, STOP
from qwex_jupyter.errors import FactUnreadable, RunStillLive
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.system import process
from qwex_jupyter.testing.contract import lives


def launched(manager: RunManager, who: dict[str, Any], leader: dict[str, Any] | None = None) -> Run:
    """A run that is said to have been launched by this process, with this leader."""
    run = prepared(manager, sh("sleep 300"))
    launch = {"by": "supervisor", **who, "leader": leader or who, "at": time.time()}
    facts.link_once(run.log.folder, LAUNCH, launch)
    return run


# A supervisor that dies.


def test_a_killed_supervisor_is_seen_and_named(local: RunManager, tmp_path: Path) -> None:
    """Without its supervisor a run goes on, says so, and is LOST when it is gone."""
    text = "echo up; while [ ! -e go ]; do sleep 0.05; done; echo more; sleep 0.3"
    run = local.submit(sh(text, workdir=str(tmp_path)))
    until(lambda: run.logs() == "up\n")
    os.kill(launch_of(run)["pid"], signal.SIGKILL)
    until(lambda: run.poll() is RunStatus.RUNNING and run.reason == Reason.SUPERVISOR_GONE)
    assert not run.record.status.final
    assert "exit code will not be known" in run.message
    with pytest.raises(RunStillLive):
        run.delete()
    (tmp_path / "go").touch()
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.VANISHED)
    assert record.exit_code is None
    assert f"%qwex rerun {run.handle}" in record.message
    # The scribe is a process of its own: what was said afterwards is there.
    until(lambda: run.logs() == "up\nmore\n")


@pytest.mark.parametrize("text", ["", "trap '' TERM;"], ids=["obeys", "ignores"])
def test_cancel_works_without_a_supervisor(local: RunManager, text: str) -> None:
    """A cancel reaches the group of a run whose supervisor was killed, nicely and then hard."""
    run = local.submit(sh(f"{text} sleep 300 & echo $!; while :; do sleep 0.1; done"))
    until(lambda: run.logs().endswith("\n"))
    child = int(run.logs())
    launch = launch_of(run)
    os.kill(launch["pid"], signal.SIGKILL)
    until(lambda: run.poll() is RunStatus.RUNNING and run.reason == Reason.SUPERVISOR_GONE)
    run.cancel(grace=0.3)
    record = end(run)
    # Nobody saw how it ended, so no outcome is made up.
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.VANISHED)
    assert "a stop had been asked for" in record.message
    until(lambda: not lives(child) and not lives(launch["leader"]["pid"]))


@needs_proc
def test_cancel_without_a_supervisor_reaches_another_session(manager: RunManager) -> None:
    """Also what left the group is stopped, found by the mark in its environment."""
    run = manager.submit(sh("setsid sh -c 'echo $$; exec sleep 300' & sleep 300"))
    until(lambda: run.logs().endswith("\n"))
    child = int(run.logs())
    os.kill(launch_of(run)["pid"], signal.SIGKILL)
    until(lambda: run.poll() is RunStatus.RUNNING and run.reason == Reason.SUPERVISOR_GONE)
    run.cancel()
    assert end(run).status is RunStatus.LOST
    until(lambda: not lives(child))


def test_a_killed_server_is_replaced(local: RunManager, tmp_path: Path) -> None:
    """The process that forks supervisors may die at any time: its runs go on, others start."""
    first = local.submit(sh(f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done; exit 7"))
    until(lambda: first.poll() is RunStatus.RUNNING)
    server = local.runner("local")._server._pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    until(lambda: _state(server) in ("", "Z"))
    second = local.submit(sh("exit 8"))
    assert end(second).exit_code == 8
    (tmp_path / "go").touch()
    assert end(first).exit_code == 7


def test_a_request_that_a_dead_server_never_read_is_closed(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run whose server was killed before it forked is LOST / NeverStarted, never repeated."""
    assert end(manager.submit(sh("exit 0"))).exit_code == 0
    server = manager.runner("local")._server._pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGSTOP)
    until(lambda: _state(server) == "T")
    run = manager.submit(sh(f"echo x >> '{tmp_path}/executed'"))
    assert run.poll() is RunStatus.PENDING
    os.kill(server, signal.SIGKILL)
    until(lambda: _state(server) in ("", "Z"))
    assert run.poll() is RunStatus.PENDING
    monkeypatch.setattr("qwex_jupyter.manager.closing.GOOD_FOR", 0.0)
    until(lambda: run.poll() is RunStatus.LOST)
    assert run.reason == Reason.NEVER_STARTED
    assert not (tmp_path / "executed").exists()


def _state(pid: int) -> str:
    if os.path.exists("/proc/self/stat"):
        return process._read(f"/proc/{pid}/stat").rpartition(b")")[2].decode().strip()[:1]
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs Linux or macOS")
def test_a_frozen_supervisor_is_no_outcome(local: RunManager, tmp_path: Path) -> None:
    """A supervisor that stands still is running; when it goes on it tells the truth."""
    run = local.submit(sh("echo up; exit 7"))
    end(run)
    run = local.submit(sh(f"echo up; while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done; exit 7"))
    until(lambda: run.logs() == "up\n")
    launch = launch_of(run)
    os.kill(launch["pid"], signal.SIGSTOP)
    try:
        until(lambda: _state(launch["pid"]) == "T")
        (tmp_path / "go").touch()
        until(lambda: _state(launch["leader"]["pid"]) in ("", "Z"))
        for _ in range(10):
            assert run.poll() is RunStatus.RUNNING
    finally:
        os.kill(launch["pid"], signal.SIGCONT)
    assert end(run).exit_code == 7


def test_a_supervisor_that_fails_leaves_a_run_that_can_be_stopped(
    manager: RunManager, boots: Callable[[str], None]
) -> None:
    """What the system refuses a supervisor at work ends the supervisor, and takes no stop away."""
    boots("def refused(*_): raise OSError(5, 'refused')\nsupervisor._Watch._until_ended = refused")
    run = manager.submit(sh("echo up; exec sleep 300"))
    until(lambda: run.logs() == "up\n")
    until(lambda: run.poll() is RunStatus.RUNNING and run.reason == Reason.SUPERVISOR_GONE)
    run.cancel(grace=0)
    assert end(run).status is RunStatus.LOST
    assert "OSError: [Errno 5] refused" in Path(run.log.folder, "supervisor.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_what_is_sent_to_a_kernel_reaches_no_server_that_is_being_born(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An interrupt or restart goes to a kernel's whole group: a server of that moment stays."""
    made = subprocess.Popen

    def hit(*given: Any, **named: Any) -> subprocess.Popen[bytes]:
        found: subprocess.Popen[bytes] = made(*given, **named)
        found.send_signal(number)
        return found

    monkeypatch.setattr("qwex_jupyter.runners.local.client.subprocess.Popen", hit)
    assert end(manager.submit(sh("exit 5"))).exit_code == 5


def test_a_kernel_killed_while_its_server_starts_loses_no_run(
    manager: RunManager, tmp_path: Path
) -> None:
    """The request lies in the pipe by then: the run is started, and ends, without its kernel."""
    code = (
        "import os, sys\n"
        "from qwex_jupyter.manager.manager import RunManager\n"
        "from qwex_jupyter.runners.local import client as local_server\n"
        "from qwex_jupyter.model.spec import JobSpec\n"
        "local_server.Server._why_not = lambda self: os._exit(9)\n"
        "RunManager(sys.argv[1]).submit(JobSpec(command=('echo', 'started')))\n"
    )
    command = [sys.executable, "-c", code, manager.history.home]
    assert subprocess.run(command, check=False).returncode == 9
    (run_id,) = manager.history.run_ids()
    run = manager.get(run_id)
    assert end(run).status is RunStatus.SUCCEEDED
    assert run.logs() == "started\n"


# Names that mean somebody else now.


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, leader of a group and a session of its own."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process_:
        yield process_
        process_.kill()


@pytest.mark.timeout(1200)  # a hundred runs, on however busy a machine
def test_a_stranger_with_the_same_pid_is_never_touched(
    manager: RunManager, stranger: subprocess.Popen[bytes]
) -> None:
    """A pid that was used again is not the run: it is LOST, and no stop reaches the stranger."""
    who = {**process.identify(stranger.pid), "ticks": "1"}
    for _ in range(100):
        run = launched(manager, who)
        runner = manager.runner("local")
        for force in (False, True):
            runner.cancel(run.run_id, 0.0, "cancel", force=force)
        run.cancel(grace=0)
        run.cancel()
        assert run.poll() is RunStatus.LOST
        assert (run.reason, run.exit_code) == (Reason.VANISHED, None)
    assert stranger.poll() is None


def test_a_strangers_group_is_not_the_runs(
    local: RunManager, stranger: subprocess.Popen[bytes]
) -> None:
    """A group whose leader began at another time is a stranger's, also through ps."""
    who = {**process.identify(stranger.pid), "ticks": "Thu Jan  1 00:00:00 1970"}
    run = launched(local, who)
    run.cancel(grace=0)
    assert run.poll() is RunStatus.LOST
    assert stranger.poll() is None


@needs_proc
def test_a_leaderless_group_of_a_stranger_is_not_the_runs(manager: RunManager) -> None:
    """A group that has the run's number, but no leader and not its mark, is left alone."""
    made = subprocess.run(
        ["setsid", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $$ $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    group, child = (int(word) for word in made.stdout.split())
    try:
        until(lambda: not lives(group))
        gone = {**process.identify(os.getpid()), "ticks": "1"}
        run = launched(manager, gone, {**gone, "pid": group})
        run.cancel(grace=0)
        assert run.poll() is RunStatus.LOST
        assert lives(child)
    finally:
        os.kill(child, signal.SIGKILL)


@needs_proc
def test_reused_pids_in_a_namespace_of_their_own(tmp_path: Path) -> None:
    """The kernel itself gives a dead run's pids to strangers: the run is LOST, they live on."""
    need("unshare", "util-linux")
    if subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to make a pid namespace (run as root)")
    text = """
        import os, signal, subprocess, sys, time
        from qwex_jupyter.manager.manager import RunManager
        from qwex_jupyter.model.spec import JobSpec

        manager = RunManager(sys.argv[1])

        def reap():
            # Pid 1 of this namespace inherits the dead.
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        def sleeper(pid):
            while not os.path.exists(f"/proc/{pid}"):
                reap()
                with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                    file.write(str(pid - 1))
                child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
                if child.pid == pid:
                    return child
                child.kill()
                child.wait()
            return None  # a thread of ours was quicker, or the next supervisor

        def gone(pid):
            while os.path.exists(f"/proc/{pid}"):
                reap()
                time.sleep(0.005)

        seen = 0
        while seen < 10:
            run = manager.submit(JobSpec(command=("sleep", "1000")))
            while not (launch := run.log.folder.read("launch.json")):
                time.sleep(0.005)
            manager.close()
            pids = launch["pid"], launch["leader"]["pid"]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                gone(pid)
            strangers = [sleeper(pid) for pid in sorted(pids)]
            if None in strangers:
                for stranger in filter(None, strangers):
                    stranger.kill()
                    stranger.wait()
                continue
            seen += 1
            run.cancel(grace=0)
            run.cancel()
            manager.close()
            run.poll()
            assert str(run.status) == "LOST", run.record
            assert run.exit_code is None
            for stranger in strangers:
                assert stranger.poll() is None, "a stranger was killed"
                stranger.kill()
                stranger.wait()
        print("survived")
    """
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-c", textwrap.dedent(text), str(tmp_path / "home")),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "survived\n", done.stderr


@pytest.mark.forks
def test_a_zombie_is_gone(local: RunManager) -> None:
    """A process that ended and that nobody reaped doesn't keep a run alive."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        until(lambda: os.getpgid(child) == child)
        run = launched(local, process.identify(child))
        assert run.poll() is RunStatus.RUNNING
        os.close(write)
        until(lambda: _state(child) == "Z")
        until(lambda: run.poll() is RunStatus.LOST)
        assert run.reason == Reason.VANISHED
    finally:
        os.waitpid(child, 0)


def test_a_live_supervisor_is_running(local: RunManager) -> None:
    """The same record with a living process behind it is RUNNING, however often it is asked."""
    run = launched(local, process.identify(os.getpid()))
    assert [run.poll() for _ in range(5)] == [RunStatus.RUNNING] * 5
    facts.link_once(run.log.folder, RUN, run.record.to_json() | {"status": "SUCCEEDED"})


# Other machines, other boots.


def test_a_run_of_another_host_is_never_lost(manager: RunManager) -> None:
    """What runs elsewhere is what it last was, HostUnreachable, with the host's name."""
    there = {**process.identify(os.getpid()), "host": "elsewhere", "machine": "0" * 32}
    launch = launched(manager, there)
    identity = f"local://elsewhere/{'0' * 32}/pid:[1]"
    spec = prepared(manager, sh("sleep 9"), identity=identity, host="elsewhere", submitter=there)
    facts.link_once(spec.log.folder, LAUNCH, {**there, "leader": there, "at": time.time()})
    for run, status in ((launch, RunStatus.RUNNING), (spec, RunStatus.PENDING)):
        for _ in range(3):
            assert run.poll() is status
            assert run.reason == Reason.HOST_UNREACHABLE
            assert "elsewhere" in run.message
        with pytest.raises(RunStillLive):
            run.delete()
    # A cancel is written down, for the supervisor over there to find.
    launch.cancel()
    spec.cancel()
    for run in (launch, spec):
        assert facts.exists(run.log.folder, STOP)
        assert not run.record.status.final


def test_a_run_that_nobody_started_elsewhere_is_closed(manager: RunManager) -> None:
    """After ten quiet minutes a run that was never launched on another host is NeverStarted."""
    there = {**process.identify(os.getpid()), "host": "elsewhere", "machine": "0" * 32}
    values = {"identity": f"local://elsewhere/{'0' * 32}/pid:[1]", "submitter": there}
    fresh = prepared(manager, sh("x"), **values)
    assert fresh.poll() is RunStatus.PENDING
    old = prepared(manager, sh("x"), created_at=time.time() - 3600, **values)
    assert old.poll() is RunStatus.LOST
    assert (old.reason, old.exit_code) == (Reason.NEVER_STARTED, None)


def test_a_neighbouring_containers_pids_are_not_ours(manager: RunManager) -> None:
    """The same host with another pid namespace can't be looked into: never LOST."""
    run = launched(manager, {**process.identify(os.getpid()), "pidns": "pid:[1]"})
    assert run.poll() is RunStatus.RUNNING
    assert run.reason == Reason.HOST_UNREACHABLE


@needs_proc
def test_another_boot_ends_everything_before_it(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the machine a run is LOST / BackendRestarted; in a container it isn't."""
    namespace = process.place()["pidns"]
    before = {**process.identify(os.getpid()), "boot": "another"}
    monkeypatch.setattr(process, "_FIRST_PID_NAMESPACE", "that of the host")
    contained = launched(manager, before)
    assert contained.poll() is RunStatus.RUNNING
    assert contained.reason == Reason.HOST_UNREACHABLE
    monkeypatch.setattr(process, "_FIRST_PID_NAMESPACE", namespace)
    run = launched(manager, before)
    assert run.poll() is RunStatus.LOST
    assert (run.reason, run.exit_code) == (Reason.BACKEND_RESTARTED, None)
    assert "restarted" in run.message


def test_a_submitter_that_is_gone_started_nothing(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose submitter died before the launch is LOST / NeverStarted; a cancel is heard."""
    gone = {**process.identify(os.getpid()), "ticks": "1"}
    minute_ago = time.time() - 60
    lost = prepared(manager, sh("x"), submitter=gone, created_at=minute_ago)
    assert lost.poll() is RunStatus.LOST
    assert (lost.reason, lost.exit_code) == (Reason.NEVER_STARTED, None)
    monkeypatch.setattr(closing, "_LAST_BREATH", 60.0)
    fresh = prepared(manager, sh("x"), submitter=gone)
    assert fresh.poll() is RunStatus.PENDING
    fresh.cancel()
    assert end(fresh).status is RunStatus.CANCELLED


# Programs that can't be executed.


@pytest.mark.parametrize("command", ["sh", "#!"])
def test_a_script_that_vanished_is_an_outcome(manager: RunManager, command: str) -> None:
    """A script deleted between write and exec fails with the interpreter's word for it."""
    words = ("sh",) if command == "sh" else ()
    spec = JobSpec(command=words, script="#!/bin/sh\nexit 0")
    run = prepared(manager, spec)
    os.unlink(os.path.join(run.log.folder, "cell.sh"))
    runner = manager.runner("local")
    plan = runner.plan(spec, run.run_id)
    runner.submit(plan, run.log.folder, runner.inherited(plan))
    record = end(run)
    assert record.status is RunStatus.FAILED
    assert record.exit_code in (2, 127)
    assert "cell.sh" in run.logs("stderr")


def test_a_program_that_may_not_be_executed_says_so(manager: RunManager, tmp_path: Path) -> None:
    """A program of mode 000, a folder, and nonsense are CommandNotFound with their cause."""
    closed = tmp_path / "closed"
    closed.write_text("#!/bin/sh\n")
    closed.chmod(0)
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\x7fELF nonsense")
    nonsense.chmod(0o700)
    dangling = tmp_path / "dangling"
    dangling.write_text("#!/no/such/interpreter\n")
    dangling.chmod(0o700)
    for path, word in (
        (closed, "isn't executable"),
        (tmp_path, "isn't executable"),
        (nonsense, "could not be run"),
        (dangling, "isn't there"),
    ):
        record = end(manager.submit(JobSpec(command=(str(path),))))
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
        assert record.exit_code is None
        assert str(path) in record.message and word in record.message


def test_a_working_folder_that_vanished_is_named(manager: RunManager, tmp_path: Path) -> None:
    """A folder that is gone when the program starts is the cause that is given."""
    folder = tmp_path / "soon gone"
    folder.mkdir()
    spec = sh("exit 0", workdir=str(folder))
    run = prepared(manager, spec)
    runner = manager.runner("local")
    plan = runner.plan(spec, run.run_id)
    folder.rmdir()
    runner.submit(plan, run.log.folder, runner.inherited(plan))
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.FAILED, None)
    assert "soon gone" in record.message


def test_200_fresh_scripts_at_once(manager: RunManager) -> None:
    """No freshly written script is "Text file busy", however many start at the same time."""
    codes: list[int | None] = []

    def work() -> None:
        runs = [manager.submit(JobSpec(script="#!/bin/sh\nexit 7")) for _ in range(25)]
        codes.extend(end(run).exit_code for run in runs)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [7] * 200


# Disks.


def test_a_full_disk_doesn_t_lose_the_outcome(mounted: Callable[[str], Path]) -> None:
    """On a disk filled by the run itself its outcome is written, and what was lost is counted."""
    manager = RunManager(str(mounted("size=1m") / "home"))
    # Two streams, so that each can fill what the other leaves.
    text = "head -c 3000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 7"
    record = end(manager.submit(sh(text)))
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 7)
    run = Run(manager, record.run_id)
    kept = {stream: run.log.size(stream) for stream in ("stdout", "stderr")}
    said = {"stdout": 3_000_000, "stderr": 1_000_000}
    assert 0 < kept["stdout"] < said["stdout"]
    assert record.log_missing == {stream: said[stream] - kept[stream] for stream in said}
    manager.close()


def test_a_cancel_works_on_a_full_disk(mounted: Callable[[str], Path]) -> None:
    """A run on a full disk can be stopped: the room for that was set aside."""
    manager = RunManager(str(mounted("size=1m") / "home"))
    run = manager.submit(sh("head -c 3000000 /dev/zero; echo done >&2; sleep 300"))
    until(lambda: run.poll() is RunStatus.RUNNING)
    until(lambda: run.log.size("stdout") > 300_000)
    run.cancel(grace=0)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
    manager.close()


def test_a_home_without_execution_runs_scripts(mounted: Callable[[str], Path]) -> None:
    """On a file system mounted noexec a script with a `#!` line runs by its interpreter."""
    manager = RunManager(str(mounted("size=1m,noexec") / "home"))
    run = manager.submit(JobSpec(script="#!/bin/sh -e\nfalse\nexit 0\n"))
    assert end(run).exit_code == 1
    manager.close()


# Children that the program leaves.


def test_a_daemon_that_holds_the_streams_doesn_t_hold_the_end(
    manager: RunManager, tmp_path: Path
) -> None:
    """A child that left the group and keeps stdout open doesn't delay the outcome."""
    text = """
        setsid sh -c 'echo $$; touch up; exec sleep 300' &
        until [ -e up ]; do sleep 0.02; done; echo x; exit 3
    """
    run = manager.submit(sh(text, workdir=str(tmp_path)))
    record = end(run)
    assert (record.exit_code, record.log_missing) == (3, {})
    pid = int(run.logs().split()[0])
    assert run.logs() == f"{pid}\nx\n"
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it went with the run, which is as good


# Damage.


@pytest.mark.parametrize("text", ["{torn", "[]", "{}", '{"pid": 1}'])
@pytest.mark.parametrize("name", [LAUNCH, STOP, SPEC, RUN, SEEN])
def test_a_damaged_run_doesn_t_hide_the_others(manager: RunManager, name: str, text: str) -> None:
    """A file that isn't ours in one open run keeps nobody from seeing how another one ends."""
    bad = prepared(manager, sh("x"))
    path = Path(bad.log.folder, name)
    path.unlink(missing_ok=True)
    path.write_text(text)
    manager.history.mark_open(bad.run_id)
    good = launched(manager, {**process.identify(os.getpid()), "ticks": "1"})
    manager.tracker.look()
    assert good.status is RunStatus.LOST
    assert {record.run_id for record in manager.history.records()} == {bad.run_id, good.run_id}
    manager.recover()
    try:
        bad.poll()
    except FactUnreadable as error:
        assert bad.run_id in str(error)
