"""Which tests belong to a tier, which process runs them, and in which order.

A test is of the tier of its mark ``tier("quick")``, ``tier("all")`` or ``tier("long")``. Without
one, what needs an engine, a cluster, a browser or a campaign is of ``all``, and the rest is quick.
The mark of a class may name tests that it isn't about: ``tier("long", but=("test_this",))``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

TIERS = ("quick", "all", "long")
# What runs what a tier leaves out.
NEXT = {"quick": "--all", "all": "--long"}
LEFT_OUT = pytest.StashKey[int]()
# The names of the tests, or of their classes, that only ``--long`` runs.
LONG = pytest.StashKey[list[set[str]]]()
BACKENDS = ("engine", "cluster", "browser", "chaos")
# What doesn't depend on the versions of Python and of the libraries.
ONCE = (*BACKENDS, "once")
# One process each; ``shared`` may be several.
LANES = ("shared", "alone", "browser", "versions")
# What the names of groups begin with, which pytest-xdist puts behind the ids of tests.
GROUP = "group-"
# Fixtures, from the costliest on.
_COSTLY = ("class_cluster", "own_cluster", "own_engine", "cluster", "session_cluster", "engine")


def add_options(parser: pytest.Parser) -> None:
    """Adds ``--tier`` and ``--lane``."""
    parser.addoption("--tier", choices=TIERS, help="only tests of this tier and those below it")
    parser.addoption("--lane", choices=LANES, help="only tests that this process is for")


def tier(item: pytest.Item) -> str:
    """The tier of a test."""
    mark = item.get_closest_marker("tier")
    if mark is not None and _name(item) not in mark.kwargs.get("but", ()):
        return str(mark.args[0])
    return "all" if any(map(item.get_closest_marker, BACKENDS)) else "quick"


def _name(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", item.name))


def lane(item: pytest.Item) -> str:
    """Which process is for a test.

    ``alone`` is for what forks the process that tests, which must have no further threads;
    ``browser`` for pages, which lose their connections when the machine's network changes, as it
    does with each container of a cluster.
    """
    if item.get_closest_marker("forks"):
        return "alone"
    return "browser" if item.get_closest_marker("browser") else "shared"


def backend(item: pytest.Item) -> str:
    """What a test needs, for lists: ``engine``, ``cluster``, ``browser``, ``chaos`` or nothing."""
    return " ".join(name for name in BACKENDS if item.get_closest_marker(name)) or "nothing"


def listed(items: Sequence[pytest.Item]) -> Iterator[str]:
    """The tests under what they need, as lines."""
    found: dict[str, list[str]] = defaultdict(list)
    for item in items:
        found[backend(item)].append(item.nodeid)
    for name, ids in sorted(found.items()):
        yield f"\nneeds {name}: {len(ids):,} tests"
        yield from (f"  {each}" for each in sorted(ids))


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what isn't of the tier and lane that were asked for, and puts the rest in order.

    Tests that share a fixture of a class or a module stay together, in one process.
    """
    most, only = config.getoption("--tier"), config.getoption("--lane")
    above = {item for item in items if most and TIERS.index(tier(item)) > TIERS.index(most)}
    config.stash[LEFT_OUT] = len(above)
    config.stash[LONG] = [_names(item) for item in items if tier(item) == "long"]

    def wanted(item: pytest.Item) -> bool:
        if item in above:
            return False
        if only == "versions":
            # Races of processes are about the system: they run everywhere in ``--long`` only.
            once = ONCE if most == "long" else (*ONCE, "forks")
            return not any(map(item.get_closest_marker, once))
        return only in (None, lane(item))

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        items[:] = [item for item in items if wanted(item)]
        config.hook.pytest_deselected(items=left_out)
    groups = {item: _together(item) for item in items}
    for item, name in groups.items():
        if name:
            item.add_marker(pytest.mark.xdist_group(GROUP + name))
    if only:
        # Who is late with what takes long is late with everything: whole groups, then campaigns,
        # then what starts engines and clusters of its own.
        items.sort(key=lambda item: (not groups[item], *_cost(item)))


def _names(item: pytest.Item) -> set[str]:
    return {part.partition("[")[0] for part in item.nodeid.split("::")[1:]}


def _cost(item: pytest.Item) -> tuple[bool, int]:
    names: Sequence[str] = getattr(item, "fixturenames", ())
    costs = [at for at, name in enumerate(_COSTLY) if name in names]
    return item.get_closest_marker("chaos") is None, min(costs, default=len(_COSTLY))


def _together(item: pytest.Item) -> str:
    """The class or module whose tests share a fixture with this one; empty for none."""
    found = getattr(item, "_fixtureinfo", None)
    scopes = {
        definition.scope
        for definitions in (found.name2fixturedefs.values() if found else ())
        for definition in definitions
        if definition.baseid and "conftest" not in definition.func.__module__
    }
    file, *rest = item.nodeid.split("::")
    name = Path(file).stem
    if "module" in scopes:
        return name
    return f"{name}-{rest[0]}" if "class" in scopes and len(rest) > 1 else ""
