"""Presses of the stop button that are held back: counted, taken, passed on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from qwex_jupyter.system import frontend, interrupts
from qwex_jupyter.system.interrupts import Presses, held


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Each test begins and ends with Python's own handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press(times: int = 1) -> None:
    """Presses the button, so often."""
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def test_a_press_breaks_nothing_until_it_is_passed_on() -> None:
    """What is held back lets the block go on to its end, and is raised behind it."""
    done = []
    with pytest.raises(KeyboardInterrupt), held() as presses:
        press(2)
        done.append(presses.count)
    assert done == [2]


def test_what_somebody_took_is_not_passed_on() -> None:
    """A press that was obeyed raises nothing."""
    with held() as presses:
        press()
        presses.taken = True
    assert presses.count == 1


def test_a_press_is_raised_behind_an_error() -> None:
    """A block that fails after a press ends by the interrupt, which stops a loop around it."""
    with pytest.raises(KeyboardInterrupt), held():
        press()
        raise ValueError("not this")


def test_a_handler_of_the_users_gets_what_was_held_back() -> None:
    """Where somebody else decides what a press means, he is asked once, behind the block."""
    told: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    try:
        with held():
            press(3)
            assert told == []
        assert told == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_what_is_ignored_stays_so() -> None:
    """Under nohup a press is nothing, also to us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held() as presses:
            press()
        assert presses.count == 0
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_fifth_press_breaks_whatever_hangs() -> None:
    """Who presses again and again gets the prompt back."""
    with pytest.raises(KeyboardInterrupt), held() as presses:
        presses.taken = True
        press(5)
        raise AssertionError("the block went on")


def test_another_thread_holds_nothing_back() -> None:
    """Only the main thread is interrupted: held in another one, the handler stays as it is."""
    seen = []

    def work() -> None:
        with held() as presses:
            seen.append((signal.getsignal(signal.SIGINT), presses.count))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.default_int_handler, 0)]


def test_a_kernel_that_ends_passes_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A press that turns out to be part of a restart raises nothing."""
    asked = iter([False, False, True, True])
    monkeypatch.setattr(frontend, "is_kernel", lambda: True)
    monkeypatch.setattr(frontend, "is_ending", lambda: next(asked))
    monkeypatch.setattr(interrupts, "_UNDECIDED", 1e9)
    with held():
        press()
    assert next(asked, None) is None


def test_a_second_press_is_a_wish_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel one press may still be a restart's; two of them are a person's."""
    monkeypatch.setattr(frontend, "is_kernel", lambda: True)
    monkeypatch.setattr(frontend, "is_ending", lambda: False)
    monkeypatch.setattr(interrupts, "_UNDECIDED", 1e9)
    presses = Presses(signal.default_int_handler)
    assert not presses.undecided
    presses.press(signal.SIGINT, None)
    assert presses.undecided
    presses.press(signal.SIGINT, None)
    assert not presses.undecided
