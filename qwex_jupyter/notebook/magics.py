"""``%%qwex`` and ``%qwex`` as IPython knows them: what they do is in `notebook.verbs`.

Loading is light: what a line needs is imported when the first one comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from qwex_jupyter import config
from qwex_jupyter.config import Qwex
from qwex_jupyter.disk import home
from qwex_jupyter.errors import AmbiguousRun, QwexError, RunNotFound, SpecError
from qwex_jupyter.notebook import hooks
from qwex_jupyter.notebook.tell import tell

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager


def load(shell: Any) -> None:
    """Registers the magics; says what is still running."""
    magic = QwexMagic(shell)
    config.current = magic.config
    # The line is expanded by our own rules (see `commands.line`), and not by IPython.
    shell.register_magic_function(no_var_expand(magic), "line_cell", "qwex")
    shell.configurables.append(magic.config)
    shell.Completer.custom_matchers.append(magic.matcher)
    hooks.install(shell)
    _greet()


def unload(shell: Any) -> None:
    """Takes the magics away. Runs go on."""
    magic = shell.magics_manager.magics["line"].pop("qwex", None)
    shell.magics_manager.magics["cell"].pop("qwex", None)
    if isinstance(magic, QwexMagic):
        shell.configurables.remove(magic.config)
        config.current = None
        shell.Completer.custom_matchers.remove(magic.matcher)


class QwexMagic:
    """The magic, as a callable that IPython registers.

    Args:
        shell: The IPython shell.
    """

    __name__ = "qwex"

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.config = Qwex(parent=shell)
        self.matcher = hooks.matcher(_manager)

    def getdoc(self) -> str:
        """What ``%%qwex?`` shows."""
        from qwex_jupyter.commands import options

        return f"{options.overview()}\n\n{options.help_text('run')}"

    def __call__(self, line: str, cell: str | None = None) -> Any:
        """Runs a line, or a cell under its line; mistakes are one line without a traceback."""
        from qwex_jupyter.notebook.verbs import NotebookVerbs
        from qwex_jupyter.system.compat import locals_of_caller

        names = {**self.shell.user_ns, **locals_of_caller()}
        verbs = NotebookVerbs(_manager, self.shell, names)
        try:
            answer = verbs.line(line) if cell is None else verbs.body(line, cell, self._blank())
        except (SpecError, RunNotFound, AmbiguousRun) as error:
            raise UsageError(str(error)) from None
        if cell is None and not line.strip():
            _greet()
        return answer

    def _blank(self) -> int:
        """How many blank lines the cell begins with, which IPython leaves out and pages number."""
        history = getattr(self.shell, "history_manager", None)
        whole = str((getattr(history, "input_hist_raw", None) or [""])[-1])
        before, found, _ = whole.partition("%%qwex")
        return before.count("\n") if found and not before.strip() else 0


def _manager() -> RunManager:
    """The manager of this process."""
    from qwex_jupyter import api

    return api.manager()


def _greet() -> None:
    """Prints what still runs, and what this notebook's runs came to; never waits for long."""
    if not home.has_news():
        return
    from qwex_jupyter.commands import verbs

    try:
        for line in verbs.news(_manager()):
            tell(line)
    except QwexError as error:
        tell(error)
