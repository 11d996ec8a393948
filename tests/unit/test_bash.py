"""Which command of a bash script failed: told by a real bash, and nothing else is different."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.runners import bash

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash: apt install bash"),
]
# Those beside the one of this machine: of QWEX_TEST_BASHES, a list of paths.
BASHES = ["bash", *filter(None, os.environ.get("QWEX_TEST_BASHES", "").split(":"))]
DEFAULT = ("-eo", "pipefail")


@dataclass(frozen=True)
class Ran:
    """What came of a script."""

    code: int
    out: bytes
    err: bytes
    told: str


def run(
    script: str,
    folder: Path,
    options: tuple[str, ...] = DEFAULT,
    *,
    asked: bool = True,
    program: str = "bash",
    env: dict[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Ran:
    """Runs a script as a runner would, with our file or without it."""
    path, file, told = folder / "cell.sh", folder / ".bash_env", folder / ".failed"
    path.write_text(script)
    told.unlink(missing_ok=True)
    words = ["bash", *options]
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), **(env or {})}
    if asked and bash.can_tell(words, script):
        file.write_text(bash.env_file(str(told), script))
        given |= bash.variables(given, words, str(file))
    done = subprocess.run(
        [program, *options, str(path), *arguments],
        env=given,
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    text = told.read_text(errors="replace") if told.exists() else ""
    # Bash tells the number of a process that was killed.
    return Ran(done.returncode, done.stdout, re.sub(rb"\d+ Killed", b"Killed", done.stderr), text)


def told_of(script: str, folder: Path, **more: Any) -> tuple[int, str] | None:
    """Line and command that are told of a script, which goes as it does without our file."""
    ours = run(script, folder, **more)
    plain = run(script, folder, asked=False, **more)
    assert (ours.code, ours.out, ours.err) == (plain.code, plain.out, plain.err)
    assert not plain.told
    found = bash.failed(ours.told, script, str(folder / "cell.sh"))
    return (found["line"], found["command"]) if found else None


# What fails under `bash -eo pipefail`, and the line and command that are told of it.
FAILING = {
    "a command": ("echo a\nfalse\necho b", (2, "false")),
    "its words as they stand there": (
        "x='a b'\ngrep -q \"$x\" /dev/null",
        (2, 'grep -q "$x" /dev/null'),
    ),
    "blank lines above": ("\n\n\necho a\nls /nonexistent", (5, "ls /nonexistent")),
    "a function": ("f() {\n  echo a\n  cd /nonexistent\n}\n\nf", (3, "cd /nonexistent")),
    "functions in functions": ("f() {\n ls /none\n}\ng() { f; }\ng", (2, "ls /none")),
    "what a function returns": ("f() { return 3; }\ng() { return 4; }\nf\n", (3, "f")),
    "several lines": ("echo a\nls \\\n  /none1 \\\n  /none2", (2, "ls /none1 /none2")),
    "a subshell": ("true\n(exit 4)", (2, "( exit 4 )")),
    "a subshell of lines": ("true\n(\n  cd /none\n  echo b\n)", (2, "( cd /none; echo b )")),
    "a substitution": ("x=1\nx=$(ls /none)\necho b", (2, "x=$(ls /none)")),
    "a substitution that goes on": ("x=$(false; echo a)\necho $x\nfalse", (3, "false")),
    "an assignment before": ("A=1 false", (1, "A=1 false")),
    "a pipe": ("echo a\nfalse | cat", (2, "false | cat")),
    "a pipe among others": ("true; echo a | grep nope; true", (1, "echo a | grep nope")),
    "a pipe in a loop": (
        "for i in 1; do echo a | grep nope; done",
        (1, "for i in 1; do echo a | grep nope; done"),
    ),
    "a pipe beside quotes": ("echo 'a;|'; echo a | grep x;", (1, "echo 'a;|'; echo a | grep x;")),
    "two pipes": ("env | cat; false | cat", (1, "env | cat; false | cat")),
    "a pipe's end": ("echo a\necho b | grep -q c", (2, "echo b | grep -q c")),
    "a pipe of lines": (
        "true\nprintf x |\n  grep y |\n  cat",
        (2, "printf x | grep y | cat"),
    ),
    "a pipe of lines that begin with it": (
        "true\nprintf x \\\n  | grep y \\\n  | cat",
        (2, "printf x | grep y | cat"),
    ),
    "a pipe into a loop": (
        "echo a\necho b | while read l; do false; done",
        (2, "echo b | while read l; do false; done"),
    ),
    "a test": ("true\n[[ a == b ]]", (2, "[[ a == b ]]")),
    "arithmetic": ("true\n(( 0 ))", (2, "(( 0 ))")),
    "a loop": ("for i in 1 2; do\n  test $i = 1\ndone", (2, "test $i = 1")),
    "branches": ("if true; then\n case x in x) false;; esac\nfi", (2, "false")),
    "the last of a list": ("true\ntrue && false", (2, "false")),
    "a group": ("true\n{\n  true\n  false\n}", (4, "false")),
    "a script within": ("true\npython3 - <<X\nimport sys\nsys.exit(4)\nX", (2, None)),
    "another bash": ("echo a\nbash -c 'false; exit 3'", (2, "bash -c 'false; exit 3'")),
    "another script": (
        "echo 'echo x\nfalse' > other.sh\nbash -e other.sh",
        (3, "bash -e other.sh"),
    ),
    "a file that is read": ("echo 'true\nfalse' > lib\n\n. ./lib", (4, ". ./lib")),
    "a function of another file": (
        "echo 'f() {\nfalse\n}' > lib\n. ./lib\ng() { true; }\nf\n",
        (6, "f"),
    ),
    "what is waited for": ("(exit 5) & wait $!", (1, "wait $!")),
    "a redirection": ("echo a\necho b > /none/x", (2, "echo b > /none/x")),
    "options of its own": ("set +e\nfalse\nset -e\nfalse\n", (4, "false")),
    "an end of its own": ("trap 'echo end' EXIT\necho a\nfalse", (3, "false")),
    "an end that fails too": (
        "trap 'false; echo end' EXIT\necho a\nls /none",
        (3, "ls /none"),
    ),
    "an end with another code": ("trap 'exit 7' EXIT\necho a\nls /none", (3, "ls /none")),
    "an end that is a function": (
        "end() {\n  false\n}\ntrap end EXIT\n\n(exit 3)",
        (6, "( exit 3 )"),
    ),
    "a pause of set -e": ("false || true\nif false; then :; fi\n! true\nfalse", (4, "false")),
    "noclobber": ("set -C\nfalse", (2, "false")),
    "unset variables": ("set -u\nf() {\n  false\n}\nf", (3, "false")),
    "another IFS": ("IFS=:\nfalse | cat", (2, "false | cat")),
    "its trace": ("set -x\necho a\nfalse", (3, "false")),
    "a killed subshell": ("true\n( kill -KILL $BASHPID )", (2, "( kill -KILL $BASHPID )")),
    "eval": ("eval 'false'", None),
    "eval of a variable": ("c='ls /none'\neval \"$c\"", None),
    "umlauts": ("echo ä\nls /nöne/ü", (2, "ls /nöne/ü")),
    "printf of its own": ("printf() { echo mine; }\nprintf\nfalse", (3, "false")),
}


@pytest.mark.parametrize("program", BASHES)
@pytest.mark.parametrize("name", FAILING)
def test_the_command_that_ends_a_script_is_told_with_its_line(
    name: str, program: str, tmp_path: Path
) -> None:
    """What is told is the first command that ended it, and its output is what it is without."""
    script, expected = FAILING[name]
    found = told_of(script, tmp_path, program=program)
    if expected and expected[1] is None:
        assert found[0] == expected[0] if found else program != "bash"
    elif program == "bash":
        assert found == expected
    else:
        assert found in (expected, None)


# What may not be told, or goes on: nothing is named, and nothing is other than without our file.
SILENT = {
    "success": (DEFAULT, "echo a"),
    "no set -e": ((), "false\nls /none\n"),
    "no set -e, and an exit": ((), "false\nexit 3"),
    "exit": (DEFAULT, "echo a\nexit 3"),
    "exit of a status": (DEFAULT, "grep -q x /dev/null || exit $?"),
    "set +e": (DEFAULT, "set +e\nfalse\necho b\nexit 2"),
    "what doesn't end it, then exit": (
        DEFAULT,
        "x=$(false; echo 1)\nif ! ls /none; then exit 4; fi",
    ),
    "an unset variable": (("-eu",), "echo a\necho $nope"),
    "an expansion": (DEFAULT, "echo ${x?nope}"),
    "a syntax error": (DEFAULT, "echo a\nif; then\n"),
    "readonly": (DEFAULT, "readonly r=1\nr=2\necho b"),
    "exec": (DEFAULT, "echo a\nexec false"),
    "exec of nothing": (DEFAULT, "exec /none/program"),
    "a signal": (DEFAULT, "kill -TERM $$; sleep 5"),
    "a trap of ERR": (DEFAULT, "trap 'echo err $LINENO' ERR\nf() { false; }\nf"),
    "a trap of err": (
        DEFAULT,
        "trap 'echo err $LINENO' err\nf() { false; true; }\nf",
    ),
    "a trap of DEBUG": (DEFAULT, "trap 'echo $BASH_COMMAND' DEBUG\nfalse"),
    "a trap of a signal": (DEFAULT, "trap 'false' USR1\nkill -USR1 $$\nsleep 1\nfalse"),
    "traps that are listed": (DEFAULT, "trap 'echo e' EXIT; trap -p\nfalse"),
    "a trap that fails at the end": (DEFAULT, "trap 'false' EXIT\ntrue"),
    "a function that fails at the end": (DEFAULT, "f() { false; }\ntrap f EXIT\ntrue"),
    "a redirection of a loop": (DEFAULT, "echo a\nwhile read x; do :; done < /none/x"),
    "a redirection of a group": (DEFAULT, "echo a\n{ echo b; } > /none/x"),
    "a redirection of a subshell": (DEFAULT, "echo a\n(echo b) > /none/x"),
    "its options": (DEFAULT, "f() { echo $-; }\nf\necho $SHELLOPTS; set -o; set +o"),
    "its variables": (
        DEFAULT,
        "env | grep -c BASH_ENV || true; echo ${BASH_ENV-unset}; compgen -v QW || true",
    ),
    "its functions": (DEFAULT, "declare -F; declare -f; compgen -A function || true"),
    "what fails in the background": (
        DEFAULT,
        "(false) & sleep 0.1; { false; true; } &\nwait\nexit 9",
    ),
    "a child": (DEFAULT, "bash -c 'trap; echo $-; echo ${BASH_ENV-unset}'; exit 3"),
    "a script that is run": (DEFAULT, "echo 'trap; false; echo b' > x\nbash x\nexit 3"),
    "arguments and name": (DEFAULT, 'echo "$0" "$#" "$@" ${BASH_SOURCE[0]} $LINENO $BASH_SUBSHELL'),
    "its trace": (("-x",), "echo a; false; echo b"),
    "verbose": (("-v",), "echo a; false"),
    "no execution": (("-n",), "false"),
    "posix": (("--posix", "-e"), "echo ${BASH_ENV-unset}; false"),
    "an xtrace elsewhere": (
        DEFAULT,
        "exec 9> x; BASH_XTRACEFD=9; set -x; (false) || cat x; exit 1",
    ),
    "small files": (DEFAULT, "ulimit -f 0\nfalse"),
    "LINENO of its own": (DEFAULT, "LINENO=100\nfalse"),
}


@pytest.mark.parametrize("program", BASHES)
@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_told_where_no_command_is_known_to_have_ended_it(
    name: str, program: str, tmp_path: Path
) -> None:
    """A command that didn't end the script is never named, and all that is seen is the same."""
    options, script = SILENT[name]
    more = {"arguments": ("a", "b c")}
    assert told_of(script, tmp_path, options=options, program=program, **more) is None


# What a BASH_ENV of the user's own says.
THEIRS = {
    "a variable": "MINE=1; export BOTH=2",
    "a function": "f() { echo in f; }\n",
    "a trap of ERR": "trap 'echo theirs $LINENO' ERR\n",
    "a command that fails": "true\n[ -f /none ] && . /none\n",
    "a return": "return 3\n",
    "output": "echo hello; echo there >&2\n",
    "options": "set -u\nshopt -s nullglob\n",
}


@pytest.mark.parametrize("program", BASHES)
@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("value", ["{path}", "$FOLDER/{name}"])
def test_a_bash_env_of_the_users_own_is_read_as_without_ours(
    value: str, name: str, program: str, tmp_path: Path
) -> None:
    """It is read once, before the script, which finds the variable as it was."""
    mine = tmp_path / "mine.sh"
    mine.write_text(THEIRS[name])
    given = value.format(path=mine, name=mine.name)
    env = {"BASH_ENV": given, "FOLDER": str(tmp_path)}
    script = (
        "echo ${MINE-} ${BOTH-} $BASH_ENV; type -t f || true; bash -c 'echo $BASH_ENV'\n\nfalse"
    )
    found = told_of(script, tmp_path, program=program, env=env)
    known = program == "bash" and name != "a trap of ERR"
    assert found == ((3, "false") if known else None) or (program != "bash" and found)


@pytest.mark.parametrize(
    ("value", "options"),
    [("/none/file", DEFAULT), ("{path}", ("-ex",)), ('/none/a "b" c', DEFAULT)],
)
def test_a_bash_env_that_is_missing_or_would_be_traced_changes_nothing(
    value: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """One that isn't there is passed over without a word, and one that is traced is left alone."""
    mine = tmp_path / "mine.sh"
    mine.write_text("echo hello\n")
    env = {"BASH_ENV": value.format(path=mine)}
    found = told_of("echo $BASH_ENV\nfalse", tmp_path, options=options, env=env)
    assert found == (None if "x" in options[0] else (2, "false"))


@pytest.mark.parametrize("odd", ["POSIXLY_CORRECT=1", "SHELLOPTS=verbose", "BASH_XTRACEFD=7"])
def test_a_bash_that_reads_or_shows_it_otherwise_isnt_asked(odd: str, tmp_path: Path) -> None:
    """Variables with which bash reads no BASH_ENV, or prints it, keep ours away."""
    name, _, value = odd.partition("=")
    assert told_of("env | grep BASH_ENV\nfalse", tmp_path, env={name: value}) is None


def test_a_place_that_cant_be_written_changes_nothing(tmp_path: Path) -> None:
    """Where the answer can't be written there is none, and the script ends as it would have."""
    script, words = "echo a\nfalse", ["bash", *DEFAULT]
    for place in ("/none/folder/file", str(tmp_path), "/dev/full"):
        file, path = tmp_path / "env", tmp_path / "cell.sh"
        file.write_text(bash.env_file(place, script))
        path.write_text(script)
        env = {**os.environ, **bash.variables({}, words, str(file))}
        done = subprocess.run([*words, path], env=env, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"a\n", b"")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("bash", True),
        ("/usr/local/bin/bash -eu", True),
        ("env bash", True),
        ("/usr/bin/env bash -x", True),
        ("bash -euo pipefail", True),
        ("bash -o errexit +x", True),
        ("bash -c", False),
        ("bash -l", False),
        ("bash -i", False),
        ("bash -v", False),
        ("bash --posix", False),
        ("bash -o posix", False),
        ("bash -eo", False),
        ("bash script.sh", False),
        ("env -i bash", False),
        ("nice bash", False),
        ("sh -e", False),
        ("zsh", False),
        ("dash", False),
        ("python", False),
        ("", False),
    ],
)
def test_bash_is_asked_where_it_reads_bash_env_and_prints_none_of_it(
    words: str, asked: bool
) -> None:
    """Other shells, and options that make another shell of it, keep it away."""
    assert bash.can_tell(words.split(), "false") is asked
    assert not bash.can_tell(words.split(), None)


def test_functions_are_looked_into_only_where_nothing_tells() -> None:
    """`set -E` is left out of scripts without functions, with jobs, and that print options."""
    assert "set -E" in bash.env_file("x", "f() { false; }\nf")
    assert "set -E" in bash.env_file("x", "function f { false; }; f && g 2>&1 &> y")
    for script in ("f", "f() { g; }\nf &\n", "f() { g; }\necho $-", "f() { g; }\nset +o; f"):
        assert "set -E" not in bash.env_file("x", script)


def test_what_is_told_is_one_bounded_line(tmp_path: Path) -> None:
    """A long command is cut, and its lines and control characters are spaces."""
    script = "true\nls /none \\\n" + " \\\n".join(f"/none/{n}" for n in range(200))
    found = told_of(script, tmp_path)
    assert found is not None and found[0] == 2
    assert (
        len(found[1]) == 200 and found[1].endswith("…") and found[1].startswith("ls /none /none/0")
    )
    found = told_of("true\nfalse 'a\tb\x07c\n\nd'", tmp_path)
    assert found == (2, "false 'a b c d'")


@pytest.mark.parametrize(
    "text",
    ["", "qwex.failed\n", "qwex.failed\n1\n2\n1\n1\n0\ncell\nfalse\n", "qwex.failed\n" * 50],
)
def test_half_an_answer_is_none(text: str) -> None:
    """A file that holds something else says nothing."""
    assert bash.failed(text, "true\nfalse", "cell") is None


@pytest.mark.parametrize("line", [0, 3, 999999999999])
def test_a_line_that_the_script_doesnt_have_is_none(line: int) -> None:
    """What a program made up itself names no line."""
    text = f"qwex.failed\n1\n{line}\n1\n1\n0\ncell\nfalse\nqwex.end\n"
    assert bash.failed(text, "true\nfalse", "cell") is None


def test_what_else_stands_in_the_file_stays() -> None:
    """The user's own words before and behind the answer are given back."""
    answer = "qwex.failed\n1\n2\n1\n1\n0\ncell\nfalse\nqwex.end\n"
    assert bash.split(f"mine\n{answer}theirs\n") == (answer, "mine\ntheirs\n")
    assert bash.split("mine") == ("", "mine")
