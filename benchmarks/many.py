"""1,000 detached runs from one loop: runs per second, and what they cost the submitter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

import psutil

COUNT = 1000


def main(rounds: int) -> list[str]:
    rows = [_ours() for _ in range(max(1, rounds // 3))]
    best = sorted(rows, key=lambda row: row[0])[len(rows) // 2]
    lines = [
        f"### {COUNT:,} detached runs that do nothing, from one loop",
        "",
        "| | runs/s | memory added | threads added | descriptors added |",
        "|---|---|---|---|---|",
        f"| qwex | {best[0]:.0f} | {best[1]:.1f} MB | {best[2]} | {best[3]} |",
    ]
    if shutil.which("parallel"):
        lines.append(
            f"| GNU parallel --joblog --results -j{os.cpu_count()} | {_parallel():.0f} | | | |"
        )
    lines.append(f"| submitit (100 jobs) | {_submitit(100):.1f} | | | |")
    return lines


def _ours() -> tuple[float, float, int, int]:
    """In a process of its own, so that what it adds can be seen."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom many import loop\nprint(*loop())"
    folder = tempfile.mkdtemp()
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(os.path.abspath(__file__))],
        env={**os.environ, "QWEX_HOME": os.path.join(folder, "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(folder, ignore_errors=True)
    rate, memory, threads, files = done.stdout.split()
    return float(rate), float(memory), int(threads), int(files)


def loop() -> tuple[float, float, int, int]:
    """Submits them all, waits for all."""
    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.model.spec import JobSpec

    manager = RunManager()
    manager.submit(JobSpec(command=("true",))).wait()
    me = psutil.Process()
    before = me.memory_info().rss, me.num_threads(), me.num_fds()
    threads = files = 0
    start = time.perf_counter()
    runs = []
    for number in range(COUNT):
        runs.append(manager.submit(JobSpec(command=("true",))))
        if number % 100 == 99:
            threads, files = max(threads, me.num_threads()), max(files, me.num_fds())
    codes = {manager.wait(run.run_id).exit_code for run in runs}
    seconds = time.perf_counter() - start
    if codes != {0}:
        raise RuntimeError(f"exit codes {codes}")
    memory = (me.memory_info().rss - before[0]) / 1e6
    return COUNT / seconds, memory, threads - before[1], files - before[2]


def _parallel() -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = ["parallel", "--will-cite", f"-j{os.cpu_count()}", "--joblog", f"{folder}/log"]
        subprocess.run(
            [*command, "--results", f"{folder}/results", "true"],
            input="\n".join(map(str, range(COUNT))),
            text=True,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return COUNT / (time.perf_counter() - start)


def _submitit(count: int) -> float:
    import submitit

    with tempfile.TemporaryDirectory() as folder:
        executor = submitit.LocalExecutor(folder=folder)
        executor.update_parameters(timeout_min=5)
        start = time.perf_counter()
        jobs = [executor.submit(int, "1") for _ in range(count)]
        for job in jobs:
            job.result()
        return count / (time.perf_counter() - start)
