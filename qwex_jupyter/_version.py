"""Which version this is. It imports nothing, so that every room may ask."""

__version__ = "0.2.0"
