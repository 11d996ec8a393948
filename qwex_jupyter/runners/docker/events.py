"""What an engine tells of containers by itself: now, and what it remembers of before."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.runners.container.http_stream import objects
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import Engine
from qwex_jupyter.system import compat
from qwex_jupyter.system.flag import Flag

# How long a stream of events may be silent before it is opened anew. Seconds.
_SILENCE = 300.0
# By which a run may have begun, ended, or changed; the others only cost a look.
_MATTER = {"start", "die", "oom", "pause", "unpause", "destroy", "remove"}


def remembered(engine: Engine, container: str, since: float) -> list[dict[str, Any]]:
    """What an engine remembers of a container since then; it keeps the last 256 events.

    Args:
        engine: Which.
        container: Its id.
        since: Seconds since the epoch, by the engine's clock.
    """
    filters = json.dumps({"type": ["container"], "container": [container]})
    params = {"filters": filters, "since": f"{since:.9f}", "until": f"{engine.now():.9f}"}
    try:
        answer = engine.call("GET", "/events", params=params)
        return [json.loads(line) for line in answer.text.split("\n") if line.strip()]
    except (Refused, ValueError):
        return []  # nothing is remembered


def watch(
    engine: Engine,
    label: str,
    name: str,
    notify: Callable[[str], None],
    stop: threading.Event,
    begun: Callable[[], None],
    beside: Callable[[], None],
) -> None:
    """Reads events of containers until ``stop``, or until the stream ends.

    Args:
        engine: Whose.
        label: Only of containers that carry it, ``key=value``.
        name: The label whose value is given to ``notify``.
        notify: Called for each event.
        stop: Ends it.
        begun: Called when nothing is missed any more.
        beside: Called twice a second meanwhile, from another thread.
    """
    params = {"filters": json.dumps({"type": ["container"], "label": [label]})}
    try:
        reply = engine.call("GET", "/events", params=params, timeout=_SILENCE, stream=True)
    except (BackendUnreachable, RunnerUnavailable, Refused):
        return
    done = Flag()

    def look_beside() -> None:
        while not done.wait(0.5):
            beside()
            if stop.is_set():
                compat.shut_down(reply.raw)
                return

    threading.Thread(target=look_beside, name="qwex-events", daemon=True).start()
    try:
        begun()
        for event in objects(reply.raw):
            if event.get("Action") not in _MATTER:
                continue
            actor = event.get("Actor") or {}
            if run_id := (actor.get("Attributes") or {}).get(name):
                notify(str(run_id))
    except (BackendUnreachable, RunnerUnavailable, EOFError, OSError, ValueError):
        pass  # whoever watches opens it again
    finally:
        done.set()
        reply.close()
