"""What tests of faults share."""

from __future__ import annotations

from docker_helpers import engine_of_this_machine
from local_helpers import boots

__all__ = ["boots", "engine_of_this_machine"]
