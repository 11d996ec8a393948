"""What is shown of a run stays true: after a restart, where displays aren't updated, captured."""

from __future__ import annotations

import os
import re

import pytest
from kernel import Cell, Kernel
from local_helpers import until

pytestmark = pytest.mark.kernel

VIEW = "application/vnd.jupyter.widget-view+json"
# It says that it is there, and ends with a code of its own when a file is.
WAITS = """%%qwex --name {name} {more}
echo be''gun; until [ -e {name}.go ]; do sleep 0.02; done; exit 5"""
# Handing over takes until a file is there.
SLOW = """
import os, time
from qwex_jupyter.manager.manager import RunManager
real = RunManager._hand_over
def slow(*given):
    run = real(*given)
    open("handed", "w").close()
    while not (os.path.exists("over") or get_ipython().exit_now):
        time.sleep(0.01)
    return run
RunManager._hand_over = slow
"""


# No card is painted only because time has passed, as it may on a busy machine.
NOT_YET = """
from qwex_jupyter.notebook import cell, views
before = views.FIRST_PAINT
cell.FIRST_PAINT = views.FIRST_PAINT = views._LIVE_AFTER = 600.0
"""
AGAIN = "cell.FIRST_PAINT = views.FIRST_PAINT = before\nviews._LIVE_AFTER = 2.0"


def waits(name: str, more: str = "") -> str:
    """A cell whose run waits for a file."""
    return WAITS.format(name=name, more=more)


def status(k: Kernel, name: str) -> str:
    """What a backend says of a run now."""
    return k.value(f"str(__import__('qwex_jupyter').get({name!r}).poll())").strip("'")


def restarted(k: Kernel, cell: Cell, said: str) -> Cell:
    """Restarts the kernel as the button does; its cell, up to what it said at last."""
    k.manager.restart_kernel(now=False)
    cell.until(lambda seen: said in seen.text)
    k.unfinished.clear()
    k.client.stop_channels()
    k._connect()
    return cell


def test_a_restart_leaves_a_foreground_run_alone(own: Kernel) -> None:
    """The interrupt that goes before a restart cancels nothing, and the card says what is so."""
    # How soon the request to end comes behind the interrupt is this machine's.
    own.run("from qwex_jupyter.system import interrupts\ninterrupts._UNDECIDED = 60.0")
    cell = own.begin(waits("train"))
    cell.until_text("begun")
    restarted(own, cell, "the run goes on")
    assert cell.error == ""
    assert re.search(r"the kernel ends; the run goes on · %qwex attach \w{6}", cell.text)
    assert "as of 20" in cell.text
    greeting = own.run("%load_ext qwex_jupyter").stream()
    assert "train" in greeting
    assert "still running" in greeting
    assert status(own, "train") == "RUNNING"
    (own.folder / "train.go").touch()
    until(lambda: status(own, "train") == "FAILED")


@pytest.mark.parametrize("detached", [False, True], ids=["foreground", "detached"])
def test_a_restart_while_it_is_handed_over_leaves_it_alone(own: Kernel, detached: bool) -> None:
    """A run that a backend was just taking over goes on as well."""
    own.run(SLOW)
    own.begin(waits("early", "-d" if detached else ""))
    until((own.folder / "handed").exists)
    own.unfinished.clear()
    own.restart()
    own.run("%load_ext qwex_jupyter")
    until(lambda: "begun" in own.run("%qwex logs early").stream())
    assert status(own, "early") == "RUNNING"


def test_an_interrupt_while_it_is_handed_over_cancels_it(own: Kernel) -> None:
    """A press before anybody watches is told at once, and obeyed when there is what to stop."""
    own.run(SLOW + NOT_YET)
    cell = own.begin(waits("early"))
    until((own.folder / "handed").exists)
    own.interrupt()
    cell.until_text("stopping…")
    (own.folder / "over").touch()
    assert cell.done().ename == "RunInterrupted"
    assert "⊘ cancelled" in cell.text
    assert status(own, "early") == "CANCELLED"


def test_an_end_that_no_kernel_showed_is_told_once(own: Kernel) -> None:
    """After a ``kill -9`` the next kernel of the notebook tells how its foreground run ended."""
    cell = own.begin(waits("train"))
    cell.until_text("begun")
    cell.until(lambda seen: list((own.home / "awaited").glob("*/*")))
    own.kill()
    (own.folder / "train.go").touch()
    until(lambda: not os.listdir(own.home / "open"))
    own.unfinished.clear()
    own.start()
    greeting = own.run("%load_ext qwex_jupyter").stream()
    assert re.fullmatch(
        r"train \(\w{6}\) failed meanwhile after \S+: \S.* · %qwex logs \w{6}\n", greeting
    ), greeting
    assert own.run("%reload_ext qwex_jupyter").stream() == ""


def test_what_other_notebooks_wait_for_loads_nothing(k: Kernel) -> None:
    """A card that another notebook left is no news here, and loading is as light as ever."""
    k.run("%%qwex\ntrue")
    until(lambda: not list((k.home / "open").iterdir()))
    left = k.home / "awaited" / ("0" * 16) / "20260101-000000-bcdfgh"
    left.parent.mkdir(parents=True)
    left.touch()
    assert k.value("__import__('qwex_jupyter.disk.home', fromlist=['home']).has_news()") == "False"
    left.unlink()


def test_what_is_left_out_of_a_capture_is_counted(k: Kernel) -> None:
    """A quiet run that fails under ``%%capture`` shows its end, and how much came before."""
    k.run("%%capture c\n%%qwex --quiet\nseq 200000; exit 3")
    assert k.value("c.stdout[:2]") == "'… '"
    assert k.value("c.stdout.split(chr(10), 1)[0].endswith('lines skipped')") == "True"
    assert k.value("c.stdout.endswith('200000' + chr(10))") == "True"


def test_an_end_that_was_shown_is_not_told_again(k: Kernel) -> None:
    """What a cell, or a card, has shown to its end leaves nothing to be told."""
    (k.folder / "seen.go").touch()
    k.run("%config Qwex.raise_error = False")
    k.run(waits("seen"))
    k.run(waits("seen", "-d"))
    k.run("%qwex wait seen\n%config Qwex.raise_error = True")
    until(lambda: not list((k.home / "awaited").glob("*/*")))
    assert k.run("%reload_ext qwex_jupyter").stream() == ""


def test_what_is_short_loads_no_widget(own: Kernel) -> None:
    """A cell of a moment is one output, and brings in no widget code."""
    own.run(
        "from qwex_jupyter.notebook import views\nviews._LIVE_AFTER = 600.0"
    )  # this machine's, not its
    cell = own.run("%%qwex\necho short")
    assert len(cell.display_ids) == 1
    assert own.value("'anywidget' in __import__('sys').modules") == "False"


def test_a_cell_of_a_moment_is_painted_once(k: Kernel) -> None:
    """A run that ends at once is one message: its end, without a card that goes before."""
    k.run(NOT_YET)
    for options in ("", "--no-raise-error "):
        done = k.run(f"%%qwex {options}\n{'exit 3' if options else 'true'}")
        kinds = [m["msg_type"] for m in done.mine if "display" in m["msg_type"]]
        assert kinds == ["display_data"]
        assert "exit 3" in done.text if options else "✓ succeeded" in done.text
    k.run(AGAIN)


def test_nothing_is_pending_without_a_word(k: Kernel) -> None:
    """Neither a pane, nor a card, nor plain text says of a run that starts that it is pending."""
    k.run(NOT_YET)
    shown = [k.run("%%qwex\nsleep 0.5"), k.run("%%qwex -d --as r\nsleep 0.5; echo end")]
    k.run("r.wait()\n%config Qwex.display = 'stream'")
    shown.append(k.run("%%qwex\nsleep 0.5"))
    k.run("%config Qwex.display = 'auto'\n" + AGAIN)
    for each in shown:
        said = each.everything + each.stream()
        assert "pending" not in said or "hasn't started yet" in said


def test_a_command_is_told_where_its_cell_is_not(k: Kernel) -> None:
    """A card below its own cell has no command; where the run is shown later it has."""
    said = "echo told; sleep 0.01 # a command"
    for options in ("", "-d"):
        below = k.run(f"%%qwex {options} --name {options or 'f'} --as r\n{said}")
        assert "# a command" not in below.html
        k.run("r.wait()")
        assert "# a command" in k.run("r").html
        assert "# a command" in k.run("%qwex attach").html
    assert "sleep 0.01" in k.run("%qwex run sleep 0.01").html


def test_what_lives_longer_is_shown_live_as_well(k: Kernel) -> None:
    """After two seconds there is a widget beside the output, which goes when the run has ended."""
    cell = k.begin(waits("long"))
    cell.until(lambda seen: any(VIEW in data for data in seen.shown))
    (k.folder / "long.go").touch()
    assert cell.done().status == "error"
    card, nothing = cell.shown
    assert "✗ failed" in card["text/plain"]
    assert nothing == {}


def test_a_run_that_is_displayed_goes_on_being_so(k: Kernel) -> None:
    """A Run as the value of a cell is a live card while it lives, and final when it has ended."""
    k.run(waits("shown", "-d --as r"))
    cell = k.run("r")
    cell.until(lambda seen: "◐ running" in seen.text)
    (k.folder / "shown.go").touch()
    cell.until(lambda seen: "✗ failed" in seen.text and "running" not in seen.text)
    again = k.run("r")
    assert len(again.shown) == 1
    assert "✗ failed" in again.text


def test_what_is_no_longer_watched_is_shown_to_its_end(k: Kernel) -> None:
    """A broken-off attach leaves a card that says so, and is brought up to date to the end."""
    k.run(waits("left", "-d"))
    cell = k.begin("%qwex attach left")
    cell.until_shown("begun")
    k.interrupt()
    assert cell.done().status == "ok"
    assert "no longer watched; it goes on" in cell.text
    (k.folder / "left.go").touch()
    cell.until(lambda seen: "✗ failed" in seen.text and "running" not in seen.text)
    assert "no longer watched" not in cell.text


def test_a_front_end_without_updates_gets_text(k: Kernel) -> None:
    """A console sees output and end as text, the cause in the error, and a detached run's line."""
    k.names_cells = False
    try:
        good = k.run("%%qwex\necho hello")
        assert good.shown == []
        assert "hello\n" in good.stream()
        assert "✓ succeeded" in good.stream()
        bad = k.run("%%qwex --name bad\necho why >&2; exit 3")
        assert bad.shown == []
        assert re.match(r"RunFailed: why\nbad \(\w{6}\) failed, exit code 3 · ", bad.error)
        detached = k.run(waits("far", "-d"))
        assert detached.shown == []
        assert "%qwex attach" in detached.stream()
        assert "as of 20" in k.run("__import__('qwex_jupyter').get('far')").text
        k.run("%config Qwex.display = 'pane'")
        assert "✓ succeeded" in k.run("%%qwex\necho hello").text
    finally:
        k.run("%config Qwex.display = 'auto'")
        k.names_cells = True


def test_a_console_is_told_that_it_stops(k: Kernel) -> None:
    """Where nothing is updated a press of the button is answered by a line, at once."""
    k.names_cells = False
    try:
        cell = k.begin(
            "%%qwex --grace 600s\ntrap '' TERM; echo be''gun; while :; do sleep 0.05; done"
        )
        cell.until_text("begun")
        k.interrupt()
        cell.until_text("stopping…")
        k.interrupt()
        assert cell.done().ename == "RunInterrupted"
        assert cell.stream().count("stopping") == 1
    finally:
        k.names_cells = True


def test_what_is_printed_of_a_live_run_says_as_of_when(k: Kernel) -> None:
    """A run in a list, and the table of a cancel that goes on, are dated as long as it lives."""
    deaf = "trap '' TERM; touch deaf; while :; do sleep 0.05; done"
    k.run(f"%%qwex -d --as r --name dated --grace 600s\n{deaf}")
    until((k.folder / "deaf").exists)
    until(lambda: status(k, "dated") == "RUNNING")
    assert re.search(r"◐ running .* · as of 20\d\d-.* UTC", k.run("[r]").text)
    assert "as of 20" in k.run("%qwex cancel dated").stream()
    ended = k.run("%qwex cancel dated --grace 0").stream() + k.run("%qwex wait dated").text
    assert "⊘ cancelled" in k.run("[r]").text, ended
    assert "as of" not in k.run("[r]").text


def test_where_nobody_watches_a_pane_has_no_widget(k: Kernel) -> None:
    """A saved notebook of nbclient's has no widget, also where a pane was asked for."""
    k.run("%config Qwex.display = 'pane'")
    try:
        cell = k.run("%%qwex\nsleep 2.5; echo late", stdin=False)
        assert "✓ succeeded" in cell.text
        assert len(cell.display_ids) == 1
        assert k.run(waits("gone", "-d"), stdin=False).shown == []
    finally:
        k.run("%config Qwex.display = 'auto'")
        (k.folder / "gone.go").touch()


def test_vs_code_is_known_by_its_notebook(k: Kernel) -> None:
    """The variable that VS Code leaves in a notebook says that displays are updated."""
    k.names_cells = False
    try:
        k.run("__vsc_ipynb_file__ = '/somewhere/x.ipynb'")
        assert "✓ succeeded" in k.run("%%qwex\necho hello").text
    finally:
        k.run("del __vsc_ipynb_file__")
        k.names_cells = True


def test_what_is_captured_is_output_and_two_paints(k: Kernel) -> None:
    """``%%capture`` gets the output as a program wrote it, and a card at the begin and the end."""
    lines = "for i in $(seq 60); do echo line $i; sleep 0.02; done; echo oh >&2"
    cell = k.run(f"%%capture c\n%%qwex --name kept\n{lines}")
    assert cell.shown == []
    said = "".join(f"line {number}\n" for number in range(1, 61))
    assert k.value("c.stdout") == repr(said)
    assert k.value("c.stderr") == repr("oh\n")
    assert k.value("len([each for each in c.outputs if each.data])") == "2"
    shown = k.run("c.show()")
    assert "✓ succeeded" in shown.text
    assert "pending" not in shown.text
    failed = k.run("%%capture c\n%%qwex\necho why >&2; exit 3")
    assert failed.error.startswith("RunFailed: why\n")
    assert "failed, exit code 3" in failed.error


def test_a_detached_run_is_captured_as_a_line(k: Kernel) -> None:
    """What a card would repaint for ever is one line, with the way to see more."""
    k.run("%%capture c\n" + waits("off", "-d"))
    assert k.value("[each for each in c.outputs if each.data]") == "[]"
    assert "%qwex attach" in k.value("c.stdout")
