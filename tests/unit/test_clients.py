"""The client libraries of the backends: imported by several threads at once, or not there."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.runners.container import clients

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
        try:
            clients.load(name, "or none")
        except RunnerUnavailable as error:
            failed.append(str(error))

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
    assert failed == []


def test_a_library_that_is_missing_is_named() -> None:
    """A cause and two next steps."""
    with pytest.raises(RunnerUnavailable) as caught:
        clients.load("qwex_nowhere", "or take another place")
    assert str(caught.value) == (
        "The Python package qwex_nowhere can't be imported (No module named 'qwex_nowhere'): "
        "pip install -U qwex_nowhere, or take another place."
    )
