"""Where a run was submitted from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from qwex_jupyter.system import frontend


def _git(folder: Path, *words: str) -> str:
    names = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    env = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit on a branch."""
    folder = tmp_path / "repo"
    (folder / "deep" / "er").mkdir(parents=True)
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return folder


def test_the_commit_is_that_of_the_folder_or_one_above(repository: Path) -> None:
    """A run in a subfolder of a repository knows the commit that is checked out."""
    head = _git(repository, "rev-parse", "HEAD")
    assert frontend.git_commit(str(repository)) == head
    assert frontend.git_commit(str(repository / "deep" / "er")) == head


def test_packed_references_are_read(repository: Path) -> None:
    """The commit is found after ``git pack-refs`` took the branch's own file away."""
    head = _git(repository, "rev-parse", "HEAD")
    _git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert frontend.git_commit(str(repository)) == head


def test_a_detached_head_is_a_commit(repository: Path) -> None:
    """A checkout of a commit without a branch is that commit."""
    head = _git(repository, "rev-parse", "HEAD")
    _git(repository, "checkout", "-q", "--detach")
    assert frontend.git_commit(str(repository)) == head


def test_a_worktree_has_its_own_commit(repository: Path, tmp_path: Path) -> None:
    """In a linked worktree the commit is that of its own branch."""
    _git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    _git(tmp_path / "side", "commit", "-q", "--allow-empty", "-m", "two")
    head = _git(tmp_path / "side", "rev-parse", "HEAD")
    assert head != frontend.git_commit(str(repository))
    assert frontend.git_commit(str(tmp_path / "side")) == head


@pytest.mark.parametrize(
    "damage", ["", "ref: refs/heads/none", "\x00\xff", "ref: ../../etc/passwd"]
)
def test_damage_in_a_repository_is_no_commit(tmp_path: Path, damage: str) -> None:
    """A repository that can't be read, or has no commit yet, costs no run its submit."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(damage, encoding="latin-1")
    assert frontend.git_commit(str(tmp_path)) == ""


def test_what_a_detached_run_ends_with_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a hub, in a batch job, in a pod and in a container, local runs end with it."""
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    assert frontend.ends_with_server() == ""
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/.dockerenv")
    assert frontend.ends_with_server() == "this container"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert frontend.ends_with_server() == "this pod"
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert frontend.ends_with_server() == "the Slurm job 4711"
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert frontend.ends_with_server() == "this JupyterHub server"


def test_the_notebook_is_what_its_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook goes by the name its server gave it; a run is mine by that name."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/srv/train.ipynb")
    assert frontend.notebook() == "/srv/train.ipynb"
    assert frontend.is_mine("/srv/train.ipynb", "another kernel")
    assert not frontend.is_mine("/srv/other.ipynb", frontend.session())


def test_without_a_notebook_a_run_is_mine_by_session() -> None:
    """Outside a notebook, what this very process submitted is its own."""
    assert frontend.notebook() == ""
    assert frontend.session() == f"pid-{os.getpid()}"
    assert frontend.is_mine("", frontend.session())
    assert not frontend.is_mine("", "pid-1")
    assert not frontend.is_kernel()


def test_a_submit_remembers_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, host, process, notebook, session and commit go into spec.json."""
    monkeypatch.chdir(tmp_path)
    found = frontend.here()
    assert found["cwd"] == str(tmp_path)
    assert found["submitter"]["pid"] == os.getpid()
    assert set(found) == {"cwd", "host", "submitter", "notebook", "session", "git_commit"}
