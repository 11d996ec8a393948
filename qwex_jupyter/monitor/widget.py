"""Widget: what the monitor and a live card have in common, which is how they take wishes.

What a page sends is handled in whichever thread the kernel has for it, as nothing may wait for
it here: neither for a backend nor for the cell that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget


class Widget(anywidget.AnyWidget):
    """Takes the wishes of its page, and acknowledges each at once.

    A page that gets no acknowledgement knows that the kernel is busy.

    Args:
        traits: Values of its traits.
    """

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        _answer_while_busy(self.comm)
        self.on_msg(self._take)

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        """What a page may want, and what is done then."""
        raise NotImplementedError

    def _take(self, _: Any, content: Any, __: Any) -> None:
        self.send({"kind": "ack", "number": content.get("number")})
        carry_out = self._wishes().get(str(content.get("kind")))
        if carry_out is not None:
            carry_out(content)


def _answer_while_busy(comm: Any) -> None:
    """Has the page's messages handled in the front end's subshell, where kernels have such.

    ipykernel 7.4 sends a reply to where its comm spoke last, which is the thread of the cells.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, default: default
