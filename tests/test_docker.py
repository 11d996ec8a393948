"""DockerRunner on real engines: the whole contract, and what is special to containers."""

from __future__ import annotations

from typing import ClassVar

import pytest
from contract import RunnerContract, ShellPrograms
from engines import Engine
from images import image

from qwex_jupyter.manager import RunManager
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus


class _OnAnEngine(RunnerContract):
    runner = "docker"
    brief: ClassVar[float] = 3

    def on(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points the docker client's own variable at an engine, and names an image there."""
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        self.programs = ShellPrograms(image=image(engine, "busybox"))  # type: ignore[misc]


class TestDocker(_OnAnEngine):
    """Debian's Docker engine, API 1.41."""

    @pytest.fixture(autouse=True)
    def _on(self, docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(docker_engine, monkeypatch)


class TestMoby(_OnAnEngine):
    """A current Docker engine, API 1.56."""

    @pytest.fixture(autouse=True)
    def _on(self, moby_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(moby_engine, monkeypatch)


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
