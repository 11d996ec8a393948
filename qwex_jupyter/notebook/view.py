"""What is asked of a place where a run is shown while its cell watches it."""

from __future__ import annotations

from qwex_jupyter.model.record import RunRecord


class View:
    """Where a foreground run is shown. A view does nothing about what it doesn't define.

    Attributes:
        told: Whether a person has cause and next step before their eyes when it has ended.
        names: Whether its first tick says which run it is, so that it comes before any output.
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
