"""The monitor: every run over all runners, live in a notebook, and a table where nothing lives.

It is given its manager; the manager has never heard of it. Data flows one way: manager →
`feed` (what changed, as rows) → `pulse` (how often) → `monitor` (the widget) → ``monitor.js``;
back come only wishes, which `monitor` hands to the manager.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """This module, which can be called.

    Once it is imported it stands in the package under the name of the function that opens a
    monitor: ``qwex_jupyter.monitor()`` is to work all the same.
    """

    def __call__(self, **how: Any) -> Any:
        """See `qwex_jupyter.api.monitor`."""
        from qwex_jupyter import api

        return api.monitor(**how)


sys.modules[__name__].__class__ = _Room
