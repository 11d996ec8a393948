"""What a person sees of runs in containers, wherever those are: cells, mistakes, the terminal.

A subclass stands in a file whose fixture `k` is a kernel, and `env` a terminal's environment, with
a backend; it says which, and what only that backend gets wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kernel import Cell, Kernel, doctor, kernel, qwex

BUSYBOX, PYTHON = "qwex-test/busybox:1", "qwex-test/python:1"


def one_sentence(cell: Cell) -> str:
    """The error of a cell, which must be one line."""
    said = (cell.error or cell.stream("stderr")).strip()
    assert said
    assert "\n" not in said
    return said


def plain(message: dict[str, Any]) -> str:
    """The plain text of a message that shows something."""
    return str(message["content"].get("data", {}).get("text/plain"))


# Line and body; the cause, in the card's first line and in the error; the next step.
FAILURES: Mapping[str, tuple[str, str, str]] = {
    "exit code": (
        f"%%qwex --image={BUSYBOX}\nexit 3",
        "exit code 3, printed nothing",
        "%qwex rerun",
    ),
    "not found in a shell": (
        f"%%qwex --image={BUSYBOX}\nnosuchthing",
        "nosuchthing: not found · cell line ",
        "Install it, or name an --image that has it",
    ),
    "no such interpreter": (
        f"%%qwex --image={BUSYBOX} nosuchthing\nx",
        f"'nosuchthing' can't be run in {BUSYBOX}: it isn't in the image",
        "",
    ),
    "no such command": (
        f"%qwex run --image={BUSYBOX} nosuchthing",
        f"'nosuchthing' can't be run in {BUSYBOX}: it isn't in the image",
        "",
    ),
    "memory": (
        # What listens for memory that runs out does so only a moment after the program began.
        f"%%qwex --image={PYTHON} --memory 64m python\nimport time\ntime.sleep(1)\nx = [0] * 10**9",
        "Killed for memory: used 64 MiB of the 64 MiB allowed",
        "Try %qwex rerun",
    ),
    "timeout": (
        f"%%qwex --image={BUSYBOX} --timeout 1\nsleep 1000",
        "Stopped after its timeout of 1s",
        "Try %qwex rerun",
    ),
}


class CellContract:
    """A subclass is the tests of one backend.

    Attributes:
        runner: The name of its runner.
        chosen: What has a cell with an image go there, in a kernel with no settings.
        failures: Failures of its own, beside `FAILURES`: line and body; the cause; the next step.
        mistakes: Line and body; the one line that comes instead of a card.
        absent: Variables that lead to no backend, with ``HERE`` for a folder that has a file
            ``broken``; what is said then; what else a cell says.
    """

    runner: ClassVar[str]
    chosen: ClassVar[str]
    failures: ClassVar[Mapping[str, tuple[str, str, str]]]
    mistakes: ClassVar[Mapping[str, tuple[str, str]]]
    absent: ClassVar[Mapping[str, tuple[Mapping[str, str], str, tuple[str, ...]]]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each case of each table is a test."""
        tables: Mapping[str, Mapping[str, Any]] = {
            "failure": {**FAILURES, **self.failures},
            "mistake": self.mistakes,
            "absence": self.absent,
        }
        for name in tables.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, tables[name].values(), ids=tables[name].keys())

    @pytest.mark.tier("quick")
    def test_a_cell_runs_in_an_image(self, k: Kernel) -> None:
        """A cell in an image shows its output, the image and the runner."""
        cell = k.run(
            f"%%qwex --image={PYTHON} -e WHO=you python\nimport os\nprint('for', os.environ['WHO'])"
        )
        card = rf"✓ succeeded .* {self.runner} · {PYTHON} · \w{{6}} · .*s$"
        assert re.search(card, cell.text.split("\n")[0])
        assert "\n  for you" in cell.text
        assert "for you" in cell.html
        assert cell.status == "ok"

    def test_a_failure_is_a_cause_and_a_next_step(
        self, k: Kernel, failure: tuple[str, str, str]
    ) -> None:
        """What goes wrong stands first, in card and error alike, and no traceback follows."""
        source, cause, step = failure
        cell = k.run(source)
        told = one_sentence(cell).removeprefix("RunFailed: ")
        assert cause in told
        assert f"✗ failed  {told}   " in cell.text
        assert step in cell.text
        assert cell.text.count("\n") <= 4

    def test_a_mistake_is_one_line(self, k: Kernel, mistake: tuple[str, str]) -> None:
        """A mistake in an option is told in one line, before anything is started or shown."""
        source, told = mistake
        cell = k.run(source)
        assert told in one_sentence(cell)
        assert cell.text == ""

    def test_without_a_backend_a_cell_says_what_there_is(
        self, tmp_path: Path, absence: tuple[Mapping[str, str], str, tuple[str, ...]]
    ) -> None:
        """Where no backend is, cell, detached cell and doctor say so in one sentence each."""
        env, told, more = absence
        (tmp_path / "broken").write_text("{{{")
        given = {name: value.replace("HERE", str(tmp_path)) for name, value in env.items()}
        with kernel(tmp_path / "k", **given) as k:
            for options in ("", "-d"):
                line = f"%%qwex {self.chosen} --image={BUSYBOX} {options} python"
                cell = k.run(f"{line}\nprint(1)")
                said = one_sentence(cell)
                assert said.startswith("RunnerUnavailable: ")
                assert all(word in said for word in (told, *more)), said
                assert cell.text == ""
            said = doctor(k)
            assert f"✗ {self.runner}  {told}" in said
            assert "✓ local" in said
            assert k.run("%qwex runs").status == "ok"

    def test_a_terminal_carries_a_script_along(self, env: dict[str, str], tmp_path: Path) -> None:
        """``qwex run --image=... python script.py`` runs the script that is here."""
        (tmp_path / "script.py").write_text("print('carried')")
        done = qwex(env, "run", "--quiet", f"--image={PYTHON}", "python", "script.py", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, b"carried\n")
