"""Cuts, resets and stalls of the connection by which a container's output is read.

``python tests/rigs/docker_chaos.py --seconds 600 --seed 1 --kind docker`` prints a table.
Containers print the self-checking workload (``workload.py``) while a reader brings it to
disk over a wire that is cut after a random number of bytes, again and again; by end of file, by
reset, or by a silence that ends when the reader has had enough of it. Now and then another reader,
which knows nothing but the run's folder, takes over. In the end the files are compared byte for
byte with what the run's id asks for, and the exit code with its code.

``--follow RUN FOLDER`` is one reader in a process of its own, for tests that stop it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

import workload
from engines import KINDS, LABEL, Engine
from images import image
from judge import Counts
from wire import Wire

from qwex_jupyter.disk.logs import STREAMS, Lease, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.container import log_reader as readers
from qwex_jupyter.runners.docker import body as docker_body
from qwex_jupyter.runners.docker import frames, logs
from qwex_jupyter.runners.docker.engine import Engine as Client

LOGS = r"/containers/[^/]+/logs"
_SCRIPT = Path(workload.__file__).read_text()
# A silent stream is given up at once.
_IMPATIENT = Patience(log_silence=0.4, rest_of_container=0.8)


def played(lines: int, seconds: float) -> tuple[str, ...]:
    """The command of a container that plays the workload."""
    return ("python3", "-c", _SCRIPT, "container", "", str(lines), str(seconds))


class Program:
    """A container as the runner makes it, outside of any history.

    Args:
        engine: Where.
        command: What it executes; the workload if it is empty.
        lines: Of the workload, on each stream.
        seconds: About how long the workload takes.
    """

    def __init__(
        self,
        engine: Engine,
        command: Sequence[str] = (),
        *,
        lines: int = 1000,
        seconds: float = 0.0,
    ) -> None:
        self.run_id, self.lines = new_run_id(time.time()), lines
        self.engine, self.client = engine, engine.client()
        name = image(engine, "busybox" if command else "python")
        spec = JobSpec(command=tuple(command) or played(lines, seconds), image=name)
        body = docker_body.make_plan(spec, self.run_id, "none")["body"]
        found = self.client._post_json(
            self.client._url("/containers/create"),
            data=body,
            params={"name": f"qwex-{self.run_id}"},
        )
        self.id = self.client._result(found, True)["Id"]

    def start(self) -> Self:
        """Has it run."""
        self.client.start(self.id)
        return self

    def wait(self) -> Self:
        """Waits for its end."""
        self.client.wait(self.id, timeout=240)  # it may print for long
        while not self.look()[1]:  # Podman's wait may be first
            time.sleep(0.01)
        return self

    def look(self) -> tuple[bool, bool]:
        """Whether it has begun, and whether it has ended."""
        status = self.client.inspect_container(self.id)["State"]["Status"]
        return status not in ("created", "configured", "initialized"), status in (
            "exited",
            "stopped",
        )

    def printed(self, stream: str) -> bytes:
        """What the workload prints on a stream."""
        return workload.Container(self.run_id, self.lines).text(stream)

    @property
    def exit_code(self) -> int:
        """As the engine tells it."""
        return int(self.client.inspect_container(self.id)["State"]["ExitCode"])

    def kept(self, stream: str) -> bytes:
        """What the engine has of a stream, read once and without stamps."""
        streams = {name: name == stream for name in STREAMS}
        data = self.client.logs(self.id, stream=False, timestamps=False, **streams)
        assert isinstance(data, bytes)
        return data

    def remove(self) -> None:
        """Takes it away."""
        with contextlib.suppress(Exception):
            self.client.remove_container(self.id, force=True, v=True)
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def bring(
    program: Program,
    folder: str,
    reader: Callable[[], logs.Reader],
    *,
    once: Callable[[], bool] = lambda: False,
    look: Callable[[], tuple[bool, bool]] | None = None,
) -> int:
    """Follows a program to its end, as often as it takes; how often that was.

    Args:
        program: It.
        folder: Where the output goes.
        reader: The reader to take, asked for before each call.
        once: Whether the next call takes only what is there now.
        look: Asked instead of the engine.
    """
    calls = 0
    while True:
        stop = threading.Event()
        if once():
            stop.set()
        calls += 1
        try:
            if reader().follow(program.run_id, RunLog(folder), stop, look or program.look):
                return calls
        except BackendUnreachable:
            pass  # as a follower does: it is asked again


@dataclass
class Tally(Counts):
    """Of a campaign of cuts. All from `lost_bytes` on must be 0.

    `broken` counts the answers that a fault ended in fact; `answers` are those that were read.
    """

    FIRST = "lost_bytes"
    runs: int = 0
    cuts: int = 0
    resets: int = 0
    silences: int = 0
    takeovers: int = 0
    answers: int = 0
    broken: int = 0
    bytes: int = 0
    lost_bytes: int = 0
    doubled_bytes: int = 0
    altered_streams: int = 0
    wrong_codes: int = 0

    def judge(self, program: Program, folder: str) -> None:
        """Compares the files of a run with what its id asks for."""
        self.runs += 1
        code = workload.code_of(program.run_id)
        if program.exit_code != code:
            self.fault("wrong_codes", program.run_id, f"{program.exit_code} instead of {code}")
        for stream in STREAMS:
            found = RunLog(folder).read(stream)
            self.bytes += len(found)
            self.compare(program.run_id, stream, found, program.printed(stream))


class _Counting(logs.Reader):
    """A reader that counts how its answers end."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(Client(patience=_IMPATIENT), "qwex-{}".format)
        self._tally = tally

    def read(self, *args: Any, **options: Any) -> readers.Answer:
        answer = super().read(*args, **options)
        self._tally.answers += 1
        self._tally.broken += answer in (readers.Answer.CUT, readers.Answer.SILENT)
        return answer


class Campaign:
    """One campaign of cuts.

    Args:
        engine: A started engine.
        root: An empty folder.
        seed: Of everything that is random here.
        lines: That each program prints on each stream.
        faults: How often each program's connection is cut.
    """

    def __init__(
        self, engine: Engine, root: str, seed: int, *, lines: int = 40_000, faults: int = 500
    ) -> None:
        self.tally = Tally()
        self._engine, self._root = engine, root
        self._lines, self._faults = lines, faults
        self._random = random.Random(f"{seed} {engine.kind}")

    def run(self, seconds: float) -> Tally:
        """Cuts for so many seconds; at least one run."""
        until = time.monotonic() + seconds
        # Only the end of a silent stream is searched.
        with mock.patch.object(frames, "WINDOW", 1):
            while not self.tally.runs or time.monotonic() < until:
                self._one_run()
        return self.tally

    def _one_run(self) -> None:
        rng = self._random
        folder = tempfile.mkdtemp(dir=self._root)
        # Half of them print while they are read, the others have ended before.
        live = rng.random() < 0.5
        seconds = self._faults * 0.02 if live else 0.0
        with (
            Program(self._engine, lines=self._lines, seconds=seconds) as program,
            Wire(self._engine.host, tcp=True) as wire,
            mock.patch.dict(os.environ, DOCKER_HOST=wire.host),
        ):
            program.start()
            if not live:
                program.wait()
            # As they come, so that the whole is read while there are cuts left.
            mean = 120.0 * self._lines / self._faults
            left = [self._faults]
            readers = [_Counting(self.tally)]

            def next_reader() -> logs.Reader:
                wire.clear()
                if left[0] > 0:
                    left[0] -= 1
                    self._fault(wire, int(rng.expovariate(1 / mean)) + 200)
                if rng.random() < 0.05:
                    # One that knows nothing but the folder.
                    readers[0] = _Counting(self.tally)
                    self.tally.takeovers += 1
                return readers[0]

            bring(program, folder, next_reader, once=lambda: rng.random() < 0.1)
            self.tally.judge(program.wait(), folder)

    def _fault(self, wire: Wire, after: int) -> None:
        """What happens to the answer that is read next."""
        kind = self._random.random()
        if kind < 0.45:
            self.tally.cuts += 1
            wire.cut("GET", LOGS, after)
        elif kind < 0.9:
            self.tally.resets += 1
            wire.cut("GET", LOGS, after, reset=True)
        else:
            self.tally.silences += 1
            wire.stall("GET", LOGS, after)


def _follow(run_id: str, folder: str, quiet: float) -> None:
    """One reader in a process of its own; says how far its memory grew, in bytes."""
    engine = Client()
    reader = logs.Reader(engine, "qwex-{}".format)
    # Shorter than a test lasts.
    readers.Lease = lambda where: Lease(where, quiet)  # type: ignore[misc,assignment]

    def look() -> tuple[bool, bool]:
        state: dict[str, Any] = (engine.inspect(f"qwex-{run_id}") or {})["State"]
        return state["Status"] != "created", state["Status"] in ("exited", "stopped")

    look()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("ready", flush=True)
    while not reader.follow(run_id, RunLog(folder), threading.Event(), look):
        time.sleep(0.02)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) * 1024, flush=True)


def main() -> int:
    """The command line; 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(description="Cuts the wire of logs and judges the files.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, default="docker")
    parser.add_argument("--lines", type=int, default=40_000)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--follow", nargs=2, metavar=("RUN", "FOLDER"))
    parser.add_argument("--shift", type=float, default=0.0, help="of the clock, with --follow")
    parser.add_argument("--quiet", type=float, default=15.0, help="of the lease, with --follow")
    asked = parser.parse_args()
    if asked.follow:
        before = time.time
        time.time = lambda: before() + asked.shift
        _follow(*asked.follow, asked.quiet)
        return 0
    root = tempfile.mkdtemp(prefix="docker-chaos-")
    with Engine(asked.kind) as engine:
        campaign = Campaign(engine, root, asked.seed, lines=asked.lines, faults=asked.faults)
        tally = campaign.run(asked.seconds)
        engine.remove_containers(LABEL)
    print(f"{asked.kind}, seed {asked.seed}, {asked.seconds:g} s", *tally.lines(), sep="\n")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
