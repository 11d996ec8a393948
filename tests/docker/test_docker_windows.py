"""Containers of an engine elsewhere, from a system without what Windows lacks: by TCP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import windows
from engines import Engine
from images import image
from registry import Registry
from wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.tier("all")]

_CODE = r"""
import json, os, sys
import qwex_jupyter as qwex
from qwex_jupyter.api import manager
from qwex_jupyter.cli import main
from qwex_jupyter.commands import doctor
from qwex_jupyter.errors import QwexError
from qwex_jupyter.runners.docker import body, runner
here, image, pulled = sys.argv[1:]
os.chdir(here)
m = manager()
def end(made):
    made.wait(120, check=False)
    return [str(made.status), made.exit_code, made.logs("stdout"), made.logs("stderr")]
script = 'cat data/one.txt; echo "$A"; echo oops >&2; kill -9 $$'
spec = qwex.JobSpec(
    script=script, command=("sh",), image=image, files=("data",), env={"A": "a b"}, cwd=here
)
first = m.submit(spec)
stops = "trap 'echo bye; exit 3' TERM; echo up; sleep 600 & wait"
long = qwex.submit(["sh", "-c", stops], image=image)
while long.logs("stdout") != "up\n":
    m.output.fetch(long.run_id)
long.cancel()
there = qwex.submit(["echo", "from afar"], image=pulled)
found = {"first": end(first), "long": end(long), "pulled": end(there)}
found["why"] = first.record.message
# What this path is there, which no path of this system is; and this kernel isn't in a container.
body.whole_path, runner._IN_CONTAINER = (lambda path, _: path), ()
try:
    mounting = qwex.submit(["true"], image=image, volumes=(r"C:\data:/x",))
    found["mounting"] = [*end(mounting)[:2], mounting.record.message]
except QwexError as error:
    found["mounting"] = [type(error).__name__, None, str(error)]
print(json.dumps(found))
doctor._PATIENCE = 60.0
print(main(["doctor"]), main(["prune", "--yes"]), os.listdir(m.history.runs_folder))
"""


def test_runs_go_and_come(docker_engine: Engine, registry: Registry, tmp_path: Path) -> None:
    """Script, files, output, a stop, a pull by a process of its own, doctor and removal."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_bytes(b"1\n")
    pulled = registry.put("busybox", "team/far:1")
    with Wire(docker_engine.host, tcp=True) as wire:
        done = windows.python(
            _CODE,
            *(str(tmp_path), image(docker_engine, "busybox"), pulled),
            LOCALAPPDATA=str(tmp_path / "local"),
            DOCKER_HOST=wire.host,
        )
    assert done.returncode == 0, done.stderr
    line, *rest = done.stdout.splitlines()
    found = json.loads(line)
    assert found["mounting"][0] == "SubmitFailed"
    assert "mount path must be absolute. Nothing was started." in found["mounting"][2]
    assert found["first"] == ["FAILED", 137, "1\na b\n", "oops\n"]
    assert "SIGKILL" in found["why"]
    assert found["long"] == ["CANCELLED", 3, "up\nbye\n", ""]
    assert found["pulled"] == ["SUCCEEDED", 0, "from afar\n", ""]
    assert any(line.startswith("✓ docker  Docker ") and "tcp://" in line for line in rest), rest
    assert rest[-2:] == ["Deleted 3 runs.", "0 0 []"]
