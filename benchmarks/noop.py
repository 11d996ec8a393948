"""A cell that does nothing, and a run from submit to known outcome."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time

from measure import kernel, rotate, table


def main(rounds: int) -> list[str]:
    return [*_cells(rounds * 5), "", *_detached(rounds * 3)]


def _cells(rounds: int) -> list[str]:
    with kernel() as one:
        one.run("%load_ext qwex_jupyter")
        cases = {
            "`%%bash` true": lambda: one.run("%%bash\ntrue")[0],
            "`pass`": lambda: one.run("pass")[0],
            "`%%qwex` true, with its record": lambda: one.run("%%qwex\ntrue")[0],
        }
        found = rotate(cases, rounds, warm=3)
    return table("A foreground cell that does nothing", found, "`%%bash` true")


def _detached(rounds: int) -> list[str]:
    import submitit

    from qwex_jupyter.manager.manager import RunManager
    from qwex_jupyter.model.spec import JobSpec

    folder = tempfile.mkdtemp()
    manager = RunManager(os.path.join(folder, "home"))
    executor = submitit.LocalExecutor(folder=os.path.join(folder, "submitit"))
    executor.update_parameters(timeout_min=5)

    def ours() -> float:
        start = time.perf_counter()
        run = manager.submit(JobSpec(command=("true",)))
        manager.wait(run.run_id)
        return time.perf_counter() - start

    def theirs() -> float:
        start = time.perf_counter()
        executor.submit(int, "1").result()
        return time.perf_counter() - start

    found = rotate({"durable floor": lambda: floor(folder), "qwex submit + wait": ours}, rounds)
    found["submitit"] = [theirs() for _ in range(3)]
    manager.close()
    shutil.rmtree(folder, ignore_errors=True)
    return table("Detached: submit to outcome known", found, "durable floor")


def floor(folder: str) -> float:
    """The least a durable record costs: folder, record twice by rename, log, a session."""
    start = time.perf_counter()
    run = tempfile.mkdtemp(dir=folder)
    record = os.path.join(run, "run.json")

    def write(value: dict[str, object]) -> None:
        with open(record + ".new", "w") as file:
            json.dump(value, file)
        os.rename(record + ".new", record)

    write({"status": "PENDING"})
    log = os.open(os.path.join(run, "out"), os.O_WRONLY | os.O_CREAT, 0o600)
    pid = os.posix_spawn(
        shutil.which("true") or "/bin/true",
        ["true"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
        setsid=True,
    )
    os.close(log)
    _, status = os.waitpid(pid, 0)
    write({"status": "SUCCEEDED", "exit_code": status})
    return time.perf_counter() - start
