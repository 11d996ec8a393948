"""What tests in a real front end begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Jupyter


@pytest.fixture
def nothing_lives(jupyter: Jupyter) -> Iterator[None]:
    """A test begins without runs that live, and leaves none."""
    jupyter.cancel()
    (jupyter.work / "enough").unlink(missing_ok=True)
    yield
    jupyter.cancel()
