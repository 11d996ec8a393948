"""What all tests share: a home, a manager, a clean environment, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import engine_fixtures
import hypothesis
import leftovers
import pytest
import record_schema
import tiers
from cluster_fixtures import (
    FIXTURES,
    class_cluster,
    cluster,
    kube_wire,
    own_cluster,
    session_cluster,
)
from engine_fixtures import FIXTURES as ENGINES
from engine_fixtures import (
    docker_engine,
    engine,
    moby_engine,
    own_engine,
    podman_engine,
    private_registry,
    registry,
    session_engine,
)
from engines import CLIENT_VARIABLES, KINDS
from needs import need
from times import AtOnce, Times

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import RUN
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.record import is_run_id
from qwex_jupyter.system import process

pytest.register_assert_rewrite("contract", "cells", "container_options", "api_server")
__all__ = [
    "class_cluster",
    "cluster",
    "docker_engine",
    "engine",
    "kube_wire",
    "moby_engine",
    "own_cluster",
    "own_engine",
    "podman_engine",
    "private_registry",
    "registry",
    "session_cluster",
    "session_engine",
]

# A shell that starts the tests in the background, or nohup, has SIGINT or SIGHUP ignored, and all
# that the tests start would inherit that. A program doesn't inherit a handler, be it an empty one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# What a machine may export and what would hide, or feign, behaviour of ours.
_UNWANTED = (
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONWARNINGS",
    "MPLBACKEND",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SLURM_JOB_ID",
    "KUBERNETES_SERVICE_HOST",
    "NO_COLOR",
    "FORCE_COLOR",
    *CLIENT_VARIABLES,
)
_UNWANTED_STARTS = ("QWEX_", "JPY_", "JUPYTERHUB_")

# A skip that starts with one of these words is about another system, not about a missing
# preparation of this one.
_ALLOWED_SKIPS = ("needs Python", "needs macOS", "needs Linux", "needs Windows")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds our options."""
    parser.addoption(
        "--chaos-seconds",
        type=int,
        default=20,
        help="how long each campaign of kills lasts (default: 20 s)",
    )
    parser.addoption(
        "--engines",
        default=os.environ.get("QWEX_TEST_ENGINES", ",".join(KINDS)),
        help="only tests with engines of these kinds (default: $QWEX_TEST_ENGINES or %(default)s)",
    )
    parser.addoption("--times", action="store_true", help="tell what took how long")
    parser.addoption("--by-backend", action="store_true", help="list tests by what they need")
    tiers.add_options(parser)


# What finds new examples is for long runs; a gate says the same every time, however slow it is.
hypothesis.settings.register_profile("gate", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("long", database=None, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Settles what depends on the options."""
    hypothesis.settings.load_profile("long" if config.getoption("--tier") == "long" else "gate")
    if config.getoption("--times"):
        config.pluginmanager.register(Times(), "times")
    if config.getoption("--tier"):
        config.pluginmanager.register(AtOnce(config), "at once")


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that use a real engine or cluster, and leaves out engines of other kinds."""
    wanted, left_out = set(config.getoption("--engines").split(",")), []
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")
        names = ENGINES.keys() & set(getattr(item, "fixturenames", ()))
        if not names:
            continue
        item.add_marker("engine")
        params = item.callspec.params if hasattr(item, "callspec") else {}
        chosen = {params.get("engine"), params.get("kind")} & set(KINDS)
        kinds = {ENGINES[name] for name in names} - {""} | chosen
        if not (kinds or {"docker"}) <= wanted:
            left_out.append(item)
    if left_out:
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)
    tiers.choose(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """With ``--by-backend``, lists the tests and runs none."""
    if session.config.getoption("--by-backend"):
        print("\n".join(tiers.listed(session.items)))
        session.items.clear()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Names what a tier leaves out."""
    if more := config.stash.get(tiers.LEFT_OUT, 0):
        terminalreporter.write_line(f"{more:,} more with {tiers.NEXT[config.getoption('--tier')]}")


@pytest.fixture
def chaos_seconds(request: pytest.FixtureRequest) -> int:
    """How long a campaign of kills lasts."""
    return int(request.config.getoption("--chaos-seconds"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a test into a failure where nothing may be skipped."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turns the skip of a whole file into a failure where nothing may be skipped."""
    report = yield
    if report.skipped:
        _forbid(report)
    return report


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With ``CI=true`` everything is brought up, so a skip hides something."""
    if os.environ.get("CI") != "true":
        return
    found = report.longrepr
    why = str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")
    if not why.startswith(_ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing is: {why}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes away what this machine exports and a user's may not."""
    for name in list(os.environ):
        if name in _UNWANTED or name.startswith(_UNWANTED_STARTS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / ".kube"))


@pytest.fixture(autouse=True)
def no_containers_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Removes what a test left in the engines that it used: its runs', and its registries'."""
    yield
    engine_fixtures.clear(request.fixturenames, _histories(tmp_path))


# The tests in which nobody writes a record but a runner.
_UNDAMAGED = ("contract", "docker", "k8s", "local")


@pytest.fixture(autouse=True)
def nothing_left(
    request: pytest.FixtureRequest, no_containers_left: None, tmp_path: Path
) -> Iterator[None]:
    """Closes the managers that a test made, and ends the programs of its runs.

    Where nobody has damaged them, all final records fit the schema in the package.
    """
    made: list[RunManager] = []
    before = RunManager.__init__

    def remember(self: RunManager, *args: object, **kwargs: object) -> None:
        before(self, *args, **kwargs)  # type: ignore[arg-type]
        made.append(self)

    RunManager.__init__ = remember  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunManager.__init__ = before  # type: ignore[method-assign]
        for manager in made:
            manager.close()
        homes = {tmp_path} | {Path(manager.history.home) for manager in made}
        run_ids = {run_id for home in homes for run_id in _run_ids(home)}
        leftovers.end(lambda: marked(run_ids))
    if request.path.parent.name in _UNDAMAGED:
        for folder in {folder for home in homes for folder in _run_folders(home)}:
            for entry in folder.iterdir():
                ended = facts.glance(entry, RUN)
                assert ended is None or not record_schema.mistakes(ended), ended


def _run_folders(root: Path) -> set[Path]:
    """The folders ``runs`` of the homes in and at this folder."""
    places = {root, *root.glob("*"), *root.glob("*/*")}
    found = {place if place.name == "runs" else place / "runs" for place in places}
    return {folder for folder in found if folder.is_dir()}


def _run_ids(root: Path) -> Iterator[str]:
    for folder in _run_folders(root):
        yield from (entry.name for entry in folder.iterdir() if is_run_id(entry.name))


def _histories(root: Path) -> Iterator[str]:
    """The ids of the histories in this folder, which are labels of their containers."""
    for folder in _run_folders(root):
        found = facts.read_fact(str(folder.parent), "id")
        if found is not None:
            yield str(found["id"])


def marked(run_ids: set[str]) -> list[int]:
    """The processes that carry the mark of one of these runs."""
    found = []
    marks = {f"QWEX_RUN_ID={run_id}".encode() for run_id in run_ids}
    for name in os.listdir("/proc") if marks and os.path.isdir("/proc/self") else ():
        if name.isdigit() and int(name) != os.getpid():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if marks.intersection(environ.split(b"\0")):
                found.append(int(name))
    return found


@pytest.fixture
def home(tmp_path: Path) -> str:
    """An empty history folder."""
    return str(tmp_path / "home")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["proc", "portable"])
def local(request: pytest.FixtureRequest, home: str, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager of local runs, once with /proc and once as where there is none."""
    if request.param:
        need("ps", "procps")
    monkeypatch.setattr(process, "use_proc", process.use_proc and not request.param)
    return RunManager(home, settings={"local": {"portable": request.param}})


@pytest.fixture
def manager(home: str) -> RunManager:
    """A manager of its own home."""
    return RunManager(home)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems, where this user may."""
    need("mount", "mount")
    made: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mount{len(made)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "qwex-test", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"needs the right to mount (run as root): {done.stderr.strip()}")
        made.append(folder)
        folder.chmod(0o700)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
