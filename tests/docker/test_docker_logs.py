"""Output of containers of real engines, byte for byte, while the wire or the engine fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker_chaos
import pytest
import workload
from docker_chaos import LOGS, Campaign, Program, bring, played
from docker_helpers import says_it_dropped
from engines import KINDS, Engine
from images import image
from local_helpers import full, until
from wire import Wire

from qwex_jupyter.disk import facts, logs
from qwex_jupyter.disk.folder import FULL, RunFolder
from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.container import http_stream
from qwex_jupyter.runners.docker import disk as docker_disk
from qwex_jupyter.runners.docker import logs as docker_logs
from qwex_jupyter.runners.docker.engine import Engine as Client
from qwex_jupyter.system import compat

Make = Callable[..., Engine]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says which engine the runner is to find."""
    return lambda host: monkeypatch.setenv("DOCKER_HOST", host)


@pytest.fixture
def wired(at: Callable[[str], None]) -> Iterator[Callable[[Engine], Wire]]:
    """Puts a wire between the runner and an engine."""
    made: list[Wire] = []

    def make(engine: Engine) -> Wire:
        made.append(Wire(engine.host, tcp=True))
        at(made[-1].host)
        return made[-1]

    yield make
    for wire in made:
        wire.close()


def reader(patience: Patience = Patience()) -> docker_logs.Reader:
    """A reader of the engine that is chosen now."""
    return docker_logs.Reader(Client(patience=patience), "qwex-{}".format)


def assert_whole(program: Program, folder: str) -> None:
    """Both files are what the program's id asks for, and so is its exit code."""
    tally = docker_chaos.Tally()
    tally.judge(program, folder)
    assert tally.clean, tally.told


def submit_workload(manager: RunManager, engine: Engine, lines: int, seconds: float) -> Run:
    """A run of the self-checking workload, through everything that a cell's run goes through."""
    spec = JobSpec(command=played(lines, seconds), image=image(engine, "python"))
    return manager.submit(spec, "docker")


def assert_run_whole(run: Run, lines: int) -> None:
    """The run's record and files are what its id asks for."""
    code = workload.code_of(run.run_id)
    assert run.record.exit_code == code
    assert run.record.status is (RunStatus.FAILED if code else RunStatus.SUCCEEDED)
    for stream in STREAMS:
        assert run.log.read(stream) == workload.Container(run.run_id, lines).text(stream)


def freed(manager: RunManager) -> None:
    """Waits until the manager has removed its containers: the fixtures would remove them too."""
    until(lambda: not manager.history.open_ids())


# -- cuts and stalls ------------------------------------------------------------


def test_an_answer_cut_at_any_byte(
    docker_engine: Engine, wired: Callable[[Engine], Wire], tmp_path: Path
) -> None:
    """A log's answer cut after any of its first 4,096 bytes is completed, never taken for whole.

    Every byte of the head of HTTP and of the first frames, then every eleventh.
    """
    with Program(docker_engine, lines=60) as program:
        program.start().wait()
        wire, one = wired(docker_engine), reader()
        wanted = {s: program.printed(s) for s in STREAMS}
        for number, after in enumerate([*range(400), *range(400, 4097, 11)]):
            folder = tmp_path / str(after)
            folder.mkdir()
            wire.clear()
            wire.cut("GET", LOGS, after, times=2, reset=bool(number % 2))
            assert not once(one, program, str(folder))
            bring(program, str(folder), lambda: one, look=lambda: (True, True))
            assert {stream: RunLog(str(folder)).read(stream) for stream in STREAMS} == wanted
        assert_whole(program, str(folder))


def once(one: docker_logs.Reader, program: Program, folder: str) -> bool:
    """One reading of what has ended."""
    try:
        return one.follow(program.run_id, RunLog(folder), threading.Event(), lambda: (True, True))
    except BackendUnreachable:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_random_cuts_lose_and_double_nothing(
    kind: str, session_engine: Callable[[str], Engine], tmp_path: Path
) -> None:
    """Sixty cuts, resets and stalls while two streams are read: both are exact, and the code."""
    tally = Campaign(session_engine(kind), str(tmp_path), 7, lines=4000, faults=60).run(0)
    assert tally.clean, tally.told
    assert tally.broken


@pytest.mark.tier("long")
@pytest.mark.chaos
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_a_campaign_of_cuts(
    kind: str, session_engine: Callable[[str], Engine], tmp_path: Path, chaos_seconds: int
) -> None:
    """Five hundred cuts for each program of 40,000 lines: 0 bytes lost, doubled or altered."""
    tally = Campaign(session_engine(kind), str(tmp_path), 1).run(chaos_seconds / 3)
    print(*tally.lines(), sep="\n")
    assert tally.clean, tally.told
    assert tally.broken


def test_the_judge_of_cuts_sees_what_is_wrong(docker_engine: Engine, tmp_path: Path) -> None:
    """Files that lack a byte, have one too many or another one, and a wrong code, are counted."""
    with Program(docker_engine, lines=3) as program:
        program.start().wait()
        for stream in STREAMS:
            wanted = program.printed(stream)
            (tmp_path / f"{stream}.log").write_bytes(wanted)
        tally = docker_chaos.Tally()
        tally.judge(program, str(tmp_path))
        assert tally.clean
        (tmp_path / "stdout.log").write_bytes(wanted[1:])
        (tmp_path / "stderr.log").write_bytes(wanted + b"x")
        tally.judge(program, str(tmp_path))
        assert (tally.altered_streams or tally.lost_bytes, tally.doubled_bytes) == (1, 1)
    with Program(docker_engine, ["sh", "-c", "exit 121"]) as program:
        program.start().wait()
        tally.judge(program, str(tmp_path))
        assert tally.wrong_codes == 1


@pytest.mark.tier("quick")
def test_a_cut_is_never_an_end(
    docker_engine: Engine, wired: Callable[[Engine], Wire], home: str
) -> None:
    """A run whose stream is cut again and again runs on until its program ends, with its code."""
    image(docker_engine, "python")
    wire = wired(docker_engine)
    manager = RunManager(home)
    statuses: list[RunStatus] = []
    manager.observe(lambda record: statuses.append(record.status))
    wire.cut("GET", LOGS, 3000, times=20)
    run = submit_workload(manager, docker_engine, 500, 2.0)
    with manager.output.following(run.run_id):
        run.wait(check=False)
    freed(manager)
    assert_run_whole(run, 500)
    finals = [status for status in statuses if status.final]
    assert finals == [run.record.status]
    assert wire.count("GET", LOGS) > 2


@pytest.mark.parametrize("frozen", [clock / 4 for clock in range(12, 28)])
def test_silence_is_noticed_within_fifteen_seconds(
    frozen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever an engine freezes, a stream that is read is given up no later than 15 s after."""
    clock, ended = Clock(), list[float]()
    monkeypatch.setattr(http_stream, "time", clock)

    def ping(patience: float) -> None:
        if clock.now >= frozen:
            clock.sleep(patience)
            raise OSError("timed out")

    guard = http_stream.Guard(ping, "never started")

    def shut_down(reply: object) -> None:
        ended.append(clock.now)
        guard._watched.clear()

    monkeypatch.setattr(compat, "shut_down", shut_down)
    guard._watched.append(http_stream.Watched(None, threading.Event()))
    guard._run()
    assert frozen < ended[0] <= frozen + 15.0


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """What it shows."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets it go on."""
        self.now += seconds


# An engine counts as silent after two seconds.
IMPATIENT = Patience(guard_every=0.1, beat=0.5, dead=2.0)


@pytest.mark.parametrize("kind", ["docker", "moby"])
def test_a_frozen_engine_hangs_nobody(
    kind: str, own_engine: Make, at: Callable[[str], None], home: str
) -> None:
    """An engine that freezes while its log is read costs no byte, and nobody waits for it."""
    engine = own_engine(kind)
    at(engine.host)
    with Program(engine, lines=3000, seconds=20.0) as program:
        one, folder = reader(IMPATIENT), f"{home}-log"
        os.mkdir(folder)
        raised = threading.Event()
        thread = threading.Thread(target=_bring_on, args=(one, program, folder, raised))
        program.start()
        thread.start()
        until(lambda: RunLog(folder).size("stdout") > 0)
        engine.freeze()
        raised.clear()
        try:
            assert raised.wait(60.0), "the reader of a frozen engine doesn't come back"
        finally:
            engine.thaw()
        thread.join(60)
        assert not thread.is_alive()
        assert_whole(program.wait(), folder)


def _bring_on(
    one: docker_logs.Reader, program: Program, folder: str, raised: threading.Event
) -> None:
    engine = Client()

    def state() -> tuple[bool, bool]:
        found = engine.inspect(f"qwex-{program.run_id}") or {}
        return True, found["State"]["Status"] == "exited"

    while True:
        try:
            if one.follow(program.run_id, RunLog(folder), threading.Event(), state):
                return
        except BackendUnreachable:
            raised.set()


def test_the_record_says_that_a_frozen_engine_does_not_answer(
    own_engine: Make, at: Callable[[str], None], home: str
) -> None:
    """While somebody looks, a run's record says that its engine froze; then all is well.

    Its status stays RUNNING throughout.
    """
    engine = own_engine("docker")
    image(engine, "python")
    at(engine.host)
    manager = RunManager(home, settings={"docker": {"patience": IMPATIENT}})
    run = submit_workload(manager, engine, 1000, 20.0)
    with manager.output.following(run.run_id):
        until(lambda: run.record.status is RunStatus.RUNNING)
        until(lambda: run.log.size("stdout") > 0)
        engine.freeze()
        try:
            # As it is known here: asked for anew, it would wait for the engine as well.
            until(lambda: manager.tracker.record(run.run_id).reason == Reason.BACKEND_UNREACHABLE)
            assert manager.tracker.record(run.run_id).status is RunStatus.RUNNING
        finally:
            engine.thaw()
        run.wait(check=False)
    freed(manager)
    assert_run_whole(run, 1000)


# -- two readers, other clocks ------------------------------------------------------------


def follower(
    program: Program, folder: Path, quiet: float, shift: float = 0.0
) -> subprocess.Popen[str]:
    """A reader in a process of its own, which reads."""
    words = (docker_chaos.__file__, "--follow", program.run_id, str(folder))
    words += ("--quiet", str(quiet), "--shift", str(shift))
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_reader_that_slept_through_the_loss_of_its_lease(
    docker_engine: Engine, at: Callable[[str], None], tmp_path: Path
) -> None:
    """Of two processes one is stopped until the other has taken over, and goes on: bytes exact."""
    at(docker_engine.host)
    with Program(docker_engine, lines=4000, seconds=30.0) as program:
        program.start()
        first = follower(program, tmp_path, 1.0)
        until(lambda: RunLog(str(tmp_path)).size("stdout") > 1000)
        second = follower(program, tmp_path, 1.0)
        try:
            asleep, before = put_to_sleep(tmp_path)
            until(lambda: holder(tmp_path)[1] != before)
            size = RunLog(str(tmp_path)).size("stdout")
            until(lambda: RunLog(str(tmp_path)).size("stdout") > size + 1000)
        finally:
            for process in (first, second):
                process.send_signal(signal.SIGCONT)
        assert asleep in (first.pid, second.pid)
        assert second.communicate(timeout=200)[0]
        assert first.communicate(timeout=200)[0]
        assert_whole(program, str(tmp_path))


def put_to_sleep(folder: Path) -> tuple[int, str]:
    """Stops the process that holds the lease: on a busy machine it may have changed hands before.

    The process and the lease, which it still held when it stood still.
    """
    while True:
        pid, lease = holder(folder)
        if pid:
            os.kill(pid, signal.SIGSTOP)
            if holder(folder) == (pid, lease):
                return pid, lease
            os.kill(pid, signal.SIGCONT)


def holder(folder: Path) -> tuple[int, str]:
    """The process that holds the lease, and by which name; zero and "" for nobody."""
    names = [n for n in os.listdir(folder) if re.fullmatch(r"log\.\d+\.json", n)]
    newest = max(names, key=lambda n: int(n.split(".")[1]), default="")
    try:
        found = json.loads((folder / newest).read_text()) if newest else {}
    except FileNotFoundError:
        return 0, ""
    return found.get("process", {}).get("pid", 0), found.get("holder", "")


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_a_readers_clock_does_not_matter(
    shift: float,
    docker_engine: Engine,
    wired: Callable[[Engine], Wire],
    tmp_path: Path,
) -> None:
    """A reader whose clock is an hour off, and whose stream is cut, brings each byte once."""
    with Program(docker_engine, lines=1500, seconds=1.0) as program:
        wire = wired(docker_engine)
        wire.cut("GET", LOGS, 5000, times=50)
        program.start()
        process = follower(program, tmp_path, 15.0, shift)
        assert process.communicate(timeout=200)[0]
        assert_whole(program.wait(), str(tmp_path))
        assert wire.count("GET", LOGS) > 5


# -- what is printed ------------------------------------------------------------


def test_what_is_printed_at_once_is_there(
    engine: Engine, at: Callable[[str], None], tmp_path: Path
) -> None:
    """Programs that print and end at once, or print nothing, have all of their output."""
    at(engine.host)
    one, began = reader(), time.time()

    def print_and_end(number: int) -> dict[str, str]:
        folder = tmp_path / str(number)
        folder.mkdir()
        text = f"printf out{number}; printf err{number} >&2" if number % 3 else ":"
        with Program(engine, ["sh", "-c", text]) as program:
            program.start()
            bring(program, str(folder), lambda: one)
        return {stream: RunLog(str(folder)).text(stream) for stream in STREAMS}

    with ThreadPoolExecutor(5) as pool:
        for number, found in enumerate(pool.map(print_and_end, range(10))):
            wanted = {s: f"{s[3:]}{number}" if number % 3 else "" for s in STREAMS}
            # Each stream has a fifo of its own: it is whole, or the engine says that it never was.
            lost = found != wanted and all(found[s] in ("", wanted[s]) for s in STREAMS)
            if lost and says_it_dropped(engine, began, time.time()):
                pytest.xfail("the engine dropped output: reading from a closed fifo")
            assert found == wanted


def test_long_lines_and_odd_bytes_are_what_the_engine_kept(
    engine: Engine, at: Callable[[str], None], tmp_path: Path
) -> None:
    """Lines of many pieces have no stamp inside; what is no UTF-8 is as the engine has it.

    ASCII and carriage returns are exact on every engine.
    """
    at(engine.host)
    texts = {
        "long": "for i in 1 2 3; do head -c 54000 /dev/zero | tr '\\0' a; echo; done",
        "bars": "for i in 1 2 3 4 5; do printf '\\r%d0%%' $i; done; echo; printf '\\r\\n\\n\\r'",
        "emoji": "yes '\U0001f423' | head -n 13500 | tr -d '\\n'; echo end",
        "random": "head -c 1000000 /dev/urandom; head -c 99999 /dev/urandom >&2",
    }
    for name, text in texts.items():
        folder = tmp_path / name
        folder.mkdir()
        with Program(engine, ["sh", "-c", text]) as program:
            program.start().wait()
            bring(program, str(folder), reader)
            for stream in STREAMS:
                found = RunLog(str(folder)).read(stream)
                assert found == program.kept(stream), f"{name} {stream}"
            if name == "long":
                assert found == b""
                assert RunLog(str(folder)).read("stdout") == (b"a" * 54000 + b"\n") * 3
            if name == "bars":
                assert RunLog(str(folder)).read("stdout") == (
                    b"\r10%\r20%\r30%\r40%\r50%\n\r\n\n\r"
                )


# What fits into the files of the first, or its buffer, is not lost.
_LOSES = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "1m", "max-file": "3", "mode": "non-blocking", "compress": "true"},
}


@pytest.mark.parametrize(
    ("config", "lines"),
    [(_LOSES, 400_000), ({"log-driver": "none"}, 10_000)],
    ids=["rotates", "none"],
)
def test_what_an_engine_does_to_logs_by_default_does_not_matter(
    config: dict[str, object],
    lines: int,
    own_engine: Make,
    at: Callable[[str], None],
    home: str,
) -> None:
    """Under defaults that rotate and drop, or keep nothing, all that is printed is there."""
    engine = own_engine("docker", config=config)
    spec = JobSpec(command=("seq", "1", str(lines)), image=image(engine, "busybox"))
    at(engine.host)
    run = RunManager(home).submit(spec, "docker").wait()
    wanted = b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert run.log.read("stdout") == wanted


def test_a_reader_that_stands_still_does_not_stop_the_program(
    docker_engine: Engine, wired: Callable[[Engine], Wire], tmp_path: Path
) -> None:
    """A program prints to its end while nobody takes what is read; all of it comes afterwards."""
    with Program(docker_engine, lines=20_000) as program:
        wire = wired(docker_engine)
        wire.stall("GET", LOGS, 4096)
        program.start()
        thread = threading.Thread(target=bring, args=(program, str(tmp_path), reader))
        thread.start()
        program.wait()
        assert RunLog(str(tmp_path)).size("stdout") < 4096
        wire.clear()
        thread.join(60)
        assert not thread.is_alive()
        assert_whole(program, str(tmp_path))


def test_a_large_log_needs_no_memory(
    docker_engine: Engine, at: Callable[[str], None], tmp_path: Path
) -> None:
    """A log of 120 MB goes through a reader whose memory grows by less than 50 MB."""
    at(docker_engine.host)
    line = "x" * 999
    command = ["sh", "-c", f"yes {line} | head -c 120000000"]
    with Program(docker_engine, command) as program:
        program.start().wait()
        process = follower(program, tmp_path, 15.0)
        grown = int(process.communicate(timeout=200)[0])
        assert RunLog(str(tmp_path)).size("stdout") == 120_000_000
        with open(tmp_path / "stdout.log", "rb") as file:
            assert all(found == line.encode() + b"\n" for found in file)
        assert grown < 50_000_000, f"{grown:,}"


# -- engines that die ------------------------------------------------------------


@pytest.mark.parametrize("live_restore", [True, False])
def test_an_engine_that_dies_doubles_nothing(
    live_restore: bool, own_engine: Make, at: Callable[[str], None], home: str
) -> None:
    """What an engine lost while it was down is missing; the rest is in order, and the end true.

    With live-restore the program goes on and its code is right; without, the engine ends it.
    """
    engine = own_engine("docker", live_restore=live_restore)
    name = image(engine, "busybox")
    at(engine.host)
    # What the engine is to end must not have ended by itself before it is back.
    count = 1000 if live_restore else 30_000
    text = f"i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); usleep 20000; done; exit 7"
    run = RunManager(home).submit(JobSpec(command=("sh", "-c", text), image=name), "docker")
    manager = RunManager(home)
    with manager.output.following(run.run_id):
        until(lambda: run.log.size("stdout") > 100)
        engine.kill()
        time.sleep(1.0)
        engine.start()
        run.wait(check=False)
    found = [int(line) for line in run.log.text("stdout").splitlines()]
    assert found == sorted(set(found))
    assert set(found) <= set(range(count))
    assert found[:20] == list(range(20))
    if live_restore:
        assert (run.record.status, run.record.exit_code) == (RunStatus.FAILED, 7)
        # Whether a line is missing can't be known; that one may be is said.
        assert set(run.record.log_missing.values()) == {-1}
    else:
        assert run.record.reason == Reason.BACKEND_RESTARTED


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_whose_disk_was_full_is_seen(
    kind: str,
    own_engine: Make,
    at: Callable[[str], None],
    mounted: Callable[[str], Path],
    home: str,
    tmp_path: Path,
) -> None:
    """An engine drops what it finds no room for, without a word: that it may have is said."""
    engine = own_engine(kind, data=mounted("size=200m"))
    try:
        at(engine.host)
        text = "until [ -e /here/end ]; do echo $(printf %0400d 7); usleep 2000; done; echo the end"
        here = tmp_path / "here"
        here.mkdir()
        spec = JobSpec(
            command=("sh", "-c", text), image=image(engine, "busybox"), volumes=(f"{here}:/here",)
        )
        manager = RunManager(home)
        run = manager.submit(spec, "docker")
        folder = manager.history.folder(run.run_id)
        until(lambda: run.record.status is RunStatus.RUNNING)
        assert not facts.exists(folder, FULL)
        with full(engine.data):
            until(lambda: facts.exists(folder, FULL))
        (here / "end").touch()
        run.wait(check=False)
        assert (run.record.status, run.record.exit_code) == (RunStatus.SUCCEEDED, 0)
        assert run.record.missing == docker_disk.DROPPED
        assert set(run.record.log_missing.values()) == {-1}
        freed(manager)
    finally:
        engine.stop()  # before its disk goes


def test_a_disk_that_is_also_the_runs_own(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    """What can't be written down for want of room is remembered, and written when there is some."""
    disk = mounted("size=1m")
    for name in ("one", "two"):
        (disk / name).mkdir()
    doubts = docker_disk.Doubts(lambda run_id: RunFolder(str(disk / run_id)))
    assert not docker_disk.is_full(str(disk))
    with full(disk):
        assert docker_disk.is_full(str(disk))
        doubts.look(str(disk), ["one", "deleted"])
        assert doubts.of("one")
        assert not facts.exists(str(disk / "one"), FULL)
    doubts.look(str(disk), ["two"])
    assert facts.exists(str(disk / "one"), FULL)
    assert doubts.of("one")
    assert not doubts.of("two")
    assert not docker_disk.is_full("")


def test_a_torn_log_of_an_engine_is_no_endless_reading(
    docker_engine: Engine, at: Callable[[str], None], home: str
) -> None:
    """What can't be read of an engine's own file isn't waited for, and its words aren't output."""
    if not docker_engine.owned.ours:
        pytest.skip("needs an engine of its own: its files are damaged")
    at(docker_engine.host)
    os.mkdir(folder := home)
    with Program(
        docker_engine, ["sh", "-c", "echo one; echo two; sleep 0.1; echo three"]
    ) as program:
        program.start().wait()
        path = Path(program.client.inspect_container(program.id)["LogPath"])
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        assert bring(program, folder, reader) == 1
        assert RunLog(folder).read("stdout") == b"one\ntwo\n"
        assert logs.trouble(folder)
        assert RunLog(folder).read("stderr") == b""
        stored = json.loads(max(Path(folder).glob("log.*.json")).read_text())["cursor"]
        assert "unexpected EOF" in stored["trouble"]
