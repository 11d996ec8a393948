"""The same once more: the spec of a run, with other values where they are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.submission import mount_from
from qwex_jupyter.model.spec import JobSpec, Resources

# The ways to say where a run works: giving one of them replaces the others.
_WHERE = {"files": (), "files_of": None, "here": False, "workdir": None, "cwd": None}


def spec_of(run_id: str, spec_fact: Mapping[str, Any], given: Mapping[str, Any]) -> JobSpec:
    """What is submitted for running a run once more.

    It works where the run did: in the same folder, or among the copies that the run had.

    Args:
        run_id: The run.
        spec_fact: The content of its ``spec.json``.
        given: Other values for fields of the spec. Mappings (``env``, ``labels``, ``options``,
            ``resources``) change only what they name, and ``NAME-`` takes ``NAME`` away;
            ``secrets`` and ``env_files`` are added; a volume takes the place of the one at the
            same path; what says where it works (``files``, ``here``, ``workdir``) takes the
            place of whatever said so before, and counts from the current folder.

    Raises:
        SpecError: A value is wrong, or the run can't be had again.
    """
    spec = JobSpec.from_json(spec_fact["spec"])
    cwd = spec.cwd or spec_fact["cwd"]
    values: dict[str, Any] = dict(given)
    if any(values.get(name) for name in ("files", "here", "workdir")):
        values = {**_WHERE, **values}
    else:
        values.setdefault("cwd", cwd or None)
        values.setdefault("files_of", run_id if spec.has_own_folder else None)
    for name in ("env", "labels", "options"):
        if name in values:
            values[name] = _merged(name, getattr(spec, name), values[name])
    if "resources" in values:
        values["resources"] = _resources(spec.resources, values["resources"])
    values["volumes"] = _mounts(
        [*(mount_from(word, cwd) for word in spec.volumes), *values.get("volumes", ())]
    )
    old_files = [os.path.join(cwd, os.path.expanduser(path)) for path in spec.env_files]
    values["env_files"] = (*old_files, *values.get("env_files", ()))
    plain = {name for name, value in given.get("env", {}).items() if value is not None}
    secrets = [name for name in spec.secrets if name not in plain]
    values["secrets"] = tuple(dict.fromkeys([*secrets, *values.get("secrets", ())]))
    if given.get("secrets"):
        env = values.get("env", spec.env)
        values["env"] = {k: v for k, v in env.items() if k not in given["secrets"]}
    again = replace(spec, **values)
    here = again.here or not (again.image or again.has_own_folder)
    if here and not os.path.isabs(again.workdir or "") and not os.path.isdir(again.cwd or "."):
        raise SpecError(
            f"the folder {again.cwd}, in which it worked, isn't there any more: name another "
            "with -w, or go to one and say --here."
        )
    return again


def _merged(field: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in new.items():
        if name.endswith("-") and not value:
            if merged.pop(name[:-1], None) is None and name[:-1] not in old:
                has = ", ".join(old) or "none"
                raise SpecError(f"{field}: {name} takes nothing away: the run has {has}.")
        else:
            merged[name] = value
    return merged


def _resources(old: Resources, new: Resources | Mapping[str, Any]) -> Resources:
    if isinstance(new, Resources):
        new = {name: value for name, value in asdict(new).items() if value is not None}
    values = {**asdict(old), **new}
    return JobSpec.from_json({"command": ["true"], "resources": values}).resources


def _mounts(words: list[str]) -> tuple[str, ...]:
    """One mount for each path inside, the last that was given."""
    return tuple({[*word.split(":"), ""][1]: word for word in words}.values())
