"""``%%qwex`` and ``%qwex``: a line to a spec, a spec to the manager, a run to the cell.

Loading is light: what a verb needs is imported when it is first used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from qwex_jupyter import config, home
from qwex_jupyter.config import Qwex

if TYPE_CHECKING:
    import argparse

    from qwex_jupyter.cards import Cards
    from qwex_jupyter.manager import RunManager
    from qwex_jupyter.record import RunRecord
    from qwex_jupyter.run import Run
    from qwex_jupyter.views import View


# A line of ours up to the cursor: the magic, also behind ``name =``, or by automagic.
_OURS = re.compile(r"(?:\s*[\w., ]+=)?\s*(%%?qwex |qwex )")


def load(shell: Any) -> None:
    """Registers the magics; says what is still running."""
    magic = QwexMagic(shell)
    config.current = magic.config
    shell.register_magic_function(magic, "line_cell", "qwex")
    shell.configurables.append(magic.config)
    shell.Completer.custom_matchers.append(magic.matcher)
    if home.has_open_runs():
        magic.greet()


def unload(shell: Any) -> None:
    """Takes the magics away. Runs go on."""
    magic = shell.magics_manager.magics["line"].pop("qwex", None)
    shell.magics_manager.magics["cell"].pop("qwex", None)
    if isinstance(magic, QwexMagic):
        shell.configurables.remove(magic.config)
        config.current = None
        shell.Completer.custom_matchers.remove(magic.matcher)


class QwexMagic:
    """The magic, as a callable that IPython registers.

    Args:
        shell: The IPython shell.
    """

    # The line is expanded here, by our own rules (see `words`), and not by IPython.
    _ipython_magic_no_var_expand = True
    __name__ = "qwex"

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.config = Qwex(parent=shell)
        self.matcher = _matcher(self)
        self._cards: Cards | None = None

    def getdoc(self) -> str:
        """What ``%%qwex?`` shows."""
        from qwex_jupyter import options

        return f"{options.overview()}\n\n{options.help_text('run')}"

    @property
    def manager(self) -> RunManager:
        """The manager of this process, with what the configuration says."""
        from qwex_jupyter import api

        manager = api.manager()
        manager.default = self._setting("runner") or "local"
        return manager

    def _setting(self, name: str) -> Any:
        """A setting, as `Qwex.value` gives it; a wrong one is a mistake told in one line."""
        from qwex_jupyter.errors import SpecError

        try:
            return self.config.value(name)
        except ValueError as error:
            raise SpecError(str(error)) from None

    def __call__(self, line: str, cell: str | None = None) -> Any:
        """Runs a line, or a cell under its line; mistakes are one line without a traceback."""
        from qwex_jupyter.errors import AmbiguousRun, RunNotFound, SpecError

        try:
            if cell is not None:
                return self._run_cell(line, cell)
            return self._run_verb(line)
        except (SpecError, RunNotFound, AmbiguousRun) as error:
            raise UsageError(str(error)) from None

    def greet(self) -> None:
        """Prints what still runs, after asking for it once; never waits for long."""
        import time

        from qwex_jupyter import context, render
        from qwex_jupyter.errors import QwexError

        try:
            found = self.manager.take_up()
        except QwexError as error:
            print(error)  # noqa: T201
            return
        for record in found[:5]:
            alone = len(found) == 1 and context.is_mine(record.notebook, record.session)
            which = "" if alone else f" {record.handle}"
            line = render.still_running(record, time.time())
            print(f"{line} · %qwex attach{which}")  # noqa: T201
        if len(found) > 5:
            print(f"and {len(found) - 5:,} more · %qwex runs --status RUNNING")  # noqa: T201

    def _run_cell(self, line: str, cell: str) -> Any:
        from qwex_jupyter import options

        while _goes_on(line):
            more, _, cell = cell.partition("\n")
            line = line[:-1] + more
        args, command = options.parse_run(self._words(line))
        if args.help:
            return print(options.help_text("run"))  # noqa: T201
        return self._start(args, command, cell)

    def _words(self, line: str) -> list[str]:
        from qwex_jupyter import words

        return words.split(line, self.shell.user_ns)

    def _start(self, args: argparse.Namespace, command: list[str], cell: str | None) -> Any:
        from qwex_jupyter import options
        from qwex_jupyter.inputs import with_its_script

        args = self._with_profile(args)
        spec = options.make_spec(args, command, cell, self._defaults())
        chosen = self.manager.choose(spec, args.runner or self._setting("runner") or None)
        spec = with_its_script(spec, chosen)
        if args.dry_run:
            return self._dry_run(spec, chosen)
        return self._submit(args, spec, chosen)

    def _defaults(self) -> dict[str, Any]:
        settings = {name: self._setting(name) for name in ("grace", "timeout")}
        return {name: value for name, value in settings.items() if value}

    def _with_profile(self, args: argparse.Namespace) -> argparse.Namespace:
        """The options of a profile, under those of the line."""
        from qwex_jupyter import options
        from qwex_jupyter.errors import SpecError

        if not args.profile:
            return args
        profiles = self.config.profiles
        if args.profile not in profiles:
            known = ", ".join(sorted(profiles)) or "none is set: c.Qwex.profiles = {...}"
            raise SpecError(f"--profile {args.profile}: there is no such profile ({known}).")
        under, command = options.parse_run(self._words(profiles[args.profile]))
        if command:
            raise SpecError(
                f"--profile {args.profile} holds a command ({command[0]}): options only."
            )
        plain = options.run_parser().parse_args([])
        for name, value in vars(under).items():
            mine = getattr(args, name)
            if isinstance(value, list):
                setattr(args, name, [*value, *mine])
            elif mine == getattr(plain, name):
                setattr(args, name, value)
        return args

    def _dry_run(self, spec: Any, chosen: str) -> None:
        import time

        from qwex_jupyter.history import new_run_id

        runner = self.manager.runner(chosen, spec.options)
        print(runner.show(runner.plan(spec, new_run_id(time.time()))))  # noqa: T201

    def _submit(self, args: argparse.Namespace, spec: Any, chosen: str) -> Any:
        import time

        from qwex_jupyter import follow
        from qwex_jupyter.errors import QwexError, RunInterrupted, SpecError
        from qwex_jupyter.inputs import command_text
        from qwex_jupyter.record import RunRecord

        manager = self.manager
        if args.as_name and not args.as_name.isidentifier():
            raise SpecError(f"--as {args.as_name}: that can't be a variable's name.")
        run: Run | None = None
        if args.detach:
            run = manager.submit(spec, chosen)
            self._bind(args, run)
            if not args.quiet:
                self._show_card(run)
            return run.shown()
        runner = manager.runner(chosen, spec.options)
        runner.check()
        runner.plan(spec, "20000101-000000-000000")  # a mistake is told before anything is shown
        view = self._view(quiet=args.quiet)
        what = {"command": command_text(spec), "image": spec.image or "", "name": spec.name}
        asked = RunRecord("", chosen, created_at=time.time(), **what)
        check = self._setting("raise_error") and not args.no_raise_error
        stopped = False
        try:
            view.begin(asked)
            with follow.handing_over(view, asked):
                run = manager.submit(spec, chosen)
            self._bind(args, run)
        except RunInterrupted as interrupt:
            if interrupt.run is None:
                raise
            run, stopped = interrupt.run, True
        except QwexError as error:
            view.finish(_not_started(asked, str(error)))
            raise
        except KeyboardInterrupt:
            if run is None:
                why = "Interrupted before it was started: nothing runs."
                view.finish(_not_started(asked, why, stopped=True))
                raise RunInterrupted(None, why) from None
            run.cancel()  # pressed when it had started, and before anybody watched it
            stopped = True
        if stopped:
            self._bind(args, run)
        return follow.foreground(manager, run, view, check=check, stopped=stopped).shown()

    def _bind(self, args: argparse.Namespace, run: Run) -> None:
        if args.as_name:
            self.shell.user_ns[args.as_name] = run

    def _view(self, *, quiet: bool) -> View:
        from qwex_jupyter import views

        return views.view_for(self.shell, self._setting("display"), quiet=quiet)

    def _has_panes(self) -> bool:
        """Whether displays are updated in place here."""
        from qwex_jupyter import views

        return isinstance(self._view(quiet=False), views.Pane)

    def _show_card(self, run: Run) -> None:
        from qwex_jupyter import context, render
        from qwex_jupyter.cards import Cards

        ends_with = context.ends_with_server() if run.record.runner == "local" else ""
        note = f"%qwex attach {run.handle} · logs · cancel"
        if ends_with:
            note += f" · it ends with {ends_with}"
        if not context.is_watched():
            line = render.one_line(run.record)
            print(f"{line}\n  {note}")  # noqa: T201
            return
        if self._cards is None:
            self._cards = Cards(self.manager)
        self._cards.add(run, self.shell, note)

    def _run_verb(self, line: str) -> Any:
        from qwex_jupyter import options

        verb, _, rest = line.strip().partition(" ")
        name = options.ALIASES.get(verb, verb)
        if not verb:
            return self._overview()
        if verb in ("help", "-h", "--help"):
            return print(options.overview())  # noqa: T201
        if name == "run":
            args, command = options.parse_run(self._words(rest))
        elif name == "rerun":
            return self._rerun(self._words(rest))
        else:
            args, command = options.parse_verb(name, self._words(rest)), []
        if args.help:
            return print(options.help_text(name))  # noqa: T201
        if name == "run":
            return self._start(args, command, None)
        return getattr(self, f"_{name}")(args)

    def _overview(self) -> None:
        from qwex_jupyter import options

        print(options.overview())  # noqa: T201
        if home.has_open_runs():
            self.greet()

    def _one(self, ref: str | None) -> Run:
        return self.manager.get(ref) if ref else self.manager.newest()

    def _many(self, args: argparse.Namespace) -> list[Run]:
        from qwex_jupyter.run import Run

        if getattr(args, "all", False):
            manager = self.manager
            return [Run(manager, run_id) for run_id in manager.history.open_ids()]
        return [self.manager.get(ref) for ref in args.run] or [self.manager.newest()]

    def _runs(self, args: argparse.Namespace) -> Any:
        return self.manager.history.frame(
            status=args.status,
            runner=args.runner,
            since=args.since,
            name=args.name,
            limit=args.limit,
        )

    def _show(self, args: argparse.Namespace) -> None:
        from qwex_jupyter import render, verbs

        run = self._one(args.run)
        spec_fact = verbs.spec_of(self.manager, run.run_id)
        print(render.details_text(run.record, spec_fact, run.log_path))  # noqa: T201

    def _logs(self, args: argparse.Namespace) -> None:
        from qwex_jupyter import logs, render
        from qwex_jupyter.status import say_count

        run = self._one(args.run)
        if args.follow:
            self._logs_on(run, args.stream)
            return
        self.manager.fetch_logs(run.run_id)
        limit = 1000 if args.tail is None else args.tail
        streams = (args.stream,) if args.stream else logs.STREAMS
        view = render.log_view(run.log, limit, streams)
        lines = list(view.lines) if limit else []
        if len(lines) < view.count and args.tail is None:
            count = say_count(view.count - len(lines), "line")
            path = run.log.path(args.stream or logs.STDOUT)
            lines.insert(0, f"… {count} before these, all of them: {path}")
        if lines:
            print("\n".join(lines))  # noqa: T201

    def _logs_on(self, run: Run, only: str | None) -> None:
        import sys

        from qwex_jupyter import follow, logs, terminal
        from qwex_jupyter.status import Reason

        if self._has_panes() and not run.record.status.final:
            # Text without end is dropped by a server, and slows a page down.
            follow.attach(self.manager, run, self._view(quiet=False), only=only)
            return
        texts = {stream: terminal.Text() for stream in logs.STREAMS if only in (None, stream)}
        try:
            for stream, data in run.follow():
                if stream in texts:
                    sys.stdout.write(texts[stream].feed(data))
                    sys.stdout.flush()
        except KeyboardInterrupt:
            print("\nNo longer watched; the run goes on.")  # noqa: T201
        else:
            record = self.manager.record(run.run_id)
            if record.reason == Reason.UNREADABLE:
                print(record.sentence)  # noqa: T201

    def _attach(self, args: argparse.Namespace) -> Any:
        from qwex_jupyter import follow

        run = self._one(args.run)
        return follow.attach(self.manager, run, self._view(quiet=False)).shown()

    def _wait(self, args: argparse.Namespace) -> Any:
        import time

        from qwex_jupyter import waiting
        from qwex_jupyter.spec import parse_duration

        runs = self._many(args)
        until = time.monotonic() + parse_duration(args.timeout) if args.timeout else None
        if len(runs) > 1 and self._has_panes():
            return waiting.wait(self.manager, runs, self.shell.display_pub, until)
        try:
            for run in runs:
                left = None if until is None else max(0.0, until - time.monotonic())
                run.wait(left, check=False)
        except TimeoutError as error:
            print(error)  # noqa: T201
        except KeyboardInterrupt:
            print("No longer waited for; the runs go on.")  # noqa: T201
        return runs[0] if len(runs) == 1 else self._table(runs)

    def _cancel(self, args: argparse.Namespace) -> None:
        from qwex_jupyter.spec import parse_duration
        from qwex_jupyter.status import Reason

        grace = None if args.grace is None else parse_duration(args.grace, "grace")
        runs = self._many(args)
        if all(run.record.status.final for run in runs):
            print("Nothing to stop: " + ("this has ended." if runs else "nothing runs."))  # noqa: T201
        for run in runs:
            run.cancel(grace)
            try:
                run.wait(0.5, check=False)
            except TimeoutError:
                pass  # what is printed says that it is stopping
        self._table(runs)
        for record in [run.record for run in runs]:
            if record.message and (not record.status.final or record.reason == Reason.UNREADABLE):
                print(f"  {record.handle}: {record.message}")  # noqa: T201

    def _rerun(self, words: list[str]) -> Any:
        from qwex_jupyter import options
        from qwex_jupyter.errors import SpecError
        from qwex_jupyter.inputs import with_its_script

        ref = words[0] if words and not words[0].startswith("-") else None
        args, rest = options.parse_run(words[1:] if ref else words, "rerun")
        if args.help:
            return print(options.help_text("rerun"))  # noqa: T201
        if rest:
            raise SpecError(f"%qwex rerun takes a run and options, not {rest[0]!r}.")
        run = self._one(ref)
        values = options.spec_values(self._with_profile(args))
        chosen, spec = self.manager.again(run.run_id, runner=args.runner, **values)
        spec = with_its_script(spec, chosen)
        if args.dry_run:
            return self._dry_run(spec, chosen)
        return self._submit(args, spec, chosen)

    def _delete(self, args: argparse.Namespace) -> None:
        for ref in args.run:
            run = self.manager.get(ref)
            title = run.record.title
            self.manager.delete(run.run_id, gone=args.gone)
            print(f"Deleted {title}.")  # noqa: T201

    def _prune(self, args: argparse.Namespace) -> None:
        from qwex_jupyter import verbs

        text, failed = verbs.prune(self.manager, args)
        print("\n".join([text, *failed]))  # noqa: T201

    def _monitor(self, args: argparse.Namespace) -> Any:
        from qwex_jupyter import api

        return api.monitor_of(self.manager)

    def _doctor(self, args: argparse.Namespace) -> None:
        from qwex_jupyter import verbs

        print(verbs.doctor(self.manager))  # noqa: T201

    def _table(self, runs: list[Run]) -> None:
        import time

        from qwex_jupyter import render

        if runs:
            print(render.table_text([run.record for run in runs], time.time()))  # noqa: T201


def _goes_on(line: str) -> bool:
    """Whether a trailing backslash joins the next line to this one, as a shell would."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _not_started(asked: RunRecord, why: str, *, stopped: bool = False) -> RunRecord:
    """The record of what never became a run."""
    from dataclasses import replace

    from qwex_jupyter.status import Reason, RunStatus

    status, reason = RunStatus.FAILED, Reason.NEVER_STARTED
    if stopped:
        status, reason = RunStatus.CANCELLED, Reason.CANCELLED_BY_USER
    return replace(asked, status=status, reason=reason, message=why)


def _matcher(magic: QwexMagic) -> Any:
    """Completion of verbs, options, runners and runs, and of nothing else on our lines."""
    from IPython.core.completer import context_matcher

    @context_matcher(identifier="qwex_jupyter")  # type: ignore[untyped-decorator]
    def qwex_matcher(context: Any) -> Any:
        line = context.line_with_cursor[: context.cursor_position]
        found = _OURS.match(line)
        if not found or (context.cursor_line > 0 and context.full_text.startswith("%%")):
            return {"completions": []}
        from qwex_jupyter.complete import complete

        return complete(magic.manager, line[found.start(1) :], magic.config.profiles)

    return qwex_matcher
