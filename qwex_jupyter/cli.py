"""``qwex`` in a terminal: the same verbs over the same history.

``qwex run`` streams, passes the exit code on, and cancels on Ctrl-C or, as SIGPIPE would,
when its output can't be written any more (``| head``); when the terminal closes, the run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, NoReturn

from qwex_jupyter._version import __version__
from qwex_jupyter.commands import options, stdio
from qwex_jupyter.commands.base import Verbs, deadline, left
from qwex_jupyter.commands.stdio import Unwritable, note, pass_on, say
from qwex_jupyter.disk.logs import STREAMS
from qwex_jupyter.display import tables
from qwex_jupyter.display.format import stopping_text, table_text
from qwex_jupyter.errors import AmbiguousRun, QwexError, RunNotFound, SpecError
from qwex_jupyter.history.search import statuses_of
from qwex_jupyter.history.since import parse_moment
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.prepared import Prepared
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.system import compat

# The commands of a notebook as a text of ours names them, and what a shell has for them.
_IN_A_SHELL = {"%%qwex?": "qwex run --help", "%%qwex": "qwex run", "%qwex": "qwex"}
_OURS = re.compile(r"(?<!\S)(?:%%qwex\?|%%?qwex(?= ))")

# What a shell knows them by: usage (sysexits.h), a run that has no exit code of its own, and
# what was ended by a signal: 13 is SIGPIPE, which not every system has a name for.
_USAGE, _NO_CODE = 64, 1
_INTERRUPTED, _NO_READER = 128 + signal.SIGINT, 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    stdio.settle()
    try:
        return _main(words)
    except (SpecError, RunNotFound, AmbiguousRun) as error:
        note(f"qwex: {_plain(error)}")
        return _USAGE
    except QwexError as error:
        note(f"qwex: {_plain(error)}")
        return _NO_CODE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Unwritable as error:
        if error.nobody_reads:  # `| head` has what it wanted
            return _NO_READER
        note(f"qwex: {error}")
        return _NO_CODE
    finally:
        _flush()


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
    if not words or words[0] in ("help", "-h", "--help"):
        say(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        say(f"qwex {__version__}")
        return 0
    # What stands behind `run` may be the program's own --json.
    as_json = "--json" in words and words[0] != "run"
    if as_json:
        words.remove("--json")
    terminal = _Terminal(as_json=as_json)
    code: int | None = terminal.do(words[0], words[1:])
    return code or (_NO_CODE if terminal.failed else 0)


class _Terminal(Verbs):
    """The verbs, printed; a verb returns the exit code, or None for 0.

    Args:
        as_json: Whether records are printed as JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        made = RunManager()
        super().__init__(lambda: made)
        self._json = as_json
        # Whoever reads stderr through a pipe gets the run's own bytes.
        self.tells_which = sys.stderr.isatty()

    def say(self, text: str, *, ours: bool = True) -> None:
        """Prints an answer."""
        say(_plain(text) if ours else text)

    def note(self, text: str, *, ours: bool = True) -> None:
        """Says something on stderr."""
        note(f"qwex: {_plain(text) if ours else text}")

    def worded(self, record: RunRecord) -> RunRecord:
        """Its message names commands as a shell has them."""
        return replace(record, message=_plain(record.message))

    def run(self, words: list[str], cell: str | None = None) -> Any:
        """Runs a command; what stands behind it may be the program's own ``--json``."""
        if "--json" in words:
            # Where options end depends on all that take a value, of whichever runner.
            parser = options.parser_for(words, installed=True)
            flags, _ = options.split_command(words, parser)
            if "--json" in flags:
                words = [*words]
                words.remove("--json")
                self._json = True
        return super().run(words, cell)

    def refuse(self, args: argparse.Namespace) -> None:
        """Refuses the option that only a notebook has."""
        if args.as_name:
            raise SpecError("--as is for notebooks.")

    def submit(self, args: argparse.Namespace, prepared: Prepared) -> int:
        """Hands a run over, and passes its output and its exit code on."""
        run = self.manager.hand_over(prepared)
        if args.detach:
            self.answer(run.record, run.handle)
            return 0
        if not args.quiet:
            self.note(run.handle)
        with self._telling(run.run_id, quiet=args.quiet):
            record = self._stream(run)
        if self._json:
            if run.log.tail("stdout", 1) not in (b"", b"\n"):
                pass_on([("stdout", b"\n")])  # the record is a line of its own
            self.answer(record)
        elif record.status is not RunStatus.SUCCEEDED:
            told = record if record.log_missing else record.below_its_output()
            self.note(self.worded(told).sentence, ours=False)
        code = self._code(run)
        return 0 if args.no_raise_error else code

    def _stream(self, run: Run) -> RunRecord:
        """Passes output on, byte for byte; Ctrl-C cancels, a second one ends the grace."""
        stops = 0
        written = {"stdout": 0, "stderr": 0}
        while True:
            try:
                if stops:
                    run.cancel()
                    word = "stopping, Ctrl-C again to stop it at once" if stops == 1 else "at once"
                    note(f"\nqwex: {word}")
                pass_on(run.follow(written), written)
                break
            except KeyboardInterrupt:
                stops += 1
            except Unwritable:
                run.cancel()
                raise
        self.wait_for(run, None)
        return self.manager.tracker.record(run.run_id)

    @contextmanager
    def _telling(self, run_id: str, *, quiet: bool = False) -> Iterator[None]:
        """While the block lasts, what the run waits for is said, an engine's silence too."""
        if quiet:
            yield
            return
        forget = self.manager.observe(_Told(run_id))
        try:
            yield
        finally:
            forget()

    def wait_for(self, run: Run, timeout: float | None) -> None:
        """Waits for the end; what the backend still holds of the run is freed before we leave."""
        super().wait_for(run, timeout)
        self.manager.tracker.look([run.run_id])

    def _code(self, run: Run) -> int:
        """The exit code for a run that was waited for; what its user can't know of it is said."""
        self.note_gaps(run)
        record = self.manager.tracker.record(run.run_id)  # the wait has looked at it
        return 0 if record.status is RunStatus.SUCCEEDED else record.exit_code or _NO_CODE

    def runs(self, args: argparse.Namespace) -> None:
        """Prints the history: a table of the newest, or all as JSON."""
        since = None if args.since is None else parse_moment(args.since)
        statuses = statuses_of(args.status) or ()
        self.manager.recover(within=2.0)
        limit = args.limit if args.limit is not None else (None if self._json else 50)
        wanted = (
            record.run_id
            for record in self.manager.history.records(since=since)
            if (not statuses or record.status in statuses)
            and (not args.runner or record.runner in args.runner)
            and args.name in (None, record.name)
        )
        found = [self.manager.tracker.record(run_id) for run_id in islice(wanted, limit)]
        if self._json:
            for record in found:
                self.answer(record)
        else:
            say(table_text(found, time.time()))

    def logs(self, args: argparse.Namespace) -> None:
        """Passes the output on, byte for byte."""
        run = self.last(args.run)
        streams = [args.stream] if args.stream else STREAMS
        if args.tail is not None or not args.follow:
            self.manager.output.fetch(run.run_id)
        begin = {} if args.tail is None else {s: run.log.where_last(s, args.tail) for s in streams}
        if args.follow:
            try:
                pass_on((s, d) for s, d in run.follow(begin) if s in streams)
            except KeyboardInterrupt:
                note("\nqwex: no longer watched; the run goes on")
                return
        else:
            for stream in streams:
                pass_on((stream, data) for data in run.log.pieces(stream, begin.get(stream, 0)))
        self.note_gaps(run)

    def attach(self, args: argparse.Namespace) -> int:
        """Passes the output of a run on until it has ended, and then its exit code."""
        run = self.newest(args.run)
        try:
            with self._telling(run.run_id):
                pass_on(run.follow())
        except KeyboardInterrupt:
            note("\nqwex: no longer watched; the run goes on")
            return 0
        self.wait_for(run, None)
        return self._code(run)

    def wait(self, args: argparse.Namespace) -> int:
        """Waits for runs; the exit code is that of the first which has one."""
        until = deadline(args.timeout)
        codes = []
        for run in self.many(args):
            try:
                self.wait_for(run, left(until))
                codes.append(self._code(run))
            except TimeoutError as error:
                note(f"qwex: {error}")
                codes.append(_NO_CODE)
            except KeyboardInterrupt:
                note("\nqwex: no longer waited for; the runs go on")
                return _INTERRUPTED
        return next((code for code in codes if code), 0)

    def cancel(self, args: argparse.Namespace) -> None:
        """Stops runs, and prints of each what became of it."""
        for run in self.stop(self.many(args), args.grace):
            record = run.record
            self.answer(record, stopping_text(self.worded(record)))
            self.note_gaps(run)

    def monitor(self, _: argparse.Namespace) -> None:
        """Prints the newest runs."""
        self.manager.recover(within=2.0)
        say(tables.of_history(self.manager.history).text())
        say("Live, with keys: qwex.monitor() in a notebook.")

    def answer(self, record: RunRecord, text: str = "") -> None:
        """Prints a record as JSON, or where that isn't wanted a text."""
        if self._json:
            values = record.to_json()
            values["handle"], values["duration"] = record.handle, record.duration()
            say(json.dumps(values, ensure_ascii=False))
        elif text:
            say(text)


class _Told:
    """Says on stderr what a run waits for, when that changes, and not too often.

    Args:
        run_id: The run; others are of no interest.
    """

    _EVERY = 5.0

    def __init__(self, run_id: str) -> None:
        self._run_id, self._said, self._again = run_id, "", 0.0

    def __call__(self, record: RunRecord) -> None:
        """Takes an observation."""
        if record.run_id != self._run_id or record.status.final or record.reason == Reason.STOPPING:
            return
        now = time.monotonic()
        if record.message == self._said or (record.reason == Reason.PULLING and now < self._again):
            return
        self._said, self._again = record.message, now + self._EVERY
        if record.message:
            share = f" {record.progress}" if record.progress else ""
            note(f"qwex: {_plain(record.message)}{share}")


def _plain(text: object) -> str:
    """A text of ours, written for a notebook, for a shell. What isn't ours may say the same."""
    return _OURS.sub(lambda found: _IN_A_SHELL[found[0]], str(text))


def _overview() -> str:
    verbs = options.listing("qwex")
    return f"The runs of your notebooks, in a terminal.\n{verbs}\nAdd --json for scripts."


if __name__ == "__main__":
    entry()
