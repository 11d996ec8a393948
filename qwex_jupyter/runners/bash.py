"""Which command of a bash script failed: what bash is asked, and what is made of its answer.

Bash reads a file that ``BASH_ENV`` names before it runs a script. Ours takes itself out of the
environment, reads the user's own, and sets a trap on ERR that says, in a file and nowhere else,
where ``set -e`` ends the script. Where something else would be seen then than without it, it
isn't given at all; and an answer that isn't found in the script again is none.

Standard library only: the supervisor imports this module.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# By which our file learns of the user's own BASH_ENV.
_THEIRS = "QWEX_BASH_ENV"
# Variables with which bash doesn't read BASH_ENV, or prints what it reads.
_ODD = {"POSIXLY_CORRECT", "SHELLOPTS", "BASH_XTRACEFD"}
# Options with which bash reads BASH_ENV, and prints none of it that can't be hidden.
_LETTERS = re.compile(r"[-+][eux]*o?")
_NAMES = {"errexit", "nounset", "pipefail", "xtrace"}
# A trap that a script may set of its own: one for its end. Others may be of ERR themselves, or
# run commands of which bash tells another one.
_AT_END = re.compile(
    r"""\s+(--\s+)?(-|'[^']*'|"[^"]*"|[\w.]+)\s+(EXIT|0)[ \t]*(?=[;#\n]|\Z)""", re.IGNORECASE
)
# What would show it in any other way, or have it end the script.
_SHOWS = re.compile(r"BASH_XTRACEFD|extdebug|LINENO=|\bulimit\b.*-\w*f")
# It goes into functions (`set -E`) where there are any, the script doesn't look at its options,
# and nothing is in the background: `(cd x && y) &` is one process, and two with a trap in it,
# of which a kill ends one.
_FUNCTION = re.compile(r"\bfunction\s|[\w:.-]\s*\(\s*\)")
_OPTIONS = re.compile(r"\$\{?-|SHELLOPTS|\bshopt\b|\bset\s+[-+]o\s*($|[;|)>&])", re.MULTILINE)
_BACKGROUND = re.compile(r"(?<![&><|])&(?![&>\d-])")

# What is taken of a command, and how much of it is told. Characters.
_MOST, _TOLD = 500, 200
# Only its first command still knows what failed. It says so once, as what comes later is what the
# script does about its end. A subshell that fails is told of by the shell that waits for it.
_BODY = (
    "{ case $BASH_SUBSHELL$- in 0*e*) { "
    'builtin printf "%s\\n" qwex.failed "$?" "$LINENO" "${#PIPESTATUS[@]}" "${#BASH_LINENO[@]}" '
    '"${BASH_LINENO[${#BASH_LINENO[@]}-2]-}" "${BASH_SOURCE[0]-}" "${BASH_COMMAND:0:MOST}" '
    "qwex.end >> TOLD; trap - ERR; } || :;; esac; } 2>/dev/null"
)
# Before 4.4 bash tells other lines and commands. `.` gives the status of the last command that it
# reads, which means nothing for a BASH_ENV.
_FILE = """\
{
if [ "${THEIRS-}" ]; then BASH_ENV=$THEIRS; else unset BASH_ENV; fi
unset THEIRS
if [ -z "${BASH_ENV-}" ]; then
case $BASH_VERSION in [0-3].* | 4.[0-3].*) ;; *) SET ;; esac
return 0
fi
} 2>/dev/null
eval "[ ! -e \\"QUOTED\\" ] || . \\"QUOTED\\"" || { :; } 2>/dev/null
{
case $BASH_VERSION$(trap -p ERR) in *trap* | [0-3].* | 4.[0-3].*) ;; *) SET ;; esac
} 2>/dev/null
"""
# Bash expands what stands in a BASH_ENV, as between double quotes.
_QUOTED = '${BASH_ENV//\\"/\\\\\\"}'
_ANSWER = re.compile(
    r"^qwex\.failed\n(\d+)\n(\d+)\n(\d+)\n(\d+)\n(\d*)\n(.*)\n((?s:.*?))\nqwex\.end(?:\n|\Z)",
    re.MULTILINE,
)
_WORD = re.compile(r"[^\s;&|()<>]+|[&|()<>]")
# With these a line's commands aren't told apart by what stands between them.
_NESTED = re.compile(r"""['"`\\({]|\b(?:while|until|for|select|if|case)\b""")
# How far around a line a command is looked for. Lines.
_AROUND = 300
# A redirection of several commands: where that fails, bash tells of the command before.
_REDIRECTED = re.compile(
    r"(?:\b(?:done|fi|esac)|[})])[ \t]*\d*(?:&>>?|>>?|<>|<|>\|)[ \t]*[^\s<>&(]"
)


def can_tell(words: Sequence[str], script: str | None) -> bool:
    """Whether a script is run by a bash that can be asked, and is the same when it is.

    Args:
        words: What runs it, up to its path.
        script: Its text; None where there is none.
    """
    if script is None or _options(words) is None or _SHOWS.search(script):
        return False
    return all(_AT_END.match(script, word.end()) for word in re.finditer(r"\btrap\b", script))


def prints(words: Sequence[str]) -> bool:
    """Whether these words have bash print what it does (``-x``), and what it reads before."""
    return "xtrace" in (_options(words) or ())


def _options(words: Sequence[str]) -> set[str] | None:
    """The options of bash in the words that run a script; None where others may be among them."""
    rest = list(words)
    if rest and os.path.basename(rest[0]) == "env":
        del rest[0]
    if not rest or os.path.basename(rest.pop(0)) != "bash":
        return None
    found = set()
    while rest:
        word = rest.pop(0)
        if not _LETTERS.fullmatch(word) or (word.endswith("o") and not rest):
            return None
        found |= {"xtrace"} if "x" in word else set()
        if word.endswith("o"):
            found.add(rest.pop(0))
    return found if found <= _NAMES else None


def variables(env: Mapping[str, str], words: Sequence[str], file: str) -> dict[str, str]:
    """The variables by which bash is asked; {} where it can't be.

    Args:
        env: All that it has else.
        words: What runs the script.
        file: Where `env_file` lies.
    """
    theirs = env.get("BASH_ENV", "")
    if _ODD & env.keys() or (theirs and prints(words)):
        return {}
    return {"BASH_ENV": file, **({_THEIRS: theirs} if theirs else {})}


def shell_text(words: Sequence[str], file: str) -> str:
    """The same as a command for a shell, which knows what an image has given it."""
    if prints(words):
        return f'[ "${{BASH_ENV-}}" ] || export BASH_ENV={shlex.quote(file)}'
    return f'export {_THEIRS}="${{BASH_ENV-}}" BASH_ENV={shlex.quote(file)}'


def env_file(told: str, script: str) -> str:
    """The text of the file that ``BASH_ENV`` names.

    Args:
        told: The file that is to say what failed.
        script: The script.
    """
    inside = _FUNCTION.search(script) and not any(
        seen.search(script) for seen in (_OPTIONS, _BACKGROUND)
    )
    body = _BODY.replace("MOST", str(_MOST)).replace("TOLD", shlex.quote(told))
    trap = f"{'set -E; ' if inside else ''}trap {shlex.quote(body)} ERR"
    return _FILE.replace("THEIRS", _THEIRS).replace("QUOTED", _QUOTED).replace("SET", trap)


def split(text: str) -> tuple[str, str]:
    """What bash told, and what else stands in the same file."""
    found = _ANSWER.search(text)
    return (found[0], text[: found.start()] + text[found.end() :]) if found else ("", text)


def failed(answer: str, script: str, path: str) -> dict[str, Any] | None:
    """The line and the command that ended a script, as its evidence; None where that isn't sure.

    Args:
        answer: What bash told.
        script: The script, as it was run.
        path: Where it lay.
    """
    found = _ANSWER.search(answer)
    if found is None:
        return None
    status, line, piped, frames, outer = (int(number or 0) for number in found.groups()[:5])
    own = found[6] == path
    # Bash gives what a trap does at the end the line 1, and the command before it for its own.
    at_end = "trap" in script and (outer if frames > 1 else line) == 1
    unsure = status == 1 and piped == 1 and _REDIRECTED.search(script)
    lines, near = script.split("\n"), line if own else outer
    if at_end or unsure or not 1 <= near <= len(lines):
        return None
    first, text = near, lines[near - 1]
    if own and piped > 1:
        first, text = _pipe_at(lines, near)
    elif own:
        first, text = _command_at(lines, near, found[7])
    if text != found[7] and re.search(r"\beval\b", script):
        return None  # what that runs counts its own lines
    told = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not told or told.startswith("#"):
        return None
    return {"line": first, "command": told if len(told) <= _TOLD else f"{told[: _TOLD - 1]}…"}


def _command_at(lines: Sequence[str], near: int, command: str) -> tuple[int, str]:
    """A command and the line in which it begins, or the line itself, or ""."""
    if begin := _begin_of(command, lines, near):
        return begin, command
    first, *_ = [*_WORD.findall(command), ""]
    # A function's `return` is told with the line that called it.
    same = first == "return" or first in _WORD.findall(lines[near - 1])
    return near, lines[near - 1] if same else ""


def _begin_of(command: str, lines: Sequence[str], near: int) -> int:
    """The line in which a command begins that goes over a line; 0 where there is none."""
    wanted = _WORD.findall(command)
    cut = len(command) >= _MOST
    if cut:
        del wanted[-1:]
    words = list(_words(lines, max(1, near - _AROUND), near + _AROUND))
    begin = 0
    for at, (line, word) in enumerate(words):
        if line > near or not wanted:
            break
        if word != wanted[0] or [each for _, each in words[at : at + len(wanted)]] != wanted:
            continue
        if cut or words[at + len(wanted) - 1][0] >= near:
            begin = line
    return begin


def _words(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines[first - 1 : last], first):
        for word in _WORD.findall(line.removesuffix("\\")):
            yield number, word


def _pipe_at(lines: Sequence[str], line: int) -> tuple[int, str]:
    """The lines of the pipe that goes over a line, and the first of them; "" for none."""
    first = last = line
    while first > 1 and (
        lines[first - 2].rstrip().endswith(("|", "|&", "\\"))
        or lines[first - 1].lstrip().startswith("|")
    ):
        first -= 1
    while last < len(lines) and lines[last - 1].rstrip().endswith(("|", "|&", "\\")):
        last += 1
    text = " ".join(part.rstrip().removesuffix("\\") for part in lines[first - 1 : last])
    # The one pipe among the commands of the line, where these are plain.
    if not _NESTED.search(text):
        pipes = [part for part in re.split(r";|&&|\|\|", text) if "|" in part]
        text = pipes[0] if len(pipes) == 1 else text
    return first, text if "|" in text else ""
