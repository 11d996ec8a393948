"""``python3 tests``: sets everything up and runs the tests. Three tiers, see docs/testing.md.

``python3 tests`` takes some minutes and uses what is at hand; ``--all`` (or ``CI=true``) installs
and builds what is missing, and then a skipped test is a failure; ``--long`` is all of that on three
engines and four environments, with campaigns of ``--chaos-seconds``. Other arguments go to pytest,
and what they name is run in any tier.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one is told
    sys.exit(f"python3 tests needs Python 3.11 or newer, and this is {sys.version.split()[0]}.")
sys.path.insert(0, str(Path(__file__).resolve().parent / "rigs"))
import clusters
import engines
import go_build
import shared
from environment import CI, ROOT, SUPPORTED, environment, install_packages, say

SYSTEM = {
    "chromium": "chromium fonts-dejavu-core",
    "ps": "procps",
    "npm": "npm",
    "ip": "iproute2",
    "zsh": "zsh",
    "tcsh": "tcsh",
}
# What gives the tests their engines; the last three build the current one.
ENGINES = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "podman": "podman",
    "catatonit": "catatonit",
    "docker-registry": "docker-registry",
    "cc": "gcc libc6-dev",
    "pkg-config": "pkg-config",
    "libseccomp": "libseccomp-dev",
}
# Where each session leaves what it said, and its results as JUnit's XML.
RESULTS = ROOT / ".tests"
LOWEST = ROOT / "tests" / "lowest.txt"
# Beside two more sessions. They wait a good deal, for engines and for programs to end; one more
# on two cores is no sooner done, and what each waits for comes later.
WORKERS = min((os.cpu_count() or 2) + 1, 6)
# The whole contract on an engine and a cluster, with the oldest libraries that may talk to them.
CONTRACT = ["tests/docker/test_docker.py", "tests/k8s/test_k8s.py::TestK8s", "--engines", "docker"]
# Pages lose their connections when the machine's network changes, as it does with each container
# of a cluster. In a network of their own it doesn't.
_OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@dataclass
class Session:
    """One process of pytest, or several that share its tests, or a check.

    Attributes:
        name: What its files are called.
        command: After the interpreter.
        ports: The first of those that are its own.
        aside: It is told of when it has ended, whole; else as it goes.
        before: What its command is handed to.
        narrowed: Whether it may have no test, as arguments chose some.
    """

    name: str
    command: Sequence[str]
    ports: int = shared.FIRST + 9 * shared.EACH
    aside: bool = True
    before: Sequence[str] = ()
    narrowed: bool = False

    def run(self, python: str, env: dict[str, str]) -> int:
        """Runs it to its end; its exit code."""
        command = [*self.before, python, "-m", *self.command]
        # As where an environment is active: `python` is its own, and no version manager's script.
        path = os.pathsep.join([os.path.dirname(python), env.get("PATH", os.defpath)])
        env = {**env, "PATH": path, shared.PORTS: str(self.ports)}
        began = time.monotonic()
        if not self.aside:
            say(f"{self.name}: {' '.join(self.command)}")
            code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        else:
            log = RESULTS / f"{self.name}.log"
            with log.open("wb") as file:
                code = subprocess.run(
                    command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, check=False,
                ).returncode  # fmt: skip
            with _SAYING:
                say(f"{self.name}: {' '.join(self.command)}")
                sys.stdout.buffer.write(log.read_bytes())
        if code == _NO_TESTS and self.narrowed:
            code = 0
        say(f"{self.name}: {'failed' if code else 'done'} after {time.monotonic() - began:.0f} s")
        return code


_SAYING = threading.Lock()
_NO_TESTS = 5  # an exit code of pytest's
_Names = dict[str, str]


def main() -> int:
    """Runs what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 tests", description=__doc__, allow_abbrev=False)
    parser.add_argument("--all", action="store_true", help="everything, on real backends")
    parser.add_argument("--long", action="store_true", help="all of that, for long")
    parser.add_argument("--list", metavar="TIER", help="print the tests of a tier by backend")
    asked, rest = parser.parse_known_args()
    tier = "long" if asked.long else "all" if asked.all or (CI and not rest) else "quick"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    if asked.list:
        listing = ["-m", "pytest", "--collect-only", "-qq", "--by-backend", "--tier", asked.list]
        subprocess.run([environment(".venv", "[test]"), *listing, *rest], cwd=ROOT, check=False)
        return 0
    if rest and not (asked.all or asked.long or rest == ["--times"]):
        command = [environment(".venv", "[test]"), "-m", "pytest", *rest]
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    if tier != "quick":
        env["CI"] = "true"  # nothing is skipped
        install()
    RESULTS.mkdir(exist_ok=True)
    return Run(tier, rest, env).run()


def install() -> None:
    """Installs what the machine lacks."""
    wanted = {**SYSTEM, **ENGINES}
    lacking = [packages for program, packages in wanted.items() if not engines.has(program)]
    if packages := [*" ".join(lacking).split(), *clusters.missing()]:
        install_packages(
            sorted(set(packages)), why="engines, a cluster and a browser for the tests"
        )


class Run:
    """A tier from its environments to the last session."""

    def __init__(self, tier: str, rest: Sequence[str], env: dict[str, str]) -> None:
        self.tier, self.rest, self.env = tier, rest, env
        self.pool = ThreadPoolExecutor()

    def run(self) -> int:
        """Runs it; the highest exit code."""
        began = time.monotonic()
        whole = self.tier != "quick"
        builds = self.pool.submit(_build) if whole else None
        newest = SUPPORTED[-1] if whole else None
        python = environment(f".venv-{newest}" if newest else ".venv", "[test]", version=newest)
        with contextlib.ExitStack() as kept:
            kept.callback(self.pool.shutdown)
            others = self.pool.submit(_environments, self.tier)
            subprocess.run([python, str(ROOT / "tests/rigs/fetched.py")], env=self.env, check=False)
            rigs = self.pool.submit(kept.enter_context, _rigs(python, builds, self.env))
            beside = [
                self.pool.submit(self._without_backends, python, others),
                self.pool.submit(self._apart, python, others, rigs),
            ]
            several = ["-n", str(WORKERS), "--dist", "loadgroup", "--no-loadscope-reorder"]
            first = self._tests("shared", ["--lane", "shared", *several])
            first.aside, first.ports = False, shared.FIRST + shared.EACH
            code = first.run(python, {**self.env, **rigs.result()})
            code = max(code, *(each.result() for each in beside))
        say(f"{'failed' if code else 'all passed'} after {time.monotonic() - began:.0f} s")
        if more := _left_out():
            say(more)
        return code

    def _without_backends(self, python: str, others: Future[_Names]) -> int:
        """What needs nothing that may have to be built first; the highest exit code."""
        if self.tier == "quick":
            return 0
        checks = {"ruff": "ruff check .", "format": "ruff format --check .", "mypy": "mypy"}
        codes = [
            Session(name, words.split()).run(python, self.env) for name, words in checks.items()
        ]
        for name, other in others.result().items():
            session = self._tests(name, ["--lane", "versions"])
            session.ports -= shared.EACH
            codes.append(session.run(other, self.env))
        return max(codes)

    def _apart(self, python: str, others: Future[_Names], rigs: Future[_Names]) -> int:
        """What needs a process or a network of its own; the highest exit code."""
        pages = self._tests("browser", ["--lane", "browser"])
        if os.geteuid() == 0 and shutil.which("unshare") and engines.has("ip"):
            pages.before = _OWN_NETWORK
        # An engine of theirs is in that network too, as it pulls from registries there.
        codes = [pages.run(python, self.env)]
        env = {**self.env, **rigs.result()}
        codes.append(self._tests("alone", ["--lane", "alone"]).run(python, env))
        if self.tier != "quick":
            codes.append(self._tests("contract", CONTRACT).run(others.result()["lowest"], env))
        return max(codes)

    def _tests(self, name: str, which: Sequence[str]) -> Session:
        """A session of pytest of this tier."""
        results = f"--junitxml={RESULTS / name}.xml"
        command = ["pytest", "-q", results, "--tier", self.tier, *which, *self.rest]
        return Session(name, command, narrowed=bool(self.rest))


def _build() -> None:
    go_build.build([*go_build.MOBY, *go_build.KUBERNETES])


def _environments(tier: str) -> _Names:
    """The interpreters beside the newest, by name: older ones, and the oldest libraries'."""
    made: _Names = {}
    if tier != "quick":
        for version in SUPPORTED[:-1] if tier == "long" else ():
            made[version] = environment(f".venv-{version}", "[test]", version=version)
        made["lowest"] = environment(".venv-lowest", "[test]", LOWEST, SUPPORTED[0])
    return made


@contextlib.contextmanager
def _rigs(python: str, builds: Future[None] | None, env: _Names) -> Iterator[_Names]:
    """The variables that hand down engines and cluster, which end with the block."""
    if builds:
        builds.result()
    names = []
    for name in (*engines.KINDS, "cluster"):
        if why := clusters.available() if name == "cluster" else engines.available(name):
            say(f"some tests are skipped: {why}")
        elif name == "cluster" or os.geteuid() == 0:
            names.append(name)
    if not names:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="rigs-") as folder:
        file = Path(folder, "rigs.json")
        keeper = subprocess.Popen(
            [python, str(ROOT / "tests/rigs/keeper.py"), str(file), *names],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            while not file.exists() and keeper.poll() is None:
                time.sleep(0.1)
            yield {shared.FILE: str(file)} if file.exists() else {}
        finally:
            keeper.communicate()


def _left_out() -> str:
    said = (RESULTS / "alone.log").read_text(errors="replace")
    found = re.findall(r"^[\d,]+ more with --\w+$", said, re.MULTILINE)
    return found[-1] if found else ""


if __name__ == "__main__":
    sys.exit(main())
