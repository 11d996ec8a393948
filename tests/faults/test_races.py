"""Two who work on one run, stopped at every step between each other; and kills at every step.

Each test plays all orders in which the file operations of two actors can follow each other
with one change of turn each (see ``actors.py``). Whatever the order: one execution at the
most, exactly one final record, which agrees with the execution counter, and nothing open.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from actors import Actor

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, RUN, SEEN, SPEC, STOP
from qwex_jupyter.disk.logs import Lease, RunLog
from qwex_jupyter.errors import RunNotFound
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.local import runner as local
from qwex_jupyter.runners.local import supervisor
from qwex_jupyter.runners.local.scribe import Scribe
from qwex_jupyter.system import process
from qwex_jupyter.system.flag import Flag

pytestmark = [
    pytest.mark.forks,
    # Hundreds of processes, one after the other, on however busy a machine.
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not process.use_proc, reason="needs Linux: it stops and looks"),
]

CODE = 7
PATIENCE = 120.0
# So many plays go on side by side: most of each is waiting for a process to start or to end.
ABREAST = 6


class Catcher:
    """Stands where the server of supervisors is, and keeps what is sent to it."""

    def __init__(self) -> None:
        self.message = b""

    def usable(self, has: object) -> bool:
        """It always is."""
        return True

    def send(self, message: bytes) -> None:
        """Keeps a request."""
        self.message = message


@dataclass
class Stage:
    """A run that was submitted, up to the message that no supervisor has read yet."""

    manager: RunManager
    run_id: str
    message: bytes
    counter: Path
    first_end: tuple[int, bytes] | None = None

    @property
    def folder(self) -> str:
        """The run's folder."""
        return self.manager.history.folder(self.run_id)

    @property
    def home(self) -> str:
        """The history folder."""
        return self.manager.history.home

    @property
    def executions(self) -> int:
        """How many times the program ran."""
        return self.counter.stat().st_size if self.counter.exists() else 0

    def supervise(self, look: float = 0.02) -> None:
        """What the supervisor does that gets the message, looking so often; never returns."""
        request, pipe = os.pipe()
        os.write(pipe, self.message)
        os.close(pipe)
        ready = os.open(os.devnull, os.O_WRONLY)
        supervisor._LOOK = look
        supervisor.stand_by(request, ready, scribe_of_another())

    def look(self) -> None:
        """What a manager does that has no patience with submitters."""
        lose_patience()
        self.manager.tracker.look([self.run_id])

    def cancel(self) -> None:
        """A cancel, with the default grace."""
        self.manager.cancel(self.run_id)

    def glance(self) -> None:
        """Remembers the first run.json there was: there must never be another."""
        if self.run_id and self.first_end is None and os.path.exists(f"{self.folder}/{RUN}"):
            self.first_end = end_of(self.folder)


def scribe_of_another() -> Scribe:
    """A scribe that isn't this process's child, as that of a real supervisor is its server's."""
    fork = os.fork

    def fork_twice() -> int:
        child = fork()
        if child:
            os.waitpid(child, 0)
            return child
        if fork():
            os._exit(0)
        return 0

    os.fork = fork_twice
    try:
        return Scribe()
    finally:
        os.fork = fork


def end_of(folder: str) -> tuple[int, bytes]:
    """Inode and content of run.json."""
    with open(os.path.join(folder, RUN), "rb") as file:
        return os.fstat(file.fileno()).st_ino, file.read()


def lose_patience() -> None:
    """All graces are over: each submitter has been silent for longer than that."""
    closing._LAST_BREATH = closing.QUIET = closing.GOOD_FOR = -1.0


def quiet_manager(home: str) -> RunManager:
    """A manager that starts no thread, so that what it does is what is asked."""
    manager = RunManager(home)
    manager._loop.ensure = lambda run_id=None: None  # type: ignore[method-assign]
    return manager


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graces are restored after each test."""
    for name in ("_LAST_BREATH", "QUIET", "GOOD_FOR"):
        monkeypatch.setattr(closing, name, getattr(closing, name))


def staged(manager: RunManager, counter: Path, after: str = f"exit {CODE}") -> Stage:
    """A stage of this manager, with a program that counts and goes on like this."""
    runner = manager.runner("local")
    assert isinstance(runner, local.LocalRunner)
    runner._server = catcher = Catcher()  # type: ignore[assignment]
    spec = JobSpec(command=("/bin/sh", "-c", f"printf x >> {counter}; {after}"))
    run = manager._hand_over(manager.prepare(spec, "local"))
    return Stage(manager, run.run_id, catcher.message, counter)


@pytest.fixture
def stages(home: str, tmp_path: Path) -> Callable[..., Stage]:
    """Makes stages, all in one home."""
    manager, numbers = quiet_manager(home), itertools.count()

    def made(*after: str) -> Stage:
        return staged(manager, tmp_path / f"counter-{next(numbers)}", *after)

    return made


@pytest.fixture
def own_stages(tmp_path: Path) -> Callable[..., Stage]:
    """Makes stages, each in a home of its own."""
    numbers = itertools.count()

    def made(*after: str) -> Stage:
        root = tmp_path / "stages" / str(next(numbers))
        root.mkdir(parents=True)
        return staged(quiet_manager(str(root / "home")), root / "counter", *after)

    return made


def judged(stage: Stage) -> RunRecord:
    """Takes the run up as a fresh manager does, and asserts what holds after any order."""
    lose_patience()
    fresh = quiet_manager(stage.home)
    until = time.monotonic() + PATIENCE
    while not fresh.tracker.ended(stage.run_id) or stage.run_id in fresh.history.open_ids():
        stage.glance()
        fresh.tracker.look([stage.run_id])
        assert time.monotonic() < until, f"it never ends: {fresh.tracker.record(stage.run_id)}"
        time.sleep(0.002)
    stage.glance()
    record = fresh.history.record(stage.run_id)
    launch = facts.read_fact(stage.folder, LAUNCH)
    assert launch is not None
    assert record.status.final
    assert record.reason != Reason.UNREADABLE
    assert stage.first_end == end_of(stage.folder), "run.json was replaced"
    assert stage.executions <= 1
    if "closed" in launch:
        assert (stage.executions, record.exit_code) == (0, None)
    if record.reason == Reason.NEVER_STARTED:
        assert (record.status, stage.executions) == (RunStatus.LOST, 0)
    if record.status is RunStatus.SUCCEEDED:
        assert record.exit_code == 0
    if record.exit_code in (0, CODE):
        assert stage.executions == 1
    assert not os.path.exists(f"{stage.folder}/supervisor.log")
    return record


def tidy(stage: Stage) -> None:
    """Asserts that nobody left a half-made file or a reserve."""
    left = {name for name in os.listdir(stage.folder) if name.startswith(".")}
    assert not left


Work = Callable[[Stage], Callable[[], object]]


def all_orders(
    made: Callable[[], Stage],
    first: Work,
    second: Work,
    diary: Path,
    *,
    waits: bool = True,
    most: int | None = None,
) -> Iterator[Stage]:
    """Stages on which two have worked, one for each order of their steps.

    Args:
        made: Makes a stage, in a home that no other stage is in.
        first: The actor that begins.
        second: The one that has its turn at each step of the first.
        diary: A file for what goes wrong.
        waits: The first goes to its end before the second goes on; else both go on at once,
            because the first ends only by what the second does.
        most: So many steps of the first are enough: the rest repeat themselves.
    """
    # Beside the step before of the first, the second came to its end with this play.
    last: int | None = None
    for i in itertools.count() if most is None else range(most):
        j, plays = 0, list[Play]()
        while all(play.second_stopped for play in plays):
            abreast = ABREAST if last is None else min(ABREAST, max(1, last + 1 - j))
            plays = [Play(made(), first, second, (i, at), diary) for at in range(j, j + abreast)]
            try:
                for scene in (Play.begin, Play.enter, Play.first_goes_on, Play.second_goes_on):
                    for play in plays:
                        scene(play, waits)
            finally:
                for play in plays:
                    play.leave()
            for play in plays:
                yield play.stage
            j += abreast
        last = j - abreast + [play.second_stopped for play in plays].index(False)
        if not plays[-1].first_stopped:
            return


class Play:
    """Two actors on a stage, scene by scene: several plays go on side by side.

    Args:
        stage: Of this play alone.
        first: See `all_orders`.
        second: See `all_orders`.
        at: The step before which each of them stops.
        diary: A file for what goes wrong.
    """

    def __init__(
        self, stage: Stage, first: Work, second: Work, at: tuple[int, int], diary: Path
    ) -> None:
        self.stage, self._second, self._at, self._diary = stage, second, at[1], diary
        self.first_stopped = self.second_stopped = True
        self._one = Actor(first(stage), stage.home, at=at[0], diary=diary)
        self._two: Actor | None = None

    def begin(self, waits: bool) -> None:
        """The first comes to its step, and the second begins."""
        self.first_stopped = self._one.until_stopped()
        self.stage.glance()
        work = self._second(self.stage)
        self._two = Actor(work, self.stage.home, at=self._at, diary=self._diary)

    def enter(self, waits: bool) -> None:
        """The second comes to its step, and the first goes on; the second too, unless it waits."""
        assert self._two is not None
        self.second_stopped = self._two.until_stopped()
        self.stage.glance()
        self._one.go()
        if not waits:
            self._two.go()

    def first_goes_on(self, waits: bool) -> None:
        """The first comes to its end, and then the second goes on."""
        assert self._two is not None
        if waits:
            self._one.done()
            self.stage.glance()
        self._two.go()

    def second_goes_on(self, waits: bool) -> None:
        """Both come to their ends."""
        assert self._two is not None
        self._two.done()
        self._one.done()

    def leave(self) -> None:
        """Nobody is left who stands at a step, whatever came before it."""
        for actor in (self._one, self._two):
            if actor is not None:
                actor.kill()


def test_starter_against_undertaker(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A supervisor that starts and a manager that gives up: the run ran once, or never will."""
    seen = set()
    orders = all_orders(own_stages, lambda s: s.supervise, lambda s: s.look, tmp_path / "diary")
    for stage in orders:
        record = judged(stage)
        assert (record.status, record.exit_code, stage.executions) in (
            (RunStatus.FAILED, CODE, 1),
            (RunStatus.LOST, None, 0),
        )
        tidy(stage)
        seen.add(record.status)
    assert seen == {RunStatus.FAILED, RunStatus.LOST}


def test_starter_against_cancel(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A cancel before, between and after a start: CANCELLED, and the program is not running."""
    codes = set()
    orders = all_orders(
        lambda: own_stages("exec sleep 300"),
        lambda s: s.supervise,
        lambda s: s.cancel,
        tmp_path / "diary",
        waits=False,
        most=6,
    )
    for stage in orders:
        record = judged(stage)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
        assert record.exit_code in (None, 128 + signal.SIGTERM)
        tidy(stage)
        codes.add(record.exit_code)
    assert codes == {None, 128 + signal.SIGTERM}


def test_a_natural_end_against_cancel(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A cancel while a program ends by itself: it keeps its exit code, in one record."""
    orders = all_orders(own_stages, lambda s: s.supervise, lambda s: s.cancel, tmp_path / "diary")
    seen = set()
    for stage in orders:
        record = judged(stage)
        seen.add((str(record.status), record.exit_code))
        if record.exit_code is None:
            assert (record.status, stage.executions) == (RunStatus.CANCELLED, 0)
        tidy(stage)
    # It may also have been killed before it could do anything.
    stopped = {("CANCELLED", None), ("CANCELLED", CODE), ("CANCELLED", 128 + signal.SIGTERM)}
    assert ("FAILED", CODE) in seen
    assert ("CANCELLED", None) in seen
    assert seen <= {("FAILED", CODE), *stopped}


def test_two_enders(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A supervisor that ends a run and a manager that takes it for dead write one record."""

    def blind(stage: Stage) -> Callable[[], None]:
        def look() -> None:
            process.standing = lambda who: process.GONE
            process.members = lambda *_: []
            stage.look()

        return look

    seen = set()
    for stage in all_orders(own_stages, lambda s: s.supervise, blind, tmp_path / "diary"):
        record = judged(stage)
        assert (record.status, record.exit_code) in (
            (RunStatus.FAILED, CODE),
            (RunStatus.LOST, None),
        )
        tidy(stage)
        seen.add(str(record.reason))
    assert seen == {Reason.NON_ZERO_EXIT, Reason.NEVER_STARTED, Reason.VANISHED}


def test_two_managers_that_give_a_run_up(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """Two undertakers of one run write one record, and a supervisor that comes late starts none."""
    diary = tmp_path / "diary"
    for stage in all_orders(own_stages, lambda s: s.look, lambda s: s.look, diary, most=9):
        assert judged(stage).reason == Reason.NEVER_STARTED
        tidy(stage)
    Actor(stage.supervise, "").done()
    assert judged(stage).reason == Reason.NEVER_STARTED


def test_two_supervisors_of_one_run(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A request that is served twice, as after a server that was killed, is executed once."""
    orders = all_orders(
        own_stages, lambda s: s.supervise, lambda s: s.supervise, tmp_path / "diary"
    )
    for stage in orders:
        record = judged(stage)
        assert (record.status, record.exit_code, stage.executions) == (RunStatus.FAILED, CODE, 1)
        tidy(stage)


def test_delete_against_recover(own_stages: Callable[..., Stage], tmp_path: Path) -> None:
    """A run that is deleted while another manager looks at it is gone, whole, without a trace."""
    one = own_stages()
    Actor(one.supervise, "").done()
    one.manager.history.mark_open(one.run_id)
    homes = itertools.count()

    def ended() -> Stage:
        home = str(tmp_path / f"home-{next(homes)}")
        shutil.copytree(one.home, home)
        return Stage(quiet_manager(home), one.run_id, b"", one.counter)

    def delete(stage: Stage) -> Callable[[], None]:
        def work() -> None:
            with contextlib.suppress(RunNotFound):  # somebody else was first
                stage.manager.delete(stage.run_id)

        return work

    def recover(stage: Stage) -> Callable[[], None]:
        def both() -> None:
            stage.look()
            stage.manager.tracker.records([stage.run_id])
            list(stage.manager.history.records())

        return both

    for first, second in ((delete, recover), (recover, delete), (delete, delete)):
        for stage in all_orders(ended, first, second, tmp_path / "diary"):
            with pytest.raises(RunNotFound):
                stage.manager.tracker.record(stage.run_id)
            assert stage.run_id not in stage.manager.history.open_ids()
            assert os.listdir(stage.manager.history.runs_folder) == []


def test_a_slow_submitter_against_recover(tmp_path: Path) -> None:
    """A submitter that slept for longer than all graces, at any step, loses nothing of its run."""

    def sleeper(stage: Stage) -> Callable[[], None]:
        def submit() -> None:
            runner = stage.manager.runner("local")
            runner._server = Catcher()  # type: ignore[attr-defined]
            manager = stage.manager
            manager._hand_over(manager.prepare(JobSpec(command=("true",)), "local"))

        return submit

    def sweeper(stage: Stage) -> Callable[[], None]:
        def sweep() -> None:
            lose_patience()
            history = stage.manager.history
            for run_id in history.open_ids():
                os.utime(os.path.join(history.open_folder, run_id), (0, 0))
            history.sweep()
            stage.manager.tracker.look()

        return sweep

    homes = itertools.count()

    def empty() -> Stage:
        return Stage(quiet_manager(str(tmp_path / f"home-{next(homes)}")), "", b"", tmp_path / "-")

    for stage in all_orders(empty, sleeper, sweeper, tmp_path / "diary"):
        history = stage.manager.history
        (run_id,) = history.run_ids()
        # What has no end yet is on the list, or nobody would ever ask about it.
        assert history.record(run_id).status.final or run_id in history.open_ids()
        stage.run_id = run_id
        assert judged(stage).reason == Reason.NEVER_STARTED


def test_a_submitter_is_overtaken_at_each_step(tmp_path: Path) -> None:
    """A submitter that is stopped until all graces are over, and goes on, starts once or never."""
    seen = set()
    for at in itertools.count():
        counter = tmp_path / f"counter-{at}"
        manager = quiet_manager(str(tmp_path / f"home-{at}"))
        submit = submitting(manager, counter)
        actor = Actor(submit, manager.history.home, at=at, diary=tmp_path / "diary")
        stopped = actor.until_stopped()
        stage = Stage(manager, "", b"", counter)
        age_entries(manager)
        Actor(recover(manager), "").done()
        actor.done()
        (stage.run_id,) = manager.history.run_ids()
        record = judged(stage)
        seen.add((str(record.status), record.exit_code, stage.executions))
        if not stopped:
            break
    assert seen <= {("LOST", None, 0), ("FAILED", CODE, 1)}
    assert ("LOST", None, 0) in seen


def submitting(manager: RunManager, counter: Path) -> Callable[[], object]:
    """The work of handing a run to a real server of supervisors."""
    spec = JobSpec(command=("/bin/sh", "-c", f"printf x >> {counter}; exit {CODE}"))
    return lambda: manager._hand_over(manager.prepare(spec, "local"))


def recover(manager: RunManager) -> Callable[[], object]:
    """The work of a kernel that starts and has no patience."""

    def work() -> None:
        lose_patience()
        manager.recover(within=PATIENCE)

    return work


def age_entries(manager: RunManager) -> None:
    """Makes the entries of open runs older than any grace."""
    for run_id in manager.history.open_ids():
        os.utime(os.path.join(manager.history.open_folder, run_id), (0, 0))


def test_a_submitter_is_killed_at_each_step(tmp_path: Path) -> None:
    """Kill -9 of a submitter at each file operation and fork: once or never, and nothing open."""
    ends = []
    for at in itertools.count():
        counter = tmp_path / f"counter-{at}"
        manager = quiet_manager(str(tmp_path / f"home-{at}"))
        submit = submitting(manager, counter)
        code = Actor(submit, manager.history.home, at=at, by=signal.SIGKILL).finish()
        age_entries(manager)
        Actor(recover(manager), "").done()
        known = manager.history.run_ids()
        assert len(known) <= 1
        for run_id in known:
            record = judged(Stage(manager, run_id, b"", counter))
            ends.append((str(record.status), record.exit_code))
        if not known:
            assert not counter.exists()
            ends.append(("", None))
        assert manager.history.open_ids() == []
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert set(ends) <= {("", None), ("LOST", None), ("FAILED", CODE)}
    assert ends[0] == ("", None)
    assert ends[-1] != ("", None)


def test_a_supervisor_is_killed_at_each_step(stages: Callable[..., Stage]) -> None:
    """Kill -9 of a supervisor at each file operation and fork: the true outcome, or LOST."""
    ends = []
    for at in itertools.count():
        stage = stages()
        # Its end is heard at once; each look while the program works would be a step more.
        supervise = functools.partial(stage.supervise, PATIENCE)
        code = Actor(supervise, stage.home, at=at, by=signal.SIGKILL).finish()
        record = judged(stage)
        ends.append((str(record.reason), record.exit_code))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    words = [reason for reason, _ in ends]
    # In this order: before its launch, before its end was written, after.
    assert words == sorted(words, key=["NeverStarted", "Vanished", "NonZeroExit"].index)
    assert set(ends) == {("NeverStarted", None), ("Vanished", None), ("NonZeroExit", CODE)}


def test_a_real_supervisor_is_killed_at_each_fault_point(
    tmp_path: Path, boots: Callable[[str], None]
) -> None:
    """The same through the server that a kernel starts, at each fault point of `facts`."""
    boot = (
        "steps = []\n"
        "def fault(step):\n"
        "    steps.append(step)\n"
        "    if len(steps) > AT: os.kill(os.getpid(), 9)\n"
        "facts.fault = fault"
    )
    ends = []
    for at in itertools.count():
        boots(boot.replace("AT", str(at)))
        manager = quiet_manager(str(tmp_path / f"home-{at}"))
        counter = tmp_path / f"counter-{at}"
        spec = JobSpec(command=("/bin/sh", "-c", f"printf x >> {counter}; exit {CODE}"))
        run = manager._hand_over(manager.prepare(spec, "local"))
        handed_on(manager, run.run_id)
        record = judged(Stage(manager, run.run_id, b"", counter))
        ends.append((str(record.reason), record.exit_code))
        if at > 30 or (len(ends) > 3 and ends[-4:] == [("NonZeroExit", CODE)] * 4):
            break
    assert set(ends) == {("NeverStarted", None), ("Vanished", None), ("NonZeroExit", CODE)}


def handed_on(manager: RunManager, run_id: str) -> None:
    """Waits until a supervisor has begun (one killed at once never does).

    No look may close the launch before that.
    """
    folder = manager.history.folder(run_id)
    runner = manager.runner("local")
    assert isinstance(runner, local.LocalRunner)
    server, runner._server = runner._server, None
    assert server is not None
    server._close()  # the end of the requests: it leaves when it has handed this one on
    until = time.monotonic() + PATIENCE
    while not server._ended():
        assert time.monotonic() < until
        time.sleep(0.005)
    for _ in range(1000):
        names = [name for name in os.listdir(folder) if not name.startswith(".reserve.")]
        if any("launch.json" in name for name in names):
            return
        time.sleep(0.005)


def dying_at(step: str, work: Callable[[], object]) -> Callable[[], object]:
    """The same work by one who is killed at a fault point."""

    def until() -> None:
        facts.fault = lambda where: os.kill(os.getpid(), 9) if where == step else None
        work()

    return until


def test_eight_managers_recover_the_same_runs(stages: Callable[..., Stage]) -> None:
    """8 processes take up the same 50 runs at once: one terminal record each, read by all."""
    dead = [stages() for _ in range(25)]
    orphans = [stages() for _ in range(25)]
    for stage in orphans:
        # Its supervisor is killed when it has seen the end, and not yet written it down.
        supervise = dying_at(f"{RUN}:create", stage.supervise)
        assert Actor(supervise, "").finish() == -signal.SIGKILL
    home = dead[0].home
    ready, go, told = os.pipe(), os.pipe(), os.pipe()

    def race() -> None:
        os.close(go[1])
        lose_patience()
        manager = quiet_manager(home)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        until = time.monotonic() + PATIENCE
        while manager.history.open_ids() and time.monotonic() < until:
            manager.tracker.look()
        said = {
            stage.run_id: (facts.read_fact(stage.folder, RUN) or {}).get("nonce")
            for stage in dead + orphans
        }
        os.write(told[1], json.dumps(said).encode() + b"\n")

    actors = [Actor(race, "") for _ in range(8)]
    for _ in actors:
        os.read(ready[0], 1)
    os.close(go[1])
    with os.fdopen(told[0], "rb") as pipe:
        answers = [json.loads(pipe.readline()) for _ in actors]
    for actor in actors:
        actor.done()
    for descriptor in (*ready, go[0], told[1]):
        os.close(descriptor)
    assert all(answer == answers[0] for answer in answers)
    assert all(answers[0].values())
    assert quiet_manager(home).history.open_ids() == []
    assert {judged(stage).reason for stage in dead} == {Reason.NEVER_STARTED}
    assert {judged(stage).reason for stage in orphans} == {Reason.VANISHED}
    assert {stage.executions for stage in orphans} == {1}


def test_a_lease_changes_hands_at_each_step(tmp_path: Path) -> None:
    """A log writer that slept through the loss of its lease writes the same bytes again."""
    source = random.Random(1).randbytes(50_000)

    def write(folder: str, quiet: float) -> None:
        lease, log = Lease(folder, quiet=quiet), RunLog(folder)
        while not lease.acquire():
            time.sleep(0.002)
        while (at := int(lease.cursor.get("at", 0))) < len(source):
            log.write("stdout", source[at : at + 4999], at)
            if not lease.keep({"at": min(at + 4999, len(source))}):
                return
        lease.keep(lease.cursor, release=True)

    for number in itertools.count():
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        holder = Actor(lambda f=str(folder): write(f, 0.02), str(folder), at=number)
        asleep = holder.until_stopped()
        taker = Actor(lambda f=str(folder): write(f, 0.02), "", diary=tmp_path / "diary")
        taker.done()
        holder.done()
        assert (folder / "stdout.log").read_bytes() == source
        if not asleep:
            return


def test_a_lease_is_not_taken_from_one_who_writes(tmp_path: Path) -> None:
    """A lease that is kept changes hands only after it was quiet for as long as it says."""
    holder, other = Lease(str(tmp_path), quiet=0.2), Lease(str(tmp_path), quiet=0.2)
    assert holder.acquire()
    for beat in range(20):
        assert not other.acquire()
        assert holder.keep({"at": beat})
    until = time.monotonic() + PATIENCE
    while not other.acquire():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert other.cursor == {"at": 19}
    assert not holder.keep({"at": 99})


def test_the_lease_of_a_process_that_is_gone_is_taken_at_once(tmp_path: Path) -> None:
    """Whoever comes after a killed writer doesn't wait for its lease to fall quiet."""
    code = f"from qwex_jupyter.disk.logs import Lease; assert Lease({str(tmp_path)!r}).acquire()"
    subprocess.run([sys.executable, "-c", code], check=True)
    heir = Lease(str(tmp_path), quiet=3600)
    assert heir.acquire()
    assert not Lease(str(tmp_path), quiet=3600).acquire()


def test_one_damaged_run_keeps_no_other_from_being_taken_up(stages: Callable[..., Stage]) -> None:
    """A torn launch.json, as a loss of power leaves it, is one run; all others get their end."""
    for name in (LAUNCH, STOP, SPEC, SEEN, RUN):
        torn, good = stages(), stages()
        with open(f"{torn.folder}/{name}", "w") as file:
            file.write("{")
        lose_patience()
        manager = quiet_manager(good.home)
        manager.recover(within=PATIENCE)
        assert manager.history.record(good.run_id).reason == Reason.NEVER_STARTED, name
        assert torn.executions == 0
        assert {row.run_id for row in manager.history.records()} >= {torn.run_id, good.run_id}


def test_a_damaged_stop_doesnt_end_a_supervisor(stages: Callable[..., Stage]) -> None:
    """A stop.json that can't be read is no stop, and costs nobody the outcome."""
    stage = stages("sleep 0.3; exit 7")
    actor = Actor(stage.supervise, "")
    until = time.monotonic() + PATIENCE
    while not facts.exists(stage.folder, LAUNCH) and time.monotonic() < until:
        time.sleep(0.001)
    with open(f"{stage.folder}/{STOP}", "w") as file:
        file.write("{")
    actor.done()
    assert judged(stage).exit_code == CODE


def test_an_open_entry_without_a_folder_stops_nobody(manager: RunManager, tmp_path: Path) -> None:
    """A run that another kernel makes right now, or died making, keeps no kernel from its runs."""
    wait = f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.02; done"
    managers_run = manager.submit(JobSpec(command=("/bin/sh", "-c", f"{wait}; exit 7")))
    manager.history.mark_open("20260101-000000-k3x9qd")
    fresh = RunManager(manager.history.home)
    assert [record.run_id for record in fresh.recover()] == [managers_run.run_id]
    seen = threading.Event()
    fresh.observe(lambda record: seen.set() if record.status.final else None)
    (tmp_path / "go").touch()
    assert seen.wait(PATIENCE), "its loop never told of the end"
    assert fresh.tracker.record(managers_run.run_id).exit_code == CODE


def test_interrupts_at_random_moments(tmp_path: Path) -> None:
    """200 interrupts of a loop that submits and waits tear nothing, and hide no run."""
    home, told = str(tmp_path / "home"), tmp_path / "told"
    (tmp_path / "counters").mkdir()

    def loop() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rng = random.Random(1)
        taken, over = 0, False
        out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        program = f"printf x >> {tmp_path}/counters/$QWEX_RUN_ID; exit {CODE}"
        spec = JobSpec(command=("/bin/sh", "-c", program))

        # Only there is an interrupt one of a cell, and not one of this test.
        inside = Flag()
        # Python itself drops one that comes in a callback of its collector, and says so here.
        dropped: list[object] = []
        sys.unraisablehook = lambda told: dropped.append(told.exc_type)
        stack = open(tmp_path / "diary", "w")  # noqa: SIM115 - said there should this hang
        faulthandler.dump_traceback_later(1.9 * PATIENCE, file=stack)

        def interrupt() -> None:
            nonlocal over
            for number in range(200):
                inside.wait()
                time.sleep(rng.random() * 0.03)
                os.kill(os.getpid(), signal.SIGINT)
                while taken <= number:
                    if dropped and dropped.pop() is KeyboardInterrupt:
                        os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.001)
            over = True

        manager = RunManager(home)
        threading.Thread(target=interrupt, daemon=True).start()
        while not over:
            try:
                inside.set()
                while not over:
                    run = manager.submit(spec)
                    os.write(out, f"{run.run_id}\n".encode())
                    run.wait(check=False)
            except KeyboardInterrupt:
                inside.clear()
                taken += 1
        manager.close()  # an end in the midst of an observation leaves half of one behind

    actor = Actor(loop, "", diary=tmp_path / "diary")
    actor.done(within=2 * PATIENCE)  # so long it takes only where it hangs
    manager = RunManager(home)
    lose_patience()
    until = time.monotonic() + PATIENCE
    runs = Path(manager.history.runs_folder)
    # A supervisor takes its temporary files away when the end is written down.
    while (manager.history.open_ids() or any(runs.rglob(".*"))) and time.monotonic() < until:
        manager.tracker.look()
        time.sleep(0.02)
    known = set(manager.history.run_ids())
    assert set(told.read_text().split()) <= known
    assert set(os.listdir(tmp_path / "counters")) <= known
    assert manager.history.open_ids() == []
    assert not [name for name in os.listdir(manager.history.runs_folder) if name[0] == "."]
    for run_id in known:
        folder = manager.history.folder(run_id)
        for name in os.listdir(folder):
            assert not name.startswith("."), f"{run_id} holds {name}"
            if name.endswith(".json"):
                facts.read_fact(folder, name)
        record = manager.history.record(run_id)
        counter = tmp_path / "counters" / run_id
        assert record.status.final
        assert (counter.stat().st_size if counter.exists() else 0) <= 1
        if record.status is RunStatus.FAILED:
            assert (record.exit_code, counter.stat().st_size) == (CODE, 1)
        else:
            assert record.status is RunStatus.CANCELLED, record.sentence


@pytest.mark.parametrize("nth", range(6))
def test_an_interrupt_leaves_no_lock_behind(tmp_path: Path, nth: int) -> None:
    """One that comes when a lock was just taken hangs neither its cell nor the next.

    Python looks for interrupts after each call of its own code, so also after that by which a
    condition, and all that is made of one, takes its lock: then nobody gives it back.
    """

    def work() -> None:
        stack = open(tmp_path / "diary", "w")  # noqa: SIM115 - said there should this hang
        faulthandler.dump_traceback_later(0.9 * PATIENCE, file=stack)
        manager, enter, entered = RunManager(str(tmp_path / "home")), threading.Condition, 0
        real = enter.__enter__

        def cut(self: threading.Condition) -> bool:
            nonlocal entered
            found = bool(real(self))
            if threading.get_ident() == threading.main_thread().ident:
                entered += 1
                if entered == nth + 1:
                    signal.raise_signal(signal.SIGINT)
            return found

        enter.__enter__ = cut  # type: ignore[method-assign,assignment]
        spec = JobSpec(command=("/bin/sh", "-c", f"sleep 0.2; exit {CODE}"))
        try:
            manager.cancel(manager.submit(spec).run_id)
            manager.submit(spec).wait(check=False)
        except KeyboardInterrupt:
            pass
        enter.__enter__ = real  # type: ignore[method-assign]
        assert manager.submit(spec).wait(check=False).exit_code == CODE
        faulthandler.cancel_dump_traceback_later()

    actor = Actor(work, "", diary=tmp_path / "diary")
    actor.done(within=PATIENCE)
