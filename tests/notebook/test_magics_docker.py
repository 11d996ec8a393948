"""What a person sees of runs in containers: cells, cards, mistakes, the doctor, the terminal."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cells import BUSYBOX, CellContract, one_sentence, plain
from engines import HISTORY, Engine
from images import image
from kernel import PATIENCE, Cell, Kernel, doctor, doctor_of, end_runs, environment, kernel, qwex
from registry import Registry
from wire import Wire

from qwex_jupyter.disk import facts
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason
from qwex_jupyter.notebook.stream import Stream

pytestmark = pytest.mark.kernel

NOBODY = "tcp://127.0.0.1:1"
# What a cell says besides, where there is no engine.
OR_LOCAL = ("local", "%config Qwex.runner = 'local'")
# A program that says a line, waits for a file on the outside, and says another.
WAITS = "echo begun; until [ -e /outside/go ]; do sleep 0.1; done; echo over; exit 3"
# In a kernel: an engine is asked every two seconds, and is silent when it takes four to answer.
IMPATIENT = """
import os
from qwex_jupyter import api
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.patience import Patience
patience = Patience(answer=4.0, guard_every=0.1, beat=0.5, dead=4.0)
api.manager().close()
impatient = RunManager(api.default_home(), settings={"docker": {"patience": patience}})
impatient.runner("docker").polled_every = 2.0
api._managers[os.getpid(), api.default_home()] = impatient
"""


@pytest.fixture(scope="module")
def shared(
    session_engine: Callable[[str], Engine], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernel]:
    """A kernel with Debian's Docker engine."""
    engine = session_engine("docker")
    for name in ("busybox", "python", "wrongarch"):
        image(engine, name)
    with kernel(tmp_path_factory.mktemp("docker") / "k", DOCKER_HOST=engine.host) as made:
        # On a busy machine an engine takes longer than 0.5 s to learn that memory ran out.
        made.run(
            f"from qwex_jupyter.runners.docker import runner\nrunner._KNOWS_IN = {PATIENCE / 4}"
        )
        yield made


@pytest.fixture(autouse=True)
def freed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Waits until a kernel that outlives the test has freed what has ended."""
    engine = request.getfixturevalue("docker_engine") if "k" in request.fixturenames else None
    yield
    if engine is not None:
        home = request.getfixturevalue("shared").home
        until = time.monotonic() + PATIENCE
        while any(c["State"] != "running" for c in _containers(engine, home)):
            assert time.monotonic() < until, "a container was not freed"
            time.sleep(0.05)


def _containers(engine: Engine, home: Path | str) -> list[Any]:
    """The containers of this home's runs, whatever became of them."""
    found = facts.read_fact(str(home), "id")
    if found is None:
        return []  # it had no run
    with engine.client() as client:
        return list(client.containers(all=True, filters={"label": f"{HISTORY}={found['id']}"}))


class TestCells(CellContract):
    """Cells on Debian's Docker engine."""

    runner, chosen = "docker", ""
    failures: ClassVar = {
        "image that may not be pulled": (
            "%%qwex --image=qwex-test/none:1 --pull never\ntrue",
            "The engine doesn't have qwex-test/none:1, and --pull=never forbids",
            "",
        ),
        "image that can't be pulled": (
            "%%qwex --image=127.0.0.1:1/none:1\ntrue",
            "127.0.0.1:1/none:1 could not be pulled: ",
            "",
        ),
        "GPUs": (
            f"%%qwex --image={BUSYBOX} --gpus 1\ntrue",
            "the engine can't give GPUs: install the NVIDIA Container Toolkit",
            "",
        ),
        "network": (
            f"%%qwex --image={BUSYBOX} --network nosuch\ntrue",
            "this engine has no such network: docker network ls lists those it has",
            "",
        ),
    }
    mistakes: ClassVar = {
        "no image": ("%%qwex --runner=docker\ntrue", "the docker runner needs an image: --image="),
        "image behind": ("%%qwex python --image=a:1\nx", "put it first"),
        "no such pull": (f"%%qwex --image={BUSYBOX} --pull=now\ntrue", "missing, always, never"),
        "a claim": (f"%%qwex --image={BUSYBOX} -v pvc/a:/b\ntrue", "use --runner=k8s"),
        "no such context": (
            f"%%qwex --image={BUSYBOX} --context=far\ntrue",
            "no Docker context 'far'",
        ),
    }
    absent: ClassVar = {
        "no socket": (
            {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
            "No Docker at unix:///nowhere/docker.sock (by DOCKER_HOST): there is no such socket.",
            OR_LOCAL,
        ),
        "nobody listens": (
            {"DOCKER_HOST": NOBODY, "NO_PROXY": "*"},
            f"Nothing listens where the Docker engine at {NOBODY} (by DOCKER_HOST) should be",
            OR_LOCAL,
        ),
        "no such context": (
            {"DOCKER_CONTEXT": "far"},
            "There is no Docker context 'far' here",
            (),
        ),
    }


def test_a_short_overrun_is_not_told(k: Kernel, docker_engine: Engine) -> None:
    """A stop at the timeout takes its time, which nobody calls running over below 2 s."""
    line = f"%%qwex --as short --image={BUSYBOX} --timeout 1 --no-raise-error"
    cell = k.run(f"{line}\nsleep 1000")
    assert k.value("str(short.reason)").strip("'") == Reason.TIMED_OUT
    over = float(k.value("float(short.record.overrun)"))  # by the engine, however busy it is
    assert over > 0
    assert ("over its timeout" in cell.text) == (over >= 2.0), over


def test_the_setting_local_means_local(k: Kernel, docker_engine: Engine) -> None:
    """With ``Qwex.runner = 'local'`` a cell with an image doesn't go to Docker behind its back."""
    k.run("%config Qwex.runner = 'local'")
    try:
        said = one_sentence(k.run(f"%%qwex --image={BUSYBOX}\ntrue"))
        assert "--image: the local runner can't do this, because a process of this" in said
        assert "✓ succeeded" in k.run("%%qwex\ntrue").text
        assert "✓ succeeded" in k.run(f"%%qwex --runner=docker --image={BUSYBOX}\ntrue").text
    finally:
        k.run("%config Qwex.runner = ''")


# -- no engine ------------------------------------------------------------------------------------

_AS_NOBODY = """
import io, os, sys, tempfile
from contextlib import redirect_stdout
import qwex_jupyter.config
from qwex_jupyter.cli import main
with redirect_stdout(io.StringIO()):
    assert main(["doctor"]) == 0  # what is needed is imported while it may be
os.setgroups([]); os.setgid(1234); os.setuid(1234)
with tempfile.TemporaryDirectory(dir="/tmp") as os.environ["QWEX_HOME"]:
    code = main(["run", "--image", sys.argv[1], "true"])
sys.exit(code)
"""


def test_a_socket_that_one_may_not_use_is_told(docker_engine: Engine, tmp_path: Path) -> None:
    """Who isn't in the group docker is told so in one line, and how to get there."""
    if os.geteuid() != 0 or not docker_engine.owned.ours:
        pytest.skip("only root can be somebody else: run the tests as root")
    # The settings of the test, which nobody may enter, would be refused before the socket is.
    env = environment(tmp_path / "terminal", DOCKER_CONFIG="/nonexistent")
    with Wire(docker_engine.host) as wire:
        socket = Path(wire.host.removeprefix("unix://"))
        socket.parent.chmod(0o755)  # the way to the socket is open, the socket itself isn't
        socket.chmod(0o600)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, BUSYBOX],
            env={**env, "DOCKER_HOST": wire.host},
            cwd="/", capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("qwex: You may not use the Docker engine at unix://")
    assert "permission denied. Have an administrator add you to the group docker" in done.stderr
    assert done.stderr.count("\n") == 1


# -- while it lives -------------------------------------------------------------------------------


def test_a_pull_is_shown_with_a_bar(
    docker_engine: Engine, registry: Registry, tmp_path: Path
) -> None:
    """While an image is pulled the cell shows layers, bytes and a bar; then the run goes on."""
    name = registry.put("big", "team/big:1")
    registry.wire.slow("GET", "/blobs/", 300_000)
    with kernel(tmp_path / "k", DOCKER_HOST=docker_engine.host) as k:
        detached = k.run(f"%%qwex --detach --image={name}\necho detached")
        assert "○ pending" in detached.text
        cell = k.begin(f"%%qwex --image={name}\necho here it is")
        live = r"Pulling \S+/big:1: \d of 3 layers, [\d.]+ MiB of [\d.]+ MiB\. \d+%"
        # The card of the detached run, which another cell has made, shows the same.
        for mine in (cell.until(lambda c: c.display_ids).display_ids[0], detached.display_ids[0]):
            pulls = cell.until(lambda c, mine=mine: _matching(c, mine, live)) and _matching(
                cell, mine, live
            )
            html = pulls[-1]["content"]["data"]["text/html"]
            share = re.search(r"width:(\d+)%;height:5px", html)
            assert share and f"{share[1]}%</span>" in html
            assert "○</span> pending" in html
        registry.wire.clear()
        cell.done()
        assert "✓ succeeded" in cell.text
        assert "here it is" in cell.text
        assert "Pulling" not in cell.text


def _matching(cell: Cell, display_id: str, pattern: str) -> list[dict[str, Any]]:
    return [m for m in cell.messages if _of(m, display_id) and re.search(pattern, plain(m))]


def _of(message: dict[str, Any], display_id: str) -> bool:
    return bool(message["content"].get("transient", {}).get("display_id") == display_id)


def test_an_engine_that_does_not_answer_is_no_outcome(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Cell and card of live runs say that the engine doesn't answer, stay running, and recover."""
    engine = own_engine("docker")
    image(engine, "busybox")
    mount = f"-v {tmp_path}:/outside"
    with kernel(tmp_path / "k", DOCKER_HOST=engine.host) as k:
        assert k.run(IMPATIENT).status == "ok"
        if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
            mount = ""
        detached = k.run(f"%%qwex --detach --image={BUSYBOX}\necho card; sleep 1000")
        source = WAITS if mount else "echo begun; sleep 1000"
        cell = k.begin(f"%%qwex {mount} --image={BUSYBOX}\n{source}").until_text("1 line · ")
        before = len(cell.messages)
        engine.freeze()
        silent = "doesn't answer"
        card = detached.display_ids[0]
        for mine in (cell.display_ids[0], card):
            cell.until(
                lambda c, mine=mine: any(
                    _of(m, mine) and silent in plain(m) for m in c.messages[before:]
                )
            )
        shown = [m for m in cell.messages[before:] if silent in plain(m)]
        assert all(plain(m).startswith("◐ running") for m in shown)
        engine.thaw()
        after = len(cell.messages)
        for mine in (cell.display_ids[0], card):
            cell.until(
                lambda c, mine=mine: any(
                    _of(m, mine) and silent not in plain(m) for m in c.messages[after:]
                )
            )
        if mount:
            (tmp_path / "go").touch()
            cell.done()
            assert "begun\n  over" in cell.text
            assert "exit code 3, last line: over" in cell.text
        else:
            k.interrupt()
            cell.done()
        assert silent not in cell.text


def test_silence_is_told_where_another_kernel_reads_the_output(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """A kernel that only watches what another one brings to disk notices the silence too."""
    engine = own_engine("docker")
    image(engine, "busybox")
    with kernel(tmp_path / "one", DOCKER_HOST=engine.host) as one:
        begun = one.begin(f"%%qwex --image={BUSYBOX}\necho begun; sleep 1000")
        begun.until_text("1 line · ")
        home = str(one.home)
        with kernel(tmp_path / "two", DOCKER_HOST=engine.host, QWEX_HOME=home) as two:
            assert two.run(IMPATIENT).status == "ok"
            run_id = two.value("__import__('qwex_jupyter').runs().index[0]").strip("'")
            cell = two.begin(f"%qwex attach {run_id}").until_text("1 line · ")
            engine.freeze()
            cell.until_text("is asked again")
            engine.thaw()
            two.interrupt()
            cell.done()
        one.interrupt()
        begun.done()


def test_the_stop_button_is_obeyed_without_an_engine(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """While the engine doesn't answer the clock goes on, and the third press gives the prompt."""
    engine = own_engine("docker")
    image(engine, "busybox")
    with kernel(tmp_path / "k", DOCKER_HOST=engine.host) as k:
        cell = k.begin(f"%%qwex --image={BUSYBOX}\necho begun; sleep 1000").until_text("1 line · ")
        engine.freeze()
        k.interrupt()
        cell.until_text("again to stop it at once")
        # A call to the engine takes ten seconds to fail; a clock that waited would miss as many.
        cell.until(lambda c: len(_seconds(c)) > 12)
        seconds = _seconds(cell)
        assert max(b - a for a, b in itertools.pairwise(seconds)) < 8
        k.interrupt()
        cell.until_text("stopping at once")
        k.interrupt()
        cell.done()
        assert cell.ename == "RunInterrupted"
        assert "nothing has answered yet" in cell.text
        engine.thaw()
        cell = k.run("%qwex wait")
        assert "⊘ cancelled" in cell.text


def _seconds(cell: Cell) -> list[int]:
    """The clock of a card, each value that was shown."""
    shown = (re.search(r"· 0:(\d\d):(\d\d)\n", plain(m)) for m in cell.messages)
    return sorted({60 * int(found[1]) + int(found[2]) for found in shown if found})


def test_long_output_of_what_has_ended_is_said_to_be_read(
    docker_engine: Engine, tmp_path: Path
) -> None:
    """A run that has ended says so while its output is still on its way."""
    image(docker_engine, "busybox")
    with Wire(docker_engine.host) as wire, kernel(tmp_path / "k", DOCKER_HOST=wire.host) as k:
        # Slow enough for any machine: it is at full speed once that was said.
        wire.slow("GET", r"/logs", 300_000)
        cell = k.begin(f"%%qwex --image={BUSYBOX}\nyes $(printf %0999d) | head -c 8388608")
        cell.until_text("It has ended")
        assert "◐ running" in plain([m for m in cell.messages if "It has ended" in plain(m)][-1])
        wire.clear()
        cell.done()
        assert "✓ succeeded" in cell.text
        assert "8 MiB" in cell.html


def test_a_slow_engine_is_waited_for_by_a_clock(docker_engine: Engine, tmp_path: Path) -> None:
    """While an engine takes its time to accept a run, the cell says so and its clock goes on."""
    image(docker_engine, "busybox")
    with Wire(docker_engine.host) as wire, kernel(tmp_path / "k", DOCKER_HOST=wire.host) as k:
        wire.delay("POST", "/containers/create", 4)
        cell = k.begin(f"%%qwex --image={BUSYBOX}\necho done").done()
        waiting = [m for m in map(plain, cell.messages) if "docker hasn't taken it over yet" in m]
        assert len({re.search(r"0:00:\d\d", text)[0] for text in waiting}) >= 2  # type: ignore[index]
        assert "✓ succeeded" in cell.text


def test_plain_text_tells_of_a_pull_and_of_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody watches, a pull is told now and then, and a silent backend at once."""
    stream = Stream(limited=True)
    record = RunRecord("20261123-163003-k3x9qd", "docker", created_at=time.time())
    for share in range(5):
        pulling = {"reason": Reason.PULLING, "message": f"Pulling a:1: {share} of 5 layers."}
        stream.tick(replace(record, **pulling), "")
    silent = {"reason": Reason.BACKEND_UNREACHABLE, "message": "The engine doesn't answer."}
    for _ in range(3):
        stream.tick(replace(record, **silent), "")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  Pulling a:1: 0 of 5 layers.",
        "  The engine doesn't answer.",
    ]


def test_a_detached_run_is_found_again(docker_engine: Engine, tmp_path: Path) -> None:
    """After the death of a kernel the next one greets with the run, shows all of it and its end."""
    image(docker_engine, "busybox")
    with kernel(tmp_path / "k", DOCKER_HOST=docker_engine.host) as k:
        script = "seq 500; trap 'exit 5' USR1; while :; do sleep 0.1; done"
        k.run(f"%%qwex -d --name train --image={BUSYBOX}\n{script}")
        k.kill()
        k.start()
        greeting = k.run("%load_ext qwex_jupyter").stream()
        assert re.search(r"train \(\w{6}\) still running .* · %qwex attach", greeting)
        cell = k.begin("%qwex attach").until_text("500")
        with docker_engine.client() as client:
            client.kill(_containers(docker_engine, k.home)[0]["Id"], "USR1")
        assert "exit code 5, last line: 500" in cell.done().text
        assert k.value("_.logs()") == repr("".join(f"{n}\n" for n in range(1, 501)))


# -- the doctor -----------------------------------------------------------------------------------


def test_the_doctor_examines_the_engine(k: Kernel, docker_engine: Engine) -> None:
    """``doctor`` says which engine and why, its version, storage, GPUs, and what lies there."""
    k.run(f"%%qwex --keep --image={BUSYBOX}\ntrue")
    said = doctor(k)
    assert re.search(
        rf"✓ docker  Docker \S+, API \d\.\d+, at {docker_engine.host}, by DOCKER_HOST\n", said
    )
    for word in ("no GPUs", "CPU", "memory", " image", "cgroup v"):
        assert word in said
    assert "1 container kept (--keep)" in said
    assert "Deleted" in k.run("import qwex_jupyter as q\n%qwex delete {q.runs().index[0]}").stream()


def test_the_doctor_waits_for_nobody(tmp_path: Path) -> None:
    """An engine that takes a connection and never answers is told as such."""
    folder = tmp_path / "s"
    folder.mkdir()
    path = f"/tmp/qwex-mute-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        try:
            mute.listen(64)
            env = environment(folder, DOCKER_HOST=f"unix://{path}")
            said = doctor_of(env)
        finally:
            os.unlink(path)
    assert "✗ docker  It hasn't answered within 2 s" in said
    assert "✓ local" in said


# -- in a terminal --------------------------------------------------------------------------------


@pytest.fixture
def env(docker_engine: Engine, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A terminal's environment with Debian's Docker engine."""
    for name in ("busybox", "python"):
        image(docker_engine, name)
    made = environment(tmp_path / "terminal", DOCKER_HOST=docker_engine.host)
    yield made
    end_runs(made)


def test_a_terminal_passes_the_end_on_and_leaves_no_container(
    env: dict[str, str], docker_engine: Engine
) -> None:
    """``qwex run`` gives bytes and exit code of the program, and its container is gone by then."""
    script = "echo out; echo err >&2; exit 7"
    done = qwex(env, "run", "--quiet", f"--image={BUSYBOX}", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr.startswith(b"err\nqwex: ")
    home = env["QWEX_HOME"]
    assert _containers(docker_engine, home) == []
    assert qwex(env, "run", "-d", f"--image={BUSYBOX}", "sleep", "1000").returncode == 0
    assert len(_containers(docker_engine, home)) == 1
    assert qwex(env, "cancel", "--grace", "0").returncode == 0
    assert qwex(env, "wait").returncode != 0
    assert _containers(docker_engine, home) == []


def test_a_terminal_tells_of_a_pull(env: dict[str, str], registry: Registry) -> None:
    """While an image is pulled, a terminal says so on stderr; the output is the program's alone."""
    name = registry.put("busybox", "team/small:1")
    registry.wire.slow("GET", "/blobs/", 500_000)
    done = qwex(env, "run", f"--image={name}", "echo", "here")
    assert (done.returncode, done.stdout) == (0, b"here\n")
    assert re.search(rb"qwex: (Getting the image ready|Pulling \S+/small:1)", done.stderr)


def test_a_terminal_tells_of_silence(docker_engine: Engine, tmp_path: Path) -> None:
    """While the engine is away a terminal says so, and the program's end is right afterwards."""
    image(docker_engine, "busybox")
    with Wire(docker_engine.host) as wire:
        env = environment(tmp_path / "terminal", DOCKER_HOST=wire.host)
        outside = tmp_path / "outside"
        outside.mkdir()
        script = "echo begun; until [ -e /outside/go ]; do sleep 0.1; done; exit 9"
        words = ("run", f"--image={BUSYBOX}", "-v", f"{outside}:/outside", "sh", "-c", script)
        process = subprocess.Popen(
            [sys.executable, "-m", "qwex_jupyter.cli", *words],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        wire.down()
        said = iter(process.stderr.readline, b"")
        assert any(b"it is asked again" in line for line in said)
        (outside / "go").touch()  # its end comes while the engine is away
        wire.up()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 9


def test_json_of_a_terminal_names_the_image(env: dict[str, str]) -> None:
    """``--json`` gives the record with image and digest."""
    done = qwex(env, "run", "--json", f"--image={BUSYBOX}", "true")
    record = json.loads(done.stdout)
    assert record["image"] == BUSYBOX
    assert record["image_digest"].startswith("sha256:")
    shown = qwex(env, "show").stdout.decode()
    assert re.search(r"image digest +sha256:", shown)
