"""No run in a container is lost, doubled or given a wrong outcome: faults injected one by one.

A program says that it was executed by a byte in a file outside the container, so that twice
shows. docs/reliability.md counts what the campaign (`docker_kills`) did at random.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker_kills
import leftovers
import pytest
from actors import Actor, end_once
from campaign import assert_clean
from docker_helpers import LEAVES_SOCKETS, UNHURRIED
from engines import HISTORY, LABEL, Engine
from images import image
from local_helpers import until
from wire import Wire

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, STOP
from qwex_jupyter.errors import SubmitFailed
from qwex_jupyter.manager import closing, prepared
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec, Resources
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.docker import launch
from qwex_jupyter.runners.docker import runner as docker_runner
from qwex_jupyter.runners.docker import state as docker_state
from qwex_jupyter.runners.docker.state import Told

pytestmark = [LEAVES_SOCKETS, pytest.mark.usefixtures("engine_of_this_machine")]

PATIENCE = 180.0
CREATE, START, ARCHIVE = "/containers/create", "/containers/[^/]+/start", "/archive"
MIB = 1024**2
# Part of a script: waits for a file.
WAITS = "while [ ! -e /counters/go ]; do sleep 0.05; done"


class Place:
    """A home, an engine behind a wire, and a folder in which executions are counted."""

    def __init__(self, engine: Engine, wire: Wire, root: Path) -> None:
        self.engine, self.wire = engine, wire
        self.image = image(engine, "busybox")
        self.home = str(root / "home")
        self.counters = root / "counters"
        self.counters.mkdir()
        self.manager = RunManager(self.home, settings=UNHURRIED)

    def spec(self, script: str, **more: Any) -> JobSpec:
        """A run that counts its execution first."""
        text = f"printf x >> /counters/$QWEX_RUN_ID\n{script}\n"
        volumes = (f"{self.counters}:/counters",)
        return JobSpec(
            command=("sh",), script=text, image=self.image, volumes=volumes, grace=5, **more
        )

    def submit(self, script: str, **more: Any) -> Run:
        """Hands one over."""
        return self.manager.submit(self.spec(script, **more), "docker")

    def executions(self, run: Run) -> int:
        """How often its program began."""
        path = self.counters / run.run_id
        return path.stat().st_size if path.exists() else 0

    def containers(self, run_id: str) -> list[dict[str, Any]]:
        """What the engine has of a run, past the wire."""
        with self.client() as client:
            filters = {"label": f"{LABEL}={run_id}"}
            return list(client.containers(all=True, filters=filters))

    def client(self) -> Any:
        """docker-py's client of the engine, past the wire."""
        return self.engine.client()


@contextlib.contextmanager
def behind_a_wire(engine: Engine, root: Path, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An engine to which a wire leads."""
    with Wire(engine.host) as wire:
        patch.setenv("DOCKER_HOST", wire.host)
        here = Place(engine, wire, root)
        yield here
        hang_up(here.manager)


@pytest.fixture
def place(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each engine in turn, behind a wire."""
    with behind_a_wire(engine, tmp_path, monkeypatch) as here:
        yield here


@pytest.fixture
def docker_place(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Debian's engine behind a wire."""
    with behind_a_wire(docker_engine, tmp_path, monkeypatch) as here:
        yield here


@pytest.fixture
def own_place(
    own_engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Place]]:
    """Makes an engine that may be killed, talked to without a wire between (its pid is seen)."""
    places: list[Place] = []

    def make(kind: str, **settings: Any) -> Place:
        made = own_engine(kind, **settings)
        monkeypatch.setenv("DOCKER_HOST", made.host)
        places.append(Place(made, None, tmp_path))  # type: ignore[arg-type]
        return places[-1]

    yield make
    for place in places:
        hang_up(place.manager)


def hang_up(manager: RunManager) -> None:
    """Closes a manager and its connections, which otherwise are closed when it is collected."""
    manager.close()
    client = manager.runner("docker")._engine._client  # type: ignore[attr-defined]
    if client is not None:
        client.close()


def end(run: Run) -> Any:
    """Its final record."""
    run.wait(PATIENCE, check=False)
    return run.record


def running(run: Run) -> None:
    """Waits until it runs."""
    until(lambda: run.record.status is RunStatus.RUNNING)


# -- answers that get lost ------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CREATE, START], ids=["create", "start"])
def test_a_lost_answer_makes_nothing_twice(place: Place, path: str) -> None:
    """When the answer of create or of start is lost, there is one container, executed once."""
    for code in (0, 5):
        rule = place.wire.drop_response("POST", path)
        run = place.submit(f"exit {code}", keep=True)
        record = end(run)
        assert rule.hits == 1
        assert (record.status.final, record.exit_code) == (True, code), record.sentence
        assert len(place.containers(run.run_id)) == 1
        assert place.executions(run) == 1


@pytest.mark.tier("quick")
def test_every_answer_of_a_create_lost_starts_nothing(docker_place: Place) -> None:
    """A create whose answers are all lost is found by its name and started, once."""
    docker_place.wire.drop_response("POST", CREATE, times=None)
    run = docker_place.submit("exit 3", keep=True)
    assert end(run).exit_code == 3
    assert len(docker_place.containers(run.run_id)) == 1
    assert docker_place.executions(run) == 1


def test_a_start_that_never_arrived_is_never_started(
    docker_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that didn't reach the engine is LOST / NeverStarted, and its container is gone."""
    docker_place.wire.refuse("POST", START)
    run = docker_place.submit("exit 0")
    assert run.record.status is RunStatus.PENDING
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert record.exit_code is None
    assert docker_place.executions(run) == 0
    assert docker_place.containers(run.run_id) == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("path", [CREATE, ARCHIVE, START], ids=["create", "archive", "start"])
def test_being_turned_away_for_a_moment_changes_nothing(
    docker_place: Place, path: str, status: int
) -> None:
    """An engine that is too busy twice is asked a third time, and the run is executed once."""
    rule = docker_place.wire.answer("", path, status, times=2)
    run = docker_place.submit("exit 4")
    assert end(run).exit_code == 4
    assert rule.hits == 2
    assert docker_place.executions(run) == 1


def test_an_answer_of_a_proxy_after_the_start_starts_nothing_again(docker_place: Place) -> None:
    """A start that a proxy reports as failed (504) though it was carried out isn't repeated."""
    wire = docker_place.wire
    call = launch.Engine.call
    told: list[str] = []

    def gateway(self: Any, method: str, path: str, **more: Any) -> Any:
        answer = call(self, method, path, **more)
        if path.endswith("/start"):
            told.append(path)
            raise launch.Refused((504, 503)[len(told) > 1], "upstream request timeout")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.Engine, "call", gateway)
        runs = [docker_place.submit("exit 6", keep=True) for _ in range(2)]
    assert [end(run).exit_code for run in runs] == [6, 6]
    assert [docker_place.executions(run) for run in runs] == [1, 1]
    assert wire.count("POST", START) == 2


def test_an_engine_that_is_always_too_busy_takes_nothing(docker_place: Place) -> None:
    """A create that is turned away for good is a SubmitFailed: no container, no run."""
    docker_place.wire.answer("POST", CREATE, 503, times=None)
    with pytest.raises(SubmitFailed, match="could not be made"):
        docker_place.submit("exit 0")
    assert docker_place.manager.history.run_ids() == []
    label = f"{HISTORY}={docker_place.manager.history.id}"
    with docker_place.client() as client:
        assert client.containers(all=True, filters={"label": label}) == []


def test_errors_of_the_api_are_no_outcome(docker_place: Place) -> None:
    """While every answer is a 429 or 503 a run stays what it was, and then has its own code."""
    run = docker_place.submit(f"{WAITS}; exit 7")
    running(run)
    for status in (503, 429, 500):
        docker_place.wire.answer("", "", status, times=None)
        (docker_place.counters / "go").touch()
        time.sleep(1.0)
        docker_place.manager.tracker.look([run.run_id])
        record = run.record
        assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.BACKEND_UNREACHABLE)
    docker_place.wire.clear()
    assert end(run).exit_code == 7


def test_a_script_cut_on_its_way_arrives_whole(docker_place: Place, tmp_path: Path) -> None:
    """When the connection is cut in the middle of PUT /archive, it is put there once more."""
    wire = docker_place.wire
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(128 * MIB))
    cuts: list[int] = []

    def cut() -> None:
        for so_many in (1, 2):
            while wire.count("PUT", ARCHIVE) < so_many:
                time.sleep(0.001)  # more of it is on its way than goes through in that time
            cuts.append(wire.break_all())

    cutter = threading.Thread(target=cut)
    cutter.start()
    run = docker_place.submit("sha256sum < big.bin", files=(str(big),))
    cutter.join()
    assert end(run).status is RunStatus.SUCCEEDED, run.record.sentence
    said = subprocess.run(["sha256sum"], input=big.read_bytes(), capture_output=True, check=True)
    assert run.log.read("stdout") == said.stdout
    assert wire.count("PUT", ARCHIVE) == 3
    assert all(cuts)
    assert docker_place.executions(run) == 1


# -- containers that others make and remove -------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "running", "exited"])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_stranger_of_our_name_is_left_alone(
    docker_place: Place, monkeypatch: pytest.MonkeyPatch, state: str, labelled: bool
) -> None:
    """A container of a run's name with other labels is never started, stopped or removed."""
    run_id = prepared.new_run_id(time.time())
    monkeypatch.setattr(prepared, "new_run_id", lambda _: run_id)
    labels = {LABEL: run_id, HISTORY: "another"} if labelled else {}
    with docker_place.client() as client:
        sleep = "sleep 600" if state == "running" else "exit 0"
        config = client.create_host_config(network_mode="none")
        its = client.create_container(
            docker_place.image, ["sh", "-c", sleep], name=f"qwex-{run_id}", labels=labels,
            host_config=config,
        )["Id"]  # fmt: skip
        try:
            if state != "created":
                client.start(its)
            until(lambda: client.inspect_container(its)["State"]["Status"] == state)
            before = client.inspect_container(its)["State"]
            with pytest.raises(SubmitFailed, match="isn't of this run"):
                docker_place.submit("exit 0")
            runner = docker_place.manager.runner("docker")
            runner.delete(run_id)
            docker_place.manager.tracker.look()
            assert client.inspect_container(its)["State"] == before
        finally:
            client.remove_container(its, force=True)


def test_a_run_that_somebody_removed_is_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``docker rm -f`` by somebody else a run is LOST / Vanished, without an exit code."""
    place.manager.close()  # nobody looks until it is gone
    run = place.submit("sleep 600")
    place.manager.close()
    until(lambda: place.executions(run))
    with place.client() as client:
        client.remove_container(f"qwex-{run.run_id}", v=True, force=True)
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.VANISHED), record.sentence
    assert record.exit_code is None
    assert "removed" in record.message


def test_not_found_is_not_believed_before_the_record_is_read(
    docker_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container freed by another kernel while this one asks is no reason to call a run LOST."""
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    mine = RunManager(docker_place.home)
    run = docker_place.submit("exit 9")
    docker = mine.tracker.backends.runner_of(run.run_id)
    poll = docker.poll

    def late(run_ids: Any) -> Any:
        end(run)  # the other kernel records the end and frees the container
        until(lambda: not docker_place.containers(run.run_id))
        return poll(run_ids)

    monkeypatch.setattr(docker, "poll", late)
    mine.tracker.look([run.run_id])
    assert mine.tracker.record(run.run_id).exit_code == 9
    hang_up(mine)


@pytest.mark.parametrize("keep", [False, True])
def test_a_client_stopped_across_the_end_sees_it_rightly(docker_place: Place, keep: bool) -> None:
    """A kernel that sleeps from before a program's end until after it tells its true outcome."""
    codes = (0, 3, 137, 255)

    def work() -> None:
        mine = RunManager(docker_place.home)
        for run in [mine.get(name) for name in names]:
            run.wait(PATIENCE, check=False)

    runs = [docker_place.submit(f"{WAITS}; exit {code}", keep=keep) for code in codes]
    names = [run.run_id for run in runs]
    for run in runs:
        running(run)
    docker_place.manager.close()
    diary = Path(docker_place.home, "diary")
    actor = Actor(work, "", diary=diary)
    time.sleep(1.0)
    os.kill(actor.pid, signal.SIGSTOP)
    (docker_place.counters / "go").touch()
    until(lambda: all(c["State"] == "exited" for n in names for c in docker_place.containers(n)))
    time.sleep(1.0)
    os.kill(actor.pid, signal.SIGCONT)
    actor.done()
    assert tuple(run.record.exit_code for run in runs) == codes
    assert [len(docker_place.containers(name)) for name in names] == [int(keep)] * len(runs)


# -- who was to start it dies ---------------------------------------------------------------------


def starter_dies(place: Place, script: str) -> Run:
    """A run whose submitter was killed after ``launch.json`` and before the start."""

    def work() -> None:
        def fault(step: str) -> None:
            if step == "launch.json:linked":
                os.kill(os.getpid(), signal.SIGKILL)

        facts.fault = fault
        RunManager(place.home, settings=UNHURRIED).submit(place.spec(script), "docker")

    actor = Actor(work, "", diary=Path(f"{place.home}-diary"))
    assert actor.finish() == -signal.SIGKILL
    (run_id,) = place.manager.history.run_ids()
    return Run(place.manager, run_id)


def test_what_was_never_started_is_taken_away_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A created container stays while its launch may act; then it goes: LOST / NeverStarted."""
    monkeypatch.setattr(closing, "GOOD_FOR", 600.0)
    run = starter_dies(place, "exit 0")
    assert facts.exists(run.log.folder, LAUNCH)
    place.manager.tracker.look([run.run_id])
    assert run.record.status is RunStatus.PENDING
    assert len(place.containers(run.run_id)) == 1
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    assert place.containers(run.run_id) == []
    assert place.executions(run) == 0
    assert not any("force" in path for _, path in place.wire.requests)


@pytest.mark.parametrize("looks", [1, 2])
def test_what_runs_is_never_taken_away(
    docker_place: Place, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """A container that was started after all, after any look and before it goes, goes on."""
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    run = starter_dies(docker_place, f"{WAITS}; exit 8")
    mine: Any = docker_place.manager.tracker.backends.runner_of(run.run_id)
    inspect = mine._finder.container
    looked: list[str] = []

    def started_meanwhile(run_id: str) -> Any:
        found = inspect(run_id)
        looked.append(found["State"]["Status"])
        if len(looked) == looks:
            with docker_place.client() as client:
                client.start(f"qwex-{run_id}")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(mine._finder, "container", started_meanwhile)
        docker_place.manager.tracker.look([run.run_id])
    assert looked[:looks] == ["created"] * looks
    assert not run.record.status.final
    (docker_place.counters / "go").touch()
    assert end(run).exit_code == 8
    assert docker_place.executions(run) == 1


# -- the engine dies ------------------------------------------------------------------------------

# What runs when its engine is killed: script, and whether it ends by itself meanwhile.
_LONG = "exec sleep 600"
_SOON = "while [ ! -e /counters/soon ]; do sleep 0.05; done"
_OBEYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
_KINDS = pytest.mark.parametrize("kind", ["docker", "moby"])


def shims(place: Place, ids: list[str]) -> list[int]:
    """The processes that hold these containers."""
    found = []
    for pid in leftovers._pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]).startswith("containerd-shim") and set(ids) & set(words):
            found.append(pid)
    return found


def submit_all(place: Place, scripts: dict[str, str]) -> dict[str, Run]:
    """Hands these over, lets them go on when all run, and forgets them as a killed kernel does."""
    runs = {name: place.submit(f"{WAITS}\n{script}") for name, script in scripts.items()}
    for run in runs.values():
        until(lambda run=run: place.executions(run))  # type: ignore[misc]
        running(run)
    place.manager.close()
    (place.counters / "go").touch()
    return runs


def recovered(place: Place, runs: dict[str, Run]) -> dict[str, Any]:
    """The final records, as a fresh kernel finds them."""
    hang_up(place.manager)
    place.manager = RunManager(place.home)
    place.manager.recover()
    return {name: end(place.manager.get(run.run_id)) for name, run in runs.items()}


@_KINDS
def test_a_killed_engine_that_stops_everything_says_so(
    own_place: Callable[..., Place], kind: str
) -> None:
    """After SIGKILL of dockerd, what it stopped is BackendRestarted, what ended has its code."""
    place = own_place(kind)
    late = "sleep 2; touch /counters/$QWEX_RUN_ID.over"
    ended = {
        name: f"{late}; exit {code}" for name, code in {"five": 5, "zero": 0, "last": 255}.items()
    }
    runs = submit_all(place, {"long": _LONG, "obeys": _OBEYS, **ended})
    place.engine.kill()
    for name in ended:
        until((place.counters / f"{runs[name].run_id}.over").exists)
    time.sleep(1.0)
    place.engine.start()
    found = recovered(place, runs)
    assert {name: found[name].exit_code for name in ended} == {"five": 5, "zero": 0, "last": 255}
    assert found["zero"].status is RunStatus.SUCCEEDED
    assert {found[name].reason for name in ("five", "last")} == {Reason.NON_ZERO_EXIT}
    assert found["long"].exit_code == 143
    for name in ("long", "obeys"):
        assert found[name].status is not RunStatus.SUCCEEDED
        assert found[name].reason == Reason.BACKEND_RESTARTED
        assert "engine was restarted" in found[name].message
    assert "live-restore" in found["long"].message
    assert {place.executions(run) for run in runs.values()} == {1}


@_KINDS
def test_containers_outlive_a_killed_engine_with_live_restore(
    own_place: Callable[..., Place], kind: str
) -> None:
    """With live-restore a run goes on through SIGKILL of dockerd and ends with its own code."""
    place = own_place(kind, live_restore=True)
    scripts = {
        "while": "sleep 2; exit 5",  # ends while there is no engine
        "soon": f"{_SOON}; exit 0",  # ends within seconds of the new one's start
        "soon255": f"{_SOON}; exit 255",
        "soon137": f"{_SOON}; kill -9 $$",
        "late": f"{_SOON}; sleep 6; exit 6",
    }
    runs = submit_all(place, scripts)
    place.engine.kill()
    time.sleep(3.0)
    place.engine.start()
    (place.counters / "soon").touch()
    found = recovered(place, runs)
    codes = {name: record.exit_code for name, record in found.items()}
    assert codes == {"while": 5, "soon": 0, "soon255": 255, "soon137": 137, "late": 6}
    assert found["soon"].status is RunStatus.SUCCEEDED
    assert not [r.sentence for r in found.values() if r.reason == Reason.BACKEND_RESTARTED]
    assert {place.executions(run) for run in runs.values()} == {1}


@_KINDS
def test_an_engine_that_is_stopped_says_that_it_was(
    own_place: Callable[..., Place], kind: str
) -> None:
    """What an engine ended as the system stopped it (SIGTERM) is BackendRestarted.

    On a busy machine it may give up before the container has ended: the next one ends it then,
    and the sentence says so.
    """
    place = own_place(kind)
    runs = submit_all(place, {"long": _LONG})
    place.engine.terminate()
    place.engine.start()
    found = recovered(place, runs)["long"]
    assert (found.exit_code, found.reason) == (143, Reason.BACKEND_RESTARTED), found.sentence
    by_the_next_one = "restarted while it ran, and stopped it" in found.message
    assert by_the_next_one or "before the engine itself started anew" in found.message
    assert "live-restore in the engine's daemon.json" in found.message


@_KINDS
@pytest.mark.parametrize("live_restore", [False, True])
def test_an_exit_code_that_nobody_saw_is_no_success(
    own_place: Callable[..., Place], kind: str, live_restore: bool
) -> None:
    """After SIGKILL of dockerd and of the shims the number that the engine makes up is ignored."""
    place = own_place(kind, live_restore=live_restore)
    runs = submit_all(place, {"long": _LONG, "stopping": _LONG})
    ids = [each["Id"] for run in runs.values() for each in place.containers(run.run_id)]
    holders = shims(place, ids)
    assert len(holders) == 2
    place.engine.kill()
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
    run = runs["stopping"]
    facts.link_once(run.log.folder, STOP, {"why": "cancel", "grace": 5.0, "at": time.time()})
    place.engine.start()
    for found in recovered(place, runs).values():
        assert (found.status, found.exit_code) == (RunStatus.LOST, None), found.sentence
        assert found.reason == Reason.BACKEND_RESTARTED


# -- memory ---------------------------------------------------------------------------------------

# An engine listens for memory that runs out from when it has answered the start on.
_EATS = f"{WAITS}; x=x; while :; do x=$x$x; done"


def out_of_memory(place: Place, script: str) -> Any:
    """The record of a run that takes more than its 32 MiB once its engine has started it."""
    run = place.submit(script, resources=Resources(memory=32 * MIB))
    (place.counters / "go").touch()
    return end(run)


@pytest.mark.tier("quick")
def test_out_of_memory_is_told(docker_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is killed for memory is OutOfMemory, with the limit and the next step."""
    monkeypatch.setattr(docker_runner, "_KNOWS_IN", 10.0)
    record = out_of_memory(docker_place, _EATS)
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 137)
    assert record.reason == Reason.OUT_OF_MEMORY
    assert "32 MiB" in record.message
    assert "--memory 64MiB" in record.message


def test_out_of_memory_in_a_child_is_told(
    docker_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that exits 1 because its child was killed for memory is OutOfMemory all the same."""
    monkeypatch.setattr(docker_runner, "_KNOWS_IN", 10.0)
    record = out_of_memory(docker_place, f"sh -c '{_EATS}' || exit 1")
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 1)
    assert record.reason == Reason.OUT_OF_MEMORY, record.sentence
    assert "32 MiB" in record.message


@pytest.mark.parametrize("code", [1, 137])
def test_an_engine_that_hears_of_memory_after_the_end_is_waited_for(
    docker_place: Place, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy engine may be told that a container ended before it is told that memory ran out."""
    monkeypatch.setattr(docker_runner, "_KNOWS_IN", 10.0)
    mine: Any = docker_place.manager.runner("docker")
    inspect, looked = mine._engine.inspect, []

    def late(name: str) -> Any:
        found = inspect(name)
        if found["State"]["OOMKilled"]:
            looked.append(found["State"]["Status"])
            found["State"]["OOMKilled"] = len(looked) > 3
        return found

    mine._engine.inspect = late
    record = out_of_memory(docker_place, f"sh -c '{_EATS}' || exit {code}")
    assert len(looked) > 3
    assert (record.reason, record.exit_code) == (Reason.OUT_OF_MEMORY, code), record.sentence


def test_a_kill_from_outside_is_not_called_out_of_memory(docker_place: Place) -> None:
    """137 without a word of the engine about memory is Signalled."""
    run = docker_place.submit("kill -9 $$", resources=Resources(memory=64 * MIB))
    assert end(run).reason == Reason.SIGNALLED


# -- two kernels, another engine, many runs -------------------------------------------------------


def test_two_kernels_that_recover_the_same_runs_agree(docker_place: Place) -> None:
    """Two kernels end the same ten runs at once: one record each, nothing doubled."""
    count = 10
    script = f"{WAITS}\nfor i in $(seq 50); do echo out $i; echo err $i >&2; done; exit %d"
    runs = [docker_place.submit(script % (i % 7)) for i in range(count)]
    for run in runs:
        running(run)
    hang_up(docker_place.manager)

    def work() -> None:
        mine = RunManager(docker_place.home)
        mine.recover()
        ended = [mine.get(run.run_id).wait(PATIENCE, check=False) for run in runs]
        until(lambda: not mine.history.open_ids())
        assert [run.exit_code for run in ended] == [i % 7 for i in range(count)]

    end_once(work, runs, docker_place.home, docker_place.counters / "go")
    for number, run in enumerate(runs):
        record = docker_place.manager.history.record(run.run_id)
        assert (record.exit_code, record.log_missing) == (number % 7, {})
        for stream in ("out", "err"):
            wanted = "".join(f"{stream} {i}\n" for i in range(1, 51))
            assert run.log.read(f"std{stream}").decode() == wanted
        assert docker_place.executions(run) == 1
        assert docker_place.containers(run.run_id) == []


def elsewhere(run: Run, host: str) -> None:
    """Asserts that this run says that it isn't in the engine that answers, and where to point."""
    run.manager.tracker.look([run.run_id])
    record = run.manager.tracker.record(run.run_id)
    assert record.status is RunStatus.RUNNING
    assert record.reason == Reason.BACKEND_UNREACHABLE
    assert host in record.message
    assert "DOCKER_HOST or docker context use" in record.message


@pytest.mark.parametrize("how", ["DOCKER_HOST", "context", "socket"])
def test_another_engine_is_not_believed(
    docker_engine: Engine,
    moby_engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """A run that another engine doesn't have is what it was, and says so; back there it ends."""
    monkeypatch.setattr(closing, "GOOD_FOR", 0.0)
    config = tmp_path / ".docker"
    wire = Wire(docker_engine.host)
    for name, engine in (("one", docker_engine), ("two", moby_engine)):
        _write_context(config, name, engine.host)

    def switch(name: str, engine: Engine) -> str:
        if how == "DOCKER_HOST":
            monkeypatch.setenv("DOCKER_HOST", engine.host)
            return engine.host
        if how == "context":
            said = json.dumps({"currentContext": name})
            (config / "config.json").write_text(said)
            return engine.host
        wire.down()  # or both would be behind it for a moment
        wire.target = urlsplit(engine.host)
        wire.up()
        monkeypatch.setenv("DOCKER_HOST", wire.host)
        return wire.host

    switch("one", docker_engine)
    here = Place(docker_engine, None, tmp_path)  # type: ignore[arg-type]
    run = here.submit(f"{WAITS}; exit 6")
    running(run)
    host = switch("two", moby_engine)
    # Behind one socket it is known by its identity, asked for when something is not found.
    until(lambda: run.record.reason)
    elsewhere(run, host)
    fresh = RunManager(here.home)
    fresh.recover()
    elsewhere(Run(fresh, run.run_id), host)
    hang_up(fresh)
    (here.counters / "go").touch()
    time.sleep(1.0)
    elsewhere(run, host)
    switch("one", docker_engine)
    assert end(run).exit_code == 6
    assert here.executions(run) == 1
    hang_up(here.manager)
    wire.close()


def _write_context(config: Path, name: str, host: str) -> None:
    """A context as the docker client keeps it."""
    folder = config / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    endpoint = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (folder / "meta.json").write_text(
        json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoint})
    )


def test_an_engine_that_is_away_is_no_outcome(docker_place: Place) -> None:
    """While no engine answers a run is what it was, BackendUnreachable; then it ends rightly."""
    run = docker_place.submit(f"{WAITS}; exit 5", keep=True)
    running(run)
    docker_place.wire.down()
    until(lambda: run.record.reason)
    (docker_place.counters / "go").touch()
    until(lambda: docker_place.containers(run.run_id)[0]["State"] == "exited")
    docker_place.manager.tracker.look([run.run_id])
    record = run.record
    assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.BACKEND_UNREACHABLE)
    docker_place.wire.up()
    assert end(run).exit_code == 5


@pytest.mark.parametrize(
    ("count", "seconds"),
    [
        (50, 5),
        pytest.param(
            200, 65, marks=[pytest.mark.tier("long"), pytest.mark.chaos, pytest.mark.timeout(0)]
        ),
    ],
)
def test_many_live_runs_cost_few_threads_and_connections(
    docker_place: Place, count: int, seconds: int
) -> None:
    """Any number of live runs needs at most 40 threads, 300 descriptors and one events stream."""
    spec = replace(docker_place.spec(""), script="exec sleep 600", volumes=())
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: docker_place.manager.submit(spec, "docker"), range(count)))
    for run in runs:
        running(run)
    wire = docker_place.wire
    streams = wire.count("GET", r"/events\?")
    wire.requests.clear()
    begun = time.monotonic()
    most_threads = most_files = 0
    while (watched := time.monotonic() - begun) < seconds:
        most_threads = max(most_threads, _of_us("task"))
        most_files = max(most_files, _of_us("fd"))
        time.sleep(0.1)
    asked = len(wire.requests)
    print(
        f"{count} live runs: {most_threads} threads, {most_files} descriptors with the wire's, "
        f"{asked * 60 / watched:.0f} requests a minute, {streams} streams of events opened"
    )
    assert streams == 1
    assert wire.count("GET", r"/events\?") == 0
    assert most_threads <= 40
    assert most_files <= 300
    # Far from a look at each every few seconds.
    assert asked <= min(count, count * (seconds + 10) / 60)


def _of_us(what: str) -> int:
    return len(os.listdir(f"/proc/self/{what}"))


# -- the rule about restarts, as a table ----------------------------------------------------------

_ENGINE_BEGAN = 1_800_000_000.0


def _exited(code: int, after: float, *, oom: bool = False, began: float = -60.0) -> dict[str, Any]:
    """A container's state, with times relative to the engine's start."""

    def stamp(seconds: float) -> str:
        return datetime.fromtimestamp(_ENGINE_BEGAN + seconds, UTC).isoformat()

    state = {"Status": "exited", "ExitCode": code, "OOMKilled": oom}
    times = {"StartedAt": stamp(began), "FinishedAt": stamp(after)}
    return {"Id": "x", "Config": {}, "State": {**state, **times}}


_SAW, _STOPPED_IT = Told(ended=True, asked=False), Told(ended=True, asked=True)
_NOTHING = Told(ended=False, asked=False)


@pytest.mark.parametrize(
    ("code", "after", "told", "expected"),
    [
        # It ended while no engine was there, or long before: the number is true.
        (0, -2.0, _NOTHING, (0, "")),
        (255, -2.0, _NOTHING, (255, "")),
        (137, -600.0, _NOTHING, (137, "")),
        # Another engine stopped it as it was stopped itself.
        (143, -14.0, _NOTHING, (143, "BackendRestarted")),
        # With live-restore it ended by itself, and the engine saw that.
        (0, 3.0, _SAW, (0, "")),
        (255, 3.0, _SAW, (255, "")),
        (137, 3.0, _SAW, (137, "")),
        # Without, the engine stops what it finds running.
        (143, 0.2, _STOPPED_IT, (143, "BackendRestarted")),
        (137, 10.3, _STOPPED_IT, (137, "BackendRestarted")),
        (0, 0.2, _STOPPED_IT, (0, "BackendRestarted")),
        (7, 0.2, _STOPPED_IT, (7, "BackendRestarted")),
        # Nobody saw the end: the number is made up.
        (255, 1.0, _NOTHING, (None, "BackendRestarted")),
        (0, 1.0, _NOTHING, (None, "BackendRestarted")),
        (255, 1.0, None, (None, "BackendRestarted")),
        # More than 256 events since: what can be said without them.
        (137, 1.0, _NOTHING, (137, "BackendRestarted")),
        (5, 1.0, _NOTHING, (5, "")),
        # Long after the start nothing of this is of interest.
        (255, 3600.0, None, (255, "")),
        (143, 3600.0, None, (143, "")),
    ],
)
def test_what_a_restart_makes_of_an_end(
    code: int, after: float, told: Told | None, expected: tuple[int | None, str]
) -> None:
    """An exit code around the engine's start is believed as far as the engine saw that end."""
    found = _exited(code, after)
    end = docker_state.snapshot(found, None, 0.0, _ENGINE_BEGAN, told).end
    assert end is not None
    assert (end.exit_code, str(end.reason)) == expected
    # Of an engine whose start isn't known, and of a container that began after it, it is the code.
    for state, began in ((found, None), (_exited(code, 5.0, began=1.0), _ENGINE_BEGAN)):
        plain = docker_state.snapshot(state, None, 0.0, began).end
        assert plain is not None
        assert (plain.exit_code, plain.reason) == (code, Reason.NONE)


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (-14.0, "it was ended (exit code 143) 14 s before the engine itself started anew"),
        (-0.05, "the engine was restarted while it ran, and stopped it (exit code 143)"),
        (0.2, "the engine was restarted while it ran, and stopped it (exit code 143)"),
    ],
)
def test_a_stop_by_the_engine_says_when(after: float, sentence: str) -> None:
    """What an engine stopped says whether that was before its own start; too near isn't told."""
    end = docker_state.snapshot(_exited(143, after), None, 0.0, _ENGINE_BEGAN, _NOTHING).end
    assert end is not None
    assert end.detail.startswith(sentence)
    assert "set live-restore in the engine's daemon.json" in end.detail


def test_a_stop_goes_before_a_restart() -> None:
    """What ended after a stop is no victim of the restart, but a number nobody saw is none."""
    stop = {"at": _ENGINE_BEGAN - 1.0, "why": "cancel"}
    ended = docker_state.snapshot(_exited(143, 0.2), stop, 0.0, _ENGINE_BEGAN, _STOPPED_IT).end
    assert ended is not None
    assert (ended.exit_code, ended.after_stop) == (143, True)
    assert ended.reason is Reason.NONE
    unseen = docker_state.snapshot(_exited(255, 0.2), stop, 0.0, _ENGINE_BEGAN, _NOTHING).end
    assert unseen is not None
    assert unseen.exit_code is None


def test_memory_goes_before_a_restart() -> None:
    """A container that was killed for memory says so, also around its engine's start."""
    found = _exited(137, 1.0, oom=True)
    end = docker_state.snapshot(found, None, 0.0, _ENGINE_BEGAN, None).end
    assert end is not None
    assert end.reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize("missing", ["ExitCode", "FinishedAt"])
def test_a_state_without_an_end_is_no_success(missing: str) -> None:
    """A container whose engine doesn't tell how or when it ended has no exit code."""
    found = _exited(0, 100.0)
    del found["State"][missing]
    end = docker_state.snapshot(found, None, 0.0, None).end
    assert end is not None
    assert end.exit_code is None
    negative = docker_state.snapshot(_exited(-1, 100.0), None, 0.0, None).end
    assert negative is not None
    assert negative.exit_code is None


# -- campaigns, see docs/reliability.md -----------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.timeout(0)
@pytest.mark.parametrize("mode", docker_kills.MODES)
def test_killed_kernels_lose_no_container(
    docker_engine: Engine, tmp_path: Path, chaos_seconds: int, mode: str
) -> None:
    """Whenever a kernel is killed, or an answer lost, each container ends once, with its code."""
    enough = 10 if chaos_seconds <= 20 else 0  # else as many as there are
    campaign = docker_kills.DockerCampaign(
        str(tmp_path), 1, mode, docker_engine, parallel=2, enough=enough
    )
    tally = assert_clean(campaign, chaos_seconds)
    assert tally.right + tally.never_started == tally.runs
    assert any(campaign.more.values()) == (mode == "answers")


@pytest.mark.chaos
@pytest.mark.timeout(0)
def test_the_judge_sees_a_container_that_is_left(docker_engine: Engine, tmp_path: Path) -> None:
    """A campaign with a container left behind, and with bytes changed, is not clean."""
    campaign = docker_kills.DockerCampaign(str(tmp_path), 2, "kernel", docker_engine, parallel=1)
    judge = campaign._judge

    def tamper(base: str, history: Any) -> None:
        run_id = next(iter(sorted(os.listdir(f"{base}/counters"))))
        labels = {LABEL: run_id, HISTORY: history.id}
        with docker_engine.client() as client:
            name = f"qwex-left-{run_id}"
            client.create_container(campaign._image, ["true"], name=name, labels=labels)
        log = Path(history.folder(run_id), "stdout.log")
        log.write_bytes(log.read_bytes()[:-1])
        judge(base, history)

    campaign._judge = tamper  # type: ignore[method-assign]
    faults = campaign.run(8.0).faults
    assert {name for name, count in faults.items() if count} == {"left_open", "lost_bytes"}


def test_a_start_given_up_with_its_client_never_happened() -> None:
    """A current engine's word for a start whose client was killed is LOST / NeverStarted."""
    state = {"Status": "created", "ExitCode": 128, "Error": "Canceled: context canceled"}
    end = docker_state.snapshot({"Id": "x", "Config": {}, "State": state}, None, 0.0).end
    assert end is not None
    assert (end.reason, end.exit_code) == (Reason.NEVER_STARTED, None)
