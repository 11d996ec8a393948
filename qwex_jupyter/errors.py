"""What can go wrong, sorted by what the user does next.

::

    QwexError(RuntimeError)
    ├── SpecError(ValueError)      change the cell: a value is wrong
    │   └── UnsupportedOption      leave the option out, or take a runner that can
    ├── RunnerUnavailable          start, install or point at the backend
    ├── BackendUnreachable         nothing: it is asked again; no outcome follows from it
    ├── RunNotFound(LookupError)   look at `%qwex runs` for the right name
    ├── AmbiguousRun(LookupError)  choose one of the runs it lists
    ├── RunStillLive               cancel it first
    ├── HomeUnusable               set QWEX_HOME to another folder
    ├── FactUnreadable             nothing: the run is one row marked unreadable
    ├── FactTooLarge               put what is large into a file
    ├── NotRemoved                 mend what keeps it there, then delete it again
    ├── SubmitFailed               nothing was started: mend the cause, then submit again
    └── RunFailed                  read why (its first line, `.reason`) and the output, then rerun

    RunInterrupted(KeyboardInterrupt)   the interrupt button; `.run` is what was cancelled
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Run(Protocol):
    """What an error knows of its run, which is a `manager.run.Run`."""

    run_id: str

    @property
    def exit_code(self) -> int | None:
        """What the process returned; None when none did."""

    @property
    def reason(self) -> str:
        """Why it ended so, in one word."""

    def logs(self, stream: str | None = None, *, tail: int | None = None) -> str:
        """Its output as text."""


class QwexError(RuntimeError):
    """The root of all errors of this package."""

    def _render_traceback_(self) -> list[str]:
        return _plain(self)


class SpecError(QwexError, ValueError):
    """A value of a JobSpec is wrong; the sentence names field, value and what is allowed."""


class UnsupportedOption(SpecError):
    """This runner can't honour an option.

    Args:
        option: The option as the user writes it, like ``--image``.
        runner: The runner that refuses.
        can: Names of the runners that honour it.
        why: One clause that says why this runner can't.
    """

    def __init__(self, option: str, runner: str, can: Sequence[str], why: str) -> None:
        self.option, self.runner, self.can, self.why = option, runner, tuple(can), why
        ways = " or ".join(f"--runner={name}" for name in can)
        rest = f": use {ways}." if can else ". No installed runner supports it: leave it out."
        super().__init__(f"{option}: the {runner} runner can't do this, {why}{rest}")


class RunnerUnavailable(QwexError):
    """A backend can't be used from here: cause and next step are in the message."""


class BackendUnreachable(QwexError):
    """A backend didn't answer. Transient: it says nothing about any run."""


def asked_again(error: QwexError) -> str:
    """What is said of a question that goes on being asked; who gives up says the error alone."""
    text = str(error)
    if isinstance(error, BackendUnreachable):
        return f"{text.removesuffix('.')}; it is asked again."
    return text


class RunNotFound(QwexError, LookupError):
    """No run of that name, handle or id is known here."""


class AmbiguousRun(QwexError, LookupError):
    """More than one run goes by that handle or prefix; the message lists them."""


class RunStillLive(QwexError):
    """The run has not ended, so it can't be deleted."""


class HomeUnusable(QwexError):
    """The history folder can't keep its promises; the message names QWEX_HOME."""


class FactUnreadable(QwexError):
    """A file of a run folder is not what this package wrote.

    Args:
        text: Which file, and what is wrong with it.
        passing: It is this process or this moment that keeps it from being read, and nothing
            follows for the file.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        self.passing = passing
        super().__init__(text)


class FactTooLarge(QwexError):
    """What is to be written is larger than what would be read again; nothing was written."""


class NotRemoved(QwexError):
    """Something of a run couldn't be removed: it is named, with what keeps it there."""


class SubmitFailed(QwexError):
    """Nothing was started; the message says why."""


class RunFailed(QwexError):
    """A run ended, and not well.

    Args:
        run: The run, whole: its output, record and verbs.
        text: Cause and next step, and the last lines where nothing else shows them.
        brief: What a notebook shows of it where all of that stands directly above.
    """

    def __init__(self, run: Run, text: str, brief: str = "") -> None:
        self.run, self._brief = run, brief
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return _plain(self, self._brief)

    @property
    def exit_code(self) -> int | None:
        """What the process returned, or None when no process returned anything."""
        return self.run.exit_code

    @property
    def reason(self) -> str:
        """Why, in one word: a member of `Reason`."""
        return self.run.reason


class RunInterrupted(KeyboardInterrupt):
    """The user stopped a foreground run; "Run all" stops with it.

    Args:
        run: The run that was cancelled; None when nothing had been started.
        text: What was stopped, and how to run it again.
        brief: What a notebook shows of it where all of that stands directly above.
    """

    def __init__(self, run: Run | None, text: str, brief: str = "") -> None:
        self.run, self._brief = run, brief
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return _plain(self, self._brief)


def _plain(error: BaseException, brief: str = "") -> list[str]:
    """The lines IPython shows in place of a traceback.

    Bold and without a colour: the ground is pink, dark red or the terminal's own, and red
    can't be read on the second.
    """
    first, *rest = (brief or str(error)).split("\n")
    return [f"\x1b[1m{type(error).__name__}\x1b[0m: {first}", *rest]
