"""LocalRunner: a run is a process of this machine, with a supervisor that outlives the kernel."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from qwex_jupyter.disk import carry
from qwex_jupyter.disk.facts import Fact
from qwex_jupyter.disk.folder import BASH_ENV, FAILED, LAUNCH, OPEN, RUN, SPEC, RunFolder
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.errors import RunNotFound, SpecError, SubmitFailed
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.argv import free_mark, is_python, script_argv, script_text, shell_line
from qwex_jupyter.runners.base import Plan, Runner, still_live
from qwex_jupyter.runners.local import limits
from qwex_jupyter.runners.local.client import Broken, Server
from qwex_jupyter.runners.local.declared import DECLARED
from qwex_jupyter.runners.local.pipes import message
from qwex_jupyter.system import files, frontend, process
from qwex_jupyter.system.paths import whole_path

# How often the folders of runs that live are looked at. Seconds.
_LOOK = 0.1
# What bash tells fits into a file of that size. Bytes.
_ROOM = 1 << 16
# What a kernel sets for itself and no program of the user's is meant to see.
_KERNEL_ONLY = ("JPY_", "QWEX_RUN_ID")


class LocalRunner(Runner):
    """Runs are processes of this machine.

    Args:
        home: The history folder.
        history: Its id.
        python: What ``python`` and ``python3`` mean as a command; "" for what PATH says, None
            for a kernel's own, where this process is one.
        portable: Keeps away from /proc and pidfd, as on macOS; for tests.
        setting: Gives a setting as it is now; none is declared.
    """

    declaration = DECLARED

    def __init__(
        self,
        home: str,
        history: str,
        *,
        python: str | None = None,
        portable: bool = False,
        setting: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(home, history, setting=setting)
        self._python = frontend.kernel_python() if python is None else python
        self._portable = portable
        self._server: Server | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        process.check_processes()

    def identity(self) -> str:
        """Host, machine and pid namespace."""
        here = process.place()
        return f"local://{here['host']}/{here['machine']}/{here['pidns']}"

    def foreign(self, identity: str) -> tuple[Reason, str]:
        host = identity.removeprefix("local://").split("/")[0]
        return Reason.HOST_UNREACHABLE, (
            f"It runs on {host}, or in another container there, and can't be looked into from "
            "here; a cancel is obeyed where the home is shared."
        )

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        process.check_processes()
        self.refuse_unsupported(spec)
        folder = self.folder(run_id)
        if spec.has_own_folder:
            cwd = folder.work
            copying = carry.shell_lines(spec, self.home, folder, shlex.quote(cwd))
        else:
            cwd = whole_path(spec.workdir or ".", spec.cwd)
            copying = []
            if not os.path.isdir(cwd):
                raise SpecError(
                    f"workdir={spec.workdir or cwd!r} isn't a folder of this machine: "
                    "create it, or name one that is there."
                )
        path = os.path.join(folder, spec.script_name)
        argv = script_argv(spec, path, _default_interpreter)
        env = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
        if "PYTHONUNBUFFERED" in os.environ:
            del env["PYTHONUNBUFFERED"]
        if is_python(spec):
            # A script file puts its own folder first on sys.path; people mean the folder
            # they work in.
            paths = [cwd, *filter(None, [os.environ.get("PYTHONPATH")])]
            env["PYTHONPATH"] = os.pathsep.join(paths)
        if argv[0] in ("python", "python3") and self._python:
            argv[0] = self._python
        return {
            "argv": argv,
            "cwd": cwd,
            "env": {**env, **spec.env, **dict.fromkeys(spec.secrets)},
            "script": None if spec.script is None else script_text(spec),
            "path": path,
            "copying": copying,
            "files": spec.has_own_folder,
            "env_files": list(spec.env_files),
            "umask": process.umask(),
            "limits": limits.here(),
        }

    def show(self, plan: Plan) -> str:
        """A line for a shell, before it the copies and the script that it needs."""
        added = [
            f"# to be added to env, with the values they have here: {path}"
            for path in plan["env_files"]
        ]
        line = shell_line(plan["argv"], plan["env"], plan["cwd"])
        line = "\n".join([*added, *plan["copying"], line])
        if plan["script"] is None:
            return line
        path = plan["path"]
        text = plan["script"] if plan["script"].endswith("\n") else plan["script"] + "\n"
        folder = shell_line(["mkdir", "-p", os.path.dirname(path)], {}, None)
        mark = free_mark(text)
        return f"{folder}\ncat > {shlex.quote(path)} <<'{mark}'\n{text}{mark}\n{line}"

    def inherited(self, plan: Plan) -> dict[str, str]:
        """The environment that ``%%bash`` would give, less what the kernel set for itself."""
        env = {name: value for name, value in _environment().items() if name not in plan["env"]}
        if not _names(env.get("PWD"), plan["cwd"]):
            env.pop("PWD", None)
        return env

    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        if plan["files"]:
            try:
                carry.unpack(folder)
            except OSError as error:
                raise SubmitFailed(
                    f"The copies of --files can't be written in {folder}: {error.strerror}. "
                    "Nothing was started. Free some room, or set QWEX_HOME to another disk."
                ) from error
        given = {name: value for name, value in plan["env"].items() if value is not None}
        has, env = plan["limits"], {**given, **secrets}
        request = {
            "folder": folder.path,
            "argv": plan["argv"],
            "env": {**env, **_asking_bash(plan, env, folder)},
            "cwd": plan["cwd"],
            "umask": plan["umask"],
            "has": has,
            "portable": self._portable,
        }
        whole = message(json.dumps(request).encode())
        with self._lock:
            try:
                self._ready_server(has).send(whole)
            except Broken:
                # It was killed a moment ago. Should it have handed the request on all the
                # same, then of the two supervisors one links launch.json.
                self._ready_server(has).send(whole)

    def _ready_server(self, has: limits.Limits) -> Server:
        if self._server is None or not self._server.usable(has):
            self._server = Server()
            if not self._server.fits(has):
                raise SubmitFailed(
                    "Since the run was prepared, the limits of this process were lowered (ulimit, "
                    "nice), and no child of it can have those again. Prepare it anew."
                )
        return self._server

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        return {run_id: self._look(run_id) for run_id in run_ids}

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """Looks at the folder of open runs: a run that ended has left it."""
        open_before: dict[str, bool] = {}
        while not stop.is_set():
            try:
                names = os.listdir(os.path.join(self.home, OPEN))
            except FileNotFoundError:
                names = []
            # By run, whether it was launched.
            open_now = {
                run_id: open_before.get(run_id) or self.folder(run_id).has(LAUNCH)
                for run_id in names
            }
            for run_id in open_now.keys() | open_before.keys():
                if open_now.get(run_id) != open_before.get(run_id):
                    notify(run_id)
            open_before = open_now
            stop.wait(_LOOK)

    def follow(self, run_id: str, log: RunLog, stop: threading.Event) -> bool:
        """Waits: the supervisor's scribe writes the files itself."""
        while not self._is_over(run_id):
            if stop.wait(_LOOK):
                return self._is_over(run_id)
        return True

    def _is_over(self, run_id: str) -> bool:
        found = self._look(run_id)
        return isinstance(found, RunNotFound) or found.end is not None

    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        """Wakes the supervisor, or does its work where it was killed."""
        folder = self.folder(run_id)
        launch = folder.read(LAUNCH)
        if launch is None or "closed" in launch or folder.has(RUN):
            return
        standing = process.standing(launch)
        if standing == process.ALIVE:
            process.send(launch, signal.SIGUSR1)
        if standing != process.GONE:
            return  # on another machine the supervisor finds stop.json by itself
        stop = folder.stop() or {}
        over = time.time() - float(stop.get("at", 0)) > grace
        kill = force or over
        # SIGCONT, or what stands still never hears of it.
        for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGCONT):
            for member in _members(launch, run_id):
                process.send(member, number)

    def delete(self, run_id: str) -> None:
        """Frees nothing: only the folder is left of a run that has ended."""
        found = self._look(run_id)
        if isinstance(found, Snapshot) and not found.status.final:
            raise still_live(run_id)

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        folder = self.folder(run_id)
        if not folder.has(SPEC):
            return RunNotFound(f"{run_id}: there is no such run in {self.home}")
        ended = self._ended(run_id)
        launch = None if ended else folder.read(LAUNCH)
        if ended is not None:
            return ended
        now = time.time()
        if launch is None:
            if not os.path.isdir(folder):  # deleted since the first look
                return RunNotFound(f"{run_id}: there is no such run in {self.home}")
            return Snapshot(RunStatus.PENDING, Reason.STARTING, observed_at=now)
        if "closed" in launch:
            end = End(reason=Reason.NEVER_STARTED, detail=str(launch["closed"]))
            return Snapshot(RunStatus.LOST, end=end, observed_at=now, finished_at=now)
        running = Snapshot(
            RunStatus.RUNNING,
            started_at=float(launch["at"]),
            observed_at=now,
            uid=str(launch["leader"]["pid"]),
        )
        standing = process.standing(launch)
        if standing == process.ALIVE:
            return running
        if standing == process.ELSEWHERE:
            return replace(
                running,
                reason=Reason.HOST_UNREACHABLE,
                message=f"It runs on {launch['host']}, which can't be looked into from here.",
            )
        if process.rebooted(launch):
            return _gone(
                running, Reason.BACKEND_RESTARTED, "this machine was restarted while it ran"
            )
        if _members(launch, run_id):
            return replace(
                running,
                reason=Reason.SUPERVISOR_GONE,
                message="Its supervisor was killed: it goes on, its exit code will not be known.",
            )
        # The supervisor may have linked its record and left since the first look.
        return self._ended(run_id) or _gone(
            running, Reason.VANISHED, "its supervisor was killed, and its processes are gone"
        )

    def _ended(self, run_id: str) -> Snapshot | None:
        value = self.folder(run_id).read(RUN)
        if value is None:
            return None
        record = RunRecord.from_json(value)
        return Snapshot(
            record.status,
            Reason(record.reason),
            record.message,
            end=End(exit_code=record.exit_code),
            started_at=record.started_at,
            finished_at=record.finished_at,
            observed_at=record.observed_at,
            uid=record.uid,
            log_missing=record.log_missing,
        )


def _asking_bash(plan: Plan, env: Mapping[str, str], folder: RunFolder) -> dict[str, str]:
    """The variables that have bash tell which command of a script fails; {} where it isn't bash."""
    argv, script = plan["argv"], plan["script"]
    words = argv[: argv.index(plan["path"])] if script is not None else []
    largest = plan["limits"]["limits"].get("RLIMIT_FSIZE", [-1])[0]
    taken = os.path.basename(plan["path"]) in (BASH_ENV, FAILED)
    if taken or not bash.can_tell(words, script) or 0 <= largest < _ROOM:
        return {}
    file = os.path.join(folder, BASH_ENV)
    variables = bash.variables(env, words, file)
    if variables:
        text = bash.env_file(os.path.join(folder, FAILED), script)
        try:
            with open(os.open(file, files.NEW, 0o600), "w") as opened:
                opened.write(text)
        except OSError:
            return {}  # no room: then its end alone is told
    return variables


def _members(launch: Fact, run_id: str) -> list[process.Identity]:
    return process.members(launch["leader"], f"QWEX_RUN_ID={run_id}", launch["pid"])


def _default_interpreter() -> list[str]:
    return ["bash", "-eo", "pipefail"] if shutil.which("bash") else ["sh", "-e"]


def _environment() -> dict[str, str]:
    """What ``%%bash`` gets, less what the kernel set for itself."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_KERNEL_ONLY)}
    if env.get("MPLBACKEND", "").startswith("module://"):
        del env["MPLBACKEND"]
    return env


def _names(folder: str | None, cwd: str) -> bool:
    """Whether this is a name of the working folder, as a shell looks before it believes PWD."""
    try:
        return bool(folder) and os.path.isabs(str(folder)) and os.path.samefile(str(folder), cwd)
    except OSError:
        return False


def _gone(snapshot: Snapshot, reason: Reason, detail: str) -> Snapshot:
    end = End(reason=reason, detail=detail)
    return replace(snapshot, status=RunStatus.LOST, end=end, finished_at=None)
