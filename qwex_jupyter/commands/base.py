"""What each verb does, written once for notebook and terminal: a subclass shows its answer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from qwex_jupyter.commands import doctor, options, table, verbs
from qwex_jupyter.commands.line import split
from qwex_jupyter.commands.told import Told
from qwex_jupyter.display.format import called
from qwex_jupyter.errors import QwexError, SpecError
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.prepared import Prepared
from qwex_jupyter.manager.run import Run
from qwex_jupyter.manager.submission import with_its_script
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason
from qwex_jupyter.model.units import parse_duration


class Verbs:
    """The verbs over the runs of one manager.

    Each verb is a method of its name, and a subclass has those whose answers have nothing in common
    (runs, logs, attach, wait, cancel, monitor). A method returns what its front end makes of
    the answer: a notebook shows an object below the cell, a terminal ends with a code.

    Args:
        manager: Gives the one whose runs they are. It is asked when it is needed, as help and the
            word about a mistake need none.

    Attributes:
        tells_which: Whether a person is told which run was meant, where none was named.
        failed: Whether a verb that has said its answer did less than it was asked for.
    """

    def __init__(self, manager: Callable[[], RunManager]) -> None:
        self._manager = manager
        self.tells_which, self.failed = True, False

    @property
    def manager(self) -> RunManager:
        """Whose runs they are."""
        return self._manager()

    # -- what a front end is asked for ---------------------------------------------------------

    def say(self, text: str, *, ours: bool = True) -> Any:
        """Shows an answer, which may name commands of ours unless it was written by others."""
        raise NotImplementedError

    def note(self, text: str, *, ours: bool = True) -> None:
        """Says something beside the answer; see `say`."""
        raise NotImplementedError

    def take(self, args: argparse.Namespace) -> None:
        """Takes the options that are this front end's own, and refuses those of the other.

        Raises:
            SpecError: One of those was given.
        """

    def profile(self, text: str) -> list[str]:
        """The words of a profile, of which this is the text."""
        return split(text)

    def worded(self, record: RunRecord) -> RunRecord:
        """A record whose message names commands as this front end has them."""
        return record

    def answer(self, record: RunRecord, text: str) -> None:
        """Shows a run: in this text, or by its record where that is wanted."""
        self.say(text, ours=False)

    def dry_run(self, prepared: Prepared) -> Any:
        """Shows what would be handed over."""
        return self.say(self.manager.show(prepared), ours=False)

    def deleted(self, record: RunRecord) -> None:
        """Says which run was deleted."""
        self.say(f"Deleted {record.title}.", ours=False)

    def pruned(self, pruning: verbs.Pruning) -> None:
        """Says what could be deleted, or was, and what stays of it."""
        self.say(pruning.text(), ours=False)
        for run_id, why in pruning.kept.items():
            self.say(f"{run_id.rpartition('-')[2]}: {why}")

    def submit(self, args: argparse.Namespace, prepared: Prepared) -> Any:
        """Hands a run over, and shows it unless it is detached."""
        raise NotImplementedError

    # -- the verbs -----------------------------------------------------------------------------

    def do(self, verb: str, words: list[str]) -> Any:
        """Carries out a line.

        Args:
            verb: Its name, or an alias.
            words: What stands behind it.

        Raises:
            SpecError: There is no such verb, or an option is wrong.
        """
        name = table.ALIASES.get(verb, verb)
        if name == "run":
            return self.run(words)
        if name == "rerun":
            return self.rerun(words)
        args = options.parse_verb(name, words)
        if args.help:
            return self.say(options.help_text(name))
        self.take(args)
        # Its options were parsed, so it is a verb, and each has a method of its name.
        return getattr(self, name)(args)

    def run(self, words: list[str], cell: str | None = None, above: int = 0) -> Any:
        """Runs a command, or what stands in a cell below so many other lines."""
        args, command = options.parse_run(words, profile=self._profile)
        if args.help:
            return self.say(options.help_text("run", args.runner))
        self.take(args)
        spec = options.make_spec(args, command, cell, self.manager.set_for_all(), above)
        chosen = self.manager.choose(spec, args.runner)
        return self._start(args, spec, chosen)

    def rerun(self, words: list[str]) -> Any:
        """Runs the same again, with other options where given."""
        ref = words[0] if words and not words[0].startswith("-") else None
        its = words[1:] if ref else words
        args, rest = options.parse_run(its, "rerun", profile=self._profile)
        if args.help:
            return self.say(options.help_text("rerun", args.runner))
        if not ref and rest:
            ref = rest.pop(0)
        if rest:
            raise SpecError(f"%qwex rerun takes a run and options, not {rest[0]!r}.")
        self.take(args)
        run = self.last(ref)
        values = options.spec_values(args)
        chosen, spec = self.manager.again(run.run_id, runner=args.runner, **values)
        return self._start(args, spec, chosen)

    def _profile(self, name: str) -> list[str]:
        profiles = self.manager.setting("profiles")
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none is set: c.Qwex.profiles = {...}"
            raise SpecError(f"--profile {name}: there is no such profile ({known}).")
        return self.profile(profiles[name])

    def _start(self, args: argparse.Namespace, spec: JobSpec, chosen: str) -> Any:
        spec = with_its_script(spec, chosen)
        prepared = self.manager.prepare(spec, chosen, only_show=args.dry_run)
        if args.dry_run:
            return self.dry_run(prepared)
        return self.submit(args, prepared)

    def stop(self, runs: list[Run], grace: str | None) -> Iterator[Run]:
        """Asks runs to stop one by one, and gives each of them a moment to do so."""
        seconds = None if grace is None else parse_duration(grace, "grace")
        failed: list[QwexError] = []
        for run in runs:
            try:
                run.cancel(seconds)
                with suppress(TimeoutError):  # it has its grace: what is said says that it stops
                    self.wait_for(run, Deadline.after(0.5))
            except QwexError as error:
                failed.append(error)
                continue
            yield run
        self._raise_first(failed)

    def show(self, args: argparse.Namespace) -> None:
        """Shows all that is known of a run."""
        record = self.last(args.run).record
        self.answer(record, verbs.details(self.manager, self.worded(record)))

    def delete(self, args: argparse.Namespace) -> None:
        """Takes runs out of the history.

        Raises:
            RunNotFound: One of those names means none; nothing was deleted.
            QwexError: The first that stays, when the others are gone.
        """
        kept: list[QwexError] = []
        for run in dict.fromkeys([self.manager.get(ref) for ref in args.run]):
            try:
                record = run.record
                self.manager.delete(run.run_id, gone=args.gone)
            except QwexError as error:
                kept.append(error)
            else:
                self.deleted(record)
        self._raise_first(kept)

    def _raise_first(self, errors: list[QwexError]) -> None:
        """Raises the first of several troubles, after the others were said beside it."""
        for other in errors[1:]:
            self.note(str(other))
        if errors:
            raise errors[0]

    def prune(self, args: argparse.Namespace) -> None:
        """Says what could be deleted, or deletes it."""
        pruning = verbs.prune(self.manager, args)
        self.pruned(pruning)
        self.failed = bool(pruning.kept)

    def doctor(self, _: argparse.Namespace) -> None:
        """Says what works here."""
        self.say(doctor.examine(self.manager).text())

    # -- which runs are meant, and until when --------------------------------------------------

    def last(self, ref: str | None) -> Run:
        """The run that is named, or that which was submitted last, which is told then."""
        if ref:
            return self.manager.get(ref)
        run = self.manager.last()
        if self.tells_which:
            self.note(called(run.record), ours=False)
        return run

    def newest(self, ref: str | None) -> Run:
        """The run that is named, or the newest, one that lives before the others."""
        return self.manager.get(ref) if ref else self.manager.newest()

    def many(self, args: argparse.Namespace) -> list[Run]:
        """Those that are named, all that live with ``--all``, or the newest."""
        if args.all:
            return [Run(self.manager, run_id) for run_id in self.manager.history.open_ids()]
        return [self.manager.get(ref) for ref in args.run] or [self.manager.newest()]

    def wait_for(self, run: Run, until: Deadline | None) -> None:
        """Waits for the end of a run.

        Raises:
            TimeoutError: It had not ended in time.
        """
        try:
            run.wait(None if until is None else until.left(), check=False)
        except TimeoutError:
            assert until is not None
            raise self.manager.too_long(run.run_id, until.seconds) from None

    @contextmanager
    def telling(
        self, run: Run, *, only: Collection[Reason] = (), named: bool = False
    ) -> Iterator[None]:
        """While the block lasts, what a run waits for is said, a backend's silence too.

        Args:
            run: The run.
            only: See `Told`.
            named: See `Told`.
        """
        told = Told(run.run_id, self.note, only=only, named=named)
        forget = self.manager.observe(told)
        if (seen := self.manager.tracker.observations.last(run.run_id)) is not None:
            told(seen)  # observers hear only of what changes
        try:
            yield
        finally:
            forget()

    def note_gaps(self, run: Run) -> None:
        """Says what is missing of its output, or why none can be read."""
        record = self.worded(self.manager.tracker.record(run.run_id))
        for line in verbs.about_output(record):
            self.note(line, ours=False)


@dataclass(frozen=True)
class Deadline:
    """When waiting is given up, of several runs in turn too.

    Attributes:
        seconds: After how long, as it was asked for.
        at: When that is, by the monotonic clock.
    """

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """One so many seconds from now."""
        return cls(seconds, time.monotonic() + seconds)

    def left(self) -> float:
        """How many seconds there are until then."""
        return max(0.0, self.at - time.monotonic())


def deadline(timeout: str | None) -> Deadline | None:
    """What ``--timeout`` says, from now on; None for never."""
    return Deadline.after(parse_duration(timeout)) if timeout else None
