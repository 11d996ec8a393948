"""Reruns: the same again, where it was, with what it had, and only what is given changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_helpers import end, sh

from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.again import spec_of
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec, Resources
from qwex_jupyter.runners.docker import body
from qwex_jupyter.runners.k8s import manifest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a file and a folder."""
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "data.txt").write_text("mine\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Another folder, from which things are done again."""
    folder = tmp_path / "there"
    (folder / "sub").mkdir(parents=True)
    (folder / "data.txt").write_text("another\n")
    return folder


@pytest.fixture
def manager(home: str) -> Iterator[RunManager]:
    """Of a history that is empty."""
    manager = RunManager(home)
    yield manager
    manager.close()


TELLS = "pwd; cat data.txt; echo ${A-} ${B-}; ls | sort | tr '\\n' ' '; echo new > made"


def lines(run: Run) -> list[str]:
    """What a run printed, after its end."""
    end(run)
    return run.logs("stdout").splitlines()


FIRST: dict[str, dict[str, Any]] = {
    "plain": {},
    "here": {"here": True},
    "files": {"files": ("data.txt",)},
    "workdir": {"workdir": "."},
    "whole workdir": {"workdir": "HERE"},
}


def placed(values: dict[str, Any], here: Path) -> dict[str, Any]:
    """These values, with a folder in the place of the word for it."""
    return {name: str(here) if value == "HERE" else value for name, value in values.items()}


@pytest.mark.parametrize("given", ["nothing", "env", "label", "timeout", "name"])
@pytest.mark.parametrize("first", FIRST)
def test_what_is_not_given_stays(
    manager: RunManager,
    here: Path,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    given: str,
) -> None:
    """Wherever it is asked for: the folder, or the copies, the variables and the labels it had."""
    values = placed(FIRST[first], here)
    labels = {"team": "x", "k": "1"}
    run = manager.submit(sh(TELLS, env={"A": "1", "B": "2"}, labels=labels, **values))
    before = lines(run)
    more: dict[str, Any] = {
        "nothing": {},
        "env": {"env": {"B": "3"}},
        "label": {"labels": {"k": "2"}},
        "timeout": {"timeout": "1h"},
        "name": {"name": "second"},
    }[given]
    monkeypatch.chdir(there)
    if first == "files":
        (here / "data.txt").write_text("changed meanwhile\n")
    else:
        (here / "made").unlink()
    again = run.rerun(**more)
    after = lines(again)
    folder = os.path.join(again.log.folder, "work") if first == "files" else str(here)
    assert after[0] == folder and after[1] == before[1] == "mine"
    assert after[2] == ("1 3" if given == "env" else "1 2")
    assert after[3] == before[3]
    assert again.record.labels == ({**labels, "k": "2"} if given == "label" else labels)
    assert again.record.cwd == str(here)
    third = lines(again.rerun())
    assert third[1:3] == after[1:3]
    assert sorted(os.listdir(there)) == ["data.txt", "sub"]


GIVEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "here": ({"here": True}, "THERE", "another"),
    "files": ({"files": ("data.txt",)}, "WORK", "another"),
    "workdir": ({"workdir": "sub"}, "THERE/sub", ""),
    "whole workdir": ({"workdir": "HERE"}, "HERE", "mine"),
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("first", FIRST)
def test_where_it_works_is_one_thing(
    manager: RunManager,
    here: Path,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    given: str,
) -> None:
    """What is given now takes the place of what said so before, and counts from the folder now."""
    values = placed(FIRST[first], here)
    run = manager.submit(sh("pwd; cat data.txt || true", **values))
    end(run)
    monkeypatch.chdir(there)
    more, folder, text = GIVEN[given]
    more = placed(more, here)
    again = run.rerun(**more)
    end(again)
    work = os.path.join(again.log.folder, "work")
    folder = folder.replace("THERE", str(there)).replace("HERE", str(here)).replace("WORK", work)
    assert again.logs("stdout").splitlines() == [folder, *([text] if text else [])]


def test_a_program_that_cleans_up_reaches_its_copies_only(manager: RunManager, here: Path) -> None:
    """However often it is done again, and from whatever folder."""
    (here / "link").symlink_to("data.txt")
    run = manager.submit(sh("echo gone > link; rm -rf ./* .[!.]*; ls -A", files=(".",)))
    assert lines(run) == []
    again = run.rerun()
    assert lines(again) == []
    assert lines(again.rerun()) == []
    assert (here / "data.txt").read_text() == "mine\n"
    assert sorted(os.listdir(here)) == ["data.txt", "link", "sub"]


def test_what_a_run_made_is_not_carried_on(manager: RunManager, here: Path) -> None:
    """A rerun has what the run was given, not what it left."""
    run = manager.submit(
        sh("cat data.txt; ls; echo more >> data.txt; touch made; rm -r sub", files=(".",))
    )
    first = lines(run)
    second = run.rerun()
    assert lines(second) == first == ["mine", "data.txt", "sub"]
    assert lines(second.rerun()) == first


def test_copies_outlive_the_run_that_they_were_taken_for(manager: RunManager, here: Path) -> None:
    """A rerun has copies of its own; of a deleted run it is too late."""
    run = manager.submit(sh("cat data.txt", files=("data.txt",)))
    end(run)
    second = run.rerun()
    end(second)
    run.delete()
    assert lines(second.rerun()) == ["mine"]


@pytest.mark.parametrize("values", [{}, {"here": True}, {"workdir": "sub"}])
def test_a_folder_that_is_gone_is_not_replaced_by_another(
    manager: RunManager,
    here: Path,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
) -> None:
    """A rerun in a folder that isn't there is refused, and says what to do."""
    run = manager.submit(sh("true", **values))
    end(run)
    monkeypatch.chdir(there)
    shutil.rmtree(here)
    with pytest.raises(SpecError, match=r"here, in which it worked, isn't there any more: .* -w"):
        run.rerun()
    again = run.rerun(workdir=str(there))
    end(again)
    assert again.record.cwd == str(there)
    assert len(manager.history.run_ids()) == 2


def test_a_whole_folder_needs_no_other(
    manager: RunManager, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What works in a folder that is there, or among copies, doesn't ask for the one it was in."""
    runs = [
        manager.submit(sh("pwd", workdir=str(there))),
        manager.submit(sh("cat data.txt", files=("data.txt",))),
    ]
    for run in runs:
        end(run)
    monkeypatch.chdir(there)
    shutil.rmtree(here)
    assert [lines(run.rerun()) for run in runs] == [[str(there)], ["mine"]]


def again_of(spec: JobSpec, **given: Any) -> JobSpec:
    """What a rerun of this would submit, whatever runs it."""
    fact = {"spec": spec.to_json(), "cwd": os.getcwd()}
    return spec_of("20261129-120000-abcdef", fact, given)


def test_mappings_are_merged_by_name(here: Path) -> None:
    """Only what is named changes; ``NAME-`` takes away, and what isn't there can't be."""
    spec = JobSpec(
        command=("true",),
        image="i",
        env={"A": "1", "B": "2", "HOME": None},
        labels={"team": "x", "k": "1"},
        options={"network": "none", "pull": "never"},
        resources=Resources(cpus=2, memory=1 << 30),
    )
    again = again_of(
        spec,
        env={"B": "3", "C": "4", "A-": None},
        labels={"k-": "", "new": "y"},
        options={"pull": "always"},
        resources={"memory": "2g"},
    )
    assert again.env == {"B": "3", "HOME": None, "C": "4"}
    assert again.labels == {"team": "x", "new": "y"}
    assert again.options == {"network": "none", "pull": "always"}
    assert again.resources == Resources(cpus=2, memory=2 << 30)
    assert again_of(spec, resources=Resources(cpus=1)).resources == Resources(
        cpus=1, memory=1 << 30
    )
    assert again_of(spec, resources={"cpus": None}).resources == Resources(memory=1 << 30)
    for name, value in (("env", {"X-": None}), ("labels", {"X-": ""})):
        with pytest.raises(SpecError, match=f"{name}: X- takes nothing away: the run has "):
            again_of(spec, **{name: value})
    with pytest.raises(SpecError, match="'ram'"):
        again_of(spec, resources={"ram": 1})


def test_lists_grow(here: Path) -> None:
    """Secrets and env files are added, a mount takes the place of the one at its path."""
    (here / "old.env").touch()
    spec = JobSpec(
        command=("true",),
        image="i",
        env={"PLAIN": "1"},
        secrets=("TOKEN", "OTHER"),
        env_files=("old.env",),
        volumes=("./sub:/data:ro", "cache:/cache"),
    )
    again = again_of(
        spec,
        env={"OTHER": "plain now"},
        secrets=("MORE", "PLAIN", "TOKEN"),
        env_files=("/new.env",),
        volumes=("/other:/data",),
    )
    assert again.secrets == ("TOKEN", "MORE", "PLAIN")
    assert again.env == {"OTHER": "plain now"}
    assert again.env_files == (f"{here}/old.env", "/new.env")
    assert again.volumes == ("/other:/data", "cache:/cache")


def test_paths_count_from_where_they_were_written(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount, an env file, a patch and a shared folder are those of the run, done again there."""
    (here / "patch.yaml").write_text("priority: 3\n")
    (here / "v.env").write_text("A=1\n")
    spec = JobSpec(
        command=("true",), image="i", here=True, env_files=("v.env",), volumes=("./sub:/data",)
    )
    one = again_of(spec)
    monkeypatch.chdir(there)
    plan = body.make_plan(one, "r", "h")
    assert plan["body"]["WorkingDir"] == str(here)
    assert [mount["Source"] for mount in plan["body"]["HostConfig"]["Mounts"]] == [
        f"{here}/sub", str(here),
    ]  # fmt: skip
    monkeypatch.chdir(here)
    patched = JobSpec(command=("true",), image="i", options={"pod-patch": "patch.yaml"})
    two = again_of(patched)
    monkeypatch.chdir(there)
    job = manifest.make_plan(two, "r", "h")["job"]
    assert job["spec"]["template"]["spec"]["priority"] == 3


def test_another_image_keeps_the_rest(manager: RunManager, here: Path) -> None:
    """A rerun in an image is Docker's, has the same files, and drops what it was not given."""
    spec = JobSpec(command=("sh", "x.sh"), files=("data.txt",), env={"A": "1"})
    run_id = "20261129-120000-abcdef"
    fact = {"run_id": run_id, "runner": "local", "identity": "x", "cwd": str(here)}
    fact |= {"spec": spec.to_json(), "created_at": 1.0, "command": "sh"}
    manager.history.create(spec, fact)
    runner, again = manager.again(run_id, image="busybox")
    assert (runner, again.image, again.files_of) == ("docker", "busybox", run_id)
    assert (again.env, again.command) == ({"A": "1"}, ("sh", "x.sh"))


def qwex(here: Path, home: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One command line, in a folder."""
    env = {"PATH": os.environ["PATH"], "HOME": str(here), "QWEX_HOME": home, "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "qwex_jupyter.cli", *words]
    return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, check=False)


def test_the_words_of_a_line(here: Path, there: Path, home: str) -> None:
    """In a terminal: variables and labels are merged and taken away, files go along."""
    (here / "x.sh").write_text("echo A=${A-} B=${B-}; cat data.txt\n")
    first = qwex(
        here, home, "run", "-e", "A=1", "-e", "B=2", "-l", "k=1", "-l", "t=x", "sh", "x.sh"
    )
    assert first.stdout == "A=1 B=2\nmine\n", first.stderr
    again = qwex(there, home, "rerun", "-e", "B=3", "-e", "A-", "-l", "k-")
    assert again.stdout == "A= B=3\nmine\n", again.stderr
    assert qwex(here, home, "rerun", "-e", "A-").returncode == 64
    # The script that its command names is here, and goes along with the files.
    (there / "x.sh").write_text("echo of there; cat data.txt; pwd\n")
    copied = qwex(there, home, "rerun", "--files", "data.txt")
    assert copied.stdout.startswith("of there\nanother\n"), copied.stderr
    assert copied.stdout.endswith("/work\n")
    shared = qwex(there, home, "rerun", "--here")
    assert shared.stdout == f"of there\nanother\n{there}\n", shared.stderr
    dry = qwex(there, home, "rerun", "--files", "data.txt", "--dry-run")
    assert "cp -pRL" in dry.stdout and "x.sh" in dry.stdout
    said = qwex(here, home, "run", "--files", "data.txt", "--", "sh", "x.sh")
    assert said.stdout == "A= B=\nmine\n", said.stderr
