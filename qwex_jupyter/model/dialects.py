"""How languages say that they fail: what stands in a program's output, and where in the cell.

Each function here looks through the lines of one stream and gives what it found. The lines come
from whatever a program printed: no text may keep one of these busy, so lines are short, and no
pattern looks at one more than a few times. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

# Stands in the lines for the path of the cell's script, however it was written.
CELL = "\ue000"
# What is looked at of a line.
MOST = 1000


@dataclass(frozen=True)
class Said:
    """An error that was found.

    Attributes:
        words: What is said of it.
        line: The line of the script at which it is, as the program counts; 0 where none is known.
        at: The number of the line of output that says it.
        weight: How much it tells: nothing of an end, that something else failed, or why.
        code: What a program returns that it ends, where that is known.
    """

    words: str
    line: int = 0
    at: int = 0
    weight: int = 2
    code: int | None = None


def said_in(lines: Sequence[str]) -> Said | None:
    """The last error in these lines, in whichever language; None where none is known as one."""
    found = [said for dialect in _DIALECTS for said in dialect(lines)]
    return max(found, key=lambda said: (said.weight, said.at), default=None)


def own_line(text: str) -> int:
    """The line of the cell that a text names; 0 for none."""
    found = re.search(CELL + r'(?:"?,? line |:)(\d{1,7})', text)
    return int(found[1]) if found else 0


# Python: `Type: message` behind a traceback, as Python, rich and IPython print one.

_HEAD = "Traceback (most recent call last)"
_TYPE = r"[A-Za-z_][\w.<>]*"
_EXCEPTION = rf"({_TYPE})(:( .*)?)?"
_SYNTAX = ("SyntaxError: ", "IndentationError: ", "TabError: ")
# A traceback behind one of these ended nothing.
_PASSING = (
    *("Exception ignored", "--- Logging error", "Error in atexit", "Task exception was never"),
    "future: <",
)
# What only says that something else failed, and what only cleans up.
_FOLLOWS, _CLEANS = "ChildFailedError", "resource_tracker.py"


def _python(lines: Sequence[str]) -> Iterator[Said]:
    after = 0
    for at, line in enumerate(lines):
        if at < after or _HEAD not in line:
            continue
        before, _, behind = line.partition(_HEAD)
        if behind.strip(" :"):
            made = _in_a_box(lines, at)
        elif re.fullmatch(rf"{_TYPE} +", before):
            made = _of_ipython(lines, at, before.strip())
        else:
            made = _of_python(lines, at, before)
        if made is None:
            continue
        after = made.at
        passing = at > 0 and lines[at - 1].startswith(_PASSING)
        follows = made.words.partition(":")[0].endswith(_FOLLOWS)
        cleans = not made.line and any(_CLEANS in line for line in lines[at : made.at])
        yield replace(made, weight=0 if passing or cleans else 1 if follows else 2, code=1)


def _of_python(lines: Sequence[str], at: int, prefix: str) -> Said | None:
    """What stands behind the frames; launchers of many processes put a prefix before each line."""
    if grouped := prefix.endswith("Exception Group "):
        prefix = prefix.removesuffix("Exception Group ").replace("+", "|")
    if at + 1 < len(lines) and not lines[at + 1].startswith(prefix):
        prefix = ""  # a bar that was drawn before it stands there
    own = 0
    for place in range(at + 1, len(lines)):
        if not lines[place].startswith(prefix):
            continue
        text = lines[place][len(prefix) :]
        if not text or text[0].isspace():
            own = own_line(text) or own if text.lstrip().startswith("File ") else own
            continue
        if not re.fullmatch(_EXCEPTION, text):
            return None
        if grouped and (first := _first_of_group(lines, place, text)):
            return Said(first.words, first.line or own, first.at)
        rest = (line.removeprefix(prefix) for line in lines[place + 1 : place + 20])
        return Said(_with_message(text, rest), own, place)
    return None


def _with_message(text: str, rest: Iterator[str]) -> str:
    """A first line, with the next that isn't blank where it has no message."""
    if not text.rstrip().endswith(":"):
        return text
    return f"{text.rstrip()} {next(filter(_says, map(str.strip, rest)), '')}"


def _says(line: str) -> bool:
    return any(map(str.isalnum, line))


def _first_of_group(lines: Sequence[str], at: int, group: str) -> Said | None:
    """The first exception of a group, and which group that is."""
    own = 0
    for place in range(at + 1, len(lines)):
        if not lines[place].startswith(" "):
            return None
        text = lines[place].lstrip(" ")
        if not text.startswith("| "):
            continue
        text = text[2:]
        if text.lstrip().startswith("File "):
            own = own_line(text) or own
        elif re.fullmatch(_EXCEPTION, text) and "Group" not in text.partition(":")[0]:
            found = re.fullmatch(r"(.*) \((\d+) sub-exceptions?\)", group)
            name, count = (found[1], int(found[2])) if found else (group, 1)
            which = f"1 of {count} in {name}" if count > 1 else f"in {name}"
            return Said(f"{text} ({which})", own, place)
    return None


def _of_ipython(lines: Sequence[str], at: int, name: str) -> Said | None:
    own = 0
    for place in range(at + 1, len(lines)):
        text = lines[place]
        if text.startswith("File "):
            own = own_line(text) or own
        elif text == name or text.startswith(f"{name}:"):
            return Said(_with_message(text, iter(lines[place + 1 : place + 20])), own, place)
    return None


def _in_a_box(lines: Sequence[str], at: int) -> Said | None:
    """What stands below a box of rich, which breaks lines at its own width."""
    width, own = len(lines[at]), 0
    for place in range(at + 1, len(lines)):
        text = lines[place]
        if text[:1] in ("│", "|"):
            own = own_line(text) if text[2:3] == CELL else own
            continue
        if text[:1] in ("╰", "+") or not text.strip():
            continue
        if not re.fullmatch(_EXCEPTION, text):
            return None
        for more in lines[place + 1 : place + 4]:
            if not more or len(lines[place]) + len(more.split(" ")[0]) < width - 1:
                break
            text, place = f"{text.rstrip()} {more}", place + 1
        return Said(text, own, place)
    return None


def _python_syntax(lines: Sequence[str]) -> Iterator[Said]:
    """What can't be read has no traceback: a line that names the file, the source, the error."""
    for at, line in enumerate(lines):
        if line.startswith(_SYNTAX):
            above = [text for text in lines[max(0, at - 5) : at] if text.lstrip()[:5] == "File "]
            if above:
                yield Said(line, own_line(above[-1]), at)


def _python_crash(lines: Sequence[str]) -> Iterator[Said]:
    for at, line in enumerate(lines):
        if line.startswith("Fatal Python error: "):
            yield Said(line, _first_own(lines[at + 1 : at + 100]), at)


def _pytest(lines: Sequence[str]) -> Iterator[Said]:
    for at, line in enumerate(lines):
        if at and lines[at - 1] == "" and re.fullmatch(rf"\S{{1,300}}:\d+: {_TYPE}", line):
            first = at - 1
            while first and (lines[first - 1].startswith("E ") or lines[first] == ""):
                first -= 1
            said = [text[2:].strip() for text in lines[first:at] if text.startswith("E ")]
            if said:
                yield Said(said[0], own_line(line), at)


def _first_own(lines: Sequence[str]) -> int:
    return next((number for line in lines if (number := own_line(line))), 0)


# The others.


def _node(lines: Sequence[str]) -> Iterator[Said]:
    """Node shows the source with a mark below; what was thrown, and the stack, follow."""
    for at, line in enumerate(lines):
        if line.strip() and not line.strip(" ^") and at >= 2:
            heads = [text for text in lines[max(0, at - 4) : at - 1] if re.match(_NODE_HEAD, text)]
            place = next((n for n in range(at + 1, min(at + 9, len(lines))) if lines[n].strip()), 0)
            if not heads or not place:
                continue
            stack = _stack(lines, place + 1)
            own = _first_own([text for text in stack if text.startswith("    at ")])
            yield Said(lines[place], own or own_line(heads[-1]), place)
        elif line.startswith("    at ") and re.search(r":\d+:\d+\)?$", line):
            above = lines[at - 1] if at else ""
            if re.match(r"(Uncaught )?[A-Za-z_$][\w$.]*(Error|Exception)\b", above):
                yield Said(above, _first_own(_stack(lines, at)), at - 1)


_NODE_HEAD = r"\S.*:\d+$"


def _stack(lines: Sequence[str], at: int) -> Sequence[str]:
    """As far as a stack may go: that of node ends with its version."""
    found = lines[at : at + 60]
    end = next((n for n, text in enumerate(found) if text.startswith("Node.js v")), len(found))
    return found[:end]


def _r(lines: Sequence[str]) -> Iterator[Said]:
    """R says ``Error in CALL : message``, a long one on the next line, and then that it ends."""
    if "Execution halted" not in lines:
        return
    for at, line in enumerate(lines):
        if re.match(r"Error(:| in )", line):
            text = _with_message(line, iter(lines[at + 1 : at + 4]))
            yield Said(re.sub(r":\s+!\s", ": ", text), 0, at)


def _julia(lines: Sequence[str]) -> Iterator[Said]:
    for at, line in enumerate(lines):
        if not line.startswith("ERROR: "):
            continue
        below = lines[at + 1 : at + 200]
        if not any(text.startswith(("Stacktrace:", "in expression starting")) for text in below):
            continue
        words = line.removeprefix("ERROR: ")
        while words.startswith("LoadError: "):
            words = words.removeprefix("LoadError: ")
        if words == "ParseError:":
            marks = [text.partition("──")[2].strip() for text in below if "──" in text]
            words = f"{words} {next(filter(None, marks), '')}"
        yield Said(words, _first_own(below), at)


def _ruby(lines: Sequence[str]) -> Iterator[Said]:
    """Ruby shows what was raised first, below it where from, then what that came of."""
    for at, line in enumerate(lines):
        found = re.match(r"(\S.{0,300}?):(\d+)(?::in [`'].{0,200}?')?: (.+)", line)
        raised = found and (": " in line and re.search(r":\d+:in [`']", line))
        if found and (raised or found[3].startswith("syntax error")):
            yield Said(found[3], _first_own(lines[at : at + 100]), at)
            return


def _perl(lines: Sequence[str]) -> Iterator[Said]:
    """Perl's last complaint, unless something else was said after it."""
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if not line.strip() or line.startswith(_PERL_FOLLOWS) or " called at " in line:
            continue
        found = re.fullmatch(_PERL, line)
        if found and found[1]:
            words = found[1].partition(" (@INC")[0]
            where = "" if found[2] == CELL else f" at {found[2]} line {found[3]}"
            more = found[5] if found[5] != "." else ""
            own = int(found[3][:7]) if found[2] == CELL else 0
            yield Said(f"{words}{where}{more}", own, at)
        return


_PERL = r"(.*) at (.+) line (\d+)(, <.{0,80}> \w+ \d+)?(\.|, (near|at) .*)"
_PERL_FOLLOWS = ("BEGIN failed--", "Execution of ", "Compilation failed in ", "\t")


def _php(lines: Sequence[str]) -> Iterator[Said]:
    for at, line in enumerate(lines):
        if re.match(r"(PHP )?(Fatal|Parse) error: ", line):
            words = " ".join(line.split())
            cut = re.sub(rf" in {CELL}(:| on line )\d+$", "", words)
            yield Said(cut, own_line(words.replace(" on line ", ":")), at)


def _compiled(lines: Sequence[str]) -> Iterator[Said]:
    """What programs of Java, Go, Rust and C++ say when they break off."""
    for at, line in enumerate(lines):
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if line.startswith('Exception in thread "'):
            words = line.removeprefix('Exception in thread "').partition('" ')[2]
            yield Said(words or line, 0, at)
        elif line.startswith(("panic: ", "fatal error: ")):
            if any(text.startswith("goroutine ") for text in lines[at + 1 : at + 6]):
                yield Said(line, _first_own(lines[at + 1 : at + 100]), at)
        elif line.startswith("thread '") and " panicked at " in line:
            where = line.partition(" panicked at ")[2]
            yield Said(f"panicked at {where} {below if where.endswith(':') else ''}", 0, at)
        elif line.startswith("terminate called after throwing an instance of '"):
            what = below.partition("what():")[2].strip()
            yield Said(f"{line.split(chr(39))[1]}: {what}".rstrip(": "), 0, at)


def _compilers(lines: Sequence[str]) -> Iterator[Said]:
    """The first error of gcc, clang, javac or rustc, where nothing else is said behind it."""
    for at, line in enumerate(lines):
        pointed = line.startswith("error: ") and lines[at + 1 : at + 2]
        if re.match(_ERROR, line) or (pointed and pointed[0].lstrip().startswith("--> ")):
            break
    else:
        return
    java = ".java:" in line and any(re.fullmatch(r"\d+ errors?", text) for text in lines[at + 1 :])
    if java or all(re.match(_OF_COMPILERS, text) for text in lines[at + 1 :]):
        yield Said(line, 0, at)


_ERROR = r"\S{1,300}:\d+(?::\d+)?: (?:fatal )?error: |error\[E\d+\]: "
# Their lines: sources with marks, more of the same, and how they end.
_OF_COMPILERS = (
    r"\s|$|\d+ +\| |\d+ (?:error|warning)s?\b|\S{1,300}:\d+(?::\d+)?: \w"
    r"|\S{1,300}: (?:In |At )|(?:error|warning|note)(?:\[E\d+\])?: |In file included from "
    r"|compilation terminated|For more information about |Some errors have |make(?:\[\d+\])?: "
)


def _npm(lines: Sequence[str]) -> Iterator[Said]:
    """The first sentence of npm, behind some facts; what it runs has said its own before."""
    for at, line in enumerate(lines):
        found = re.match(r"npm (?:error|ERR!) (?!code|syscall|path|errno|dest|command)(\S.*)", line)
        if found:
            yield Said(f"npm: {found[1]}", 0, at, 1)
            return


_DIALECTS: tuple[Callable[[Sequence[str]], Iterator[Said]], ...] = (
    *(_python, _python_syntax, _python_crash, _pytest),
    *(_node, _r, _julia, _ruby, _perl, _php, _compiled, _compilers, _npm),
)
