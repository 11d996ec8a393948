"""``qwex`` in a terminal: the same verbs over the same history.

``qwex run`` streams, passes the exit code on, and cancels on Ctrl-C or, as SIGPIPE would,
when nobody reads its output any more (``| head``); when the terminal closes, the run goes on.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from qwex_jupyter import __version__, api, options, render
from qwex_jupyter.errors import AmbiguousRun, NotRemoved, QwexError, RunNotFound, SpecError
from qwex_jupyter.history import parse_moment, statuses_of
from qwex_jupyter.inputs import with_its_script
from qwex_jupyter.logs import STREAMS
from qwex_jupyter.manager import RunManager
from qwex_jupyter.record import RunRecord
from qwex_jupyter.run import Run
from qwex_jupyter.spec import parse_duration
from qwex_jupyter.status import Reason, RunStatus

# What a shell knows them by: usage (sysexits.h), a run that has no exit code of its own, and
# what was ended by a signal.
_USAGE, _NO_CODE = 64, 1
_INTERRUPTED, _NO_READER = 128 + signal.SIGINT, 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our glyphs
    try:
        code = _main(words)
        sys.stdout.flush()
        return code
    except (SpecError, RunNotFound, AmbiguousRun) as error:
        print(f"qwex: {_plain(error)}", file=sys.stderr)
        return _USAGE
    except QwexError as error:
        print(f"qwex: {_plain(error)}", file=sys.stderr)
        return _NO_CODE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, like `| head`: nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _NO_READER


def entry() -> NoReturn:
    """The process: it ends with the exit code, whoever still waits for a backend.

    Where such a thread is in the code of a library, Python before 3.14 aborts instead of ending
    (CPython #87135).
    """
    code = main()
    if threading.active_count() > 1:
        # What libraries put into temporary files is removed by these.
        atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _main(words: list[str]) -> int:
    if not words or words[0] in ("help", "-h", "--help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"qwex {__version__}")
        return 0
    # What stands behind `run` may be the program's own --json.
    as_json = "--json" in words and words[0] != "run"
    if as_json:
        words.remove("--json")
    return _Terminal(as_json=as_json).verb(words[0], words[1:])


class _Terminal:
    """The verbs, printed."""

    def __init__(self, *, as_json: bool) -> None:
        self._runner = os.environ.get("QWEX_RUNNER") or None
        settings = {"k8s": {"setting": api.setting}}
        self._manager = RunManager(default=self._runner or "local", settings=settings)
        self._json = as_json

    def verb(self, verb: str, words: list[str]) -> int:
        name = options.ALIASES.get(verb, verb)
        if name == "run":
            return self._run(words)
        if name == "rerun":
            return self._rerun(words)
        args = options.parse_verb(name, words)
        if args.help:
            print(_plain(options.help_text(name)))
            return 0
        code: int | None = getattr(self, f"_{name}")(args)
        return code or 0

    def _run(self, words: list[str]) -> int:
        flags, command = options.split_command(words)
        if "--json" in flags:
            flags.remove("--json")
            self._json = True
        args, command = options.parse_run([*flags, "--", *command])
        if args.help:
            print(_plain(options.help_text("run")))
            return 0
        defaults = {
            "timeout": os.environ.get("QWEX_TIMEOUT"),
            "grace": os.environ.get("QWEX_GRACE"),
        }
        spec = options.make_spec(args, command, None, {k: v for k, v in defaults.items() if v})
        chosen = self._manager.choose(spec, args.runner or self._runner)
        return self._start(args, with_its_script(spec, chosen), chosen)

    def _rerun(self, words: list[str]) -> int:
        ref = words[0] if words and not words[0].startswith("-") else None
        args, rest = options.parse_run(words[1:] if ref else words, "rerun")
        if args.help:
            print(_plain(options.help_text("rerun")))
            return 0
        if rest:
            raise SpecError(f"qwex rerun takes a run and options, not {rest[0]!r}.")
        run = self._one(ref)
        values = options.spec_values(args)
        chosen, spec = self._manager.again(run.run_id, runner=args.runner, **values)
        return self._start(args, with_its_script(spec, chosen), chosen)

    def _start(self, args: Any, spec: Any, chosen: str) -> int:
        for name in ("as_name", "profile"):
            if getattr(args, name):
                raise SpecError(f"--{name.removesuffix('_name')} is for notebooks.")
        if args.dry_run:
            from qwex_jupyter.history import new_run_id

            runner = self._manager.runner(chosen, spec.options)
            print(runner.show(runner.plan(spec, new_run_id(time.time()))))
            return 0
        run = self._manager.submit(spec, chosen)
        if args.detach:
            self._say(run.record, run.handle)
            return 0
        if not args.quiet:
            print(f"qwex: {run.handle}", file=sys.stderr)
        with self._telling(run.run_id, quiet=args.quiet):
            record = self._stream(run)
        if self._json:
            if run.log.tail("stdout", 1) not in (b"", b"\n"):
                _pass_on([("stdout", b"\n")])  # the record is a line of its own
            self._say(record, "")
        elif record.status is not RunStatus.SUCCEEDED:
            print(f"qwex: {_plain(record.sentence)}", file=sys.stderr)
        return 0 if args.no_raise_error else _exit_code(record)

    def _stream(self, run: Run) -> RunRecord:
        """Passes output on, byte for byte; Ctrl-C cancels, a second one insists."""
        stops = 0
        written = {"stdout": 0, "stderr": 0}
        while True:
            try:
                if stops:
                    run.cancel()
                    word = "stopping, Ctrl-C again to stop it at once" if stops == 1 else "at once"
                    print(f"\nqwex: {word}", file=sys.stderr)
                _pass_on(run.follow(written), written)
                break
            except KeyboardInterrupt:
                stops += 1
            except BrokenPipeError:
                run.cancel()
                raise
        return self._ended(run)

    @contextmanager
    def _telling(self, run_id: str, *, quiet: bool = False) -> Iterator[None]:
        """While the block lasts, what the run waits for is said, an engine's silence too."""
        if quiet:
            yield
            return
        forget = self._manager.observe(_Told(run_id))
        try:
            yield
        finally:
            forget()

    def _ended(self, run: Run, timeout: float | None = None) -> RunRecord:
        """Waits for the end; what the backend still holds of the run is freed before we leave."""
        record = self._manager.wait(run.run_id, timeout)
        self._manager.look([run.run_id])
        return record

    def _code(self, record: RunRecord) -> int:
        """The exit code for a run that was waited for; that it can't be read is said."""
        if record.reason == Reason.UNREADABLE:
            print(f"qwex: {_plain(record.sentence)}", file=sys.stderr)
        return _exit_code(record)

    def _one(self, ref: str | None) -> Run:
        return self._manager.get(ref) if ref else self._manager.newest()

    def _many(self, args: Any) -> list[Run]:
        if args.all:
            return [Run(self._manager, run_id) for run_id in self._manager.history.open_ids()]
        return [self._manager.get(ref) for ref in args.run] or [self._manager.newest()]

    def _runs(self, args: Any) -> None:
        since = None if args.since is None else parse_moment(args.since)
        statuses = statuses_of(args.status) or ()
        self._manager.take_up(within=2.0)
        found: list[RunRecord] = []
        limit = args.limit if args.limit is not None else (None if self._json else 50)
        for record in self._manager.history.records(since=since):
            if limit is not None and len(found) >= limit:
                break
            wanted = (not statuses or record.status in statuses) and (
                not args.runner or record.runner in args.runner
            )
            if wanted and args.name in (None, record.name):
                found.append(self._manager.record(record.run_id))
        if self._json:
            for record in found:
                self._say(record, "")
        else:
            print(render.table_text(found, time.time()))

    def _show(self, args: Any) -> None:
        from qwex_jupyter import verbs

        run = self._one(args.run)
        self._manager.look([run.run_id])
        spec_fact = verbs.spec_of(self._manager, run.run_id)
        text = render.details_text(run.record, spec_fact, run.log_path)
        self._say(run.record, _plain(text))

    def _logs(self, args: Any) -> None:
        run = self._one(args.run)
        if args.follow:
            try:
                _pass_on((s, d) for s, d in run.follow() if args.stream in (None, s))
            except KeyboardInterrupt:
                print("\nqwex: no longer watched; the run goes on", file=sys.stderr)
            else:
                self._code(self._manager.record(run.run_id))
            return
        self._manager.fetch_logs(run.run_id)
        for stream in STREAMS:
            if args.stream in (None, stream):
                offset = 0 if args.tail is None else _where_last(run, stream, args.tail)
                while data := run.log.read(stream, offset, 1 << 20):
                    _pass_on([(stream, data)])
                    offset += len(data)

    def _attach(self, args: Any) -> int:
        run = self._one(args.run)
        try:
            with self._telling(run.run_id):
                _pass_on(run.follow())
        except KeyboardInterrupt:
            print("\nqwex: no longer watched; the run goes on", file=sys.stderr)
            return 0
        return self._code(self._ended(run))

    def _wait(self, args: Any) -> int:
        until = time.monotonic() + parse_duration(args.timeout) if args.timeout else None
        codes = []
        for run in self._many(args):
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                codes.append(self._code(self._ended(run, left)))
            except TimeoutError as error:
                print(f"qwex: {error}", file=sys.stderr)
                codes.append(_NO_CODE)
            except KeyboardInterrupt:
                print("\nqwex: no longer waited for; the runs go on", file=sys.stderr)
                return _INTERRUPTED
        return next((code for code in codes if code), 0)

    def _cancel(self, args: Any) -> None:
        grace = None if args.grace is None else parse_duration(args.grace, "grace")
        for run in self._many(args):
            run.cancel(grace)
            try:
                self._ended(run, 0.5)
            except TimeoutError:
                pass  # it has its grace; the line says that it is stopping
            self._say(run.record, render.stopping_text(run.record))
            self._code(run.record)

    def _delete(self, args: Any) -> int:
        code = 0
        for ref in args.run:
            run = self._manager.get(ref)
            title = run.record.title
            try:
                self._manager.delete(run.run_id, gone=args.gone)
                print(f"Deleted {title}.")
            except NotRemoved as error:
                print(f"qwex: {_plain(error)}", file=sys.stderr)
                code = _NO_CODE
        return code

    def _prune(self, args: Any) -> int:
        from qwex_jupyter import verbs

        text, failed = verbs.prune(self._manager, args)
        print(_plain("\n".join([text, *failed])))
        return _NO_CODE if failed else 0

    def _monitor(self, _: Any) -> None:
        from qwex_jupyter import tables

        self._manager.take_up(within=2.0)
        print(tables.of_history(self._manager.history).text())
        print("Live, with keys: qwex.monitor() in a notebook.")

    def _doctor(self, _: Any) -> None:
        from qwex_jupyter import verbs

        print(_plain(verbs.doctor(self._manager)))

    def _say(self, record: RunRecord, text: str) -> None:
        if self._json:
            values = record.to_json()
            values["handle"], values["duration"] = record.handle, record.duration()
            print(json.dumps(values, ensure_ascii=False), flush=True)
        elif text:
            print(text)


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
            print(f"qwex: {_plain(record.message)}{share}", file=sys.stderr, flush=True)


def _exit_code(record: RunRecord) -> int:
    if record.status is RunStatus.SUCCEEDED:
        return 0
    return record.exit_code or _NO_CODE


def _pass_on(output: Iterable[tuple[str, bytes]], written: dict[str, int] | None = None) -> None:
    """Writes output to this process's own streams; ``written`` counts along, for a resume."""
    for stream, data in output:
        view = memoryview(data)
        while view:
            done = os.write(1 if stream == "stdout" else 2, view)
            view = view[done:]
            if written is not None:
                written[stream] += done


def _where_last(run: Run, stream: str, count: int) -> int:
    """The offset at which the last lines of a stream begin."""
    size, step = run.log.size(stream), 1 << 16
    if not count:
        return size
    while True:
        begin = max(0, size - step)
        data = run.log.read(stream, begin, size - begin)
        at = len(data) - data.endswith(b"\n")
        for _ in range(count):
            at = data.rfind(b"\n", 0, max(0, at))
        if at >= 0 or not begin:
            return begin + at + 1
        step *= 4


def _plain(text: object) -> str:
    """A text that was written for a notebook, for a shell."""
    return (
        str(text)
        .replace("%%qwex?", "qwex run --help")
        .replace("%%qwex", "qwex run")
        .replace("%qwex", "qwex")
    )


def _overview() -> str:
    width = max(map(len, options.VERBS))
    lines = [f"  qwex {verb.ljust(width)}  {text}" for verb, text in options.VERBS.items()]
    return "\n".join(
        ["The runs of your notebooks, in a terminal.", *lines, "Add --json for scripts."]
    )


if __name__ == "__main__":
    entry()
