"""A backend and a manager whose runs are there, for the tests of options."""

from __future__ import annotations

from typing import ClassVar

from local_helpers import PATIENCE, until

from qwex_jupyter.commands import options
from qwex_jupyter.commands.line import split
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import RunStatus


class Somewhere:
    """One backend.

    Attributes:
        runner: The name of its runner.
        manager: Whose runs are there.
    """

    runner: ClassVar[str]
    manager: RunManager

    def image(self, of: str) -> str:
        """The name of an image of ``images.RECIPES``, which the backend has then."""
        raise NotImplementedError

    def let_off(self, run: Run) -> None:
        """Ends a test where the backend itself says that it dropped output of this run."""

    def spec(self, line: str, cell: str | None = None, of: str = "busybox") -> JobSpec:
        """The spec of a magic's line, with the image put in front unless it names one."""
        words = split(line)
        if not any(word.startswith("--image") for word in words):
            words = [f"--image={self.image(of)}", *words]
        args, command = options.parse_run(words)
        return options.make_spec(args, command, cell, {})

    def submit(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run that was handed over."""
        return self.manager.submit(self.spec(line, cell, of), self.runner)

    def end(self, line: str, cell: str | None = None, of: str = "busybox") -> Run:
        """A run that has ended."""
        return self.ended(self.submit(line, cell, of))

    def ended(self, run: Run) -> Run:
        """A run that was handed over, once it has ended and none of its output was dropped."""
        run.wait(PATIENCE, check=False)
        self.let_off(run)
        return run

    def says(self, line: str, cell: str | None = None, of: str = "busybox") -> str:
        """What a run that ends well says."""
        run = self.end(line, cell, of)
        assert run.status is RunStatus.SUCCEEDED, (
            run.record.sentence,
            run.record.backend_message,
            run.logs(),
        )
        return run.logs("stdout")

    def settle(self, run: Run) -> None:
        """Returns when nothing more is to be done for a run."""

        def done() -> bool:
            self.manager.tracker.look([run.run_id])
            return not self.manager.history.is_open(run.run_id)

        until(done)
