"""What a runner says of itself, in plain data: what it honours, and why not what it doesn't.

A declaration is read for options, refusals, help, completion, settings and the doctor, long
before the runner itself is imported. So the module that holds one, ``<runner>/declared.py``,
imports nothing beyond `qwex_jupyter.model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Option:
    """An option as a person writes it on a line.

    Attributes:
        help: What it does, in a few words.
        value: What stands for its value in a help text, like ``SIZE``; "" where it takes none.
            Such an option of a runner's own has the value "yes" in `JobSpec.options`.
        short: A second, short word for it, like ``-m``.
        choices: The values that it can have; none named means any.
        more: What the documentation says beyond the help.
    """

    help: str
    value: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()
    more: str = ""


@dataclass(frozen=True)
class Setting:
    """A default of a runner that ``%config``, a file or the environment may replace.

    Attributes:
        default: Its value where nobody says anything.
        help: What it is for, in a sentence.
        choices: The values that it can have; none named means any text.
        is_time: Its value is a time like ``10m``; another is refused where it is set.
    """

    default: str
    help: str
    choices: tuple[str, ...] = ()
    is_time: bool = False


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a runner can promise; the contract suite asserts each, or the honest message.

    Attributes:
        durable: A run outlives the process that submitted it.
        raw_bytes: Output that isn't UTF-8 arrives unchanged.
        separate_streams: stdout and stderr are two logs.
        enforces_timeout: The timeout is enforced while no kernel lives.
        outlives_machine: A run goes on when the machine that submitted it loses power; what
            is written about it must be on the disk before it starts.
        keeps_output: The backend keeps all output until the run is released. Where it keeps
            only the newest, output is brought to disk now and then while nobody looks.
        can_force: A second cancel ends the grace at once.
        time_resolution: Seconds to which the backend's times are true.
        writes_output: A run's own processes write its output into its folder, so that nobody
            has to bring it there.
        writes_outcome: They also write its end, once all output is there. Otherwise the manager
            asks from the moment of submit on.
        starts_at_once: Another process than the submitter starts the program, and at once: one
            that hasn't after a minute was killed.
        reads_local_paths: Its programs see this machine's own files, at the same paths.
        ends_with_server: Where the notebook's server is a container or a pod, its runs end
            with that.
        asks_before_cancel: A person who clicks on cancel is asked once more, as the run may
            have waited long for its place.
    """

    durable: bool
    raw_bytes: bool
    separate_streams: bool
    enforces_timeout: bool
    outlives_machine: bool
    keeps_output: bool = True
    can_force: bool = True
    time_resolution: float = 0.0
    writes_output: bool = False
    writes_outcome: bool = False
    starts_at_once: bool = False
    reads_local_paths: bool = False
    ends_with_server: bool = False
    asks_before_cancel: bool = False


# The options that are fields of `JobSpec` and that not every runner can honour.
COMMON: Mapping[str, Option] = {
    "image": Option("container image; where no runner is named or set it means docker", "IMAGE"),
    "cpus": Option("CPU cores: 2, 0.5, 500m", "N"),
    "memory": Option(
        "memory limit: 512m, 2GiB (powers of 1024)",
        "SIZE",
        "-m",
        more="it holds for the whole process tree, and above it the run is killed, "
        "`OutOfMemory`. Locally it is looked at ten times a second, in a container there is no "
        "swap beside it",
    ),
    "gpus": Option("how many GPUs, or all", "N"),
    "shm-size": Option("size of /dev/shm (2 GiB with --gpus)", "SIZE"),
    "user": Option("uid, uid:gid or name inside the container", "USER", "-u"),
    "volume": Option(
        "a mount",
        "SRC:DST[:ro]",
        "-v",
        more="a path of the engine's machine, or the name of a volume; on a cluster "
        "`pvc/NAME:DST`, a claim",
    ),
    "files": Option(
        "copies of these lie in the run's working folder",
        "PATH...",
        more="taken at submit and kept for `rerun`, and the script that the command names with "
        "them; takes the words behind it that are files here, `--` ends them. The folder is "
        "`<run>/work`, in a container `/qwex/work`; see [below](#copies)",
    ),
    "here": Option("share this folder with the run, at the same path", more="locally the default"),
    "keep": Option(
        "leave the container or Job when it has ended", more="`%qwex delete` removes it"
    ),
}


def common(names: str) -> dict[str, Option]:
    """Those of the `COMMON` options, for a declaration of the runner that honours them.

    Args:
        names: Their names, with blanks between.
    """
    return {name: COMMON[name] for name in names.split()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Declaration:
    """A runner, as it is known before it is imported.

    Attributes:
        name: What it is called behind ``--runner``.
        runner: Its class, as ``"module:Class"``.
        promises: What it can promise.
        options: By its name without the dashes, each option that it honours; or a clause that
            begins with "because" and says why it can't. What isn't named isn't honoured.
        target_options: Those of the options that say which of several backends is meant. A
            runner object serves one backend: one is made for each value, and the values are
            given to its constructor by these names, with an underscore for each dash.
        settings: What its constructor may ask for by ``setting(name)``. Their names are those of
            all runners: one that is another's already, or the package's own, is that one's.
        uid_is: What the `uid` of its runs is, in the words of people.
    """

    name: str
    runner: str
    promises: Promises
    options: Mapping[str, Option | str] = field(default_factory=dict)
    target_options: frozenset[str] = frozenset()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    uid_is: str = "its id there"

    def honours(self, option: str) -> bool:
        """Whether it does what an option says."""
        return isinstance(self.options.get(option), Option)

    def why_not(self, option: str) -> str:
        """The clause that says why it doesn't honour an option."""
        why = self.options.get(option)
        return why if isinstance(why, str) else "because it has no such thing"

    @property
    def own_options(self) -> dict[str, Option]:
        """The options that stand in `JobSpec.options`: what isn't a field of the spec."""
        return {
            name: option
            for name, option in self.options.items()
            if isinstance(option, Option) and name not in COMMON
        }
