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
    word: list[str] | None = None
    at = 0
    while at < len(line):
        char = line[at]
        if char.isspace():
            if word is not None:
                words.append("".join(word))
                word = None
            at += 1
            continue
        if char == "#" and word is None:
            break
        starting, word = word is None, word if word is not None else []
        if char == "'":
            end = line.find("'", at + 1)
            if end < 0:
                raise SpecError("a single quote (') isn't closed in the line.")
            word.append(line[at + 1 : end])
            at = end + 1
        elif char == '"':
            text, at = _double_quoted(line, at + 1, names)
            word.append(text)
        elif char == "\\":
            word.append(line[at + 1 : at + 2])
            at += 2
        elif char == "~" and (starting or _after_option(word)):
            end = at
            while end < len(line) and not line[end].isspace() and line[end] not in "/:'\"":
                end += 1
            word.append(os.path.expanduser(line[at:end]))
            at = end
        elif names is not None and char in "{$":
            text, at = _expand(line, at, names)
            word.append(text)
        else:
            word.append(char)
            at += 1
    if word is not None:
        words.append("".join(word))
    return words


def _after_option(word: list[str]) -> bool:
    text = "".join(word)
    return text.startswith("--") and text.endswith("=")


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
