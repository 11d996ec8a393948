"""What ``python3 release`` lets pass, and what it makes."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from environment import ROOT
from rattler_build import Stage0Recipe

import qwex_jupyter

pytestmark = pytest.mark.once

REPOSITORY = "qwex-jupyter/qwex-jupyter"
TAG = f"refs/tags/v{qwex_jupyter.__version__}"
# What the package may have; a file of another kind is added here on purpose.
KINDS = {".py", ".js", ".css", ".json", ".typed"}

_spec = importlib.util.spec_from_file_location("release", ROOT / "release" / "__main__.py")
assert _spec is not None
assert _spec.loader is not None
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the check reads, as it is when a version may be released."""
    read = ("pyproject.toml", "qwex_jupyter/_version.py", "recipe/recipe.yaml", "CITATION.cff")
    for name in read:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {qwex_jupyter.__version__} - 2026-12-01\n\nAll.\n"
    )
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    """Writes something else where it stands once or more."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_is_right_may_be_released(checkout: Path) -> None:
    """The tag of the version, from the repository of the metadata, with its changes told."""
    assert list(release.problems(checkout, TAG, REPOSITORY)) == []


def test_another_tag_is_refused(checkout: Path) -> None:
    """A tag that isn't the version, and what is no tag, are refused in one sentence."""
    for tag in ("v9.9.9", qwex_jupyter.__version__):
        (said,) = release.problems(checkout, f"refs/tags/{tag}", REPOSITORY)
        assert said.startswith(f"The tag {tag} isn't v{qwex_jupyter.__version__}, as ")
    (said,) = release.problems(checkout, "refs/heads/main", REPOSITORY)
    assert said == f"refs/heads/main is no tag: push the tag v{qwex_jupyter.__version__}."


@pytest.mark.parametrize("name", ["recipe/recipe.yaml", "CITATION.cff"])
def test_a_version_that_was_forgotten_is_named(checkout: Path, name: str) -> None:
    """Each file that has the version must have that one."""
    change(checkout / name, qwex_jupyter.__version__, "9.9.9")
    (said,) = release.problems(checkout, TAG, REPOSITORY)
    assert said.startswith(f"{name} has another version than {qwex_jupyter.__version__}: ")


def test_changes_that_nobody_wrote_down_are_refused(checkout: Path) -> None:
    """A version without a section, with an empty one, and what is still unreleased are refused."""
    change(checkout / "CHANGELOG.md", "All.\n", "")
    (said,) = release.problems(checkout, TAG, REPOSITORY)
    assert "CHANGELOG.md says nothing under" in said
    change(checkout / "CHANGELOG.md", f"## {qwex_jupyter.__version__} ", "## 9.9.9 ")
    (said,) = release.problems(checkout, TAG, REPOSITORY)
    assert "CHANGELOG.md says nothing under" in said
    change(checkout / "CHANGELOG.md", "## 9.9.9 ", f"Old.\n\n## {qwex_jupyter.__version__} ")
    change(checkout / "CHANGELOG.md", "2026-12-01\n", "2026-12-01\n\nAll.\n")
    (said,) = release.problems(checkout, TAG, REPOSITORY)
    assert "still has something under Unreleased" in said


def test_an_address_of_somebody_else_is_refused(checkout: Path) -> None:
    """Each address that leads to another repository than that of the release is named."""
    for other in ("somebody/qwex-jupyter", "qwex-jupyter/qwex", "qwex-jupyter/qwex-jupyter2"):
        said = list(release.problems(checkout, TAG, other))
        assert len(said) == 5
        assert all(f"doesn't lead to {other}, from which" in each for each in said)
    change(checkout / "pyproject.toml", f"{REPOSITORY}/issues", f"{REPOSITORY}-old/issues")
    (said,) = release.problems(checkout, TAG, REPOSITORY)
    assert said.startswith("Issues = ")


def test_the_command_says_no() -> None:
    """``python3 release check`` ends with 1 where it refuses, and has a sentence for each cause."""
    command = [sys.executable, str(ROOT / "release"), "check", "refs/heads/main", REPOSITORY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("refs/heads/main is no tag: push the tag v")


def test_an_sdist_that_is_not_there_is_said() -> None:
    """``python3 release recipe`` of no file ends in a sentence."""
    command = [sys.executable, str(ROOT / "release"), "recipe", "/nosuch.tar.gz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "/nosuch.tar.gz is no file: name the sdist" in done.stderr
    assert "Traceback" not in done.stderr


def test_this_version_is_in_the_changelog() -> None:
    """CHANGELOG.md has the version of the package, with a date, and says what it brings."""
    assert release.notes(ROOT, qwex_jupyter.__version__)
    text = (ROOT / "CHANGELOG.md").read_text()
    heading = rf"^## {re.escape(qwex_jupyter.__version__)} - 20\d\d-\d\d-\d\d$"
    assert re.search(heading, text, re.MULTILINE)


@dataclass(frozen=True)
class Built:
    """What ``python3 release build`` has made."""

    folder: Path
    said: str

    @property
    def wheel(self) -> list[str]:
        """The names in the wheel."""
        (path,) = self.folder.glob("*.whl")
        return zipfile.ZipFile(path).namelist()

    @property
    def sdist(self) -> list[str]:
        """The names in the sdist, without the folder around them."""
        (path,) = self.folder.glob("*.tar.gz")
        with tarfile.open(path) as archive:
            return [name.partition("/")[2] for name in archive.getnames()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Sdist, and the wheel that comes of it, both checked by twine."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import runpy, sys; run = runpy.run_path(sys.argv[1]); from pathlib import Path; "
    code += "sys.exit(run['build'](sys.executable, Path(sys.argv[2])))"
    command = [sys.executable, "-c", code, str(ROOT / "release" / "__main__.py"), str(folder)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return Built(folder, done.stdout)


def files_of_the_repository() -> set[str]:
    """What git has or would take, also where the checkout is an sdist and no repository."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["-C", str(ROOT), "-c", "safe.directory=*"]
        if not (ROOT / ".git").exists():
            subprocess.run(["git", "init", "-q", folder], check=True)
            where += [f"--git-dir={folder}/.git", f"--work-tree={ROOT}"]
        listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(["git", *where, *listed], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.mark.tier("all")
def test_twine_accepts_both(built: Built) -> None:
    """Sdist and wheel pass ``twine check --strict``: what PyPI shows of them can be shown."""
    assert built.said.count("PASSED") == 2, built.said


@pytest.mark.tier("all")
def test_the_recipe_for_conda_forge_takes_the_sdist(built: Built) -> None:
    """``python3 release recipe`` has the sdist's address on PyPI and its hash, and is rendered."""
    (sdist,) = built.folder.glob("*.tar.gz")
    command = [sys.executable, str(ROOT / "release"), "recipe", str(sdist)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (variant,) = Stage0Recipe.from_yaml(done.stdout).render()
    (source,) = variant.recipe.to_dict()["source"]
    assert source["url"].rpartition("/")[2] == sdist.name
    assert source["sha256"] == hashlib.sha256(sdist.read_bytes()).hexdigest()


@pytest.mark.tier("all")
def test_the_sdist_is_the_repository(built: Built) -> None:
    """The sdist has every file of the repository, and beside them the metadata alone."""
    assert len(built.sdist) == len(set(built.sdist))
    assert set(built.sdist) == files_of_the_repository() | {"PKG-INFO"}


@pytest.mark.tier("all")
def test_the_wheel_is_the_package(built: Built) -> None:
    """The wheel has the package with the suite for runners, its metadata and its licence alone."""
    here = {name for name in files_of_the_repository() if name.startswith("qwex_jupyter/")}
    assert {Path(name).suffix for name in here} <= KINDS
    info = f"qwex_jupyter-{qwex_jupyter.__version__}.dist-info"
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert len(built.wheel) == len(set(built.wheel))
    assert set(built.wheel) == here | {f"{info}/{name}" for name in about}
    assert "qwex_jupyter/testing/contract/base.py" in here
    assert not [name for name in here if "test_" in name]


@pytest.mark.tier("all")
def test_what_is_there_is_not_built_over(built: Built, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that has a release already is refused in one sentence, and stays as it is."""
    before = sorted(built.folder.iterdir())
    assert release.build(sys.executable, built.folder) == 1
    assert "is there already: remove it, or name another folder." in capfd.readouterr().out
    assert sorted(built.folder.iterdir()) == before
