"""A script's lines are those of its cell, and bash is asked where a run is handed over."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end

from qwex_jupyter.disk.folder import BASH_ENV, FAILED, RunFolder
from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason
from qwex_jupyter.runners.argv import script_text
from qwex_jupyter.runners.container.asking import ENV_FILE, asking
from qwex_jupyter.runners.container.conventions import default_interpreter
from qwex_jupyter.runners.docker import body
from qwex_jupyter.runners.k8s import manifest
from qwex_jupyter.runners.local import outcome

pytestmark = pytest.mark.once
# What fails in its second line, by the program that runs it, and how that program says so.
SAID = {
    "": ("true\nnonexistent_command", "line 3: nonexistent_command"),
    "bash": ("true\nnonexistent_command", "line 3: nonexistent_command"),
    "sh": ("true\nnonexistent_command", "3: nonexistent_command"),
    "python": ('"""Doc."""\nassert __doc__ == "Doc.", 1 / 0\nx\n', ", line 4, in <module>"),
    "python -u": ("from __future__ import annotations\n1 / 0\n", ", line 3, in <module>"),
    "python3": ("# -*- coding: utf-8 -*-\n'ä' / 0\n", ", line 3, in <module>"),
    "perl": ("use strict;\ndie 'x'", "line 3."),
    "ruby": ("# frozen_string_literal: true\nraise 'x' + ''.frozen?.to_s", "3:in"),
    "node": ("'use strict'\nthrow new Error(1)", "cell.js:3"),
}
RUBY_SAID = "xtrue"


@pytest.fixture
def manager(tmp_path: Path) -> RunManager:
    """A manager with a home of its own."""
    return RunManager(str(tmp_path))


def spec_of(script: str, **values: Any) -> JobSpec:
    """A spec of a cell below its one line."""
    return JobSpec(script=script, lines_above=values.pop("lines_above", 1), **values)


@pytest.mark.parametrize("line", SAID)
def test_a_program_names_the_line_of_the_cell(manager: RunManager, line: str) -> None:
    """What an interpreter says of a line is what a page numbers: the cell's own is the first."""
    words = line.split()
    if words and words[0] != "python" and shutil.which(words[0]) is None:
        pytest.skip(f"there is no {words[0]}")
    script, said = SAID[line]
    name = {"node": "cell.js"}.get(line, "cell.py" if line.startswith("python") else "cell.sh")
    run = manager.submit(spec_of(script, command=tuple(words), script_name=name), "local")
    end(run)
    assert run.exit_code, run.logs()
    assert said in run.logs()
    assert line != "ruby" or RUBY_SAID in run.logs()


@pytest.mark.parametrize(
    ("command", "script", "above"),
    [
        ("", "a", 2),
        ("uv run python", "a", 2),
        ("Rscript", "a", 2),
        ("env node -", "a", 2),
        ("", "#!/bin/bash\na", 0),
        ("python", "#!/bin/bash\na", 0),
        ("php", "<?php 1;", 0),
        ("docker build -f - .", "# syntax=x", 0),
        ("sed -nf", "#n", 0),
    ],
)
def test_blank_lines_stand_above_where_they_mean_nothing(
    command: str, script: str, above: int
) -> None:
    """A first line that has to be the first stays so, and so does one of an unknown program."""
    spec = spec_of(script, command=tuple(command.split()), lines_above=2)
    assert script_text(spec) == "\n" * above + script


@pytest.mark.parametrize("value", [-1, 1001, 1.0, True, "1", None])
def test_lines_above_are_a_number(value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(SpecError, match="lines_above="):
        JobSpec(script="a", lines_above=value)


def test_lines_above_are_kept_and_what_a_run_is_called_stays(manager: RunManager) -> None:
    """The spec on the disk has them, a rerun too; the script there and the command have not."""
    run = manager.submit(spec_of("echo a\necho b", lines_above=3), "local")
    end(run)
    assert run.record.command == "echo a"
    asked = manager.history.spec_fact(run.run_id)["spec"]
    assert (asked["script"], asked["lines_above"]) == ("echo a\necho b", 3)
    assert (run.log.folder.path, Path(run.log.folder, "cell.sh").read_text()) == (
        run.log.folder.path,
        "\n\n\necho a\necho b",
    )
    _, again = manager.again(run.run_id, name="x")
    assert (again.script, again.lines_above) == ("echo a\necho b", 3)
    assert JobSpec.from_json(json.loads(json.dumps(again.to_json()))) == again


def test_every_runner_writes_the_same_script(manager: RunManager) -> None:
    """A Job's annotation, what a line for a shell makes, and the file in the folder are equal."""
    spec = spec_of("echo a\n", image="x")
    job = manifest.make_plan(spec, "r", "h")
    notes = job["job"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["qwex.script"] == "\necho a\n"
    assert body.make_plan(spec, "r", "h")["script"] == "\necho a\n"
    assert "QWEX_CELL'\n\necho a\nQWEX_CELL" in body.run_line(body.make_plan(spec, "r", "h"))
    runner = manager.runner("local")
    plan = runner.plan(spec_of("echo a"), "20261123-163045-k3x9qd")
    assert "QWEX_CELL'\n\necho a\nQWEX_CELL" in runner.show(plan)


# -- which command of a bash script failed --------------------------------------------------------


def failed_in(run: Any) -> dict[str, Any] | None:
    """What its supervisor found out."""
    spec = json.loads(Path(run.log.folder, "spec.json").read_text())["spec"]
    return outcome.failed(RunFolder(run.log.folder.path), spec, End(run.exit_code))


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash: apt install bash")
@pytest.mark.parametrize(
    ("words", "script", "failed"),
    [
        ("", "echo a\nls /none", (3, "ls /none")),
        ("bash -e", "echo a\nls /none", (3, "ls /none")),
        ("", "#!/usr/bin/env bash\nset -e\nf() {\n  false\n}\nf", (4, "false")),
        ("", "env | grep -e ^BASH_ENV -e ^QWEX_B && exit 0\nfalse", (3, "false")),
        ("", "exit 3", None),
        ("sh -e", "false", None),
        ("python", "1 / 0", None),
    ],
)
def test_a_failed_bash_script_of_this_machine_tells_line_and_command(
    manager: RunManager, words: str, script: str, failed: tuple[int, str] | None
) -> None:
    """It stands beside the script, and neither its output nor its variables show it."""
    run = manager.submit(spec_of(script, command=tuple(words.split())), "local")
    end(run)
    assert run.exit_code and "qwex.failed" not in run.logs()
    found = failed_in(run)
    assert found == (failed and {"line": failed[0], "command": failed[1]})
    if failed:
        line = failed[0] + script.startswith("#!")  # there the file has no line above
        assert run.record.cause.endswith(f" · cell line {line}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash: apt install bash")
def test_bash_reads_the_users_own_file_on_this_machine(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BASH_ENV of the submitter's, or of the spec, is read and seen as it is."""
    theirs, asked = tmp_path / "theirs", tmp_path / "asked"
    theirs.write_text("MINE=here\n")
    asked.write_text("MINE=asked\n")
    monkeypatch.setenv("BASH_ENV", str(theirs))
    for env, said in (({}, f"here {theirs}"), ({"BASH_ENV": str(asked)}, f"asked {asked}")):
        run = manager.submit(spec_of("echo $MINE $BASH_ENV\nfalse", env=env), "local")
        end(run)
        assert run.logs() == f"{said}\n"
        assert failed_in(run) == {"line": 3, "command": "false"}
        for file in (BASH_ENV, FAILED):
            assert str(theirs) not in Path(run.log.folder, file).read_text()


@pytest.mark.parametrize(
    "how", [End(0), End(1, after_stop=True), End(137, 9), End(1, reason=Reason.OUT_OF_MEMORY)]
)
def test_no_command_is_looked_for_behind_another_end(how: End, tmp_path: Path) -> None:
    """A success, a stop, a signal and a lack of memory are no command's doing."""
    (tmp_path / "cell.sh").write_text("false")
    told = f"qwex.failed\n1\n1\n1\n1\n0\n{tmp_path}/cell.sh\nfalse\nqwex.end\n"
    (tmp_path / FAILED).write_text(told)
    folder, spec = RunFolder(str(tmp_path)), {"script_name": "cell.sh"}
    assert outcome.failed(folder, spec, End(1)) == {"line": 1, "command": "false"}
    assert outcome.failed(folder, spec, how) is None


def test_a_container_gets_the_words_that_ask_and_shows_those_of_the_user(tmp_path: Path) -> None:
    """A body and a `docker run` line say what was asked; what is handed over has our file too."""
    (tmp_path / "cell.sh").write_text("\nfalse")
    for line, words in (
        ((), [*default_interpreter(), "/qwex/cell.sh"]),
        (("bash", "-e", "-", "a"), ["bash", "-e", "/qwex/cell.sh", "a"]),
    ):
        plan = body.make_plan(spec_of("false", image="x", command=line), "r", "h")
        assert plan["body"]["Cmd"] == words
        assert ENV_FILE in str(plan["asking"]["Cmd"]) and ENV_FILE not in body.run_line(plan)
        with (
            body.archive(plan, RunFolder(str(tmp_path))) as data,
            tarfile.open(fileobj=data) as tar,
        ):
            assert {e.name: e.mode for e in tar} == {
                "cell.sh": 0o755,
                BASH_ENV: 0o644,
                FAILED: 0o666,
            }


@pytest.mark.parametrize("name", [BASH_ENV, FAILED])
def test_a_script_of_that_name_keeps_its_place(manager: RunManager, name: str) -> None:
    """Where the script itself is called as one of our files, there is none of ours."""
    run = manager.submit(spec_of("echo a; false", script_name=name), "local")
    end(run)
    assert (run.exit_code, run.logs()) == (1, "a\n")
    assert Path(run.log.folder, name).read_text() == "\necho a; false"
    spec = spec_of("false", image="x", script_name=name)
    assert body.make_plan(spec, "r", "h")["asking"] == {}
    assert manifest.make_plan(spec, "r", "h")["asking"] == {}


@pytest.mark.parametrize("line", ["sh", "python", "bash -c x", "bash -l"])
def test_a_container_of_another_program_gets_none(line: str) -> None:
    """Nothing of ours is in what is handed over then."""
    spec = spec_of("false", image="x", command=tuple(line.split()))
    assert body.make_plan(spec, "r", "h")["asking"] == {}
    assert manifest.make_plan(spec, "r", "h")["asking"] == {}
    assert asking(["bash", "-c", "x"], "/qwex/cell.sh", None) is None


def test_a_job_gets_a_file_for_bash_which_its_yaml_leaves_out() -> None:
    """It is one more annotation and one more file, unless a patch has put other words there."""
    plan = manifest.make_plan(spec_of("false", image="x", command=("bash", "-e")), "r", "h")
    assert ENV_FILE not in manifest.as_yaml(plan)
    template = manifest.with_values(plan, {})["spec"]["template"]
    (container,), notes = template["spec"]["containers"], template["metadata"]["annotations"]
    assert container["args"][:2] == ["bash", "-pc"] and container["args"][3:] == [
        *("bash", "-e", "/qwex/cell.sh"),
    ]
    assert 'exec "$$0" "$$@"' in container["args"][2]
    assert "/dev/termination-log" in notes["qwex.bash"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
        "/qwex/cell.sh",
        ENV_FILE,
    ]
    (items,) = [v["downwardAPI"]["items"] for v in template["spec"]["volumes"]]
    assert [item["path"] for item in items] == ["cell.sh", BASH_ENV]
    other = "containers: [{name: main, args: [sh, /qwex/cell.sh]}]"
    spec = spec_of("false", image="x", options={"pod-patch": other})
    assert manifest.make_plan(spec, "r", "h")["asking"] == {}
    other = "containers: [{name: main, terminationMessagePath: /tmp/last}]"
    spec = spec_of("false", image="x", options={"pod-patch": other})
    assert "/tmp/last" in manifest.make_plan(spec, "r", "h")["asking"]["file"]
