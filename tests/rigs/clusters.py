"""Real Kubernetes clusters for the tests, with one node each.

Each is an etcd, an apiserver, a controller-manager, a scheduler, a kubelet and a containerd, in a
folder of its own under ``.clusters`` of this checkout and on ports of its own. It begins empty.
One session at a time has such a folder, and whoever takes one over first clears away what is left
of the session before, as with the engines.

``python3 tests/rigs/clusters.py`` builds what it is made of and says whether one can be started;
``python3 tests/rigs/clusters.py run`` starts one and keeps it until it is interrupted.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent))
import go_build
import images
from cluster_api import PATIENCE, Api
from cluster_kwok import Kwok
from cluster_machine import ClusterFailed, Machine
from cluster_parts import CNI, NODE, PARTS, Options, environment, kubeconfig, write_private
from engines import has
from shared import Owned, note

# As the machine was when the tests began; a test takes these variables away.
_USERS = os.environ.get("QWEX_TEST_KUBECONFIG", "")
DEBIAN = {
    "runc": "runc",
    "ip": "iproute2",
    "openssl": "openssl",
    "busybox": "busybox-static",
}
# What the documents ask for.
MINIMAL_RULES: Sequence[Mapping[str, Sequence[str]]] = (
    {
        "apiGroups": ["batch"],
        "resources": ["jobs"],
        "verbs": ["create", "get", "list", "watch", "delete", "patch"],
    },
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "list", "watch", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["resourcequotas", "limitranges"], "verbs": ["list"]},
)


def missing() -> list[str]:
    """The Debian packages that this machine lacks."""
    found = [package for program, package in DEBIAN.items() if not has(program)]
    return found if (CNI / "bridge").exists() else [*found, "containernetworking-plugins"]


def available() -> str:
    """Empty where a cluster can be had; else one line: why not, and what to do."""
    if _USERS:
        return "" if Path(_USERS).exists() else f"QWEX_TEST_KUBECONFIG: no such file {_USERS}"
    if not sys.platform.startswith("linux"):
        return "needs Linux: a node of Kubernetes is one"
    if os.geteuid() != 0:
        return (
            "no Kubernetes here: only root may start one, run the tests as root, or set "
            "QWEX_TEST_KUBECONFIG to the kubeconfig of one of your own"
        )
    if packages := missing():
        return f"no Kubernetes for the tests: apt-get install {' '.join(packages)}"
    if not go_build.built(go_build.KUBERNETES):
        return "the Kubernetes of the tests isn't built: python3 tests/rigs/clusters.py"
    return ""


class Cluster:
    """A cluster that can be started and stopped, and whose parts can be killed and frozen.

    The parts are ``etcd``, ``containerd``, ``apiserver``, ``kubelet``, ``controller-manager`` and
    ``scheduler``.

    Args:
        private: In a folder that goes when it stops.
        kubelet: More for its KubeletConfiguration, like ``{"containerLogMaxSize": "1Mi"}``.
        flags: More for the command line of a part, like
            ``{"controller-manager": ["--node-monitor-grace-period=4s"]}``.

    Attributes:
        owned: Whose it is. Only of one that is ours alone parts are killed; a user's own
            (``QWEX_TEST_KUBECONFIG``) has no images of the tests.
        admin_kubeconfig: The path of a kubeconfig that may do everything.
        server: The URL of its apiserver.
        node: The name of its node; empty for a user's own.
        api: Words with its apiserver as an administrator.
    """

    def __init__(
        self,
        *,
        private: bool = False,
        kubelet: Mapping[str, Any] | None = None,
        flags: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.private = private
        self.owned = Owned.USERS if _USERS else Owned.ALONE
        self.node = NODE if self.owned.ours else ""
        self.options = Options(
            dict(kubelet or {}), {name: tuple(more) for name, more in (flags or {}).items()}
        )
        assert set(self.options.flags) <= set(PARTS), flags
        self.admin_kubeconfig = Path(_USERS)
        self._machine: Machine | None = None
        self._proxy: subprocess.Popen[str] | None = None
        self._api: Api | None = None
        self._loaded: set[str] = set()
        self._namespaces: list[str] = []
        self._files = ""

    @classmethod
    def shared(cls) -> Self | None:
        """The cluster that was handed down; None: none was.

        Raises:
            ClusterFailed: It did not come up where it was started.
        """
        found = note("cluster")
        if found is None:
            return None
        if "failed" in found:
            raise ClusterFailed(found["failed"])
        cluster = cls()
        cluster.owned = Owned.SHARED
        cluster._machine = Machine(cluster.options, private=False, found=found)
        cluster._loaded.update(found["images"])
        return cluster

    def handed_down(self) -> dict[str, Any]:
        """What `shared` needs in another process."""
        return {**self.machine.handed_down(), "images": sorted(self._loaded)}

    @property
    def machine(self) -> Machine:
        """Its parts."""
        assert self._machine is not None, "it wasn't started, or isn't ours"
        return self._machine

    @property
    def folder(self) -> Path:
        """Where its data and the logs of its parts are."""
        return self.machine.folder.path

    @property
    def api(self) -> Api:
        """Words with its apiserver, as an administrator."""
        assert self._api is not None, "it wasn't started"
        return self._api

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts it, or what of it doesn't run or is frozen, and waits until its node is ready.

        Raises:
            ClusterFailed: It doesn't come up.
        """
        try:
            if self.owned is Owned.USERS:
                self._join()
            else:
                if self._machine is None:
                    self._machine = Machine(self.options, private=self.private)
                if self.owned is Owned.ALONE:
                    self._machine.start()
                plan = self._machine.plan
                self.admin_kubeconfig = plan.kubeconfig
                self._api = Api(plan.server, plan.ca_file.read_text(), plan.token)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends it with everything in it; no process and no mount of it remains."""
        if self.owned is Owned.ALONE and self._machine is not None:
            machine, self._machine = self._machine, None
            machine.release()
            self._loaded.clear()
            self._namespaces.clear()
        elif self._api is not None:
            self.remove_namespaces()
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.communicate()
            self._proxy = None
        self._api = None
        if self._files:
            shutil.rmtree(self._files, ignore_errors=True)
            self._files = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _join(self) -> None:
        if self._proxy is not None:
            return
        # It knows all the ways to prove who one is.
        self._proxy = subprocess.Popen(
            [*self._kubectl(), "proxy", "--port=0"],
            env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._proxy.stdout is not None
        said = self._proxy.stdout.readline()
        if " on " not in said:
            raise ClusterFailed(f"kubectl proxy says nothing for {_USERS}")
        self._api = Api(f"http://{said.rpartition(' on ')[2].strip()}")
        if not self._api.ok("/version"):
            raise ClusterFailed(f"the cluster of QWEX_TEST_KUBECONFIG ({_USERS}) doesn't answer")

    # -- its parts --------------------------------------------------------------------------------

    def pid(self, part: str) -> int:
        """The process of a part; 0 while it isn't running."""
        return self.machine.pid(part)

    def kill(self, part: str) -> None:
        """SIGKILL for this part alone; containers go on as it left them."""
        self.must_be_owned()
        assert self.pid(part), f"{part} isn't running"
        self.machine.end(part, signal.SIGKILL)

    def terminate(self, part: str) -> None:
        """Ends a part as the system would (SIGTERM)."""
        self.must_be_owned()
        self.machine.end(part, signal.SIGTERM)

    def restart(self, part: str) -> None:
        """Ends a part unless it has ended, starts it again, and waits until it works."""
        self.terminate(part)
        self.machine.begin(part)
        self.machine.wait(part)

    def freeze(self, part: str) -> None:
        """Stops the process of a part: what is asked of it waits."""
        self.must_be_owned()
        os.kill(self.pid(part), signal.SIGSTOP)
        while not self.machine.frozen(part):  # its threads follow one by one
            time.sleep(0.001)

    def thaw(self, part: str) -> None:
        """Lets a frozen one go on."""
        self.must_be_owned()
        self.machine.thaw(part)

    def kwok(self, nodes: int = 10, seconds: float | None = 0) -> Kwok:
        """Adds played nodes for thousands of Jobs; see ``cluster_kwok.Kwok``."""
        self.must_be_owned()
        return Kwok(self, nodes, seconds)

    def log(self, part: str, lines: int = 20) -> str:
        """The last lines of what a part itself said."""
        words = self.machine.log(part).read_text(errors="replace").splitlines()
        return "\n".join(words[-lines:])

    def must_be_owned(self) -> None:
        """Skips the test where the cluster isn't ours; one that others use is an error."""
        assert self.owned is not Owned.SHARED, "others use it: take own_cluster"
        self.must_be_ours()

    def must_be_ours(self) -> None:
        """Skips the test where the cluster is the user's own."""
        if self.owned is Owned.USERS:
            import pytest

            pytest.skip(f"the cluster of {_USERS} is the user's own: unset QWEX_TEST_KUBECONFIG")

    # -- what is in it ----------------------------------------------------------------------------

    def image(self, recipe: str, name: str = "") -> str:
        """The name of an image of ``images.RECIPES``; on its node.

        Args:
            recipe: Which one.
            name: Empty for ``qwex-test/<recipe>:1``.
        """
        name = name or f"qwex-test/{recipe}:1"
        if name not in self._loaded:
            self.load_image(name, images.archive(recipe, name, architecture=images.ARCHITECTURE))
        return name

    def load_image(self, name: str, archive: bytes) -> None:
        """Puts an image onto its node; no pod has to pull it.

        Args:
            name: What pods call it.
            archive: As ``docker save``, ``images.archive`` or ``images.packed`` make it.
        """
        self.must_be_ours()
        self.machine.load(archive)
        self._loaded.add(name)

    def kubectl(self, *words: str, given: str = "", check: bool = True) -> str:
        """What kubectl says, as an administrator.

        Args:
            words: Its arguments.
            given: Its standard input.
            check: Whether a failure of it is an error.

        Raises:
            RuntimeError: It failed; says what it said.
        """
        done = subprocess.run(
            [*self._kubectl(), *words], input=given, capture_output=True, text=True,
            env=environment(), check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout + (done.stderr if done.returncode else "")

    def _kubectl(self) -> list[str]:
        return [go_build.program("kubectl"), f"--kubeconfig={self.admin_kubeconfig}"]

    def namespace(
        self,
        labels: Mapping[str, str] | None = None,
        name: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """A fresh namespace, ready for pods.

        Args:
            labels: Like ``{"pod-security.kubernetes.io/enforce": "restricted"}``.
            name: Empty for one that nobody has.
            annotations: Of the namespace.
        """
        metadata = {
            "labels": {"qwex-test": "", **(labels or {})},
            "annotations": dict(annotations or {}),
            **({"name": name} if name else {"generateName": "qwex-test-"}),
        }
        made = self.api.create("/api/v1/namespaces", {"metadata": metadata})["metadata"]["name"]
        self._namespaces.append(made)
        # Without it no pod is accepted.
        self.api.wait(f"/api/v1/namespaces/{made}/serviceaccounts/default", bool)
        return str(made)

    def remove_namespaces(self) -> None:
        """Removes the namespaces that were made, without waiting for the end of their pods."""
        while self._namespaces:
            at = f"/api/v1/namespaces/{self._namespaces.pop()}"
            self.api.delete(at)
            # The namespace's end would give each pod its grace.
            self.api.delete(f"{at}/pods", gracePeriodSeconds=0)

    def kubeconfig(
        self,
        rules: str | Sequence[Mapping[str, Any]] = MINIMAL_RULES,
        namespace: str = "",
        *,
        seconds: int = 36000,
        address: tuple[str, str] | None = None,
    ) -> Path:
        """A kubeconfig for a namespace, with the token of an account that has one Role there.

        Args:
            rules: Those of the Role, or the YAML of a Role; what it names as its namespace
                doesn't count.
            namespace: Where; a fresh one by default.
            seconds: How long the token is valid, 600 at least.
            address: Instead of the apiserver's own: a URL, and what signed the certificate there.
        """
        if isinstance(rules, str):
            import yaml

            rules = yaml.safe_load(rules)["rules"]
        namespace = namespace or self.namespace()
        name = f"tests-{uuid.uuid4().hex[:8]}"
        token = self.token(name, rules, namespace, seconds)
        if not self._files:
            # Where it goes even if nobody stops the cluster.
            parent = self.machine.folder.run if self.owned.ours else "/tmp"
            self._files = tempfile.mkdtemp(prefix="kube-", dir=parent)
        path = Path(self._files, name)
        server, ca = address or self.address()
        write_private(path, kubeconfig(server, ca, token, namespace))
        return path

    def token(
        self, name: str, rules: Sequence[Mapping[str, Any]], namespace: str, seconds: int
    ) -> str:
        """A token of a new account that has a Role of these rules in this namespace."""
        core = f"/api/v1/namespaces/{namespace}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        metadata = {"metadata": {"name": name}}
        account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.api.create(f"{core}/serviceaccounts", metadata)
        self.api.create(f"{rbac}/roles", {**metadata, "rules": list(rules)})
        self.api.create(
            f"{rbac}/rolebindings", {**metadata, "subjects": [account], "roleRef": role}
        )
        self._wait_for_right(account, rules)
        wanted = {"spec": {"expirationSeconds": seconds}}
        made = self.api.create(f"{core}/serviceaccounts/{name}/token", wanted)
        return str(made["status"]["token"])

    def _wait_for_right(
        self, account: Mapping[str, str], rules: Sequence[Mapping[str, Any]]
    ) -> None:
        """Waits until the apiserver goes by a Role: its authorizer hears of one a moment later."""
        given = next((rule for rule in rules if rule.get("resources")), None)
        if given is None:
            return
        resource, _, part = given["resources"][0].partition("/")
        asked = {
            "namespace": account["namespace"],
            "group": given["apiGroups"][0],
            "resource": resource,
            "subresource": part,
            "verb": given["verbs"][0],
            "name": next(iter(given.get("resourceNames", ())), ""),
        }
        who = f"system:serviceaccount:{account['namespace']}:{account['name']}"
        review = {"spec": {"user": who, "resourceAttributes": asked}}
        until = time.monotonic() + PATIENCE
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        while not self.api.create(path, review)["status"]["allowed"]:
            if time.monotonic() > until:
                raise ClusterFailed(f"{who} may not {asked['verb']} {resource}, as its Role says")
            time.sleep(0.02)

    def address(self) -> tuple[str, str]:
        """The URL of its apiserver, and what signed its certificate, as PEM."""
        if self._machine is not None:
            return self._machine.plan.server, self._machine.plan.ca_file.read_text()
        view = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        found = json.loads(view)["clusters"][0]["cluster"]
        ca = base64.b64decode(found.get("certificate-authority-data", "")).decode()
        return str(found["server"]), ca


def build() -> None:
    """Builds once what a cluster is made of, as ``go_build.build`` says."""
    go_build.build(go_build.KUBERNETES)


def _run() -> None:
    """Starts a cluster with a namespace and an account of the minimal Role, until interrupted."""
    with Cluster() as cluster:
        namespace = cluster.namespace(name="qwex")
        for recipe in images.RECIPES:
            print(f"image: {cluster.image(recipe)}", flush=True)
        minimal = cluster.folder / "minimal.kubeconfig"
        shutil.copy(cluster.kubeconfig(namespace=namespace, seconds=10**8), minimal)
        print(f"kubectl: {go_build.program('kubectl')}")
        print(f"administrator: {cluster.admin_kubeconfig}")
        print(f"minimal Role in the namespace {namespace}: {minimal}")
        print(f"SIGINT or SIGTERM to {os.getpid()} ends it", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        while True:
            signal.pause()


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        if why := available():
            sys.exit(why)
        _run()
    build()
    print(f"cluster: {available() or 'can be started'}")
