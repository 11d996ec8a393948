"""Kills kernels, and looks what became of their local runs.

``python tests/rigs/chaos.py --seconds 600 --seed 1 --mode kernel`` prints a table. It is the
campaign of ``campaign.py`` with processes: a kernel is killed 0 to 150 ms after its start or, every
third, up to 600 ms.

Modes: ``kernel`` kills nothing else; ``supervisor`` also kills supervisors, spare ones too,
and the servers that fork them; ``notebook`` kills real kernels (ipykernel) that submit with
``%qwex`` and `qwex_jupyter.submit`. Linux only: children are found in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import campaign
import workload

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import LAUNCH, RUN
from qwex_jupyter.errors import SubmitFailed
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.system import process

MODES = ("kernel", "supervisor", "notebook")


class Campaign(campaign.Campaign):
    """One campaign; see `campaign.Campaign`."""

    runner = "local"
    refusal = SubmitFailed  # its server was killed
    within = 2.0
    most, rest = 4, 0.03
    _shot = 0.0

    def _spec(self, base: str, rng: random.Random) -> JobSpec:
        return JobSpec(command=_command(base))

    def _did_it(self) -> bool:
        """Where that is what it is about, a supervisor was killed."""
        killed = self._mode != "supervisor" or self.tally.supervisor_kills > 0
        return killed and super()._did_it()

    def _kill_kernels(self, base: str, until: float) -> None:
        if self._mode == "notebook":
            self._kill_notebooks(base, until)
        else:
            super()._kill_kernels(base, until)

    def _beside(self, base: str, now: float, until: float) -> float:
        if self._mode == "supervisor" and now >= self._shot:
            self._shot = now + self._random.random() * 0.1
            self._shoot(base)
        return until

    def _shoot(self, base: str) -> None:
        """Kills a supervisor at work, one in waiting, or the server that forks them."""
        rng = self._random
        choice = rng.random()
        if choice < 0.5:
            for run_id in rng.sample(names := os.listdir(f"{base}/home/open"), len(names)):
                folder = f"{base}/home/runs/{run_id}"
                launch = facts.read_fact(folder, LAUNCH)
                if launch and "pid" in launch and not facts.exists(folder, RUN):
                    self._kill(launch)
                    return
            return
        servers = [child for kernel in self._kernels for child in _children(kernel)]
        if servers and choice > 0.95:
            self.tally.server_kills += process.send(
                process.identify(rng.choice(servers)), signal.SIGKILL
            )
            return
        # Not the scribes beside them.
        waiting = [one for server in servers for one in _children(server) if _children(one)]
        if waiting:
            self._kill(process.identify(rng.choice(waiting)))

    def _kill(self, who: process.Identity) -> None:
        # Remembered before it is sent: who is killed while it writes its last fact counts.
        self.killed.add((who["pid"], who["ticks"]))
        self.tally.supervisor_kills += process.send(who, signal.SIGKILL)

    def _kill_notebooks(self, base: str, until: float) -> None:
        from jupyter_client.manager import KernelManager
        from kernel import ports

        rng = self._random
        words = ", ".join(map(repr, _command(base)))
        code = (
            "%load_ext qwex_jupyter\n"
            "import os, time\n"
            f"told = os.open({base + '/told'!r}, os.O_WRONLY | os.O_APPEND)\n"
            "import qwex_jupyter as qwex\n"
            "while True:\n"
            f"    run = qwex.submit([{words}])\n"
            "    os.write(told, f'{run.run_id}\\n'.encode())\n"
            f"    run = get_ipython().run_line_magic('qwex', 'run --detach '"
            f" + ' '.join([{words}]))\n"
            "    os.write(told, f'{run.run_id}\\n'.encode()) if run else None\n"
            "    time.sleep(0.02)\n"
        )
        given = [ports() for _ in range(2)]
        while time.monotonic() < until:
            environment = {**os.environ, "QWEX_HOME": f"{base}/home", "PYTHONWARNINGS": "ignore"}
            made = [KernelManager(kernel_name="python3", **each) for each in given]
            # The name of a kernel may stand for another Python of this machine.
            for one in made:
                one.kernel_spec.argv[0] = sys.executable
                one.start_kernel(env=environment)
            clients = [one.blocking_client() for one in made]
            for client in clients:
                client.start_channels()
            try:
                for client in clients:
                    client.wait_for_ready(timeout=120)
                    client.execute(code, store_history=False)
                patience = time.monotonic() + campaign.SETTLED_IN
                while not self._begun(base) and time.monotonic() < patience:
                    time.sleep(0.01)
                for one in made:
                    time.sleep(rng.random() * 0.6)
                    os.kill(one.provisioner.pid, signal.SIGKILL)
                    self.tally.kernel_kills += 1
                self._look_at_ends(base)
            finally:
                for client in clients:
                    client.stop_channels()
                for one in made:
                    one.shutdown_kernel(now=True)


def _command(base: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", workload.__file__, "process", f"{base}/counters")


def _children(pid: int) -> list[int]:
    # Not from /proc/PID/task/TID/children, which not every Linux has.
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
            found += [int(name)] if int(parent) == pid else []
    return found


@contextlib.contextmanager
def begin(root: str, asked: argparse.Namespace) -> Iterator[Campaign]:
    """See `campaign.main`."""
    yield Campaign(root, asked.seed, asked.mode, asked.parallel)


if __name__ == "__main__":
    sys.exit(campaign.main("Kills kernels and judges their runs.", begin, MODES))
