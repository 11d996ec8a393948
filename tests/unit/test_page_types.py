"""What a page's module says of its types holds, as TypeScript sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fetched import typescript
from needs import need

from qwex_jupyter.widgets.card import LiveCard
from qwex_jupyter.widgets.monitor import Monitor
from qwex_jupyter.widgets.widget import PAGE

_STRICT = (
    *("--allowJs", "--checkJs", "--noEmit", "--strict", "--target", "es2022"),
    *("--lib", "es2022,dom,dom.iterable"),
)


def _check(*files: Path) -> None:
    """Has the compiler look through these files, which are one program."""
    need("node", "nodejs")
    compiler, why = typescript()
    if compiler is None:
        pytest.skip(why)
    command = ["node", str(compiler), *_STRICT, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("widget", [Monitor, LiveCard])
def test_a_page_is_one_module_without_a_wrong_type(
    tmp_path: Path, widget: type[Monitor | LiveCard]
) -> None:
    """The joined text has no name twice, none that isn't there, and no wrong type."""
    module = tmp_path / "page.js"
    module.write_text(widget._esm)
    _check(module)


def test_each_part_says_that_it_is_checked() -> None:
    """An editor checks the parts beside each other, as each of them asks for in its first line."""
    parts = sorted(PAGE.glob("*.js"))
    assert [part.name for part in parts if part.read_text().split("\n")[0] != "// @ts-check"] == []
    _check(*parts)
