"""Behaviours that the clauses ask for, as specs: for whatever has a POSIX ``sh``."""

from __future__ import annotations

from qwex_jupyter.model.spec import JobSpec

# Texts that a shell, a template or a codec between here and the program would change.
WEIRD = (
    "plain",
    "two  blanks",
    "",
    "quotes ' \" ` and \\ backslash\\n",
    "$HOME ${HOME} $(id) {braces} %s %%",
    "line\nbreak\r\ttab",
    "non-ASCII: äöü ß € 你好 🎉",
    "-n --flag=* ? [a] ~ # ! & ; | < > (",
)


class ShellPrograms:
    """Behaviours as scripts for a POSIX shell.

    Args:
        image: The container image that has it; None for runners without images.
        interpreter: The shell and its options.
    """

    def __init__(self, image: str | None = None, interpreter: tuple[str, ...] = ("sh",)) -> None:
        self.image, self.interpreter = image, interpreter

    def script(self, text: str, *arguments: str) -> JobSpec:
        """A spec that runs this text with these arguments."""
        words = (*self.interpreter, "-", *arguments) if arguments else self.interpreter
        return JobSpec(command=words, script=text, image=self.image, grace=5)

    def exits(self, code: int) -> JobSpec:
        """Ends at once with that exit code."""
        return self.script(f"exit {code}")

    def prints(self, out: str = "", err: str = "") -> JobSpec:
        """Prints lines: those of ``out`` on stdout, those of ``err`` on stderr."""
        lines = [f"printf '%s\\n' {quoted(line)}" for line in out.splitlines()]
        lines += [f"printf '%s\\n' {quoted(line)} >&2" for line in err.splitlines()]
        return self.script("\n".join(lines) or ":")

    def prints_then_sleeps(self, line: str, seconds: float) -> JobSpec:
        """Prints a line, then takes its time and ends well."""
        return self.script(f"printf '%s\\n' {quoted(line)}\nexec sleep {seconds}")

    def sleeps(self, seconds: float) -> JobSpec:
        """Takes its time and ends well."""
        return self.script(f"exec sleep {seconds}")

    def prints_alternating(self, pairs: int, pause: float) -> JobSpec:
        """Prints ``out N`` and ``err N`` by turns, with a pause after each pair."""
        text = "i=0; while [ $i -lt %d ]; do echo out $i; echo err $i >&2; i=$((i+1)); %s; done"
        return self.script(text % (pairs, f"sleep {pause}" if pause else ":"))

    def prints_bytes(self, chunk: bytes, times: int = 1, *, stream: str = "stdout") -> JobSpec:
        """Writes these bytes so often, and nothing else."""
        octal = "".join(f"\\0{byte:03o}" for byte in chunk)
        target = " >&2" if stream == "stderr" else ""
        loop = f"i=0; while [ $i -lt {times} ]; do printf %b '{octal}'; i=$((i+1)); done"
        return self.script(f"{{ {loop}; }}{target}")

    def prints_env(self, name: str) -> JobSpec:
        """Prints the value of a variable and a newline."""
        return self.script(f"printf '%s\\n' \"${{{name}}}\"")

    def prints_args(self, *arguments: str) -> JobSpec:
        """A program, not a script, that prints its arguments, each with a NUL behind it."""
        words = (*self.interpreter, "-c", 'for a in "$@"; do printf "%s\\0" "$a"; done', "name")
        return JobSpec(command=(*words, *arguments), image=self.image)

    def script_prints_args(self, *arguments: str) -> JobSpec:
        """A script that prints its arguments in the same way."""
        return self.script('for a in "$@"; do printf "%s\\0" "$a"; done', *arguments)

    def prints_itself(self, comment: str) -> JobSpec:
        """A script that holds the comment and prints its own text."""
        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        return self.script(f'{lines}cat "$0"\n')

    def prints_file(self, path: str) -> JobSpec:
        """Prints a file of its working folder."""
        return self.script(f"cat {quoted(path)}")

    def ignores_term(self, line: str, seconds: float) -> JobSpec:
        """Ignores SIGTERM, prints the line, and takes its time."""
        loop = f"i=0; while [ $i -lt {int(seconds * 10)} ]; do sleep 0.1; i=$((i+1)); done"
        return self.script(f"trap '' TERM\nprintf '%s\\n' {quoted(line)}\n{loop}")

    def signals_itself(self, number: int) -> JobSpec:
        """Is ended by a signal."""
        return self.script(f"kill -{number} $$\nsleep 5")

    def takes_memory(self, size: int) -> JobSpec:
        """Takes that much memory, in bytes, and keeps it for a while."""
        # A shell variable, doubled: nothing but the shell itself is needed. An engine listens for
        # memory that runs out only from a moment after the program began.
        grow = f'x=0123456789abcdef; while [ ${{#x}} -lt {size} ]; do x="$x$x"; done'
        return self.script(f"sleep 1; {grow}; sleep 60")

    def missing(self) -> JobSpec:
        """A program that isn't there."""
        return JobSpec(command=("no-such-program-anywhere", "x"), image=self.image)

    def leaves_children(self, seconds: float) -> JobSpec | None:
        """Prints ``pid PID`` of children and then sleeps; None where there are none to see.

        One child is in its group and, where the system can do it, one in a session of its
        own.
        """
        return None

    def counted(self, mark: str) -> JobSpec:
        """Leaves a trace of each execution, for `RunnerContract.executions`."""
        return self.prints("executed")


def quoted(text: str) -> str:
    """One word for a shell, whatever stands in it."""
    return "'" + text.replace("'", "'\\''") + "'"
