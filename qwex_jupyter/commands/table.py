"""Which verbs and options there are: one table for magics, command line, help and completion."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

from qwex_jupyter import runners
from qwex_jupyter.commands.line import odd_blank
from qwex_jupyter.errors import RunnerUnavailable, SpecError
from qwex_jupyter.model.declaration import COMMON, Declaration, Option

VERBS = {
    "run": "run a command",
    "runs": "the history: in a notebook a DataFrame, in a terminal a table (ps, ls)",
    "show": "all that is known of a run (inspect, describe)",
    "logs": "its output; -f until it ends",
    "attach": "watch it live, as its own cell did",
    "wait": "until it has ended",
    "cancel": "stop it; again to stop it at once (stop, kill)",
    "rerun": "the same again, with other options where given",
    "delete": "take it out of the history (rm)",
    "prune": "what could be deleted; --yes deletes it",
    "monitor": "all runs, live: watch, filter, cancel, rerun, compare",
    "doctor": "what works here and what doesn't",
}

ALIASES = {
    "ps": "runs",
    "ls": "runs",
    "list": "runs",
    "inspect": "show",
    "describe": "show",
    "stop": "cancel",
    "kill": "cancel",
    "rm": "delete",
}

# The options that only one of the two front ends has; the other refuses them.
NOTEBOOK_ONLY, TERMINAL_ONLY = ("--as", "--proc"), ("--json",)

# The words of an option, and what argparse is told of it.
_Option = tuple[tuple[str, ...], dict[str, Any]]


def _option(*words: str, **more: Any) -> _Option:
    return words, more


def _flag(*words: str, **more: Any) -> _Option:
    return words, {"action": "store_true", **more}


def _each(*words: str, **more: Any) -> _Option:
    """One that may be given several times."""
    return words, {"action": "append", "default": [], **more}


def _common(name: str, make: Callable[..., _Option] = _option) -> _Option:
    """One that runners declare, and that is a field of a spec."""
    option = COMMON[name]
    more = {"metavar": option.value} if option.value else {}
    return make(*filter(None, (option.short, f"--{name}")), help=option.help, **more)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a count: write a number like 10")
    return int(text)


# The options of ``%%qwex``, ``%qwex run`` and ``%qwex rerun``.
_RUN: tuple[_Option, ...] = (
    _option("--runner", metavar="NAME", help="where it runs"),
    _common("image"),
    _option("--name", metavar="NAME", help="what you call it; need not be unique"),
    _each(
        "-e",
        "--env",
        metavar="NAME[=VALUE]",
        help="a variable; without a value the one it has here now; NAME- takes one away",
    ),
    _each("--env-file", metavar="FILE", help="NAME=VALUE lines; the values are not remembered"),
    _each("--secret", metavar="NAME", help="a variable whose value is written nowhere"),
    _option("-w", "--workdir", metavar="DIR", help="the folder it works in"),
    _common("cpus"),
    _common("memory"),
    _common("gpus"),
    _common("shm-size"),
    _common("user"),
    _common("volume", _each),
    _common("files", _each),
    _common("here", _flag),
    _option("--timeout", metavar="TIME", help="stop it that long after its start: 90, 10m, 1h30m"),
    _option("--start-timeout", metavar="TIME", help="give up when it has not started by then"),
    _option("--grace", metavar="TIME", help="between the nice and the hard way of stopping (10s)"),
    _each("-l", "--label", metavar="NAME=VALUE", help="a label"),
    _flag("-d", "--detach", "--bg", help="hand it over and return at once"),
    _option(*NOTEBOOK_ONLY, dest="as_name", metavar="VAR", help="bind the Run to this variable"),
    _flag("--quiet", help="show nothing while it goes well"),
    _flag(
        "--no-raise-error",
        help="a failed or stopped run raises nothing; in a terminal the exit code is 0",
    ),
    _flag("--dry-run", help="show exactly what would be handed over"),
    _option("--profile", metavar="NAME", help="options from Qwex.profiles"),
    _common("keep", _flag),
    _flag("--rm", help="accepted; it is so anyway"),
    *(
        _flag(name, dest="terminal", help=argparse.SUPPRESS)
        for name in ("-i", "-t", "-it", "--interactive", "--tty")
    ),
)

# The options of the other verbs, of which some have the same.
_ONE = _option("run", nargs="?", metavar="RUN")
_MANY = _option("run", nargs="*", metavar="RUN")
_ALL = _flag("--all", help="all that have not ended")
_STATUS = _option("--status", action="append", metavar="STATUS", help="only this status")
_HELP = _flag("-h", "--help", help="show this")
_JSON = _flag(*TERMINAL_ONLY, help="JSON, one value a line; for terminals")
_OTHERS: dict[str, tuple[_Option, ...]] = {
    "runs": (
        _STATUS,
        _option("--runner", action="append", metavar="NAME", help="only this runner"),
        _option("--since", metavar="TIME", help="only since then: 2h, 7d, 2026-11-23"),
        _option("--name", metavar="NAME", help="only runs of this name"),
        _option("-n", "--limit", type=_count, metavar="N", help="so many at the most"),
    ),
    "show": (_ONE,),
    "logs": (
        _ONE,
        _flag("-f", "--follow", help="until it ends"),
        _option("--tail", type=_count, metavar="N", help="only the last lines"),
        _option(
            "--stdout", action="store_const", const="stdout", dest="stream", help="only stdout"
        ),
        _option(
            "--stderr", action="store_const", const="stderr", dest="stream", help="only stderr"
        ),
    ),
    "attach": (_ONE,),
    "wait": (
        _MANY,
        _ALL,
        _option("--timeout", metavar="TIME", help="give up waiting after that; the runs go on"),
    ),
    "cancel": (
        _MANY,
        _ALL,
        _option("--grace", metavar="TIME", help="between the nice and the hard way"),
    ),
    "delete": (
        _option("run", nargs="+", metavar="RUN"),
        _flag("--gone", help="where it ran is gone for good: call it LOST, and free nothing there"),
    ),
    "prune": (
        _option("--older", metavar="TIME", help="ended longer ago than this: 30d"),
        _option("--keep-size", metavar="SIZE", help="oldest first until the history is smaller"),
        _STATUS,
        _flag("--yes", help="do it; without this it only lists"),
    ),
    "monitor": (),
    "doctor": (),
}


class Parser(argparse.ArgumentParser):
    """The options of one verb. It raises instead of leaving.

    Attributes:
        options: What a help text lists, each with its words.
        flags: By each option word, whether it takes a value.
    """

    def __init__(self, verb: str, its: Iterable[_Option]) -> None:
        super().__init__(prog=f"%qwex {verb}", add_help=False, allow_abbrev=False)
        self.options: list[tuple[tuple[str, ...], Option]] = []
        self.flags: dict[str, bool] = {}
        for words, more in (*its, _JSON, _HELP):
            self.take(words, more)

    def take(self, words: tuple[str, ...], more: Mapping[str, Any], choices: Any = ()) -> None:
        """Takes one more option, or an argument."""
        action = self.add_argument(*words, **more)
        if action.option_strings:
            self.flags.update(dict.fromkeys(words, action.nargs != 0))
            if action.help != argparse.SUPPRESS:
                option = Option(action.help or "", str(action.metavar or ""), choices=choices)
                self.options.append((words, option))

    def take_own(self, name: str, option: Option) -> None:
        """Takes an option of a runner's own, whose value goes into `JobSpec.options`."""
        both = tuple(filter(None, (option.short, f"--{name}")))
        words = tuple(word for word in both if word not in self.flags)
        more: dict[str, Any] = {"metavar": option.value} if option.value else {"nargs": 0}
        more |= {"action": _IntoOptions, "dest": "options", "name": name, "help": option.help}
        self.take(words, more, option.choices)

    def error(self, message: str) -> NoReturn:
        """Says a mistake.

        Raises:
            SpecError: It.
        """
        verb = self.prog.split()[-1]
        raise SpecError(f"{message}.{odd_blank(message)} %qwex {verb} --help lists the options.")


class _IntoOptions(argparse.Action):
    """Puts a value among the options of a runner's own; one that takes none says "yes"."""

    def __init__(self, *args: Any, name: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._name = name

    def __call__(self, parser: Any, args: Any, values: Any, word: Any = None) -> None:
        text = "yes" if self.nargs == 0 else values
        args.options = {**args.options, self._name: text}


def run_parser(verb: str = "run", runner: str | None = None, *, installed: bool = False) -> Parser:
    """The parser of ``%%qwex``, ``%qwex run`` and ``%qwex rerun``.

    It has the options that every run has and those of a runner; those of the others stand in it
    too, so that one is refused with the name of a runner that can.

    Args:
        verb: Which of them.
        runner: The runner that was asked for, if any.
        installed: Also with the options of runners of packages that nobody has named yet.

    Raises:
        SpecError: There is no such runner.
        RunnerUnavailable: Its package can't be used.
    """
    asked = [runners.declared(runner)] if runner else []
    return _run_parser(verb, (*asked, *runners.declarations(installed=installed)), len(asked))


@lru_cache
def _run_parser(verb: str, declarations: tuple[Declaration, ...], asked: int) -> Parser:
    parser = Parser(verb, _RUN)
    parser.set_defaults(options={})
    core = set(parser.flags)
    for number, declaration in enumerate(declarations):
        for name, option in declaration.own_options.items():
            words = {f"--{name}", option.short}
            if number < asked and words & core:
                raise RunnerUnavailable(
                    f"The runner {declaration.name!r} can't be used: its option --{name} has the "
                    "word of one that every run has. Update the package that brings it."
                )
            if f"--{name}" not in parser.flags:
                parser.take_own(name, option)
    return parser


def verb_parser(verb: str) -> Parser:
    """The parser of any other verb.

    Raises:
        SpecError: There is no such verb.
    """
    if verb not in _OTHERS:
        near = difflib.get_close_matches(verb, [*VERBS, *ALIASES], 1)
        hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(VERBS)}."
        raise SpecError(f"%qwex {verb}: there is no such verb.{odd_blank(verb)}{hint}")
    return Parser(verb, _OTHERS[verb])


def parser_of(verb: str, runner: str | None = None) -> Parser:
    """The parser of any verb, by its own name or an alias, with the options of all runners."""
    name = ALIASES.get(verb, verb)
    if name in ("run", "rerun"):
        return run_parser(name, runner, installed=True)
    return verb_parser(name)
