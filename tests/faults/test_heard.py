"""Whose words are in the output of a program that ended soon: a runtime's, or its own."""

from __future__ import annotations

import pytest

from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.submission import refuse_too_long
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.runners.container.wording import heard

TINI = "[FATAL tini (7)] exec {} failed: {}\n"
CATATONIT = "ERROR (catatonit:2): failed to exec pid1: {}\n"
RUNC = "exec {}: {}\n"


def ended(code: int, program: str = "", lived: float = 0.1) -> Snapshot:
    """A container that has ended."""
    evidence = {"program": program, "elapsed": lived}
    return Snapshot(RunStatus.RUNNING, end=End(code), evidence=evidence)


@pytest.mark.parametrize(
    ("said", "code", "program", "cause"),
    [
        (TINI.format("foo", "No such file or directory"), 127, "foo", "isn't in the image"),
        (TINI.format("/a b/foo", "Permission denied"), 126, "/a b/foo", "may not be executed"),
        (TINI.format("echo", "Argument list too long"), 1, "echo", "with --files"),
        (TINI.format("foo", "Exec format error"), 1, "foo", "another kind of processor"),
        (CATATONIT.format("No such file or directory"), 1, "foo", "isn't in the image"),
        (RUNC.format("/bin/true", "exec format error"), 1, "true", "another kind of processor"),
        (RUNC.format("/bin/true", "exec format error"), 255, "", "another kind of processor"),
        (RUNC.format("/bin/echo", "argument list too long"), 1, "echo", "with --files"),
    ],
)
def test_what_a_runtime_says(said: str, code: int, program: str, cause: str) -> None:
    """No program returned that number; the cause is told."""
    end = heard(ended(code, program), said, "app:1").end
    assert end is not None
    assert (end.exit_code, end.reason) == (None, Reason.COMMAND_NOT_FOUND)
    assert cause in end.detail and "app:1" in end.detail


@pytest.mark.parametrize(
    ("said", "code", "program", "lived"),
    [
        ("work\n" + TINI.format("foo", "No such file"), 127, "foo", 0.1),
        (TINI.format("foo", "No such file") + "more\n", 127, "foo", 0.1),
        ("x" + TINI.format("foo", "No such file"), 127, "foo", 0.1),
        (TINI.format("foo", "No such file"), 127, "bar", 0.1),
        (TINI.format("foo", "No such file"), 3, "foo", 0.1),
        (TINI.format("foo", "No such file"), 127, "foo", 60.0),
        (RUNC.format("/bin/true", "exec format error"), 1, "false", 0.1),
        (RUNC.format("true", "exec format error"), 1, "true", 0.1),
        (RUNC.format("/bin/true", "something else"), 1, "true", 0.1),
        ("", 127, "foo", 0.1),
    ],
)
def test_what_a_program_says_itself(said: str, code: int, program: str, lived: float) -> None:
    """More than that, of another program, with another number, or later: it is the program's."""
    answer = ended(code, program, lived)
    assert heard(answer, said, "app:1") is answer


def test_what_can_never_be_executed_is_refused() -> None:
    """Linux takes no word and no variable of 128 KiB; what is just shorter may be all right."""
    most = 32 * 4096 - 1
    refuse_too_long(JobSpec(command=("echo", "x" * most)), {"A": "x" * (most - 2)})
    with pytest.raises(SpecError, match=r"begins with 'xxx.* has 131,072 bytes.*--files"):
        refuse_too_long(JobSpec(command=("echo", "x" * (most + 1))), {})
    with pytest.raises(SpecError, match=r"the variable A has 131,072 bytes"):
        refuse_too_long(JobSpec(command=("true",), env={"A": "ö" * 65535}), {})
    with pytest.raises(SpecError, match="the variable SECRET has"):
        refuse_too_long(JobSpec(command=("true",)), {"SECRET": "s" * 200_000})
