"""A spec as the body of ``POST /containers/create``, and as a ``docker run`` line: pure.

The user's image and command, and nothing of ours in them. The cell's script and carried files
reach the container by an archive, put into an anonymous volume at `INSIDE` before it starts:
no mount of this machine, so the engine may be elsewhere, and the root may be read-only.

An image's ENTRYPOINT stays, as it does for ``docker run`` and for ``args`` of a pod: it gets
the command as its arguments (wrappers that set up an environment are made for that).
``--entrypoint PROGRAM`` takes its place, ``--entrypoint ""`` takes it away.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, cast

from qwex_jupyter.disk.carry import base_of, manifest
from qwex_jupyter.disk.folder import BASH_ENV, FAILED, RunFolder
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.runners import bash
from qwex_jupyter.runners.argv import free_mark, is_python, script_argv, script_text
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.container.asking import asking
from qwex_jupyter.runners.container.conventions import (
    HISTORY_LABEL,
    HOME,
    INSIDE,
    RUN_LABEL,
    WORK,
    default_interpreter,
    given,
    shm_of,
    target_of,
    when_to_pull,
)
from qwex_jupyter.runners.docker.settings import platform, refuse_unsigned
from qwex_jupyter.system import windows
from qwex_jupyter.system.paths import split_mount, whole_path

# Each setting that is omitted is inherited from the engine's own, and those lose lines: by
# rotation, and by a buffer that overflows. A max-size of -1 is refused by 20.10.
LOGGING = {
    "Type": "json-file",
    "Config": {
        "max-size": "1000000g",
        "max-file": "1",
        "compress": "false",
        "mode": "blocking",
    },
}
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# The working folder where a container is run by hand, in a shell line.
WORK_HERE = '"$d"/work'
_IN_MEMORY = 16 * 1024**2


def make_plan(spec: JobSpec, run_id: str, history: str, copying: Sequence[str] = ()) -> Plan:
    """What is handed over for a spec; no engine is asked.

    Args:
        spec: What to run; every option is one that Docker has.
        run_id: The run's id.
        history: The history's id.
        copying: Lines for a shell that put what is carried into `WORK_HERE`.

    Returns:
        ``name``, ``body`` (of the create call, without values that stand in no file),
        ``names`` (variables whose values are added at submit), ``env_files``, ``script`` (its
        text), ``archive`` (what is put into the container), ``asking`` (what is other in the
        body where bash is to tell which command fails; it needs files of ours, and isn't shown),
        ``pull``, ``platform``, ``python`` (whether the image's PYTHONPATH is kept behind the
        working folder), ``here`` (whether files in a shared folder are to be the user's), and for
        `run_line` ``copying``,
        ``context``, ``keep`` and ``defaults`` (variables that any other mention goes before).

    Raises:
        SpecError, UnsupportedOption: A value can't be right here.
    """
    if not spec.image:
        raise SpecError("the docker runner needs an image: --image=python:3.12.")
    if spec.here and windows.HERE:
        raise SpecError(
            "--here: a container has no folder with the name of one of Windows: mount it with "
            "-v .:/here -w /here where the engine is Docker Desktop, or carry copies with --files."
        )
    refuse_unsigned(spec.image)
    pull = when_to_pull(spec)
    path = f"{INSIDE}/{spec.script_name}"
    argv = script_argv(spec, path, default_interpreter)
    script = None if spec.script is None else script_text(spec)
    asked = _words(spec, asking(argv, path, script))
    python = is_python(spec)
    cwd = WORK if spec.has_own_folder else base_of(spec) if spec.here else spec.workdir
    if cwd and not cwd.startswith("/"):
        raise SpecError(
            f"-w {cwd}: in a container it must be a path that begins with a slash: give the "
            "whole one, --here for this folder, or --files for copies."
        )
    # A uid of this machine has no home in the image, and no name.
    home = spec.here and "HOME" not in spec.env
    names = sorted({n for n, v in spec.env.items() if v is None} | set(spec.secrets))
    ours = _our_variables(spec, run_id, python=python, home=home)
    env = {name: value for name, value in ours.items() if name not in names}
    defaults = [name for name in env if name not in spec.env]
    env |= {name: value for name, value in spec.env.items() if value is not None}
    inside = spec.script is not None or spec.has_own_folder or home
    wanted: dict[str, Any] = {
        "WorkingDir": cwd,
        "User": spec.user or (f"{os.getuid()}:{os.getgid()}" if spec.here else None),
    }
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**spec.labels, RUN_LABEL: run_id, HISTORY_LABEL: history},
        "HostConfig": _host_config(spec, cwd if spec.here else None),
        **given({**wanted, "Volumes": {INSIDE: {}} if inside else None}),
        **_words(spec, argv),
    }
    return {
        "name": f"qwex-{run_id}",
        "body": body,
        "names": names,
        "env_files": list(spec.env_files),
        "defaults": defaults,
        "script": script,
        "asking": asked,
        "archive": {
            "inside": inside,
            "script": None if spec.script is None else spec.script_name,
            "files": spec.has_own_folder,
            "home": home,
        },
        "copying": list(copying),
        "pull": pull,
        "platform": platform(spec.options.get("platform", "")),
        "python": python,
        "here": spec.here and spec.user is None,
        "context": spec.options.get("context", ""),
        "keep": spec.keep,
    }


def _words(spec: JobSpec, argv: list[str] | None) -> dict[str, list[str]]:
    """A command as a body says it; {} for None."""
    if argv is None or "entrypoint" not in spec.options:
        return given({"Cmd": argv})
    # One word, as for docker run. Without one the command itself takes its place: an empty list
    # would bring the image's own back.
    word = spec.options["entrypoint"]
    return {"Entrypoint": [word or argv[0]], "Cmd": argv if word else argv[1:]}


def _our_variables(spec: JobSpec, run_id: str, *, python: bool, home: bool) -> dict[str, str]:
    """The variables that a run has unless its spec says something else of them."""
    mine = {"USER": _my_name(), "LOGNAME": _my_name()} if home and not spec.user else {}
    values = {"PYTHONPATH": "." if python else "", "HOME": HOME if home else ""}
    return {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id, **given(values), **mine}


def _host_config(spec: JobSpec, here: str | None) -> dict[str, Any]:
    resources, gpus = spec.resources, []
    if resources.gpus:
        count = -1 if resources.gpus == "all" else int(resources.gpus)
        gpus.append({"Driver": "", "Count": count, "Capabilities": [["gpu"]]})
    mounts = [_mount(word, spec.cwd) for word in spec.volumes]
    if here:
        mounts.append({"Type": "bind", "Source": here, "Target": here, "ReadOnly": False})
    wanted = {
        "NetworkMode": spec.options.get("network"),
        "NanoCpus": round((resources.cpus or 0) * 1e9),
        "Memory": resources.memory,
        "MemorySwap": resources.memory,  # without it Docker adds as much swap again
        "DeviceRequests": gpus,
        "ShmSize": shm_of(spec),
        "ReadonlyRootfs": "read-only" in spec.options,
        "Mounts": mounts,
    }
    return {"LogConfig": LOGGING, "Init": True, **given(wanted)}


def _mount(word: str, base: str | None) -> dict[str, Any]:
    """A ``SRC:DST[:ro]`` word; a source with a slash is a path, else the name of a volume.

    Args:
        word: The word.
        base: What a relative path counts from; None for the current folder.
    """
    parts = split_mount(word)
    if len(parts) not in (2, 3) or not all(parts):
        raise SpecError(f"-v {word}: write SRC:DST or SRC:DST:ro.")
    source, (target, read_only) = parts[0], target_of(word, parts)
    if source.startswith("pvc/"):
        raise UnsupportedOption(f"-v {word}", "docker", ["k8s"], "because claims are of Kubernetes")
    if source.startswith(("/", ".", "~")) or ":" in source:
        path = whole_path(source, base)
        return {"Type": "bind", "Source": path, "Target": target, "ReadOnly": read_only}
    if not _VOLUME_NAME.fullmatch(source):
        raise SpecError(
            f"-v {word}: {source!r} is neither a path (begin it with / or ./) nor the name of a "
            "volume."
        )
    return {"Type": "volume", "Source": source, "Target": target, "ReadOnly": read_only}


def _my_name() -> str:
    import pwd  # not on Windows, which has no --here

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "user"


def binds(plan: Plan) -> list[str]:
    """The paths that the engine is to mount from its own machine."""
    mounts = plan["body"]["HostConfig"].get("Mounts", [])
    return [str(mount["Source"]) for mount in mounts if mount["Type"] == "bind"]


def archive(plan: Plan, folder: RunFolder) -> IO[bytes]:
    """A tar of what lies in `INSIDE` when the program starts.

    The container may run as anybody: what is put there is readable, and the working folder and
    the home writable, for all of its users.
    """
    wanted = plan["archive"]
    file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if wanted["script"]:
            with open(os.path.join(folder, wanted["script"]), "rb") as script:
                data = script.read()
            entry = _entry(wanted["script"], 0o755)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        if plan["asking"]:
            text = bash.env_file(f"{INSIDE}/{FAILED}", plan["script"]).encode()
            for name, mode, data in ((BASH_ENV, 0o644, text), (FAILED, 0o666, b"")):
                entry = _entry(name, mode)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        if wanted["files"]:
            _add_carried(tar, folder)
        if wanted["home"]:
            tar.addfile(_entry("home", 0o777, tarfile.DIRTYPE))
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    # tarfile fills the last record up to 10 KB. Podman reads to the end of the archive, closes
    # the pipe, and may fail at what comes behind it.
    file.truncate(end)
    file.seek(0)
    return file


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type = mode, kind
    return entry


def _add_carried(tar: tarfile.TarFile, folder: RunFolder) -> None:
    tar.addfile(_entry("work", 0o777, tarfile.DIRTYPE))
    for one in manifest(folder) or []:
        may_run = one.folder or one.mode & 0o100
        kind = tarfile.DIRTYPE if one.folder else tarfile.REGTYPE
        entry = _entry(f"work/{one.path}", 0o777 if may_run else 0o666, kind)
        entry.mtime = one.mtime // 10**9
        if one.folder:
            tar.addfile(entry)
            continue
        entry.size = one.size
        with open(one.source, "rb") as file:
            tar.addfile(entry, file)


def run_line(plan: Plan) -> str:
    """Lines for a shell that do the same by hand: ``docker run``, and what it needs before.

    Script and copies lie in a folder that is made for them and are mounted, so the engine must
    be one of this machine. Without what only we need: its name, our labels, and the log's
    settings. Nor does it keep a PYTHONPATH of the image's own, or hold a timeout.
    """
    body, host = plan["body"], plan["body"]["HostConfig"]
    count = host.get("DeviceRequests", [{}])[0].get("Count")
    # The docker client lets -e go before any env file, and so it isn't for a default.
    elsewhere = set(plan["defaults"]) & _named_in(plan["env_files"])
    env = [pair for pair in body["Env"] if pair.partition("=")[0] not in elsewhere]
    labels = {n: v for n, v in body["Labels"].items() if n not in (RUN_LABEL, HISTORY_LABEL)}
    words = ["docker", *(["--context", plan["context"]] if plan["context"] else []), "run"]
    for option, value in (
        ("--rm", not plan["keep"]),
        ("--init", True),
        ("--pull", plan["pull"] if plan["pull"] != "missing" else None),
        ("--platform", plan["platform"]),
        ("--network", host.get("NetworkMode")),
        ("--cpus", f"{host['NanoCpus'] / 1e9:g}" if "NanoCpus" in host else None),
        ("--memory", host.get("Memory")),
        ("--memory-swap", host.get("MemorySwap")),
        ("--shm-size", host.get("ShmSize")),
        ("--user", body.get("User")),
        ("--workdir", body.get("WorkingDir")),
        ("--gpus", "all" if count == -1 else count),
        ("--read-only", host.get("ReadonlyRootfs")),
        *(("-e", pair) for pair in [*env, *plan["names"]]),
        *(("--env-file", path) for path in plan["env_files"]),
        *(("--label", f"{name}={value}") for name, value in labels.items()),
        *(("--mount", _mount_word(mount)) for mount in host.get("Mounts", [])),
        ("--tmpfs", f"{HOME}:mode=1777" if plan["archive"]["home"] else None),
        *(("--entrypoint", word) for word in body.get("Entrypoint", [])),
    ):
        if value:
            words += [option] if value is True else [option, str(value)]
    before, mounts = _made_before(plan)
    lines = [
        *before,
        " ".join([shlex.join(words), *mounts, shlex.join([body["Image"], *body["Cmd"]])]),
    ]
    return "\n".join(lines)


def _mount_word(mount: Mapping[str, Any]) -> str:
    """A mount as ``--mount`` takes it: like ``-v``, but nothing is made where nothing is."""
    fields = [f"type={mount['Type']}", f"source={mount['Source']}", f"target={mount['Target']}"]
    fields += ["readonly"] if mount["ReadOnly"] else []
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _made_before(plan: Plan) -> tuple[list[str], list[str]]:
    """Shell lines that make script and copies in a folder, and the options that mount them."""
    lines: list[str] = []
    mounts: list[str] = []
    name, text = plan["archive"]["script"], plan["script"]
    if name:
        lines += [_heredoc(text, f'"$d"/{name}'), f'chmod 755 "$d"/{name}']
        mounts.append(f'-v "$d"/{name}:{INSIDE}/{name}:ro')
    if plan["archive"]["files"]:
        lines += [*plan["copying"], f"chmod -R a+rwX {WORK_HERE}"]
        mounts.append(f"-v {WORK_HERE}:{WORK}")
    return (["d=$(mktemp -d)", *lines], mounts) if lines else ([], [])


def _heredoc(text: str, target: str) -> str:
    mark = free_mark(text)
    if text.endswith("\n"):
        return f"cat > {target} <<'{mark}'\n{text}{mark}"
    return f"head -c {len(text.encode())} > {target} <<'{mark}'\n{text}\n{mark}"


def _named_in(paths: Iterable[str]) -> set[str]:
    """The variables that env files give."""
    names = set()
    for path in paths:
        try:
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                names |= {line.lstrip().partition("=")[0].rstrip("\n") for line in file}
        except OSError:
            pass  # submit says what is wrong with it
    return names
