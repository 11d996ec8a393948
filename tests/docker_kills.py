"""Kills kernels whose runs are containers, drops answers of their engine, and judges the runs.

``python tests/docker_kills.py --seconds 600 --seed 1 --kind docker`` prints a table. It is the
campaign of ``chaos.py`` with containers: kernels take up what is open and submit self-checking
workloads (``docker_workload.py``) until they are killed with -9 at a random moment around a
submit; a fresh process takes everything up; each run is compared with what its id asks for.

Modes: ``kernel`` kills nothing else; ``answers`` also has a wire drop every third answer of a
create and of a start after the engine obeyed. A container that is left in the engine when all
is taken up is a fault as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "rigs"))
import chaos
import docker_workload
from engines import KINDS, LABEL, Engine
from images import image
from wire import Rule, Wire

from qwex_jupyter import facts
from qwex_jupyter.errors import QwexError
from qwex_jupyter.history import RunHistory
from qwex_jupyter.manager import RunManager
from qwex_jupyter.runners import docker as docker_runner
from qwex_jupyter.spec import JobSpec

MODES = ("kernel", "answers")
ANSWERS = {"create": "/containers/create", "start": "/containers/[^/]+/start"}
_COUNTS = 'import os\nos.write(os.open("/counters/" + os.environ["QWEX_RUN_ID"], 1089), b"x")\n'
_SCRIPT = Path(docker_workload.__file__).read_text().replace(
    "import hashlib\n", f"{_COUNTS}import hashlib\n", 1
)  # fmt: skip
assert os.O_WRONLY | os.O_CREAT | os.O_APPEND == 1089, "the containers are of this system"


class DockerCampaign(chaos.Campaign):
    """One campaign of kills.

    Args:
        root: An empty folder; each round has a home of its own in it.
        seed: Of everything that is random here.
        mode: One of `MODES`.
        engine: A started engine.
        parallel: So many kernels live at a time.
        enough: A round is over after so many kills, and one drop of each answer; 0 for none.

    Attributes:
        dropped: How many answers of each kind were dropped.
    """

    lives = (0.8, 3.0)
    pause = 0.002

    def __init__(
        self,
        root: str,
        seed: int,
        mode: str,
        engine: Engine,
        parallel: int = 3,
        enough: int = 0,
    ) -> None:
        super().__init__(root, seed, mode, parallel)
        self._engine, self._image = engine, image(engine, "python")
        self._wire = Wire(engine.host)
        self.dropped = dict.fromkeys(ANSWERS, 0)
        self._enough = enough
        self._rules: dict[str, Rule] = {}

    def run(self, seconds: float) -> chaos.Tally:
        """See `chaos.Campaign.run`."""
        before = dict(os.environ)
        os.environ["DOCKER_HOST"] = self._wire.host
        # The engine is of this machine, wherever this process lives.
        docker_runner._IN_CONTAINER = ()  # type: ignore[assignment]
        try:
            return super().run(seconds)
        finally:
            self._wire.close()
            os.environ.clear()
            os.environ.update(before)

    def _kill_kernels(self, base: str, until: float) -> None:
        self._rules.clear()
        super()._kill_kernels(base, until)
        self._count()
        self._wire.clear()

    def _play(self, base: str, seed: float) -> None:
        _play_kernel(base, seed, self._image)

    def _beside(self, base: str, now: float, until: float) -> float:
        dropping = self._mode == "answers"
        if dropping:
            self._drop()
        enough = 0 < self._enough <= self.tally.kernel_kills
        if enough and (not dropping or all(self.dropped.values())):
            return min(until, now)
        return until

    def _begun(self, base: str) -> bool:
        """See `chaos.Campaign._begun`: something was executed."""
        return bool(os.listdir(f"{base}/counters"))

    def _drop(self) -> None:
        """Keeps a rule ready for each kind of answer, which lets a few pass first."""
        rules = self._rules
        for name, path in ANSWERS.items():
            rule = rules.get(name)
            if rule is None or rule.hits:
                self.dropped[name] += rule.hits if rule else 0
                passes = self._random.randint(0, 4)
                rules[name] = self._wire.drop_response("POST", path)
                if passes:  # the newer rule acts first, and changes nothing
                    self._wire.delay("POST", path, 0.0, times=passes)

    def _count(self) -> None:
        for name, rule in self._rules.items():
            self.dropped[name] += rule.hits

    def _judge(self, base: str, history: RunHistory) -> None:
        super()._judge(base, history)
        client = self._engine.client()
        try:
            label = f"qwex.history={history.id}"
            for left in client.containers(all=True, filters={"label": label}):
                why = f"a container is left: {left['Status']}"
                self.tally.fault("left_open", left["Labels"][LABEL], why)
        finally:
            client.close()

    def _judge_bytes(self, folder: str, run_id: str, stream: str) -> None:
        spec = facts.read_fact(folder, facts.SPEC)
        assert spec is not None
        lines = int(spec["spec"]["command"][4])
        wanted = docker_workload.expected(run_id, stream, lines)
        found = Path(folder, f"{stream}.log").read_bytes()
        self.tally.bytes += len(found)
        if found != wanted:
            more = len(found) - len(wanted)
            name = "lost_bytes" if more < 0 else "doubled_bytes" if more else "altered_streams"
            self.tally.fault(name, run_id, f"{stream}: {more:+d} bytes", abs(more) or 1)


def _play_kernel(base: str, seed: float, image_name: str) -> None:
    """A kernel: takes up what is open, then submits and waits until it is killed."""
    rng = random.Random(seed)
    told = os.open(f"{base}/told", os.O_WRONLY | os.O_APPEND)
    manager = RunManager(f"{base}/home")
    manager.take_up(within=0.1)
    while True:
        run = None
        for _ in range(rng.randint(1, 3)):
            size = str(1 + rng.randrange(300)), f"{rng.random() * 0.4:.2f}"
            spec = JobSpec(
                command=("python3", "-I", "-S", "-", *size),
                script=_SCRIPT,
                image=image_name,
                volumes=(f"{base}/counters:/counters",),
                options={"network": "none"},
            )
            try:
                run = manager.submit(spec, "docker")
            except QwexError:
                continue  # that nothing was started is judged too
            os.write(told, f"{run.run_id}\n".encode())
        if run and rng.random() < 0.5:
            run.wait(check=False)


def main() -> int:
    """The command line; 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(description="Kills kernels and judges their containers.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=MODES, default="kernel")
    parser.add_argument("--kind", choices=KINDS, default="docker")
    parser.add_argument("--parallel", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one line for programs to read")
    asked = parser.parse_args()
    root = tempfile.mkdtemp(prefix="kills-")
    with Engine(asked.kind) as engine:
        campaign = DockerCampaign(root, asked.seed, asked.mode, engine, asked.parallel)
        tally = campaign.run(asked.seconds)
    about = {"kind": asked.kind, "mode": asked.mode, "seed": asked.seed, **campaign.dropped}
    if asked.json:
        print(json.dumps({**about, **dict(tally.rows())}))
    else:
        print(about)
        print("\n".join(chaos._lines(tally)))
    if tally.clean:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"kept: {root}")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
