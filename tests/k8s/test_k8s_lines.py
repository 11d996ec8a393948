"""Output that comes from a kubelet: every order of stamps, every cut, without a cluster.

`Log` is a model of what a runtime keeps and a kubelet answers (pkg/logs of k8s.io/cri-client);
the reader under test is the real one, down to the chunks of HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from answers import BEGAN, RUN, SECOND, Backend, Entry, Kept, Socket, Step, any_steps, new_log
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qwex_jupyter.disk import logs as log_files
from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.runners.container.http_stream import Guard
from qwex_jupyter.runners.k8s import logs as k8s_logs
from qwex_jupyter.runners.k8s import rotation, stamps
from qwex_jupyter.runners.k8s.cluster import Refused
from qwex_jupyter.runners.k8s.lines import Cursor, Writer
from qwex_jupyter.system import process

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("folders", "short_pieces")]

CALLED = {"Stdout": "stdout", "Stderr": "stderr"}
# In place of 16 KiB, so that lines are kept in pieces.
PIECE = 8
NO_LOG = b"unable to retrieve container logs for containerd://3b1f"


def cut(line: bytes) -> list[bytes]:
    """The pieces that a runtime makes of a line."""
    pieces = [line[at : at + PIECE] for at in range(0, len(line), PIECE)]
    if pieces[1:] and pieces[-1] == b"\n":
        pieces[-2:] = [pieces[-2] + b"\n"]
    return pieces


def entries(*lines: tuple[str, float, bytes]) -> list[Entry]:
    """Lines as (stream, seconds, bytes), in pieces."""
    return [
        Entry(stream, BEGAN + round(at * SECOND) + n, text)
        for stream, at, line in lines
        for n, text in enumerate(cut(line))
    ]


@dataclass
class Log(Kept):
    """What a node has of a container's output, and how a kubelet answers.

    Attributes:
        zone: Hours that the node's clock is ahead of UTC.
        splits: What of the two can give a stream by itself: the API server, the kubelet.
        begin: The first one that wasn't rotated away.
        gone: The pod is gone.
        error: What is said in place of the output.
    """

    zone: int = 0
    splits: tuple[bool, bool] = (False, False)
    begin: int = 0
    gone: bool = False
    error: bytes = b""

    def answer(self, params: dict[str, Any]) -> bytes:
        """What a request gets: ``ReadLogs`` and ``logWriter.write``."""
        self.requests.append(params)
        if self.error:
            return self.error
        since = 0
        if "sinceTime" in params:
            asked = datetime.strptime(params["sinceTime"], "%Y-%m-%dT%H:%M:%SZ")
            since = round(asked.replace(tzinfo=UTC).timestamp()) * SECOND
        only = CALLED[params["stream"]] if "stream" in params and self.splits[1] else ""
        sent, new_line = [], True
        for entry in self.entries[self.begin : self.there]:
            if entry.at >= since and only in ("", entry.stream):
                sent.append((stamp(entry.at, self.zone) + b" " if new_line else b"") + entry.text)
            new_line = entry.text.endswith(b"\n")
        return b"".join(sent)[: params.get("limitBytes")]

    @property
    def printed(self) -> dict[str, bytes]:
        """What the log files are to hold in the end."""
        if all(self.splits):
            return super().printed
        return {"stdout": b"".join(each.text for each in self.entries), "stderr": b""}


def stamp(at: int, zone: int) -> bytes:
    """A time as a kubelet writes it."""
    there = datetime.fromtimestamp(at // SECOND, timezone(timedelta(hours=zone)))
    behind = f"{zone:+03}:00" if zone else "Z"
    return f"{there:%Y-%m-%dT%H:%M:%S}.{at % SECOND:09}{behind}".encode()


class Cluster(Backend):
    """An API server."""

    called = "The API server"
    patience = Patience(log_pause=0.0, unreadable=0.0)

    def __init__(self, log: Log, steps: list[Step]) -> None:
        super().__init__(log, steps)
        self.refusals: list[Refused] = []
        self.there: dict[str, Any] | None = None

    def path(self, kind: str, name: str) -> str:
        """Of an object."""
        return f"/{kind}/{name}"

    def now(self) -> float:
        """When the newest line was written; after the program's end when all are there."""
        newest = self.log.entries[self.log.there - 1].at if self.log.there else BEGAN
        return newest / SECOND + 2 * (self.log.there == len(self.log.entries))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object; None where it is gone."""
        return self.there

    def ask(self, path: str) -> dict[str, str]:
        """Its version."""
        return {"major": "1", "minor": "34+"}

    def forbidden(self, error: Refused, verb: str, kind: str) -> BackendUnreachable:
        """What a 403 is."""
        return BackendUnreachable(f"You may not {verb} {kind}.")

    def stream(self, path: str, params: dict[str, Any], timeout: float) -> Socket:
        """One request for the log."""
        log = self.log
        if self.refusals:
            raise self.refusals.pop(0)
        if log.gone:
            raise Refused(404, "NotFound", "pods not found")
        if "stream" in params and not log.splits[0]:
            raise Refused(422, "Invalid", "stream: Forbidden")
        if "limitBytes" in params:
            return Socket(log.answer(params), Step(0))
        return self.answer(params)


def follow(log: Log, steps: list[Step], ended_after: int) -> RunLog:
    """Has the reader bring a log to disk through all steps; the program ends meanwhile."""
    cluster = Cluster(log, steps)
    began = datetime.fromtimestamp(BEGAN // SECOND, UTC).isoformat().replace("+00:00", "Z")
    state: dict[str, Any] = {"running": {"startedAt": began}}
    statuses = [{"name": "main", "state": state}]
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": statuses}}

    def reader() -> k8s_logs.Reader:
        guard = Guard(lambda patience: None, "none")
        return k8s_logs.Reader(cluster, lambda run_id: pod, guard)  # type: ignore[arg-type]

    def end() -> None:
        # Its program ended a second after its last line.
        last = (log.entries[-1].at if log.entries else BEGAN) // SECOND + 1
        at = datetime.fromtimestamp(last, UTC).isoformat().replace("+00:00", "Z")
        state.clear()
        state["terminated"] = {"startedAt": began, "finishedAt": at, "exitCode": 0}

    return cluster.bring(reader, ended_after, end)


@pytest.fixture(scope="module")
def short_pieces() -> Iterator[None]:
    """Lines are kept in pieces of `PIECE` bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamps, "PIECE", PIECE)
        yield


def check(log: Log, steps: list[Step], ended_after: int) -> None:
    """Whatever happens on the way, the files hold what was printed, and nothing is missing."""
    files = follow(log, steps, ended_after)
    assert {name: files.read(name) for name in STREAMS} == log.printed
    assert log_files.trouble(files.folder) == ""


# -- any log, any faults -----------------------------------------------------------------------

TEXTS = st.sampled_from(
    [b"", b"x", b"2026-11-24T12:00:00.000000000Z y", b"z" * 13, b"w" * 24, b"\r50 %\r"]
)
GAPS = st.sampled_from([0, 0, 1, 1000, SECOND // 2, SECOND, 30 * SECOND])
# By so much a stamp may be older than one that stands before it, of the other stream.
JITTER = st.sampled_from([0, 0, 1, 1000, 10**6])


@st.composite
def logs(draw: st.DrawFn, *, unique: bool = False, texts: Any = TEXTS) -> Log:
    """A log as a runtime writes it: ordered by stamps to within a moment, in pieces."""
    clock, newest = dict.fromkeys(STREAMS, BEGAN), BEGAN
    found: list[Entry] = []
    open_lines: dict[str, list[bytes]] = {}
    for number in range(draw(st.integers(0, 16))):
        name = draw(st.sampled_from(STREAMS))
        if not open_lines.get(name):
            line = draw(texts) + b"%d\n" % number
            open_lines[name] = cut(line)
        for _ in range(draw(st.integers(1, 3))):
            if not open_lines[name]:
                break
            newest = max(newest, newest + draw(GAPS) - draw(JITTER))
            clock[name] = max(clock[name] + int(unique), newest - draw(JITTER))
            found.append(Entry(name, clock[name], open_lines[name].pop(0)))
    for name, pieces in open_lines.items():
        # What a program hasn't ended with a newline is a piece too.
        last = max(clock[name] + int(unique), newest)
        found += [Entry(name, last, piece.rstrip(b"\n")) for piece in pieces[:1]]
    return Log([e for e in found if e.text], draw(st.sampled_from([0, 1, -5])))


STEPS = any_steps(8)
MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@MANY
@given(logs(), STEPS, st.integers(0, 8), st.sampled_from([(False, False), (True, False)]))
def test_whatever_is_cut_no_byte_is_lost_or_doubled(
    log: Log, steps: list[Step], ended_after: int, splits: tuple[bool, bool]
) -> None:
    """Any log, cut anywhere, read by anyone in turn, is on disk byte for byte in the end."""
    log.splits = splits
    check(log, steps, min(ended_after, len(steps)))


# Of a line that has no stamp and begins like one, nobody can tell.
TELLABLE = TEXTS.filter(lambda text: not text.startswith(b"2026"))


@MANY
@given(logs(texts=TELLABLE), STEPS, st.integers(0, 8))
def test_streams_that_come_by_themselves_are_whole(
    log: Log, steps: list[Step], ended_after: int
) -> None:
    """Each stream is on disk byte for byte, with pieces of lines that divide one another."""
    log.splits = (True, True)
    check(log, steps, min(ended_after, len(steps)))


@MANY
@given(logs(unique=True), STEPS, st.integers(0, 8), st.lists(st.booleans(), min_size=8))
def test_what_was_rotated_away_is_said(
    log: Log, steps: list[Step], ended_after: int, rotations: list[bool]
) -> None:
    """Lines are missing only where the log was rotated, and that is said; none comes twice."""
    # Between two lines: what a rotation makes of a line in pieces has a test of its own. No two
    # of one nanosecond: of those nobody can tell which one a rotation took.
    lines: list[Entry] = []
    for number, entry in enumerate(log.entries):
        at = entry.at // 1000 * 1000 + number
        lines.append(Entry(entry.stream, at, b"%d\n" % number))
    log.entries = lines
    for step, rotate in zip(steps[1:], rotations, strict=False):
        step.rotate = rotate
    files = follow(log, steps, min(ended_after, len(steps)))
    there = [int(text) for text in files.read("stdout").split()]
    assert there == sorted(set(there))
    missing = set(range(there[0] if there else 0, len(lines))) - set(there)
    said = log_files.trouble(files.folder)
    assert not missing or "rotated away" in said or not there
    assert not said or log.begin


def test_equal_stamps_are_told_apart_by_count() -> None:
    """Lines with one stamp, which a cut divides, come once each, others between them too."""
    same = [("stdout", 1.0, b"same\n")] * 4
    for lines in (
        same,
        [*same[:2], ("stderr", 0.9995, b"other\n"), *same[:2], ("stderr", 1.0, b"same\n")],
    ):
        for there in range(len(lines) + 1):
            check(Log(entries(*lines)), [Step(there, "cut"), Step(0, "reset")], 2)


def test_a_line_in_pieces_is_one_line() -> None:
    """What a runtime keeps in pieces comes out as it was written, cut at any byte."""
    lines = (("stdout", 0.0, b"a\n"), ("stdout", 3.0, b"0123456789" * 3 + b"\n"))
    for zone in (0, 1):
        for after in range(0, 120, 7):
            steps = [Step(2, "cut", after), Step(9, "cut", after)]
            check(Log([*entries(*lines), Entry("stderr", BEGAN, b"end")], zone), steps, 2)


def test_the_rest_of_a_line_whose_beginning_is_too_old_is_skipped() -> None:
    """A piece that is older than what was asked for is left out, and its rest is no new output."""
    pieces = [Entry("stdout", BEGAN, b"old-----"), Entry("stdout", BEGAN + 9 * SECOND, b"new\n")]
    last = Entry("stdout", BEGAN + 9 * SECOND + 5, b"last\n")
    log = Log([*pieces, last, Entry("stdout", BEGAN + 10 * SECOND, b"more\n")])
    check(log, [Step(3, "silent"), Step(1, "cut")], 2)
    assert log.answer({"sinceTime": log.requests[1]["sinceTime"]}).startswith(b"new\n")


@pytest.mark.parametrize("lines", [0, 1])
def test_an_error_in_the_place_of_output_is_trouble(lines: int) -> None:
    """``200 OK`` with a kubelet's own words is no output, and says why some may be missing."""
    log = Log(entries(*[("stdout", 0.0, b"a\n")] * lines), error=NO_LOG)
    files = follow(log, [Step(1)], 1)
    assert files.read("stdout") == b""
    assert log_files.trouble(files.folder) == NO_LOG.decode()
    # What is only said now isn't said in the end.
    log = Log(entries(("stdout", 0.0, b"a\n")), error=NO_LOG + b"\n")
    writer = Writer(new_log(), {})
    writer.begin(writer.next_request())
    writer.feed(log.answer({}))
    writer.flush()
    assert writer.why_missing == NO_LOG.decode()
    assert [writer.why_missing for _ in writer.last_requests()] == [""]


def test_a_kubelet_that_can_not_read_a_log_now_is_asked_again() -> None:
    """Its runtime may be starting anew: what it says then is its last word only after a while."""
    log = Log(entries(("stdout", 0.0, b"a\n"), ("stdout", 1.0, b"b\n")), there=2, error=NO_LOG)
    cluster = Cluster(log, [])
    cluster.patience = Patience(log_pause=0.0, unreadable=60.0)
    guard = Guard(lambda patience: None, "none")
    pod = {"metadata": {"name": "p"}}
    reader = k8s_logs.Reader(cluster, lambda run_id: pod, guard)  # type: ignore[arg-type]
    files = new_log()

    def follow() -> bool:
        return reader.follow(RUN, files, threading.Event(), lambda: (True, True))

    assert [follow(), follow()] == [False, False]
    assert files.read("stdout") == b""
    log.error = b""
    assert follow()
    assert (files.read("stdout"), log_files.trouble(files.folder)) == (b"a\nb\n", "")


def test_a_pod_that_is_gone_takes_what_was_not_read() -> None:
    """Where the pod is gone, it is said; but not where a live stream was heard to its end."""

    class Leaving(Log):
        def answer(self, params: dict[str, Any]) -> bytes:
            self.gone = "follow" in params
            return super().answer(params)

    lines = entries(("stdout", 0.0, b"a\n"), ("stdout", 1.0, b"b\n"))
    files = follow(Leaving(lines), [Step(1, "cut"), Step(0, "stop")], 1)
    assert files.read("stdout") == b"a\n"
    assert "its pod is gone" in log_files.trouble(files.folder)
    files = follow(Leaving(lines), [Step(2)], 1)
    assert files.read("stdout") == b"a\nb\n"
    assert log_files.trouble(files.folder) == ""


def test_a_proxys_404_is_no_pod_that_is_gone() -> None:
    """Only that there is no such pod says that there is no output any more, not a log's 404."""
    log = Log(entries(("stdout", 0.0, b"a\n")), there=1)
    cluster = Cluster(log, [])
    pod = {"metadata": {"name": "p", "uid": "u"}}
    guard = Guard(lambda patience: None, "none")
    reader = k8s_logs.Reader(cluster, lambda run_id: pod, guard)  # type: ignore[arg-type]
    proxys, servers = (
        Refused(404, "", "404 page not found"),
        Refused(404, "NotFound", 'pods "p" not found'),
    )
    cluster.there = pod
    for mistaken in (proxys, servers):
        cluster.refusals = [mistaken]
        with pytest.raises(BackendUnreachable, match="gives no output now"):
            reader.open(RUN, ("", ""), live=False)
    for there in (None, {"metadata": {"name": "p", "uid": "another"}}):
        cluster.there, cluster.refusals = there, [servers]
        with pytest.raises(k8s_logs.Gone):
            reader.open(RUN, ("", ""), live=False)


# -- what may be missing -----------------------------------------------------------------------


def written(answers: list[bytes], times: tuple[float, float] | None = None) -> tuple[bytes, str]:
    """What whole answers leave on disk, and what is said to be missing."""
    log = new_log()
    writer = Writer(log, {}, lambda: times and (*times, None))
    for answer in answers:
        writer.begin(writer.next_request())
        writer.feed(answer)
        writer.flush()
    writer.end()
    return log.read("stdout"), writer.why_missing


def steady(first: float, seconds: float, rate: int, size: int = 1000) -> bytes:
    """So many lines a second, as a kubelet gives them."""
    count = round(seconds * rate)
    return b"".join(
        stamp(BEGAN + round((first + n / rate) * SECOND), 0) + b" " + b"x" * size + b"\n"
        for n in range(count)
    )


def at_times(pieces: list[tuple[float, bytes]], tmp: str) -> tuple[bytes, str, bool]:
    """What is on disk and said to be missing, of one answer that comes at those seconds."""
    log, clock = RunLog(tmp), [BEGAN / SECOND]
    writer = Writer(log, {}, now=lambda: clock[0])
    writer.begin(writer.next_request())
    for second, piece in pieces:
        clock[0] = BEGAN / SECOND + second
        writer.feed(piece)
        writer.flush()
    return log.read("stdout"), writer.why_missing, writer.unsure


BURST = steady(0, 1, 9000)
LATER = steady(9, 0.1, 10)


@pytest.mark.parametrize(
    ("pieces", "said", "late"),
    [
        ([(8, BURST), (9.1, LATER)], "after 06:00:00 UTC may have been rotated away", False),
        ([(20, BURST + LATER)], "as it was read late", True),
        # A kubelet that is busy comes late to one rotation, and not to the next.
        ([(8, BURST), (9.1, steady(3, 0.1, 10))], "as it was read late", True),
        ([(1, BURST), (9.1, LATER)], "", False),  # read as it was written: it was silent
        ([(8, steady(0, 1, 100)), (9.1, LATER)], "", False),  # no file was full
        ([(8, BURST), (9.1, steady(1, 1, 10))], "", True),  # and it went on without a gap
    ],
)
def test_what_may_have_been_left_out_while_reading_was_late_is_said(
    pieces: list[tuple[float, bytes]], said: str, late: bool, tmp_path: Path
) -> None:
    """A kubelet that waits for its reader over two rotations leaves a file out, with no sign."""
    got, missing, was_late = at_times(pieces, str(tmp_path))
    assert got.count(b"\n") == sum(piece.count(b"\n") for _, piece in pieces)
    assert (said in missing) if said else not missing
    assert was_late is late


def test_what_was_there_before_it_was_opened_is_not_late(tmp_path: Path) -> None:
    """Lines of before come late because nobody asked, and a pause between them is a pause."""
    log, clock = RunLog(str(tmp_path)), [BEGAN / SECOND + 3600]
    writer = Writer(log, {}, now=lambda: clock[0])
    writer.begin(writer.next_request())
    writer.feed(BURST + LATER)
    writer.feed(steady(3601, 0.1, 10))
    writer.flush()
    assert (writer.why_missing, writer.unsure) == ("", False)


@pytest.mark.parametrize("step", [37, 500, 1 << 20])
@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("began", [9, 3])
def test_a_file_that_is_sent_again_is_written_once(
    step: int,
    times: int,
    halved: bool,
    began: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kubelet that was late over two rotations sends the newest file for each of them.

    It rotates about as often as it is told to: one that is busy comes late to one rotation, and
    not to the next. Where a rotation cut a line in two, the file begins with the second half: at
    first behind the half that was sent before, and then as a line of its own.
    """
    monkeypatch.setattr(rotation, "FILE", 1000)
    log, clock = RunLog(str(tmp_path)), [BEGAN / SECOND]
    writer = Writer(log, {}, now=lambda: clock[0])
    writer.begin(writer.next_request())
    first, more = steady(0, 1, 20, 100), steady(18, 1, 5, 100)
    newest = steady(began, 9, 2, 100)
    newest += steady(18, 0.001, 3000, 50)  # several within one millisecond
    half = stamp(BEGAN + began * SECOND - 1, 0) + b" half\n" if halved else b""
    glued = stamp(BEGAN + SECOND, 0) + b" its half\n" if halved else b""
    clock[0] += 17
    writer.feed(first + glued)
    clock[0] += 2
    sent = newest + (half + newest) * (times - 1) + more
    for at in range(0, len(sent), step):
        writer.feed(sent[at : at + step])
    writer.flush()
    expected = b"".join(
        line[31:] for line in (first + glued + newest + more).splitlines(keepends=True)
    )
    assert log.read("stdout") == expected
    assert "may have been rotated away" in writer.why_missing


@pytest.mark.parametrize("step", [1, 37, 1 << 20])
def test_lines_that_are_the_same_behind_a_pause_are_all_there(step: int, tmp_path: Path) -> None:
    """A coarse clock gives them one stamp; that is no file that comes again."""
    log, clock = RunLog(str(tmp_path)), [BEGAN / SECOND]
    writer = Writer(log, {}, now=lambda: clock[0])
    writer.begin(writer.next_request())
    same = stamp(BEGAN + 9 * SECOND, 0) + b" \n"
    # And one of another stream, stamped a moment earlier.
    other = stamp(BEGAN + 9 * SECOND - 1, 0) + b" o\n"
    a, b = (stamp(BEGAN + n * SECOND, 0) + b" %c\n" % (96 + n) for n in (1, 10))
    sent = a + same + other + 2 * same + b
    clock[0] += 20
    for at in range(0, len(sent), step):
        writer.feed(sent[at : at + step])
    writer.flush()
    assert log.read("stdout") == b"a\n\no\n\n\nj\n"


def test_a_clock_that_is_set_back_holds_no_line(tmp_path: Path) -> None:
    """Behind a pause a line that is stamped earlier than all is given at once."""
    log, clock = RunLog(str(tmp_path)), [BEGAN / SECOND]
    writer = Writer(log, {}, now=lambda: clock[0])
    writer.begin(writer.next_request())
    clock[0] += 20
    for second, text in ((1, b"a"), (9, b"b"), (-3600, b"c")):
        writer.feed(stamp(BEGAN + second * SECOND, 0) + b" " + text + b"\n")
        writer.flush()
        assert log.read("stdout").endswith(text + b"\n")


def test_a_first_line_that_comes_late_is_judged_by_the_rate() -> None:
    """A log that was opened late, and begins in the midst of plenty, may lack its beginning."""
    began = BEGAN / SECOND
    _, said = written([steady(60, 2, 1000)], (began, began + 100))
    assert said.startswith("the first 1m of its output (some 59.1 MiB")
    assert "rotated" in said


@pytest.mark.parametrize(
    ("answer", "opened"),
    [
        (steady(60, 2, 1000), 1.0),  # opened when it began: a program that was silent for long
        (steady(60, 0.01, 10000, 100), 100.0),  # a few lines in a burst tell nothing
        (steady(60, 0.1, 20000, 100), 100.0),  # nor do some more
        (steady(60, 100, 10, 1000), 200.0),  # so little fills no file
        (steady(2, 2, 1000), 100.0),  # it began to talk at once
        (steady(60, 100, 10, 100), 200.0),  # it writes little
        (b"", 100.0),
        (steady(60, 0.001, 1000), 100.0),  # a single line has no rate
    ],
)
def test_a_program_that_begins_to_talk_late_lacks_nothing(answer: bytes, opened: float) -> None:
    """Silence at the beginning isn't taken for output that is gone."""
    began = BEGAN / SECOND
    assert written([answer], (began, began + opened))[1] == ""
    assert written([answer], None)[1] == ""


def test_what_is_behind_a_rotated_line_stands_behind_it() -> None:
    """Where the last line on disk is gone, what is left is appended, and the gap has its times."""
    first, later = steady(0, 0.003, 1000, 1), steady(60, 0.002, 1000, 2)
    text, said = written([first, later])
    assert text == b"x\n" * 3 + b"xx\n" * 2
    assert "between 06:00:00 UTC and 06:01:00 UTC, if anything, was rotated away" in said
    text, said = written([first, b""])
    assert text == b"x\n" * 3
    assert "between 06:00:00 UTC and its end, if anything, was rotated away" in said


def test_a_log_that_was_heard_to_its_end_lacks_nothing() -> None:
    """An empty file behind the last line isn't taken for a gap, where the end was heard."""
    lines = entries(*[("stdout", n / 10, b"%d\n" % n) for n in range(5)])
    check(Log(lines), [Step(5), Step(0, rotate=True)], 1)
    files = follow(Log(lines), [Step(5, "cut"), Step(0, rotate=True)], 1)
    assert "if anything" in log_files.trouble(files.folder)


def test_a_log_that_went_before_it_was_opened_again_may_lack_lines() -> None:
    """An answer that ends as it should, without the line that is on disk, proves nothing."""
    lines = entries(*[("stdout", float(n), b"%d\n" % n) for n in range(3)])
    for ended_after in (1, 2):
        files = follow(
            Log(lines), [Step(3, "cut", 55, chunk=45), Step(0, rotate=True)], ended_after
        )
        assert files.read("stdout") == b"0\n"
        assert "was rotated away before it could be read" in log_files.trouble(files.folder)


def test_a_log_that_was_brought_whole_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the end of the reading and the verdict a kubelet may drop what was read."""
    lines = entries(("stdout", 0.0, b"a\n"))
    files = follow(Log(lines), [Step(1)], 1)
    dropped = Log(lines, there=1, error=NO_LOG)
    pod = {"metadata": {"name": "p"}}

    def again() -> bool:
        guard = Guard(lambda patience: None, "none")
        # Another process, as far as the files tell.
        reader = k8s_logs.Reader(Cluster(dropped, []), lambda run_id: pod, guard)  # type: ignore[arg-type]
        return reader.follow(RUN, files, threading.Event(), lambda: (True, True))

    assert again()
    assert (log_files.trouble(files.folder), files.read("stdout")) == ("", b"a\n")
    assert dropped.requests == []
    # After a loss of power what was read may not be on disk.
    monkeypatch.setattr(process, "rebooted", lambda who: True)
    assert again()
    assert dropped.requests != []


# -- streams by themselves ---------------------------------------------------------------------


@pytest.mark.parametrize("splits", [(False, False), (True, False), (True, True)])
def test_who_can_give_a_stream_by_itself_is_found_out(splits: tuple[bool, bool]) -> None:
    """A server that can, with a kubelet that can't, doesn't give everything twice."""
    lines = entries(("stdout", 0.0, b"out\n"), ("stderr", 0.0, b"err\n"), ("stdout", 1.0, b"x"))
    for there in range(4):
        check(Log(lines, splits=splits), [Step(there), Step(9)], 2)
        check(Log(lines[1:2], splits=splits), [Step(there), Step(9)], 2)


def test_a_first_line_that_comes_between_two_questions_tells_nothing() -> None:
    """A kubelet that can't isn't taken for one that can, because it had no line a moment ago."""

    class Late(Log):
        def answer(self, params: dict[str, Any]) -> bytes:
            found = super().answer(params)
            self.there = 1
            return found

    log = Late(entries(("stdout", 0.0, b"a\n")), splits=(True, False))
    cluster = Cluster(log, [])
    guard = Guard(lambda patience: None, "none")
    pod = {"metadata": {"name": "p"}}
    reader = k8s_logs.Reader(cluster, lambda run_id: pod, guard)  # type: ignore[arg-type]
    assert reader._kubelet_splits(RUN) is False
    log.splits = (True, True)
    assert reader._kubelet_splits(RUN) is True


def test_a_stream_that_ends_ends_the_other_soon() -> None:
    """When one stream is silent, or cut, both are asked for again; neither waits for the other."""
    ended = {"stderr": k8s_logs.Answer.SILENT, "stdout": k8s_logs.Answer.STOPPED}

    class Reader(k8s_logs.Reader):
        def read(self, run_id: str, writer: Any, lease: Any, stop: Any, request: Any, **more: Any):  # type: ignore[no-untyped-def]
            while request[0] == "stdout" and not stop.is_set():
                threading.Event().wait(0.01)
            return ended[request[0]]

    cluster = Cluster(Log([]), [])
    cluster.patience = Patience(together=0.05)
    reader = Reader(cluster, lambda run_id: None, None)  # type: ignore[arg-type]
    writer = Writer(new_log(), {})
    answer = reader._both(RUN, writer, None, threading.Event())  # type: ignore[arg-type]
    assert answer is k8s_logs.Answer.SILENT
    ended["stderr"] = k8s_logs.Answer.WHOLE
    # It was ended here, so nobody knows what more there was of it.
    assert reader._both(RUN, writer, None, threading.Event()) is k8s_logs.Answer.SILENT  # type: ignore[arg-type]
    stop = threading.Event()
    stop.set()
    assert reader._both(RUN, writer, None, stop) is k8s_logs.Answer.STOPPED  # type: ignore[arg-type]


def test_what_is_stored_is_never_ahead_of_the_files(tmp_path: Any) -> None:
    """The position that a lease keeps is that of the bytes which are in the files."""
    writer = Writer(RunLog(str(tmp_path)), {})
    writer.begin(writer.next_request())
    writer.feed(b"2026-11-24T12:00:00.000000001Z out\n")
    assert Writer(RunLog(str(tmp_path)), writer.safe).cursors["stdout"] == Cursor()
    writer.flush()
    assert RunLog(str(tmp_path)).read("stdout") == b"out\n"
    stored = Writer(RunLog(str(tmp_path)), writer.safe)
    assert stored.cursors["stdout"] == Cursor(4, b"2026-11-24T12:00:00.000000001Z", 1)
    assert stored.request("stdout") == ("stdout", "2026-11-24T11:59:58Z")
    assert stored.next_request() == ("", "2026-11-24T11:59:58Z")
