"""What stands in several places is the same in all of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import environment
import pytest
import pythons
import trove_classifiers
import yaml
from environment import ROOT, SUPPORTED
from rattler_build import Stage0Recipe
from schemas import complaints

import qwex_jupyter

pytestmark = pytest.mark.once

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ABOUT: dict[str, Any] = PROJECT["project"]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
WORKFLOWS = "\n".join(path.read_text() for path in ROOT.glob(".github/workflows/*"))
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
OLDEST, NEWEST = SUPPORTED[0], SUPPORTED[-1]
# What conda-forge calls otherwise.
CONDA = {"docker": "docker-py", "kubernetes": "python-kubernetes"}


def test_the_classifiers_are_known() -> None:
    """PyPI knows every classifier, and none is about to go."""
    assert set(ABOUT["classifiers"]) <= trove_classifiers.classifiers
    assert not set(ABOUT["classifiers"]) & set(trove_classifiers.deprecated_classifiers)


def test_the_pythons_of_the_package_are_those_of_the_tests() -> None:
    """Classifiers, ``requires-python`` and the tools go by ``SUPPORTED``."""
    named = [c.rpartition(" ")[2] for c in ABOUT["classifiers"] if ":: Python :: 3." in c]
    assert tuple(named) == SUPPORTED
    assert ABOUT["requires-python"] == f">={OLDEST}"
    assert PROJECT["tool"]["mypy"]["python_version"] == OLDEST
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + OLDEST.replace(".", "")
    other = tomllib.loads((ROOT / "tests/contract/nice/pyproject.toml").read_text())
    assert other["project"]["requires-python"] == f">={OLDEST}"


def test_the_pythons_of_the_workflows_are_those_of_the_tests() -> None:
    """One that is named alone is the newest; where several are, they are all."""
    assert set(re.findall(r'python-version: "(.*)"', WORKFLOWS)) == {NEWEST}
    assert set(re.findall(r"image: python:(.*)", WORKFLOWS)) == {f"{NEWEST}-bookworm"}
    several = re.findall(r"python: \[(.*)\]", WORKFLOWS)
    assert several == [", ".join(f'"{version}"' for version in SUPPORTED)]
    named = set(re.findall(r"\b3\.1\d\b", WORKFLOWS))
    assert named == set(SUPPORTED)


def test_the_pythons_of_the_pages_are_those_of_the_tests() -> None:
    """Where a page says which Pythons there have to be, it says those that are tested."""
    text = "\n".join(page.read_text() for page in PAGES)
    ranges = set(re.findall(r"Python (3\.\d+) (?:to|–|-) (3\.\d+)", text))
    assert ranges == {(OLDEST, NEWEST)}
    assert set(re.findall(r"Python (?:≥|>=) ?(3\.\d+)", text)) == {OLDEST}


def test_where_it_is_is_said_once() -> None:
    """Every address of this project on GitHub is below that of ``[project.urls]``."""
    source = ABOUT["urls"]["Source"]
    assert set(ABOUT["urls"]) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    places = [*PAGES, *ROOT.glob(".github/**/*.*"), ROOT / "recipe/recipe.yaml"]
    places += [ROOT / "CITATION.cff", ROOT / "pyproject.toml"]
    found = [
        (place.name, address)
        for place in places
        for address in re.findall(r"https://github\.com/[\w-]*qwex[\w/-]*", place.read_text())
    ]
    assert len(found) > 8
    assert [each for each in found if not f"{each[1]}/".startswith(f"{source}/")] == []


def test_the_citation_is_this_version() -> None:
    """CITATION.cff is valid by its schema, and has the version and day of the last release."""
    path = ROOT / "CITATION.cff"
    assert complaints("vendor.citation-file-format", path) == ""
    said = yaml.safe_load(path.read_text())
    assert said["version"] == qwex_jupyter.__version__
    released = f"## {said['version']} - {said['date-released']}\n"
    assert released in (ROOT / "CHANGELOG.md").read_text()
    assert said["license"] == ABOUT["license"]
    assert said["repository-code"] == ABOUT["urls"]["Source"]


def test_the_conda_recipe_is_the_package() -> None:
    """It is rendered by rattler-build, and has what pyproject.toml has."""
    (variant,) = Stage0Recipe.from_file(str(ROOT / "recipe/recipe.yaml")).render()
    recipe = variant.recipe.to_dict()
    assert recipe["package"] == {"name": ABOUT["name"], "version": qwex_jupyter.__version__}
    needs = [f"python {ABOUT['requires-python']}"]
    for dependency in ABOUT["dependencies"]:
        name, least = re.fullmatch(r"([\w-]+)(.*)", dependency).groups()  # type: ignore[union-attr]
        needs.append(f"{CONDA.get(name, name)} {least}")
    assert recipe["requirements"]["run"] == needs
    backend = re.sub(r"(?=>)", " ", PROJECT["build-system"]["requires"][0])
    assert backend in recipe["requirements"]["host"]
    (script,) = ABOUT["scripts"].items()
    assert recipe["build"]["python"]["entry_points"] == [" = ".join(script)]
    about = recipe["about"]
    assert about["license"] == ABOUT["license"]
    assert f"{about['summary']}" == ABOUT["description"]
    urls = {"homepage": "Homepage", "documentation": "Documentation", "repository": "Source"}
    assert {name: about[name] for name in urls} == {n: ABOUT["urls"][u] for n, u in urls.items()}


def test_what_is_checked_before_a_commit_is_what_the_gate_checks() -> None:
    """pre-commit knows its settings, and its hooks are the three commands of the gate."""
    path = ROOT / ".pre-commit-config.yaml"
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (repository,) = yaml.safe_load(path.read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert entries == ["ruff check .", "ruff format --check .", "mypy"]
    assert {hook["language"] for hook in repository["hooks"]} <= {"system", "unsupported"}
    gate = (ROOT / "tests" / "__main__.py").read_text()
    assert all(f'"{entry}"' in gate for entry in entries)


def test_every_module_is_imported() -> None:
    """``imports.py`` imports as many modules as there are files, and says how many."""
    files = len([*(ROOT / "qwex_jupyter").rglob("*.py")]) - 1  # the package itself
    command = [sys.executable, str(ROOT / "tests/rigs/imports.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"{files} of {files} modules import here (")


def test_what_does_not_import_is_named() -> None:
    """``imports.py`` fails where a module can't be imported, and says which and why."""
    code = "import runpy, sys; sys.modules['html'] = None; runpy.run_path(sys.argv[1], None, '%s')"
    script = str(ROOT / "tests/rigs/imports.py")
    command = [sys.executable, "-c", code % "__main__", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, *_, last = done.stdout.splitlines()
    assert re.match(r"qwex_jupyter\.[\w.]+: ModuleNotFoundError: import of html halted", first)
    assert re.match(r"\d+ of \d+ modules import here", last)


def test_a_python_that_is_missing_is_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """``pythons.py`` has uv get what is supported and isn't here, and finds it afterwards."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        place = tmp_path / "cpython-3.99.1-linux" / "bin"
        place.mkdir(parents=True, exist_ok=True)
        (place / "python3.99").unlink(missing_ok=True)
        (place / "python3.99").symlink_to(sys.executable)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    monkeypatch.setattr(pythons, "SUPPORTED", (HERE, "3.99"))
    monkeypatch.setattr(environment, "_works", lambda interpreter: True)
    with monkeypatch.context() as patch:
        patch.setattr(pythons.subprocess, "run", run)
        assert pythons.main() == 0
    assert asked[-1][1:] == ["-m", "uv", "python", "install", "3.99"]
    assert f"Python 3.99: {tmp_path}/cpython-3.99.1-linux/bin/python3.99" in capfd.readouterr().out
