"""Errors that aren't ours: each is told in one line, ends what was begun, and costs no run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kernel import PATIENCE, Kernel, end_runs, environment, kernel, lent, qwex
from local_helpers import contents, sh, until

from qwex_jupyter import api
from qwex_jupyter.disk import home
from qwex_jupyter.errors import HomeUnusable, RunFailed, RunNotFound, SpecError, SubmitFailed
from qwex_jupyter.history import cache
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.notebook import cell as follow
from qwex_jupyter.notebook import wait_table
from qwex_jupyter.notebook.view import View
from qwex_jupyter.system.paths import whole_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the extension loaded."""
    with kernel(tmp_path_factory.mktemp("edges")) as made:
        yield made


@pytest.fixture
def k(shared: Kernel) -> Iterator[Kernel]:
    """The kernel that all tests here share, in its own folder again afterwards."""
    with lent(shared) as made:
        yield made
        shared.run(f"import os; os.chdir({str(shared.folder)!r})")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment with a history of its own, in which one run has ended."""
    made = environment(tmp_path_factory.mktemp("terminal"))
    qwex(made, "run", "--quiet", "--name", "one", "echo", "out")
    yield made
    end_runs(made)


# Output that can't be written.


def _shell(env: Mapping[str, str], line: str) -> subprocess.CompletedProcess[str]:
    line = line.replace("qwex ", f"{sys.executable} -m qwex_jupyter.cli ")
    return subprocess.run(
        ["bash", "-c", line], env=dict(env), capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("where", [">&-", ">/dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize(
    "verb",
    ["runs", "show one", "logs one", "logs -f one", "attach one", "show --json one", "monitor",
     "prune", "run --help", "help", "run -d true", "run echo x", "rerun one", "--version"],
)  # fmt: skip
def test_an_answer_that_can_t_be_written_is_one_line(
    env: dict[str, str], verb: str, where: str
) -> None:
    """Whatever a verb has to say, a stdout that can't take it is an error of one line.

    A run that was submitted is named before it, as nobody else tells of it.
    """
    done = _shell(env, f"qwex {verb} {where}")
    *before, said = [line for line in done.stderr.splitlines() if len(line.split()) > 2]
    assert done.returncode == 1
    assert len(before) == (1 if verb.startswith("run -d") else 0)
    assert all(re.fullmatch(r"qwex: \w{6} was submitted all the same", line) for line in before)
    if "--json" in verb:
        said = f"qwex: {json.loads(said)['error']['message']}"
    assert said.startswith("qwex: its output can't be written: ")


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "2>/dev/full", "| true"])
def test_a_run_whose_output_can_t_be_written_is_cancelled(
    env: dict[str, str], where: str, tmp_path: Path
) -> None:
    """``qwex run`` cancels its run, as SIGPIPE would, whatever keeps output from being written."""
    own = {**env, "QWEX_HOME": str(tmp_path / "home")}
    script = "for i in $(seq 3000); do echo out; echo err >&2; sleep 0.1; done"
    done = _shell(own, f"set -o pipefail; qwex run --quiet sh -c '{script}' {where}")
    assert "Traceback" not in done.stderr
    assert done.returncode == (128 + signal.SIGPIPE if where == "| true" else 1)
    assert qwex(own, "wait").returncode != 0
    assert json.loads(qwex(own, "show", "--json").stdout)["status"] == "CANCELLED"


def test_what_is_said_beside_the_output_may_be_lost(env: dict[str, str]) -> None:
    """Where our own words find no reader, the run goes on and its code is passed on."""
    for where in ("2>/dev/full", "2>&-", "<&- 2>&-"):
        assert _shell(env, f"qwex run sh -c 'sleep 0.1; exit 3' {where}").returncode == 3


def test_a_closed_stream_is_no_file_of_ours(env: dict[str, str], tmp_path: Path) -> None:
    """What a program says with all streams closed goes into its log and into nothing else."""
    own = {**env, "QWEX_HOME": str(tmp_path / "home")}
    _shell(own, "qwex run sh -c 'echo said; sleep 0.1; echo said' <&- >&- 2>&-")
    holding = [path.name for path, text in contents(tmp_path) if b"said\n" in text]
    assert holding == ["stdout.log"]


# A terminal without our glyphs.


def test_a_run_as_a_value_without_our_glyphs(tmp_path: Path) -> None:
    """A run that is a cell's last value is shown where its glyph can't be."""
    env = environment(tmp_path / "user", PYTHONIOENCODING="ascii")
    cells = ("%load_ext qwex_jupyter", "r = %qwex run --quiet echo hi", "r", "print('be', 'hind')")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"],
        input="".join(f"{cell}\n\n\n" for cell in cells),
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "? succeeded  echo hi" in done.stdout
    assert "Traceback" not in done.stdout
    assert "be hind" in done.stdout


def test_a_terminal_without_our_glyphs(tmp_path: Path) -> None:
    """In a terminal IPython whose encoding lacks our glyphs every verb works."""
    env = environment(tmp_path / "user", PYTHONIOENCODING="ascii")
    cells = [
        "%load_ext qwex_jupyter",
        "%qwex run printf 'h\\303\\251\\n'",
        "r = %qwex run --quiet echo hi",
        *(f"%qwex {verb}" for verb in ("show", "logs", "logs -f", "attach", "wait", "cancel")),
        "%qwex doctor",
        "%qwex monitor",
        "%qwex",
        "%qwex run sh -c 'exit 4'",
    ]
    (tmp_path / "a.ipy").write_text("\n".join([*cells[:-1], "open('behind', 'w')", cells[-1]]))
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=nocolor", "a.ipy"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Unicode" not in done.stdout + done.stderr
    assert (tmp_path / "behind").exists(), done.stdout
    assert "? succeeded  echo hi" in done.stdout
    assert "h?\n" in done.stdout
    assert "failed  exit code 4, printed nothing" in done.stdout


# A display that fails.


class _Broken(View):
    """A view that fails at one call.

    Args:
        at: Which.
        error: How.
    """

    told = True

    def __init__(self, at: str, error: Exception) -> None:
        self._at, self._error = at, error
        self.ended: list[RunRecord] = []

    def _may_fail(self, at: str) -> None:
        if at == self._at:
            raise self._error

    def begin(self, record: RunRecord) -> None:
        """Fails or not."""
        self._may_fail("begin")

    def output(self, stream: str, data: bytes) -> None:
        """Fails or not."""
        self._may_fail("output")

    def tick(self, record: RunRecord, note: str, usual_time: float | None = None) -> None:
        """Fails or not."""
        self._may_fail("tick")

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Fails or not."""
        self.ended.append(record)
        self._may_fail("finish")


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("closed file")])
@pytest.mark.parametrize("watch", [follow.foreground, follow.attach])
@pytest.mark.parametrize("at", ["output", "tick"])
def test_a_display_that_fails_ends_the_watching_alone(
    manager: RunManager, at: str, watch: Any, error: Exception
) -> None:
    """The view is ended, the run goes on, and nothing is raised."""
    run = manager.submit(sh("echo x; sleep 600"))
    view = _Broken(at, error)
    assert watch(manager, run, view) is run
    assert len(view.ended) == 1
    until(lambda: run.status is RunStatus.RUNNING)
    run.cancel(0)


@pytest.mark.parametrize("watch", [follow.foreground, follow.attach])
def test_an_end_is_told_once(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, watch: Any
) -> None:
    """A run that ends between two questions is shown as ended when all of its output is there."""
    run = manager.submit(sh("true"))
    run.wait(PATIENCE)
    view, asked = _Broken("never", ValueError()), manager.tracker.ended
    late = [False, False]

    def ended(run_id: str) -> bool:
        return late.pop() if late else asked(run_id)

    monkeypatch.setattr(manager.tracker, "ended", ended)
    ticked: list[RunRecord] = []
    monkeypatch.setattr(view, "tick", lambda record, *_: ticked.append(record))
    watch(manager, run, view)
    assert [record.status for record in view.ended] == [RunStatus.SUCCEEDED]
    assert not [record for record in ticked if record.status.final]


@pytest.mark.parametrize("watch", [follow.foreground, follow.attach])
def test_a_display_that_can_t_even_end_is_told_of(
    manager: RunManager, capsys: pytest.CaptureFixture[str], watch: Any
) -> None:
    """Where the last view fails too, one line says so and what became of the run is raised."""
    run = manager.submit(sh("exit 3"))
    view = _Broken("finish", RuntimeError("of a front end"))
    if watch is follow.foreground:
        with pytest.raises(RunFailed, match=r"^exit code 3, printed nothing\n"):
            watch(manager, run, view)
    else:
        assert watch(manager, run, view) is run
    assert capsys.readouterr().err.count("\n") == 1


def test_a_table_that_fails_ends_the_waiting(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``wait`` for several ends with one line, and the runs go on."""
    runs = [manager.submit(sh("sleep 600")) for _ in range(2)]

    def fails(*args: Any, **values: Any) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr(wait_table, "put", fails)
    wait_table.wait(manager, runs, None, None)
    assert capsys.readouterr().err.count("\n") == 1
    for run in runs:
        assert run.cancel(0).wait(PATIENCE, check=False).status is RunStatus.CANCELLED


@pytest.mark.parametrize("watch", [follow.foreground, follow.attach])
def test_a_run_that_is_deleted_while_it_is_watched(manager: RunManager, watch: Any) -> None:
    """Its view ends with what is true: nobody knows what became of it."""
    run = manager.submit(sh("echo up; exec sleep 600"))
    view = _Broken("never", ValueError())
    watching = threading.Thread(target=_watched, args=(watch, manager, run, view))
    watching.start()
    until(lambda: run.logs() == "up\n")  # its script has been read
    until(lambda: run.record.status is RunStatus.RUNNING)
    leader = int(run.record.uid)
    until(lambda: _deleted(run.log.folder))
    watching.join(PATIENCE)
    os.killpg(leader, signal.SIGKILL)
    assert [record.status for record in view.ended] == [RunStatus.LOST]


def _deleted(folder: str) -> bool:
    """Takes a folder away; not at once, where somebody writes into it at that moment."""
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.exists(folder)


def _watched(watch: Any, manager: RunManager, run: Any, view: Any) -> None:
    try:
        watch(manager, run, view)
    except (RunFailed, RunNotFound):
        pass


def test_a_submit_that_fails_ends_its_card(k: Kernel) -> None:
    """Whatever a submit raises, the card says that nothing was started, and so does the error."""
    k.run(
        "from qwex_jupyter.manager.manager import RunManager as M; real = M.hand_over\n"
        "def hand_over(*args, **named): raise OSError(5, 'Input/output error')\n"
        "M.hand_over = hand_over"
    )
    cell = k.run("%%qwex\necho hi")
    k.run("M.hand_over = real")
    assert cell.ename == "SubmitFailed"
    assert "Input/output error" in cell.error
    assert "✗ failed" in cell.text
    assert "pending" not in cell.text


def test_a_card_that_fails_costs_no_run(k: Kernel) -> None:
    """Where the card of a detached run can't be shown, one line says so, and the run is there."""
    k.run(
        "from qwex_jupyter.notebook import twin; real = twin.publish\n"
        "def fails(*args, **values): raise OSError(5, 'Input/output error')\n"
        "twin.publish = fails"
    )
    cell = k.run("%%qwex -d --as detached\ntrue")
    k.run("twin.publish = real")
    assert cell.status == "ok"
    assert "can't be shown" in cell.stream("stderr")
    assert cell.stream("stderr").count("\n") == 1
    assert k.value("detached.wait(60).exit_code") == "0"


def test_a_runner_that_fails_leaves_nothing_pending(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of any kind between the folder and the start takes the run back."""

    def fails(*args: Any) -> None:
        raise ValueError("of a library")

    monkeypatch.setattr(manager.runner("local"), "submit", fails)
    with pytest.raises(SubmitFailed, match="ValueError: of a library"):
        manager.submit(sh("true"))
    assert manager.history.run_ids() == manager.history.open_ids() == []


# Folders and names.


def test_the_current_folder_is_gone(k: Kernel) -> None:
    """A cell without -w is refused in one line and leaves no card; with -w it runs."""
    k.run("import os, tempfile; os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())")
    cell = k.run("%%qwex\necho hi")
    assert cell.ename == "UsageError"
    assert "the current folder is gone" in cell.stream("stderr")
    assert cell.shown == []
    cell = k.run("%%qwex -w /tmp --as r\npwd")
    assert "✓ succeeded" in cell.text
    assert "✓ succeeded" in k.run("%qwex rerun {r.handle}").text
    for words in ("-v ./x:/x", "--env-file x", "--files x"):
        cell = k.run(f"%qwex run -w /tmp {words} true")
        assert "the current folder is gone" in cell.stream("stderr"), words
    for verb in ("runs", "show", "logs", "attach", "doctor", "prune"):
        assert k.run(f"%qwex {verb}").status == "ok"


def test_a_folder_whose_name_is_not_utf_8(env: dict[str, str], tmp_path: Path) -> None:
    """There a run is refused in one line, unless it works elsewhere."""
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    there = Path(os.fsdecode(folder))
    done = qwex(env, "run", "echo", "hi", cwd=there)
    assert (done.returncode, done.stderr.count(b"\n")) == (64, 1)
    assert b"has a name that isn't UTF-8" in done.stderr
    assert qwex(env, "run", "--quiet", "-w", "/tmp", "pwd", cwd=there).stdout == b"/tmp\n"
    more = {**env, "JPY_SESSION_NAME": f"{there}/a.ipynb"}
    assert qwex(more, "run", "--quiet", "-w", "/tmp", "pwd", cwd=there).stdout == b"/tmp\n"


def test_what_can_t_be_written_down_is_refused(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of a run isn't UTF-8, it is refused in one sentence and leaves nothing."""
    monkeypatch.setattr("qwex_jupyter.system.frontend.session", lambda: "caf\udce9")
    with pytest.raises(SpecError, match=r"not all of it is UTF-8: .*caf"):
        manager.submit(sh("true"))
    assert manager.history.run_ids() == manager.history.open_ids() == []


# Where the history is.


def test_a_relative_home_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``QWEX_HOME=hist`` is the folder that it was at first, wherever the process goes."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setenv("QWEX_HOME", f"hist-{tmp_path.name}")
    monkeypatch.chdir(tmp_path / "a")
    first = home.default_home()
    assert first == str(tmp_path / "a" / f"hist-{tmp_path.name}")
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert home.default_home() == first


@pytest.mark.parametrize("value", ["", "~", "~nobody-of-that-name/hist"])
def test_a_home_folder_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Without a home folder no folder called ~ is made: it is said what to set."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QWEX_HOME", value)
    monkeypatch.chdir(tmp_path)
    home._whole.cache_clear()
    with pytest.raises(HomeUnusable, match="Set QWEX_HOME to a folder of your own"):
        home.default_home()
    assert home.has_news() is False
    assert cache.folder() == ""
    history = RunHistory(str(tmp_path / "home"))
    assert len(history.frame()) == 0
    assert os.listdir(tmp_path) == ["home"]
    home._whole.cache_clear()


def test_a_data_folder_that_is_not_a_whole_path_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relative ``XDG_DATA_HOME`` is left out of account, as its specification says."""
    monkeypatch.delenv("QWEX_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert "data" not in os.path.relpath(home.default_home(), os.path.expanduser("~")).split("/")


def test_a_home_that_vanished_is_said_and_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the old one is told in one sentence; the next verb begins an empty one."""
    monkeypatch.setenv("QWEX_HOME", str(tmp_path / "home"))
    api.submit(["true"]).wait(PATIENCE)
    old = api.manager()
    until(lambda: _deleted(str(tmp_path / "home")))
    for verb in (
        old.history.frame,
        old.history.run_ids,
        old.history.prunable,
        old.newest,
        lambda: old.get("x"),
        lambda: old.submit(JobSpec(command=("true",))),
    ):
        with pytest.raises(HomeUnusable, match="was deleted or unmounted since it was opened"):
            verb()
    assert not (tmp_path / "home").exists()
    assert len(api.runs()) == 0
    assert api.submit(["true"]).wait(PATIENCE).exit_code == 0
    assert len(api.runs()) == 1


def test_the_current_folder_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path becomes a whole one by what it counts from, which is asked for where it matters."""
    monkeypatch.chdir(tmp_path)
    assert whole_path("a/../b") == str(tmp_path / "b")
    assert whole_path("./b", "/base") == "/base/b"
    assert whole_path("~/b") == os.path.expanduser("~/b")
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert whole_path("/b") == "/b"
    with pytest.raises(SpecError, match="the current folder is gone"):
        whole_path("b")
