"""What repo2docker runs for Binder: the requirements, then the server through ``binder/start``."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from environment import ROOT
from shared import free_port

pytestmark = pytest.mark.once

BINDER = ROOT / "binder"
PATIENCE = 60.0


def test_the_requirements_can_be_installed() -> None:
    """``pip install -r binder/requirements.txt``, from the checkout as there, finds everything."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], check=False).returncode:
        pytest.skip("no pip in this environment: python -m ensurepip")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "-r", "binder/requirements.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_starts_jupyterlab_on_the_quickstart(tmp_path: Path) -> None:
    """``binder/start`` can be executed, and the server that it starts opens the first notebook."""
    pytest.importorskip("jupyterlab", reason="no jupyterlab: pip install jupyterlab")
    port = free_port()
    token = secrets.token_hex(8)
    flags = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root"]
    flags.append("--ServerApp.port_retries=0")  # another port is somebody else's
    server = [sys.executable, "-m", "jupyterlab", *flags, f"--IdentityProvider.token={token}"]
    places = {name: str(tmp_path) for name in ("HOME", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BINDER / "start"), *server],
            cwd=ROOT,
            env={**os.environ, **places, "JUPYTER_CONFIG_DIR": str(tmp_path / "config")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}/lab/tree/notebooks/01_quickstart.ipynb?token={token}"
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                    assert b"JupyterLab" in answer.read()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < until, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?token={token}") as answer:
            assert answer.url.split("?")[0].endswith("/lab/tree/notebooks/01_quickstart.ipynb")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


def test_the_notebook_that_opens_needs_no_engine() -> None:
    """What Binder opens runs with the local runner alone: no image, no cluster."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not [source for source in code if "--image" in source or "--runner" in source]
    assert json.loads(nbformat.writes(notebook))["cells"]
