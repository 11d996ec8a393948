"""A spec as a ``batch/v1`` Job and what belongs to it, and as YAML for kubectl: pure.

A run is one object, its Job. The cell's script travels in it, as an annotation of the pod that a
downward-API volume makes a file of. Copies of files travel in ConfigMaps and secrets in a
Secret, all owned by the Job. The user's image and command, and nothing of ours beside them: so
nobody can copy the copies, and they can be read and not changed; their folders can be written.

An image's ENTRYPOINT stays and gets the command as its arguments, as on the other runners;
``--entrypoint PROGRAM`` takes its place, ``--entrypoint ""`` takes it away.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwex_jupyter.carry import Carried, base_of
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.runners import k8s_patch
from qwex_jupyter.runners.base import Plan, script_argv
from qwex_jupyter.runners.inside import (
    GPU_SHM,
    HISTORY_LABEL,
    INSIDE,
    RUN_LABEL,
    WORK,
    default_interpreter,
    is_python,
    when_to_pull,
)
from qwex_jupyter.spec import JobSpec

# The container of the program; whatever else a cluster puts into the pod has another name.
MAIN = "main"
# Where the script stands in the pod.
SCRIPT = "qwex.script"
# All annotations of an object together may have 262,144 bytes: k8s.io/apimachinery,
# TotalAnnotationSizeLimitB.
MOST_NOTES, MOST_SCRIPT = 262_144, 250_000
# One ConfigMap may hold 1 MiB: k8s.io/kubernetes/pkg/apis/core, MaxSecretSize. A request for
# more than one of them would not become larger, but a pod mounts each file by itself.
MOST_FILE, MOST_FILES, MOST_COUNT = 1024**2, 8 * 1024**2, 500
# How long a Job that waits for its files or secrets, and a pod whose timeout hasn't begun, may
# wait where nobody says how long. Seconds.
DAY = 86400
# Times are whole seconds there, so a timeout is never cut short.
_GRAIN = 2
_POLICIES = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_LABEL_KEY = re.compile(rf"({_DNS}/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_USER = re.compile(r"(\d+)(?::(\d+))?")


def make_plan(
    spec: JobSpec,
    run_id: str,
    history: str,
    *,
    carried: Sequence[Carried] = (),
    gpu_resource: str = "nvidia.com/gpu",
    restricted: bool = False,
) -> Plan:
    """What is handed over for a spec; no cluster is asked.

    Args:
        spec: What to run; every option is one that Kubernetes has.
        run_id: The run's id.
        history: The history's id.
        carried: What goes along.
        gpu_resource: What a GPU is called there.
        restricted: As Pod Security's level of that name wants it.

    Returns:
        ``job`` (the manifest, without values that stand in no file), ``names`` (variables whose
        values are added at submit), ``env_files``, ``secrets`` (variables whose values go into a
        Secret), ``files`` (what goes into ConfigMaps: source, path inside, whether it may be
        executed), and ``keep``.

    Raises:
        SpecError, UnsupportedOption: A value can't be right here.
    """
    if not spec.image:
        raise SpecError("the k8s runner needs an image: --image=python:3.12.")
    name = f"qwex-{run_id}"
    argv = script_argv(spec, f"{INSIDE}/{spec.script_name}", default_interpreter)
    cwd = WORK if spec.has_own_folder else spec.workdir
    if cwd and not cwd.startswith("/"):
        raise SpecError(
            f"-w {cwd}: in a container it must be a path that begins with a slash: give the "
            "whole one, or --files for copies."
        )
    labels, notes = _labels(spec.labels)
    labels |= {RUN_LABEL: run_id, HISTORY_LABEL: history}
    files = _files(carried)
    container: dict[str, Any] = {
        "name": MAIN,
        "image": spec.image,
        "imagePullPolicy": _POLICIES[when_to_pull(spec)],
        "args": [_plain(word) for word in argv],
        "env": _environment(spec, run_id, argv, name),
        "securityContext": _container_security(spec, restricted=restricted),
    }
    if "entrypoint" in spec.options:
        given = spec.options["entrypoint"]
        container["command"] = [_plain(given) if given else container["args"].pop(0)]
    if cwd:
        container["workingDir"] = cwd
    if resources := _resources(spec, gpu_resource):
        container["resources"] = {"limits": resources, "requests": dict(resources)}
    volumes, mounts = _volumes(spec, name, files, _folders(carried))
    if mounts:
        container["volumeMounts"] = mounts
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        # The program isn't pid 1 then, so it obeys SIGTERM, and a child that is left behind
        # doesn't keep the pod.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": math.ceil(spec.grace),
        "automountServiceAccountToken": "service-account" in spec.options,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    if volumes:
        pod["volumes"] = volumes
    if "service-account" in spec.options:
        pod["serviceAccountName"] = spec.options["service-account"]
    if "pull-secret" in spec.options:
        pod["imagePullSecrets"] = [{"name": spec.options["pull-secret"]}]
    if spec.timeout:
        pod["activeDeadlineSeconds"] = first_deadline(spec)
    if spec.script is not None:
        size = len(spec.script.encode())
        if size > MOST_SCRIPT:
            raise SpecError(
                f"the cell has {size:,} bytes, and {MOST_SCRIPT:,} fit into a Job: put its data "
                "into a file that --files carries, or on a claim, -v pvc/NAME:PATH."
            )
        notes[SCRIPT] = spec.script
    template: dict[str, Any] = {"metadata": {"labels": labels}, "spec": pod}
    if notes:
        template["metadata"]["annotations"] = notes
    if "pod-patch" in spec.options:
        template = k8s_patch.patched(template, spec.options["pod-patch"], base_of(spec))
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": _witness()},
            "template": template,
        },
    }
    if spec.secrets or files:
        # Until they are there. Lifted then, so that it ends no program.
        job["spec"]["activeDeadlineSeconds"] = math.ceil(spec.start_timeout or DAY)
    inherited = {name for name, value in spec.env.items() if value is None}
    return {
        "job": job,
        "names": sorted(inherited - set(spec.secrets)),
        "env_files": list(spec.env_files),
        "secrets": sorted(spec.secrets),
        "files": files,
        "keep": spec.keep,
    }


def first_deadline(spec: JobSpec) -> int:
    """The pod's own deadline at its creation, which is lowered when the program runs. Seconds.

    It counts from the moment a node took the pod, so it has the time for the start in it, and
    holds when no kernel lives.
    """
    return math.ceil(spec.start_timeout or DAY) + math.ceil(spec.timeout or 0) + _GRAIN


def deadline_of(timeout: float, taken: float, began: float) -> int:
    """The pod's own deadline once its program runs. Seconds.

    Args:
        timeout: Seconds from the start of the program.
        taken: When a node took the pod, and
        began: when the program began, in seconds since the epoch.
    """
    return max(0, round(began - taken)) + math.ceil(timeout) + 1


def _witness() -> list[dict[str, Any]]:
    """The rules by which the Job itself says how its pod ended, also when that is gone.

    Its condition then repeats the exit code, or that the pod was evicted.
    """
    return [
        {
            "action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": MAIN, "operator": "NotIn", "values": [0]},
        },
    ]


def _plain(text: str) -> str:
    """A word that Kubernetes leaves as it is: it expands ``$(NAME)``, and makes one $ of two."""
    return text.replace("$", "$$")


def _environment(spec: JobSpec, run_id: str, argv: list[str], name: str) -> list[dict[str, Any]]:
    values = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
    if is_python(spec, argv):
        values["PYTHONPATH"] = "."
    values |= {key: value for key, value in spec.env.items() if value is not None}
    inherited = {key for key, value in spec.env.items() if value is None} | set(spec.secrets)
    env: list[dict[str, Any]] = [
        {"name": key, "value": _plain(value)}
        for key, value in values.items()
        if key not in inherited
    ]
    for number, key in enumerate(sorted(spec.secrets)):
        source = {"secretKeyRef": {"name": name, "key": f"s{number}"}}
        env.append({"name": key, "valueFrom": source})
    return env


def with_values(plan: Plan, values: Mapping[str, str]) -> dict[str, Any]:
    """The Job with the values that stand in no file; those of secrets don't stand in it either.

    Args:
        plan: See `make_plan`.
        values: See `Runner.submit`.
    """
    job: dict[str, Any] = k8s_patch.copied(plan["job"])
    container = main_of(job["spec"]["template"]["spec"])
    plain = {name: value for name, value in values.items() if name not in plan["secrets"]}
    kept = [entry for entry in container.get("env", []) if entry["name"] not in plain]
    container["env"] = kept + [
        {"name": name, "value": _plain(value)} for name, value in plain.items()
    ]
    return job


def status_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What a pod says of the container of the program; {} where it says nothing."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((one for one in statuses if one.get("name") == MAIN), {})


def main_of(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The container of the program in a pod's spec; {} where there is none."""
    found = [c for c in pod_spec.get("containers") or [] if c.get("name") == MAIN]
    return found[0] if found else {}


def _container_security(spec: JobSpec, *, restricted: bool) -> dict[str, Any]:
    context: dict[str, Any] = {"allowPrivilegeEscalation": False}
    if spec.user:
        found = _USER.fullmatch(spec.user)
        if not found:
            raise SpecError(
                f"-u {spec.user}: Kubernetes knows users by their numbers only: write UID or "
                "UID:GID."
            )
        context["runAsUser"] = int(found[1])
        if found[2]:
            context["runAsGroup"] = int(found[2])
    if "read-only" in spec.options:
        context["readOnlyRootFilesystem"] = True
    if restricted:
        context |= {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    return context


def _resources(spec: JobSpec, gpu_resource: str) -> dict[str, str]:
    asked: dict[str, str] = {}
    if spec.resources.cpus:
        asked["cpu"] = f"{max(1, round(spec.resources.cpus * 1000))}m"
    if spec.resources.memory:
        asked["memory"] = str(spec.resources.memory)
    if spec.resources.gpus == "all":
        raise SpecError("--gpus all: a pod asks for a number of GPUs: write --gpus 1.")
    if spec.resources.gpus:
        asked[gpu_resource] = spec.resources.gpus
    return asked


def _labels(words: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The user's words as labels; those that can't be one as annotations."""
    labels: dict[str, str] = {}
    notes: dict[str, str] = {}
    for key, value in words.items():
        if not _LABEL_KEY.fullmatch(key) or key.startswith("qwex."):
            raise SpecError(
                f"-l {key}: Kubernetes takes [PREFIX/]NAME of letters, digits, '.', '_' and '-' "
                "that begins with a letter or digit; what begins with qwex. is ours."
            )
        (labels if _LABEL_VALUE.fullmatch(value) else notes)[key] = value
    return labels, notes


def _volumes(
    spec: JobSpec, name: str, files: list[list[Any]], folders: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
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
        for number, group in enumerate(_groups(files)):
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
    shm = spec.resources.shm_size or (GPU_SHM if spec.resources.gpus else None)
    if shm:
        memory = {"medium": "Memory", "sizeLimit": str(shm)}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    for number, word in enumerate(spec.volumes):
        claim, target, read_only = _claim(word)
        claimed = {"claimName": claim, "readOnly": read_only}
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": claimed})
        mounts.append({"name": f"claim-{number}", "mountPath": target, "readOnly": read_only})
    return volumes, mounts


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
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise SpecError(f"-v {word}: behind the second colon stands ro or rw.")
    target = parts[1]
    if not target.startswith("/"):
        raise SpecError(f"-v {word}: {target!r} must be a path inside, beginning with a slash.")
    if target == INSIDE or target.startswith(f"{INSIDE}/"):
        raise SpecError(f"-v {word}: {INSIDE} is where the cell's own script lies; take another.")
    return name, target, mode == "ro"


def _files(carried: Iterable[Carried]) -> list[list[Any]]:
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


def _folders(carried: Iterable[Carried]) -> list[str]:
    """The folders of what is carried, empty ones too, outer ones first."""
    found: set[str] = set()
    for one in carried:
        path = one.path if one.folder else os.path.dirname(one.path)
        while path:
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def _groups(files: list[list[Any]]) -> list[list[int]]:
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


def config_maps(plan: Plan) -> list[dict[str, Any]]:
    """The ConfigMaps of what is carried, without their owner; see `make_plan`."""
    pod = plan["job"]["spec"]["template"]["spec"]
    made = []
    for volume in pod.get("volumes", []):
        if not str(volume["name"]).startswith("files-"):
            continue
        data = {}
        for item in volume["configMap"]["items"]:
            with open(plan["files"][int(item["key"][1:])][0], "rb") as file:
                data[item["key"]] = base64.b64encode(file.read()).decode()
        made.append(_companion(plan, "ConfigMap", volume["configMap"]["name"], binaryData=data))
    return made


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


def as_yaml(plan: Plan) -> str:
    """What ``kubectl apply -f -`` runs to the same output.

    Values that stand in no file are left to the person: a comment says which, and the line that
    makes the Secret.
    """
    job = k8s_patch.copied(plan["job"])
    # Made by hand, the companions are there first.
    job["spec"].pop("activeDeadlineSeconds", None)
    manifests = [*config_maps(plan), job]
    text = k8s_patch.dumped(manifests)
    lines = []
    if any(len(json.dumps(one)) > MOST_NOTES for one in manifests):
        # apply keeps a copy of each in its annotations.
        lines.append("# more than kubectl apply takes: kubectl create -f -")
    if plan["secrets"]:
        pairs = " ".join(f'--from-literal=s{n}="${v}"' for n, v in enumerate(plan["secrets"]))
        name = plan["job"]["metadata"]["name"]
        lines.append(f"# first: kubectl create secret generic {name} {pairs}")
    if plan["names"] or plan["env_files"]:
        missing = ", ".join([*plan["names"], *plan["env_files"]])
        lines.append(f"# to be added to env, with the values they have here: {missing}")
    return "\n".join([*lines, text.rstrip("\n")])
