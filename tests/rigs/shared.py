"""What the process that starts the tests hands down to those that run them.

One engine of each kind, one cluster and a range of ports: as a file that one variable names, and
a number in another. Both are read when this is imported, since a test sees no variables of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from enum import Enum
from pathlib import Path
from typing import Any

FILE, PORTS = "QWEX_TEST_RIGS", "TESTS_PORTS"
# The first port, and how many each process has; below those that the system gives to clients.
FIRST, EACH = 20000, 1000


class Owned(Enum):
    """Whose an engine or a cluster is, and so what a test may do to it."""

    ALONE = "ours alone"  # killed, frozen, filled and told otherwise
    SHARED = "ours, and shared with other processes"  # used, under names of the test's own
    USERS = "the user's own"  # used, and none of its names is touched

    @property
    def ours(self) -> bool:
        """Whether the tests started it."""
        return self is not Owned.USERS


def _read() -> dict[str, Any]:
    path = os.environ.get(FILE, "")
    found: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return found


def _ports() -> range:
    if PORTS not in os.environ:
        return range(FIRST, FIRST + 10 * EACH)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = int(os.environ[PORTS]) + EACH * worker
    return range(first, first + EACH)


NOTES = _read()
PORT_RANGE = _ports()
# Ports that were given away, whose servers may still have to come up.
_GIVEN: set[int] = set()


def free_port() -> int:
    """A port on loopback that nobody has, of those that belong to this process; each once."""
    while True:
        port = random.choice([port for port in PORT_RANGE if port not in _GIVEN])
        _GIVEN.add(port)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def note(name: str) -> dict[str, Any] | None:
    """What was handed down under this name: a kind of engine, or ``cluster``; None: nothing."""
    found: dict[str, Any] | None = NOTES.get(name)
    return found
