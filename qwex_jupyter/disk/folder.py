"""RunFolder: the folder of one run, the names of all that lies in it, and who may say what when.

How a file appears is the matter of `facts`; which files there are, and what must be so when one
is written, is known here and nowhere else:

- ``launch.json`` is linked directly before the one call that can start the program. Whoever
  links it may make that call; where it says ``closed``, nobody may.
- ``stop.json`` is linked before a stop is carried out, and ``kill.json`` ends its grace.
- ``run.json`` is the end: a run has ended if and only if it is there.

Standard library and plain modules only: the supervisor imports this module.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.errors import FactUnreadable
from qwex_jupyter.model.cause import TAIL
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import End, RunStatus, Snapshot
from qwex_jupyter.system import files, process

# In a history's folder: the folders of its runs, and an empty file for each that may live.
RUNS, OPEN = "runs", "open"

SPEC, LAUNCH, STOP, KILL, RUN = "spec.json", "launch.json", "stop.json", "kill.json", "run.json"
# The manifest of what `--files` carries, the copies that nobody changes, and those to work in.
FILES, PRISTINE, WORK = "files.json", "files", "work"
# The process that pulls the image and then starts the run, and how far the pull is.
LAUNCHER, PULL = "launcher.json", "pull.json"
# The engine's disk was seen full while the run lived.
FULL = "full.json"
# What was last seen of a run that lives; the one file that is replaced beside the leases.
SEEN = "seen.json"
# What a bash reads before the script, and where it then says which command failed.
BASH_ENV, FAILED = "bash_env", "failed"
# A supervisor's own traceback.
SUPERVISOR_LOG = "supervisor.log"

STREAMS = ("stdout", "stderr")
_LEASE = re.compile(r"log\.(\d+)\.json")

# A spec leaves room for what the final record says beside the same labels.
_MOST_SPEC_BYTES = 28 * 1024 * 1024
# The record of an end holds a command line and labels; launch and stop a few words.
_RUN_BYTES, _FEW_BYTES = 16 * 1024, 4096
_SEEN_KEYS = (
    "status", "reason", "message", "started_at", "observed_at", "progress", "backend_message",
    "uid",
)  # fmt: skip


def log_name(stream: str) -> str:
    """The name of the file that holds a stream."""
    return f"{stream}.log"


def lease_name(number: int) -> str:
    """The name of the lease of that number; see `logs.Lease`."""
    return f"log.{number}.json"


def lease_number(name: str) -> int:
    """The number of the lease of that name; 0 where it is no lease."""
    found = _LEASE.fullmatch(name)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class RunFolder(os.PathLike[str]):
    """The folder of one run.

    Attributes:
        path: Where it is.
    """

    path: str

    @classmethod
    def of(cls, home: str, run_id: str) -> RunFolder:
        """The folder of a run of a home."""
        return cls(os.path.join(home, RUNS, run_id))

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    @property
    def run_id(self) -> str:
        """Whose it is."""
        return os.path.basename(self.path)

    @property
    def work(self) -> str:
        """The folder in which a process of this machine works on its copies."""
        return os.path.join(self.path, WORK)

    @property
    def pristine(self) -> str:
        """The folder of the copies in which nothing is ever changed."""
        return os.path.join(self.path, PRISTINE)

    def log(self, stream: str) -> str:
        """The file that holds a stream, ``stdout`` or ``stderr``."""
        return os.path.join(self.path, log_name(stream))

    def has(self, name: str) -> bool:
        """Whether that fact is there."""
        return facts.exists(self, name)

    def read(self, name: str) -> Fact | None:
        """What a fact says, None when it isn't there.

        Raises:
            FactUnreadable: It exists and is not a JSON object of ours.
        """
        return facts.read_fact(self, name)

    def glance(self, name: str) -> Fact | None:
        """`read` of what may be missing without harm: None also where it can't be read."""
        return facts.glance(self, name)

    def stop(self) -> Fact | None:
        """What ``stop.json`` says. One that can't be read asks for nothing, and costs no end."""
        stop = facts.glance(self, STOP)
        return stop if stop is not None and _is_stop(stop) else None

    def begin(self, spec_fact: Mapping[str, Any], labels: int = 0, *, sync: bool = True) -> None:
        """Says what is to run, after setting room aside for how that goes on.

        Args:
            spec_fact: The content of ``spec.json``.
            labels: How many bytes the labels take, which the record of the end repeats.
            sync: It survives a loss of power from the moment this returns.

        Raises:
            FactTooLarge: It is more than is kept.
            OSError: The folder can't be written.
        """
        facts.reserve(self, {LAUNCH: _FEW_BYTES, STOP: _FEW_BYTES, RUN: _RUN_BYTES + labels})
        facts.link_once(self, SPEC, dict(spec_fact), sync=sync, most=_MOST_SPEC_BYTES)

    def claim_launch(self, by: str, *, sync: bool = True, nonce: str = "", **more: Any) -> bool:
        """Links ``launch.json``, directly before the one call that can start the program.

        Args:
            by: Who starts it, in one word.
            sync: What is linked is to survive a loss of power.
            nonce: By which the backend's object is known to be of this launch too.
            more: What else is said of it.

        Returns:
            Whether this process is to make that call. Otherwise somebody else starts the run,
            or has closed its launch.
        """
        nonce = nonce or os.urandom(8).hex()
        me = process.identify(os.getpid())
        value = {"by": by, **me, **more, "at": time.time(), "nonce": nonce}
        return facts.link_once(self, LAUNCH, value, sync=sync).get("nonce") == nonce

    def close_launch(self, why: str, reason: str = "") -> Fact | None:
        """Closes the launch, so that nobody can start the run any more.

        Args:
            why: Why it can't be started, a clause.
            reason: As what it ends where that is known, a `Reason`.

        Returns:
            What closed it, be it this or another; None where the run may have been started.
        """
        value = {"closed": why, **({"reason": str(reason)} if reason else {}), "at": time.time()}
        winner = facts.link_once(self, LAUNCH, value)
        return winner if "closed" in winner else None

    def ask_stop(self, who: str, why: str, grace: float, **more: Any) -> Fact:
        """Links ``stop.json``; what it says, whoever was first.

        Args:
            who: Who wants it, in a word.
            why: A `StopCause`.
            grace: Seconds between asking the program to end and killing it.
            more: What else is said of it: ``clock``, the backend's time; ``reason`` and
                ``detail`` of what can never start.
        """
        value = {"who": who, "why": str(why), "grace": grace, "at": time.time(), **more}
        try:
            winner = facts.link_once(self, STOP, value)
        except FactUnreadable:
            return value  # a damaged one stands there: this is carried out all the same
        return winner if _is_stop(winner) else value

    def ask_kill(self, who: str) -> None:
        """Links ``kill.json``: the grace of the stop is over."""
        facts.link_once(self, KILL, {"who": who, "at": time.time()})

    def conclude(
        self,
        spec_fact: Mapping[str, Any],
        answer: Snapshot,
        stop: Mapping[str, Any] | None,
        *,
        sync: bool = True,
        secrets: Iterable[str] = (),
    ) -> None:
        """Links ``run.json``, the final record, unless somebody was first.

        Args:
            spec_fact: The content of ``spec.json``.
            answer: The last observation; has an end.
            stop: What was asked for by ``stop.json``.
            sync: It survives a loss of power from the moment this returns.
            secrets: Values that must not stand in what is said of its cause, where they are known.
        """
        # Of a program that returned 0 nothing has to be said that its output tells.
        good = answer.end is not None and answer.end.exit_code == 0
        record = RunRecord.submitted(spec_fact).concluded(
            answer,
            stop,
            spec_fact["spec"],
            {} if good else {stream: self._tail(stream) for stream in STREAMS},
            folder=self.path,
            printed=self._printed(answer),
            secrets=secrets,
        )
        facts.link_once(self, RUN, record.to_json(), sync=sync)

    def finish(self, end: End) -> None:
        """Concludes a run that whoever was to start it saw fail, or prevented."""
        spec_fact = self.read(SPEC)
        if spec_fact is None:
            return  # deleted
        now = time.time()
        # With an end its status is the verdict's.
        answer = Snapshot(RunStatus.PENDING, end=end, finished_at=now, observed_at=now)
        self.conclude(spec_fact, answer, self.stop())

    def note_seen(self, record: RunRecord) -> None:
        """Puts the last observation of a live run into ``seen.json``."""
        values = record.to_json()
        facts.replace(self, SEEN, {key: values[key] for key in _SEEN_KEYS})

    def claim_pull(self) -> bool:
        """Links ``launcher.json``; whether this process is the one that gets the image."""
        me = {**process.identify(os.getpid()), "at": time.time()}
        return bool(facts.link_once(self, LAUNCHER, me)["pid"] == os.getpid())

    def note_pull(self, text: str, progress: str = "") -> None:
        """Writes into ``pull.json`` how far an image is."""
        facts.replace(self, PULL, {"text": text, "progress": progress, "at": time.time()})

    def note_full(self) -> None:
        """Links ``full.json``."""
        facts.link_once(self, FULL, {}, sync=False)

    def sync(self) -> None:
        """Has the end and all output survive a loss of power from the moment this returns.

        Raises:
            OSError: The disk doesn't take it.
        """
        facts.sync(self, RUN, *map(log_name, STREAMS))

    def release(self) -> None:
        """Gives back the room that `begin` set aside."""
        facts.release(self, (LAUNCH, STOP, RUN))

    def leave_open_list(self) -> None:
        """Takes the run off the list of those that may live, which may be longer than they are."""
        home = os.path.dirname(os.path.dirname(self.path))
        try:
            files.patient(os.unlink, os.path.join(home, OPEN, self.run_id))
        except OSError:
            pass  # somebody was first, or it can only be read: who comes by later does it

    def _tail(self, stream: str) -> str:
        """The last text of a stream, for the sentence that says why: in whole lines."""
        try:
            with open(os.open(self.log(stream), files.READ), "rb") as file:
                before = max(0, os.fstat(file.fileno()).st_size - TAIL)
                file.seek(before)
                data = file.read(TAIL)
                cut = data.find(b"\n") + 1 if before else 0
                text = data[cut:].decode("utf-8", "replace")
                return f"…{text}" if before and not cut else text
        except OSError:
            return ""  # `logs` says why; here it is about what became of the run

    def _printed(self, answer: Snapshot) -> bool:
        """Whether the program said anything, be it that it could not be kept."""
        try:
            return bool(answer.log_missing) or any(
                os.stat(self.log(stream)).st_size for stream in STREAMS
            )
        except OSError:
            return True  # nobody knows


def _is_stop(stop: Fact) -> bool:
    numbers = all(isinstance(stop.get(key), int | float) for key in ("at", "grace"))
    return numbers and isinstance(stop.get("why"), str)
