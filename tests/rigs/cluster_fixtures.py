"""The fixtures that give a real Kubernetes; ``conftest.py`` takes them over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from clusters import Cluster, ClusterFailed, available
from kube_wire import KubeWire

# A test with one of these is about a real Kubernetes.
FIXTURES = {"session_cluster", "cluster", "own_cluster", "class_cluster", "kube_wire"}


def _started(cluster: Cluster) -> Cluster:
    try:
        return cluster.start()
    except ClusterFailed as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Callable[[], Cluster]]:
    """The session's cluster; others may use it too."""
    made: list[Cluster] = []

    def get() -> Cluster:
        if not made:
            try:
                found = Cluster.shared()
            except ClusterFailed as why:
                pytest.skip(str(why))
            if found is None and (why := available()):
                pytest.skip(why)
            made.append(_started(found or Cluster()))
        return made[0]

    yield get
    while made:
        made.pop().stop()


@pytest.fixture
def cluster(session_cluster: Callable[[], Cluster]) -> Iterator[Cluster]:
    """A cluster; the namespaces that a test made in it are gone after the test."""
    found = session_cluster()
    yield found
    found.start()  # in case that the test ended a part of it
    found.remove_namespaces()


def _made() -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(
        *,
        kubelet: Mapping[str, Any] | None = None,
        flags: Mapping[str, Sequence[str]] | None = None,
    ) -> Cluster:
        if why := available():
            pytest.skip(why)
        cluster = Cluster(private=True, kubelet=kubelet, flags=flags)
        cluster.must_be_owned()
        made.append(_started(cluster))
        return cluster

    yield make
    for cluster in made:
        cluster.stop()


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Cluster]]:
    """Makes clusters with data of their own, to be killed and frozen; gone after the test."""
    yield from _made()


@pytest.fixture(scope="class")
def class_cluster() -> Iterator[Callable[..., Cluster]]:
    """As ``own_cluster``, gone after the tests of a class."""
    yield from _made()


@pytest.fixture
def kube_wire(cluster: Cluster) -> Iterator[KubeWire]:
    """A wire in front of the session's cluster; ``kube_wire.kubeconfig()`` leads through it."""
    with KubeWire(cluster) as wire:
        yield wire
