"""Stopping Jobs on a real cluster: what a program still says, and who holds a timeout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from k8s_helpers import RULES, There, until
from kernel import environment

from qwex_jupyter.display.card import Card, card_text
from qwex_jupyter.errors import RunStillLive
from qwex_jupyter.model.status import Reason, RunStatus

SAYS_GOODBYE = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done"
IGNORES = "trap '' TERM; echo up; while :; do sleep 0.1; done"
# The documented Role without the right that only stopping and timeouts need.
NO_PATCH: Sequence[dict[str, Any]] = [
    {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "patch"]}
    if rule["resources"] == ["pods"]
    else dict(rule)
    for rule in RULES
]


# -- cancel ----------------------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_last_words_and_exit_code_are_kept(there: There) -> None:
    """A program that handles SIGTERM says its last words and returns its own code; nobody looks."""
    run = there.up("sh", SAYS_GOODBYE)
    run.cancel()
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 7)
    assert run.logs("stdout") == "up\nbye\n"
    assert there.job(run)["metadata"]["annotations"]["qwex.intent"] == "cancel by you"
    assert there.pods(run), "the pod stays, with its log"


def test_who_ignores_it_is_killed_after_the_grace(there: There) -> None:
    """A program that ignores SIGTERM gets 137 when its pod's grace is over."""
    run = there.up("--grace 3 sh", IGNORES)
    asked = time.monotonic()
    run.cancel()
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)
    assert time.monotonic() - asked > 2.5


def test_a_grace_of_nothing(there: There) -> None:
    """``--grace 0`` kills at once; the record and the output stay."""
    run = there.up("--grace 0 sh", IGNORES)
    run.cancel()
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)
    assert run.logs("stdout") == "up\n"


def test_who_cancels_twice_is_told_how_long_it_takes(there: There) -> None:
    """A pod's grace can't be cut short: the second cancel says so, and what it is."""
    run = there.up("--grace 20 sh", IGNORES)
    run.cancel()
    run.poll()
    assert run.record.reason == Reason.STOPPING
    assert run.record.message == "It was asked to stop, and has 20s to end."
    run.cancel()
    run.poll()
    assert run.record.message == (
        "It was asked to stop, and has 20s to end: a pod's grace can't be cut short."
    )
    assert "can't be cut short" in card_text(Card(run.record))
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 137)


def test_the_terminal_says_it_too(there: There, home: str) -> None:
    """``qwex cancel``, twice: what is printed names the grace, then that it can't be cut short."""
    run = there.up("--grace 50 sh", IGNORES)
    env = environment(
        Path(home).parent / "user", KUBECONFIG=os.environ["KUBECONFIG"], QWEX_HOME=home
    )
    said = [
        subprocess.run(
            [sys.executable, "-m", "qwex_jupyter.cli", "cancel", run.handle],
            env=env, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert "has 50s to end" in said[0] and "cut short" not in said[0]
    assert "a pod's grace can't be cut short" in said[1]


def test_a_cancel_while_it_waits(there: There) -> None:
    """What waits for a node, an image or its secrets is CANCELLED, and never starts."""
    waits = [
        there.submit("--memory 1000g echo never"),
        there.submit("--image=127.0.0.1:1/a/b:1 echo never"),
        there.submit("-v pvc/none:/x echo never"),
    ]
    for run in waits:
        there.why(run, Reason.IMAGE_PULL_FAILED if run is waits[1] else Reason.UNSCHEDULABLE)
        run.cancel()
    for run in waits:
        record = run.wait(150, check=False).record
        assert (record.status, record.exit_code) == (RunStatus.CANCELLED, None), record
        assert record.started_at is None
        assert run.logs() == ""


def test_two_cancels_at_once_say_the_same(there: There) -> None:
    """Cancelled from two kernels, it is stopped once, by who was first."""
    run = there.up("sh", SAYS_GOODBYE)
    other = there.another().get(run.run_id)
    run.cancel()
    other.cancel()
    records = [each.wait(150, check=False).record for each in (run, other)]
    assert records[0] == records[1]
    assert (records[0].status, records[0].exit_code) == (RunStatus.CANCELLED, 7)


def test_a_stop_is_carried_out_by_whoever_comes(there: There) -> None:
    """A stop that was only written down, as by a kernel that died then, is carried out."""
    run = there.up("sh", SAYS_GOODBYE)  # from then on it knows what to do
    there.manager.close()
    run.log.folder.ask_stop("you", "cancel", 5.0)
    record = there.another().get(run.run_id).wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.CANCELLED, 7)


# -- without the right to patch pods ---------------------------------------------------------------


@pytest.fixture
def narrow(cluster: Cluster, home: str, monkeypatch: pytest.MonkeyPatch) -> There:
    """Somebody who may not patch pods."""
    return There(cluster, home, monkeypatch, rules=NO_PATCH)


def test_a_stop_without_the_right_to_patch_pods(narrow: There) -> None:
    """The Job's own deadline ends it and removes the pod; what it says until its end is kept."""
    run = narrow.running("sh", SAYS_GOODBYE)
    until(lambda: narrow.cluster.api.get(
        f"{narrow.at('pods', narrow.pod(run)['metadata']['name'])}/log") == "up\n")  # fmt: skip
    run.cancel()
    record = run.wait(150, check=False).record
    assert record.status is RunStatus.CANCELLED, record
    assert record.exit_code in (None, 7)
    assert (run.logs("stdout"), record.missing) == ("up\nbye\n", "")
    until(lambda: narrow.pods(run) == [])


def test_a_timeout_without_the_right_to_patch_pods(narrow: There) -> None:
    """A kernel that lives stops it in time, by the Job's deadline."""
    run = narrow.submit("--timeout 3s sh", SAYS_GOODBYE)
    record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT), record
    assert (run.logs("stdout"), record.missing) == ("up\nbye\n", "")


# -- timeouts --------------------------------------------------------------------------------------

SUBMITS = """
import os, sys, time
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.spec import JobSpec
manager = RunManager(sys.argv[1], default="k8s")
spec = JobSpec(script=sys.argv[3], command=("sh",), image=sys.argv[2], timeout=float(sys.argv[4]))
run = manager.submit(spec, "k8s")
print(run.run_id, flush=True)
while not run.record.started_at:
    run.poll()
    time.sleep(0.1)
time.sleep(0.5)
print("runs", flush=True)
time.sleep(600)
"""


def test_the_pod_holds_a_timeout_when_nobody_lives(there: There, home: str, tmp_path: Path) -> None:
    """The kernel is killed while it runs; who looks later sees that it ended in time."""
    env = environment(tmp_path / "user", KUBECONFIG=os.environ["KUBECONFIG"])
    image = there.cluster.image("busybox")
    words = [sys.executable, "-c", SUBMITS, home, image, SAYS_GOODBYE, "5"]
    kernel = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    try:
        run_id = kernel.stdout.readline().strip()
        assert kernel.stdout.readline() == "runs\n"
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
        kernel.stdout.close()
    at = f"{there.at('pods')}?labelSelector=qwex.run%3D{run_id}"
    there.cluster.api.wait(
        at, lambda found: [p for p in found["items"] if p["status"]["phase"] == "Failed"]
    )
    run = there.another().get(run_id)
    record = run.wait(150, check=False).record
    assert (record.status, record.reason, record.exit_code) == (
        RunStatus.FAILED, Reason.TIMED_OUT, 7
    ), record  # fmt: skip
    assert "timeout of 5s" in record.message and f"%qwex rerun {run.handle}" in record.message
    assert run.logs("stdout") == "up\nbye\n"
    ran = record.duration()
    # In whole seconds; never cut short. A busy kubelet looks seconds after it is over.
    assert ran is not None and 5 <= ran <= 5 + 15


def test_a_timeout_counts_from_the_program_s_start(there: There) -> None:
    """A pod that waited long on its node has its whole timeout from its program's start on."""
    patch = "containers: [{name: main, envFrom: [{configMapRef: {name: later}}]}]"
    spec = there.spec("--timeout 3s sh", "i=0; while :; do i=$((i+1)); echo $i; sleep 1; done")
    run = there.manager.submit(replace(spec, options={"pod-patch": patch}), "k8s")
    there.why(run, Reason.UNSCHEDULABLE)
    time.sleep(4)  # longer than the timeout
    there.create("configmaps", {"metadata": {"name": "later"}, "data": {"x": "y"}})
    there.nudge(run)
    record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.TIMED_OUT), record
    assert "3" in run.logs("stdout").splitlines()
    ran = record.duration()
    assert ran is not None and 2 <= ran <= 3 + 15, ran


def test_a_timeout_is_not_reached(there: There) -> None:
    """A program that ends in time has its own end, and its pod's deadline was lowered meanwhile."""
    run = there.running("--timeout 100s sh", "sleep 20; exit 3")
    until(lambda: there.pod(run)["spec"]["activeDeadlineSeconds"] < 200)
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 3)


def test_a_live_run_is_not_deleted(there: There) -> None:
    """`delete` refuses what runs and what waits, naming cancel."""
    runs, waits = there.running("sleep 300"), there.submit("--memory 1000g true")
    for run in (runs, waits):
        with pytest.raises(RunStillLive, match=f"%qwex cancel {run.handle}"):
            there.manager.runner("k8s").delete(run.run_id)
        run.cancel(grace=0)
    for run in (runs, waits):
        assert run.wait(150, check=False).status is RunStatus.CANCELLED


def test_a_start_deadline_says_what_to_try(there: There) -> None:
    """What didn't start in time says how long it waited, and the command with more time."""
    run = there.submit("--start-timeout 3s --memory 1000g echo never")
    record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED)
    assert record.message == (
        "It had not started 3s after it was submitted, and never will. "
        f"Try %qwex rerun {run.handle} --start-timeout 6s"
    )


def test_a_start_deadline_holds_beside_secrets_and_files(
    there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and secrets that were handed over leave no deadline that could end the program."""
    monkeypatch.setenv("TOKEN", "x")
    (tmp_path / "data").write_text("data")
    monkeypatch.chdir(tmp_path)
    run = there.end("--start-timeout 5m --secret TOKEN --files data -- sh", "sleep 3; cat data")
    assert (run.status, run.logs()) == (RunStatus.SUCCEEDED, "data"), run.record
    spec = there.job(run)["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert "qwex.handover" not in there.job(run)["metadata"]["annotations"]
