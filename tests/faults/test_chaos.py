"""Short campaigns of kills; ``--chaos-seconds`` makes them long. See docs/reliability.md.

The first takes that long, each of the others half of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import workload
from campaign import assert_clean
from chaos import Campaign
from judge import Tally

from qwex_jupyter.system import process

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.forks,
    pytest.mark.timeout(0),  # how long it takes is asked for
    pytest.mark.skipif(not process.use_proc, reason="needs Linux: it looks into /proc"),
]


def campaign(root: Path, mode: str, seconds: float) -> Tally:
    """One campaign with the seed of this test."""
    return assert_clean(Campaign(str(root), seed=1, mode=mode, parallel=2), seconds)


def test_killed_kernels_lose_nothing(tmp_path: Path, chaos_seconds: int) -> None:
    """Whenever a kernel is killed, each of its runs ends once, with its own code and bytes."""
    tally = campaign(tmp_path, "kernel", chaos_seconds)
    assert tally.rightly_lost == 0
    assert tally.right + tally.never_started == tally.runs


def test_killed_supervisors_are_lost_and_never_wrong(tmp_path: Path, chaos_seconds: int) -> None:
    """A run whose supervisor was killed too is LOST, or has its true outcome; never another."""
    tally = campaign(tmp_path, "supervisor", chaos_seconds / 2)
    assert tally.supervisor_kills
    assert tally.right + tally.never_started + tally.rightly_lost == tally.runs


@pytest.mark.kernel
def test_killed_notebook_kernels_lose_nothing(tmp_path: Path, chaos_seconds: int) -> None:
    """The same holds for runs of real kernels, submitted with %qwex and with qwex.submit."""
    tally = campaign(tmp_path, "notebook", chaos_seconds / 2)
    assert tally.right + tally.never_started == tally.runs


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    """A campaign whose evidence is tampered with is not clean: each count can rise."""
    campaign = Campaign(str(tmp_path), seed=3, mode="kernel", parallel=2)
    campaign.drained_in = 0.2
    # On till there are as many as are tampered with.
    campaign._begun = lambda base: len(os.listdir(f"{base}/counters")) >= 6  # type: ignore[method-assign]
    judge = campaign._judge

    def tamper(base: str, history: object) -> None:
        # On a slow machine they ended after the last kernel, and so after the last look.
        campaign._look_at_ends(base)
        runs = sorted(Path(base, "home/runs").iterdir())
        ended = [path for path in runs if Path(base, "counters", path.name).exists()]
        cut, twice, again, gone, other, torn = ended[:6]
        log = cut / "stdout.log"
        log.write_bytes(log.read_bytes()[:-1])
        with open(twice / "stderr.log", "ab") as file:
            file.write(b"x")
        with open(Path(base, "counters", again.name), "ab") as file:
            file.write(b"x")
        Path(base, "counters", gone.name).unlink()
        text = (other / "run.json").read_text()
        code = workload.code_of(other.name)
        assert f'"exit_code": {code},' in text
        (other / "run.json").write_text(text.replace(f'"exit_code": {code},', '"exit_code": 121,'))
        (torn / "run.json").write_text(text[:100])
        judge(base, history)  # type: ignore[arg-type]

    campaign._judge = tamper  # type: ignore[method-assign]
    faults = campaign.run(1.0).faults
    assert {name for name, count in faults.items() if count} == {
        "lost_bytes",
        "doubled_bytes",
        "double_executions",
        "invented",
        "wrong",
        "torn_facts",
        "lost",
        "double_outcomes",
    }
