"""DockerRunner: a run is a container of an engine, tracked through the engine's own API."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter import carry, facts
from qwex_jupyter.errors import BackendUnreachable, RunNotFound, RunStillLive, SpecError
from qwex_jupyter.logs import STREAMS, RunLog
from qwex_jupyter.patience import Patience
from qwex_jupyter.runners import (
    docker_body,
    docker_doctor,
    docker_launch,
    docker_pull,
    docker_state,
    inside,
)
from qwex_jupyter.runners.base import Plan, Promises, Runner
from qwex_jupyter.runners.docker_endpoint import Refused
from qwex_jupyter.runners.docker_engine import SLOW, Engine
from qwex_jupyter.runners.docker_logs import Reader
from qwex_jupyter.spec import JobSpec
from qwex_jupyter.status import Reason, RunStatus, Snapshot

# So many are asked about one by one; more by one list.
_FEW = 3
_RECONNECT = 1.0
# Within this time of a container's end its engine knows whether memory was behind it. Seconds.
_KNOWS_IN = 0.5
# Files that a container has and other machines don't.
_IN_CONTAINER = ("/.dockerenv", "/run/.containerenv")


class DockerRunner(Runner):
    """Runs are containers of one engine: Docker's, or Podman's Docker-compatible socket.

    Args:
        home: The history folder.
        history: Its id.
        context: A context of the docker client; "" for the one that is chosen (DOCKER_HOST,
            ``docker context use``), or the socket of this machine.
        patience: How long it waits for what.
    """

    name = "docker"
    promises = Promises(
        durable=True,
        raw_bytes=False,  # json-file keeps text: what isn't UTF-8 becomes U+FFFD
        separate_streams=True,
        holds_timeout=False,
        outlives_machine=True,
    )
    supports = frozenset(
        {
            "image", "cpus", "memory", "gpus", "shm-size", "user", "volume", "files", "here",
            "pull", "network", "context", "keep", "entrypoint", "read-only",
        }
    )  # fmt: skip
    place = frozenset({"context"})
    polled_every = 30.0

    def __init__(
        self,
        home: str,
        history: str,
        *,
        context: str = "",
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(home, history)
        self._context = context
        self._engine = Engine(context, patience=patience)
        self._reader = Reader(self._engine)
        # What never changes while a container runs: id and start. Asked for once.
        self._running: dict[str, tuple[str, float]] = {}
        self._asked: set[str] = set()
        # What was seen to have ended, until it is deleted: a container is never started again.
        # By its id, so what is deleted is what was looked at.
        self._ended: dict[str, str] = {}

    def check(self) -> None:
        """See `Runner.check`."""
        self._engine.check()

    def identity(self) -> str:
        """See `Runner.identity`."""
        return self._engine.identity()

    def clock(self) -> float:
        """See `Runner.clock`."""
        return self._engine.clock()

    def examine(self) -> Iterator[str]:
        """See `Runner.examine`."""
        return docker_doctor.examine(self._engine, self.history, self.folder)

    def close(self) -> None:
        """See `Runner.close`."""
        self._engine.close()

    def foreign(self, identity: str) -> tuple[Reason, str]:
        """See `Runner.foreign`."""
        message = (
            f"It runs in another engine ({identity.removeprefix('docker://')}) than "
            f"{self._engine.endpoint.host}, which answers now (by {self._engine.endpoint.why}): "
            "point DOCKER_HOST or docker context use at that one."
        )
        return Reason.BACKEND_UNREACHABLE, message

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """See `Runner.plan`: the body of the create call, see `docker_body.make_plan`."""
        self.refuse_unsupported(spec)
        copying = carry.shell_lines(spec, self.home, self.folder(run_id), docker_body.WORK_HERE)
        plan = docker_body.make_plan(spec, run_id, self.history, copying)
        paths = docker_body.binds(plan)
        if paths and _inside_container() and not self._engine.shares_files():
            raise SpecError(
                f"{'--here' if spec.here else '-v'}: this kernel lives in a container, and an "
                f"engine mounts {paths[0]} from its own machine, where it is something else or "
                "nothing: use --files for copies, or a volume, -v NAME:PATH."
            )
        return plan

    def show(self, plan: Plan) -> str:
        """See `Runner.show`: a ``docker run`` line."""
        return docker_body.run_line(plan)

    def submit(self, spec: JobSpec, run_id: str, folder: str, secrets: Mapping[str, str]) -> None:
        """See `Runner.submit`: with the image at hand the container runs when this returns."""
        if any(facts.exists(folder, name) for name in (facts.LAUNCH, facts.STOP, facts.LAUNCHER)):
            return
        plan = self.plan(spec, run_id)
        try:
            if plan["pull"] == "always":
                raise docker_launch.ImageMissing
            docker_launch.launch(self._engine, plan, folder, secrets, by="kernel")
        except docker_launch.ImageMissing:
            if plan["pull"] == "never":
                why = f"the engine doesn't have {spec.image}, and --pull=never forbids to get it"
                docker_launch.close(folder, Reason.IMAGE_NOT_FOUND, why)
            else:
                docker_pull.start(self._context, plan, folder, secrets)

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """See `Runner.poll`: one list, and a look at each that isn't known to run."""
        ids = list(run_ids)
        states = self._states() if len(ids) > _FEW else {}
        answers: dict[str, Snapshot | RunNotFound] = {}
        for run_id in ids:
            known = self._running.get(run_id)
            if known and states.get(run_id) == (known[0], "running"):
                answers[run_id] = self._goes_on(run_id, known)
            else:
                answers[run_id] = self._look(run_id)
        return answers

    def _states(self) -> dict[str, tuple[str, str]]:
        """Id and state of every container of this history, by run id."""
        label = f"{inside.HISTORY_LABEL}={self.history}"
        filters = json.dumps({"label": [label]})
        try:
            found = self._engine.ask("/containers/json", {"all": 1, "filters": filters})
        except Refused as error:
            raise BackendUnreachable(f"The engine lists no containers: {error}") from error
        return {
            container["Labels"][inside.RUN_LABEL]: (container["Id"], container["State"])
            for container in found
            if inside.RUN_LABEL in (container.get("Labels") or {})
        }

    def _goes_on(self, run_id: str, known: tuple[str, float]) -> Snapshot:
        uid, began = known
        now = self._engine.now()
        stop = facts.exists(self.folder(run_id), facts.STOP)
        return Snapshot(
            RunStatus.RUNNING,
            Reason.STOPPING if stop else Reason.NONE,
            docker_state.STOPPING if stop else "",
            started_at=began,
            observed_at=time.time(),
            uid=uid,
            evidence={"elapsed": max(0.0, now - began)},
        )

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        folder = self.folder(run_id)
        found = self._pulling(folder) or self._inspect(run_id)
        if found is None:
            self._running.pop(run_id, None)
            # Believed only of the engine that the run was given to, asked this moment.
            before = self._engine.identity()
            if self._engine.identity(fresh=True) != before:
                raise BackendUnreachable("Another engine answers than a moment ago.")
            return RunNotFound(
                f"the engine has no container qwex-{run_id} any more: somebody removed it"
            )
        if isinstance(found, Snapshot):
            return found
        stop = facts.asked(folder)
        if stop is None:
            found = self._when_known(found)
        code = int(found["State"].get("ExitCode") or 0)
        over = found["State"].get("Status") in docker_state.OVER
        # What an init returns when it can't execute the program: 127 or 126, and 1 where that
        # is for another processor (tini), or whatever it is (Podman's catatonit).
        may_be_init = code in (1, 126, 127)
        said = self._reader.first_words(run_id) if over and may_be_init else ""
        began = self._engine.started_at() if over else None
        told = None
        if over and docker_state.doubtful(found, began):
            told = docker_state.told_by(self._engine.events_of(found["Id"], since=began or 0.0))
        now = self._engine.now()
        snapshot = docker_state.snapshot(found, stop, now, began, said, told)
        snapshot = replace(snapshot, observed_at=time.time())
        if snapshot.end is None and snapshot.started_at is not None:
            self._running[run_id] = (snapshot.uid, snapshot.started_at)
        elif snapshot.end is not None:
            self._running.pop(run_id, None)
            self._asked.discard(run_id)
            if snapshot.started_at is not None:
                self._ended[run_id] = snapshot.uid
            digest = self._digest(str(found.get("Image", "")))
            snapshot = replace(snapshot, evidence={**snapshot.evidence, "image_digest": digest})
            if began and (snapshot.started_at or began) < began < (snapshot.finished_at or 0.0):
                # What a program wrote while its engine was down, the engine never got.
                snapshot = replace(snapshot, log_missing=dict.fromkeys(STREAMS, -1))
        return snapshot

    def _pulling(self, folder: str) -> Snapshot | None:
        """What the launcher says while it gets the image; None when it is past that."""
        if facts.exists(folder, facts.LAUNCH):
            return None
        launcher = facts.glance(folder, facts.LAUNCHER)
        told = launcher and facts.glance(folder, facts.PULL)
        if not told:
            return None
        return Snapshot(
            RunStatus.PENDING,
            Reason.PULLING,
            str(told["text"]),
            observed_at=float(told["at"]),
            progress=str(told["progress"]),
        )

    def _inspect(self, run_id: str) -> dict[str, Any] | None:
        """Our container of that name; one that isn't ours is none."""
        found = self._engine.inspect(f"qwex-{run_id}")
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        mine = labels.get(inside.HISTORY_LABEL) == self.history
        return found if mine and labels.get(inside.RUN_LABEL) == run_id else None

    def _when_known(self, found: dict[str, Any]) -> dict[str, Any]:
        """A container that has ended, as its engine has it when it knows why.

        That memory ran out and that the program ended come to a Docker engine one by one, in
        either order (daemon/monitor.go); Podman has both from one process.
        """
        while (
            not self._engine.podman
            and docker_state.may_lack_memory(found, self._engine.now(), _KNOWS_IN)
            and (again := self._engine.inspect(found["Id"])) is not None
        ):
            found = again
            time.sleep(_KNOWS_IN / 20)
        return found

    def _digest(self, image_id: str) -> str:
        try:
            digests = self._engine.image(image_id).get("RepoDigests") or []
        except BackendUnreachable:
            digests = []
        return str(digests[0]).rpartition("@")[2] if digests else image_id

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """See `Runner.watch`: one stream of events for all runs of this history."""
        try:
            self._engine.watch(
                f"{inside.HISTORY_LABEL}={self.history}",
                inside.RUN_LABEL,
                notify,
                stop,
                begun=lambda: self._tell_all(notify),
            )
        finally:
            stop.wait(_RECONNECT)

    def _tell_all(self, notify: Callable[[str], None]) -> None:
        """What happened before the stream began is found out by looking once."""
        for run_id in self._states():
            notify(run_id)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:
        """See `Runner.follow`."""

        def look() -> tuple[bool, bool]:
            if run_id in self._ended:
                return True, True
            found = self._look(run_id)
            if isinstance(found, RunNotFound):
                return False, facts.exists(self.folder(run_id), facts.LAUNCH)
            return found.started_at is not None, found.end is not None

        return self._reader.follow(run_id, log, stop, look)

    def cancel(self, run_id: str, grace: float, why: str, *, insist: bool = False) -> None:
        """See `Runner.cancel`: SIGTERM; after the grace, counted from ``stop.json``, SIGKILL."""
        stop = facts.asked(self.folder(run_id)) or {}
        over = self._engine.now() - float(stop.get("clock") or stop.get("at") or 0.0) >= grace
        if insist or over:
            docker_launch.signal(self._engine, f"qwex-{run_id}", "SIGKILL")
        elif run_id not in self._asked:
            # Once: many programs take a second SIGTERM for the end of the grace.
            docker_launch.signal(self._engine, f"qwex-{run_id}", "SIGTERM")
            self._asked.add(run_id)

    def delete(self, run_id: str) -> None:
        """See `Runner.delete`: never by force, so an engine refuses what lives."""
        handle = run_id.rpartition("-")[2]
        live = RunStillLive(f"{run_id} has not ended: %qwex cancel {handle}")
        uid = self._ended.pop(run_id, "")
        if not uid:
            found = self._inspect(run_id)
            if found is None:
                return
            if found["State"].get("Status") in docker_state.LIVE:
                raise live
            uid = str(found["Id"])
        try:
            self._engine.call("DELETE", f"/containers/{uid}", params={"v": 1}, timeout=SLOW)
        except Refused as error:
            if error.status == 404:
                return
            if "already in progress" in error.text and self._gone_soon(run_id):
                return
            again = self._inspect(run_id)
            if again is None:
                return
            if again["State"].get("Status") in docker_state.LIVE:
                raise live from error
            raise BackendUnreachable(f"The engine could not remove it: {error}") from error

    def _gone_soon(self, run_id: str) -> bool:
        """Waits for a removal that somebody else has begun; whether it came to its end."""
        until = time.monotonic() + self._engine.patience.answer
        while time.monotonic() < until:
            if self._inspect(run_id) is None:
                return True
            time.sleep(0.02)
        return False


def _inside_container() -> bool:
    """Whether this process has another file system than the engine of its machine."""
    return any(os.path.exists(path) for path in _IN_CONTAINER) or bool(
        os.environ.get("KUBERNETES_SERVICE_HOST")
    )
