"""What a cell does while its run lives: reads the log on, has it shown, obeys the button."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from qwex_jupyter.disk.logs import STREAMS, Tail
from qwex_jupyter.display import terminal
from qwex_jupyter.display.paths import Pieces
from qwex_jupyter.errors import QwexError, RunFailed, RunInterrupted, RunNotFound
from qwex_jupyter.model.cause import of_message
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain
from qwex_jupyter.notebook.tell import held_by, tell
from qwex_jupyter.notebook.view import FIRST_PAINT, STOPPING, View, running, waiting
from qwex_jupyter.system.background import Background
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.system.interrupts import Presses, held
from qwex_jupyter.system.threads import started

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.manager.run import Run

# How long the reader sleeps when nothing came: less than passing a line on takes, while
# lines come; after some quiet seconds a little more, at a third of the cost.
_SHORTEST, _LONGEST, _QUIET_LONGEST = 0.0003, 0.001, 0.005
_QUIET_AFTER = 2.0
_RECORD_AGE = 0.2
# How long the clock may stand still while a stop is handed over. Seconds.
_STOP_PATIENCE = 1.0
# How often a pane is brought up to date while a run is handed over. Seconds.
_CLOCK_PAUSE = 0.05
# How often it is asked whether a pending run has started. Seconds.
_PENDING_AGE = 0.05
# By how often the interrupt button was pressed.
_STOP_NOTES = (
    "interrupt the kernel to stop it",
    f"{STOPPING}… interrupt again to stop it at once",
    f"{STOPPING} at once…",
)
# Where the grace is the backend's own.
_ASKED_NOTES = (
    _STOP_NOTES[0],
    f"{STOPPING}…",
    f"{STOPPING}… its grace can't be cut short",
)


@contextmanager
def handing_over(view: View, asked: RunRecord, presses: Presses) -> Iterator[None]:
    """Keeps the clock of a pane going while a backend takes its time to accept a run.

    Args:
        view: Where it is shown; `View.begin` was called.
        asked: The run as it is known so far.
        presses: Of the stop button, which is obeyed when it is known whether there is a run.
    """
    over = Flag()
    asked = replace(asked, message=f"{asked.runner} hasn't taken it over yet.")

    def tick() -> None:
        with suppress(Exception):  # a display that fails is told of by whoever watches on
            while not over.wait(_CLOCK_PAUSE):
                view.tick(asked, f"{STOPPING}…" if presses.count else _STOP_NOTES[0])

    thread = started(tick, "qwex-clock") if view.in_place else None
    try:
        yield
    finally:
        over.set()
        if thread is not None:
            thread.join(1.0)


def foreground(
    manager: RunManager,
    run: Run,
    view: View,
    presses: Presses | None = None,
    *,
    check: bool = True,
) -> Run:
    """Shows a run to its end; the interrupt button cancels it, a second one ends the grace.

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        presses: Of the button, also those from before there was a run. None of them cancels
            anything when the kernel is to end: then only the watching ends. None for none.
        check: Raise when it does not succeed, or was stopped by the button.

    Raises:
        RunFailed: It did not succeed, and ``check`` is set.
        RunInterrupted: It was stopped by the button, and ``check`` is set.
    """
    presses = presses or Presses()
    button = _Button(manager, run, presses)
    try:
        if failed := _watched(manager, run, view, button.note, button.obey, begun=True):
            _let_go(manager, run, view, failed)
            return run
    finally:
        presses.taken = True
    record = _last_of(manager, run)
    if presses.of_an_end and not button.stops:
        _let_go(manager, run, view, f"the kernel ends; the run goes on · %qwex attach {run.handle}")
        return run
    note = f"it is to stop; nothing has answered yet · %qwex attach {run.handle}"
    told = _let_go(manager, run, view, note) and view.told
    if not check:
        return run
    brief = plain(_brief(record)) if told else ""
    if presses.count:
        raise RunInterrupted(run, plain(record.sentence), brief)
    if record.status is not RunStatus.SUCCEEDED:
        last = [] if told else run.last_lines()
        raise RunFailed(run, "\n".join(map(plain, [*record.told, *last])), brief)
    return run


class _Button:
    """The stop button of a foreground run: what its presses are for, and who carries them out."""

    def __init__(self, manager: RunManager, run: Run, presses: Presses) -> None:
        self._manager, self._run, self._presses = manager, run, presses
        # How many stops were asked for.
        self.stops = 0
        self._notes: tuple[str, ...] = ()

    def note(self) -> str:
        """What can be done, or is being done."""
        if not self._presses.count:
            return _STOP_NOTES[0]
        if not self._notes:
            can_force = self._manager.tracker.backends.runner_of(
                self._run.run_id
            ).promises.can_force
            self._notes = _STOP_NOTES if can_force else _ASKED_NOTES
        return self._notes[min(self._presses.count, len(self._notes) - 1)]

    def obey(self) -> bool:
        """Asks for the stops that are due; whether the watching is over."""
        count = self._presses.count
        if count == self.stops or self._presses.undecided:
            return False
        if not self.stops and self._presses.of_an_end:
            return True
        if count >= len(_STOP_NOTES):
            return True  # nothing answers: the stop is written down, the prompt is back
        more, self.stops = count - self.stops, count
        # In a thread of its own: the button is obeyed by an engine that doesn't answer too, as
        # far as the stop is written down.
        stopper = Background()
        stopper.begin(self._cancel, more)
        stopper.wait(_STOP_PATIENCE)
        return False

    def _cancel(self, times: int) -> None:
        for _ in range(times):
            self._run.cancel()


def unshown(error: Exception, ref: str) -> str:
    """That a display fails, in one line: it ends the watching and nothing else."""
    why = " ".join(str(error).split()) or type(error).__name__
    return plain(f"no longer watched, as it can't be shown ({why}) · %qwex attach {ref}")


def _let_go(manager: RunManager, run: Run, view: View, note: str) -> bool:
    """Ends a view; whether it could. What can't be shown is said in one line."""
    try:
        view.finish(_last_of(manager, run), note)
    except Exception as error:  # noqa: BLE001 - what becomes of the run doesn't go by that
        with suppress(Exception):
            tell(note or unshown(error, run.handle), sys.stderr)
        return False
    return True


def _watched(
    manager: RunManager,
    run: Run,
    view: View,
    note: Callable[[], str],
    enough: Callable[[], bool],
    *,
    only: str | None = None,
    begun: bool = False,
) -> str:
    """Watches a run to its end; a sentence where it can't be shown on, else "".

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        note: What can be done about the run.
        enough: Asked again and again: whether the watching is over.
        only: Of its output only this stream.
        begun: Whether this is the cell that has begun it.
    """
    try:
        watch = _Watch(manager, run, view, note, only)
        if begun:
            watch.name_it()
        watch.to_the_end(enough)
    except QwexError as error:
        _let_go(manager, run, view, plain(str(error)))
        raise
    except Exception as error:  # noqa: BLE001 - whatever it was, the run goes on
        return unshown(error, run.handle)
    return ""


def _brief(record: RunRecord) -> str:
    """What is left to say below a view that has told which run it is, and the next step."""
    if record.status is RunStatus.CANCELLED or not record.cause:
        return f"{record.title} {record.status}"
    return record.cause


def _last_of(manager: RunManager, run: Run) -> RunRecord:
    """What is known of it in the end; of what was deleted meanwhile, that nothing is."""
    try:
        return manager.tracker.record(run.run_id)
    except RunNotFound:
        why = "It was deleted while it was watched: its outcome isn't known."
        return RunRecord(run.run_id, "", RunStatus.LOST, Reason.VANISHED, why, of_message(why))


def attach(manager: RunManager, run: Run, view: View, *, only: str | None = None) -> Run:
    """Shows a run as its own cell did; an interrupt stops only the watching.

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        only: Of its output only this stream.
    """
    note = "interrupting the kernel ends only the watching"
    if only:
        view.narrow(only)
    with held() as presses:
        left = _watched(manager, run, view, lambda: note, lambda: presses.count > 0, only=only)
        if presses.count:
            presses.taken = True
            left = f"no longer watched; it goes on · %qwex attach {run.handle}"
        _let_go(manager, run, view, left)
    return run


def print_on(run: Run, tail: int | None, only: str | None) -> None:
    """Prints the output of a run as text, until it ends or the interrupt button is pressed.

    Args:
        run: The run.
        tail: Of what there is, only so many last lines of each stream; None for all.
        only: Only this stream.
    """
    texts = {stream: terminal.Text() for stream in STREAMS if only in (None, stream)}
    shown = {stream: Pieces(run.log.folder) for stream in texts}
    offsets = {} if tail is None else {s: run.log.where_last(s, tail) for s in texts}
    try:
        for stream, data in run.follow(offsets):
            if stream in texts:
                text = shown[stream].feed(texts[stream].feed(data))
                sys.stdout.write(held_by(sys.stdout, text))
                sys.stdout.flush()
        for pieces in shown.values():
            sys.stdout.write(held_by(sys.stdout, pieces.feed("", last=True)))
    except KeyboardInterrupt:
        tell("\nNo longer watched; the run goes on.")
    except (OSError, ValueError) as error:
        if isinstance(error, QwexError):
            raise
        tell(unshown(error, run.handle), sys.stderr)


class _Watch:
    """Reads a run's output on and keeps a view up to date."""

    def __init__(
        self,
        manager: RunManager,
        run: Run,
        view: View,
        note: Callable[[], str],
        only: str | None,
    ) -> None:
        self._manager, self._run, self._view, self._only = manager, run, view, only
        self._record = manager.tracker.record(run.run_id)
        self._asked = self._begun = self._look_at = time.monotonic()
        self._usual: float | None = None
        self._spoke = False
        self._aside, self._patience = Background(), manager.tracker.own_look(run.run_id)
        self._note = note
        view.where(run.log_path)

    def name_it(self) -> None:
        """Has the view say which run it is, before its output and however soon that ends."""
        if self._view.names:
            asked = RunRecord.submitted(self._manager.history.spec_fact(self._run.run_id))
            self._view.tick(asked, self._note())

    def to_the_end(self, enough: Callable[[], bool]) -> None:
        """Until it has ended and all of its output was given to the view.

        Args:
            enough: Asked again and again: whether the watching is over.
        """
        with self._manager.output.following(self._run.run_id), Tail(self._run.log) as tail:
            self._to_the_end(tail, enough)

    def _to_the_end(self, tail: Tail, enough: Callable[[], bool]) -> None:
        pause, moved_at = _SHORTEST, self._begun
        while not enough():
            # Asked before reading: what is read after the end is all there is.
            ended = self._manager.tracker.ended(self._run.run_id)
            moved = False
            for stream, data in tail.read():
                if self._only in (None, stream):
                    self._view.output(stream, data)
                moved = self._spoke = True
            if not moved and (ended or self._manager.tracker.stuck(self._run.run_id)):
                return
            now = time.monotonic()
            pending = self._record.status is RunStatus.PENDING
            if now - self._asked > (_PENDING_AGE if pending else _RECORD_AGE):
                self._asked = now
                if pending and now >= self._look_at:
                    # Nobody else may be about to look yet; the longer it waits, the rarer.
                    self._aside.begin(self._manager.tracker.look, [self._run.run_id])
                    self._look_at = now + min(now - self._begun, 2.0)
                elif now >= max(self._look_at, self._begun) + self._patience:
                    # Nobody else may look any more: an end must not wait for that.
                    self._aside.begin(self._manager.tracker.look, [self._run.run_id])
                    self._look_at = now
                self._record = self._manager.tracker.record(self._run.run_id)
            # It may have ended since that was asked: then the rest of its output is read first.
            if not ended and not self._record.status.final:
                self._view.tick(self._shown(now), self._note(), self._usual_time(now))
            if moved:
                pause, moved_at = _SHORTEST, now
            else:
                time.sleep(pause)
                longest = _LONGEST if now - moved_at < _QUIET_AFTER else _QUIET_LONGEST
                pause = min(max(_SHORTEST, (now - moved_at) / 20), longest)

    def _shown(self, now: float) -> RunRecord:
        """What is known of it, for people: no "pending" of what speaks, and none without a word."""
        if self._spoke:
            return running(self._record)
        return self._record if now - self._begun < FIRST_PAINT else waiting(self._record)

    def _usual_time(self, now: float) -> float | None:
        """Looked up once, and only for what doesn't end at once."""
        if self._usual is None and now - self._begun > 0.5:
            self._usual = self._manager.usual_time(self._record) or 0.0
        return self._usual
