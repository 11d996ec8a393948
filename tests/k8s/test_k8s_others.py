"""What others do to a run's Job and pod, and which rights are missing: an end, or why not yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_api import ApiFailed
from clusters import Cluster
from k8s_helpers import RULES, There, until

from qwex_jupyter.errors import QwexError, SubmitFailed
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.status import Reason, RunStatus


def patched(there: There, line: str, cell: str, patch: Any) -> Run:
    """A run whose pod has a patch."""
    return there.submit(f"--pod-patch '{json.dumps(patch)}' {line}", cell)


def is_gone(there: There, run: Run) -> bool:
    """Whether the cluster has no Job and no pod of a run any more."""
    return f"qwex-{run.run_id}" not in there.jobs() and not there.pods(run)


# -- a run that ended here goes on nowhere ---------------------------------------------------------


def test_a_suspended_job_is_not_executed_again(there: There) -> None:
    """A queue suspends it, the program goes when it is told to; resumed, it would run once more."""
    cell = "trap 'echo told to go; exit 0' TERM\necho begun\nsleep 600 &\nwait"
    run = there.running("--grace 5 sh", cell)
    until(lambda: "begun" in run.logs("stdout"))
    there.cluster.api.patch(there.at("jobs", f"qwex-{run.run_id}"), {"spec": {"suspend": True}})
    record = run.wait(150, check=False).record
    assert (record.status.final, record.exit_code) == (True, 0)
    there.settle(run)
    until(lambda: is_gone(there, run))


def test_a_kept_job_stays_suspended(there: There) -> None:
    """With ``--keep`` it is the user's own: nothing takes it away but delete."""
    run = there.running("--grace 5 --keep sh", "trap 'exit 0' TERM\nsleep 600 &\nwait")
    there.cluster.api.patch(there.at("jobs", f"qwex-{run.run_id}"), {"spec": {"suspend": True}})
    run.wait(150, check=False)
    there.settle(run)
    assert there.job(run)["spec"]["suspend"]
    run.delete()
    until(lambda: is_gone(there, run))


def test_a_container_beside_it_that_never_starts(there: There) -> None:
    """The program has ended; its Job would wait for the other's image for ever."""
    beside = {"name": "beside", "image": "example.com/none:1", "imagePullPolicy": "Never"}
    run = patched(there, "sh", "exit 0", {"containers": [beside]})
    assert run.wait(150, check=False).status is RunStatus.SUCCEEDED
    there.settle(run)
    until(
        lambda: any(c["type"] == "Failed" for c in there.job(run)["status"].get("conditions", ()))
    )


def test_an_orphaned_pod_goes_with_its_run(there: There) -> None:
    """A Job that somebody deletes without its pod: the end is known, and nothing stays behind."""
    run = there.running("sh", "sleep 20; echo said; exit 6")
    path = there.at("jobs", f"qwex-{run.run_id}")
    there.cluster.api.delete(path, propagationPolicy="Orphan")
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 6)
    assert run.logs("stdout") == "said\n"
    there.settle(run)
    until(lambda: is_gone(there, run))


def test_a_pod_that_lost_its_label(there: There) -> None:
    """It is found by its Job, so output and exit code are there."""
    run = there.running("sh", "echo before; sleep 20; echo after; exit 6")
    name = there.pod(run)["metadata"]["name"]
    there.cluster.api.patch(there.at("pods", name), {"metadata": {"labels": {"qwex.run": None}}})
    record = run.wait(150, check=False).record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, 6)
    assert run.logs("stdout") == "before\nafter\n"


# -- what runs before it ---------------------------------------------------------------------------


def test_an_init_container_without_an_image(there: There) -> None:
    """What is injected before the program, and can't be made, is named with its cause."""
    before = {"name": "before", "image": "example.com/none:1", "imagePullPolicy": "Never"}
    run = patched(there, "sh", "echo never", {"initContainers": [before]})
    record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.IMAGE_NOT_FOUND)
    assert record.message == (
        "Before, which its pod runs before it: the node doesn't have example.com/none:1, and its "
        "imagePullPolicy forbids to get it."
    )


def test_a_sidecar_that_crashes(there: There) -> None:
    """It is named, with what shows more, and the run waits as Kubernetes does."""
    side = {
        "name": "side",
        "restartPolicy": "Always",
        "image": there.cluster.image("busybox"),
        "command": ["sh", "-c", "exit 3"],
        # Without one it counts as started as soon as it runs, and the program may come before.
        "startupProbe": {"exec": {"command": ["false"]}, "failureThreshold": 100},
    }
    run = patched(there, "sh", "echo never", {"initContainers": [side]})
    message = there.why(run, Reason.UNSCHEDULABLE)
    assert message.startswith("Side, which its pod runs before it: it fails again and again (")
    assert "kubectl logs " in message and " -c side " in message
    run.cancel(grace=0)
    assert run.wait(150, check=False).status is RunStatus.CANCELLED


def test_an_init_container_that_takes_its_time(there: There) -> None:
    """It is said what the run waits for."""
    before = {
        "name": "before",
        "image": there.cluster.image("busybox"),
        "command": ["sleep", "600"],
    }
    run = patched(there, "sh", "echo never", {"initContainers": [before]})

    def said() -> bool:
        run.poll()
        return run.record.message == "It waits for before, which runs before it."

    until(said)
    run.cancel(grace=0)
    assert run.wait(150, check=False).status is RunStatus.CANCELLED


# -- what can't be executed ------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["true", "sh -c 'exit 0'"])
def test_an_image_for_another_processor(there: There, line: str) -> None:
    """The runtime says so in the output, and returns 1: that is no exit code of any program."""
    run = there.end(line, of="wrongarch")
    assert (run.status, run.record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
    assert run.record.exit_code is None
    assert "another kind of processor" in run.record.message


def test_a_program_that_says_what_a_runtime_would(there: There) -> None:
    """Its exit code is its own: it said more than that, or isn't the program that is named."""
    for line, cell in (
        ("sh", "echo done; echo 'exec /bin/sh: exec format error' >&2; exit 1"),
        ("--entrypoint /bin/env sh", "echo 'exec /bin/other: exec format error' >&2; exit 1"),
    ):
        record = there.end(line, cell).record
        assert (record.status, record.exit_code) == (RunStatus.FAILED, 1)


# -- rights ----------------------------------------------------------------------------------------


@pytest.fixture
def webhook_down(there: There) -> Iterator[str]:
    """A webhook for Jobs that isn't there; its name."""
    there.cluster.must_be_ours()
    name = f"down-{there.namespace}.example.com"
    space = {"matchLabels": {"kubernetes.io/metadata.name": there.namespace}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"]}
    hook = {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 3,
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": space,
        "rules": [{**rule, "resources": ["jobs"]}],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [hook],
    }
    there.cluster.api.create(path, body)
    yield name
    there.cluster.api.delete(f"{path}/{name}")


def test_a_webhook_that_is_down_is_a_refusal(there: There, webhook_down: str) -> None:
    """It is asked before anything is stored: the submit fails at once, and says which it is."""

    def refused() -> str:
        # The API server hears of a webhook a moment after it was made.
        try:
            there.submit("true").cancel()
        except SubmitFailed as error:
            return str(error)
        return ""

    until(refused)
    said = refused()
    assert f"its webhook {webhook_down} doesn't answer" in said
    assert said.endswith("Nothing was started.")


def _without(verb: str, resource: str) -> list[Any]:
    """The Role without one of its rights."""
    rules = []
    for rule in RULES:
        verbs = [v for v in rule["verbs"] if resource not in rule["resources"] or v != verb]
        if verbs:
            rules.append({**rule, "verbs": verbs})
    return rules


RIGHTS = [(verb, rule["resources"][0]) for rule in RULES for verb in rule["verbs"]]


@pytest.mark.parametrize(("verb", "resource"), RIGHTS)
def test_each_right_taken_away(
    cluster: Cluster, home: str, monkeypatch: pytest.MonkeyPatch, verb: str, resource: str
) -> None:
    """Without any one of them a run ends as it should, or it is said which right is missing."""
    there = There(cluster, home, monkeypatch, rules=_without(verb, resource))
    files = "--secret TOKEN " if resource in ("secrets", "configmaps") else ""
    monkeypatch.setenv("TOKEN", "x")
    try:
        run = there.submit(f"{files}sh", "echo a; exit 6")
    except QwexError as error:
        assert f"{verb} {resource}" in str(error), error
        return

    def told() -> bool:
        run.poll()
        record = run.record
        named = (
            f"{verb} {resource}" in f"{record.message} {record.backend_message} {record.missing}"
        )
        return record.exit_code == 6 or named

    until(told)
    if run.record.exit_code == 6 and not run.record.log_missing:
        there.let_off(run)
        assert run.logs("stdout") == "a\n"


def test_what_is_left_for_lack_of_a_right_is_named(
    cluster: Cluster, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Job that may not be deleted, or an orphan, stays: delete says so and keeps the run."""
    there = There(cluster, home, monkeypatch, rules=_without("delete", "jobs"))
    run = there.end("sh", "exit 0")
    with pytest.raises(QwexError, match="You may not delete jobs"):
        run.delete()
    assert run.run_id in there.manager.history.run_ids()
    with pytest.raises(ApiFailed):
        there.cluster.api.get(there.at("jobs", "none"))
