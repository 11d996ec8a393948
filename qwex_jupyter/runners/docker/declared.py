"""What the Docker runner says of itself."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Declaration, Option, Promises, common
from qwex_jupyter.runners.container.options import CONTEXT, ENTRYPOINT, PULL, READ_ONLY

DECLARED = Declaration(
    name="docker",
    runner="qwex_jupyter.runners.docker.runner:DockerRunner",
    uid_is="container id",
    promises=Promises(
        durable=True,
        raw_bytes=False,  # json-file keeps text: what isn't UTF-8 becomes U+FFFD
        separate_streams=True,
        enforces_timeout=False,
        outlives_machine=True,
    ),
    options={
        **common("image cpus memory gpus shm-size user volume files here keep"),
        "pull": PULL,
        "platform": Option(
            "for which processor the image is: linux/arm64",
            "OS/ARCH",
            more="else `DOCKER_DEFAULT_PLATFORM`, else the engine's own",
        ),
        "network": Option(
            "the network it joins", "NAME", more="`none`, `host`, or one of the engine's"
        ),
        "context": CONTEXT,
        "entrypoint": ENTRYPOINT,
        "read-only": READ_ONLY,
        "namespace": "because an engine has no namespaces",
        "service-account": "because a container has no service account",
        "pull-secret": "because the engine pulls with the login of docker login",
        "pod-patch": "because a container is no pod",
    },
    target_options=frozenset({"context"}),
)
