"""What tests of the local runner share."""

from __future__ import annotations

from local_helpers import boots

__all__ = ["boots"]
