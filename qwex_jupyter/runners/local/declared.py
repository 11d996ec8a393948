"""What the local runner says of itself."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Declaration, Promises, common

_NO_IMAGE = "because a process has no image"

DECLARED = Declaration(
    name="local",
    runner="qwex_jupyter.runners.local.runner:LocalRunner",
    uid_is="process id",
    promises=Promises(
        durable=True,
        raw_bytes=True,
        separate_streams=True,
        enforces_timeout=True,
        outlives_machine=False,
        writes_output=True,
        writes_outcome=True,
        starts_at_once=True,
        reads_local_paths=True,
        ends_with_server=True,
    ),
    options={
        **common("memory files here"),
        "image": "because a process of this machine has no image",
        "cpus": "because a process can't be held to a share of the CPUs without root",
        "gpus": "because a process sees all GPUs here; set -e CUDA_VISIBLE_DEVICES=...",
        "shm-size": "because a process shares this machine's /dev/shm",
        "user": "because a process runs as you",
        "volume": "because a process sees this machine's own paths",
        "keep": "because a process leaves nothing behind that could be kept",
        "entrypoint": _NO_IMAGE,
        "read-only": "because a process has this machine's own file system",
        "pull": _NO_IMAGE,
        "platform": _NO_IMAGE,
        "network": "because a process has this machine's own network",
        "context": "because a process runs on this machine",
        "namespace": "because a process of this machine is in no cluster",
        "service-account": "because a process runs as you",
        "pull-secret": _NO_IMAGE,
        "pod-patch": "because a process is no pod",
    },
)
