"""The registry: runners by name, those of other packages among them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter import runners
from qwex_jupyter.commands import options, table
from qwex_jupyter.commands.completion import candidates
from qwex_jupyter.commands.options import make_spec, parse_run
from qwex_jupyter.errors import RunnerUnavailable, RunStillLive, SpecError, UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.declaration import COMMON, Declaration, Option
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.testing.contract.base import until
from qwex_jupyter.testing.declared import DECLARED as MEMORY
from qwex_jupyter.testing.memory import MemoryRunner


@dataclass
class Packages:
    """A folder of installed packages, each with one entry point for a runner.

    Attributes:
        looked: How often somebody looked through it.
    """

    folder: Path
    looked: list[str] = field(default_factory=list)

    def install(self, name: str, text: str) -> None:
        """Installs a package of that name whose module ``declared`` has this text."""
        info = self.folder / f"a_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a_{name}\nVersion: 1\n")
        point = f"[{runners.GROUP}]\n{name} = a_{name}.declared:DECLARED\n"
        (info / "entry_points.txt").write_text(point)
        (self.folder / f"a_{name}").mkdir()
        (self.folder / f"a_{name}" / "__init__.py").write_text("")
        (self.folder / f"a_{name}" / "declared.py").write_text(text)


_DECLARED = """
from qwex_jupyter.model.declaration import Declaration, Option, Setting
from qwex_jupyter.testing.declared import DECLARED as MEMORY
DECLARED = Declaration(
    name={name!r},
    runner="a_{name}.runner:Runner",
    promises=MEMORY.promises,
    options={{**MEMORY.options, {option!r}: Option("how much of it", "N", choices=("1", "2"))}},
    settings={{"colour_of_{name}": Setting("red", "Which one.")}},
)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Such a folder, in a process that hasn't looked for packages yet."""
    import importlib.metadata

    made = Packages(tmp_path / "site")
    made.folder.mkdir()
    monkeypatch.syspath_prepend(str(made.folder))
    find = importlib.metadata.entry_points

    def entry_points(**which: str) -> object:
        made.looked.append(which["group"])
        return find(**which)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(runners, "_registered", {})
    monkeypatch.setattr(runners, "_installed", None)
    yield made
    for name in [name for name in sys.modules if name.startswith("a_")]:
        del sys.modules[name]


def test_a_package_is_looked_for_only_by_a_name_that_is_not_known(packages: Packages) -> None:
    """The runners that come with the package cost no look through what is installed."""
    packages.install("far", _DECLARED.format(name="far", option="depth"))
    for name in ("local", "docker", "k8s"):
        assert runners.declared(name).name == name
    parse_run(["--runner=local", "--timeout", "1h", "true"])
    assert packages.looked == []
    assert runners.declared("far").name == "far"
    assert runners.declared("far").honours("depth")
    assert packages.looked == [runners.GROUP]
    assert runners.names() == ["local", "docker", "k8s"]
    assert runners.names(installed=True) == ["local", "docker", "k8s", "far"]


def test_an_option_of_a_package_is_read_refused_helped_and_completed(
    packages: Packages, home: str
) -> None:
    """It is known without its runner too: help and completion show it, other runners refuse it."""
    packages.install("far", _DECLARED.format(name="far", option="depth"))
    for words in (
        ["--runner=far", "--depth", "2", "go"],
        ["--depth=2", "--runner", "far", "go"],
        ["--depth", "2", "--runner=far", "go"],
    ):
        args, command = parse_run(words)
        assert (args.options, command) == ({"depth": "2"}, ["go"])
    manager = RunManager(home)
    spec = make_spec(*parse_run(["--depth", "2", "true"]), None, {})
    with pytest.raises(UnsupportedOption, match=r"the local runner can't do this.*--runner=far"):
        manager.submit(spec, "local")
    assert "--depth N" in options.help_text("run")
    assert "how much of it [far]" in options.help_text("run")
    assert candidates(manager, "%%qwex --runner=fa", {}) == ["--runner=far"]
    assert candidates(manager, "%%qwex --runner=far --dep", {}) == ["--depth"]
    assert candidates(manager, "%%qwex --runner=far --depth ", {}) == ["1", "2"]
    assert candidates(manager, "%%qwex --runner=local --dep", {}) == []


def test_an_option_that_nobody_has_is_not_told_to_be_elsewhere(home: str) -> None:
    """A refusal where no installed runner can says so in a sentence."""
    with pytest.raises(UnsupportedOption, match="No installed runner supports it: leave it out"):
        RunManager(home).submit(JobSpec(command=("true",), options={"warp": "9"}), "local")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("DECLARED = 'far'\n", "isn't a Declaration of that name"),
        (_DECLARED.format(name="near", option="depth"), "isn't a Declaration of that name"),
    ],
)
def test_a_broken_package_disturbs_only_who_names_it(
    packages: Packages, home: str, text: str, says: str
) -> None:
    """What is wrong is said with the package; help, completion and other runs go on."""
    packages.install("far", text)
    with pytest.raises(RunnerUnavailable, match=says) as caught:
        runners.declared("far")
    assert "a_far.declared:DECLARED" in str(caught.value)
    assert "Update that package, or uninstall it." in str(caught.value)
    assert "--runner" in options.help_text("run")
    manager = RunManager(home)
    assert candidates(manager, "%%qwex --time", {}) == ["--timeout"]
    with pytest.raises(RunnerUnavailable):
        parse_run(["--runner=far", "true"])


def test_what_cannot_be_imported_is_tried_once(packages: Packages) -> None:
    """A broken package costs nobody anything who only looks."""
    packages.install(
        "far", "import sys\nsys.a_far_tried = getattr(sys, 'a_far_tried', 0) + 1\n1 / 0\n"
    )
    for _ in range(5):
        assert not runners.promises("far", "durable")
    assert sys.a_far_tried == 1  # type: ignore[attr-defined]
    del sys.a_far_tried  # type: ignore[attr-defined]


def test_a_package_that_is_installed_meanwhile_is_found(
    packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that has said to install it needs no restart."""
    with pytest.raises(SpecError, match="or install the package that brings it"):
        runners.declared("far")
    packages.install("far", _DECLARED.format(name="far", option="depth"))
    monkeypatch.setattr(runners, "_LOOK_AGAIN", 0.0)
    assert runners.declared("far").name == "far"


def test_a_class_that_cannot_be_imported_is_told_with_its_package(packages: Packages) -> None:
    """A declaration without its class is a package to be mended."""
    packages.install("far", _DECLARED.format(name="far", option="depth"))
    with pytest.raises(RunnerUnavailable, match=r"a_far\.runner:Runner of its package"):
        runners.runner_class("far")


def test_an_option_with_the_word_of_one_that_all_have_is_told(packages: Packages) -> None:
    """A package can't change what ``--name`` means, and says nothing about other runners."""
    packages.install("far", _DECLARED.format(name="far", option="name"))
    with pytest.raises(RunnerUnavailable, match="its option --name has the word of one"):
        parse_run(["--runner=far", "true"])
    args, _ = parse_run(["--runner=local", "--name", "a", "true"])
    assert args.name == "a"
    assert "--name" in table.run_parser(installed=True).flags


def test_an_unknown_runner_names_those_that_are_there(packages: Packages) -> None:
    """The refusal has the runners of packages in it."""
    packages.install("far", _DECLARED.format(name="far", option="depth"))
    with pytest.raises(SpecError, match="choose one of local, docker, k8s, far"):
        runners.declared("fra")


def test_a_built_in_runner_cannot_be_replaced() -> None:
    """Neither by a registration nor by an entry point of its name."""
    with pytest.raises(SpecError, match="built in"):
        runners.register_runner(Declaration(name="local", runner="a:B", promises=MEMORY.promises))


@pytest.mark.parametrize("name", ["docker", "k8s"])
def test_a_value_that_is_none_of_the_choices_is_refused(home: str, name: str) -> None:
    """What a declaration lists is all that is taken, before anything is started."""
    args, command = parse_run(["--image=a", "--pull=now", "true"])
    with pytest.raises(SpecError, match="--pull='now': choose one of missing, always, never"):
        RunManager(home).runner(name).plan(make_spec(args, command, None, {}), "a-run")


@pytest.mark.parametrize("name", runners.names())
def test_a_built_in_runner_says_of_every_option_whether_and_why_not(name: str) -> None:
    """Each option that one of them honours is honoured by the others, or refused with a clause."""
    declared = runners.declared(name)
    known = {option for each in runners.declarations() for option in each.options}
    assert set(declared.options) == known
    assert known >= COMMON.keys()
    for option in declared.options.values():
        assert isinstance(option, Option) or option.startswith("because ")
    assert declared.target_options <= declared.own_options.keys()


@pytest.fixture
def vanishing(home: str, monkeypatch: pytest.MonkeyPatch) -> RunManager:
    """A manager that knows a runner ``far``, which a test can take out of the registry."""
    declaration = Declaration(
        name="far", runner=MEMORY.runner, promises=MEMORY.promises, options=MEMORY.options
    )
    monkeypatch.setitem(runners._registered, "far", declaration)
    return RunManager(home)


def test_runs_of_a_runner_that_is_gone_still_list_and_can_be_deleted(
    vanishing: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay what they were, with the cause and what to do; with ``--gone`` they go."""
    ended = vanishing.submit(JobSpec(command=("exit", "3")), "far").wait(60, check=False)
    lives = vanishing.submit(JobSpec(command=("sleep", "600")), "far")
    until(lambda: lives.status is RunStatus.RUNNING)
    vanishing.close()
    monkeypatch.delitem(runners._registered, "far")
    later = RunManager(vanishing.history.home)
    assert list(later.history.frame().runner) == ["far", "far"]
    assert later.get(ended.run_id).exit_code == 3
    later.tracker.look([lives.run_id])
    record = later.tracker.record(lives.run_id)
    assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.BACKEND_UNREACHABLE)
    assert "install the package that brings it" in record.message
    with pytest.raises(RunnerUnavailable, match=f"%qwex delete {ended.record.handle} --gone"):
        later.delete(ended.run_id)
    with pytest.raises(RunStillLive):
        later.delete(lives.run_id)
    for run in (ended, lives):
        later.delete(run.run_id, gone=True)
    assert later.history.run_ids() == []
    later.close()


@pytest.mark.parametrize(
    ("line", "options", "command"),
    [
        ("python x --profile fast", {}, ["python", "x", "--profile", "fast"]),
        ("python x --profile=fast", {}, ["python", "x", "--profile=fast"]),
        ("-- python x --runner far", {}, ["python", "x", "--runner", "far"]),
        ("-q 3 python", {"depth": "3"}, ["python"]),
        ("-q3 python", {"depth": "3"}, ["python"]),
        ("--runner=far -q 3 python -q 4", {"depth": "3"}, ["python", "-q", "4"]),
    ],
)
def test_only_the_options_of_a_line_choose(
    packages: Packages, line: str, options: dict[str, str], command: list[str]
) -> None:
    """What stands behind the command is its own, and short words of packages are found too."""
    declared = _DECLARED.format(name="far", option="depth")
    packages.install("far", declared.replace('"N", choices=("1", "2")', '"N", "-q"'))
    args, words = parse_run(line.split(), profile=lambda name: pytest.fail(name))
    assert (args.options, words) == (options, command)


def test_a_runner_behind_the_command_is_told_to_be_there(packages: Packages) -> None:
    """The refusal names what would be the program's argument."""
    with pytest.raises(SpecError, match="--runner stands behind 'python'"):
        parse_run(["python", "x", "--runner", "ray"])


def test_the_last_of_several_profiles_counts(packages: Packages) -> None:
    """As the last of any other option does."""
    words = {"a": ["--timeout", "1h"], "b": ["--grace", "5s"]}
    args, _ = parse_run(["--profile", "a", "--profile=b", "true"], profile=words.__getitem__)
    assert (args.profile, args.timeout, args.grace) == ("b", None, "5s")


def test_two_packages_with_one_short_word_keep_their_long_ones(packages: Packages) -> None:
    """The first has the short word, the other what is left."""
    for name, option in (("far", "depth"), ("near", "qos")):
        declared = _DECLARED.format(name=name, option=option)
        packages.install(name, declared.replace('"N", choices=("1", "2")', '"N", "-q"'))
    args, _ = parse_run(["-q", "3", "--qos", "high", "true"])
    assert args.options == {"depth": "3", "qos": "high"}


def test_a_run_of_a_runner_that_is_gone_can_be_told_to_stop(
    vanishing: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop is written down, and carried out as soon as somebody has the runner again."""
    lives = vanishing.submit(JobSpec(command=("sleep", "600")), "far")
    until(lambda: lives.status is RunStatus.RUNNING)
    vanishing.close()
    with monkeypatch.context() as gone:
        gone.delitem(runners._registered, "far")
        later = RunManager(vanishing.history.home)
        later.cancel(lives.run_id)
        record = later.tracker.record(lives.run_id)
        assert (record.status, record.reason) == (RunStatus.RUNNING, Reason.BACKEND_UNREACHABLE)
        later.close()
    again = RunManager(vanishing.history.home)
    again.tracker.look([lives.run_id])
    assert again.wait(lives.run_id, 60).status is RunStatus.CANCELLED
    again.close()


class _Faulty(MemoryRunner):
    """A runner with a mistake in one of its verbs.

    Attributes:
        verb: Which.
        calls: How often it was called.
    """

    declaration = Declaration(
        name="faulty",
        runner=f"{__name__}:_Faulty",
        promises=MEMORY.promises,
        options=MEMORY.options,
    )
    verb = ""
    calls = 0

    def __getattribute__(self, name: str) -> Any:
        return _mistake if name == type(self).verb else super().__getattribute__(name)


def _mistake(*_: object, **__: object) -> None:
    _Faulty.calls += 1
    raise ZeroDivisionError("a mistake")


@pytest.fixture
def faulty(home: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunManager]:
    """A manager that knows that runner."""
    monkeypatch.setitem(runners._registered, "faulty", _Faulty.declaration)
    monkeypatch.setattr(_Faulty, "verb", "")
    monkeypatch.setattr(_Faulty, "calls", 0)
    made = RunManager(home, patience=Patience(seen_again=0.2))
    yield made
    _Faulty.verb = ""
    for run_id in made.history.open_ids():
        made.cancel(run_id, grace=0)
    made.close()


@pytest.mark.parametrize("verb", ["release", "hear", "cancel", "enforce_timeout", "poll", "follow"])
def test_a_mistake_of_a_runner_costs_no_other_run(faulty: RunManager, verb: str) -> None:
    """Runs of others are seen to their end, however often its own can't be asked about."""
    told: list[str] = []
    faulty.observe(lambda record: told.append(f"{record.runner}: {record.message}"))
    _Faulty.verb = verb  # none of these hands a run over; later it may have ended already
    seconds = 600 if verb in ("cancel", "enforce_timeout") else 0.2
    mine = faulty.submit(JobSpec(script=f"sleep {seconds}", timeout=600), "faulty")
    if verb == "cancel":
        mine.cancel()
    other = faulty.submit(JobSpec(script="sleep 0.2\nexit 3"), "memory")
    until(lambda: _Faulty.calls > 1)
    assert other.wait(60, check=False).exit_code == 3
    for _ in range(3):
        faulty.tracker.look()
    again = faulty.submit(JobSpec(command=("exit", "4")), "memory")
    assert again.wait(60, check=False).exit_code == 4
    if verb != "release":  # which is asked of what has ended
        until(lambda: any("faulty: The faulty runner can't tell" in text for text in told))
    _Faulty.verb = ""
    if verb == "enforce_timeout":
        mine.cancel()
    assert mine.wait(60, check=False).record.status.final
    until(lambda: not faulty.history.open_ids())


def test_a_class_that_cannot_be_made_costs_no_watch_of_others(
    faulty: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel in which one runner can't be had watches the runs of the others."""
    mine = faulty.submit(JobSpec(command=("sleep", "600")), "faulty")
    other = faulty.submit(JobSpec(command=("sleep", "600")), "memory")
    # A later observation of this kernel would say what it saw, and not what the other missed.
    for run in (mine, other):
        until(lambda run=run: faulty.history.record(run.run_id).status is RunStatus.RUNNING)
    later = RunManager(faulty.history.home)
    with monkeypatch.context() as broken:
        broken.setattr(_Faulty, "__init__", lambda *_, **__: 1 / 0)
        later.tracker.look()
        in_use = later.tracker.backends.in_use([mine.run_id, other.run_id])
        assert [name for name, _ in in_use] == ["memory"]
        assert "ZeroDivisionError" in later.tracker.record(mine.run_id).message
    later.close()


def test_what_is_gone_for_good_does_not_answer(faulty: RunManager) -> None:
    """A live run isn't called LOST by a user's word while its backend says who it is."""
    run = faulty.submit(JobSpec(command=("sleep", "600")), "faulty")
    until(lambda: run.status is RunStatus.RUNNING)
    _Faulty.verb = "poll"
    with pytest.raises(RunStillLive):
        faulty.delete(run.run_id, gone=True)
    _Faulty.verb = "identity"
    faulty.delete(run.run_id, gone=True)
    assert faulty.history.run_ids() == []


def test_a_prepared_run_waits_as_long_as_one_likes(faulty: RunManager) -> None:
    """It is created when it is handed over, once, and only to the backend it was prepared for."""
    made = faulty.prepare(JobSpec(command=("exit", "0"), start_timeout=60), "memory")
    old = replace(made, fact={**made.fact, "created_at": made.fact["created_at"] - 3600})
    run = faulty.hand_over(old)
    assert (run.wait(60).record.queued or 0.0) < 60
    run.delete()
    with pytest.raises(ValueError, match="prepare it anew"):
        faulty.hand_over(old)
    made = faulty.prepare(JobSpec(command=("exit", "0")), "memory")
    with pytest.raises(RunnerUnavailable, match=r"prepared for elsewhere.*prepare it anew"):
        faulty.hand_over(replace(made, fact={**made.fact, "identity": "elsewhere"}))
    assert faulty.history.run_ids() == []
