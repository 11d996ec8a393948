"""Libraries that aren't there, or are broken: who can do without them, and what is said."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import without

from qwex_jupyter import api, runners
from qwex_jupyter.commands import doctor
from qwex_jupyter.display.tables import Table
from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.notebook import twin
from qwex_jupyter.runners.container import clients
from qwex_jupyter.system import frontend, libraries
from qwex_jupyter.widgets import monitor

# Two libraries with a part in common, which the one enters from its root and the other from within,
# as happens with requests. Each waits for the other to be in it, or half a second.
WAIT = "import sys, time\nfor _ in range(50):\n    {} in sys.modules or time.sleep(0.01)\n"
LIBRARIES = {
    "qwex_one.py": "import qwex_common",
    "qwex_two.py": WAIT.format("'qwex_common'") + "import qwex_common.part",
    "qwex_common/__init__.py": WAIT.format("'qwex_common.part'") + "from qwex_common.part import x",
    "qwex_common/part.py": "from . import other\nx = 1",
    "qwex_common/other.py": "",
}
NOT_INSTALLED = "The Python package {0} isn't installed: pip install {0}"


def test_libraries_are_imported_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that import them at once both have them whole."""
    for name, source in LIBRARIES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    failed = []
    both = threading.Barrier(2)

    def work(name: str) -> None:
        both.wait()
        failed.append(libraries.trouble(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("qwex_one", "qwex_two")]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for name in LIBRARIES:
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            sys.modules.pop(module, None)
    assert failed == ["", ""]


def test_a_library_that_is_missing_is_named() -> None:
    """A cause and two next steps; where pip has another name for it, that one."""
    with pytest.raises(RunnerUnavailable) as caught:
        clients.load("qwex_nowhere", "or take another place")
    assert str(caught.value) == (
        "The Python package qwex_nowhere isn't installed: pip install qwex_nowhere, "
        "or take another place."
    )
    told = libraries.trouble("qwex_nowhere", brought_by="somewhere")
    assert told == "The Python package qwex_nowhere isn't installed: pip install somewhere"


def test_a_folder_of_that_name_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder ``docker`` with a Dockerfile, in the current one, isn't taken for the library."""
    (tmp_path / "qwex_folder").mkdir()
    (tmp_path / "qwex_folder" / "Dockerfile").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries.trouble("qwex_folder") == NOT_INSTALLED.format("qwex_folder")
    assert "qwex_folder" not in sys.modules


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("from os import nothing_like_it", "cannot import name 'nothing_like_it' from 'os'"),
        ("import qwex_nowhere", "No module named 'qwex_nowhere'"),
        ("raise AttributeError('of another\\nversion')", "of another version"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_a_library_that_is_broken_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    """What is there and can't be imported isn't called missing: its own error is told."""
    (tmp_path / "qwex_broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    told = libraries.trouble("qwex_broken")
    assert told.startswith(f"The Python package qwex_broken can't be imported ({why}")
    assert told.endswith("): pip install -U qwex_broken")
    assert "\n" not in told


def test_what_is_installed_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``pip install`` the same kernel has it."""
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries.trouble("qwex_late")
    (tmp_path / "qwex_late.py").touch()
    assert libraries.trouble("qwex_late") == ""
    del sys.modules["qwex_late"]


def test_what_is_there_waits_for_nobody_s_import() -> None:
    """While another thread imports a library, one that is imported already is had at once."""
    told: list[str] = []
    asking = threading.Thread(target=lambda: told.append(libraries.trouble("pytest")), daemon=True)
    with libraries._ONE:
        asking.start()
        asking.join(30)
        assert told == [""]


def test_a_broken_library_of_widgets_is_told_by_the_doctor(
    manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wanted to show a card has tried it, and what went wrong is said until it goes."""
    monkeypatch.setattr(runners, "names", lambda **_: [])
    assert {check.name for check in doctor.examine(manager).checks} == {"history"}
    (tmp_path / "anywidget.py").write_text("raise ImportError('made for another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "anywidget")
    assert libraries.trouble(libraries.WIDGETS)
    found = {check.name: check for check in doctor.examine(manager).checks}["widgets"]
    assert found.state == "failed"
    (line,) = found.lines
    assert line == (
        "✗ widgets  The Python package anywidget can't be imported (made for another Python): "
        "pip install -U anywidget, for live cards and the monitor."
    )
    (tmp_path / "anywidget.py").write_text("")
    os.utime(tmp_path / "anywidget.py", (1, 1))  # or Python takes what it had compiled
    assert not libraries.trouble(libraries.WIDGETS)
    assert {check.name for check in doctor.examine(manager).checks} == {"history"}


# -- each of them, and all three -------------------------------------------------------------

FAR = {"docker": "docker", "k8s": "kubernetes"}


@pytest.mark.parametrize("gone", [("docker",), ("kubernetes",), ("anywidget",), without.ALL])
def test_a_terminal_does_without_them(tmp_path: Path, gone: tuple[str, ...]) -> None:
    """Every verb of local runs works, what needs a library is one sentence, the doctor goes on."""
    home = {"QWEX_HOME": str(tmp_path / "home")}
    done = without.qwex(gone, "run", "echo", "it runs", **home)
    assert (done.returncode, done.stdout) == (0, "it runs\n"), done.stderr
    assert "it runs" in without.qwex(gone, "runs", **home).stdout
    told = without.qwex(gone, "doctor", **home)
    assert told.returncode == 0, told.stderr
    assert "✓ local" in told.stdout
    for name, library in {**FAR, "widgets": "anywidget"}.items():
        line = f"✗ {name}  {NOT_INSTALLED.format(library)}, "
        assert (line in told.stdout) == (library in gone), told.stdout
    for name in [name for name, library in FAR.items() if library in gone]:
        done = without.qwex(gone, "run", f"--runner={name}", "--image=x", "true", **home)
        first, *more = done.stderr.splitlines()
        assert first.startswith(f"qwex: {NOT_INSTALLED.format(FAR[name])}, or ")
        assert (done.returncode, done.stdout, more) == (1, "", [])


def test_an_image_without_the_library_is_the_same_sentence(tmp_path: Path) -> None:
    """With an image and no runner docker is meant, and what it lacks is said."""
    done = without.qwex(("docker",), "run", "--image=x", "true", QWEX_HOME=str(tmp_path / "home"))
    assert done.stderr.startswith(f"qwex: {NOT_INSTALLED.format('docker')}, or leave --image out")


def test_what_a_job_would_be_needs_no_library_but_yaml(tmp_path: Path) -> None:
    """``--dry-run`` prints what it can, and says what brings YAML where that is missing."""
    words = ("run", "--runner=k8s", "--image=x", "--dry-run", "true")
    home = {"QWEX_HOME": str(tmp_path / "home")}
    assert "kind: Job" in without.qwex(("kubernetes",), *words, **home).stdout
    done = without.qwex(("kubernetes", "yaml"), *words, **home)
    needs = "The Python package yaml isn't installed: pip install kubernetes, or take"
    assert done.stderr.startswith(f"qwex: {needs}")


def test_every_module_but_those_of_widgets_is_imported_without_them() -> None:
    """Only what is made of anywidget needs it to be imported, and nothing needs the other two."""
    done = without.python(without.ALL, without.IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"qwex_jupyter.widgets.{name}" for name in ("card", "monitor", "widget")
    ]


class _Publisher:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []

    def publish(self, **what: Any) -> None:
        """As that of a cell."""
        self.published.append(what)


def test_a_card_without_widgets_is_brought_up_to_date(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output has the HTML of now, it says nothing of a library, and one look was enough."""
    from qwex_jupyter.display.card import Card

    monkeypatch.setitem(sys.modules, "anywidget", None)
    publisher = _Publisher()
    run = manager.submit(JobSpec(command=("echo", "done")), "local").wait(60)
    made = twin.Twin(manager, publisher)
    card = Card(run.record, now=run.record.created_at)
    made.write(card)
    made.go_live(lambda: card)
    assert made.live is None
    monkeypatch.setattr(libraries, "trouble", lambda *_: pytest.fail("looked for once more"))
    made.go_live(lambda: card)
    made.look_for_pages()
    made.show(card)
    first, second = publisher.published
    assert (first["update"], second["update"]) == (False, True)
    assert "succeeded" in second["data"]["text/html"]
    assert "anywidget" not in str(publisher.published)


@pytest.mark.parametrize("runs", [0, 1])
def test_a_monitor_without_widgets_is_a_table_that_says_why(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """It has one sentence more than where nobody watches, in text and HTML."""
    for _ in range(runs):
        manager.submit(JobSpec(command=("true",)), "local").wait(60)
    monkeypatch.setattr(frontend, "is_watched", lambda: True)
    assert isinstance(api.monitor_of(manager), monitor.Monitor)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    found = api.monitor_of(manager)
    assert isinstance(found, Table)
    assert len(found.records) == runs
    said = f"{NOT_INSTALLED.format('anywidget')}, and this will be live."
    text, html = found.bundle().values()
    assert text.endswith(f"\n{said}")
    assert html.count("anywidget") == text.count("anywidget") == 2
    monkeypatch.setattr(frontend, "is_watched", lambda: False)
    assert "anywidget" not in str(api.monitor_of(manager))
