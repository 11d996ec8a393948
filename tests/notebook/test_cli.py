"""``qwex`` in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from kernel import PATIENCE, end_runs, environment, kernel, qwex
from local_helpers import until

# Every byte there is, without a newline at the end.
BYTES = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment with a history of its own."""
    made = environment(tmp_path_factory.mktemp("terminal"))
    yield made
    end_runs(made)


def _record(env: Mapping[str, str], ref: str) -> dict[str, object]:
    done = qwex(env, "show", "--json", ref)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


_QWEX = ("-m", "qwex_jupyter.cli")


def _start(
    env: Mapping[str, str], *words: str, how: Sequence[str] = _QWEX
) -> subprocess.Popen[bytes]:
    """``qwex`` as a terminal starts it: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *how, *words],
        env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return bytes(process.stdout.readline())


def _end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and what came on stderr."""
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err.decode()


def test_output_is_passed_on_byte_for_byte(env: dict[str, str], tmp_path: Path) -> None:
    """Stdout and stderr of the program are those of ``qwex run``, apart, to the byte."""
    (tmp_path / "bytes").write_bytes(BYTES)
    script = "cat bytes; cat bytes bytes >&2"
    done = qwex(env, "run", "--quiet", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, BYTES, 2 * BYTES)
    done = qwex(env, "logs", "--stderr")
    assert (done.stdout, done.stderr) == (b"", 2 * BYTES)
    done = qwex(env, "attach")
    assert (done.returncode, done.stdout, done.stderr) == (0, BYTES, 2 * BYTES)


@pytest.mark.parametrize("code", [0, 1, 3, 64, 127, 255])
def test_the_exit_code_is_passed_on(env: dict[str, str], code: int) -> None:
    """``qwex run`` ends with the program's exit code, and attach and wait with it too."""
    done = qwex(env, "run", "--name", f"code{code}", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    if code == 3:
        assert qwex(env, "attach", "code3").returncode == 3
        assert qwex(env, "wait", "code3").returncode == 3
    lines = done.stderr.decode().splitlines()
    assert re.fullmatch(r"qwex: \w{6}", lines[0])
    assert len(lines) == (1 if code == 0 else 2)


def test_a_program_that_is_not_there_is_one_line(env: dict[str, str]) -> None:
    """A command that can't be run names itself and ends with 1: no process returned a code."""
    done = qwex(env, "run", "--quiet", "no-such-program")
    assert done.returncode == 1
    assert b"'no-such-program' could not be run: it isn't there" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "there is no such verb"),
        (["run", "--imagee", "x", "true"], "Did you mean --image?"),
        (["run", "--memory", "2GiBs", "true"], "memory='2GiBs' isn't a size"),
        (["run"], "command is empty"),
        (["run", "--image", "x", "--runner", "local", "true"], "use --runner=docker"),
        (["show", "nosuchrun"], "No run goes by 'nosuchrun'. qwex runs lists them."),
        (["logs", "--tail", "x"], "isn't a count"),
        (["runs", "--status", "loud"], "isn't one of PENDING"),
        (["runs", "--since", "yesterday"], "since='yesterday' isn't"),
        (["rerun", "nosuchrun", "echo"], "takes a run and options"),
        (["delete"], "required: RUN"),
    ],
)
def test_a_mistake_is_one_line_and_64(env: dict[str, str], words: list[str], message: str) -> None:
    """A mistake ends with 64 (EX_USAGE) and one line in a terminal's words."""
    done = qwex(env, *words)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (64, b"")
    assert message in text
    assert text.startswith("qwex: ")
    assert text.count("\n") == 1
    assert "%qwex" not in text


def test_ctrl_c_cancels(env: dict[str, str]) -> None:
    """Ctrl-C cancels the run and waits for its end."""
    process = _start(env, "run", "--name", "ctrlc", "sh", "-c", "echo up; exec sleep 600")
    assert _line(process) == b"up\n"
    os.killpg(process.pid, signal.SIGINT)
    code, err = _end(process)
    assert code == 143
    assert "stopping, Ctrl-C again to stop it at once" in err
    assert "Traceback" not in err
    assert _record(env, "ctrlc")["status"] == "CANCELLED"


def test_a_second_ctrl_c_insists(env: dict[str, str]) -> None:
    """A program that ignores SIGTERM is killed at the second Ctrl-C, within its grace."""
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    process = _start(env, "run", "--grace", "600s", "--name", "twice", "sh", "-c", script)
    assert _line(process) == b"up\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    while b"again" not in process.stderr.readline():
        pass
    os.killpg(process.pid, signal.SIGINT)
    assert _end(process)[0] == 137
    assert _record(env, "twice")["status"] == "CANCELLED"


# ``qwex``, which says when it begins to wait for a run.
_SAYS_SO = """
import sys
from qwex_jupyter import cli
from qwex_jupyter.manager.manager import RunManager
wait = RunManager.wait
def told(*more):
    print("up", flush=True)
    return wait(*more)
RunManager.wait = told
sys.exit(cli.main())
"""


@pytest.mark.parametrize("verb", ["attach", "logs -f", "wait"])
def test_ctrl_c_of_watching_stops_only_the_watching(env: dict[str, str], verb: str) -> None:
    """Ctrl-C of attach, ``logs -f`` and wait leaves the run alone, without a traceback."""
    started = qwex(env, "run", "-d", "sh", "-c", "echo up; exec sleep 600")
    handle = started.stdout.decode().strip()
    until(lambda: qwex(env, "logs", handle).stdout == b"up\n")  # a wait doesn't tell of its start
    how = ("-c", _SAYS_SO) if verb == "wait" else _QWEX
    process = _start(env, *verb.split(), handle, how=how)
    assert _line(process) == b"up\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = _end(process)
    assert "Traceback" not in err
    assert _record(env, handle)["status"] == "RUNNING"
    assert qwex(env, "cancel", handle).returncode == 0
    assert qwex(env, "wait", handle).returncode == 143


def test_a_closed_terminal_leaves_the_run_alive(env: dict[str, str], tmp_path: Path) -> None:
    """When the terminal goes, the run goes on, keeps its output and ends with its own code."""
    pid, terminal = pty.fork()
    script = "echo up; while [ ! -e go ]; do sleep 0.02; done; echo more; exit 5"
    if pid == 0:  # pragma: no cover - becomes another program
        os.chdir(tmp_path)
        words = ["-m", "qwex_jupyter.cli", "run", "--name", "hangup", "sh", "-c", script]
        os.execve(sys.executable, [sys.executable, *words], env)
    seen = b""
    while b"up" not in seen:
        seen += os.read(terminal, 1024)
    os.close(terminal)  # the kernel sends SIGHUP to the session
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert _record(env, "hangup")["status"] == "RUNNING"
    (tmp_path / "go").touch()
    assert qwex(env, "wait", "hangup").returncode == 5
    assert qwex(env, "logs", "hangup").stdout == b"up\nmore\n"


def test_a_program_has_no_stdin_of_the_terminal(env: dict[str, str]) -> None:
    """Stdin of a run is empty, whatever is piped into ``qwex``."""
    done = subprocess.run(
        [sys.executable, "-m", "qwex_jupyter.cli", "run", "--quiet", "wc", "-c"],
        env=env, input=b"not for you", capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [b"0"]


def test_a_reader_that_leaves_ends_the_run_and_is_no_error(env: dict[str, str]) -> None:
    """``qwex run yes | head -1`` ends as ``yes | head -1`` does, without a traceback."""
    python = sys.executable
    line = f"'{python}' -m qwex_jupyter.cli run --name yes yes | head -1"
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, timeout=PATIENCE)
    assert done.stdout == b"y\n"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    qwex(env, "wait", "yes")
    assert _record(env, "yes")["status"] == "CANCELLED"


@pytest.mark.parametrize("words", ["runs", "logs many", "runs --json", "--help", "run --help"])
def test_a_list_can_be_cut(env: dict[str, str], words: str) -> None:
    """``| head`` behind any list is no error."""
    qwex(env, "run", "--quiet", "--name", "many", "seq", "100000")
    line = f"'{sys.executable}' -m qwex_jupyter.cli {words} | head -c 1"
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, timeout=PATIENCE)
    assert len(done.stdout) == 1
    assert done.stderr == b""


def test_json_is_a_line_per_run(env: dict[str, str]) -> None:
    """``--json`` gives one object a line with the record, for runs, show, run and cancel."""
    qwex(env, "run", "--name", "json", "-l", "a=b", "sh", "-c", "exit 3")
    (line,) = qwex(env, "runs", "--json", "--name", "json").stdout.decode().splitlines()
    record = json.loads(line)
    assert (record["name"], record["status"], record["exit_code"]) == ("json", "FAILED", 3)
    assert record["labels"] == {"a": "b"}
    assert record["run_id"].endswith(record["handle"])
    assert record["duration"] >= 0
    assert _record(env, "json") == record
    done = qwex(env, "run", "--json", "--quiet", "printf", "no newline")
    assert done.stdout.startswith(b"no newline\n{")
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "SUCCEEDED"
    done = qwex(env, "run", "-d", "--json", "true")
    assert json.loads(done.stdout)["handle"]
    assert json.loads(qwex(env, "cancel", "--json", "json").stdout)["status"] == "FAILED"


def test_json_behind_the_command_is_the_programs(env: dict[str, str]) -> None:
    """``qwex run tool --json`` passes the word on."""
    done = qwex(env, "run", "--quiet", "printf", "%s", "--json")
    assert done.stdout == b"--json"
    done = qwex(env, "run", "--quiet", "--", "printf", "%s", "--json")
    assert done.stdout == b"--json"


def test_runs_filters(env: dict[str, str]) -> None:
    """``runs`` takes status, runner, name, an age or a date, and a limit."""
    qwex(env, "run", "--quiet", "--name", "filter", "true")
    qwex(env, "run", "--quiet", "--name", "filter", "false")

    def count(*words: str) -> int:
        return len(qwex(env, "runs", "--json", "--name", "filter", *words).stdout.splitlines())

    assert count() == 2
    assert count("--status", "failed") == 1
    assert count("--status", "failed", "--status", "SUCCEEDED") == 2
    assert count("--runner", "docker") == 0
    assert count("--since", "1h") == 2
    assert count("--since", "2020-01-01") == 2
    assert count("--since", "2999-01-01") == 0
    assert count("-n", "1") == 1


def test_the_last_lines_of_a_log(env: dict[str, str]) -> None:
    """``logs --tail`` gives whole last lines of each stream, also of long ones."""
    script = "seq 30000; printf 'no end'; echo problem >&2"
    qwex(env, "run", "--quiet", "--name", "tail", "sh", "-c", script)
    done = qwex(env, "logs", "tail", "--tail", "2")
    assert (done.stdout, done.stderr) == (b"30000\nno end", b"problem\n")
    done = qwex(env, "logs", "tail", "--tail", "25000", "--stdout")
    assert done.stdout.count(b"\n") == 24_999
    assert qwex(env, "logs", "tail", "--tail", "0").stdout == b""
    assert qwex(env, "logs", "tail").stdout.startswith(b"1\n2\n")


def test_options_come_from_the_environment(env: dict[str, str]) -> None:
    """``QWEX_TIMEOUT`` and ``QWEX_GRACE`` are used where the line is silent."""
    more = {**env, "QWEX_TIMEOUT": "0.2s", "QWEX_GRACE": "0"}
    done = qwex(more, "run", "--quiet", "sleep", "600")
    assert done.returncode != 0
    assert done.stderr.startswith(b"qwex: Stopped after its timeout of 0.2s ")
    assert b"Try qwex rerun" in done.stderr
    assert qwex(more, "run", "--quiet", "--timeout", "1h", "sleep", "0.4").returncode == 0


def test_a_dry_run_is_a_line_for_a_shell(env: dict[str, str]) -> None:
    """``--dry-run`` prints what can be pasted, and starts nothing."""
    before = qwex(env, "runs", "--json", "--name", "dry").stdout
    done = qwex(env, "run", "--name", "dry", "--dry-run", "-e", "A=b c", "sh", "-c", "echo $A")
    ran = subprocess.run(["sh", "-c", done.stdout], capture_output=True, check=True)
    assert ran.stdout == b"b c\n"
    assert qwex(env, "runs", "--json", "--name", "dry").stdout == before == b""


def test_prune_lists_and_then_deletes(env: dict[str, str]) -> None:
    """``prune`` lists until ``--yes``; what lives stays."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-prune"}
    qwex(own, "run", "--quiet", "true")
    live = qwex(own, "run", "-d", "sleep", "600").stdout.decode().strip()
    listed = qwex(own, "prune", "--older", "0s").stdout.decode()
    assert listed.endswith("Add --yes to delete them.\n")
    assert "all that have ended: --older 30d takes" in qwex(own, "prune").stdout.decode()
    assert len(qwex(own, "runs", "--json").stdout.splitlines()) == 2
    assert qwex(own, "prune", "--older", "0s", "--yes").stdout == b"Deleted 1 run.\n"
    assert json.loads(qwex(own, "runs", "--json").stdout)["handle"] == live
    done = qwex(own, "delete", live)
    assert done.returncode == 1
    assert f"first qwex cancel {live}" in done.stderr.decode()
    end_runs(own)


def test_who_waits_is_told_the_cause(env: dict[str, str]) -> None:
    """``run``, ``wait``, ``attach`` and ``show`` say the same words of a failure, first of all."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-causes"}
    script = ("python3", "-c", "{}['lr']")
    cause = "KeyError: 'lr'"
    done = qwex(own, "run", "--name", "bad", *script)
    handle = json.loads(qwex(own, "show", "bad", "--json").stdout)["handle"]
    end = f"qwex: {cause} · bad ({handle}) failed · "
    assert done.stderr.decode().endswith(f"{end}qwex rerun {handle}\n")
    for verb in ("wait", "attach"):
        said = qwex(own, verb, "bad").stderr.decode()
        assert said.endswith(f"{end}Read qwex logs {handle}, then qwex rerun {handle}\n"), verb
    assert qwex(own, "show", "bad").stdout.decode().startswith(f"✗ failed  {cause}   bad  python3 ")
    assert json.loads(qwex(own, "wait", "bad", "--json").stdout)["cause"] == cause


def test_what_a_user_wrote_is_said_as_it_is(env: dict[str, str]) -> None:
    """Commands of ours are named as a shell has them, and a script that names such stays."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-words"}
    script = "echo write %%qwex? or %qwex logs; exit 3"
    done = qwex(own, "run", "--name", "words", "sh", "-c", script)
    assert done.stdout == b"write %%qwex? or %qwex logs\n"
    handle = json.loads(qwex(own, "show", "words", "--json").stdout)["handle"]
    shown = qwex(own, "show", "words").stdout.decode()
    assert f"Read qwex logs {handle}, then qwex rerun {handle}\n" in shown
    assert shown.startswith("✗ failed  exit code 3, last line: write %%qwex? or %qwex logs ")
    assert shown.count(script) == 2  # in the first line, and as the command
    assert qwex(own, "logs", "words").stdout == done.stdout
    assert script in qwex(own, "prune").stdout.decode()
    assert "qwex run --help" in qwex(own, "run", "--no-such-option").stderr.decode()


def test_one_that_stays_keeps_none_of_the_others(env: dict[str, str]) -> None:
    """``delete`` of several goes on, and says why one stayed; of a wrong name it deletes none."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-several"}
    live = [qwex(own, "run", "-d", "sleep", "600").stdout.decode().strip() for _ in range(2)]
    for name in ("a", "b"):
        qwex(own, "run", "--quiet", "--name", name, "true")
    done = qwex(own, "delete", "a", "nobody", "b")
    assert (done.returncode, done.stdout) == (64, b"")
    done = qwex(own, "delete", *live, "a", "a", "b")
    assert done.returncode == 1
    said = done.stdout.decode().splitlines()
    assert [line.split()[1] for line in said] == ["a", "b"]
    for handle in live:
        assert f"first qwex cancel {handle}" in done.stderr.decode()
    end_runs(own)


def test_a_home_that_can_not_be_used_is_one_line(env: dict[str, str]) -> None:
    """A history folder that can't be made names QWEX_HOME and ends with 1."""
    done = qwex({**env, "QWEX_HOME": "/dev/null/home"}, "runs")
    assert done.returncode == 1
    assert b"QWEX_HOME" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_terminal_without_our_glyphs_is_no_error(env: dict[str, str]) -> None:
    """Where the encoding has no check mark, a question mark stands for it."""
    qwex(env, "run", "--quiet", "--name", "glyph", "true")
    done = qwex({**env, "PYTHONIOENCODING": "ascii"}, "runs", "--name", "glyph")
    assert done.returncode == 0
    assert b"? succeeded" in done.stdout


def test_the_version_is_said(env: dict[str, str]) -> None:
    """``qwex --version`` is the package's version."""
    import qwex_jupyter

    assert qwex(env, "--version").stdout.decode() == f"qwex {qwex_jupyter.__version__}\n"


@pytest.mark.kernel
def test_a_terminal_and_a_notebook_see_one_history(tmp_path: Path) -> None:
    """``qwex`` lists, reads, cancels and reruns what a notebook has started, while it runs."""
    with kernel(tmp_path) as notebook:
        cell = notebook.run("%%qwex -d --quiet --name ours\necho 'from the notebook'; sleep 600")
        assert cell.status == "ok"
        running = r"◐ running +ours  echo .*from the notebook"
        until(lambda: re.search(running, qwex(notebook.env, "runs").stdout.decode()))
        until(lambda: qwex(notebook.env, "logs", "ours").stdout == b"from the notebook\n")
        assert b" ours " in qwex(notebook.env, "cancel", "ours").stdout
        assert qwex(notebook.env, "wait", "ours").returncode == 143
        assert notebook.value("__import__('qwex_jupyter').get('ours').status.value") == (
            "'CANCELLED'"
        )
        again = qwex(notebook.env, "rerun", "ours", "--timeout", "3s", "--grace", "0")
        assert again.stdout == b"from the notebook\n"
        assert again.returncode == 143 or again.returncode == 137


# A program with a thread that waits for a backend, and what tells that Python took itself apart.
_WAITS = """
import atexit, sys, threading, time
from qwex_jupyter import cli

class Apart:
    def __del__(self):
        print("taken apart", flush=True)

apart = Apart()
atexit.register(print, "tidied up")
if "waits" in sys.argv:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
cli.main = lambda: print("said") or 7
cli.entry()
"""


@pytest.mark.parametrize("thread", ["waits", "none"])
def test_a_thread_that_waits_changes_no_exit_code(env: Mapping[str, str], thread: str) -> None:
    """Python may abort when it takes itself apart under a thread that is in a library's code."""
    words = [sys.executable, "-c", _WAITS, thread]
    done = subprocess.run(words, env=env, capture_output=True, check=False, timeout=PATIENCE)
    said = ["said", "tidied up"] + ["taken apart"] * (thread == "none")
    assert (done.stdout.decode().split("\n")[:-1], done.returncode) == (said, 7), done.stderr
