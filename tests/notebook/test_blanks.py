r"""Blanks and line ends that aren't space, tab and ``\\n``: in a line, a cell and an output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kernel import Kernel
from local_helpers import end, python

from qwex_jupyter.commands import line as words
from qwex_jupyter.commands.options import parse_run, parse_verb
from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.manager import RunManager

ODD = "\u00a0\u3000\u2003\u2028\x85\x0b\x0c\x1c"


@pytest.mark.parametrize("odd", ODD)
def test_only_space_and_tab_divide_words(odd: str) -> None:
    """A word keeps whatever else looks like a blank, as in a shell."""
    line = f"-e T=a{odd}b\t--name  x 'c{odd}d' ~{odd}/y python"
    said = ["-e", f"T=a{odd}b", "--name", "x", f"c{odd}d", f"~{odd}/y", "python"]
    assert words.split(line) == said
    assert words.split(line, {}) == said


@pytest.mark.parametrize("odd", ["\u00a0", "\u200b", "\u3000"])
@pytest.mark.parametrize(
    ("parse", "said"),
    [
        (lambda odd: parse_run([f"--detach{odd}", "python"]), "unknown option --detach"),
        (lambda odd: parse_run([f"{odd}--detach", "python"]), "there is no such program"),
        (lambda odd: parse_verb("logs", [f"--tail{odd}5"]), "unrecognized arguments"),
        (lambda odd: parse_verb(f"logs{odd}x", []), "there is no such verb"),
    ],
)
def test_what_looks_like_a_blank_and_is_none_is_named(odd: str, parse: Any, said: str) -> None:
    """A mistake that nobody can see is told: which character it is, and what to type."""
    with pytest.raises(SpecError) as caught:
        parse(odd)
    assert said in str(caught.value)
    assert f"(U+{ord(odd):04X} in it is no blank: type a space.)" in str(caught.value)


def test_a_program_of_that_name_is_one(tmp_path: Path) -> None:
    """A path that is there is a program, whatever its name holds."""
    program = tmp_path / "a\u3000b"
    program.touch()
    assert parse_run([str(program)])[1] == [str(program)]


def test_a_cell_with_other_line_ends_runs(k: Kernel) -> None:
    r"""A cell whose every line ends with ``\\r\\n`` is the same with ``\\n``, its line included."""
    lines = ["%%qwex --name ends \\", "-e A=1 \\", "bash", "set -e", "if true; then", "echo $A"]
    assert k.run("\r\n".join([*lines, "fi"])).status == "ok"
    assert k.value("__import__('qwex_jupyter').get('ends').logs()") == "'1\\n'"


def test_line_ends_of_some_lines_are_content() -> None:
    r"""Where not every line ends with ``\\r\\n``, the cell is left as it is."""
    assert words.plain_ends("a\r\nb\nc") == "a\r\nb\nc"
    assert words.plain_ends("a\rb\n") == "a\rb\n"
    assert words.plain_ends("a\r\r\nb\r\n") == "a\r\nb\n"


def test_a_tab_behind_a_verb_is_a_blank(k: Kernel) -> None:
    """A verb ends at a tab as well as at a space, for completion too."""
    cell = k.run("%qwex logs\t--help")
    assert (cell.status, "--tail" in cell.stream()) == ("ok", True), cell.error
    assert "--tail" in k.complete("%qwex logs\t--ta")


def test_last_lines_are_counted_by_newlines(manager: RunManager) -> None:
    """What else may end a line elsewhere is part of a line of output."""
    run = manager.submit(python(f"print('one'); print('a' + {ODD!r} + 'b'); print('three')"))
    end(run)
    assert run.logs(tail=2) == f"a{ODD}b\nthree\n"
    assert run.logs(tail=0) == ""
