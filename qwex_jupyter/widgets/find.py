"""Where a text stands in all of a log, and the lines that stand there.

A page holds the last lines of a run's output. What else there is is looked for here, in the
files: so many bytes at the most, and what is answered is bounded too, however often it is found.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.display import paths, terminal
from qwex_jupyter.model.text import plain

# Of each stream so much is searched, its end.
MOST = 256 << 20
# So many places are told, the last: more than a page has lines.
PLACES = 2500
_CHUNK = 1 << 20
# A line longer than this is searched in pieces.
_LONGEST = 8 << 20
# What is shown before a place, and from it on, at the most. Bytes, and lines.
_BEFORE, _AFTER = 16 << 10, 48 << 10
_LINES_BEFORE, _LINES_AFTER = 500, 1500


def find(log: RunLog, text: str, over: Callable[[], bool]) -> dict[str, Any] | None:
    """Looks for a text as a person reads it: in any case, without colours.

    Args:
        log: Where it may stand.
        text: What is looked for.
        over: Whether nobody waits for it any more.

    Returns:
        ``count`` (how many lines have it), ``places`` (the last of them: stream, byte offset of
        the line, and its number, None where that isn't known), ``part`` (the bytes of each
        stream, from its end, that were searched; None for all). None when it is over.
    """
    wanted, count = text.lower(), 0
    places: deque[tuple[str, int, int | None]] = deque(maxlen=PLACES)
    part = None
    for stream in STREAMS:
        size, start = log.size(stream), log.where_last(stream, within=MOST)
        part = MOST if start else part
        number = 0 if start else 1
        for offset, block in _blocks(log, stream, start, size):
            if over():
                return None
            at = offset
            if _may_have(block, wanted):
                for place, line in enumerate(block.split(b"\n")):
                    text = terminal.last_state(line.decode("utf-8", "replace"))
                    text = paths.short(text, log.folder)
                    if wanted in plain(text).lower():
                        count += 1
                        places.append((stream, at, number + place if number else None))
                    at += len(line) + 1
            number += block.count(b"\n") if number else 0
    return {"count": count, "places": list(places), "part": part}


def lines_at(log: RunLog, stream: str, offset: int, number: int | None) -> dict[str, Any]:
    """The lines around a place.

    Args:
        log: Where they stand.
        stream: ``stdout`` or ``stderr``; "" for the first that says anything.
        offset: A byte of the line that is meant.
        number: The number of that line; None where it isn't known.

    Returns:
        ``stream``, ``lines``, ``number`` (of the first), ``here`` (which one was meant),
        ``begin`` and ``end`` (their bytes), ``size`` (those of the stream).
    """
    stream = stream or next((name for name in STREAMS if log.size(name)), STREAMS[0])
    size = log.size(stream)
    here = _line_at(log, stream, min(offset, size))
    begin = max(0, here - _BEFORE)
    data = log.read(stream, begin, here - begin + _AFTER)
    if begin:  # from the beginning of a line
        cut = data.find(b"\n", 0, here - begin) + 1 or here - begin
        begin, data = begin + cut, data[cut:]
    if begin + len(data) < size:  # to the end of one, where there is one
        data = data[: data.rfind(b"\n", here - begin) + 1 or len(data)]
    above, below = _lines(data[: here - begin]), _lines(data[here - begin :])
    above, below = above[-_LINES_BEFORE:], below[:_LINES_AFTER]
    data = b"".join([*above, *below])
    begin, before = here - sum(map(len, above)), len(above)
    text = data.removesuffix(b"\n").decode("utf-8", "replace")
    return {
        "stream": stream,
        "lines": [
            paths.short(terminal.shown(line), log.folder) for line in text.split("\n") if data
        ],
        "number": None if number is None else number - before,
        "here": before,
        "begin": begin,
        "end": begin + len(data),
        "size": size,
    }


def _blocks(log: RunLog, stream: str, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """A stream in pieces that end with a line, each with its offset; not what comes meanwhile."""
    held = b""
    while start + len(held) < size:
        at = start + len(held)
        data = log.read(stream, at, min(_CHUNK, size - at))
        if not data:
            break  # it was deleted
        held += data
        cut = held.rfind(b"\n") + 1
        if not cut and len(held) > _LONGEST:
            cut = len(held)
        if cut:
            yield start, held[:cut]
            start, held = start + cut, held[cut:]
    if held:
        yield start, held


def _lines(data: bytes) -> list[bytes]:
    """Lines with their ends, which are newlines and nothing else."""
    return io.BytesIO(data).readlines()


def _may_have(block: bytes, wanted: str) -> bool:
    """Whether the lines must be looked at one by one."""
    text = block.decode("utf-8", "replace")
    # What a terminal obeys may stand within the text that is read, and what is shown otherwise.
    odd = any(mark in text for mark in ("\x1b", "\r", paths.MARK))
    return odd or wanted in text.lower()


def _line_at(log: RunLog, stream: str, offset: int) -> int:
    """Where the line of a byte begins, or as far before it as is looked at."""
    begin = max(0, offset - _BEFORE)
    cut = log.read(stream, begin, offset - begin).rfind(b"\n") + 1
    return begin + cut if cut or not begin else offset
