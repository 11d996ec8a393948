"""What the Kubernetes runner says of itself."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Declaration, Option, Promises, Setting, common
from qwex_jupyter.runners.container.options import CONTEXT, ENTRYPOINT, PULL, READ_ONLY

DECLARED = Declaration(
    name="k8s",
    runner="qwex_jupyter.runners.k8s.runner:K8sRunner",
    uid_is="Job uid",
    promises=Promises(
        durable=True,
        raw_bytes=True,
        separate_streams=False,  # they are where the cluster gives each by itself
        enforces_timeout=True,
        outlives_machine=True,
        keeps_output=False,  # a kubelet gives the newest 10 MiB, unless somebody follows
        can_force=False,  # the grace is the pod's own
        time_resolution=1.0,
        asks_before_cancel=True,
    ),
    options={
        **common("image cpus memory gpus shm-size user volume files keep"),
        "here": "because this folder isn't on the cluster's nodes; mount one with -v pvc/NAME:PATH",
        "pull": PULL,
        "platform": (
            "because a node has its own kind: choose one with --pod-patch 'nodeSelector: "
            "{kubernetes.io/arch: arm64}'"
        ),
        "network": "because a pod has its cluster's network",
        "context": CONTEXT,
        "entrypoint": ENTRYPOINT,
        "read-only": READ_ONLY,
        "namespace": Option("the namespace it runs in", "NAME", more="without it the context's"),
        "service-account": Option(
            "the service account of its pod", "NAME", more="its token is mounted only with this"
        ),
        "pull-secret": Option("the Secret with the login of the image's registry", "NAME"),
        "pod-patch": Option(
            "merged into its pod",
            "YAML",
            more="or the path of a file with it; see [kubernetes.md](kubernetes.md)",
        ),
    },
    target_options=frozenset({"context", "namespace"}),
    settings={
        "gpu_resource": Setting(
            "nvidia.com/gpu", "What a GPU is called on the cluster; for --gpus."
        ),
        "pod_security": Setting(
            "baseline",
            "restricted for namespaces that enforce that level of Pod Security.",
            choices=("baseline", "restricted"),
        ),
        "job_ttl": Setting(
            "1h",
            "How long a Job stays on the cluster after its outcome and output are here.",
            is_time=True,
        ),
    },
)
