"""Manifests as YAML, and patches of them: what ``--pod-patch`` means.

Maps are merged, lists of named things by their names (mounts by their path), other lists of
things are joined, everything else is replaced; null takes away.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.runners.container import clients
from qwex_jupyter.runners.k8s.settings import OTHERS

# By what the things of a list are told apart; others by their name.
_KEYS = {"volumeMounts": "mountPath", "volumeDevices": "devicePath", "hostAliases": "ip"}
# What kubectl reads as the text that it is, without quotes. It reads more words as true or false,
# and more as numbers (1e-3, 0o17), than PyYAML thinks.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_BOOLEAN_IN_GO = {"y", "Y", "n", "N"}
# These end a line in a block of YAML, and some of them don't come back.
_LINE_ENDS = re.compile("[\x85\u2028\u2029\ufeff]")


def copied(manifest: Any) -> Any:
    """A manifest that can be changed without changing this one."""
    return json.loads(json.dumps(manifest))


def patched(template: dict[str, Any], patch: str, base: str) -> dict[str, Any]:
    """A pod template with the user's patch merged in.

    Args:
        template: ``metadata`` and ``spec`` of a pod.
        patch: YAML or JSON, or the path of a file with it: of a pod's ``spec``, or with
            ``spec`` and ``metadata`` as its only keys.
        base: The folder that a relative path counts from.

    Raises:
        SpecError: It is no YAML, no mapping, or changes what a run rests on.
    """
    value = _read(patch, base)
    if not set(value) <= {"spec", "metadata"}:
        value = {"spec": value}
    merged: dict[str, Any] = _merge(template, value)
    before, after = template["spec"], merged.get("spec") or {}
    _check_shape(merged)
    labels = (merged.get("metadata") or {}).get("labels") or {}
    ours = template["metadata"]["labels"]
    if before["restartPolicy"] != after.get("restartPolicy") or any(
        labels.get(name) != value for name, value in ours.items() if name.startswith("qwex.")
    ):
        raise SpecError(
            "--pod-patch: restartPolicy and the labels qwex.run and qwex.history are what a run "
            "is found and counted by: leave them out."
        )
    notes = (merged.get("metadata") or {}).get("annotations") or {}
    if any(
        notes.get(name) != text
        for name, text in template["metadata"].get("annotations", {}).items()
        if name.startswith("qwex.")
    ):
        raise SpecError("--pod-patch: the annotation qwex.script is the cell: leave it as it is.")
    first = before["containers"][0]["name"]
    if [c.get("name") for c in after.get("containers") or []].count(first) != 1:
        raise SpecError(f"--pod-patch: the container {first!r} is the program's: it must stay.")
    return merged


def _check_shape(template: dict[str, Any]) -> None:
    """Refuses what is no pod at all; what else may be wrong with one, the cluster says better."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    maps = {"metadata": meta, "spec": spec}
    if isinstance(meta, dict):
        maps |= {name: meta.get(name) or {} for name in ("labels", "annotations")}
    lists = {"containers": spec.get("containers") or []} if isinstance(spec, dict) else {}
    for name, value in maps.items():
        if not isinstance(value, dict):
            raise SpecError(f"--pod-patch: {name} must be a mapping.")
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise SpecError(f"--pod-patch: {name} must be a list of mappings, each with its name.")


def _read(patch: str, base: str) -> dict[str, Any]:
    clients.load("yaml", OTHERS, brought_by="kubernetes")
    import yaml

    text, where = patch, "--pod-patch"
    path = os.path.join(base, os.path.expanduser(patch))
    if "\n" not in patch and os.path.isfile(path):
        where = f"--pod-patch {patch}"
        with open(path, encoding="utf-8") as file:
            text = file.read()
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(f"{where}: this isn't YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(value, dict) or not value:
        hint = "" if ":" in text else f"; there is no file {patch!r} here"
        raise SpecError(f"{where}: give a mapping, like 'nodeSelector: {{disk: ssd}}'{hint}.")
    try:
        found: dict[str, Any] = copied(value)
    except (TypeError, ValueError) as error:
        # A date, a set: YAML has more than JSON.
        raise SpecError(f"{where}: {error}: put it into quotes.") from error
    return found


def _merge(base: Any, patch: Any, name: str = "") -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = dict(base)
        for key, value in patch.items():
            merged[key] = _merge(base.get(key), value, key)
            if value is None:
                del merged[key]
        return merged
    if isinstance(base, list) and isinstance(patch, list):
        return _joined(base, patch, _KEYS.get(name, "name"))
    return copied(patch)


def _joined(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    things = [*base, *patch]
    if not all(isinstance(thing, dict) for thing in things):
        return list(copied(patch))
    joined = list(base)
    for thing in patch:
        at = next(
            (n for n, old in enumerate(joined) if key in thing and old.get(key) == thing[key]), None
        )
        if at is None:
            joined.append(copied(thing))
        else:
            joined[at] = _merge(joined[at], thing)
    return joined


def dumped(manifests: Iterable[Any]) -> str:
    """Manifests as YAML that kubectl reads to just these values."""
    clients.load("yaml", OTHERS, brought_by="kubernetes")
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style: str | None = '"'
        if _PLAIN.fullmatch(value) and value not in _BOOLEAN_IN_GO:
            style = None
        elif "\n" in value and not _LINE_ENDS.search(value):
            style = "|"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    found: str = yaml.dump_all(
        manifests, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return found
