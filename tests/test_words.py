"""How a magic's line becomes words."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qwex_jupyter.errors import SpecError
from qwex_jupyter.words import split

NAMES: dict[str, Any] = {"n": 3, "path": "a b", "d": {"k": "v"}, "quote": "it's"}

# Without braces, dollars and what a shell would carry out.
LINES = st.text(alphabet="abc=,:/.-_ \t'\"\\é", max_size=24)
WHOLE = st.lists(st.sampled_from(["a", "'b c'", '"d e"', "f\\ g", "''", '"\\""', "h'i'\"j\""]))


def _by_sh(line: str) -> list[str] | None:
    """What ``sh`` makes of a line; None where it finds it unfinished."""
    done = subprocess.run(
        ["sh", "-f", "-c", f"printf '%s\\0' x {line}\n"], capture_output=True, check=False
    )
    words = done.stdout.decode().split("\0")[1:-1]
    return None if done.returncode or done.stderr else words


@given(LINES)
@example("a'b c'\"d e\"")
@example("--name='x y' -e A=\"b c\"")
def test_words_are_those_of_shlex(line: str) -> None:
    """Quotes and backslashes are taken as the standard library's POSIX splitter takes them."""
    assume(not line.endswith("\\"))
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(SpecError, match="isn't closed"):
            split(line, NAMES)
    else:
        assert split(line, NAMES) == expected


@settings(max_examples=60)
@given(st.one_of(LINES, WHOLE.map(" ".join)))
@example("a#b # a comment 'with a quote")
@example("# nothing")
def test_words_are_those_of_a_real_shell(line: str) -> None:
    """``sh`` makes the same words of the same line."""
    assume(not line.endswith("\\"))
    expected = _by_sh(line)
    if expected is None:
        with pytest.raises(SpecError):
            split(line, NAMES)
    else:
        assert split(line, NAMES) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-e A={n}", ["-e", "A=3"]),
        ("-e A={n + 1}x", ["-e", "A=4x"]),
        ("{d['k']}", ["v"]),
        ('"{path}/x"', ["a b/x"]),
        ("{path}", ["a b"]),
        ('$n ${n}0 "$n"', ["3", "30", "3"]),
        ("'{n} $n ~'", ["{n} $n ~"]),
        ("\\$n \\{n}", ["$n", "{n}"]),
        ("$$ $1 a$", ["$", "$1", "a$"]),
        ("{} x{}", ["{}", "x{}"]),
        ("{quote}", ["it's"]),
        ("{len(path)}", ["3"]),
        ("a # {unknown} $unknown", ["a"]),
        ("a#b", ["a#b"]),
        ("", []),
        ("'' \"\"", ["", ""]),
    ],
)
def test_what_a_word_is_expanded_to(line: str, words: list[str]) -> None:
    """Braces and dollars take the notebook's values outside single quotes, never re-split."""
    assert split(line, NAMES) == words


def test_the_notebook_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``$name`` is the notebook's variable, else the environment's."""
    monkeypatch.setenv("n", "outer")
    monkeypatch.setenv("ONLY_OUTSIDE", "here")
    assert split("$n $ONLY_OUTSIDE ${ONLY_OUTSIDE}", NAMES) == ["3", "here", "here"]


def test_a_tilde_is_home_where_a_shell_would_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home folder at the start of a word and of an option's value."""
    monkeypatch.setenv("HOME", "/home/ada")
    words = split("~ ~/x --env-file=~/y a~ '~' \"~\" ~/x:/y", NAMES)
    home = "/home/ada"
    expected = [home, f"{home}/x", f"--env-file={home}/y", "a~", "~", "~", f"{home}/x:/y"]
    assert words == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-e A=$no_such", r"\$no_such is neither a variable of this notebook nor of the env"),
        ("{no_such}", r"\{no_such\} can't be worked out \(NameError"),
        ("{1/0}", "ZeroDivisionError"),
        ('{"a":1}', "single quotes if it is meant as it stands"),
        ("{n", r"a brace \(\{\) isn't closed"),
        ("'a", r"a single quote \('\) isn't closed"),
        ('"a', "a double quote .* isn't closed"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(line: str, message: str) -> None:
    """A mistake is one line that says how to write it; nothing is passed on half expanded."""
    os.environ.pop("no_such", None)
    with pytest.raises(SpecError, match=message) as caught:
        split(line, NAMES)
    assert "\n" not in str(caught.value)


def test_without_names_nothing_is_expanded() -> None:
    """Where a shell has expanded already, braces and dollars are letters."""
    assert split("{n} $n '$n'", None) == ["{n}", "$n", "$n"]
