"""Why a Job waits or died, provoked on a real cluster: the reason and the sentence, soon."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import images
import pytest
from cluster_helpers import quota
from cluster_parts import certificate
from clusters import Cluster
from k8s_helpers import There, until
from registry import Registry

from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.status import Reason, RunStatus

# What is known of a wait is said within seconds; a busy machine takes some more.
SOON = 45.0


def patched(there: There, line: str, patch: str, cell: str | None = None) -> Run:
    """A run whose pod has a patch."""
    spec = there.spec(line, cell)
    return there.manager.submit(replace(spec, options={**spec.options, "pod-patch": patch}), "k8s")


def failed(run: Run, reason: Reason) -> str:
    """What is said of a run that failed like this, without a process that returned anything."""
    record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, reason), (
        record,
        record.backend_message,
    )
    assert record.exit_code is None
    assert run.logs() == ""
    return record.message


def gives_up(run: Run) -> None:
    """What still waits is cancelled."""
    run.cancel(grace=0)
    assert run.wait(150, check=False).status is RunStatus.CANCELLED


# -- images ----------------------------------------------------------------------------------------


def test_a_slow_pull(there: There, registry: Registry) -> None:
    """While its node gets the image a run says so, and since when; then it runs."""
    name = registry.put("big", "team/slow:1")
    registry.wire.slow("GET", "/blobs/", 3_000_000)
    run = there.submit(f"--image={name} echo pulled")
    message = there.why(run, Reason.PULLING, SOON)
    assert message.startswith(f"Its node gets {name} since ") and message.endswith(" UTC.")
    registry.wire.clear()
    assert there.ended(run).logs("stdout") == "pulled\n"


def test_an_image_that_is_not_there(there: There, registry: Registry) -> None:
    """A registry that has no such image: it fails once the node has tried twice."""
    run = there.submit(f"--image={registry.address}/team/nothing:1 echo never")
    message = failed(run, Reason.IMAGE_NOT_FOUND)
    assert message == (
        f"There is no image {registry.address}/team/nothing:1: check its name and tag."
    )


def test_an_image_without_access(there: There, private_registry: Registry) -> None:
    """A registry that asks for a login: it fails, naming the option."""
    name = private_registry.put("busybox", "team/app:1")
    message = failed(there.submit(f"--image={name} echo never"), Reason.IMAGE_PULL_FAILED)
    assert f"no access to {name}" in message and "--pull-secret NAME" in message


def test_a_login_opens_a_registry(there: There, private_registry: Registry) -> None:
    """With the Secret that ``--pull-secret`` names the image is had."""
    assert private_registry.auth
    name = private_registry.put("busybox", "team/app:1")
    config = {"auths": {private_registry.address: private_registry.auth}}
    there.create(
        "secrets",
        {
            "metadata": {"name": "login"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(config)},
        },
    )
    assert there.says(f"--image={name} --pull-secret login echo yes") == "yes\n"


def test_a_registry_that_does_not_answer(there: There) -> None:
    """What may come later is waited for, and said meanwhile."""
    run = there.submit("--image=127.0.0.1:1/team/app:1 echo never")
    message = there.why(run, Reason.IMAGE_PULL_FAILED, SOON)
    assert message.startswith("127.0.0.1:1/team/app:1 can't be pulled yet (")
    assert "connection refused" in message and message.endswith("Kubernetes tries again.")
    gives_up(run)


@pytest.mark.tier("quick")
def test_a_name_that_is_none(there: There) -> None:
    """A name that can't be an image's fails at once."""
    message = failed(there.submit("--image=team/App:1 echo never"), Reason.IMAGE_NOT_FOUND)
    assert message == "team/App:1 isn't the name of an image."


def test_an_image_that_is_never_pulled(there: There) -> None:
    """``--pull=never`` of what the node doesn't have fails at once, and says that."""
    run = there.submit("--pull=never --image=qwex-test/nothing:1 echo never")
    assert failed(run, Reason.IMAGE_NOT_FOUND) == (
        "The node doesn't have qwex-test/nothing:1, and --pull=never forbids to get it."
    )


# -- nodes -----------------------------------------------------------------------------------------


def test_no_node_takes_it(there: There) -> None:
    """A selector that no node has, and more memory or CPUs than there are, are said as that."""
    runs = {
        "selector": patched(there, "echo never", "nodeSelector: {disk: ssd}"),
        "memory": there.submit("--memory 1000g echo never"),
        "cpus": there.submit("--cpus 1000 --memory 1000g echo never"),
    }
    said = {name: there.why(run, Reason.UNSCHEDULABLE, SOON) for name, run in runs.items()}
    assert said["selector"].startswith("None of 1 nodes takes it: 1 node(s) didn't match Pod")
    assert "selector" in said["selector"]
    assert said["memory"] == "It waits for memory: 0 of 1 nodes have enough free."
    assert said["cpus"] == "It waits for CPUs and memory: 0 of 1 nodes have enough free."
    for run in runs.values():
        gives_up(run)


# -- what the namespace allows ---------------------------------------------------------------------


def test_a_quota_that_is_used_up(there: There) -> None:
    """It is named with what it allows, what is in use and what is asked; lifted, the run starts."""
    quota(there.cluster, there.namespace, "small", {"hard": {"limits.memory": "100Mi"}}, "128Mi")
    run = there.submit("--memory 128m echo started")
    assert there.why(run, Reason.QUOTA_EXCEEDED, SOON) == (
        "The namespace's quota is used up: small allows limits.memory=100Mi, limits.memory=0 is "
        "in use, it asks for limits.memory=128 MiB. It starts when there is room."
    )
    there.cluster.api.delete(there.at("resourcequotas", "small"))
    assert there.ended(run).logs() == "started\n"


def test_a_quota_that_wants_limits(there: There) -> None:
    """Where limits must be given the run fails, naming the options."""
    quota(there.cluster, there.namespace, "strict", {"hard": {"limits.memory": "1Gi"}})
    message = failed(there.submit("echo never"), Reason.QUOTA_EXCEEDED)
    assert "name them with --cpus and --memory" in message
    assert there.says("--memory 64m echo yes") == "yes\n"


def test_a_limit_range(there: There) -> None:
    """More than the namespace's LimitRange allows fails, in its own words."""
    limits = [{"type": "Container", "max": {"memory": "100Mi"}}]
    there.create("limitranges", {"metadata": {"name": "most"}, "spec": {"limits": limits}})
    message = failed(there.submit("--memory 128m echo never"), Reason.QUOTA_EXCEEDED)
    assert message.startswith("The namespace's LimitRange refuses that much or that little: ")
    assert "is 100Mi, but limit is 128 MiB" in message


def test_pod_security(
    cluster: Cluster, home: str, monkeypatch: pytest.MonkeyPatch, there: There
) -> None:
    """Privileged and baseline take what we make; restricted does with its setting and a user."""
    enforce = "pod-security.kubernetes.io/enforce"
    for level in ("privileged", "baseline"):
        assert (
            There(cluster, f"{home}-{level}", monkeypatch, labels={enforce: level}).says(
                "sh", "echo yes"
            )
            == "yes\n"
        )
    strict = There(cluster, f"{home}-restricted", monkeypatch, labels={enforce: "restricted"})
    message = failed(strict.submit("echo never"), Reason.ADMISSION_REFUSED)
    assert "Pod Security refuses its pod: set QWEX_POD_SECURITY=restricted" in message
    assert "--user 1000" in message
    monkeypatch.setenv("QWEX_POD_SECURITY", "restricted")
    message = failed(strict.submit("echo never"), Reason.ADMISSION_REFUSED)
    assert message == (
        "The image runs as root, which its pod may not: give a user by number, --user 1000."
    )
    assert strict.says("--user 1000 sh", "id -u") == "1000\n"
    assert strict.says("sh", "id -u", of="worker") == "1234\n"


class Webhook(http.server.BaseHTTPRequestHandler):
    """Denies every pod."""

    def do_POST(self) -> None:
        """Answers a review."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"code": 403, "message": "images must come from the registry of the house"}
        answer = {"uid": asked["request"]["uid"], "allowed": False, "status": status}
        body = json.dumps(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Nothing is said."""


@pytest.fixture
def webhook(there: There, tmp_path: Path) -> Iterator[str]:
    """A webhook that denies the pods of the namespace; its name."""
    there.cluster.must_be_ours()
    (tmp_path / "webhook").mkdir()
    made, key = certificate(tmp_path / "webhook")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    import base64

    name = f"tests.{there.namespace}.example"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    hook = {
        "name": name,
        "clientConfig": {
            "url": f"https://127.0.0.1:{server.server_port}/",
            "caBundle": base64.b64encode(made.read_bytes()).decode(),
        },
        "rules": [{**rule, "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": there.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    at = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    there.cluster.api.create(at, {"metadata": {"name": name}, "webhooks": [hook]})
    yield name
    there.cluster.api.delete(f"{at}/{name}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_that_denies(there: There, webhook: str) -> None:
    """A rule of the cluster is said in its own words, and the run fails."""
    # A new webhook is known to an apiserver a moment after it was made.
    body = {
        "metadata": {"name": "try"},
        "spec": {"containers": [{"name": "x", "image": there.cluster.image("busybox")}]},
    }

    def denied() -> bool:
        try:
            there.cluster.api.create(f"{there.at('pods')}?dryRun=All", body)
        except Exception as error:
            return "denied the request" in str(error)
        return False

    until(denied)
    message = failed(there.submit("echo never"), Reason.ADMISSION_REFUSED)
    assert message.startswith("A rule of the cluster refuses its pod: ")
    assert webhook in message and "the registry of the house" in message


# -- what its pod needs ----------------------------------------------------------------------------


ENV_FROM = "containers: [{{name: main, envFrom: [{{{}: {{name: later}}}}]}}]"


def test_what_a_variable_comes_from_is_missing(there: There) -> None:
    """A Secret or ConfigMap that isn't there is named; when it comes, the run starts."""
    runs = {
        kind: patched(there, "sh -c 'echo $A'", ENV_FROM.format(ref))
        for kind, ref in (("secret", "secretRef"), ("configmap", "configMapRef"))
    }
    for kind, run in runs.items():
        assert there.why(run, Reason.UNSCHEDULABLE, SOON, f'{kind} "later" not found') == (
            f'It waits for something that isn\'t there: {kind} "later" not found.'
        )
        content = {"stringData" if kind == "secret" else "data": {"A": kind}}
        there.create(f"{kind}s", {"metadata": {"name": "later"}, **content})
    there.nudge(*runs.values())
    for kind, run in runs.items():
        assert there.ended(run).logs() == f"{kind}\n"


def test_an_account_that_is_missing(there: There) -> None:
    """A service account that the namespace lacks is named."""
    message = failed(there.submit("--service-account nobody echo never"), Reason.ADMISSION_REFUSED)
    assert message.startswith("The namespace has no such service account: ")
    assert '"nobody" not found' in message


def test_a_volume_that_can_not_be_mounted(there: There) -> None:
    """A volume that isn't there yet is said in its own words; with it the run starts."""
    patch = """
volumes: [{name: data, configMap: {name: later}}]
containers: [{name: main, volumeMounts: [{name: data, mountPath: /data}]}]
"""
    run = patched(there, "cat /data/x", patch)
    message = there.why(run, Reason.UNSCHEDULABLE, SOON, 'configmap "later" not found')
    assert message.startswith("A volume can't be mounted yet: ")
    there.create("configmaps", {"metadata": {"name": "later"}, "data": {"x": "mounted"}})
    assert there.ended(run.wait(150)).logs() == "mounted"


def test_an_image_that_runs_as_root_where_that_is_forbidden(there: There) -> None:
    """``runAsNonRoot`` and an image of root: it fails, naming the option."""
    run = patched(there, "echo never", "securityContext: {runAsNonRoot: true}")
    assert "--user 1000" in failed(run, Reason.ADMISSION_REFUSED)


def test_a_folder_that_is_a_file(there: There) -> None:
    """A working folder that can't be one fails, with the runtime's words and no exit code."""
    record = there.end("-w /etc/passwd echo never").record
    assert (record.status, record.exit_code) == (RunStatus.FAILED, None), record
    assert "could not be started" in record.message or "can't be run" in record.message


# -- taken away ------------------------------------------------------------------------------------

SAYS_GOODBYE = "trap 'echo bye; exit {code}' TERM; echo up; while :; do sleep 0.1; done"


def test_an_eviction(there: There) -> None:
    """The eviction API: it was evicted, and by whom; what it said last and its code are kept."""
    run = there.up("sh", SAYS_GOODBYE.format(code=3))
    with there.manager.output.following(run.run_id):
        name = there.pod(run)["metadata"]["name"]
        eviction = {"metadata": {"name": name}, "apiVersion": "policy/v1", "kind": "Eviction"}
        there.cluster.api.create(f"{there.at('pods', name)}/eviction", eviction)
        record = run.wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.EVICTED), record
    assert record.exit_code == 3
    assert "as when a node is drained" in record.message
    assert run.logs() == "up\nbye\n"
    assert record.missing == ""


def test_an_evicted_program_that_ends_well(there: There) -> None:
    """Who ends with 0 when asked to leave has succeeded."""
    run = there.up("sh", SAYS_GOODBYE.format(code=0))
    name = there.pod(run)["metadata"]["name"]
    eviction = {"metadata": {"name": name}, "apiVersion": "policy/v1", "kind": "Eviction"}
    there.cluster.api.create(f"{there.at('pods', name)}/eviction", eviction)
    assert run.wait(150, check=False).status is RunStatus.SUCCEEDED, run.record


def test_an_eviction_that_nobody_saw(there: There) -> None:
    """With the pod gone the Job says that it was evicted; the output that is lost is said."""
    run = there.running("sh", "echo up; sleep 300")
    there.manager.close()
    name = there.pod(run)["metadata"]["name"]
    eviction = {"metadata": {"name": name}, "apiVersion": "policy/v1", "kind": "Eviction"}
    there.cluster.api.create(f"{there.at('pods', name)}/eviction", eviction)
    until(lambda: there.pods(run) == [])
    record = there.another().get(run.run_id).wait(150, check=False).record
    assert (record.status, record.reason) == (RunStatus.FAILED, Reason.EVICTED), record
    assert "run it again" in record.message
    assert record.missing


def test_a_pod_that_somebody_deletes(there: There) -> None:
    """A pod that was deleted while it ran: ended from outside, as its container says."""
    run = there.up("sh", "echo up; exec sleep 300")
    there.cluster.api.delete(there.at("pods", there.pod(run)["metadata"]["name"]))
    record = run.wait(150, check=False).record
    assert (record.status, record.reason, record.exit_code) == (
        RunStatus.FAILED, Reason.SIGNALLED, 143
    ), record  # fmt: skip


# -- what has failed never starts later ------------------------------------------------------------


def counted(there: There, line: str, folder: Path, patch: str = "") -> Run:
    """A run that leaves a trace of each execution in a folder of the node's."""
    folder.mkdir()
    more = f"""
volumes: [{{name: count, hostPath: {{path: {folder}}}}}]
containers: [{{name: main, volumeMounts: [{{name: count, mountPath: /count}}]}}]
{patch}
"""
    return patched(there, f"{line} sh", more, "echo x >> /count/x")


class Late:
    """Two runs that wait for the same: one with a deadline for its start, and one without.

    Args:
        line: What makes them wait.
        folder: An empty one, where each counts its executions.
    """

    def __init__(self, there: There, line: str, folder: Path) -> None:
        self.there, self.folder = there, folder
        folder.mkdir()
        self.patient = counted(there, line, folder / "patient")
        self.late = counted(there, f"--start-timeout 4s {line}", folder / "late")

    def given_up(self) -> None:
        """Returns when the first has failed for its deadline."""
        record = self.late.wait(150, check=False).record
        assert (record.status, record.reason) == (
            RunStatus.FAILED, Reason.START_DEADLINE_EXCEEDED
        ), record  # fmt: skip
        assert record.message.startswith(
            "It had not started 4s after it was submitted, and never will"
        )
        assert record.exit_code is None

    def never_will(self) -> None:
        """The first executes nothing, though what both waited for has come: the other has run."""
        self.there.nudge(self.late, self.patient)
        assert self.patient.wait(150).status is RunStatus.SUCCEEDED
        assert (self.folder / "patient/x").read_text() == "x\n"
        assert not (self.folder / "late/x").exists()
        pods = self.there.pods(self.late)
        assert all(pod["status"]["phase"] in ("Failed", "Succeeded") for pod in pods)


def test_what_had_not_started_never_will(there: There, tmp_path: Path) -> None:
    """After ``--start-timeout`` an image or a quota that comes late starts nothing."""
    # Of the one alone that asks for memory.
    spec = {"hard": {"pods": "0"}, "scopes": ["NotBestEffort"]}
    quota(there.cluster, there.namespace, "none", spec, "32Mi")
    name = f"qwex-test/late-{there.namespace}:1"
    image = Late(there, f"--image={name}", tmp_path / "image")
    room = Late(there, "--memory 32m", tmp_path / "quota")
    for each in (image, room):
        each.given_up()
    archive = images.archive("busybox", name, architecture=images.ARCHITECTURE)
    there.cluster.load_image(name, archive)
    there.cluster.api.delete(there.at("resourcequotas", "none"))
    for each in (image, room):
        each.never_will()


# -- a node of its own -----------------------------------------------------------------------------


@pytest.fixture(scope="class")
def owned(class_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster for all tests of a class."""
    return class_cluster()


class TestNode:
    """What is done to a node, or to all that is on it, is done where nobody else's pods are."""

    @pytest.fixture
    def cluster(self, owned: Cluster) -> Cluster:
        """Their own."""
        return owned

    @pytest.fixture
    def tainted(self, cluster: Cluster) -> Iterator[None]:
        """The node takes nothing new, for as long as a test lasts."""
        cluster.kubectl("taint", "node", cluster.node, "tests=yes:NoSchedule")
        yield
        cluster.kubectl("taint", "node", cluster.node, "tests-", check=False)

    def test_a_node_that_takes_nothing(self, there: There, tainted: None) -> None:
        """A taint is said; with it gone the run starts by itself, with it tolerated as well."""
        run = there.submit("echo started")
        message = there.why(run, Reason.UNSCHEDULABLE, SOON)
        assert message.startswith("None of 1 nodes takes it: 1 node(s) had untolerated taint")
        tolerates = "tolerations: [{key: tests, operator: Exists}]"
        assert there.ended(patched(there, "echo tolerated", tolerates)).logs() == "tolerated\n"
        there.cluster.kubectl("taint", "node", there.cluster.node, "tests-")
        assert there.ended(run).logs() == "started\n"

    def test_what_no_node_took_never_starts(
        self, there: There, tainted: None, tmp_path: Path
    ) -> None:
        """After ``--start-timeout`` a node that comes late starts nothing."""
        node = Late(there, "", tmp_path / "node")
        node.given_up()
        there.cluster.kubectl("taint", "node", there.cluster.node, "tests-")
        node.never_will()

    @pytest.fixture
    def important(self, cluster: Cluster) -> str:
        """A class of pods that take the place of others."""
        at = "/apis/scheduling.k8s.io/v1/priorityclasses"
        cluster.api.create(at, {"metadata": {"name": "tests-important"}, "value": 1000})
        return "tests-important"

    def test_a_preemption(self, there: There, important: str) -> None:
        """A pod of higher priority took its place: that is said."""
        node = there.cluster.api.get(f"/api/v1/nodes/{there.cluster.node}")
        cpus = float(node["status"]["allocatable"]["cpu"]) * 0.75
        run = there.running(f"--cpus {cpus} sh", "exec sleep 300")
        other = patched(there, f"--cpus {cpus} echo important", f"priorityClassName: {important}")
        record = run.wait(150, check=False).record
        assert (record.status, record.reason) == (RunStatus.FAILED, Reason.EVICTED), record
        assert "a pod of higher priority took its place" in record.message.lower()
        assert there.ended(other).logs() == "important\n"
