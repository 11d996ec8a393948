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
import pwd
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, cast

from qwex_jupyter.carry import base_of, manifest
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.runners.base import Plan, script_argv
from qwex_jupyter.runners.inside import (
    GPU_SHM,
    HISTORY_LABEL,
    HOME,
    INSIDE,
    RUN_LABEL,
    WORK,
    default_interpreter,
    is_python,
    when_to_pull,
)
from qwex_jupyter.spec import JobSpec

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
        text), ``archive`` (what is put into the container), ``pull``, ``python`` (whether the
        image's PYTHONPATH is kept behind the working folder), ``here`` (whether files in a
        shared folder are to be the user's), and for `run_line` ``copying``, ``context``, ``keep``
        and ``defaults`` (variables that any other mention goes before).

    Raises:
        SpecError, UnsupportedOption: A value can't be right here.
    """
    if not spec.image:
        raise SpecError("the docker runner needs an image: --image=python:3.12.")
    pull = when_to_pull(spec)
    path = f"{INSIDE}/{spec.script_name}"
    argv = script_argv(spec, path, default_interpreter)
    python = is_python(spec, argv)
    cwd = WORK if spec.has_own_folder else base_of(spec) if spec.here else spec.workdir
    if cwd and not cwd.startswith("/"):
        raise SpecError(
            f"-w {cwd}: in a container it must be a path that begins with a slash: give the "
            "whole one, --here for this folder, or --files for copies."
        )
    user = spec.user or (f"{os.getuid()}:{os.getgid()}" if spec.here else None)
    # A uid of this machine has no home in the image, and no name.
    home = spec.here and "HOME" not in spec.env
    env = {"PYTHONUNBUFFERED": "1", "QWEX_RUN_ID": run_id}
    if python:
        env["PYTHONPATH"] = "."
    if home:
        env["HOME"] = HOME
        if not spec.user:
            env |= {"USER": _my_name(), "LOGNAME": _my_name()}
    names = sorted({n for n, v in spec.env.items() if v is None} | set(spec.secrets))
    env = {name: value for name, value in env.items() if name not in names}
    defaults = [name for name in env if name not in spec.env]
    env |= {name: value for name, value in spec.env.items() if value is not None}
    inside = spec.script is not None or spec.has_own_folder or home
    body: dict[str, Any] = {
        "Image": spec.image,
        "Cmd": argv,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**spec.labels, RUN_LABEL: run_id, HISTORY_LABEL: history},
        "HostConfig": _host_config(spec, cwd if spec.here else None),
    }
    if cwd:
        body["WorkingDir"] = cwd
    if user:
        body["User"] = user
    if "entrypoint" in spec.options:
        # One word, as for docker run. Without one the command itself takes its place: an empty
        # list would bring the image's own back.
        body["Entrypoint"] = [spec.options["entrypoint"] or argv.pop(0)]
    if inside:
        body["Volumes"] = {INSIDE: {}}
    return {
        "name": f"qwex-{run_id}",
        "body": body,
        "names": names,
        "env_files": list(spec.env_files),
        "defaults": defaults,
        "script": spec.script,
        "archive": {
            "inside": inside,
            "script": None if spec.script is None else spec.script_name,
            "files": spec.has_own_folder,
            "home": home,
        },
        "copying": list(copying),
        "pull": pull,
        "python": python,
        "here": spec.here and spec.user is None,
        "context": spec.options.get("context", ""),
        "keep": spec.keep,
    }


def _host_config(spec: JobSpec, here: str | None) -> dict[str, Any]:
    resources = spec.resources
    config: dict[str, Any] = {"LogConfig": LOGGING, "Init": True}
    if "network" in spec.options:
        config["NetworkMode"] = spec.options["network"]
    if resources.cpus:
        config["NanoCpus"] = round(resources.cpus * 1e9)
    if resources.memory:
        # Without the second Docker adds as much swap again.
        config |= {"Memory": resources.memory, "MemorySwap": resources.memory}
    if resources.gpus:
        count = -1 if resources.gpus == "all" else int(resources.gpus)
        config["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    shm = resources.shm_size or (GPU_SHM if resources.gpus else None)
    if shm:
        config["ShmSize"] = shm
    if "read-only" in spec.options:
        config["ReadonlyRootfs"] = True
    mounts = [_mount(word, base_of(spec)) for word in spec.volumes]
    if here:
        mounts.append({"Type": "bind", "Source": here, "Target": here, "ReadOnly": False})
    if mounts:
        config["Mounts"] = mounts
    return config


def _mount(word: str, base: str) -> dict[str, Any]:
    """A ``SRC:DST[:ro]`` word; a source with a slash is a path, else the name of a volume.

    Args:
        word: The word.
        base: What a relative path counts from.
    """
    parts = word.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise SpecError(f"-v {word}: write SRC:DST or SRC:DST:ro.")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise SpecError(f"-v {word}: behind the second colon stands ro or rw.")
    if not target.startswith("/"):
        raise SpecError(f"-v {word}: {target!r} must be a path inside, beginning with a slash.")
    if target == INSIDE or target.startswith(f"{INSIDE}/"):
        raise SpecError(f"-v {word}: {INSIDE} is where the cell's own script lies; take another.")
    if source.startswith("pvc/"):
        raise UnsupportedOption(f"-v {word}", "docker", ["k8s"], "because claims are of Kubernetes")
    if source.startswith(("/", ".", "~")):
        path = os.path.normpath(os.path.join(base, os.path.expanduser(source)))
        return {"Type": "bind", "Source": path, "Target": target, "ReadOnly": mode == "ro"}
    if not _VOLUME_NAME.fullmatch(source):
        raise SpecError(
            f"-v {word}: {source!r} is neither a path (begin it with / or ./) nor the name of a "
            "volume."
        )
    return {"Type": "volume", "Source": source, "Target": target, "ReadOnly": mode == "ro"}


def _my_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "user"


def binds(plan: Plan) -> list[str]:
    """The paths that the engine is to mount from its own machine."""
    mounts = plan["body"]["HostConfig"].get("Mounts", [])
    return [str(mount["Source"]) for mount in mounts if mount["Type"] == "bind"]


def archive(plan: Plan, folder: str) -> IO[bytes]:
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
        if wanted["files"]:
            _add_carried(tar, folder)
        if wanted["home"]:
            entry = _entry("home", 0o777)
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    # tarfile fills the last record up to 10 KB. Podman reads to the end of the archive, closes
    # the pipe, and may fail at what comes behind it.
    file.truncate(end)
    file.seek(0)
    return file


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry


def _add_carried(tar: tarfile.TarFile, folder: str) -> None:
    top = _entry("work", 0o777)
    top.type = tarfile.DIRTYPE
    tar.addfile(top)
    for one in manifest(folder) or []:
        may_run = one.folder or one.mode & 0o100
        entry = _entry(f"work/{one.path}", 0o777 if may_run else 0o666)
        entry.mtime = one.mtime // 10**9
        if one.folder:
            entry.type = tarfile.DIRTYPE
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
    words = ["docker", *(["--context", plan["context"]] if plan["context"] else []), "run"]
    words += [] if plan["keep"] else ["--rm"]
    words.append("--init")
    for option, value in (
        ("--pull", plan["pull"] if plan["pull"] != "missing" else None),
        ("--network", host.get("NetworkMode")),
        ("--cpus", f"{host['NanoCpus'] / 1e9:g}" if "NanoCpus" in host else None),
        ("--memory", host.get("Memory")),
        ("--memory-swap", host.get("MemorySwap")),
        ("--shm-size", host.get("ShmSize")),
        ("--user", body.get("User")),
        ("--workdir", body.get("WorkingDir")),
    ):
        if value:
            words += [option, str(value)]
    if "DeviceRequests" in host:
        count = host["DeviceRequests"][0]["Count"]
        words += ["--gpus", "all" if count == -1 else str(count)]
    if host.get("ReadonlyRootfs"):
        words.append("--read-only")
    # The docker client lets -e go before any env file, and so it isn't for a default.
    elsewhere = set(plan["defaults"]) & _named_in(plan["env_files"])
    for pair in body["Env"]:
        if pair.partition("=")[0] not in elsewhere:
            words += ["-e", pair]
    for name in plan["names"]:
        words += ["-e", name]
    for path in plan["env_files"]:
        words += ["--env-file", path]
    for name, value in body["Labels"].items():
        if name not in (RUN_LABEL, HISTORY_LABEL):
            words += ["--label", f"{name}={value}"]
    for mount in host.get("Mounts", []):
        words += ["--mount", _mount_word(mount)]
    if plan["archive"]["home"]:
        words += ["--tmpfs", f"{HOME}:mode=1777"]
    if "Entrypoint" in body:
        words += ["--entrypoint", body["Entrypoint"][0]]
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
    mark = "QWEX_CELL"
    while mark in text:
        mark += "_"
    if text.endswith("\n"):
        return f"cat > {target} <<'{mark}'\n{text}{mark}"
    return f"head -c {len(text.encode())} > {target} <<'{mark}'\n{text}\n{mark}"


def _named_in(paths: Iterable[str]) -> set[str]:
    """The variables that env files give."""
    names = set()
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                names |= {line.lstrip().partition("=")[0].rstrip("\n") for line in file}
        except OSError:
            pass  # submit says what is wrong with it
    return names
