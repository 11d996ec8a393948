"""From a plan to a container that runs: the one way, for a kernel and for the pulling launcher.

Create, fill, look whether it is still wanted, say that it is being started (``launch.json``),
start. Create is idempotent by the container's name; start is not, so it is called once and
never again: where its answer was lost, only looking decides.
"""

from __future__ import annotations

import copy
import secrets as random
from collections.abc import Mapping
from typing import Any

from qwex_jupyter.disk.folder import LAUNCH, RUN, STOP, RunFolder
from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable, SubmitFailed
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container import conventions
from qwex_jupyter.runners.container.conventions import given
from qwex_jupyter.runners.container.retry import tries
from qwex_jupyter.runners.container.times import moment
from qwex_jupyter.runners.docker import state
from qwex_jupyter.runners.docker.body import archive, binds
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import SLOW, Engine

# Tries for what may be repeated, and the pause between them. Seconds.
_TRIES, _PAUSE = 4, 0.3
_FILL = 3600.0
# Turned away, by the engine or by a proxy in front of it; of the last two it isn't known whether
# the engine has carried it out.
_AWAY, _PERHAPS = {429, 503}, {502, 504}
# Engines without an init binary: the run goes without, its pid 1 then ignores SIGTERM unless it
# asked for it.
_NO_INIT = ("docker-init", "container-init binary", "catatonit", "init path")
# Warnings of a create call by which a limit was silently dropped.
_DROPPED = ("discarded", "does not support")
_HARMLESS = ("swap",)


# What kernels call processors, and images don't.
_ALIASES = {"x86_64": "amd64", "aarch64": "arm64"}


class ImageMissing(Exception):
    """The engine doesn't have the image."""


def launch(
    engine: Engine, plan: Plan, folder: RunFolder, secrets: Mapping[str, str], *, by: str
) -> None:
    """Creates, fills and starts the container of a run.

    Args:
        engine: Where.
        plan: What; see `body.make_plan`.
        folder: The run's folder.
        secrets: The values that stand in no file.
        by: ``kernel`` or ``launcher``, for ``launch.json``.

    Raises:
        ImageMissing: The engine doesn't have it.
        SubmitFailed: It was not created, and never will be.
    """
    launcher = _Launch(engine, plan, folder, secrets)
    if not launcher.create():
        return  # somebody else does it
    try:
        launcher.fill()
    except (Refused, BackendUnreachable, RunnerUnavailable) as error:
        launcher.take_away()
        raise SubmitFailed(f"The cell could not be put into the container: {error}") from error
    if folder.has(STOP) or folder.has(RUN):
        launcher.take_away()
        return  # whoever looks next closes the launch
    # A container of this machine ends with it, and tells of itself after a loss of power; one of
    # another goes on, and nobody may take it for never started then.
    if folder.claim_launch(by, sync=not engine.endpoint.path):
        launcher.start()
    elif "closed" in (folder.glance(LAUNCH) or {}):
        launcher.take_away()


class _Launch:
    def __init__(
        self, engine: Engine, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]
    ) -> None:
        self._engine, self._plan, self._folder = engine, plan, folder
        self._secrets = secrets
        self._name: str = plan["name"]
        self._id = ""
        self._nonce = random.token_hex(8)
        self._init = True

    def create(self) -> bool:
        """Makes the container; False when somebody else made, or makes, one of that name."""
        if self._engine.podman and not self._is_for(self._plan["platform"]):
            raise ImageMissing  # its create call takes any image by that name (seen with 4.3)
        body = self._body()
        trouble: Exception | None = None
        for _ in tries(_PAUSE, most=_TRIES):
            try:
                answer = self._engine.call(
                    "POST",
                    "/containers/create",
                    params=given({"name": self._name, "platform": self._plan["platform"]}),
                    body=body,
                    timeout=SLOW,
                )
            except Refused as error:
                found = self._look()
                if found is not None:
                    return self._adopt(found)
                if error.status in {409} | _AWAY | _PERHAPS:
                    # With 409 the name is taken by one that is being made this moment, perhaps by
                    # a try of ours whose answer was lost.
                    trouble = error
                    continue
                if error.status == 404 or "no such image" in error.text.lower():
                    raise ImageMissing(error.text) from error
                if self._without_init(error.text):
                    body = self._body()
                    continue
                raise SubmitFailed(_refused_create(error.text, self._plan)) from error
            except BackendUnreachable as error:
                # It may have been made all the same: the name tells, at the next try at the latest.
                trouble = error
                found = self._look()
                if found is not None:
                    return self._adopt(found)
                continue
            said = answer.json()
            self._id = said["Id"]
            self._refuse_dropped(said.get("Warnings") or [])
            self._refuse_without_gpus()
            return True
        if isinstance(trouble, Refused) and trouble.status == 409:
            return False
        raise SubmitFailed(f"The container could not be made: {trouble} Nothing was started.")

    def _adopt(self, found: Mapping[str, Any]) -> bool:
        """Whether a container of our name was made by this launch; then it is gone on with.

        Raises:
            SubmitFailed: It is no run of this history: it is left as it is.
        """
        if any(
            _label(found, name) != self._plan["body"]["Labels"][name]
            for name in (conventions.RUN_LABEL, conventions.HISTORY_LABEL)
        ):
            raise SubmitFailed(
                f"The engine has a container {self._name} that isn't of this run, and it was left "
                f"as it is. Run it again for a new name, or look: docker inspect {self._name}"
            )
        if _label(found, conventions.NONCE_LABEL) != self._nonce:
            return False
        self._id = str(found["Id"])
        return True

    def _body(self) -> dict[str, Any]:
        """The body of the create call, with what a plan doesn't hold."""
        body: dict[str, Any] = copy.deepcopy({**self._plan["body"], **self._plan["asking"]})
        body["Labels"][conventions.NONCE_LABEL] = self._nonce
        if not self._init:
            del body["HostConfig"]["Init"]
        given = {pair.partition("=")[0] for pair in body["Env"]} - {"HOME", "USER", "LOGNAME"}
        body["Env"] += [f"{name}={value}" for name, value in self._secrets.items()]
        if self._plan["python"] and "PYTHONPATH" in given - set(self._secrets):
            image = self._engine.image(body["Image"]).get("Config") or {}
            for pair in image.get("Env") or []:
                if pair.startswith("PYTHONPATH=") and "PYTHONPATH=." in body["Env"]:
                    body["Env"].remove("PYTHONPATH=.")
                    body["Env"].append(f"PYTHONPATH=.:{pair.partition('=')[2]}")
        if self._plan["here"]:
            self._as_me(body)
        return body

    def _is_for(self, platform: str) -> bool:
        """Whether the engine's image of that name is for a platform, or there is none."""
        found = self._engine.image(self._plan["body"]["Image"]) if platform else {}
        parts = {_ALIASES.get(part, part) for part in platform.split("/")[:2]}
        return not found or parts <= {found.get("Os"), found.get("Architecture")}

    def _as_me(self, body: dict[str, Any]) -> None:
        """Files in a shared folder are to belong to the user, also where ids are mapped."""
        options = " ".join(self._engine.info().get("SecurityOptions") or [])
        if "rootless" in options:
            body["User"] = "0:0"  # which is the user, outside
        elif "name=userns" in options:
            body["HostConfig"]["UsernsMode"] = "host"

    def _look(self) -> dict[str, Any] | None:
        for _ in tries(_PAUSE, most=_TRIES):
            try:
                return self._engine.inspect(self._name)
            except BackendUnreachable as error:
                trouble = error
        raise SubmitFailed(f"It isn't known whether the container was made: {trouble}") from trouble

    def _without_init(self, text: str) -> bool:
        if self._init and any(word in text for word in _NO_INIT):
            self._init = False
            return True
        return False

    def _refuse_dropped(self, warnings: list[str]) -> None:
        for warning in warnings:
            text = warning.lower()
            dropped = any(word in text for word in _DROPPED)
            if dropped and not all(word in text for word in _HARMLESS):
                self.take_away()
                raise SubmitFailed(
                    f"This engine can't keep a limit that was asked for: {warning.rstrip('.')}. "
                    "Leave that option out, or use another engine. Nothing was started."
                )

    def _refuse_without_gpus(self) -> None:
        """Podman forgets the request for GPUs without a word (seen with 4.3)."""
        if not (self._engine.podman and self._plan["body"]["HostConfig"].get("DeviceRequests")):
            return
        found = self._look() or {}
        if not (found.get("HostConfig") or {}).get("DeviceRequests"):
            self.take_away()
            raise SubmitFailed(
                "This Podman gives no GPUs through its Docker-compatible socket: leave --gpus out, "
                "or use Docker's own engine. Nothing was started."
            )

    def fill(self) -> None:
        """Puts script, carried files and home into the container."""
        if not self._plan["archive"]["inside"]:
            return
        with archive(self._plan, self._folder) as data:
            for _ in tries(_PAUSE, most=_TRIES):
                data.seek(0)
                try:
                    self._engine.call(
                        "PUT",
                        f"/containers/{self._id}/archive",
                        params={"path": conventions.INSIDE},
                        data=data,
                        timeout=_FILL,
                    )
                    return
                except (BackendUnreachable, Refused) as error:
                    # What was cut in the middle is put there once more, in the same places.
                    if isinstance(error, Refused) and error.status not in _AWAY | _PERHAPS:
                        raise
                    trouble: Exception = error
            raise trouble

    def start(self) -> None:
        """The one call that can start the program, and what follows from its answer."""
        for _ in tries(_PAUSE, most=_TRIES):
            try:
                self._engine.call("POST", f"/containers/{self._id}/start", timeout=SLOW)
            except Refused as error:
                if error.status in _AWAY and not self._started():
                    continue  # it was turned away before anything was done
                if error.status in _AWAY | _PERHAPS:
                    break  # it may run, or not: whoever looks sees it
                if self._without_init(error.text) and self._again_without_init():
                    continue
                self._refused(error.text)
            except (BackendUnreachable, RunnerUnavailable):
                pass  # it may run, or not: whoever looks sees it
            break
        # A stop that came between the two was told "it is being started": it holds now.
        stop = self._folder.stop()
        if stop is not None:
            signal(self._engine, self._id, "SIGTERM")

    def _started(self) -> bool:
        """Whether it has run, or that isn't known."""
        try:
            found = self._engine.inspect(self._id)
        except (BackendUnreachable, RunnerUnavailable):
            return True
        return found is None or moment(found["State"].get("StartedAt", "")) is not None

    def _again_without_init(self) -> bool:
        """Makes the container anew after the engine said that it has no init."""
        self.take_away()
        if self._look() is not None or not self.create():
            return False
        self.fill()
        return True

    def _refused(self, text: str) -> None:
        """The engine could not start it: that is how the run ended, if it stands in no state.

        Docker keeps the cause in the container's state; Podman keeps nothing of it.
        """
        found = self._engine.inspect(self._id)
        if found is not None and moment(found["State"].get("StartedAt", "")):
            return
        if found is not None and not found["State"].get("Error") and not self._engine.podman:
            return  # said by something in between: the engine itself knows nothing of a start
        about = found or {"Config": self._plan["body"]}
        end = state.refused_start(text, state.program(about), state.image(about))
        self._folder.finish(end)

    def take_away(self) -> None:
        """Removes a container that was not started; one that runs is refused by the engine."""
        try:
            self._engine.call("DELETE", f"/containers/{self._id}", params={"v": 1}, timeout=SLOW)
        except (Refused, BackendUnreachable, RunnerUnavailable):
            pass  # whoever settles the run does it


def signal(engine: Engine, name: str, number: str) -> None:
    """Sends a signal to a container; one that doesn't run gets none.

    Raises:
        BackendUnreachable: The engine doesn't answer.
    """
    try:
        engine.call("POST", f"/containers/{name}/kill", params={"signal": number})
    except Refused as error:
        if "paused" not in error.text:
            return  # it doesn't run, or not any more
        try:
            engine.call("POST", f"/containers/{name}/unpause")
            engine.call("POST", f"/containers/{name}/kill", params={"signal": number})
        except Refused:
            pass  # it went on, or ended, meanwhile; the next look tries again


def _label(found: Mapping[str, Any], name: str) -> str:
    return str(((found.get("Config") or {}).get("Labels") or {}).get(name, ""))


def _refused_create(text: str, plan: Plan) -> str:
    """A create that the engine refused, as cause and next step."""
    lower = text.lower()
    if "bind source path does not exist" in lower or "no such file or directory" in lower:
        paths = ", ".join(binds(plan)) or "a mount"
        return (
            f"The engine's machine has no such path ({paths}): {' '.join(text.split())}. -v takes "
            "paths of the machine where the engine runs; --files carries copies anywhere."
        )
    if "no such network" in lower or ("network" in lower and "not found" in lower):
        name = plan["body"]["HostConfig"].get("NetworkMode")
        return f"There is no network {name!r} in this engine: docker network ls lists them."
    if "memory" in lower or "cpu" in lower:
        return f"The engine can't give that: {' '.join(text.split())}. Ask for another amount."
    return f"The engine refused the container: {' '.join(text.split())}. Nothing was started."
