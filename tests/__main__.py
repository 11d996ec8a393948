"""``python3 tests``: sets everything up and runs all tests. Arguments go to pytest.

With ``CI=true`` it also installs what the machine lacks, builds a current Docker engine and a
Kubernetes (this also with ``QWEX_TEST_CLUSTER=1``), runs every supported Python and both ends of
the dependency ranges, in two sessions at a time, and a skipped test is a failure.
Without, it uses what is there, brings a Docker engine up where none answers and it may, and says
what was skipped and how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "rigs"))
import clusters
import engines
from environment import CI, ROOT, environment, install_packages, may_install, say

SYSTEM = {
    "chromium": ["chromium", "fonts-dejavu-core"],
    "ps": ["procps"],
    "faketime": ["faketime"],
    "npm": ["npm"],
}
# What gives the tests their engines; the last three build the current one.
DOCKER = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "busybox": "busybox-static",
}
ENGINES = {
    **DOCKER,
    "podman": "podman",
    "catatonit": "catatonit",
    "docker-registry": "docker-registry",
    "cc": "gcc libc6-dev",
    "pkg-config": "pkg-config",
    "libseccomp": "libseccomp-dev",
}
# What doesn't depend on the versions of Python and of the libraries is run once.
REST = "browser or chaos or engine or cluster"
MATRIX = ["-m", f"not ({REST})"]
# The whole contract on an engine and a cluster, with the oldest libraries that may talk to them.
CONTRACT = ["tests/test_docker.py", "tests/test_k8s.py::TestK8s", "--engines", "docker"]

_SAYING = threading.Lock()


def main() -> int:
    """Runs it all; the exit code."""
    for program, packages in SYSTEM.items():
        if shutil.which(program) is None:
            if CI:
                install_packages(packages, why=f"{program}, for the tests")
            else:
                say(f"without {program} some tests are skipped: apt-get install {packages[0]}")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    main_python = environment(".venv", "[test]")
    with ThreadPoolExecutor(1) as pool:
        # Beside what is built, not beside tests that a busy machine disturbs.
        others = pool.submit(_environments) if CI else None
        prepare_engines()
        prepare_cluster()
    if CI:
        checks = [
            ["-m", "ruff", "check", "."],
            ["-m", "ruff", "format", "--check", "."],
            ["-m", "mypy"],
        ]
        for check in checks:
            say(" ".join(check[1:]))
            if subprocess.run([main_python, *check], cwd=ROOT, check=False).returncode:
                return 1
    if others is None:
        return _pytest(main_python, sys.argv[1:], clean)
    with ThreadPoolExecutor(1) as pool:
        # These mostly wait, for engines and for each other's timeouts: two at a time do it in
        # little more than half the time, also on two processors.
        versions = pool.submit(_versions, [main_python, *others.result()], clean)
        code = _pytest(main_python, sys.argv[1:] or ["-m", REST], clean)
        say("the other sessions, each when it has ended")
        return max(code, versions.result())


def _environments() -> list[str]:
    """The interpreters beside the main one: newer ones, and the oldest libraries'."""
    lowest = ROOT / "tests" / "lowest.txt"
    return [
        environment(".venv-3.12", "[test]", version="3.12"),
        environment(".venv-3.13", "[test]", version="3.13"),
        environment(".venv-lowest", "[test]", lowest, "3.11"),
    ]


def _versions(pythons: list[str], env: dict[str, str]) -> int:
    """All that depends on versions, one environment after the other; the highest exit code."""
    calls = [*((python, MATRIX) for python in pythons), (pythons[-1], CONTRACT)]
    return max(_pytest(python, arguments, env, aside=True) for python, arguments in calls)


def prepare_engines() -> None:
    """Brings up what the tests need for their engines, as far as it may; says what it may not."""
    wanted = ENGINES if CI else DOCKER if engines.available("docker") and may_install() else {}
    missing = [packages for program, packages in wanted.items() if not engines.has(program)]
    if missing:
        install_packages(" ".join(missing).split(), why="container engines, for the tests")
    if CI:
        engines.build_moby()
    for kind in engines.KINDS:
        if why := engines.available(kind):
            say(f"some tests are skipped: {why}")


def prepare_cluster() -> None:
    """Brings up what the tests need for their Kubernetes, where it was asked for."""
    if CI or os.environ.get("QWEX_TEST_CLUSTER") == "1":
        if missing := clusters.missing():
            install_packages(missing, why="a Kubernetes, for the tests")
        clusters.build()
    if why := clusters.available():
        say(f"some tests are skipped: {why}")


def _pytest(python: str, arguments: list[str], env: dict[str, str], *, aside: bool = False) -> int:
    """One session of pytest; what it says ``aside`` of another comes whole, at its end."""
    title = f"pytest {' '.join(arguments)} with {python}"
    command = [python, "-m", "pytest", "--durations=15", *arguments]
    if not aside:
        say(title)
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    done = subprocess.run(
        # Behind the other, whose engines and clusters have timeouts of their own.
        ["nice", "-n", "10", *command],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    with _SAYING:
        say(title)
        sys.stdout.buffer.write(done.stdout + done.stderr)
        sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
