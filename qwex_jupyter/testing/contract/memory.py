"""The contract on MemoryRunner: the example of programs that no shell runs."""

from __future__ import annotations

from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.testing.contract import RunnerContract
from qwex_jupyter.testing.contract.programs import ShellPrograms
from qwex_jupyter.testing.memory import MemoryRunner


class MemoryPrograms(ShellPrograms):
    """Behaviours as instructions of the memory runner."""

    def __init__(self) -> None:
        super().__init__(interpreter=("memory",))

    def prints(self, out: str = "", err: str = "") -> JobSpec:
        lines = [f"out {line}" for line in out.splitlines()]
        lines += [f"err {line}" for line in err.splitlines()]
        return self.script("\n".join(lines) or "# nothing")

    def prints_then_sleeps(self, line: str, seconds: float) -> JobSpec:
        return self.script(f"out {line}\nsleep {seconds}")

    def sleeps(self, seconds: float) -> JobSpec:
        return self.script(f"sleep {seconds}")

    def prints_alternating(self, pairs: int, pause: float) -> JobSpec:
        return self.script(
            "\n".join(f"out out {i}\nerr err {i}\nsleep {pause}" for i in range(pairs))
        )

    def prints_bytes(self, chunk: bytes, times: int = 1, *, stream: str = "stdout") -> JobSpec:
        return self.script(f"hex-{stream[3:]} {chunk.hex()} {times}")

    def prints_env(self, name: str) -> JobSpec:
        return self.script(f"env {name}")

    def prints_args(self, *arguments: str) -> JobSpec:
        return JobSpec(command=("args", *arguments))

    def script_prints_args(self, *arguments: str) -> JobSpec:
        return self.script("args", *arguments)

    def prints_itself(self, comment: str) -> JobSpec:
        return self.script("".join(f"# {line}\n" for line in comment.splitlines()) + "script\n")

    def prints_file(self, path: str) -> JobSpec:
        return self.script(f"file {path}")

    def ignores_term(self, line: str, seconds: float) -> JobSpec:
        return self.script(f"ignore-term\nout {line}\nsleep {seconds}")

    def signals_itself(self, number: int) -> JobSpec:
        return self.script(f"signal {number}")

    def takes_memory(self, size: int) -> JobSpec:
        return self.script(f"use {size}\nsleep 60")


class MemoryContract(RunnerContract):
    """The contract, on the memory runner."""

    runner = "memory"
    brief = 0.5
    programs = MemoryPrograms()

    def executions(self, run: Run, mark: str) -> int:
        return MemoryRunner.executions(run.run_id)

    def end(self, run: Run) -> RunRecord:
        """Its final record. It is asked first, since what is due has happened already."""
        run.poll()
        return super().end(run)

    def settled(self) -> None:
        """Returns at once: nothing happens behind the back of a memory runner."""
