"""Awaited: the runs whose end a notebook has not been shown yet.

A kernel that dies leaves cards that say what was so then, and the next kernel can't reach them.
So each card of a run that lives has an empty file ``awaited/<notebook>/<run_id>`` in the history's
folder until its end was shown, and the notebook's next kernel tells what became of the runs
whose files are still there.
"""

from __future__ import annotations

import hashlib
import os

from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.model.record import is_run_id
from qwex_jupyter.system import files, frontend

_FOLDER = "awaited"


def add(home: str, run_id: str) -> None:
    """Notes that this notebook is to be shown how a run ends."""
    folder = _here(home)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(os.path.join(folder, run_id), files.MARK, 0o600))
    except OSError:
        pass  # a history that can't be written to: then nobody tells of it, as `qwex runs` does


def remove(home: str, run_id: str) -> None:
    """Notes that it was shown, or that nobody can be."""
    try:
        files.patient(os.unlink, os.path.join(_here(home), run_id))
    except OSError:
        pass  # it was never noted, or is already told


def listed(home: str) -> list[str]:
    """The runs whose end this notebook has not been shown yet, oldest first."""
    try:
        return sorted(name for name in os.listdir(_here(home)) if is_run_id(name))
    except OSError:
        return []


def sweep(home: str) -> None:
    """Removes what is noted of runs that were deleted, for all notebooks."""
    try:
        folders = list(os.scandir(os.path.join(home, _FOLDER)))
    except OSError:
        return
    for folder in folders:
        try:
            for name in os.listdir(folder.path):
                if not os.path.exists(RunFolder.of(home, name)):
                    files.patient(os.unlink, os.path.join(folder.path, name))
            files.patient(os.rmdir, folder.path)
        except OSError:
            continue  # some are still awaited, or another sweeps too


def _here(home: str) -> str:
    """The folder of this notebook, or of this kernel where no server names the notebook."""
    name = frontend.notebook() or frontend.session()
    return os.path.join(home, _FOLDER, hashlib.sha256(name.encode()).hexdigest()[:16])
