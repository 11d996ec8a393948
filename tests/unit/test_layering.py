"""Who may know whom, and who may write what: read from the source of the package."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwex_jupyter
from qwex_jupyter.disk import folder

PACKAGE = Path(qwex_jupyter.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
}
# Who may import whom: a room imports itself and the rooms of lower lines. `testing` stands beside
# what may import anything up to the manager, and nobody imports it.
FLOORS = (
    ("_version", "errors"),
    ("model",),
    ("system",),
    ("disk",),
    ("runners",),
    ("history",),
    ("display", "config"),
    ("manager",),
    ("commands", "widgets", "testing"),
    ("api",),
    ("notebook",),
    ("cli",),
    ("",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What a supervisor enters under ``python -I -S``: nothing but the standard library.
PLAIN = {
    "errors",
    "disk.facts",
    "disk.folder",
    *(f"system.{n}" for n in ("files", "process", "windows")),
    "runners.bash",
} | {
    f"model.{name}"
    for name in ("cause", "dialects", "record", "status", "text", "units", "verdict")
}
# What runs beside a local program.
BESIDE = {
    f"runners.local.{name}"
    for name in (
        *("server", "supervisor", "scribe", "program", "outcome", "remains", "limits", "pipes"),
    )
}
FAMILIES = ("local", "docker", "k8s")
# Tests that the package brings: they wait, write and compare as tests do.
CONTRACT = "testing.contract"


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


def room_of(name: str) -> str:
    """``runners`` for ``runners.local.scribe``; "" for the package itself."""
    return name.partition(".")[0]


ROOMS = [name_of(path) for path in FILES]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_lower_rooms_only(name: str) -> None:
    """The one table of who may import whom holds, for a type checker too."""
    room = room_of(name)
    for other in ours(imports(name, typing_too=True)):
        below = FLOOR[room_of(other)] < FLOOR[room]
        assert below or room_of(other) == room, f"{name} imports {other}"


def test_no_imports_go_round() -> None:
    """No module comes to itself by what it imports, nor by what a type checker imports."""
    known = {name: ours(imports(name, typing_too=True)) - {name} for name in ROOMS}
    while ends := {name for name, others in known.items() if not others & known.keys()}:
        known = {name: others for name, others in known.items() if name not in ends}
    assert not known


def test_nobody_imports_what_is_for_tests() -> None:
    """`testing` is for tests of what is built on this package."""
    assert not [
        name
        for name in ROOMS
        if room_of(name) != "testing"
        and any(room_of(other) == "testing" for other in imports(name, typing_too=True))
    ]


def test_nobody_asks_for_a_runner_by_its_name() -> None:
    """Outside `runners` what must be known of a runner is a promise, or comes from it."""
    named = [
        f"{name_of(path)}: {node.value}"
        for path in FILES
        if room_of(name_of(path)) != "runners"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in FAMILIES
    ]
    pages = [
        path.name
        for path in PACKAGE.rglob("*.js")
        if any(f"{mark}{name}{mark}" in path.read_text() for name in FAMILIES for mark in "'\"`")
    ]
    assert not named + pages


@pytest.mark.parametrize("name", [name for name in ROOMS if name.endswith(".declared")])
def test_a_declaration_is_plain_data(name: str) -> None:
    """What is read of every runner imports the model, and what runners of containers share."""
    assert imports(name) <= {"__future__", "model.declaration", "runners.container.options"}
    assert imports("runners.container.options") <= {"__future__", "model.declaration"}


def test_only_the_contract_needs_what_runs_tests() -> None:
    """What is installed without the extra ``[testing]`` imports no pytest."""
    assert {name for name in who("pytest") if not name.startswith(CONTRACT)} == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_runners_know_no_sibling(family: str) -> None:
    """local, docker and k8s never import each other, and what they share is for the far two."""
    shared = () if family == "local" else ("container",)
    for name in ROOMS:
        if name.startswith(f"runners.{family}."):
            for other in ours(imports(name, typing_too=True)):
                _, _, inner = other.partition("runners.")
                home = inner.partition(".")[0]
                known = ("", "base", "argv", "bash", family, *shared)
                assert home in known, f"{name} imports {other}"


def test_what_runners_share_knows_none_of_them() -> None:
    """`container` imports no runner, and only runners of containers import it."""
    for name in ROOMS:
        others = ours(imports(name, typing_too=True))
        inner = {other.split(".")[1] for other in others if other.startswith("runners.")}
        if name.startswith("runners.container."):
            assert inner <= {"base", "bash", "container"}, name
        elif not name.startswith(("runners.docker.", "runners.k8s.")):
            assert "container" not in inner, name


# docker and kubernetes come with the libraries by which they speak to their servers.
LIBRARIES = {
    "docker": {"docker", "requests", "urllib3"},
    "k8s": {"kubernetes", "urllib3", "yaml"},
}


def test_runners_need_their_own_library_only() -> None:
    """What a runner imports that isn't of the standard library is its backend's client."""
    for name in ROOMS:
        if name.startswith("runners."):
            allowed = LIBRARIES.get(name.split(".")[1], set())
            assert foreign(imports(name, typing_too=True)) <= allowed, name


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_what_a_supervisor_imports_is_plain(name: str) -> None:
    """The rooms that a supervisor enters need no installed package and no other room."""
    assert not foreign(imports(name))
    assert ours(imports(name)) <= PLAIN


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_what_runs_beside_a_program_is_plain(name: str) -> None:
    """The processes that outlive a kernel need nothing but the standard library and plain rooms."""
    found = imports(name)
    assert not foreign(found)
    assert ours(found) <= PLAIN | BESIDE


def test_what_forks_supervisors_is_small() -> None:
    """Each run forks what the server has in memory, so it has nothing that no supervisor needs."""
    code = (
        "import sys; sys.path.append(sys.argv[1]); from qwex_jupyter.runners.local import server\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(PACKAGE.parent)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "qwex_jupyter.runners.local.supervisor" in loaded
    assert not {"datetime", "hashlib", "random", "secrets", "subprocess"} & set(loaded)


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES} - {PACKAGE}))
def test_a_package_imports_nothing_by_itself(package: Path) -> None:
    """Its ``__init__`` says what it is for; the registry of runners and the contract's import."""
    name = ".".join(package.relative_to(PACKAGE).parts)
    assert name in ("runners", CONTRACT) or not imports(name)
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text()))


def test_each_heavy_library_has_one_room() -> None:
    """Each heavy library is imported in one room, or for connections and for logins in one each."""
    assert who("pandas") == {"history.frame"}
    assert who("docker") == {"runners.docker.endpoint", "runners.docker.login"}
    assert who("kubernetes") == {"runners.k8s.settings"}
    assert who("anywidget") == {"widgets.widget"}
    assert who("matplotlib") == who("altair") == {"display.timeline"}
    assert {room_of(name) for name in who("IPython")} == {"notebook"}


def test_heavy_libraries_are_imported_at_first_use() -> None:
    """No room but frame and the widget imports pandas, docker, kubernetes or anywidget early."""
    for path in FILES:
        heavy = {name.partition(".")[0] for name in _head(path)}
        heavy &= {"pandas", "numpy", "docker", "kubernetes", "ipywidgets", "anywidget"}
        heavy |= _head(path) & {"matplotlib", "altair"}
        first_used = ("history.frame", "widgets.widget")  # rooms that are entered at first use
        assert name_of(path) in first_used or not heavy, f"{path.name} imports {heavy}"
    for room, entered_from in {
        "widgets.widget": {"widgets.monitor", "widgets.card"},
        "widgets.monitor": {"api"},
        "widgets.card": {"notebook.twin"},
    }.items():
        assert {name for name in ROOMS if room in imports(name)} == entered_from
    for door, room in {"api": "widgets.monitor", "notebook/twin": "widgets.card"}.items():
        assert f"qwex_jupyter.{room}" not in _head(PACKAGE / f"{door}.py")


def _head(path: Path) -> set[str]:
    """The modules that a file imports when it is imported itself."""
    head = ast.parse(path.read_text()).body
    names = {a.name for node in head if isinstance(node, ast.Import) for a in node.names}
    return names | {node.module or "" for node in head if isinstance(node, ast.ImportFrom)}


def test_nothing_imports_the_magics() -> None:
    """Only load_ipython_extension, when it is called, imports the magics."""
    assert {name for name in ROOMS if "notebook.magics" in imports(name)} <= {""}
    assert "qwex_jupyter.notebook.magics" not in _head(PACKAGE / "__init__.py")


# Calls that could create, replace or link a file, and the places that may do so. All JSON of
# a run is written in facts.py; each other place has its reason.
WRITERS: dict[str, dict[str, str]] = {
    "disk.facts": {
        "os.link": "the one way in which a fact appears",
        "os.rename": "a reserve is taken; seen.json and leases are replaced",
        "os.open:w": "the file that is linked",
        "open:w": "the file that is linked, and the reserve written in place",
    },
    "history.folders": {
        "os.rename": "a run's folder gets its name whole, and loses it whole",
        "os.open:w": "the empty entry in open/; script and empty logs of a folder being made",
        "open:w": "script and empty logs of a folder being made",
    },
    "disk.awaited": {"os.open:w": "the empty entry of a run whose end a notebook is to be shown"},
    "disk.carry": {
        "os.link": "pristine copies of a rerun are those of its run, and never written",
        "os.rename": "the working folder of a process gets its name whole",
        "os.open:w": "pristine copies, into a folder being made",
        "open:w": "pristine copies, and those in which a process works",
    },
    "disk.logs": {"os.open:w": "a log is written at its cursor"},
    "system.files": {
        "os.rename": "what the callers of `move` stand here for",
        "os.replace": "the same, on Windows",
    },
    "runners.local.runner": {
        "os.open:w": "what bash reads before a script, which is no fact",
        "open:w": "the same",
    },
    "runners.local.supervisor": {
        "os.open:w": "supervisor.log, for its own traceback; /dev/null",
        "open:w": "supervisor.log",
    },
    "runners.local.scribe": {"os.open:w": "the two logs; /dev/null"},
    "runners.local.server": {"os.open:w": "/dev/null"},
    "cli": {"os.open:w": "/dev/null, in the place of a closed stdout"},
    "history.cache": {
        "os.rename": "the rebuildable cache, outside the home",
        "os.open:w": "the rebuildable cache, outside the home",
        "open:w": "the rebuildable cache, outside the home",
    },
}
_ALWAYS = {"os.link", "os.replace", "os.rename", "os.symlink", "os.truncate", "os.renames"}
_COPIES = {"shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move"}


def _calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call of a file, and what is called; by `files.patient` that is its first argument."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name not in ("files.patient", "patient") or not node.args:
            yield name, node
            continue
        first, *rest = node.args
        inner = ast.Call(func=first, args=rest, keywords=node.keywords)
        for each in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
            yield ast.unparse(each), inner


def writes(text: str) -> set[str]:
    """The kinds of writing call that stand in a file's text."""
    found = set()
    for name, node in _calls(text):
        words = " ".join(map(ast.unparse, [*node.args, *(k.value for k in node.keywords)]))
        if name in _ALWAYS:
            found.add(name)
        elif name == "files.move":  # which is a rename on this system, or a replacement on Windows
            found.add("os.rename")
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
        elif name == "os.open" and _may_write(text, words):
            found.add("os.open:w")
        elif name in ("open", "io.open") or (name.endswith(".open") and name != "os.open"):
            mode = next((k.value for k in node.keywords if k.arg == "mode"), None)
            mode = mode or (node.args[1] if len(node.args) > 1 else None)
            kind = "r" if mode is None else ast.unparse(mode).strip("'\"")
            if name in ("open", "io.open") and set(kind) & set("wax+"):
                found.add("open:w")
    return found


def _may_write(text: str, words: str) -> bool:
    # Flags may stand in a variable of that file: then what the file says about flags counts.
    said = words if re.search(r"\bO_|\bfiles\.[A-Z]", words) else text
    # Those of `system.files` say it by their names.
    kinds = set(re.findall(r"\bfiles\.([A-Z_]+)", said)) - {"READ", "READ_LINKED", "SYNC"}
    return bool(kinds) or any(flag in said for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("os.replace('a', 'b')", {"os.replace"}),
        ("files.patient(os.replace, 'a', 'b')", {"os.replace"}),
        ("patient(os.replace if here else os.rename, a, b)", {"os.replace", "os.rename"}),
        ("files.patient(shutil.copyfile, a, b)", {"shutil.copy"}),
        ("files.patient(os.unlink, a)", set()),
        ("files.patient(os.open, a, files.NEW)", {"os.open:w"}),
        ("files.patient(os.open, a, files.READ)", set()),
        ("flags = files.NEW\nos.open(a, flags)", {"os.open:w"}),
        ("flags = os.O_CREAT\nos.open(a, flags)", {"os.open:w"}),
        ("flags = files.READ\nos.open(a, flags)", set()),
        ("os.open(a, files.MARK | files.READ)", {"os.open:w"}),
        ("files.patient(open, a, 'wb')", {"open:w"}),
        ("files.move(a, b)", {"os.rename"}),
    ],
)
def test_a_writing_call_is_seen(text: str, kinds: set[str]) -> None:
    """However it is written, by which helper of ours, and wherever its flags stand."""
    assert writes(text) == kinds


def test_all_json_of_a_run_is_written_in_one_room() -> None:
    """Outside facts.py nothing links, replaces or dumps; other writers are listed with reasons."""
    found = {name_of(path): writes(path.read_text()) for path in FILES}
    found = {k: v for k, v in found.items() if v and not k.startswith(CONTRACT)}
    assert found == {name: set(reasons) for name, reasons in WRITERS.items()}
    assert {name for name, kinds in found.items() if "os.link" in kinds} == {
        "disk.facts",
        "disk.carry",
    }
    for name in ("json.dump", "write_text", "write_bytes", "pickle.dump", "hardlink_to"):
        assert not {room for room, kinds in found.items() if name in kinds}, name


def _texts(path: Path) -> Iterator[str]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
            yield node.value


def test_one_room_knows_the_names_in_a_run_s_folder() -> None:
    """No string of the code but those of `disk.folder` holds the name of a file of a run."""
    facts = {value for value in vars(folder).values() if str(value).endswith((".json", ".log"))}
    assert {folder.SPEC, folder.RUN, folder.SUPERVISOR_LOG} <= facts
    names = re.compile("|".join([*map(re.escape, sorted(facts)), r"\.log\b", r"\blog\.\S*json"]))
    found = {name_of(path): text for path in FILES for text in _texts(path) if names.search(text)}
    assert found.keys() == {"disk.folder"}, found


def test_nothing_waits_for_what_an_interrupt_breaks() -> None:
    """Events and conditions hang when an interrupt comes at the wrong moment; `flag` says why."""
    for path in FILES:
        if name_of(path).startswith(CONTRACT):
            continue
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not calls & {"threading.Event", "threading.Condition", "Event", "Condition"}, path


# Names that one library asks another for, so that they are no secret of anybody: IPython's
# ``_repr_html_`` and its like are known by both their ends.
_PROTOCOL = "_"
# What Python documents for everybody in spite of its name.
_DOCUMENTED = {"os._exit", "import _thread"}


def private_of_others(path: Path) -> set[str]:
    """The private names of other libraries that stand in a file, as they stand there.

    A name is ours where the package gives it: to an object of its own anywhere, and to another
    object in the same file, as what is private to a class is its file's.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            mine = ast.unparse(node.value) in ("self", "cls", "super()")
            names = [(node.attr, OWN if mine else own_names(path))]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            words = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
            mine = ast.unparse(node.args[0]) in ("self", "cls", "super()")
            names = [(str(word), OWN if mine else own_names(path)) for word in words]
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            ours_too = OWN if (node.module or "").startswith("qwex_jupyter") else set()
            names = [(part, ours_too) for part in parts]
        elif isinstance(node, ast.Import):
            names = [(part, set()) for alias in node.names for part in alias.name.split(".")]
        else:
            continue
        for name, known in names:
            hidden = name.startswith("_") and not name.endswith(_PROTOCOL)
            if hidden and name not in known and name != "_version":
                found.add(ast.unparse(node))
    return found - _DOCUMENTED


_BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "operator.attrgetter"}


@functools.cache
def own_names(path: Path) -> set[str]:
    """What a file defines: functions, classes, variables, and attributes of its own objects."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) in ("self", "cls")
        ):
            found.add(node.attr)
    return found


OWN = set().union(*map(own_names, FILES))


@pytest.mark.parametrize("name", ROOMS)
def test_private_names_of_other_libraries_stand_in_one_room(name: str) -> None:
    """What others keep to themselves is used in `system.compat` alone, where it has a fallback."""
    if name != "system.compat":
        path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert not private_of_others(file)


def test_compat_imports_nothing_of_others_early() -> None:
    """Its pieces are asked for one at a time, by what has the library already."""
    assert not foreign(_head(PACKAGE / "system" / "compat.py"))
