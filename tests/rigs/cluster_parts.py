"""What a cluster of the tests is made of: the command line and the settings of each part."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_folder import ClusterFolder, free_network, make_cgroups
from go_build import program
from shared import free_port

PARTS = ("etcd", "containerd", "apiserver", "kubelet", "controller-manager", "scheduler")
# In its certificate is the address that it listens at; so its name is its address.
NODE = "127.0.0.1"
CNI = Path("/usr/lib/cni")  # where Debian puts its programs
PAUSE = "qwex-test/pause:1"
# What would send the traffic between the parts elsewhere, or make them trust others.
_UNWANTED = ("PROXY", "CA_BUNDLE", "SSL_CERT")
_CONTAINERD = """\
version = 3
root = "{data}/containerd"
state = "{run}/containerd"
[grpc]
address = "{run}/containerd.sock"
[ttrpc]
address = "{run}/containerd.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{data}/opt"
# Its socket has one place on a machine.
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "docker.io/{pause}"
[plugins."io.containerd.cri.v1.runtime"]
netns_mounts_under_state_dir = true
# Where the score of a process may not be lowered, no pod would start.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni}"]
conf_dir = "{etc}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{run}/runc"
"""


@dataclass(frozen=True)
class Options:
    """What may be different about a cluster.

    Attributes:
        kubelet: More for its KubeletConfiguration, like ``{"containerLogMaxSize": "1Mi"}``.
        flags: More for the command line of a part, like
            ``{"controller-manager": ["--node-monitor-grace-period=4s"]}``.
    """

    kubelet: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Plan:
    """Files and command lines of the parts of one cluster, which keep their ports for its life.

    Args:
        folder: What it works in.
        options: What is different about it.
        found: Token and ports of one that another process wrote; None: it is written now.

    Attributes:
        ports: Where the parts listen on loopback.
        server: The apiserver's URL.
        token: Of an administrator.
        ca_file: What signed the apiserver's certificate, once it has run.
    """

    def __init__(
        self, folder: ClusterFolder, options: Options, found: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.options = folder, options
        self.data, self.run, self.etc = folder.path / "data", folder.run, folder.path / "data/etc"
        self.ca_file = self.etc / "certs/apiserver.crt"
        if found is None:
            self.token = secrets.token_hex(16)
            self.ports = {name: free_port() for name in ("peer", *PARTS) if name != "containerd"}
            self._write()
        else:
            self.token, self.ports = found["token"], dict(found["ports"])
        self.server = f"https://127.0.0.1:{self.ports['apiserver']}"

    def command(self, part: str) -> list[str]:
        """How a part is started."""
        made: dict[str, list[str]] = {
            "etcd": self._etcd(),
            "containerd": [program("containerd"), "--config", f"{self.etc}/containerd.toml"],
            "apiserver": self._apiserver(),
            "kubelet": self._kubelet(),
            "controller-manager": self._controller_manager(),
            "scheduler": [
                program("kube-scheduler"),
                *self._client("scheduler"),
            ],
        }
        return [*made[part], *self.options.flags.get(part, ())]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder.path / "kubeconfig"

    @property
    def containerd(self) -> Path:
        """The socket of its containerd."""
        return self.run / "containerd.sock"

    def write_kubeconfig(self) -> None:
        """Writes the administrator's, as soon as the apiserver has its certificate."""
        content = kubeconfig(self.server, self.ca_file.read_text(), self.token)
        write_private(self.kubeconfig, content)

    # -- what they read ---------------------------------------------------------------------------

    def _write(self) -> None:
        for name in ("cni", "certs"):
            (self.etc / name).mkdir(parents=True)
        make_cgroups(self.folder.name)
        admin = f"{self.token},admin,admin,system:masters\n"
        write_private(self.etc / "tokens.csv", admin)
        key = ["openssl", "genrsa", "-out", f"{self.etc}/accounts.key", "2048"]
        subprocess.run(key, check=True, capture_output=True)
        containerd = _CONTAINERD.format(
            data=self.data,
            run=self.run,
            etc=self.etc,
            cni=CNI,
            pause=PAUSE,
            shim=program("containerd-shim-runc-v2"),
        )
        (self.etc / "containerd.toml").write_text(containerd)
        network = free_network()
        bridge = {
            "type": "bridge",
            "bridge": self.folder.name,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{self.data}/ipam",
                "ranges": [[{"subnet": f"{network}.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        _write_json(
            self.etc / "cni/10-bridge.conflist",
            {"cniVersion": "1.0.0", "name": self.folder.name, "plugins": [bridge]},
        )
        _write_json(self.etc / "kubelet.json", self._kubelet_settings())

    def _kubelet_settings(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self.ports["kubelet"],
            "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.containerd}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.folder.name}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "podLogsDir": f"{self.data}/pods",
            "volumePluginDir": f"{self.data}/plugins",
            "oomScoreAdj": 0,
            # Nobody answers there; without it each pod gets a warning.
            "clusterDNS": ["192.0.2.53"],
            "clusterDomain": "cluster.local",
            # The machine's disk may be as full as it likes.
            "evictionHard": {"nodefs.available": "1Mi", "memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            **self.options.kubelet,
        }

    # -- how they are started ---------------------------------------------------------------------

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        return [
            *(program("etcd"), "--data-dir", f"{self.data}/etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        ]

    def _apiserver(self) -> list[str]:
        key = f"{self.etc}/accounts.key"
        return [
            program("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.ports['apiserver']}",
            f"--cert-dir={self.etc}/certs",
            f"--token-auth-file={self.etc}/tokens.csv",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={self.server}",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--service-cluster-ip-range=198.51.100.0/24",
            # Names of nodes are only known to themselves.
            "--kubelet-preferred-address-types=InternalIP",
            # A loopback address is no endpoint, which it would repeat for ever.
            "--endpoint-reconciler-type=none",
            # They act on annotations of a namespace, and on nothing else.
            "--enable-admission-plugins=PodNodeSelector,PodTolerationRestriction",
        ]

    def _kubelet(self) -> list[str]:
        return [
            program("kubelet"),
            f"--kubeconfig={self.kubeconfig}",
            f"--config={self.etc}/kubelet.json",
            f"--hostname-override={NODE}",
            f"--root-dir={self.run}/kubelet",  # there are sockets in it
            f"--cert-dir={self.data}/kubelet-certs",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            program("kube-controller-manager"),
            f"--service-account-private-key-file={self.etc}/accounts.key",
            f"--root-ca-file={self.ca_file}",
            *self._client("controller-manager"),
        ]

    def _client(self, part: str) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",  # it is the only one, and needn't wait for a dead one's lease
            *("--bind-address=127.0.0.1", f"--secure-port={self.ports[part]}"),
            # Without that many a Job takes a fifth of a second, however many there are.
            *("--kube-api-qps=1000", "--kube-api-burst=2000"),
        ]


def kubeconfig(server: str, ca: str, token: str, namespace: str = "") -> str:
    """A kubeconfig with one context; as JSON, which is YAML."""
    context = {"cluster": "tests", "user": "tests"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [
                {
                    "name": "tests",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": base64.b64encode(ca.encode()).decode(),
                    },
                }
            ],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "tests",
                    "context": {**context, **({"namespace": namespace} if namespace else {})},
                }
            ],
        },
        indent=1,
    )


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for loopback, signed by itself, and its key; made in this folder."""
    made, key = folder / "loopback.crt", folder / "loopback.key"
    command = [
        *("openssl", "req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=loopback"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        *("-keyout", str(key), "-out", str(made)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def write_private(path: Path, content: str) -> None:
    """Writes a file that only this user may read, whole."""
    before = path.with_name(f".{path.name}.new")
    before.touch(0o600)
    before.write_text(content)
    os.replace(before, path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))


def environment() -> dict[str, str]:
    """What the parts, and kubectl, see of this process's environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.upper() for word in _UNWANTED) and name != "KUBECONFIG"
    }
    return {**kept, "PATH": f"{kept.get('PATH', os.defpath)}{os.pathsep}/usr/sbin:/sbin"}
