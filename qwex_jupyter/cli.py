"""``qwex`` in a terminal: the same verbs over the same history.

``qwex run`` streams, passes the exit code on, and cancels on Ctrl-C or, as SIGPIPE would,
when its output can't be written any more (``| head``); when the terminal closes, the run goes on.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from qwex_jupyter._version import __version__
from qwex_jupyter.commands import as_json, options, shells, stdio
from qwex_jupyter.commands.codes import INTERRUPTED, NO_CODE, NO_READER, USAGE
from qwex_jupyter.commands.stdio import Unwritable, note, say
from qwex_jupyter.commands.terminal import Terminal, in_a_shell
from qwex_jupyter.errors import AmbiguousRun, QwexError, RunInterrupted, RunNotFound, SpecError
from qwex_jupyter.system import compat

_JSON = "--json"


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    stdio.settle()
    shown, warnings.showwarning = warnings.showwarning, partial(_warn, words)
    try:
        return _main(words)
    except (SpecError, RunNotFound, AmbiguousRun) as error:
        return _failed(words, error, USAGE)
    except (QwexError, Unwritable) as error:
        if isinstance(error, Unwritable) and error.nobody_reads:
            return NO_READER  # `| head` has what it wanted
        return _failed(words, error, NO_CODE)
    except RunInterrupted as error:
        return _failed(words, error, INTERRUPTED)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        warnings.showwarning = shown
        _flush()


def _warn(words: list[str], message: Warning | str, *_: object, **__: object) -> None:
    """Says what Python or a library warns of, as a note."""
    text = " ".join(str(message).split())
    _note(words, text, {"note": text})


def _failed(words: list[str], error: BaseException, code: int) -> int:
    """Says on stderr why there is no answer, or no whole one."""
    text = in_a_shell(error)
    _note(words, text, as_json.of_error(error, text, code))
    return code


def _note(words: list[str], text: str, value: object) -> None:
    """Says something on stderr in a text, or as a value where the line asks for JSON."""
    wants_json = options.asks_json(*_verb_of(words))
    note(as_json.line(value) if wants_json else f"qwex: {text}")


def entry() -> NoReturn:
    """The process: it ends with the exit code, whoever still waits for a backend.

    Where such a thread is in the code of a library, Python before 3.14 aborts instead of ending
    (CPython #87135).
    """
    code = main()
    if threading.active_count() > 1:
        # What libraries put into temporary files is removed by these.
        compat.run_exit_functions()
        _flush()
        os._exit(code)
    sys.exit(code)


def _flush() -> None:
    """Writes what is held; what can't be written goes nowhere, also at Python's own end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _main(words: list[str]) -> int:
    verb, rest = _verb_of(words)
    if verb in ("", "help", "-h", "--help"):
        say(_overview())
        return 0
    if verb in ("-V", "--version"):
        say(as_json.line({"version": __version__}) if rest == [_JSON] else f"qwex {__version__}")
        return 0
    if verb == "completion":
        if text := shells.answer(rest):
            say(text)
        return 0
    terminal = Terminal()
    code: int | None = terminal.do(verb, rest)
    return code or (NO_CODE if terminal.failed else 0)


def _verb_of(words: list[str]) -> tuple[str, list[str]]:
    """The verb of a line and what stands behind it, a ``--json`` in front of the verb too."""
    if words[:1] == [_JSON]:
        verb, rest = _verb_of(words[1:])
        return verb, [_JSON, *rest]
    return (words[0], words[1:]) if words else ("", [])


def _overview() -> str:
    verbs = options.listing("qwex")
    return (
        f"The runs of your notebooks, in a terminal.\n{verbs}\n"
        "Add --json behind the verb for scripts. Your shell completes all this with "
        'eval "$(qwex completion bash)", or zsh.'
    )


if __name__ == "__main__":
    entry()
