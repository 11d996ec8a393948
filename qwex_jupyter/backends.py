"""Backends: the runners of this process, one for each place that runs were given to."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from qwex_jupyter.history import RunHistory
from qwex_jupyter.runners import runner_class
from qwex_jupyter.runners.base import Runner

# A backend as this process reaches it: the runner's name, and the options that choose a place.
Backend = tuple[str, tuple[tuple[str, str], ...]]


class Backends:
    """The runners, made at first use.

    Args:
        history: For its home and id.
        settings: Constructor arguments of runners, by the runner's name.
    """

    def __init__(self, history: RunHistory, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._history, self._settings = history, dict(settings)
        self._runners: dict[Backend, Runner] = {}
        self._of: dict[str, Backend] = {}
        self._lock = threading.Lock()

    def find(self, name: str, options: Mapping[str, str] | None = None) -> Backend:
        """The backend that a runner's name and a spec's options mean.

        Raises:
            SpecError: There is no such runner.
            RunnerUnavailable: This version doesn't have it.
        """
        place = runner_class(name).place
        return name, tuple(sorted((k, v) for k, v in (options or {}).items() if k in place))

    def at(self, backend: Backend) -> Runner:
        """The runner of that backend."""
        name, place = backend
        with self._lock:
            if backend not in self._runners:
                values = {**self._settings.get(name, {}), **dict(place)}
                made = runner_class(name)
                self._runners[backend] = made(self._history.home, self._history.id, **values)
            return self._runners[backend]

    def of(self, run_id: str, spec_fact: Mapping[str, Any] | None = None) -> Backend:
        """The backend that a run was given to.

        Args:
            run_id: The run.
            spec_fact: The content of its ``spec.json``, where it is at hand.

        Raises:
            RunNotFound: There is no such run.
            SpecError, RunnerUnavailable: This version has no such runner.
        """
        found = self._of.get(run_id)
        if found is None:
            fact = spec_fact or self._history.spec_fact(run_id)
            found = self.find(str(fact["runner"]), fact["spec"].get("options"))
            self._of[run_id] = found
        return found

    def in_use(self, run_ids: Iterable[str]) -> dict[Backend, Runner]:
        """The backends of those runs that were asked for before, each with its runner."""
        # One question each: a run that ends in another thread is forgotten between two.
        found = {self._of.get(run_id) for run_id in run_ids}
        return {backend: self.at(backend) for backend in found if backend is not None}

    def close(self) -> None:
        """Has the runners give their connections back."""
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.close()

    def forget(self, run_id: str) -> None:
        """Nothing is asked about that run any more."""
        self._of.pop(run_id, None)
