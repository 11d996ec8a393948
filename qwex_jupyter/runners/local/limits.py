"""What a program has of the process that submitted it: limits, nice, processors.

Read at each submit and set in the program alone, as a shell that the submitter started now
would have it. The processes that look after a run lift what could end them. Standard library
only.
"""

from __future__ import annotations

import errno
import functools
import os
from typing import Any

try:
    import resource
except ImportError:
    pass  # Windows, where this module is only imported

# ``limits``: by name, soft and hard. ``nice``; ``cpus`` where the system tells.
Limits = dict[str, Any]

# Those that end a process or keep it from its work.
_IN_THE_WAY = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NPROC")
_ADVICE = {
    errno.EMFILE: "close some, or raise ulimit -n",
    errno.ENFILE: "close some",
    errno.EAGAIN: "end some processes, or raise ulimit -u",
    errno.ENOMEM: "free some, or raise ulimit -v",
}
# Enough for who looks after one run; an endless limit makes some systems slow.
_FILES = 1024


def here() -> Limits:
    """Those of the thread that asks, as what it starts would inherit them."""
    found: Limits = {
        "limits": {name: [*resource.getrlimit(number)] for name, number in _numbers().items()},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }
    if hasattr(os, "sched_getaffinity"):
        found["cpus"] = sorted(os.sched_getaffinity(0))
    return found


def within(wanted: Limits, born: Limits) -> bool:
    """Whether a child of a process that was born with those may have these.

    What was lowered may not be raised again, but by root.
    """
    if wanted["nice"] < born["nice"]:
        return False
    of_old = born["limits"]
    return all(_below(hard, of_old[name][1]) for name, (_, hard) in wanted["limits"].items())


def lift() -> None:
    """Takes away from this process what may be, of what could end it."""
    for name in _IN_THE_WAY:
        number = _numbers().get(name)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            _try(number, (hard, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _below(soft, _FILES - 1):
        _try(resource.RLIMIT_NOFILE, (_FILES if _below(_FILES, hard) else hard, hard))


def take(wanted: Limits) -> None:
    """Makes this process have them.

    Raises:
        Refused: The system doesn't let it; says what.
    """
    what = ""
    try:
        if "cpus" in wanted and set(wanted["cpus"]) != os.sched_getaffinity(0):
            what = "its processors"
            os.sched_setaffinity(0, wanted["cpus"])
        if wanted["nice"] != os.getpriority(os.PRIO_PROCESS, 0):
            what = f"its nice value {wanted['nice']}"
            os.setpriority(os.PRIO_PROCESS, 0, wanted["nice"])
        numbers = _numbers()
        # Those of memory last, as all this takes some.
        memory = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK")
        for name, pair in sorted(wanted["limits"].items(), key=lambda one: one[0] in memory):
            if tuple(pair) != resource.getrlimit(numbers[name]):
                what = f"its limit {name.removeprefix('RLIMIT_')} of {pair[0]}"
                resource.setrlimit(numbers[name], tuple(pair))
    except (OSError, ValueError) as error:
        raise Refused(f"{what} could not be set ({error})") from error


def cause(error: BaseException) -> str:
    """Why the system refused a file or a process, and what helps."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if not number:
        return f"{type(error).__name__} {error}".strip()
    advice = _ADVICE.get(number)
    return os.strerror(number) + (f": {advice}" if advice else "")


class Refused(Exception):
    """The system doesn't let a process have what its submitter has."""


@functools.cache
def _numbers() -> dict[str, int]:
    """Each limit that this system knows, once."""
    named = {
        getattr(resource, name): name for name in sorted(dir(resource)) if name[:7] == "RLIMIT_"
    }
    return {name: number for number, name in named.items()}


def _below(one: int, other: int) -> bool:
    """Whether a limit isn't above another, where one may be endless."""
    endless = resource.RLIM_INFINITY
    return other == endless or (one != endless and one <= other)


def _try(number: int, pair: tuple[int, int]) -> None:
    try:
        resource.setrlimit(number, pair)
    except (OSError, ValueError):
        pass  # it goes on with what it has
