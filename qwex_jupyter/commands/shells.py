"""Completion in a shell: a script of a few lines that has `qwex` itself complete a line.

So it knows what this version knows: every verb and option, the runners of packages, and the runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwex_jupyter.commands.completion import candidates
from qwex_jupyter.commands.table import NOTEBOOK_ONLY
from qwex_jupyter.errors import QwexError, SpecError
from qwex_jupyter.manager.manager import RunManager

# What each shell evaluates. Where nothing is offered, bash and zsh offer files.
_SCRIPTS = {
    "bash": r"""
_qwex() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(qwex completion bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o default -F _qwex qwex
""",
    "zsh": r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_qwex() {
    local -a found
    found=(${(f)"$(qwex completion zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -a found
    else
        [[ $words[CURRENT] == --*=* ]] && compset -P '*='
        _files
    fi
}
compdef _qwex qwex
""",
    "tcsh": r"""
complete qwex 'p@*@`qwex completion tcsh "$COMMAND_LINE"`@'
""",
}
# Where bash begins a new word within one (COMP_WORDBREAKS): what stands before is there already.
_BREAKS = "=:"


def answer(words: Sequence[str]) -> str:
    """What ``qwex completion`` prints: the script of a shell, or what the end of a line may become.

    Args:
        words: The shell, and for the latter the line up to the cursor.

    Raises:
        SpecError: It isn't one of the shells.
    """
    if not words or words[0] not in _SCRIPTS or len(words) > 2:
        shells = ", ".join(_SCRIPTS)
        raise SpecError(
            f'qwex completion: name a shell of {shells}, as in eval "$(qwex completion bash)".'
        )
    shell, *line = words
    return "\n".join(_found(shell, line[0])) if line else _SCRIPTS[shell].strip()


def _found(shell: str, line: str) -> list[str]:
    from qwex_jupyter import config  # it brings traitlets, which most verbs don't need

    try:
        profiles = config.setting("profiles")
        found = candidates(RunManager(), line, profiles, not_here=NOTEBOOK_ONLY)
    except (QwexError, OSError):
        return []  # a completion never disturbs
    if shell != "bash":
        return found
    last = line.replace("\t", " ").rpartition(" ")[2]
    there = max(last.rfind(mark) for mark in _BREAKS) + 1
    return [word[there:] for word in found]
