"""Every option of a container's run, on real engines: what the program inside sees of it."""

from __future__ import annotations

import io
import json
import os
import platform
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from container_options import ContainerOptions
from docker_helpers import UNHURRIED, let_off
from engines import HISTORY, KINDS, Engine, which
from environment import ROOT
from images import image
from kernel import environment
from local_helpers import contents, until
from somewhere import Somewhere
from wire import Wire

from qwex_jupyter.commands import options
from qwex_jupyter.commands.line import split
from qwex_jupyter.disk import carry, facts
from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.errors import QwexError, SpecError, SubmitFailed, UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.submission import values
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.docker import body
from qwex_jupyter.runners.docker import runner as docker
from qwex_jupyter.testing.contract import WEIRD

PATIENCE = 180.0


class There(Somewhere):
    """One engine, and a manager whose runs are its containers."""

    runner = "docker"

    def __init__(self, engine: Engine, manager: RunManager) -> None:
        self.engine, self.manager = engine, manager
        self.podman = engine.kind == "podman"

    def image(self, of: str) -> str:
        """See `Somewhere`."""
        return image(self.engine, of)

    def let_off(self, run: Run) -> None:
        """See `Somewhere`."""
        let_off(self.engine, run)

    def inspect(self, run: Run) -> dict[str, Any]:
        """The engine's own description of a run's container."""
        with self.engine.client() as client:
            found: dict[str, Any] = client.inspect_container(f"qwex-{run.run_id}")
            return found

    def left(self, run: Run) -> bool:
        """Whether the engine has the run's container."""
        with self.engine.client() as client:
            return bool(client.containers(all=True, filters={"name": f"qwex-{run.run_id}"}))

    def free(self, run: Run) -> None:
        """Returns when the run's container is gone, which needs no more than looking."""
        self.settle(run)
        # Whoever came first removes it; the other doesn't wait for that.
        until(lambda: not self.left(run))

    def volumes(self, **filters: Any) -> set[str]:
        """The names of the engine's volumes, of which others have some too."""
        with self.engine.client() as client:
            return {found["Name"] for found in client.volumes(filters)["Volumes"] or ()}

    def volumes_of(self, run: Run) -> set[str]:
        """The names of the volumes of a run's container."""
        return {found["Name"] for found in self.inspect(run)["Mounts"] if found["Type"] == "volume"}


@pytest.fixture
def there(
    engine: Engine, home: str, monkeypatch: pytest.MonkeyPatch, engine_of_this_machine: None
) -> There:
    """Each engine in turn."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return There(engine, RunManager(home, settings=UNHURRIED))


class TestOptions(ContainerOptions):
    """What they mean on a cluster as well."""

    instead = r"--here.*--files"


# -- what is executed ------------------------------------------------------------------------------


def test_an_image_without_python_runs_shell(there: There) -> None:
    """Nothing of ours in the image needs Python; a cell that does says what is missing."""
    assert there.says("sh", "command -v python3 || echo none") == "none\n"
    run = there.end("python", "print(1)")
    assert (run.status, run.record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
    assert "'python' can't be run" in run.record.message


def test_a_cell_is_bash_where_there_is_bash(there: There, here: Path) -> None:
    """The image's bash is preferred, with a failure inside a pipe counted."""
    bash = '#!/bin/sh\necho "bash $*" | sed s,/qwex/,,\n'
    (here / "bash").write_text(bash)
    (here / "bash").chmod(0o755)
    line = f"-v {here}:/tools -e PATH=/tools:/bin"
    assert there.says(line, "echo never") == "bash -eo pipefail cell.sh\n"


def test_an_archive_ends_where_it_ends(home: str, here: Path) -> None:
    """What is put into a container ends with the two blocks that end a tar, without padding."""
    (here / "data").write_text("x" * 100_000)
    spec = JobSpec(script="true", image="busybox", files=("data",), command=("sh",))
    plan = body.make_plan(spec, "r", "h")
    folder = here / "run"
    folder.mkdir()
    (folder / spec.script_name).write_text("true")
    carry.take(spec, home, RunFolder(str(folder)))
    with body.archive(plan, RunFolder(str(folder))) as file:
        whole = file.read()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert tar.getnames() == ["cell.sh", "work", "work/data"]
        last = tar.getmembers()[-1]
    assert len(whole) == last.offset_data + -(-last.size // 512) * 512 + 1024


def test_a_home_can_be_written_where_the_root_can_not(there: There, here: Path) -> None:
    """With ``--read-only`` the home that --here brings is there to be written, and only that."""
    cell = "echo x > $HOME/new && cat $HOME/new; touch /x 2>/dev/null || echo refused"
    assert there.says("--read-only --here sh", cell) == "x\nrefused\n"


def test_an_image_with_a_user_and_a_folder(there: There, here: Path) -> None:
    """An image's USER holds where copies lie, and can write there."""
    (here / "data").write_text("carried\n")
    cell = "id -u; pwd; echo more >> data; cat data; touch new; ls"
    said = there.says("--files data -- sh", cell, of="worker")
    assert said == "1234\n/qwex/work\ncarried\nmore\ndata\nnew\n"
    assert (here / "data").read_text() == "carried\n"


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_variables_reach_the_program(
    there: There, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given, inherited, from a file, or secret: the program sees each value."""
    monkeypatch.setenv("FROM_HERE", "inherited")
    monkeypatch.setenv("TOKEN", "hunter2 äö")
    (here / "vars.env").write_text("# a comment\nF=1\nG=two  words\n")
    line = "-e 'A=x  y' -e EMPTY= -e FROM_HERE --env-file vars.env --secret TOKEN sh"
    cell = 'echo "$A|${EMPTY-unset}|$FROM_HERE|$F|$G|$TOKEN"'
    assert there.says(line, cell) == "x  y||inherited|1|two  words|hunter2 äö\n"


def test_an_env_file_is_read_as_docker_reads_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines end at newlines and nowhere else: a value keeps its other separators."""
    monkeypatch.setenv("FROM_HERE", "inherited")
    (here / "vars.env").write_bytes("F=a\u2028b\x0cc\r\nFROM_HERE\n  G= 1 \n".encode())
    spec = JobSpec(command=("true",), env_files=("vars.env",))
    assert values(spec) == {"F": "a\u2028b\x0cc", "FROM_HERE": "inherited", "G": " 1 "}
    (here / "vars.env").write_bytes(b"\xef\xbb\xbfTOKEN=abc\n")
    assert values(spec) == {"TOKEN": "abc"}


@pytest.mark.parametrize("line", ["export TOKEN=abc", "A B=c", "A =b", "=b", "A\tB=c", "export A"])
def test_a_line_of_an_env_file_that_names_no_variable(here: Path, line: str) -> None:
    """It is refused, as docker does; the variable would be missing without a word."""
    (here / "vars.env").write_text(f"{line}\n")
    with pytest.raises(SpecError, match="isn't the name of a variable") as caught:
        values(JobSpec(command=("true",), env_files=("vars.env",)))
    assert "abc" not in str(caught.value)
    assert ("Take export away" in str(caught.value)) == line.startswith("export")


def test_what_every_run_is_told(there: There, here: Path) -> None:
    """QWEX_RUN_ID is the run's, and PYTHONUNBUFFERED is 1 unless any option sets it."""
    run = there.end("sh", "echo $QWEX_RUN_ID $PYTHONUNBUFFERED")
    assert run.logs("stdout") == f"{run.run_id} 1\n"
    (here / "vars.env").write_text("PYTHONUNBUFFERED=\n")
    for line in ("-e PYTHONUNBUFFERED=", "--env-file vars.env"):
        assert there.says(f"{line} sh", 'env | grep UNBUFFERED; echo "[$PYTHONUNBUFFERED]"') == (
            "PYTHONUNBUFFERED=\n[]\n"
        )


def test_an_inherited_value_goes_before_the_default(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-e NAME`` has the value of here, also for a variable that we would set."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "mine")
    assert there.says("-e PYTHONUNBUFFERED sh", "echo $PYTHONUNBUFFERED") == "mine\n"
    plan = there.manager.runner("docker").plan(there.spec("-e PYTHONUNBUFFERED true"), "r")
    assert not [pair for pair in plan["body"]["Env"] if pair.startswith("PYTHONUNBUFFERED")]


def test_a_secret_stands_in_no_file_of_ours(
    there: There, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret is in no file, plan or dry run; whoever may inspect the container sees it."""
    monkeypatch.setenv("TOKEN", "hunter2")
    run = there.end("--secret TOKEN --keep sh", "echo ${#TOKEN}")
    assert run.logs("stdout") == "7\n"
    assert "TOKEN=hunter2" in there.inspect(run)["Config"]["Env"]
    assert not [path for path, data in contents(home) if b"hunter2" in data]
    runner = there.manager.runner("docker")
    plan = runner.plan(there.spec("--secret TOKEN sh", "true"), "20261124-120000-abcdef")
    assert "hunter2" not in json.dumps(plan) + runner.show(plan) + json.dumps(run.record.to_json())
    assert "-e TOKEN" in runner.show(plan)


def test_a_python_script_imports_from_its_folder(there: There, here: Path) -> None:
    """The working folder is on the path of a Python script; it has a name and a home."""
    (here / "mine.py").write_text("NAME = 'of the folder'\n")
    cell = "import mine, getpass, os\nprint(mine.NAME, getpass.getuser() != '', os.getcwd())"
    said = there.says("--files mine.py -- python", cell, of="python")
    assert said == "of the folder True /qwex/work\n"
    said = there.says("--here python", cell + "\nopen(os.path.expanduser('~/x'), 'w')", of="python")
    assert said == f"of the folder True {here}\n"


PRINTS_PATH = "import os; print(os.environ['PYTHONPATH'])"


@pytest.fixture
def with_path(there: There) -> Iterator[Callable[[str], str]]:
    """Runs a Python cell in an image with a PYTHONPATH; what the cell has of it."""
    made = with_env(there.engine, "python", "PYTHONPATH=/opt/lib:/opt/more")

    def run(line: str) -> str:
        spec = replace(there.spec(line, PRINTS_PATH), image=made)
        run = there.manager.submit(spec, "docker").wait(PATIENCE)
        there.free(run)
        return run.logs("stdout").removesuffix("\n")

    yield run
    with there.engine.client() as client:
        client.remove_image(made, force=True)


def test_a_python_path_of_the_image_is_kept(
    with_path: Callable[[str], str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder goes before an image's own PYTHONPATH; one that is given replaces both."""
    (here / "mine.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", "/inherited")
    assert with_path("--files mine.py -- python") == ".:/opt/lib:/opt/more"
    assert with_path("-e PYTHONPATH=/mine python") == "/mine"
    assert with_path("-e PYTHONPATH python") == "/inherited"


def test_a_python_path_of_an_env_file_replaces_the_image_s(
    with_path: Callable[[str], str], here: Path
) -> None:
    """A PYTHONPATH from an env file is one that is given."""
    (here / "vars.env").write_text("PYTHONPATH=/of the file\n")
    assert with_path("--env-file vars.env python") == "/of the file"


def with_env(engine: Engine, name: str, pair: str) -> str:
    """An image of the tests with one more variable; whoever makes it removes it."""
    changed = f"qwex-test/changed-{os.getpid()}"
    with engine.client() as client:
        made = client.create_container(image(engine, name), ["true"])
        client.commit(made["Id"], changed, "1", changes=[f"ENV {pair}"])
        client.remove_container(made["Id"], v=True)
    return f"{changed}:1"


# -- folders and files -----------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_copies_lie_in_the_working_folder(there: There, here: Path) -> None:
    """Nested, with any name, executable or not: copies are what the originals, or links, led to."""
    (here / "data" / "deep").mkdir(parents=True)
    (here / "data" / "deep" / "ä b.txt").write_text("nested\n")
    (here / "data" / "latest").symlink_to("deep")
    (here / "tool.sh").write_text("#!/bin/sh\necho executed\n")
    (here / "tool.sh").chmod(0o700)
    (here / "secret.txt").write_text("for me\n")
    (here / "secret.txt").chmod(0o600)
    cell = (
        "cat 'data/latest/ä b.txt'; ./tool.sh; test -L data/latest || echo followed;"
        "cat secret.txt; test -x secret.txt || echo plain; ls"
    )
    expected = "nested\nexecuted\nfollowed\nfor me\nplain\ndata\nsecret.txt\ntool.sh\n"
    for user in ("", "-u 1234 "):
        line = f"{user}--files data tool.sh secret.txt -- sh"
        assert there.says(line, cell) == expected


def test_a_nested_copy_keeps_its_relative_name(there: There, here: Path) -> None:
    """``--files a/b/c`` lies at a/b/c, what is outside lies at its own name, all writable."""
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "b" / "c").write_text("c\n")
    (here.parent / "outside").write_text("outside\n")
    cell = "cat a/b/c outside; touch a/b/new a/new new && find . -name new | sort"
    said = there.says("-u 1234 --files a/b/c ../outside -- sh", cell)
    assert said == "c\noutside\n./a/b/new\n./a/new\n./new\n"


def test_a_large_copy_arrives_whole(there: There, here: Path) -> None:
    """50 MB arrive byte by byte."""
    block = os.urandom(1 << 20)
    with (here / "large").open("wb") as file:
        for number in range(50):
            file.write(block[number:] + block[:number])
    expected = subprocess.run(["sha256sum", "large"], capture_output=True, check=True).stdout
    assert there.says("--files large -- sha256sum large") == expected.decode()


@pytest.mark.parametrize("by", ["terminal", "magic"])
def test_a_script_argument_goes_along(there: There, here: Path, by: str) -> None:
    """``run --image=... sh script.sh`` carries the script that lies here."""
    (here / "script.sh").write_text("echo carried $1\n")
    line = f"run --image={image(there.engine, 'busybox')} sh script.sh 'x y'"
    assert "carried x y\n" in terminal_or_magic(by, there, here, line)


def terminal_or_magic(by: str, there: There, here: Path, line: str) -> str:
    """What ``qwex LINE`` in a terminal, or ``%qwex LINE`` in IPython, prints."""
    command = [sys.executable, "-m", "qwex_jupyter.cli", *split(line)]
    if by == "magic":
        cell = f"%load_ext qwex_jupyter\n%qwex {line}"
        command = [sys.executable, "-m", "IPython", "--quick", "--colors=NoColor", "-c", cell]
    more = {"DOCKER_HOST": there.engine.host, "QWEX_DISPLAY": "stream"}
    env = environment(here.parent / "user", **more)
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_this_folder_is_shared(there: There, here: Path) -> None:
    """``--here`` is this folder at the same path; HOME can be written and is none of it."""
    (here / "mine").write_text("mine\n")
    cell = "pwd; cat mine; echo x > new; echo y > $HOME/y && cat $HOME/y; id -u; echo $USER"
    said = there.says("--here sh", cell).splitlines()
    assert said[:3] == [str(here), "mine", "y"]
    assert said[3] == str(os.getuid())
    assert sorted(p.name for p in here.iterdir()) == ["mine", "new"]
    assert (here / "new").stat().st_uid == os.getuid()


@pytest.fixture
def everybodys(engine: Engine) -> Iterator[Path]:
    """A folder that another user may look into; pytest's own are closed again by any session.

    The containers of the homes in it are removed with it.
    """
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        for home in Path(name).iterdir():
            if (found := facts.read_fact(str(home), "id")) is not None:
                engine.remove_containers(f"{HISTORY}={found['id']}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else: run as root")
def test_what_another_user_writes_here_is_theirs(there: There, everybodys: Path) -> None:
    """``--here`` of uid 1234: its files, a HOME it can write, a name."""
    here, home = everybodys / "here", everybodys / "home of 1234"
    for folder in (here, home):
        folder.mkdir(0o700)
        os.chown(folder, 1234, 1234)
    made = image(there.engine, "python")
    program = f"""
import os
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.runners.docker import runner as docker
from qwex_jupyter.model.spec import JobSpec
docker._IN_CONTAINER = ()
# What is imported at first use may be where only root can read.
before = RunManager({str(everybodys / "home of root")!r})
before.submit(JobSpec(command=("python", "-V"), image={made!r}), "docker").wait(60)
before.close()
os.setgroups([]); os.setgid(1234); os.setuid(1234)
cell = '''import getpass, os
open("new", "w").write("x")
os.mkdir("folder")
open(os.path.expanduser("~/x"), "w")
print(getpass.getuser(), os.getuid(), os.getgid(), os.getcwd())
'''
m = RunManager({str(home)!r})
spec = JobSpec(script=cell, command=("python",), image={made!r}, here=True)
run = m.submit(spec, "docker").wait(60, check=False)
print(run.logs(), end=run.record.message)
m.close()
"""
    with Wire(there.engine.host) as wire:
        socket = Path(wire.host.removeprefix("unix://"))
        socket.chmod(0o666)
        socket.parent.chmod(0o711)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DOCKER_HOST": wire.host,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=here, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.stdout == f"user 1234 1234 {here}\n", done.stdout + done.stderr
    for name in ("new", "folder"):
        assert (here / name).stat().st_uid == (here / name).stat().st_gid == 1234


def test_a_home_of_ones_own_is_kept(there: There, here: Path) -> None:
    """``-e HOME=...`` goes before the home that --here brings; -u before the user's own id."""
    assert there.says("--here -e HOME=/root sh", "echo $HOME") == "/root\n"
    assert there.says("--here -u 1234 sh", "echo $HOME $(id -u) [$USER]") == (
        "/qwex/home 1234 []\n"
    )


def test_mounts(there: There, here: Path) -> None:
    """``-v`` mounts a folder of the engine's machine, to write or only to read."""
    (here / "data").mkdir()
    (here / "data" / "x").write_text("x\n")
    cell = "cat /data/x; touch /data/new 2>/dev/null && echo written || echo refused"
    assert there.says(f"-v {here}/data:/data sh", cell) == "x\nwritten\n"
    (here / "data" / "new").unlink()
    assert there.says("-v ./data:/data:ro sh", cell) == "x\nrefused\n"
    assert not (here / "data" / "new").exists()


def test_a_named_volume(there: There) -> None:
    """``-v NAME:PATH`` is a volume of the engine, which stays for the next run."""
    name = f"qwex-test-{os.getpid()}"
    try:
        there.free(there.end(f"-v {name}:/data sh", "echo kept > /data/x"))
        run = there.end(f"-v {name}:/data:ro sh", "cat /data/x")
        assert run.logs("stdout") == "kept\n"
        there.free(run)
        assert name in there.volumes()
    finally:
        with there.engine.client() as client:
            client.remove_volume(name)


def test_a_path_that_is_not_there(there: There, here: Path) -> None:
    """A mount of nothing is refused, and nothing is made there; Podman makes a folder."""
    line = f"-v {here}/nothing:/data ls /data"
    if there.podman:
        assert there.says(line) == ""
        assert (here / "nothing").is_dir()
        return
    with pytest.raises(SubmitFailed) as caught:
        there.submit(line)
    assert f"The engine's machine has no such path ({here}/nothing)" in str(caught.value)
    assert "--files" in str(caught.value)
    assert list(here.iterdir()) == []
    assert there.manager.history.run_ids() == []


def test_no_volume_of_ours_is_left(there: There, here: Path) -> None:
    """The volume that held script and copies goes with its container."""
    (here / "data").write_text("x")
    wait = "until [ -e /outside/go ]; do sleep 0.1; done"
    run = there.submit(f"-v {here}:/outside --files data -- sh", wait)
    made = there.volumes_of(run)
    assert made and made <= there.volumes()
    (here / "go").touch()
    run.wait(PATIENCE)
    there.free(run)
    until(lambda: not made & there.volumes())  # it goes after its container
    run = there.end("--keep --files data -- sh", "cat data")
    made = there.volumes_of(run)
    assert made and made <= there.volumes()
    run.delete()
    assert not made & there.volumes()


def test_what_is_kept_stays(there: There) -> None:
    """``--keep`` leaves the container when the run has ended; without it none is left."""
    kept, other = there.end("--keep true"), there.end("true")
    there.settle(kept)
    there.free(other)
    assert there.left(kept)
    kept.delete()
    with there.engine.client() as client:
        assert not client.containers(all=True, filters={"name": f"qwex-{kept.run_id}"})


# -- limits ----------------------------------------------------------------------------------------


def test_cpus(there: There) -> None:
    """``--cpus`` is a share of the CPUs, or a refusal in the engine's own words."""
    try:
        run = there.end("--cpus 1500m --keep true")
    except SubmitFailed as error:
        assert "can't keep a limit" in str(error)
        assert there.manager.history.run_ids() == []
        return
    assert run.status is RunStatus.SUCCEEDED
    host = there.inspect(run)["HostConfig"]
    assert host["NanoCpus"] == 1_500_000_000


def test_memory(there: There) -> None:
    """``--memory`` is all it gets: no swap beside it."""
    run = there.end("--memory 64m --keep true")
    host = there.inspect(run)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)


def test_too_little_memory(there: There) -> None:
    """Less than an engine gives is refused before anything starts."""
    with pytest.raises(QwexError, match="memory"):
        there.end("--memory 1m true").wait(0)


def test_shared_memory(there: There) -> None:
    """``--shm-size`` is the size of /dev/shm inside."""
    cell = "df -k /dev/shm | tail -1 | awk '{print $2}'"
    assert there.says("sh", cell).strip() == {"podman": "64000"}.get(there.engine.kind, "65536")
    assert there.says("--shm-size 100m sh", cell) == "102400\n"


def test_gpus_bring_shared_memory(there: There) -> None:
    """``--gpus`` asks for devices and gives data loaders 2 GiB of /dev/shm, unless told."""
    runner = there.manager.runner("docker")
    host = runner.plan(there.spec("--gpus 2 true"), "r")["body"]["HostConfig"]
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]
    assert host["ShmSize"] == 2 * 1024**3
    host = runner.plan(there.spec("--gpus all --shm-size 1g true"), "r")["body"]["HostConfig"]
    assert (host["DeviceRequests"][0]["Count"], host["ShmSize"]) == (-1, 1024**3)


def test_gpus_that_are_not_there(there: There) -> None:
    """An engine that can't give GPUs says so in a sentence, and no program runs without."""
    if there.podman:
        # It forgets the request, and would run the program without a word.
        with pytest.raises(SubmitFailed, match="gives no GPUs"):
            there.end("--gpus 1 echo never")
        return
    run = there.end("--gpus 1 echo never")
    assert run.logs("stdout") == ""
    assert (run.status, run.record.reason) == (RunStatus.FAILED, Reason.UNSCHEDULABLE)
    assert run.exit_code is None
    assert "NVIDIA Container Toolkit" in run.record.message


# -- who, and what it can reach --------------------------------------------------------------------


def test_a_user_by_name(there: There) -> None:
    """``-u`` is also a name of the image's, or a number that it doesn't know."""
    assert there.says("-u worker sh", "id -un; id -u") == "worker\n1234\n"
    assert there.says("-u 4444 sh -c 'id -u'") == "4444\n"


def test_a_user_that_the_image_lacks(there: There) -> None:
    """A name that the image doesn't know fails the run, naming the way out."""
    run = there.end("-u nobodyhere true")
    assert run.status is RunStatus.FAILED
    assert "--user as a number" in run.record.message


def test_a_container_that_is_renamed(there: There) -> None:
    """Its label finds it: output, stop and outcome are as ever, and it is removed in the end."""
    run = there.submit(
        "--network none sh", "echo before; while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 5"
    )
    until(lambda: "before" in run.logs("stdout"))
    client = there.engine.client()
    found = client.inspect_container(f"qwex-{run.run_id}")["Id"]
    client.rename(found, f"other-{run.run_id}")
    other = RunManager(there.manager.history.home)
    assert other.tracker.fresh(run.run_id).status is RunStatus.RUNNING
    client.exec_start(client.exec_create(found, ["touch", "/tmp/go"])["Id"])
    record = run.wait(PATIENCE, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 5)
    assert run.logs("stdout") == "before\n"
    there.settle(run)
    label = {"label": f"qwex.run={run.run_id}"}
    until(lambda: not client.containers(all=True, filters=label))
    client.close()


def test_a_renamed_container_is_stopped(there: There) -> None:
    """A signal goes to what carries the label."""
    run = there.submit("--network none sh", "echo up; sleep 600")
    until(lambda: "up" in run.logs("stdout"))
    with there.engine.client() as client:
        client.rename(f"qwex-{run.run_id}", f"other-{run.run_id}")
    assert run.cancel(grace=1).wait(PATIENCE, check=False).status is RunStatus.CANCELLED


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("echo work; echo '[FATAL tini (7)] exec sh failed: No such file' >&2; exit 127", 127),
        ("echo '[FATAL tini (7)] exec foo failed: No such file or directory' >&2; exit 127", 127),
        ("echo 'catatonit: failed to exec pid1: x' >&2; echo more >&2; exit 1", 1),
    ],
)
def test_a_program_that_says_what_an_init_would(there: There, cell: str, code: int) -> None:
    """Its exit code is its own: it said more than that, or isn't the program that is named."""
    record = there.end("sh", cell).record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, code)


def test_a_platform(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is that processor's, by the option or by the docker client's variable, or none."""
    mine, other = platform.machine(), "linux/s390x"
    name = {"x86_64": "amd64", "aarch64": "arm64"}.get(mine, mine)
    assert there.says(f"--platform linux/{name} sh", "uname -m") == f"{mine}\n"
    record = there.end(f"--pull never --platform {other} sh", "uname -m").record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", other)
    record = there.end("--pull never sh", "uname -m").record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    assert there.says(f"--pull never --platform linux/{name} sh", "uname -m") == f"{mine}\n"


def test_the_proxies_of_the_docker_client(there: There) -> None:
    """A container has them as ``docker run`` gives them, unless a variable of its own is named."""
    folder = Path(os.environ["DOCKER_CONFIG"])
    folder.mkdir()
    proxies = {"httpProxy": "http://me:pass@proxy:1", "noProxy": "here"}
    (folder / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
    run = there.end("-e no_proxy=mine sh", "echo $HTTP_PROXY $http_proxy $NO_PROXY $no_proxy")
    assert run.logs("stdout") == "http://me:pass@proxy:1 http://me:pass@proxy:1 here mine\n"
    # A proxy's address may hold a password, so it stands in no file of ours.
    for path, text in contents(run.log.folder):
        assert path.suffix != ".json" or b"me:pass" not in text, path


def test_a_network(there: There) -> None:
    """``--network none`` is a loopback alone; host is the machine's own."""
    devices = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | sort"
    assert "eth0" not in there.says("--network none sh", devices)
    # Not by its devices, which come and go with the containers of others.
    mine = os.readlink("/proc/self/ns/net")
    assert there.says("--network host sh", "readlink /proc/self/ns/net") == f"{mine}\n"
    assert there.says("--network none sh", "readlink /proc/self/ns/net") != f"{mine}\n"


def test_a_network_that_is_not_there(there: There) -> None:
    """A network that the engine lacks is named; nothing runs."""
    try:
        run = there.end("--network nowhere true")
    except SubmitFailed as error:
        message = str(error)
    else:
        assert run.status is RunStatus.FAILED
        message = run.record.message
    assert "network" in message and "docker network ls" in message


def test_labels(there: There) -> None:
    """The user's labels and ours are the container's; ours win."""
    run = there.end("-l team=a -l tier= -l qwex.run=mine --keep true")
    labels = there.inspect(run)["Config"]["Labels"]
    assert (labels["team"], labels["tier"]) == ("a", "")
    assert labels["qwex.run"] == run.run_id
    assert labels["qwex.history"] == there.manager.history.id


# -- by hand ---------------------------------------------------------------------------------------


@pytest.fixture
def by_hand(there: There, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[bytes]]:
    """Runs a text in bash, with the docker client pointed at the engine."""
    if which("docker") is None:
        pytest.skip("no docker client here: apt-get install docker.io")
    folder = tmp_path / "made for it"
    folder.mkdir()
    path = os.environ["PATH"]
    if there.podman:
        # Of a container with --rm Docker's client doesn't learn the exit code from Podman 4.3;
        # those who have Podman have its own client under that name (Debian: podman-docker).
        client = tmp_path / "bin" / "docker"
        client.parent.mkdir()
        client.write_text(
            '#!/bin/sh\nunset DOCKER_CONFIG\nexec podman --remote --url "$DOCKER_HOST" "$@"\n'
        )
        client.chmod(0o755)
        path = f"{client.parent}{os.pathsep}{path}"

    def run(text: str) -> subprocess.CompletedProcess[bytes]:
        more = {"PATH": path, "TMPDIR": str(folder), "DOCKER_HOST": there.engine.host}
        env = {**os.environ, **more}
        return subprocess.run(
            ["bash", "-c", text], env=env, stdin=subprocess.DEVNULL, capture_output=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip

    return run


WORDS = shlex.join(WEIRD)
SAYS_ALL = 'for a in "$@"; do printf "%s\\0" "$a"; done'
# Image, line and cell of runs that say something about each part of what is handed over.
BY_HAND: dict[str, tuple[str, str, str | None]] = {
    "a failing script": ("busybox", "", "echo out; echo err >&2; (exit 7)\necho never"),
    "a script of weird text": ("busybox", "cat", "\n".join(WEIRD) + "\n$d QWEX_CELL\nQWEX_CELL\n"),
    "no newline at its end": ("busybox", "cat", "äöü\nQWEX_CELL"),
    "a script with arguments": ("busybox", f"sh - {WORDS}", SAYS_ALL),
    "a program with arguments": ("busybox", f"sh -c '{SAYS_ALL}' name {WORDS}", None),
    "python": (
        "python",
        "python -",
        "import sys, os; print(sys.argv, sys.path[:2], os.environ['PYTHONPATH'])",
    ),
    "a signal": ("busybox", "sh", "kill -9 $$"),
    "variables": (
        "busybox",
        "-e 'A=x  $y' -e 'B=a\nb' -e EMPTY= -e FROM_HERE --secret TOKEN --env-file vars.env sh",
        'echo "$A|$B|${EMPTY-unset}|$FROM_HERE|$TOKEN|$F|$G|$PYTHONUNBUFFERED"',
    ),
    "files": (
        "busybox",
        "-u 1234 --files data tool.sh a/b/c ../outside -- sh",
        "pwd; find . | sort; cat 'data/ä b' a/b/c outside; ./tool.sh; echo >> a/b/c; touch new a/n",
    ),
    "everything here as files": ("busybox", "--files . -- sh", "find . | sort; touch new"),
    "here": (
        "busybox",
        "--here sh",
        "pwd; ls; id -u; id -g; echo $HOME $USER; touch $HOME/x && echo written",
    ),
    "a folder": ("busybox", "-w '/not there' pwd", None),
    "an image's own folder and user": ("worker", "sh", "pwd; id -u"),
    "a user": ("busybox", "-u worker:0 sh", "id -u; id -g; cat $0"),
    "an entrypoint": ("entry", "sh", "echo $MARK"),
    "another entrypoint": ("entry", "--entrypoint /bin/echo -- -n x", None),
    "no entrypoint": ("entry", "--entrypoint '' sh", 'echo "[$MARK]"'),
    "volumes": (
        "busybox",
        "-v ./data:/data:ro -v ./a:/a sh",
        "ls /data /a; touch /data/x; touch /a/x && rm /a/x",
    ),
    "memory": ("busybox", "-m 64m sh", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "shared memory": ("busybox", "--shm-size 100m df -k /dev/shm", None),
    "cpus": ("busybox", "--cpus 1.5 cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us", None),
    "no network": ("busybox", "--network none --pull never cat /proc/net/dev", None),
    "read-only": ("busybox", "--read-only sh", "touch /x; cat $0"),
    "labels": ("busybox", "-l team=a -l 'tier=b c' true", None),
    "no shell": ("bare", "echo 'a  b'", None),
}
# The plan is the same for all; what differs by engine is how a client gets on with it.
FEW = ("a failing script", "variables", "files", "here", "no entrypoint", "volumes")
CASES = [(kind, case) for kind in KINDS for case in (BY_HAND if kind == "docker" else FEW)]


@pytest.mark.parametrize(("engine", "case"), CASES, indirect=["engine"])
def test_a_dry_run_can_be_run_by_hand(
    there: There,
    here: Path,
    case: str,
    by_hand: Callable[[str], subprocess.CompletedProcess[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text of a dry run gives the same output and exit code in a shell as the run."""
    monkeypatch.setenv("FROM_HERE", "inherited  $x")
    monkeypatch.setenv("TOKEN", "hunter2")
    (here / "vars.env").write_text("F=1\nG=two  words\nPYTHONUNBUFFERED=no\n")
    (here / "data").mkdir()
    (here / "data" / "ä b").write_text("nested\n")
    (here / "data" / "link").symlink_to("ä b")
    (here / "a" / "b").mkdir(parents=True)
    (here / "a" / "b" / "c").write_text("c\n")
    (here / "tool.sh").write_text("#!/bin/sh\necho executed\n")
    (here / "tool.sh").chmod(0o700)
    (here.parent / "outside").write_text("outside\n")
    of, line, cell = BY_HAND[case]
    run = there.end(line, cell, of)
    runner = there.manager.runner("docker")
    text = runner.show(runner.plan(there.spec(line, cell, of), "20261124-120000-abcdef"))
    there.free(run)
    before = there.volumes(dangling=True)
    done = by_hand(text)
    left = there.volumes(dangling=True) - before
    assert done.returncode == run.exit_code, (text, done.stderr, run.record.message)
    assert done.stdout == run.log.read("stdout"), text
    assert done.stderr == run.log.read("stderr"), text
    # One of another test is without a container for a moment, one that is left here forever.
    until(lambda: not left & there.volumes(dangling=True))
    assert (here / "a" / "b" / "c").read_text() == "c\n"


def test_a_dry_run_of_what_is_kept_keeps_it(
    there: There, by_hand: Callable[[str], subprocess.CompletedProcess[bytes]]
) -> None:
    """With ``--keep`` the line by hand leaves its container too, and only then."""
    runner = there.manager.runner("docker")
    label = f"qwex.test=kept-{os.getpid()}"
    for line in (f"--keep -l {label} true", f"-l {label} true"):
        text = runner.show(runner.plan(there.spec(line), "20261124-120000-abcdef"))
        assert by_hand(text).returncode == 0
        assert len(there.engine.remove_containers(label)) == ("--keep" in line)


@pytest.mark.parametrize("by", ["terminal", "magic"])
def test_a_dry_run_prints_a_text_for_a_shell(
    there: There,
    here: Path,
    by: str,
    by_hand: Callable[[str], subprocess.CompletedProcess[bytes]],
) -> None:
    """What ``--dry-run`` prints is the text, whole, and nothing else; nothing is left of it."""
    line = (
        f"run --dry-run --image={image(there.engine, 'busybox')} sh -c 'echo \"$0\"; exit 3' 'x  y'"
    )
    text = terminal_or_magic(by, there, here, line)
    done = by_hand(text)
    assert (done.returncode, done.stdout) == (3, b"x  y\n"), (text, done.stderr)
    assert not list((here.parent / "user" / "home" / "runs").glob("*"))


def test_a_dry_run_of_another_context_names_it(unreached: RunManager) -> None:
    """The line by hand goes to the engine that the run would go to."""
    plan = planned(unreached, "--context other true")
    text = unreached.runner("docker").show(plan)
    assert text.startswith("docker --context other run --rm ")


# -- refusals --------------------------------------------------------------------------------------


@pytest.fixture
def unreached(home: str, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager whose engine isn't there: plans need none."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///not/there/sock")
    return RunManager(home)


def planned(manager: RunManager, line: str) -> dict[str, Any]:
    """The plan of a magic's line."""
    args, command = options.parse_run(["--image=busybox", *split(line)])
    return manager.runner("docker").plan(options.make_spec(args, command, None, {}), "r")


def test_a_rerun_keeps_the_other_options(unreached: RunManager) -> None:
    """A rerun with one option changed keeps those that only containers have."""
    given = {"entrypoint": "", "network": "none"}
    spec = JobSpec(command=("true",), image="busybox", options=given)
    run_id = "20261124-120000-abcdef"
    fact = {"run_id": run_id, "runner": "docker", "identity": "x", "cwd": "/"}
    fact |= {"spec": spec.to_json(), "created_at": 1.0, "command": "true"}
    unreached.history.create(spec, fact)
    args, _ = options.parse_run(["--read-only"], "rerun")
    _, again = unreached.again(run_id, **options.spec_values(args))
    assert again.options == {**given, "read-only": "yes"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-v pvc/data:/data", "--runner=k8s"),
        ("--namespace mine", "because an engine has no namespaces.*--runner=k8s"),
        ("--service-account me", "because .*--runner=k8s"),
        ("--pod-patch {}", "because .*--runner=k8s"),
    ],
)
def test_what_only_a_cluster_can_is_refused(unreached: RunManager, line: str, why: str) -> None:
    """What an engine can't do is refused in one line that names the runner that can."""
    with pytest.raises(UnsupportedOption, match=why) as caught:
        planned(unreached, f"{line} true")
    assert caught.value.can == ("k8s",) or list(caught.value.can) == ["k8s"]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-v /data", "write SRC:DST"),
        ("-v /a:b", "must be a path inside"),
        ("-v /a:/b:rx", "ro or rw"),
        ("-v 'a b:/b'", "neither a path"),
        ("-v /a:/qwex/x", "where the cell's own script lies"),
        ("--pull sometimes", "missing, always, never"),
        ("-w relative", "begins with a slash"),
    ],
)
def test_a_value_that_can_not_be_right_is_refused(
    unreached: RunManager, line: str, why: str
) -> None:
    """A mistake in a word is told before anything exists."""
    with pytest.raises(SpecError, match=why) as caught:
        planned(unreached, f"{line} true")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["-v /data:/data", "--here"])
def test_a_kernel_in_a_container_is_told_what_a_mount_means(
    unreached: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Where the kernel lives in a container itself, a path of its own is none of the engine's."""
    mark = tmp_path / ".dockerenv"
    monkeypatch.setattr(docker, "_IN_CONTAINER", (str(mark),))
    assert planned(unreached, f"{line} true")
    mark.touch()
    with pytest.raises(SpecError, match="this kernel lives in a container") as caught:
        planned(unreached, f"{line} true")
    assert "--files" in str(caught.value) and "\n" not in str(caught.value)
    assert planned(unreached, "-v name:/data true")
