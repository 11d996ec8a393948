"""What goes along with a run: which files, under which names, and that nobody works in them."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from local_helpers import end, sh

from qwex_jupyter.disk import carry, facts
from qwex_jupyter.disk.folder import FILES, SPEC, RunFolder
from qwex_jupyter.errors import FactUnreadable, SpecError, SubmitFailed
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec


@pytest.fixture
def manager(home: str) -> Any:
    """Of a history that is empty."""
    manager = RunManager(home)
    yield manager
    manager.close()


def spec_of(*files: str, **values: Any) -> JobSpec:
    """A spec that carries these."""
    return JobSpec(command=("true",), files=files, **values)


def names(*files: str, home: str = "/no/home") -> list[str]:
    """The names that these have in the working folder."""
    return [one.path for one in carry.survey(spec_of(*files), home)]


def taken(spec: JobSpec, folder: Path, home: str = "/no/home") -> dict[str, carry.Carried]:
    """What a run that carries these has, by name."""
    folder.mkdir(exist_ok=True)
    carry.take(spec, home, RunFolder(str(folder)))
    found = carry.manifest(RunFolder(str(folder)))
    assert found is not None
    return {one.path: one for one in found}


def test_names_are_relative_to_the_folder(here: Path, tmp_path: Path) -> None:
    """What is in the folder keeps its path, and dots at a name's beginning; else its last part."""
    for name in ("a/b/c", "..odd/x", "one"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "deep").touch()
    assert names("a/b/c", "..odd/x", str(here / "one"), "../outside") == [
        "a", "a/b", "a/b/c", "..odd", "..odd/x", "one", "outside", "outside/deep",
    ]  # fmt: skip
    assert names("a/../one", "./a/b/", "a//b") == ["one", "a", "a/b", "a/b/c"]
    assert names(".") == ["..odd", "..odd/x", "a", "a/b", "a/b/c", "one"]
    assert names("..") == [tmp_path.name, *(
        f"{tmp_path.name}/{rest}" for rest in (
            "here", "here/..odd", "here/..odd/x", "here/a", "here/a/b", "here/a/b/c", "here/one",
            "outside", "outside/deep",
        )
    )]  # fmt: skip


def test_a_folder_to_count_from_is_part_of_the_spec(here: Path, tmp_path: Path) -> None:
    """With ``cwd`` names count from there, whatever the current folder is."""
    (tmp_path / "there" / "sub").mkdir(parents=True)
    (tmp_path / "there" / "sub" / "x").touch()
    spec = spec_of("sub/x", cwd=str(tmp_path / "there"))
    assert [one.path for one in carry.survey(spec, "/no/home")] == ["sub", "sub/x"]


def test_the_manifest_says_what_lies_there(here: Path, tmp_path: Path) -> None:
    """Size, mode, time and hash are those of the original; the copy may only be read."""
    (here / "data").mkdir()
    (here / "data" / "ä tool").write_bytes(bytes(range(256)))
    (here / "data" / "ä tool").chmod(0o750)
    (here / "data" / "empty").mkdir()
    os.utime(here / "data" / "ä tool", ns=(10**18, 10**18 + 7))
    found = taken(spec_of("data"), tmp_path / "run")
    assert list(found) == ["data", "data/empty", "data/ä tool"]
    tool = found["data/ä tool"]
    assert (tool.size, tool.mode, tool.mtime, tool.folder) == (256, 0o750, 10**18 + 7, False)
    assert tool.sha256 == hashlib.sha256(bytes(range(256))).hexdigest()
    assert found["data/empty"].folder
    copy = tmp_path / "run" / "files" / "data" / "ä tool"
    assert tool.source == str(copy)
    assert copy.read_bytes() == bytes(range(256))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o400
    assert str(here) not in (tmp_path / "run" / FILES).read_text()


def test_the_working_copy_is_another_file(here: Path, tmp_path: Path) -> None:
    """What a process works with may be written, has mode and time, and changes no pristine one."""
    (here / "sub").mkdir()
    (here / "sub" / "tool").write_text("before")
    (here / "sub" / "tool").chmod(0o555)
    os.utime(here / "sub" / "tool", ns=(10**18, 10**18))
    run = tmp_path / "run"
    taken(spec_of("sub"), run)
    carry.unpack(RunFolder(str(run)))
    copy = run / "work" / "sub" / "tool"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert copy.stat().st_mtime_ns == 10**18
    copy.write_text("changed")
    assert (run / "files" / "sub" / "tool").read_text() == "before"
    carry.unpack(RunFolder(str(run)))
    assert copy.read_text() == "changed"


@pytest.mark.parametrize("link", ["to a file", "to a folder", "out of it", "named", "to a link"])
def test_a_link_is_carried_as_what_it_leads_to(here: Path, tmp_path: Path, link: str) -> None:
    """A program that writes through its copies, or removes them, reaches no original."""
    (here / "sub").mkdir()
    (here / "sub" / "x").write_text("mine")
    (here / "sub" / "folder").mkdir()
    (here / "sub" / "folder" / "x").write_text("mine")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").write_text("mine")
    (here / "sub" / "first").symlink_to("x")
    place, target = {
        "to a file": ("sub/link", "x"),
        "to a folder": ("sub/link", "folder"),
        "out of it": ("sub/link", "../../far"),
        "named": ("link", "../far"),
        "to a link": ("sub/link", "first"),
    }[link]
    (here / place).symlink_to(target)
    run = tmp_path / "run"
    found = taken(spec_of("sub", "link") if link == "named" else spec_of("sub"), run)
    assert f"{place}/x" in found or not found[place].folder
    carry.unpack(RunFolder(str(run)))
    assert not [path for path in run.rglob("*") if path.is_symlink()]
    for path in (run / "work").rglob("*"):
        if path.is_file():
            path.write_text("gone")
    shutil.rmtree(run / "work")
    assert {path.read_text() for path in here.rglob("*") if path.is_file()} == {"mine"}
    assert (tmp_path / "far" / "x").read_text() == "mine"


def _refused(here: Path, tmp_path: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Words that are refused, and what is said of them."""
    (here / "sub").mkdir()
    (here / "sub" / "x").touch()
    (here / "x").touch()
    os.mkfifo(here / "pipe")
    (here / "pipes").mkdir()
    os.mkfifo(here / "pipes" / "p")
    (here / "sockets").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("sockets/s")
    for name, target in (("nowhere", "no"), ("itself", "."), ("around", ".."), ("loop", "loop")):
        (here / name).mkdir()
        (here / name / "link").symlink_to(target)
    (here / "around" / "deep").mkdir()
    (here / "around" / "deep" / "link").symlink_to("..")
    for name in ("one", "two"):
        (tmp_path / name / "conf").mkdir(parents=True)
        (tmp_path / name / "conf.yml").touch()
        (tmp_path / name / "conf" / "x").touch()
    (here / "home" / "runs").mkdir(parents=True)
    os.makedirs(os.fsencode(here / "bytes"))
    (here / "bytes").joinpath(os.fsdecode(b"\xff")).touch()
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "sub").touch()
    return {
        "missing": (("missing",), f"'missing' isn't there: it is looked for in {here}"),
        "a pipe": (("pipe",), "'pipe' can't be carried: it is a named pipe"),
        "a pipe in a folder": (("pipes",), f"{here}/pipes/p can't be carried: it is a named pipe"),
        "a socket": (("sockets",), f"{here}/sockets/s can't be carried: it is a socket"),
        "a device": (("/dev/null",), "'/dev/null' can't be carried: it is a device"),
        "a link to nothing": (("nowhere",), f"{here}/nowhere/link is a link that leads nowhere"),
        "a link to itself": (("loop",), f"{here}/loop/link is a link that leads nowhere"),
        "a circle": (("itself",), "link is a link that leads back to a folder around it"),
        "a circle out": (("around",), "link is a link that leads back to a folder around it"),
        "the home": (("home",), "'home' is the history of runs"),
        "what holds the home": ((".",), f"{here}/home is the history of runs"),
        "two files": (
            ("../one/conf.yml", "../two/conf.yml"),
            f"{tmp_path}/one/conf.yml and {tmp_path}/two/conf.yml would both be conf.yml",
        ),
        "two files in folders": (
            ("../one/conf", "../two/conf"),
            f"{tmp_path}/one/conf/x and {tmp_path}/two/conf/x would both be conf/x",
        ),
        "a file and a folder": (
            ("sub", "../three/sub"),
            f"{here}/sub and {tmp_path}/three/sub would both be sub",
        ),
        "a file and what is in a folder": (
            ("../three/sub", "sub/x"),
            f"{tmp_path}/three/sub and {here}/sub would both be sub",
        ),
        "a name of bytes": (("bytes",), "has a name that isn't UTF-8: rename it"),
    }


KINDS = (
    "missing", "a pipe", "a pipe in a folder", "a socket", "a device", "a link to nothing",
    "a link to itself", "a circle", "a circle out", "the home", "what holds the home",
    "two files", "two files in folders", "a file and a folder", "a file and what is in a folder",
    "a name of bytes",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_not_be_carried_is_named(here: Path, tmp_path: Path, kind: str) -> None:
    """One sentence says which, before anything is left of the run."""
    refused = _refused(here, tmp_path)
    assert set(refused) == set(KINDS)
    files, why = refused[kind]
    if kind == "what holds the home":
        for name in ("pipe", "pipes", "sockets", "nowhere", "itself", "around", "loop", "bytes"):
            path = here / name
            path.unlink() if name == "pipe" else shutil.rmtree(path)
    manager = RunManager(str(here / "home"))
    (here / "home").chmod(0o700)
    with pytest.raises(SpecError) as caught:
        manager.submit(sh("true", files=files))
    manager.close()
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert manager.history.run_ids() == [] == manager.history.open_ids()
    assert os.listdir(manager.history.runs_folder) == []


def test_what_may_not_be_read_is_named(here: Path, tmp_path: Path) -> None:
    """A file or folder of another's that can't be read is refused, by name."""
    (here / "sub").mkdir()
    (here / "sub" / "secret").touch()
    code = (
        "import sys; from qwex_jupyter.disk import carry\n"
        "from qwex_jupyter.model.spec import JobSpec\n"
        "try: carry.survey(JobSpec(command=('x',), files=('sub',)), '/no/home')\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    for path in (here / "sub" / "secret", here / "sub"):
        path.chmod(0)
        if os.getuid():
            with pytest.raises(SpecError, match=path.name):
                names("sub")
        else:
            # Root may read everything: as somebody else.
            tmp_path.chmod(0o755)
            become = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
            become += ["--inh-caps=-all", "--bounding-set=-all"]
            python = shutil.which("python3", path="/usr/bin:/bin")
            if python is None or not _reachable(here):
                pytest.skip("no other user can come here")
            import qwex_jupyter

            root = os.path.dirname(os.path.dirname(qwex_jupyter.__file__))
            copy = shutil.copytree(
                os.path.join(root, "qwex_jupyter"), tmp_path / str(len(path.name)) / "qwex_jupyter"
            )
            done = subprocess.run(
                [*become, python, "-c", code],
                env={"PYTHONPATH": os.path.dirname(copy), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout.startswith("SpecError") and path.name in done.stdout, done
        path.chmod(0o700)


def _reachable(path: Path) -> bool:
    """Whether anybody may enter this folder; those above that are ours are opened."""
    for folder in path.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            if folder.stat().st_uid != os.getuid() or folder == Path("/root"):
                return False
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)
    return True


def test_the_same_file_twice_is_one(here: Path) -> None:
    """A file that is named again, by itself or in its folder, is carried once."""
    (here / "sub").mkdir()
    (here / "sub" / "x").touch()
    assert names("sub", "sub/x", "sub/", str(here / "sub")) == ["sub", "sub/x"]
    assert names("sub/x", ".") == ["sub", "sub/x"]


def test_folders_of_one_name_are_joined(here: Path, tmp_path: Path) -> None:
    """Two folders may share a name as long as no two files do."""
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / name).write_text(name)
    found = taken(spec_of("../one/data", "../two/data"), tmp_path / "run")
    assert list(found) == ["data", "data/one", "data/two"]


@pytest.fixture
def first(here: Path, home: str) -> Path:
    """The folder of a run that carries ``x``, in which stands "mine"."""
    (here / "x").write_text("mine")
    folder = Path(RunHistory(home).folder("20261129-120000-first2"))
    folder.mkdir()
    facts.link_once(str(folder), SPEC, {})
    taken(spec_of("x"), folder)
    return folder


def test_a_rerun_shares_the_pristine_copies(
    here: Path, first: Path, tmp_path: Path, home: str
) -> None:
    """They are linked among themselves, never with what is worked in; each goes by itself."""
    (here / "x").write_text("changed")
    second = tmp_path / "second"
    again = JobSpec(command=("true",), files_of=first.name)
    found = taken(again, second, home)
    assert (second / "files" / "x").stat().st_ino == (first / "files" / "x").stat().st_ino
    carry.unpack(RunFolder(str(second)))
    assert (second / "work" / "x").stat().st_nlink == 1
    shutil.rmtree(first)
    assert (second / "files" / "x").read_text() == "mine"
    assert found["x"].sha256 == hashlib.sha256(b"mine").hexdigest()


def test_without_hard_links_a_rerun_has_copies(
    first: Path, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a copy can't be given a second name it is copied."""

    def refuse(source: str, target: str) -> None:
        if "/files/" in str(target):
            raise OSError(31, "Too many links")
        real(source, target)

    real = os.link
    monkeypatch.setattr(os, "link", refuse)
    second = tmp_path / "second"
    taken(JobSpec(command=("true",), files_of=first.name), second, home)
    assert (second / "files" / "x").read_text() == "mine"
    assert (second / "files" / "x").stat().st_nlink == 1
    assert stat.S_IMODE((second / "files" / "x").stat().st_mode) == 0o400


def _damage(folder: Path, how: str) -> None:
    copy = folder / "files" / "x"
    if how == "changed":
        copy.chmod(0o600)
        copy.write_text("other")
    elif how == "gone":
        copy.unlink()
    elif how == "an earlier version":
        (folder / FILES).unlink()
    elif how == "damaged":
        (folder / FILES).write_text("{")
    elif how == "strange":
        (folder / FILES).write_text('{"files": [{"name": 1}]}')
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("changed", "x isn't the copy any more that run first2 had: name the files anew"),
        ("gone", "x isn't the copy any more that run first2 had: name the files anew"),
        ("an earlier version", "run first2 were made by an earlier version"),
        ("damaged", "the copies of run first2 can't be told"),
        ("strange", "the copies of run first2 can't be told"),
        ("deleted", "run first2 is deleted, and its copies with it: name them anew"),
    ],
)
def test_copies_that_are_not_what_they_were_are_refused(
    first: Path, tmp_path: Path, home: str, how: str, why: str
) -> None:
    """A rerun has what the run had, or is refused in one sentence."""
    _damage(first, how)
    with pytest.raises(SpecError) as caught:
        taken(JobSpec(command=("true",), files_of=first.name), tmp_path / "second", home)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_more_files_than_can_be_listed_are_refused(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that could not be read again isn't written, and nothing is left."""
    for number in range(20):
        (here / str(number)).touch()
    monkeypatch.setattr(facts, "MOST_BYTES", 1000)
    (tmp_path / "run").mkdir()
    with pytest.raises(SpecError, match=r"these are 20 files and folders.* carry an archive"):
        carry.take(spec_of("."), "/no/home", RunFolder(str(tmp_path / "run")))
    assert not (tmp_path / "run" / FILES).exists()


def test_a_damaged_manifest_is_said(tmp_path: Path) -> None:
    """What goes along can't be told from a manifest that is no list of files."""
    (tmp_path / FILES).write_text('{"files": 3}')
    with pytest.raises(FactUnreadable, match=r"files\.json"):
        carry.manifest(RunFolder(str(tmp_path)))


def test_no_room_for_the_working_copies_is_said(
    manager: RunManager, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started, and nothing is left, where the copies can't be written."""
    (here / "x").write_text("mine")

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(carry, "unpack", full)
    with pytest.raises(SubmitFailed, match=r"No space left on device.*Free some room"):
        manager.submit(sh("true", files=("x",)))
    assert manager.history.run_ids() == [] == manager.history.open_ids()


def by_hand(run: Run, manager: RunManager) -> str:
    """What the shown line prints, run by a shell."""
    spec = JobSpec.from_json(manager.history.spec_fact(run.run_id)["spec"])
    runner = manager.runner("local")
    line = runner.show(runner.plan(spec, "20261129-120000-byhand"))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_line_that_is_shown_makes_the_copies(manager: RunManager, here: Path) -> None:
    """What ``--dry-run`` prints has the files that the run has, in a rerun too."""
    (here / "sub dir").mkdir()
    (here / "sub dir" / "tool").write_text("#!/bin/sh\necho tool\n")
    (here / "sub dir" / "tool").chmod(0o755)
    (here / "link").symlink_to("sub dir/tool")
    spec = sh("'sub dir/tool'; ./link; find . | sort; echo >> link", files=("sub dir", "link"))
    run = manager.submit(spec)
    end(run)
    assert run.logs().startswith("tool\ntool\n.\n")
    assert by_hand(run, manager) == run.logs()
    again = run.rerun()
    end(again)
    shutil.rmtree(os.path.join(manager.history.runs_folder, "20261129-120000-byhand"))
    assert by_hand(again, manager) == again.logs() == run.logs()


def grown(folder: Path, random: Random) -> None:
    """Fills a folder with files of any bytes and modes, folders, and links to what is there."""
    folders = [folder]
    for number in range(random.randrange(1, 30)):
        place = random.choice(folders)
        path = place / f"{random.choice(['a', 'ä b', '..c', '-d', '.e', 'f:g', '$h'])}{number}"
        kind = random.random()
        if kind < 0.3:
            path.mkdir()
            folders.append(path)
        elif kind < 0.8:
            path.write_bytes(random.randbytes(random.choice([0, 1, 1000, 3 * 1024**2])))
            path.chmod(random.choice([0o644, 0o755, 0o600, 0o444, 0o500]))
        else:
            there = [found for found in folder.rglob("*") if found not in path.parents]
            if there:
                target = random.choice(there)
                path.symlink_to(target if random.random() < 0.5 else os.path.relpath(target, place))


def tree(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """The bytes of each file and whether it may be executed, by path; of folders None."""
    return {
        str(path.relative_to(folder)): (
            (None, 0) if path.is_dir() else (path.read_bytes(), path.stat().st_mode & 0o100)
        )
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("seed", range(25))
def test_any_tree_arrives_as_cp_copies_it(here: Path, tmp_path: Path, seed: int) -> None:
    """What a process works in has the bytes, names and modes of ``cp -RL``; the originals stay."""
    grown(here, Random(seed))
    copied = tmp_path / "copied"
    done = subprocess.run(["cp", "-RLp", f"{here}/.", copied], check=False, capture_output=True)
    run = tmp_path / "run"
    if done.returncode:
        with pytest.raises(SpecError, match="is a link that leads"):
            taken(spec_of("."), run)
        return
    before = tree(here)
    found = taken(spec_of("."), run)
    carry.unpack(RunFolder(str(run)))
    assert tree(run / "work") == tree(copied)
    assert set(found) == set(tree(copied))
    for path in (run / "work").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o200 and path.stat().st_nlink == 1
            path.write_bytes(b"gone")
    assert tree(here) == before
    assert {one.path for one in carry.manifest(RunFolder(str(run))) or []} == set(found)
    again = taken(spec_of("."), tmp_path / "again")
    assert {path: one.sha256 for path, one in again.items()} == {
        path: one.sha256 for path, one in found.items()
    }


def test_what_was_an_empty_folder_stays_one(manager: RunManager, here: Path) -> None:
    """The line that is shown for a rerun has what the run had, also where that was nothing."""
    run = manager.submit(sh("ls", files=(".",)))
    end(run)
    (here / "since").touch()
    again = run.rerun()
    end(again)
    assert run.logs() == again.logs() == by_hand(again, manager) == ""


def test_what_is_handed_over_is_what_was_planned(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``~`` and the current folder are those of the moment in which the run was prepared."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text(name)
    monkeypatch.setenv("HOME", str(tmp_path / "one"))
    monkeypatch.chdir(tmp_path / "one")
    made = [manager.prepare(spec_of(word)) for word in ("~/mine", "mine")]
    monkeypatch.setenv("HOME", str(tmp_path / "two"))
    monkeypatch.chdir(tmp_path / "two")
    for each in made:
        run = manager.hand_over(each).wait(60)
        assert Path(run.log.folder, "files", "mine").read_text() == "one"
