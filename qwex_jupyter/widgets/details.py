"""All that is known of some runs, as a page shows it for reading, comparing and copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwex_jupyter.disk.logs import STDERR, STDOUT, RunLog
from qwex_jupyter.display.format import details
from qwex_jupyter.errors import FactUnreadable, QwexError
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.text import plain
from qwex_jupyter.runners import runner_class

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

# A script that is longer is cut; the whole lies in the run's folder.
_SCRIPT = 4000
# What of a spec tells two runs of the same apart.
_ASKED = ("command", "script", "env", "secrets", "files", "volumes", "timeout", "resources")


def about(manager: RunManager, run_id: str) -> dict[str, Any]:
    """What the details of a run show.

    Raises:
        RunNotFound: It was deleted.
    """
    record = manager.tracker.record(run_id)
    log = RunLog(manager.history.folder(run_id))
    try:
        fact = manager.history.spec_fact(run_id)
    except (QwexError, FactUnreadable):
        fact = {}
    spec: Mapping[str, Any] = fact.get("spec") or {}
    script = str(spec.get("script") or "")
    copies = {
        "id": run_id,
        "command": script or record.command,
        "log path": log.path(STDERR if log.size(STDERR) and not log.size(STDOUT) else STDOUT),
        **_by_hand(record, spec),
    }
    facts = {name: value for name, value in details(record, log.path(STDOUT)).items() if value}
    return {
        "run": run_id,
        "title": plain(record.title),
        "message": plain(record.next_step),
        "facts": [[name, plain(value)] for name, value in facts.items()],
        "asked": [[name, said] for name in _ASKED if (said := _say(spec.get(name) or ""))],
        "script": plain(script[:_SCRIPT]) + ("\n…" if len(script) > _SCRIPT else ""),
        "said": plain(record.backend_message),
        "copy": [[label, text] for label, text in copies.items() if text],
    }


def _by_hand(record: RunRecord, spec: Mapping[str, Any]) -> dict[str, str]:
    """The line that shows the same run with the backend's own tool, by the tool's name."""
    try:
        line = runner_class(record.runner).by_hand(record, spec)
    except Exception:  # noqa: BLE001 - it isn't installed here, or a mistake of its own
        return {}
    return {line.partition(" ")[0]: line} if line else {}


def _say(value: Any) -> str:
    if isinstance(value, Mapping):
        return plain(", ".join(f"{key}={item}" for key, item in value.items() if item))
    if isinstance(value, list | tuple):
        return plain(" ".join(map(str, value)))
    return plain(str(value))
