"""The verbs and options, one table for magics, command line, help and completion."""

from __future__ import annotations

import argparse
import difflib
import glob
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from qwex_jupyter.errors import SpecError
from qwex_jupyter.inputs import mount_from
from qwex_jupyter.runners.base import ABILITIES
from qwex_jupyter.spec import JobSpec, Resources, parse_env

# What only some runners understand; passed on in `JobSpec.options`.
_RUNNER_OPTIONS = (
    "pull",
    "network",
    "context",
    "entrypoint",
    "read_only",
    "namespace",
    "service_account",
    "pull_secret",
    "pod_patch",
)

# What `%%script` binds, and which stream that is.
_THEIRS = {"--out": "stdout", "--err": "stderr"}

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

SCRIPT_NAMES = {
    "python": "cell.py",
    "Rscript": "cell.R",
    "R": "cell.R",
    "node": "cell.js",
    "perl": "cell.pl",
    "ruby": "cell.rb",
    "julia": "cell.jl",
}


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving, and names the nearest option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(f"{message}. %qwex {self.prog.split()[-1]} --help lists the options.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise SpecError(message or f"exit {status}")


@lru_cache
def run_parser(verb: str = "run") -> argparse.ArgumentParser:
    """The options of ``%%qwex``, ``%qwex run`` and ``%qwex rerun``."""
    parser = _Parser(prog=f"%qwex {verb}", add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("--runner", metavar="NAME", help="where it runs: local, docker, k8s")
    add("--image", metavar="IMAGE", help="container image; without --runner it means docker")
    add("--name", metavar="NAME", help="what you call it; need not be unique")
    add(
        "-e", "--env", action="append", default=[], metavar="NAME[=VALUE]",
        help="a variable; without a value the one it has here now; NAME- takes one away",
    )  # fmt: skip
    add(
        "--env-file", action="append", default=[], metavar="FILE",
        help="NAME=VALUE lines; the values are not remembered",
    )  # fmt: skip
    add(
        "--secret", action="append", default=[], metavar="NAME",
        help="a variable whose value is written nowhere",
    )  # fmt: skip
    add("-w", "--workdir", metavar="DIR", help="the folder it works in")
    add("--cpus", metavar="N", help="CPU cores: 2, 0.5, 500m")
    add("-m", "--memory", metavar="SIZE", help="memory limit: 512m, 2GiB (powers of 1024)")
    add("--gpus", metavar="N", help="how many GPUs, or all")
    add("--shm-size", metavar="SIZE", help="size of /dev/shm (2 GiB with --gpus)")
    add("-u", "--user", metavar="USER", help="uid, uid:gid or name inside the container")
    add("-v", "--volume", action="append", default=[], metavar="SRC:DST[:ro]", help="a mount")
    add(
        "--files", action="append", default=[], metavar="PATH...",
        help="copies of these lie in the run's working folder",
    )  # fmt: skip
    add("--here", action="store_true", help="share this folder with the run, at the same path")
    add("--timeout", metavar="TIME", help="stop it that long after its start: 90, 10m, 1h30m")
    add("--start-timeout", metavar="TIME", help="give up when it has not started by then")
    add("--grace", metavar="TIME", help="between the nice and the hard way of stopping (10s)")
    add("-l", "--label", action="append", default=[], metavar="NAME=VALUE", help="a label")
    add("-d", "--detach", "--bg", action="store_true", help="return the Run at once")
    add("--as", "--proc", dest="as_name", metavar="VAR", help="bind the Run to this variable")
    add("--quiet", action="store_true", help="show nothing while it goes well")
    add("--no-raise-error", action="store_true", help="a failed run raises nothing")
    add("--dry-run", action="store_true", help="show exactly what would be handed over")
    add("--profile", metavar="NAME", help="options from Qwex.profiles")
    add("--pull", metavar="WHEN", help="get the image: missing, always or never")
    add("--network", metavar="NAME", help="the network it joins")
    add("--context", metavar="NAME", help="which of the configured backends")
    add("--entrypoint", metavar="PROGRAM", help="in place of the image's own; '' for none")
    add("--read-only", action="store_const", const="yes", help="the image's files can't change")
    add("--namespace", metavar="NAME", help="the namespace it runs in")
    add("--service-account", metavar="NAME", help="the service account of its pod")
    add("--pull-secret", metavar="NAME", help="the Secret with the login of the image's registry")
    add("--pod-patch", metavar="YAML", help="merged into its pod")
    add("--keep", action="store_true", help="leave the container or Job when it has ended")
    add("--rm", action="store_true", help="accepted; it is so anyway")
    for name in ("-i", "-t", "-it", "--interactive", "--tty"):
        add(name, dest="terminal", action="store_true", help=argparse.SUPPRESS)
    add("-h", "--help", action="store_true", help="show this")
    return parser


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of any other verb.

    Raises:
        SpecError: There is no such verb.
    """
    parser = _Parser(prog=f"%qwex {verb}", add_help=False, allow_abbrev=False)
    add = parser.add_argument
    if verb == "runs":
        add("--status", action="append", metavar="STATUS", help="only this status")
        add("--runner", action="append", metavar="NAME", help="only this runner")
        add("--since", metavar="TIME", help="only since then: 2h, 7d, 2026-11-23")
        add("--name", metavar="NAME", help="only runs of this name")
        add("-n", "--limit", type=_count, metavar="N", help="so many at the most")
    elif verb == "show":
        add("run", nargs="?", metavar="RUN")
    elif verb == "logs":
        add("run", nargs="?", metavar="RUN")
        add("-f", "--follow", action="store_true", help="until it ends")
        add("--tail", type=_count, metavar="N", help="only the last lines")
        add("--stdout", action="store_const", const="stdout", dest="stream", help="only stdout")
        add("--stderr", action="store_const", const="stderr", dest="stream", help="only stderr")
    elif verb == "attach":
        add("run", nargs="?", metavar="RUN")
    elif verb == "wait":
        add("run", nargs="*", metavar="RUN")
        add("--all", action="store_true", help="all that have not ended")
        add("--timeout", metavar="TIME", help="give up waiting after that; the runs go on")
    elif verb == "cancel":
        add("run", nargs="*", metavar="RUN")
        add("--all", action="store_true", help="all that have not ended")
        add("--grace", metavar="TIME", help="between the nice and the hard way")
    elif verb == "delete":
        add("run", nargs="+", metavar="RUN")
        add("--gone", action="store_true", help="its machine is gone for good: call it LOST")
    elif verb == "prune":
        add("--older", metavar="TIME", help="ended longer ago than this: 30d")
        add("--keep-size", metavar="SIZE", help="oldest first until the history is smaller")
        add("--status", action="append", metavar="STATUS", help="only this status")
        add("--yes", action="store_true", help="do it; without this it only lists")
    elif verb in ("monitor", "doctor"):
        pass
    else:
        near = difflib.get_close_matches(verb, [*VERBS, *ALIASES], 1)
        hint = f" Did you mean {near[0]}?" if near else f" There are {', '.join(VERBS)}."
        raise SpecError(f"%qwex {verb}: there is no such verb.{hint}")
    add("-h", "--help", action="store_true", help="show this")
    return parser


def parse_verb(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """The words behind any other verb; asked for help, nothing else is looked at.

    Raises:
        SpecError: A mistake.
    """
    parser = verb_parser(verb)
    if {"-h", "--help"} & set(words):
        return argparse.Namespace(help=True)
    return parser.parse_args(words)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a count: write a number like 10")
    return int(text)


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


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options in front, the command behind: the first word that is no option begins it.

    ``--files`` takes the words behind it that are files here; ``--`` ends the options.

    Raises:
        SpecError: ``--image`` or ``--runner`` stands behind the interpreter.
    """
    takes_value = flags_of(run_parser())
    options: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        word = rest.pop(0)
        if word == "--":
            return options, rest
        name, equals, value = word.partition("=")
        if name == "--files":
            paths = _leading_files([value] if equals else rest)
            if not paths:
                what = value if equals else " ".join(rest[:1])
                raise SpecError(f"--files: {what!r} isn't a file or folder here ({os.getcwd()}).")
            if not equals:
                del rest[: len(paths)]
            for path in paths:
                for found in sorted(glob.glob(os.path.expanduser(path))) or [path]:
                    options += ["--files", found]
            continue
        options.append(word)
        if takes_value.get(word) and rest:
            options.append(rest.pop(0))
    for word in rest[1:]:
        name = word.partition("=")[0]
        if name in ("--image", "--runner"):
            raise SpecError(
                f"{word} stands behind {rest[0]!r}, so it would be its argument: put it first, "
                f"%%qwex {word} {rest[0]} ..., or put -- before the command if it is meant so."
            )
    return options, rest


def _leading_files(words: Sequence[str]) -> list[str]:
    paths = []
    for word in words:
        path = os.path.expanduser(word)
        if word.startswith("-") or not (os.path.exists(path) or glob.glob(path)):
            break
        paths.append(word)
    return paths


def parse_run(words: Sequence[str], verb: str = "run") -> tuple[argparse.Namespace, list[str]]:
    """Options and command of a line.

    Raises:
        SpecError: A mistake, with the nearest option where one is near.
    """
    parser = run_parser(verb)
    options, command = split_command(words)
    known = flags_of(parser)
    for word in options:
        name = word.partition("=")[0]
        if name in _THEIRS:
            raise SpecError(
                f"{name}: bind the run with --as VAR and read VAR.logs({_THEIRS[name]!r})."
            )
        if name.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else " %%qwex? lists them."
            raise SpecError(f"unknown option {name}.{hint}")
    args = parser.parse_args(options)
    if args.terminal:
        raise SpecError(
            "-i and -t: a run has no keyboard and no terminal. Leave them out; values go in by "
            "-e NAME=VALUE, files by --files."
        )
    return args, command


def spec_values(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of JobSpec that a line sets, no others."""
    values: dict[str, Any] = {
        "image": args.image,
        "name": args.name,
        "env": parse_env(args.env),
        "env_files": tuple(os.path.abspath(os.path.expanduser(f)) for f in args.env_file),
        "secrets": tuple(args.secret),
        "workdir": args.workdir,
        "user": args.user,
        "volumes": tuple(mount_from(word, os.getcwd()) for word in args.volume),
        "files": tuple(args.files),
        "here": args.here,
        "timeout": args.timeout,
        "start_timeout": args.start_timeout,
        "grace": args.grace,
        "labels": _labels(args.label),
        "keep": args.keep,
        "resources": {
            name: value
            for name in ("cpus", "memory", "gpus", "shm_size")
            if (value := getattr(args, name)) is not None
        },
        "options": {
            name.replace("_", "-"): value
            for name in _RUNNER_OPTIONS
            if (value := getattr(args, name)) is not None
        },
    }
    return {name: value for name, value in values.items() if value}


def make_spec(
    args: argparse.Namespace, command: Sequence[str], cell: str | None, defaults: Mapping[str, Any]
) -> JobSpec:
    """The spec of a line and, for a cell magic, its body.

    Args:
        args: The options.
        command: The interpreter, or with no cell the program, and its arguments.
        cell: The body of the cell; None for a line magic.
        defaults: Fields for what the line doesn't set.

    Raises:
        SpecError: A value is wrong.
    """
    values = {**defaults, **spec_values(args)}
    values["resources"] = Resources(**values.get("resources", {}))
    values["env"] = _without_taken(args.env, values.get("env", {}))
    if cell is not None:
        values["script_name"] = _script_name(cell, command)
    return JobSpec(command=tuple(command), script=cell, **values)


def _without_taken(words: Sequence[str], env: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables that stay; ``NAME-`` took ``NAME`` away, which a profile may have given."""
    given = {word.partition("=")[0] for word in words}
    taken = {name for name in env if name.endswith("-") and name in words}
    for name in taken:
        if name[:-1] not in given:
            raise SpecError(
                f"-e {name}: it takes {name[:-1]} away, and no option gives one. A variable of "
                f"this kernel's own is emptied with -e {name[:-1]}=."
            )
    return {name: value for name, value in env.items() if name not in taken}


def _script_name(cell: str, command: Sequence[str]) -> str:
    """By the program, also where its version is part of it: ``python3.12``, ``#!.../env perl``."""
    if command:
        programs = [command[0]]
    else:
        first = cell.split("\n", 1)[0]
        programs = first[2:].split() if first.startswith("#!") else []
    for program in programs:
        base = os.path.basename(program).rstrip("0123456789.")
        if base in SCRIPT_NAMES:
            return SCRIPT_NAMES[base]
    return "cell.sh"


def _labels(words: Sequence[str]) -> dict[str, str]:
    labels = {}
    for word in words:
        name, _, value = word.partition("=")
        labels[name] = value
    return labels


def overview() -> str:
    """The bare ``%qwex``: what there is."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  %qwex {verb.ljust(width)}  {text}" for verb, text in VERBS.items())
    return (
        "%%qwex [options] [interpreter ...]   runs the cell: as a process, in a container "
        "(--image) or on a cluster\n"
        f"{verbs}\n"
        "A run goes by handle, unique prefix, run id, or the newest of a --name; with none it is "
        "this notebook's newest.\n"
        "%%qwex? lists the options."
    )


def help_text(verb: str) -> str:
    """The help of one verb, with the runners of each option that not all have."""
    name = ALIASES.get(verb, verb)
    parser = parser_of(name)
    lines = [f"%qwex {name}: {VERBS[name]}"]
    if name == "run":
        lines.append("%%qwex [options] [interpreter ...]  with the script in the cell, or")
        lines.append("%qwex run [options] command ...")
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or not action.option_strings:
            continue
        words = ", ".join(action.option_strings)
        value = f" {action.metavar}" if action.metavar else ""
        can = ABILITIES.get(action.option_strings[-1].lstrip("-")) or ABILITIES.get(
            next((w.lstrip("-") for w in action.option_strings if w.startswith("--")), "")
        )
        only = f" [{', '.join(can)}]" if can and len(can) < 3 else ""
        lines.append(f"  {(words + value).ljust(30)}  {action.help}{only}")
    return "\n".join(lines)
