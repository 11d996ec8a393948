"""A spec as a ``batch/v1`` Job and what belongs to it, and as YAML for kubectl: pure.

A run is one object, its Job. The cell's script travels in it, as an annotation of the pod that a
downward-API volume makes a file of. Copies of files travel in ConfigMaps and secrets in a
Secret, all owned by the Job. The user's image and command, and nothing of ours beside them: so
nobody can copy the copies, and they can be read and not changed; their folders can be written.

An image's ENTRYPOINT stays and gets the command as its arguments, as on the other runners;
``--entrypoint PROGRAM`` takes its place, ``--entrypoint ""`` takes it away.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from qwex_jupyter.disk.carry import Carried, base_of
from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.argv import is_python, script_argv, script_text
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container.asking import asking
from qwex_jupyter.runners.container.conventions import (
    HISTORY_LABEL,
    INSIDE,
    RUN_LABEL,
    WORK,
    default_interpreter,
    given,
    when_to_pull,
)
from qwex_jupyter.runners.k8s import patch
from qwex_jupyter.runners.k8s.files import config_maps, files_of, folders_of
from qwex_jupyter.runners.k8s.mounts import SCRIPT, add_asking, volumes_of

# Where the kubelet looks for what a container says at its end: k8s.io/api/core/v1,
# TerminationMessagePathDefault.
_MESSAGE = "/dev/termination-log"
# The container of the program; whatever else a cluster puts into the pod has another name.
MAIN = "main"
# All annotations of an object together may have 262,144 bytes: k8s.io/apimachinery,
# TotalAnnotationSizeLimitB.
MOST_NOTES, MOST_SCRIPT = 262_144, 250_000
# How long a Job that waits for its files or secrets, and a pod whose timeout hasn't begun, may
# wait where nobody says how long. Seconds.
DAY = 86400
# Times are whole seconds there, so a timeout is never cut short.
_GRAIN = 2
_POLICIES = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
# The rules by which the Job itself says how its pod ended, also when that is gone: its condition
# then repeats the exit code, or that the pod was evicted.
_WITNESS = (
    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "FailJob",
        "onExitCodes": {"containerName": MAIN, "operator": "NotIn", "values": [0]},
    },
)
_DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_LABEL_KEY = re.compile(rf"({_DNS}/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_USER = re.compile(r"(?P<runAsUser>\d+)(?::(?P<runAsGroup>\d+))?")


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
        values are added at submit), ``asking`` (what is other in the container, and the ``file``
        that is added, where bash is to tell which command fails; {} elsewhere. It isn't shown),
        ``env_files``, ``secrets`` (variables whose values go into a
        Secret), ``files`` (what goes into ConfigMaps: source, path inside, whether it may be
        executed), and ``keep``.

    Raises:
        SpecError, UnsupportedOption: A value can't be right here.
    """
    if not spec.image:
        raise SpecError("the k8s runner needs an image: --image=python:3.12.")
    name = f"qwex-{run_id}"
    labels, notes = _labels(spec.labels)
    labels |= {RUN_LABEL: run_id, HISTORY_LABEL: history}
    files = files_of(carried)
    container = _container(spec, run_id, gpu_resource, restricted=restricted)
    volumes, mounts = volumes_of(spec, name, files, folders_of(carried))
    container |= given({"volumeMounts": mounts})
    if spec.script is not None:
        notes[SCRIPT] = _checked(script_text(spec))
    template: dict[str, Any] = {
        "metadata": {"labels": labels, **given({"annotations": notes})},
        "spec": _pod(spec, container, volumes),
    }
    if "pod-patch" in spec.options:
        template = patch.patched(template, spec.options["pod-patch"], base_of(spec))
    asked = _asking(spec, container, main_of(template["spec"]))
    # Until files and secrets are there. Lifted then, so that it ends no program.
    deadline = math.ceil(spec.start_timeout or DAY) if spec.secrets or files else None
    job_spec = {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": list(_WITNESS)},
        "template": template,
        **given({"activeDeadlineSeconds": deadline}),
    }
    inherited = {name for name, value in spec.env.items() if value is None}
    return {
        "job": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": job_spec,
        },
        "names": sorted(inherited - set(spec.secrets)),
        "asking": asked,
        "env_files": list(spec.env_files),
        "secrets": sorted(spec.secrets),
        "files": files,
        "keep": spec.keep,
    }


def _container(
    spec: JobSpec, run_id: str, gpu_resource: str, *, restricted: bool
) -> dict[str, Any]:
    """The container of the program, without what it mounts."""
    cwd = WORK if spec.has_own_folder else spec.workdir
    if cwd and not cwd.startswith("/"):
        raise SpecError(
            f"-w {cwd}: in a container it must be a path that begins with a slash: give the "
            "whole one, or --files for copies."
        )
    container: dict[str, Any] = {
        "name": MAIN,
        "image": spec.image,
        "imagePullPolicy": _POLICIES[when_to_pull(spec)],
        **_words(spec, script_argv(spec, _path(spec), default_interpreter)),
        "env": _environment(spec, run_id),
        "securityContext": _container_security(spec, restricted=restricted),
    }
    sizes = _resources(spec, gpu_resource)
    resources = {"limits": sizes, "requests": dict(sizes)} if sizes else None
    return {**container, **given({"workingDir": cwd, "resources": resources})}


def _path(spec: JobSpec) -> str:
    return f"{INSIDE}/{spec.script_name}"


def _words(spec: JobSpec, argv: Sequence[str]) -> dict[str, list[str]]:
    """A command as a container says it."""
    args = [_plain(word) for word in argv]
    if "entrypoint" not in spec.options:
        return {"args": args}
    word = _plain(spec.options["entrypoint"])
    return {"args": args if word else args[1:], "command": [word or args[0]]}


def _asking(
    spec: JobSpec, planned: Mapping[str, Any], patched: Mapping[str, Any]
) -> dict[str, Any]:
    """What has bash tell which command of the script fails; {} where it can't be asked.

    Args:
        spec: What to run.
        planned: The container as it was without a patch.
        patched: The container as it is.
    """
    script = None if spec.script is None else script_text(spec)
    asked = asking(script_argv(spec, _path(spec), default_interpreter), _path(spec), script)
    mine = ("args", "command", "volumeMounts")
    if script is None or asked is None or any(planned.get(n) != patched.get(n) for n in mine):
        return {}
    # A pod says what is written there when it ends, and has it on a root that is read-only too.
    told = patched.get("terminationMessagePath") or _MESSAGE
    return {"container": _words(spec, asked), "file": bash.env_file(str(told), script)}


def _pod(
    spec: JobSpec, container: Mapping[str, Any], volumes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The pod's spec."""
    account, pull_secret = map(spec.options.get, ("service-account", "pull-secret"))
    wanted = {
        "volumes": volumes,
        "serviceAccountName": account,
        "imagePullSecrets": [{"name": pull_secret}] if pull_secret else None,
        "activeDeadlineSeconds": first_deadline(spec) if spec.timeout else None,
    }
    return {
        "restartPolicy": "Never",
        # The program isn't pid 1 then, so it obeys SIGTERM, and a child that is left behind
        # doesn't keep the pod.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": math.ceil(spec.grace),
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        **given(wanted),
    }


def _checked(script: str) -> str:
    """A script that fits into a Job.

    Raises:
        SpecError: It has too many bytes.
    """
    size = len(script.encode())
    if size > MOST_SCRIPT:
        raise SpecError(
            f"the cell has {size:,} bytes, and {MOST_SCRIPT:,} fit into a Job: put its data "
            "into a file that --files carries, or on a claim, -v pvc/NAME:PATH."
        )
    return script


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


def _plain(text: str) -> str:
    """A word that Kubernetes leaves as it is: it expands ``$(NAME)``, and makes one $ of two."""
    return text.replace("$", "$$")


def _environment(spec: JobSpec, run_id: str) -> list[dict[str, Any]]:
    paths = given({"PYTHONPATH": "." if is_python(spec) else ""})
    values = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id, **paths}
    values |= {key: value for key, value in spec.env.items() if value is not None}
    inherited = {key for key, value in spec.env.items() if value is None} | set(spec.secrets)
    env: list[dict[str, Any]] = [
        {"name": key, "value": _plain(value)}
        for key, value in values.items()
        if key not in inherited
    ]
    for number, key in enumerate(sorted(spec.secrets)):
        source = {"secretKeyRef": {"name": f"qwex-{run_id}", "key": f"s{number}"}}
        env.append({"name": key, "valueFrom": source})
    return env


def with_values(plan: Plan, values: Mapping[str, str]) -> dict[str, Any]:
    """The Job with the values that stand in no file; those of secrets don't stand in it either.

    Args:
        plan: See `make_plan`.
        values: See `Runner.submit`.
    """
    job: dict[str, Any] = patch.copied(plan["job"])
    container = main_of(job["spec"]["template"]["spec"])
    if asked := plan["asking"]:
        container.update(patch.copied(asked["container"]))
        add_asking(job["spec"]["template"], container, asked["file"])
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
    return next((c for c in pod_spec.get("containers") or [] if c.get("name") == MAIN), {})


def _container_security(spec: JobSpec, *, restricted: bool) -> dict[str, Any]:
    found = _USER.fullmatch(spec.user) if spec.user else None
    if spec.user and not found:
        raise SpecError(
            f"-u {spec.user}: Kubernetes knows users by their numbers only: write UID or UID:GID."
        )
    ids = given(found.groupdict() if found else {})
    wanted = {
        "readOnlyRootFilesystem": "read-only" in spec.options,
        "runAsNonRoot": restricted,
        "capabilities": {"drop": ["ALL"]} if restricted else None,
    }
    return {
        "allowPrivilegeEscalation": False,
        **{k: int(v) for k, v in ids.items()},
        **given(wanted),
    }


def _resources(spec: JobSpec, gpu_resource: str) -> dict[str, str]:
    cpus, memory, gpus = spec.resources.cpus, spec.resources.memory, spec.resources.gpus
    if gpus == "all":
        raise SpecError("--gpus all: a pod asks for a number of GPUs: write --gpus 1.")
    sizes = {
        "cpu": f"{max(1, round(cpus * 1000))}m" if cpus else None,
        "memory": str(memory) if memory else None,
        gpu_resource: gpus,
    }
    return given(sizes)


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


def as_yaml(plan: Plan) -> str:
    """What ``kubectl apply -f -`` runs to the same output.

    Values that stand in no file are left to the person: a comment says which, and the line that
    makes the Secret.
    """
    job = patch.copied(plan["job"])
    # Made by hand, the companions are there first.
    job["spec"].pop("activeDeadlineSeconds", None)
    manifests = [*config_maps(plan), job]
    text = patch.dumped(manifests)
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
