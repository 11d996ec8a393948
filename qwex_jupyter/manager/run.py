"""Run: the user's handle on one execution. It holds a name and asks; it remembers nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from qwex_jupyter.disk.logs import RunLog, Tail
from qwex_jupyter.errors import FactUnreadable, RunFailed
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.output import Output
from qwex_jupyter.manager.tracker import Tracker
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.system import frontend
from qwex_jupyter.system.background import Background

__all__ = ["Run", "RunRecord"]


class Manager(Protocol):
    """What a run asks of its manager; `RunManager` says what each of these does."""

    history: RunHistory
    tracker: Tracker
    output: Output

    def cancel(self, run_id: str, *, grace: float | None = None) -> None: ...
    def delete(self, run_id: str) -> None: ...
    def rerun(self, run_id: str, **overrides: Any) -> Run: ...
    def wait(self, run_id: str, timeout: float | None) -> RunRecord: ...


class Run:
    """One execution.

    Args:
        manager: Who is asked.
        run_id: Which run.
    """

    def __init__(self, manager: Manager, run_id: str) -> None:
        self.manager, self.run_id = manager, run_id
        self._shown: int | None = None

    @property
    def record(self) -> RunRecord:
        """What is known of it now: the backend is asked, unless somebody has this moment."""
        return self.manager.tracker.fresh(self.run_id)

    @property
    def handle(self) -> str:
        """Its short name."""
        return self.run_id.rpartition("-")[2]

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.record.name

    @property
    def status(self) -> RunStatus:
        """Its condition now."""
        return self.record.status

    @property
    def exit_code(self) -> int | None:
        """What the process returned; None before its end and when none did."""
        return self.record.exit_code

    @property
    def reason(self) -> str:
        """Why it is in its status, in one word."""
        return self.record.reason

    @property
    def cause(self) -> str:
        """What a headline says of its end where that is no success; "" otherwise."""
        return self.record.cause

    @property
    def message(self) -> str:
        """Cause and next step, one sentence."""
        return self.record.message

    @property
    def log(self) -> RunLog:
        """Its log files."""
        return RunLog(self.manager.history.folder(self.run_id))

    @property
    def log_path(self) -> str:
        """The file that holds its stdout."""
        return self.log.path("stdout")

    def poll(self) -> RunStatus:
        """Asks the backend now."""
        self.manager.tracker.look([self.run_id])
        return self.manager.tracker.record(self.run_id).status

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Run:
        """Blocks until it has ended.

        Args:
            timeout: Seconds to wait at the most; the run goes on after it.
            check: Raise when it did not succeed.

        Raises:
            TimeoutError: It had not ended in time.
            RunFailed: It failed, was cancelled or is lost.
        """
        record = self.manager.wait(self.run_id, timeout)
        if check and record.status is not RunStatus.SUCCEEDED:
            raise RunFailed(self, "\n".join([*record.told, *self.last_lines()]))
        return self

    def last_lines(self, count: int = 15) -> list[str]:
        """The last lines of stderr, or of stdout when that is empty."""
        for stream in ("stderr", "stdout"):
            try:
                text = self.log.last(stream, within=8192).decode("utf-8", "replace")
            except FactUnreadable:
                continue  # `logs` says why; here it is about what became of the run
            if text.strip():
                return text.rstrip("\n").split("\n")[-count:]
        return []

    def cancel(self, grace: float | None = None) -> Run:
        """Asks it to stop: nicely for ``grace`` seconds, then for good; again ends the grace.

        Returns at once; `wait` sees the end. Cancelling what has ended changes nothing.
        """
        self.manager.cancel(self.run_id, grace=grace)
        return self

    def logs(self, stream: str | None = None, *, tail: int | None = None) -> str:
        """Its output so far as text.

        Args:
            stream: ``stdout`` or ``stderr``; None for both, one after the other.
            tail: Only so many last lines.
        """
        self.manager.output.fetch(self.run_id)
        return self.log.text(stream, tail)

    def follow(self, offsets: Mapping[str, int] | None = None) -> Iterator[tuple[str, bytes]]:
        """Its output as (stream, bytes) as it comes, to the end.

        Args:
            offsets: Where to begin in each stream, bytes; from the first without.
        """
        with self.manager.output.following(self.run_id), Tail(self.log, offsets=offsets) as tail:
            moved_at = looked_at = time.monotonic()
            aside, patience = Background(), self.manager.tracker.own_look(self.run_id)
            while True:
                ended = self.manager.tracker.ended(self.run_id)
                moved = False
                while chunks := list(tail.read()):
                    moved = True
                    yield from chunks
                if ended or self.manager.tracker.stuck(self.run_id):
                    return
                now = time.monotonic()
                if now - looked_at > patience:
                    aside.begin(self.manager.tracker.look, [self.run_id])
                    looked_at = now
                if moved:
                    moved_at = now
                # The pause is a twentieth of the silence so far: a busy program's lines come at
                # once.
                time.sleep(min(max(0.0003, (now - moved_at) / 20), 0.1))

    def rerun(self, **overrides: Any) -> Run:
        """Submits the same spec anew, with other values where given."""
        return self.manager.rerun(self.run_id, **overrides)

    def delete(self) -> None:
        """Frees the backend's object and takes the folder away.

        Raises:
            RunStillLive: It has not ended.
        """
        self.manager.delete(self.run_id)

    def __repr__(self) -> str:
        from qwex_jupyter.display.format import moment, one_line

        # No backend is asked: a debugger or a traceback may want it, and can't wait.
        record = self.manager.tracker.record(self.run_id)
        line = one_line(record, record.observed_at)
        return line if record.status.final else f"{line} · as of {moment(record.observed_at)}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from qwex_jupyter.display.card import Card, card_text, log_view
        from qwex_jupyter.display.render import card_html

        card = Card(self.record, log_view(self.log))
        return {"text/plain": card_text(card), "text/html": card_html(card)}

    def shown(self) -> Run:
        """Says that this cell has shown it already."""
        self._shown = _cell_number()
        return self

    @property
    def is_shown(self) -> bool:
        """Whether the cell that runs now has shown it already."""
        return self._shown is not None and self._shown == _cell_number()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.run_id == self.run_id

    def __hash__(self) -> int:
        return hash(self.run_id)


def _cell_number() -> int | None:
    shell = frontend.shell()
    return shell.execution_count if shell else None
