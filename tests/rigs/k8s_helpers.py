"""What the tests of Jobs share: a namespace, and a manager whose runs are Jobs there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from clusters import Cluster
from local_helpers import PATIENCE, contents, until
from somewhere import Somewhere

from qwex_jupyter import config
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.k8s import doctor

RULES: Sequence[Mapping[str, Any]] = doctor.role("qwex", "anywhere")["rules"]


class There(Somewhere):
    """One namespace of a cluster, and a manager who has the documented Role there.

    Args:
        cluster: A started one.
        home: The history folder.
        labels: Of the namespace.
        rules: Of the Role.
        namespace: One that is there; "" for a new one.
    """

    runner = "k8s"

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

    def image(self, of: str) -> str:
        """See `Somewhere`."""
        return self.cluster.image(of)

    def let_off(self, run: Run) -> None:
        """Ends a test where containerd itself says that it dropped output of this run."""
        ended = run.exit_code is not None and self.cluster.owned.ours
        if ended and self.cluster.machine.dropped(f"qwex-{run.run_id}"):
            pytest.xfail("containerd dropped output: reading from a closed fifo")

    def running(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run whose program runs."""
        run = self.submit(line, cell, of)
        until(lambda: run.poll() is not RunStatus.PENDING)
        assert run.status is RunStatus.RUNNING, (run.record.sentence, run.record.backend_message)
        return run

    def up(self, line: str, cell: str) -> Run:
        """A run whose program has said ``up``, as its log tells."""
        run = self.running(line, cell)
        until(lambda: run.logs() == "up\n")
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

    def why(self, run: Run, reason: Reason, seconds: float = PATIENCE, says: str = "") -> str:
        """What is said of a run that waits, as soon as it is said with that reason and word.

        For a moment a kubelet may say that it hasn't listed a ConfigMap or a Secret yet.
        """
        seen: set[tuple[str, str]] = set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run.poll()
            record = run.record
            seen.add((record.reason, record.message))
            if record.reason == reason and says in record.message:
                return record.message
            time.sleep(0.1)
        raise AssertionError(
            f"not said: {reason} {says}, but {sorted(seen)}; {run.record.backend_message}"
        )

    def another(self, patience: Patience = Patience()) -> RunManager:
        """What another kernel has: a manager of its own, of the same home."""
        settings = {"k8s": {"setting": config.setting, "patience": patience}}
        return RunManager(self.home, default="k8s", settings=settings, patience=patience)


def files_of(home: str) -> bytes:
    """All that stands in a history folder."""
    return b"\0".join(text for _, text in sorted(contents(home)))
