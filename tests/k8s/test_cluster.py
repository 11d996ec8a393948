"""The Kubernetes of the tests itself: it is a real one, it can be hurt, and it ends whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster_api import ApiFailed
from cluster_helpers import as_account, ended, job, quota
from clusters import MINIMAL_RULES, Cluster

Make = Callable[..., Cluster]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


# -- what it does ---------------------------------------------------------------------------------


def test_it_is_the_kubernetes_that_it_claims_to_be(cluster: Cluster) -> None:
    """The apiserver and the kubelet are of version 1.34.4, and the node is ready."""
    cluster.must_be_ours()
    node = cluster.api.get(f"/api/v1/nodes/{cluster.node}")
    assert cluster.api.get("/version")["gitVersion"].startswith("v1.34.4")
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.34.4")
    assert "Ready" in cluster.kubectl("get", "nodes", "--no-headers").split()


@pytest.mark.tier("quick")
def test_a_job_gives_its_exit_code_and_its_log(cluster: Cluster) -> None:
    """A Job written by hand runs on the node, and its exit code and words are there."""
    namespace = cluster.namespace()
    name = job(cluster, namespace, "sh", "-c", "echo hello; exit 7")
    assert ended(cluster, namespace, name) == (7, "hello\n")
    cluster.api.wait(
        f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}",
        # FailureTarget comes first, at times by itself.
        lambda found: (
            "Failed" in [each["type"] for each in found["status"].get("conditions") or ()]
        ),
    )


@pytest.mark.parametrize(
    ("recipe", "command", "says"),
    [
        ("busybox", ["id", "-u"], "0\n"),
        ("python", ["python", "-c", "import ssl, ctypes, json; print('yes')"], "yes\n"),
        ("bare", ["/bin/echo", "yes"], "yes\n"),
        ("worker", ["sh", "-c", "id -un; pwd"], "worker\n/srv\n"),
        ("big", ["sh", "-c", "cat /big/* | wc -c"], "30000000\n"),
    ],
)
def test_the_images_of_the_engines_are_there(
    cluster: Cluster, recipe: str, command: list[str], says: str
) -> None:
    """An image has the name and the content that it has on an engine."""
    namespace, image = cluster.namespace(), cluster.image(recipe)
    assert image == f"qwex-test/{recipe}:1"
    containers = [{"name": "main", "image": image, "command": command}]
    name = job(cluster, namespace, containers=containers)
    assert ended(cluster, namespace, name) == (0, says)


def test_pods_have_a_network_and_share_processes(cluster: Cluster) -> None:
    """A pod has an address, and with shared processes its first one isn't the program."""
    namespace = cluster.namespace()
    script = "ip -4 address show eth0 | grep -q 'inet 10.' && cat /proc/1/comm"
    name = job(cluster, namespace, "sh", "-c", script, shareProcessNamespace=True)
    assert ended(cluster, namespace, name) == (0, "pause\n")


def test_orphans_of_a_shared_pod_are_reaped(cluster: Cluster) -> None:
    """The first process of a pod reaps what its programs leave behind."""
    namespace = cluster.namespace()
    script = "pid=$(sh -c 'true & echo $!'); while [ -e /proc/$pid ]; do sleep 0.1; done; echo gone"
    name = job(cluster, namespace, "sh", "-c", script, shareProcessNamespace=True)
    assert ended(cluster, namespace, name) == (0, "gone\n")


def test_a_namespace_has_the_labels_it_was_given(cluster: Cluster) -> None:
    """A namespace that demands restricted pods refuses others, by the apiserver's own admission."""
    namespace = cluster.namespace(labels=RESTRICTED)
    container = {"name": "main", "image": "qwex-test/busybox:1"}
    body = {"metadata": {"name": "loose"}, "spec": {"containers": [container]}}
    with pytest.raises(ApiFailed, match='violates PodSecurity "restricted') as refused:
        cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", body)
    assert refused.value.status == 403


def test_a_quota_is_enforced(cluster: Cluster) -> None:
    """A pod over the quota of its namespace is refused."""
    namespace = cluster.namespace()
    assert "exceeded quota: none" in quota(cluster, namespace, "none", {"hard": {"pods": "0"}})


# -- who may do what ------------------------------------------------------------------------------


def test_a_token_may_do_what_its_role_says_and_nothing_else(cluster: Cluster) -> None:
    """The account of the minimal Role makes Jobs in its namespace; it deletes no Secrets there."""
    api, namespace = as_account(cluster.kubeconfig(MINIMAL_RULES))
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    container = {"name": "main", "image": cluster.image("busybox"), "command": ["true"]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    api.create(jobs, {"metadata": {"name": "one"}, "spec": {"template": {"spec": spec}}})
    assert [each["metadata"]["name"] for each in api.get(jobs)["items"]] == ["one"]
    api.delete(f"{jobs}/one", propagationPolicy="Background")
    for path in (f"/api/v1/namespaces/{namespace}/secrets", "/api/v1/nodes", "/apis/batch/v1/jobs"):
        with pytest.raises(ApiFailed, match="forbidden"):
            api.get(path)
    with pytest.raises(ApiFailed, match="forbidden"):
        api.delete(f"/api/v1/namespaces/{namespace}/secrets/any")


def test_a_role_can_be_given_as_yaml(cluster: Cluster) -> None:
    """The YAML of a Role, as a document has it, makes the same account as its rules."""
    role = """
        kind: Role
        metadata: {name: qwex, namespace: elsewhere}
        rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
    """
    api, namespace = as_account(cluster.kubeconfig(role))
    assert api.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
    with pytest.raises(ApiFailed, match="forbidden"):
        api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
