"""Which verbs and options there are: one table for magics, command line, help and completion."""

from __future__ import annotations

import argparse
import difflib
from functools import lru_cache
from typing import Any, NoReturn

from qwex_jupyter.commands.line import odd_blank
from qwex_jupyter.errors import SpecError

VERBS = {
    "run": "run a command",
    "runs": "the history, a DataFrame (ps, ls)",
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

# The words of an option, and what argparse is told of it.
_Option = tuple[tuple[str, ...], dict[str, Any]]


def _option(*words: str, **more: Any) -> _Option:
    return words, more


def _flag(*words: str, **more: Any) -> _Option:
    return words, {"action": "store_true", **more}


def _each(*words: str, **more: Any) -> _Option:
    """One that may be given several times."""
    return words, {"action": "append", "default": [], **more}


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a count: write a number like 10")
    return int(text)


# The options of ``%%qwex``, ``%qwex run`` and ``%qwex rerun``.
_RUN: tuple[_Option, ...] = (
    _option("--runner", metavar="NAME", help="where it runs: local, docker, k8s"),
    _option("--image", metavar="IMAGE", help="container image; without --runner it means docker"),
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
    _option("--cpus", metavar="N", help="CPU cores: 2, 0.5, 500m"),
    _option("-m", "--memory", metavar="SIZE", help="memory limit: 512m, 2GiB (powers of 1024)"),
    _option("--gpus", metavar="N", help="how many GPUs, or all"),
    _option("--shm-size", metavar="SIZE", help="size of /dev/shm (2 GiB with --gpus)"),
    _option("-u", "--user", metavar="USER", help="uid, uid:gid or name inside the container"),
    _each("-v", "--volume", metavar="SRC:DST[:ro]", help="a mount"),
    _each("--files", metavar="PATH...", help="copies of these lie in the run's working folder"),
    _flag("--here", help="share this folder with the run, at the same path"),
    _option("--timeout", metavar="TIME", help="stop it that long after its start: 90, 10m, 1h30m"),
    _option("--start-timeout", metavar="TIME", help="give up when it has not started by then"),
    _option("--grace", metavar="TIME", help="between the nice and the hard way of stopping (10s)"),
    _each("-l", "--label", metavar="NAME=VALUE", help="a label"),
    _flag("-d", "--detach", "--bg", help="return the Run at once"),
    _option("--as", "--proc", dest="as_name", metavar="VAR", help="bind the Run to this variable"),
    _flag("--quiet", help="show nothing while it goes well"),
    _flag("--no-raise-error", help="a failed or stopped run raises nothing"),
    _flag("--dry-run", help="show exactly what would be handed over"),
    _option("--profile", metavar="NAME", help="options from Qwex.profiles"),
    _option("--pull", metavar="WHEN", help="get the image: missing, always or never"),
    _option("--platform", metavar="OS/ARCH", help="for which processor the image is: linux/arm64"),
    _option("--network", metavar="NAME", help="the network it joins"),
    _option("--context", metavar="NAME", help="which of the configured backends"),
    _option("--entrypoint", metavar="PROGRAM", help="in place of the image's own; '' for none"),
    _option(
        "--read-only", action="store_const", const="yes", help="the image's files can't change"
    ),
    _option("--namespace", metavar="NAME", help="the namespace it runs in"),
    _option("--service-account", metavar="NAME", help="the service account of its pod"),
    _option(
        "--pull-secret", metavar="NAME", help="the Secret with the login of the image's registry"
    ),
    _option("--pod-patch", metavar="YAML", help="merged into its pod"),
    _flag("--keep", help="leave the container or Job when it has ended"),
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
        _flag("--gone", help="its machine is gone for good: call it LOST"),
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


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving, and names the nearest option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.split()[-1]
        raise SpecError(f"{message}.{odd_blank(message)} %qwex {verb} --help lists the options.")


def _parser(verb: str, its: tuple[_Option, ...]) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"%qwex {verb}", add_help=False, allow_abbrev=False)
    for words, more in (*its, _HELP):
        parser.add_argument(*words, **more)
    return parser


@lru_cache
def run_parser(verb: str = "run") -> argparse.ArgumentParser:
    """The parser of ``%%qwex``, ``%qwex run`` and ``%qwex rerun``."""
    return _parser(verb, _RUN)


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of any other verb.

    Raises:
        SpecError: There is no such verb.
    """
    if verb not in _OTHERS:
        near = difflib.get_close_matches(verb, [*VERBS, *ALIASES], 1)
        hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(VERBS)}."
        raise SpecError(f"%qwex {verb}: there is no such verb.{odd_blank(verb)}{hint}")
    return _parser(verb, _OTHERS[verb])


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of any verb, by its own name or an alias."""
    name = ALIASES.get(verb, verb)
    return run_parser(name) if name in ("run", "rerun") else verb_parser(name)


def flags_of(parser: argparse.ArgumentParser) -> dict[str, bool]:
    """Option words of a parser, and whether each takes a value."""
    return {
        word: action.nargs != 0
        for action in parser._actions
        for word in action.option_strings
        if action.help != argparse.SUPPRESS or action.nargs == 0
    }
