"""What is asked of a place where a run is shown while its cell watches it."""

from __future__ import annotations

from dataclasses import replace

from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus

# What the note of a run begins with that is to stop.
STOPPING = "stopping"
# Until then nobody is told of a run that has neither said anything nor ended. Seconds.
FIRST_PAINT = 0.25
_NOT_STARTED = "It hasn't started yet."


def stopping(note: str) -> bool:
    """Whether a note tells that the run is to stop."""
    return note.startswith(STOPPING)


def running(record: RunRecord) -> RunRecord:
    """What is known of a run that has said something: it has been started, whoever saw that."""
    if record.status is RunStatus.PENDING:
        return replace(record, status=RunStatus.RUNNING, message="", reason="", progress="")
    return record


def has_begun(record: RunRecord) -> bool:
    """Whether there is more to say of a run than that it is pending."""
    return record.status is not RunStatus.PENDING or bool(record.message)


def waiting(record: RunRecord) -> RunRecord:
    """What is shown of a run that is pending for a while: not without a word on it."""
    return record if has_begun(record) else replace(record, message=_NOT_STARTED)


class View:
    """Where a foreground run is shown. A view does nothing about what it doesn't define.

    Attributes:
        told: Whether a person has cause and next step before their eyes when it has ended.
        names: Whether its first tick tells it which run it is, which it says before any output.
        in_place: Whether it is updated in place, so that its clock goes on while nothing comes.
    """

    told = names = in_place = False

    def begin(self, record: RunRecord) -> None:
        """Shows a run before anything is asked of a backend, when it has no handle yet."""

    def where(self, path: str) -> None:
        """Learns where all of the output is."""

    def narrow(self, stream: str) -> None:
        """Shows no other stream from now on."""

    def output(self, stream: str, data: bytes) -> None:
        """Shows the next bytes of a stream."""

    def leave_out(self, lines: int, size: int) -> None:
        """Counts lines and bytes of the output that come before, and aren't shown."""

    def tick(self, record: RunRecord, note: str, usual_time: float | None = None) -> None:
        """Brings itself up to date: time has passed, or something came.

        Args:
            record: What is known of the run.
            note: What can be done about it.
            usual_time: How many seconds the same takes as a rule.
        """

    def finish(self, record: RunRecord, note: str = "") -> None:
        """Shows the end of the run, or where watching stops before, what the note says of it."""
