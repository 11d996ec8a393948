"""The time stamps that a kubelet puts in front of lines: taken off, compared, said. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from qwex_jupyter.runners.container.times import read

# pkg/kubelet/kuberuntime/logs: RFC3339NanoFixed, in the node's own time zone.
STAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)) ", re.MULTILINE)
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
# What a kubelet or a runtime says in the place of output, with status 200.
_TROUBLE = re.compile(
    rb"unable to retrieve container logs for |failed to (?:try )?(?:resolve|read|create|watch|open|"
    rb"get).*log|rpc error|an error on the server|failed to follow"
)
# containerd keeps longer lines in pieces of this size: max_container_log_line_size.
PIECE = 16 * 1024


def seconds(stamp: bytes) -> float:
    """Seconds since the epoch."""
    return _moment(stamp).timestamp()


def before(stamp: bytes, earlier: int) -> str:
    """``sinceTime`` so many seconds earlier, which has whole seconds; "" for no stamp."""
    if not stamp:
        return ""
    return (_moment(stamp) - timedelta(seconds=earlier)).strftime("%Y-%m-%dT%H:%M:%SZ")


def later_by(stamp: bytes, later: int) -> bytes:
    """A stamp so many seconds later, in UTC."""
    return (_moment(stamp) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()


def is_after(stamp: bytes, limit: bytes) -> bool:
    """Whether it is later; ``limit`` is in UTC."""
    return stamp > limit if stamp.endswith(b"Z") else _moment(stamp) > _moment(limit)


def clock(stamp: bytes) -> str:
    """``16:30:45 UTC``."""
    return _moment(stamp).strftime("%H:%M:%S UTC")


def _moment(stamp: bytes) -> datetime:
    # It cuts to microseconds: what is compared by it needs no more.
    return read(stamp.decode()).astimezone(UTC)


def taken_off(data: bytes, *, split: bool) -> tuple[bytes, bytes, str]:
    """Lines that are not each a stamp and a text: the output among them, its text, and what isn't.

    Args:
        data: The lines.
        split: They are of one stream. Where both come as one, a line without a stamp is no
            output: a kubelet says there what it can't read.
    """
    kept, texts, trouble = [], [], ""
    for line in _LINE.findall(data):
        found = STAMP.match(line)
        text = line[found.end() :] if found else line
        known = trouble_in(line)
        if found or (split and not known):
            kept.append(line)
            texts.append(_joined(text) if split else text)
        else:
            trouble = known or f"something that is no output came: {_said(line)}"
    return b"".join(kept), b"".join(texts), trouble


def trouble_in(data: bytes) -> str:
    """What a kubelet or a runtime says in the place of output; "" where it is output."""
    return _said(data) if _TROUBLE.match(data) else ""


def _said(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()[:300]


def _joined(text: bytes) -> bytes:
    """A line without the stamps between its pieces."""
    at = PIECE
    while at < len(text):
        if found := STAMP.match(text[at : at + 40]):
            text = text[:at] + text[at + found.end() :]
        at += PIECE
    return text
