"""Facts appear once, whole, and the first wins, whatever is killed and however full the disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import Actor

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import KILL, LAUNCH, RUN, SEEN, SPEC, STOP
from qwex_jupyter.errors import FactUnreadable, HomeUnusable
from qwex_jupyter.history.history import RunHistory

pytestmark = pytest.mark.forks
NAMES = [SPEC, LAUNCH, STOP, KILL, RUN]
STEPS = ["create", "write", "fsync", "link", "linked", "unlink"]
WRITERS = 8
ROUNDS = 150


@pytest.fixture(autouse=True)
def no_fault() -> Iterator[None]:
    """The seat of fault injection is empty again afterwards."""
    yield
    facts.fault = None


def refuse(step: str, number: int) -> Callable[[str], None]:
    """A fault that fails with this errno at this step, and at each later one of that name."""

    def fault(where: str) -> None:
        if where.endswith(step):
            raise OSError(number, os.strerror(number))

    return fault


def left(folder: Path) -> list[str]:
    """Everything in a folder, by name."""
    return sorted(os.listdir(folder))


def test_the_first_wins_and_everybody_reads_the_winner(tmp_path: Path) -> None:
    """Of 8 processes that link one fact at once one wins, in every round, and all say the same."""
    ready, go = os.pipe(), os.pipe()
    answers = tmp_path / "answers"
    answers.mkdir()
    rounds = [tmp_path / f"round-{number}" for number in range(ROUNDS)]
    for folder in rounds:
        folder.mkdir()

    def race(me: int) -> None:
        os.close(go[1])
        os.write(ready[1], b".")
        os.read(go[0], 1)  # ends for all at once when the parent closes it
        with open(answers / str(me), "w") as file:
            # Each begins with another one, and rests, or who is scheduled first wins them all.
            for folder in rounds[me:] + rounds[:me]:
                mine = {"nonce": f"{me}-{os.urandom(4).hex()}", "by": me, "text": "x" * 3000}
                winner = facts.link_once(str(folder), RUN, mine, sync=False)
                file.write(json.dumps([winner == mine, winner["nonce"]]) + "\n")
                time.sleep(0.0003)

    actors = [Actor(lambda me=me: race(me), "") for me in range(WRITERS)]
    for _ in actors:
        os.read(ready[0], 1)
    os.close(go[1])
    for actor in actors:
        actor.done()
    for descriptor in (*ready, go[0]):
        os.close(descriptor)
    told = []
    for me in range(WRITERS):
        said = [json.loads(line) for line in (answers / str(me)).read_text().splitlines()]
        told.append(said[ROUNDS - me :] + said[: ROUNDS - me])
    winners = set()
    for number, folder in enumerate(rounds):
        fact = facts.read_fact(str(folder), RUN)
        assert fact is not None
        assert [told[me][number][0] for me in range(WRITERS)].count(True) == 1
        assert {told[me][number][1] for me in range(WRITERS)} == {fact["nonce"]}
        assert left(folder) == [RUN]
        winners.add(fact["by"])
    assert len(winners) > 1, "one process was always first: nothing raced"


def test_a_fact_keeps_its_inode_and_its_words(tmp_path: Path) -> None:
    """A second link changes nothing: neither the words nor the file."""
    first = facts.link_once(str(tmp_path), RUN, {"says": "first"})
    before = os.stat(tmp_path / RUN)
    assert facts.link_once(str(tmp_path), RUN, {"says": "second"}) == first
    after = os.stat(tmp_path / RUN)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert after.st_mode & 0o777 == 0o600
    assert after.st_nlink == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_leaves_no_fact_or_a_whole_one(tmp_path: Path, name: str, step: str) -> None:
    """Whoever is killed at any step of any fact leaves nothing, or everything it said."""
    value = {"nonce": "mine", "text": "ü" * 20_000}

    def die_there() -> None:
        facts.fault = lambda where: (
            os.kill(os.getpid(), signal.SIGKILL) if where == f"{name}:{step}" else None
        )
        facts.link_once(str(tmp_path), name, value)

    assert Actor(die_there, "").finish() == -signal.SIGKILL
    fact = facts.read_fact(str(tmp_path), name)
    linked = step in ("linked", "unlink")
    assert fact == (value if linked else None)
    other = facts.link_once(str(tmp_path), name, {"nonce": "other"})
    assert other["nonce"] == ("mine" if linked else "other")


def test_a_kill_at_each_file_operation_of_a_replacement(tmp_path: Path) -> None:
    """An observation that is killed while it replaces the last one leaves the old or the new."""
    folder = str(tmp_path)
    for at in range(5):
        facts.replace(folder, SEEN, {"says": "old"})
        Actor(
            lambda: facts.replace(folder, SEEN, {"says": "new" * 9000}),
            folder,
            at=at,
            by=signal.SIGKILL,
        ).finish()
        seen = facts.read_fact(folder, SEEN)
        assert seen in ({"says": "old"}, {"says": "new" * 9000})
    assert seen == {"says": "new" * 9000}, "no step is behind the rename"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["write", "fsync"])
@pytest.mark.parametrize("name", [LAUNCH, STOP, RUN])
def test_a_full_disk_takes_the_reserve(tmp_path: Path, name: str, step: str, number: int) -> None:
    """Where the disk or the quota is full, the fact is written into room that was set aside."""
    folder = str(tmp_path)
    facts.reserve(folder, dict.fromkeys((LAUNCH, STOP, RUN), 4096))
    facts.fault = refuse(step, number)
    value = {"nonce": "n", "text": "words"}
    assert facts.link_once(folder, name, value) == value
    facts.fault = None
    assert facts.read_fact(folder, name) == value
    facts.release(folder, (LAUNCH, STOP, RUN))
    assert left(tmp_path) == [name]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_without_a_reserve_a_full_disk_is_an_error(tmp_path: Path, step: str) -> None:
    """A fact that finds no room and no reserve is an error, and leaves nothing."""
    facts.fault = refuse(step, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        facts.link_once(str(tmp_path), RUN, {})
    assert left(tmp_path) == []


def test_an_input_output_error_takes_no_reserve(tmp_path: Path) -> None:
    """A broken disk is an error at once: the reserve is for a full one."""
    facts.reserve(str(tmp_path), {RUN: 4096})
    facts.fault = refuse("write", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        facts.link_once(str(tmp_path), RUN, {})
    assert left(tmp_path) == [".reserve.run.json"]


def test_two_writers_never_share_a_reserve(tmp_path: Path) -> None:
    """Of two who find the disk full one takes the reserve; the other's words are nowhere in it."""
    folder = str(tmp_path / "run")
    for at in range(12):
        os.mkdir(folder)
        facts.reserve(folder, {RUN: 4096})

        def write(who: str) -> None:
            before = facts.fault
            full = refuse("write", errno.ENOSPC)

            def both(where: str) -> None:
                if before is not None:
                    before(where)
                full(where)

            facts.fault = both
            try:
                facts.link_once(folder, RUN, {"nonce": who, "text": who * 500})
            except OSError as error:
                assert error.errno == errno.ENOSPC

        first = Actor(lambda: write("a"), folder, at=at, diary=tmp_path / "first")
        first.until_stopped()
        second = Actor(lambda: write("b"), folder, diary=tmp_path / "second")
        second.done()
        first.done()
        fact = facts.read_fact(folder, RUN)
        assert fact is not None
        assert fact["text"] == fact["nonce"] * 500
        assert left(Path(folder)) == [RUN]
        os.unlink(os.path.join(folder, RUN))
        os.rmdir(folder)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV])
def test_a_home_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file system that can't link is refused by a sentence that names QWEX_HOME."""

    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(HomeUnusable, match="set QWEX_HOME"):
        RunHistory(str(tmp_path / "home"))
    with pytest.raises(HomeUnusable, match="set QWEX_HOME"):
        facts.link_once(str(tmp_path), RUN, {})
    assert not facts.exists(str(tmp_path), RUN)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ESTALE, errno.EIO, errno.ENOENT])
def test_a_lost_reply_is_told_by_the_nonce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A link that was made and then reported as an error, as on NFS, is won all the same."""
    real = os.link

    def link(source: str, target: str) -> None:
        real(source, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    value = {"nonce": "mine"}
    assert facts.link_once(str(tmp_path), LAUNCH, value) == value
    assert left(tmp_path) == [LAUNCH]


def test_a_stale_handle_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fact behind an NFS handle that went stale once is read at the second try."""
    facts.link_once(str(tmp_path), RUN, {"nonce": "n"})
    real, failures = os.open, [OSError(errno.ESTALE, "Stale file handle")]

    def opened(path: Any, *rest: Any, **more: Any) -> int:
        if failures and str(path).endswith(RUN):
            raise failures.pop()
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    assert facts.read_fact(str(tmp_path), RUN) == {"nonce": "n"}


def test_a_fact_is_never_read_through_a_link(tmp_path: Path) -> None:
    """A symbolic link in the place of a fact is unreadable, wherever it points."""
    (tmp_path / "other.json").write_text("{}")
    os.symlink(tmp_path / "other.json", tmp_path / RUN)
    with pytest.raises(FactUnreadable):
        facts.read_fact(str(tmp_path), RUN)
    assert facts.exists(str(tmp_path), RUN)


def test_a_fact_cut_anywhere_is_unreadable_and_never_half_believed(tmp_path: Path) -> None:
    """A fact that lost its end, at any length, is FactUnreadable; its newline it can lose."""
    value = {"nonce": "n", "status": "SUCCEEDED", "labels": {"a": "ü"}, "exit_code": 0}
    facts.link_once(str(tmp_path), RUN, value)
    path = tmp_path / RUN
    data = path.read_bytes()
    for length in range(len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(FactUnreadable, match=r"run\.json"):
            facts.read_fact(str(tmp_path), RUN)
    path.write_bytes(data[:-1])
    assert facts.read_fact(str(tmp_path), RUN) == value


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b" " * facts.MOST_BYTES + b"{}"]
)
def test_what_is_no_fact_is_unreadable(tmp_path: Path, text: bytes) -> None:
    """Emptiness, other JSON, other bytes, deep nesting and endless files are one error."""
    (tmp_path / RUN).write_bytes(text)
    with pytest.raises(FactUnreadable):
        facts.read_fact(str(tmp_path), RUN)


def test_what_is_not_json_is_never_linked(tmp_path: Path) -> None:
    """A value that JSON can't hold raises before a file appears."""
    for value in ({"a": float("nan")}, {"a": object()}, {"a": {1, 2}}):
        with pytest.raises((ValueError, TypeError)):
            facts.link_once(str(tmp_path), RUN, value)
    assert left(tmp_path) == []
