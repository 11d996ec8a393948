"""Between a kernel and its server: bytes through pipes, all of them or none, and signals.

Standard library only.
"""

from __future__ import annotations

import os
import signal

# What is sent to a kernel, and to all of its group: none of it is for a server.
# Windows, where this module is only imported, has no SIGHUP.
FOR_A_KERNEL = (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIGTERM)
# What a server says on its stdout when it reads requests.
SERVING = b"serving\n"


def read_exactly(descriptor: int, count: int) -> bytes:
    """Reads this many bytes; b"" when the pipe ends before."""
    data = b""
    while len(data) < count:
        chunk = os.read(descriptor, count - len(data))
        if not chunk:
            return b""
        data += chunk
    return data


def read_message(descriptor: int) -> bytes:
    """What follows its own length of eight hexadecimal digits; b"" where it is torn."""
    head = read_exactly(descriptor, 8)
    return read_exactly(descriptor, int(head, 16)) if head else b""


def message(body: bytes) -> bytes:
    """What `read_message` reads."""
    return b"%08x" % len(body) + body


def write_all(descriptor: int, data: bytes) -> bool:
    """Whether it was written whole: the other end may be gone."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True
