"""What GitHub is told of this repository: workflows, forms, updates.

None of it can be executed here. So what can be read is held by schemas and by actionlint, and
every command is one of this repository, which other tests or the developer run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import go_build
import pytest
import tiers
import yaml
from environment import ROOT
from schemas import complaints

pytestmark = pytest.mark.once

GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*"))
# What a job may do beside reading the repository.
RIGHTS = {
    ("docs", "deploy"): {"pages": "write", "id-token": "write"},
    ("release", "publish"): {"id-token": "write"},
}
# What isn't ours and makes a command of ours possible.
PREPARING = {"python -m pip install ."}
SCHEMAS = {
    "vendor.github-workflows": "workflows/*.yml",
    "vendor.dependabot": "dependabot.yml",
    "vendor.github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-issue-config": "ISSUE_TEMPLATE/config.yml",
}


def read(path: Path) -> dict[str, Any]:
    """A file of YAML; what it begins with ``on:`` is under True, as YAML has it."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every job, with its workflow and its name."""
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield path.stem, name, job


def steps() -> Iterator[dict[str, Any]]:
    """Every step of every job."""
    for _, _, job in jobs():
        yield from job.get("steps", [])


COMMANDS = sorted({line for step in steps() for line in step.get("run", "").splitlines()})


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_schema_holds(schema: str) -> None:
    """Workflows, forms and the settings of dependabot are what GitHub's schemas say."""
    assert complaints(schema, *GITHUB.glob(SCHEMAS[schema])) == ""


def test_what_a_schema_forbids_is_seen(tmp_path: Path) -> None:
    """A workflow with an unknown key, and without a job, is complained of."""
    flow = tmp_path / "flow.yml"
    flow.write_text("on: push\npermission: {}\n")
    assert "permission" in complaints("vendor.github-workflows", flow)


@pytest.mark.tier("all")
def test_actionlint_finds_nothing() -> None:
    """Expressions, events, inputs of actions and needs of jobs are right by actionlint."""
    go_build.build([go_build.ACTIONLINT])
    command = [str(go_build.ACTIONLINT.folder / "actionlint"), "-no-color", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_of_the_repository(command: str) -> None:
    """What a workflow runs is here, and can be run by hand."""
    if command in PREPARING:
        return
    program, *words = shlex.split(command)
    if program not in ("python", "python3"):
        assert os.access(ROOT / program, os.X_OK)
        assert not words
        return
    place = ROOT / words[0]
    assert (place / "__main__.py" if place.is_dir() else place).is_file()
    options = [word for word in words[1:] if word.startswith("--")]
    known = (place / "__main__.py" if place.is_dir() else place).read_text()
    known += (ROOT / "tests/conftest.py").read_text() + (ROOT / "tests/rigs/tiers.py").read_text()
    assert [option for option in options if f'"{option}"' not in known] == []
    if words[0] == "tests":
        asked = [word for word in words[1:] if word.strip("-") in tiers.TIERS]
        assert len(asked) == 1, "it names one tier"
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))


def test_each_job_says_how_long_it_may_take_and_what_it_may_do() -> None:
    """A job has a limit of time, and no right but to read, unless it stands in a list here."""
    for path in WORKFLOWS:
        assert read(path)["permissions"] == {"contents": "read"}
        assert "concurrency" in read(path)
        assert "secrets." not in path.read_text()
    more = [each for each in jobs() if "permissions" in each[2]]
    rights = {(flow, name): job["permissions"] for flow, name, job in more}
    assert rights == RIGHTS
    for flow, name, job in jobs():
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()
        else:
            assert job["timeout-minutes"] <= 300, (flow, name)


def test_an_action_has_a_version() -> None:
    """Each action is that of a major version, and a checkout leaves no credentials behind."""
    for step in steps():
        if "uses" not in step:
            continue
        assert re.search(r"^[\w-]+/[\w-]+@(release/)?v\d+$", step["uses"])
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_only_a_checked_tag_is_published() -> None:
    """What goes to PyPI comes of a pushed tag, after the check of it, the gate and the build."""
    flow = read(GITHUB / "workflows" / "release.yml")
    assert flow[True] == {"push": {"tags": ["v*"]}}
    needed, job = [], "publish"
    while job := flow["jobs"][job].get("needs", ""):
        needed.append(job)
    assert needed == ["build", "gate", "check"]
    (publishing,) = [s for s in steps() if s.get("uses", "").startswith("pypa/gh-action-pypi-")]
    assert publishing in flow["jobs"]["publish"]["steps"]
    assert publishing["with"] == {"attestations": True}
    assert flow["jobs"]["publish"]["environment"]["name"] == "pypi"


def test_it_is_said_that_they_were_never_run() -> None:
    """Each workflow says so at its head, and CONTRIBUTING names them all."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert "never run" in guide
    for path in WORKFLOWS:
        assert path.read_text().startswith("# Never run: "), path
        assert f"`{path.name}`" in guide


def test_the_gate_and_the_night_are_what_they_are_called() -> None:
    """Pull requests and ``main`` have the gate's own command, and the night has ``--long``."""
    gate, night = (read(GITHUB / "workflows" / f"{name}.yml") for name in ("gate", "nightly"))
    assert {"pull_request", "push"} <= set(gate[True])
    assert gate[True]["push"] == {"branches": ["main"]}
    assert ".ci/run" in [step.get("run") for step in gate["jobs"]["gate"]["steps"]]
    assert "schedule" in night[True]
    assert any("--long" in step.get("run", "") for step in night["jobs"]["long"]["steps"])


def test_whoever_reports_is_asked_for_what_helps() -> None:
    """The form for what is wrong wants the version and the doctor's words; secrets go elsewhere."""
    form = read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")
    wanted = {part["id"]: part for part in form["body"] if part.get("validations")}
    assert "qwex doctor --json" in wanted["doctor"]["attributes"]["label"]
    assert "qwex --version" in wanted["version"]["attributes"]["description"]
    (private,) = read(GITHUB / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]
    assert private["url"].endswith("/security/advisories/new")
    assert private["url"] in (ROOT / "SECURITY.md").read_text()
