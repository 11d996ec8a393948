"""The doctor: what works here, what doesn't, and what to do about it; within two seconds."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter._version import __version__
from qwex_jupyter.errors import QwexError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.text import plain, without_secrets
from qwex_jupyter.model.units import say_bytes, say_count
from qwex_jupyter.system import frontend, libraries

# How long it waits for whoever doesn't answer. Seconds.
_PATIENCE = 2.0
_GOOD, _BAD = "✓", "✗"
# What is ours, and what shows us: libraries whose versions a report of a mistake wants.
_OURS = "qwex-jupyter"
_FRONT_ENDS = ("ipykernel", "jupyterlab", "notebook", "jupyter-server")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: The history, or a runner.
        state: ``ok``; ``partly``, where something of it doesn't work; ``failed``; or ``silent``
            where nothing was said, or not all in time.
        lines: What was found, a sentence or a table each.
    """

    name: str
    state: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Findings:
    """What the doctor found. It holds no login and no query of an address.

    Attributes:
        checks: What was looked at.
        open_runs: How many runs have not ended.
    """

    checks: Sequence[Check]
    open_runs: int

    def text(self) -> str:
        """For a person."""
        lines = [f"qwex_jupyter {__version__}, Python {sys.version.split()[0]}, {sys.platform}"]
        lines += [line for check in self.checks for line in check.lines]
        lines.append(f"  {say_count(self.open_runs, 'run')} not ended")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """For a script, and for a report of a mistake."""
        return {
            "version": __version__,
            "python": sys.version.split()[0],
            "platform": sys.platform,
            "libraries": versions(),
            "checks": [asdict(check) for check in self.checks],
            "open_runs": self.open_runs,
        }


def versions() -> dict[str, str]:
    """The versions of what this package needs and of what shows it; of what is there."""
    from importlib import metadata  # of the first cell's time it would be a tenth

    try:
        needed = [word for word in metadata.requires(_OURS) or () if "extra ==" not in word]
    except metadata.PackageNotFoundError:
        needed = []  # it runs from a folder that nobody installed
    names = [*(re.split(r"[^\w.-]", word, maxsplit=1)[0] for word in needed), *_FRONT_ENDS]
    found = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # which is an answer too
    return found


def examine(manager: RunManager) -> Findings:
    """Looks at the history and at every runner, at all of them at once."""
    until = time.monotonic() + _PATIENCE
    answers: dict[str, list[str]] = {name: [] for name in runners.names(installed=True)}
    threads = {name: _beside(_ask, manager, name, lines) for name, lines in answers.items()}
    live = manager.recover(within=_PATIENCE)
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    free = say_bytes(shutil.disk_usage(manager.history.home).free)
    checks = [_check("history", [f"{_GOOD} history  {manager.history.home} ({free} free)"])]
    # Its import takes longer than it is worth here; whoever shows a card has tried it.
    if lacks := libraries.known_trouble(libraries.WIDGETS):
        checks.append(
            _check("widgets", [f"{_BAD} widgets  {lacks}, for live cards and the monitor."])
        )
    checks += [_heard(name, answers[name], thread) for name, thread in threads.items()]
    return Findings(checks, len(live))


def _beside(call: Callable[..., None], *words: object) -> threading.Thread:
    thread = threading.Thread(target=call, args=words, daemon=True)
    thread.start()
    return thread


def _heard(name: str, lines: Sequence[str], thread: threading.Thread) -> Check:
    """What a thread has put into a list, and whether it isn't through."""
    silent = thread.is_alive()  # asked first: what it says until it ends is all there then
    found = list(lines)
    if silent:
        slow = f"hasn't answered within {_PATIENCE:g} s; once more: %qwex doctor"
        found.append(f"    the rest {slow}" if found else f"{_BAD} {name}  It {slow}")
    elif not found:
        silent = True
        found.append(f"{_BAD} {name}  It says nothing of itself: ask who made that runner.")
    return _check(name, found, silent=silent)


def _check(name: str, found: Sequence[str], *, silent: bool = False) -> Check:
    lines = [plain(line) for line in "\n".join(found).split("\n")]
    if silent:
        state = "silent"
    elif lines[0].startswith(_BAD):
        state = "failed"
    else:
        state = "partly" if any(line.lstrip().startswith(_BAD) for line in lines) else "ok"
    return Check(name, state, lines)


def _ask(manager: RunManager, name: str, lines: list[str]) -> None:
    """Puts the lines about one runner into a list, each as soon as it is known."""
    try:
        for line in manager.runner(name).examine():
            lines.append(line)  # noqa: PERF402 - each as soon as it is known
        if runners.promises(name, "ends_with_server") and (ends := frontend.ends_with_server()):
            lines.append(f"    its runs end with {ends}, in which the notebook's server is")
    except QwexError as error:
        lines.append(f"    {error}" if lines else f"{_BAD} {name}  {error}")
    except Exception as error:  # noqa: BLE001 - a doctor who falls ill is of no use
        why = without_secrets(" ".join(str(error).split())) or type(error).__name__
        lines.append(f"    could not be examined: {why}" if lines else f"{_BAD} {name}  {why}")
