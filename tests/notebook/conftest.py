"""Kernels of the tests of a notebook: one for a file, and one of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel import Kernel, kernel, lent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the extension loaded."""
    with kernel(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def k(shared: Kernel) -> Iterator[Kernel]:
    """The kernel that is shared by the tests which leave it as it was."""
    with lent(shared) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel of the test's own, to be restarted and killed."""
    with kernel(tmp_path) as made:
        yield made
