"""What a test can do to a Kubernetes: kill, freeze, cut its wire; and what is left afterwards."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cluster_folder
import cluster_machine
import clusters
import go_build
import leftovers
import pytest
from cluster_api import Api, ApiFailed
from cluster_helpers import as_account, ended, job, pod
from cluster_parts import PARTS
from clusters import Cluster, available
from environment import CACHE, ROOT
from kube_wire import KubeWire
from leftovers import alive
from local_helpers import until
from shared import Owned

pytestmark = pytest.mark.once

Make = Callable[..., Cluster]

# -- killed, frozen, told otherwise ---------------------------------------------------------------


@pytest.fixture(scope="class")
def owned(class_cluster: Make) -> Cluster:
    """A cluster for all tests of a class, with settings of its own."""
    return class_cluster(
        kubelet={
            "nodeStatusUpdateFrequency": "1s",
            "nodeLeaseDurationSeconds": 4,
            "maxPods": 33,
            "containerLogMaxSize": "1Mi",
        },
        flags={"controller-manager": ["--node-monitor-grace-period=5s"]},
    )


class TestOwned:
    """One cluster of their own, which each leaves as whole as it was."""

    def test_a_kubelet_has_the_settings_it_was_given(self, owned: Cluster) -> None:
        """Logs rotate at the size, and pods are limited to the number, that its maker said."""
        node = owned.api.get(f"/api/v1/nodes/{owned.node}")
        assert node["status"]["capacity"]["pods"] == "33"
        kubelet = Api(f"https://127.0.0.1:{owned.machine.plan.ports['kubelet']}")
        assert kubelet.get("/configz")["kubeletconfig"]["containerLogMaxSize"] == "1Mi"

    def test_each_part_can_be_killed_and_comes_back(self, owned: Cluster) -> None:
        """After SIGKILL of any part, and its restart, the same pod still runs and Jobs run."""
        namespace = owned.namespace()
        living = job(owned, namespace, "sleep", "1000")
        before = pod(owned, namespace, living, ("Running",))["status"]["containerStatuses"]
        for part in PARTS:
            old = owned.pid(part)
            owned.kill(part)
            assert (owned.pid(part), alive(old)) == (0, False)
            owned.restart(part)
            assert owned.pid(part) not in (0, old)
            name = job(owned, namespace, "echo", part)
            assert ended(owned, namespace, name) == (0, f"{part}\n")
        after = pod(owned, namespace, living, ("Running",))["status"]["containerStatuses"]
        assert after[0]["containerID"] == before[0]["containerID"]

    def test_a_frozen_apiserver_does_not_answer(self, owned: Cluster) -> None:
        """What is asked of a frozen part waits; thawed, it answers again."""
        owned.freeze("apiserver")
        assert owned.machine.frozen("apiserver")
        with pytest.raises(TimeoutError):
            owned.api.request("GET", "/version", timeout=1)
        owned.thaw("apiserver")
        assert owned.api.get("/version")

    def test_a_kubelet_that_is_gone_makes_its_node_unknown(self, owned: Cluster) -> None:
        """With a short grace period the node of a dead kubelet is soon not ready; then it is."""
        owned.kill("kubelet")
        owned.api.wait(f"/api/v1/nodes/{owned.node}", lambda node: node["spec"].get("taints"))
        owned.start()
        # So short a grace may be over once more for a kubelet that has just begun.
        until(lambda: "Ready" in owned.kubectl("get", "nodes", "--no-headers").split())

    def test_two_clusters_live_side_by_side(self, cluster: Cluster, owned: Cluster) -> None:
        """Each has ports, a network and pods of its own."""
        cluster.must_be_ours()
        assert set(cluster.machine.plan.ports.values()).isdisjoint(
            owned.machine.plan.ports.values()
        )
        for each in (cluster, owned):
            namespace = each.namespace()
            assert ended(each, namespace, job(each, namespace, "echo", "here")) == (0, "here\n")


def test_a_frozen_cluster_can_be_stopped(own_cluster: Make) -> None:
    """`stop` ends parts that are frozen too."""
    cluster = own_cluster()
    pids = [cluster.pid(part) for part in PARTS]
    for part in PARTS:
        cluster.freeze(part)
    cluster.stop()
    assert not any(alive(pid) for pid in pids)


def test_a_part_that_does_not_come_up_says_why(
    own_cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said last is in the error, and nothing of the cluster stays."""
    if why := available():
        pytest.skip(why)
    monkeypatch.setattr(cluster_folder, "FOLDER", tmp_path)
    cluster = Cluster(private=True, flags={"apiserver": ["--no-such-flag"]})
    cluster.must_be_owned()
    with pytest.raises(cluster_machine.ClusterFailed, match="unknown flag: --no-such-flag"):
        cluster.start()
    assert list(tmp_path.glob("own-*")) == []


def test_the_last_words_of_a_part_are_there(cluster: Cluster) -> None:
    """`log` gives as many of the last lines of a part as are asked for."""
    cluster.must_be_ours()
    for part in PARTS:
        assert len(cluster.log(part, lines=2).splitlines()) == 2


# -- nothing left ---------------------------------------------------------------------------------


def left(folders: list[Path], name: str) -> list[object]:
    """What there is of a cluster with these folders, and this name of its cgroup and bridge."""
    links = Path("/var/log/containers").glob("*")
    return [
        *leftovers.processes(folders, groups=cluster_folder.cgroups(name)),
        *leftovers.mounts(folders),
        *cluster_folder.cgroups(name),
        *(folder for folder in folders if folder.exists()),
        *Path("/sys/class/net").glob(name),
        *(link for link in links if _dangles(link, folders[0])),
    ]


def _dangles(link: Path, into: Path) -> bool:
    """Whether a link leads to what was in this folder; others' kubelets remove theirs meanwhile."""
    try:
        return str(link.readlink()).startswith(f"{into}/") and not link.exists()
    except FileNotFoundError:
        return False


def test_nothing_is_left_when_a_cluster_has_stopped(own_cluster: Make) -> None:
    """After `stop` no process, mount, cgroup, interface or data of it and its pods is left."""
    cluster = own_cluster()
    namespace = cluster.namespace()
    pod(cluster, namespace, job(cluster, namespace, "sleep", "1000"), ("Running",))
    machine = cluster.machine
    folders, name = [machine.folder.path, machine.folder.run], machine.folder.name
    groups = list(cluster_folder.cgroups(name))
    pids = [*map(cluster.pid, PARTS), *leftovers.processes(folders, groups=groups)]
    assert len(pids) > len(PARTS) + 2
    assert leftovers.mounts(folders)
    assert Path("/sys/class/net", name).exists()
    cluster.stop()
    assert not [pid for pid in pids if alive(pid)]
    assert left(folders, name) == []


SESSION = """
import os, signal, sys
sys.path.insert(0, "rigs")
from pathlib import Path
import cluster_folder
from clusters import Cluster
from cluster_helpers import job, pod
cluster_folder.FOLDER = Path(sys.argv[1])
cluster = Cluster(private=sys.argv[2] == "own").start()
namespace = cluster.namespace()
pod(cluster, namespace, job(cluster, namespace, "sleep", "1000"), ("Running",))
folder = cluster.machine.folder
print(folder.path, folder.run, folder.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("whose", ["session", "own"])
def test_a_killed_session_does_not_break_the_next(
    own_cluster: Make, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a session that was killed left behind is cleared away by the next that starts."""
    if why := available():
        pytest.skip(why)
    Cluster().must_be_owned()
    dead = subprocess.run(
        [sys.executable, "-c", SESSION, str(tmp_path), whose],
        cwd=ROOT / "tests",
        env={**os.environ, "XDG_CACHE_HOME": str(CACHE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    path, run, name = dead.stdout.split()
    folders = [Path(path), Path(run)]
    assert leftovers.processes(folders)
    monkeypatch.setattr(cluster_folder, "FOLDER", tmp_path)
    folder = cluster_folder.ClusterFolder.claim("cluster", private=False)
    assert (str(folder.path) == path) == (whose == "session")
    folder.release()
    kept = [folders[0]] if whose == "session" else []
    assert left(folders, name) == kept


# -- the wire -------------------------------------------------------------------------------------


def through(wire: KubeWire) -> tuple[Api, str]:
    """Words through the wire as an account that may list pods; and its namespace's path."""
    rules = [{"apiGroups": ["", "batch"], "resources": ["*"], "verbs": ["*"]}]
    api, namespace = as_account(wire.kubeconfig(rules))
    assert api.server.netloc == wire.address
    return api, namespace


def socket_to(wire: KubeWire) -> socket.socket:
    """A connection to the wire, on which nothing was said."""
    host, _, port = wire.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


@pytest.mark.tier("quick")
def test_a_wire_without_a_rule_changes_nothing(kube_wire: KubeWire) -> None:
    """Through the wire an account sees the same, and TLS is verified on both sides."""
    api, namespace = through(kube_wire)
    assert api.get(f"/api/v1/namespaces/{namespace}/pods")["kind"] == "PodList"
    assert kube_wire.requests[-1] == ("GET", f"/api/v1/namespaces/{namespace}/pods")


def test_kubectl_goes_through_the_wire(kube_wire: KubeWire) -> None:
    """A client that would like HTTP/2 is content with what the wire speaks."""
    path = kube_wire.kubeconfig()
    said = kube_wire.cluster.kubectl(f"--kubeconfig={path}", "get", "jobs")
    assert "No resources found" in said or said == ""
    assert kube_wire.count("GET", "/jobs")


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410, 429, 500, 503])
def test_an_answer_of_the_wire_is_one_of_an_apiserver(kube_wire: KubeWire, status: int) -> None:
    """The wire refuses in the apiserver's words, and nothing happens behind it."""
    api, namespace = through(kube_wire)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kube_wire.answer("POST", "/configmaps", status, "so it goes", headers={"Retry-After": "1"})
    with pytest.raises(ApiFailed, match="so it goes") as refused:
        api.create(path, {"metadata": {"name": "one"}})
    assert (refused.value.status, bool(refused.value.reason)) == (status, True)
    assert "one" not in [each["metadata"]["name"] for each in api.get(path)["items"]]
    api.create(path, {"metadata": {"name": "one"}})


def test_a_dropped_answer_is_of_a_request_that_was_carried_out(kube_wire: KubeWire) -> None:
    """The client hears nothing, though the object was made."""
    api, namespace = through(kube_wire)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kube_wire.drop_response("POST", "/configmaps")
    with pytest.raises((OSError, http.client.HTTPException)):
        api.create(path, {"metadata": {"name": "one"}})
    assert api.get(f"{path}/one")


def test_a_refused_request_is_not_carried_out(kube_wire: KubeWire) -> None:
    """The connection ends without an answer, and nothing happened."""
    api, namespace = through(kube_wire)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    kube_wire.refuse("POST", "/configmaps")
    with pytest.raises((OSError, http.client.HTTPException)):
        api.create(path, {"metadata": {"name": "one"}})
    with pytest.raises(ApiFailed, match="not found"):
        api.get(f"{path}/one")


def test_a_log_can_be_cut_in_the_middle(kube_wire: KubeWire) -> None:
    """After so many bytes of an answer the connection ends; the next one is whole."""
    api, namespace = through(kube_wire)
    cluster = kube_wire.cluster
    name = job(cluster, namespace, "sh", "-c", "seq 100000")
    assert ended(cluster, namespace, name)[0] == 0
    pods = f"/api/v1/namespaces/{namespace}/pods"
    path = f"{pods}/{api.get(pods)['items'][0]['metadata']['name']}/log"
    kube_wire.cut("GET", "/log", after=100_000)
    with pytest.raises(http.client.IncompleteRead):
        api.get(path)
    assert len(api.get(path).splitlines()) == 100_000


def test_a_stalled_answer_stays_away_and_then_goes_on(kube_wire: KubeWire) -> None:
    """Nothing comes and nothing ends until `clear`; then the rest comes."""
    api, namespace = through(kube_wire)
    kube_wire.stall("GET", "/pods", after=50)
    arrived, got = threading.Event(), []

    def ask() -> None:
        got.append(api.get(f"/api/v1/namespaces/{namespace}/pods"))
        arrived.set()

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: any(each.exchange.passed == 50 for each in tuple(kube_wire._connections)))
    assert not arrived.wait(0.5)
    kube_wire.clear()
    asking.join(30)
    assert got[0]["kind"] == "PodList"


def test_a_watch_can_be_told_that_it_is_too_late(kube_wire: KubeWire) -> None:
    """The only event of the watch is an error of the status 410; the next watch goes on."""
    api, namespace = through(kube_wire)
    kube_wire.error_event("watch=")
    path = f"/api/v1/namespaces/{namespace}/pods?watch=1&timeoutSeconds=1"
    event = api.get(path)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_wire_that_is_down_comes_up_at_the_same_address(kube_wire: KubeWire) -> None:
    """While it is down nobody answers, also none that only greeted it."""
    api, namespace = through(kube_wire)
    path = f"/api/v1/namespaces/{namespace}/pods"
    with socket_to(kube_wire) as silent:
        kube_wire.down()
        assert silent.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        api.get(path)
    kube_wire.up()
    assert api.get(path)


# -- what is there --------------------------------------------------------------------------------


def test_what_is_missing_is_said_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks programs, rights or the build is told what to do."""
    monkeypatch.setattr(clusters, "_USERS", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert "run the tests as root" in available()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(clusters, "has", lambda program: False)
    assert re.search(r"apt-get install runc .*busybox-static", available())
    monkeypatch.setattr(clusters, "missing", list)
    monkeypatch.setattr(go_build, "built", lambda modules: False)
    assert available().endswith("python3 tests/rigs/clusters.py")


def test_a_users_own_cluster_is_used_but_not_touched(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With QWEX_TEST_KUBECONFIG a cluster serves: nothing of it is killed, what was made goes."""
    users = str(cluster.admin_kubeconfig)
    monkeypatch.setattr(clusters, "_USERS", users)
    assert available() == ""
    with Cluster() as theirs:
        assert (theirs.owned, str(theirs.admin_kubeconfig)) == (Owned.USERS, users)
        assert theirs.address() == cluster.address()
        for act in (theirs.kill, theirs.freeze, theirs.restart):
            with pytest.raises(pytest.skip.Exception, match="the user's own"):
                act("apiserver")
        with pytest.raises(pytest.skip.Exception, match="the user's own"):
            theirs.image("busybox")
        api, namespace = as_account(theirs.kubeconfig())
        assert api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"] == []
        with KubeWire(theirs) as wire:
            api, _ = as_account(wire.kubeconfig(namespace=namespace))
            assert api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"] == []
    gone = cluster.api.get("/api/v1/namespaces")["items"]
    states = {each["metadata"]["name"]: each["status"]["phase"] for each in gone}
    assert states.get(namespace, "Terminating") == "Terminating"


def test_tests_with_a_cluster_can_be_left_out() -> None:
    """The marker is put on all tests with a cluster, and on no other."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__]
    done = subprocess.run(
        [*command, "-m", "not cluster"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "what_is_missing" in done.stdout
    assert "killed" not in done.stdout
    assert "wire" not in done.stdout
