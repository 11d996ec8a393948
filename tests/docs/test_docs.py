"""What the documentation says is run: README blocks, the notebook, links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pages
import pytest
import story
from clusters import Cluster
from engines import Engine
from environment import ROOT
from pages import CLUSTER, ENGINE, PAGES, blocks

NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def of_all_pages(place: str) -> list[str]:
    """The cells of all pages that are run there."""
    return [cell.source for page in PAGES for cell in pages.cells(page, place)]


def section(page: Path, title: str) -> str:
    """The part of a page under a heading of the second order."""
    found = page.read_text().split(f"\n## {title}\n", 1)
    assert len(found) == 2, f"{page.name} has no section {title!r}"
    return found[1].split("\n## ", 1)[0]


def execute(cells: list[nbformat.NotebookNode], folder: Path, **more: str) -> nbformat.NotebookNode:
    """Runs cells in a real kernel, with a history of its own."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    env = {**os.environ, "QWEX_HOME": str(folder / "home"), "IPYTHONDIR": str(folder / "ipython")}
    story.Client(notebook, folder).run({**env, **more})
    return notebook


def cells_of(sources: list[str]) -> list[nbformat.NotebookNode]:
    """Code cells."""
    return [nbformat.v4.new_code_cell(source) for source in sources]


@pytest.fixture
def docker_host(docker_engine: Engine) -> Iterator[str]:
    """The host of an engine that has the public image of notebook and README."""
    with story.public_image(docker_engine) as why:
        if why:
            pytest.skip(why)
        yield docker_engine.host


@pytest.mark.kernel
def test_the_magics_of_the_readme_run(tmp_path: Path) -> None:
    """Every magic block of the README that needs no engine or cluster runs in a real kernel."""
    cells = [cell.source for cell in pages.cells(ROOT / "README.md", pages.HERE)]
    assert len(cells) >= 3
    notebook = execute(
        cells_of(["seed = 1", *cells, "%qwex cancel train", "%qwex wait train"]), tmp_path
    )
    assert "cancelled" in str(notebook.cells[-1].outputs)


@pytest.mark.kernel
@pytest.mark.tier("quick")
def test_the_containers_of_the_pages_run(docker_host: str, tmp_path: Path) -> None:
    """Every magic block about containers runs in a real kernel."""
    cells = of_all_pages(ENGINE)
    assert len(cells) >= 5
    (tmp_path / "train.py").write_text("print('trained')")
    loaded = ["%load_ext qwex_jupyter", *cells, "%qwex runs"]
    notebook = execute(cells_of(loaded), tmp_path, DOCKER_HOST=docker_host)
    assert "✓ succeeded" in str(notebook.cells[-1].outputs)
    said = str([cell.outputs for cell in notebook.cells])
    for word in ("one draw in a container: 0.13", "trained", "http://proxy.example:3128"):
        assert word in said, word


@pytest.fixture
def kubeconfig(cluster: Cluster) -> str:
    """What leads to a cluster that has the public image, with the documented Role there."""
    story.public_image_on(cluster)
    return str(cluster.kubeconfig())


@pytest.mark.kernel
def test_the_jobs_of_the_pages_run(kubeconfig: str, cluster: Cluster, tmp_path: Path) -> None:
    """Every magic block about clusters runs in a real kernel, and kubectl finds what it made."""
    cells = of_all_pages(CLUSTER)
    assert len(cells) >= 6
    loaded = ["%load_ext qwex_jupyter", *cells, "%qwex runs"]
    notebook = execute(cells_of(loaded), tmp_path, KUBECONFIG=kubeconfig)
    assert "✓ succeeded" in str(notebook.cells[-1].outputs)
    said = str([cell.outputs for cell in notebook.cells])
    for word in (
        "one draw on a cluster: 0.13",
        "kind: Job",
        "hello from the pod qwex",
        "It had not started",
        "http://proxy.example:3128",
    ):
        assert word in said, word
    for block in blocks(ROOT / "docs" / "kubernetes.md", "sh"):
        words = block.split()
        assert words.pop(0) == "kubectl"
        assert "qwex-" in cluster.kubectl(*words, "--all-namespaces")


def test_the_python_of_the_readme_runs(home: str) -> None:
    """Every Python block of the README runs as a script."""
    for block in blocks(ROOT / "README.md", "python"):
        env = {**os.environ, "QWEX_HOME": home}
        done = subprocess.run(
            [sys.executable, "-c", block], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["FAILED", "3", "hello"]


def runner_of_the_page(folder: Path) -> dict[str, str]:
    """Writes the blocks of "Write your own runner" as the files that they are; their texts."""
    text = section(ROOT / "CONTRIBUTING.md", "Write your own runner")
    files = {}
    for _, block in BLOCK.findall(text):
        name, _, rest = block.removeprefix("# ").partition("\n")
        files[name] = rest
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(rest)
    return files


def test_the_runner_of_the_page_passes_the_contract(tmp_path: Path) -> None:
    """The blocks of "Write your own runner" are a package, which is found and does as it says."""
    files = runner_of_the_page(tmp_path)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    # As pip installs it.
    (tmp_path / "it.dist-info").mkdir()
    (tmp_path / "it.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    ((group, points),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    (tmp_path / "it.dist-info" / "entry_points.txt").write_text("\n".join(lines))
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "QWEX_HOME": str(tmp_path / "home")}
    for words, said in (
        (["pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"], " passed"),
        (["qwex_jupyter.cli", "run", "--quiet", "--runner=mine", "env", "QUEUE"], "day\n"),
        (["qwex_jupyter.cli", "run", "-h", "--runner=mine"], "the queue it waits in [mine]"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout


@pytest.mark.once
@pytest.mark.tier("all")
def test_the_runner_of_the_page_can_be_installed(tmp_path: Path) -> None:
    """Pip installs those files as they stand there, and the runner is found by its name."""
    runner_of_the_page(tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    there = ["--no-deps", "--target", str(tmp_path / "site"), str(tmp_path)]
    done = subprocess.run([*pip, *there], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "QWEX_HOME": str(tmp_path / "home")}
    line = ["run", "--quiet", "--runner=mine", "--queue", "night", "env", "QUEUE"]
    command = [sys.executable, "-m", "qwex_jupyter.cli", *line]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "night\n"), done.stderr


def test_the_verbs_of_the_readme_exist() -> None:
    """Every %qwex verb that a page names is one."""
    from qwex_jupyter.commands import options

    known = {*options.VERBS, *options.ALIASES}
    for page in PAGES:
        for verb in re.findall(r"(?<!%)%qwex ([a-z]+)\b", page.read_text()):
            assert verb in known, f"{page.name}: %qwex {verb}"


def test_the_commands_of_the_readme_are_there() -> None:
    """The README's two commands are folders that Python can run."""
    commands = "".join(blocks(ROOT / "README.md", "sh"))
    for name in re.findall(r"^python3 (\w+)$", commands, re.MULTILINE):
        assert (ROOT / name / "__main__.py").exists(), name
    assert "python3 tests" in commands
    assert "python3 tests" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of this repository."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def _told(path: Path, folder: Path, **env: str) -> str:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        # What is to outlive a restart lasts longer than one takes here, however busy it is.
        cell.source = cell.source.replace("time.sleep(0.5)", "time.sleep(2)")
    return str(execute(notebook.cells, folder, **env).cells)


@pytest.mark.kernel
def test_the_quickstart_runs(tmp_path: Path) -> None:
    """The first notebook runs from top to bottom in a real kernel."""
    shown = _told(ROOT / "notebooks" / "01_quickstart.ipynb", tmp_path)
    for word in (
        "epoch 3",
        "step 4: loss 0.200",
        "its timeout of",
        "it asked for input",
        "✓ succeeded",
    ):
        assert word in shown, word


@pytest.mark.kernel
def test_the_notebook_about_containers_runs(docker_host: str, tmp_path: Path) -> None:
    """The notebook about containers runs with an engine, over a restart of its kernel."""
    shown = _told(ROOT / "notebooks" / "02_docker.ipynb", tmp_path, DOCKER_HOST=docker_host)
    for word in (
        "hello from / as user 0",
        "exit 3",
        "total 1400",
        "Killed for memory",
        "still running",
        "SUCCEEDED 0 False",
        "step 11: loss 0.083",
        "docker run --rm --init --network none --memory 268435456",
    ):
        assert word in shown, word


@pytest.mark.kernel
def test_the_notebook_about_clusters_runs(kubeconfig: str, tmp_path: Path) -> None:
    """The notebook about clusters runs with one, over a restart of its kernel."""
    path = ROOT / "notebooks" / "03_kubernetes.ipynb"
    shown = _told(path, tmp_path, KUBECONFIG=kubeconfig)
    for word in (
        "hello from / as user 0",
        "exit code 3",
        "total 1400",
        "a token of 7 letters",
        "Killed for memory",
        "It had not started",
        "· %qwex attach",
        "SUCCEEDED 0 False",
        "step 11: loss 0.083",
        "backoffLimit: 0",
    ):
        assert word in shown, word
    assert "hunter2" not in shown.replace('\\"hunter2\\"', "").replace('"hunter2"', "")


def test_the_notebook_about_the_monitor_runs(tmp_path: Path) -> None:
    """The notebook about monitor and history runs: sweep, table, waiting, cause, rerun, picture."""
    pytest.importorskip("matplotlib")
    shown = _told(ROOT / "notebooks" / "04_monitor_and_history.ipynb", tmp_path)
    for word in ("as of 20", "it diverges at rate 0.1", "rate-0.04", "image/png"):
        assert word in shown, word


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_its_outputs(path: Path) -> None:
    """A notebook in the repository holds its outputs, small, and nothing of one machine."""
    text = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) > len(code) / 2
    assert len(text) < 200_000
    for mark in ("/root", "/home/", "/Users/", "/tmp/"):
        assert mark not in text, mark


def test_no_page_tells_of_one_machine() -> None:
    """No document names a path of a machine that it was written on."""
    for page in PAGES:
        for mark in ("/root/", "/home/", "/Users/"):
            assert mark not in page.read_text(), f"{page.name}: {mark}"
