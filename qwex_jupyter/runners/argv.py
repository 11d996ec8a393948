"""The words of a command: what runs a cell's script, and all of them as a line for a shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from qwex_jupyter.model.spec import JobSpec

# Programs that run a script, and how such a script's name ends.
PROGRAMS = {
    "bash": "sh",
    "sh": "sh",
    "zsh": "sh",
    "python": "py",
    "Rscript": "R",
    "R": "R",
    "node": "js",
    "perl": "pl",
    "ruby": "rb",
    "julia": "jl",
    **dict.fromkeys(("dash", "ksh", "fish"), "sh"),
    **dict.fromkeys(("ipython", "uv", "torchrun", "accelerate", "deepspeed", "coverage"), "py"),
}
_PYTHON = re.compile(r"(python|pypy)[\w.-]*")

# Options of node that take the next word, and those that don't go with its -e.
_NODE_TAKES = {"-r", "--require", "--import", "--loader", "--experimental-loader", "-C"}
_NODE_ALONE = (
    *("-c", "--check", "-e", "--eval", "-p", "--print"),
    *("--test", "--watch", "--input-type"),
)
# Node looks for what a script requires or imports beside the script, and for a script from
# stdin in the working folder, as it does for this one. So what the cell asks for is asked for
# by this one instead. All else stays as it is: the cell is the main module, and `import` works
# where node has hooks for it (18.19 and later).
_NODE = """\
{
  const M = require("module"), {readFileSync, realpathSync} = require("fs")
  const {pathToFileURL} = require("url"), here = module, main = realpathSync(process.argv[1])
  const [old, now] = [main, here.filename].map(path => pathToFileURL(path).href)
  const find = M._resolveFilename
  M._resolveFilename = (word, by, ...more) =>
    find.call(M, word, by && by.filename === main ? here : by, ...more)
  const resolve = (word, by, next) =>
    next(word, by.parentURL === old ? {...by, parentURL: now} : by)
  if (M.registerHooks) M.registerHooks({resolve})
  else if (M.register && readFileSync(main, "utf8").includes("import"))
    M.register("data:text/javascript," + encodeURIComponent(
      `const [old, now] = ${JSON.stringify([old, now])}; export const resolve = ${resolve}`))
  for (const name of ["module", "exports", "require", "__filename", "__dirname"])
    delete globalThis[name]
  M.runMain()
}
"""


def interpreter(spec: JobSpec) -> list[str]:
    """What runs the script of a spec: the command, else the ``#!`` line, else nothing yet."""
    if spec.command or spec.script is None or not spec.script.startswith("#!"):
        return list(spec.command)
    # execve(2): one interpreter and at most one argument, split at the first blank.
    line = spec.script[2:].partition("\n")[0].strip(" \t\r")
    return re.split("[ \t]+", line, maxsplit=1) if line else []


def ending(words: Sequence[str]) -> str:
    """How the name of a script ends which these words run: ``py``, ``js``, ``sh``.

    The last word that names a program of scripts decides, because others run it for us: ``env``,
    ``nice -n 5``, ``uv run``. What stands behind the script are its own arguments.
    """
    return _program(words) or "sh"


def _program(words: Sequence[str]) -> str | None:
    """`ending` of words that name a program of scripts; None for others."""
    before = words[: words.index("-")] if "-" in words else words
    for word in reversed(before):
        # The one argument that a #! line has may be the words for env.
        for part in reversed(word.split() if word.startswith("-S") else [word]):
            name = os.path.basename(part)
            if _PYTHON.fullmatch(name):
                return "py"
            if (known := PROGRAMS.get(name.rstrip("0123456789."))) is not None:
                return known
    return None


def script_text(spec: JobSpec) -> str:
    """The script as it is written for what runs it: with its lines where the cell has them.

    One that begins with ``#!`` has to do so. Nor is it known of just any program that a blank
    line means nothing to it: to PHP it is output.
    """
    script = spec.script or ""
    words = interpreter(spec)
    known = not words or _program(words) is not None
    return script if script.startswith("#!") or not known else "\n" * spec.lines_above + script


def is_python(spec: JobSpec) -> bool:
    """Whether this is a Python script, which is to see its working folder on ``sys.path``."""
    return spec.script is not None and ending(interpreter(spec)) == "py"


def script_argv(spec: JobSpec, path: str, default: Callable[[], list[str]]) -> list[str]:
    """The argv of a spec whose script lies at ``path``.

    An interpreter in the spec wins, then a ``#!`` first line, then ``default``. The first
    line is read here and not left to the kernel, so a script runs from a file system
    mounted ``noexec`` and right after it was written ("Text file busy") too.
    """
    words = interpreter(spec)
    if spec.script is None:
        return words
    words = words or default()
    if "-" not in words:
        words = [*words, "-"]
    place = words.index("-")
    before, behind = words[:place], words[place:]
    if _runs_in_node(before):
        before += ["-e", _NODE]
    return [*before, *(path if word == "-" else word for word in behind)]


def _runs_in_node(words: Sequence[str]) -> bool:
    """Whether these words end with ``node`` and options of its own, the script behind them."""
    if ending(words) != "js":
        return False
    options = list(words)
    while os.path.basename(options.pop(0)).rstrip("0123456789.") != "node":
        pass
    while options:
        option = options.pop(0)
        if not option.startswith("-") or option.startswith(_NODE_ALONE):
            return False
        if option in _NODE_TAKES and options:
            options.pop(0)
    return True


def free_mark(text: str) -> str:
    """A word that can end a text in a shell's here-document: it stands nowhere in it."""
    mark = "QWEX_CELL"
    while mark in text:
        mark += "_"
    return mark


def shell_line(argv: Iterable[str], env: Mapping[str, str | None], cwd: str | None) -> str:
    """A command as a line for a POSIX shell: in its folder, with its variables."""
    start = [f"cd {shlex.quote(cwd)} &&"] if cwd else []
    pairs = [
        f"{name}={shlex.quote(value)}" if value is not None else f'{name}="${name}"'
        for name, value in env.items()
    ]
    assign = ["env", *pairs] if pairs else []
    return " ".join([*start, *assign, shlex.join(argv)])
