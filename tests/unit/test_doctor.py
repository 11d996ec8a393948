"""What the doctor makes of what runners say, and texts without what logs in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwex_jupyter.commands import doctor
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.text import without_secrets

pytestmark = pytest.mark.once


@pytest.fixture
def examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Iterator[str]]], doctor.Check]:
    """Has the doctor look at one runner, which says of itself what it is given."""
    monkeypatch.setattr(doctor.runners, "names", lambda **_: ["mine"])
    monkeypatch.setattr(doctor, "_PATIENCE", 60.0)

    def look(examine: Callable[[], Iterator[str]]) -> doctor.Check:
        manager: Any = SimpleNamespace(
            history=SimpleNamespace(home=str(tmp_path)),
            recover=lambda **_: [],
            runner=lambda _: SimpleNamespace(examine=examine),
        )
        return next(c for c in doctor.examine(manager).checks if c.name == "mine")

    return look


def test_what_a_runner_says_until_it_ends_is_heard(
    examined: Callable[[Callable[[], Iterator[str]]], doctor.Check],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that ends while it is asked whether it has, is ``ok`` only with its lines."""
    go_on = threading.Event()

    class Thread(threading.Thread):
        def is_alive(self) -> bool:
            go_on.set()
            threading.Thread.join(self)
            return super().is_alive()

    def says() -> Iterator[str]:
        go_on.wait()
        yield "✓ mine  works"

    monkeypatch.setattr(doctor, "_PATIENCE", 0.0)
    monkeypatch.setattr(doctor.threading, "Thread", Thread)
    found = examined(says)
    assert (found.state, list(found.lines)) == ("ok", ["✓ mine  works"])


def test_a_runner_that_says_nothing_is_not_ok(
    examined: Callable[[Callable[[], Iterator[str]]], doctor.Check],
) -> None:
    """Silence is told as that."""
    found = examined(lambda: iter(()))
    assert found.state == "silent"
    assert found.lines[0].startswith("✗ mine  It says nothing of itself")


def test_a_sentence_of_ours_stays_whole(
    examined: Callable[[Callable[[], Iterator[str]]], doctor.Check],
) -> None:
    """A next step that has an address in it is shown as it was written; colours are not."""

    def refuses() -> Iterator[str]:
        raise QwexError("write \x1b[1mssh://USER@HOST\x1b[0m.")
        yield ""

    assert list(examined(refuses).lines) == ["✗ mine  write ssh://USER@HOST."]


def test_what_a_library_raises_shows_no_login(
    examined: Callable[[Callable[[], Iterator[str]]], doctor.Check],
) -> None:
    """An error that isn't ours may have an address in it."""

    def breaks() -> Iterator[str]:
        yield "✓ mine  works"
        raise ValueError("no http://me:hu@hunter2@host/x?sig=hunter2")

    lines = list(examined(breaks).lines)
    assert lines[1:] == ["    could not be examined: no http://***@host/x?***"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp://me:se@cret@host:1 (x)", "tcp://***@host:1 (x)"),
        ("tcp://me:se/cret@host:1", "tcp://***@host:1"),
        ("http://h/v2?a=b&token=x: EOF", "http://h/v2?*** EOF"),
        ("url: /v2/x?token=y (Caused", "url: /v2/x?*** (Caused"),
        ("unix:///home/me@corp/s.sock", "unix:///home/me@corp/s.sock"),
        ("docker://host:5000/a@sha256:12: no", "docker://host:5000/a@sha256:12: no"),
        ("docker://me:x@host/a@sha256:12", "docker://***@host/a@sha256:12"),
        ("tcp://a:1, or me@b; is it /x? Yes", "tcp://a:1, or me@b; is it /x? Yes"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
    ],
)
def test_a_text_without_what_logs_in(text: str, shown: str) -> None:
    """Logins, queries and headers are masked, whatever stands in a password; the rest stays."""
    assert without_secrets(text) == shown


def test_what_runs_end_with_is_said_of_the_runner(
    examined: Callable[[Callable[[], Iterator[str]]], doctor.Check],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container the doctor says so of a runner whose runs end with it, and only of that."""
    monkeypatch.setattr(doctor.frontend, "ends_with_server", lambda: "this container")
    works = "✓ mine  works"
    for ends in (True, False):
        monkeypatch.setattr(doctor.runners, "promises", lambda *_, ends=ends: ends)
        found = examined(lambda: iter([works]))
        more = ["    its runs end with this container, in which the notebook's server is"]
        assert (found.state, list(found.lines)) == ("ok", [works, *(more if ends else [])])
