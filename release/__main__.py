"""``python3 release``: what a release is made with, here as in ``.github/workflows/release.yml``.

``check REF REPOSITORY`` says whether that tag may be released from that repository of GitHub;
``build FOLDER`` builds sdist and wheel, and has twine check them; ``recipe SDIST`` prints
``recipe/recipe.yaml`` as conda-forge wants it, with the address and hash of a released sdist.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "rigs"))
# Where PyPI keeps the sdist of a version.
SDIST = "https://pypi.org/packages/source/q/qwex-jupyter/qwex_jupyter-${{ version }}.tar.gz"
TAG = "refs/tags/"


def main() -> int:
    """Does one of the three; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 release", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="whether a tag may be released from a repository")
    check.add_argument("ref", help="like refs/tags/v1.2.3")
    check.add_argument("repository", help="like owner/name")
    verbs.add_parser("build", help="sdist and wheel, checked").add_argument("folder", type=Path)
    verbs.add_parser("recipe", help="the recipe for conda-forge").add_argument("sdist", type=Path)
    asked = parser.parse_args()
    if asked.verb == "check":
        wrong = list(problems(ROOT, asked.ref, asked.repository))
        print("\n".join(wrong) or f"{asked.ref} may be released from {asked.repository}.")
        return int(bool(wrong))
    if asked.verb == "recipe":
        if not asked.sdist.is_file():
            parser.error(f"{asked.sdist} is no file: name the sdist, as build has made it")
        print(recipe(asked.sdist), end="")
        return 0
    from environment import environment

    return build(environment(".venv-release", "[release]"), asked.folder)


def version(root: Path) -> str:
    """The version that a checkout has."""
    found = re.search(
        r'^__version__ = "(.+)"$', _text(root / "qwex_jupyter/_version.py"), re.MULTILINE
    )
    assert found is not None
    return found[1]


def notes(root: Path, title: str) -> str | None:
    """What CHANGELOG.md has under a heading, with its date or without; None without a heading."""
    found = re.search(
        rf"^## {re.escape(title)}(?: - \d{{4}}-\d\d-\d\d)?\n(.*?)(?=^## |\Z)",
        _text(root / "CHANGELOG.md"),
        re.MULTILINE | re.DOTALL,
    )
    return found[1].strip() if found else None


def problems(root: Path, ref: str, repository: str) -> Iterator[str]:
    """What keeps a tag from being released, each as a sentence that says what to do."""
    ours = version(root)
    if not ref.startswith(TAG):
        yield f"{ref} is no tag: push the tag v{ours}."
    elif ref != f"{TAG}v{ours}":
        yield (
            f"The tag {ref.removeprefix(TAG)} isn't v{ours}, as qwex_jupyter/_version.py has it:"
            " change one of them."
        )
    for name in ("recipe/recipe.yaml", "CITATION.cff"):
        found = re.search(r"^ *version: \"?([^\"\s]+)", _text(root / name), re.MULTILINE)
        if found is None or found[1] != ours:
            yield f"{name} has another version than {ours}: write that into it."
    if not notes(root, ours):
        yield f"CHANGELOG.md says nothing under '## {ours} - DATE': write what changed."
    if notes(root, "Unreleased"):
        yield f"CHANGELOG.md still has something under Unreleased: move it to {ours}."
    urls = tomllib.loads(_text(root / "pyproject.toml"))["project"]["urls"]
    for name, url in urls.items():
        if not _leads_to(url, repository):
            yield (
                f"{name} = {url} in [project.urls] doesn't lead to {repository}, from which this "
                "would be released: correct it in pyproject.toml, or release from there."
            )


def _leads_to(url: str, repository: str) -> bool:
    owner, _, name = repository.partition("/")
    places = (f"https://github.com/{repository}", f"https://{owner}.github.io/{name}")
    return any(f"{url}/".startswith(f"{place}/") for place in places)


def build(interpreter: str, folder: Path) -> int:
    """Builds the sdist, and of it the wheel, by the packages of an interpreter; the exit code.

    Args:
        interpreter: It has the extra ``release``.
        folder: Where they come to; there must be none in it.
    """
    if there := sorted(folder.glob("qwex_jupyter-*")):
        print(f"{there[0]} is there already: remove it, or name another folder.")
        return 1
    command = [interpreter, "-m", "build", "--outdir", str(folder), str(ROOT)]
    has_uv = [interpreter, "-c", "import uv"]
    if subprocess.run(has_uv, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        command += ["--installer", "uv"]  # sooner than by pip
    if code := subprocess.run(command, check=False).returncode:
        return code
    made = sorted(map(str, folder.glob("qwex_jupyter-*")))
    check = [interpreter, "-m", "twine", "check", "--strict", *made]
    return subprocess.run(check, check=False).returncode


def recipe(sdist: Path) -> str:
    """The recipe with the address and the hash of an sdist in place of the checkout."""
    text = _text(ROOT / "recipe" / "recipe.yaml")
    here = "source:\n  path: ..\n"
    assert text.count(here) == 1
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    return text.replace(here, f"source:\n  url: {SDIST}\n  sha256: {digest}\n")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
