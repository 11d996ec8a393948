"""Cause: what a headline says of a run that did not succeed, in one plain line.

It is made once, by whoever concludes the run, of how the run ended and of the end of its output,
and it is kept in the record. Pure, and never the reason for which an end can't be written down:
whatever a program printed, this takes milliseconds. Standard library only: the supervisor imports
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.model.dialects import CELL, MOST, Said, own_line, said_in
from qwex_jupyter.model.text import plain

# A cause has so many characters at the most.
LENGTH = 120
# So much of the end of each stream is looked at. Bytes.
TAIL = 16 * 1024
# And so many lines.
_LINES = 2000
# The line of the cell takes so much of it.
_ROOM = 20
# Stands in front of a line that overwrote others, as bars do.
_OVERWRITTEN = "\r"
# What curl has drawn before it says what is wrong, in the same line.
_METER = r"[\d .:kMGTP-]*(?=curl: \(\d)"
# The weight of what tells why something failed, and of a line that is only the last.
_WHY, _LAST = 2, -1
# The folder of the script inside of every container.
INSIDE = "/qwex"
# Shorter values of secrets stand in too many words by chance.
_SECRET = 6


@dataclass(frozen=True)
class Script:
    """The script of a cell: what its path is, and which of its lines is which line of the cell.

    Attributes:
        paths: The paths by which it is run, here and inside of a container.
        folder: The name of its run's folder, by which it is known where a path was shortened.
        above: So many lines of the cell stand above its first line.
    """

    paths: tuple[str, ...]
    folder: str
    above: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, Any], run_folder: str) -> Script | None:
        """The script of a spec as it stands in ``spec.json``; None where there is none.

        Args:
            spec: What was asked.
            run_folder: The folder of the run.
        """
        script, name = spec.get("script"), spec.get("script_name")
        if not script or not name:
            return None
        # Elsewhere the lines are the cell's own: the script has blank ones in front.
        above = int(spec.get("lines_above") or 0) if script.startswith("#!") else 0
        paths = (f"{run_folder}/{name}", f"{INSIDE}/{name}")
        return cls(paths, f"{run_folder.rpartition('/')[2]}/{name}", above)

    def marked(self, text: str) -> str:
        """A text in which each path of the script is `CELL`."""
        for path in self.paths:
            if " " in path or not path.endswith(self.folder):
                text = text.replace(path, CELL)
        *before, last = text.split(self.folder)
        return "".join([*(part[: _begin_of_word(part)] + CELL for part in before), last])


def _begin_of_word(text: str) -> int:
    """Where the last word of a text begins, which a blank, a quote or a bracket ends."""
    return max(map(text.rfind, " \t\n\"'()")) + 1


def of_output(
    stderr: str,
    stdout: str,
    code: int | None,
    *,
    script: Script | None = None,
    failed: Mapping[str, Any] | None = None,
    secrets: Iterable[str] = (),
    printed: bool = True,
    otherwise: str = "",
) -> str:
    """What the output of a program says of its failure.

    Args:
        stderr: The last text on stderr.
        stdout: The last text on stdout.
        code: What the process returned.
        script: The cell's script; None where a command was run.
        failed: Which command of a shell script failed first, ``line`` and ``command``.
        secrets: Values that must not be shown.
        printed: There was output, be it that none of it is here.
        otherwise: What is said where the output tells nothing that is known as an error.
    """
    hidden = _parts_of(secrets)
    errors, said = (_lines(text, script, hidden) for text in (stderr, stdout))
    found = _first_of(errors, said)
    last = _last(errors)
    if found and last and script and _was_handled(found, last, code, script):
        found = last
    if failed:
        found = _of_command(found, errors, _name_of(failed))
    if found and otherwise and found.weight == _LAST and not _complains(found):
        found = None
    line = found.line if found else 0
    words = found.words if found else ""
    if failed:
        line, command = int(failed.get("line") or 0), " ".join(str(failed.get("command")).split())
        words = _with_command(words or otherwise, _masked(command, hidden), code)
    words = words or otherwise or _last_of(errors, said, code, printed=printed)
    return fitted(words.replace(CELL, "cell"), line + script.above if script and line else 0)


def of_message(message: str) -> str:
    """The cause that a message begins with: its first sentence."""
    return fitted(_first(message)[0])


def of_number(message: str) -> str:
    """What a message knows of an exit code or a signal; "" where that is nothing."""
    first = _first(message)[0]
    told = re.sub(r"^Exit code \d+( \(\w+\))?: ", "", first)
    return "" if first.startswith("Exit code ") and told == first else told


def beyond(message: str, cause: str) -> str:
    """What a message says that its cause does not: above all, the next step."""
    first, rest = _first(message)
    bare = re.fullmatch(r"Exit code \d+(, and it printed nothing)?", first)
    missing = first.startswith("Exit code 127: ") and "not found" in cause
    # Behind it stand the command and the line of the cell.
    said = cause and first.endswith(cause.partition(" · ")[0])
    return rest if cause and (bare or missing or said) else message


def tells_code(code: int | None, cause: str) -> bool:
    """Whether an exit code tells something: 0 and 1 don't, nor what the cause says already."""
    return code not in (None, 0, 1) and f"exit code {code}" not in cause


def without(text: str, secrets: Iterable[str]) -> str:
    """A text without the values of secrets."""
    return _masked(text, _parts_of(secrets))


def fitted(words: str, line: int = 0) -> str:
    """The words in one line, not too long, with the line of the cell behind them."""
    text = " ".join(plain(words.expandtabs(1)).split())
    where = f" · cell line {line}" if line else ""
    room = LENGTH - len(where)
    return (text if len(text) <= room else f"{text[: room - 1]}…") + where


def _first(message: str) -> tuple[str, str]:
    first, _, rest = message.partition(". ")
    return first.removesuffix("."), rest


def _lines(text: str, script: Script | None, hidden: Iterable[str]) -> list[str]:
    """The lines of an output without what a terminal obeys; what is too long loses its middle."""
    lines = text[-TAIL - 1 :].replace(CELL, "").split("\n")
    text = "\n".join(map(_last_state, lines))
    text = _masked(script.marked(text) if script else text, hidden)
    return [
        line.rstrip() if len(line) <= MOST else f"{line[: MOST - 201]}…{line[-200:].rstrip()}"
        for line in text.split("\n")[-_LINES:]
    ]


def _last_state(line: str) -> str:
    """What is left of a line that was overwritten, with a mark in front that it was."""
    before, _, last = line.rstrip("\r").rpartition("\r")
    if found := re.match(_METER, last):
        return plain(last[found.end() :])
    return (_OVERWRITTEN if before.strip() else "") + plain(last)


def _parts_of(secrets: Iterable[str]) -> list[str]:
    """What is to be hidden: each line of each value, as a key of many lines is printed in lines."""
    parts = {part.strip() for value in secrets for part in (value, *value.splitlines())}
    return sorted((part for part in parts if len(part) >= _SECRET), key=len, reverse=True)


def _masked(text: str, hidden: Iterable[str]) -> str:
    for part in hidden:
        text = text.replace(part, "***")
    return text


def _was_handled(found: Said, last: Said, code: int | None, script: Script) -> bool:
    """Whether a program went on behind a traceback: those that end Python return 1."""
    went_on = found.at < last.at and found.code not in (None, code) and code is not None
    return went_on and script.folder.endswith(".py") and _complains(last)


def _name_of(failed: Mapping[str, Any]) -> str:
    """The name of the command that failed."""
    return str(failed.get("command")).strip().split(" ")[0].rpartition("/")[2]


def _of_command(found: Said | None, errors: list[str], name: str) -> Said | None:
    """What can be of the command that failed: one that says nothing itself isn't behind the rest.

    Args:
        found: What tells the cause.
        errors: The lines of stderr.
        name: The command's name.
    """
    quiet = name in _QUIET or name.startswith("((")
    if found and not quiet and (found.weight != _LAST or _complains(found)):
        return found
    own = re.compile(rf"(?:.{{0,200}}: )?{re.escape(name)}: .")
    for at in range(len(errors) - 1, -1, -1):
        if own.match(errors[at]):
            return _of_shell(errors[at].strip(), at)
    return None


def _first_of(errors: list[str], said: list[str]) -> Said | None:
    """What tells the cause: an error of a language, else the last line that complains."""
    found = said_in(errors)
    if found and found.weight == _WHY:
        return found
    last = _last(errors)
    if last and last.words.startswith("make: *** ["):
        return _before_make(errors, last)
    printed = said_in(said)
    if printed and printed.weight == _WHY and not (last and _complains(last)):
        return printed
    if found and found.weight:
        return found
    if last and not _is_talk(last.words):
        return last
    told = _last(said)
    return printed or found or (told if told and _complains(told) else None)


# What these say begins with their name, if they say anything.
_QUIET = ("test", "[", "[[", "let", "false", "grep", "egrep", "diff", "cmp", "cd")
_COMPLAINT = (
    r"(?i)error|fail|fatal|exception|cannot|can't|could not|couldn't|unable|denied|not found"
    r"|no such|invalid|missing|refused|abort|usage:"
)
# What is said on stderr while all goes well.
_TALK = r"^\W*(INFO|DEBUG|NOTICE|WARN(ING)?)\b|(^|[\s:])\w*Warning: |\d+%\|| INFO "
# What follows an error and says nothing of it.
_FOLLOWS = re.compile(
    r"\t|    at |Execution halted$|exit status \d+$|note: run with |stack traceback:"
    r"|tar: (Error is not recoverable|Exiting with failure)|collect2: error: ld returned "
    r"| *\d* \| "
)
# What a shell says before a complaint of its own: `cell.sh: line 3: `, in others `cell.sh: 3: `.
_SHELL = rf"(?:\S{{1,200}}: )?{CELL}:(?: line)? ?(\d{{1,7}}):(?:\d+:)? ?(.*)"
_KILLED = r"\d+ ([A-Z][a-z]+(?: \w+)?) +(?:\(core dumped\) +)?(\S.*)"


def _complains(said: Said) -> bool:
    return not _is_talk(said.words) and bool(said.line or re.search(_COMPLAINT, said.words))


def _is_talk(words: str) -> bool:
    return re.search(_TALK, words) is not None


def _last(lines: list[str]) -> Said | None:
    """The last line that says something; of what overwrote itself only where there is no other."""
    bar: Said | None = None
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        text = line.strip()
        if not any(map(str.isalnum, text)) or re.match(_FOLLOWS, line):
            continue
        if line[:1] == " " and at and _is_talk(lines[at - 1]):
            continue  # the source of a warning
        made = _of_shell(text, at)
        if line[0] != _OVERWRITTEN:
            return made
        bar = bar or made
    return bar


def _of_shell(text: str, at: int) -> Said:
    """A complaint of a shell without the path and the line, which are said behind it."""
    if traced := re.match(r"\++ (.*)", text):
        return Said(f"`{traced[1]}` failed", 0, at, _LAST)
    if not (found := re.fullmatch(_SHELL, text)):
        return Said(text, own_line(text), at, _LAST)
    killed = re.fullmatch(_KILLED, found[2].strip())
    words = f"{killed[1]}: {' '.join(killed[2].split())}" if killed else found[2]
    return Said(words, int(found[1]), at, _LAST)


def _before_make(errors: list[str], last: Said) -> Said:
    """What make breaks off for: the first complaint of a compiler, else the line before its own."""
    for at, line in enumerate(errors):
        if re.match(r"\S{1,300}:\d+: (fatal )?error: ", line):
            return Said(line, 0, at)
    before = _last([line for line in errors[: last.at] if not line.startswith("make")])
    return before or last


def _with_command(words: str, command: str, code: int | None) -> str:
    """What was said, with the command that failed where that isn't named in it and has room."""
    name = command.split(" ")[0].rpartition("/")[2]
    if not words:
        returned = f" with exit code {code}" if tells_code(code, "") else ""
        return f"`{command}` failed{returned}"
    named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) is not None
    behind = f" · `{command if len(command) <= 40 else f'{command[:39]}…'}`"
    fits = len(words) + len(behind) <= LENGTH - _ROOM
    return words + behind if fits and not named else words


def _last_of(errors: list[str], said: list[str], code: int | None, *, printed: bool) -> str:
    """What is said of a program that told no cause: its exit code, and its last line."""
    if last := _last(errors) or _last(said):
        return f"exit code {code}, last line: {last.words}"
    return f"exit code {code}" if printed else f"exit code {code}, printed nothing"
