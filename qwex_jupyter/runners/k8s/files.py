"""What goes along with a Job: files and secrets, in objects that the pod mounts: pure."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any

from qwex_jupyter.disk.carry import Carried, manifest
from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.errors import SpecError, SubmitFailed
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, RUN_LABEL

# One ConfigMap may hold 1 MiB: k8s.io/kubernetes/pkg/apis/core, MaxSecretSize. A request for
# more than one of them would not become larger, but a pod mounts each file by itself.
MOST_FILE, MOST_FILES, MOST_COUNT = 1024**2, 8 * 1024**2, 500


def files_of(carried: Iterable[Carried]) -> list[list[Any]]:
    """The files of what is carried: source, path inside, whether it may be executed.

    Raises:
        SpecError: It is too much, or of a name that can't be mounted.
    """
    total = 0
    files: list[list[Any]] = []
    for one in carried:
        if ":" in one.path or not one.path.isprintable():
            raise SpecError(
                f"--files: {one.path!r}: Kubernetes mounts no path with a colon, or with "
                "characters that can't be printed: rename it."
            )
        if one.folder:
            continue
        total += one.size
        if one.size > MOST_FILE:
            raise SpecError(
                f"--files: {one.path} has {one.size:,} bytes, and one file of {MOST_FILE:,} "
                "fits into a ConfigMap: put it on a claim, -v pvc/NAME:PATH."
            )
        if total > MOST_FILES or len(files) == MOST_COUNT:
            raise SpecError(
                f"--files: these are more than the {MOST_COUNT} files or {MOST_FILES:,} bytes "
                "that travel with a Job: put them on a claim, -v pvc/NAME:PATH."
            )
        files.append([one.source, one.path, bool(one.mode & 0o100)])
    return files


def folders_of(carried: Iterable[Carried]) -> list[str]:
    """The folders of what is carried, empty ones too, outer ones first."""
    found: set[str] = set()
    for one in carried:
        path = one.path if one.folder else os.path.dirname(one.path)
        while path:
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def groups_of(files: list[list[Any]]) -> list[list[int]]:
    """The files of each ConfigMap, by their numbers."""
    groups: list[list[int]] = []
    room = 0
    for number, (source, _, _) in enumerate(files):
        size = os.stat(source).st_size
        if not groups or size > room:
            groups.append([])
            room = MOST_FILE
        groups[-1].append(number)
        room -= size
    return groups


def config_maps(plan: Plan, folder: RunFolder | None = None) -> list[dict[str, Any]]:
    """The ConfigMaps of what is carried, without their owner; see `make_plan`.

    Args:
        plan: The plan.
        folder: The run's folder, which has the copies; None for one that isn't made.

    Raises:
        SubmitFailed: The copies aren't what was planned.
    """
    if folder is not None:
        _refuse_others(plan, folder)
    pod = plan["job"]["spec"]["template"]["spec"]
    made = []
    for volume in pod.get("volumes", []):
        if not str(volume["name"]).startswith("files-"):
            continue
        data = {}
        for item in volume["configMap"]["items"]:
            source, path, _ = plan["files"][int(item["key"][1:])]
            with open(source if folder is None else f"{folder.pristine}/{path}", "rb") as file:
                data[item["key"]] = base64.b64encode(file.read()).decode()
        made.append(_companion(plan, "ConfigMap", volume["configMap"]["name"], binaryData=data))
    return made


def _refuse_others(plan: Plan, folder: RunFolder) -> None:
    """Refuses copies that aren't those of the plan: what they are made of changed meanwhile."""
    planned = {path for _, path, _ in plan["files"]}
    copied = {one.path: one.size for one in manifest(folder) or [] if not one.folder}
    changed = planned ^ copied.keys() | {path for path in copied if copied[path] > MOST_FILE}
    if changed:
        raise SubmitFailed(
            f"--files: {min(changed)} was changed while the run was handed over. Nothing was "
            "started: run it again."
        )


def secret(plan: Plan, values: Mapping[str, str]) -> dict[str, Any] | None:
    """The Secret of a run, without its owner; None where there is none."""
    if not plan["secrets"]:
        return None
    data = {
        f"s{number}": base64.b64encode(values[name].encode()).decode()
        for number, name in enumerate(plan["secrets"])
    }
    return _companion(plan, "Secret", plan["job"]["metadata"]["name"], data=data)


def _companion(plan: Plan, kind: str, name: str, **content: Any) -> dict[str, Any]:
    ours = plan["job"]["metadata"]["labels"]
    labels = {key: ours[key] for key in (RUN_LABEL, HISTORY_LABEL)}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "immutable": True, **content}


def owned(companion: dict[str, Any], job_name: str, uid: str) -> dict[str, Any]:
    """A companion that goes when its Job goes."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "uid": uid}
    return {**companion, "metadata": {**companion["metadata"], "ownerReferences": [owner]}}
