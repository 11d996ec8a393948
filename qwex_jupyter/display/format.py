"""Records as text: one line, a table, all that is known of a run. Pure functions."""

from __future__ import annotations

import re
import time

from qwex_jupyter import runners
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.model.text import plain, short
from qwex_jupyter.model.units import clock, say_bytes

GLYPHS = {
    RunStatus.PENDING: ("○", "#7a7f87"),
    RunStatus.RUNNING: ("◐", "#1f7ad1"),
    RunStatus.SUCCEEDED: ("✓", "#2e9d4c"),
    RunStatus.FAILED: ("✗", "#e0453c"),
    RunStatus.CANCELLED: ("⊘", "#cf7920"),
    RunStatus.LOST: ("?", "#cf7920"),
}
# While one of these holds, what is shown is what was last seen.
UNREACHABLE = (Reason.BACKEND_UNREACHABLE, Reason.HOST_UNREACHABLE)
_SHARE = re.compile(r"([0-9]{1,3})%")
# So much of a command stands beside a cause.
_BESIDE = 60
# An overrun below this is what a stop takes. Seconds.
_WORTH_SAYING = 2.0


def took(record: RunRecord, now: float) -> str:
    """How long a run took, or has run until now."""
    return clock(record.duration(now), live=not record.status.final)


def moment(when: float | None) -> str:
    """A point in time as ``2026-11-23 17:30:45 UTC+1``: local, and true wherever it is read."""
    if not when:
        return ""
    local = time.localtime(when)
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    sign = "-" if local.tm_gmtoff < 0 else "+"
    zone = f"{sign}{hours}" + (f":{minutes:02}" if minutes else "") if local.tm_gmtoff else ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", local) + zone


def since(record: RunRecord) -> float:
    """From when on the clock of what lives runs."""
    return record.started_at or record.created_at


def facts_of(record: RunRecord, now: float) -> tuple[str, str]:
    """Where, what, how long: what stands before a clock that ticks, and the clock.

    Args:
        record: The run.
        now: When this is shown; 0 for when it was last observed.
    """
    words = [record.runner, record.image, record.handle]
    ticks = ""
    if record.status.final:
        words.append(clock(record.duration()))
        if record.tells_code:
            words.append(f"exit {record.exit_code}")
    else:
        ticks = clock(max(0.0, (now or record.observed_at) - since(record)), live=True)
    before = plain(" · ".join(word for word in words if word))
    return (f"{before} · " if ticks else before), ticks


def one_line(record: RunRecord, now: float | None = None) -> str:
    """A run in one line of text, as of now or of another moment; the cause stands before all."""
    glyph, _ = GLYPHS[record.status]
    cause = f"{plain(record.cause)}   " if record.cause else ""
    name = f"{short(record.name)}  " if record.name else ""
    command = short(record.command, _BESIDE if cause else 100)
    facts = "".join(facts_of(record, time.time() if now is None else now))
    return f"{glyph} {record.status.lower()}  {cause}{name}{command}   {facts}"


def as_of(record: RunRecord, now: float) -> str:
    """When what is shown of a live run was so."""
    seen = record.observed_at if record.reason in UNREACHABLE else now
    return f"as of {moment(seen or record.observed_at)}"


def doing(record: RunRecord) -> tuple[str, int | None]:
    """What keeps a live run from being what it shows, and how much of that is done, of 100."""
    share = share_of(record.progress)
    return record.message or (record.progress if share is None else ""), share


def share_of(progress: str) -> int | None:
    """How much is done, of 100, by a backend's word; None where it doesn't say."""
    found = _SHARE.fullmatch(progress)
    return min(100, int(found[1])) if found else None


def missing_of(record: RunRecord) -> list[str]:
    """What is to be known beside the end of a run, a line for each."""
    lines = lost_output(record)
    if record.left:
        lines.append(f"What it had left running was ended: {record.left}.")
    if record.overrun and record.overrun >= _WORTH_SAYING:
        over = clock(record.overrun)
        lines.append(f"It ran {over} over its timeout: its grace, and while nobody watched it.")
    return lines


def lost_output(record: RunRecord) -> list[str]:
    """What is known to be missing of the output, a line for each; none where all is there."""
    lines = []
    if record.missing:
        lines.append(f"Output is missing: {record.missing}.")
    for stream, lost in record.log_missing.items():
        if lost < 0 and record.missing:
            continue  # said above
        if lost < 0:
            lines.append(
                f"Some of {stream} may be missing: what kept it was killed or restarted while it "
                "ran, or could not read or write it."
            )
            continue
        lines.append(
            f"{lost:,} bytes of {stream} could not be kept"
            + ("." if record.missing else ": there was no room on the disk.")
        )
    return lines


def details_text(record: RunRecord, spec_fact: dict[str, object], log_path: str) -> str:
    """Everything that is known of a run, one fact a line."""
    lines = [one_line(record)]
    if step := record.next_step:
        lines.append(f"  {step}")
    lines += [f"  {line}" for line in missing_of(record)]
    pairs = details(record, log_path)
    width = max(len(name) for name in pairs)
    lines += [f"  {name.ljust(width)}  {value}" for name, value in pairs.items() if value]
    if record.backend_message:
        lines += [
            "  the backend's own words",
            *(f"    {line}" for line in record.backend_message.split("\n")),
        ]
    spec = spec_fact.get("spec")
    script = spec.get("script") if isinstance(spec, dict) else None
    if script:
        lines += ["  script", *(f"    {line}" for line in str(script).splitlines())]
    return "\n".join(plain(line) for line in lines)


def details(record: RunRecord, log_path: str) -> dict[str, str]:
    """The facts about a run by what they are called; "" for what isn't known of it."""
    return {
        "run id": record.run_id,
        "command": record.command,
        "folder": record.cwd,
        "notebook": record.notebook,
        "git commit": record.git_commit,
        "submitted": moment(record.created_at),
        "started": moment(record.started_at),
        "finished": moment(record.finished_at),
        "as of": "" if record.status.final else moment(record.observed_at),
        "cpu time": clock(record.cpu_time),
        "peak memory": say_bytes(record.peak_memory) if record.peak_memory else "",
        "image digest": record.image_digest,
        # Front ends make a link of `local://...`, which leads nowhere.
        "runs on": record.identity.replace("://", " ", 1),
        runners.uid_is(record.runner): record.uid,
        "labels": ", ".join(f"{k}={v}" for k, v in record.labels.items()),
        "output": log_path,
    }


def called(record: RunRecord) -> str:
    """Which run is meant where none was named: its name or handle, and what it ran."""
    return f"the last run, {record.title} · {short(record.command)}"


def stopping_text(record: RunRecord, now: float | None = None) -> str:
    """A run that was asked to stop: its line, and as long as it goes on, how long it still may."""
    line = one_line(record, now)
    said = "" if record.status.final else plain(record.message)
    return f"{line}\n  {said}" if said else line


def still_running(record: RunRecord, now: float) -> str:
    """The line that greets after a restart: ``train (k3x9qd) still running 0:00:41``."""
    state = "still running" if record.status is RunStatus.RUNNING else "still pending"
    why = f" · {record.message.removesuffix('.')}" if record.message else ""
    taken = clock(max(0.0, now - since(record)), live=True)
    return plain(f"{record.title} {state} {taken}{why} · {as_of(record, now)}")


def ended_meanwhile(record: RunRecord) -> str:
    """The line of what ended while no kernel showed it: its status, and why."""
    taken = clock(record.duration())
    said = f"{record.title} {record.status.lower()} meanwhile{taken and f' after {taken}'}"
    said += f": {record.cause}" if record.cause else ""
    return plain(f"{said.removesuffix('.')} · %qwex logs {record.handle}")
