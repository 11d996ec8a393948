"""JobSpec: what to run, frozen and validated on construction; no I/O.

A spec is the same for every runner. Whether a runner can honour it is the runner's to say
(`Runner.plan` raises `UnsupportedOption`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.units import parse_cpus, parse_duration, parse_memory

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENV = re.compile(r"[^=\0]+")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
# A script larger than this is data. Bytes.
MOST_SCRIPT = 4 * 1024**2
# What stands above it is one line, and those that it goes on in.
_MOST_ABOVE = 1000


def parse_env(words: Iterable[str]) -> dict[str, str | None]:
    """``NAME=VALUE`` and ``NAME`` words to a mapping; None means "the value it has at submit".

    ``NAME-`` takes back what was said of ``NAME`` before; it stays in the mapping, for what is
    changed by it (see `again.spec_of`), unless ``NAME`` is given anew.

    Raises:
        SpecError: A word has no name.
    """
    env: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise SpecError(
                f"env={word!r} has no name: write NAME=VALUE, or NAME for its value now."
            )
        if name.endswith("-") and not equals:
            env.pop(name[:-1], None)
        else:
            env.pop(f"{name}-", None)
        env[name] = value if equals else None
    return env


@dataclass(frozen=True)
class Resources:
    """What a run may use; None is the runner's default (no limit of ours).

    Attributes:
        cpus: Cores.
        memory: Bytes.
        gpus: A count, or "all".
        shm_size: Bytes of ``/dev/shm``.
    """

    cpus: float | None = None
    memory: int | None = None
    gpus: str | None = None
    shm_size: int | None = None

    def __post_init__(self) -> None:
        _set(self, cpus=None if self.cpus is None else parse_cpus(self.cpus))
        _set(self, memory=None if self.memory is None else parse_memory(self.memory))
        if self.shm_size is not None:
            _set(self, shm_size=parse_memory(self.shm_size, "shm_size"))
        if self.gpus is not None:
            gpus = str(self.gpus)
            if gpus != "all" and not (gpus.isdecimal() and int(gpus) > 0):
                raise SpecError(f"gpus={self.gpus!r} isn't a count above zero or 'all'.")
            _set(self, gpus=gpus)


@dataclass(frozen=True)
class JobSpec:
    """What to run, the same for every runner.

    Attributes:
        command: The argv: an interpreter with its arguments when there is a script, else
            a program with its arguments. A lone ``-`` is where the script's path goes,
            else it goes last.
        script: The text of the cell, None when the command is all.
        script_name: The file name the script gets in the run's folder.
        lines_above: So many lines of the cell stand above its script (the ``%%qwex`` line). The
            script gets as many blank ones, so that what is said of a line names the cell's own.
        image: A container image; None for none.
        name: What the user calls it; need not be unique.
        env: Variables; None as value means: the one the submitting process has.
        env_files: Files of ``NAME=VALUE`` lines, read at submit.
        secrets: Names of variables whose values stand in nothing we write.
        workdir: Where the command runs; None is the runner's default.
        resources: Limits.
        user: uid, uid:gid or user name.
        volumes: ``SRC:DST[:ro]`` words.
        files: Paths that are copied at submit into the run's working folder.
        here: The submitter's folder is shared with the run at the same path.
        timeout: Seconds from the start of the program; None is no limit.
        start_timeout: Seconds from submit until the program must have started.
        grace: Seconds between the nice and the hard way of stopping.
        labels: The user's own words on the run.
        keep: The backend's object is not released after the run.
        options: What only one runner understands, name to value, like ``network``.
        cwd: The folder that relative paths of this machine count from, and where a process of
            this machine works; None is that of the submitting process.
        files_of: The id of a run whose copies are carried, instead of what ``files`` names now.
    """

    command: tuple[str, ...] = ()
    script: str | None = None
    script_name: str = "cell.sh"
    image: str | None = None
    name: str = ""
    env: Mapping[str, str | None] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    workdir: str | None = None
    resources: Resources = field(default_factory=Resources)
    user: str | None = None
    volumes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    here: bool = False
    timeout: float | None = None
    start_timeout: float | None = None
    grace: float = 10.0
    labels: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    files_of: str | None = None
    lines_above: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.command, str):
            raise SpecError(
                f"command={self.command!r} is one text: give a list of words, "
                'like ["bash", "-c", ...].'
            )
        for name in ("command", "env_files", "secrets", "volumes", "files"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise SpecError(f"{name}={value!r} isn't a list of texts: give a list.")
            _set(self, **{name: _texts(name, value)})
        for name in ("env", "labels", "options"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise SpecError(f"{name}={value!r} isn't a mapping: give {{name: value}}.")
            _set(self, **{name: dict(value)})
        if isinstance(self.resources, Mapping):
            _set(self, resources=_resources(self.resources))
        if not isinstance(self.resources, Resources):
            raise SpecError(f"resources={self.resources!r}: give Resources(...) or a mapping.")
        self._check_command()
        self._check_words()
        for name in ("timeout", "start_timeout"):
            if getattr(self, name) is not None:
                seconds = parse_duration(getattr(self, name), name)
                if not seconds:
                    raise SpecError(f"{name}={getattr(self, name)!r} must be above zero.")
                _set(self, **{name: seconds})
        _set(self, grace=parse_duration(self.grace, "grace"))

    @property
    def has_own_folder(self) -> bool:
        """Whether it works in a folder of its own, among copies, whoever runs it."""
        return bool(self.files or self.files_of)

    def _check_command(self) -> None:
        if self.script is not None:
            _no_nul("script", self.script)
            if not self.script.strip():
                raise SpecError("script is empty: write the commands to run under the %%qwex line.")
            size = len(self.script.encode())
            if size > MOST_SCRIPT:
                raise SpecError(
                    f"script is {size:,} bytes long, and a cell may have 4 MiB ({MOST_SCRIPT:,}): "
                    "put its data into a file and take that along with --files."
                )
        elif not self.command:
            raise SpecError("command is empty: give a program and its arguments.")
        if self.command and not self.command[0]:
            raise SpecError("command starts with an empty word: give a program.")
        if type(self.lines_above) is not int or not 0 <= self.lines_above <= _MOST_ABOVE:
            raise SpecError(
                f"lines_above={self.lines_above!r} isn't a number of lines up to {_MOST_ABOVE}."
            )
        if not re.fullmatch(r"[\w.-]+", self.script_name) or self.script_name.startswith("."):
            raise SpecError(f"script_name={self.script_name!r} must be a plain file name.")

    def _check_words(self) -> None:
        for name in ("name", "image", "workdir", "user", "cwd", "files_of"):
            if getattr(self, name) is not None:
                _no_nul(name, getattr(self, name))
        if self.image is not None and not _IMAGE.fullmatch(self.image):
            raise SpecError(
                f"image={self.image!r} isn't an image name: write NAME[:TAG], like python:3.12."
            )
        if self.name and not _NAME.fullmatch(self.name):
            raise SpecError(
                f"name={self.name!r}: up to 63 letters, digits, dots, dashes and underscores, "
                "a letter or digit first."
            )
        for name, value in self.env.items():
            if not isinstance(name, str) or not _ENV.fullmatch(name):
                raise SpecError(f"env name {name!r} must not be empty or hold '=' or a NUL byte.")
            if value is not None:
                _no_nul(f"env {name}", value)
        for name in self.secrets:
            if not _ENV.fullmatch(name):
                # The text behind the name may be the secret, so it isn't repeated.
                raise SpecError(
                    f"secrets={name.partition('=')[0]!r}=...: give only the name of a variable; "
                    "its value is taken from the environment and written nowhere."
                )
            if self.env.get(name) is not None:
                raise SpecError(f"{name} is given as secret and as plain env: choose one.")
        for name, value in self.options.items():
            _no_nul(f"options[{name!r}]", value)
        for name, value in self.labels.items():
            if not isinstance(name, str) or not _LABEL.fullmatch(name):
                raise SpecError(
                    f"label {name!r}: up to 63 letters, digits, '.', '_', '-' and '/', "
                    "beginning and ending with a letter or digit."
                )
            _no_nul(f"label {name}", value)
        for name in ("workdir", "user"):
            if getattr(self, name) == "":
                raise SpecError(f"{name} is empty: leave it out or give a value.")
        if self.here and self.workdir:
            raise SpecError(
                "here and workdir exclude each other: --here is this folder, -w another."
            )
        if self.cwd is not None and not os.path.isabs(self.cwd):
            raise SpecError(f"cwd={self.cwd!r} must be a whole path: os.path.abspath makes one.")
        if self.files_of is not None and not re.fullmatch(r"[\w-]+", self.files_of):
            raise SpecError(f"files_of={self.files_of!r} isn't a run id.")
        if self.has_own_folder and (self.here or self.workdir):
            raise SpecError(
                "files doesn't go with here or workdir: copies lie in a folder of the run's own, "
                "and that is where it works."
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable dict from which `from_json` makes an equal spec."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobSpec:
        """The spec that `to_json` described; fields of later versions are left out.

        Raises:
            SpecError: The values don't make a spec.
        """
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{key: item for key, item in value.items() if key in known})
        except (TypeError, AttributeError) as error:
            raise SpecError(f"this isn't a spec of ours: {error}") from error


def _resources(value: Mapping[str, Any]) -> Resources:
    known = [f.name for f in fields(Resources)]
    for name in value:
        if name not in known:
            raise SpecError(f"resources has no {name!r}: there are {', '.join(known)}.")
    return Resources(**value)


def _set(target: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(target, name, value)


def _texts(name: str, value: Iterable[Any]) -> tuple[str, ...]:
    words = tuple(value)
    for word in words:
        _no_nul(name, word)
    return words


def _no_nul(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise SpecError(f"{name}={value!r} must be text, not {type(value).__name__}.")
    if "\0" in value:
        raise SpecError(f"{name} holds a NUL byte, which no program can be given: take it out.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{name}={value!r} holds half a character (a lone surrogate).") from None
