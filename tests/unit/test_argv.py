"""What runs a cell's script, and what that script sees of the folder it works in."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end
from playwright._impl._driver import compute_driver_executable

from qwex_jupyter.commands import options
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.argv import ending, script_argv
from qwex_jupyter.runners.docker import body
from qwex_jupyter.runners.k8s import manifest

# The node that plays the browser tests is there with them, another one where there is one.
NODES = sorted({compute_driver_executable()[0], shutil.which("node")} - {None})
PYTHON = [
    "python",
    "env A=1 python3",
    "nice -n 5 python3.13t -u",
    "uv run",
    "uv run --with numpy python -m pdb",
    "torchrun --nproc-per-node 2",
    "accelerate launch",
    "conda run -n R python",
    "/opt/pypy3.10/bin/pypy3",
    "timeout 60 ipython",
    "python - bash",
]
OTHERS = ["bash", "uv run bash", "env node", "bash -c 'python $0'", "Rscript", "- python"]


def spec_of(line: str, script: str = "x", **values: Any) -> JobSpec:
    """The spec of a cell below this line."""
    args, command = options.parse_run(shlex.split(line))
    return options.make_spec(args, command, script, values)


@pytest.mark.parametrize("line", PYTHON + OTHERS)
def test_a_python_cell_is_one_whoever_starts_its_interpreter(line: str, home: str) -> None:
    """Whatever stands before ``python``, on every runner a Python script sees its folder."""
    spec = spec_of(line, image="python:3")
    docker = body.make_plan(spec, "r", "h")
    job = manifest.make_plan(spec, "r", "h")["job"]
    names = [one["name"] for one in manifest.main_of(job["spec"]["template"]["spec"])["env"]]
    here = RunManager(home).runner("local").plan(spec_of(line), "20261124-120000-k3x9qd")
    wanted = line in PYTHON
    assert ("PYTHONPATH=." in docker["body"]["Env"]) is wanted
    assert ("PYTHONPATH" in names) is wanted
    assert ("PYTHONPATH" in here["env"]) is wanted
    assert (spec.script_name == "cell.py") is wanted


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("env {python}", ""),
        ("nice -n 1 env A=1 {python} -u", ""),
        ("", "#!/usr/bin/env {python}\n"),
        ("", "#!/usr/bin/env -S {python} -u\n"),
        ("", "#! /usr/bin/env {python}\r\n"),
    ],
)
def test_a_python_cell_behind_others_imports_from_its_folder(
    line: str, script: str, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the working folder is found by a Python that another program started."""
    (tmp_path / "mine.py").write_text("x = 'found'\n")
    monkeypatch.chdir(tmp_path)
    text = script.format(python=sys.executable) + "import mine; print(mine.x)"
    run = manager.submit(spec_of(line.format(python=sys.executable), text))
    end(run)
    assert run.logs() == "found\n"


@pytest.fixture(params=NODES, ids=["node", "another"][: len(NODES)])
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A node, in a folder with modules."""
    (tmp_path / "helper.js").write_text("module.exports = 'helper'\n")
    (tmp_path / "esm.mjs").write_text("export const word = 'esm'\n")
    (tmp_path / "node_modules" / "foo").mkdir(parents=True)
    (tmp_path / "node_modules" / "foo" / "index.js").write_text("module.exports = 'foo'\n")
    (tmp_path / "helper2.js").write_text("module.exports = require('./helper') + 2\n")
    monkeypatch.chdir(tmp_path)
    return str(request.param)


@pytest.mark.parametrize(
    ("line", "script", "printed"),
    [
        ("{node}", "console.log(require('./helper2'), require('foo'))", "helper2 foo"),
        ("env A=1 {node} --trace-uncaught -r ./helper.js", "console.log(require('foo'))", "foo"),
        ("{node} - a -b", "console.log(...process.argv.slice(2))", "a -b"),
        ("{node}", "console.log(require.main === module, typeof exports)", "true object"),
        ("{node}", "import('./esm.mjs').then(found => console.log(found.word))", "esm"),
        ("{node}", "import {{word}} from './esm.mjs'\nimport 'foo'\nconsole.log(word)", "esm"),
        ("{node}", "import 'fs'\nconsole.log(typeof require, typeof find)", "undefined undefined"),
        ("{node}", "#!/usr/bin/env node\nconsole.log(__filename.slice(-8))", "/cell.js"),
        ("", "#!{node}\nconsole.log(require('./helper'))", "helper"),
    ],
)
def test_a_node_cell_sees_its_folder(
    line: str, script: str, printed: str, node: str, manager: RunManager
) -> None:
    """What a cell requires or imports is looked for in the folder where it works."""
    run = manager.submit(spec_of(line.format(node=node), script.format(node=node)))
    end(run)
    assert run.logs().split("\n")[0] == printed, run.logs()


def test_an_error_of_a_node_cell_names_its_line(node: str, manager: RunManager) -> None:
    """A traceback names the script and the line, as without what we put before it."""
    run = manager.submit(spec_of(node, "let a = 1\nnull.x"))
    assert end(run).exit_code == 1
    assert "cell.js:2\nnull.x\n" in run.logs()


@pytest.mark.parametrize(
    "line", ["node tool.js -", "node --check", "node --test -", "node --watch", "node inspect -"]
)
def test_a_node_that_does_something_else_with_the_script_is_left_alone(line: str) -> None:
    """Nothing is put before a script that isn't node's own, or that it doesn't run."""
    words = [word for word in shlex.split(line) if word != "-"]
    assert script_argv(spec_of(line), "/cell.js", list) == [*words, "/cell.js"]


def test_a_first_line_without_a_program_names_none() -> None:
    """``#!`` alone is as good as nothing: the default takes the script."""
    assert script_argv(JobSpec(script="#! \nx"), "/x", lambda: ["sh"]) == ["sh", "/x"]
    assert ending([]) == "sh"
