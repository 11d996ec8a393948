"""What a program has of its submitter, and submitters at their limits."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end, needs_proc, sh, until
from needs import need

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.local import limits
from qwex_jupyter.system import process
from qwex_jupyter.testing.contract import lives


def in_python(home: str, text: str, *before: str) -> list[Any]:
    """What a program of its own prints, one JSON value a line; it has a ``manager``.

    Args:
        home: The manager's.
        text: The program.
        before: Words before Python's.
    """
    head = """
        import json, os, resource, subprocess, sys, time
        from qwex_jupyter.errors import QwexError
        from qwex_jupyter.manager.manager import RunManager
        from qwex_jupyter.model.spec import JobSpec
        home = sys.argv[1]
        manager = RunManager(home)
        def run(*command, **values):
            return manager.submit(JobSpec(command=command, **values))
        def shell(text, **values):
            return run("bash", "-c", text, **values)
        def say(*words):
            print(json.dumps(words), flush=True)
    """
    code = textwrap.dedent(head) + textwrap.dedent(text)
    done = subprocess.run(
        [*before, sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, home],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        cwd=Path(home).parent,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# What a program has.


def test_a_program_has_what_bash_would_have(home: str) -> None:
    """Limits, nice value and processors are the submitter's as they are, not as they were."""
    need("bash", "bash")
    said = in_python(
        home,
        """
        run("true").wait(60)
        for name, soft in {"NOFILE": 777, "FSIZE": 1 << 20, "CORE": 0, "CPU": 900,
                           "STACK": 4 << 20, "AS": 3 << 30}.items():
            number = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))
        hard = resource.RLIMIT_NPROC
        resource.setrlimit(hard, (5000, 5000))
        os.nice(3)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        text = "ulimit -Sa; ulimit -Ha; nice; nproc 2> /dev/null || true"
        say(subprocess.run(["bash", "-c", text], capture_output=True, text=True).stdout)
        one = shell(text)
        one.wait(60)
        say(one.logs())
        """,
    )
    assert said[0] == said[1]
    assert " 777\n" in said[0][0]


def test_the_first_run_has_them_too(home: str) -> None:
    """Where the limits were set before anything was started."""
    said = in_python(
        home,
        """
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))
        one = shell("ulimit -Sn; ulimit -Hn")
        one.wait(60)
        say(one.logs())
        """,
    )
    assert said == [["500\n600\n"]]


def test_what_was_raised_again_is_had(home: str) -> None:
    """More than what the server was born with starts another server."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to lower a nice value (run as root)")
    said = in_python(
        home,
        """
        os.setpriority(os.PRIO_PROCESS, 0, 5)  # whatever the tests were started with
        first = run("nice")
        first.wait(60)
        os.setpriority(os.PRIO_PROCESS, 0, 1)
        second = run("nice")
        second.wait(60)
        say(first.logs(), second.logs())
        """,
    )
    assert said == [["5\n", "1\n"]]


def test_another_server_is_started_only_for_more(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stays while a program of it can have what its submitter has."""
    pids = []
    now = limits.here()
    for nice in (2, 4, 2, 0):
        has = {**now, "nice": now["nice"] + nice}
        monkeypatch.setattr(limits, "here", lambda has=has: has)
        manager.submit(sh("exit 0"))
        pids.append(manager.runner("local")._server._pid)  # type: ignore[attr-defined]
    assert pids[0] == pids[1] == pids[2] != pids[3]


def test_what_a_child_may_have() -> None:
    """Lower is always possible, higher only where the server was born with as much."""
    now = limits.here()
    assert limits.within(now, now)
    assert not limits.within(now, {**now, "nice": now["nice"] + 1})
    endless = resource.RLIM_INFINITY
    born = {"nice": 0, "limits": {"RLIMIT_AS": (1, 5), "RLIMIT_CPU": (1, endless)}}

    def may(memory: int, cpu: int) -> bool:
        wanted = {"RLIMIT_AS": (1, memory), "RLIMIT_CPU": (1, cpu)}
        return limits.within({"nice": 0, "limits": wanted}, born)

    assert may(5, endless) and may(4, 7)
    assert not may(6, 7)
    assert not may(endless, 7)


def test_what_can_not_be_had_is_said(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system refuses a limit, nothing was executed, and the limit is named."""
    if os.geteuid() == 0:
        nonsense: limits.Limits = {**limits.here(), "cpus": [100_000]}
        word = "its processors could not be set"
    else:
        nonsense = {**limits.here(), "nice": -20}
        word = "its nice value -20 could not be set"
    monkeypatch.setattr(limits, "here", lambda: nonsense)
    monkeypatch.setattr(limits, "within", lambda *_: True)
    record = end(manager.submit(sh("exit 0")))
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert record.exit_code is None
    assert word in record.message


@needs_proc
def test_no_limit_of_a_notebook_ends_who_looks_after_a_run(home: str, tmp_path: Path) -> None:
    """`ulimit -f` and `-t` are the program's: its log is longer, its record is there."""
    said = in_python(
        home,
        """
        for name, soft in {"FSIZE": 1 << 16, "CPU": 100, "AS": 3 << 30}.items():
            number = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))
        one = shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero > file")
        record = one.wait(60, check=False).record
        say(record.exit_code, one.log.size("stdout"), dict(record.log_missing))
        say(os.path.getsize("file"))
        """,
    )
    assert said == [[128 + 25, 300_000, {}], [1 << 16]]


def test_a_limit_that_can_not_be_lifted_is_said(home: str) -> None:
    """Where the hard limit holds for the scribe too, what is missing is counted, with the cause."""
    if os.geteuid() == 0:
        need("setpriv", "util-linux")
        before = ("setpriv", "--bounding-set=-sys_resource")
    else:
        before = ()
    said = in_python(
        home,
        """
        from qwex_jupyter.display.format import details_text
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        one = shell("head -c 300000 /dev/zero; exit 4")
        record = one.wait(60, check=False).record
        say(record.exit_code, one.log.size("stdout"), dict(record.log_missing), record.missing)
        say(details_text(record, {}, ""))
        """,
        *before,
    )
    assert said[0][:3] == [4, 1 << 16, {"stdout": 300_000 - (1 << 16)}]
    assert "ulimit -f" in said[0][3]
    assert "no room on the disk" not in said[1][0]


def test_pwd_is_a_name_of_the_working_folder(home: str, tmp_path: Path) -> None:
    """PWD is kept while it names the folder, as a shell does, and else isn't there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "name").symlink_to("real")
    said = in_python(
        home,
        f"""
        def pwd(**values):
            one = run(sys.executable, "-c", "import os; print(os.environ.get('PWD'))", **values)
            one.wait(60)
            return one.logs().strip()
        os.chdir({str(tmp_path / "name")!r})
        os.environ["PWD"] = {str(tmp_path / "name")!r}
        say(pwd())
        say(pwd(workdir="/"), pwd(env={{"PWD": "mine"}}))
        os.chdir("/")
        say(pwd())
        """,
    )
    assert said == [[str(tmp_path / "name")], ["None", "mine"], ["None"]]


# Submitters at their limits.

COUNTED = """
    for most in range({first}, {last}):
        home = os.path.join(sys.argv[1], str(most))
        manager = RunManager(home)
        answer, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_{name}, {pair})
                try:
                    one = run("echo", "hi")
                    record = one.wait(60, check=False).record
                    said = [record.status, record.message, one.logs()]
                except QwexError as error:
                    said = [type(error).__name__, str(error), ""]
                except BaseException as error:
                    said = ["a traceback", repr(error), ""]
                os.write(told, json.dumps(said).encode())
            finally:
                os._exit(0)
        os.close(told)
        print(os.read(answer, 1 << 16).decode(), flush=True)
        os.close(answer)
        os.waitpid(child, 0)
"""


# With fewer files no submitter can write down what it wants to run.
FIRST = 8


def judge(said: list[Any], cause: str) -> None:
    """Each is a whole run, or was refused or never started for this cause; there are both."""
    kinds = set()
    for status, message, output in said:
        if status == RunStatus.SUCCEEDED:
            assert output == "hi\n"
        else:
            assert status in (RunStatus.LOST, "SubmitFailed"), message
            assert cause in message
            assert status == "SubmitFailed" or "It never started" in message
        kinds.add(status)
    assert kinds >= {RunStatus.SUCCEEDED, RunStatus.LOST, "SubmitFailed"}
    for litter in ("/supervisor.log", "supervisor.log"):
        assert not os.path.exists(litter)


def test_files_counted_down(home: str) -> None:
    """With any number of files a submitter's run is whole, or doesn't start and says why."""
    text = COUNTED.format(first=FIRST, last=FIRST + 20, name="NOFILE", pair="(most, most)")
    judge(in_python(home, text), "Too many open files: close some, or raise ulimit -n")


def test_files_counted_down_for_the_kernel_alone(home: str) -> None:
    """A soft limit binds the submitter, and neither its server nor the supervisor."""
    pair = "(most, resource.getrlimit(resource.RLIMIT_NOFILE)[1])"
    said = in_python(home, COUNTED.format(first=FIRST, last=FIRST + 20, name="NOFILE", pair=pair))
    assert {status for status, _, _ in said} == {"SUCCEEDED", "SubmitFailed"}


@needs_proc
def test_processes_counted_down(home: str) -> None:
    """The same with the number of processes, of a user that has no other."""
    need("setpriv", "util-linux")
    if os.geteuid() != 0:
        pytest.skip("needs the right to be another user (run as root)")
    user = 100_000 + os.getpid()
    before = (
        *("setpriv", "--ruid", str(user)),
        # Root isn't bound by this limit, nor who has one of these.
        "--bounding-set=-sys_resource,-sys_admin",
    )
    text = COUNTED.format(first=1, last=16, name="NPROC", pair="(most, most)")
    # What the one before left must be gone before the next begins.
    alone = f"""
        def users():
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{{name}}/status") as file:
                        yield f"Uid:\\t{user}\\t" in file.read()
                except OSError:
                    pass
        def alone():
            while sum(users()) > 1:
                time.sleep(0.01)
    """
    text = text.replace("manager = RunManager(home)", "manager = RunManager(home); alone()")
    said = in_python(home, textwrap.dedent(alone) + textwrap.dedent(text), *before)
    judge(said, "Resource temporarily unavailable: end some processes, or raise ulimit -u")


def test_a_server_that_can_not_start_says_why(
    manager: RunManager, boots: Callable[[str], None]
) -> None:
    """A server that ends before it reads a request is refused with its last words."""
    boots("raise SystemExit('no such thing')")
    with pytest.raises(Exception, match="could be started: no such thing"):
        manager.submit(sh("exit 0"))
    assert manager.history.run_ids() == []


def test_a_spare_that_failed_is_no_spare(manager: RunManager, boots: Callable[[str], None]) -> None:
    """What a supervisor says instead of being ready is the reason, and a later one is tried."""
    boots(
        "tried = []\n"
        "class Refused(supervisor.Program):\n"
        "    def __init__(self, *ends, **_):\n"
        "        raise BlockingIOError(11, 'refused')\n"
        "fork, made = server._fork, supervisor.Program\n"
        "def counted():\n"
        "    tried.append(1)\n"
        "    supervisor.Program = Refused if len(tried) < 4 else made\n"
        "    return fork()\n"
        "server._fork = counted\n"
    )
    first = end(manager.submit(sh("exit 0")))
    assert (first.status, first.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert "no further process could be made" in first.message
    assert "end some processes" in first.message
    assert end(manager.submit(sh("exit 7"))).exit_code == 7
    assert not os.path.exists("/supervisor.log")


def in_waiting(manager: RunManager) -> tuple[int, int]:
    """The supervisor that waits for the next run, and the scribe beside it, once they are there."""
    assert end(manager.submit(sh("exit 3"))).exit_code == 3
    server = manager.runner("local")._server._pid  # type: ignore[attr-defined]

    def waiting() -> list[int]:
        stats = process._stats()
        parents = {int(words[1]) for words in stats.values()}
        mine = [pid for pid, words in stats.items() if int(words[1]) == server]
        if len(mine) != 2 or len(parents.intersection(mine)) != 1:
            return []
        return sorted(mine, key=lambda pid: pid not in parents)

    spare, scribe = until(waiting)
    return spare, scribe


@needs_proc
def test_a_spare_that_was_killed_is_replaced(manager: RunManager) -> None:
    """A supervisor that waits and is killed takes no run with it."""
    spare, _ = in_waiting(manager)
    os.kill(spare, 9)
    until(lambda: spare not in process._stats() or not lives(spare))
    assert end(manager.submit(sh("exit 7"))).exit_code == 7


@needs_proc
def test_a_run_without_its_scribe_does_not_start(manager: RunManager) -> None:
    """Where what keeps the output was killed in waiting, nothing is executed unheard."""
    _, scribe = in_waiting(manager)
    os.kill(scribe, 9)
    until(lambda: not lives(scribe))
    record = end(manager.submit(sh("exit 0")))
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert "keep its output was killed" in record.message
    assert end(manager.submit(sh("exit 7"))).exit_code == 7


def test_no_further_thread_loses_no_run(
    home: str, manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, runs are submitted, seen and waited for all the same."""

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        run = manager.submit(JobSpec(command=("sh", "-c", "echo hi; exit 7")))
        assert run.wait(60, check=False).exit_code == 7
        assert run.logs() == "hi\n"
        live = manager.submit(sh("exec sleep 300"))
        assert [record.run_id for record in RunManager(home).recover()] == [live.run_id]
        live.cancel(grace=0)
        assert end(live).status is RunStatus.CANCELLED
    # And when there are some again, they are had.
    assert end(manager.submit(sh("exit 8"))).exit_code == 8
