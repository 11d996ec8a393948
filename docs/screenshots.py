"""``python docs/screenshots.py [name ...]``: the pictures in ``docs/images``, from the real thing.

Each is a cell of JupyterLab in Chromium, run by this package, in light and in dark.
Needs what the browser tests need: Chromium, Playwright, JupyterLab; and for the pictures of
containers an engine and a registry, for those of Jobs a cluster, as the tests do.

With names only these groups are taken: ``readme``, ``local``, ``docker``, ``k8s``, ``monitor``.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "rigs"))
import clusters
import engines
import images
import registry
import story
from browser import Jupyter, Notebook, Page, launched, missing

IMAGES = Path(__file__).resolve().parent / "images"
LARGEST = 150_000
# Of the window; the second for pictures of which three stand side by side.
WIDTH, NARROW = 960, 480

LOAD = "%load_ext qwex_jupyter"
FOREGROUND = '%%qwex\nfor i in 1 2 3; do echo "epoch $i"; sleep 1; done'
SUCCEEDED = """%%qwex python
for step in range(5000):
    print(f"step {step:4d}  loss {1 / (1 + step):.4f}")"""
FAILED = """%%qwex --memory 100m python
rows = []
while len(rows) < 10**9:
    rows += [str(n) for n in range(300_000)]
    print(f"{len(rows):,} rows read")"""
DETACHED = """%%qwex --detach --name train python
import time
for i in range(60): print(i); time.sleep(1)"""
IMAGE = "python:3.12-slim"
PULLED = f"%%qwex --image={IMAGE} python\nprint('hello')"
CONTAINER = f"""%%qwex --image={IMAGE} --memory 2GiB python
import time
for step in range(60):
    print(f"step {{step:2d}}  loss {{1 / (1 + step):.4f}}", flush=True)
    time.sleep(0.2)"""
REFUSED = f"%%qwex --image={IMAGE} --gpus 1 python\nimport torch"
JOB = CONTAINER.replace("--image", "--runner=k8s --image").replace("2GiB", "256MiB")
WAITING = f"%%qwex --runner=k8s --image={IMAGE} --gpus 1 python\nimport torch"
KILLED = f"""%%qwex --runner=k8s --image={IMAGE} --memory 64MiB python
print("reading ...", flush=True)
rows = [bytes(1000) for _ in range(1_000_000)]"""

SWEEP = """import qwex_jupyter as qwex, time
train = (
    "import sys, time\\nfor step in range({steps}):\\n"
    "    print(f'step {{step}}: loss {{{rate} ** step:.4f}}', flush=True)\\n"
    "    time.sleep({pause})\\n{end}"
)
for i, rate in enumerate((0.9, 0.8, 0.7, 0.6, 0.5, 0.4)):
    code = train.format(steps=8, rate=rate, pause=0.05, end="")
    qwex.submit(["python"], script=code, script_name="cell.py", name=f"rate-{rate}").wait()
end = "rows = []\\nprint(rows[0])"
code = train.format(steps=30, rate=0.3, pause=0, end=end)
qwex.submit(["python"], script=code, script_name="cell.py", name="rate-0.3").wait(check=False)
stopped = qwex.submit(["sleep", "600"], name="forgotten")
time.sleep(0.5)
stopped.cancel().wait(check=False)
code = train.format(steps=10000, rate=0.99, pause=0.5, end="")
running = qwex.submit(["python"], script=code, script_name="cell.py", name="nightly")"""


def main() -> int:
    """Takes the pictures; the exit code."""
    wanted = sys.argv[1:] or ["readme", "local", "docker", "k8s", "monitor"]
    if "readme" in wanted:
        few = SWEEP.replace("0.9, 0.8, 0.7, 0.6, 0.5, 0.4", "0.9, 0.8")
        _shoot(take_first, [LOAD, "%qwex attach", DETACHED, few, "%qwex monitor", ""])
    if "local" in wanted:
        _shoot(take, [LOAD, FOREGROUND, SUCCEEDED, FAILED, DETACHED, "%qwex attach", ""])
    if "docker" in wanted:
        with _engine() as hub:
            cells = [LOAD, PULLED, CONTAINER, REFUSED, ""]
            _shoot(lambda notebook, suffix: take_containers(notebook, suffix, *hub), cells)
    if "k8s" in wanted:
        with _cluster():
            _shoot(take_jobs, [LOAD, JOB, WAITING, KILLED, ""])
    if "monitor" in wanted:
        _shoot(take_monitor, [LOAD, SWEEP, "%qwex monitor", ""])
    sizes = {path.name: path.stat().st_size for path in sorted(IMAGES.glob("*.png"))}
    for name, size in sizes.items():
        print(f"{size:9,d}  {name}{'  is too large' if size > LARGEST else ''}")
    return int(max(sizes.values()) > LARGEST)


@contextmanager
def _engine() -> Iterator[tuple[engines.Engine, registry.Registry]]:
    """An engine whose images come from a registry of the tests, by their public names."""
    for why in (engines.available("docker"), registry.available()):
        if why:
            raise SystemExit(why)
    with registry.Registry() as hub:
        hub.put("big", f"library/{IMAGE}")
        mirror = ("--registry-mirror", f"http://{hub.address}")
        with engines.Engine("docker", private=True, flags=mirror) as engine:
            os.environ["DOCKER_HOST"] = engine.host
            yield engine, hub


@contextmanager
def _cluster() -> Iterator[None]:
    """A cluster that has the image, and what leads there."""
    if why := clusters.available():
        raise SystemExit(why)
    with clusters.Cluster() as cluster:
        story.public_image_on(cluster)
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig(namespace=cluster.namespace(name="team")))
        yield


def _shoot(pictures: Callable[[Notebook, str], None], cells: list[str]) -> None:
    if why := missing():
        raise SystemExit(why)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with launched() as browser:
        for dark in (False, True):
            # Each with a history of its own: they show the same.
            with tempfile.TemporaryDirectory() as folder:
                jupyter = Jupyter(Path(folder))
                try:
                    jupyter.wait()
                    notebook = Page(browser, jupyter, sharpness=2).open(cells, dark=dark)
                    notebook.resize(WIDTH)
                    pictures(notebook, "-dark" if dark else "")
                    jupyter.cancel()
                finally:
                    jupyter.close()


def take(notebook: Notebook, suffix: str) -> None:
    """Runs the cells of a notebook and takes a picture in each state.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
    """

    def shot(name: str, first: int, last: int = -1) -> None:
        notebook.leave()
        notebook.screenshot(IMAGES / f"{name}{suffix}.png", first, last)

    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.until(1, "epoch 2")
    shot("foreground", 1)
    notebook.wait()
    notebook.run_cell(2)
    notebook.until(2, "succeeded")
    shot("succeeded", 2)
    notebook.run_cell(3)
    notebook.until(3, "RunFailed")
    shot("failed", 3)
    notebook.run_cell(4)
    notebook.until(4, lambda text: len(re.findall(r"^\d+$", text, re.MULTILINE)) == 3)
    shot("detached", 4)
    notebook.restart()
    notebook.run_cell(0)
    notebook.until(0, "still running")
    shot("greeting", 0)
    notebook.run_cell(5, wait=False)
    notebook.until(5, "\n5\n")
    shot("attach", 5)
    notebook.stop()
    notebook.wait()


def take_first(notebook: Notebook, suffix: str) -> None:
    """Takes the three pictures of the README: a run, the kernel restarted, all runs.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
    """
    notebook.resize(NARROW)

    def shot(name: str, first: int, last: int = -1) -> None:
        notebook.leave()
        notebook.screenshot(IMAGES / f"first-{name}{suffix}.png", first, last)

    notebook.run_cell(0)
    notebook.run_cell(2)
    notebook.until(2, lambda text: len(re.findall(r"^\d+$", text, re.MULTILINE)) == 3)
    shot("run", 2)
    notebook.restart()
    notebook.run_cell(0)
    notebook.until(0, "still running")
    notebook.run_cell(1, wait=False)
    notebook.until(1, "\n3\n")
    shot("restart", 0, 1)
    notebook.stop()
    notebook.wait()
    notebook.run_cell(3)
    notebook.run_cell(4)
    notebook.web.wait_for_selector(".qwex-monitor .word.RUNNING")
    shot("monitor", 4)


def take_monitor(notebook: Notebook, suffix: str) -> None:
    """Takes the pictures of the monitor: a failed run, narrow, its kernel gone, saved.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
    """
    web, dark = notebook.web, bool(suffix)

    def shot(name: str) -> None:
        notebook.leave()
        notebook.screenshot(path := IMAGES / f"{name}{suffix}.png", 2)
        _lighten(path)

    for index in range(3):
        notebook.run_cell(index)
    web.wait_for_selector(".qwex-monitor .word.RUNNING")
    web.click(".qwex-monitor .body [role=row]:has-text('rate-0.3')")
    web.wait_for_selector(".qwex-monitor .line:has-text('IndexError')")
    web.mouse.move(0, 0)
    shot("monitor")
    notebook.resize(520, 1400)
    web.wait_for_timeout(500)
    shot("monitor-narrow")
    notebook.resize(WIDTH)
    notebook.restart()
    web.wait_for_selector(".qwex-monitor .banner:visible")
    web.click(".qwex-monitor .close")
    shot("monitor-gone")
    notebook.save()
    again = notebook.page.open([], path=notebook.path, kernel=False, dark=dark)
    again.resize(WIDTH)
    again.until(2, "rate-0.3")
    again.leave()
    again.screenshot(path := IMAGES / f"monitor-saved{suffix}.png", 2)
    _lighten(path)


def _lighten(path: Path) -> None:
    """A picture of many letters in fewer colours: nobody sees them, and it is a third."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(96).save(path, optimize=True)


def take_containers(
    notebook: Notebook, suffix: str, engine: engines.Engine, hub: registry.Registry
) -> None:
    """Takes the pictures of containers.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
        engine: It has no image of that name.
        hub: Where it gets it.
    """

    def shot(name: str, index: int) -> None:
        notebook.leave()
        notebook.screenshot(IMAGES / f"{name}{suffix}.png", index)

    client = engine.client()
    notebook.run_cell(0)
    hub.wire.slow("GET", "/blobs/", 3_000_000)
    notebook.run_cell(1, wait=False)
    notebook.until(1, lambda text: bool(re.search(r"[3-9] MiB of .*\n[2-6]\d%", text)))
    shot("pulling", 1)
    notebook.stop()
    notebook.wait()
    hub.wire.clear()
    client.tag(images.image(engine, "python"), *IMAGE.split(":"))
    notebook.run_cell(2, wait=False)
    notebook.until(2, "step 10")
    shot("container", 2)
    notebook.stop()
    notebook.wait()
    notebook.run_cell(3)
    notebook.until(3, "RunFailed")
    shot("refused", 3)
    client.remove_image(IMAGE, noprune=True, force=True)
    client.close()


def take_jobs(notebook: Notebook, suffix: str) -> None:
    """Takes the pictures of Jobs.

    Args:
        notebook: Freshly opened.
        suffix: What the names of the files end with.
    """

    def shot(name: str, index: int) -> None:
        notebook.leave()
        notebook.screenshot(IMAGES / f"{name}{suffix}.png", index)

    notebook.run_cell(0)
    notebook.run_cell(1, wait=False)
    notebook.until(1, "step 10")
    shot("job", 1)
    notebook.stop()
    notebook.wait()
    notebook.run_cell(2, wait=False)
    notebook.until(2, lambda text: bool(re.search(r"0:00:0[2-9]", text)))
    shot("unschedulable", 2)
    notebook.stop()
    notebook.wait()
    notebook.run_cell(3)
    notebook.until(3, "RunFailed")
    shot("oom", 3)


if __name__ == "__main__":
    sys.exit(main())
