"""What ``--json`` makes of answers: one JSON value a line, for scripts and for agents.

``model/record.schema.json`` says what a run is there; ``docs/scripts.md`` lists the others.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

from qwex_jupyter.disk.logs import STREAMS
from qwex_jupyter.model.record import RunRecord

# A longer line is cut at each so many characters, so that one without an end is held by nobody.
_LONGEST = 64 * 1024


def line(value: object) -> str:
    """A value in one line of ASCII: any stream can take it, and no reader sees another line's end.

    Many take U+2028 or U+0085 for one (Python's ``splitlines``).
    """
    return json.dumps(value)


def of_run(record: RunRecord) -> dict[str, Any]:
    """A run: its record, its short name, and how many seconds it ran."""
    return {**record.to_json(), "handle": record.handle, "duration": record.duration()}


def of_error(error: BaseException, message: str, code: int) -> dict[str, Any]:
    """What ends ``qwex`` itself.

    Args:
        error: It.
        message: What it says, in a terminal's words.
        code: The exit code.
    """
    return {"error": {"type": type(error).__name__, "message": message, "exit_code": code}}


def of_output(output: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, str]]:
    """The lines of what a program said, each with its end; the texts together are the output.

    Bytes that are no UTF-8 become U+FFFD.

    Args:
        output: Stream and bytes, as they come.
    """
    decode = {stream: codecs.getincrementaldecoder("utf-8")("replace").decode for stream in STREAMS}
    held = dict.fromkeys(STREAMS, "")
    for stream, data in output:
        *whole, rest = (held[stream] + decode[stream](data)).split("\n")
        for text in whole:
            yield from _pieces(stream, f"{text}\n")
        kept = max(0, (len(rest) - 1) // _LONGEST * _LONGEST)
        yield from _pieces(stream, rest[:kept])
        held[stream] = rest[kept:]
    for stream in STREAMS:
        yield from _pieces(stream, held[stream] + decode[stream](b"", True))


def _pieces(stream: str, text: str) -> Iterator[dict[str, str]]:
    for begin in range(0, len(text), _LONGEST):
        yield {"stream": stream, "text": text[begin : begin + _LONGEST]}
