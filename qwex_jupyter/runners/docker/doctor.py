"""What ``%qwex doctor`` says of an engine: which one and why, what it can do, what lies there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qwex_jupyter.disk.folder import RUN, SPEC, RunFolder
from qwex_jupyter.model.units import say_bytes, say_count
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, RUN_LABEL
from qwex_jupyter.runners.docker.engine import Engine


def examine(engine: Engine, history: str, folder: Callable[[str], RunFolder]) -> Iterator[str]:
    """The lines about an engine, each as soon as it is known.

    Args:
        engine: The engine.
        history: The id of the history.
        folder: Gives the folder of a run.
    """
    api = str(engine.client().api_version)
    kind = "Podman" if engine.podman else "Docker"
    at = f"at {engine.endpoint.shown}, by {engine.endpoint.why}"
    info = engine.info()
    yield f"✓ docker  {kind} {info.get('ServerVersion')}, API {api}, {at}"
    options = info.get("SecurityOptions") or []
    parts = [
        "rootless" if "name=rootless" in options else "",
        f"{info.get('Driver')} in {info.get('DockerRootDir')}",
        f"cgroup v{info.get('CgroupVersion') or 1}",
        say_count(int(info.get("NCPU") or 0), "CPU"),
        f"{say_bytes(int(info.get('MemTotal') or 0))} memory",
        _gpus(info),
        _images(engine, info, api),
    ]
    yield f"    {', '.join(filter(None, parts))}"
    for text in info.get("Warnings") or []:
        yield f"    it warns: {' '.join(str(text).removeprefix('WARNING: ').split())}"
    yield from _containers(engine, history, folder)


def _gpus(info: Mapping[str, Any]) -> str:
    """What an engine says of GPUs: devices of its own (CDI), or NVIDIA's runtime."""
    found = [str(device.get("ID")) for device in info.get("DiscoveredDevices") or []]
    if found:
        return f"GPUs: {', '.join(found[:8])}"
    return "NVIDIA's runtime for GPUs" if "nvidia" in (info.get("Runtimes") or {}) else "no GPUs"


def _images(engine: Engine, info: Mapping[str, Any], api: str) -> str:
    """How many images there are, and their size where an engine has it at hand (API 1.42)."""
    text = say_count(int(info.get("Images") or 0), "image")
    if tuple(map(int, api.split("."))) < (1, 42):
        return text
    size = engine.ask("/system/df", {"type": "image"}).get("LayersSize")
    return f"{text} of {say_bytes(int(size))}" if size else text


def _containers(engine: Engine, history: str, folder: Callable[[str], RunFolder]) -> Iterator[str]:
    """The containers of this history that an engine has, by what will become of them."""
    filters = json.dumps({"label": [f"{HISTORY_LABEL}={history}"]})
    counts: Counter[str] = Counter()
    strangers = []
    for found in engine.ask("/containers/json", {"all": 1, "filters": filters}):
        here = folder(found["Labels"].get(RUN_LABEL, ""))
        spec_fact = here.read(SPEC)
        if spec_fact is None:
            strangers.append(found["Names"][0].lstrip("/"))
            continue
        what = "kept (--keep)" if spec_fact["spec"].get("keep") else "ended, to be freed"
        ended = here.has(RUN)
        counts[what if ended else "of runs that have not ended"] += 1
    for what, count in counts.items():
        yield f"    {say_count(count, 'container')} {what}"
    if strangers:
        names = " ".join(strangers[:5]) + (" ..." if len(strangers) > 5 else "")
        said = say_count(len(strangers), "container")
        yield f"    {said} of deleted runs: docker rm -f {names}"
