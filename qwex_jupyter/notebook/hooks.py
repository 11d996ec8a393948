"""What IPython asks of us: how to show a run that a cell ends with, and what completes a line.

It stands in IPython from `%load_ext` on, so it imports nothing until it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from qwex_jupyter.errors import QwexError

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.manager.run import Run

# A line of ours up to the cursor: the magic, also behind ``name =``, or by automagic.
_OURS = re.compile(r"(?:\s*[\w., ]+=)?\s*(%%?qwex |qwex )")


def matcher(manager: Callable[[], RunManager]) -> Any:
    """Completion of verbs, options, runners and runs, and of nothing else on our lines.

    Args:
        manager: Gives the one whose runs are offered, when it is needed.
    """
    from IPython.core.completer import context_matcher

    @context_matcher(identifier="qwex_jupyter")  # type: ignore[untyped-decorator]
    def qwex_matcher(context: Any) -> Any:
        line = context.line_with_cursor[: context.cursor_position]
        found = _OURS.match(line)
        if not found or (context.cursor_line > 0 and context.full_text.startswith("%%")):
            return {"completions": []}
        return _complete(manager(), line[found.start(1) :])

    return qwex_matcher


def _complete(manager: RunManager, line: str) -> Any:
    """`candidates` as IPython's completer wants them."""
    from IPython.core.completer import SimpleCompletion

    from qwex_jupyter import config
    from qwex_jupyter.commands.completion import candidates

    try:
        found = candidates(manager, line, config.setting("profiles"))
    except (QwexError, OSError):
        found = []  # a completion never disturbs
    last = re.split("[ \t]", line)[-1]
    return {
        "completions": [SimpleCompletion(word, type="qwex") for word in found],
        "suppress": bool(found),
        "matched_fragment": last,
        "ordered": True,
    }


def install(shell: Any) -> None:
    """Has IPython show a `Run` by `show`; by its name, so that nothing is imported for it now."""
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("qwex_jupyter.manager.run", "Run", show)


def show(run: Run) -> None:
    """Shows a run; silent in the cell whose card has just shown it."""
    if run.is_shown:
        return
    from IPython.display import publish_display_data

    from qwex_jupyter import config
    from qwex_jupyter.notebook import cards, views
    from qwex_jupyter.notebook.tell import tell
    from qwex_jupyter.system import frontend

    shell = frontend.shell()
    if not frontend.is_kernel():
        tell(run._repr_mimebundle_()["text/plain"])
    elif views.has_live_cards(shell, config.setting("display")) and not run.status.final:
        manager = cast("RunManager", run.manager)
        cards.cards_of(manager).add(run, shell, cards.note_of(run))
    else:
        publish_display_data(run._repr_mimebundle_())
