"""The pulling launcher: a process of its own that gets an image and then starts the run.

An engine drops a download about a second after the client that asked for it is gone, so a
kernel that dies would take the run's image with it. This process outlives the kernel, tells
how far the download is (``pull.json``), gives up when the run is to stop, and then starts the
container by the same `launch` as the kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from qwex_jupyter import _version
from qwex_jupyter.disk.folder import LAUNCH, RUN, STOP, RunFolder
from qwex_jupyter.errors import BackendUnreachable, QwexError, SubmitFailed
from qwex_jupyter.model.status import End, Reason
from qwex_jupyter.model.text import without_secrets
from qwex_jupyter.model.units import say_bytes
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container.retry import tries
from qwex_jupyter.runners.docker import launch, state
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import Engine
from qwex_jupyter.system.flag import Flag

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from qwex_jupyter.runners.docker.puller import main; main()"
)
_READY = b"+"
# What has it outlive its kernel on Windows; elsewhere that is a session of its own. The console
# that nobody sees is for the interpreter which a virtual environment's one starts: without, Windows
# would open a window for that.
_APART = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(
    subprocess, "CREATE_NEW_PROCESS_GROUP", 0
)
# How often it looks whether the run is still wanted, and how often it tells how far it is.
_LOOK_EVERY, _TELL_EVERY, _TELL_ANYWAY = 0.25, 0.5, 30.0
_TRIES, _PAUSE = 3, 2.0
# An engine's words for a layer that is in place, and for one whose bytes are all here.
_THERE = {"Pull complete", "Already exists"}
_DOWNLOADED = {"Download complete", "Verifying Checksum", "Extracting", *_THERE}


def start(context: str, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
    """Starts the launcher; returns when it has taken the run over.

    Args:
        context: The context of the docker client; "" for the one that is chosen.
        plan: What to run.
        folder: The run's folder.
        secrets: The values that stand in no file; they go through a pipe.

    Raises:
        SubmitFailed: It could not be started.
    """
    request = {"context": context, "plan": plan, "folder": folder.path, "secrets": dict(secrets)}
    root = os.path.dirname(os.path.dirname(os.path.abspath(_version.__file__)))
    # "" is the current folder, which isn't that of the launcher, and may be gone.
    paths = [*filter(None, sys.path), root]
    command = [
        sys.executable,
        "-c",
        _BOOT,
        json.dumps(paths),
        "qwex-pull",
        folder.run_id,
    ]
    try:
        launcher = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            creationflags=_APART,
        )
        assert launcher.stdin is not None and launcher.stdout is not None
        with launcher.stdin, launcher.stdout:
            launcher.stdin.write(json.dumps(request).encode())
            launcher.stdin.close()
            ready = launcher.stdout.read(1)
    except OSError as error:
        raise SubmitFailed(
            f"The process that gets the image could not be started: {error.strerror}. Nothing runs."
        ) from error
    # Waited for, or it would stay as a zombie of the kernel.
    threading.Thread(target=launcher.wait, name="qwex-pull", daemon=True).start()
    if ready != _READY:
        raise SubmitFailed("The process that gets the image ended at once. Nothing was started.")


def main() -> None:
    """Reads one request from stdin and carries it out."""
    request = json.loads(sys.stdin.buffer.read())
    folder = RunFolder(request["folder"])
    if not folder.claim_pull():
        return
    tell(folder, "Getting the image ready.")
    os.write(1, _READY)
    os.close(1)
    try:
        _get_and_launch(request, folder)
    except Exception as error:  # noqa: BLE001 - nobody else can say why the run didn't start
        folder.close_launch(f"its launcher failed: {error}", Reason.NEVER_STARTED)


def _get_and_launch(request: dict[str, Any], folder: RunFolder) -> None:
    plan = request["plan"]
    image = plan["body"]["Image"]
    engine = Engine(request["context"])
    pull = _Pull(engine, image, plan["platform"])
    threading.Thread(target=pull.run, daemon=True).start()
    told = 0.0
    text = ""
    while not pull.done.wait(_LOOK_EVERY):
        if _over(folder):
            # This process ends, and with it the download.
            os._exit(0)
        now = time.monotonic()
        if now - told > (_TELL_EVERY if pull.text() != text else _TELL_ANYWAY):
            told, text = now, pull.text()
            tell(folder, text, pull.share())
    if pull.failed is not None:
        reason, why = pull.failed
        folder.close_launch(why, reason)
        return
    tell(folder, f"{image} is here; starting.")
    try:
        launch.launch(engine, plan, folder, request["secrets"], by="launcher")
    except launch.ImageMissing:
        why = f"{image} was pulled, and the engine doesn't have it"
        folder.close_launch(why, Reason.IMAGE_NOT_FOUND)
    except SubmitFailed as error:
        folder.finish(End(reason=Reason.UNSCHEDULABLE, detail=str(error).rstrip(".")))


def _over(folder: RunFolder) -> bool:
    """Whether the run is not wanted any more."""
    said = any(map(folder.has, (STOP, RUN, LAUNCH)))
    return said or not os.path.isdir(folder)


def tell(folder: RunFolder, text: str, progress: str = "") -> None:
    """Writes down how far it is; for people, nothing depends on it."""
    try:
        folder.note_pull(text, progress)
    except OSError:
        pass  # no room, or the run was deleted


class _Pull:
    """One download, and how far it is.

    Args:
        engine: Where.
        image: What.
        platform: For which system and processor; "" for the engine's own.
    """

    def __init__(self, engine: Engine, image: str, platform: str) -> None:
        self._engine, self._image, self._platform = engine, image, platform
        self._layers: dict[str, tuple[str, int, int]] = {}
        self.done = Flag()
        self.failed: tuple[Reason, str] | None = None

    def run(self) -> None:
        """Pulls; a cut connection is tried again."""
        try:
            for _ in tries(_PAUSE, most=_TRIES):
                self.failed = self._once()
                if self.failed is None or self.failed[0] is not Reason.IMAGE_PULL_FAILED:
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, the image didn't come
            why = without_secrets(f"{type(error).__name__}: {error}")
            self.failed = Reason.IMAGE_PULL_FAILED, f"{self._image} could not be pulled: {why}"
        finally:
            self.done.set()

    def _once(self) -> tuple[Reason, str] | None:
        try:
            for line in self._engine.pull(self._image, self._platform):
                if "error" in line:
                    return state.failed_pull(str(line["error"]), self._image)
                self._note(line)
        except Refused as error:
            return state.failed_pull(error.text, self._image)
        except BackendUnreachable as error:
            return state.failed_pull(str(error), self._image)
        except QwexError as error:
            return Reason.IMAGE_PULL_FAILED, str(error).rstrip(".")
        return None

    def _note(self, line: Mapping[str, Any]) -> None:
        layer, status = line.get("id"), str(line.get("status", ""))
        if not layer or status.startswith("Pulling from"):
            return
        detail = line.get("progressDetail") or {}
        _, have, size = self._layers.get(layer, ("", 0, 0))
        if status == "Downloading":
            have, size = int(detail.get("current") or have), int(detail.get("total") or size)
        elif status in _DOWNLOADED:
            have = size
        # A new table each time: the other thread reads it.
        self._layers = {**self._layers, layer: (status, have, size)}

    def text(self) -> str:
        """One sentence: layers, and bytes, of how many where every layer's size is known."""
        layers = self._layers.values()
        done = sum(status in _THERE for status, _, _ in layers)
        have, size = self._bytes()
        text = f"Pulling {self._image}"
        if layers:
            text += f": {done} of {len(layers)} layers"
        if size:
            text += f", {say_bytes(have)} of {say_bytes(size)}"
        elif have:
            text += f", {say_bytes(have)} so far"
        return f"{text}."

    def share(self) -> str:
        """How much of the bytes is here, like ``42%``; "" until every layer's size is known."""
        have, size = self._bytes()
        return f"{100 * have // size}%" if size else ""

    def _bytes(self) -> tuple[int, int]:
        """How many are here, and of how many; 0 while an engine hasn't told that of each layer."""
        layers = self._layers.values()
        told = all(size or status in _DOWNLOADED for status, _, size in layers)
        have, size = sum(have for _, have, _ in layers), sum(size for _, _, size in layers)
        return have, size if told else 0
