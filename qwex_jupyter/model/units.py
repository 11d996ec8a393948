"""Units: memory, CPUs, durations and moments as people write them, and as they are told of them.

Memory takes the words of Docker and Kubernetes. Where the two disagree about a letter, Docker's
meaning holds, because it is the larger one and nobody who types ``512m`` means half a byte:
``k m g t`` in any case, with or without ``i`` and ``b``, are powers of 1024 (Kubernetes reads
``m`` as thousandths and ``M`` as a million). CPUs are a number of cores, ``0.5`` or ``500m``.
Durations are seconds or ``1h30m``. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

from qwex_jupyter.errors import SpecError

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtKMGT]?)(i?[bB]?)")
_CPUS = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LEAST_MEMORY, _MOST_MEMORY = 1024**2, 2**63
# After this many seconds the time of day doesn't matter any more.
_LONG_AGO = 300 * 86400.0
# After this many a date says more than how long ago it is.
_DAYS_AGO = 30 * 86400.0


def parse_memory(value: str | int, name: str = "memory") -> int:
    """Memory in bytes: ``512m``, ``2Gi``, ``2GiB``, ``1.5g``; a bare number is bytes.

    Raises:
        SpecError: It isn't one of these, less than 1 MiB, or more than any machine has.
    """
    found = _MEMORY.fullmatch(str(value).strip())
    if isinstance(value, bool) or not found or (found[3].lower() == "i" and not found[2]):
        raise SpecError(
            f"{name}={value!r} isn't a size: write 512m, 2g, 2Gi or 2GiB (powers of 1024)."
        )
    power = " kmgt".index(found[2].lower() or " ")
    size = float(found[1]) * 1024**power
    if size < _LEAST_MEMORY:
        raise SpecError(f"{name}={value!r} is {size:g} bytes: a run needs at least 1 MiB (1m).")
    if size >= _MOST_MEMORY:
        raise SpecError(f"{name}={value!r} is more than any machine has: write 512m or 2GiB.")
    return int(size)


def parse_cpus(value: str | float, name: str = "cpus") -> float:
    """CPU cores: ``0.5``, ``2`` or ``500m`` (thousandths).

    Raises:
        SpecError: It isn't one of these, or not above zero.
    """
    if isinstance(value, int | float):
        cores = float(value)
    else:
        found = _CPUS.fullmatch(str(value).strip())
        cores = float(found[1]) / (1000 if found[2] else 1) if found else 0.0
    if isinstance(value, bool) or not math.isfinite(cores) or cores <= 0:
        raise SpecError(
            f"{name}={value!r} isn't a number of CPUs above zero: write 2, 0.5 or 500m."
        )
    return cores


def parse_duration(value: str | float, name: str = "timeout") -> float:
    """Seconds: ``90``, ``90s``, ``10m``, ``1h30m``, ``2d``.

    Raises:
        SpecError: It isn't one of these, or negative.
    """
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text)
        if not text or not found:
            raise SpecError(
                f"{name}={value!r} isn't a duration: write seconds (90) or 10m, 1h30m, 2d."
            ) from None
        scale = (86400, 3600, 60, 1)
        seconds = sum(
            float(part) * unit for part, unit in zip(found.groups(), scale, strict=True) if part
        )
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise SpecError(f"{name}={value!r} isn't a duration: it must not be negative or endless.")
    return seconds


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


def say_seconds(value: Any) -> str:
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


def clock(seconds: float | None, *, live: bool = False) -> str:
    """A duration for people, wherever one is told: ``15ms``, ``3.2s``, ``0:00:41``.

    The page of the monitor does the same (``clock`` of elements.js), to the last digit.

    Args:
        seconds: None for none.
        live: It is still growing, and so has whole seconds.
    """
    if seconds is None:
        return ""
    seconds = round(seconds, 6)
    if seconds >= 59.95 or live:
        hours, rest = divmod(int(seconds if live else seconds + 0.05), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    if seconds == int(seconds):  # of a backend with whole seconds
        return f"{seconds:.0f}s" if seconds else "<1s"
    if seconds < 0.1:
        return f"{int(seconds * 1000 + 0.5)}ms"
    return f"{int(seconds * 10 + 0.5) / 10:.1f}s"


def local(when: float) -> str:
    """A point in time by the clock on the wall: ``Nov 23 16:30``, long ago ``2025-11-23``."""
    form = "%b %d %H:%M" if time.time() - when < _LONG_AGO else "%Y-%m-%d"
    return time.strftime(form, time.localtime(when))


def ago(when: float, now: float) -> str:
    """How long before another a point in time was: ``12 s ago``, ``3 days ago``; later its date."""
    passed = now - when
    if passed > _DAYS_AGO:
        return local(when)
    if passed >= 86400:
        return f"{say_count(int(passed // 86400), 'day')} ago"
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if passed >= size:
            return f"{int(passed // size)} {unit} ago"
    return "just now"
