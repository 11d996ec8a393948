"""What programs print of their progress, and what is shown of it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qwex_jupyter.display.card import Card, card_text
from qwex_jupyter.display.progress import Meter, Progress, minutes
from qwex_jupyter.display.render import card_html
from qwex_jupyter.display.screen import Screen
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import RunStatus

pytestmark = pytest.mark.once

# Printed into a pipe, as a run has no terminal, by tqdm 4.67, rich 14, progressbar2 4.5,
# alive-progress 3.3, datasets 4, keras 3, pip 25, curl 7.88, wget 1.21, git 2.39, ninja 1.11,
# pytest 9, R 4.2 and loops with `print`.
PRINTED = Path(__file__).parent / "progress"
NOW = 1_790_000_000.0


def told(text: str | bytes, pause: float = 1.0) -> list[Progress | None]:
    """What is known after each write of a program, with so many seconds in between."""
    data = text.encode() if isinstance(text, str) else text
    screen, meter, now, found = Screen(), Meter(), NOW, list[Progress | None]()
    for piece in re.split(rb"(?<=[\n])|(?=\r)", data):
        screen.feed("stderr", piece)
        found.append(meter.look(screen, now))
        now += pause
    return found


def percents(found: list[Progress | None]) -> list[int]:
    """The percents, each once."""
    shown = [each.percent for each in found if each]
    return [each for n, each in enumerate(shown) if n == 0 or shown[n - 1] != each]


# The label of each, what is said beside the bar in the end, and how far it goes.
BARS = {
    "tqdm_one": ("training", "100%"),
    "tqdm_nested": ("epochs", "100%"),
    "tqdm_bytes": ("model.safetensors", "100%"),
    "tqdm_write": ("work", "100%"),
    "tqdm_epoch": ("Epoch", "3/3"),
    "mapped": ("Map", "100%"),
    "rich_forced": ("convert", "50%"),
    "rich_track": ("Working...", "100%"),
    "keras": ("Epoch", "3/3"),
    "bars": ("", "100%"),
    "alive": ("", "18/20"),
    "curl": ("", "100%"),
    "curl_bar": ("", "100%"),
    "wget": ("", "98%"),
    "wget_bar": ("/dev/null", "100%"),
    "pip_raw": ("Progress", "100%"),
    "git": ("Resolving deltas", "100%"),
    "r": ("", "100%"),
    "ninja": ("", "12/12"),
    "pytest": ("", "100%"),
    "epochs": ("epoch", "10/10"),
    "counts": ("", "60/60"),
    "percents": ("", "100%"),
}


@pytest.mark.parametrize("name", BARS)
def test_what_programs_print_becomes_a_bar(name: str) -> None:
    """The output of each of these programs is a bar that grows, with their own words."""
    found = told((PRINTED / f"{name}.log").read_bytes())
    last = next(each for each in reversed(found) if each)
    assert (last.label, last.said) == BARS[name]
    grown = percents(found)
    if name not in ("rich_track", "git", "rich_forced"):
        assert grown == sorted(grown)
    assert len(grown) > (0 if name == "rich_track" else 2)


@pytest.mark.parametrize("name", ["tqdm_unknown", "pip"])
def test_what_does_not_say_how_much_there_is_is_none(name: str) -> None:
    """A bar without a total, and one that is printed when all is done, are none."""
    assert set(told((PRINTED / f"{name}.log").read_bytes())) == {None}


def test_of_nested_bars_the_outer_one_is_shown() -> None:
    """While the inner bar goes from 0 to 100 % three times, the outer one goes once."""
    found = told((PRINTED / "tqdm_nested.log").read_bytes())
    assert {each.label for each in found if each} == {"epochs"}
    assert percents(found) == [0, 33, 66, 67, 100] or percents(found) == [0, 33, 67, 100]


def test_nested_bars_are_redrawn_without_a_word() -> None:
    """The moment in which a finished inner bar stands in the place of the outer one isn't told."""
    found = told((PRINTED / "tqdm_nested_left.log").read_bytes(), pause=0.2)
    assert percents(found)[:3] == [0, 33, 67]


def test_a_bar_within_an_epoch_is_a_part_of_all() -> None:
    """Where each epoch has a bar of its own, what is shown is how much of all is done."""
    found = told((PRINTED / "keras.log").read_bytes())
    words = [(each.said, each.percent) for each in found if each]
    assert ("1/3", 16) in words
    assert ("2/3", 50) in words
    assert ("3/3", 83) in words
    steps = "".join(
        f"Epoch [{epoch}/4], Step [{step}/100], Loss: 0.1\n"
        for epoch in (1, 2)
        for step in (50, 100)
    )
    assert percents(told(steps)) == [25, 37, 50]


LIES = {
    "a date": "10/12\n11/12/2026\n12/12/2026 report\n",
    "dates alone": "3/10/2026\n4/10/2026\n",
    "a network": "10.0.0.0/16\n10.1.0.0/16\n",
    "paths": "reading /data/1/2\nreading /data/2/2\n",
    "a report that stands still": "coverage 62%\ntotal 12/60 tests\n",
    "a number that was resumed from": "INFO resumed from epoch 3/10\nloading\n",
    "prose": "2/3 of the rows\n1 of 2 files\nand/or 50% off\n",
    "accuracies": "accuracy 61%\naccuracy 62%\naccuracy 63%\n",
    "a table": "| a | 10% |\n|---|-----|\n| b | 20% |\n",
    "disks": "/dev/sda1  50G  20G  40% /\n/dev/sdb1  50G  30G  60% /data\n",
    "coverage": "a.py   10   2   80%\nb.py   20   2   90%\nTOTAL  30   4   87%\n",
    "tests": "3 passed, 1 failed (12/60)\n4 passed (13/60)\n",
    "one count": "12/60\n",
    "one percent": "62%\n",
    "more than there is": "70/60\n80/60\n",
    "nothing of nothing": "0/0\n1/0\n",
    "times": "12:30 of 13:30\nbatch 3:10\nstep 3/10:30\nstep 4/10:30\n",
    "two shares": "loss 1/2\nloss 2/2\n",
    "what goes down": "9/10\n8/10\n7/10\n",
    "ETA in prose": "the 50% rule of ETA study 2\n",
    "a static bar": "disk [#####-----]  50%\nboot [########--]  80%\n",
}


@pytest.mark.parametrize("text", LIES.values(), ids=LIES)
def test_other_numbers_are_no_progress(text: str) -> None:
    """Dates, shares, results and whatever stands still never become a bar."""
    assert set(told(text)) == {None}


def test_a_number_without_times_has_to_grow() -> None:
    """``epoch 3/10`` is a bar once there was a smaller one, in the lines or in the look before."""
    assert told("epoch 3/10 loss 1\n")[-1] is None
    assert told("epoch 3/10 loss 1\nepoch 4/10 loss 1\n")[-1] == Progress(0.4, "epoch", "4/10")
    far = told("epoch 3/10\n" + "noise\n" * 100 + "epoch 4/10\n")
    assert far[-1] is not None
    assert far[-1].said == "4/10"
    assert told("\r3%")[-1] is None
    assert told("\r3%\r4%")[-1] == Progress(0.04, "", "4%")


def test_the_last_that_was_said_holds() -> None:
    """Lines of another kind leave a bar where it is; one that is full is over with them."""
    half = "epoch 1/10\nepoch 5/10\n"
    assert told(half + "noise\n" * 300)[-1] == Progress(0.5, "epoch", "5/10")
    full = told(half + "epoch 10/10\n")
    assert full[-1] == Progress(1.0, "epoch", "10/10")
    assert told(half + "epoch 10/10\nsaved\n")[-1] is None
    assert told(f"{half}epoch 10/10\nsaved\nstep 1/4\nstep 2/4\n")[-1] == Progress(
        0.5, "step", "2/4"
    )


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("a:  50%|█████     | 5/10 [00:10<01:42,  1.00it/s]", 102),
        ("a:  50%|█████     | 5/10 [00:10<1:01:42,  1.00it/s]", 3702),
        ("a ━━━━━━━━━━╺━━━━━━━━━  50% 0:00:42", 42),
        ("5/10 ━━━━━━━━━━━━━━━━━━━━ 42s 50ms/step - loss: 0.1", 42),
        ("5/10 [=====>....] - ETA: 1:42 - loss: 0.1", 102),
        ("Progress:  50%|█████     |  ETA: 0:00:42", 42),
        ("  50K .......... .......... .......... .......... .......... 50%  416K 1m3s", 63),
        (" 50 2929k   50 1562k    0     0   857k      0  0:00:03  0:00:01  0:00:42  857k", 42),
        ("  1,000,000  50%   31.25MB/s    0:00:42 (xfr#1, to-chk=1/3)", 42),
        ("   ━━━━━━━━━━━━━━━━━━━━ 5.0/10.0 MB 20.1 MB/s eta 0:00:42", 42),
    ],
)
def test_what_a_program_says_is_left_is_told(line: str, left: int) -> None:
    """What is left is the program's own word, and is counted down from when it was said."""
    screen, meter = Screen(), Meter()
    screen.feed("stderr", line.encode())
    found = meter.look(screen, NOW + 10, NOW)
    assert found is not None
    assert (found.percent, found.until) == (50, NOW + left)
    assert found.left(NOW + 10) == f"{minutes(left - 10)} left"
    assert found.left(NOW + left) == ""


def test_what_is_left_is_reckoned_after_a_while() -> None:
    """Without such a word it is what it takes at the pace so far, known after five seconds."""
    found = told("".join(f"epoch {n}/11\n" for n in range(1, 9)))
    assert [each.until for each in found[1:5] if each] == [None] * 4
    assert found[6] is not None
    assert found[6].until == pytest.approx(NOW + 6 + 4)


def test_lines_are_read_quickly() -> None:
    """Not even lines that are made for it take long to read."""
    script = (
        "import time\nfrom qwex_jupyter.display import progress\nprogress._forms()\n"
        "for text in ('|' * 99 + '%', '1%' * 150, '━' * 298 + '1%', ' ' * 298 + '1%', '1/' * 150,\n"
        "             'progress ' * 30 + '%', ' 1 2' * 70 + '/%',\n"
        "             'epoch ' * 50 + '/', '[1%]' * 75):\n"
        "    begun = time.process_time()\n"
        "    progress._read(text[:300])\n"
        "    assert time.process_time() - begun < 0.2, text\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_form_is_made_before_a_line_needs_it() -> None:
    """The first cell doesn't wait for patterns that its output doesn't need."""
    script = (
        "from qwex_jupyter.display import card, progress, screen\n"
        "shown = screen.Screen()\nshown.feed('stdout', b'hello\\n')\n"
        "progress.Meter().look(shown, 1.0)\nassert not progress._forms.cache_info().misses\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- the card --------------------------------------------------------------------------------

RECORD = RunRecord(
    "20261123-163045-k3x9qd",
    status=RunStatus.RUNNING,
    runner="local",
    command="python train.py",
    created_at=NOW,
    started_at=NOW,
    observed_at=NOW,
)
HALF = Progress(0.62, "training", "62%", NOW + 142.5)


def test_the_card_has_a_bar_with_what_is_left() -> None:
    """A bar as long as its number says, with a name and a value for screen readers, and text."""
    card = Card(RECORD, now=NOW + 100, progress=HALF)
    made = card_html(card)
    assert 'role="progressbar"' in made
    assert 'aria-valuenow="62" aria-valuetext="training 62%"' in made
    assert "width:62%;height:5px" in made
    assert "> · 0:42 left</span>" in made
    assert "  training 62% · 0:42 left" in card_text(card).split("\n")
    assert "qwex-left" not in card_html(replace(card, now=NOW + 143))


def test_what_has_ended_has_no_bar() -> None:
    """The bar is gone with the end."""
    card = Card(replace(RECORD, status=RunStatus.SUCCEEDED), now=NOW, progress=HALF, usual_time=9.0)
    assert "progressbar" not in card_html(card)
    assert "usually" not in card_html(card) + card_text(card)
    assert "62%" not in card_text(card)


def test_without_a_bar_it_is_said_how_long_it_usually_takes() -> None:
    """A thin line says how much of the usual time is gone, and how long that is."""
    card = Card(RECORD, now=NOW + 91, usual_time=182.0)
    assert "usually 3:02" in card_html(card)
    assert 'data-seconds="182" style="width:50%;height:2px' in card_html(card)
    assert "  usually 3:02" in card_text(card).split("\n")
    assert "width:100%;height:2px" in card_html(replace(card, now=NOW + 9999))
    assert "usually" not in card_html(replace(card, progress=HALF))
    waits = replace(RECORD, status=RunStatus.PENDING, started_at=None)
    assert "usually" not in card_html(replace(card, record=waits))


def test_a_label_is_text() -> None:
    """Nothing that a program calls its progress becomes markup."""
    evil = replace(HALF, label='"><img src=x onerror=alert(1)>')
    assert "<img" not in card_html(Card(RECORD, now=NOW, progress=evil))
