"""What a spec leaves open until submit: values, env files, its script, what it is called."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners import declared
from qwex_jupyter.system.paths import split_mount, whole_path

# MAX_ARG_STRLEN of Linux (include/uapi/linux/binfmts.h) with pages of 4 KiB.
_LONGEST = 32 * 4096
# Lines that begin like this don't tell one cell from another.
_TELLS_NOTHING = ("#", "//", "import ", "from ", "set -", "library(", "'use strict'", '"""')


def command_text(spec: JobSpec) -> str:
    """What a person would call it: the command line, or the first line of the cell."""
    line = shlex.join(spec.command)
    if spec.script is None:
        return line
    lines = [text.strip() for text in spec.script.splitlines() if text.strip()]
    telling = (text for text in lines if not text.startswith(_TELLS_NOTHING))
    first = next(telling, lines[0])
    return f"{line}: {first}" if line else first


def values(spec: JobSpec) -> dict[str, str]:
    """The values that are written into no file: secrets, inherited variables, env files.

    Raises:
        SpecError: One isn't there.
    """
    values: dict[str, str] = {}
    for path in spec.env_files:
        values.update(_env_file(os.path.join(spec.cwd or "", os.path.expanduser(path))))
    for name, value in spec.env.items():
        if value is None:
            if name not in os.environ:
                raise SpecError(f"-e {name}: there is no such variable here; write {name}=VALUE.")
            values[name] = os.environ[name]
        else:
            values.pop(name, None)
    for name in spec.secrets:
        if name not in os.environ:
            raise SpecError(
                f"--secret {name}: there is no such variable in the environment here: "
                f"set it with os.environ[{name!r}] = getpass.getpass() and run this again."
            )
        values[name] = os.environ[name]
    return values


def refuse_too_long(spec: JobSpec, values: Mapping[str, str]) -> None:
    """Refuses what no Linux executes, wherever it is: execve(2) takes no string of 128 KiB.

    Kernels with pages of 64 KiB, of a few processors for servers, would take more.

    Args:
        spec: What to run.
        values: The values that stand in no file.

    Raises:
        SpecError: A word or a variable is that long.
    """
    env = {**{name: value for name, value in spec.env.items() if value is not None}, **values}
    given = {f"the word that begins with {word[:20]!r}": word for word in spec.command}
    given |= {f"the variable {name}": f"{name}={value}" for name, value in env.items()}
    for what, text in given.items():
        size = len(text.encode("utf-8", "surrogateescape"))
        if size >= _LONGEST:
            raise SpecError(
                f"No program can be executed with that: {what} has {size:,} bytes, and fewer than "
                f"{_LONGEST:,} are possible. Write it into a file, and carry that with --files."
            )


def with_its_script(spec: JobSpec, runner: str) -> JobSpec:
    """The spec with the script that its command names, where the run couldn't reach it otherwise.

    So it is in an image, and in a folder of the run's own: there the first argument that is a
    file here goes along.

    Args:
        spec: What to run.
        runner: The name of the runner.
    """
    far = not declared(runner).promises.reads_local_paths
    away = spec.files or (far and not (spec.here or spec.workdir))
    if spec.script is not None or spec.files_of or not away:
        return spec
    script = _script_in(spec.command)
    if script is None or _lies_in(script, spec.files):
        return spec
    return replace(spec, files=(*spec.files, script))


def _script_in(command: Sequence[str]) -> str | None:
    words = (word for word in command[1:] if not word.startswith(("-", "/")))
    first = next(words, None)
    return first if first is not None and os.path.isfile(first) else None


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    there = f"{os.path.abspath(path)}/"
    return any(
        there.startswith(os.path.join(os.path.abspath(os.path.expanduser(folder)), ""))
        for folder in folders
    )


def mount_from(word: str, base: str | None = None) -> str:
    """A ``SRC:DST[:ro]`` word; a relative path counts from ``base``, or the current folder."""
    if not word.startswith((".", "~")):
        return word
    source, *rest = split_mount(word)
    return ":".join([whole_path(source, base), *rest])


def _env_file(path: str) -> dict[str, str]:
    """``NAME=VALUE`` lines as ``docker run --env-file`` reads them: no quotes, no expansion."""
    try:
        # Editors of Windows begin a file with a mark, which docker takes away too.
        with open(path, encoding="utf-8-sig", newline="") as file:
            # Split as docker does: a value may hold characters that only Python takes for a line
            # end.
            lines = [line.removesuffix("\r") for line in file.read().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it isn't UTF-8"
        raise SpecError(f"--env-file {path}: {why}.") from error
    values = {}
    for line in lines:
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not name or name.split() != [name]:
            hint = " Take export away: no shell reads it." if name.startswith("export ") else ""
            raise SpecError(
                f"--env-file {path}: {name!r} isn't the name of a variable; write NAME=VALUE.{hint}"
            )
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values
