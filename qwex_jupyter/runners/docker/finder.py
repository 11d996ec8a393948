"""Finder: the containers of runs, by their names, and by their labels where one lost its name."""

from __future__ import annotations

import json
from typing import Any

from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, RUN_LABEL
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import Engine


class Finder:
    """What an engine has of the runs of one history.

    Args:
        engine: The engine.
        history: The id of the history.
    """

    def __init__(self, engine: Engine, history: str) -> None:
        self._engine, self._history = engine, history
        # Containers that somebody renamed while they belong to a run: known by their id.
        self._renamed: dict[str, str] = {}

    def name(self, run_id: str) -> str:
        """What the container of a run is asked for by: its name, or its id once it lost that."""
        return self._renamed.get(run_id, f"qwex-{run_id}")

    def states(self, *more: str) -> dict[str, tuple[str, str]]:
        """Id and state of every container of this history, by run id.

        Args:
            more: Only those that have these labels too, ``key=value``.
        """
        filters = json.dumps({"label": [f"{HISTORY_LABEL}={self._history}", *more]})
        try:
            found = self._engine.ask("/containers/json", {"all": 1, "filters": filters})
        except Refused as error:
            raise BackendUnreachable(f"The engine lists no containers: {error}") from error
        return {
            container["Labels"][RUN_LABEL]: (container["Id"], container["State"])
            for container in found
            if RUN_LABEL in (container.get("Labels") or {})
        }

    def container(self, run_id: str) -> dict[str, Any] | None:
        """The container of a run, as the engine describes it; None where there is none."""
        found = self._own(run_id, self.name(run_id))
        if found is not None:
            return found
        self._renamed.pop(run_id, None)
        for uid, _ in self.states(f"{RUN_LABEL}={run_id}").values():
            found = self._own(run_id, uid)
            if found is not None:
                self._renamed[run_id] = uid
                return found
        return None

    def _own(self, run_id: str, name: str) -> dict[str, Any] | None:
        """A container; one that isn't this run's is none."""
        found = self._engine.inspect(name)
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        mine = (labels.get(HISTORY_LABEL), labels.get(RUN_LABEL)) == (self._history, run_id)
        return found if mine else None
