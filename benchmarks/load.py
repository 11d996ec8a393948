"""``%load_ext`` in a fresh real kernel."""

from __future__ import annotations

import os
import tempfile
from functools import partial

from measure import kernel, rotate, table

EMPTY = """
from IPython.core.magic import Magics, magics_class, line_magic
@magics_class
class Empty(Magics):
    @line_magic
    def nothing(self, line):
        pass
def load_ipython_extension(shell):
    shell.register_magics(Empty)
"""
TIMED = """
import sys, time
sys.path.insert(0, {folder!r})
_before = set(sys.modules)
_start = time.perf_counter()
get_ipython().extension_manager.load_extension({name!r})
_took = time.perf_counter() - _start
_new = sorted(set(sys.modules) - _before)
"""
HEAVY = ("docker", "kubernetes", "pandas", "ipywidgets")


def main(rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "empty_extension.py"), "w") as file:
            file.write(EMPTY)
        modules: list[str] = []

        def case(name: str) -> float:
            with kernel() as one:
                one.run(TIMED.format(folder=folder, name=name))
                if name == "qwex_jupyter":
                    modules[:] = one.value("_new")
                return float(one.value("_took"))

        names = {
            "one empty magic": "empty_extension",
            "qwex_jupyter": "qwex_jupyter",
            "ipyparallel": "ipyparallel",
            "jupysql": "sql",
        }
        found = rotate({k: partial(case, v) for k, v in names.items()}, rounds, warm=1)
    heavy = [name for name in HEAVY if name in modules]
    told = ", ".join(heavy) or "none"
    lines = table("`%load_ext` in a fresh kernel", found, "one empty magic")
    lines += ["", f"New modules with ours: {len(modules)}; of {', '.join(HEAVY)}: {told}."]
    return lines
