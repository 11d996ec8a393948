"""A real kernel for tests: run a cell, look at every message, press the buttons."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stuck
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from shared import free_port

PATIENCE = 90.0
# How long a cell that was interrupted may take to end.
_ENDS_IN = 10.0
# How long a kernel may turn cells away behind an error; it is meant to be a tenth of a second.
_TURNS_AWAY = 10.0
_CHANNELS = ("shell", "iopub", "stdin", "hb", "control")
ANSI = re.compile(r"\x1b\[[0-9;]*m")

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def environment(folder: Path, python: str = "", **more: str) -> dict[str, str]:
    """The variables of a fresh user whose home, settings and history are in this folder.

    Args:
        folder: That folder.
        python: The interpreter whose environment is active; "" for this one.
        more: Further variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env.update(
        HOME=str(folder),
        IPYTHONDIR=str(folder / "ipython"),
        JUPYTER_CONFIG_DIR=str(folder / "jupyter-config"),
        JUPYTER_DATA_DIR=str(folder / "jupyter-data"),
        JUPYTER_RUNTIME_DIR=str(folder / "jupyter-runtime"),
        PYTHONDONTWRITEBYTECODE="1",
        QWEX_HOME=str(folder / "home"),
    )
    programs = os.path.dirname(python or sys.executable)
    env["PATH"] = os.pathsep.join([programs, env.get("PATH", os.defpath)])
    if python:
        env["VIRTUAL_ENV"] = os.path.dirname(programs)
    return {**env, **more}


def _specs_of(folder: Path, python: str) -> dict[str, KernelSpecManager]:
    """What tells a kernel's manager of the kernel of another interpreter."""
    if not python:
        return {}
    words = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": words, "display_name": "python3", "language": "python"}
    (folder / "python3").mkdir(parents=True)
    (folder / "python3" / "kernel.json").write_text(json.dumps(spec))
    made = KernelSpecManager(kernel_dirs=[str(folder)], ensure_native_kernel=False)
    return {"kernel_spec_manager": made}


def ports() -> dict[str, Any]:
    """What tells a kernel's manager which ports to take.

    Those that it finds by itself, another process may have by the time the kernel opens them; and
    it finds others than it was given, unless it is told not to.
    """
    return {"cache_ports": False, **{f"{name}_port": free_port() for name in _CHANNELS}}


@dataclass
class Cell:
    """One execution: its messages in the order in which they came, and its reply."""

    kernel: Kernel
    parent: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``ok``, ``error`` or ``aborted``."""
        return str(self.reply["status"])

    @property
    def mine(self) -> list[dict[str, Any]]:
        """The messages whose parent is this very execution."""
        return [m for m in self.messages if m["parent_header"].get("msg_id") == self.parent]

    def stream(self, name: str = "stdout") -> str:
        """What was printed."""
        found = [m["content"] for m in self.mine if m["msg_type"] == "stream"]
        return "".join(c["text"] for c in found if c["name"] == name)

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The outputs that a notebook would keep: each display in its last state."""
        return shown(self.messages)

    @property
    def text(self) -> str:
        """The outputs of this cell as plain text."""
        return "\n".join(data.get("text/plain", "") for data in self.shown)

    @property
    def html(self) -> str:
        """The outputs of this cell as HTML."""
        return "\n".join(data.get("text/html", "") for data in self.shown)

    @property
    def error(self) -> str:
        """The traceback as a person reads it, without colours."""
        found = [m["content"] for m in self.mine if m["msg_type"] == "error"]
        return ANSI.sub("", "\n".join("\n".join(c["traceback"]) for c in found))

    @property
    def ename(self) -> str:
        """The name of the error in the reply."""
        return str(self.reply.get("ename", ""))

    @property
    def display_ids(self) -> list[str]:
        """The displays that this cell made, in their order."""
        made = [m["content"] for m in self.mine if m["msg_type"] == "display_data"]
        return [c["transient"]["display_id"] for c in made if "display_id" in c["transient"]]

    def until(self, seen: Callable[[Cell], Any], patience: float = PATIENCE) -> Cell:
        """Reads messages until something is seen.

        Raises:
            AssertionError: It wasn't seen in time.
        """
        begun = looked = time.monotonic()
        while not seen(self):
            message = self.kernel.message(1.0)
            now = time.monotonic()
            if message is not None:
                self.messages.append(message)
            # Also while cards go on painting.
            if now - looked > 1.0:
                looked = now
                self.kernel.press_again()
            late = message is None and now - begun > patience
            assert not late, f"not seen in {patience:g} s: {self.describe()}"
        return self

    def until_text(self, text: str) -> Cell:
        """Reads messages until this text was shown or printed."""
        return self.until(lambda cell: text in cell.stream() or text in cell.everything)

    def until_shown(self, text: str) -> Cell:
        """Reads messages until a display that this cell itself made shows this text.

        An older ipykernel calls what a card of another cell shows meanwhile this cell's as well.
        """
        return self.until(lambda cell: any(text in str(data) for data in shown(cell.mine)))

    @property
    def everything(self) -> str:
        """All that was ever shown, later replaced or not."""
        data = [m["content"].get("data", {}) for m in self.messages]
        return "\n".join(d.get("text/plain", "") + d.get("text/html", "") for d in data)

    def done(self, patience: float = PATIENCE) -> Cell:
        """Reads to the end of the execution."""
        self.until(lambda cell: any(_is_idle(m) for m in cell.mine[-1:]), patience)
        self.reply = self.kernel.reply(self.parent, patience)
        self.kernel.unfinished.pop(self.parent, None)
        return self

    def describe(self) -> str:
        """What came so far, for a failed assertion."""
        return "\n".join(f"{m['msg_type']}: {str(m['content'])[:300]}" for m in self.messages)


class Kernel:
    """A kernel in a process of its own.

    Args:
        folder: Its working folder; its home and settings lie in ``.user`` there.
        python: Its interpreter; "" for this one.
        more: Further variables of its environment.
    """

    def __init__(self, folder: Path, python: str = "", **more: str) -> None:
        self.folder, self.env = folder, environment(folder / ".user", python, **more)
        self.home = Path(self.env["QWEX_HOME"])
        # As front ends do that update displays; a console doesn't.
        self.names_cells = True
        file = str(folder / ".user" / "kernel.json")
        specs = _specs_of(folder / ".user" / "kernels", python)
        self.manager = KernelManager(
            kernel_name="python3", connection_file=file, **specs, **ports()
        )
        # The cells whose end wasn't seen yet.
        self.unfinished: dict[str, str] = {}
        # What the kernel's process itself says; and how much of it was there at the last press.
        self._words = (folder / ".user" / "words").open("ab+")
        self._read = 0
        self.start()

    def start(self) -> None:
        """Starts it; after `kill` with the same connection file, as a front end would."""
        self.manager.start_kernel(env=self.env, cwd=str(self.folder), stderr=self._words)
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=PATIENCE)
        except RuntimeError as error:
            self._words.seek(self._read)
            said = self._words.read().decode(errors="replace")
            raise RuntimeError(f"{error}; the kernel said: {said[-2000:]}") from error

    def begin(self, code: str, *, stdin: bool = True, stop_on_error: bool = True) -> Cell:
        """Sends a cell as JupyterLab does, and returns at once."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": stdin,
            "stop_on_error": stop_on_error,
        }
        metadata = {"cellId": f"cell-{len(code)}"} if self.names_cells else {}
        request = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(request)
        parent = str(request["header"]["msg_id"])
        self.unfinished[parent] = code
        return Cell(self, parent)

    def run(self, code: str, *, stdin: bool = True, patience: float = PATIENCE) -> Cell:
        """Runs a cell to its end; an error stops nothing behind it.

        Args:
            code: The cell.
            stdin: Whether a person is there who could be asked.
            patience: Seconds.
        """
        end = time.monotonic() + patience
        while True:
            cell = self.begin(code, stdin=stdin, stop_on_error=False).done(patience)
            # For a moment after an error a kernel turns away whatever comes; it was not run.
            if cell.status != "aborted":
                return cell
            assert time.monotonic() < end, f"the kernel turns away whatever comes: {code}"

    def value(self, expression: str) -> str:
        """The repr of an expression in the kernel."""
        cell = self.run(f"print(repr({expression}))")
        assert cell.status == "ok", cell.error
        return cell.stream().removesuffix("\n")

    def message(self, timeout: float) -> dict[str, Any] | None:
        """The next message that the kernel published; None when none comes in time."""
        try:
            return self.client.get_iopub_msg(timeout=max(0.0, timeout))  # type: ignore[no-any-return]
        except queue.Empty:
            return None

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        """What comes of itself in that time, while no cell runs."""
        end, found = time.monotonic() + seconds, []
        while (message := self.message(end - time.monotonic())) is not None:
            found.append(message)
        return found

    def reply(self, parent: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The content of the reply to a request."""
        while True:
            found = self.client.get_shell_msg(timeout=patience)
            if found["parent_header"].get("msg_id") == parent:
                return dict(found["content"])

    def complete(self, code: str, at: int | None = None) -> list[str]:
        """What the tab key offers."""
        return [str(word) for word in self._complete(code, at)["matches"]]

    def _complete(self, code: str, at: int | None = None) -> dict[str, Any]:
        return self.reply(self.client.complete(code, len(code) if at is None else at))

    def interrupt(self) -> None:
        """The interrupt button."""
        self._read = self._words.seek(0, os.SEEK_END)
        self.manager.interrupt_kernel()

    def press_again(self) -> None:
        """Presses the interrupt button once more if Python itself says that it dropped the press.

        It does so where one comes in a callback of its collector, or in a finalizer.
        """
        self._words.seek(self._read)
        said = self._words.read()
        if b"Exception ignored" in said and b"KeyboardInterrupt" in said:
            self.interrupt()

    def restart(self, *, now: bool = False) -> None:
        """The restart button; ``now`` doesn't ask a kernel that may not answer."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._connect()

    def kill(self) -> None:
        """``kill -9``."""
        self.client.stop_channels()
        os.kill(self.pid, signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        while self.manager.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        self.manager.cleanup_resources(restart=True)

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self.manager.provisioner.pid)

    def reconnect(self) -> None:
        """A browser tab that was closed and opened again: what came meanwhile isn't seen."""
        self.client.stop_channels()
        self._connect()

    def settle(self) -> str:
        """Ends the cells that a test has left behind; what they were and did, "" for none.

        The kernel is the next test's as it was, or a new one with the extension loaded.
        """
        if not self.unfinished:
            return ""
        cells = "\n".join(self.unfinished.values())
        said = f"a cell didn't end:\n{cells}\n{stuck.describe(self.home)}"
        for _ in range(3):  # the third press of the button returns the prompt, whatever answers
            self.interrupt()
            if self._ended(_ENDS_IN):
                break
        if self.unfinished or not self._takes_cells():
            self.unfinished.clear()
            self.restart(now=True)
            self.run("%load_ext qwex_jupyter")
        end_runs(self.env)
        self.listen(0.5)
        return said

    def _ended(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.unfinished:
            try:
                found = self.client.get_shell_msg(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return False
            self.unfinished.pop(found["parent_header"].get("msg_id"), None)
        return True

    def _takes_cells(self) -> bool:
        """Whether it executes what comes.

        An interrupt in the middle of an error's end leaves a kernel turning cells away for ever.
        """
        try:
            self.run("pass", patience=_TURNS_AWAY)
        except (AssertionError, queue.Empty):
            return False
        return True

    def close(self) -> None:
        """Ends it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self._words.close()


@contextmanager
def kernel(folder: Path, python: str = "", **more: str) -> Iterator[Kernel]:
    """A kernel with the extension loaded, for as long as the block; its runs end with it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Kernel(folder, python, **more)
    try:
        loaded = made.run("%load_ext qwex_jupyter")
        assert loaded.status == "ok", loaded.error
        yield made
    finally:
        made.close()
        end_runs(made.env)


@contextmanager
def lent(shared: Kernel) -> Iterator[Kernel]:
    """A kernel of many tests for one of them, which must not leave a cell running."""
    yield shared
    if said := shared.settle():
        raise AssertionError(said)


def end_runs(env: Mapping[str, str]) -> None:
    """Stops what still runs in that home."""
    home = env["QWEX_HOME"]
    if os.path.isdir(os.path.join(home, "open")) and os.listdir(os.path.join(home, "open")):
        qwex(env, "cancel", "--all", "--grace", "0")


def qwex(
    env: Mapping[str, str], *words: str, cwd: Path | None = None, patience: float = PATIENCE
) -> subprocess.CompletedProcess[bytes]:
    """``qwex ...`` in a terminal's environment, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "qwex_jupyter.cli", *words],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=patience,
        check=False,
    )


def doctor(k: Kernel) -> str:
    """What the doctor says in a kernel, where he waits for more than his two seconds."""
    k.run(f"from qwex_jupyter.commands import doctor\ndoctor._PATIENCE = {PATIENCE}")
    return k.run("%qwex doctor").stream()


def doctor_of(env: Mapping[str, str]) -> str:
    """What the doctor says in a terminal, where this machine left him time for what is on it."""
    until = time.monotonic() + PATIENCE
    while True:
        done = qwex(env, "doctor")
        assert done.returncode == 0, done.stderr
        said = done.stdout.decode()
        if "✗ local  It hasn't answered" not in said or time.monotonic() > until:
            return said


def shown(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The displays of these messages, each in its last state, in the order they were made."""
    made: dict[str, dict[str, Any]] = {}
    for number, message in enumerate(messages):
        content = message["content"]
        name = content.get("transient", {}).get("display_id", f"#{number}")
        kind = message["msg_type"]
        first = kind in ("display_data", "execute_result")
        if first or (kind == "update_display_data" and name in made):
            made[name] = content["data"]
    return list(made.values())


def size_of(messages: list[dict[str, Any]]) -> int:
    """Roughly how many bytes these messages are on the wire."""
    return sum(len(repr(message["content"])) for message in messages)


def _is_idle(message: dict[str, Any]) -> bool:
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
