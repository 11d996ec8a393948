"""The verbs in a notebook: runs are shown below the cell, answers are text, a frame or a run.

The magics enter this module with the first line that needs it, and with it all of its imports.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from qwex_jupyter import api
from qwex_jupyter.commands import options, verbs
from qwex_jupyter.commands.base import Verbs, deadline
from qwex_jupyter.commands.line import BLANKS, plain_ends, split
from qwex_jupyter.display import publish, tables
from qwex_jupyter.display.format import UNREACHABLE, one_line
from qwex_jupyter.errors import QwexError, SpecError, SubmitFailed
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.prepared import Prepared
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.submission import command_text
from qwex_jupyter.model.cause import of_message
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.notebook import cards, cell, views, wait_table
from qwex_jupyter.notebook.tell import tell
from qwex_jupyter.notebook.view import View
from qwex_jupyter.system import frontend, interrupts


class NotebookVerbs(Verbs):
    """The verbs of one line or cell.

    Args:
        manager: Gives the one whose runs they are.
        shell: The IPython shell.
        names: What a line may name: the notebook's variables, under those of the function that
            the line stands in.
    """

    def __init__(
        self,
        manager: Callable[[], RunManager],
        shell: Any,
        names: Mapping[str, Any],
    ) -> None:
        super().__init__(manager)
        self._shell, self._names = shell, names
        # That of this cell, for what another thread has to say.
        self._publisher = shell.display_pub
        # Whether what is run stands right above what is shown of it.
        self._below = False

    def line(self, line: str) -> Any:
        """Carries out a line magic; one that names no verb says which there are."""
        verb, *rest = re.split("[ \t]+", line.strip(BLANKS), maxsplit=1)
        if verb in ("", "help", "-h", "--help"):
            return self.say(options.overview())
        return self.do(verb, split("".join(rest), self._names))

    def body(self, line: str, body: str, blank: int = 0) -> Any:
        """Runs what stands in a cell, below its line, which may stand below blank ones."""
        body, above = plain_ends(body), blank + 1
        self._below = frontend.cell_code().lstrip().startswith("%%qwex")
        while _goes_on(line):
            more, _, body = body.partition("\n")
            line, above = line[:-1] + more, above + 1
        return self.run(split(line, self._names), body, above)

    def say(self, text: str, *, ours: bool = True) -> None:
        """Prints an answer."""
        tell(text)

    def note(self, text: str, *, ours: bool = True) -> None:
        """Shows a quiet line beside an answer, which stays what was asked for."""
        if frontend.is_kernel():
            publish.note(self._publisher, text)
        else:
            tell(text, sys.stderr)

    def take(self, args: argparse.Namespace) -> None:
        """Refuses the option that only a terminal has."""
        if args.json:
            raise SpecError(
                "--json is for terminals: here %qwex runs gives a DataFrame, and .record.to_json() "
                "of a run the same."
            )

    # -- runs ----------------------------------------------------------------------------------

    def profile(self, text: str) -> list[str]:
        """The words of a profile, with what it names."""
        return split(text, self._names)

    def submit(self, args: argparse.Namespace, prepared: Prepared) -> Run:
        """Hands a run over; shows its card, or all of it until it has ended."""
        if args.as_name and not args.as_name.isidentifier():
            raise SpecError(f"--as {args.as_name}: that can't be a variable's name.")
        if not args.detach:
            return self._foreground(args, prepared)
        run = self.manager.hand_over(prepared)
        self._bind(args, run)
        if not args.quiet:
            try:
                self._show_card(run)
            except Exception as error:  # noqa: BLE001 - it runs all the same
                tell(cell.unshown(error, run.handle), sys.stderr)
        return run.shown()

    def _foreground(self, args: argparse.Namespace, prepared: Prepared) -> Run:
        manager, spec = self.manager, prepared.spec
        view = self._view(quiet=args.quiet)
        what: Any = {"command": command_text(spec), "image": spec.image or "", "name": spec.name}
        asked = RunRecord("", prepared.runner, created_at=time.time(), **what)
        check = self.manager.setting("raise_error") and not args.no_raise_error
        with interrupts.held() as presses:
            try:
                view.begin(asked)
                with cell.handing_over(view, asked, presses):
                    run = manager.hand_over(prepared, presses=presses)
            except QwexError as error:
                view.finish(_not_started(asked, str(error)))
                presses.taken = True  # it says more, and stops a notebook as well
                raise
            except Exception as error:
                why = f"Nothing was started: {type(error).__name__}: {error}"
                with suppress(Exception):  # it may be the display itself that fails
                    view.finish(_not_started(asked, why))
                presses.taken = True
                raise SubmitFailed(why) from error
            self._bind(args, run)
            return cell.foreground(manager, run, view, presses, check=check).shown()

    def _bind(self, args: argparse.Namespace, run: Run) -> None:
        if args.as_name:
            self._shell.user_ns[args.as_name] = run

    def _view(self, *, quiet: bool = False) -> View:
        return views.view_for(
            self._shell,
            self.manager,
            self.manager.setting("display"),
            quiet=quiet,
            below=self._below,
        )

    def _show_card(self, run: Run) -> None:
        note = cards.note_of(run)
        if views.has_live_cards(self._shell, self.manager.setting("display")):
            cards.cards_of(self.manager).add(run, self._shell, note, below=self._below)
        else:
            tell(f"{one_line(run.record)}\n  {note}")

    # -- answers -------------------------------------------------------------------------------

    def runs(self, args: argparse.Namespace) -> Any:
        """Gives the history as a DataFrame."""
        return api.runs_of(
            self.manager,
            status=args.status,
            runner=args.runner,
            since=args.since,
            name=args.name,
            limit=args.limit,
        )

    def logs(self, args: argparse.Namespace) -> None:
        """Prints the last lines of the output, or all that comes."""
        run = self.last(args.run)
        if args.follow and not run.record.status.final:
            if frontend.is_kernel():
                # Text without end is dropped by a server, and slows a page down.
                cell.attach(self.manager, run, self._view(), only=args.stream)
                return
            with self.telling(run, only=UNREACHABLE):
                cell.print_on(run, args.tail, args.stream)
        else:
            self.manager.output.fetch(run.run_id)
            if text := verbs.output_text(run, args.tail, args.stream):
                tell(text)
        self.note_gaps(run)

    def attach(self, args: argparse.Namespace) -> Run:
        """Shows a run as its own cell did."""
        return cell.attach(self.manager, self.newest(args.run), self._view()).shown()

    def wait(self, args: argparse.Namespace) -> Run | None:
        """Waits: for one run without a word, for several with a table that is kept up to date."""
        runs, until = self.many(args), deadline(args.timeout)
        if len(runs) > 1 and views.has_panes(self._shell, self.manager.setting("display")):
            at = None if until is None else until.at
            wait_table.wait(self.manager, runs, self._shell.display_pub, at)
            return None
        try:
            for run in runs:
                with self.telling(run, only=UNREACHABLE, named=len(runs) > 1):
                    self.wait_for(run, until)
        except TimeoutError as error:
            tell(error)
        except KeyboardInterrupt:
            tell("No longer waited for; the runs go on.")
        if len(runs) == 1:
            return runs[0]
        self._table(runs)
        return None

    def cancel(self, args: argparse.Namespace) -> None:
        """Stops runs, and prints what became of them."""
        runs = self.many(args)
        if all(run.record.status.final for run in runs):
            tell("Nothing to stop: " + ("this has ended." if runs else "nothing runs."))
        stopped = list(self.stop(runs, args.grace))
        self._table(stopped)
        for record in [run.record for run in stopped]:
            if record.message and (not record.status.final or record.reason == Reason.UNREADABLE):
                tell(f"  {record.handle}: {record.message}")

    def monitor(self, _: argparse.Namespace) -> Any:
        """Shows all runs, live."""
        return api.monitor_of(self.manager)

    def _table(self, runs: list[Run]) -> None:
        if runs:
            table = tables.of_runs(self.manager.history, [run.record for run in runs])
            tell(table.text(tables.terminal_width()))


def _goes_on(line: str) -> bool:
    """Whether a trailing backslash joins the next line to this one, as a shell would."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _not_started(asked: RunRecord, why: str) -> RunRecord:
    """The record of what never became a run."""
    return replace(
        asked,
        status=RunStatus.FAILED,
        reason=Reason.NEVER_STARTED,
        message=why,
        cause=of_message(why),
    )
