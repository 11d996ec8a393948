"""What the monitor and a live card have in common, which is how they take wishes.

What a page sends is handled in whichever thread the kernel has for it, as nothing may wait for
it here: neither for a backend nor for the cell that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from qwex_jupyter.system import compat

# What a page loads: modules and styles, as they are.
PAGE = Path(__file__).parent / "page"


def page(*names: str) -> str:
    """The text of a page's module or of its styles, which is one for a browser, of its parts."""
    return "\n".join((PAGE / name).read_text(encoding="utf-8") for name in names)


class Widget(anywidget.AnyWidget):
    """Takes the wishes of its page, and acknowledges each at once.

    A page that gets no acknowledgement knows that the kernel is busy.

    Args:
        traits: Values of its traits.
    """

    # Computed when a page asks, so that one which is loaded anew begins with what is now.
    snapshot = traitlets.Any().tag(sync=True, to_json=lambda _, widget: widget._begin())
    # By which a page finds what the widget stands in for: it goes into the name of a class.
    place = traitlets.Unicode().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        compat.answer_while_busy(self.comm)
        self.on_msg(self._take)

    def _begin(self) -> Mapping[str, Any]:
        """What it shows at first."""
        raise NotImplementedError

    def _view(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a front end shows it by: data and metadata."""
        found: Any = super()._repr_mimebundle_(**options)
        return found if isinstance(found, tuple) else (found, {})

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        """What a page may want, and what is done then."""
        raise NotImplementedError

    def _take(self, _: Any, content: Any, __: Any) -> None:
        self.send({"kind": "ack", "number": content.get("number")})
        carry_out = self._wishes().get(str(content.get("kind")))
        if carry_out is not None:
            carry_out(content)
