"""What is said of a run: where its output stands, what is missing of it, and why it failed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kernel import Kernel, qwex
from local_helpers import end, sh, terminal

from qwex_jupyter.commands import verbs
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.display.card import Card, LogView, card_text, log_view
from qwex_jupyter.display.render import card_html
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.display.terminal import LINE_LIMIT
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus
from qwex_jupyter.model.verdict import conclude
from qwex_jupyter.notebook.stream import Stream
from qwex_jupyter.notebook.views import Silent

FAILED = RunRecord(
    "20261123-163045-k3x9qd",
    "local",
    RunStatus.FAILED,
    Reason.NON_ZERO_EXIT,
    conclude(End(exit_code=3), None, {"handle": "k3x9qd"}).message,
    exit_code=3,
)


# Output that could not be kept.


def test_lost_output_is_said_in_a_terminal(
    mounted: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every verb that gives a run's output says on stderr how much of it there was no room for."""
    monkeypatch.setenv("QWEX_HOME", str(mounted("size=1m") / "home"))
    words = ("head", "-c", "3000000", "/dev/zero")
    for verb in (("run", "--quiet", "--name", "much", *words), ("logs", "much"),
                 ("logs", "-f", "much"), ("attach", "much"), ("wait", "much")):  # fmt: skip
        code, out, err = terminal(capfd, *verb)
        assert code == 0, err
        assert len(out) < 3_000_000
        assert "bytes of stdout could not be kept: there was no room on the disk." in err, verb


def test_a_quiet_success_tells_of_lost_output(capsys: pytest.CaptureFixture[str]) -> None:
    """``--quiet`` is silent while all goes well, and lost output isn't that."""
    done = replace(FAILED, status=RunStatus.SUCCEEDED, reason="", message="", exit_code=0)
    Silent(Stream(limited=False)).finish(done)
    assert capsys.readouterr().out == ""
    Silent(Stream(limited=False)).finish(replace(done, log_missing={"stdout": 9}))
    assert "9 bytes of stdout could not be kept" in capsys.readouterr().out


# The last lines.


def _log(folder: Path, *, stdout: bytes = b"", stderr: bytes = b"") -> Any:
    log = RunLog(str(folder))
    log.write("stdout", stdout, 0)
    log.write("stderr", stderr, 0)
    return SimpleNamespace(log=log)


@pytest.mark.parametrize("width", [1, 300, 3000])
@pytest.mark.parametrize("tail", [1, 27, 500, 600, 5000])
def test_as_many_last_lines_as_were_asked_for(tmp_path: Path, tail: int, width: int) -> None:
    """``--tail`` gives so many lines, long ones too, or all there are."""
    run = _log(tmp_path, stdout=b"".join(b"%d %s\n" % (n, b"x" * width) for n in range(600)))
    lines = verbs.output_text(run, tail, None).split("\n")
    assert [line.split()[0] for line in lines] == [str(n) for n in range(600)][-tail:]


def test_lines_of_two_streams_are_counted_together(tmp_path: Path) -> None:
    """The last lines are those of stderr, and before them those of stdout."""
    run = _log(tmp_path, stdout=b"a\nb\nc\n", stderr=b"d\ne")
    assert verbs.output_text(run, 3, None) == "c\nd\ne"
    assert verbs.output_text(run, 1, "stdout") == "c"
    assert verbs.output_text(run, 0, None) == ""
    assert verbs.output_text(run, 9, None) == "a\nb\nc\nd\ne"


def test_what_a_page_can_t_take_is_counted(tmp_path: Path) -> None:
    """However many lines are asked for, a page gets what it can take, and how many there were."""
    run = _log(tmp_path, stdout=b"".join(b"%d %s\n" % (n, b"x" * 3000) for n in range(3000)))
    for tail in (2000, None):
        first, *lines = verbs.output_text(run, tail, None).split("\n")
        assert first == f"… {3000 - len(lines):,} lines before these, all of them: " + str(
            tmp_path / "stdout.log"
        )
        assert lines[-1].startswith("2999 ")
        assert sum(len(line) + 1 for line in lines) <= 2_000_000


def test_where_the_last_lines_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset of the last lines is right wherever the reading is cut."""
    data = b"one\n\ntwo\nthree\n\nfour"
    log = _log(tmp_path, stdout=data, stderr=data + b"\n").log
    for step in range(1, 25):
        monkeypatch.setattr("qwex_jupyter.disk.logs._STEP", step)
        for stream, whole in (("stdout", data), ("stderr", data + b"\n")):
            for count in range(9):
                found = whole[log.where_last(stream, count) :]
                last = whole.splitlines(keepends=True)[-count:] * (count > 0)
                assert found == b"".join(last)
                for within in range(1, len(whole) + 1):
                    found = whole[log.where_last(stream, count, within) :]
                    fits = [n for n in range(len(last) + 1) if len(b"".join(last[n:])) <= within]
                    # A line that alone is too long is cut.
                    cut = whole[-within:] if last and len(last[-1]) > within else None
                    assert found == (cut or b"".join(last[fits[0] :]))


def test_logs_of_what_has_ended_is_bounded_when_followed(k: Kernel) -> None:
    """``logs -f`` of an ended run shows what ``logs`` shows of it."""
    k.run("%%qwex --quiet --name big\nseq 200000")
    followed = k.run("%qwex logs -f big").stream()
    assert followed == k.run("%qwex logs big").stream()
    assert followed.startswith("… 199,000 lines before these, all of them: ")
    assert k.run("%qwex logs -f big --tail 2").stream() == "199999\n200000\n"


def test_following_begins_at_the_last_lines(tmp_path: Path, k: Kernel) -> None:
    """``logs -f --tail`` in a terminal gives the last lines, and what comes."""
    k.run("%%qwex --quiet --name tailed\nseq 100; echo e >&2")
    done = qwex(k.env, "logs", "-f", "tailed", "--tail", "2")
    assert (done.stdout, done.stderr) == (b"99\n100\n", b"e\n")
    done = qwex(k.env, "logs", "-f", "tailed", "--tail", "1", "--stdout")
    assert (done.stdout, done.stderr) == (b"100\n", b"")


# Long lines.


@pytest.mark.parametrize("size", [1, 997, 70_000, 300_000])
def test_a_long_line_is_shown_from_its_beginning(size: int) -> None:
    """Of a line of any length, in whatever pieces, the beginning is shown and the rest counted."""
    screen = Screen()
    data = b"START" + b"0123456789" * 30_000 + "é".encode() * 5 + b"END\n"
    for at in range(0, len(data), size):
        screen.feed("stdout", data[at : at + size])
    (line,) = screen.tail(5)
    assert line == "START" + "0123456789" * 399 + "01234" + f"… (+{300_013 - LINE_LIMIT:,})"


def test_escapes_of_a_long_line_are_not_counted() -> None:
    """An escape sequence that is cut where a long line is folded is no character of it."""
    screen = Screen()
    for at in range(40):
        screen.feed("stdout", b"x" * 7_990 + b"\x1b]0;ti")
        screen.feed("stdout", b"tle%d\x07" % at)
    (line,) = screen.tail(5)
    assert line == "x" * LINE_LIMIT + f"… (+{40 * 7_990 - LINE_LIMIT:,})"


def test_a_return_begins_a_long_line_anew() -> None:
    """What a carriage return overwrites is gone, however long it was; a lone one ends nothing."""
    screen = Screen(5000)
    screen.feed("stdout", b"x" * 200_000 + b"\r")
    assert screen.tail(5)[0].startswith("xxx")
    screen.feed("stdout", b"\n" + b"y" * 200_000 + b"\rshort\r\n")
    assert screen.tail(5)[1:] == ["short"]


def test_the_one_line_that_a_card_has_room_for_is_its_beginning() -> None:
    """A line that is too long for a card is cut behind its beginning."""
    screen = Screen()
    screen.feed("stdout", b"START" + b"<" * 50_000)
    card = Card(FAILED, LogView(screen.tail(9), 1, 50_005))
    for made in (card_text(card), card_html(card)):
        assert "START" in made


def test_a_small_card_begins_with_a_whole_line(tmp_path: Path) -> None:
    """The last bytes of a log are whole lines, or marked as the end of one."""
    log = _log(tmp_path, stdout=b"first line\nsecond\n", stderr="é".encode() * 30).log
    assert log.last("stdout", within=100) == b"first line\nsecond\n"
    assert log.last("stdout", within=12) == log.last("stdout", within=7) == b"second\n"
    assert log.last("stdout", within=3) == "…nd\n".encode()
    assert log.last("stderr", within=3).decode() == "…é"
    assert log.last("stdout", 1) == b"second\n"


@pytest.mark.parametrize("err", ["", "one", "one\n", "one\ntwo\nthree\n"])
@pytest.mark.parametrize("out", ["", "a", "a\n", "a\r\n\nb\rc\nd"])
def test_last_lines_are_those_of_all_lines(manager: RunManager, out: str, err: str) -> None:
    """So many last lines are the last of both streams, one after the other."""
    run = manager.submit(sh(f"printf {out!r}; printf {err!r} >&2"))
    end(run)
    whole = run.logs()
    assert whole == out + err
    lines = [f"{line}\n" for line in whole.split("\n")]
    lines[-1:] = [lines[-1][:-1]] * (lines[-1] != "\n")
    for count in range(9):
        assert run.logs(tail=count) == "".join(lines[-count:] * (count > 0))


def test_of_a_long_log_only_the_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before is counted where that is little, and else is told by its bytes."""
    read: list[int] = []
    real = RunLog.read

    def noted(log: RunLog, *args: Any) -> bytes:
        read.append(len(found := real(log, *args)))
        return found

    monkeypatch.setattr(RunLog, "read", noted)
    monkeypatch.setattr("qwex_jupyter.disk.logs._STEP", 1 << 12)
    run = _log(tmp_path, stdout=b"".join(b"line %d\n" % n for n in range(100_000)))
    size = run.log.size("stdout")
    monkeypatch.setattr("qwex_jupyter.display.card._COUNTED", size)
    assert log_view(run.log, 15).count == 100_000
    assert sum(read) > size
    monkeypatch.setattr("qwex_jupyter.display.card._COUNTED", size // 2)
    read.clear()
    view = log_view(run.log, 15)
    assert sum(read) < size // 10
    assert (view.lines[-1], len(view.lines)) == ("line 99999", 15)
    assert (view.count, view.size) == (None, size)
    card = Card(FAILED, view)
    assert "… more lines (of 1.04 MiB) before\n" in card_text(card)
    assert "output: 1.04 MiB, last 15 shown" in card_html(card)
    assert "%qwex logs k3x9qd" in card_html(card)
    first, *lines = verbs.output_text(run, None, None).split("\n")
    assert first.startswith("… more lines (of 1.04 MiB) before these, all of them: ")
    assert len(lines) == 1000
    assert verbs.output_text(run, 2, None) == "line 99998\nline 99999"


def test_of_a_line_that_is_too_long_to_read_the_end_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line whose beginning isn't read is shown from a mark on."""
    monkeypatch.setattr("qwex_jupyter.display.card._READ", 4)
    run = _log(tmp_path, stdout=b"x" * 20 + b"end")
    view = log_view(run.log, 15)
    assert (list(view.lines), view.count, view.size) == (["…xend"], 1, 23)


# Why it failed.


@pytest.mark.parametrize(
    "end",
    [
        End(exit_code=1),
        End(exit_code=139),
        End(exit_code=137, signal=9),
        End(reason=Reason.VANISHED),
        End(),
    ],
)
def test_what_printed_nothing_has_no_lines_that_say_why(end: End) -> None:
    """Where there is no output nobody is sent to read it."""
    about = {"handle": "k3x9qd"}
    assert "%qwex logs k3x9qd" in conclude(end, None, about).message
    message = conclude(end, None, {**about, "printed": False}).message
    assert "printed nothing" in message
    assert "logs" not in message


@pytest.mark.parametrize(("text", "printed"), [("exit 3", False), ("echo; exit 3", True)])
def test_whether_it_printed_is_known_at_its_end(
    manager: RunManager, text: str, printed: bool
) -> None:
    """The sentence of a failed run goes by what there is on disk."""
    assert ("printed nothing" not in end(manager.submit(sh(text))).message) is printed


def test_whether_a_backend_s_run_printed_is_known_at_its_end(manager: RunManager) -> None:
    """Where the output was fetched, the sentence goes by what was."""
    for script, silent in (("exit 3", True), ("out hello\nexit 3", False)):
        record = end(manager.submit(JobSpec(script=script), "memory"))
        assert (record.exit_code, "printed nothing" in record.message) == (3, silent)


@pytest.mark.parametrize(("lines", "all_above"), [(0, False), (6, True), (20, True), (300, False)])
def test_where_all_stands_above_nobody_is_sent_elsewhere(lines: int, all_above: bool) -> None:
    """Below all of its output a card doesn't say where all of it is."""
    view = LogView(["x"] * min(lines, 200), lines, 2 * lines)
    card = Card(FAILED, view)
    for made in (card_text(card), card_html(card)):
        assert ("%qwex logs" not in made) is all_above
        assert "%qwex rerun k3x9qd" in made
    lost = Card(replace(FAILED, log_missing={"stdout": 1}), view)
    assert "%qwex logs" in card_text(lost)


def test_a_terminal_that_has_shown_all_says_so(k: Kernel) -> None:
    """``qwex run`` and plain text, which passed all of it on, send nobody to the log."""
    done = qwex(k.env, "run", "sh", "-c", "echo why; exit 3")
    assert re.search(
        rb"qwex: exit code 3, last line: why .+ \w{6} failed .+ qwex rerun", done.stderr
    )
    assert b"logs" not in done.stderr
    out = k.run("%%qwex --no-raise-error\necho why; exit 3", stdin=False).stream()
    assert re.search(r"✗ failed  exit code 3, last line: why   .*\n  %qwex rerun \w{6}\n", out)


# A program that is there and can't be run.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"#!/bin/sh\r\necho hi\r\n", "its #! line ends as lines of Windows do"),
        (b"#! /no/such/thing -x\n", "'/no/such/thing', which its #! line names, isn't there"),
        (b"echo hi\n", "it has no #! line that names its interpreter"),
    ],
    ids=["windows", "interpreter", "none"],
)
@pytest.mark.parametrize("by_path", [False, True])
def test_what_a_script_lacks_is_said(
    manager: RunManager, tmp_path: Path, text: bytes, said: str, by_path: bool
) -> None:
    """A script that is there isn't told to be missing: its #! line is."""
    script = tmp_path / "tool"
    script.write_bytes(text)
    script.chmod(0o700)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    word = "tool" if by_path else str(script)
    record = end(manager.submit(JobSpec(command=(word,), env=env)))
    assert (record.reason, record.exit_code) == (Reason.COMMAND_NOT_FOUND, None)
    assert f"{word!r} could not be run: {said}" in record.message
