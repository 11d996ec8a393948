"""The engines of the tests themselves: they run, they end whole, and a dead session harms none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import engine_folder
import engines
import go_build
import images
import leftovers
import pytest
import requests
from engines import KINDS, Engine, available
from environment import CACHE, ROOT, install_packages
from leftovers import alive
from shared import Owned

pytestmark = pytest.mark.once

Make = Callable[..., Engine]
DOCKERS = ("docker", "moby")


@contextmanager
def container(
    engine: Engine, recipe: str, command: Sequence[str], user: str = "", **options: Any
) -> Iterator[tuple[Any, str]]:
    """A client and a container of this image without a network, created; both gone afterwards."""
    name, client = images.image(engine, recipe), engine.client()
    try:
        host = client.create_host_config(network_mode="none", **options)
        made = client.create_container(
            name, list(command), user=user or None, host_config=host, labels=["qwex.run"]
        )
        try:
            yield client, made["Id"]
        finally:
            if engine.pid or not engine.owned.ours:
                client.remove_container(made["Id"], v=True, force=True)
    finally:
        client.close()


def run(engine: Engine, recipe: str, *command: str) -> tuple[int, str]:
    """The exit code and the output of a container."""
    with container(engine, recipe, command) as (client, name):
        client.start(name)
        code = client.wait(name)["StatusCode"]
        return code, client.logs(name).decode()


# -- what they do ---------------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_a_container_without_network_gives_output_and_exit_code(engine: Engine) -> None:
    """A container with the network `none` runs on every engine and gives its exit code."""
    assert run(engine, "busybox", "sh", "-c", "echo hello; exit 7") == (7, "hello\n")


def test_each_engine_is_the_one_it_claims_to_be(engine: Engine) -> None:
    """Debian's Docker speaks API 1.41, the current one 1.56, and Podman says that it is Podman."""
    with engine.client(version="auto") as client:
        version = client.version()
    names = [each["Name"] for each in version["Components"]]
    assert ("Podman Engine" in names) == (engine.kind == "podman")
    if engine.owned.ours:
        assert version["ApiVersion"] == ("1.56" if engine.kind == "moby" else "1.41")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_an_engine_has_stopped(own_engine: Make, kind: str) -> None:
    """After `stop` no process, mount, state or data of the engine and its containers is left."""
    engine = own_engine(kind)
    folders = [engine.folder, Path(engine.host.removeprefix("unix://")).parent]
    with container(engine, "busybox", ["sleep", "1000"]) as (client, name):
        client.start(name)
        inside = client.inspect_container(name)["State"]["Pid"]
        outside = [engine.pid, *leftovers.processes(folders)]
        assert alive(inside)
        assert leftovers.mounts(folders)
        assert len(outside) > 1
        engine.stop()
    assert not [pid for pid in (inside, *outside) if alive(pid)]
    assert leftovers.processes(folders) == []
    assert leftovers.mounts(folders) == []
    assert not [folder for folder in folders if folder.exists()]


SESSION = """
import os, signal, sys
sys.path.insert(0, "rigs")
from pathlib import Path
import engine_folder, images
from engines import Engine
engine_folder.FOLDER = Path(sys.argv[2])
engine = Engine(sys.argv[1]).start()
name, client = images.image(engine, "busybox"), engine.client()
host = client.create_host_config(network_mode="none")
made = client.create_container(name, ["sleep", "1000"], host_config=host)
client.start(made["Id"])
print(engine.pid, client.inspect_container(made["Id"])["State"]["Pid"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_session_does_not_break_the_next(
    own_engine: Make, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine of a session that was killed is cleared away, and its images are still there."""
    if why := available(kind):
        pytest.skip(why)
    monkeypatch.setattr(engine_folder, "FOLDER", tmp_path)
    dead = subprocess.run(
        [sys.executable, "-c", SESSION, kind, str(tmp_path)],
        cwd=ROOT / "tests",
        env={**os.environ, "XDG_CACHE_HOME": str(CACHE.parent)},  # where the current engine lies
        capture_output=True,
        text=True,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    pids = [int(word) for word in dead.stdout.split()]
    assert all(alive(pid) for pid in pids)
    with Engine(kind) as engine:
        assert engine.folder == tmp_path / kind
        assert not any(alive(pid) for pid in pids)
        with engine.client() as client:
            assert client.containers(all=True) == []
            assert client.inspect_image("qwex-test/busybox:1")
        assert run(engine, "busybox", "true") == (0, "")


def test_two_sessions_at_once_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data folder that a living session holds is not taken; released, it is."""
    monkeypatch.setattr(engine_folder, "FOLDER", tmp_path)
    first = engine_folder.Folder.claim("docker", private=False)
    second = engine_folder.Folder.claim("docker", private=False)
    assert first.path != second.path
    assert first.run != second.run
    first.release()
    third = engine_folder.Folder.claim("docker", private=False)
    assert (third.path, third.run) == (first.path, first.run)
    for folder in (second, third):
        folder.release()


# -- killed, frozen, told otherwise ---------------------------------------------------------------


@pytest.mark.parametrize("live_restore", [False, True], ids=["plain", "live-restore"])
@pytest.mark.parametrize("kind", DOCKERS)
def test_a_killed_engine_leaves_its_containers_running(
    own_engine: Make, kind: str, live_restore: bool
) -> None:
    """`kill` ends the engine alone; started again, it keeps or ends what ran, by live-restore."""
    engine = own_engine(kind, live_restore=live_restore)
    with container(engine, "busybox", ["sleep", "1000"], init=True) as (client, name):
        client.start(name)
        inside = client.inspect_container(name)["State"]["Pid"]
        engine.kill()
        assert engine.pid == 0
        assert alive(inside)
        engine.start()
        state = client.inspect_container(name)["State"]
        assert (state["Running"], alive(inside)) == (live_restore, live_restore)


@pytest.mark.parametrize("kind", ["podman"])
def test_podmans_containers_outlive_its_service(own_engine: Make, kind: str) -> None:
    """A container goes on without Podman's service, and is there for the next one."""
    engine = own_engine(kind)
    with container(engine, "busybox", ["sleep", "1000"]) as (client, name):
        client.start(name)
        inside = client.inspect_container(name)["State"]["Pid"]
        engine.kill()
        engine.start()
        assert client.inspect_container(name)["State"]["Pid"] == inside
        assert alive(inside)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_engine_does_not_answer(own_engine: Make, kind: str) -> None:
    """What is asked of a frozen engine runs into the timeout; thawed, it answers again."""
    engine = own_engine(kind)
    client = engine.client()
    patience = client.timeout
    try:
        engine.freeze()
        assert engine.frozen
        client.timeout = 1
        with pytest.raises(requests.exceptions.RequestException):
            client.ping()
        engine.thaw()
        client.timeout = patience  # it is behind with all that it was asked
        assert client.ping()
    finally:
        client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_engine_can_be_stopped(own_engine: Make, kind: str) -> None:
    """`stop` ends a frozen engine too."""
    engine = own_engine(kind)
    pid = engine.pid
    engine.freeze()
    engine.stop()
    assert not alive(pid)


def test_an_engine_has_the_log_options_it_was_given(own_engine: Make) -> None:
    """The default log options of an engine are those of its maker."""
    engine = own_engine("docker", log_opts={"max-size": "1m"})
    with container(engine, "busybox", ["true"]) as (client, name):
        found = client.inspect_container(name)["HostConfig"]["LogConfig"]
    assert found == {"Type": "json-file", "Config": {"max-size": "1m"}}


def test_an_engine_that_does_not_come_up_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_engine: Make
) -> None:
    """What the engine said last is in the error, and nothing of it stays."""
    if why := available("docker"):
        pytest.skip(why)
    monkeypatch.setattr(engine_folder, "FOLDER", tmp_path)
    engine = Engine("docker", private=True, flags=["--no-such-flag"])
    with pytest.raises(engines.EngineFailed, match="unknown flag: --no-such-flag"):
        engine.start()
    assert list(tmp_path.glob("own-*")) == []


# -- a user's own ---------------------------------------------------------------------------------


def test_a_users_own_engine_is_used_but_not_touched(
    docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root a user's engine serves: it isn't killed, and only containers of ours go."""
    images.image(docker_engine, "busybox")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(engines, "_USERS_HOST", docker_engine.host)
    assert available("docker") == ""
    assert "run the tests as root" in available("moby")
    theirs = Engine("docker").start()
    assert (theirs.owned, theirs.pid, theirs.host) == (Owned.USERS, 0, docker_engine.host)
    for act in (theirs.kill, theirs.freeze, theirs.restart):
        with pytest.raises(pytest.skip.Exception, match="the user's own"):
            act()
    client = theirs.client()
    # Others use this engine too.
    somebodys = label = f"somebodys-{os.getpid()}"
    client.tag("qwex-test/busybox:1", somebodys, "1")
    try:
        host = client.create_host_config(network_mode="none")
        made = {
            name: client.create_container(name, "true", host_config=host, labels=[label])["Id"]
            for name in (f"{somebodys}:1", "qwex-test/busybox:1")
        }
        assert theirs.remove_containers(label) == [made["qwex-test/busybox:1"]]
        client.remove_container(made[f"{somebodys}:1"])
    finally:
        client.remove_image(f"{somebodys}:1", force=True)
        client.close()
    theirs.stop()
    assert engines.answers(docker_engine.host)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_said_with_the_way_to_get_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without the programs is told the line that installs them."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engines, "which", lambda program: None)
    assert re.search(r"apt-get install .*\bbusybox-static$", available(kind))
    monkeypatch.setattr(engines, "has", lambda program: True)
    monkeypatch.setattr(go_build, "built", lambda modules: False)
    assert available(kind).endswith("python3 tests/rigs/engines.py") == (kind == "moby")


# -- which tests are run --------------------------------------------------------------------------


def collected(*arguments: str) -> str:
    """What pytest would run of this file."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_tests_with_engines_can_be_left_out() -> None:
    """The marker is put on all tests with an engine, and kinds are chosen without a skip."""
    without = collected("-m", "not engine")
    assert "which_tests" not in without
    assert "test_two_sessions_at_once" in without
    assert "gives_output" not in without
    assert "has_stopped" not in without
    docker = collected("--engines", "docker")
    assert "gives_output_and_exit_code[docker]" in docker
    assert "has_stopped[docker]" in docker
    assert "test_an_engine_has_the_log_options" in docker
    for kind in ("moby", "podman"):
        assert f"gives_output_and_exit_code[{kind}]" not in docker
        assert f"has_stopped[{kind}]" not in docker


def test_a_test_sees_no_settings_of_a_docker_client() -> None:
    """No variable of a Docker client is set in a test, and its settings are a folder to be."""
    assert not set(os.environ) & {*engines.CLIENT_VARIABLES} - {"DOCKER_CONFIG"}
    assert not Path(os.environ["DOCKER_CONFIG"]).exists()


def test_no_engine_of_the_machine_is_reached_by_accident(tmp_path: Path) -> None:
    """What the machine says about its engine is taken away before a test begins."""
    inner = f"{__file__}::{test_a_test_sees_no_settings_of_a_docker_client.__name__}"
    theirs = {name: str(tmp_path) for name in engines.CLIENT_VARIABLES}
    command = [sys.executable, "-m", "pytest", "-q", inner]
    env = {**os.environ, **theirs}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- images ---------------------------------------------------------------------------------------

SAYS = {
    "busybox": (
        ["sh", "-c", "stat -c %a /tmp; id -u; stat -c %U /home/worker"],
        (0, "1777\n0\nworker\n"),
    ),
    "python": (["python", "-c", "import ssl, ctypes, json; print('yes')"], (0, "yes\n")),
    "bare": (["/bin/echo", "yes"], (0, "yes\n")),
    "entry": (["sh", "-c", "echo $MARK"], (0, "entry\n")),
    "worker": (["sh", "-c", "id -un; pwd"], (0, "worker\n/srv\n")),
    "big": (["sh", "-c", "cat /big/* | wc -c"], (0, "30000000\n")),
}


@pytest.mark.parametrize("recipe", SAYS)
def test_an_image_is_what_it_says(engine: Engine, recipe: str) -> None:
    """Each image runs on each engine and has what its name promises."""
    command, says = SAYS[recipe]
    assert run(engine, recipe, *command) == says


def test_the_python_image_works_for_any_user(engine: Engine) -> None:
    """A user without rights finds the interpreter and all of its libraries."""
    command = ["python3", "-c", "import os, ssl; print(os.getuid())"]
    with container(engine, "python", command, user="1234") as (client, name):
        client.start(name)
        assert client.wait(name)["StatusCode"] == 0
        assert client.logs(name) == b"1234\n"


def test_the_bare_image_has_no_shell(engine: Engine) -> None:
    """There is one program in two names, and nothing that runs a script."""
    with (
        container(engine, "bare", ["sh", "-c", "true"]) as (client, name),
        pytest.raises(Exception, match="executable file not found"),
    ):
        client.start(name)


def test_the_image_of_another_architecture_can_not_run(engine: Engine) -> None:
    """It says another architecture than this machine's, and none of its programs starts."""
    with container(engine, "wrongarch", ["true"]) as (client, name):
        found = client.inspect_image("qwex-test/wrongarch:1")["Architecture"]
        assert found not in ("", images.ARCHITECTURE)
        try:
            client.start(name)
            assert client.wait(name)["StatusCode"] != 0
            assert b"exec format error" in client.logs(name)
        except requests.exceptions.HTTPError as why:
            assert "exec format error" in str(why)


def test_an_image_is_made_anew_only_when_it_changed(
    own_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe gives the image that is there, another one replaces it."""
    made: list[str] = []
    before = images.archive
    monkeypatch.setattr(images, "archive", lambda *a: made.append(a[0]) or before(*a))
    engine = own_engine()
    images.image(engine, "bare")
    made.clear()
    images.image(engine, "bare")
    assert made == []
    monkeypatch.setattr(images, "_made_of", lambda name: "something else")
    images.image(engine, "bare")
    images.image(engine, "bare")
    assert made == ["bare"]


def test_packages_are_only_asked_for_without_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who may not install is told the line, and nothing is run."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(subprocess, "run", None)
    assert not install_packages(["docker.io", "runc"], why="an engine")
    assert "apt-get install docker.io runc" in capsys.readouterr().out
