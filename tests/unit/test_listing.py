"""Many runs as a table, in text and in HTML: which columns there are, and what stands in them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from monitor_page import BEGAN, put, record

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import SPEC
from qwex_jupyter.display import listing, tables
from qwex_jupyter.display.listing import columns
from qwex_jupyter.display.tables import Table
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason
from qwex_jupyter.model.text import fitted, padded, width_of
from qwex_jupyter.model.units import ago

NOW = BEGAN + 600
LONG = "FileNotFoundError: [Errno 2] No such file or directory: '/data/2012/n01440764.tar'"


def failed(number: int = 0, cause: str = "ZeroDivisionError: division by zero") -> RunRecord:
    """A run that failed."""
    return record(number, "FAILED", reason=Reason.NON_ZERO_EXIT, cause=cause, message="Exit code 1")


def mixed() -> list[RunRecord]:
    """Runs of all kinds, with names and commands of all lengths."""
    return [
        record(9, "RUNNING", name="train", command="python train.py --epochs 30 --data /data/2012"),
        record(8, "PENDING", runner="docker", image="python:3.12", message="Pulling python:3.12."),
        replace(failed(7, LONG), peak_memory=2**31, exit_code=3, notebook="work/a.ipynb"),
        record(6, command="python: 日本語のコマンド = 1; print(日本語のコマンド)", name="日本"),
        record(5, "CANCELLED", cause="stopped by you", exit_code=143, command="x" * 300),
        record(4, "LOST", message="Its supervisor was killed. Nobody can know how it ended."),
    ]


def names(records: list[RunRecord], room: int | None = None, **env: Mapping[str, str]) -> list[str]:
    """Which columns there are."""
    return [column.name for column in columns(records, NOW, env, room)]


def cells(records: list[RunRecord], name: str) -> list[str]:
    """What stands in a column."""
    (found,) = [column for column in columns(records, NOW) if column.name == name]
    return [cell.text() for cell in found.cells]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """However long and wide its words are, a table fits, and its columns stand below each other."""
    made = Table(mixed(), now=NOW).text(width).split("\n")
    assert max(map(width_of, made)) <= width
    rows = made[: len(mixed()) + 1]
    ends = {width_of(row[: row.rindex("  ")]) for row in rows[2:] if row.endswith("  2s")}
    assert len(ends) <= 1
    if width > 60:
        at = {width_of(row[: row.index("9 min")]) for row in rows[1:]}
        assert at == {width_of(rows[0][: rows[0].index("submitted")])}


def test_columns_go_where_there_is_no_room_for_them() -> None:
    """Run, status, what it is and how long it took are always there; memory goes before exit."""
    assert names(mixed(), 40) == ["run", "status", "name, command", "time"]
    assert names(mixed(), 80) == ["run", "status", "name, command", "submitted", "time", "exit"]
    whole = ["run", "status", "name, command", "runner", "image", "notebook", "submitted", "time"]
    assert names(mixed()) == [*whole, "memory", "exit"]


def test_a_row_says_status_and_cause_in_one() -> None:
    """Behind the status stands what a run waits for, or why it is no success; nothing of one."""
    assert cells(mixed(), "status") == [
        "◐ running",
        "○ pending  Pulling python:3.12.",
        f"✗ failed  {LONG}",
        "✓ succeeded",
        "⊘ cancelled  stopped by you",
        "? lost  Its supervisor was killed",
    ]
    without = record(1, "FAILED", reason=Reason.NON_ZERO_EXIT)
    assert cells([without], "status") == ["✗ failed  NonZeroExit"]


def test_a_row_says_what_tells_it_from_the_others() -> None:
    """Name and command have a column as far as they differ; what is alike stands below, once."""
    same = {"command": "python train.py", "image": "python:3.12", "runner": "docker"}
    one, two = (record(i, name=f"job-{i}", notebook="work/t.ipynb", **same) for i in (1, 2))
    assert cells([one, two], "name") == ["job-1", "job-2"]
    foot = Table([one, two], now=NOW).text(None).split("\n")[-1]
    said = "2 runs · 2 succeeded · python train.py · docker · python:3.12 · t.ipynb · as of "
    assert foot.startswith(said)
    others = [replace(one, name="train"), replace(two, name="train", command="make")]
    assert cells(others, "command") == ["python train.py", "make"]
    assert "2 runs · 2 succeeded · train · docker" in Table(others, now=NOW).text(None)
    assert cells([one], "name, command") == ["job-1  python train.py"]
    assert cells([one, replace(two, name="")], "name") == ["job-1", ""]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        ("SUCCEEDED", 0, ""),
        ("FAILED", 1, ""),
        ("FAILED", 3, "3"),
        ("CANCELLED", 143, "143"),
        ("LOST", None, ""),
    ],
)
def test_an_exit_code_is_there_where_it_says_something(
    status: str, code: int | None, told: str
) -> None:
    """A success has 0 and most failures 1; another code is told, unless the cause says it."""
    made = [record(0, status, exit_code=code), replace(failed(1), exit_code=9)]
    assert cells(made, "exit") == [told, "9"]
    assert ("exit" in names(made[:1])) is bool(told)
    assert "exit" not in names([replace(made[1], cause="exit code 9, and it printed nothing")])


def test_variables_and_labels_that_differ_have_columns() -> None:
    """Of the keys that differ three have columns, those that most runs have; what is alike none."""
    given = [
        {"LR": "0.1", "SEED": "1", "SAME": "x", "FEW": "1", "LONG": "y" * 99},
        {"LR": "0.2", "SEED": "2", "SAME": "x", "LONG": "z"},
        {"LR": "0.1", "SEED": "3", "SAME": "x"},
        {},
        {},
    ]
    runs = [record(i, labels={"team": "ab"[i % 2], "all": "1"}) for i in range(5)]
    env = {run.run_id: values for run, values in zip(runs, given, strict=True)}
    found = columns(runs, NOW, env)
    varying = {column.name: column for column in found[3:6]}
    assert list(varying) == ["team", "LR", "SEED"]
    assert [cell.text() for cell in varying["LR"].cells] == ["0.1", "0.2", "0.1", "", ""]
    assert found[6].name == "submitted"
    long = columns(runs[:2], NOW, {k: {"LONG": v["LONG"]} for k, v in list(env.items())[:2]})
    (cell, _) = next(column for column in long if column.name == "LONG").cells
    assert (cell.text(), cell.title) == ("y" * 15 + "…", "y" * 99)


def test_no_secret_is_in_a_table(manager: RunManager) -> None:
    """Only values that the spec gives in plain words are read, of names that don't say secret."""
    specs = []
    for i in range(2):
        env = {"LR": str(i), "HF_TOKEN": f"hf{i}", "AWS_KEY": f"aws{i}", "INHERITED": None}
        env["URL"] = f"https://me:pass{i}@host/{i}"
        specs.append(JobSpec(command=("x",), env=env, secrets=("PRIVATE",)))
    runs = [record(i) for i in range(2)]
    for run, spec in zip(runs, specs, strict=True):
        put(manager, run)
        fact = {**run.to_json(), "spec": spec.to_json()}
        folder = str(Path(manager.history.runs_folder) / run.run_id)
        facts.link_once(folder, SPEC, fact, sync=False)
    made = tables.of_history(manager.history)
    for text in (made.text(None), made.html()):
        assert "LR" in text
        assert "https://***@h" in text
        assert not re.search("hf1|aws1|pass1|TOKEN|KEY|INHERITED|PRIVATE", text)


class Page(HTMLParser):
    """The cells of a table, and their titles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.titles: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begins a cell; remembers tags and titles."""
        self.tags.add(tag)
        self.titles += [value or "" for name, value in attrs if name == "title"]
        if tag in ("td", "th"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        """Keeps text."""
        if self.texts:
            self.texts[-1] += data


def test_a_page_has_the_same_cells_as_a_terminal() -> None:
    """HTML and text are of the same columns; in HTML nothing is cut but by its look."""
    runs = mixed()
    page = Page(listing.page(runs, NOW))
    found = columns(runs, NOW, room=96)
    assert page.texts[: len(found)] == [column.name for column in found]
    assert page.texts[len(found) :] == [
        cell.text() for row in zip(*(c.cells for c in found), strict=True) for cell in row
    ]
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td", "span"}
    at = time.strftime("submitted %Y-%m-%d %H:%M:%S", time.localtime(BEGAN + 9))
    assert at in page.titles
    assert "white-space:nowrap" in listing.page(runs, NOW)
    assert "python:3.12" in page.titles  # which has no column there


def test_everything_in_a_page_is_text() -> None:
    """Names, values, commands and causes are escaped, in cells, heads, titles and below."""
    evil = "<script>\"'&\x1b[2J\u202e"
    runs = [
        replace(failed(i, f"{evil}{i}"), name=f"{evil}{i}", command=evil, image=evil, runner=evil)
        for i in range(2)
    ]
    runs = [replace(run, labels={"l": f"{evil}{i}"}, message=evil) for i, run in enumerate(runs)]
    env = {run.run_id: {evil: f"{i}{evil}"} for i, run in enumerate(runs)}
    made = Table(runs, now=NOW, env=env)
    assert "<script" not in made.html()
    for text in (made.text(None), made.html()):
        assert "script" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)


def test_a_table_says_which_of_how_many() -> None:
    """Below the rows stand how many there are of each status, and as of when in local time."""
    counts = {"SUCCEEDED": 1190, "FAILED": 14}
    made = Table([record(i) for i in range(20)], counts, NOW, note="More.")
    said = "the newest 20 of 1,204 runs · 1,190 succeeded · 14 failed · local · as of "
    *_, foot, note = made.text(None).split("\n")
    assert foot.startswith(said)
    assert note == "More."
    assert said in made.html()
    assert made.text(40).count("\n") > made.text(80).count("\n")


def test_an_empty_table_says_how_to_begin() -> None:
    """Without runs there is one line, with what starts one."""
    for text in (Table([]).text(), repr(Table([]))):
        assert text == tables.NONE
    assert "%%qwex above the code of a cell" in Table([]).html()
    assert Table([], none="else").text() == "else"


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (-5, "just now"),
        (0.4, "just now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7300, "2 h ago"),
        (86400, "1 day ago"),
        (29.5 * 86400, "29 days ago"),
    ],
)
def test_what_was_is_told_by_how_long_ago(passed: float, said: str) -> None:
    """Seconds, minutes, hours and days are whole; a clock that went back says just now."""
    assert ago(NOW - passed, NOW) == said


def test_what_was_long_ago_has_its_date() -> None:
    """After a month a date says more."""
    assert re.fullmatch(r"[A-Z]\w\w \d\d \d\d:\d\d|\d{4}-\d\d-\d\d", ago(NOW - 31 * 86400, NOW))


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("plain", 5, "plain"),
        ("plain", 4, "pla…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("e\u0301te\u0301", 3, "e\u0301te\u0301"),
        ("a\u200db", 2, "a\u200db"),
    ],
)
def test_wide_characters_take_two_columns(text: str, width: int, cut: str) -> None:
    """What a terminal draws in two columns counts twice, what joins the one before not at all."""
    made = fitted(text, width)
    assert made == cut
    assert width_of(made) <= width
    assert width_of(padded(made, 20)) == 20


def test_a_live_run_is_told_as_of_the_table() -> None:
    """The clock of what runs goes to the moment of the table, in whole seconds."""
    assert cells([record(0, "RUNNING")], "time") == ["0:09:59"]
