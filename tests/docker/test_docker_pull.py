"""Images that the engine doesn't have: real pulls from a registry on loopback, and their faults."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import Actor
from docker_helpers import LEAVES_SOCKETS, UNHURRIED
from engines import LABEL, Engine
from local_helpers import contents, until
from registry import PASSWORD, USER, Registry

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, LAUNCHER, PULL
from qwex_jupyter.manager import closing
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.docker import engine as docker_engine
from qwex_jupyter.runners.docker import puller
from qwex_jupyter.system import process

pytestmark = LEAVES_SOCKETS

PATIENCE = 180.0
BLOBS = "/v2/.*/blobs/"
DOCKERS = pytest.mark.parametrize("engine", ["docker", "moby"], indirect=True)


@pytest.fixture(autouse=True)
def pointed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docker client's own variable says which engine."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)


@pytest.fixture
def manager(home: str) -> RunManager:
    """A manager that waits for a busy engine."""
    return RunManager(home, settings=UNHURRIED)


def submit(manager: RunManager, image: str, script: str = "echo here", **more: Any) -> Run:
    """Hands a run with this image over."""
    spec = JobSpec(command=("sh",), script=script, image=image, grace=5, options=more)
    return manager.submit(spec, "docker")


def end(run: Run) -> Any:
    """Its final record; what it says to its user is shown with -s."""
    run.wait(PATIENCE, check=False)
    record = run.record
    print(f"\n  {record.status} / {record.reason}: {record.message}")
    return record


def has(engine: Engine, name: str) -> bool:
    """Whether the engine has an image."""
    return bool(engine.images(name))


def fact(run: Run, name: str) -> facts.Fact | None:
    """One of its files."""
    return facts.read_fact(run.log.folder, name)


def slow(registry: Registry, rate: float = 8e6) -> None:
    """Each layer of ``big`` (15 MB) takes about two seconds; until the wire is cleared."""
    registry.wire.slow("GET", BLOBS, rate)


def pulling(run: Run) -> bool:
    """Whether bytes of it are on their way."""
    return run.record.reason == Reason.PULLING and run.record.progress not in ("", "0%")


def readable(message: str, *words: str) -> None:
    """Asserts that a message is one or two sentences that name these words, and no raw text."""
    for word in words:
        assert word in message
    assert "\n" not in message
    assert len(message) < 300
    for raw in ("Error response", "Traceback", "errors:", "{", "docker.errors", "rpc error"):
        assert raw not in message


@DOCKERS
def test_submit_returns_at_once_and_says_how_far_it_is(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """A missing image is PENDING / Pulling with bytes and share until the run starts by itself."""
    image = registry.put("big", "team/big:1")
    slow(registry, 2e6)
    run = submit(manager, image)
    assert run.record.status is RunStatus.PENDING
    assert not has(engine, image)
    seen: list[tuple[str, str]] = []
    while (record := run.record).status is RunStatus.PENDING:
        if record.reason == Reason.PULLING and (record.message, record.progress) not in seen:
            seen.append((record.message, record.progress))
        time.sleep(0.1)
    assert end(run).status is RunStatus.SUCCEEDED
    assert run.log.read("stdout") == b"here\n"
    shares = [int(share.rstrip("%")) for _, share in seen if share]
    assert shares == sorted(shares)
    assert any(0 < share < 100 for share in shares), seen
    assert any(message.startswith(f"Pulling {image}: ") and "MiB of " in message
               for message, _ in seen), seen  # fmt: skip
    assert run.record.image_digest.startswith("sha256:")


def test_a_pull_outlives_its_kernel(engine: Engine, registry: Registry, home: str) -> None:
    """When the kernel is killed during the download the run starts all the same, and ends."""
    image = registry.put("big", "team/big:1")
    slow(registry, 1e6)

    def work() -> None:
        run = submit(RunManager(home, settings=UNHURRIED), image, "echo here; exit 4")
        until(lambda: fact(run, PULL) and not fact(run, LAUNCH))
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    assert Actor(work, "", diary=Path(f"{home}-diary")).finish() == -signal.SIGKILL
    assert not has(engine, image)
    manager = RunManager(home, settings=UNHURRIED)
    (run_id,) = manager.history.run_ids()
    run = Run(manager, run_id)
    assert fact(run, LAUNCH) is None
    assert manager.recover()
    registry.wire.clear()
    assert end(run).exit_code == 4
    assert run.log.read("stdout") == b"here\n"


def test_a_pull_is_cancelled_from_another_process(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """A cancel by another process ends the download and its launcher; nothing is started."""
    image = registry.put("big", "team/big:1")
    slow(registry, 1e6)
    run = submit(manager, image)
    launcher = fact(run, LAUNCHER)
    assert launcher is not None
    until(lambda: pulling(run) or engine.kind == "podman")

    def work() -> None:
        RunManager(manager.history.home).get(run.run_id).cancel()

    Actor(work, "", diary=Path(f"{manager.history.home}-diary")).done()
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
    until(lambda: process.standing(launcher) == process.GONE)
    time.sleep(2.0)  # an engine lets go of a download within a second
    assert not has(engine, image)
    with engine.client() as client:
        assert client.containers(all=True, filters={"label": f"{LABEL}={run.run_id}"}) == []


@DOCKERS
def test_a_killed_launcher_is_seen(
    engine: Engine, registry: Registry, manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose launcher was killed during the download is LOST / NeverStarted."""
    monkeypatch.setattr(closing, "_LAST_BREATH", 0.5)
    image = registry.put("big", "team/big:1")
    slow(registry, 1e6)
    run = submit(manager, image)
    launcher = fact(run, LAUNCHER)
    assert launcher is not None
    assert process.send(launcher, signal.SIGKILL)
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
    readable(record.message, "pulled its image", "%qwex rerun")


def test_a_start_timeout_holds_while_the_image_is_pulled(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """A run whose image takes longer than its start timeout ends, and is never started later."""
    image = registry.put("big", "team/big:1")
    slow(registry, 1e6)
    spec = JobSpec(command=("true",), image=image, start_timeout=2)
    run = manager.submit(spec, "docker")
    launcher = fact(run, LAUNCHER)
    assert launcher is not None
    record = end(run)
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED)
    until(lambda: process.standing(launcher) == process.GONE)
    time.sleep(1.0)
    assert not has(engine, image)


@pytest.mark.tier("quick")
def test_a_missing_tag_says_so(engine: Engine, registry: Registry, manager: RunManager) -> None:
    """A tag that doesn't exist is ImageNotFound, with what to look at."""
    registry.put("busybox", "team/app:1")
    image = f"{registry.address}/team/app:2"
    record = end(submit(manager, image))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    readable(record.message, image, "check its name and tag")
    assert record.exit_code is None


def test_a_missing_repository_says_so(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """A repository that doesn't exist is ImageNotFound."""
    image = f"{registry.address}/no/such:1"
    record = end(submit(manager, image))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    readable(record.message, image, "check its name")


def _log_in(address: str, password: str) -> None:
    config = Path(os.environ["DOCKER_CONFIG"])
    config.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (config / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))


@pytest.mark.parametrize("password", ["", "wrong"])
def test_no_access_says_how_to_log_in(
    engine: Engine, private_registry: Registry, manager: RunManager, password: str
) -> None:
    """Without credentials, and with wrong ones, the message has the ``docker login`` to run."""
    image = private_registry.put("busybox", "team/app:1")
    if password:
        _log_in(private_registry.address, password)
    record = end(submit(manager, image))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_PULL_FAILED)
    readable(record.message, image, f"docker login {private_registry.address}")


def test_credentials_of_the_docker_client_are_used(
    engine: Engine, private_registry: Registry, manager: RunManager
) -> None:
    """What ``docker login`` wrote into config.json gives access, and stands in no file of ours."""
    image = private_registry.put("busybox", "team/app:1")
    _log_in(private_registry.address, PASSWORD)
    run = submit(manager, image)
    assert end(run).status is RunStatus.SUCCEEDED
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    for path, data in contents(run.log.folder):
        assert secret not in data, path
        assert PASSWORD.encode() not in data, path


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_credential_helper_that_is_not_there(
    engine: Engine, registry: Registry, manager: RunManager, key: str
) -> None:
    """Nothing was pulled, and the message says what couldn't be got and where it is named."""
    config = Path(os.environ["DOCKER_CONFIG"])
    config.mkdir()
    image = f"{registry.address}/team/app:1"
    value: Any = "not-there" if key == "credsStore" else {registry.address: "not-there"}
    (config / "config.json").write_text(json.dumps({key: value}))
    record = end(submit(manager, image))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_PULL_FAILED)
    readable(record.message, "not-there", key)
    assert "was pulled" not in record.message


def test_a_pull_that_dies_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised on the way, nobody says that the image came."""

    def dies(self: Any, image: str, platform: str = "") -> Any:
        raise KeyError("unforeseen")

    monkeypatch.setattr(docker_engine.Engine, "pull", dies)
    pull = puller._Pull(docker_engine.Engine(), "app:1", "")
    pull.run()
    assert pull.done.is_set()
    assert pull.failed == (
        Reason.IMAGE_PULL_FAILED,
        "app:1 could not be pulled: KeyError: 'unforeseen'",
    )


def test_a_share_is_told_of_what_is_known() -> None:
    """Until the size of every layer is known there is no share: none is too high or goes back."""
    pull = puller._Pull(docker_engine.Engine(), "app:1", "")
    pull._note({"id": "0", "status": "Already exists"})
    assert pull.share() == ""
    told = []
    for layer, status, have, size in (
        ("a", "Pulling fs layer", 0, 0),
        ("b", "Waiting", 0, 0),
        ("a", "Downloading", 20 * 2**20, 100 * 2**20),
        ("a", "Download complete", 0, 0),
        ("a", "Extracting", 3, 100),
        ("b", "Downloading", 0, 300 * 2**20),
        ("b", "Downloading", 150 * 2**20, 300 * 2**20),
        ("b", "Verifying Checksum", 0, 0),
        ("b", "Pull complete", 0, 0),
    ):
        detail = {"current": have, "total": size}
        pull._note({"id": layer, "status": status, "progressDetail": detail})
        told.append((pull.text().removeprefix("Pulling app:1: "), pull.share()))
    assert told == [
        ("1 of 2 layers.", ""),
        ("1 of 3 layers.", ""),
        ("1 of 3 layers, 20 MiB so far.", ""),
        ("1 of 3 layers, 100 MiB so far.", ""),
        ("1 of 3 layers, 100 MiB so far.", ""),
        ("1 of 3 layers, 100 MiB of 400 MiB.", "25%"),
        ("1 of 3 layers, 250 MiB of 400 MiB.", "62%"),
        ("1 of 3 layers, 400 MiB of 400 MiB.", "100%"),
        ("2 of 3 layers, 400 MiB of 400 MiB.", "100%"),
    ]


def test_an_image_for_other_processors_says_so(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """An image of another architecture fails with that cause, before or when it is executed."""
    record = end(submit(manager, registry.put("wrongarch", "team/other:1")))
    assert record.status is RunStatus.FAILED
    assert record.reason in (Reason.IMAGE_PULL_FAILED, Reason.COMMAND_NOT_FOUND)
    readable(record.message, "kind of processor")


def test_a_cut_pull_goes_on(engine: Engine, registry: Registry, manager: RunManager) -> None:
    """A download that is cut twice is had in the end."""
    image = registry.put("big", "team/big:1")
    rule = registry.wire.cut("GET", BLOBS, 3_000_000, times=2)
    record = end(submit(manager, image))
    assert record.status is RunStatus.SUCCEEDED
    assert rule.hits == 2


def test_a_pull_that_is_always_cut_fails_with_its_cause(
    engine: Engine, registry: Registry, manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that is cut each time ends as ImagePullFailed, not as a hang."""
    image = registry.put("busybox", "team/app:1")
    registry.wire.cut("GET", BLOBS, 100, times=None)  # nothing of a layer, so it never gets on
    record = end(submit(manager, image))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_PULL_FAILED)
    readable(record.message, image, "Check the network")


def test_a_registry_that_is_away_says_so(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """A registry that can't be reached is ImagePullFailed with the network as the cause."""
    image = f"{registry.address}/team/app:1"
    registry.wire.down()
    record = end(submit(manager, image))
    registry.wire.up()
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_PULL_FAILED)
    readable(record.message, image, "Check the network")


def test_pull_never_gets_nothing(engine: Engine, registry: Registry, manager: RunManager) -> None:
    """With --pull=never a missing image is ImageNotFound at once, and nobody asks a registry."""
    image = registry.put("busybox", "team/app:1")
    before = len(registry.wire.requests)
    record = end(submit(manager, image, pull="never"))
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    readable(record.message, image, "--pull=never")
    assert len(registry.wire.requests) == before


def test_pull_always_takes_what_the_tag_means_now(
    engine: Engine, registry: Registry, manager: RunManager
) -> None:
    """With --pull=always the registry is asked each time; without, what is here is taken."""
    image = registry.put("busybox", "team/app:1")
    script = "sha256sum < /unique"
    said = []
    for pull in ("missing", "missing", "always"):
        run = submit(manager, image, script, pull=pull)
        assert end(run).status is RunStatus.SUCCEEDED
        said.append((run.log.read("stdout"), run.record.image_digest))
        assert registry.put("busybox", "team/app:1") == image  # the tag means another one now
    first, second, third = said
    assert first == second
    assert first[0] != third[0]
    assert first[1] != third[1]


def test_the_engine_away_during_a_pull_is_tried_again(engine: Engine, manager: RunManager) -> None:
    """A connection that breaks is tried three times, and then said."""
    asked: list[str] = []

    class Away:
        def pull(self, image: str, platform: str) -> Iterator[dict[str, Any]]:
            asked.append(image)
            raise puller.BackendUnreachable("The engine went away (Connection reset).")

    pull = puller._Pull(Away(), "x:1", "")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(puller, "_PAUSE", 0.0)
        pull.run()
    assert len(asked) == 3
    assert pull.failed is not None
    assert pull.failed[0] is Reason.IMAGE_PULL_FAILED
