"""Completion of a line, of a magic or in a shell: verbs, options, runners, profiles and runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter.commands import table
from qwex_jupyter.commands.options import split_command, value_of
from qwex_jupyter.errors import QwexError, SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.runners.argv import PROGRAMS

_PLAIN = re.compile(r"[\w@%+=:,./-]+")
_RUN_VERBS = ("show", "logs", "attach", "wait", "cancel", "rerun", "delete")


def candidates(
    manager: RunManager,
    line: str,
    profiles: Mapping[str, str],
    *,
    not_here: Collection[str] = table.TERMINAL_ONLY,
) -> list[str]:
    """What the last word of a line may become.

    Args:
        manager: Whose runs are offered.
        line: The line up to the cursor, with the magic, or with ``qwex``.
        profiles: Names for ``--profile``.
        not_here: Options that are of another front end.
    """
    before = [word for word in re.split("[ \t]+", line) if word]
    if not before:
        return []
    last = "" if line.endswith((" ", "\t")) else before.pop()
    cell = before[0].startswith("%%") if before else False
    words = before[1:]
    while words[:1] and words[0] in table.TERMINAL_ONLY and words[0] not in not_here:
        del words[0]  # it may stand in front of the verb
    if not cell and not words:
        return [verb for verb in [*table.VERBS, *table.ALIASES] if verb.startswith(last)]
    verb = "run" if cell else words[0]
    verb = table.ALIASES.get(verb, verb)
    runner = None
    try:
        parser = table.parser_of(verb)
        if verb in ("run", "rerun"):
            its = words if cell else words[1:]
            runner = _runner_in(its, parser)
            parser = table.parser_of(verb, runner)
            if verb == "run" and split_command([*its, "--x"], parser)[1]:
                return []  # a word of the command's own
    except QwexError:
        return []
    option, equals, value = last.partition("=")
    if not equals:
        option, value = before[-1], last
    if parser.flags.get(option):
        lead = f"{option}=" if equals else ""
        values = _values(manager, parser, option, profiles)
        return [lead + word for word in _plain(values) if word.startswith(value)]
    found: Iterable[str] = ()
    if last.startswith("-"):
        refused = {*not_here, *(_refused_by(runner) if runner else ())}
        found = [f for f in parser.flags if f.startswith("--") and f not in refused]
    elif verb in _RUN_VERBS:
        found = _runs(manager)
    elif cell:
        found = [name for name in PROGRAMS if shutil.which(name)]
    return [word for word in _plain(found) if word.startswith(last)]


def _plain(words: Iterable[str]) -> list[str]:
    """Those that may stand in a line as they are: no quotes are added, and no shell runs any."""
    return [word for word in words if _PLAIN.fullmatch(word)]


def _runner_in(words: Sequence[str], parser: table.Parser) -> str | None:
    """The runner that the options of an unfinished line name."""
    try:
        return value_of("--runner", split_command(words, parser)[0], parser)
    except SpecError:
        return None


def _refused_by(runner: str) -> set[str]:
    """The words of the options that some runner honours and this one doesn't."""
    known = {name for each in runners.declarations(installed=True) for name in each.options}
    declared = runners.declared(runner)
    return {f"--{name}" for name in known if not declared.honours(name)}


def _values(
    manager: RunManager, parser: table.Parser, option: str, profiles: Mapping[str, str]
) -> Sequence[str]:
    if option == "--runner":
        return runners.names(installed=True)
    if option == "--profile":
        return sorted(profiles)
    if option == "--image":
        return sorted({r.image for r in _newest(manager) if r.image})
    if option == "--status":
        return tuple(RunStatus.__members__)
    return next((its.choices for words, its in parser.options if option in words), ())


def _newest(manager: RunManager) -> list[Any]:
    ids = manager.history.run_ids()[:50]
    return [manager.history.record(run_id) for run_id in ids]


def _runs(manager: RunManager) -> list[str]:
    records = _newest(manager)
    names = dict.fromkeys(record.name for record in records if record.name)
    return [*(record.handle for record in records), *names]
