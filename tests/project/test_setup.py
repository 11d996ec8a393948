"""What ``python3 tests`` sets up in a checkout, and what it leaves alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import environment
import pytest
from environment import ROOT

pytestmark = pytest.mark.once


def test_an_environment_of_somebody_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that this didn't make is named, and nothing in it is touched."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "mine").touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"wasn't made by these tests.*: move it"):
        environment.environment(".venv")
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == ["mine"]


def test_an_environment_that_was_begun_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose making was broken off is ours, and begun again."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path)

    def broken_off(*_: object) -> None:
        (tmp_path / ".venv" / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_make_venv", broken_off)
    with pytest.raises(KeyboardInterrupt):
        environment.environment(".venv")
    monkeypatch.setattr(environment, "_make_venv", lambda *_: None)
    monkeypatch.setattr(environment, "install", lambda *_: None)
    environment.environment(".venv")
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == ["made-of"]


def test_an_old_python_is_told_which_one_is_needed() -> None:
    """One that is too old for the rigs ends in a sentence, before anything is imported of them."""
    code = "import runpy, sys; sys.version_info = (3, 10, 0); runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tests" / "__main__.py")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("python3 tests needs Python 3.11 or newer, and this is ")
    assert len(done.stderr.splitlines()) == 1
