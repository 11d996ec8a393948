"""Verdict: the one function that decides how a run ended.

`conclude` is pure and is used by every witness of an end: the local supervisor, and the
manager for what it sees on a backend. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.model.status import End, Reason, RunStatus, StopCause
from qwex_jupyter.model.units import capital, say_bytes, say_seconds

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
            (bytes), ``tail`` (the last text on stderr), ``printed`` (False where it is known
            that there is no output), ``shell`` (a shell runs its script), ``failed`` (which of
            its commands is known), ``image`` (in which it ran).
    """
    code = end.exit_code
    if end.reason is Reason.NEVER_STARTED:
        return _unstarted(end, stop or {}, about)
    if end.reason in (Reason.VANISHED, Reason.BACKEND_RESTARTED, Reason.NODE_LOST) and code is None:
        detail = end.detail or "it is gone, and nobody saw how it ended"
        asked = " (a stop had been asked for)" if stop else ""
        text = f"{capital(detail)}{asked}: its outcome isn't known. {_read(about)}"
        return Verdict(RunStatus.LOST, end.reason, text, code)
    if end.reason is Reason.TIMED_OUT or (end.after_stop and stop):
        return _stopped(end, stop or {}, about)
    if end.reason is Reason.OUT_OF_MEMORY:
        return Verdict(RunStatus.FAILED, end.reason, _out_of_memory(about), code)
    if end.reason is not Reason.NONE:
        detail = end.detail or str(end.reason)
        return Verdict(RunStatus.FAILED, end.reason, f"{capital(detail)}.", code)
    if code == 0:
        said = f"{capital(end.detail)}." if end.detail else ""
        return Verdict(RunStatus.SUCCEEDED, Reason.NONE, said, code)
    if end.signal is not None:
        return Verdict(RunStatus.FAILED, Reason.SIGNALLED, _signalled(end.signal, about), code)
    if code is None:
        text = f"It ended and nobody saw its exit code. {_read(about)}"
        return Verdict(RunStatus.LOST, Reason.VANISHED, text, code)
    return Verdict(RunStatus.FAILED, Reason.NON_ZERO_EXIT, _non_zero(code, about), code)


def _unstarted(end: End, stop: Mapping[str, Any], about: Mapping[str, Any]) -> Verdict:
    """The verdict on a run that can't be started any more."""
    handle, code = about.get("handle", ""), end.exit_code
    why = stop.get("why")
    if why == StopCause.CANCEL:
        text = f"Cancelled before it started. %qwex rerun {handle}"
        return Verdict(RunStatus.CANCELLED, Reason.CANCELLED_BY_USER, text, code)
    if why == StopCause.START_TIMEOUT:
        return _too_late(end, about)
    if why == StopCause.NEVER_STARTS:
        return _never_starts(stop)
    detail = end.detail or "whoever was to start it is gone"
    text = f"It never started: {detail}. %qwex rerun {handle}"
    return Verdict(RunStatus.LOST, end.reason, text, code)


def _stopped(end: End, stop: Mapping[str, Any], about: Mapping[str, Any]) -> Verdict:
    """The verdict on a run that ended as it was stopped, by a deadline or because of a wish."""
    handle, code, limit = about.get("handle", ""), end.exit_code, about.get("timeout")
    why = stop.get("why")
    if end.reason is Reason.TIMED_OUT and not limit:
        # The deadline is in a patch of its pod, or was set by somebody with rights there.
        text = "Stopped by a deadline that was set where it ran, not with --timeout. "
        return Verdict(RunStatus.FAILED, Reason.TIMED_OUT, f"{text}%qwex rerun {handle}", code)
    if end.reason is Reason.TIMED_OUT or why == StopCause.TIMEOUT:
        text = (
            f"Stopped after its timeout of {say_seconds(limit)}. "
            f"Try %qwex rerun {handle} --timeout {_double(limit)}"
        )
        return Verdict(RunStatus.FAILED, Reason.TIMED_OUT, text, code)
    if why == StopCause.START_TIMEOUT:
        return _too_late(end, about)
    if why == StopCause.NEVER_STARTS and code is None:
        return _never_starts(stop)
    text = f"Stopped by {stop.get('who') or 'you'}. %qwex rerun {handle}"
    return Verdict(RunStatus.CANCELLED, Reason.CANCELLED_BY_USER, text, code)


def _never_starts(stop: Mapping[str, Any]) -> Verdict:
    """The end of a run that was stopped because it would never have started."""
    reason = Reason(str(stop.get("reason") or Reason.UNSCHEDULABLE))
    return Verdict(RunStatus.FAILED, reason, f"{capital(str(stop.get('detail')))}.", None)


# The signals of Linux by their numbers, signal(7): those of a container, whatever this machine is.
# macOS has other numbers for some, and Windows has few names.
_OF_LINUX = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE"),
    *("SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT"),
    *("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU"),
    *("SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS"),
)
_INSIDE = dict(enumerate(_OF_LINUX, 1))
_HERE = {int(one): one.name for one in signals.Signals}
if not hasattr(signals, "SIGKILL"):
    _HERE = _INSIDE


def _signals(about: Mapping[str, Any]) -> Mapping[int, str]:
    """The names of signals by their numbers, where it ran."""
    return _INSIDE if about.get("image") else _HERE


def _double(value: Any) -> str:
    return say_seconds(2 * value) if value else "1h"


def _too_late(end: End, about: Mapping[str, Any]) -> Verdict:
    limit = about.get("start_timeout")
    text = (
        f"It had not started {say_seconds(limit)} after it was submitted, and never will. "
        f"Try %qwex rerun {about.get('handle', '')} --start-timeout {_double(limit)}"
    )
    return Verdict(RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED, text, end.exit_code)


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


def read_first(handle: object) -> str:
    """The next step where its output may tell more."""
    return f"Read %qwex logs {handle}, then {again(handle)}"


def again(handle: object) -> str:
    """The next step where its output is in sight, or there is none."""
    return f"%qwex rerun {handle}"


def _read(about: Mapping[str, Any]) -> str:
    handle = about.get("handle", "")
    if about.get("printed", True):
        return read_first(handle)
    return f"It printed nothing. {again(handle)}"


def _signalled(number: int, about: Mapping[str, Any]) -> str:
    name = _signals(about).get(number, f"signal {number}")
    what = {
        "SIGKILL": "Killed from outside (SIGKILL); often the system ran out of memory",
        "SIGTERM": "Ended from outside (SIGTERM)",
        "SIGSEGV": "It crashed (SIGSEGV: a read or write outside its memory)",
        "SIGABRT": "It aborted itself (SIGABRT)",
        "SIGBUS": "It crashed (SIGBUS: often a full disk or /dev/shm under a memory map)",
        "SIGPIPE": "It wrote to a pipe that nobody read any more (SIGPIPE)",
    }.get(name, f"Ended by {name}")
    return f"{what}. {_read(about)}"


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
    if name := _signals(about).get(code - 128):
        if name == "SIGKILL":
            name += ", often for want of memory"
        return f"Exit code {code}: a command in it was ended by {name}. {_read(about)}"
    if about.get("printed", True):
        return f"Exit code {code}. {read_first(handle)}"
    unsure = about.get("shell") and not about.get("failed")
    trace = "set -x in its first line shows which command failed. " if unsure else ""
    return f"Exit code {code}, and it printed nothing. {trace}{again(handle)}"
