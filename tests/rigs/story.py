"""Notebooks told in a real kernel, for the tests and for ``notebooks --save``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clusters import Cluster
from engines import Engine
from images import image
from kernel import ports

# The image by which notebook and README call it; in the tests one that was made on the spot.
PUBLIC = "python:3.12-slim"
# The tag of a cell after which the kernel is restarted, as a person would by the button.
RESTART = "restart-kernel"


class Client:
    """Runs a notebook's cells one after another.

    Args:
        notebook: What `nbformat` gives; its outputs are replaced.
        folder: The kernel's working folder.
    """

    def __init__(self, notebook: Any, folder: Path | str) -> None:
        from nbclient import NotebookClient
        from traitlets.config import Config

        resources = {"metadata": {"path": str(folder)}}
        config = Config(KernelManager=ports())
        self._client = NotebookClient(notebook, timeout=300, resources=resources, config=config)

    def run(self, env: Mapping[str, str]) -> None:
        """Runs them all.

        Args:
            env: The kernel's environment.

        Raises:
            nbclient.exceptions.CellExecutionError: A cell failed.
        """
        client = self._client
        client.reset_execution_trackers()
        with client.setup_kernel(env=dict(env)):
            assert client.kc is not None
            info = client.wait_for_reply(client.kc.kernel_info())
            client.nb.metadata["language_info"] = info["content"]["language_info"]
            for index, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, index)
                if RESTART in cell.metadata.get("tags", ()):
                    self._restart()

    def _restart(self) -> None:
        from jupyter_core.utils import run_sync

        client = self._client
        run_sync(client.km.restart_kernel)(now=True)
        run_sync(client.kc.wait_for_ready)(timeout=60)


@contextlib.contextmanager
def public_image(engine: Engine) -> Iterator[str]:
    """Empty while an engine has `PUBLIC`, else why it hasn't; nothing is ever pulled.

    An engine of the tests gets it under that name, and keeps it: others may be using it by then.
    In a user's own engine no name is touched.
    """
    import docker.errors

    with engine.client() as client:
        if engine.owned.ours:
            repository, _, tag = PUBLIC.rpartition(":")
            client.tag(image(engine, "python"), repository, tag)
        try:
            client.inspect_image(PUBLIC)
        except docker.errors.ImageNotFound:
            yield f"no image {PUBLIC} in the engine at {engine.host}: docker pull {PUBLIC}"
        else:
            yield ""


def public_image_on(cluster: Cluster) -> str:
    """`PUBLIC`, on the node of a cluster of the tests; a user's own one gets it by itself."""
    return cluster.image("python", PUBLIC) if cluster.owned.ours else PUBLIC
