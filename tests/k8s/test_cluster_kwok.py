"""Played nodes: pods on them run and end without a machine, and no other pod comes to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_helpers import as_account, ended, job, pod
from cluster_kwok import LABEL, WORDS, Kwok
from clusters import Cluster


@pytest.fixture(scope="class")
def owned(class_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster for all tests of a class."""
    return class_cluster()


class TestPlayed:
    """In a cluster of their own: with more nodes others would read another number of them."""

    @pytest.fixture
    def cluster(self, owned: Cluster) -> Iterator[Cluster]:
        """Without namespaces of the tests before."""
        yield owned
        owned.remove_namespaces()

    @pytest.fixture
    def played(self, cluster: Cluster) -> Iterator[Kwok]:
        """Five played nodes, whose pods end when they are told."""
        with cluster.kwok(nodes=5, seconds=None) as kwok:
            yield kwok
            cluster.remove_namespaces()

    def test_many_jobs_complete_by_themselves(self, cluster: Cluster) -> None:
        """Sixty Jobs run on played nodes, and each is complete without being told."""
        with cluster.kwok(nodes=5) as kwok:
            namespace = kwok.namespace()
            for _ in range(60):
                job(cluster, namespace, "true")
            jobs = cluster.api.wait(
                f"/apis/batch/v1/namespaces/{namespace}/jobs",
                lambda found: all(each["status"].get("succeeded") for each in found["items"]),
                seconds=200,
                every=0.5,
            )
            assert len(jobs["items"]) == 60
            pods = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
            assert {each["spec"]["nodeName"].rstrip("0123456789") for each in pods} == {"played-"}
            cluster.remove_namespaces()

    @pytest.mark.parametrize("code", [0, 7])
    def test_a_played_pod_ends_with_the_code_it_is_told(self, played: Kwok, code: int) -> None:
        """A played pod runs until it is told to end; code, log and Job are as of a real one."""
        cluster, namespace = played.cluster, played.namespace()
        name = job(cluster, namespace, "sleep", "1000")
        pod(cluster, namespace, name, ("Running",))
        assert played.end(namespace, code) == 1
        assert ended(cluster, namespace, name) == (code, f"{WORDS}\n")
        kind = "failed" if code else "succeeded"
        cluster.api.wait(
            f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}",
            lambda found: found["status"].get(kind) == 1,
        )

    def test_a_deadline_of_a_second_stops_a_played_pod(self, played: Kwok) -> None:
        """A pod whose deadline is lowered to a second fails with 143 and DeadlineExceeded."""
        cluster, namespace = played.cluster, played.namespace()
        name = job(cluster, namespace, "sleep", "1000", activeDeadlineSeconds=86400)
        running = pod(cluster, namespace, name, ("Running",))["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/pods/{running}"
        cluster.api.patch(path, {"spec": {"activeDeadlineSeconds": 1}})
        found = pod(cluster, namespace, name, ("Failed",))["status"]
        assert found["reason"] == "DeadlineExceeded"
        assert found["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143

    def test_a_real_pod_does_not_come_to_a_played_node(self, played: Kwok) -> None:
        """A pod of another namespace runs on the real node; the minimal Role suffices on both."""
        cluster = played.cluster
        real = cluster.namespace()
        assert ended(cluster, real, job(cluster, real, "echo", "real")) == (0, "real\n")
        pods: Any = cluster.api.get(f"/api/v1/namespaces/{real}/pods")["items"]
        assert [each["spec"]["nodeName"] for each in pods] == [cluster.node]
        api, namespace = as_account(cluster.kubeconfig(namespace=played.namespace()))
        assert api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"] == []

    def test_no_played_node_is_left(self, cluster: Cluster) -> None:
        """After `close` the nodes are gone and kwok has ended."""
        with cluster.kwok(nodes=2):
            assert cluster.pid("kwok")
        assert cluster.pid("kwok") == 0
        assert cluster.api.get(f"/api/v1/nodes?labelSelector={LABEL}")["items"] == []
