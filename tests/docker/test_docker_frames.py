"""Output that comes in frames: every order of stamps, every cut, without an engine.

`Log` is a model of what an engine keeps and answers; the reader under test is the real one, down
to the chunks of HTTP.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from answers import BEGAN, SECOND, Backend, Entry, Kept, Socket, Step, any_steps
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.runners.docker import logs as docker_logs
from qwex_jupyter.runners.docker.frames import Cursor, Position, Writer, seconds

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("folders")]

NUMBER = {"stdout": 1, "stderr": 2}


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
class Log(Kept):
    """What an engine has of a container's output, and how it answers.

    Attributes:
        form: See `stamp`; only Docker's has a `tail` that can be trusted.
        filters_all: Docker 20.10 leaves out each frame older than ``since``; newer ones
            only those before the first that isn't.
    """

    form: str = "docker"
    filters_all: bool = True

    def answer(self, params: dict[str, Any]) -> bytes:
        """The frames that a request gets."""
        self.requests.append(params)
        found = self.entries[: self.there]
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
                text = stamp(frame.at, self.form).encode() + b" " + frame.text
                sent.append(framed(NUMBER[frame.stream], text))
        return b"".join(sent)

    @staticmethod
    def _since(text: str) -> int:
        whole, _, rest = text.partition(".")
        return int(whole or 0) * SECOND + int(f"{rest:0<9}")


class Answering(Backend):
    """An engine."""

    @property
    def podman(self) -> bool:
        """Whether it is Podman."""
        return bool(self.log.form == "podman")

    def call(self, method: str, path: str, **options: Any) -> Socket:
        """One request for the log."""
        params = options["params"]
        if "tail" in params:
            return Socket(self.log.answer(params), Step(0))
        return self.answer(params)


def check(log: Log, steps: list[Step], ended_after: int) -> None:
    """Whatever happens on the way, the files hold what was printed."""
    engine = Answering(log, steps)
    files = engine.bring(lambda: docker_logs.Reader(engine, "qwex-{}".format), ended_after)  # type: ignore[arg-type]
    assert {name: files.read(name) for name in STREAMS} == log.printed


# -- any log, any faults -----------------------------------------------------------------------

STEPS = any_steps(10)
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
        frames.append(Entry(name, clock[name], draw(PAYLOADS) + b"%d" % len(frames)))
    form = draw(st.sampled_from(["docker", "podman", "trimmed"]))
    return Log(frames, form, filters_all=draw(st.booleans()))


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(logs(), STEPS, st.integers(0, 10))
def test_whatever_is_cut_no_byte_is_lost_or_doubled(
    log: Log, steps: list[Step], ended_after: int
) -> None:
    """Any log, cut anywhere, read by anyone in turn, is on disk byte for byte in the end."""
    check(log, steps, min(ended_after, len(steps)))


def both(*frames: tuple[str, float, bytes]) -> list[Entry]:
    """Frames as (stream, seconds, bytes)."""
    return [Entry(name, BEGAN + round(at * SECOND), payload) for name, at, payload in frames]


@pytest.mark.parametrize("filters_all", [True, False])
@pytest.mark.parametrize("form", ["docker", "podman", "trimmed"])
def test_equal_stamps_are_told_apart_by_count(form: str, filters_all: bool) -> None:
    """Frames with one stamp, which a cut divides, come once each."""
    frames = both(*[("stdout", 1.0, b"same\n")] * 5, *[("stderr", 1.0, b"same\n")] * 5)
    for there in range(len(frames) + 1):
        check(Log(frames, form, filters_all), [Step(there, "cut")], 1)


@pytest.mark.parametrize("filters_all", [True, False])
def test_streams_whose_stamps_are_inverted_lose_nothing(filters_all: bool) -> None:
    """A frame of one stream that is older than what was seen of the other isn't left out."""
    frames = both(("stdout", 2.0, b"later\n"), ("stderr", 1.0, b"earlier\n"))
    check(Log(frames, filters_all=filters_all), [Step(1, "cut")], 1)
    frames = both(("stderr", 0.5, b"first\n"), ("stdout", 2.0, b"a\n"), ("stderr", 1.0, b"b\n"))
    check(Log(frames, filters_all=filters_all), [Step(2, "cut")], 1)


@pytest.mark.parametrize("filters_all", [True, False])
@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_a_clock_that_is_set_back_while_it_is_read(back: float, filters_all: bool) -> None:
    """Stamps that go back within a stream cost a second reading, and nothing else."""
    times = [10000.0, 10001.0, 10001.0 - back, 10001.5 - back, 10003.0]
    frames = both(*[("stdout", at, b"%d\n" % n) for n, at in enumerate(times)])
    for there in (3, 4, 5):
        log = Log(frames, filters_all=filters_all)
        check(log, [Step(there, "cut"), Step(1, "cut", after=60)], 2)
    # With a stamp without zeros at the end, which as text is the greater one.
    frames = both(("stdout", 1.15, b"a\n"), ("stdout", 1.1, b"b\n"), ("stdout", 1.2, b"c\n"))
    check(Log(frames, "trimmed", filters_all), [Step(2, "cut")], 1)


def test_a_clock_that_is_set_back_while_nobody_reads() -> None:
    """A current engine leaves nothing out behind the first frame that was asked for."""
    frames = both(("stdout", 10.0, b"a\n"), ("stdout", 5.0, b"b\n"), ("stdout", 6.0, b"c\n"))
    check(Log(frames, filters_all=False), [Step(1, "cut")], 1)


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
    check(log, [Step(2, "silent"), Step(3, "silent")], 2)
    sinces = [seconds_of(request) for request in log.requests]
    assert sinces[:2] == [0, BEGAN // SECOND + 440]
    # Only the stream that something may be missing of was read from its beginning.
    assert [(r.get("stdout"), r.get("stderr")) for r in log.requests[2:]] == [(1, None), (None, 1)]
    assert [bool(since) for since in sinces[2:]] == [True, False]
    # Nor does the end of the log, when it is known, say that there is nothing before it.
    check(Log(frames), [Step(2, "silent"), Step(3)], 2)


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
