"""LocalRunner passes the contract, with /proc and without, and gives programs a clean start."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from local_helpers import end, launch_of, needs_proc, python, sh, until
from needs import need

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import STOP
from qwex_jupyter.errors import RunnerUnavailable, SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.local import client
from qwex_jupyter.runners.local.runner import LocalRunner
from qwex_jupyter.system import process, windows
from qwex_jupyter.testing.contract import RunnerContract, ShellPrograms, lives


class LocalPrograms(ShellPrograms):
    """Behaviours of programs of this machine."""

    def __init__(self, *, session: bool) -> None:
        super().__init__()
        self._session = session

    def leaves_children(self, seconds: float) -> JobSpec:
        """See `ShellPrograms.leaves_children`."""
        lines = [f"sleep {seconds} &", "echo pid $!"]
        if self._session:
            lines += [f"setsid sh -c 'echo pid $$; echo ready; exec sleep {seconds}' &"]
        else:
            lines += ["echo ready"]
        return self.script("\n".join([*lines, "echo pid $$", f"sleep {seconds}"]))

    def counted(self, mark: str) -> JobSpec:
        """See `ShellPrograms.counted`."""
        return self.script(f"printf x >> '{mark}'")


class TestLocal(RunnerContract):
    """The contract, on the local runner."""

    runner = "local"
    programs = LocalPrograms(session=True)
    brief = 3

    def executions(self, run: Run, mark: str) -> int:
        """See `RunnerContract.executions`."""
        return os.path.getsize(mark) if os.path.exists(mark) else 0


class TestPortable(TestLocal):
    """The contract, on the local runner with the paths of systems that have no /proc."""

    programs = LocalPrograms(session=False)
    settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {"local": {"portable": True}}

    @pytest.fixture(autouse=True)
    def without_proc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This process too looks at others through ps."""
        need("ps", "procps")
        monkeypatch.setattr(process, "use_proc", False)


def in_python(home: str, text: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Runs a program that has `home`, `manager`, JobSpec and the standard names."""
    head = """
        import asyncio, os, signal, socket, sys, threading, time
        from qwex_jupyter.manager.manager import RunManager
        from qwex_jupyter.model.spec import JobSpec
        home = sys.argv[1]
        manager = RunManager(home)
    """
    code = textwrap.dedent(head) + textwrap.dedent(text)
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, home],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# Who submits, and how.


@pytest.fixture
def dispositions() -> Iterator[None]:
    """Asserts that a test leaves the signals of this process as they were; puts them back."""

    def now() -> dict[int, Any]:
        # SIGALRM is pytest-timeout's, which sets it anew while a test runs.
        numbers = signal.valid_signals() - {signal.SIGALRM}
        return {number: signal.getsignal(number) for number in numbers}

    before, mask = now(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mine = now()
    try:
        yield
        assert now() == mine
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGCHLD, before[signal.SIGCHLD])
        signal.signal(signal.SIGINT, before[signal.SIGINT])


def test_sigchld_ignored_changes_no_outcome(local: RunManager, dispositions: None) -> None:
    """In a notebook that ignores SIGCHLD, exit 7 is 7 and exit 0 is 0."""
    runs = [local.submit(sh(f"exit {code}")) for code in (7, 0, 7)]
    assert [end(run).exit_code for run in runs] == [7, 0, 7]


def test_threads_and_tasks_may_submit(manager: RunManager, dispositions: None) -> None:
    """Threads and asyncio tasks submit as the main thread does, all at the same time."""
    runs: list[tuple[int, Run]] = []

    def submit(code: int) -> None:
        runs.append((code, manager.submit(sh(f"echo {code}; exit {code}"))))

    async def tasks() -> None:
        async def one(code: int) -> None:
            submit(code)

        await asyncio.gather(*(one(code) for code in range(10, 20)))

    threads = [threading.Thread(target=submit, args=(code,)) for code in range(20, 30)]
    for thread in threads:
        thread.start()
    # In a thread, as another library's loop may be running in this one.
    threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
    threads[-1].start()
    for thread in threads:
        thread.join()
    for code, run in runs:
        assert end(run).exit_code == code
        assert run.logs() == f"{code}\n"
    assert len(runs) == 20


def test_forks_of_the_submitter_submit_for_themselves(home: str) -> None:
    """Forked children and their parent submit at the same time, and nothing is mixed up."""
    done = in_python(
        home,
        """
        first = manager.submit(JobSpec(command=("sh", "-c", "exit 9")))
        before = {n: signal.getsignal(n) for n in signal.valid_signals()}
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                try:
                    runs = [
                        manager.submit(JobSpec(command=("sh", "-c", f"exit {number * 10 + i}")))
                        for i in range(1, 9)
                    ]
                    codes = [run.wait(60, check=False).exit_code for run in runs]
                    os._exit(0 if codes == [number * 10 + i for i in range(1, 9)] else 1)
                finally:
                    os._exit(2)
            children.append(child)
        runs = [manager.submit(JobSpec(command=("sh", "-c", f"exit {i}"))) for i in range(8)]
        assert [run.wait(60, check=False).exit_code for run in runs] == list(range(8))
        assert first.wait(60, check=False).exit_code == 9
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert before == {n: signal.getsignal(n) for n in signal.valid_signals()}
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_run_outlives_its_submitter(home: str) -> None:
    """A submitter killed with -9 changes nothing: the outcome is there, and complete."""
    done = in_python(
        home,
        """
        text = "echo one; sleep 1; echo two; exit 7"
        print(manager.submit(JobSpec(command=("sh",), script=text)).run_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    run = RunManager(home).get(done.stdout.strip())
    assert (end(run).exit_code, run.logs()) == (7, "one\ntwo\n")


def test_signals_to_the_submitters_group_don_t_reach_a_run(home: str) -> None:
    """Interrupt, hang-up and termination of the kernel's process group leave runs alone."""
    done = in_python(
        home,
        """
        os.setsid()
        text = "echo up; sleep 1; exit 7"
        run = manager.submit(JobSpec(command=("sh",), script=text))
        while run.logs() != "up\\n":
            time.sleep(0.01)
        numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
            os.killpg(0, number)
        print(run.run_id)
        """,
    )
    assert end(RunManager(home).get(done.stdout.strip())).exit_code == 7, done.stderr


# What a program is given.


@needs_proc
def test_a_program_starts_with_default_signals(manager: RunManager, dispositions: None) -> None:
    """No signal is ignored or blocked in a program, whatever its submitter did."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})
    try:
        run = manager.submit(JobSpec(command=("cat", "/proc/self/status")))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end(run)
    lines = dict(line.split(":", 1) for line in run.logs().splitlines())
    # The C library keeps two for itself (32 and 33), which its posix_spawn leaves ignored where
    # somebody cancelled a thread before; no program can do anything about them.
    of_libc = 0b11 << (32 - 1)
    for name in ("SigIgn", "SigBlk", "SigPnd"):
        assert int(lines[name], 16) & ~of_libc == 0, name


@needs_proc
def test_nothing_is_inherited_but_the_three_streams(manager: RunManager) -> None:
    """Neither program nor supervisor holds a socket, a lock or a file of the submitter."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        read, write = os.pipe()
        os.set_inheritable(read, True)
        os.set_inheritable(write, True)
        address = server.getsockname()
        run = manager.submit(sh("ls -l /proc/$$/fd; exec sleep 300"))
        until(lambda: run.logs().count("->") >= 3)
        os.close(read)
        os.close(write)
    # The port is free at once, though the run lives.
    with socket.create_server(address, reuse_port=False):
        pass
    held = [line.split()[-3:] for line in run.logs().splitlines() if "->" in line]
    script = f"{run.log.folder}/cell.sh"
    assert {words[0] for words in held if words[2] != script} == {"0", "1", "2"}
    assert next(words[2] for words in held if words[0] == "0") == "/dev/null"
    supervisor = f"/proc/{launch_of(run)['pid']}/fd"
    targets = [os.readlink(f"{supervisor}/{name}") for name in os.listdir(supervisor)]
    assert targets and not [name for name in targets if name.startswith("socket:")]
    run.cancel(grace=0)
    end(run)


def test_stdin_is_empty(local: RunManager) -> None:
    """A program that reads gets nothing at once, and input() fails with a sentence about it."""
    assert end(local.submit(sh("cat; exit 5"))).exit_code == 5
    record = end(local.submit(python("input('name? ')")))
    assert record.exit_code == 1
    assert "asked for input, and a run has none" in record.message


def test_writing_to_dev_stderr_keeps_what_was_there(local: RunManager) -> None:
    """`> /dev/stderr` opens the stream anew and still loses no earlier line."""
    text = "echo 1 >&2; echo 2 > /dev/stderr; echo 3 >&2; echo a; echo b > /dev/stdout; echo c"
    run = local.submit(sh(text))
    end(run)
    assert (run.logs("stderr"), run.logs("stdout")) == ("1\n2\n3\n", "a\nb\nc\n")


def test_umask_and_folder_are_those_at_submit(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run works where its submitter stood, with its umask, at the moment of submit."""
    runs = []
    before = os.umask(0o022)
    try:
        for name, mask in (("one", 0o027), ("two ö", 0o077)):
            folder = tmp_path / name
            folder.mkdir()
            monkeypatch.chdir(folder)
            os.umask(mask)
            runs.append((manager.submit(sh("sleep 0.2; umask; pwd")), mask, folder))
    finally:
        os.umask(before)
        monkeypatch.chdir("/")
    for run, mask, folder in runs:
        end(run)
        assert run.logs() == f"{mask:04o}\n{folder}\n"


def test_what_a_program_gets_is_read_when_it_is_prepared(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, umask, variables and limits are those of the moment at which it was prepared."""
    text = "umask; pwd; echo $MY_WORD; ulimit -Sn"
    before, (soft, hard) = os.umask(0o027), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MY_WORD", "before")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        prepared = manager.prepare(sh(text))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        monkeypatch.chdir("/")
        monkeypatch.setenv("MY_WORD", "after")
        os.umask(0o077)
        run = manager.hand_over(prepared)
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    end(run)
    assert run.logs() == f"0027\n{tmp_path}\nbefore\n{soft - 1}\n"


def test_following_lasts_until_all_is_on_disk(manager: RunManager) -> None:
    """`follow` returns at a stop, or when the run has ended and nothing more will come."""
    run = manager.submit(sh("echo one; exec sleep 300"))
    until(lambda: run.logs() == "one\n")
    runner, once, never = manager.runner("local"), threading.Event(), threading.Event()
    once.set()
    assert not runner.follow(run.run_id, run.log, once)
    answers: list[bool] = []
    follower = threading.Thread(
        target=lambda: answers.append(runner.follow(run.run_id, run.log, never))
    )
    follower.start()
    run.cancel(grace=0)
    follower.join(60)
    assert answers == [True]
    assert run.log.folder.has("run.json")
    assert runner.follow(run.run_id, run.log, once)
    run.delete()
    assert runner.follow(run.run_id, run.log, never)


def test_a_working_folder_can_be_chosen(manager: RunManager, tmp_path: Path) -> None:
    """The program works in the folder it was given; one that isn't there is refused by name."""
    run = manager.submit(sh("pwd", workdir=str(tmp_path)))
    end(run)
    assert run.logs() == f"{tmp_path}\n"
    with pytest.raises(SpecError, match="no-such-folder"):
        manager.submit(sh("pwd", workdir=str(tmp_path / "no-such-folder")))


def test_python_speaks_at_once_unless_told(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONUNBUFFERED is 1 unless the user set it, in the environment or for this run."""
    text = 'echo "$PYTHONUNBUFFERED"'
    first = manager.submit(sh(text))
    second = manager.submit(sh(text, env={"PYTHONUNBUFFERED": "0"}))
    monkeypatch.setenv("PYTHONUNBUFFERED", "x")
    third = manager.submit(sh(text))
    for run, value in ((first, "1"), (second, "0"), (third, "x")):
        end(run)
        assert run.logs() == f"{value}\n"


def test_a_python_script_imports_from_its_folder(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python script finds modules of the folder it works in, and of the user's PYTHONPATH."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text("x = 1\n")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "yours.py").write_text("y = 2\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    run = manager.submit(python("import mine, yours; print(mine.x + yours.y)"))
    assert end(run).status is RunStatus.SUCCEEDED, run.logs()
    assert run.logs() == "3\n"
    shell = manager.submit(sh("echo $PYTHONPATH"))
    end(shell)
    assert shell.logs() == f"{tmp_path / 'there'}\n"


def test_python_is_the_kernels_own(home: str) -> None:
    """`python` as interpreter is the one that was set: a kernel gives its own."""
    local = RunManager(home, settings={"local": {"python": sys.executable}})
    spec = JobSpec(command=("python",), script="import sys; print(sys.executable)")
    run = local.submit(spec)
    end(run)
    assert run.logs().strip() == sys.executable


def test_a_kernels_own_variables_are_not_passed_on(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JPY_* and the kernel's MPLBACKEND stay behind; what the user set goes along."""
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("JPY_SESSION_NAME", "/a/b.ipynb")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("MY_OWN", "kept")
    run = manager.submit(JobSpec(command=("env",)))
    end(run)
    names = {line.partition("=")[0] for line in run.logs().splitlines()}
    assert not {name for name in names if name.startswith("JPY_")} | names & {"MPLBACKEND"}
    assert {"MY_OWN", "PATH", "QWEX_RUN_ID"} <= names
    monkeypatch.setenv("MPLBACKEND", "agg")
    run = manager.submit(sh("echo $MPLBACKEND"))
    end(run)
    assert run.logs() == "agg\n"


# What is recorded.


def test_time_and_memory_are_recorded(local: RunManager) -> None:
    """CPU time and peak memory of a run, and of the children it waited for, are known."""
    text = """
        import subprocess, sys, time
        held = bytearray(b"x") * (96 << 20)
        burn = "import time; e = time.process_time() + 0.3\\nwhile time.process_time() < e: pass"
        subprocess.run([sys.executable, "-c", burn], check=True)
    """
    record = end(local.submit(python(text)))
    assert record.status is RunStatus.SUCCEEDED
    assert record.peak_memory is not None and 96 << 20 < record.peak_memory < 1 << 30
    assert record.cpu_time is not None and 0.3 <= record.cpu_time < 60
    assert record.elapsed is not None and record.elapsed >= 0.3


def test_memory_of_the_whole_tree_counts(local: RunManager) -> None:
    """Children that are each below the limit and together above it end the run."""
    text = """
        import subprocess, sys
        hold = "import time; held = bytearray(b'x') * (80 << 20); time.sleep(120)"
        children = [subprocess.Popen([sys.executable, "-c", hold]) for _ in range(3)]
        for child in children:
            child.wait()
    """
    spec = python(text, resources={"memory": "160m"}, timeout=100)
    record = end(local.submit(spec))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.OUT_OF_MEMORY)
    assert record.peak_memory is not None and record.peak_memory > 160 << 20


def test_what_the_leader_leaves_in_its_group_is_ended(local: RunManager) -> None:
    """A background child of a program that has ended goes with it, and holds nothing up."""
    run = local.submit(sh("sleep 300 & echo $!; exit 3"))
    record = end(run)
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 3)
    child = int(run.logs())
    until(lambda: not lives(child))


@needs_proc
def test_nothing_is_left_behind(local: RunManager) -> None:
    """After their ends there is no zombie and no process of ten runs."""
    before = zombies()
    runs = [local.submit(sh(f"(exit 1) & exit {code}")) for code in range(10)]
    ids = []
    for run in runs:
        end(run)
        launch = launch_of(run)
        ids += [launch["pid"], launch["leader"]["pid"]]

    def left() -> list[int]:
        return [pid for pid in ids if os.path.exists(f"/proc/{pid}")]

    until(lambda: not left())
    # Of this process and of the server that forks supervisors.
    until(lambda: not zombies(local.runner("local")._server._pid) - before)  # type: ignore[attr-defined]


@needs_proc
def test_a_server_that_nobody_uses_is_not_waited_for(
    local: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can't leave yet holds nobody up, and is reaped when it has left."""
    runner = local.runner("local")
    assert isinstance(runner, LocalRunner)
    end(local.submit(sh("true")))
    assert runner._server is not None
    pid = runner._server._pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(client, "time", None)
    runner._server = None
    os.kill(pid, signal.SIGCONT)
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def zombies(*parents: int) -> set[int]:
    """Children of this process, and of those, that have ended and aren't waited for."""
    stats = process._stats().items()
    of = {os.getpid(), *parents}
    return {pid for pid, words in stats if words[0] == b"Z" and int(words[1]) in of}


def test_a_stop_from_another_machine_is_obeyed(local: RunManager) -> None:
    """A stop.json that appears without any signal, as through a shared home, ends the run."""
    run = local.submit(sh("echo up; sleep 300"))
    until(lambda: run.logs() == "up\n")
    stop = {"who": "a colleague", "why": "cancel", "grace": 5.0, "at": time.time()}
    facts.link_once(run.log.folder, STOP, stop)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
    assert "a colleague" in record.message


def test_windows_gets_one_clear_sentence(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no POSIX, the runner says what to use instead."""
    runner = manager.runner("local")
    with monkeypatch.context() as patch:
        patch.setattr(windows, "HERE", True)
        with pytest.raises(RunnerUnavailable, match="WSL"):
            runner.check()


def test_a_dry_run_can_be_run_by_hand(manager: RunManager, tmp_path: Path) -> None:
    """What a dry run prints does, pasted into a shell, what the run would do."""
    runner = manager.runner("local")
    spec = sh('echo "$A" "$1"\npwd', env={"A": "it's $5"}, workdir=str(tmp_path))
    spec = JobSpec(**{**spec.to_json(), "command": ("sh", "-", "two  words")})
    text = runner.show(runner.plan(spec, "20260101-000000-bcdfgh"))
    done = subprocess.run(
        ["sh"], input=text, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"it's $5 two  words\n{tmp_path}\n"


def test_a_dry_run_names_files_of_variables(manager: RunManager, tmp_path: Path) -> None:
    """What ``--env-file`` would add is named by its file, without a value, and is a comment."""
    path = tmp_path / "ef"
    path.write_text("TOKEN=hunter2\n")
    runner = manager.runner("local")
    spec = JobSpec(**{**sh("echo ok").to_json(), "env_files": (str(path),)})
    text = runner.show(runner.plan(spec, "20260101-000000-bcdfgh"))
    assert f"# to be added to env, with the values they have here: {path}\n" in text
    assert "hunter2" not in text
    assert subprocess.run(["sh"], input=text, capture_output=True, text=True).stdout == "ok\n"


def test_the_usual_time_is_that_of_the_same_command(manager: RunManager) -> None:
    """How long a run usually takes is told of the same command, and of successes only."""
    first = end(manager.submit(sh("sleep 0.2")))
    end(manager.submit(sh("sleep 0.1; exit 3")))
    assert manager.usual_time(first) == first.duration()
    assert manager.usual_time(end(manager.submit(sh("sleep 0.1; exit 3")))) is None


def test_a_rerun_works_where_its_run_did(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative working folder is meant from where it was submitted, in a rerun too."""
    (tmp_path / "there" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "there")
    first = manager.submit(sh("pwd", workdir="sub"))
    end(first)
    monkeypatch.chdir(tmp_path)
    again = manager.rerun(first.run_id)
    end(again)
    assert again.logs() == first.logs() == f"{tmp_path}/there/sub\n"
