"""The path of a run's own script is ``cell`` where output is shown, and nothing else is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.display import paths
from qwex_jupyter.display.card import log_view
from qwex_jupyter.display.screen import Line
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.notebook.stream import Stream
from qwex_jupyter.runners.argv import PROGRAMS
from qwex_jupyter.runners.container import conventions
from qwex_jupyter.widgets import find

pytestmark = pytest.mark.once
FOLDER = "/home/me/my home/runs/20261123-163045-k3x9qd"
# What programs print of their script, and what is shown of that.
SAID = {
    'File "{f}/cell.py", line 3, in <module>': 'File "cell", line 3, in <module>',
    'File \x1b[35m"{f}/cell.py"\x1b[0m, line 3': 'File \x1b[35m"cell"\x1b[0m, line 3',
    "\x1b[2;33m{f}/cell.py\x1b[0m:3": "\x1b[2;33mcell\x1b[0m:3",
    "{f}/cell.sh: line 3: x: command not found": "cell: line 3: x: command not found",
    "file://{f}/cell.js:3": "cell:3",
    "    at file://{f}/cell.js:3:7": "    at cell:3:7",
    "    at Object.<anonymous> ({f}/cell.js:3:7)": "    at Object.<anonymous> (cell:3:7)",
    "x at {f}/cell.pl line 3.": "x at cell line 3.",
    "{f}/cell.rb:3:in `<main>': x (RuntimeError)": "cell:3:in `<main>': x (RuntimeError)",
    "Error in source({f}/cell.R) : x": "Error in source(cell) : x",
    "at {f}/cell.jl:3": "at cell:3",
    "sh: 3: {f}/cell.sh {f}/cell.sh": "sh: 3: cell cell",
}
# What is some other file.
OTHERS = [
    "{f}/stdout.log",
    "{f}/cell.py.bak/x",
    "{f}/cell.python",
    "/data{f}/cell.py",
    "x{f}/cell.py",
    "/other/cell.py",
    "cell.py",
    "./cell.py",
]


@pytest.mark.parametrize("folder", [FOLDER, "/qwex"])
@pytest.mark.parametrize("said", SAID)
def test_the_path_of_the_script_is_shown_as_cell(said: str, folder: str) -> None:
    """Wherever it ran and whoever says it; a line keeps its stream."""
    (line,) = paths.short_lines([Line(said.format(f=folder), "stderr")], FOLDER)
    assert line == SAID[said]
    assert isinstance(line, Line) and line.stream == "stderr"


@pytest.mark.parametrize("folder", [FOLDER, "/qwex"])
@pytest.mark.parametrize("said", OTHERS)
def test_other_files_keep_their_paths(said: str, folder: str) -> None:
    """Only that one file is meant, and only its whole path."""
    text = said.format(f=folder)
    if text != "/qwex/cell.py.bak/x" and not text.endswith(".bak/x"):
        assert paths.short(text, FOLDER) == text
    assert paths.short(f"{FOLDER}/cell.py", "") == f"{FOLDER}/cell.py"


def test_what_containers_and_scripts_are_called_is_the_same_everywhere() -> None:
    """The folder in a container, and each end of a script's name, are those of the runners."""
    for ending in {*PROGRAMS.values()}:
        assert paths.short(f"{conventions.INSIDE}/cell.{ending}", "") == "cell"


def test_a_path_that_comes_in_pieces_is_shown_as_cell() -> None:
    """Wherever a stream is cut, it is as in one piece, but for the beginning of a URL."""
    text = "a/b\n" + "".join(f"{said}\n".format(f=FOLDER) for said in SAID) + f"{FOLDER}/cel"
    dice = random.Random(1)
    for _ in range(200):
        pieces, shown, at = paths.Pieces(FOLDER), "", 0
        while at < len(text):
            end = at + dice.choice((1, 2, 5, 30, 200))
            shown += pieces.feed(text[at:end])
            at = end
        shown += pieces.feed("", last=True)
        assert shown.replace("file://cell", "cell") == paths.short(text, FOLDER)


def test_what_is_no_path_isnt_held_back() -> None:
    """A line without an end is shown at once."""
    pieces = paths.Pieces(FOLDER)
    for text in ("Name: ", "50 %\r", "/home/you", "1/2"):
        assert pieces.feed(text) == text


@pytest.fixture
def failed(tmp_path: Path) -> Any:
    """A run that has failed with a traceback."""
    manager = RunManager(str(tmp_path))
    spec = JobSpec(("python",), "x = 1\nx / 0\n", script_name="cell.py", lines_above=1)
    run = manager.submit(spec, "local")
    run.wait(check=False)
    return run


def test_cards_and_streams_show_it_and_the_disk_keeps_the_path(
    failed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A view says `cell` with the line of the cell; `logs` gives what the program wrote."""
    path = f"{failed.log.folder}/cell.py"
    assert f'File "{path}", line 3' in failed.logs()
    view = log_view(RunLog(failed.log.folder))
    assert any('File "cell", line 3' in line for line in view.lines)
    stream = Stream(limited=False)
    stream.where(failed.log_path)
    for byte in failed.log.read("stderr"):
        stream.output("stderr", bytes([byte]))
    stream.finish(failed.record)
    assert 'File "cell", line 3' in capsys.readouterr().err


def test_what_is_shown_is_found(failed: Any) -> None:
    """A search finds the line as it is read, with `cell` in it."""
    log = RunLog(failed.log.folder)
    found = find.find(log, 'file "cell", line 3', lambda: False)
    assert found is not None and found["count"] == 1
    (stream, offset, number), *_ = found["places"]
    lines = find.lines_at(log, stream, offset, number)["lines"]
    assert any('File "cell", line 3' in line for line in lines)
