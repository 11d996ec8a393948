"""NiceRunner: a run is a process under ``nice``, with a keeper and a folder in a spool."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from qwex_jupyter.disk.folder import STREAMS, RunFolder
from qwex_jupyter.disk.logs import Lease, RunLog
from qwex_jupyter.errors import RunnerUnavailable, RunNotFound, SpecError, SubmitFailed
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, Reason, RunStatus, Snapshot
from qwex_jupyter.runners.argv import free_mark, script_argv, script_text, shell_line
from qwex_jupyter.runners.base import Plan, Runner, still_live
from qwex_nice import keeper
from qwex_nice.declared import DECLARED

_PATIENCE = 30.0  # seconds for an interpreter to start
_PAUSE = 0.1
_PIECE = 1 << 20


class NiceRunner(Runner):
    """Runs are processes of this machine that give way to others.

    Args:
        home: The history folder.
        history: Its id.
        spool: Where the folders of the runs are; None for the user's own.
        setting: Gives the setting ``niceness`` as it is now.
    """

    declaration = DECLARED
    polled_every = 0.5

    def __init__(
        self,
        home: str,
        history: str,
        *,
        spool: str | None = None,
        setting: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(home, history, setting=setting)
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        self._spool = Path(spool or os.path.join(state, "qwex-nice")).absolute()
        self._folders = self._spool / history
        self._leases: dict[str, Lease] = {}

    def check(self) -> None:
        if shutil.which("nice") is None:
            raise RunnerUnavailable("There is no program `nice` in PATH: install coreutils.")
        try:
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RunnerUnavailable(
                f"The spool {self._spool} can't be made: {error.strerror}. "
                "Set XDG_STATE_HOME to a folder that can be written."
            ) from error

    def identity(self) -> str:
        return f"nice://{os.uname().nodename}{self._folders}"

    @classmethod
    def by_hand(cls, record: RunRecord, spec: Mapping[str, Any]) -> str:
        folders = record.identity.removeprefix("nice://").partition("/")[2]
        path = f"/{folders}/qwex-{record.run_id}/stdout"
        return "" if record.status.final else f"tail -F {shlex.quote(path)}"

    def plan(self, spec: JobSpec, run_id: str) -> Plan:
        self.refuse_unsupported(spec)
        niceness = spec.options.get("niceness") or str(self.setting("niceness"))
        cwd = os.path.normpath(os.path.join(spec.cwd or os.getcwd(), spec.workdir or ""))
        if not os.path.isdir(cwd):
            raise SpecError(f"workdir={spec.workdir or cwd!r} isn't a folder here: create it.")
        path = os.path.join(self.folder(run_id), spec.script_name)
        ours = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
        return {
            "through": [shutil.which("nice") or "nice", "-n", niceness],
            "argv": script_argv(spec, path, lambda: ["sh", "-e"]),
            "env": {**ours, **spec.env, **dict.fromkeys(spec.secrets)},
            "cwd": cwd,
            "timeout": spec.timeout,
            "grace": spec.grace,
            "script": None if spec.script is None else script_text(spec),
            "path": path,
        }

    def show(self, plan: Plan) -> str:
        line = shell_line([*plan["through"], *plan["argv"]], plan["env"], plan["cwd"])
        if plan["script"] is None:
            return line
        folder = shell_line(["mkdir", "-p", os.path.dirname(plan["path"])], {}, None)
        mark = free_mark(plan["script"])
        text = plan["script"].removesuffix("\n")
        return f"{folder}\ncat > {shlex.quote(plan['path'])} <<'{mark}'\n{text}\n{mark}\n{line}"

    def inherited(self, plan: Plan) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in plan["env"]}

    def submit(self, plan: Plan, folder: RunFolder, secrets: Mapping[str, str]) -> None:
        if folder.stop() is not None or not folder.claim_launch("keeper"):
            return
        given = {name: value for name, value in plan["env"].items() if value is not None}
        self._start(self._of(folder.run_id), {**plan, "env": {**given, **secrets}})
        stop = folder.stop()
        if stop is not None:
            self.cancel(folder.run_id, float(stop["grace"]), str(stop["why"]))

    def _start(self, folder: Path, job: dict[str, Any]) -> None:
        """Has a keeper accept a job. Values of secrets go through a pipe, never to the disk."""
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", keeper.__file__],
                input=json.dumps({**job, "folder": str(folder)}).encode(),
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        else:
            if not done.returncode:
                return
            why = "".join(done.stderr.decode("utf-8", "replace").splitlines()[-1:])
        # Its folder appears before it goes on alone: without one, it never will.
        if not folder.exists():
            raise SubmitFailed(f"Its keeper can't start: {why}. Look into {self._spool}.")

    def poll(self, run_ids: Iterable[str]) -> dict[str, Snapshot | RunNotFound]:
        return {run_id: self._look(run_id) for run_id in run_ids}

    def _look(self, run_id: str) -> Snapshot | RunNotFound:
        folder, now = self._of(run_id), time.time()
        if not folder.exists():
            return RunNotFound(f"{run_id}: there is no such run in {self._spool}")
        # Asked first: a keeper that ended since then by itself has written its end.
        lives, kept = self._lives(run_id), self._tell(run_id)
        began, end = _read(folder / "began"), _read(folder / "end")
        started = began.get("at")
        uid = str(began.get("pid", ""))
        if end:
            found = End(
                exit_code=end.get("exit_code"),
                signal=end.get("signal"),
                reason=Reason(end["reason"]),
                detail=end.get("detail", ""),
                after_stop=end.get("after_stop", False),
            )
            return Snapshot(
                RunStatus.RUNNING if began else RunStatus.PENDING,
                end=found,
                started_at=started,
                finished_at=end["at"],
                observed_at=now,
                uid=uid,
            )
        if not lives:
            lost = End(reason=Reason.VANISHED, detail="its keeper was killed, and its program too")
            return Snapshot(RunStatus.LOST, end=lost, started_at=started, observed_at=now, uid=uid)
        if not began:
            return Snapshot(
                RunStatus.PENDING, Reason.STARTING, queued_by_backend=True, observed_at=now
            )
        reason, message = Reason.NONE, ""
        if not kept:
            reason = Reason.SUPERVISOR_GONE
            message = "Its keeper was killed: it goes on, its exit code will not be known."
        return Snapshot(
            RunStatus.RUNNING, reason, message, started_at=started, observed_at=now, uid=uid
        )

    def follow(self, run_id: str, log: RunLog, stop: Event) -> bool:
        """Copies what the program has written since the cursor."""
        folder = self._of(run_id)
        while True:
            lease = self._leases.setdefault(run_id, Lease(log.folder))
            try:
                # Asked first: what is there after its end is all that there will be.
                ended = bool(_read(folder / "end")) or not self._lives(run_id)
                whole = lease.acquire() and self._copy(folder, log, lease) and ended
            except FileNotFoundError:
                whole = True  # the run was deleted
            if whole:
                self._leases.pop(run_id, None)
            if whole or stop.is_set():
                return whole
            stop.wait(_PAUSE)

    def _copy(self, folder: Path, log: RunLog, lease: Lease) -> bool:
        """One pass with the lease held; whether it could be kept up to its end."""
        cursor = {stream: int(lease.cursor.get(stream, 0)) for stream in STREAMS}
        for stream in STREAMS:
            if not (folder / stream).exists():
                continue
            with open(folder / stream, "rb") as file:
                file.seek(cursor[stream])
                while data := file.read(_PIECE):
                    log.write(stream, data, cursor[stream])
                    cursor[stream] += len(data)
        # Kept only after the bytes are written: who takes over writes them again at worst.
        return lease.keep(cursor, release=True)

    def cancel(self, run_id: str, grace: float, why: str, *, force: bool = False) -> None:
        wish = {"at": time.time(), "grace": grace, "force": force}
        if self._tell(run_id, json.dumps(wish) + "\n") or not self._lives(run_id):
            return
        # The keeper was killed, and the program goes on: a group's number isn't another's while
        # one of the group lives.
        began = _read(self._of(run_id) / "began")
        stop = self.folder(run_id).stop() or {}
        over = force or time.time() > stop.get("at", 0) + grace
        with contextlib.suppress(OSError, KeyError):
            os.killpg(began["pid"], signal.SIGKILL if over else signal.SIGTERM)

    def _tell(self, run_id: str, words: str = "") -> bool:
        """Tells the keeper something; whether there is one."""
        try:
            pipe = os.open(self._of(run_id) / "ask", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            os.write(pipe, words.encode())
        except BlockingIOError:
            pass  # it was told so often that it knows
        except BrokenPipeError:
            return False
        finally:
            os.close(pipe)
        return True

    def delete(self, run_id: str) -> None:
        found = self._look(run_id)
        if isinstance(found, Snapshot) and found.end is None:
            raise still_live(run_id)
        shutil.rmtree(self._of(run_id), ignore_errors=True)

    def _of(self, run_id: str) -> Path:
        return self._folders / f"qwex-{run_id}"

    def _lives(self, run_id: str) -> bool:
        """Whether the keeper or anything of the program lives: one of them holds the lock."""
        try:
            descriptor = os.open(self._of(run_id) / "life", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
