"""The tiers of the tests: what is in one, what shares a process, and what the docs say of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import shared
import tiers
from engines import Engine
from environment import ROOT

pytestmark = pytest.mark.once

DOCS = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- long:", "<!-- /long -->"
SOME = """
import pytest

def test_plain(): ...

@pytest.mark.chaos
def test_campaign(): ...

@pytest.mark.tier("long")
def test_rare(): ...

@pytest.mark.browser
@pytest.mark.tier("quick")
def test_page(): ...

@pytest.mark.forks
def test_forked(): ...

@pytest.mark.once
def test_alike(): ...

@pytest.fixture(scope="module")
def costly(): ...

def test_one(costly): ...

def test_other(costly): ...
"""
EVERY = {"plain", "campaign", "rare", "page", "forked", "alike", "one", "other"}


def chosen(folder: Path, *arguments: str) -> set[str]:
    """The tests of a file that are left with these arguments."""
    (folder / "test_some.py").write_text(SOME)
    (folder / "conftest.py").write_text(
        "import tiers\npytest_addoption = tiers.add_options\n"
        "import pytest\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_collection_modifyitems(config, items): tiers.choose(config, items)\n"
    )
    marks = ["chaos", "browser", "forks", "once", "tier", "xdist_group"]
    settings = "\n  ".join(["[pytest]", f"pythonpath = {ROOT}/tests/rigs", "markers =", *marks])
    (folder / "pytest.ini").write_text(settings.replace("  pythonpath", "pythonpath", 1))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return {line.rpartition("test_")[2] for line in lines if "::" in line}


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        ("", set()),
        ("--tier long", set()),
        ("--tier all", {"rare"}),
        ("--tier quick", {"rare", "campaign"}),
        ("--lane shared", {"page", "forked"}),
        ("--lane alone", EVERY - {"forked"}),
        ("--lane browser", EVERY - {"page"}),
        ("--tier all --lane versions", {"page", "campaign", "rare", "alike", "forked"}),
        ("--tier long --lane versions", {"page", "campaign", "alike"}),
    ],
)
def test_a_tier_and_a_lane_choose(tmp_path: Path, arguments: str, left_out: set[str]) -> None:
    """What needs a backend isn't quick unless it says so; who forks, and pages, go elsewhere."""
    assert chosen(tmp_path, *arguments.split()) == EVERY - left_out


def test_what_shares_a_fixture_shares_a_process(tmp_path: Path) -> None:
    """Of two processes one runs all tests that share a fixture of their module."""
    chosen(tmp_path)
    many = '@pytest.mark.parametrize("number", range(9))\ndef test_one(costly, number): ...\n'
    (tmp_path / "test_some.py").write_text(SOME + many)
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    workers = re.findall(r"\[(gw\d)\].*PASSED.*::test_one\[", done.stdout)
    assert len(workers) == 9, done.stdout
    assert len(set(workers)) == 1, done.stdout


def test_what_only_long_runs_stands_in_the_docs(request: pytest.FixtureRequest) -> None:
    """For each test, or its class, docs/testing.md says which other test sees the same fault."""
    text = DOCS.read_text()
    said = text[text.index(BEGIN) : text.index(END)]
    missing = [
        names for names in request.config.stash[tiers.LONG] if not any(map(said.count, names))
    ]
    assert missing == []


def test_ports_are_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has a range, its workers have further ones, and a free port lies in it."""
    assert shared.free_port() in shared.PORT_RANGE
    monkeypatch.setenv(shared.PORTS, "21000")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw2")
    assert shared._ports() == range(23000, 24000)
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert shared._ports() == range(21000, 22000)


def test_what_others_use_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was handed down is used as it is, and to kill or freeze it is an error."""
    found = {"host": "unix:///nowhere/sock", "folder": "/nowhere", "pid": 1}
    monkeypatch.setitem(shared.NOTES, "docker", found)
    engine = Engine.shared("docker")
    assert engine is not None
    assert (engine.owned, engine.host) == (shared.Owned.SHARED, found["host"])
    for act in (engine.kill, engine.freeze, engine.terminate):
        with pytest.raises(AssertionError, match="take own_engine"):
            act()
    engine.stop()
