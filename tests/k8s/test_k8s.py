"""K8sRunner on a real cluster, under exactly the Role of the docs: the whole contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from clusters import Cluster
from k8s_helpers import There

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.runners.k8s import doctor
from qwex_jupyter.testing.contract import RunnerContract, ShellPrograms


def minimal(cluster: Cluster) -> str:
    """A kubeconfig of somebody who has the documented Role in a namespace, and nothing else."""
    rules = doctor.role("qwex", "anywhere")["rules"]
    return str(cluster.kubeconfig(rules))


class _OnACluster(RunnerContract):
    runner = "k8s"
    brief: ClassVar[float] = 5

    def on(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points kubectl's own variable at a cluster, and names an image there."""
        monkeypatch.setenv("KUBECONFIG", minimal(cluster))
        image = cluster.image("busybox")
        self.programs = ShellPrograms(image=image)  # type: ignore[misc]
        self._cluster = cluster

    def dropped(self, run: Run) -> bool:
        """See `RunnerContract.dropped`."""
        ours = self._cluster.owned.ours
        return ours and self._cluster.machine.dropped(f"qwex-{run.run_id}")


class TestK8s(_OnACluster):
    """A real Kubernetes with a real kubelet, which gives both streams as one."""

    @pytest.fixture(autouse=True)
    def _on(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(cluster, monkeypatch)

    def test_what_containerd_says_it_dropped_is_told_apart(self, manager: RunManager) -> None:
        """A run is let off for that only by containerd's own words about its own container."""
        one, other = (self.submit(manager, self.programs.exits(0)) for _ in range(2))
        self.end(one)
        self.end(other)
        machine = self._cluster.machine
        (container,) = machine.containers(f"qwex-{one.run_id}")
        with machine.log("containerd").open("a") as file:
            file.write(
                f'level=error msg="Failed to pipe stdout of container \\"{container}\\"" '
                'error="reading from a closed fifo"\n'
            )
        assert not self.dropped(other)
        with pytest.raises(pytest.xfail.Exception):
            self.end(one)


# What lets an API server ask for one stream, and a kubelet give one.
GATE = "PodLogsQuerySplitStreams"


@pytest.fixture(scope="class")
def splitting(class_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster that gives each stream by itself."""
    return class_cluster(
        kubelet={"featureGates": {GATE: True}},
        flags={"apiserver": [f"--feature-gates={GATE}=true"]},
    )


# Clauses of the contract about what the gate changes: those are of the tier ``all``.
OUTPUT = (
    "test_output_is_complete_and_separate",
    "test_output_stays_readable_after_the_end",
    "test_a_last_line_without_newline_is_kept",
    "test_long_lines_are_kept",
    "test_bytes_that_are_not_text_are_kept",
    "test_follow_yields_before_the_end_and_stops_at_it",
    "test_following_loses_and_doubles_nothing",
    "test_two_runs_never_mix",
    "test_a_second_runner_follows_and_cancels",
)


@pytest.mark.tier("long", but=OUTPUT)
class TestK8sSplit(_OnACluster):
    """A real Kubernetes that gives each stream by itself."""

    separates: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _on(self, splitting: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on(splitting, monkeypatch)


def test_a_kubelet_that_gives_no_stream_by_itself(
    own_cluster: Callable[..., Cluster], home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the API server knows streams, nothing comes twice, live or at the end."""
    cluster = own_cluster(flags={"apiserver": [f"--feature-gates={GATE}=true"]})
    there = There(cluster, home, monkeypatch)
    cell = "echo out; sleep 1; echo err >&2; sleep 1; echo last"
    runs = [there.submit("sh", cell) for _ in range(2)]
    only = there.submit("sh", "echo err >&2")
    with there.manager.output.following(runs[0].run_id):
        for run in runs:
            run.wait(150)
    for run in runs:
        assert (run.logs("stdout"), run.logs("stderr")) == ("out\nerr\nlast\n", "")
    assert there.ended(only).logs("stdout") == "err\n"
