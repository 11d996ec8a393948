"""What tests of the docker runner share."""

from __future__ import annotations

from answers import folders
from docker_helpers import engine_of_this_machine

__all__ = ["engine_of_this_machine", "folders"]
