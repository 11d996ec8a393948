"""Status: the closed set of conditions, why a run is in one, and what a look or an end tells.

Standard library only: the supervisor imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RunStatus(StrEnum):
    """The condition of a run; `final` ones never change."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def final(self) -> bool:
        """Whether no other status can follow."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class Reason(StrEnum):
    """Why, in one word that every runner can give."""

    NONE = ""
    NON_ZERO_EXIT = "NonZeroExit"
    SIGNALLED = "Signalled"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMED_OUT = "TimedOut"
    COMMAND_NOT_FOUND = "CommandNotFound"
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_REFUSED = "AdmissionRefused"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    BACKEND_RESTARTED = "BackendRestarted"
    NEVER_STARTED = "NeverStarted"
    VANISHED = "Vanished"
    CANCELLED_BY_USER = "CancelledByUser"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    # Never final: the backend, or the machine, can't be asked.
    BACKEND_UNREACHABLE = "BackendUnreachable"
    HOST_UNREACHABLE = "HostUnreachable"
    # Never final: what a live run is doing.
    STARTING = "Starting"
    PULLING = "Pulling"
    STOPPING = "Stopping"
    SUPERVISOR_GONE = "SupervisorGone"
    # Of a folder that holds no readable run.
    UNREADABLE = "Unreadable"


class StopCause(StrEnum):
    """What a stop was asked for: the ``why`` of ``stop.json``."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    START_TIMEOUT = "start-timeout"
    # The backend says that it will never start; ``reason`` and ``detail`` stand beside this.
    NEVER_STARTS = "hopeless"  # as files said it from the beginning


@dataclass(frozen=True)
class End:
    """How a run ended, as its witness saw it.

    Attributes:
        exit_code: What the process returned; 128+N when signal N ended it; None when no
            process returned anything.
        signal: The number of the signal that ended it, else None.
        reason: What the witness knows beyond a number: OutOfMemory, CommandNotFound,
            NeverStarted, Vanished ...; NONE where the number says it all.
        detail: Its evidence in words, a clause without a full stop.
        after_stop: The end came after a stop was asked for, by the witness's own clock.
    """

    exit_code: int | None = None
    signal: int | None = None
    reason: Reason = Reason.NONE
    detail: str = ""
    after_stop: bool = False

    @property
    def failed_by_itself(self) -> bool:
        """Whether the program returned a code of its own that says that it failed."""
        by_itself = self.reason is Reason.NONE and not (self.signal or self.after_stop)
        return bool(self.exit_code) and by_itself


@dataclass(frozen=True)
class Snapshot:
    """One observation: what a backend says of a run right now.

    Times are seconds since the epoch. ``end`` is given when the program has ended (and
    only then); the status of an end is decided by `conclude`, not by the runner.

    Attributes:
        queued_by_backend: The backend itself starts the run as soon as it can, so that the run
            doesn't depend on the process that submitted it.
        never_starts: What prevents a waiting run from ever starting; it is stopped, and this is
            how it ended.
        backend_message: The backend's own words, for those who want to read on.
    """

    status: RunStatus
    reason: Reason = Reason.NONE
    message: str = ""
    end: End | None = None
    queued_by_backend: bool = False
    never_starts: End | None = None
    started_at: float | None = None
    finished_at: float | None = None
    observed_at: float = 0.0
    uid: str = ""
    progress: str = ""
    backend_message: str = ""
    log_missing: Mapping[str, int] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int | None:
        """What the process returned; None before its end."""
        return self.end.exit_code if self.end else None
