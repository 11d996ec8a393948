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
        help="What a foreground cell shows: a pane, plain text (consoles, papermill) or nothing.",
    ).tag(config=True)
    raise_error = Bool(True, help="A failed or stopped foreground run raises.").tag(config=True)
    grace = Unicode("10s", help="Between the nice and the hard way of stopping.").tag(config=True)
    timeout = Unicode("", help="Timeout of runs without --timeout; '' for none.").tag(config=True)
    gpu_resource = Unicode(
        "nvidia.com/gpu", help="What a GPU is called on the cluster; for --gpus."
    ).tag(config=True)
    pod_security = Enum(
        ("baseline", "restricted"),
        "baseline",
        help="restricted for namespaces that enforce that level of Pod Security.",
    ).tag(config=True)
    job_ttl = Unicode(
        "1h", help="How long a Job stays on the cluster after its outcome and output are here."
    ).tag(config=True)
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


# What a notebook's configuration says; None elsewhere.
current: Qwex | None = None


def setting(name: str) -> Any:
    """A setting as it is now, for whoever isn't given a configuration.

    Raises:
        ValueError: See `Qwex.value`.
    """
    return (current or Qwex()).value(name)
