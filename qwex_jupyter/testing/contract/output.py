"""Output: complete, in order, and each stream by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.testing.contract.base import Contract, as_text


class Output(Contract):
    """All that a program says is kept, in its order, and can be read while it lives."""

    def test_output_is_complete_and_separate(self, manager: RunManager) -> None:
        """Both streams arrive whole and in order, each by itself."""
        run = self.submit(manager, self.programs.prints_alternating(500, 0))
        self.end(run)
        out, err = ("".join(f"{word} {i}\n" for i in range(500)) for word in ("out", "err"))
        self.assert_said(manager, run, out, err)
        assert run.record.log_missing == {}

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

    def test_bytes_that_are_not_text_are_kept(self, manager: RunManager) -> None:
        """1 MB of every possible byte arrives unchanged, or is said to be damaged."""
        chunk = bytes(range(256)) * 8
        run = self.submit(manager, self.programs.prints_bytes(chunk, 512))
        self.end(run)
        data = run.log.read("stdout")
        if self.keeps_bytes or manager.runner(self.runner).promises.raw_bytes:
            assert data == chunk * 512
        else:
            assert data == as_text(chunk * 512)

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
