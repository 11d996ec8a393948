"""RunRecord: what is remembered of a run, one flat frozen value.

Until the end it is ``spec.json`` + ``seen.json``; after it, the content of ``run.json``.
Standard library only: the supervisor writes the final record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from qwex_jupyter.model import cause as causes
from qwex_jupyter.model.cause import Script
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.model.verdict import Verdict, again, conclude, read_first

_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{6}")
# The record keeps this much of a command line; spec.json has all of it.
_COMMAND_LENGTH = 2000
# So many characters of stderr are looked at for a known sentence.
_TAIL = 4096
# Of these the output tells more than the number does.
_BY_NUMBER = (Reason.NON_ZERO_EXIT, Reason.SIGNALLED)


def is_run_id(text: str) -> bool:
    """Whether this is a run id of ours; only such a text ever becomes part of a path."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is remembered of one run. Times are seconds since the epoch, sizes bytes.

    Attributes:
        run_id: ``20261123-163045-k3x9qd``: UTC time and handle; sorts by time.
        runner: The name of the runner; "" where that can't be read.
        status: A `RunStatus`.
        reason: A `Reason`, "" for none.
        message: Cause and next step, one sentence.
        cause: What a headline says of an end that is no success; "" while it lives.
        exit_code: What the process returned; 128+N for signal N; None when none did.
        name: What the user called it, "" for nothing.
        image: The container image, "" for none.
        command: What a person would call it: the command line, or the first line of the cell.
        created_at: When it was submitted.
        started_at: When the program was started; None when it wasn't, as far as is known.
        finished_at: When it ended; None before that, and where nobody can know it.
        observed_at: When that was seen, by the clock of who looked, or of the supervisor.
        elapsed: Seconds from start to end, by one monotonic clock; None before the end.
        cpu_time: Seconds of processor time; None where it isn't known.
        peak_memory: The most memory that it had, bytes; None where it isn't known.
        overrun: Seconds that it ran over its timeout because nobody watched.
        notebook: The notebook that submitted it, "" for none.
        session: The session of Jupyter that submitted it, "" for none.
        git_commit: What was checked out in its folder, "" where there is none.
        labels: The user's own words on it.
        progress: How far a live run is with what it does, like ``40%``.
        log_missing: Bytes that could not be kept, per stream; -1 where the backend may have lost
            some, and nobody knows how many.
        missing: Why output is missing, a clause; "" where nothing is known of it.
        left: What the program had left running and what had to be ended: ``sleep (2), tail``.
        backend_message: The backend's own words, for who wants to read on.
        identity: Which backend ran it.
        uid: The backend's own name for the object.
        image_digest: Which image that was, by its content; "" where it isn't known.
        host: The machine that submitted it.
        cwd: The folder it was submitted for: that of its submitter, of a rerun that of its run.
    """

    run_id: str
    runner: str
    status: RunStatus = RunStatus.PENDING
    reason: str = ""
    message: str = ""
    cause: str = ""
    exit_code: int | None = None
    name: str = ""
    image: str = ""
    command: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    observed_at: float = 0.0
    elapsed: float | None = None
    cpu_time: float | None = None
    peak_memory: int | None = None
    overrun: float | None = None
    notebook: str = ""
    session: str = ""
    git_commit: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    progress: str = ""
    log_missing: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""
    left: str = ""
    backend_message: str = ""
    identity: str = ""
    uid: str = ""
    image_digest: str = ""
    host: str = ""
    cwd: str = ""

    @property
    def handle(self) -> str:
        """The short name: the last part of the run id."""
        return self.run_id.rpartition("-")[2]

    @property
    def title(self) -> str:
        """What a list calls it: its name, else its handle."""
        return f"{self.name} ({self.handle})" if self.name else self.handle

    @property
    def queued(self) -> float | None:
        """Seconds between submit and start; None before the start."""
        return None if self.started_at is None else max(0.0, self.started_at - self.created_at)

    def duration(self, now: float | None = None) -> float | None:
        """Seconds it ran, or has run until ``now``; None when it did not start."""
        if self.elapsed is not None:
            return self.elapsed
        if self.started_at is None:
            return None
        end = self.finished_at if self.status.final else (now or self.observed_at)
        return None if end is None else max(0.0, end - self.started_at)

    @property
    def next_step(self) -> str:
        """What its message says beyond its cause."""
        return causes.beyond(self.message, self.cause)

    @property
    def told(self) -> list[str]:
        """An end in two lines: the cause; which run that is, how it ended and the next step."""
        word = f"{self.title} {self.status.lower()}"
        if self.tells_code:
            word += f", exit code {self.exit_code}"
        return [*filter(None, [self.cause]), " · ".join(filter(None, [word, self.next_step]))]

    @property
    def tells_code(self) -> bool:
        """Whether its exit code tells something that isn't told otherwise."""
        return causes.tells_code(self.exit_code, self.cause)

    @property
    def sentence(self) -> str:
        """Status, cause and next step in one line."""
        word = f"{self.title} {self.status.lower()}"
        said = ". ".join(filter(None, [self.cause, self.next_step]))
        return f"{word}: {said}" if said else word

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable dict from which `from_json` makes an equal record."""
        return asdict(self)

    def below_its_output(self) -> RunRecord:
        """This record as it is told where all of its output stands above."""
        said = read_first(self.handle)
        return replace(self, message=self.message.replace(said, again(self.handle)))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunRecord:
        """The record that a fact describes; keys of later versions are left out.

        Raises:
            ValueError: It doesn't describe a record.
        """
        try:
            known = {key: value[key] for key in _FIELDS if key in value}
            known.setdefault("backend_message", value.get("said", ""))  # what it was called before
            status = known["status"] = RunStatus(known["status"])
            if "cause" not in known and status.final and status is not RunStatus.SUCCEEDED:
                # Written before there was one: its sentence is all that is known.
                known["cause"] = causes.of_message(known.get("message") or "")
            record = cls(**known)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a run record: {error}") from error
        if not is_run_id(record.run_id):
            raise ValueError(f"not a run id: {record.run_id!r}")
        return record

    @classmethod
    def submitted(cls, spec_fact: Mapping[str, Any]) -> RunRecord:
        """The record of a run of which only ``spec.json`` is known."""
        spec = spec_fact["spec"]
        return cls.from_json(
            {
                **spec_fact,
                "status": RunStatus.PENDING,
                "name": spec.get("name") or "",
                "image": spec.get("image") or "",
                "labels": spec.get("labels") or {},
                "command": spec_fact["command"][:_COMMAND_LENGTH],
                "observed_at": spec_fact["created_at"],
            }
        )

    def seen(self, snapshot: Snapshot) -> RunRecord:
        """This record after one more observation of a run that lives."""
        return replace(
            self,
            status=snapshot.status,
            reason=str(snapshot.reason),
            message=snapshot.message,
            started_at=snapshot.started_at or self.started_at,
            observed_at=max(snapshot.observed_at, self.observed_at),
            progress=snapshot.progress,
            backend_message=snapshot.backend_message,
            uid=snapshot.uid or self.uid,
        )

    def ended(self, verdict: Verdict, snapshot: Snapshot) -> RunRecord:
        """This record after its end, as `conclude` decided it."""
        started = snapshot.started_at or self.started_at
        evidence = snapshot.evidence
        return replace(
            self,
            status=verdict.status,
            reason=str(verdict.reason),
            message=verdict.message,
            exit_code=verdict.exit_code,
            started_at=started,
            finished_at=snapshot.finished_at,
            observed_at=snapshot.observed_at,
            elapsed=evidence.get("elapsed"),
            cpu_time=evidence.get("cpu_time"),
            peak_memory=evidence.get("peak_memory"),
            overrun=evidence.get("overrun"),
            image_digest=evidence.get("image_digest", self.image_digest),
            progress="",
            log_missing=dict(snapshot.log_missing),
            missing=evidence.get("missing", ""),
            left=evidence.get("left", ""),
            backend_message=snapshot.backend_message,
            uid=snapshot.uid or self.uid,
        )

    def concluded(
        self,
        snapshot: Snapshot,
        stop: Mapping[str, Any] | None,
        spec: Mapping[str, Any],
        output: Mapping[str, str] | None = None,
        *,
        folder: str = "",
        printed: bool = True,
        secrets: Iterable[str] = (),
    ) -> RunRecord:
        """The final record: what `conclude` makes of the end in a snapshot, and its cause.

        Args:
            snapshot: The last observation; has an end.
            stop: The content of ``stop.json``, None when no stop was asked for.
            spec: What was asked, as it stands in ``spec.json``.
            output: The last text on each stream.
            folder: The folder of the run, in which its script lies.
            printed: There is output that may say why.
            secrets: Values that must not stand in the cause.
        """
        assert snapshot.end is not None
        output, failed = output or {}, snapshot.evidence.get("failed")
        tail, hidden = output.get("stderr") or output.get("stdout", ""), tuple(secrets)
        about = {
            "handle": self.handle,
            "command": self.command,
            "timeout": spec.get("timeout"),
            "start_timeout": spec.get("start_timeout"),
            "memory": (spec.get("resources") or {}).get("memory"),
            "peak_memory": snapshot.evidence.get("peak_memory"),
            # Where both come as one, that is stdout.
            "tail": causes.without(tail[-_TAIL:], hidden),
            "printed": printed,
            "shell": spec.get("script") and str(spec.get("script_name")).endswith(".sh"),
            "failed": bool(failed),
            "image": spec.get("image"),
        }
        verdict = conclude(snapshot.end, stop, about)
        ended = self.ended(verdict, snapshot)
        if verdict.status is RunStatus.SUCCEEDED:
            return ended
        said = causes.of_message(verdict.message)
        if verdict.reason in _BY_NUMBER:
            try:
                said = causes.of_output(
                    output.get("stderr", ""),
                    output.get("stdout", ""),
                    verdict.exit_code,
                    script=Script.of(spec, folder),
                    failed=failed,
                    secrets=hidden,
                    printed=printed,
                    otherwise=causes.of_number(verdict.message),
                )
            except Exception:  # noqa: BLE001 - an end is written down, whatever was printed
                pass
        return replace(ended, cause=said)

    @classmethod
    def unreadable(cls, run_id: str, why: str) -> RunRecord:
        """The row for a folder that holds no readable run."""
        return cls(
            run_id=run_id,
            runner="",
            status=RunStatus.LOST,
            reason=Reason.UNREADABLE,
            message=f"{why} The folder was left as it is; %qwex delete {run_id} removes it.",
            cause=causes.of_message(why),
        )


_FIELDS = tuple(f.name for f in fields(RunRecord))
