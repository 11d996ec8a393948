"""What a container's state means for a run: pure, one table for each kind of text.

The left sides are the engines' words, each seen on Docker 20.10, a current moby, or Podman
4.3; the right sides are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.model.text import one_line
from qwex_jupyter.runners.container import wording
from qwex_jupyter.runners.container.conventions import registry_of
from qwex_jupyter.runners.container.times import moment

# Containers that are over. "removing" and "dead" are what a removal leaves for a moment, or
# for ever where it failed.
OVER = {"exited", "dead", "removing", "stopped"}
# Those that live.
LIVE = {"running", "paused", "restarting"}
# What is said of a container between the stop and its end.
STOPPING = "It was asked to stop."
# How long after its own start an engine finds containers whose end nobody saw (10 s, more on a
# busy machine), and stops those that still run (10 s of grace, then SIGKILL); how long before it
# another one may have been stopped; and how far the two clocks may be apart. Seconds.
_FINDS_FOR, _STOPS_FOR, _STOPPED_BEFORE, _APART = 30.0, 30.0, 60.0, 0.1
# What engines say of a container whose end they did not see: 255, and after a hard restart of
# some 0 (moby #45801).
_MADE_UP = {0, 255}
_STOPPED = {137, 143}

# What only an engine says of a start that it refused -> (reason, what that is).
_START: tuple[wording.Row, ...] = (
    # A current engine gives up a start whose client is killed, or whose connection breaks.
    (
        r"context canceled",
        Reason.NEVER_STARTED,
        "who asked the engine to start it was gone before the engine had",
    ),
    (
        r"could not select device driver|nvidia|CDI device|device requests|GPU vendor",
        Reason.UNSCHEDULABLE,
        "the engine can't give GPUs: install the NVIDIA Container Toolkit on its machine",
    ),
    (
        r"network \S+ not found",
        Reason.UNSCHEDULABLE,
        "this engine has no such network: docker network ls lists those it has",
    ),
)


@dataclass(frozen=True)
class Told:
    """What an engine that was restarted remembers of a container since its own start.

    Attributes:
        ended: Whether it saw the container's end.
        asked: Whether a signal was sent to the container before.
    """

    ended: bool = False
    asked: bool = False


def told_by(events: Iterable[Mapping[str, Any]]) -> Told:
    """What ``GET /events`` of one container says, from its engine's start on.

    An engine without live-restore stops what it finds running when it starts: ``kill``, then
    ``die``. With it, a program that ends by itself has a ``die`` alone. An end that the engine
    made up has none. It remembers 256 events, so a missing one proves nothing.
    """
    actions = [str(event.get("Action", "")) for event in events]
    return Told(ended="die" in actions, asked="kill" in actions)


def snapshot(
    found: Mapping[str, Any],
    stop: Mapping[str, Any] | None,
    now: float,
    engine_began: float | None = None,
    told: Told | None = None,
) -> Snapshot:
    """What ``GET /containers/<name>/json`` says of a run.

    Args:
        found: The engine's answer.
        stop: The content of ``stop.json``.
        now: The engine's time, seconds since the epoch.
        engine_began: When the engine's process began, None where that can't be told.
        told: What the engine remembers of it, None where it wasn't asked; see `doubtful`.
    """
    state = found["State"]
    began, ended = moment(state.get("StartedAt", "")), moment(state.get("FinishedAt", ""))
    if began is not None and ended is not None:
        ended = max(began, ended)  # Podman dates them by two processes
    status = str(state.get("Status", "")).lower()
    uid = str(found.get("Id", ""))
    if began is None and status not in ("running", "paused"):
        return _unstarted(found, uid, now)
    evidence: dict[str, Any] = {"program": program(found)}
    if began is not None:
        evidence["elapsed"] = max(0.0, (ended if status in OVER and ended else now) - began)
    seen = Snapshot(
        RunStatus.RUNNING, started_at=began, observed_at=now, uid=uid, evidence=evidence
    )
    if status in OVER:
        return replace(seen, end=_end(found, stop, engine_began, told), finished_at=ended)
    if stop is not None:
        seen = replace(seen, reason=Reason.STOPPING, message=STOPPING)
    if status == "paused":
        name = found.get("Name", "").lstrip("/")
        seen = replace(seen, message=f"It is paused: docker unpause {name}")
    return seen


def _unstarted(found: Mapping[str, Any], uid: str, now: float) -> Snapshot:
    """A container that was made and never ran; one whose start was refused says why."""
    error = str(found["State"].get("Error") or "")
    if not error:
        return Snapshot(RunStatus.PENDING, Reason.STARTING, observed_at=now, uid=uid)
    end = refused_start(error, program(found), image(found))
    return Snapshot(RunStatus.PENDING, end=end, finished_at=now, observed_at=now, uid=uid)


def program(found: Mapping[str, Any]) -> str:
    """The program that a container was to execute."""
    config = found.get("Config") or {}
    argv = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return str(argv[0] if argv else found.get("Path", ""))


def image(found: Mapping[str, Any]) -> str:
    """The image as it was asked for."""
    return str((found.get("Config") or {}).get("Image", ""))


def refused_start(text: str, name: str, image_name: str) -> End:
    """The end of a run whose container could not be started."""
    return wording.refused_start(text, name, image_name, (*_START[:1], *wording.START, *_START[1:]))


def _end(
    found: Mapping[str, Any],
    stop: Mapping[str, Any] | None,
    engine_began: float | None,
    told: Told | None,
) -> End:
    state = found["State"]
    code = int(state.get("ExitCode", -1))
    ended = moment(state.get("FinishedAt", ""))
    after_stop = bool(stop) and ended is not None and ended >= _asked_at(stop or {})
    if ended is None:
        return End(
            reason=Reason.BACKEND_RESTARTED,
            detail="the engine lost sight of it and doesn't know when or how it ended",
            after_stop=after_stop,
        )
    if code < 0:
        # Podman's word for an exit code that was never written down.
        return End(
            reason=Reason.VANISHED,
            detail="the engine doesn't know its exit code",
            after_stop=after_stop,
        )
    oom = state.get("OOMKilled") and code not in _MADE_UP
    if doubtful(found, engine_began) and not oom:
        restarted = _restarted(code, ended - (engine_began or 0.0), told, after_stop=after_stop)
        if restarted is not None:
            return restarted
    if state.get("OOMKilled") and code:
        return End(
            code,
            9 if code == 137 else None,
            Reason.OUT_OF_MEMORY,
            after_stop=after_stop,
        )
    detail = wording.CHILD_KILLED if state.get("OOMKilled") else ""
    return End(code, wording.signal_of(code), detail=detail, after_stop=after_stop)


def may_lack_memory(found: Mapping[str, Any], now: float, within: float) -> bool:
    """Whether a container failed so lately that its engine may not know yet that memory ran out.

    Args:
        found: The engine's answer.
        now: The engine's time, seconds since the epoch.
        within: How long that may take, seconds.
    """
    state = found["State"]
    limit = (found.get("HostConfig") or {}).get("Memory")
    ended = moment(state.get("FinishedAt", ""))
    failed = state.get("Status") in OVER and state.get("ExitCode") and not state.get("OOMKilled")
    return bool(failed and limit and ended is not None and abs(now - ended) < within)


def doubtful(found: Mapping[str, Any], engine_began: float | None) -> bool:
    """Whether the engine's own restart may be behind the end of a container.

    Then its events are worth asking for, see `told_by`.
    """
    state = found["State"]
    began, ended = moment(state.get("StartedAt", "")), moment(state.get("FinishedAt", ""))
    if engine_began is None or began is None or ended is None:
        return False
    return began < engine_began and -_STOPPED_BEFORE < ended - engine_began < _STOPS_FOR


def _restarted(code: int, after: float, told: Told | None, *, after_stop: bool) -> End | None:
    """The end of a container around its engine's start, where that isn't what it seems.

    Args:
        code: The exit code that the engine tells.
        after: How many seconds after the engine's start it ended, by the engine's word.
        told: What the engine remembers of it.
        after_stop: The end came after a stop was asked for.
    """
    if after < -_APART:
        # The number is true: an engine that finds it later takes it from who waited for it.
        if code not in _STOPPED or after_stop:
            return None
        return End(
            code,
            code - 128,
            Reason.BACKEND_RESTARTED,
            f"it was ended (exit code {code}) {-after:.0f} s before the engine itself started "
            "anew, as an engine that is stopped does with what runs; run it again, or set "
            "live-restore in the engine's daemon.json",
        )
    told = told or Told()
    if not told.ended and code in _MADE_UP and after < _FINDS_FOR:
        return End(
            reason=Reason.BACKEND_RESTARTED,
            detail="the engine was restarted while it ran, and didn't see how it ended",
            after_stop=after_stop,
        )
    stopped = told.asked if told.ended else code in _STOPPED
    if not stopped or after_stop:
        return None
    return End(
        code,
        code - 128 if code in _STOPPED else None,
        Reason.BACKEND_RESTARTED,
        f"the engine was restarted while it ran, and stopped it (exit code {code}); "
        "run it again, or set live-restore in the engine's daemon.json",
    )


def _asked_at(stop: Mapping[str, Any]) -> float:
    """When the stop was asked for, by the engine's clock where it answered then."""
    return float(stop.get("clock") or stop.get("at") or 0.0)


_ADDRESS = re.compile(r"https?://\S+|[0-9a-f]{12,}")
# What an engine says of a pull that failed -> (reason, sentence).
_PULL: tuple[tuple[str, Reason, str], ...] = (
    (
        "no matching manifest|does not match the specified platform|no image found in ",
        Reason.IMAGE_PULL_FAILED,
        "there is no variant of {image} for the engine's kind of processor: choose another tag",
    ),
    (
        "manifest unknown|manifest for .* not found|not found: manifest|name unknown",
        Reason.IMAGE_NOT_FOUND,
        "there is no image {image}: check its name and tag",
    ),
    (
        "unauthorized|authentication required|no basic auth|access forbidden|\\b403\\b",
        Reason.IMAGE_PULL_FAILED,
        "you have no access to {image}, or it doesn't exist: {login}, then run it again",
    ),
    (
        "pull access denied|repository does not exist|access to the resource is denied",
        Reason.IMAGE_NOT_FOUND,
        "there is no image {image}, or you have no access to it: check its name, or {login}",
    ),
    (
        "no space left",
        Reason.IMAGE_PULL_FAILED,
        "the engine's disk is full, so {image} can't be pulled: see docker system df",
    ),
    (
        "toomanyrequests|rate limit|\\b429\\b",
        Reason.IMAGE_PULL_FAILED,
        "the registry gives you no more images for a while: {login}, or wait",
    ),
    (
        "x509|certificate|TLS handshake|HTTPS client",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} could not be pulled: the engine doesn't trust {registry} ({text}). Give it "
            "that registry's certificate, or name it under insecure-registries in daemon.json"
        ),
    ),
    (
        "no such host",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} could not be pulled: no host {registry} is known. Check its name and the "
            "network, then run it again"
        ),
    ),
    (
        "connection refused|unreach|no route|time(d )?out|deadline exceeded",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} could not be pulled: {registry} doesn't answer. Check the network, then run "
            "it again"
        ),
    ),
    (
        "EOF|reset by peer|broken|went away|size validation|corrupt|download failed after",
        Reason.IMAGE_PULL_FAILED,
        (
            "{image} could not be pulled: the connection was cut each time. Check the network, "
            "then run it again"
        ),
    ),
    ("invalid reference", Reason.IMAGE_NOT_FOUND, "{image} isn't the name of an image"),
    (
        "not found|no such image",
        Reason.IMAGE_NOT_FOUND,
        "there is no image {image}: check its name and tag",
    ),
)


def failed_pull(text: str, name: str) -> tuple[Reason, str]:
    """The reason of a failed pull, and cause and next step as one clause."""
    login = f"docker login {registry_of(name)}".strip()
    where = registry_of(name) or "Docker Hub"
    about = {"image": name, "login": login, "registry": where, "text": one_line(text)}
    # What the image is called, where it is and its digest are no cause: 403 may stand there.
    said = _ADDRESS.sub("", text.replace(name, ""))
    for pattern, reason, sentence in _PULL:
        if re.search(pattern, said, re.IGNORECASE):
            return reason, sentence.format(**about)
    return Reason.IMAGE_PULL_FAILED, f"{name} could not be pulled: {about['text']}"
