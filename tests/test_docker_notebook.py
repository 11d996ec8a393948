"""A container that was started from a notebook, when the kernel and the engine are killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from contract import lives
from engines import Engine
from images import image
from kernel import kernel, qwex

# Says so often where it is, and ends with a code that nobody would invent.
LINES, CODE = 60, 43
# Long enough that it lives when an engine on a busy machine is back.
LONG = 300
PROGRAM = """\
i=0
while [ $i -lt %d ]; do
  echo "line $i"; echo "note $i" >&2
  i=$((i+1)); sleep 0.1
done
printf 'last words'
exit %d
"""


def test_it_is_found_followed_and_ended_rightly(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """After kill -9 of the kernel and of the engine, a fresh kernel takes the run up."""
    engine = own_engine("docker", live_restore=True)
    name = image(engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} --as run sh\n{PROGRAM % (LONG, CODE)}")
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
        end = one.run("%qwex attach")
        assert f"exit {CODE}" in end.text
        one.run("import qwex_jupyter as qwex; last = qwex.get(qwex.runs().index[0])")
        assert one.value("(str(last.status), last.exit_code)") == f"('FAILED', {CODE})"
        out = one.value("last.logs('stdout')")
        assert out.count("last words") == 1
        # What was written in the second without an engine is lost in the engine: nothing is
        # doubled, and nothing comes out of order.
        said = [line for line in eval(out).split("\n") if line.startswith("line")]
        numbers = [int(line.split()[1]) for line in said]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (0, LONG - 1)


def test_a_killed_engine_without_live_restore_ends_its_containers(
    own_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Then the run ends with the engine, and its record says just that."""
    engine = own_engine("docker", live_restore=False)
    name = image(engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} sh\n{PROGRAM % (LINES, CODE)}")
        cell.until_text("line 10")
        engine.kill()
        engine.start()
        cell.done()
        assert cell.status == "error"
        assert "BackendRestarted" in cell.text


def test_a_killed_kernel_loses_nothing(docker_engine: Engine, tmp_path: Path) -> None:
    """What a container wrote while no kernel lived is in the log of the next one, byte by byte."""
    name = image(docker_engine, "busybox")
    with kernel(tmp_path, DOCKER_HOST=docker_engine.host) as one:
        one.run("%load_ext qwex_jupyter")
        cell = one.begin(f"%%qwex --image={name} sh\n{PROGRAM % (LINES, CODE)}")
        cell.until_text("line 5")
        one.kill()
        time.sleep(2.0)
        done = qwex(one.env, "wait", "--timeout", "60")
        assert done.returncode == CODE, done.stderr
        out = qwex(one.env, "logs", "--stdout").stdout
        err = qwex(one.env, "logs", "--stderr").stderr
    assert out.decode() == "".join(f"line {i}\n" for i in range(LINES)) + "last words"
    assert err.decode() == "".join(f"note {i}\n" for i in range(LINES))
