"""What is tried again, how often, and with which pauses."""

from __future__ import annotations

import time

import pytest

from qwex_jupyter.runners.container.retry import tries


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in which only pauses pass."""
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


def test_so_many_tries_have_a_pause_between_two(clock: list[float]) -> None:
    """Behind the last one nobody waits."""
    begun = [clock[0] for _ in tries(2.0, most=3)]
    assert begun == [100.0, 102.0, 104.0]
    assert clock[0] == 104.0


def test_no_try_begins_after_a_moment(clock: list[float]) -> None:
    """The pause may reach it, and one try there is always."""
    assert [clock[0] for _ in tries(0.5, until=101.0)] == [100.0, 100.5, 101.0]
    assert len(list(tries(0.5, until=0.0))) == 1


def test_what_was_done_is_not_done_again(clock: list[float]) -> None:
    """Leaving the loop costs no pause."""
    for _ in tries(5.0):
        break
    assert clock[0] == 100.0
