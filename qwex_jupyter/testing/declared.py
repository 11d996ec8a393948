"""What the runner of the tests says of itself."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Declaration, Promises, common

DECLARED = Declaration(
    name="memory",
    runner="qwex_jupyter.testing.memory:MemoryRunner",
    promises=Promises(
        durable=False,
        raw_bytes=True,
        separate_streams=True,
        enforces_timeout=False,
        outlives_machine=False,
    ),
    options=common("image memory files keep"),
)
