"""A place on the cluster of the tests."""

from __future__ import annotations

import pytest
from answers import folders
from clusters import Cluster
from k8s_helpers import There

__all__ = ["folders", "there"]


@pytest.fixture
def there(cluster: Cluster, home: str, monkeypatch: pytest.MonkeyPatch) -> There:
    """A namespace of its own."""
    return There(cluster, home, monkeypatch)
