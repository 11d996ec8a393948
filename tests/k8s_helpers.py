"""What the tests of Jobs share: a namespace, and a manager whose runs are Jobs there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster

from qwex_jupyter import config, options
from qwex_jupyter.manager import RunManager
from qwex_jupyter.patience import Patience
from qwex_jupyter.run import Run
from qwex_jupyter.runners import k8s_doctor
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus
from qwex_jupyter.words import split

PATIENCE = 90.0
RULES: Sequence[Mapping[str, Any]] = k8s_doctor.role("qwex", "anywhere")["rules"]


class There:
    """One namespace of a cluster, and a manager who has the documented Role there.

    Args:
        cluster: A started one.
        home: The history folder.
        labels: Of the namespace.
        rules: Of the Role.
        namespace: One that is there; "" for a new one.
    """

    def __init__(
        self,
        cluster: Cluster,
        home: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        labels: Mapping[str, str] | None = None,
        rules: Sequence[Mapping[str, Any]] = RULES,
        namespace: str = "",
    ) -> None:
        self.cluster, self.home = cluster, home
        self.namespace = namespace or cluster.namespace(labels)
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(rules, self.namespace)))
        self.manager = self.another()

    def at(self, kind: str, name: str = "") -> str:
        """The path of objects of a kind in the namespace."""
        group = {"jobs": "/apis/batch/v1"}.get(kind, "/api/v1")
        return f"{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def spec(self, line: str, cell: str | None = None, of: str = "busybox") -> JobSpec:
        """The spec of a magic's line, with the image put in front unless it names one."""
        words = split(line)
        if not any(word.startswith("--image") for word in words):
            words = [f"--image={self.cluster.image(of)}", *words]
        args, command = options.parse_run(words)
        return options.make_spec(args, command, cell, {})

    def submit(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run that was handed over."""
        return self.manager.submit(self.spec(line, cell, of), "k8s")

    def end(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run that has ended."""
        return self.submit(line, cell, of).wait(PATIENCE, check=False)

    def says(self, line: str, cell: str | None = None, of: str = "busybox") -> str:
        """What a run that ends well says."""
        run = self.end(line, cell, of)
        assert run.status is RunStatus.SUCCEEDED, (run.record.sentence, run.record.said, run.logs())
        return run.logs("stdout")

    def running(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run whose program runs."""
        run = self.submit(line, cell, of)
        until(lambda: run.poll() is not RunStatus.PENDING)
        assert run.status is RunStatus.RUNNING, (run.record.sentence, run.record.said)
        return run

    def job(self, run: Run) -> Any:
        """The run's Job."""
        return self.cluster.api.get(self.at("jobs", f"qwex-{run.run_id}"))

    def jobs(self) -> list[str]:
        """The names of all Jobs."""
        return [each["metadata"]["name"] for each in self.cluster.api.get(self.at("jobs"))["items"]]

    def pods(self, run: Run) -> list[Any]:
        """The run's pods."""
        found: list[Any] = self.cluster.api.get(
            f"{self.at('pods')}?labelSelector=qwex.run%3D{run.run_id}"
        )["items"]
        return found

    def pod(self, run: Run) -> Any:
        """The run's only pod."""
        (found,) = self.pods(run)
        return found

    def plan(self, line: str, cell: str | None = None) -> dict[str, Any]:
        """What would be handed over for a line."""
        runner = self.manager.runner("k8s")
        return runner.plan(self.spec(line, cell), "20261124-120000-abcdef")

    def create(self, kind: str, body: dict[str, Any]) -> Any:
        """Creates an object of the namespace, as an administrator."""
        return self.cluster.api.create(self.at(kind), body)

    def nudge(self, *runs: Run) -> None:
        """Changes Jobs and pods without a meaning: who waits for his next try tries now."""
        change = {"metadata": {"annotations": {"tests/nudged": str(time.time())}}}
        for run in runs:
            for kind, found in (("jobs", [self.job(run)]), ("pods", self.pods(run))):
                for each in found:
                    self.cluster.api.patch(self.at(kind, each["metadata"]["name"]), change)

    def why(self, run: Run, reason: Reason, seconds: float = PATIENCE) -> str:
        """What is said of a run that waits, as soon as it is said with that reason."""
        seen: set[tuple[str, str]] = set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run.poll()
            record = run.record
            seen.add((record.reason, record.message))
            if record.reason == reason:
                return record.message
            time.sleep(0.1)
        raise AssertionError(f"not said: {reason}, but {sorted(seen)}; {run.record.said}")

    def settle(self, run: Run) -> None:
        """Returns when nothing more is to be done for a run."""

        def done() -> bool:
            self.manager.look([run.run_id])
            return not self.manager.history.is_open(run.run_id)

        until(done)

    def another(self, patience: Patience = Patience()) -> RunManager:
        """What another kernel has: a manager of its own, of the same home."""
        settings = {"k8s": {"setting": config.setting, "patience": patience}}
        return RunManager(self.home, default="k8s", settings=settings, patience=patience)


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Returns when something is so; fails when it doesn't come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def files_of(home: str) -> bytes:
    """All that stands in a history folder."""
    paths = sorted(path for path in Path(home).rglob("*") if path.is_file())
    return b"\0".join(path.read_bytes() for path in paths)
