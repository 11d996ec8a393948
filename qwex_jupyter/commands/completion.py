"""Completion of a magic's line: verbs, options, runners, profiles and runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter.commands import table
from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.runners.argv import PROGRAMS

_RUN_VERBS = ("show", "logs", "attach", "wait", "cancel", "rerun", "delete")
_WORDS = {"--pull": ("missing", "always", "never"), "--status": tuple(RunStatus.__members__)}


def candidates(manager: RunManager, line: str, profiles: Mapping[str, str]) -> list[str]:
    """What the last word of a line may become.

    Args:
        manager: Whose runs are offered.
        line: The line up to the cursor, with the magic.
        profiles: Names for ``--profile``.
    """
    before = [word for word in re.split("[ \t]+", line) if word]
    last = "" if line.endswith((" ", "\t")) else before.pop()
    cell = before[0].startswith("%%") if before else False
    words = before[1:]
    if not cell and not words:
        return [verb for verb in [*table.VERBS, *table.ALIASES] if verb.startswith(last)]
    verb = "run" if cell else words[0]
    verb = table.ALIASES.get(verb, verb)
    try:
        flags = table.flags_of(table.parser_of(verb))
    except SpecError:
        return []
    option, equals, value = last.partition("=")
    if not equals:
        option, value = before[-1], last
    if flags.get(option):
        lead = f"{option}=" if equals else ""
        return [
            lead + word for word in _values(manager, option, profiles) if word.startswith(value)
        ]
    found: Iterable[str] = ()
    if last.startswith("-"):
        found = [flag for flag in flags if flag.startswith("--")]
    elif verb in _RUN_VERBS:
        found = _runs(manager)
    elif cell:
        found = [name for name in PROGRAMS if shutil.which(name)]
    return [word for word in found if word.startswith(last)]


def _values(manager: RunManager, option: str, profiles: Mapping[str, str]) -> Sequence[str]:
    if option == "--runner":
        return list(runners.NAMES)
    if option == "--profile":
        return sorted(profiles)
    if option == "--image":
        return sorted({r.image for r in _newest(manager) if r.image})
    return _WORDS.get(option, ())


def _newest(manager: RunManager) -> list[Any]:
    ids = manager.history.run_ids()[:50]
    return [manager.history.record(run_id) for run_id in ids]


def _runs(manager: RunManager) -> list[str]:
    records = _newest(manager)
    names = dict.fromkeys(record.name for record in records if record.name)
    return [*(record.handle for record in records), *names]
