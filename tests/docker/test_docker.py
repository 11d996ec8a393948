"""DockerRunner on real engines: the whole contract, and what is special to containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from docker_helpers import UNHURRIED
from engines import Engine, available
from images import image

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.docker import runner as docker_runner
from qwex_jupyter.testing.contract import RunnerContract, ShellPrograms


class _OnAnEngine(RunnerContract):
    runner = "docker"
    brief: ClassVar[float] = 8
    settings = UNHURRIED

    def on(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points the docker client's own variable at an engine, and names an image there."""
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        # On a busy machine an engine takes longer than half a second to learn of memory.
        monkeypatch.setattr(docker_runner, "_KNOWS_IN", 20.0)
        # An engine doesn't say of which container it speaks, so it must have those of this test
        # alone.
        self._log = engine.log if engine.private and engine.owned.ours else None
        if self._log:
            engine.remove_containers()
        self._log_size = self._log.stat().st_size if self._log else 0
        self.programs = ShellPrograms(image=image(engine, "busybox"))  # type: ignore[misc]

    def dropped(self, run: Run) -> bool:
        """See `RunnerContract.dropped`."""
        if self._log is None or not self._log.exists():
            return False
        with self._log.open("rb") as file:
            file.seek(self._log_size)
            return b"reading from a closed fifo" in file.read()


def private(kind: str, get: Callable[[str], Engine]) -> Iterator[Engine]:
    """An engine whose words are about the runs of one class alone, or a user's own."""
    if available(kind) or not (engine := Engine(kind, private=True)).owned.ours:
        yield get(kind)
        return
    with engine:
        yield engine


class TestDocker(_OnAnEngine):
    """Debian's Docker engine, API 1.41."""

    @pytest.fixture(scope="class")
    @classmethod
    def docker_engine(cls, session_engine: Callable[[str], Engine]) -> Iterator[Engine]:
        """One of this class's own."""
        yield from private("docker", session_engine)

    @pytest.fixture(autouse=True)
    def _on(self, docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(docker_engine, monkeypatch)


class TestMoby(_OnAnEngine):
    """A current Docker engine, API 1.56."""

    @pytest.fixture(scope="class")
    @classmethod
    def moby_engine(cls, session_engine: Callable[[str], Engine]) -> Iterator[Engine]:
        """One of this class's own."""
        yield from private("moby", session_engine)

    @pytest.fixture(autouse=True)
    def _on(self, moby_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(moby_engine, monkeypatch)

    def test_what_the_engine_says_it_dropped_is_told_apart(self, manager: RunManager) -> None:
        """A run is let off for that only by the engine's own words."""
        assert self._log is not None
        self.end(self.submit(manager, self.programs.exits(0)))
        run = self.submit(manager, self.programs.exits(0))
        with self._log.open("ab") as log:
            log.write(b'level=error msg="copy stream failed" error="reading from a closed fifo"\n')
        with pytest.raises(pytest.xfail.Exception):
            self.end(run)


class TestPodman(_OnAnEngine):
    """Podman's Docker-compatible socket."""

    # Its log driver keeps bytes, whatever promises a runner makes for Docker's.
    keeps_bytes = True

    @pytest.fixture(autouse=True)
    def _on(self, podman_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(podman_engine, monkeypatch)

    def test_a_memory_limit_is_held(self, manager: RunManager) -> None:
        """A run over its memory is killed; Podman 4.3 doesn't say for what."""
        limit = 128 * 1024 * 1024
        spec = self.programs.takes_memory(2 * limit)
        resources = {**vars(spec.resources), "memory": limit}
        spec = JobSpec(**{**vars(spec), "resources": resources})
        record = self.end(self.submit(manager, spec))
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 137)
        assert record.reason in (Reason.OUT_OF_MEMORY, Reason.SIGNALLED)
        assert "memory" in record.message
