"""Backends: the runners of this process, one for each target that runs were given to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from qwex_jupyter.errors import (
    BackendUnreachable,
    FactUnreadable,
    RunnerUnavailable,
    RunNotFound,
    RunStillLive,
    SpecError,
)
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.text import one_line, without_secrets
from qwex_jupyter.runners import declared, runner_class
from qwex_jupyter.runners.base import Runner

# A backend as this process reaches it: the runner's name, and the options that choose a target.
Backend = tuple[str, tuple[tuple[str, str], ...]]


# What a runner may raise where it is asked about its runs.
_OF_THE_CONTRACT = (
    *(BackendUnreachable, RunnerUnavailable, SpecError),
    *(FactUnreadable, RunNotFound, RunStillLive),
)


@contextmanager
def mistakes_of(name: str) -> Iterator[None]:
    """Around what is asked of a runner: a mistake inside it says nothing of a run.

    Args:
        name: The runner's.

    Raises:
        BackendUnreachable: For what is neither an error of the contract nor one of the disk.
    """
    try:
        yield
    except (*_OF_THE_CONTRACT, OSError):
        raise
    except Exception as error:
        text = one_line(without_secrets(f"{type(error).__name__}: {error}"))
        raise BackendUnreachable(f"The {name} runner can't tell how it is ({text}).") from error


class Backends:
    """The runners, made at first use.

    Args:
        history: For its home and id.
        setting: Gives a setting of a runner as it is now; None for what is declared.
        settings: Constructor arguments of runners, by the runner's name.
    """

    def __init__(
        self,
        history: RunHistory,
        setting: Callable[[str], Any] | None,
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._history, self._setting, self._settings = history, setting, dict(settings)
        self._runners: dict[Backend, Runner] = {}
        self._of: dict[str, Backend] = {}
        self._lock = threading.Lock()

    def find(self, name: str, options: Mapping[str, str] | None = None) -> Backend:
        """The backend that a runner's name and a spec's options mean.

        Raises:
            SpecError: There is no such runner.
            RunnerUnavailable: This version doesn't have it.
        """
        chosen_by = declared(name).target_options
        return name, tuple(sorted((k, v) for k, v in (options or {}).items() if k in chosen_by))

    def runner(self, name: str, options: Mapping[str, str] | None = None) -> Runner:
        """The runner of that name, and of the backend that a spec's options choose.

        Raises:
            SpecError: There is none of that name.
            RunnerUnavailable: This version doesn't have it.
        """
        return self.at(self.find(name, options))

    def runner_of(self, run_id: str) -> Runner:
        """The runner of a run.

        Raises:
            RunNotFound: There is no such run.
            SpecError, RunnerUnavailable: This version has no such runner.
        """
        return self.at(self.of(run_id))

    def at(self, backend: Backend) -> Runner:
        """The runner of that backend."""
        name, target = backend
        with self._lock:
            if backend not in self._runners:
                more = {"setting": self._setting, **self._settings.get(name, {})}
                values = {**more, **{name.replace("-", "_"): value for name, value in target}}
                made = runner_class(name)(self._history.home, self._history.id, **values)
                self._runners[backend] = made
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
        """The backends that these runs were looked up in, each with its runner."""
        # Each run is looked up once: one that ends in another thread is forgotten between two
        # look-ups.
        found = {self._of.get(run_id) for run_id in run_ids}
        runners = {}
        for backend in found:
            if backend is not None:
                with suppress(Exception):  # whoever asks about its runs says what is wrong with it
                    runners[backend] = self.at(backend)
        return runners

    def close(self) -> None:
        """Has the runners give their connections back."""
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            with suppress(Exception):  # a mistake of one leaves none of the others open
                runner.close()

    def forget(self, run_id: str) -> None:
        """Forgets a run that nobody asks about any more."""
        self._of.pop(run_id, None)
