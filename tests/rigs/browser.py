"""JupyterLab and Notebook 7 in Chromium, for tests and for the pictures in the docs.

A real Jupyter server with folders of its own, a real browser through Playwright, and one
page object for a notebook. Cells are run by the front end's own commands, since clicking
at pixels would test the front end; what a person presses (stop, restart) is pressed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shared import free_port

# Debian's place first, then whatever is on the path.
CHROMIUM = next(
    (
        found
        for name in ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
# Headless in a container: no sandbox as root, no GPU, and /dev/shm may be 64 MB there.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host is found
]
_SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"autosave": False},
}
# Generous, as machines that test are busy; what is right takes a fraction of it.
PATIENCE = 60.0
LAB, NOTEBOOK = "lab", "notebooks"


def missing() -> str:
    """What is needed and isn't here, with the way to get it; "" if all is here."""
    for module in ("playwright", "jupyterlab", "ipykernel"):
        if importlib.util.find_spec(module) is None:
            return f"no {module}: pip install {module}"
    return "" if CHROMIUM else "no Chromium: apt-get install chromium"


class Jupyter:
    """A Jupyter server whose home, settings, kernels and runs are its own.

    Args:
        root: The folder for all of it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.work, self.runs = root, root / "work", root / "runs"
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = root / "settings"
        for name, value in _SETTINGS.items():
            self._set(name, value)
        self.work.mkdir(parents=True)
        self._log = (root / "server.log").open("wb")
        flags = [
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.work}",
            f"--IdentityProvider.token={self.token}",
            # The page object speaks to the front end through `window.jupyterapp`.
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        if getattr(os, "geteuid", lambda: 1)() == 0:
            flags.append("--allow-root")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags],
            env=self._environment(),
            cwd=self.work,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _set(self, name: str, value: dict[str, Any]) -> None:
        path = self._settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def _environment(self) -> dict[str, str]:
        # PYTHONUNBUFFERED here would hide that runs are given it.
        dropped = ("JUPYTER", "QWEX", "JPY_", "IPYTHON", "PYTHONUNBUFFERED", "XDG_", "MPLBACKEND")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        places = {
            "HOME": "home",
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "QWEX_HOME": "runs",
        }
        for name in places.values():
            (self.root / name).mkdir(parents=True, exist_ok=True)
        return kept | {name: str(self.root / place) for name, place in places.items()}

    def wait(self) -> Jupyter:
        """Returns when the server answers."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                self.api("GET", "status")
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return self
        raise RuntimeError(f"no Jupyter server: {(self.root / 'server.log').read_text()[-2000:]}")

    def api(self, method: str, path: str) -> Any:
        """Asks the server's own API."""
        request = urllib.request.Request(  # our own server's address
            f"{self.url}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    def write(
        self, name: str, cells: list[str] | list[dict[str, Any]], *, kernel: str = "python3"
    ) -> Path:
        """Makes a notebook of code cells, given as texts or as whole cells."""
        made = [_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        title = "Python 3 (ipykernel)" if kernel == "python3" else kernel
        spec = {"name": kernel, "display_name": title, "language": "python"}
        notebook = {
            "cells": [{"id": f"cell-{i}", **cell} for i, cell in enumerate(made)],
            "metadata": {"kernelspec": spec},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        path = self.work / name
        path.write_text(json.dumps(notebook))
        return path

    def end_kernels(self) -> None:
        """Shuts all kernels down, since each holds memory until the server ends."""
        for session in self.api("GET", "sessions"):
            try:
                self.api("DELETE", f"sessions/{session['id']}")
            except urllib.error.HTTPError:
                pass  # the front end was faster

    def cancel(self) -> None:
        """Ends all runs, which would outlive the server."""
        cancel = "from qwex_jupyter.cli import main; main(['cancel', '--all', '--grace', '0'])"
        subprocess.run(
            [sys.executable, "-c", cancel],
            env={**os.environ, "QWEX_HOME": str(self.runs)},
            capture_output=True,
            check=False,
        )

    def until_nothing_is_open(self) -> None:
        """Waits until all runs have ended."""
        until = time.monotonic() + PATIENCE
        while any((self.runs / "open").iterdir()):
            assert time.monotonic() < until, "a run didn't end"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the runs, and the server with all its kernels."""
        self.cancel()
        try:
            self.end_kernels()
        except OSError:
            pass  # it is gone already
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        except ProcessLookupError:
            self._process.wait()
        self._log.close()


def _cell(source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


class Page:
    """One browser page with a front end in it; notebooks are opened in it one after another.

    Args:
        browser: Playwright's browser.
        jupyter: The server.
        kind: ``lab``, or ``notebooks`` for Notebook 7.
        sharpness: Device pixels for each pixel of a picture.
    """

    def __init__(
        self, browser: Any, jupyter: Jupyter, kind: str = LAB, *, sharpness: int = 1
    ) -> None:
        self.jupyter, self.kind = jupyter, kind
        self.web = browser.new_page(
            viewport={"width": 1200, "height": 1000}, device_scale_factor=sharpness
        )
        self.web.set_default_timeout(1000 * PATIENCE)
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.strangers: list[str] = []
        self.dialogs: list[str] = []
        self._dark = False
        self._at_home = False
        self.web.on("request", self._see)
        self.web.on("websocket", lambda socket: socket.on("framereceived", self._count))
        self.web.on("dialog", self._dismiss)

    def _see(self, request: Any) -> None:
        # Not by a route: with one a browser keeps nothing, and loads a front end anew each time.
        if not request.url.startswith((self.jupyter.url, "data:", "blob:")):
            self.strangers.append(request.url)

    def _dismiss(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":  # "leave this page?" is ours
            self.dialogs.append(dialog.message)
        dialog.accept()

    def _count(self, frame: str | bytes) -> None:
        kind = _message_type(frame)
        self.messages[kind] += 1
        self.bytes[kind] += len(frame)

    def open(
        self,
        cells: list[str],
        *,
        dark: bool = False,
        kernel: bool = True,
        path: Path | None = None,
        spec: str = "python3",
    ) -> Notebook:
        """Opens a new notebook, or the one at ``path``, and closes what was open."""
        path = path or self.jupyter.write(f"t-{secrets.token_hex(4)}.ipynb", cells, kernel=spec)
        name = path.relative_to(self.jupyter.work).as_posix()
        if self.kind == NOTEBOOK:
            self._go(f"notebooks/{name}")
            self.web.wait_for_selector(".jp-Notebook")
        else:
            if not self._at_home:
                self._go("lab?reset")
                self._at_home = True
                self.command("application:toggle-left-area")
            self.command("application:close-all")
            self._accept_dialog()
            self.jupyter.end_kernels()
            if spec != "python3":
                self.web.evaluate(_KERNELS_ANEW)
            prefer = {} if kernel else {"kernelPreference": _NO_KERNEL}
            self.command("docmanager:open", {"path": name, "factory": "Notebook", **prefer})
        self._theme(dark=dark)
        notebook = Notebook(self, path)
        notebook.ready(kernel=kernel)
        return notebook

    def leave(self) -> None:
        """Has the next notebook opened in a page that knows nothing of this one.

        One that is loaded anew opens the notebook of its address some time later, be it once more.
        """
        self._at_home = False

    def _go(self, address: str) -> None:
        mark = "&" if "?" in address else "?"
        self.web.goto(f"{self.jupyter.url}/{address}{mark}token={self.jupyter.token}")
        self.web.wait_for_function("() => window.jupyterapp !== undefined")
        self.web.evaluate("() => window.jupyterapp.restored.then(() => null)")

    def _accept_dialog(self) -> None:
        from playwright.sync_api import Error

        # Closing what wasn't saved asks, after a moment; nothing of it is needed any more.
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.web.evaluate(_ALL_CLOSED):
                return
            button = ".jp-Dialog .jp-mod-warn, .jp-Dialog .jp-mod-accept"
            if self.web.query_selector(button):
                with contextlib.suppress(Error):  # it may be gone by now
                    self.web.click(button, timeout=1000)
            self.web.wait_for_timeout(100)

    def _theme(self, *, dark: bool) -> None:
        if dark != self._dark:
            theme = "JupyterLab Dark" if dark else "JupyterLab Light"
            self.command("apputils:change-theme", {"theme": theme})
            self.web.wait_for_selector(
                f"body[data-jp-theme-light='{str(not dark).lower()}']", state="attached"
            )
            self._dark = dark

    def command(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Runs a command of the front end and waits until it has been taken."""
        self.web.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)",
            [name, args or {}],
        )

    def watch(self) -> None:
        """Begins to record how long the page is blocked, and forgets the traffic so far."""
        self.messages.clear()
        self.bytes.clear()
        self.web.evaluate(_WATCH)

    def blocked(self) -> dict[str, float]:
        """Long tasks since `watch`: how many, the longest and their sum in milliseconds."""
        found: dict[str, float] = self.web.evaluate(_BLOCKED)
        return found


_ALL_CLOSED = """() => !document.querySelector('.jp-Dialog')
    && ![...window.jupyterapp.shell.widgets('main')].some(widget => widget.context)"""
# A page that is open looks for new kinds of kernels once a minute.
_KERNELS_ANEW = "() => window.jupyterapp.serviceManager.kernelspecs.refreshSpecs()"
_NO_KERNEL = {"shouldStart": False, "canStart": False, "autoStartDefault": False}
_WATCH = """() => {
    window.longTasks = [];
    window.longObserver?.disconnect();
    window.longObserver = new PerformanceObserver(
        list => list.getEntries().forEach(e => window.longTasks.push(e.duration)));
    window.longObserver.observe({entryTypes: ['longtask']});
}"""
_BLOCKED = """() => ({
    count: window.longTasks.length,
    longest: Math.max(0, ...window.longTasks),
    sum: window.longTasks.reduce((a, b) => a + b, 0),
})"""


def _message_type(frame: str | bytes) -> str:
    """The type of a Jupyter message in a websocket frame, "" if it isn't one."""
    try:
        if isinstance(frame, str):
            return str(json.loads(frame)["header"]["msg_type"])
        # v1.kernel.websocket.jupyter.org: count, offsets (64 bit each), channel, header, ...
        count = int.from_bytes(frame[:8], "little")
        offsets = [int.from_bytes(frame[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
        return str(json.loads(frame[offsets[1] : offsets[2]])["msg_type"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


class Notebook:
    """One open notebook.

    Args:
        page: Where it is open.
        path: Its file.
    """

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.path = page, path
        self.web = page.web

    def ready(self, *, kernel: bool = True) -> None:
        """Waits until the cells are there and the kernel is idle."""
        self.web.wait_for_function(_READY, arg=self.path.name)
        if kernel and not self._is_idle(within=20.0):
            # A machine that makes network interfaces meanwhile, as container engines do, cuts what
            # a page has open (ERR_NETWORK_CHANGED), and the page may wait for ever.
            self.web.evaluate(f"() => {_KERNEL}?.reconnect()")
            assert self._is_idle(within=PATIENCE)

    def _is_idle(self, within: float) -> bool:
        from playwright.sync_api import TimeoutError as NotYet

        try:
            self.web.wait_for_function(f"() => {_KERNEL}?.status === 'idle'", timeout=1000 * within)
        except NotYet:
            return False
        return True

    def run_cell(self, index: int, *, wait: bool = True) -> None:
        """Runs a cell; without ``wait`` it returns while the cell runs."""
        self.web.evaluate(_RUN, ["notebook:run-cell", index])
        if wait:
            self.wait()

    def run_all(self, *, wait: bool = True) -> None:
        """Runs all cells as the menu does."""
        self.web.evaluate(_RUN, ["notebook:run-all-cells", 0])
        if wait:
            self.wait()

    def wait(self) -> None:
        """Waits until what was run last is done."""
        self.web.wait_for_function("() => window.cellsDone")

    def until(self, index: int, said: str | Callable[[str], bool]) -> str:
        """Waits until a cell's output shows a text; returns all that it shows."""
        check = said if callable(said) else lambda text: said in text
        until = time.monotonic() + PATIENCE
        while True:
            text = self.text(index)
            if check(text):
                return text
            if time.monotonic() > until:
                raise AssertionError(f"cell {index} shows {text!r}, waited for {said!r}")
            self.web.wait_for_timeout(50)

    def tick(self, index: int, *, above: int = 0) -> int:
        """Waits until a cell shows ``tick N`` with a number above that one; the highest."""

        def last(text: str) -> int:
            return max(map(int, re.findall(r"tick (\d+)", text)), default=0)

        return last(self.until(index, lambda text: last(text) > above))

    def text(self, index: int) -> str:
        """What a cell's output shows; what is folded is not shown."""
        self.web.wait_for_function(_IS_DRAWN, arg=index)
        return self._output(index, "innerText")

    def html(self, index: int) -> str:
        """The HTML that a cell's output became."""
        return self._output(index, "innerHTML")

    def _output(self, index: int, what: str) -> str:
        found: str = self.web.evaluate(
            f"([i, what]) => {_PANEL}.content.widgets[i].outputArea.node[what]", [index, what]
        )
        return found

    def data(self, index: int) -> list[dict[str, Any]]:
        """A cell's outputs as they would be saved."""
        found: list[dict[str, Any]] = self.web.evaluate(
            f"i => {_PANEL}.content.widgets[i].model.outputs.toJSON()", index
        )
        return found

    def count(self, index: int) -> int | None:
        """A cell's execution count; None if it has not run."""
        found: int | None = self.web.evaluate(
            f"i => {_PANEL}.content.widgets[i].model.executionCount", index
        )
        return found

    def trusted(self, index: int) -> bool:
        """Whether the front end shows a cell's output as it is, without its sanitiser."""
        found: bool = self.web.evaluate(f"i => {_PANEL}.content.widgets[i].model.trusted", index)
        return found

    def colour(self, index: int, said: str) -> str:
        """The colour in which a text of a cell's output is painted, ``rgb(...)``."""
        found: str = self.web.evaluate(_COLOUR, [index, said])
        return found

    def contrast(self, index: int) -> dict[str, float]:
        """Each text that a cell's output shows, and its contrast with what is behind (WCAG)."""
        found: dict[str, float] = self.web.evaluate(_CONTRAST, index)
        return found

    def size(self, index: int) -> dict[str, int]:
        """Height and width of a cell's output, and how much of it sticks out to the right."""
        found: dict[str, int] = self.web.evaluate(_SIZE, index)
        return found

    def stop(self) -> None:
        """Presses the stop button of the toolbar."""
        self.web.click("[data-jp-item-name='interrupt'] jp-button, [data-jp-item-name='interrupt']")

    def restart(self) -> None:
        """Restarts the kernel through the menu's command, and says yes."""
        command = "() => { window.jupyterapp.commands.execute('kernelmenu:restart'); }"
        self.web.evaluate(command)
        self.web.click(".jp-Dialog .jp-mod-accept")
        self.web.wait_for_selector(".jp-Dialog", state="detached")
        self.web.wait_for_function(f"() => {_KERNEL}?.status === 'idle'")

    def reload(self, *, save: bool = True) -> None:
        """Saves and loads the page anew, as the browser's own button does."""
        if save:
            self.save()
        self.web.reload()
        self.page.leave()
        self.web.wait_for_function("() => window.jupyterapp !== undefined")
        self.web.evaluate("() => window.jupyterapp.restored.then(() => null)")
        self.ready(kernel=False)

    def save(self) -> dict[str, Any]:
        """Saves the notebook; returns what is in the file."""
        self.page.command("docmanager:save")
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    def resize(self, width: int, height: int = 1000) -> None:
        """Gives the window another size."""
        self.web.set_viewport_size({"width": width, "height": height})

    def screenshot(self, path: Path | str, first: int | None = None, last: int = -1) -> None:
        """Takes a picture of the page, of one cell, or of the cells from ``first`` to ``last``."""
        if first is None:
            self.web.screenshot(path=str(path))
            return
        boxes = []
        for index in range(first, max(first, last) + 1):
            cell = self.web.evaluate_handle(f"i => {_PANEL}.content.widgets[i].node", index)
            element = cell.as_element()
            if index == first:
                element.scroll_into_view_if_needed()
            boxes.append(element.bounding_box())
        top, bottom = boxes[0]["y"], boxes[-1]["y"] + boxes[-1]["height"]
        clip = {**boxes[0], "height": bottom - top}
        self.web.screenshot(path=str(path), clip=clip)

    def leave(self) -> None:
        """Makes the last cell the active one, so that the others look untouched."""
        self.web.evaluate(
            f"() => {{ {_PANEL}.content.activeCellIndex = {_PANEL}.content.widgets.length - 1; }}"
        )


# Kept when it is ready: what a front end restores late becomes its current one.
_PANEL = "window.panelOfTest"
# A front end draws the cells of a long notebook bit by bit.
_READY = """name => {
    const panel = window.jupyterapp.shell.currentWidget;
    const ready = panel?.context?.isReady && panel.context.path.endsWith(name)
        && panel.content.widgets.length > 0
        && panel.content.widgets.length === panel.content.model.cells.length;
    if (ready) window.panelOfTest = panel;
    return ready;
}"""
_KERNEL = f"{_PANEL}?.sessionContext?.session?.kernel"
_RUN = f"""([command, index]) => {{
    window.jupyterapp.shell.activateById({_PANEL}.id);
    {_PANEL}.content.activeCellIndex = index;
    {_PANEL}.content.deselectAll();
    window.cellsDone = false;
    const done = () => {{ window.cellsDone = true; }};
    window.jupyterapp.commands.execute(command).then(done, done);
}}"""
# Of what isn't drawn yet a browser gives all that is in it, folded or not.
_IS_DRAWN = f"""index => {{
    const area = {_PANEL}.content.widgets[index].outputArea;
    return area.model.length === 0 || area.node.checkVisibility();
}}"""
# A colour as a browser paints it, however it is written: red, green, blue and how opaque it is.
_PAINTED = """const painted = css => {
    const paper = new OffscreenCanvas(1, 1).getContext('2d');
    paper.fillStyle = css;
    paper.fillRect(0, 0, 1, 1);
    const [red, green, blue, whole] = paper.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, whole / 255];
};"""
_COLOUR = f"""([index, said]) => {{
    {_PAINTED}
    const area = {_PANEL}.content.widgets[index].outputArea.node;
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    while (walker.nextNode())
        if (walker.currentNode.data.includes(said))
            return `rgb(${{painted(getComputedStyle(walker.currentNode.parentElement).color)
                .slice(0, 3).join(', ')}})`;
    return '';
}}"""


_SIZE = f"""index => {{
    const area = {_PANEL}.content.widgets[index].outputArea.node;
    const nodes = [...area.querySelectorAll('.jp-OutputArea-output')];
    return {{
        height: Math.round(area.getBoundingClientRect().height),
        width: Math.round(area.getBoundingClientRect().width),
        over: Math.max(0, ...nodes.map(n => n.scrollWidth - n.clientWidth)),
    }};
}}"""
_CONTRAST = f"""index => {{
    {_PAINTED}
    const light = parts => {{
        const [r, g, b] = parts.map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }};
    const behind = node => {{
        for (let at = node; at; at = at.parentElement) {{
            const ground = painted(getComputedStyle(at).backgroundColor);
            if (ground[3] === 1) return ground.slice(0, 3);
        }}
        return [255, 255, 255];
    }};
    // What shines through the text, by its colour and by all that it stands in.
    const over = (node, ground) => {{
        let [red, green, blue, share] = painted(getComputedStyle(node).color);
        for (let at = node; at; at = at.parentElement)
            share *= Number(getComputedStyle(at).opacity);
        return [red, green, blue].map((part, i) => part * share + ground[i] * (1 - share));
    }};
    const area = {_PANEL}.content.widgets[index].outputArea.node;
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    const found = {{}};
    while (walker.nextNode()) {{
        const node = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        if (!text || !node.checkVisibility()) continue;
        const ground = behind(node);
        const [a, b] = [light(over(node, ground)), light(ground)];
        found[text] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }}
    return found;
}}"""


@contextmanager
def launched() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    if why := missing():
        pytest.skip(why)
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def jupyter(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A Jupyter server; skipped together with the browser."""
    server = Jupyter(tmp_path_factory.mktemp("jupyter"))
    try:
        yield server.wait()
    finally:
        server.close()


@pytest.fixture(scope="session")
def pages(chromium: Any, jupyter: Jupyter) -> dict[str, Page]:
    """The pages that are open, by front end: loading one takes longer than many tests."""
    return {}


def _opener(kind: str, chromium: Any, jupyter: Jupyter, pages: dict[str, Page]) -> Any:
    def lab(cells: list[str], **how: Any) -> Notebook:
        if kind not in pages:
            pages[kind] = Page(chromium, jupyter, kind)
        pages[kind].web.set_viewport_size({"width": 1200, "height": 1000})
        return pages[kind].open(cells, **how)

    return lab


def _closing(opener: Any, pages: dict[str, Page], kind: str) -> Iterator[Any]:
    yield opener
    page = pages.get(kind)
    if page is not None:
        assert page.strangers == [], "the page asked other hosts"
        assert page.dialogs == [], "something opened a dialog"


@pytest.fixture
def lab(
    chromium: Any, jupyter: Jupyter, pages: dict[str, Page]
) -> Iterator[Callable[..., Notebook]]:
    """Opens notebooks in JupyterLab: ``lab([cell, ...], dark=False)``."""
    yield from _closing(_opener(LAB, chromium, jupyter, pages), pages, LAB)


@pytest.fixture
def notebook7(
    chromium: Any, jupyter: Jupyter, pages: dict[str, Page]
) -> Iterator[Callable[..., Notebook]]:
    """Opens notebooks in Notebook 7."""
    if importlib.util.find_spec("notebook") is None:
        pytest.skip("no notebook: pip install notebook")
    yield from _closing(_opener(NOTEBOOK, chromium, jupyter, pages), pages, NOTEBOOK)
