"""What ``import qwex_jupyter as qwex`` gives."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import qwex_jupyter as qwex
from qwex_jupyter import api, errors
from qwex_jupyter.errors import (
    AmbiguousRun,
    QwexError,
    RunFailed,
    RunInterrupted,
    RunNotFound,
    SpecError,
    UnsupportedOption,
)
from qwex_jupyter.manager.tracker import Tracker

PUBLIC = {
    *("JobSpec", "Resources", "Run", "RunStatus"),
    *("get", "monitor", "register_runner", "runs", "submit", "timeline"),
}


@pytest.fixture
def here(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a history of this test's own."""
    monkeypatch.setenv("QWEX_HOME", home)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_of_contents_is_pinned() -> None:
    """The public names are these; each is there and has a docstring."""
    assert set(qwex.__all__) == PUBLIC
    assert set(dir(qwex)) == PUBLIC | {"__version__"}
    for name in PUBLIC:
        assert inspect.getdoc(getattr(qwex, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qwex.nothing  # noqa: B018 - it is the look that counts


def test_the_error_tree_is_what_its_docstring_draws() -> None:
    """Every class of the drawing is there with its bases, and no other is."""
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("├──", "").replace("└──", "").replace("│", "").split()
        if words and words[0][0].isupper() and ("──" in line or "(" in words[0]):
            name, _, base = words[0].partition("(")
            drawn[name] = base.rstrip(")")
    there = {
        name: found
        for name, found in vars(errors).items()
        if inspect.isclass(found)
        and issubclass(found, BaseException)
        and found.__module__ == errors.__name__
    }
    assert set(drawn) == set(there)
    for name, base in drawn.items():
        assert issubclass(there[name], (QwexError, KeyboardInterrupt))
        assert not base or base in {parent.__name__ for parent in there[name].__mro__}


def test_errors_are_caught_by_what_people_expect() -> None:
    """A wrong value is a ValueError, an unknown run a LookupError, the button an interrupt."""
    assert issubclass(SpecError, ValueError)
    assert issubclass(UnsupportedOption, SpecError)
    assert issubclass(RunNotFound, LookupError)
    assert issubclass(AmbiguousRun, LookupError)
    assert issubclass(RunInterrupted, KeyboardInterrupt)
    assert not issubclass(RunInterrupted, Exception)


def test_importing_is_light() -> None:
    """The package alone imports nothing but itself; no name of it brings in a container library."""
    code = """
import sys
before = set(sys.modules)
import qwex_jupyter
print(sorted(name for name in set(sys.modules) - before if name.startswith("qwex")))
import qwex_jupyter as qwex
[getattr(qwex, name) for name in qwex.__all__]
print([n for n in ("docker", "kubernetes", "pandas", "numpy", "ipywidgets", "IPython", "traitlets")
       if n in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = done.stdout.splitlines()
    assert first == "['qwex_jupyter']"
    assert second == "[]"


def test_a_verb_imports_only_what_it_needs() -> None:
    """Neither the terminal nor a notebook's verbs bring in what only the doctor or a setting needs.

    The metadata of packages takes a tenth of a first cell's time, and traitlets a third of what
    a terminal takes to start.
    """
    code = """
import sys
import qwex_jupyter.cli, qwex_jupyter.commands.base
print([n for n in ("importlib.metadata", "traitlets", "IPython", "pandas") if n in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_submit_wait_get_and_logs(here: Path) -> None:
    """A run is handed over, waited for, found again by handle and name, and read."""
    run = qwex.submit(["sh", "-c", "echo out; echo err >&2"], name="both")
    assert run.wait(60).status is qwex.RunStatus.SUCCEEDED
    assert run.status.final
    assert run.exit_code == 0
    assert run.logs("stdout") == "out\n"
    assert run.logs() == "out\nerr\n"
    assert run.logs(tail=1) == "err\n"
    assert qwex.get(run.handle) == qwex.get("both") == qwex.get(run.run_id) == run
    assert list(qwex.runs().index) == [run.run_id]
    assert Path(run.log_path).read_bytes() == b"out\n"


def test_submit_takes_a_spec_and_changes_of_it(here: Path) -> None:
    """Other values given beside a JobSpec replace its own."""
    spec = qwex.JobSpec(command=["sh", "-c", "echo $A"], env={"A": "1"})
    run = qwex.submit(spec, env={"A": "2"}).wait(60)
    assert run.logs() == "2\n"


def test_a_command_in_one_text_is_refused(here: Path) -> None:
    """``submit("echo hi")`` says that it wants a list, and doesn't run a program called ``e``."""
    with pytest.raises(SpecError, match="give a list of words"):
        qwex.submit("echo hi")  # type: ignore[arg-type]


def test_a_failed_run_raises_with_reason_and_last_lines(here: Path) -> None:
    """`wait` raises RunFailed: the cause first, then the run, its exit code and last lines."""
    run = qwex.submit(["sh", "-c", "echo why >&2; exit 7"])
    with pytest.raises(RunFailed, match=r"^why\n\w{6} failed, exit code 7 · Read %qwex") as caught:
        run.wait(60)
    assert (caught.value.exit_code, caught.value.reason) == (7, "NonZeroExit")
    assert caught.value.run == run
    assert str(caught.value).endswith("\nwhy")
    assert run.wait(check=False).exit_code == 7


def test_a_timeout_of_wait_leaves_the_run_alone(here: Path) -> None:
    """`wait` with a timeout raises TimeoutError and the run goes on until it is cancelled."""
    run = qwex.submit(["sleep", "600"])
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait(0.05)
    assert not run.status.final
    assert run.cancel(0).wait(60, check=False).status is qwex.RunStatus.CANCELLED


def test_follow_gives_each_byte_once(here: Path) -> None:
    """`follow` yields both streams from the first byte, or from where one was, to the end."""
    run = qwex.submit(["sh", "-c", "printf abc; sleep 0.2; printf def; printf x >&2"])
    found = {"stdout": b"", "stderr": b""}
    for stream, data in run.follow():
        found[stream] += data
    assert found == {"stdout": b"abcdef", "stderr": b"x"}
    assert list(run.follow({"stdout": 4, "stderr": 1})) == [("stdout", b"ef")]


def test_a_run_has_a_text_and_an_html_face(here: Path) -> None:
    """A Run prints as a sentence and shows itself as text and HTML."""
    run = qwex.submit(["echo", "hello"]).wait(60)
    assert repr(run).startswith("✓ succeeded  echo hello   local · ")
    bundle = run._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert all("hello" in text for text in bundle.values())


def test_printing_a_run_asks_no_backend(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is what was last seen of it, as of then."""
    run = qwex.submit(["sleep", "600"])
    looked: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "_ask", lambda *asked: looked.append(asked))
        patch.setattr(Tracker, "fresh", lambda *asked: looked.append(asked))
        text = repr(run)
    assert not looked
    assert "sleep 600" in text and " · as of 20" in text
    run.cancel(0).wait(60, check=False)


def test_rerun_and_delete(here: Path) -> None:
    """A run is run again with another value, and taken out of the history."""
    run = qwex.submit(["sh", "-c", "echo $A"], env={"A": "1"}).wait(60)
    again = run.rerun(env={"A": "2"}).wait(60)
    assert again.logs() == "2\n"
    run.delete()
    with pytest.raises(RunNotFound):
        qwex.get(run.run_id)


def test_what_other_processes_left_open_is_taken_up(here: Path) -> None:
    """The first question of a new process looks after runs that nobody settled."""
    run = qwex.submit(["true"]).wait(60)
    api.manager().history.mark_open(run.run_id)  # as a killed supervisor would leave it
    api.manager().close()
    code = (
        "import time, os, qwex_jupyter as q; q.runs(); path = os.environ['QWEX_HOME'] + '/open'\n"
        "until = time.monotonic() + 30\n"
        "while os.listdir(path) and time.monotonic() < until: time.sleep(0.01)\n"
        "print(os.listdir(path))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_an_unknown_runner_is_named_with_those_there_are(here: Path) -> None:
    """A runner that isn't known is refused before anything is started."""
    with pytest.raises(SpecError, match="runner='slurm' isn't known: choose one of"):
        qwex.submit(["true"], runner="slurm")
    assert qwex.runs().empty
