"""Words to options, and options to a spec; and the help, which says what there is."""

from __future__ import annotations

import argparse
import difflib
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from qwex_jupyter import runners
from qwex_jupyter.commands.line import odd_blank
from qwex_jupyter.commands.table import (
    ALIASES,
    VERBS,
    Parser,
    parser_of,
    run_parser,
    verb_parser,
)
from qwex_jupyter.errors import QwexError, SpecError
from qwex_jupyter.manager.submission import mount_from
from qwex_jupyter.model.spec import JobSpec, Resources, parse_env
from qwex_jupyter.runners.argv import ending, interpreter
from qwex_jupyter.system.paths import current_folder, whole_path

_RUNS = ("run", "rerun")
# What `%%script` binds, and which stream that is.
_THEIRS = {"--out": "stdout", "--err": "stderr"}


def parse_verb(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """The words behind any other verb; asked for help, nothing else is looked at.

    Raises:
        SpecError: A mistake.
    """
    parser = verb_parser(verb)
    if {"-h", "--help"} & set(words):
        return argparse.Namespace(help=True)
    return parser.parse_args(words)


def split_command(
    words: Sequence[str], parser: Parser | None = None
) -> tuple[list[str], list[str]]:
    """Options in front, the command behind: the first word that is no option begins it.

    ``--files`` takes the words behind it that are files here; ``--`` ends the options.

    Args:
        words: The words of a line.
        parser: Knows which options take a value; None for that of the runner in the line.

    Raises:
        SpecError: ``--image`` or ``--runner`` stands behind the interpreter.
    """
    takes_value = (parser or parser_for(words)).flags
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
                raise SpecError(
                    f"--files: {what!r} isn't a file or folder here ({current_folder()})."
                )
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
    def is_file(word: str) -> bool:
        path = os.path.expanduser(word)
        return not word.startswith("-") and (os.path.exists(path) or bool(glob.glob(path)))

    return list(takewhile(is_file, words))


def parser_for(words: Sequence[str], verb: str = "run", *, installed: bool = False) -> Parser:
    """The parser of the runner that the options of a line name, else of none in particular.

    Args:
        words: The words of a line.
        verb: run or rerun.
        installed: Also with the options of runners of packages that nobody has named yet.

    Raises:
        SpecError: There is no such runner, or ``--runner`` stands behind the interpreter.
        RunnerUnavailable: Its package can't be used.
    """
    parser = run_parser(verb, installed=installed)
    runner = value_of("--runner", split_command(words, parser)[0], parser)
    return run_parser(verb, runner, installed=installed) if runner else parser


def value_of(option: str, options: Sequence[str], parser: Parser) -> str | None:
    """The value that the options of a line have for one of them; None where they have none."""
    found = None
    for name, value in _pairs(options, parser):
        if name == option and value is not None:
            found = value
    return found


def _pairs(options: Sequence[str], parser: Parser) -> Iterator[tuple[str, str | None]]:
    """Each option word of a line with its value, where it has one."""
    rest = iter(options)
    for word in rest:
        name, equals, value = word.partition("=")
        if equals:
            yield name, value
        else:
            yield word, next(rest, None) if parser.flags.get(word) else None


def parse_run(
    words: Sequence[str],
    verb: str = "run",
    *,
    profile: Callable[[str], Sequence[str]] = lambda _: (),
) -> tuple[argparse.Namespace, list[str]]:
    """Options and command of a line.

    Args:
        words: The words of the line.
        verb: run or rerun.
        profile: Gives the words of the profile that the line names; what the line says itself
            counts before them.

    Raises:
        SpecError: A mistake, with the nearest option where one is near.
        RunnerUnavailable: The runner's package can't be used.
    """
    for installed in (False, True):
        try:
            parser = parser_for(words, verb, installed=installed)
            front, _ = split_command(words, parser)
            chosen = value_of("--profile", front, parser)
            under = list(profile(chosen)) if chosen else []
            if under and value_of("--runner", front, parser) is None:
                parser = parser_for(under, verb, installed=installed)
            front, command = split_command(words, parser)
            below, behind = split_command(under, parser)
        except SpecError:
            if installed:
                raise
            continue  # the value of an option that isn't known yet looks like a command
        unknown = next(_unknown([*below, *front], parser), "")
        if not unknown:
            break
    if unknown.startswith("--"):  # a short one is told of with its value, by the parser itself
        near = difflib.get_close_matches(unknown, parser.flags, 1)
        hint = f" Did you mean {near[0]}?" if near else " %%qwex? lists them."
        raise SpecError(f"unknown option {unknown}.{odd_blank(unknown)}{hint}")
    if behind:
        raise SpecError(f"--profile {chosen} holds a command ({behind[0]}): options only.")
    args = parser.parse_args([*below, *front])
    for word in command[:1]:
        if (odd := odd_blank(word)) and not os.path.exists(word):
            raise SpecError(f"{word}: there is no such program.{odd}")
    if args.terminal:
        raise SpecError(
            "-i and -t: a run has no keyboard and no terminal. Leave them out; values go in by "
            "-e NAME=VALUE, files by --files."
        )
    return args, command


def _unknown(options: Sequence[str], parser: Parser) -> Iterator[str]:
    for name, _ in _pairs(options, parser):
        if name in _THEIRS:
            raise SpecError(
                f"{name}: bind the run with --as VAR and read VAR.logs({_THEIRS[name]!r})."
            )
        # The value of a short one may stand directly behind it.
        if (name if name.startswith("--") else name[:2]) not in parser.flags:
            yield name


def asks_json(verb: str, words: Sequence[str]) -> bool:
    """Whether a line of a terminal asks for JSON, one with a mistake in it too.

    Args:
        verb: Its verb.
        words: What stands behind that; what stands behind a command is the command's own.
    """
    if "--json" not in words or words[0] == "--json" or verb not in _RUNS:
        return "--json" in words
    its = words[1:] if verb == "rerun" and not words[0].startswith("-") else words
    try:
        parser = parser_for(its, verb, installed=True)
        front, _ = split_command(its, parser)
    except QwexError:
        return False  # where its options end can't be told
    return any(name == "--json" for name, _ in _pairs(front, parser))


def spec_values(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of JobSpec that a line sets, no others."""
    values: dict[str, Any] = {
        "image": args.image,
        "name": args.name,
        "env": parse_env(args.env),
        "env_files": tuple(map(whole_path, args.env_file)),
        "secrets": tuple(args.secret),
        "workdir": args.workdir,
        "user": args.user,
        "volumes": tuple(map(mount_from, args.volume)),
        "files": tuple(args.files),
        "here": args.here,
        "timeout": args.timeout,
        "start_timeout": args.start_timeout,
        "grace": args.grace,
        "labels": dict(word.partition("=")[::2] for word in args.label),
        "keep": args.keep,
        "resources": {
            name: value
            for name in ("cpus", "memory", "gpus", "shm_size")
            if (value := getattr(args, name)) is not None
        },
        "options": args.options,
    }
    return {name: value for name, value in values.items() if value}


def make_spec(
    args: argparse.Namespace,
    command: Sequence[str],
    cell: str | None,
    defaults: Mapping[str, Any],
    above: int = 0,
) -> JobSpec:
    """The spec of a line and, for a cell magic, its body.

    Args:
        args: The options.
        command: The interpreter, or with no cell the program, and its arguments.
        cell: The body of the cell; None for a line magic.
        defaults: Fields for what the line doesn't set.
        above: How many lines of the cell stand above its body.

    Raises:
        SpecError: A value is wrong.
    """
    values = {**defaults, **spec_values(args)}
    values["resources"] = Resources(**values.get("resources", {}))
    values["env"] = _without_taken(args.env, values.get("env", {}))
    spec = JobSpec(command=tuple(command), script=cell, lines_above=above, **values)
    return spec if cell is None else replace(spec, script_name=f"cell.{ending(interpreter(spec))}")


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


def listing(command: str) -> str:
    """The verbs, one a line, behind what a front end calls the command."""
    width = max(map(len, VERBS))
    return "\n".join(f"  {command} {verb.ljust(width)}  {text}" for verb, text in VERBS.items())


def overview() -> str:
    """The bare ``%qwex``: what there is."""
    return (
        "%%qwex [options] [interpreter ...]   runs the cell: as a process, in a container "
        "(--image) or on a cluster\n"
        f"{listing('%qwex')}\n"
        "A run goes by handle, unique prefix, run id, or the newest of a --name. With none, show, "
        "logs and rerun take that of the last cell, attach, wait and cancel the newest that "
        "lives.\n"
        "%%qwex? lists the options."
    )


def help_text(verb: str, runner: str | None = None) -> str:
    """The help of one verb, with the runners of each option that not all have.

    Args:
        verb: The verb.
        runner: A runner that was named beside it, whose options count first.
    """
    name = ALIASES.get(verb, verb)
    lines = [f"%qwex {name}: {VERBS[name]}"]
    if name == "run":
        lines.append("%%qwex [options] [interpreter ...]  with the script in the cell, or")
        lines.append("%qwex run [options] command ...")
    declared = runners.declarations(installed=True)
    refusable = {option for each in declared for option in each.options} if name in _RUNS else ()
    for words, option in parser_of(name, runner).options:
        shown = ", ".join(words) + (f" {option.value}" if option.value else "")
        long = words[-1].lstrip("-")
        can = [each.name for each in declared if each.honours(long)]
        only = f" [{', '.join(can)}]" if long in refusable and len(can) < len(declared) else ""
        if words == ("--runner",) and name in _RUNS:
            only = f": {', '.join(each.name for each in declared)}"
        lines.append(f"  {shown.ljust(30)}  {option.help}{only}")
    return "\n".join(lines)
