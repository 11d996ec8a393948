"""The small process of one kernel that forks supervisors, and leaves with the kernel.

It forks a supervisor and a scribe for each run, always one pair ahead; they live on.
Standard library and this package's plainest modules only: it runs under ``python -I -S``.
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import NamedTuple

from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.model.status import End
from qwex_jupyter.model.verdict import conclude
from qwex_jupyter.runners.local import limits, outcome, remains
from qwex_jupyter.runners.local.pipes import FOR_A_KERNEL, SERVING, message, read_message, write_all
from qwex_jupyter.runners.local.program import reset_signals
from qwex_jupyter.runners.local.scribe import Scribe
from qwex_jupyter.runners.local.supervisor import READY, own_peak, stand_by
from qwex_jupyter.system import process

# How long a supervisor may take to get ready. One that can't says so, or ends, at once.
_PATIENCE = 20.0


def serve() -> None:
    """Hands each request on stdin to a supervisor, until stdin ends.

    A request is eight hexadecimal digits (its length in bytes) and a JSON object. A torn
    one is the last thing a dying kernel wrote: nothing is started for it. One supervisor
    with its scribe and its program, forked and waiting, is always kept ready, so that a run
    doesn't wait for forks.
    """
    # What it forks is reaped by the system, which ignoring SIGCHLD means.
    reset_signals({signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, *FOR_A_KERNEL})
    limits.lift()
    _warm_up()
    null = os.open(os.devnull, os.O_RDWR)
    write_all(1, SERVING)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    # Held for the moment in which there are no others: to say so takes some.
    reserve = [null, *(os.dup(null) for _ in range(3))]
    spare: _Spare | str = _fork()
    while body := read_message(0):
        # A spare that was killed is replaced. Had it begun, then its launch.json is there,
        # and nobody begins again. One that could not be made may be possible now.
        why = spare.take(body) if isinstance(spare, _Spare) else spare
        if why:
            spare = _fork()
            why = spare.take(body) if isinstance(spare, _Spare) else spare
        if why:
            for descriptor in reserve:
                os.close(descriptor)
            outcome.never_started(RunFolder(json.loads(body)["folder"]), why)
            reserve = [os.open(os.devnull, os.O_RDWR) for _ in reserve]
        spare = _fork()


class _Spare(NamedTuple):
    """A supervisor that gets ready, or is."""

    pipe: int
    ready: int

    def take(self, body: bytes) -> str:
        """Hands a request to it; why that could not be, "" when it was."""
        try:
            told = b""
            if select.select([self.ready], [], [], _PATIENCE)[0]:
                told = os.read(self.ready, 4096)
            if told == READY and write_all(self.pipe, message(body)):
                return ""
            said = told.decode("utf-8", "replace") if told != READY else ""
            return _not_made(said or "it was killed")
        finally:
            os.close(self.ready)
            os.close(self.pipe)


def _not_made(why: str) -> str:
    return f"no further process could be made for it ({why})"


def _fork() -> _Spare | str:
    """A supervisor that waits for its request, or why there is none."""
    made: list[int] = []
    try:
        scribe = Scribe()
        try:
            request, pipe = os.pipe()
            made += [request, pipe]
            ready, told = os.pipe()
            made += [ready, told]
            if os.fork() == 0:
                os.close(pipe)
                os.close(ready)
                stand_by(request, told, scribe)
        finally:
            scribe.leave()
    except (OSError, MemoryError) as error:
        for descriptor in made:
            os.close(descriptor)
        return _not_made(limits.cause(error))
    os.close(request)
    os.close(told)
    return _Spare(pipe, ready)


def _warm_up() -> None:
    """Does once what every supervisor would do again after its fork.

    ``gc.freeze`` keeps the collector from touching, and so from copying, the shared pages.
    """
    import gc

    process.identify(os.getpid())
    own_peak()
    remains.adopt(False)
    conclude(End(exit_code=0), None, {})
    gc.disable()
    gc.freeze()
