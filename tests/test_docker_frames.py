"""Output that comes in frames: every order of stamps, every cut, without an engine.

`Log` is a model of what an engine keeps and answers; the reader under test is the real one, down
to the chunks of HTTP.
"""

from __future__ import annotations

import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.patience import Patience
from qwex_jupyter.runners import docker_logs
from qwex_jupyter.runners.docker_frames import Cursor, Position, Writer, seconds
from qwex_jupyter.runners.streams import Guard

pytestmark = pytest.mark.once

RUN = "20261124-120000-k3x9qd"
SECOND = 10**9
BEGAN = 1_795_500_000 * SECOND
NUMBER = {"stdout": 1, "stderr": 2}


@dataclass
class Frame:
    """What an engine keeps of one write: the stream, its clock in nanoseconds, the bytes."""

    stream: str
    at: int
    payload: bytes


def stamp(at: int, form: str) -> str:
    """A time as Docker writes it, as Podman 4 does (seconds), or without zeros at the end."""
    whole = datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if form == "docker":
        return f"{whole}.{at % SECOND:09}Z"
    if form == "podman" or not at % SECOND:
        return f"{whole}Z"
    return f"{whole}.{at % SECOND:09}".rstrip("0") + "Z"


def framed(stream: int, text: bytes) -> bytes:
    """A frame as it is sent."""
    return struct.pack(">BxxxL", stream, len(text)) + text


@dataclass
class Log:
    """What an engine has of a container's output, and how it answers.

    Attributes:
        frames: All there will be.
        form: See `stamp`; only Docker's has a `tail` that can be trusted.
        filters_all: Docker 20.10 leaves out each frame older than ``since``; newer ones
            only those before the first that isn't.
        there: So many frames are there now.
    """

    frames: list[Frame]
    form: str = "docker"
    filters_all: bool = True
    there: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, params: dict[str, Any]) -> bytes:
        """The frames that a request gets."""
        self.requests.append(params)
        found = self.frames[: self.there]
        if "tail" in params:
            found = found[-params["tail"] :]
        since = self._since(params.get("since", ""))
        sent, passing = [], False
        for frame in found:
            at = frame.at // SECOND * SECOND if self.form == "podman" else frame.at
            passing = passing and not self.filters_all
            if not passing and at < since:
                continue
            passing = True
            if params.get(frame.stream):
                text = stamp(frame.at, self.form).encode() + b" " + frame.payload
                sent.append(framed(NUMBER[frame.stream], text))
        return b"".join(sent)

    @staticmethod
    def _since(text: str) -> int:
        whole, _, rest = text.partition(".")
        return int(whole or 0) * SECOND + int(f"{rest:0<9}")

    @property
    def printed(self) -> dict[str, bytes]:
        """What the log files are to hold in the end."""
        return {
            name: b"".join(f.payload for f in self.frames if f.stream == name) for name in STREAMS
        }


@dataclass
class Step:
    """One answer: how many frames more there are by then, and how it ends."""

    more: int
    how: str = "whole"  # cut, reset, silent, stop (one pass over what is there)
    after: int = 0
    chunk: int = 1 << 16
    piece: int = 1 << 16
    new_reader: bool = False


class Socket:
    """The connection of one answer, as `streams.body` reads it."""

    def __init__(self, data: bytes, step: Step) -> None:
        chunks = [data[at : at + step.chunk] for at in range(0, len(data), step.chunk)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        if step.how in ("cut", "reset", "silent"):
            # Never with the last chunk, which says that it is all.
            sent = sent[: min(step.after, len(sent) - 5)]
        self.raw = self._fp = self.fp = self
        self.headers = {"Transfer-Encoding": "chunked"}
        self._sent, self._step = sent, step

    def read1(self, size: int) -> bytes:
        """As a buffered socket's: what has come."""
        found, self._sent = self._sent[: self._step.piece], self._sent[self._step.piece :]
        if not found and self._step.how == "silent":
            raise TimeoutError("timed out")
        if not found and self._step.how == "reset":
            raise ConnectionResetError("reset by peer")
        return found

    def close(self) -> None:
        """As urllib3's response."""

    release_conn = close


class Backend:
    """An engine whose answers end as the steps say; when those are used up, as they should."""

    patience = Patience(log_pause=0.0)

    def __init__(self, log: Log, steps: list[Step]) -> None:
        self.log, self.steps = log, steps
        self.podman = log.form == "podman"

    def call(self, method: str, path: str, **options: Any) -> Socket:
        """One request for the log."""
        params = options["params"]
        if "tail" in params:
            return Socket(self.log.answer(params), Step(0))
        step = self.steps.pop(0) if self.steps else Step(len(self.log.frames))
        self.log.there = min(len(self.log.frames), self.log.there + step.more)
        return Socket(self.log.answer(params), step)


def follow(log: Log, steps: list[Step], ended_after: int) -> RunLog:
    """Has the reader bring a log to disk through all steps; the container ends meanwhile."""
    folder = tempfile.mkdtemp(dir=FOLDERS[-1])
    backend = Backend(log, list(steps))
    reader = docker_logs.Reader(backend)  # type: ignore[arg-type]

    def look() -> tuple[bool, bool]:
        ended = len(steps) - len(backend.steps) >= ended_after
        if ended:
            log.there = len(log.frames)
        return True, ended

    for _ in range(3 * len(steps) + 3):
        stop = threading.Event()
        if backend.steps and backend.steps[0].how == "stop":
            stop.set()
        if backend.steps and backend.steps[0].new_reader:
            reader = docker_logs.Reader(backend)  # type: ignore[arg-type]
        if reader.follow(RUN, RunLog(folder), stop, look):
            return RunLog(folder)
    raise AssertionError("it never came to its end")


FOLDERS: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # One for all examples: hypothesis calls a test many times.
    FOLDERS.append(str(tmp_path_factory.mktemp("frames")))
    yield
    FOLDERS.clear()


@pytest.fixture(autouse=True, scope="module")
def _no_guard() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "_run", lambda self: None)
        yield


def check(log: Log, steps: list[Step], ended_after: int) -> None:
    """Whatever happens on the way, the files hold what was printed."""
    files = follow(log, steps, ended_after)
    assert {name: files.read(name) for name in STREAMS} == log.printed


# -- any log, any faults -----------------------------------------------------------------------

PAYLOADS = st.sampled_from([b"x\n", b"\n", b"2026-11-24T12:00:00.000000000Z y\n", b"z" * 40, b" "])
# Between two frames of a stream: none (pieces of one line; Podman), little, a long silence.
GAPS = st.sampled_from([0, 0, 1, 1000, SECOND // 2, SECOND, 30 * SECOND, 100 * SECOND])


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """A log whose stamps grow within each stream, and in no order across the two."""
    clock = {name: BEGAN + draw(GAPS) for name in STREAMS}
    frames = []
    for _ in range(draw(st.integers(0, 24))):
        name = draw(st.sampled_from([*STREAMS, draw(st.sampled_from(STREAMS))]))
        clock[name] += draw(GAPS)
        if draw(st.booleans()):
            # As they come: near the newest of both, or behind it.
            clock[name] = max(clock[name], max(clock.values()) - draw(GAPS))
        frames.append(Frame(name, clock[name], draw(PAYLOADS) + b"%d" % len(frames)))
    form = draw(st.sampled_from(["docker", "podman", "trimmed"]))
    return Log(frames, form, filters_all=draw(st.booleans()))


STEPS = st.lists(
    st.builds(
        Step,
        more=st.integers(0, 6),
        how=st.sampled_from(["whole", "cut", "reset", "silent", "stop"]),
        after=st.integers(0, 600),
        chunk=st.sampled_from([1, 3, 7, 45, 1 << 16]),
        piece=st.sampled_from([1, 2, 5, 50, 1 << 16]),
        new_reader=st.booleans(),
    ),
    max_size=10,
)


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(logs(), STEPS, st.integers(0, 10))
def test_whatever_is_cut_no_byte_is_lost_or_doubled(
    log: Log, steps: list[Step], ended_after: int
) -> None:
    """Any log, cut anywhere, read by anyone in turn, is on disk byte for byte in the end."""
    check(log, steps, min(ended_after, len(steps)))


def both(*frames: tuple[str, float, bytes]) -> list[Frame]:
    """Frames as (stream, seconds, bytes)."""
    return [Frame(name, BEGAN + round(at * SECOND), payload) for name, at, payload in frames]


@pytest.mark.parametrize("filters_all", [True, False])
@pytest.mark.parametrize("form", ["docker", "podman", "trimmed"])
def test_equal_stamps_are_told_apart_by_count(form: str, filters_all: bool) -> None:
    """Frames with one stamp, which a cut divides, come once each."""
    frames = both(*[("stdout", 1.0, b"same\n")] * 5, *[("stderr", 1.0, b"same\n")] * 5)
    for there in range(len(frames) + 1):
        check(Log(frames, form, filters_all), [Step(there, "cut", after=10**6)], 1)


@pytest.mark.parametrize("filters_all", [True, False])
def test_streams_whose_stamps_are_inverted_lose_nothing(filters_all: bool) -> None:
    """A frame of one stream that is older than what was seen of the other isn't left out."""
    frames = both(("stdout", 2.0, b"later\n"), ("stderr", 1.0, b"earlier\n"))
    check(Log(frames, filters_all=filters_all), [Step(1, "cut", after=10**6)], 1)
    frames = both(("stderr", 0.5, b"first\n"), ("stdout", 2.0, b"a\n"), ("stderr", 1.0, b"b\n"))
    check(Log(frames, filters_all=filters_all), [Step(2, "cut", after=10**6)], 1)


@pytest.mark.parametrize("filters_all", [True, False])
@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_a_clock_that_is_set_back_while_it_is_read(back: float, filters_all: bool) -> None:
    """Stamps that go back within a stream cost a second reading, and nothing else."""
    times = [10000.0, 10001.0, 10001.0 - back, 10001.5 - back, 10003.0]
    frames = both(*[("stdout", at, b"%d\n" % n) for n, at in enumerate(times)])
    for there in (3, 4, 5):
        log = Log(frames, filters_all=filters_all)
        check(log, [Step(there, "cut", after=10**6), Step(1, "cut", after=60)], 2)
    # With a stamp without zeros at the end, which as text is the greater one.
    frames = both(("stdout", 1.15, b"a\n"), ("stdout", 1.1, b"b\n"), ("stdout", 1.2, b"c\n"))
    check(Log(frames, "trimmed", filters_all), [Step(2, "cut", after=10**6)], 1)


def test_a_clock_that_is_set_back_while_nobody_reads() -> None:
    """A current engine leaves nothing out behind the first frame that was asked for."""
    frames = both(("stdout", 10.0, b"a\n"), ("stdout", 5.0, b"b\n"), ("stdout", 6.0, b"c\n"))
    check(Log(frames, filters_all=False), [Step(1, "cut", after=10**6)], 1)


def test_a_silent_stream_is_searched_at_the_end() -> None:
    """What a window has gone past is found when the program has ended, and no window is whole."""
    frames = both(
        ("stderr", 0.0, b"first\n"),
        ("stdout", 500.0, b"a\n"),
        ("stderr", 100.0, b"written late\n"),
        ("stdout", 501.0, b"b\n"),
        ("stderr", 502.0, b"last"),
    )
    log = Log(frames)
    check(log, [Step(2, "silent", after=10**6), Step(3, "silent", after=10**6)], 2)
    sinces = [seconds_of(request) for request in log.requests]
    assert sinces[:2] == [0, BEGAN // SECOND + 440]
    # Only the stream that something may be missing of was read from its beginning.
    assert [(r.get("stdout"), r.get("stderr")) for r in log.requests[2:]] == [(1, None), (None, 1)]
    assert [bool(since) for since in sinces[2:]] == [True, False]
    # Nor does the end of the log, when it is known, say that there is nothing before it.
    check(Log(frames), [Step(2, "silent", after=10**6), Step(3)], 2)


def seconds_of(request: dict[str, Any]) -> int:
    """The ``since`` of a request, whole seconds."""
    return int(str(request.get("since") or 0).partition(".")[0])


def test_what_a_live_stream_brought_to_its_end_is_not_read_again() -> None:
    """When the last frames of the log are the last that came, nothing is asked for again."""
    frames = both(*[("stdout", n, b"%d\n" % n) for n in range(20)], ("stderr", 20, b"end"))
    log = Log(frames)
    check(log, [Step(100)], 1)
    assert [r.get("tail", 0) for r in log.requests] == [0, 8]


@pytest.mark.parametrize("form", ["docker", "podman"])
def test_a_live_stream_that_ended_too_early_is_found_out(form: str) -> None:
    """An answer that ends as it should, before the log does, is completed, equal lines too."""
    for frames in (
        both(*[("stdout", n, b"%d\n" % n) for n in range(20)]),
        both(*[("stdout", 1.0, b"same\n")] * 20),
        both(*[("stdout", n // 3, b"same\n") for n in range(20)]),
        both(("stdout", 1.0, b"same\n"), *[("stdout", 2.0, b"same\n")] * 5),
    ):
        for there in range(len(frames)):
            check(Log(frames, form), [Step(there)], 1)


def test_what_is_stored_is_never_ahead_of_the_files(tmp_path: Any) -> None:
    """The position that a lease keeps is that of the bytes which are in the files."""
    writer = Writer(RunLog(str(tmp_path)), Position({}))
    writer.begin((STREAMS, ""))
    writer.feed(framed(1, b"2026-11-24T12:00:00.000000001Z out\n"))
    assert RunLog(str(tmp_path)).size("stdout") == 0
    assert Position(writer.safe).streams["stdout"] == Cursor()
    writer.flush()
    assert RunLog(str(tmp_path)).size("stdout") == 4
    assert Position(writer.safe).streams["stdout"] == writer.position.streams["stdout"]


def test_an_engines_own_trouble_is_not_output(tmp_path: Any) -> None:
    """What an engine says of a log that it can't read is kept apart from what was printed."""
    position = Position({})
    writer = Writer(RunLog(str(tmp_path)), position)
    writer.begin((STREAMS, ""))
    good = framed(2, b"2026-11-24T12:00:00.000000001Z out\n")
    writer.feed(good + framed(3, b"Error grabbing logs: unexpected EOF\n"))
    writer.flush()
    assert RunLog(str(tmp_path)).read("stderr") == b"out\n"
    assert Position(position.to_json()).trouble == "Error grabbing logs: unexpected EOF"
    assert position.streams["stderr"] == Cursor(4, b"2026-11-24T12:00:00.000000001Z", 1)
    with pytest.raises(ValueError, match="a frame of stream 9"):
        writer.feed(framed(9, b"no frame"))


@example("2026-11-24T12:00:00.123456789Z", 123456789)
@example("2026-11-24T13:00:00.1+01:00", 100000000)
@example("2026-11-24T07:00:00-05:00", 0)
@example("2026-11-24T12:00:00", 0)
@given(st.just("2026-11-24T12:00:00.5Z"), st.just(500000000))
def test_every_form_of_a_stamp_is_read(text: str, nanos: int) -> None:
    """A stamp with any number of digits and any zone is seconds and exact nanoseconds."""
    assert seconds(text.encode()) == (1795521600, nanos)


@pytest.mark.parametrize("text", [b"Error", b"2026", b"99999"])
def test_what_is_no_stamp_is_refused(text: bytes) -> None:
    """Text that is no stamp is a ValueError, never a time."""
    with pytest.raises(ValueError, match=r".+"):
        seconds(text)
