"""What all tests share: a home, a manager, a clean environment, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from qwex_jupyter import process
from qwex_jupyter.manager import RunManager
from qwex_jupyter.record import is_run_id

pytest.register_assert_rewrite("contract")

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


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Closes the managers that a test made, and ends the programs of its runs."""
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
        _end_programs({run_id for home in homes for run_id in _run_ids(home)})


def _run_ids(root: Path) -> Iterator[str]:
    for folder in (root, *root.glob("*"), *root.glob("*/*")):
        if folder.name == "runs" and folder.is_dir():
            yield from (entry.name for entry in folder.iterdir() if is_run_id(entry.name))
        elif (folder / "runs").is_dir():
            yield from (e.name for e in (folder / "runs").iterdir() if is_run_id(e.name))


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


def _end_programs(run_ids: set[str]) -> None:
    until = time.monotonic() + 10
    while (pids := marked(run_ids)) and time.monotonic() < until:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was on its way out
        time.sleep(0.02)


@pytest.fixture
def home(tmp_path: Path) -> str:
    """An empty history folder."""
    return str(tmp_path / "home")


@pytest.fixture(params=[False, True], ids=["proc", "portable"])
def local(request: pytest.FixtureRequest, home: str, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager of local runs, once with /proc and once as where there is none."""
    monkeypatch.setattr(process, "use_proc", process.use_proc and not request.param)
    return RunManager(home, settings={"local": {"portable": request.param}})


@pytest.fixture
def manager(home: str) -> RunManager:
    """A manager of its own home."""
    return RunManager(home)
