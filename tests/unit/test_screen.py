"""Lines that a cursor goes back to: bars below each other, as programs print them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.display.card import log_view
from qwex_jupyter.display.screen import Screen

pytestmark = pytest.mark.once

PRINTED = Path(__file__).parent / "progress"
# What programs printed into a pipe, and how many lines a terminal shows of it.
LINES = {
    "tqdm_one": 1,
    "tqdm_nested": 2,
    "tqdm_nested_left": 4,
    "tqdm_positions": 3,
    "tqdm_write": 5,
    "rich_forced": 2,
    "keras": 6,
    "wget": 68,
}


def shown(text: str) -> list[str]:
    """What a screen shows of a text."""
    screen = Screen()
    screen.feed("stderr", text.encode())
    return [*screen.tail(200)]


@pytest.mark.parametrize(("name", "count"), LINES.items(), ids=LINES)
def test_bars_below_each_other_are_as_many_lines(name: str, count: int) -> None:
    """What programs print is as many lines as in a terminal, however it is cut between reads."""
    data = (PRINTED / f"{name}.log").read_bytes()
    whole, cut = Screen(), Screen()
    whole.feed("stderr", data)
    for place in range(len(data)):
        cut.feed("stderr", data[place : place + 1])
    assert whole.count == cut.count == count
    assert whole.tail(200) == cut.tail(200)


def test_nested_bars_stand_in_their_places() -> None:
    """The outer bar stands above the inner one, and each in its last state."""
    printed = (PRINTED / "tqdm_nested.log").read_bytes().decode()
    middle = printed[: printed.index("2/3")]
    lines = shown(middle[: middle.rindex("80%") + 40])
    assert [line.split(":")[0] for line in lines] == ["epochs", "batches"]
    assert "1/3" in lines[0]
    assert lines[1].startswith("batches:  80%")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\x1b[A\rA", ["A", "b"]),
        ("a\nb\nc\x1b[2A\rA\x1b[1B\rB", ["A", "B", "c"]),
        ("a\nb\x1b[FA\nB", ["A", "B"]),
        ("a\nb\nc\x1b[2F\x1b[EB", ["a", "B", "c"]),
        ("a\nb\x1b[A\r\x1b[K", ["", "b"]),
        ("a\nb\nc\x1b[2A\r\x1b[J", []),
        ("a\nb\nc\x1b[1A\x1b[JB", ["a", "B"]),
        ("abc\x1b[2Kd", ["d"]),
        ("abc\x1b[Gd\x1b[K", ["d"]),
        ("abc\x1b[K", ["abc"]),
        ("a\x1b[5Ab", ["ab"]),
        ("a\x1b[5Bb", ["ab"]),
        ("a\n\x1b[1A", ["a"]),
        ("a\n\x1b[32mb\x1b[0m\x1b[A\r\x1b[31mA\x1b[0m", ["\x1b[31mA\x1b[0m", "\x1b[32mb\x1b[0m"]),
        ("a\nb\x1b[A\rA\n\nc\n", ["A", "b", "c"]),
        ("a\nb\x1b[3;4Hc\x1b[2Jd\x1b[9999999Ae", ["a", "bcde"]),
    ],
)
def test_a_cursor_goes_where_a_terminal_has_it(text: str, lines: list[str]) -> None:
    """Up, down, to the beginning, and erasing, among the lines that there are; nothing else."""
    assert shown(text) == lines


def test_a_cursor_never_leaves_what_is_kept() -> None:
    """Above the lines that are kept, or 100 of them, there is nothing to be overwritten."""
    screen = Screen(2)
    screen.feed("stderr", b"a\nb\nc\nd\x1b[9A\rX")
    assert screen.tail(9) == ["X", "c", "d"]
    assert screen.tail(1) == ["d"]
    assert screen.tail(0) == []
    assert screen.count == 4
    many = "".join(f"{n}\n" for n in range(150))
    lines = shown(f"{many}\x1b[9999A\rX")
    assert lines[:50] == [str(n) for n in range(50)]
    assert lines[51] == "X"


def test_a_cursor_moves_among_the_lines_of_its_own_stream() -> None:
    """What the other stream says in between stays, and stands above the bars."""
    screen = Screen()
    screen.feed("stderr", b"outer 1\ninner 1\x1b[A")
    screen.feed("stdout", b"a result\n")
    screen.feed("stderr", b"\router 2\n\rinner 2\x1b[A")
    lines = screen.tail(9)
    assert lines == ["a result", "outer 2", "inner 2"]
    assert [line.stream for line in lines] == ["stdout", "stderr", "stderr"]
    assert (screen.finished, screen.count) == (1, 3)


def test_what_was_finished_and_changes_again_is_told() -> None:
    """How many lines are as they were goes down where a cursor goes back to one of them."""
    screen = Screen()
    screen.feed("stderr", b"a\nb\nc\n")
    assert screen.unchanged() == 0
    assert screen.unchanged() == 3
    screen.feed("stderr", b"\x1b[2A\rB\n\nd\n")
    assert screen.tail(9) == ["a", "B", "c", "d"]
    assert screen.unchanged() == 1
    assert screen.unchanged() == screen.finished == 4


def test_a_flood_of_moves_is_bounded() -> None:
    """However often a cursor moves, memory is bounded, and the last state is shown."""
    screen = Screen(50)
    for turn in range(20):
        screen.feed("stderr", b"".join(b"%d %d\n\x1b[A\x1b[A" % (turn, n) for n in range(20_000)))
    assert screen.count < 20 * 20_000
    assert len(screen.tail(50)) <= 50
    assert screen.tail(50)[0] == "19 19999"


@given(
    st.text(st.sampled_from("ab\r\n\x1b[2;AKJBEFGm0"), max_size=120), st.lists(st.integers(0, 120))
)
def test_moves_cut_between_reads_are_whole(text: str, cuts: list[int]) -> None:
    """However output is cut into reads, with whatever in it, the lines are the same."""
    data = text.encode()
    screen, whole = Screen(), Screen()
    whole.feed("stderr", data)
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for begin, end in pairwise(edges):
        screen.feed("stderr", data[begin:end])
        screen.tail(3)
    assert screen.tail(200) == whole.tail(200)
    assert screen.count == whole.count


@pytest.mark.parametrize("before", [b"", b"x" * 70 + b"\n"], ids=["alone", "a long log"])
def test_a_saved_log_has_the_lines_that_were_seen_live(tmp_path: Path, before: bytes) -> None:
    """Lines, and how many there are, are the same live and from the disk."""
    data = before * 40_000 + (PRINTED / "tqdm_nested.log").read_bytes() * 30
    (tmp_path / "stdout.log").write_bytes(b"")
    (tmp_path / "stderr.log").write_bytes(data)
    live = Screen()
    for place in range(0, len(data), 3000):
        live.feed("stderr", data[place : place + 3000])
        live.tail(9)
    saved = log_view(RunLog(str(tmp_path)))
    assert saved.lines == live.tail(200)
    assert saved.count == live.count
    assert saved.size == live.bytes == len(data)
