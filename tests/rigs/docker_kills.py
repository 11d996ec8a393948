"""Kills kernels whose runs are containers, drops answers of their engine, and judges the runs.

``python tests/rigs/docker_kills.py --seconds 600 --seed 1 --kind docker`` prints a table. It is the
campaign of ``campaign.py`` with containers: a kernel is killed 0 to 0.8 s after its start, every
third up to 3 s, so mostly in the middle of a submit.

Modes: ``kernel`` kills nothing else; ``answers`` also has a wire drop every third answer of a
create and of a start after the engine obeyed. A container that is left in the engine when all
is taken up is a fault as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import campaign
import workload
from engines import KINDS, LABEL, Engine
from images import image
from judge import Tally
from wire import Rule, Wire

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import SPEC
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.docker import runner as docker_runner

MODES = ("kernel", "answers")
ANSWERS = {"create": "/containers/create", "start": "/containers/[^/]+/start"}
_SCRIPT = Path(workload.__file__).read_text()


class DockerCampaign(campaign.Campaign):
    """One campaign of kills.

    Args:
        engine: A started engine.
        enough: A round is over after so many kills, and one drop of each answer; 0 for none.

    Attributes:
        more: How many answers of each kind were dropped.
    """

    runner = "docker"
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
        self.more = dict.fromkeys(ANSWERS, 0)
        self.drained_in = 0.0
        self._enough = enough
        self._rules: dict[str, Rule] = {}

    def run(self, seconds: float) -> Tally:
        """See `campaign.Campaign`."""
        # The engine is of this machine, wherever this process lives.
        here = mock.patch.object(docker_runner, "_IN_CONTAINER", ())
        with self._wire, here, mock.patch.dict(os.environ, DOCKER_HOST=self._wire.host):
            return super().run(seconds)

    def _spec(self, base: str, rng: random.Random) -> JobSpec:
        size = str(1 + rng.randrange(300)), f"{rng.random() * 0.4:.2f}"
        return JobSpec(
            command=("python3", "-I", "-S", "-", "container", "/counters", *size),
            script=_SCRIPT,
            image=self._image,
            volumes=(f"{base}/counters:/counters",),
            options={"network": "none"},
        )

    def _kill_kernels(self, base: str, until: float) -> None:
        self._rules.clear()
        super()._kill_kernels(base, until)
        self._count()
        self._wire.clear()

    def _beside(self, base: str, now: float, until: float) -> float:
        dropping = self._mode == "answers"
        if dropping:
            self._drop()
        enough = 0 < self._enough <= self.tally.kernel_kills
        if enough and (not dropping or all(self.more.values())):
            return min(until, now)
        return until

    def _begun(self, base: str) -> bool:
        """Something was executed."""
        return bool(os.listdir(f"{base}/counters"))

    def _drop(self) -> None:
        """Keeps a rule ready for each kind of answer, which lets a few pass first."""
        rules = self._rules
        for name, path in ANSWERS.items():
            rule = rules.get(name)
            if rule is None or rule.hits:
                self.more[name] += rule.hits if rule else 0
                passes = self._random.randint(0, 4)
                rules[name] = self._wire.drop_response("POST", path)
                if passes:  # the newer rule acts first, and changes nothing
                    self._wire.delay("POST", path, 0.0, times=passes)

    def _count(self) -> None:
        for name, rule in self._rules.items():
            self.more[name] += rule.hits

    def _left(self, history: RunHistory) -> Iterator[tuple[str, str]]:
        with self._engine.client() as client:
            label = f"qwex.history={history.id}"
            for left in client.containers(all=True, filters={"label": label}):
                yield left["Labels"][LABEL], f"a container is left: {left['Status']}"

    def _workload(self, folder: str, run_id: str) -> workload.Container:
        spec = facts.read_fact(folder, SPEC)
        assert spec is not None
        return workload.Container(run_id, int(spec["spec"]["command"][6]))


@contextlib.contextmanager
def begin(root: str, asked: argparse.Namespace) -> Iterator[DockerCampaign]:
    """See `campaign.main`."""
    with Engine(asked.kind) as engine:
        yield DockerCampaign(root, asked.seed, asked.mode, engine, asked.parallel)


if __name__ == "__main__":
    about = "Kills kernels and judges their containers."
    sys.exit(campaign.main(about, begin, MODES, KINDS))
