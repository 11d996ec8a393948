"""Threads that may be missing: a system at its limit gives no further one."""

from __future__ import annotations

import threading
from collections.abc import Callable


def started(work: Callable[..., object], name: str, *args: object) -> threading.Thread | None:
    """A thread at work, which doesn't keep the process; None where none can be had now.

    For what goes on without: the next who needs it tries again, and who waits for the end of a
    run asks for himself.
    """
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
