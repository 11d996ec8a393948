"""A magic's line to words, as a shell would split it, with the notebook's own values.

Quotes, ``#`` comments and backslashes are the shell's (POSIX 2.2). Then, in what isn't in
single quotes, ``{expression}`` and ``$name`` are replaced: from the notebook, else from the
environment. What isn't known is refused instead of being passed on as it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from qwex_jupyter.errors import SpecError

# What divides words in a shell. All else that looks like a blank is part of one.
BLANKS = " \t\n"
_ODD_BLANK = re.compile(r"[^\S \t\n]|[\u200b\ufeff]")
_NAME = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\}|\$)")


def split(line: str, names: Mapping[str, Any] | None = None) -> list[str]:
    """The words of a line.

    Args:
        line: What stands behind the magic.
        names: The notebook's variables; None leaves ``{...}`` and ``$name`` as they are,
            for a command line whose shell has done that already.

    Raises:
        SpecError: A quote isn't closed, or a name isn't known.
    """
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at] in BLANKS:
            at += 1
        elif line[at] == "#":
            break
        else:
            word, at = _word(line, at, names)
            words.append(word)
    return words


def odd_blank(text: str) -> str:
    """A sentence on what looks like a blank in this text and divides nothing, else ""."""
    found = _ODD_BLANK.search(text)
    return f" (U+{ord(found[0]):04X} in it is no blank: type a space.)" if found else ""


def plain_ends(text: str) -> str:
    r"""A cell with the line ends of this system, where the front end wrote each as ``\r\n``."""
    lines = text.removesuffix("\n")  # the last line's end is IPython's
    whole = lines.count("\r\n") == lines.count("\n")
    return text.replace("\r\n", "\n") if whole else text


def _word(line: str, begin: int, names: Mapping[str, Any] | None) -> tuple[str, int]:
    """The word that begins there, and where it ends."""
    word, at = "", begin
    while at < len(line) and (char := line[at]) not in BLANKS:
        if char == "'":
            end = line.find("'", at + 1)
            if end < 0:
                raise SpecError("a single quote (') isn't closed in the line.")
            text, at = line[at + 1 : end], end + 1
        elif char == '"':
            text, at = _double_quoted(line, at + 1, names)
        elif char == "\\":
            text, at = line[at + 1 : at + 2], at + 2
        elif char == "~" and (at == begin or (word.startswith("--") and word.endswith("="))):
            end = at
            while end < len(line) and line[end] not in BLANKS + "/:'\"":
                end += 1
            text, at = os.path.expanduser(line[at:end]), end
        elif names is not None and char in "{$":
            text, at = _expand(line, at, names)
        else:
            text, at = char, at + 1
        word += text
    return word, at


def _double_quoted(line: str, at: int, names: Mapping[str, Any] | None) -> tuple[str, int]:
    parts: list[str] = []
    while at < len(line):
        char = line[at]
        if char == '"':
            return "".join(parts), at + 1
        if char == "\\" and line[at + 1 : at + 2] in ('"', "\\", "$", "`"):
            parts.append(line[at + 1])
            at += 2
        elif names is not None and char in "{$":
            text, at = _expand(line, at, names)
            parts.append(text)
        else:
            parts.append(char)
            at += 1
    raise SpecError("a double quote (\") isn't closed in the line.")


def _expand(line: str, at: int, names: Mapping[str, Any]) -> tuple[str, int]:
    """One ``$name``, ``${name}`` or ``{expression}`` that begins at ``at``, and where it ends."""
    if line[at] == "$":
        found = _NAME.match(line, at)
        if not found:
            return "$", at + 1
        name = found[1] or found[2]
        return (_value(name, names) if name else "$"), found.end()
    end = _closing(line, at)
    expression = line[at + 1 : end].strip()
    if not expression:
        return line[at : end + 1], end + 1
    try:
        value = eval(expression, dict(names))  # noqa: S307 - the user's own notebook
    except Exception as error:
        raise SpecError(
            f"{{{expression}}} can't be worked out ({type(error).__name__}: {error}): "
            "put the word in single quotes if it is meant as it stands."
        ) from error
    return str(value), end + 1


def _closing(line: str, at: int) -> int:
    depth = 0
    for index in range(at, len(line)):
        depth += {"{": 1, "}": -1}.get(line[index], 0)
        if not depth:
            return index
    raise SpecError("a brace ({) isn't closed in the line: put it in single quotes if it is meant.")


def _value(name: str, names: Mapping[str, Any]) -> str:
    if name in names:
        return str(names[name])
    if name in os.environ:
        return os.environ[name]
    raise SpecError(
        f"${name} is neither a variable of this notebook nor of the environment: "
        "put the word in single quotes if it is meant as it stands."
    )
