"""What a headline says of a failure: of real outputs of many languages, and of hostile ones."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from failing import CELLS, FOLDER, OUTPUTS, Cell
from local_helpers import end

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model import cause
from qwex_jupyter.model.cause import LENGTH, TAIL, Script
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot, StopCause
from qwex_jupyter.model.verdict import conclude

pytestmark = pytest.mark.once
TRACEBACK = """\
Traceback (most recent call last):
  File "/tmp/home/runs/20261123-163045-k3x9qd/cell.py", line 3, in <module>
    1 / 0
ZeroDivisionError: division by zero
"""
EOF = "EOFError: EOF when reading a line"
RUN = RunRecord("20261123-163045-k3x9qd", "local")
SPEC = {"script": "1 / 0\n", "script_name": "cell.py"}


def _recorded(cell: Cell, inside: str = FOLDER) -> dict[str, Any]:
    made = json.loads((OUTPUTS / f"{cell.name}.json").read_text())
    texts = {stream: "\n".join(made[stream]) for stream in ("stderr", "stdout")}
    return {**made, **{name: text.replace(FOLDER, inside) for name, text in texts.items()}}


def _said(cell: Cell, made: dict[str, Any], script: str = "", **more: Any) -> str:
    spec = {"script": script or cell.script, "script_name": cell.script_name, **more}
    printed = bool(made["stderr"] or made["stdout"])
    return cause.of_output(
        *(made["stderr"], made["stdout"], made["exit_code"]),
        script=Script.of(spec, FOLDER),
        printed=printed,
    )


# Real outputs.


def test_the_table_has_forty_cells_of_eight_languages() -> None:
    """Each of its cells was recorded, as it stands there."""
    recorded = {path.stem for path in OUTPUTS.glob("*.json")}
    assert recorded == set(CELLS)
    assert len(CELLS) >= 40
    assert len({cell.language for cell in CELLS.values()}) >= 8
    for cell in CELLS.values():
        assert "\n".join(_recorded(cell)["script"]) == cell.script, cell.name


@pytest.mark.parametrize("name", CELLS)
def test_a_failing_cell_is_understood_from_its_first_line(name: str) -> None:
    """Of what programs of many languages really print, the cause and the cell's line are told."""
    cell = CELLS[name]
    assert _said(cell, _recorded(cell)) == cell.cause
    assert len(cell.cause) <= LENGTH


@pytest.mark.parametrize("name", ["python_plain", "bash_missing", "node_type", "perl_die"])
def test_a_container_s_path_is_the_cell_s_too(name: str) -> None:
    """Inside of a container the script lies elsewhere; its lines are the cell's all the same."""
    cell = CELLS[name]
    assert _said(cell, _recorded(cell, "/qwex")) == cell.cause


@pytest.mark.parametrize("name", ["python_plain", "julia_divide", "ruby_method"])
def test_a_shortened_path_is_the_cell_s_too(name: str) -> None:
    """A program that writes ``~`` for a home, or follows a link, names the cell all the same."""
    cell = CELLS[name]
    for place in ("~/data/runs", "/private/tmp/home/runs", "../../runs"):
        made = _recorded(cell, f"{place}/{FOLDER.rpartition('/')[2]}")
        assert _said(cell, made) == cell.cause


def test_lines_above_are_counted_where_the_script_has_no_blank_ones() -> None:
    """A script that begins with ``#!`` is written as it is: the card adds the line above it."""
    cell = CELLS["python_plain"]
    made = _recorded(cell)
    said = "ZeroDivisionError: division by zero · cell line"
    assert _said(cell, made, lines_above=1) == f"{said} 3"
    assert _said(cell, made, "#!/usr/bin/python\n1 / 0\n", lines_above=1) == f"{said} 4"


def test_a_command_has_no_cell() -> None:
    """Where no cell ran, no line of one is told."""
    said = cause.of_output(TRACEBACK, "", 1, script=Script.of({"script": None}, FOLDER))
    assert said == "ZeroDivisionError: division by zero"


def test_ranks_of_a_launcher_are_looked_into() -> None:
    """What torchrun says of a rank that failed is that rank's traceback, not that one failed."""
    rank = "".join(f"[rank0]: {line}\n" for line in TRACEBACK.splitlines())
    table = (
        "Traceback (most recent call last):\n"
        '  File "/usr/bin/torchrun", line 8, in <module>\n    sys.exit(main())\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
        f"{'=' * 60}\ncell.py FAILED\n{'-' * 60}\nFailures:\n  <NO_OTHER_FAILURES>\n{'-' * 60}\n"
        "Root Cause (first observed failure):\n[0]:\n  rank      : 0 (local_rank: 0)\n"
        f"  exitcode  : 1 (pid: 1234)\n{'=' * 60}\n"
    )
    script = Script.of(SPEC, FOLDER)
    said = cause.of_output(rank + table, "", 1, script=script)
    assert said == "ZeroDivisionError: division by zero · cell line 3"
    assert cause.of_output(table, "", 1).endswith("errors.ChildFailedError: cell.py FAILED")


@pytest.mark.parametrize(
    ("stderr", "stdout", "said"),
    [
        ("torch.cuda: ok\n" + TRACEBACK.replace("ZeroD", "torch.cuda.D"), "",
         "torch.cuda.DivisionError: division by zero"),
        ("Exception ignored in: <f>\n" + TRACEBACK + "cannot open it\n", "", "cannot open it"),
        (TRACEBACK + "Exception ignored in: <f>\n" + TRACEBACK.replace("ZeroDiv", "Bad"), "", None),
        ("W: old version\nINFO: done\n", TRACEBACK, None),
        ("it takes the second device\n", TRACEBACK, None),
        ("cannot open the table\n", "", "cannot open the table"),
        ("cannot open the table\n", "all well\n", "cannot open the table"),
        ("", "\n\n  \n", "exit code 1"),
        ("+ echo a\n+ test -f b\n", "a\n", "`test -f b` failed"),
        ("terminate called after throwing an instance of 'std::out_of_range'\n  what():  map::at\n",
         "", "std::out_of_range: map::at"),
        (f'Fatal Python error: Segmentation fault\n\n  File "{FOLDER}/cell.py", line 2 in f\n', "",
         "Fatal Python error: Segmentation fault · cell line 2"),
        (f"{FOLDER}/cell.py: line 2: 77 Killed                  python x.py\n", "",
         "Killed: python x.py · cell line 2"),
        ("\x1b[31mno\x1b[0m \x1b]0;title\x07such \u202etable\x00\n", "", "no such table"),
    ],
)  # fmt: skip
def test_what_is_said_of_other_outputs(stderr: str, stdout: str, said: str | None) -> None:
    """What is only mentioned goes behind what ended the program; controls are dropped."""
    expected = said or "ZeroDivisionError: division by zero"
    made = cause.of_output(stderr, stdout, 1, script=Script.of(SPEC, FOLDER))
    assert made.removesuffix(" · cell line 3") == expected


@pytest.mark.parametrize(
    ("stderr", "stdout", "command", "code", "said"),
    [
        ("", "", "false", 1, "`false` failed · cell line 3"),
        ("", "12 rows\n", "grep -q x a.txt", 2, "`grep -q x a.txt` failed with exit code 2"),
        ("ls: cannot access 'x': No such file or directory\n", "", "ls x", 2,
         "ls: cannot access 'x': No such file or directory"),
        ("fatal: not a repository\n", "", "/usr/bin/git pull", 128,
         "fatal: not a repository · `/usr/bin/git pull`"),
        (TRACEBACK, "", "python3 train.py", 1,
         "ZeroDivisionError: division by zero · `python3 train.py`"),
    ],
)  # fmt: skip
def test_the_command_that_failed_is_named(
    stderr: str, stdout: str, command: str, code: int, said: str
) -> None:
    """Where it is known, the command stands behind what was said, unless that names it."""
    made = cause.of_output(
        *(stderr, stdout, code),
        script=Script.of(SPEC, FOLDER),
        failed={"line": 3, "command": command},
    )
    assert made.removesuffix(" · cell line 3") == said.removesuffix(" · cell line 3")
    assert made.endswith(" · cell line 3")


@pytest.mark.parametrize(
    ("stderr", "command", "said"),
    [
        ("work\n", "test -f a.txt", "`test -f a.txt` failed with exit code 2"),
        (TRACEBACK, "[ -f a.txt ]", "`[ -f a.txt ]` failed with exit code 2"),
        (TRACEBACK, "((n > 3))", "`((n > 3))` failed with exit code 2"),
        ("cell: line 3: cd: /x: No such file or directory\nbye\n", "cd /x",
         "cell: line 3: cd: /x: No such file or directory"),
        ("ls: cannot access '/x': No such file or directory\nbye\n", "ls /x",
         "ls: cannot access '/x': No such file or directory"),
        ("grep: x: Is a directory\n", "grep a x", "grep: x: Is a directory"),
    ],
)  # fmt: skip
def test_what_others_have_said_is_not_the_command_s(stderr: str, command: str, said: str) -> None:
    """A line of another command is no cause: that is what failed, with what it said itself."""
    failed = {"line": 3, "command": command}
    script = Script.of({"script": "x", "script_name": "cell.sh"}, FOLDER)
    made = cause.of_output(stderr, "", 2, script=script, failed=failed)
    assert made == f"{said} · cell line 3"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "ZeroDivisionError: division by zero · cell line 3"),
        (3, "cannot reach the table"),
    ],
)
def test_a_traceback_behind_which_it_went_on_is_no_cause(code: int, said: str) -> None:
    """What ends Python returns 1: with another exit code, a complaint behind it is the cause."""
    script = Script.of(SPEC, FOLDER)
    stderr = f"{TRACEBACK}cannot reach the table\n"
    assert cause.of_output(stderr, "", code, script=script) == said
    assert cause.of_output(TRACEBACK, "", code, script=script).startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (("a.c: In function 'main':\na.c:1:20: error: 'x' undeclared\n"
         "    1 | int main(){ return x }\n"
         "      |                    ^\na.c:1:21: error: expected ';' before '}' token\n"
         "    1 | int main(){ return x }\n      |                     ^\n"),
         "a.c:1:20: error: 'x' undeclared"),
        ("a.c:1:2: error: old\nnobody listens\n", "nobody listens"),
        ("A.java:1: error: ';' expected\nclass A { int x }\n               ^\n1 error\n",
         "A.java:1: error: ';' expected"),
        (("error[E0308]: mismatched types\n --> a.rs:1:25\n  |\n1 | let a: i32 = 1.0;\n"
         "  |            ^^^\n\nerror: aborting due to 1 previous error\n\n"
         "For more information about this error, try `rustc --explain E0308`.\n"),
         "error[E0308]: mismatched types"),
        (("ld: /tmp/x.o: in function `main':\na.c:(.text+0x9): undefined reference to `f'\n"
         "collect2: error: ld returned 1 exit status\n"),
         "a.c:(.text+0x9): undefined reference to `f'"),
        (("  % Total    % Received % Xferd  Average Speed\n                 Dload  Upload\n"
         "\r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0"
         "curl: (6) Could not resolve host: nope.invalid\n"),
         "curl: (6) Could not resolve host: nope.invalid"),
        (("tar: a.tgz: Cannot open: No such file or directory\n"
         "tar: Error is not recoverable: exiting now\n"),
         "tar: a.tgz: Cannot open: No such file or directory"),
        (('npm error code ENOENT\nnpm error Missing script: "x"\nnpm error\n'
         "npm error A complete log of this run can be found in: /root/a.log\n"),
         'npm: Missing script: "x"'),
    ],
)  # fmt: skip
def test_tools_are_understood_by_their_error_and_not_by_their_last_line(
    stderr: str, said: str
) -> None:
    """Compilers and others say what is wrong first, and then sources, sums and advice."""
    assert cause.of_output(stderr, "", 1) == said


# Hostile ones.

HOSTILE = {
    "spaces": " ",
    "colons": ":",
    "escapes": "\x1b[",
    "openers": "\x1b]",
    "newlines": "\n",
    "returns": "\r",
    "digits": "1",
    "carets": "x:1\n\n^\n\n",
    "heads": "Traceback (most recent call last):\n",
    "boxes": "╭─ Traceback (most recent call last) ─╮\n│",
    "names": "E: Traceback (most recent call last)\n",
    "groups": "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: x\n",
    "panics": "panic: x\ngoroutine 1\n",
    "perl": " at  line 1",
    "ruby": ":1:in '",
    "julia": "ERROR: x\nStacktrace:\n",
    "r": "Error in : \nExecution halted\n",
    "pytest": "E x\n\na:1: E\n",
    "node": "    at a:1:1\n",
    "make": "make: *** [\n",
    "shell": f"{FOLDER}/cell.py: ",
    "marks": "\ue000: line 1: ",
    "wide": "\u202e\ufffd漢",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_output_keeps_an_end_waiting(name: str) -> None:
    """Whatever fills all that is looked at, with whatever end, takes a fraction of a second."""
    script = Script.of(SPEC, FOLDER)
    for last in ("", "\n", "!", "\nx: y\n"):
        text = HOSTILE[name] * (TAIL // len(HOSTILE[name]) + 1) + last
        began = time.process_time()
        made = cause.of_output(text, text, 1, script=script, secrets=["x" * 6])
        assert time.process_time() - began < 3.0  # it takes some hundredths
        assert 0 < len(made) <= LENGTH
        assert made.isprintable()


def test_a_message_of_any_length_is_cut() -> None:
    """A cause is one line of 120 characters at the most, and the line of the cell stays in it."""
    long = TRACEBACK.replace("by zero", "by zero " * 1000)
    made = cause.of_output(long, "", 1, script=Script.of(SPEC, FOLDER))
    assert len(made) == LENGTH
    assert made.startswith("ZeroDivisionError: division by zero")
    assert made.endswith("… · cell line 3")


# Records.


def _ended(end: End, stop: dict[str, Any] | None = None, **more: Any) -> RunRecord:
    snapshot = Snapshot(RunStatus.RUNNING, end=end, evidence=more.pop("evidence", {}))
    output = {"stderr": more.pop("stderr", ""), "stdout": more.pop("stdout", "")}
    return RUN.concluded(snapshot, stop, {**SPEC, "timeout": 3600.0}, output, folder=FOLDER, **more)


@pytest.mark.parametrize(
    ("end", "stop", "stderr", "said", "step"),
    [
        (End(exit_code=0), None, TRACEBACK, "", ""),
        (End(exit_code=1), None, TRACEBACK, "ZeroDivisionError: division by zero · cell line 3",
         "Read %qwex logs k3x9qd, then %qwex rerun k3x9qd"),
        (End(exit_code=1, reason=Reason.OUT_OF_MEMORY), None, TRACEBACK, "Killed for memory",
         "Try %qwex rerun k3x9qd --memory 4GiB"),
        (End(exit_code=143, after_stop=True), {"why": StopCause.TIMEOUT}, TRACEBACK,
         "Stopped after its timeout of 1h", "Try %qwex rerun k3x9qd --timeout 2h"),
        (End(exit_code=143, after_stop=True), {"why": StopCause.CANCEL, "who": "you"}, TRACEBACK,
         "Stopped by you", "%qwex rerun k3x9qd"),
        (End(reason=Reason.VANISHED, detail="its node is gone"), None, TRACEBACK,
         "Its node is gone: its outcome isn't known",
         "Read %qwex logs k3x9qd, then %qwex rerun k3x9qd"),
        (End(exit_code=127), None, f"{FOLDER}/cell.py: 2: foo: not found\n",
         "foo: not found · cell line 2", "Install it, or name an --image that has it"),
        (End(exit_code=137), None, "",
         "a command in it was ended by SIGKILL, often for want of memory",
         "Read %qwex logs k3x9qd, then %qwex rerun k3x9qd"),
        (End(exit_code=139, signal=11), None, "step 1\nstep 2\n",
         "It crashed (SIGSEGV: a read or write outside its memory)",
         "Read %qwex logs k3x9qd, then %qwex rerun k3x9qd"),
        (End(exit_code=1), None, EOF, EOF,
         conclude(End(exit_code=1), None, {"tail": EOF, "handle": "k3x9qd"}).message),
    ],
)  # fmt: skip
def test_cause_and_next_step_say_nothing_twice(
    end: End, stop: dict[str, Any] | None, stderr: str, said: str, step: str
) -> None:
    """An end has its cause, kept in its record, and beside it what to do, without the cause."""
    record = _ended(end, stop, stderr=stderr)
    assert record.cause == said
    assert record.next_step == step
    assert RunRecord.from_json(record.to_json()) == record


def test_a_command_stands_behind_what_is_known_of_a_number() -> None:
    """What a shell's exit code means, and which command it was, are the cause of a quiet end."""
    pipe = {"failed": {"line": 2, "command": "seq 100000 | head -1"}}
    record = _ended(End(exit_code=141), stdout="1\n", evidence=pipe)
    assert record.cause.startswith(
        "in a pipe, a later command stopped reading early (like `| head`)"
    )
    assert record.cause.endswith(" · cell line 2")
    assert record.next_step == "If that is fine, put `set +o pipefail` first"
    grep = {"failed": {"line": 2, "command": "grep -q x a.txt"}}
    record = _ended(End(exit_code=2), evidence=grep)
    assert record.cause == "`grep -q x a.txt` failed with exit code 2 · cell line 2"
    assert not record.tells_code


def test_what_printed_nothing_says_so() -> None:
    """Without output the exit code is all there is, and how to see more is the next step."""
    record = _ended(End(exit_code=3), printed=False)
    assert record.cause == "exit code 3, printed nothing"
    assert not record.tells_code  # it is said already
    assert record.next_step == "%qwex rerun k3x9qd"
    snapshot = Snapshot(RunStatus.RUNNING, end=End(exit_code=3))
    shell = RUN.concluded(snapshot, None, {**SPEC, "script_name": "cell.sh"}, printed=False)
    assert shell.next_step == (
        "set -x in its first line shows which command failed. %qwex rerun k3x9qd"
    )
    failed = {"failed": {"line": 2, "command": "false"}}
    record = _ended(End(exit_code=1), printed=False, evidence=failed)
    assert record.told == ["`false` failed · cell line 2", "k3x9qd failed · %qwex rerun k3x9qd"]


def test_an_end_is_written_whatever_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output can't be understood because of a mistake here, the sentence is the cause."""

    def broken(*_: Any, **__: Any) -> str:
        raise RecursionError

    monkeypatch.setattr(cause, "said_in", broken)
    assert _ended(End(exit_code=3), stderr=TRACEBACK).cause == "Exit code 3"


def test_a_secret_is_not_in_a_cause() -> None:
    """Values of secrets that are long enough are hidden, each line of one, wherever it is cut."""
    key = "-----BEGIN-----\nabcdefgh\n"
    text = TRACEBACK.replace("division by zero", "hunter22 abcdefgh abc " + "x" * 30 + "hunter22")
    failed = {"failed": {"line": 3, "command": "curl hunter22"}}
    record = _ended(
        End(exit_code=1), stderr=text, secrets=["hunter22", key, "abc"], evidence=failed
    )
    assert "ZeroDivisionError: *** *** abc xxx" in record.cause
    assert "hunter" not in record.cause and "curl ***" in record.cause


def test_a_secret_that_was_run_as_a_command_is_not_in_the_message() -> None:
    """What the shell says of a command that it hasn't found is told without a secret."""
    said = f"{FOLDER}/cell.py: line 3: hunter22: command not found\n"
    record = _ended(End(exit_code=127), stderr=said, secrets=["hunter22"])
    assert record.message.startswith("Exit code 127: the command '***' was not found")
    assert "hunter" not in json.dumps(record.to_json())


def test_records_of_before_have_their_sentence_as_cause() -> None:
    """A record without a cause gets what its message begins with, if it ended and failed."""
    record = _ended(End(exit_code=3), stderr=TRACEBACK)
    old = {name: value for name, value in record.to_json().items() if name != "cause"}
    assert RunRecord.from_json(old).cause == "Exit code 3"
    for status in (RunStatus.SUCCEEDED, RunStatus.RUNNING):
        assert RunRecord.from_json({**old, "status": status}).cause == ""
    assert replace(record, cause="").next_step == record.message


# Cells that run now.


@pytest.mark.parametrize(
    ("command", "name", "script", "said"),
    [
        ("python3", "cell.py", "\n1 / 0\n", "ZeroDivisionError: division by zero · cell line 2"),
        ("bash -e", "cell.sh", "echo a\nfoo-bar\n", "foo-bar: command not found · cell line 2"),
        ("sh -e", "cell.sh", "foo-bar\n", "not found · cell line 1"),
        ("perl", "cell.pl", "\n\ndie 'no disk';\n", "no disk · cell line 3"),
        ("node", "cell.js", "const x = null\nx.y\n", "(reading 'y') · cell line 2"),
        ("python3", "cell.py", "raise SystemExit(7)\n", "exit code 7, printed nothing"),
    ],
)
def test_a_cell_that_fails_has_its_cause(
    manager: RunManager, command: str, name: str, script: str, said: str
) -> None:
    """The record that a supervisor writes has the cause; as it runs, and without a kernel."""
    if shutil.which(command.split()[0]) is None:
        assert command in ("node", "perl")  # the others are on every machine
        return
    spec = JobSpec(command=tuple(command.split()), script=script, script_name=name)
    record = end(manager.submit(spec, "local"))
    assert record.status is RunStatus.FAILED
    assert record.cause.endswith(said)


@pytest.mark.parametrize("runner", ["local", "memory"])
def test_who_concludes_a_run_hides_its_secrets(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    """The value of ``--secret`` is not in the cause, whoever it is that concludes the run."""
    monkeypatch.setenv("TOKEN", "hunter2222")
    script = {"local": "echo cannot log in with $TOKEN >&2; exit 1",
              "memory": "err cannot log in with hunter2222\nexit 1"}[runner]  # fmt: skip
    run = manager.submit(JobSpec(script=script, secrets=("TOKEN",)), runner)
    monkeypatch.delenv("TOKEN")
    record = end(run)
    assert record.cause == "cannot log in with ***"
    assert "hunter2222" in run.logs("stderr")
    assert manager.tracker.closing.secrets == {}


def test_megabytes_without_a_newline_are_an_end_like_any(
    manager: RunManager, tmp_path: Path
) -> None:
    """However much a program says in one line, of whatever bytes, its end is told at once."""
    script = "head -c 3000000 /dev/zero | tr '\\0' '\\377' >&2; printf x >&2; exit 1"
    record = end(manager.submit(JobSpec(script=script), "local"))
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 1)
    assert record.cause.startswith("…�")
    assert len(record.cause) == LENGTH
