"""Find: a text in all of a log, and the lines at a place of it."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.widgets import find as room
from qwex_jupyter.widgets.find import find, lines_at

ROUND = settings(max_examples=150, deadline=None, derandomize=True)


def log_of(stdout: bytes = b"", stderr: bytes = b"", folder: Path | None = None) -> RunLog:
    """The log of a run that wrote this."""
    made = RunLog(str(folder or tempfile.mkdtemp()))
    made.write("stdout", stdout, 0)
    made.write("stderr", stderr, 0)
    return made


def looked(log: RunLog, text: str) -> tuple[int, list[tuple[str, int, int | None]]]:
    """How many lines have a text, and where those are that are told."""
    found = find(log, text, lambda: False)
    assert found is not None
    assert found["part"] is None
    return found["count"], found["places"]


def test_a_text_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """Each line with the text counts, once; where the last are is told, in little room."""
    lines = [f"row {number}" for number in range(100_000)]
    log = log_of("\n".join(lines).encode(), b"oh\nrow 5 here, too", tmp_path)
    count, places = looked(log, "ROW 5")
    assert count == 11_111 + 1
    assert len(places) == room.PLACES
    assert places[-1] == ("stderr", 3, 2)
    data = log.read("stdout")
    for stream, offset, number in places[:-1]:
        assert number is not None
        assert data[offset:].split(b"\n", 1)[0].decode() == lines[number - 1]
        assert stream == "stdout"
        assert "row 5" in lines[number - 1]
    assert len(json.dumps(places)) < 100_000


def test_what_is_searched_is_what_is_read(tmp_path: Path) -> None:
    """Colours within a word are no part of it, nor is what was overwritten; any byte may stand."""
    out = b"a \x1b[31mred\x1b[0mdish word\n10 %\r20 %\rdone\r\n\xff\xfe caf\xc3\xa9\nCAF\xc3\x89\n"
    log = log_of(out, folder=tmp_path)
    assert looked(log, "reddish") == (1, [("stdout", 0, 1)])
    assert looked(log, "10 %")[0] == looked(log, "[31m")[0] == 0
    assert looked(log, "DONE") == (1, [("stdout", 24, 2)])
    assert [number for _, _, number in looked(log, "café")[1]] == [3, 4]
    assert looked(log, "nowhere") == (0, [])
    assert looked(log_of(), "x") == (0, [])


def test_pieces_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a log falls into pieces, the same is found at the same places."""
    chance = random.Random(4)
    words = [b"x", b"needle", b"\n", b"\n\n", b"\x1b[1m", b"\r", b"long " * 30]
    log = log_of(b"".join(chance.choices(words, k=4000)), folder=tmp_path)
    whole = looked(log, "needle")
    assert whole[0] > 100
    for size in (7, 64, 1000):
        monkeypatch.setattr(room, "_CHUNK", size)
        assert looked(log, "needle") == whole


def test_work_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long log the end is searched, which is said; a line without end is cut into pieces."""
    log = log_of(b"needle\n" * 1000, folder=tmp_path)
    monkeypatch.setattr(room, "MOST", 70)
    found = find(log, "needle", lambda: False)
    assert found == {
        "count": 10,
        "part": 70,
        "places": [("stdout", 7 * number, None) for number in range(990, 1000)],
    }
    monkeypatch.setattr(room, "MOST", 1 << 20)
    monkeypatch.setattr(room, "_CHUNK", 100)
    monkeypatch.setattr(room, "_LONGEST", 1000)
    assert looked(log_of(b"x" * 50_000 + b"needle"), "needle")[0] == 1
    asked = iter([False, False, True])
    assert find(log, "needle", lambda: next(asked)) is None


@ROUND
@given(
    st.lists(st.sampled_from([b"", b"a", b"bb\xff", b"c" * 40, b"d" * 300]), max_size=60),
    st.booleans(),
    st.data(),
)
def test_the_lines_at_a_place_are_those_of_the_log(
    lines: list[bytes], ends: bool, data: st.DataObject
) -> None:
    """Whichever byte is meant, its line is shown, under its number, among its neighbours."""
    text = b"\n".join(lines) + (b"\n" if ends else b"")
    log = log_of(text)
    offset = data.draw(st.integers(0, max(0, len(text) - 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_BEFORE", 500)
        patch.setattr(room, "_AFTER", 700)
        patch.setattr(room, "_LINES_BEFORE", 7)
        patch.setattr(room, "_LINES_AFTER", 9)
        number = text.count(b"\n", 0, offset) + 1
        found = lines_at(log, "stdout", offset, number)
    assert found["size"] == len(text)
    shown = text[found["begin"] : found["end"]]
    assert len(shown) <= 1200
    assert found["begin"] == 0 or text[found["begin"] - 1 : found["begin"]] == b"\n"
    wanted = shown.removesuffix(b"\n").decode("utf-8", "replace").split("\n") if shown else []
    assert found["lines"] == wanted
    assert len(wanted) <= 16
    assert found["number"] == text.count(b"\n", 0, found["begin"]) + 1
    if text:
        assert found["begin"] <= offset < found["end"]
        assert found["number"] + found["here"] == number


def test_the_first_lines_are_those_of_the_stream_that_says_something(tmp_path: Path) -> None:
    """Without a stream it is stdout, or stderr where only that has anything."""
    assert lines_at(log_of(b"out\n", b"err\n"), "", 0, 1)["lines"] == ["out"]
    found = lines_at(log_of(b"", b"err\n", tmp_path), "", 0, 1)
    assert (found["stream"], found["lines"], found["number"]) == ("stderr", ["err"], 1)
    assert lines_at(log_of(), "", 0, 1)["lines"] == []
