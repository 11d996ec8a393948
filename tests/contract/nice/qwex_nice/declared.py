"""What the nice runner says of itself."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Declaration, Option, Promises, Setting, common

# Less than 0 is for root alone, and `nice` itself only warns where it isn't allowed.
LEVELS = tuple(map(str, range(20)))

DECLARED = Declaration(
    name="nice",
    runner="qwex_nice.runner:NiceRunner",
    promises=Promises(
        durable=True,
        raw_bytes=True,
        separate_streams=True,
        enforces_timeout=True,
        outlives_machine=False,
        reads_local_paths=True,
        ends_with_server=True,
    ),
    options={
        **common("here"),
        "niceness": Option("how much it gives way to others: 0 to 19", "N", choices=LEVELS),
        "image": "because a process of this machine has no image",
        "memory": "because nice holds no memory",
        "files": "because a process sees this machine's own files",
        "keep": "because it leaves nothing behind that the history doesn't have",
    },
    settings={"niceness": Setting("10", "The --niceness of a run that names none.", LEVELS)},
)
