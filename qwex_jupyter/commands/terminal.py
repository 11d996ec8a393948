"""The verbs in a terminal: answers on stdout, all else on stderr, and the exit code."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

from qwex_jupyter.commands import as_json, doctor, stdio
from qwex_jupyter.commands.base import Deadline, Verbs, deadline
from qwex_jupyter.commands.codes import NO_CODE
from qwex_jupyter.commands.stdio import Unwritable, pass_on
from qwex_jupyter.commands.verbs import Pruning
from qwex_jupyter.disk.logs import STDOUT, STREAMS
from qwex_jupyter.display import tables
from qwex_jupyter.display.format import stopping_text
from qwex_jupyter.errors import SpecError
from qwex_jupyter.history.search import statuses_of
from qwex_jupyter.history.since import parse_moment
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.prepared import Prepared
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus

# The commands of a notebook as a text of ours names them, and what a shell has for them.
_IN_A_SHELL = {"%%qwex?": "qwex run --help", "%%qwex": "qwex run", "%qwex": "qwex"}
_OURS = re.compile(r"(?<!\S)(?:%%qwex\?|%%?qwex(?= ))")
_SETTING = re.compile(r"%config Qwex\.(\w+) = '([^']*)'")
_TYPED = re.compile(r"os\.environ\['(\w+)'\] = getpass\.getpass\(\)")
# So many runs are listed when nobody says how many, and this is said where there are none.
_ROWS, _NONE = 50, "No runs yet. Start one: qwex run COMMAND"


def in_a_shell(text: object) -> str:
    """A text of ours, written for a notebook, for a shell. What isn't ours may say the same."""
    text = _OURS.sub(lambda found: _IN_A_SHELL[found[0]], str(text))
    text = _SETTING.sub(lambda found: f"export QWEX_{found[1].upper()}={found[2]}", text)
    return _TYPED.sub(r"read -rs \1; export \1", text)


class Terminal(Verbs):
    """The verbs, printed; a verb returns the exit code, or None for 0.

    With ``--json`` stdout has one JSON value a line, and so has what we say on stderr.
    """

    def __init__(self) -> None:
        made = RunManager()
        super().__init__(lambda: made)
        self._json = False
        # Whoever reads stderr through a pipe gets the run's own bytes.
        self.tells_which = sys.stderr.isatty()

    def say(self, text: str, *, ours: bool = True) -> None:
        """Prints an answer."""
        stdio.say(in_a_shell(text) if ours else text)

    def value(self, value: object) -> None:
        """Prints an answer as JSON."""
        stdio.say(as_json.line(value))

    def note(self, text: str, *, ours: bool = True) -> None:
        """Says something on stderr."""
        text = in_a_shell(text) if ours else text
        stdio.note(as_json.line({"note": text}) if self._json else f"qwex: {text}")

    def _interrupted(self, text: str) -> None:
        """Says what Ctrl-C did, below the ``^C`` that a terminal shows of it."""
        if not self._json:
            stdio.note("")
        self.note(text)

    def worded(self, record: RunRecord) -> RunRecord:
        """Its message names commands as a shell has them."""
        return replace(record, message=in_a_shell(record.message))

    def _answer_end(self, record: RunRecord) -> None:
        """Prints a record as JSON; without, says on stderr why the run didn't succeed."""
        if self._json:
            self.answer(record)
        elif record.status.final and record.status is not RunStatus.SUCCEEDED:
            self.note(" · ".join(self.worded(record).told), ours=False)

    def take(self, args: argparse.Namespace) -> None:
        """Takes ``--json``, and refuses the option that only a notebook has."""
        self._json = args.json
        if getattr(args, "as_name", None):
            raise SpecError("--as is for notebooks.")

    def answer(self, record: RunRecord, text: str = "") -> None:
        """Prints a record as JSON, or where that isn't wanted a text."""
        if self._json:
            self.value(self._of_run(record))
        elif text:
            self.say(text, ours=False)

    def _of_run(self, record: RunRecord) -> dict[str, Any]:
        return as_json.of_run(self.worded(record))

    # -- runs ----------------------------------------------------------------------------------

    def dry_run(self, prepared: Prepared) -> None:
        """Prints what would be handed over."""
        if not self._json:
            super().dry_run(prepared)
            return
        spec, text = prepared.spec.to_json(), self.manager.show(prepared)
        self.value({"runner": prepared.runner, "spec": spec, "text": text})

    def submit(self, args: argparse.Namespace, prepared: Prepared) -> int:
        """Hands a run over, and passes its output and its exit code on."""
        run = self.manager.hand_over(prepared)
        if args.detach:
            try:
                self.answer(run.record, run.handle)
            except Unwritable:
                self.note(f"{run.handle} was submitted all the same")
                raise
            return 0
        if not args.quiet:
            self.note(run.handle)
        with nullcontext() if args.quiet else self.telling(run):
            record = self._stream(run)
        if self._json:
            if run.log.tail(STDOUT, 1) not in (b"", b"\n"):
                pass_on([(STDOUT, b"\n")])  # the record is a line of its own
            self.answer(record)
        else:
            self._answer_end(record if record.log_missing else record.below_its_output())
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
                    self._interrupted(word)
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
    def _watching(self, run: Run, word: str = "watched", *, named: bool = False) -> Iterator[None]:
        """A block that waits for a run and that Ctrl-C ends; the run goes on."""
        try:
            with self.telling(run, named=named):
                yield
        except KeyboardInterrupt:
            self._interrupted(f"no longer {word}; the run goes on")
            raise

    def wait_for(self, run: Run, until: Deadline | None) -> None:
        """Waits for the end; what the backend still holds of the run is freed before we leave."""
        super().wait_for(run, until)
        self.manager.tracker.look([run.run_id])

    def _code(self, run: Run) -> int:
        """The exit code for a run that was waited for; what its user can't know of it is said."""
        self.note_gaps(run)
        record = self.manager.tracker.record(run.run_id)  # the wait has looked at it
        return 0 if record.status is RunStatus.SUCCEEDED else record.exit_code or NO_CODE

    # -- answers -------------------------------------------------------------------------------

    def runs(self, args: argparse.Namespace) -> None:
        """Prints the history: a table of the newest, or all as JSON."""
        since = None if args.since is None else parse_moment(args.since)
        statuses = statuses_of(args.status) or ()
        self.manager.recover(within=2.0)
        limit = args.limit if args.limit is not None else (None if self._json else _ROWS)
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
            return
        narrowed = any((statuses, args.runner, args.name, since is not None, args.limit == 0))
        self._table(
            replace(
                tables.of_runs(self.manager.history, found),
                note="There are more: --limit 200 shows 200." if next(wanted, None) else "",
                none=in_a_shell(tables.NONE_LIKE_IT) if narrowed else _NONE,
            )
        )

    def _table(self, table: tables.Table) -> None:
        """Prints a table of runs."""
        self.say(table.text(tables.terminal_width()), ours=False)

    def logs(self, args: argparse.Namespace) -> None:
        """Passes the output on, byte for byte."""
        run = self.last(args.run)
        streams = [args.stream] if args.stream else STREAMS
        if args.tail is not None or not args.follow:
            self.manager.output.fetch(run.run_id)
        begin = {} if args.tail is None else {s: run.log.where_last(s, args.tail) for s in streams}
        if args.follow:
            with self._watching(run):
                self._pass_on((s, data) for s, data in run.follow(begin) if s in streams)
        else:
            for stream in streams:
                pieces = run.log.pieces(stream, begin.get(stream, 0))
                self._pass_on((stream, data) for data in pieces)
        self.note_gaps(run)

    def attach(self, args: argparse.Namespace) -> int:
        """Passes the output of a run on until it has ended, and then its exit code."""
        run = self.newest(args.run)
        with self._watching(run):
            self._pass_on(run.follow())
            self.wait_for(run, None)
        self._answer_end(self.manager.tracker.record(run.run_id))
        return self._code(run)

    def _pass_on(self, output: Iterable[tuple[str, bytes]]) -> None:
        """Passes output on: as it is, or as JSON."""
        if not self._json:
            pass_on(output)
            return
        for said in as_json.of_output(output):
            self.value(said)

    def wait(self, args: argparse.Namespace) -> int:
        """Waits for runs; the exit code is that of the first which has one."""
        until = deadline(args.timeout)
        codes, runs = [], self.many(args)
        for run in runs:
            try:
                with self._watching(run, "waited for", named=len(runs) > 1):
                    self.wait_for(run, until)
                codes.append(self._code(run))
            except TimeoutError as error:
                self.note(str(error), ours=False)
                codes.append(NO_CODE)
            self._answer_end(self.manager.tracker.record(run.run_id))
        return next((code for code in codes if code), 0)

    def cancel(self, args: argparse.Namespace) -> None:
        """Stops runs, and prints of each what became of it."""
        for run in self.stop(self.many(args), args.grace):
            record = run.record
            self.answer(record, stopping_text(self.worded(record)))
            self.note_gaps(run)

    def deleted(self, record: RunRecord) -> None:
        """Prints which run was deleted."""
        if self._json:
            self.value({"run": self._of_run(record), "deleted": True})
        else:
            super().deleted(record)

    def pruned(self, pruning: Pruning) -> None:
        """Prints what could be deleted, or was."""
        if not self._json:
            super().pruned(pruning)
            return
        for record, size in pruning.found:
            why = pruning.kept.get(record.run_id, "")
            gone = pruning.done and not why
            value = {"run": self._of_run(record), "bytes": size, "deleted": gone}
            self.value({**value, "message": in_a_shell(why)})

    def doctor(self, args: argparse.Namespace) -> None:
        """Prints what works here."""
        if self._json:
            found = doctor.examine(self.manager).to_json()
            for check in found["checks"]:
                check["lines"] = [in_a_shell(line) for line in check["lines"]]
            self.value(found)
        else:
            super().doctor(args)

    def monitor(self, _: argparse.Namespace) -> None:
        """Prints the newest runs."""
        self.manager.recover(within=2.0)
        table = tables.of_history(self.manager.history)
        if self._json:
            for record in table.records:
                self.answer(record)
            return
        self._table(replace(table, none=_NONE))
        self.say("Live, with keys: qwex.monitor() in a notebook.")
