"""The program of a `MemoryRunner`: a few lines, one instruction each, and how far they are.

It reads no clock but the one that it is given, and does all that is due by it whenever somebody
looks: so it is deterministic, and has no thread.
"""

from __future__ import annotations

import os
import secrets as random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qwex_jupyter.disk.folder import STREAMS, RunFolder
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.model.units import parse_memory
from qwex_jupyter.runners.base import Plan

WORDS = {
    "out": "out TEXT: a line on stdout",
    "err": "err TEXT: a line on stderr",
    "hex-out": "hex-out HEX [TIMES]: bytes on stdout, no newline is added",
    "hex-err": "hex-err HEX [TIMES]: the same on stderr",
    "env": "env NAME: the value of a variable, and a newline",
    "args": "args: each argument behind the program or script, and a NUL",
    "script": "script: the script's own text",
    "file": "file PATH: the content of a carried file",
    "sleep": "sleep SECONDS: until the clock says so",
    "use": "use SIZE: takes memory; above the limit that is the end",
    "oom": "oom: is killed for memory",
    "ignore-term": "ignore-term: from here on only the end of the grace stops it",
    "exit": "exit CODE: ends",
    "signal": "signal NUMBER: is ended by that signal",
}

INTERPRETER = "memory"
_SIGKILL, _SIGTERM = 9, 15


@dataclass
class Job:
    """One run: its instructions, how far it is, and what it has said."""

    plan: Plan
    history: str
    run_id: str
    folder: RunFolder
    secrets: dict[str, str]
    clock: Callable[[], float]
    uid: str = field(default_factory=lambda: random.token_hex(6))
    output: dict[str, bytearray] = field(
        default_factory=lambda: {stream: bytearray() for stream in STREAMS}
    )
    end: End | None = None
    peak: int = 0
    began: float = 0.0  # by its clock
    began_at: float = 0.0  # since the epoch
    at: float = 0.0  # by its clock: when the next instruction is due, or when it ended
    kill_at: float = float("inf")
    stopped: bool = False
    deaf: bool = False
    done: int = 0

    def start(self) -> None:
        """Begins; the instructions up to the first sleep happen now."""
        self.began = self.at = self.clock()
        self.began_at = time.time()
        self.env = {k: v for k, v in self.plan["env"].items() if v is not None} | self.secrets
        argv, path = list(self.plan["argv"]), self.plan["path"]
        if path is None:
            self.lines = [" ".join(argv)]
            self.args = argv[1:]
            known = argv[0] in WORDS
        else:
            self.lines = self.plan["script"].splitlines()
            self.args = argv[argv.index(path) + 1 :]
            known = argv[0] == INTERPRETER
        if not known:
            told = f"{argv[0]!r} could not be run: this knows only {', '.join(WORDS)}"
            self._finish(None, Reason.COMMAND_NOT_FOUND, told)
        self.advance()

    def advance(self) -> End | None:
        """Does everything that is due by its clock; how it ended, None while it lives."""
        now = self.clock()
        while self.end is None:
            if self.kill_at <= min(now, self.at):
                self.at = self.kill_at
                self._killed(_SIGKILL)
            elif self.at > now:
                break
            elif self.done == len(self.lines):
                self._finish(0)
            else:
                self.done += 1
                word, _, rest = self.lines[self.done - 1].strip("\r").partition(" ")
                if word and not word.startswith("#"):
                    try:
                        self._do(word, rest)
                    except ValueError as error:
                        self._say("err", f"memory: line {self.done}: {error}\n".encode())
                        self._finish(2)
        return self.end

    def stop(self, grace: float, *, force: bool) -> None:
        """Asks it to end; the first call's grace holds, ``force`` ends it."""
        if self.advance() is not None:
            return
        now = self.clock()
        if not self.stopped:
            self.stopped = True
            self.kill_at = now + grace
            if not self.deaf:
                self.at = now
                self._killed(_SIGTERM)
        if force:
            self.kill_at = min(self.kill_at, now)
        self.advance()

    def state(self) -> tuple[int, ...]:
        """What changes when something happens."""
        return (self.advance() is not None, *(len(data) for data in self.output.values()))

    def look(self) -> Snapshot:
        """How it is now, as the runner's `poll` answers."""
        end = self.advance()
        elapsed = (self.at if end else self.clock()) - self.began
        timeout = self.plan["timeout"]
        evidence: dict[str, Any] = {"peak_memory": self.peak or None, "elapsed": elapsed}
        if end is not None and timeout and elapsed > timeout and not self.stopped:
            evidence["overrun"] = elapsed - timeout
        return Snapshot(
            RunStatus.RUNNING,
            end=end,
            started_at=self.began_at,
            finished_at=self.began_at + elapsed if end else None,
            observed_at=time.time(),
            uid=self.uid,
            evidence=evidence,
        )

    def _do(self, word: str, rest: str) -> None:
        if word in _DOES:
            _DOES[word](self, rest)
        else:
            self._say("err", f"memory: line {self.done}: {word}: not found\n".encode())
            self._finish(127)

    def _hex(self, stream: str, rest: str) -> None:
        data, _, times = rest.partition(" ")
        self._say(stream, bytes.fromhex(data) * int(times or 1))

    def _file(self, name: str) -> None:
        try:
            with open(os.path.join(self.folder.pristine, name), "rb") as file:
                self._say("out", file.read())
        except OSError as error:
            self._say("err", f"memory: {name}: {error.strerror}\n".encode())
            self._finish(1)

    def _sleep(self, seconds: str) -> None:
        self.at += float(seconds)

    def _use(self, size: str) -> None:
        used = parse_memory(size)
        self.peak = max(self.peak, used)
        if self.plan["memory"] and used > self.plan["memory"]:
            self._killed(_SIGKILL, Reason.OUT_OF_MEMORY)

    def _ignore_term(self, _: str) -> None:
        self.deaf = True

    def _say(self, stream: str, data: bytes) -> None:
        self.output[f"std{stream}"] += data

    def _killed(self, number: int, reason: Reason = Reason.NONE) -> None:
        self._finish(128 + number, reason, number=number)

    def _finish(
        self,
        code: int | None,
        reason: Reason = Reason.NONE,
        detail: str = "",
        number: int | None = None,
    ) -> None:
        self.end = End(code, number, reason, detail, after_stop=self.stopped)


# What each of `WORDS` does.
_DOES: dict[str, Callable[[Job, str], None]] = {
    "out": lambda job, rest: job._say("out", rest.encode() + b"\n"),
    "err": lambda job, rest: job._say("err", rest.encode() + b"\n"),
    "hex-out": lambda job, rest: job._hex("out", rest),
    "hex-err": lambda job, rest: job._hex("err", rest),
    "env": lambda job, rest: job._say("out", job.env.get(rest, "").encode() + b"\n"),
    "args": lambda job, _: job._say("out", b"".join(arg.encode() + b"\0" for arg in job.args)),
    "script": lambda job, _: job._say("out", job.plan["script"].encode()),
    "file": Job._file,
    "sleep": Job._sleep,
    "use": Job._use,
    "oom": lambda job, _: job._killed(_SIGKILL, Reason.OUT_OF_MEMORY),
    "ignore-term": Job._ignore_term,
    "exit": lambda job, rest: job._finish(int(rest or 0)),
    "signal": lambda job, rest: job._killed(int(rest)),
}
