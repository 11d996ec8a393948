"""The history: what is on disk becomes rows, whatever happened to the files."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import frames
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from local_helpers import contents, until
from pandas.testing import assert_frame_equal

from qwex_jupyter.disk import facts, removing
from qwex_jupyter.disk.folder import RUN, SEEN, SPEC
from qwex_jupyter.errors import (
    AmbiguousRun,
    FactUnreadable,
    HomeUnusable,
    RunNotFound,
    RunStillLive,
    SpecError,
    SubmitFailed,
)
from qwex_jupyter.history import cache, columns, frame
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord, is_run_id
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus

TIMES = pd.DatetimeTZDtype("us", "UTC")
TEXT = pd.StringDtype("python")
DTYPES: dict[str, Any] = {
    "handle": TEXT,
    "name": TEXT,
    "status": "category",
    "cause": TEXT,
    "exit_code": pd.Int64Dtype(),
    "duration": "timedelta64[us]",
    "runner": "category",
    "image": TEXT,
    "command": TEXT,
    "reason": TEXT,
    "created_at": TIMES,
    "started_at": TIMES,
    "finished_at": TIMES,
    "queued": "timedelta64[us]",
    "cpu_time": "timedelta64[us]",
    "peak_memory": pd.Int64Dtype(),
    "notebook": TEXT,
    "git_commit": TEXT,
    "labels": object,
    "observed_at": TIMES,
    "message": TEXT,
}
BEGAN = 1_700_000_000.0


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, which a user's may not become."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def history(home: str) -> RunHistory:
    """An empty history."""
    return RunHistory(home)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is written for a single run and believes in a folder's time at once."""
    monkeypatch.setattr(cache, "LEAST", 1)
    monkeypatch.setattr(cache, "SETTLED_NS", -1)


def ended(number: int = 0, **values: Any) -> RunRecord:
    """The record of a run that succeeded, a minute after the run of one number less."""
    began = BEGAN + 60 * number
    known: dict[str, Any] = {
        "run_id": f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-k{number:05d}",
        "runner": "local",
        "status": RunStatus.SUCCEEDED,
        "exit_code": 0,
        "command": "bash: true",
        "created_at": began,
        "started_at": began + 1,
        "finished_at": began + 3,
        "observed_at": began + 3,
        "elapsed": 2.0,
    }
    return RunRecord(**{**known, **values})


def live(number: int = 0, **values: Any) -> RunRecord:
    """The record of a run that is running."""
    changes = {"status": RunStatus.RUNNING, "exit_code": None, "finished_at": None}
    return replace(ended(number), **{**changes, "elapsed": None, **values})


def write(history: RunHistory, record: RunRecord) -> str:
    """Makes the folder of a run as the package would; its path."""
    folder = history.folder(record.run_id)
    os.makedirs(folder, 0o700, exist_ok=True)
    value = record.to_json()
    spec = {key: value[key] for key in ("name", "image", "labels")}
    if not facts.exists(folder, SPEC):
        facts.link_once(folder, SPEC, {**value, "spec": spec}, sync=False)
    if record.status.final:
        facts.link_once(folder, RUN, value, sync=False)
        history.mark_closed(record.run_id)
    else:
        history.mark_open(record.run_id)
        history.observe(record)
    return folder


def files_under(folder: str | Path) -> Iterator[str]:
    """All files and folders below, and the folder itself."""
    for root, folders, files in os.walk(folder):
        yield root
        yield from (os.path.join(root, name) for name in (*folders, *files))


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the JSON files that are opened from now on."""
    found: list[str] = []
    real = os.open

    def spy(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".json"):
            found.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", spy)
    return found


def test_a_frame_has_the_columns_of_the_design_in_their_order(history: RunHistory) -> None:
    """The frame has 20 typed columns and the run id as index."""
    write(history, ended(name="train", labels={"lr": "0.1"}))
    rows = history.frame()
    assert dict(rows.dtypes) == DTYPES
    assert list(rows.columns) == list(DTYPES)
    assert (rows.index.name, rows.index.dtype) == ("run_id", TEXT)
    row = rows.iloc[0]
    assert (row.handle, row["name"], row.status, row.exit_code) == (
        *("k00000", "train", "SUCCEEDED", 0),
    )
    assert row.duration == pd.Timedelta(seconds=2)
    assert row.queued == pd.Timedelta(seconds=1)
    assert row.created_at == pd.Timestamp(BEGAN, unit="s", tz="UTC")
    assert row.labels == {"lr": "0.1"}
    assert row.reason is pd.NA
    assert row.cpu_time is pd.NaT


def test_an_empty_frame_is_typed_like_a_full_one(history: RunHistory) -> None:
    """A history without runs gives the same dtypes and categories as one with runs."""
    empty = history.frame()
    write(history, ended())
    full = history.frame()
    assert len(empty) == 0
    assert_frame_equal(empty, full.iloc[:0])
    assert list(full.status.cat.categories) == [str(status) for status in RunStatus]
    assert list(full.runner.cat.categories) == ["local", "docker", "k8s"]


def test_a_runner_of_the_users_own_is_a_category_too(history: RunHistory) -> None:
    """A runner that isn't ours stands in the frame under its name."""
    write(history, ended(runner="slurm"))
    assert list(history.frame().runner) == ["slurm"]


def test_the_newest_run_stands_on_top(history: RunHistory) -> None:
    """Rows are ordered by run id, newest first, whatever their status."""
    for number in (3, 1, 2):
        write(history, ended(number) if number != 2 else live(number))
    assert list(history.frame().handle) == ["k00003", "k00002", "k00001"]


def test_filters_choose_rows_with_and_without_a_cache(history: RunHistory, eager: None) -> None:
    """Status, runner, name, since and limit mean the same on the first and the second call."""
    write(history, ended(1, name="a"))
    write(history, ended(2, name="b", status=RunStatus.FAILED, exit_code=1, runner="docker"))
    write(history, live(3, name="a"))
    write(history, ended(4, name="c", runner="docker"))
    since = BEGAN + 2 * 60
    for _ in range(3):
        said = {
            "status": history.frame(status="failed"),
            "statuses": history.frame(status=["RUNNING", "failed"]),
            "runner": history.frame(runner="Docker"),
            "name": history.frame(name="a"),
            "since": history.frame(since=since),
            "limit": history.frame(limit=2),
            "none": history.frame(limit=0),
            "both": history.frame(status="succeeded", limit=1),
            "nothing": history.frame(name="nobody"),
        }
        assert {key: [int(h[1:]) for h in rows.handle] for key, rows in said.items()} == {
            "status": [2],
            "statuses": [3, 2],
            "runner": [4, 2],
            "name": [3, 1],
            "since": [4, 3, 2],
            "limit": [4, 3],
            "none": [],
            "both": [4],
            "nothing": [],
        }


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"status": "broken"}, "status='BROKEN' isn't one of PENDING"),
        ({"limit": -1}, "limit=-1 must not be negative"),
        ({"since": "yesterday"}, "since='yesterday'"),
        ({"since": "2026-99-99"}, "isn't a date"),
        ({"since": 1e300}, "isn't a point in time"),
        ({"extra": ["colour"]}, "extra='colour' isn't one of backend_message, cwd"),
    ],
)
def test_a_wrong_filter_is_refused(history: RunHistory, filters: dict[str, Any], said: str) -> None:
    """A filter that can't be understood is a SpecError that names the value."""
    with pytest.raises(SpecError, match=re.escape(said)):
        history.frame(**filters)


def test_since_takes_ages_dates_and_moments(history: RunHistory) -> None:
    """An age, an ISO date, a datetime and seconds since the epoch all bound the rows."""
    now = time.time()
    for run_id in (new_run_id(now - 7200), new_run_id(now)):
        write(history, replace(ended(), run_id=run_id))
    moment = datetime.fromtimestamp(now - 3600, UTC)
    for since in ("1h", now - 3600, moment, moment.isoformat()):
        assert len(history.frame(since=since)) == 1
    assert len(history.frame(since="1d")) == 2


def test_extra_columns_are_had_on_demand(history: RunHistory, eager: None) -> None:
    """What isn't among the usual columns comes after them when it is named."""
    write(history, ended(host="h", image_digest="sha256:1", log_missing={"stdout": 3}, overrun=1.5))
    for _ in range(2):
        rows = history.frame(extra=["log_path", "image_digest", "log_missing", "overrun", "host"])
        assert list(rows.columns)[len(frame.COLUMNS) :] == [
            *("log_path", "image_digest", "log_missing", "overrun", "host"),
        ]
        row = rows.iloc[0]
        assert row.log_path == os.path.join(history.folder(row.name), "stdout.log")
        assert (row.image_digest, row.log_missing, row.host) == ("sha256:1", {"stdout": 3}, "h")
        assert row.overrun == pd.Timedelta(seconds=1.5)
    assert list(history.frame(extra="cwd").columns)[len(frame.COLUMNS) :] == ["cwd"]


def test_rows_have_labels_of_their_own(history: RunHistory) -> None:
    """Changing the labels of one row changes no other row."""
    for number in (1, 2):
        write(history, ended(number, labels={"a": "1"}))
    rows = history.frame()
    rows.labels.iloc[0]["a"] = "2"
    assert rows.labels.iloc[1] == {"a": "1"}


_text = st.text(max_size=12)
_number = st.none() | st.floats(0, 1e10) | st.integers(0, 10**10)
_whole = st.none() | st.integers(-(2**62), 2**62)
_records = st.builds(
    replace,
    st.sampled_from([ended(), live()]),
    **dict.fromkeys(("name", "image", "command", "reason", "cause", "message", "notebook"), _text),
    **dict.fromkeys(("session", "git_commit", "host", "uid", "progress"), _text),
    runner=st.sampled_from(["local", "docker", "slurm", ""]),
    exit_code=_whole,
    peak_memory=_whole,
    **dict.fromkeys(("started_at", "finished_at", "elapsed", "cpu_time", "overrun"), _number),
    **dict.fromkeys(("created_at", "observed_at"), st.floats(0, 1e10)),
    labels=st.dictionaries(_text, _text, max_size=2),
    log_missing=st.dictionaries(_text, st.integers(0, 2**62), max_size=2),
)
_extra = [name for name in frame.EXTRA if name != "log_path"]


@settings(max_examples=30, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
@given(
    st.lists(st.none() | _records, max_size=8),
    st.lists(_records, max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_frame_is_the_same_with_and_without_a_cache(
    first: list[RunRecord | None], later: list[RunRecord], chance: random.Random
) -> None:
    """Any records, read anew, kept, and kept with changes since, make equal frames."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "LEAST", 1)
        patch.setattr(cache, "SETTLED_NS", 0)
        patch.setattr(cache, "_CHUNK", 3)
        history = RunHistory(os.path.join(root, "home"))

        def same() -> None:
            records = list(history.records())
            plain = frames.of_records(records)
            patch.setenv("XDG_CACHE_HOME", os.devnull)
            without = history.frame(extra=_extra)
            patch.setenv("XDG_CACHE_HOME", os.path.join(root, "cache"))
            for _ in range(3):
                found = history.frame(extra=_extra)
                assert_frame_equal(found, without)
                assert_frame_equal(found[list(frame.COLUMNS)], plain)
            assert_frame_equal(history.frame(limit=2), frames.of_records(records[:2]))

        def add(records: list[RunRecord | None], offset: int) -> None:
            for number, record in enumerate(records, offset):
                run_id = ended(number).run_id
                if record is None:
                    os.mkdir(history.folder(run_id))
                else:
                    write(history, replace(record, run_id=run_id))

        add(first, 0)
        same()
        add(list(later), len(first))
        for run_id in history.run_ids():
            if chance.random() < 0.2:
                history.delete(run_id)
            elif run_id in history.open_ids() and chance.random() < 0.5:
                write(history, replace(ended(), run_id=run_id))
        same()


def test_an_ended_run_is_read_once(
    history: RunHistory, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second frame opens the files of the runs that have not ended, and no others."""
    for number in range(5):
        write(history, ended(number))
    write(history, live(5))
    history.frame()
    found = opened(monkeypatch)
    assert len(history.frame()) == 6
    assert {Path(path).parent.name for path in found} == {live(5).run_id}


def test_an_unchanged_runs_folder_is_not_listed_again(
    history: RunHistory, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the runs folder's time stays the same its names are taken from the cache."""
    for number in range(5):
        write(history, ended(number))
    write(history, live(5))
    os.mkdir(os.path.join(history.runs_folder, "foreign"))
    before = history.frame()
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda *_: pytest.fail("listed again"))
        assert_frame_equal(history.frame(), before)
        write(history, replace(ended(5), message="now"))
        assert history.frame().message.iloc[1] == "now"


def test_a_folder_changed_a_moment_ago_is_listed_again(
    history: RunHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's time is believed only when no later change could hide behind it."""
    monkeypatch.setattr(cache, "LEAST", 1)
    write(history, ended())
    history.frame()
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    history.frame()
    assert listed == [history.runs_folder]


def test_changes_are_seen(history: RunHistory, eager: None) -> None:
    """Runs that are new, ended or deleted since the last frame are what they are now."""
    for number in range(4):
        write(history, ended(number))
    write(history, live(4))
    assert list(history.frame().status) == ["RUNNING"] + 4 * ["SUCCEEDED"]
    time.sleep(0.05)  # longer than a tick of the file system's clock
    write(history, replace(ended(4), status=RunStatus.FAILED))
    write(history, ended(5))
    history.delete(ended(0).run_id)
    history.delete(ended(2).run_id)
    for _ in range(3):
        rows = history.frame()
        assert [int(handle[1:]) for handle in rows.handle] == [5, 4, 3, 1]
        assert list(rows.status) == ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"]


def test_limit_opens_no_file_beyond_its_rows(
    history: RunHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``limit=2`` of many runs reads two records; ``since`` none that are older."""
    for number in range(20):
        write(history, ended(number))
    found = opened(monkeypatch)
    assert len(history.frame(limit=2)) == 2
    assert len(found) == 2
    assert len(history.frame(since=BEGAN + 15 * 60)) == 5
    assert len(found) == 2 + 5


def _spoil(data: bytes) -> Iterator[bytes]:
    yield b""
    yield b"\0" * len(data)
    yield b"{}\n"
    yield from (data[:size] for size in range(1, len(data), 97))
    yield from (
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), 61)
    )
    yield data + b"\n"
    yield data.replace(b"columns 1", b"columns 0", 1)
    body = b'{"about": {}, "places": {}, "rows": 1}\n'
    yield columns._MAGIC + b" %08x\n" % __import__("zlib").crc32(body) + body


@pytest.mark.parametrize("name", ["runs", "names"])
def test_a_damaged_cache_is_as_good_as_none(
    history: RunHistory, eager: None, cache_folder: Path, name: str
) -> None:
    """A cache that is torn, changed, empty, foreign or of an old version is made anew."""
    for number in range(3):
        write(history, ended(number))
    os.mkdir(os.path.join(history.runs_folder, "foreign"))
    expected = history.frame()
    (path,) = cache_folder.glob(f"qwex/*/{name}")
    for damaged in _spoil(path.read_bytes()):
        path.write_bytes(damaged)
        assert_frame_equal(history.frame(), expected)


def test_a_cache_that_others_could_have_written_is_not_believed(
    history: RunHistory, eager: None, cache_folder: Path
) -> None:
    """A cache file or folder that is writable for others, or a link, isn't read."""
    folder = write(history, ended())
    history.frame()
    (path,) = cache_folder.glob("qwex/*/runs")
    changed = replace(ended(), message="changed").to_json()
    for spoil in (
        lambda: path.chmod(0o620),
        lambda: (path.chmod(0o600), path.parent.chmod(0o770)),
        lambda: (path.rename(path.parent / "x"), path.symlink_to("x"), path.parent.chmod(0o700)),
    ):
        spoil()
        Path(folder, RUN).write_text(json.dumps(changed) + "\n")
        assert list(history.frame().message) == ["changed"]
        Path(folder, RUN).write_text(json.dumps(ended().to_json()) + "\n")


def test_a_copy_of_a_home_has_a_cache_of_its_own(
    history: RunHistory, eager: None, tmp_path: Path
) -> None:
    """Two homes with one id, gone different ways, don't see each other's outcomes."""
    import shutil

    write(history, live())
    shutil.copytree(history.home, tmp_path / "copy")
    write(history, ended())
    assert list(history.frame().status) == ["SUCCEEDED"]
    assert list(RunHistory(str(tmp_path / "copy")).frame().status) == ["RUNNING"]


@pytest.mark.parametrize("where", ["a file", "read-only", "full"])
def test_a_cache_that_cannot_be_written_is_no_error(
    history: RunHistory, eager: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Where nothing can be kept the files are read each time, and nothing is left behind."""
    write(history, ended())
    if where == "a file":
        (tmp_path / "cache").write_text("")
    elif where == "read-only":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "rename", full)
    for _ in range(2):
        assert list(history.frame().status) == ["SUCCEEDED"]
    assert not list(tmp_path.glob("cache/qwex/*/*"))
    assert not list(tmp_path.glob("cache/qwex/*/.*"))


def test_a_home_with_few_runs_has_no_cache(history: RunHistory, cache_folder: Path) -> None:
    """A history that is quickly read leaves nothing outside its home."""
    for number in range(cache.LEAST - 1):
        write(history, ended(number))
    history.frame()
    assert not cache_folder.exists()
    write(history, ended(cache.LEAST))
    history.frame()
    assert list(cache_folder.glob("qwex/*/runs"))


def test_the_cache_stands_in_the_platforms_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is $XDG_CACHE_HOME, else ~/.cache, or ~/Library/Caches on macOS."""
    assert cache.folder() == str(tmp_path / "cache" / "qwex")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.folder() == str(tmp_path / ".cache" / "qwex")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == str(tmp_path / "Library" / "Caches" / "qwex")


def test_every_field_of_a_record_has_a_kind() -> None:
    """A field added to RunRecord is kept by the cache and had as an extra column."""
    assert list(columns.KINDS) == list(ended().to_json())
    assert set(frame.EXTRA) | set(frame.COLUMNS) >= set(columns.KINDS) - {"run_id"}
    full = ended(labels={"a": "b"}, log_missing={"stdout": 1})
    builder = columns.Builder()
    builder.add([columns.row(full)])
    _, found = columns.decode(columns.encode(builder.columns(), {}), columns.KINDS)
    assert columns.record_at(found, 0) == full


def test_the_history_imports_neither_numpy_nor_pandas() -> None:
    """Finding a run among those that are kept needs the standard library only."""
    import subprocess

    code = (
        "import sys; from qwex_jupyter.history.history import RunHistory;"
        "h = RunHistory(sys.argv[1]); print(h.newest(), h.prunable());"
        "assert not {'numpy', 'pandas'} & set(sys.modules)"
    )
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([sys.executable, "-c", code, home], check=True, timeout=60)


@pytest.mark.parametrize("name", [RUN, SPEC])
def test_a_file_torn_at_any_length_is_one_unreadable_row(history: RunHistory, name: str) -> None:
    """However much of it is there, the other rows are good and nothing is raised."""
    for number in range(3):
        write(history, ended(number))
    victim = live(1, name="victim") if name == SPEC else ended(1)
    history.delete(victim.run_id)
    path = Path(write(history, victim), name)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        rows = history.frame()
        assert list(rows.index) == [ended(number).run_id for number in (2, 1, 0)]
        good = size == len(whole) - 1  # only the newline is missing
        assert (rows.reason == Reason.UNREADABLE).fillna(False).tolist() == [False, not good, False]
        if not good:
            assert rows.status.iloc[1] == "LOST"
            assert f"%qwex delete {victim.run_id}" in rows.message.iloc[1]


def test_a_torn_observation_is_no_damage(history: RunHistory) -> None:
    """A live run whose seen.json was cut by a power loss is what its spec says."""
    folder = write(history, live())
    Path(folder, SEEN).write_bytes(b'{"status": "RUN')
    assert list(history.frame().status) == ["PENDING"]


DAMAGES: dict[str, bytes | Callable[[dict[str, Any]], Any]] = {
    "too long": b" " * facts.MOST_BYTES + b"{}",
    "deep": b'{"labels": ' + b"[" * 100_000,
    "deep pairs": b'{"a":' * 100_000,
    "a list": b"[]\n",
    "a number": b"7\n",
    "not UTF-8": b'{"run_id": "\xff"}\n',
    "two documents": lambda value: json.dumps(value) + "\n" + json.dumps(value) + "\n",
    "a list's end": lambda value: json.dumps(value) + "]\n",
    "another run": lambda value: {**value, "run_id": ended(9).run_id},
    "a path": lambda value: {**value, "run_id": "../../etc"},
    "no status": lambda value: {k: v for k, v in value.items() if k != "status"},
    "unknown status": lambda value: {**value, "status": "DONE"},
    "no end": lambda value: {**value, "status": "RUNNING"},
    "a word as code": lambda value: {**value, "exit_code": "zero"},
    "a fraction as code": lambda value: {**value, "exit_code": 1.5},
    "a huge code": lambda value: {**value, "exit_code": 2**70},
    "a word as time": lambda value: {**value, "started_at": "noon"},
    "a far time": lambda value: {**value, "finished_at": 1e300},
    "no number": lambda value: json.dumps({**value, "elapsed": float("nan")}) + "\n",
    "infinite": lambda value: json.dumps({**value, "elapsed": float("inf")}) + "\n",
    "no time": lambda value: {**value, "created_at": None},
    "a number as text": lambda value: {**value, "command": 7},
    "nothing as text": lambda value: {**value, "name": None},
    "a list as text": lambda value: {**value, "message": ["a"]},
    "half a character": lambda value: {**value, "message": "\ud800"},
    "half a label": lambda value: {**value, "labels": {"\udfff": "x"}},
    "labels as list": lambda value: {**value, "labels": ["a"]},
    "deep labels": lambda value: {**value, "labels": {"a": {"b": "c"}}},
    "numbers as labels": lambda value: {**value, "labels": {"a": 1}},
    "words as counts": lambda value: {**value, "log_missing": {"stdout": "many"}},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_says_nonsense_is_unreadable(history: RunHistory, damage: str) -> None:
    """What no version of ours wrote is one unreadable row, by `record` and by `frame`."""
    for number in range(3):
        write(history, ended(number))
    said = DAMAGES[damage]
    content = said if isinstance(said, bytes) else said(ended(1).to_json())
    if isinstance(content, dict):
        content = json.dumps(content) + "\n"
    data = content if isinstance(content, bytes) else content.encode()
    Path(history.folder(ended(1).run_id), RUN).write_bytes(data)
    rows = history.frame()
    assert (rows.reason == "Unreadable").fillna(False).tolist() == [False, True, False]
    assert history.record(ended(1).run_id).reason == Reason.UNREADABLE
    rows.to_html()


def test_a_record_of_another_version_is_read(history: RunHistory) -> None:
    """Fields that are missing or unknown don't make a record unreadable."""
    folder = write(history, ended(name="train"))
    value = {**ended(name="train").to_json(), "since_version_9": [1]}
    for name in ("overrun", "labels", "host"):
        del value[name]
    Path(folder, RUN).write_text(json.dumps(value) + "\n")
    assert_frame_equal(history.frame(), frames.of_records([ended(name="train")]))


def test_foreign_things_in_the_runs_folder_are_rows_or_nothing(history: RunHistory) -> None:
    """Foreign folders and links are unreadable rows; files and hidden names are none."""
    write(history, ended())
    runs = Path(history.runs_folder)
    for name in ("foreign", "%2e%2e%2fetc", "20231114-221320-k00000.bak", "ü\n<b>"):
        (runs / name).mkdir()
    os.mkdir(os.fsencode(runs) + b"/\xff\xfe")
    (runs / ended(1).run_id).symlink_to(history.folder(ended().run_id))
    (runs / ended(2).run_id).symlink_to("/nowhere")
    (runs / ".new-x").mkdir()
    (runs / "notes.txt").write_text("")
    (runs / ended(3).run_id).write_text("")
    rows = history.frame()
    assert len(rows) == 8
    assert (rows.reason == "Unreadable").sum() == 7
    assert rows.loc[ended().run_id].status == "SUCCEEDED"
    assert "\\udcff" in "".join(rows.index)
    rows.to_html()
    for run_id in (ended(1).run_id, ended(2).run_id):
        assert "it is a link" in rows.message[run_id]


@pytest.mark.parametrize("kind", ["a folder", "a link"])
def test_a_record_must_be_a_plain_file(history: RunHistory, kind: str) -> None:
    """A run.json that is a folder or a link is an unreadable row."""
    path = Path(write(history, live()), RUN)
    if kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/hostname")
    assert list(history.frame().reason) == ["Unreadable"]


@pytest.mark.parametrize("name", ["", ".", "..", ".new-x", "a/b", "../runs", "\0", "x" * 5000])
def test_only_names_of_folders_are_looked_up(history: RunHistory, name: str) -> None:
    """A text that could lead elsewhere is no run, for reading and for deleting."""
    with pytest.raises(RunNotFound):
        history.record(name)
    with pytest.raises(RunNotFound):
        history.folder(name)
    with pytest.raises(RunNotFound):
        history.resolve(name)


def test_a_run_goes_by_id_handle_beginning_and_name(history: RunHistory, eager: None) -> None:
    """Each of the four names one run; a name means its newest run."""
    first, second = ended(1, name="train"), ended(2, name="train")
    third = live(3, name="serve")
    for record in (first, second, third):
        write(history, record)
    for _ in range(2):
        assert history.resolve(first.run_id) == first.run_id
        assert history.resolve("k00001") == first.run_id
        assert history.resolve("train") == second.run_id
        assert history.resolve("serve") == third.run_id
        assert history.resolve(third.run_id[:-1]) == third.run_id
        for unknown in ("z", "k1", "tra", "", "k"):
            with pytest.raises(RunNotFound):
                history.resolve(unknown)


def test_an_ambiguous_reference_lists_what_it_may_mean(history: RunHistory) -> None:
    """A beginning of several, or a name that is another's handle, is never guessed."""
    write(history, ended(1, name="train"))
    write(history, ended(2, name="k00001"))
    for ref in ("k0000", "k00001"):
        with pytest.raises(AmbiguousRun) as caught:
            history.resolve(ref)
        assert "train (k00001)" in str(caught.value)
        assert ended(2).run_id in str(caught.value)
    for number in range(3, 15):
        write(history, ended(number))
    with pytest.raises(AmbiguousRun, match="and 6 more"):
        history.resolve("k0")


def test_a_handle_is_found_without_opening_files(
    history: RunHistory, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and newest runs come from the cache, and run ids from the folder itself."""
    for number in range(5):
        write(history, ended(number, name=f"run{number}", notebook="a.ipynb"))
    history.resolve("k00000")
    found = opened(monkeypatch)
    assert history.resolve("k00002") == ended(2).run_id
    assert history.resolve("run3") == ended(3).run_id
    assert history.newest(notebook="a.ipynb") == ended(4).run_id
    assert found == []


def test_the_newest_run_is_an_unfinished_one_first(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name it is this notebook's newest unfinished run, else its newest."""
    history = manager.history
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    with pytest.raises(RunNotFound, match="no run of this notebook"):
        manager.newest()
    write(history, live(1, notebook="a.ipynb"))
    write(history, ended(2, notebook="a.ipynb"))
    write(history, live(3, notebook="b.ipynb"))
    os.mkdir(history.folder(ended(4).run_id))
    assert manager.newest().run_id == live(1).run_id
    assert manager.newest(live=True).run_id == live(1).run_id
    assert manager.newest(live=False).run_id == ended(2).run_id
    write(history, ended(1, notebook="a.ipynb"))
    assert manager.newest().run_id == ended(2).run_id
    with pytest.raises(RunNotFound):
        manager.newest(live=True)
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert manager.newest().run_id == live(3).run_id


def test_prunable_runs_ended_long_ago_or_take_too_much(history: RunHistory) -> None:
    """Old runs go, and the oldest of those above the bound; a live one never does."""
    now = time.time()
    for number, age in enumerate((5000, 4000, 3000, 2000, 1000)):
        times = {"finished_at": now - age, "observed_at": now - age}
        make = live if number == 1 else ended
        folder = write(history, make(number, **({} if number == 1 else times)))
        Path(folder, "stdout.log").write_bytes(b"x" * 100_000)
    write(history, ended(5, status=RunStatus.FAILED, observed_at=now - 10, finished_at=None))
    os.mkdir(history.folder(ended(6).run_id))

    def numbers(**bounds: Any) -> list[int]:
        found = history.prunable(**bounds)
        for record, size in found:
            files = [p for p in files_under(history.folder(record.run_id)) if os.path.isfile(p)]
            assert size == sum(os.path.getsize(path) for path in files)
        return [int(record.handle[1:]) for record, _ in found]

    assert numbers() == [0, 2, 3, 4, 5]
    assert numbers(older=2500) == [0, 2]
    assert numbers(keep_bytes=1_000_000) == []
    assert numbers(keep_bytes=310_000) == [0, 2]
    assert numbers(keep_bytes=0) == [0, 2, 3, 4, 5]
    assert numbers(older=2500, keep_bytes=210_000) == [0, 2, 3]
    assert numbers(status="failed") == [5]
    assert numbers(status="failed", older=60) == []
    with pytest.raises(SpecError, match="never pruned"):
        history.prunable(status="running")


@pytest.mark.parametrize("now", [BEGAN, BEGAN + 0.999999, 4e9])
def test_a_run_id_is_part_of_a_kubernetes_name(now: float) -> None:
    """``qwex-<run_id>`` is a legal name of a Job, a pod, a container and a label value."""
    for _ in range(200):
        run_id = new_run_id(now)
        assert is_run_id(run_id)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", f"qwex-{run_id}")
        assert re.fullmatch(r"[a-z]", run_id.rpartition("-")[2][0])


def test_run_ids_sort_by_time() -> None:
    """A run submitted later has the greater id, also within one second."""
    ids = [new_run_id(BEGAN + 0.01 * step) for step in range(300)]
    assert ids == sorted(ids)


def test_only_the_owner_can_read_what_is_kept(home: str, eager: None, cache_folder: Path) -> None:
    """Folders have mode 0700 and files 0600 from the start, whatever the umask."""
    before = os.umask(0)
    try:
        manager = RunManager(home)
        manager.submit(JobSpec(command=("bash",), script="echo hello")).wait(60)
        manager.history.frame()
    finally:
        os.umask(before)
    checked = [*files_under(home), *files_under(cache_folder / "qwex")]
    assert any(path.endswith("run.json") for path in checked)
    assert any(path.endswith("/runs") and os.path.isfile(path) for path in checked)
    for path in checked:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue  # it goes with the run's end
        if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
            continue
        assert stat.S_IMODE(mode) == (0o700 if os.path.isdir(path) else 0o600), path


def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """A home that another user owns could be made to say anything."""
    RunHistory(str(tmp_path / "home"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HomeUnusable, match="QWEX_HOME"):
        RunHistory(str(tmp_path / "home"))


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_home_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """A home that a group or everybody may write to is refused, naming QWEX_HOME."""
    tmp_path.chmod(mode)
    with pytest.raises(HomeUnusable, match="QWEX_HOME"):
        RunHistory(str(tmp_path))


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_home_without_hard_links_is_refused(
    home: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where a link can't be made no outcome can be written only once."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(HomeUnusable, match=r"hard links .* QWEX_HOME"):
        RunHistory(home)


def test_a_home_whose_id_says_nothing_is_refused(home: str) -> None:
    """A damaged id is one sentence, not a traceback of ours."""
    RunHistory(home)
    for content in ("{}", "[]", "torn", '{"id": 7}', '{"id": "../../x"}'):
        Path(home, "id").write_text(content)
        with pytest.raises((HomeUnusable, FactUnreadable)):
            RunHistory(home)


def test_a_lost_reply_of_link_is_a_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a link was made and its reply lost, the repeated one fails and one's own nonce wins."""
    real = os.link

    def link(source: str, target: str) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    mine = facts.link_once(str(tmp_path), RUN, {"nonce": "mine", "said": 1})
    assert mine == {"nonce": "mine", "said": 1}
    theirs = facts.link_once(str(tmp_path), RUN, {"nonce": "theirs", "said": 2})
    assert theirs == mine
    assert os.listdir(tmp_path) == [RUN]


def test_a_stale_handle_is_tried_again(
    history: RunHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESTALE, as NFS says once after another machine's rename, is no damage."""
    write(history, ended(1))
    write(history, live(2))
    real, seen = os.open, set()

    def stale(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".json") and path not in seen:
            seen.add(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", stale)
    assert list(history.frame().status) == ["RUNNING", "SUCCEEDED"]


def _fact(run_id: str, cwd: str = "/") -> dict[str, Any]:
    spec = JobSpec(command=("bash",), script="true")
    value = {"run_id": run_id, "runner": "local", "identity": "x", "created_at": time.time()}
    return {**value, "command": "bash: true", "spec": spec.to_json(), "cwd": cwd}


def _create(history: RunHistory, run_id: str, folder: Path) -> None:
    (folder / "carried").write_text("x")
    spec = JobSpec(command=("bash",), script="true", files=("carried",), cwd=str(folder))
    history.create(spec, _fact(run_id, str(folder)))


STEPS = [f"spec.json:{step}" for step in ("create", "write", "fsync", "link", "linked", "unlink")]


@pytest.mark.parametrize("step", STEPS)
def test_a_submit_that_fails_leaves_nothing(
    history: RunHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An error at any step of making the folder is SubmitFailed, and nothing is left of it."""

    def fault(name: str) -> None:
        if name == step:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(facts, "fault", fault)
    with pytest.raises(SubmitFailed, match="Nothing was started"):
        _create(history, new_run_id(time.time()), tmp_path)
    assert os.listdir(history.runs_folder) == []
    assert history.open_ids() == []


@pytest.mark.forks
def test_a_submitter_killed_at_any_file_operation_leaves_no_half_run(
    history: RunHistory, tmp_path: Path
) -> None:
    """After a kill there is a whole run or none, and sweeping takes the rest away."""
    killed = 0
    for count in range(1, 200):
        run_id = new_run_id(time.time())
        pid = os.fork()
        if pid == 0:
            left = count

            def audit(event: str, _: Any) -> None:
                nonlocal left
                if event in ("open", "os.mkdir", "os.link", "os.rename", "os.remove"):
                    left -= 1
                    if left < 0:
                        os._exit(9)

            try:
                sys.addaudithook(audit)
                _create(history, run_id, tmp_path)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 9)
        for found in history.records():
            assert (found.status, found.reason) == (RunStatus.PENDING, "")
            assert found.run_id in history.open_ids()
            folder = Path(history.folder(found.run_id))
            assert (folder / "files" / "carried").read_text() == "x"
            assert (folder / "cell.sh").read_text() == "true"
        if status == 0:
            break
        killed += 1
    assert killed >= 15
    assert len(history.run_ids()) >= 1
    assert any(name.startswith(".new-") for name in os.listdir(history.runs_folder))
    history.sweep()
    assert any(name.startswith(".new-") for name in os.listdir(history.runs_folder))
    for run_id in history.open_ids():
        os.utime(os.path.join(history.open_folder, run_id), (BEGAN, BEGAN))
    time.sleep(0.01)
    history.sweep(older=0)
    assert sorted(os.listdir(history.runs_folder)) == history.open_ids()


def test_a_slow_submitter_comes_back_to_the_list(
    history: RunHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose mark was swept away while its folder was being made is marked again."""
    run_id = new_run_id(time.time())

    def fault(name: str) -> None:
        if name == "spec.json:link":
            os.utime(os.path.join(history.open_folder, run_id), (BEGAN, BEGAN))
            history.sweep()
            assert history.open_ids() == []

    monkeypatch.setattr(facts, "fault", fault)
    _create(history, run_id, tmp_path)
    assert history.open_ids() == [run_id]


def test_deleting_takes_a_folder_away_once(history: RunHistory) -> None:
    """A folder is renamed away before it is emptied; deleting again changes nothing."""
    write(history, ended(1))
    write(history, ended(2))
    for _ in range(2):
        history.delete(ended(1).run_id)
        assert os.listdir(history.runs_folder) == [ended(2).run_id]
    with pytest.raises(RunNotFound):
        history.record(ended(1).run_id)
    for name in ("", "..", "../home", ".new-x"):
        with pytest.raises(RunNotFound):
            history.delete(name)


def test_deleting_a_link_leaves_what_it_points_at(history: RunHistory, tmp_path: Path) -> None:
    """A link in the runs folder is removed itself, and nothing behind it."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    Path(history.runs_folder, "link").symlink_to(tmp_path / "precious")
    history.delete("link")
    assert os.listdir(history.runs_folder) == []
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_a_delete_that_was_cut_short_is_finished_later(
    history: RunHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed delete left has no run's name any more, and is swept."""

    def die(_: str) -> None:
        raise KeyboardInterrupt

    write(history, ended())
    with monkeypatch.context() as patch:
        patch.setattr(removing, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            history.delete(ended().run_id)
    assert len(history.frame()) == 0
    assert len(os.listdir(history.runs_folder)) == 1
    time.sleep(0.01)
    history.sweep(older=0)
    assert os.listdir(history.runs_folder) == []


def test_a_clock_set_back_gives_no_negative_times(history: RunHistory) -> None:
    """A run that seems to have started before its submit and after its end took no time."""
    odd = {
        "created_at": BEGAN + 90,
        "started_at": BEGAN + 60,
        "finished_at": BEGAN,
        "elapsed": None,
    }
    write(history, ended(1, **odd))
    write(history, live(2, started_at=BEGAN + 1e6))
    rows = history.frame()
    zero = pd.Timedelta(0)
    assert list(rows.duration) == [zero, zero]
    assert list(rows.queued)[1] == zero
    assert history.record(ended(1).run_id).duration() == 0.0
    write(history, ended(3, **{**odd, "elapsed": 2.5}))
    assert history.frame().duration.iloc[0] == pd.Timedelta(seconds=2.5)


def test_values_of_variables_stand_in_no_file(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret, an inherited variable and one of an env file reach the program and no disk."""
    values = {name: f"value-of-{name}-{os.urandom(8).hex()}" for name in ("SEC", "INH", "ENVF")}
    monkeypatch.setenv("SEC", values["SEC"])
    monkeypatch.setenv("INH", values["INH"])
    (tmp_path / "env").write_text(f"ENVF={values['ENVF']}\n")
    spec = JobSpec(
        command=("bash",),
        script='echo "${#SEC} ${#INH} ${#ENVF} $LIT"; sleep 0.2',
        secrets=("SEC",),
        env={"INH": None, "LIT": "literal"},
        env_files=(str(tmp_path / "env"),),
    )
    run = manager.submit(spec)

    def look() -> None:
        for path, data in contents(manager.history.home):
            for value in values.values():
                assert value not in str(path)
                assert value.encode() not in data, path

    look()
    run.wait(60)
    look()
    sizes = " ".join(str(len(value)) for value in values.values())
    assert run.logs("stdout") == f"{sizes} literal\n"
    names = Path(manager.history.folder(run.run_id), SPEC).read_text()
    assert '"SEC"' in names
    assert '"INH"' in names
    assert '"literal"' in names


def test_a_fact_that_is_a_folder_or_a_pipe_is_unreadable(home: str) -> None:
    """A folder or a named pipe in the place of a fact is told, and nothing hangs or leaks."""
    folder = os.path.join(home, "odd")
    os.makedirs(os.path.join(folder, "run.json"))
    os.mkfifo(os.path.join(folder, "stop.json"))
    before = len(os.listdir("/dev/fd"))
    for name in ("run.json", "stop.json"):
        with pytest.raises(FactUnreadable):
            facts.read_fact(folder, name)
    # Threads of earlier tests may hold one for a moment.
    until(lambda: len(os.listdir("/dev/fd")) <= before)


def test_a_damaged_folder_of_a_living_run_is_not_deleted(manager: RunManager) -> None:
    """Delete refuses a damaged folder whose supervisor lives."""
    run = manager.submit(JobSpec(command=("sleep", "60")))
    folder = manager.history.folder(run.run_id)
    while not os.path.exists(os.path.join(folder, "launch.json")):
        time.sleep(0.01)
    kept = Path(folder, "spec.json").read_bytes()
    Path(folder, "spec.json").write_bytes(b"{")
    with pytest.raises(RunStillLive, match="is damaged, and has not ended"):
        manager.delete(run.run_id)
    Path(folder, "spec.json").write_bytes(kept)
    run.cancel(0)
