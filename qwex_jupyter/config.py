"""Every default in one place.

In rising order: what stands here, ``ipython_config.py`` and ``%config Qwex...``, ``QWEX_*``
in the environment, flags on the line.
"""

from __future__ import annotations

import os
from typing import Any

from traitlets import Bool, Dict, Enum, TraitError, Unicode
from traitlets.config import Configurable


class Qwex(Configurable):
    """Settings of qwex_jupyter."""

    runner = Unicode(
        "", help="Runner of a cell without --runner; '' for docker with an image, else local."
    ).tag(config=True)
    display = Enum(
        ("auto", "pane", "stream", "none"),
        "auto",
        help="What a foreground cell shows: a pane, plain text (terminals, papermill) or nothing.",
    ).tag(config=True)
    raise_error = Bool(True, help="A failed foreground run raises.").tag(config=True)
    grace = Unicode("10s", help="Between the nice and the hard way of stopping.").tag(config=True)
    timeout = Unicode("", help="Timeout of runs without --timeout; '' for none.").tag(config=True)
    profiles = Dict(help="Sets of options by name, for --profile NAME, as one text each.").tag(
        config=True
    )

    def value(self, name: str) -> Any:
        """A setting, the environment's word before the configured one.

        Raises:
            ValueError: The environment's word isn't a value of this setting.
        """
        variable = f"QWEX_{name.upper()}"
        text = os.environ.get(variable)
        if text is None:
            return getattr(self, name)
        trait = self.traits()[name]
        try:
            return trait._validate(self, trait.from_string(text))
        except (TraitError, ValueError) as error:
            allowed = trait.info()
            raise ValueError(f"{variable}={text!r} can't be used: give {allowed}.") from error
