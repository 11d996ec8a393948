"""``%%qwex`` and ``%qwex`` in a real kernel."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from kernel import PATIENCE, Cell, Kernel, doctor, end_runs, environment, lent, qwex, size_of
from local_helpers import until

pytestmark = pytest.mark.kernel

# Nothing becomes a widget here, however long this machine takes for a moment's run.
NO_WIDGET = (
    "from qwex_jupyter.notebook import views\nbefore = views._LIVE_AFTER\nviews._LIVE_AFTER = 600.0"
)
HEAVY = (
    "docker",
    "kubernetes",
    "pandas",
    "numpy",
    "ipywidgets",
    "anywidget",
    "qwex_jupyter.manager.manager",
)
# A program that says what it has to say, and ends when a file called as its argument is there.
WAITER = """
import os, sys, time
for number in range(100):
    print("line", number)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("end")
raise SystemExit(int(sys.argv[2]))
"""


def _log(k: Kernel, ref: str, stream: str = "stdout") -> bytes:
    path = k.value(f"__import__('qwex_jupyter').get({ref!r}).log.path({stream!r})")
    return Path(path.strip("'")).read_bytes()


def _waiter(name: str, code: int = 0, options: str = "") -> str:
    return f"%%qwex --name {name} {options} python - {name}.go {code}\n{WAITER}"


@pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "ignores"])
def test_a_cell_that_is_left_behind_is_told_and_ended(
    own: Kernel, monkeypatch: pytest.MonkeyPatch, obeys: bool
) -> None:
    """A test that leaves a cell running fails by that, and the next one has a kernel."""
    monkeypatch.setattr("kernel._ENDS_IN", 30.0 if obeys else 0.5)
    ignores = "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
    cell = own.begin("%%qwex --name left -e A=1\nprintf star%s ted; sleep 600")
    cell.until_text("started")
    own.begin("pass" if obeys else ignores, stop_on_error=False)
    with pytest.raises(AssertionError, match="a cell didn't end") as told, lent(own):
        pass
    for words in ("--name left", "launch.json", "cell.sh, ", "state S", "stdout.log, 7 bytes"):
        assert words in str(told.value)
    assert own.run("%qwex runs").status == "ok"
    with lent(own):
        until(lambda: os.listdir(own.home / "open") == [])


def test_loading_is_light(tmp_path: Path) -> None:
    """Loading brings in a handful of modules, and not one of the heavy ones."""
    bare = Kernel(tmp_path)
    try:
        bare.run("import sys; before = set(sys.modules)")
        assert bare.run("%load_ext qwex_jupyter").stream() == ""
        new = set(bare.value("sorted(set(sys.modules) - before)").strip("[]").split(", "))
        assert len(new) <= 10, new
        assert bare.value(f"[n for n in {HEAVY!r} if n in sys.modules]") == "[]"
        bare.run(NO_WIDGET)
        assert bare.run("%%qwex\ntrue").status == "ok"
        heavy = HEAVY[:-1]
        assert bare.value(f"[n for n in {heavy!r} if n in sys.modules]") == "[]"
        assert bare.run("%unload_ext qwex_jupyter").status == "ok"
        assert "not found" in bare.run("%qwex").stream("stderr")
        assert bare.run("%load_ext qwex_jupyter\n%qwex runs -n 1").status == "ok"
    finally:
        bare.close()


def test_a_cell_that_goes_well(k: Kernel) -> None:
    """A foreground cell shows one display, at last with status, output and exit code."""
    k.run(NO_WIDGET)
    cell = k.run("%%qwex\nfor i in 1 2 3; do echo epoch $i; done; echo warn >&2")
    k.run("views._LIVE_AFTER = before")
    assert cell.status == "ok"
    assert len(cell.display_ids) == 1
    assert len(cell.shown) == 1
    assert "✓ succeeded" in cell.text
    for line in ("epoch 1", "epoch 3", "warn"):
        assert line in cell.text
        assert line in cell.html
    assert "exit 0" not in cell.text + cell.html  # as any success has it
    assert "epoch $i" not in cell.html  # the cell itself stands above
    assert cell.stream() + cell.stream("stderr") == ""


def test_the_value_of_a_cell_is_its_run_and_is_shown_once(k: Kernel) -> None:
    """``_`` and ``Out`` hold the Run; it is silent in its own cell and shown in a later one."""
    cell = k.run("%%qwex\necho hello")
    assert [m["msg_type"] for m in cell.mine].count("execute_result") == 0
    later = k.run("run = _\nrun")
    assert len(later.shown) == 1
    assert "hello" in later.text
    assert k.value("(run.exit_code, Out[max(Out)] == run)") == "(0, True)"


def test_a_cell_that_fails_stops_the_notebook(k: Kernel) -> None:
    """A failed run is a RunFailed of a line or two, and the cells behind it don't run."""
    cell = k.begin("%%qwex\necho the reason >&2; sleep 0.5; exit 3")
    after = k.begin("touched = True")
    assert cell.done().status == "error"
    assert after.done().status == "aborted"
    assert cell.ename == "RunFailed"
    assert 1 <= len(cell.error.splitlines()) <= 3
    assert cell.error == "RunFailed: the reason"
    assert re.search(r"^✗ failed  the reason   .* · exit 3$", cell.text, re.MULTILINE)
    assert k.value("'touched' in globals()") == "False"
    assert k.value("__import__('sys').last_value.run.exit_code") == "3"


def test_without_an_interpreter_a_failing_line_fails_the_run(k: Kernel) -> None:
    """The default is ``bash -eo pipefail``: the first failing line, also in a pipe, ends it."""
    cell = k.run("%%qwex\nfalse | true\necho not reached")
    assert cell.status == "error"
    assert "not reached\n" not in cell.text.split("\n", 1)[1]


def test_a_failure_can_be_had_without_an_error(k: Kernel) -> None:
    """``--no-raise-error`` shows the failure and goes on."""
    cell = k.run("%%qwex --no-raise-error\nnosuchcommand")
    assert cell.status == "ok"
    assert "✗ failed" in cell.text
    assert "nosuchcommand: command not found · cell line " in cell.text
    assert k.value("_.exit_code") == "127"


def test_quiet_is_silent_until_something_goes_wrong(k: Kernel) -> None:
    """``--quiet`` shows nothing of a success, and the last lines of a failure."""
    cell = k.run("%%qwex --quiet\necho unseen")
    assert (cell.status, cell.shown, cell.stream()) == ("ok", [], "")
    cell = k.run("%%qwex --quiet\necho seen; exit 1")
    assert cell.status == "error"
    assert "seen" in cell.text.split("\n", 1)[1]


@pytest.mark.parametrize("option", ["--as", "--proc"])
def test_the_run_is_bound_to_a_name_also_when_it_fails(k: Kernel, option: str) -> None:
    """``--as r`` binds the Run before the failure is raised."""
    assert k.run(f"r = None\n%qwex run {option} r sh -c 'exit 4'").status == "error"
    assert k.value("r.exit_code") == "4"


def test_the_body_is_never_touched(k: Kernel) -> None:
    """Braces, dollars and percent signs of the body reach the program as they stand."""
    body = "cat <<'X'\n{k} $nosuch {unknown} %d ~ 'q' \\n é🙂 {{x}}\nX"
    k.run(f"%%qwex --name body\n{body}")
    assert _log(k, "body").decode() == body.split("\n")[1] + "\n"


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("%%qwex python\n", 2),
        ("\n \n%%qwex python\n", 4),
        ("%%qwex --name \\\n  lines \\\n  python\n", 4),
    ],
)
def test_a_traceback_names_the_line_that_a_page_numbers(k: Kernel, above: str, line: int) -> None:
    """Its own line counts, those that it goes on in, and blank ones above; the file is `cell`."""
    cell = k.run(f"{above}1 / 0")
    assert f'File "cell", line {line}, in <module>' in cell.text


def test_the_line_is_expanded(k: Kernel) -> None:
    """``{expression}``, ``$name`` and quotes of the line are the notebook's and the shell's."""
    k.run("lr, where = 0.5, 'a b'")
    k.run(
        "%%qwex --name line -e A={lr * 2} -e B=\"$where\" -e C='{lr} $where' \\\n"
        "    -e D=$HOME # a comment\n"
        'printf "%s|" "$A" "$B" "$C" "$D"'
    )
    home = k.env["HOME"]
    assert _log(k, "line").decode() == f"1.0|a b|{{lr}} $where|{home}|"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--imagee x", "unknown option --imagee. Did you mean --image?"),
        ("python --image=x", "put it first, %%qwex --image=x python"),
        ("python --runner local", "put it first"),
        ("-e A=$no_such_name", "$no_such_name is neither a variable of this notebook"),
        ("-e A={no_such_name}", "NameError"),
        ("--memory=2GiBs", "memory='2GiBs' isn't a size"),
        ("--timeout=soon", "timeout='soon' isn't a duration"),
        ("-it python", "no keyboard and no terminal"),
        ("--image=python:3.12 --runner=local python", "use --runner=docker or --runner=k8s"),
        ("--runner=slurm", "runner='slurm' isn't known"),
        ("-w /no/such/folder", "workdir='/no/such/folder' isn't a folder of this machine"),
        ("--as 2x", "--as 2x: that can't be a variable's name"),
        ("--name", "expected one argument"),
        ("'open", "isn't closed"),
        ("--profile none", "there is no such profile"),
    ],
)
def test_a_mistake_in_the_line_is_one_line(k: Kernel, line: str, message: str) -> None:
    """A wrong option is a UsageError without a traceback, and nothing is started."""
    before = len(list(k.home.glob("runs/*")))
    cell = k.run(f"%%qwex {line}\necho started")
    assert (cell.status, cell.ename) == ("error", "UsageError")
    assert message in cell.stream("stderr")
    assert cell.stream("stderr").startswith("UsageError: ")
    assert cell.stream("stderr").count("\n") == 1
    assert (cell.shown, cell.error) == ([], "")
    assert len(list(k.home.glob("runs/*"))) == before


def test_what_needs_a_container_says_what_there_is(k: Kernel) -> None:
    """An image without a container runner is one sentence with a way to go on."""
    cell = k.run("%%qwex --image=python:3.12 python\nprint(1)")
    assert cell.status == "error"
    assert "leave --image out" in cell.error
    assert len(cell.error.splitlines()) == 1


def test_a_python_script_is_at_home(k: Kernel) -> None:
    """``python`` is the kernel's own, its folder is on the path, lines come at once."""
    (k.folder / "beside.py").write_text("word = 'imported'")
    cell = k.begin(
        "%%qwex --name athome python\n"
        "import os, sys, time, beside\n"
        "print(beside.word, sys.executable, os.getcwd() in sys.path, os.getcwd())\n"
        "print(os.environ.get('MPLBACKEND'), [n for n in os.environ if n.startswith('JPY_')])\n"
        "while not os.path.exists('athome.go'): time.sleep(0.01)\n"
    )
    cell.until_text("imported")  # while it still runs
    (k.folder / "athome.go").touch()
    assert cell.done().status == "ok"
    first, second = _log(k, "athome").decode().splitlines()
    executable = k.value("__import__('sys').executable").strip("'")
    assert first == f"imported {executable} True {k.folder}"
    assert second == "None []"


@pytest.mark.parametrize(
    ("line", "body", "output"),
    [
        ("python - a 'b c'", "import sys; print(sys.argv[1:])", "['a', 'b c']"),
        ("python3", "print('three')", "three"),
        ("sh", "echo $0 | grep -c cell.sh", "1"),
        ("bash -x", "true", ""),
        ("", "#!/bin/cat\nitself", "#!/bin/cat\nitself"),
        ("", "#!/usr/bin/env python3\nprint('shebang')", "shebang"),
        ("cat -n", "numbered", "     1\tnumbered"),
        ("", "cat | wc -c | tr -d ' '", "0"),
        ("-w /", "pwd", "/"),
        ("-e A=1 -e HOME", "echo $A $HOME | cut -c1-3", "1 /"),
    ],
)
def test_interpreters_work_as_in_script(k: Kernel, line: str, body: str, output: str) -> None:
    """Interpreter, arguments, ``#!`` lines and an empty stdin are what ``%%script`` has taught."""
    cell = k.run(f"%%qwex --name finger {line}\n{body}")
    assert cell.status == "ok", cell.text
    assert _log(k, "finger").decode().removesuffix("\n") == output


def test_a_program_that_asks_is_told_why_nobody_answers(k: Kernel) -> None:
    """``input()`` fails with a sentence that says how a value goes in."""
    cell = k.run("%%qwex python\nname = input('Who? ')")
    assert cell.status == "error"
    assert "it asked for input, and a run has none" in cell.text
    assert "-e NAME=VALUE" in cell.text


def test_a_run_can_be_read_before_it_is_made(k: Kernel) -> None:
    """``--dry-run`` prints a shell script that does what the cell would do, and starts nothing."""
    before = len(list(k.home.glob("runs/*")))
    cell = k.run(
        "%%qwex --dry-run -e WORD='a b' python - x\n"
        "import os, sys\nprint(os.environ['WORD'], sys.argv[1])"
    )
    assert len(list(k.home.glob("runs/*"))) == before
    done = subprocess.run(["sh", "-c", cell.stream()], capture_output=True, text=True, check=True)
    assert done.stdout == "a b x\n"


def test_settings_rise_from_config_over_environment_to_the_line(k: Kernel) -> None:
    """A flag wins over ``QWEX_*``, which wins over ``%config``, which wins over the default."""
    k.run("from qwex_jupyter import api\nhistory = api.manager().history")
    try:
        for number, (before, line, timeout) in enumerate(
            [
                ("pass", "", "None"),
                ("%config Qwex.timeout = '50s'", "", "50.0"),
                ("import os; os.environ['QWEX_TIMEOUT'] = '1m'", "", "60.0"),
                ("pass", "--timeout 70s", "70.0"),
            ]
        ):
            k.run(before)
            name = f"settings{number}"
            assert k.run(f"%%qwex --name {name} {line}\ntrue").status == "ok"
            spec = f"history.spec_fact(history.resolve({name!r}))['spec']"
            assert k.value(f"{spec}['timeout']") == timeout
    finally:
        k.run("%config Qwex.timeout = ''\nimport os; os.environ.pop('QWEX_TIMEOUT', None)")


def test_a_wrong_setting_is_one_line(k: Kernel) -> None:
    """A variable that can't be used is named with what is allowed."""
    try:
        k.run("import os; os.environ['QWEX_DISPLAY'] = 'loud'")
        cell = k.run("%%qwex\ntrue")
        assert cell.status == "error"
        assert "QWEX_DISPLAY='loud' can't be used: give any of" in cell.stream("stderr")
        assert cell.stream("stderr").count("\n") == 1
    finally:
        k.run("del os.environ['QWEX_DISPLAY']")


def test_profiles_name_sets_of_options(k: Kernel) -> None:
    """``--profile NAME`` stands for its options; those of the line win, lists add up."""
    k.run("%config Qwex.profiles = {'gpu': '--timeout 90s -e A=1 --label team=vision'}")
    k.run("%%qwex --name prof --profile gpu --timeout 80s -e B=2\necho $A $B")
    assert _log(k, "prof") == b"1 2\n"
    details = k.run("%qwex show prof").stream()
    assert "team=vision" in details


def test_what_a_cell_shows_can_be_set(k: Kernel) -> None:
    """``Qwex.display`` is a pane, plain text or nothing; ``raise_error`` may be off."""
    try:
        k.run("%config Qwex.display = 'stream'")
        cell = k.run("%%qwex\necho plain")
        assert cell.shown == []
        assert "plain\n" in cell.stream()
        k.run("%config Qwex.display = 'none'\n%config Qwex.raise_error = False")
        cell = k.run("%%qwex\necho nothing")
        assert (cell.shown, cell.stream()) == ([], "")
        assert k.run("%%qwex\nexit 1").status == "ok"
    finally:
        k.run("%config Qwex.display = 'auto'\n%config Qwex.raise_error = True")


def test_the_interrupt_button_cancels_and_stops_the_notebook(k: Kernel) -> None:
    """An interrupt cancels a foreground run; the cells behind it don't run."""
    cell = k.begin("%%qwex --as r\nprintf star%s ted; sleep 600")
    cell.until_text("started")
    after = k.begin("touched_after_interrupt = True")
    k.interrupt()
    assert cell.done().status == "error"
    assert after.done().status == "aborted"
    assert cell.ename == "RunInterrupted"
    assert len(cell.error.splitlines()) <= 2
    assert "⊘ cancelled" in cell.text
    assert k.value("(str(r.status), r.reason, r.exit_code)") == (
        "('CANCELLED', 'CancelledByUser', 143)"
    )
    assert k.value("'touched_after_interrupt' in globals()") == "False"
    assert k.value("isinstance(__import__('sys').last_value, KeyboardInterrupt)") == "True"


@pytest.mark.parametrize("how", ["option", "setting"])
def test_a_stopped_run_raises_nothing_where_nothing_is_to_be_raised(k: Kernel, how: str) -> None:
    """With ``--no-raise-error`` the button cancels the run, and the notebook goes on."""
    option = "--no-raise-error " if how == "option" else ""
    k.run(f"%config Qwex.raise_error = {how == 'option'}")
    try:
        cell = k.begin(f"%%qwex {option}--as r\nprintf star%s ted; sleep 600")
        cell.until_text("started")
        k.interrupt()
        assert cell.done().status == "ok"
    finally:
        k.run("%config Qwex.raise_error = True")
    assert "⊘ cancelled" in cell.text
    assert k.value("(str(r.status), r.exit_code)") == "('CANCELLED', 143)"


def test_an_interrupt_while_it_starts_cancels_all_the_same(k: Kernel) -> None:
    """The button pressed before the run has begun leaves no run and no pending card behind."""
    for pause in (0.0, 0.002, 0.005, 0.01):
        cell = k.begin("%%qwex --name early\nsleep 600")
        cell.until(lambda seen: seen.shown)
        time.sleep(pause)
        k.interrupt()
        assert cell.done().status == "error"
        assert "pending" not in cell.text
        assert len(cell.error.splitlines()) <= 2, cell.error
        assert k.run("%qwex cancel --all").status == "ok"
    k.run("%qwex wait --all")
    until(lambda: os.listdir(k.home / "open") == [])


LATE = """
import signal
from contextlib import contextmanager
from qwex_jupyter.notebook import cell as follow
real = follow.handing_over
@contextmanager
def late(*given):
    with real(*given):
        yield
    follow.handing_over = real
    signal.raise_signal(signal.SIGINT)
follow.handing_over = late
"""


def test_an_interrupt_just_after_it_has_started_cancels_it(k: Kernel) -> None:
    """The button pressed between a run's start and the watching of it cancels the run as well."""
    k.run(LATE)
    cell = k.run("%%qwex --as late\nsleep 600")
    assert cell.status == "error"
    assert "cancelled" in cell.text
    assert "nothing runs" not in cell.text + cell.error
    assert k.value("str(late.status)") == "'CANCELLED'"


def test_a_second_interrupt_insists(k: Kernel) -> None:
    """A program that ignores SIGTERM is killed at the second interrupt, within its grace."""
    cell = k.begin(
        "%%qwex --as r --grace 600s\ntrap '' TERM; printf star%s ted; while :; do sleep 0.05; done"
    )
    cell.until_text("started")
    k.interrupt()
    cell.until_text("stopping…")
    assert k.manager.is_alive()
    k.interrupt()
    assert cell.done().status == "error"
    assert k.value("(str(r.status), r.exit_code)") == "('CANCELLED', 137)"


@pytest.mark.parametrize("verb", ["attach", "logs -f", "wait"])
def test_stopping_to_watch_stops_only_the_watching(k: Kernel, verb: str) -> None:
    """An interrupt of attach, ``logs -f`` or wait leaves the run alone."""
    name = "watched-" + verb.split()[0]
    k.run(_waiter(name, options="-d"))
    until(lambda: b"line 99" in _log(k, name))
    cell = k.begin(
        "from qwex_jupyter.manager.run import Run\n"
        "before = Run.wait\n"
        "def told(*more, **named):\n"
        "    print('asked', flush=True)\n"
        "    return before(*more, **named)\n"
        "try:\n"
        "    Run.wait = told\n"
        f"    %qwex {verb} {name}\n"
        "finally:\n"
        "    Run.wait = before"
    )
    if verb == "wait":
        cell.until_text("asked")
    else:
        cell.until_shown("line 99")
    k.interrupt()
    assert cell.done().status == "ok", cell.error
    assert k.value(f"str(__import__('qwex_jupyter').get({name!r}).poll())") == "'RUNNING'"
    assert re.search("goes on|go on", cell.stream() + cell.everything)
    (k.folder / f"{name}.go").touch()
    assert "✓ succeeded" in k.run(f"%qwex wait {name}").text


def test_a_run_is_shown_live_where_nothing_was_loaded(tmp_path: Path) -> None:
    """A cell that ends with a run shows it live, whether the extension was loaded or not."""
    bare = Kernel(tmp_path)
    try:
        cell = bare.run("import qwex_jupyter as q\nrun = q.submit(['sleep', '600'])\nrun")
        card, _ = cell.display_ids  # the other is the widget's
        assert "%qwex attach" in cell.text
        # The end may be shown before this cell's own end is.
        seen: list[dict[str, object]] = [*bare.run("run.cancel(0)").messages]
        until(lambda: "⊘ cancelled" in str(shown_as(seen, card, bare)))
        assert "⊘ cancelled" in bare.run("run").text
    finally:
        bare.close()


def test_a_detached_cell_returns_at_once_with_a_live_card(k: Kernel) -> None:
    """``-d`` shows a small card that goes on by itself until the end; ``_`` is the Run."""
    cell = k.run(_waiter("bg", options="-d"))
    assert cell.status == "ok"
    card, _ = cell.display_ids  # the other is the widget's
    assert k.value("(_.name, _.status.final)") == "('bg', False)"
    handle = k.value("__import__('qwex_jupyter').get('bg').handle").strip("'")
    assert f"watch it: %qwex attach {handle}, stop it: %qwex cancel {handle}" in cell.text
    assert f"%qwex attach {handle}" in cell.html
    (k.folder / "bg.go").touch()
    seen: list[dict[str, object]] = []
    until(lambda: "✓ succeeded" in str(shown_as(seen, card, k)))
    final = str(shown_as(seen, card, k))
    assert "end" in final
    assert "cancel" not in final


def shown_as(seen: list, card: str, k: Kernel) -> dict:
    """The last update of a card; reads on what the kernel publishes."""
    seen += k.listen(0.2)
    mine = [
        m["content"] for m in seen if m["content"].get("transient", {}).get("display_id") == card
    ]
    return mine[-1]["data"] if mine else {}


@pytest.mark.parametrize("option", ["-d", "--detach", "--bg"])
def test_every_word_for_detaching_works(k: Kernel, option: str) -> None:
    """``-d``, ``--detach`` and ``--bg`` are the same; --quiet leaves the card out."""
    cell = k.run(f"%%qwex {option} --quiet --as r\ntrue")
    assert (cell.status, cell.shown, cell.stream()) == ("ok", [], "")
    assert k.value("r.wait(60).exit_code") == "0"


def test_the_doctor_says_what_runs_end_with(k: Kernel) -> None:
    """On a hub and in a batch job the doctor says that runs end with it; no card does."""
    try:
        for variable, words in (
            ("JUPYTERHUB_USER", "its runs end with this JupyterHub server"),
            ("SLURM_JOB_ID", "its runs end with the Slurm job 4711"),
        ):
            k.run(f"import os; os.environ[{variable!r}] = '4711'")
            cell = k.run("%%qwex -d --as r\nsleep 600")
            assert "ends with" not in cell.everything
            k.run("r.cancel(0).wait(60, check=False)")
            assert words in k.run("%qwex doctor").stream()
            k.run(f"del os.environ[{variable!r}]")
    finally:
        k.run("os.environ.pop('JUPYTERHUB_USER', 0), os.environ.pop('SLURM_JOB_ID', 0)")


def test_three_cards_in_three_cells_stay_apart(k: Kernel) -> None:
    """Runs that interleave update each its own display and nobody else's."""
    names = ("alpha", "beta", "gamma")
    body = (
        "for i in 1 2 3 4 5 6; do echo {0}-$i; sleep 0.2; done\n"
        "while [ ! -e {0}.go ]; do sleep 0.02; done"
    )
    cells = {name: k.run(f"%%qwex -d --name {name}\n{body.format(name)}") for name in names}
    cards = {name: cell.display_ids[0] for name, cell in cells.items()}
    seen = [m for cell in cells.values() for m in cell.messages]
    for name in reversed(names):
        busy = k.begin("import time; time.sleep(0.7); print('printed by a later cell')")
        (k.folder / f"{name}.go").touch()
        seen += busy.done().messages
        assert busy.stream() == "printed by a later cell\n"

    def of(card: str) -> list[str]:
        mine = (m for m in seen if m["content"].get("transient", {}).get("display_id") == card)
        return [str(m["content"]["data"]) for m in mine]

    end = time.monotonic() + PATIENCE
    while not all("✓ succeeded" in of(card)[-1] for card in cards.values()):
        assert time.monotonic() < end
        seen += k.listen(0.5)
    for name, card in cards.items():
        mine = of(card)
        assert f"{name}-6" in mine[-1]
        assert "✓ succeeded" in mine[-1]
        for text in mine:
            assert not any(other in text for other in names if other != name)


def test_a_capturing_cell_swallows_no_cards_end(k: Kernel) -> None:
    """A card that ends while ``%%capture`` runs is updated on the page, and isn't captured."""
    card, _ = k.run(_waiter("swallow", options="-d --as swallowed")).display_ids
    cell = k.begin(
        "%%capture caught\n"
        "import os, time\nopen('swallow.go', 'w').close()\n"
        "while not os.path.exists('swallow.seen'): time.sleep(0.01)\n"
        "print('of the cell')"
    )
    cell.until(lambda seen: any("✓ succeeded" in text for text in updates_of(seen, card)))
    (k.folder / "swallow.seen").touch()
    assert cell.done().status == "ok", cell.error
    assert "✓ succeeded" in updates_of(cell, card)[-1]
    assert k.value("caught.stdout") == "'of the cell\\n'"
    assert k.value("caught.outputs") == "[]"


def updates_of(cell: Cell, card: str) -> list[str]:
    """What a card was shown as in the messages that came with a cell."""
    return [
        str(m["content"]["data"])
        for m in cell.messages
        if m["content"].get("transient", {}).get("display_id") == card
    ]


def test_a_captured_foreground_cell_is_captured(k: Kernel) -> None:
    """What a foreground cell shows inside a capture is that cell's own and is captured."""
    cell = k.run(
        "from IPython.utils.capture import capture_output\n"
        "with capture_output() as caught:\n"
        "    get_ipython().run_cell_magic('qwex', '', 'echo inside')"
    )
    assert cell.shown == []
    assert "inside" in k.value("str(caught.outputs[-1].data)")


def _attach_to_the_end(k: Kernel, name: str) -> Cell:
    cell = k.begin("%qwex attach")
    cell.until_text("line 99")
    (k.folder / f"{name}.go").touch()
    return cell.done()


@pytest.mark.parametrize("how", ["restart", "kill -9"])
def test_a_run_outlives_its_kernel(own: Kernel, how: str) -> None:
    """After a restart or ``kill -9`` the run is greeted and found complete, its code true."""
    own.run(_waiter("train", code=5, options="-d"))
    until(lambda: b"line 99" in _log(own, "train"))
    if how == "restart":
        own.restart()
    else:
        own.kill()
        own.start()
    greeting = own.run("%load_ext qwex_jupyter").stream()
    assert re.fullmatch(
        r"train \(\w{6}\) still running 0:\d\d:\d\d · as of .* UTC\S* · %qwex attach\n", greeting
    ), greeting
    cell = _attach_to_the_end(own, "train")
    assert cell.status == "ok"
    assert "✗ failed" in cell.text
    assert "exit code 5, last line: end" in cell.text
    assert "101 lines" in cell.html
    assert own.value("__import__('qwex_jupyter').get('train').exit_code") == "5"
    expected = "".join(f"line {n}\n" for n in range(100)) + "end\n"
    assert _log(own, "train").decode() == expected


def test_what_ended_without_a_kernel_is_known_at_once(own: Kernel) -> None:
    """An end that came while no kernel lived greets the next one, and is in its ``%qwex runs``."""
    own.run(_waiter("alone", code=7, options="-d"))
    until(lambda: b"line 99" in _log(own, "alone"))
    own.kill()
    (own.folder / "alone.go").touch()
    until(lambda: not os.listdir(own.home / "open"))
    own.start()
    greeting = own.run("%load_ext qwex_jupyter").stream()
    assert re.fullmatch(
        r"alone \(\w{6}\) failed meanwhile after \S+: exit code 7.* · %qwex logs \w{6}\n",
        greeting,
    ), greeting
    assert own.run("%reload_ext qwex_jupyter").stream() == ""
    assert own.run("frame = %qwex runs").status == "ok"
    columns = "' '.join(map(str, frame.iloc[0][['name', 'status', 'exit_code', 'reason']]))"
    assert own.value(columns) == "'alone FAILED 7 NonZeroExit'"


def test_a_run_of_a_terminal_is_greeted_with_its_handle(own: Kernel) -> None:
    """What another notebook or a terminal started is greeted with the word that finds it."""
    assert qwex(own.env, "run", "-d", "--name", "outside", "sleep", "600").returncode == 0
    greeting = own.run("%reload_ext qwex_jupyter").stream()
    found = re.fullmatch(r"outside \((\w{6})\) still \w+ .* · %qwex attach (\w{6})\n", greeting)
    assert found, greeting
    assert found[1] == found[2]
    assert "outside" in own.run("%qwex").stream()
    assert found[2] in own.run(f"%qwex cancel {found[2]} --grace 0").stream()
    assert "⊘ cancelled" in own.run(f"%qwex wait {found[2]}").text


def test_a_page_that_was_closed_loses_nothing(own: Kernel) -> None:
    """A browser that leaves at half of the output finds all of it with ``%qwex attach``."""
    cell = own.begin(_waiter("closed"))
    cell.until_text("line 99")
    own.client.stop_channels()
    (own.folder / "closed.go").touch()
    own.reconnect()
    cell = own.run("%qwex attach")
    assert "✓ succeeded" in cell.text
    assert "101 lines" in cell.html
    assert "line 0\n" in cell.html
    assert "end" in cell.html


def test_a_flood_leaves_the_file_whole_and_the_page_alive(k: Kernel) -> None:
    """100 MB of output: complete on disk, less than 1 MB of messages, 40 kB in the notebook."""
    cell = k.run(
        "%%qwex --as flood python\n"
        "import sys\n"
        "for part in range(100):\n"
        "    lines = [f'{part:03d} {n:05d} ' + 'x' * 89 + '\\n' for n in range(10_000)]\n"
        "    sys.stdout.write(''.join(lines))",
        patience=300,
    )
    assert cell.status == "ok"
    assert size_of(cell.messages) < 1_000_000
    assert sum(len(str(text).encode()) for text in cell.shown[0].values()) <= 40_000
    assert "1,000,000 lines, 95.4 MiB" in cell.html
    assert "099 09999 x" in cell.text
    expected = hashlib.sha256()
    for part in range(100):
        expected.update(
            "".join(f"{part:03d} {n:05d} " + "x" * 89 + "\n" for n in range(10_000)).encode()
        )
    path = k.value("flood.log_path").strip("'")
    with open(path, "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected.hexdigest()


def test_progress_bars_are_folded_in_view_and_whole_on_disk(k: Kernel) -> None:
    """Of a line that was overwritten its last state is shown; the bytes are all on disk."""
    cell = k.run(
        "%%qwex --name bar python\n"
        "import sys\n"
        "for n in range(0, 101, 10): sys.stderr.write(f'\\rprogress {n:3d}%')\n"
        "print(file=sys.stderr)"
    )
    assert "progress 100%" in cell.text
    assert "progress  50%" not in cell.text
    assert (
        _log(k, "bar", "stderr")
        == b"".join(b"\rprogress %3d%%" % n for n in range(0, 101, 10)) + b"\n"
    )


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are(k: Kernel) -> None:
    """Invalid UTF-8 is marked, an emoji cut in two writes is whole, the bytes are all on disk."""
    cell = k.run(
        "%%qwex --name bytes python\n"
        "import os, time\n"
        "os.write(1, b'a\\xffb \\xf0\\x9f'); time.sleep(0.3); os.write(1, b'\\x99\\x82\\n')"
    )
    assert "a�b 🙂" in cell.text
    assert _log(k, "bytes") == b"a\xffb \xf0\x9f\x99\x82\n"


def test_hostile_output_does_nothing(k: Kernel) -> None:
    """Scripts, links, clipboard writes and direction marks are text or gone, in every face."""
    body = (
        "printf '<script>alert(1)</script>\\033]52;c;eA==\\007\\033]8;;http://e\\007l\\033]8;;\\007'\n"
        "printf '\\033[2J\\033[31mred\\033[0m\\xe2\\x80\\xaegnp.exe\\n'\n"
        "exit 3 # <img src=x onerror=y>"
    )
    cell = k.run(f"%%qwex --name evil\n{body}")
    again = k.run("%qwex logs evil")
    followed = k.run("%qwex logs -f evil")
    headless = k.run(f"%%qwex\n{body}", stdin=False)
    assert "<script>" not in cell.html
    assert "&lt;script&gt;" in cell.html
    assert "<img" not in cell.html
    texts = [cell.html, cell.text, cell.error, again.stream(), followed.stream(), headless.stream()]
    for text in texts:
        assert not re.search("\x1b[^\\[]|\x1b\\[2J|[\x07\u202a-\u202e]", text)
    assert "\x1b[31mred" in again.stream()


def test_a_headless_kernel_gets_plain_text(k: Kernel) -> None:
    """Under nbclient and papermill a cell prints, and shows no display that is updated later."""
    k.run("from qwex_jupyter.notebook import cell\ncell.FIRST_PAINT = 600.0")  # this machine's
    cell = k.run("%%qwex\necho out; echo err >&2", stdin=False)
    k.run("cell.FIRST_PAINT = 0.25")
    assert cell.shown == []
    assert re.fullmatch(r"◐ running  echo out.*\nout\n✓ succeeded  echo out.*s\n", cell.stream()), (
        cell.stream()
    )
    assert cell.stream("stderr") == "err\n"
    detached = k.run("%%qwex -d --as r\necho later", stdin=False)
    assert detached.shown == []
    assert "%qwex attach" in detached.stream()
    assert "later" in k.run("%qwex attach", stdin=False).stream()


def test_a_headless_failure_says_why_in_the_error(k: Kernel) -> None:
    """Where only the exception is reported it holds the last lines of the program."""
    cell = k.run("%%qwex python\nraise ValueError('the cause')", stdin=False)
    assert cell.status == "error"
    assert re.match(r"RunFailed: ValueError: the cause · cell line \d\n", cell.error)
    assert cell.error.endswith("\nValueError: the cause")
    assert len(cell.error.splitlines()) <= 20


def test_headless_output_is_bounded(k: Kernel) -> None:
    """A flood where nobody watches prints its beginning and its end and says what is missing."""
    cell = k.run("%%qwex python\nfor n in range(60_000): print(f'{n:06d}', '.' * 92)", stdin=False)
    out = cell.stream()
    assert len(out) < 1_600_000
    assert out.count("000000 ...") == 1
    assert "059999 ...." in out
    found = re.findall(r"… ([\d,]+) lines? skipped, all of them: (.*)\n", out)
    assert found
    assert len(found) < 20
    shown_lines = len(re.findall(r"^\d{6} \.{92}$", out, re.MULTILINE))
    assert shown_lines + sum(int(n.replace(",", "")) for n, _ in found) == 60_000
    assert Path(found[0][1]).stat().st_size == 60_000 * 100


def test_verbs_take_every_name_of_a_run(k: Kernel) -> None:
    """A run goes by handle, prefix, run id, name, or as the newest of this notebook."""
    k.run("%%qwex --name called --as r\necho mine")
    handle, run_id = k.value("r.handle").strip("'"), k.value("r.run_id").strip("'")
    for ref in ("", handle, handle[:5], run_id, "called"):
        assert k.run(f"%qwex logs {ref}").stream() == "mine\n"
    cell = k.run("%qwex logs nosuchrun")
    assert (cell.status, cell.ename) == ("error", "UsageError")
    assert "No run goes by 'nosuchrun'" in cell.stream("stderr")


def test_logs_are_both_streams_and_their_ends(k: Kernel) -> None:
    """``logs`` shows the last thousand lines, --tail other numbers, --stderr one stream."""
    k.run("%%qwex --name much\nseq 3000; echo oops >&2")
    out = k.run("%qwex logs much").stream()
    assert out.startswith("… 2,001 lines before these, all of them: ")
    assert out.endswith("\n3000\noops\n")
    assert k.run("%qwex logs much --tail 2").stream() == "3000\noops\n"
    assert k.run("%qwex logs much --tail 1 --stdout").stream() == "3000\n"
    assert k.run("%qwex logs much --stderr").stream() == "oops\n"
    assert k.run("%qwex logs much --tail 0").stream() == ""
    assert k.run("%qwex logs -f much --stderr").stream() == "oops\n"


def test_show_tells_all(k: Kernel) -> None:
    """``show`` has the run id, the times, the output's path and the script."""
    k.run("%%qwex --name shown -l team=x\necho visible")
    for verb in ("show", "inspect", "describe"):
        out = k.run(f"%qwex {verb} shown").stream()
        for word in ("✓ succeeded", "run id", "submitted", "team=x", "stdout.log", "echo visible"):
            assert word in out


def test_runs_is_a_frame(k: Kernel) -> None:
    """``runs``, ``ps``, ``ls`` and ``list`` are the history, with filters."""
    k.run("%%qwex --name framed --no-raise-error\nexit 9")
    for verb in ("runs", "ps", "ls", "list"):
        k.run(f"frame = %qwex {verb} --name framed --status failed --since 1h --runner local -n 1")
        assert k.value("(type(frame).__name__, len(frame), frame.exit_code.tolist())") == (
            "('DataFrame', 1, [9])"
        )
    cell = k.run("%qwex runs --status loud")
    assert "status='LOUD' isn't one of PENDING" in cell.stream("stderr")


@pytest.mark.parametrize("verb", ["cancel", "stop", "kill"])
def test_cancel_stops_and_says_so(k: Kernel, verb: str) -> None:
    """``cancel``, ``stop`` and ``kill`` stop the newest run that lives, and show it stopped."""
    k.run("%%qwex -d --quiet --as r\nsleep 600")
    out = k.run(f"%qwex {verb}").stream()
    assert re.search("⊘ cancelled|as of 20", out)  # it is waited for half a second
    assert k.value("r.wait(60, check=False).status.value") == "'CANCELLED'"
    assert "Nothing to stop" in k.run(f"%qwex {verb} {{r.handle}}").stream()


def test_wait_waits_for_all_or_gives_up(k: Kernel) -> None:
    """``wait --all`` waits for what lives; ``--timeout`` gives up waiting, not the runs."""
    k.run(_waiter("w1", options="-d --quiet") + "\n")
    k.run(_waiter("w2", options="-d --quiet") + "\n")
    out = k.run("%qwex wait w1 --timeout 0.1").stream()
    assert "had not ended after 0.1 s; it goes on" in out
    cell = k.begin("%qwex wait --all").until_shown("◐ running")
    (k.folder / "w1.go").touch()
    (k.folder / "w2.go").touch()
    out = cell.done().text
    assert "w1" in out
    assert "w2" in out
    assert out.count("✓ succeeded") == 2
    assert k.run("%qwex wait --all").status == "ok"


def test_rerun_takes_every_option_as_an_override(k: Kernel) -> None:
    """``rerun`` does the same again, with other values where given."""
    k.run("%%qwex --name again -e A=1\necho $A $B")
    cell = k.run("%qwex rerun again -e A=1 -e B=2 --name again2")
    assert cell.status == "ok"
    assert "1 2" in cell.text
    assert _log(k, "again2") == b"1 2\n"
    assert k.run("%qwex rerun again -d --quiet --as r2").shown == []
    assert k.value("r2.wait(60).logs()") == r"'1\n'"
    assert "takes a run and options" in k.run("%qwex rerun again echo").stream("stderr")
    dry = k.run("%qwex rerun again --dry-run --timeout 5s").stream()
    assert "cell.sh" in dry


def test_delete_and_prune_take_out_what_ended(k: Kernel) -> None:
    """``delete`` refuses a live run and takes out an ended one; ``prune`` lists until told."""
    k.run(_waiter("keepme", options="-d --quiet --as live"))
    cell = k.run("%qwex delete keepme")
    assert cell.status == "error"
    assert "has not ended" in cell.error
    (k.folder / "keepme.go").touch()
    assert k.value("live.wait(60).exit_code") == "0"
    assert "Deleted keepme" in k.run("%qwex rm keepme").stream()
    k.run("%%qwex --name old\ntrue")
    out = k.run("%qwex prune --older 0s").stream()
    assert "Add --yes to delete them." in out
    assert k.run("%qwex logs old").status == "ok"
    assert k.run("%qwex prune --older 99d").stream().startswith("Nothing to prune")


def test_doctor_says_what_works_here(k: Kernel) -> None:
    """``doctor`` names the version, the history and each runner with a mark."""
    out = doctor(k)
    assert "qwex_jupyter" in out
    assert f"✓ history  {k.home}" in out
    assert "✓ local" in out


def test_bare_qwex_is_help(k: Kernel) -> None:
    """``%qwex``, ``%qwex help`` and ``--help`` of a verb tell what there is."""
    for line in ("%qwex", "%qwex help", "%qwex --help", "%qwex -h"):
        assert "%qwex cancel" in k.run(line).stream()
    assert "--follow" in k.run("%qwex logs --help").stream()
    cell = k.run("%qwex lgos")
    assert (
        cell.stream("stderr")
        == "UsageError: %qwex lgos: there is no such verb. Did you mean logs?\n"
    )


def test_a_line_magic_runs_a_command(k: Kernel) -> None:
    """``%qwex run`` runs a program with its own options; its value is the Run."""
    cell = k.run("r = %qwex run --name linear printf '%s|' a 'b c' --image\nr.logs()")
    assert cell.status == "error"  # --image behind the command is refused
    cell = k.run("r = %qwex run --name linear -- printf '%s|' a 'b c' -x\nprint(r.logs())")
    assert cell.stream() == "a|b c|-x|\n"


def test_the_tab_key_offers_ours_and_nothing_else(k: Kernel) -> None:
    """On our lines verbs, options, runners, profiles, interpreters and runs are offered."""
    k.run("%%qwex --name tabbed --as r\ntrue")
    handle = k.value("r.handle").strip("'")
    k.run("%config Qwex.profiles = {'gpu': '--quiet', 'big': '--quiet'}")
    assert set(k.complete("%qwex r")) == {"run", "runs", "rerun", "rm"}
    assert k.complete("%%qwex --ima") == ["--image"]
    assert set(k.complete("%%qwex --e")) == {"--env", "--env-file", "--entrypoint"}
    assert k.complete("%%qwex --runner=l") == ["--runner=local"]
    assert k.complete("%qwex run --runner l") == ["local"]
    assert k.complete("%%qwex --profile ") == ["big", "gpu"]
    assert k.complete("%qwex logs --ta") == ["--tail"]
    assert k.complete(f"%qwex logs {handle[:5]}") == [handle]
    assert "tabbed" in k.complete("%qwex attach tab")
    assert k.complete("%qwex runs --status FA") == ["FAILED"]
    assert "python" in k.complete("%%qwex --name x pyth")
    assert k.complete("r2 = %qwex rerun tab") == ["tabbed"]
    assert k.complete("x = 1\n%qwex sho") == ["show"]
    assert k.complete("%%qwex --ima\nbody", at=12) == ["--image"]


def test_the_tab_key_is_not_disturbed_elsewhere(k: Kernel) -> None:
    """In Python, and in the body of a cell, completion is what it was."""
    k.run("import_this_name = 1")
    assert "import_this_name" in k.complete("import_this_n")
    assert "--image" not in k.complete("%%qwex\n%qwex --ima")
    assert "--image" not in k.complete("qwexes --ima")
    assert k.complete("%%qwe") == ["%%qwex"]


def test_the_question_mark_shows_the_options(k: Kernel) -> None:
    """``%%qwex?`` and ``%qwex?`` list verbs and options, with the runners that have them."""
    for code in ("%%qwex?", "%qwex?"):
        payload = k.run(code).reply["payload"][0]["data"]["text/plain"]
        assert "%qwex cancel" in payload
        assert "--start-timeout" in payload
        assert re.search(r"--gpus N.*\[docker, k8s\]", payload)


NOTEBOOK = [
    "%load_ext qwex_jupyter",
    "%%qwex\nfor i in 1 2; do echo epoch $i; done",
    "%%qwex --detach --name bg python\nprint('from the background')",
    "%qwex wait bg",
    "%qwex runs",
]
FAILING = ["%load_ext qwex_jupyter", "%%qwex\necho why >&2\nsleep 0.5\nexit 3", "print('reached')"]


def _notebook(path: Path, cells: list[str]) -> Path:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, path)
    return path


def _texts(path: Path) -> list[str]:
    """What each cell of a notebook has printed and shown."""
    return [
        "".join(
            str(o.get("text") or o.get("data", {}).get("text/plain", ""))
            for o in cell.get("outputs", [])
        )
        for cell in nbformat.read(path, as_version=4).cells
    ]


def _check(texts: list[str]) -> None:
    assert "epoch 1\nepoch 2\n" in texts[1]
    assert "✓ succeeded" in texts[1]
    assert "from the background" in texts[3]
    assert "✓ succeeded" in texts[4]


def _python(env: dict[str, str], folder: Path, *words: str, text: str = "") -> Any:
    command = [sys.executable, *words]
    return subprocess.run(
        command, env=env, cwd=folder, input=text, capture_output=True, text=True,
        timeout=2 * PATIENCE, check=False,
    )  # fmt: skip


NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
book = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(book, timeout=90).execute()
except CellExecutionError as error:
    print(error.ename, error)
nbformat.write(book, sys.argv[1])
"""


def test_nbclient_executes_a_notebook_and_stops_where_it_fails(tmp_path: Path) -> None:
    """Under nbclient a notebook runs to its end, and a failing cell is its error."""
    env = environment(tmp_path / "user")
    try:
        good = _notebook(tmp_path / "good.ipynb", NOTEBOOK)
        done = _python(env, tmp_path, "-c", NBCLIENT, str(good))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        _check(_texts(good))
        bad = _notebook(tmp_path / "bad.ipynb", FAILING)
        done = _python(env, tmp_path, "-c", NBCLIENT, str(bad))
        assert done.stdout.startswith("RunFailed ")
        assert "failed, exit code 3" in done.stdout
        assert "why" in done.stdout
        assert _texts(bad)[2] == ""
    finally:
        end_runs(env)


def test_papermill_executes_a_notebook_and_stops_where_it_fails(tmp_path: Path) -> None:
    """Under papermill a notebook runs to its end, and the error says what the program said."""
    env = environment(tmp_path / "user")
    words = ("-m", "papermill", "--no-progress-bar")
    try:
        good = _notebook(tmp_path / "good.ipynb", NOTEBOOK)
        done = _python(env, tmp_path, *words, str(good), "out.ipynb")
        assert done.returncode == 0, done.stderr
        _check(_texts(tmp_path / "out.ipynb"))
        bad = _notebook(tmp_path / "bad.ipynb", FAILING)
        done = _python(env, tmp_path, *words, str(bad), "out.ipynb")
        assert done.returncode == 1
        assert "RunFailed" in done.stderr
        assert "failed, exit code 3" in done.stderr
        assert "why" in done.stderr
        assert "reached" not in _texts(tmp_path / "out.ipynb")[-1]
    finally:
        end_runs(env)


def test_jupyter_execute_executes_a_notebook(tmp_path: Path) -> None:
    """``jupyter execute`` runs a notebook with our cells to its end."""
    env = environment(tmp_path / "user")
    good = _notebook(tmp_path / "good.ipynb", NOTEBOOK)
    try:
        done = _python(env, tmp_path, "-m", "jupyter", "execute", "--output=out", str(good))
        assert done.returncode == 0, done.stderr
        for saved in tmp_path.glob("out*"):  # nbclient before 0.10 saves nothing
            _check(_texts(saved))
    finally:
        end_runs(env)


def test_a_terminal_ipython_runs_cells(tmp_path: Path) -> None:
    """In IPython without a kernel a cell streams plainly, and an error is one line."""
    env = environment(tmp_path / "user")
    cells = (
        "%load_ext qwex_jupyter",
        "%%qwex\necho first\necho second >&2",
        "%%qwex python\nraise SystemExit(4)",
        "r = %qwex run -d --quiet sleep 600",
        "%qwex cancel",
        # The cell before waits for the end no longer than a moment.
        "%qwex wait",
        "print('still', 'here')",
    )
    # A blank line ends a cell there, twice.
    text = "".join(f"{cell}\n\n\n" for cell in cells)
    words = ("-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit")
    done = _python(env, tmp_path, *words, "--colors=nocolor", text=text)
    out = done.stdout
    assert "first\n" in out
    assert "second\n" in done.stderr
    assert "✓ succeeded" in out
    assert re.search(r"✗ failed .*exit code 4", out)
    assert "Traceback" not in out
    assert "⊘ cancelled" in out
    assert "still here" in out


def test_waiting_for_several_is_one_table_that_ends(k: Kernel) -> None:
    """``wait`` of several runs is one live display; where nobody watches it is printed once."""
    for name in ("t1", "t2"):
        k.run(_waiter(name, options="-d"))
    cell = k.begin("%qwex wait t1 t2").until_shown("◐ running")
    (k.folder / "t1.go").touch()
    cell.until_text("✓ succeeded")
    (k.folder / "t2.go").touch()
    cell.done()
    assert len(cell.display_ids) == 1
    assert "2 runs · 2 succeeded · local · as of" in cell.text
    assert "2 runs · 2 succeeded · local · as of" in cell.html
    headless = k.run("%qwex wait t1 t2", stdin=False)
    assert headless.shown == []
    assert headless.stream().count("✓ succeeded") == 2


def test_an_interrupt_ends_the_table_and_no_run(k: Kernel) -> None:
    """The stop button ends the waiting for several; the table says that they go on."""
    for name in ("u1", "u2"):
        k.run(_waiter(name, options="-d"))
    cell = k.begin("%qwex wait u1 u2").until_shown("◐ running")
    k.interrupt()
    cell.done()
    assert cell.status == "ok"
    assert "No longer waited for" in cell.text
    gave_up = k.run("%qwex wait u1 u2 --timeout 0.2")
    assert "2 had not ended" in gave_up.text
    for name in ("u1", "u2"):
        (k.folder / f"{name}.go").touch()
    k.run("%qwex wait u1 u2")


def test_following_a_log_is_bounded(k: Kernel) -> None:
    """``logs -f`` of what lives shows a pane, and with --stderr that stream alone."""
    k.run("%%qwex -d --name loud\nseq -f 'out %.0f' 200000; echo oops >&2; sleep 600")
    until(lambda: _log(k, "loud", "stderr") == b"oops\n")
    for stream, there in (("--stderr", False), ("--stdout", True)):
        cell = k.begin(f"%qwex logs -f loud {stream}")
        cell.until_shown("200,000 lines" if there else "oops")
        k.interrupt()
        cell.done()
        assert ("out 200000" in cell.html) is there
        assert size_of(cell.messages) < 100_000
    k.run("%qwex cancel loud")


def test_nobody_watches_and_there_is_no_widget(k: Kernel) -> None:
    """Under nbclient and papermill the monitor is a table of the newest runs, and no widget."""
    k.run("%%qwex --name seen\necho x")
    cell = k.run("%qwex monitor", stdin=False)
    assert [list(data) for data in cell.shown] == [["text/plain", "text/html"]]
    assert "seen" in cell.text
    assert "as of 20" in cell.html
    # Those of other cells may still be spoken of meanwhile.
    assert not [m for m in cell.messages if m["msg_type"] == "comm_open"]


def test_a_widget_is_two_outputs(k: Kernel) -> None:
    """The monitor is a widget with a line of text, and below it the table that stands in for it."""
    k.run("%%qwex --name seen\necho x")
    widget, table = k.run("%qwex monitor").shown
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert re.match(r"\d+ runs? · .* · as of 20", widget["text/plain"])
    assert "seen" in table["text/plain"]
    assert "<table " in table["text/html"]
    made = k.run("import qwex_jupyter as q\nm = q.monitor()")
    assert (made.error, made.shown) == ("", [])
    assert "seen" in k.value("m")
