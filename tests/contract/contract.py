"""The one suite that every runner passes.

A runner of your own joins it in a few lines::

    from contract import RunnerContract, ShellPrograms
    from qwex_jupyter.runners import register_runner

    register_runner("mine", "my_package:MyRunner")


    class TestMyRunner(RunnerContract):
        runner = "mine"
        programs = ShellPrograms(image="busybox:1.36")
        settings = {"mine": {"context": "test"}}  # arguments of MyRunner's constructor

`programs` turns behaviours into specs. `ShellPrograms` does it for everything that has a
POSIX ``sh``; another language overrides its methods. What a runner says it can't promise
(`Runner.promises`, `Runner.supports`) is asserted the other way round: the honest answer.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from handing_over import HandingOver
from local_helpers import contents, prepared, until

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, STOP
from qwex_jupyter.errors import RunFailed, RunNotFound, RunStillLive, SpecError, UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord, is_run_id
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.model.units import say_seconds
from qwex_jupyter.runners.base import ABILITIES, Plan, Runner

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
        lines = [f"printf '%s\\n' {_quoted(line)}" for line in out.splitlines()]
        lines += [f"printf '%s\\n' {_quoted(line)} >&2" for line in err.splitlines()]
        return self.script("\n".join(lines) or ":")

    def prints_then_sleeps(self, line: str, seconds: float) -> JobSpec:
        """Prints a line, then takes its time and ends well."""
        return self.script(f"printf '%s\\n' {_quoted(line)}\nexec sleep {seconds}")

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
        return self.script(f"cat {_quoted(path)}")

    def ignores_term(self, line: str, seconds: float) -> JobSpec:
        """Ignores SIGTERM, prints the line, and takes its time."""
        loop = f"i=0; while [ $i -lt {int(seconds * 10)} ]; do sleep 0.1; i=$((i+1)); done"
        return self.script(f"trap '' TERM\nprintf '%s\\n' {_quoted(line)}\n{loop}")

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


class RunnerContract(HandingOver):
    """What is true of every runner.

    Attributes:
        runner: Its name.
        programs: Behaviours to specs.
        settings: Constructor arguments, by the name of the runner.
        patience: Seconds after which something that must come is called missing.
        brief: Seconds in which a program has surely started and printed a line.
        keeps_bytes: The backend keeps every byte though the runner doesn't promise it.
        separates: The backend gives each stream by itself though the runner doesn't promise it.
    """

    runner: ClassVar[str]
    programs: ClassVar[ShellPrograms] = ShellPrograms()
    settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    patience: ClassVar[float] = 180.0
    brief: ClassVar[float] = 2
    keeps_bytes: ClassVar[bool] = False
    separates: ClassVar[bool] = False

    def make_manager(self, home: str) -> RunManager:
        """A manager whose runner is the one under test; each call makes new objects."""
        return RunManager(home, default=self.runner, settings=self.settings)

    def executions(self, run: Run, mark: str) -> int:
        """How often the program of `ShellPrograms.counted` was executed."""
        return run.logs("stdout").count("executed")

    @pytest.fixture
    def manager(self, home: str) -> Iterator[RunManager]:
        """The manager of a test; what it leaves running is cancelled."""
        made = self.make_manager(home)
        yield made
        for run_id in made.history.open_ids():
            made.cancel(run_id, grace=0)

    # How it ends.

    def test_a_clean_command_succeeds_with_zero(self, manager: RunManager) -> None:
        """A program that ends well is SUCCEEDED with exit code 0 and nothing to explain."""
        record = self.end(self.submit(manager, self.programs.exits(0)))
        assert (record.status, record.exit_code) == (RunStatus.SUCCEEDED, 0)
        assert (record.reason, record.message) == ("", "")

    @pytest.mark.parametrize("code", [1, 7, 77, 255])
    def test_an_exit_code_is_kept(self, manager: RunManager, code: int) -> None:
        """A program that ends badly is FAILED with its own exit code."""
        run = self.submit(manager, self.programs.exits(code))
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.FAILED, code)
        assert record.reason == Reason.NON_ZERO_EXIT
        assert str(code) in record.message
        with pytest.raises(RunFailed) as caught:
            run.wait(timeout=self.patience)
        assert (caught.value.exit_code, caught.value.reason) == (code, Reason.NON_ZERO_EXIT)

    @pytest.mark.parametrize("number", [9, 15])
    def test_a_signal_is_said_as_128_and_its_number(self, manager: RunManager, number: int) -> None:
        """A program ended by signal N is FAILED / Signalled with exit code 128+N."""
        record = self.end(self.submit(manager, self.programs.signals_itself(number)))
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 128 + number)
        assert record.reason == Reason.SIGNALLED
        assert record.message

    def test_no_exit_code_before_the_end(self, manager: RunManager) -> None:
        """While a run lives it has no exit code and no end."""
        run = self.running(manager, self.programs.sleeps(300))
        assert run.status is RunStatus.RUNNING
        assert run.exit_code is None
        assert run.record.finished_at is None
        run.cancel(grace=0)
        assert self.end(run).finished_at is not None

    def test_submit_returns_before_the_end(self, manager: RunManager) -> None:
        """`submit` doesn't wait for the program."""
        run = self.submit(manager, self.programs.sleeps(300))
        assert not run.record.status.final
        run.cancel(grace=0)
        self.end(run)

    def test_times_are_in_order(self, manager: RunManager) -> None:
        """A run is submitted, starts and ends in this order, and says how long it ran."""
        record = self.end(self.submit(manager, self.programs.sleeps(0.3)))
        assert record.started_at is not None and record.finished_at is not None
        # The backend's clock need not be this one's to the second.
        assert record.created_at - 2 <= record.started_at <= record.finished_at
        duration = record.duration()
        assert duration is not None
        # Some backends date to the second: what they say is true to that.
        assert duration >= 0.25 - manager.runner(self.runner).promises.time_resolution

    def test_wait_gives_up_without_ending_the_run(self, manager: RunManager) -> None:
        """`wait` with a timeout raises TimeoutError, and the run goes on."""
        run = self.running(manager, self.programs.sleeps(300))
        with pytest.raises(TimeoutError):
            run.wait(timeout=0.05)
        assert run.poll() is RunStatus.RUNNING
        run.cancel(grace=0)
        self.end(run)

    def test_a_missing_program_fails_and_says_so(self, manager: RunManager) -> None:
        """A program that isn't there is FAILED / CommandNotFound, has no exit code, names it."""
        record = self.end(self.submit(manager, self.programs.missing()))
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
        assert record.exit_code is None
        assert "no-such-program-anywhere" in record.message

    # Stopping.

    def test_cancelled_is_not_failed(self, manager: RunManager) -> None:
        """A run that was cancelled is CANCELLED / CancelledByUser."""
        run = self.running(manager, self.programs.prints_then_sleeps("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel()
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
        assert record.handle in record.message
        assert run.logs("stdout") == "up\n"

    def test_cancel_returns_at_once(self, manager: RunManager) -> None:
        """`cancel` doesn't wait for the end of the grace."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=10_000)
        assert not manager.tracker.ended(run.run_id)
        run.cancel()
        self.end(run)

    def test_the_second_cancel_ends_the_grace(self, manager: RunManager) -> None:
        """A program that ignores being asked goes at the second cancel."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=10_000)
        assert run.poll() is RunStatus.RUNNING
        run.cancel()
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)

    def test_the_grace_ends_by_itself(self, manager: RunManager) -> None:
        """A program that ignores being asked goes when the grace is over."""
        run = self.running(manager, self.programs.ignores_term("up", 300))
        self.until(lambda: run.logs("stdout") == "up\n")
        run.cancel(grace=0.3)
        record = self.end(run)
        assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)

    def test_cancel_twice_changes_nothing(self, manager: RunManager) -> None:
        """A run that was cancelled twice, and once more after its end, is simply CANCELLED."""
        run = self.running(manager, self.programs.sleeps(300))
        run.cancel()
        run.cancel()
        record = self.end(run)
        assert record.status is RunStatus.CANCELLED
        run.cancel()
        assert run.record == record

    def test_cancel_after_the_end_changes_nothing(self, manager: RunManager) -> None:
        """An end is never rewritten by a cancel that comes later."""
        run = self.submit(manager, self.programs.exits(3))
        record = self.end(run)
        run.cancel()
        manager.tracker.look([run.run_id])
        assert run.record == record
        assert not facts.exists(run.log.folder, STOP)

    def test_a_timeout_ends_the_run_and_says_so(self, manager: RunManager) -> None:
        """A run over its timeout is FAILED / TimedOut, and the message names a longer one."""
        spec = replace(self.programs.prints_then_sleeps("up", 300), timeout=self.brief)
        run = self.submit(manager, spec)
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT)
        longer = say_seconds(2 * self.brief)
        assert f"%qwex rerun {run.handle} --timeout {longer}" in record.message
        assert run.logs("stdout") == "up\n"

    def test_a_timeout_insists_after_the_grace(self, manager: RunManager) -> None:
        """A program that ignores the end of its time is killed when the grace is over."""
        spec = replace(self.programs.ignores_term("up", 300), timeout=self.brief, grace=0.3)
        record = self.end(self.submit(manager, spec))
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT)
        assert record.exit_code == 137

    def test_a_timeout_that_is_not_reached_changes_nothing(self, manager: RunManager) -> None:
        """A program that ends within its time keeps its exit code."""
        record = self.end(self.submit(manager, replace(self.programs.exits(5), timeout=3600)))
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 5)

    def test_a_memory_limit_is_held(self, manager: RunManager) -> None:
        """A run over its memory is FAILED / OutOfMemory and names a rerun with more."""
        limit = 128 * 1024 * 1024
        spec = self.programs.takes_memory(2 * limit)
        spec = replace(spec, resources=replace(spec.resources, memory=limit))
        if "memory" not in manager.runner(self.runner).supports:
            with pytest.raises(UnsupportedOption):
                self.submit(manager, spec)
            return
        run = self.submit(manager, spec)
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.OUT_OF_MEMORY)
        assert record.exit_code == 137
        assert "of the 128 MiB allowed" in record.message
        assert f"%qwex rerun {run.handle} --memory 256MiB" in record.message

    def test_the_whole_tree_is_stopped(self, manager: RunManager) -> None:
        """Nothing of a cancelled run lives on, also not a child in a session of its own."""
        spec = self.programs.leaves_children(300)
        if spec is None:
            return
        run = self.running(manager, spec)
        self.until(lambda: "ready" in run.logs("stdout"))
        pids = [int(line.split()[1]) for line in run.logs("stdout").splitlines() if "pid" in line]
        assert pids and all(lives(pid) for pid in pids)
        run.cancel()
        assert self.end(run).status is RunStatus.CANCELLED
        self.until(lambda: not any(lives(pid) for pid in pids))

    # Asking.

    def test_an_unknown_run_is_not_found(self, manager: RunManager) -> None:
        """A name that nothing has is RunNotFound, never a status."""
        run_id = new_run_id(time.time())
        answer = manager.runner(self.runner).poll([run_id])[run_id]
        assert isinstance(answer, RunNotFound)
        with pytest.raises(RunNotFound):
            manager.get(run_id)
        with pytest.raises(RunNotFound):
            manager.delete(run_id)

    def test_poll_is_a_question(self, manager: RunManager) -> None:
        """Asked twice, a backend answers the same and nothing has changed, live or ended."""
        runner = manager.runner(self.runner)
        # What is kept can be asked about after its end too.
        spec = replace(self.programs.sleeps(300), keep="keep" in runner.supports)
        run = self.running(manager, spec)
        for status in (RunStatus.RUNNING, RunStatus.CANCELLED):
            manager.close()  # its own loop may be writing down what it saw
            files = shown_files(run)
            first, second = (self.snapshot(runner.poll([run.run_id]), run) for _ in range(2))
            assert first == second
            assert shown_files(run) == files
            if status is RunStatus.RUNNING:
                assert first.status is status
                run.cancel(grace=0)
                self.end(run)
            assert run.status is RunStatus.CANCELLED

    def test_poll_of_nothing_is_nothing(self, manager: RunManager) -> None:
        """Asked about no run, a backend answers about none."""
        assert manager.runner(self.runner).poll([]) == {}

    def test_watch_tells_of_an_end(self, manager: RunManager) -> None:
        """`watch` says that a run changed, and leaves when it is told to."""
        told: list[str] = []
        stop = threading.Event()
        runner = self.make_manager(manager.history.home).runner(self.runner)
        if type(runner).watch is Runner.watch:
            return  # its backend tells nothing by itself: it is polled
        thread = threading.Thread(target=runner.watch, args=(told.append, stop), daemon=True)
        run = self.running(manager, self.programs.sleeps(300))
        thread.start()
        try:
            # What is there when it begins is told too.
            self.until(lambda: run.run_id in told)
            told.clear()
            run.cancel(grace=0)
            self.end(run)
            self.until(lambda: run.run_id in told)
        finally:
            stop.set()
            thread.join(self.patience)
        assert not thread.is_alive()

    def test_observers_hear_of_the_end(self, manager: RunManager) -> None:
        """An observer is told of the end without anybody asking."""
        heard: list[RunRecord] = []
        forget = manager.observe(heard.append)
        run = self.submit(manager, self.programs.exits(4))
        self.until(lambda: any(r.run_id == run.run_id and r.exit_code == 4 for r in heard))
        forget()

    # Output.

    def test_output_is_complete_and_separate(self, manager: RunManager) -> None:
        """Both streams arrive whole and in order, each by itself."""
        run = self.submit(manager, self.programs.prints_alternating(500, 0))
        self.end(run)
        out, err = ("".join(f"{word} {i}\n" for i in range(500)) for word in ("out", "err"))
        self.assert_said(manager, run, out, err)
        assert run.record.log_missing == {}

    def assert_said(self, manager: RunManager, run: Run, out: str, err: str) -> None:
        """Both streams arrived whole and in order, each by itself.

        Where a backend gives them as one (`Promises.separate_streams` is False), the lines of
        each are all there, in their order, in stdout. No line is of both here.
        """
        if self.separates or manager.runner(self.runner).promises.separate_streams:
            assert (run.logs("stdout"), run.logs("stderr")) == (out, err)
            return
        assert run.log.read("stderr") == b""
        lines = run.logs("stdout").splitlines(keepends=True)
        theirs = set(err.splitlines(keepends=True))
        assert "".join(line for line in lines if line in theirs) == err
        assert "".join(line for line in lines if line not in theirs) == out

    def test_output_stays_readable_after_the_end(self, manager: RunManager) -> None:
        """What was said can be read from the files by another manager after the end."""
        run = self.submit(manager, self.programs.prints("bare text", "another"))
        self.end(run)
        again = self.make_manager(manager.history.home).get(run.run_id)
        self.assert_said(manager, again, "bare text\n", "another\n")
        assert again.logs(tail=1) == again.logs().splitlines(keepends=True)[-1]
        assert Path(again.log_path).read_bytes() == again.log.read("stdout")

    def test_a_last_line_without_newline_is_kept(self, manager: RunManager) -> None:
        """The last word of a program counts, also without a newline."""
        run = self.submit(manager, self.programs.prints_bytes(b"one\nlast word"))
        self.end(run)
        assert run.log.read("stdout") == b"one\nlast word"

    @pytest.mark.parametrize("text", ["abcdefghi", "ä€🎉"], ids=["ascii", "unicode"])
    def test_long_lines_are_kept(self, manager: RunManager, text: str) -> None:
        """A line of 54 kB arrives as it was written, or in pieces that are said to be damaged."""
        line = text.encode() * 100
        run = self.submit(manager, self.programs.prints_bytes(line, 60, stream="stderr"))
        self.end(run)
        kept = self.kept(manager, line * 60)
        self.assert_said(manager, run, "", kept.decode())

    def kept(self, manager: RunManager, data: bytes) -> bytes:
        """What a backend keeps of these bytes in one line: all, or what it says that it keeps.

        Where a backend keeps text (`Promises.raw_bytes` is False), each byte that isn't UTF-8
        becomes U+FFFD, also where a character is cut in two after 16 KiB of a line (Docker's
        json-file).
        """
        if self.keeps_bytes or manager.runner(self.runner).promises.raw_bytes:
            return data
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)]
        return b"".join(_as_text(piece) for piece in pieces)

    def test_bytes_that_are_not_text_are_kept(self, manager: RunManager) -> None:
        """1 MB of every possible byte arrives unchanged, or is said to be damaged."""
        chunk = bytes(range(256)) * 8
        run = self.submit(manager, self.programs.prints_bytes(chunk, 512))
        self.end(run)
        data = run.log.read("stdout")
        if self.keeps_bytes or manager.runner(self.runner).promises.raw_bytes:
            assert data == chunk * 512
        else:
            assert data == _as_text(chunk * 512)

    def test_follow_yields_before_the_end_and_stops_at_it(self, manager: RunManager) -> None:
        """Following a run shows a line while it lives, and ends when the run has ended."""
        run = self.submit(manager, self.programs.prints_then_sleeps("early", 300))
        got: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        for stream, data in run.follow():
            got[stream] += data
            if got["stdout"] == b"early\n":
                assert not manager.tracker.ended(run.run_id)
                run.cancel(grace=0)
        assert manager.tracker.ended(run.run_id)
        assert got == {"stdout": b"early\n", "stderr": b""}

    def test_following_loses_and_doubles_nothing(self, manager: RunManager) -> None:
        """What follow yields is byte by byte what the program said."""
        run = self.submit(manager, self.programs.prints_alternating(20, 0.02))
        got: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        for stream, data in run.follow():
            got[stream] += data
        assert got == {stream: run.log.read(stream) for stream in got}
        out, err = ("".join(f"{word} {i}\n" for i in range(20)) for word in ("out", "err"))
        self.assert_said(manager, run, out, err)

    def test_two_runs_never_mix(self, manager: RunManager) -> None:
        """Runs that write at the same time keep their output apart."""
        programs = [self.programs.prints(f"I am {i}\n" * 50, f"am I {i}\n" * 50) for i in range(4)]
        runs = [self.submit(manager, spec) for spec in programs]
        for number, run in enumerate(runs):
            self.end(run)
            self.assert_said(manager, run, f"I am {number}\n" * 50, f"am I {number}\n" * 50)

    # What is handed over arrives.

    def test_arguments_arrive_unchanged(self, manager: RunManager) -> None:
        """No shell, template or codec between here and the program changes an argument."""
        run = self.submit(manager, self.programs.prints_args(*WEIRD))
        self.end(run)
        assert run.log.read("stdout").decode().split("\0") == [*WEIRD, ""]

    def test_arguments_of_a_script_arrive_unchanged(self, manager: RunManager) -> None:
        """The words behind a lone dash are the script's arguments, as they were given."""
        run = self.submit(manager, self.programs.script_prints_args(*WEIRD))
        self.end(run)
        assert run.log.read("stdout").decode().split("\0") == [*WEIRD, ""]

    @pytest.mark.parametrize("value", WEIRD)
    def test_variables_arrive_unchanged(self, manager: RunManager, value: str) -> None:
        """The value of a variable is what was given."""
        spec = replace(self.programs.prints_env("MY_VALUE"), env={"MY_VALUE": value})
        run = self.submit(manager, spec)
        self.end(run)
        assert run.log.read("stdout") == value.encode() + b"\n"

    def test_a_script_arrives_unchanged(self, manager: RunManager) -> None:
        """The text of a script is what was written in the cell."""
        spec = self.programs.prints_itself("\n".join(WEIRD).replace("\r", " "))
        assert spec.script is not None
        run = self.submit(manager, spec)
        self.end(run)
        assert run.log.read("stdout") == spec.script.encode()

    def test_inherited_variables_and_secrets_arrive(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A variable named without a value, and a secret, have the value of this process."""
        monkeypatch.setenv("MY_TOKEN", "s3cr3t-{value}")
        inherited = replace(self.programs.prints_env("MY_TOKEN"), env={"MY_TOKEN": None})
        secret = replace(self.programs.prints_env("MY_TOKEN"), secrets=("MY_TOKEN",))
        for spec in (inherited, secret):
            run = self.submit(manager, spec)
            self.end(run)
            assert run.log.read("stdout") == b"s3cr3t-{value}\n"

    def test_values_of_secrets_stand_nowhere(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret's value is in no plan, no file of the run and nothing that is shown."""
        monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
        spec = replace(self.programs.exits(0), secrets=("MY_TOKEN",))
        runner = manager.runner(self.runner)
        plan = runner.plan(spec, new_run_id(time.time()))
        assert "s3cr3t-value" not in json.dumps(plan)
        assert "s3cr3t-value" not in runner.show(plan)
        run = self.submit(manager, spec)
        self.end(run)
        for path, text in contents(manager.history.home):
            assert b"s3cr3t-value" not in text, path

    def test_a_secret_that_is_not_set_is_refused(self, manager: RunManager) -> None:
        """A secret that isn't there is named before anything is started."""
        spec = replace(self.programs.exits(0), secrets=("MY_MISSING_TOKEN",))
        with pytest.raises(SpecError, match="MY_MISSING_TOKEN"):
            self.submit(manager, spec)
        assert manager.history.run_ids() == []

    def test_files_are_carried(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Carried files lie in the working folder under their own relative names."""
        if "files" not in manager.runner(self.runner).supports:
            with pytest.raises(UnsupportedOption):
                self.submit(manager, replace(self.programs.exits(0), files=("x",)))
            return
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "ä b.txt").write_text("nested\n")
        (tmp_path / "one.txt").write_text("one\n")
        monkeypatch.chdir(tmp_path)
        for name, text in (("data/deep/ä b.txt", "nested\n"), ("one.txt", "one\n")):
            spec = replace(self.programs.prints_file(name), files=("data", "one.txt"))
            run = self.submit(manager, spec)
            # What becomes of the originals doesn't matter any more.
            assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
            assert run.logs("stdout") == text

    def test_a_rerun_has_the_files_of_its_run(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the run was given is given again, whatever became of the originals and of it."""
        if "files" not in manager.runner(self.runner).supports:
            return  # see `test_files_are_carried`
        (tmp_path / "there" / "sub").mkdir(parents=True)
        (tmp_path / "there" / "sub" / "one.txt").write_text("one\n")
        monkeypatch.chdir(tmp_path / "there")
        spec = replace(self.programs.prints_file("sub/one.txt"), files=("sub/one.txt",))
        run = self.submit(manager, spec)
        assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
        shutil.rmtree(tmp_path / "there" / "sub")
        monkeypatch.chdir(tmp_path)
        second = self.submit(manager, manager.again(run.run_id)[1])
        assert self.end(second).status is RunStatus.SUCCEEDED, second.logs()
        manager.delete(run.run_id)
        third = self.submit(manager, manager.again(second.run_id)[1])
        assert self.end(third).status is RunStatus.SUCCEEDED, third.logs()
        assert second.logs("stdout") == third.logs("stdout") == "one\n"

    def test_links_are_carried_as_what_they_lead_to(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A link in a carried folder is what it leads to, also where that lies elsewhere."""
        if "files" not in manager.runner(self.runner).supports:
            return  # see `test_files_are_carried`
        (tmp_path / "there" / "sub").mkdir(parents=True)
        (tmp_path / "far").mkdir()
        (tmp_path / "far" / "x").write_text("far\n")
        (tmp_path / "there" / "sub" / "folder").symlink_to("../../far")
        (tmp_path / "there" / "sub" / "file").symlink_to("folder/x")
        monkeypatch.chdir(tmp_path / "there")
        for name in ("sub/folder/x", "sub/file"):
            run = self.submit(manager, replace(self.programs.prints_file(name), files=("sub",)))
            assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
            assert run.logs("stdout") == "far\n"

    # Plans.

    def test_a_plan_is_pure(self, manager: RunManager, home: str) -> None:
        """The same spec and id give the same JSON-serialisable plan, and nothing changes."""
        spec = replace(self.programs.prints_args(*WEIRD), env={"A": "1", "B": None}, name="me")
        run_id = new_run_id(time.time())
        before = sorted(str(path) for path in Path(home).rglob("*"))
        first = manager.runner(self.runner).plan(spec, run_id)
        second = self.make_manager(home).runner(self.runner).plan(spec, run_id)
        assert first == second == json.loads(json.dumps(first))
        assert sorted(str(path) for path in Path(home).rglob("*")) == before
        assert manager.runner(self.runner).show(first)

    def test_what_it_can_not_honour_is_refused(self, manager: RunManager) -> None:
        """An option that this runner can't honour is refused, naming those that can."""
        runner = manager.runner(self.runner)
        plain = self.programs.exits(0)
        used: dict[str, dict[str, Any]] = {
            "image": {"image": "busybox"},
            "cpus": {"resources": replace(plain.resources, cpus=1)},
            "memory": {"resources": replace(plain.resources, memory=1 << 28)},
            "gpus": {"resources": replace(plain.resources, gpus="1")},
            "shm-size": {"resources": replace(plain.resources, shm_size=1 << 28)},
            "user": {"user": "1000"},
            "volume": {"volumes": ("/a:/b",)},
            "files": {"files": ("a",)},
            "here": {"here": True},
            "keep": {"keep": True},
            "network": {"options": {"network": "host"}},
            "namespace": {"options": {"namespace": "mine"}},
        }
        for option, values in used.items():
            spec = replace(plain, **values)
            if option in runner.supports:
                runner.refuse_unsupported(spec)
                continue
            with pytest.raises(UnsupportedOption) as caught:
                runner.plan(spec, new_run_id(time.time()))
            assert f"--{option}" in str(caught.value)
            assert self.runner not in caught.value.can
            for name in caught.value.can:
                assert name in ABILITIES[option]
                assert f"--runner={name}" in str(caught.value)
            with pytest.raises(UnsupportedOption):
                self.submit(manager, spec)
        assert manager.history.run_ids() == []

    # Names and other eyes.

    def test_a_run_id_is_legal_everywhere(self, manager: RunManager) -> None:
        """A run id sorts by time, and is a legal name of a folder, a container and a Job."""
        run = self.submit(manager, self.programs.exits(0))
        assert is_run_id(run.run_id)
        name = f"qwex-{run.run_id}"
        assert len(name) <= 63 and name == name.lower()
        assert all(char.isalnum() or char == "-" for char in name) and name.isascii()
        assert run.handle == run.run_id[-6:] and not run.handle[0].isdigit()
        assert new_run_id(time.time() + 1) > run.run_id > new_run_id(0)
        self.end(run)

    def test_a_second_runner_sees_the_run(self, manager: RunManager, home: str) -> None:
        """Another runner object finds a live run, with the same identity and start."""
        run = self.running(manager, self.programs.sleeps(300))
        second = self.make_manager(home)
        assert second.runner(self.runner) is not manager.runner(self.runner)
        assert second.runner(self.runner).identity() == manager.runner(self.runner).identity()
        other = second.get(run.handle)
        assert other.poll() is RunStatus.RUNNING
        assert other.record.started_at == pytest.approx(run.record.started_at, abs=1.5)
        assert [record.run_id for record in second.recover()] == [run.run_id]
        run.cancel(grace=0)
        record = self.end(run)
        assert self.end(other) == record
        assert second.recover() == []

    def test_a_second_runner_follows_and_cancels(self, manager: RunManager, home: str) -> None:
        """Another runner object can follow a run to the end that it asks for."""
        run = self.running(manager, self.programs.prints_then_sleeps("seen", 300))
        other = self.make_manager(home).get(run.run_id)
        got = b""
        for _, data in other.follow():
            got += data
            if got == b"seen\n":
                other.cancel()
        assert got == b"seen\n"
        assert self.end(run).status is RunStatus.CANCELLED
        assert self.end(other) == self.end(run)

    def test_delete_refuses_a_live_run(self, manager: RunManager) -> None:
        """A run that has not ended is not deleted."""
        run = self.running(manager, self.programs.sleeps(300))
        with pytest.raises(RunStillLive):
            run.delete()
        with pytest.raises(RunStillLive):
            manager.runner(self.runner).delete(run.run_id)
        assert run.poll() is RunStatus.RUNNING
        run.cancel(grace=0)
        self.end(run)

    def test_delete_twice_is_harmless(self, manager: RunManager) -> None:
        """After delete nothing knows the run, and deleting it again changes nothing."""
        run = self.submit(manager, self.programs.prints("x"))
        self.end(run)
        runner = manager.runner(self.runner)
        runner.delete(run.run_id)
        runner.delete(run.run_id)
        assert run.logs("stdout") == "x\n"
        run.delete()
        runner.delete(run.run_id)
        assert isinstance(runner.poll([run.run_id])[run.run_id], RunNotFound)
        for call in (run.delete, lambda: manager.get(run.run_id), lambda: run.record):
            with pytest.raises(RunNotFound):
                call()

    # Once and only once.

    def test_submitting_the_same_run_again_starts_nothing(
        self, manager: RunManager, home: str, tmp_path: Path
    ) -> None:
        """Two submits of one run id, by two runner objects, make one execution."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        runners = [manager.runner(self.runner), self.make_manager(home).runner(self.runner)]
        for runner in (*runners, runners[0]):
            runner.submit(plan, run.log.folder, runner.inherited(plan))
        assert self.end(run).status is RunStatus.SUCCEEDED
        runners[1].submit(plan, run.log.folder, runners[1].inherited(plan))
        manager.tracker.look([run.run_id])
        self.settled()
        assert self.executions(run, mark) == 1

    def test_many_submits_at_once_start_one(
        self, manager: RunManager, home: str, tmp_path: Path
    ) -> None:
        """Eight submits of one run id at the same moment make one execution."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        barrier = threading.Barrier(8)

        def submit() -> None:
            runner = self.make_manager(home).runner(self.runner)
            barrier.wait()
            runner.submit(plan, run.log.folder, runner.inherited(plan))

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.end(run).status is RunStatus.SUCCEEDED
        self.settled()
        assert self.executions(run, mark) == 1

    def test_a_closed_launch_is_never_started(self, manager: RunManager, tmp_path: Path) -> None:
        """Whoever comes to a launch that is closed starts nothing: the run is LOST."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        facts.link_once(run.log.folder, LAUNCH, {"closed": "a test", "at": time.time()})
        runner = manager.runner(self.runner)
        runner.submit(plan, run.log.folder, runner.inherited(plan))
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.LOST, Reason.NEVER_STARTED)
        assert record.exit_code is None
        self.settled()
        assert self.executions(run, mark) == 0

    def test_a_stop_before_the_start_prevents_it(self, manager: RunManager, tmp_path: Path) -> None:
        """A run that is to stop before it was submitted is CANCELLED and never executed."""
        mark = str(tmp_path / "executions")
        run, plan = self.prepared(manager, self.programs.counted(mark))
        stop = {"who": "you", "why": "cancel", "grace": 1.0, "at": time.time()}
        facts.link_once(run.log.folder, STOP, stop)
        runner = manager.runner(self.runner)
        runner.submit(plan, run.log.folder, runner.inherited(plan))
        record = self.end(run)
        assert (record.status, record.reason) == (RunStatus.CANCELLED, Reason.CANCELLED_BY_USER)
        assert record.exit_code is None
        self.settled()
        assert self.executions(run, mark) == 0

    def test_a_cancel_directly_after_submit_holds(self, manager: RunManager) -> None:
        """A cancel that meets the start ends the run, whichever of the two comes first."""
        for _ in range(5):
            run = self.submit(manager, self.programs.sleeps(300))
            run.cancel(grace=0)
            assert self.end(run).status is RunStatus.CANCELLED

    # Helpers.

    def submit(self, manager: RunManager, spec: JobSpec) -> Run:
        """Submits to the runner under test."""
        return manager.submit(spec, self.runner)

    def running(self, manager: RunManager, spec: JobSpec) -> Run:
        """Submits, and returns once it runs."""
        run = self.submit(manager, spec)
        self.until(lambda: run.poll() is not RunStatus.PENDING)
        assert run.status is RunStatus.RUNNING, run.record.sentence
        return run

    def end(self, run: Run) -> RunRecord:
        """Its final record, once it is there.

        A runtime that doesn't get to open a stream before a short program has ended, on a busy
        machine, closes it unread; to whoever asks its backend that looks like no output.
        """
        record = run.wait(timeout=self.patience, check=False).record
        ran = record.exit_code is not None and record.reason in ("", Reason.NON_ZERO_EXIT)
        if ran and self.dropped(run):
            pytest.xfail("the backend dropped output: reading from a closed fifo")
        return record

    def dropped(self, run: Run) -> bool:
        """Whether the backend's own log says that it dropped the output of this run."""
        return False

    def until(self, true: Callable[[], bool]) -> None:
        """Returns when something is so; fails when it doesn't come."""
        until(true, self.patience)

    def settled(self) -> None:
        """Gives what must not happen the time to happen."""
        time.sleep(0.3)

    def snapshot(self, answers: Mapping[str, Snapshot | RunNotFound], run: Run) -> Snapshot:
        """One answer, without the moment it was given and how long the run had lasted then.

        And without the backend's own words, to which a second witness may add its own later.
        """
        answer = answers[run.run_id]
        assert isinstance(answer, Snapshot)
        evidence = {k: v for k, v in answer.evidence.items() if k != "elapsed"}
        return replace(answer, observed_at=0.0, backend_message="", evidence=evidence)

    def prepared(self, manager: RunManager, spec: JobSpec) -> tuple[Run, Plan]:
        """A run whose folder is whole, and which nobody has handed over yet; and its plan."""
        run = prepared(manager, spec, self.runner)
        return run, manager.runner(self.runner).plan(spec, run.run_id)


def shown_files(run: Run) -> list[str]:
    """The names in a run's folder, but for those of a moment."""
    return sorted(name for name in os.listdir(run.log.folder) if not name.startswith("."))


def lives(pid: int) -> bool:
    """Whether a process of this machine lives; a zombie doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the second where it went meanwhile
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _as_text(data: bytes) -> bytes:
    """Each byte that is not part of a character becomes U+FFFD, as Go's JSON encoder does it."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text).encode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
