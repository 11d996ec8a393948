"""DockerRunner: a run is a container of an engine, tracked through the engine's own API."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.disk import carry
from qwex_jupyter.disk.folder import FAILED, LAUNCH, LAUNCHER, PULL, STOP, RunFolder
from qwex_jupyter.disk.logs import STREAMS, RunLog
from qwex_jupyter.errors import BackendUnreachable, RunNotFound, SpecError
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot
from qwex_jupyter.runners.base import Plan, Runner, still_live
from qwex_jupyter.runners.container import conventions, wording
from qwex_jupyter.runners.container.asking import ENV_FILE, failed
from qwex_jupyter.runners.container.conventions import context_words
from qwex_jupyter.runners.docker import body, disk, doctor, events, launch, puller, settings, state
from qwex_jupyter.runners.docker.declared import DECLARED
from qwex_jupyter.runners.docker.endpoint import Refused
from qwex_jupyter.runners.docker.engine import SLOW, Engine
from qwex_jupyter.runners.docker.finder import Finder
from qwex_jupyter.runners.docker.logs import Reader

# Up to this many runs are inspected one by one; above that, one list tells which still run.
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
        setting: Gives a setting as it is now; none is declared.
        patience: How long it waits for what.
    """

    declaration = DECLARED
    polled_every = 30.0

    def __init__(
        self,
        home: str,
        history: str,
        *,
        context: str = "",
        setting: Callable[[str], Any] | None = None,
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(home, history, setting=setting)
        self._context = context
        self._engine = Engine(context, patience=patience)
        self._finder = Finder(self._engine, history)
        self._reader = Reader(self._engine, self._finder.name)
        # What never changes while a container runs: id and start. Asked for once.
        self._running: dict[str, tuple[str, float]] = {}
        self._asked: set[str] = set()
        # What was seen to have ended, until it is deleted: a container is never started again.
        # By its id, so what is deleted is what was looked at.
        self._ended: dict[str, str] = {}
        self._doubts = disk.Doubts(self.folder)

    def check(self) -> None:
        self._engine.check()

    def identity(self) -> str:
        return self._engine.identity()

    def clock(self) -> float:
        return self._engine.clock()

    def examine(self) -> Iterator[str]:
        return doctor.examine(self._engine, self.history, self.folder)

    def close(self) -> None:
        self._engine.close()

    def foreign(self, identity: str) -> tuple[Reason, str]:
        return Reason.BACKEND_UNREACHABLE, (
            f"It runs in another engine ({identity.removeprefix('docker://')}) than "
            f"{self._engine.endpoint.shown}, which answers now (by {self._engine.endpoint.why}): "
            "point DOCKER_HOST or docker context use at that one."
        )

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        """The body of the create call: `body.make_plan` makes it."""
        self.refuse_unsupported(spec)
        copying = carry.shell_lines(spec, self.home, self.folder(run_id), body.WORK_HERE)
        plan = body.make_plan(spec, run_id, self.history, copying)
        paths = body.binds(plan)
        if paths and _inside_container() and not self._engine.shares_files():
            raise SpecError(
                f"{'--here' if spec.here else '-v'}: this kernel lives in a container, and an "
                f"engine mounts {paths[0]} from its own machine, where it is something else or "
                "nothing: use --files for copies, or a volume, -v NAME:PATH."
            )
        return plan

    def show(self, plan: Plan) -> str:
        """A ``docker run`` line."""
        return body.run_line(plan)

    def inherited(self, plan: Plan) -> dict[str, str]:
        """The proxies of the docker client's settings, as for ``docker run``."""
        given = {pair.partition("=")[0] for pair in plan["body"]["Env"]}
        found = settings.proxies(self._engine.endpoint.host)
        return {name: value for name, value in found.items() if name not in given}

    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        """With the image at hand the container runs when this returns."""
        if any(map(folder.has, (LAUNCH, STOP, LAUNCHER))):
            return
        try:
            if plan["pull"] == "always":
                raise launch.ImageMissing
            launch.launch(self._engine, plan, folder, secrets, by="kernel")
        except launch.ImageMissing:
            if plan["pull"] == "never":
                image = plan["body"]["Image"]
                why = f"the engine doesn't have {image}, and --pull=never forbids to get it"
                folder.close_launch(why, Reason.IMAGE_NOT_FOUND)
            else:
                puller.start(self._context, plan, folder, secrets)

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        """Costs one list, and a look at each run that isn't known to be running."""
        ids = list(run_ids)
        states = self._finder.states() if len(ids) > _FEW else {}
        answers: dict[str, Snapshot | RunNotFound] = {}
        for run_id in ids:
            known = self._running.get(run_id)
            runs = known is not None and states.get(run_id) == (known[0], "running")
            answers[run_id] = self._goes_on(run_id, known) if known and runs else self._look(run_id)
        return answers

    def _goes_on(self, run_id: str, known: tuple[str, float]) -> Snapshot:
        uid, began = known
        now = self._engine.now()
        stop = self.folder(run_id).has(STOP)
        return Snapshot(
            RunStatus.RUNNING,
            Reason.STOPPING if stop else Reason.NONE,
            state.STOPPING if stop else "",
            started_at=began,
            observed_at=time.time(),
            uid=uid,
            evidence={"elapsed": max(0.0, now - began)},
        )

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        asked = time.time()  # an answer is as old as its first question
        folder = self.folder(run_id)
        found = self._pulling(folder) or self._finder.container(run_id)
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
        stop = folder.stop()
        if stop is None:
            found = self._when_known(found)
        over = found["State"].get("Status") in state.OVER
        began = self._engine.started_at() if over else None
        told = None
        if over and state.doubtful(found, began):
            remembered = events.remembered(self._engine, found["Id"], since=began or 0.0)
            told = state.told_by(remembered)
        now = self._engine.now()
        snapshot = state.snapshot(found, stop, now, began, told)
        snapshot = replace(snapshot, observed_at=asked)
        if snapshot.end is None and snapshot.started_at is not None:
            self._running[run_id] = (snapshot.uid, snapshot.started_at)
        elif snapshot.end is not None:
            self._running.pop(run_id, None)
            self._asked.discard(run_id)
            if snapshot.started_at is not None:
                self._ended[run_id] = snapshot.uid
            digest = self._engine.digest(str(found.get("Image", "")))
            evidence = {**snapshot.evidence, "image_digest": digest}
            if which := self._failed(folder, found, snapshot):
                evidence["failed"] = which
            # What a program wrote while its engine was down, the engine never got.
            down = began and (snapshot.started_at or began) < began < (snapshot.finished_at or 0.0)
            if full := self._doubts.of(run_id):
                evidence["missing"] = disk.DROPPED
            missing = dict.fromkeys(STREAMS, -1) if down or full else {}
            snapshot = replace(snapshot, evidence=evidence, log_missing=missing)
        return snapshot

    def _failed(
        self, folder: RunFolder, found: Mapping[str, Any], seen: Snapshot
    ) -> dict[str, Any] | None:
        """Which command of a bash script failed, where bash was asked and has told it."""
        words = (found.get("Config") or {}).get("Cmd") or []
        ended = seen.end is not None and seen.end.failed_by_itself
        if not ended or not any(ENV_FILE in word for word in words):
            return None
        answer = self._engine.read(str(found["Id"]), f"{conventions.INSIDE}/{FAILED}")
        return failed(folder, answer)

    def _pulling(self, folder: RunFolder) -> Snapshot | None:
        """What the launcher says while it gets the image; None when it is past that."""
        if folder.has(LAUNCH):
            return None
        launcher = folder.glance(LAUNCHER)
        told = launcher and folder.glance(PULL)
        if not told:
            return None
        return Snapshot(
            RunStatus.PENDING,
            Reason.PULLING,
            str(told["text"]),
            observed_at=float(told["at"]),
            progress=str(told["progress"]),
        )

    @classmethod
    def by_hand(cls, record: RunRecord, spec: Mapping[str, Any]) -> str:
        """Follows the container's output, while there is a container."""
        if record.status.final and not spec.get("keep"):
            return ""
        return shlex.join(["docker", *context_words(spec), "logs", "-f", f"qwex-{record.run_id}"])

    def hear(self, answer: Snapshot, said: str, image: str) -> Snapshot:
        """Takes in what an init says of a program that it can't execute."""
        return wording.heard(answer, said, image)

    def _when_known(self, found: dict[str, Any]) -> dict[str, Any]:
        """A container that has ended, as its engine has it when it knows why.

        That memory ran out and that the program ended come to a Docker engine one by one, in
        either order (daemon/monitor.go); Podman has both from one process.
        """
        while (
            not self._engine.podman
            and state.may_lack_memory(found, self._engine.now(), _KNOWS_IN)
            and (again := self._engine.inspect(found["Id"])) is not None
        ):
            found = again
            time.sleep(_KNOWS_IN / 20)
        return found

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """Reads one stream of events for all runs of this history."""

        def begun() -> None:
            """What happened before the stream began is found out by looking once."""
            for run_id in self._finder.states():
                notify(run_id)

        try:
            events.watch(
                self._engine,
                f"{conventions.HISTORY_LABEL}={self.history}",
                conventions.RUN_LABEL,
                notify,
                stop,
                begun=begun,
                beside=lambda: self._doubts.look(self._engine.folder, [*self._running]),
            )
        finally:
            stop.wait(_RECONNECT)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:

        def look() -> tuple[bool, bool]:
            if run_id in self._ended:
                return True, True
            found = self._look(run_id)
            if isinstance(found, RunNotFound):
                return False, self.folder(run_id).has(LAUNCH)
            return found.started_at is not None, found.end is not None

        return self._reader.follow(run_id, log, stop, look)

    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        """Sends SIGTERM and, after the grace, which ``stop.json`` begins, SIGKILL."""
        stop = self.folder(run_id).stop() or {}
        over = self._engine.now() - float(stop.get("clock") or stop.get("at") or 0.0) >= grace
        if force or over:
            launch.signal(self._engine, self._finder.name(run_id), "SIGKILL")
        elif run_id not in self._asked:
            # Once: many programs take a second SIGTERM for the end of the grace.
            launch.signal(self._engine, self._finder.name(run_id), "SIGTERM")
            self._asked.add(run_id)

    def delete(self, run_id: str) -> None:
        """Never removes by force, so an engine refuses to remove what lives."""
        uid = self._ended.pop(run_id, "")
        if not uid:
            found = self._ended_or_none(run_id)
            if found is None:
                return
            uid = str(found["Id"])
        try:
            self._engine.call("DELETE", f"/containers/{uid}", params={"v": 1}, timeout=SLOW)
        except Refused as error:
            going = "already in progress" in error.text and self._gone_soon(run_id)
            if error.status == 404 or going or self._ended_or_none(run_id) is None:
                return
            raise BackendUnreachable(f"The engine could not remove it: {error}") from error

    def _ended_or_none(self, run_id: str) -> dict[str, Any] | None:
        """The container of a run that has ended; None where there is none.

        Raises:
            RunStillLive: It lives.
        """
        found = self._finder.container(run_id)
        if found is not None and found["State"].get("Status") in state.LIVE:
            raise still_live(run_id)
        return found

    def _gone_soon(self, run_id: str) -> bool:
        """Waits for a removal that somebody else has begun; whether it came to its end."""
        until = time.monotonic() + self._engine.patience.answer
        while time.monotonic() < until:
            if self._finder.container(run_id) is None:
                return True
            time.sleep(0.02)
        return False


def _inside_container() -> bool:
    """Whether this process has another file system than the engine of its machine."""
    return any(os.path.exists(path) for path in _IN_CONTAINER) or bool(
        os.environ.get("KUBERNETES_SERVICE_HOST")
    )
