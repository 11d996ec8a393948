"""The event that an interrupt can't break."""

from __future__ import annotations

import threading
import time

from qwex_jupyter.system.flag import Flag

PATIENCE = 60.0


def waiting(flag: Flag, *, many: int, timeout: float | None = None) -> list[threading.Thread]:
    """So many threads that wait for it."""
    threads = [threading.Thread(target=flag.wait, args=(timeout,)) for _ in range(many)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE
    while len(flag._waiting) < many and time.monotonic() < until:
        time.sleep(0.001)
    return threads


def test_it_is_an_event() -> None:
    """Set, taken back, and waited for with a limit."""
    flag = Flag()
    assert not flag.is_set()
    assert not flag.wait(0.001)
    assert not flag.wait(-1)
    flag.set()
    assert flag.is_set()
    assert flag.wait()
    assert flag.wait(0)
    flag.clear()
    assert not flag.wait(0)
    assert isinstance(flag, threading.Event)


def test_all_who_wait_are_woken() -> None:
    """By a set, and by a wake that leaves it as it was."""
    for wake in (Flag.set, Flag.wake):
        flag = Flag()
        threads = waiting(flag, many=5)
        wake(flag)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert flag.is_set() is (wake is Flag.set)
        assert not flag._waiting


def test_who_waits_again_isn_t_woken_by_the_past() -> None:
    """A wake is for those who wait at that moment."""
    flag = Flag()
    flag.wake()
    (thread,) = waiting(flag, many=1)
    thread.join(0.05)
    assert thread.is_alive()
    flag.set()
    thread.join(PATIENCE)
