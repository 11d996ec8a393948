"""What a pod mounts: script, copies, shared memory and claims, as volumes and mounts: pure."""

from __future__ import annotations

import re
from typing import Any

from qwex_jupyter.disk.folder import BASH_ENV
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners.container.asking import ENV_FILE
from qwex_jupyter.runners.container.conventions import INSIDE, WORK, shm_of, target_of
from qwex_jupyter.runners.k8s.files import groups_of

# The annotation of a pod that is its script.
SCRIPT = "qwex.script"
# The one that bash reads before it.
_BASH = "qwex.bash"
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def volumes_of(
    spec: JobSpec, name: str, files: list[list[Any]], folders: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes of a pod, and where its program finds them.

    Args:
        spec: What to run.
        name: What the Job and its companions are called.
        files: The files that are carried; see `files.files_of`.
        folders: The folders that are carried.

    Raises:
        SpecError, UnsupportedOption: Something can't be mounted there.
    """
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if spec.script is not None:
        field = {"fieldPath": f"metadata.annotations['{SCRIPT}']"}
        item = {"path": spec.script_name, "fieldRef": field}
        volumes.append({"name": "script", "downwardAPI": {"defaultMode": 0o555, "items": [item]}})
        path = f"{INSIDE}/{spec.script_name}"
        mounts.append({"name": "script", "mountPath": path, "subPath": spec.script_name})
    if spec.has_own_folder:
        volumes.append({"name": "work", "emptyDir": {}})
        mounts.append({"name": "work", "mountPath": WORK})
        # A folder that only comes with a file's mount is root's, and nobody else may write there.
        # One that is a mount itself gets the mode of the volume, which is everybody's.
        mounts += [
            {"name": "work", "mountPath": f"{WORK}/{folder}", "subPath": folder}
            for folder in folders
        ]
        for number, group in enumerate(groups_of(files)):
            items = [
                {"key": f"f{at}", "path": f"f{at}", "mode": 0o555 if files[at][2] else 0o444}
                for at in group
            ]
            source = {"name": f"{name}-{number}", "items": items}
            volumes.append({"name": f"files-{number}", "configMap": source})
            mounts += [
                {
                    "name": f"files-{number}",
                    "mountPath": f"{WORK}/{files[at][1]}",
                    "subPath": f"f{at}",
                }
                for at in group
            ]
    if shm := shm_of(spec):
        memory = {"medium": "Memory", "sizeLimit": str(shm)}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    for number, word in enumerate(spec.volumes):
        claim, target, read_only = _claim(word)
        claimed = {"claimName": claim, "readOnly": read_only}
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": claimed})
        mounts.append({"name": f"claim-{number}", "mountPath": target, "readOnly": read_only})
    return volumes, mounts


def add_asking(template: dict[str, Any], container: dict[str, Any], text: str) -> None:
    """Puts the file by which bash is asked beside the script of a pod.

    Args:
        template: The pod's template.
        container: The one of the program, in it.
        text: The file's text.
    """
    template["metadata"].setdefault("annotations", {})[_BASH] = text
    field = {"fieldPath": f"metadata.annotations['{_BASH}']"}
    for volume in template["spec"]["volumes"]:
        if volume["name"] == "script":
            volume["downwardAPI"]["items"].append({"path": BASH_ENV, "fieldRef": field})
    mount = {"name": "script", "mountPath": ENV_FILE, "subPath": BASH_ENV}
    container["volumeMounts"].append(mount)


def _claim(word: str) -> tuple[str, str, bool]:
    """A ``pvc/NAME:PATH[:ro]`` word."""
    parts = word.split(":")
    if not word.startswith("pvc/"):
        raise UnsupportedOption(
            f"-v {word}",
            "k8s",
            ["docker"],
            "because a folder of this machine isn't on the cluster's nodes; a claim is mounted "
            "with -v pvc/NAME:PATH, copies are carried with --files",
        )
    name = parts[0].removeprefix("pvc/")
    if len(parts) not in (2, 3) or not _OBJECT_NAME.fullmatch(name):
        raise SpecError(f"-v {word}: write pvc/NAME:PATH or pvc/NAME:PATH:ro.")
    return name, *target_of(word, parts)
