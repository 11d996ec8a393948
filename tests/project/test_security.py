"""What SECURITY.md promises and no other test holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import ROOT

pytestmark = pytest.mark.once

# What waits for others to connect.
LISTENS = {"listen", "bind", "accept", "create_server", "start_server", "start_unix_server"}
SERVERS = {"http.server", "socketserver", "xmlrpc.server", "multiprocessing.connection"}
# What makes code of what was read. `eval` has one place: a magic's line, in the user's namespace.
EXECUTES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}


def listens(tree: ast.AST) -> Iterator[str]:
    """What in a module waits for others to connect."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in LISTENS:
            yield ast.unparse(node.func).rpartition(".")[2]
        yield from (name for name in imported(node) if name in SERVERS)


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def modules() -> Iterator[tuple[Path, ast.AST]]:
    """Every module of the package."""
    for path in (ROOT / "qwex_jupyter").rglob("*.py"):
        yield path, ast.parse(path.read_text())


def test_nothing_listens() -> None:
    """No module of the package opens a port or a socket for others to connect to."""
    assert [(path, name) for path, tree in modules() for name in listens(tree)] == []
    seen = ast.parse("import http.server\ns.bind(x)\ns.listen()")
    assert sorted(listens(seen)) == ["bind", "http.server", "listen"]


def test_what_is_read_is_no_code() -> None:
    """No module reads a format that can hold code, and one line alone is evaluated."""
    evaluated = []
    for path, tree in modules():
        for node in ast.walk(tree):
            assert not EXECUTES.intersection(imported(node)), path
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec"):
                evaluated.append(path.name)
    assert evaluated == ["line.py"]
