"""Jobs of a cluster, from a system without what Windows lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import windows
from clusters import Cluster

pytestmark = [pytest.mark.once, pytest.mark.tier("all")]

_CODE = r"""
import json, os, sys
import qwex_jupyter as qwex
from qwex_jupyter.api import manager
from qwex_jupyter.cli import main
from qwex_jupyter.commands import doctor
here, image = sys.argv[1:]
m = manager()
def end(made):
    made.wait(120, check=False)
    return [str(made.status), made.exit_code, made.logs()]
script = 'cat data/one.txt; echo "$A"; exit 137'
spec = qwex.JobSpec(
    script=script, command=("sh",), image=image, files=("data",), env={"A": "a b"}, cwd=here
)
first = m.submit(spec, "k8s")
long = qwex.submit(["sh", "-c", "echo up; sleep 600"], image=image, runner="k8s", grace=1)
while long.logs() != "up\n":
    m.output.fetch(long.run_id)
long.cancel()
print(json.dumps([end(first), end(long), first.record.message]))
doctor._PATIENCE = 60.0
print(main(["doctor"]), main(["prune", "--yes"]), os.listdir(m.history.runs_folder))
"""


def test_jobs_go_and_come(cluster: Cluster, tmp_path: Path) -> None:
    """Script, files, output, a stop, doctor and removal."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_bytes(b"1\n")
    done = windows.python(
        _CODE,
        *(str(tmp_path), cluster.image("busybox")),
        LOCALAPPDATA=str(tmp_path / "local"),
        KUBECONFIG=str(cluster.kubeconfig()),
    )
    assert done.returncode == 0, done.stderr
    line, *rest = done.stdout.splitlines()
    first, long, why = json.loads(line)
    assert first == ["FAILED", 137, "1\na b\n"]
    assert "SIGKILL" in why
    assert (long[0], long[2]) == ("CANCELLED", "up\n")
    assert any(line.startswith("✓ k8s") for line in rest), rest
    assert rest[-2:] == ["Deleted 2 runs.", "0 0 []"]
