"""Who may know whom, and who may write what: read from the source of the package."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwex_jupyter

PACKAGE = Path(qwex_jupyter.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES}
RUNNERS = sorted(path.stem for path in (PACKAGE / "runners").glob("*.py") if path.stem[0] != "_")
# Rooms that a supervisor enters under ``python -I -S``: nothing but the standard library.
PLAIN = {"errors", "facts", "process", "record", "status"}
# What runs beside a local program.
BESIDE = {"server", "supervisor", "scribe", "program", "outcome", "remains", "limits", "pipes"}


def name_of(path: Path) -> str:
    """``runners.local`` for ``qwex_jupyter/runners/local.py``; "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@functools.cache
def imports(name: str, *, typing_too: bool = False) -> set[str]:
    """Everything that a room imports anywhere: ``pandas``, or rooms of ours as ``facts``.

    Args:
        name: The room.
        typing_too: Also what only a type checker imports.
    """
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py") if name else PACKAGE
    path = path / "__init__.py" if path.is_dir() else path
    if not path.exists():
        path = path.with_suffix("") / "__init__.py"
    found: set[str] = set()
    for node in _imports_in(ast.parse(path.read_text()), typing_too=typing_too):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.module is not None, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            names = [*inner] or [node.module]
            if node.module in MODULES and len(inner) < len(node.names):
                names.append(node.module)
        found.update(each.removeprefix("qwex_jupyter.") for each in names)
    return found - {"qwex_jupyter"}


def _imports_in(node: ast.AST, *, typing_too: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif (
            isinstance(child, ast.If)
            and ast.unparse(child.test) == "TYPE_CHECKING"
            and not typing_too
        ):
            for other in child.orelse:
                yield from _imports_in(other, typing_too=typing_too)
        else:
            yield from _imports_in(child, typing_too=typing_too)


def ours(found: set[str]) -> set[str]:
    """Those of them that are rooms of this package."""
    return {name for name in found if f"qwex_jupyter.{name}" in MODULES}


def foreign(found: set[str]) -> set[str]:
    """Those of them that are neither ours nor of the standard library, by their first name."""
    first = {name.partition(".")[0] for name in found - ours(found)}
    return first - set(sys.stdlib_module_names) - {"qwex_jupyter"}


def who(library: str) -> set[str]:
    """The rooms that import a library."""
    return {name_of(path) for path in FILES if library in foreign(imports(name_of(path)))}


@pytest.mark.parametrize("name", ["spec", "status", "errors"])
def test_the_plainest_rooms_know_each_other_only(name: str) -> None:
    """spec, status and errors know the standard library and each other."""
    assert not foreign(imports(name))
    assert ours(imports(name)) <= {"spec", "status", "errors"}


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_what_a_supervisor_imports_is_plain(name: str) -> None:
    """The rooms that a supervisor enters need no installed package and no other room."""
    assert not foreign(imports(name))
    assert ours(imports(name)) <= PLAIN


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runner_knows_no_manager_and_no_sibling(name: str) -> None:
    """Runners know specs, records, facts, processes, logs, copies; of others the seam."""
    allowed = PLAIN | {"spec", "logs", "flag", "patience", "carry", "runners.base"}
    if name in BESIDE:
        allowed |= {f"runners.{other}" for other in BESIDE}
    if name in ("local", "local_server"):
        allowed |= {"runners.limits", "runners.pipes"}
    # What runners of far backends have in common.
    allowed |= {"runners.streams", "runners.reader", "runners.words", "runners.inside"}
    family = name.partition("_")[0]
    allowed |= {f"runners.{other}" for other in RUNNERS if other.startswith(f"{family}_")}
    found = imports(f"runners.{name}", typing_too=True)
    assert ours(found) <= allowed
    # docker and kubernetes come with the libraries by which they speak to their servers.
    libraries = {
        "docker": {"docker", "requests", "urllib3"},
        "k8s": {"kubernetes", "urllib3", "yaml"},
    }
    assert foreign(found) <= libraries.get(family, set())


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_what_runs_beside_a_program_is_plain(name: str) -> None:
    """The processes that outlive a kernel need nothing but the standard library and plain rooms."""
    found = imports(f"runners.{name}")
    assert not foreign(found)
    assert ours(found) <= PLAIN | {f"runners.{other}" for other in BESIDE}


def test_each_heavy_library_has_one_room() -> None:
    """Pandas is imported in frame only, and each other heavy library in one room, if at all."""
    assert who("pandas") == {"frame"}
    assert who("docker") == {"runners.docker_endpoint"}
    assert who("kubernetes") == {"runners.k8s_settings"}
    assert who("anywidget") == {"monitor.widget"}
    assert who("matplotlib") == who("altair") == {"gantt"}


def test_heavy_libraries_are_imported_at_first_use() -> None:
    """No room but frame and the widget imports pandas, docker, kubernetes or anywidget early."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        head = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {
            alias.name for node in head if isinstance(node, ast.Import) for alias in node.names
        }
        names |= {node.module or "" for node in head if isinstance(node, ast.ImportFrom)}
        heavy = {name.partition(".")[0] for name in names}
        heavy &= {"pandas", "numpy", "docker", "kubernetes", "ipywidgets", "anywidget"}
        heavy |= names & {"matplotlib", "altair"}
        first_used = ("frame", "monitor.widget")  # rooms that are entered at first use
        assert name_of(path) in first_used or not heavy, f"{path.name} imports {heavy}"
    for room, entered_from in {
        "monitor.widget": {"monitor.monitor", "monitor.card"},
        "monitor.monitor": {"api"},
        "monitor.card": {"cards"},
    }.items():
        assert {name_of(p) for p in FILES if room in imports(name_of(p))} == entered_from
    for door, room in {"api": "monitor.monitor", "cards": "monitor.card"}.items():
        assert f"qwex_jupyter.{room}" not in {
            node.module
            for node in ast.parse((PACKAGE / f"{door}.py").read_text()).body
            if isinstance(node, ast.ImportFrom)
        }


def test_the_manager_has_never_heard_of_faces() -> None:
    """The manager imports no monitor, render, follow or magics."""
    names = ours(imports("manager", typing_too=True))
    assert not {
        n
        for n in names
        if n.startswith(("monitor", "render", "follow", "views", "cards", "magics", "cli"))
    }


def test_history_and_render_know_no_runner() -> None:
    """History, render and what draws know records, never runners or the manager."""
    for name in ("history", "render", "tables", "gantt", "record", "frame", "monitor.rows"):
        names = ours(imports(name))
        assert not {n for n in names if n.startswith(("runners", "manager", "monitor"))}, name


def test_nothing_imports_the_magics() -> None:
    """Only load_ipython_extension, when it is called, imports the magics."""
    importers = {name_of(path) for path in FILES if "magics" in imports(name_of(path))}
    assert importers <= {""}
    head = ast.parse((PACKAGE / "__init__.py").read_text()).body
    assert not [
        n for n in head if isinstance(n, ast.Import | ast.ImportFrom) and "magics" in ast.unparse(n)
    ]


# Calls that could create, replace or link a file, and the places that may do so. All JSON of
# a run is written in facts.py; each other place has its reason.
WRITERS: dict[str, dict[str, str]] = {
    "facts": {
        "os.link": "the one way in which a fact appears",
        "os.rename": "a reserve is taken; seen.json and leases are replaced",
        "os.open:w": "the file that is linked",
        "open:w": "the file that is linked, and the reserve written in place",
    },
    "history": {
        "os.rename": "a run's folder gets its name whole, and loses it whole",
        "os.open:w": "the empty entry in open/; script and empty logs of a folder being made",
        "open:w": "script and empty logs of a folder being made",
    },
    "carry": {
        "os.link": "pristine copies of a rerun are those of its run, and never written",
        "os.rename": "the working folder of a process gets its name whole",
        "os.open:w": "pristine copies, into a folder being made",
        "open:w": "pristine copies, and those in which a process works",
    },
    "logs": {"os.open:w": "a log is written at its cursor"},
    "runners.supervisor": {
        "os.open:w": "supervisor.log, for its own traceback; /dev/null",
        "open:w": "supervisor.log",
    },
    "runners.scribe": {"os.open:w": "the two logs; /dev/null"},
    "runners.server": {"os.open:w": "/dev/null"},
    "cli": {"os.open:w": "/dev/null, in the place of a closed stdout"},
    "cache": {
        "os.rename": "the rebuildable cache, outside the home",
        "os.open:w": "the rebuildable cache, outside the home",
        "open:w": "the rebuildable cache, outside the home",
    },
}
_ALWAYS = {"os.link", "os.replace", "os.rename", "os.symlink", "os.truncate", "os.renames"}
_COPIES = {"shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move"}


def writes(path: Path) -> set[str]:
    """The kinds of writing call that stand in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = " ".join(map(ast.unparse, [*node.args, *(k.value for k in node.keywords)]))
        if name in _ALWAYS:
            found.add(name)
        elif name in _COPIES:
            found.add("shutil.copy" if name != "shutil.move" else name)
        elif name in (
            "json.dump",
            "pickle.dump",
            "tempfile.NamedTemporaryFile",
            "tempfile.mkstemp",
        ):
            found.add(name)
        elif name.endswith(
            (".write_text", ".write_bytes", ".touch", ".hardlink_to", ".symlink_to")
        ):
            found.add(name.rpartition(".")[2])
        elif name == "os.open" and _may_write(path, words):
            found.add("os.open:w")
        elif name in ("open", "io.open") or (name.endswith(".open") and name != "os.open"):
            mode = next((k.value for k in node.keywords if k.arg == "mode"), None)
            mode = mode or (node.args[1] if len(node.args) > 1 else None)
            text = "r" if mode is None else ast.unparse(mode).strip("'\"")
            if name in ("open", "io.open") and set(text) & set("wax+"):
                found.add("open:w")
    return found


def _may_write(path: Path, words: str) -> bool:
    # Flags may stand in a variable of that file: then what the file says about flags counts.
    named = "O_" in words
    text = words if named else path.read_text()
    return any(flag in text for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))


def test_all_json_of_a_run_is_written_in_one_room() -> None:
    """Outside facts.py nothing links, replaces or dumps; other writers are listed with reasons."""
    found = {name_of(path): writes(path) for path in FILES}
    found = {name: kinds for name, kinds in found.items() if kinds}
    assert found == {name: set(reasons) for name, reasons in WRITERS.items()}
    assert {name for name, kinds in found.items() if "os.link" in kinds} == {"facts", "carry"}
    for name in ("json.dump", "write_text", "write_bytes", "pickle.dump", "hardlink_to"):
        assert not {room for room, kinds in found.items() if name in kinds}, name


def test_nothing_waits_for_what_an_interrupt_breaks() -> None:
    """Events and conditions hang when an interrupt comes at the wrong moment; `flag` says why."""
    for path in FILES:
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not calls & {"threading.Event", "threading.Condition", "Event", "Condition"}, path
