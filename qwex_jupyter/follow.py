"""What a cell does while its run lives: reads the log on, has it shown, obeys the button."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qwex_jupyter import terminal
from qwex_jupyter.aside import Aside
from qwex_jupyter.errors import RunFailed, RunInterrupted
from qwex_jupyter.flag import Flag
from qwex_jupyter.logs import Tail
from qwex_jupyter.record import RunRecord
from qwex_jupyter.status import RunStatus
from qwex_jupyter.threads import started
from qwex_jupyter.views import FIRST_CHANGE, Pane, Stream, View

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager
    from qwex_jupyter.run import Run

# How long the reader sleeps when nothing came: less than passing a line on takes, while
# lines come; after some quiet seconds a little more, at a third of the cost.
_SHORTEST, _LONGEST, _QUIET_LONGEST = 0.0003, 0.001, 0.005
_QUIET_AFTER = 2.0
_RECORD_AGE = 0.2
# How long the clock may stand still while a stop is handed over. Seconds.
_STOP_PATIENCE = 1.0
# By how often the interrupt button was pressed.
_STOP_NOTES = (
    "stop with ■ (I, I)",
    "stopping… ■ again to stop it at once",
    "stopping at once…",
)
# Where the grace is the backend's own.
_ASKED_NOTES = (_STOP_NOTES[0], "stopping…", "stopping… its grace can't be cut short")


@contextmanager
def handing_over(view: View, asked: RunRecord) -> Iterator[None]:
    """Keeps the clock of a pane going while a backend takes its time to accept a run.

    Args:
        view: Where it is shown; `View.begin` was called.
        asked: The run as it is known so far.
    """
    over = Flag()

    def tick() -> None:
        while not over.wait(1.0):
            view.tick(asked, f"{asked.runner} hasn't taken it over yet")

    thread = started(tick, "qwex-clock") if isinstance(view, Pane) else None
    try:
        yield
    finally:
        over.set()
        if thread is not None:
            thread.join(1.0)


def foreground(
    manager: RunManager, run: Run, view: View, *, check: bool = True, stopped: bool = False
) -> Run:
    """Shows a run to its end; the interrupt button cancels it, a second one insists.

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        check: Raise when it does not succeed.
        stopped: The button was pressed once already, and the run is cancelled.

    Raises:
        RunFailed: It did not succeed, and ``check`` is set.
        RunInterrupted: It was stopped by the button.
    """
    watch: _Watch | None = None
    stops = asked = int(stopped)
    while True:
        try:
            watch = watch or _Watch(manager, run, view, note=_STOP_NOTES[0])
            watch.name_it()
            if stops > asked:
                asked = stops
                # Each in a thread of its own: the button is obeyed by an engine that doesn't
                # answer too, as far as the stop is written down.
                stopper = Aside()
                stopper.begin(run.cancel)
                stopper.wait(_STOP_PATIENCE)
            if stops >= len(_STOP_NOTES):
                break  # nothing answers: the stop is written down, the prompt is back
            insists = manager.runner_of(run.run_id).promises.insists
            watch.note = (_STOP_NOTES if insists else _ASKED_NOTES)[stops]
            watch.to_the_end()
            break
        except KeyboardInterrupt:
            stops += 1
    if watch is not None:
        watch.close()
    record = manager.record(run.run_id)
    view.finish(record, f"it is to stop; nothing has answered yet · %qwex attach {run.handle}")
    brief = _brief(record) if view.told else ""
    sentence = terminal.plain(record.sentence)
    if stops:
        raise RunInterrupted(run, sentence, brief)
    if check and record.status is not RunStatus.SUCCEEDED:
        last = [] if view.told else [terminal.plain(line) for line in run.last_lines()]
        raise RunFailed(run, "\n".join([sentence, *last]), brief)
    return run


def _brief(record: RunRecord) -> str:
    """What is left to say below a view that has told the cause."""
    code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    if record.status is RunStatus.CANCELLED or not record.status.final:
        return f"{record.title} {record.status}"
    return f"{record.title} {record.status}{code} (cause above)"


def attach(manager: RunManager, run: Run, view: View, *, only: str | None = None) -> Run:
    """Shows a run as its own cell did; an interrupt stops only the watching.

    Args:
        manager: Who is asked.
        run: The run.
        view: Where it is shown.
        only: Of its output only this stream.
    """
    watch = _Watch(manager, run, view, note="■ (I, I) ends only the watching", only=only)
    left = ""
    try:
        watch.to_the_end()
    except KeyboardInterrupt:
        left = f"no longer watched; it goes on · %qwex attach {run.handle}"
    finally:
        watch.close()
        view.finish(manager.record(run.run_id), left)
    return run


class _Watch:
    """Reads a run's output on and keeps a view up to date."""

    def __init__(
        self, manager: RunManager, run: Run, view: View, note: str, only: str | None = None
    ) -> None:
        self._manager, self._run, self._view, self._only = manager, run, view, only
        self._tail = Tail(run.log)
        self._record = manager.record(run.run_id)
        self._asked = self._begun = self._look_at = time.monotonic()
        self._last: float | None = None
        self._aside, self._patience = Aside(), manager.own_look(run.run_id)
        self.note = note
        if isinstance(view, Stream):
            view.where(run.log_path)

    def name_it(self) -> None:
        """Has plain text say which run it is, before its output and however soon it has ended."""
        if isinstance(self._view, Stream):
            asked = RunRecord.submitted(self._manager.history.spec_fact(self._run.run_id))
            self._view.tick(asked, self.note)

    def to_the_end(self) -> None:
        """Until it has ended and all of its output was given to the view."""
        with self._manager.following(self._run.run_id):
            self._to_the_end()

    def _to_the_end(self) -> None:
        pause, moved_at = _SHORTEST, self._begun
        while True:
            # Asked before reading: what is read after the end is all there is.
            ended = self._manager.ended(self._run.run_id)
            moved = False
            for stream, data in self._tail.read():
                if self._only in (None, stream):
                    self._view.output(stream, data)
                moved = True
            if not moved and (ended or self._manager.stuck(self._run.run_id)):
                return
            now = time.monotonic()
            pending = self._record.status is RunStatus.PENDING
            if now - self._asked > (FIRST_CHANGE / 2 if pending else _RECORD_AGE):
                self._asked = now
                if pending and now >= self._look_at:
                    # Nobody else may be about to look yet; the longer it waits, the rarer.
                    self._aside.begin(self._manager.look, [self._run.run_id])
                    self._look_at = now + min(now - self._begun, 2.0)
                elif now >= max(self._look_at, self._begun) + self._patience:
                    # Nobody else may look any more: an end must not wait for that.
                    self._aside.begin(self._manager.look, [self._run.run_id])
                    self._look_at = now
                self._record = self._manager.record(self._run.run_id)
            if not ended:
                self._view.tick(self._record, self.note, self._last_time(now))
            if moved:
                pause, moved_at = _SHORTEST, now
            else:
                time.sleep(pause)
                longest = _LONGEST if now - moved_at < _QUIET_AFTER else _QUIET_LONGEST
                pause = min(max(_SHORTEST, (now - moved_at) / 20), longest)

    def _last_time(self, now: float) -> float | None:
        """Looked up once, and only for what doesn't end at once."""
        if self._last is None and now - self._begun > 0.5:
            self._last = self._manager.last_time(self._record) or 0.0
        return self._last

    def close(self) -> None:
        self._tail.close()
