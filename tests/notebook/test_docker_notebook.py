"""A container that was started from a notebook, when the kernel and the engine are killed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from engines import HISTORY, Engine
from images import image
from kernel import PATIENCE, kernel, qwex

from qwex_jupyter.disk import facts
from qwex_jupyter.testing.contract import lives

# A code that nobody would invent.
CODE = 43
# Says where it is until it is told to end.
PROGRAM = f"""\
trap 'over=1' USR1
i=0
while [ -z "$over" ]; do
  echo "line $i"; echo "note $i" >&2
  i=$((i+1)); sleep 0.1
done
printf "last words $i"
exit {CODE}
"""


def end(engine: Engine, home: Path, lines: int) -> None:
    """Tells the program to end when the engine has so many lines of it."""
    found = facts.read_fact(str(home), "id")
    assert found is not None
    with engine.client() as client:
        label = f"{HISTORY}={found['id']}"
        (one,) = client.containers(filters={"label": label})
        until = time.monotonic() + PATIENCE
        while b"line %d\n" % lines not in client.logs(one["Id"], stderr=False):
            assert time.monotonic() < until, "it doesn't go on"
            time.sleep(0.1)
        client.kill(one["Id"], "USR1")


def test_it_is_found_followed_and_ended_rightly(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """After kill -9 of the kernel and of the engine, a fresh kernel takes the run up."""
    engine = own_engine("docker", live_restore=True)
    name = image(engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} --as run sh\n{PROGRAM}")
        cell.until_text("line 10")
        pid = one.pid
        one.kill()
        assert not lives(pid)
        engine.kill()
        time.sleep(1.0)
        engine.start()
        one.start()
        hello = one.run("%load_ext qwex_jupyter")
        assert "%qwex attach" in hello.stream()
        cell = one.begin("%qwex attach")
        end(engine, one.home, 30)
        assert re.search(rf"exit (code )?{CODE}\b", cell.done().text)
        one.run("import qwex_jupyter as qwex; last = qwex.get(qwex.runs().index[0])")
        assert one.value("(str(last.status), last.exit_code)") == f"('FAILED', {CODE})"
        out = one.value("last.logs('stdout')")
        (count,) = re.findall(r"last words (\d+)", out)
        # What was written in the second without an engine is lost in the engine: nothing is
        # doubled, and nothing comes out of order.
        said = [line for line in eval(out).split("\n") if line.startswith("line")]
        numbers = [int(line.split()[1]) for line in said]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, int(count) - 1)


def test_a_killed_engine_without_live_restore_ends_its_containers(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Then the run ends with the engine, and its record says just that."""
    engine = own_engine("docker", live_restore=False)
    name = image(engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} sh\n{PROGRAM}")
        cell.until_text("line 10")
        engine.kill()
        engine.start()
        cell.done()
        assert cell.status == "error"
        told = "__import__('qwex_jupyter').runs().iloc[0]"
        assert one.value(f"{told}.reason") == "'BackendRestarted'"
        assert one.value(f"{told}.cause").strip("'\"") in cell.text


def test_a_killed_kernel_loses_nothing(docker_engine: Engine, tmp_path: Path) -> None:
    """What a container wrote while no kernel lived is in the log of the next one, byte by byte."""
    name = image(docker_engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=docker_engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} sh\n{PROGRAM}")
        cell.until_text("line 5")
        one.kill()
        end(docker_engine, one.home, 30)
        done = qwex(one.env, "wait", "--timeout", "60")
        assert done.returncode == CODE, done.stderr
        out = qwex(one.env, "logs", "--stdout").stdout
        err = qwex(one.env, "logs", "--stderr").stderr
    count = int(out.split()[-1])
    assert count > 30
    assert out.decode() == "".join(f"line {i}\n" for i in range(count)) + f"last words {count}"
    assert err.decode() == "".join(f"note {i}\n" for i in range(count))
