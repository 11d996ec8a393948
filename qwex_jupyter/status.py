"""Status: the closed set of conditions, why a run is in one, and the one function that decides.

`conclude` is pure and is used by every witness of an end: the local supervisor, and the
manager for what it sees on a backend. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
    # Never final: what keeps us from looking.
    BACKEND_UNREACHABLE = "BackendUnreachable"
    HOST_UNREACHABLE = "HostUnreachable"
    # Never final: what a live run is doing.
    STARTING = "Starting"
    PULLING = "Pulling"
    STOPPING = "Stopping"
    SUPERVISOR_GONE = "SupervisorGone"
    # Of a folder that holds no readable run.
    UNREADABLE = "Unreadable"


class Why(StrEnum):
    """What a stop was asked for: the ``why`` of ``stop.json``."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    START_TIMEOUT = "start-timeout"
    # It will never start, by its backend's word; ``reason`` and ``detail`` stand beside it.
    HOPELESS = "hopeless"


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


@dataclass(frozen=True)
class Snapshot:
    """One observation: what a backend says of a run right now.

    Times are seconds since the epoch. ``end`` is given when the program has ended (and
    only then); the status of an end is decided by `conclude`, not by the runner.

    Attributes:
        accepted: The backend itself will start it, whenever it can: a run that waits waits for
            the backend, not for whoever submitted it.
        hopeless: What keeps a run that waits from ever starting; it is stopped, and this is
            how it ended.
        said: The backend's own words, for who wants to read on.
    """

    status: RunStatus
    reason: Reason = Reason.NONE
    message: str = ""
    end: End | None = None
    accepted: bool = False
    hopeless: End | None = None
    started_at: float | None = None
    finished_at: float | None = None
    observed_at: float = 0.0
    uid: str = ""
    progress: str = ""
    said: str = ""
    log_missing: Mapping[str, int] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int | None:
        """What the process returned; None before its end."""
        return self.end.exit_code if self.end else None


@dataclass(frozen=True)
class Verdict:
    """The final word on a run: what `conclude` decided."""

    status: RunStatus
    reason: Reason
    message: str
    exit_code: int | None


def conclude(end: End, stop: Mapping[str, Any] | None, about: Mapping[str, Any]) -> Verdict:
    """Decides the status of a run that ended, from how it ended and what was wanted.

    An end before the stop was asked goes by its exit code; an end after it is
    CANCELLED / CancelledByUser, FAILED / TimedOut or FAILED / StartDeadlineExceeded.
    What vanished is LOST whatever was wanted: nobody saw how it ended.

    Args:
        end: How it ended.
        stop: The content of ``stop.json``, None when no stop was asked for.
        about: What the sentence is made with, each key optional: ``handle``, ``command``,
            ``timeout`` and ``start_timeout`` (seconds), ``memory`` and ``peak_memory``
            (bytes), ``tail`` (the last text on stderr).
    """
    handle = str(about.get("handle", ""))
    why = str((stop or {}).get("why", ""))
    code = end.exit_code

    def verdict(status: RunStatus, reason: Reason, message: str) -> Verdict:
        return Verdict(status, reason, message, code)

    if end.reason is Reason.NEVER_STARTED:
        if why == Why.CANCEL:
            return verdict(
                RunStatus.CANCELLED,
                Reason.CANCELLED_BY_USER,
                f"Cancelled before it started. %qwex rerun {handle}",
            )
        if why == Why.START_TIMEOUT:
            return verdict(RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED, _too_late(about))
        if why == Why.HOPELESS and stop:
            return _hopeless(stop)
        detail = end.detail or "whoever was to start it is gone"
        return verdict(
            RunStatus.LOST, end.reason, f"It never started: {detail}. %qwex rerun {handle}"
        )
    if end.reason in (Reason.VANISHED, Reason.BACKEND_RESTARTED, Reason.NODE_LOST) and code is None:
        detail = end.detail or "it is gone, and nobody saw how it ended"
        asked = " (a stop had been asked for)" if stop else ""
        return verdict(
            RunStatus.LOST,
            end.reason,
            f"{capital(detail)}{asked}: its outcome isn't known. "
            f"Read %qwex logs {handle}, then %qwex rerun {handle}",
        )
    if end.reason is Reason.TIMED_OUT and not about.get("timeout"):
        # In a patch of its pod, or by somebody who may do so there.
        return verdict(
            RunStatus.FAILED,
            Reason.TIMED_OUT,
            "Stopped by a deadline that was set where it ran, not with --timeout. "
            f"%qwex rerun {handle}",
        )
    if end.reason is Reason.TIMED_OUT or (end.after_stop and why == Why.TIMEOUT):
        return verdict(
            RunStatus.FAILED,
            Reason.TIMED_OUT,
            f"Stopped after its timeout of {_seconds(about.get('timeout'))}. "
            f"Try %qwex rerun {handle} --timeout {_double(about.get('timeout'))}",
        )
    if end.after_stop and stop:
        if why == Why.START_TIMEOUT:
            return verdict(RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED, _too_late(about))
        if why == Why.HOPELESS and code is None:
            return _hopeless(stop)
        return verdict(
            RunStatus.CANCELLED,
            Reason.CANCELLED_BY_USER,
            f"Stopped by {stop.get('who') or 'you'}. %qwex rerun {handle}",
        )
    if end.reason is Reason.OUT_OF_MEMORY:
        return verdict(RunStatus.FAILED, end.reason, _out_of_memory(about))
    if end.reason is not Reason.NONE:
        detail = end.detail or str(end.reason)
        return verdict(RunStatus.FAILED, end.reason, f"{capital(detail)}.")
    if code == 0:
        return verdict(RunStatus.SUCCEEDED, Reason.NONE, "")
    if end.signal is not None:
        return verdict(RunStatus.FAILED, Reason.SIGNALLED, _signalled(end.signal, handle))
    if code is None:
        return verdict(
            RunStatus.LOST,
            Reason.VANISHED,
            f"It ended and nobody saw its exit code. Read %qwex logs {handle}",
        )
    return verdict(RunStatus.FAILED, Reason.NON_ZERO_EXIT, _non_zero(code, about))


def _hopeless(stop: Mapping[str, Any]) -> Verdict:
    """The end of a run that was stopped because it would never have started."""
    reason, detail = (
        Reason(str(stop.get("reason") or Reason.UNSCHEDULABLE)),
        str(stop.get("detail")),
    )
    return Verdict(RunStatus.FAILED, reason, f"{capital(detail)}.", None)


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``signal 77`` for a number without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def say_bytes(count: float) -> str:
    """Bytes for people, in powers of 1024: ``2 GiB``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def say_count(number: int, word: str) -> str:
    """``1 line``, ``1,204 lines``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def capital(text: str) -> str:
    """As the beginning of a sentence, unless that is a name: ``python:3.12``, ``k3s/agent``."""
    word = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if word.strip("',").isalpha() else text


def _seconds(value: Any) -> str:
    """Seconds as the options take them: ``90s``, ``10m``, ``1h30m``."""
    if not value:
        return "no time"
    whole = int(value)
    if whole != value or whole < 60:
        return f"{value:g}s"
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


say_seconds = _seconds


def _double(value: Any) -> str:
    return _seconds(2 * value) if value else "1h"


def _too_late(about: Mapping[str, Any]) -> str:
    handle = about.get("handle", "")
    limit = about.get("start_timeout")
    return (
        f"It had not started {_seconds(limit)} after it was submitted, and never will. "
        f"Try %qwex rerun {handle} --start-timeout {_double(limit)}"
    )


def _out_of_memory(about: Mapping[str, Any]) -> str:
    allowed, used = about.get("memory"), about.get("peak_memory")
    if not allowed:
        return f"Killed for memory. Try %qwex rerun {about.get('handle', '')} --memory 4GiB"
    used = used or allowed
    more = 1 << (2 * int(allowed) - 1).bit_length()  # the next power of two at or above double
    return (
        f"Killed for memory: used {say_bytes(used)} of the {say_bytes(allowed)} allowed. "
        f"Try %qwex rerun {about.get('handle', '')} --memory {say_bytes(more).replace(' ', '')}"
    )


def _signalled(number: int, handle: str) -> str:
    name = signal_name(number)
    what = {
        "SIGKILL": "Killed from outside (SIGKILL); often the system ran out of memory",
        "SIGTERM": "Ended from outside (SIGTERM)",
        "SIGSEGV": "It crashed (SIGSEGV: a read or write outside its memory)",
        "SIGABRT": "It aborted itself (SIGABRT)",
        "SIGBUS": "It crashed (SIGBUS: often a full disk or /dev/shm under a memory map)",
        "SIGPIPE": "It wrote to a pipe that nobody read any more (SIGPIPE)",
    }.get(name, f"Ended by {name}")
    return f"{what}. Read %qwex logs {handle}"


def _non_zero(code: int, about: Mapping[str, Any]) -> str:
    handle = about.get("handle", "")
    tail = _COLOUR.sub("", str(about.get("tail", "")))  # tracebacks have some since Python 3.13
    if "EOFError: EOF when reading a line" in tail:
        return (
            f"Exit code {code}: it asked for input, and a run has none. "
            f"Give the value with -e NAME=VALUE or in a file, then %qwex rerun {handle}"
        )
    if code == 127:
        missing = re.findall(r"(?:line \d+: |\d+: |sh: )([^\s:]+): (?:command )?not found", tail)
        what = (
            f"the command {missing[-1]!r} was not found" if missing else "a command was not found"
        )
        return f"Exit code 127: {what}. Install it, or name an --image that has it"
    if code == 126:
        return "Exit code 126: a command was found and could not be run. Is it executable?"
    if code == 141:
        return (
            "Exit code 141 (SIGPIPE): in a pipe, a later command stopped reading early (like "
            "`| head`), and `pipefail` counts that. If that is fine, put `set +o pipefail` first"
        )
    if code > 128 and code - 128 in {int(number) for number in signals.Signals}:
        name = signal_name(code - 128)
        if name == "SIGKILL":
            name += ", often for want of memory"
        return f"Exit code {code}: a command in it was ended by {name}. Read %qwex logs {handle}"
    return f"Exit code {code}. Its last lines say why; all of them: %qwex logs {handle}"
