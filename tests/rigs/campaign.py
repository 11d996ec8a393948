"""A campaign of kills: kernels die at random moments, and each of their runs is judged.

A kernel is a plain process that takes up what is open and submits self-checking workloads
(``workload.py``) until it is killed with -9; several live at a time and share one home. Every half
minute all are dead for six seconds (the manager's grace for a submitter's last breath is five);
then a fresh process takes everything up, and each run is compared with what its id asks for
(``judge.py``). What its runs are, and what else is broken meanwhile, a campaign of a runner says:
``chaos.py``, ``docker_kills.py``, ``k8s_chaos.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from judge import Judge, Tally

from qwex_jupyter.errors import QwexError
from qwex_jupyter.history.history import RunHistory
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.spec import JobSpec

_ROUND = 30.0
# Longer than the grace of a submitter that is gone (`closing._LAST_BREATH`).
_QUIET = 6.0
SETTLED_IN = 90.0


class Campaign(Judge):
    """One campaign.

    Args:
        root: An empty folder; each round has a home of its own in it.
        seed: Of everything that is random here.
        mode: What is broken besides kernels.
        parallel: So many kernels live at a time.

    Attributes:
        runner: Whose runs these are.
        refusal: What a submit may raise; that nothing was started is judged too.
        within: Seconds in which a kernel takes up what is open before it submits.
        most: It submits so many runs at the most before it may wait for one.
        rest: Seconds at the most between two submits.
        lives: The longest life of a kernel in seconds: of most, and of every third.
        pause: Between two looks at who is to be killed, in seconds.
        more: Further counts of what was done.
    """

    runner: str
    refusal: type[QwexError] = QwexError
    within = 0.1
    most, rest = 3, 0.0
    lives = (0.15, 0.6)
    pause = 0.001

    def __init__(self, root: str, seed: int, mode: str, parallel: int = 3) -> None:
        super().__init__()
        self.more: dict[str, int] = {}
        self._root, self._mode, self._parallel = root, mode, parallel
        self._random = random.Random(f"{seed} {mode}")
        self._kernels: dict[int, float] = {}
        self._round = 0

    # -- what a runner's campaign says ------------------------------------------------------------

    def _spec(self, base: str, rng: random.Random) -> JobSpec:
        """The next run of a kernel."""
        raise NotImplementedError

    def _watch(self, manager: RunManager, run: Run | None, rng: random.Random) -> None:
        """What a kernel does when it has submitted some runs; this is the last one."""
        if run and rng.random() < 0.5:
            run.wait(check=False)

    def _beside(self, base: str, now: float, until: float) -> float:
        """What else is done to kernels and backend; until when kernels are started."""
        return until

    def _begun(self, base: str) -> bool:
        """Whether there is something to judge."""
        return os.path.getsize(f"{base}/told") > 0

    def _did_it(self) -> bool:
        """Whether it has done what it is about: some run is right, or something is wrong."""
        return self.tally.right > 0 or not self.tally.clean

    # -- rounds -----------------------------------------------------------------------------------

    def run(self, seconds: float) -> Tally:
        """Kills for so many seconds, settling times included; at least one round.

        On a busy machine it goes on until it has done what it is about.
        """
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._round and left < 2 * _QUIET and self._did_it():
                return self.tally
            self._one_round(max(3.0, min(_ROUND, left - _QUIET - 2.0)))

    def _one_round(self, seconds: float) -> None:
        self._round += 1
        base = os.path.join(self._root, f"round-{self._round}")
        home, counters = os.path.join(base, "home"), os.path.join(base, "counters")
        os.makedirs(counters)
        os.makedirs(os.path.join(base, "faults"))
        os.close(os.open(os.path.join(base, "told"), os.O_WRONLY | os.O_CREAT, 0o600))
        history = RunHistory(home)
        self._kill_kernels(base, time.monotonic() + seconds)
        time.sleep(_QUIET)
        self._recover(home)
        self._judge(base, history)
        if self.tally.clean:
            shutil.rmtree(base, ignore_errors=True)

    def _kill_kernels(self, base: str, until: float) -> None:
        """Starts kernels and kills them, until the time is up and none is left."""
        rng = self._random
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            while now < self._last(base, until) and len(self._kernels) < self._parallel:
                longest = self.lives[rng.random() < 1 / 3]
                seed = rng.random()
                pid = _fork(lambda seed=seed: self._play(base, seed), base)  # type: ignore[misc]
                self._kernels[pid] = now + rng.random() * longest
            if not self._kernels:
                return
            self._kill_due(base, now, until)
            until = self._beside(base, now, until)
            if now - looked > 50 * self.pause:
                looked = now
                self._look_at_ends(base)
            time.sleep(self.pause)

    def _last(self, base: str, until: float) -> float:
        """Until when kernels start: where all is slow, until there is something to judge."""
        return until if self._begun(base) else until + SETTLED_IN

    def _kill_due(self, base: str, now: float, until: float) -> None:
        """Kills the kernels whose time has come.

        Where all is slow nobody is killed before there is something to judge: a backend that
        others keep busy works on at what killed kernels had asked for.
        """
        if until <= now < self._last(base, until):
            return
        for pid, due in list(self._kernels.items()):
            if now >= due:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                del self._kernels[pid]
                self.tally.kernel_kills += 1

    def _play(self, base: str, seed: float) -> None:
        """A kernel: takes up what is open, then submits and waits until it is killed."""
        rng = random.Random(seed)
        told = os.open(f"{base}/told", os.O_WRONLY | os.O_APPEND)
        manager = RunManager(f"{base}/home")
        manager.recover(within=self.within)
        while True:
            run = None
            for _ in range(rng.randint(1, self.most)):
                try:
                    run = manager.submit(self._spec(base, rng), self.runner)
                except self.refusal:
                    continue
                os.write(told, f"{run.run_id}\n".encode())
                time.sleep(rng.random() * self.rest)
            self._watch(manager, run, rng)

    def _recover(self, home: str) -> None:
        """What a fresh kernel does, until nothing is open that has a folder."""
        pid = _fork(lambda: _settle(home), os.path.dirname(home))
        until = time.monotonic() + SETTLED_IN + 30
        while time.monotonic() < until:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def assert_clean(campaign: Campaign, seconds: float) -> Tally:
    """What a campaign finds: kernels were killed, some runs are right, and nothing is wrong."""
    tally = campaign.run(seconds)
    print(*tally.lines(), campaign.more, sep="\n")
    assert tally.clean, "\n".join(tally.told[:20])
    assert tally.kernel_kills
    assert tally.right
    return tally


def _fork(work: Callable[[], None], base: str) -> int:
    """A process that does this and leaves; what goes wrong in it is told in ``faults/``."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        work()
    except BaseException:
        Path(base, "faults", f"{os.getpid()}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _settle(home: str) -> None:
    manager = RunManager(home)
    for run_id in manager.history.open_ids():
        # A kernel was killed before the folder had its name: its entry goes after 10 minutes.
        if not os.path.exists(manager.history.folder(run_id)):
            os.utime(os.path.join(manager.history.open_folder, run_id), (0, 0))
    manager.recover()
    until = time.monotonic() + SETTLED_IN
    while manager.history.open_ids() and time.monotonic() < until:
        manager.tracker.look()
        time.sleep(0.1)


def main(
    about: str,
    begin: Callable[[str, argparse.Namespace], AbstractContextManager[Campaign]],
    modes: Sequence[str],
    kinds: Sequence[str] = (),
    parallel: int = 3,
) -> int:
    """The command line of a campaign of kills; 0 when nothing went wrong.

    Args:
        about: What it does.
        begin: Makes the campaign in a folder, as it is asked for, with the backend it needs.
        modes: What may be broken besides kernels.
        kinds: Kinds of backends.
        parallel: So many kernels live at a time, unless another number is asked for.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=modes, default=modes[0])
    if kinds:
        parser.add_argument("--kind", choices=kinds, default=kinds[0])
    parser.add_argument("--parallel", type=int, default=parallel)
    parser.add_argument("--json", action="store_true", help="one line for programs to read")
    asked = parser.parse_args()
    root = tempfile.mkdtemp(prefix="campaign-")
    with begin(root, asked) as campaign:
        tally = campaign.run(asked.seconds)
    said = {name: vars(asked)[name] for name in ("kind", "mode", "seed") if name in asked}
    said |= campaign.more
    if asked.json:
        print(json.dumps({**said, **dict(tally.rows())}))
    else:
        print(said, *tally.lines(), sep="\n")
    if tally.clean:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"kept: {root}")
    return 0 if tally.clean else 1
