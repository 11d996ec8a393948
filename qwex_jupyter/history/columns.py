"""Columns: many records as one array per field, in memory and as bytes.

A text or mapping is kept once, and each row holds its number; a number is itself, with a
sentinel for None. Standard library only, so that finding a run by its name imports neither
numpy nor pandas; `frame` looks at the same arrays through numpy without copying them.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

from qwex_jupyter.model.record import RunRecord

# The kinds, as a message names them.
TEXT, SECONDS, WHOLE = "text", "a number of seconds", "a whole number"
WORDS, COUNTS = "a mapping to texts", "a mapping to whole numbers"

# What each field of a record holds. Anything else in a file is damage.
KINDS: Mapping[str, str] = {
    **{f.name: TEXT for f in fields(RunRecord)},
    **dict.fromkeys(("created_at", "started_at", "finished_at", "observed_at"), SECONDS),
    **dict.fromkeys(("elapsed", "cpu_time", "overrun"), SECONDS),
    **dict.fromkeys(("exit_code", "peak_memory"), WHOLE),
    "labels": WORDS,
    "log_missing": COUNTS,
}
NO_NUMBER = -(2**63)

# The years 1 and 9999, beyond which no date can be shown.
_LEAST_SECONDS, _MOST_SECONDS = -62135596800.0, 253402300799.0
_NEVER_NONE = {"created_at", "observed_at"}
_MAGIC = b"qwex columns 2 " + sys.byteorder.encode()

Row = Sequence[Any]
pick_values = itemgetter(*KINDS)
_attributes = attrgetter(*KINDS)


@dataclass(frozen=True)
class Words:
    """A column of texts or mappings: what it can say, and which of it each row says."""

    values: list[Any]
    codes: array[int]

    def numbers_of(self, words: Iterable[str]) -> set[int]:
        """The codes that say one of these words; a value may stand here more than once."""
        wanted = set(words)
        return {code for code, value in enumerate(self.values) if value in wanted}


# The types are text, because an array can't be subscripted before Python 3.12.
Column: TypeAlias = "Words | array[Any]"
Columns: TypeAlias = "dict[str, Words | array[Any]]"


def rows_of(columns: Columns) -> int:
    """How many rows there are."""
    codes = columns["run_id"]
    return len(codes.codes) if isinstance(codes, Words) else 0


def names_of(columns: Columns) -> list[str]:
    """The run id of each row."""
    column = columns["run_id"]
    assert isinstance(column, Words)
    return list(map(column.values.__getitem__, column.codes))


def row(record: RunRecord) -> Row:
    """The values of a record in the order of `KINDS`.

    Raises:
        ValueError: A value isn't of its field's kind.
    """
    values = [str(value) if isinstance(value, str) else value for value in _attributes(record)]
    Builder().add([values])
    return values


class Builder:
    """Collects rows into columns."""

    def __init__(self) -> None:
        self._index: dict[str, _Index] = {}
        self._columns: Columns = {}
        for name, kind in KINDS.items():
            if kind in (SECONDS, WHOLE):
                self._columns[name] = array("d" if kind == SECONDS else "q")
            else:
                self._index[name] = index = _Index(kind)
                self._columns[name] = Words(index.known, array("i"))

    def add(self, rows: Iterable[Row]) -> None:
        """Adds all of these rows, or none.

        Raises:
            ValueError: A value isn't of its field's kind.
        """
        ready: list[tuple[array[Any], array[Any]]] = []
        for (name, kind), values in zip(KINDS.items(), zip(*rows, strict=True), strict=False):
            column = self._columns[name]
            try:
                if isinstance(column, Words):
                    said = values if kind == TEXT else [tuple(v.items()) for v in values]
                    codes = map(self._index[name].__getitem__, said)
                    ready.append((column.codes, array("i", codes)))
                else:
                    ready.append((column, _numbers(name, kind, values)))
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                raise ValueError(f"{name} isn't {kind}: {error}") from error
        for whole, part in ready:
            whole.extend(part)

    def columns(self) -> Columns:
        """What was collected."""
        return self._columns


def join(first: Columns, second: Columns) -> Columns:
    """The rows of two, for the fields that both have."""
    if not rows_of(first) or not rows_of(second):
        return second if rows_of(second) else first
    joined: Columns = {}
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        if isinstance(one, Words) and isinstance(two, Words):
            offset = len(one.values)
            shifted = array("i", [code + offset for code in two.codes])
            joined[name] = Words(one.values + two.values, one.codes + shifted)
        elif not isinstance(one, Words) and not isinstance(two, Words):
            joined[name] = one + two
    return joined


def choose(columns: Columns, rows: Sequence[int]) -> Columns:
    """Only these rows, in this order."""
    if not len(rows):
        return Builder().columns()
    pick = itemgetter(*rows) if len(rows) > 1 else lambda column: (column[rows[0]],)
    chosen: Columns = {}
    for name, column in columns.items():
        if isinstance(column, Words):
            kept = _Index(KINDS[name])
            codes = [kept[column.values[code]] for code in pick(column.codes)]
            chosen[name] = Words(kept.known, array("i", codes))
        else:
            chosen[name] = array(column.typecode, pick(column))
    return chosen


def record_at(columns: Columns, number: int) -> RunRecord:
    """The record of one row; needs every field."""
    values: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, Words):
            value = column.values[column.codes[number]]
            values[name] = value if KINDS[name] == TEXT else dict(value)
        else:
            value = column[number]
            values[name] = None if value == NO_NUMBER or value != value else value
    return RunRecord.from_json(values)


def encode(columns: Columns, about: Mapping[str, Any]) -> bytes:
    """All columns as bytes that `decode` reads; ``about`` is what else is to be kept."""
    blocks: list[bytes] = []
    places: dict[str, list[int]] = {}
    for name in KINDS:
        column, parts = columns[name], []
        if isinstance(column, Words):
            parts = [json.dumps(column.values).encode(), column.codes.tobytes()]
        else:
            parts = [column.tobytes()]
        places[name] = [len(part) for part in parts]
        blocks += parts
    header = {"about": about, "places": places, "rows": rows_of(columns)}
    body = b"".join([json.dumps(header).encode() + b"\n", *blocks])
    return _MAGIC + b" %08x\n" % zlib.crc32(body) + body


def decode(data: bytes, names: Iterable[str]) -> tuple[dict[str, Any], Columns]:
    """What was kept, and these columns.

    Raises:
        ValueError: These bytes are torn, or not of this version, machine or making.
    """
    view = memoryview(data)
    start = len(_MAGIC) + 10
    if data[:start] != _MAGIC + b" %08x\n" % zlib.crc32(view[start:]):
        raise ValueError("not whole, or not of this version")
    end = data.index(b"\n", start)
    try:
        header = json.loads(data[start:end])
        places: dict[str, list[int]] = header["places"]
        if list(places) != list(KINDS):
            raise ValueError("not of this version")
        columns: Columns = {}
        wanted, offset = set(names), end + 1
        for name, sizes in places.items():
            ends = [offset + sum(sizes[: i + 1]) for i in range(len(sizes))]
            if name in wanted:
                columns[name] = _column(KINDS[name], view[offset : ends[-1]], sizes)
            offset = ends[-1]
        for column in columns.values():
            if len(column.codes if isinstance(column, Words) else column) != header["rows"]:
                raise ValueError("columns of different lengths")
        return header["about"], columns
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not of our making: {error}") from error


def _column(kind: str, data: memoryview, sizes: list[int]) -> Column:
    numbers: array[Any] = array({SECONDS: "d", WHOLE: "q"}.get(kind, "i"))
    if kind in (SECONDS, WHOLE):
        numbers.frombytes(data)
        return numbers
    values = json.loads(bytes(data[: sizes[0]]))
    if kind != TEXT:
        values = [tuple((key, item) for key, item in value) for value in values]
    numbers.frombytes(data[sizes[0] :])
    return Words(values, numbers)


class _Index(dict[Any, int]):
    """Numbers for values, given at first sight; a look-up of a known one stays in C."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.known: list[Any] = []
        self._kind = kind

    def __missing__(self, value: Any) -> int:
        if type(value) is str and self._kind == TEXT:
            value.encode()  # half a character (a lone surrogate) can't be shown
        else:
            self._check(value)
        self[value] = number = len(self.known)
        self.known.append(value)
        return number

    def _check(self, value: Any) -> None:
        allowed = {WORDS: str, COUNTS: int}.get(self._kind)
        if allowed is None or type(value) is not tuple:
            raise ValueError(f"{value!r}")
        for key, item in value:
            if type(key) is not str or type(item) is not allowed:
                raise ValueError(f"{key!r}: {item!r}")
            f"{key}{item}".encode()


def _numbers(name: str, kind: str, values: Sequence[Any]) -> array[Any]:
    numbers = values
    if None in values:
        if name in _NEVER_NONE:
            raise ValueError("it is missing")
        numbers = [value for value in values if value is not None]
        none = math.nan if kind == SECONDS else NO_NUMBER
        values = [none if value is None else value for value in values]
    if kind == WHOLE:
        return array("q", values)
    if numbers and not (min(numbers) >= _LEAST_SECONDS and max(numbers) <= _MOST_SECONDS):
        raise ValueError("it is out of range")
    return array("d", values)
