"""Settings: one way to resolve them, for magics, terminal and Python."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kernel import environment, qwex
from traitlets import TraitError
from traitlets.config import Config

import qwex_jupyter
from qwex_jupyter import config, runners
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.declaration import Declaration, Setting
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.testing.declared import DECLARED as MEMORY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of IPython's default profile, of a user without settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = tmp_path / "profile_default"
    made.mkdir()
    return made


def test_the_environment_counts_before_the_file_and_this_before_what_is_declared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting of a runner, as one of all runs, is resolved in the documented order."""
    assert (config.setting("job_ttl"), config.setting("grace")) == ("1h", "10s")
    (folder / "ipython_config.py").write_text("c.Qwex.job_ttl = '2h'\nc.Qwex.grace = '3s'\n")
    assert (config.setting("job_ttl"), config.setting("grace")) == ("2h", "3s")
    monkeypatch.setenv("QWEX_JOB_TTL", "5m")
    monkeypatch.setenv("QWEX_GRACE", "1s")
    assert (config.setting("job_ttl"), config.setting("grace")) == ("5m", "1s")


def test_an_empty_variable_is_none_where_it_means_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``QWEX_GRACE=`` is as if it weren't set; ``QWEX_TIMEOUT=`` is no timeout, as it says."""
    lines = {"grace": "3s", "timeout": "2h", "raise_error": False, "profiles": {"a": "b"}}
    text = "".join(f"c.Qwex.{name} = {value!r}\n" for name, value in lines.items())
    (folder / "ipython_config.py").write_text(f"{text}c.Qwex.job_ttl = '3h'\n")
    for name in (*lines, "job_ttl", "display"):
        before = config.setting(name)
        monkeypatch.setenv(f"QWEX_{name.upper()}", "")
        assert config.setting(name) == ("" if name == "timeout" else before)


def test_what_a_notebook_has_configured_counts_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython has read the files for a notebook, and ``%config`` comes after them."""
    (folder / "ipython_config.py").write_text("c.Qwex.job_ttl = '2h'\n")
    monkeypatch.setattr(config, "current", config.Qwex(config=Config({"Qwex": {"job_ttl": "3h"}})))
    assert config.setting("job_ttl") == "3h"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("c.Qwex.pod_security = 'loose'\n", "pod_security"),
        ("c.Qwex.raise_error = 'perhaps'\n", "raise_error"),
        ("c.Qwex.grace = 'zzz'\n", "grace"),
        ("c.Qwex.timeout = '0'\n", "timeout"),
        ("c.Qwex.job_ttl = 'zzz'\n", "job_ttl"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("c.Qwex.grace = \n", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, text: str, says: str) -> None:
    """What is wrong with a file of settings is said with its path."""
    path = folder / "ipython_config.py"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        config.setting("runner")
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("QWEX_RAISE_ERROR", "a boolean"),
        ("QWEX_POD_SECURITY", "restricted"),
        ("QWEX_PROFILES", "a dict"),
        ("QWEX_GRACE", "a time like 90, 10m or 1h30m"),
        ("QWEX_TIMEOUT", "a time like .*, or '' for none"),
        ("QWEX_JOB_TTL", "a time like"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, says: str
) -> None:
    """A wrong value in the environment is said with the variable and what it can be."""
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(SpecError, match=f"{variable}='perhaps' can't be used: give .*{says}"):
        config.setting(variable.removeprefix("QWEX_").lower())


def test_times_of_the_settings_are_those_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--grace`` and ``--timeout`` take is taken; only a timeout can be none."""
    for name, text in (("grace", "0"), ("grace", "1h30m"), ("timeout", ""), ("timeout", "2d")):
        monkeypatch.setenv(f"QWEX_{name.upper()}", text)
        assert config.setting(name) == text
    with pytest.raises(TraitError, match=r"'grace' trait .* expected a time like 90, 10m or 1h30m"):
        config.Qwex().grace = "zzz"
    with pytest.raises(TraitError, match="'timeout' trait"):
        config.Qwex().timeout = "0"


def test_a_runner_of_the_settings_that_is_not_there_is_named(
    folder: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal says whether the environment or the settings want it."""
    manager, spec = RunManager(home), JobSpec(command=("true",))
    (folder / "ipython_config.py").write_text("c.Qwex.runner = 'zzz'\n")
    with pytest.raises(SpecError, match=r"^Qwex\.runner of the settings: runner='zzz' isn't known"):
        manager.submit(spec)
    monkeypatch.setenv("QWEX_RUNNER", "yyy")
    with pytest.raises(SpecError, match=r"^QWEX_RUNNER in the environment: runner='yyy' isn't"):
        manager.submit(spec)
    with pytest.raises(SpecError, match=r"^runner='xxx' isn't known"):
        manager.submit(spec, "xxx")


def test_of_two_runners_the_first_that_declares_a_setting_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that another runner has already is that one's."""

    def one(name: str, default: str) -> Declaration:
        settings = {"knob": Setting(default, "Turns it.")}
        promises = runners.declared(runners.DEFAULT).promises
        return Declaration(name=name, runner="m:C", promises=promises, settings=settings)

    both = [one("first", "a"), one("second", "b")]
    monkeypatch.setattr(runners, "declarations", lambda **_: both)
    assert config.Qwex().knob == "a"


def test_a_setting_of_a_runner_comes_when_it_is_named() -> None:
    """Reading, setting, listing and configuring one bring in what the runners declare."""
    assert config.Qwex().job_ttl == "1h"
    made = config.Qwex()
    made.job_ttl = "4h"
    assert made.value("job_ttl") == "4h"
    made = config.Qwex()
    made.update_config(Config({"Qwex": {"job_ttl": "6h"}}))
    assert made.value("job_ttl") == "6h"
    with pytest.raises(AttributeError, match="no attribute 'job_tll'"):
        made.job_tll  # noqa: B018 - it is the look that counts


def test_what_names_no_runner_looks_at_none() -> None:
    """A configuration with settings of all runs only brings in no declaration."""
    code = """
import sys
from traitlets.config import Config
from qwex_jupyter.config import Qwex
made = Qwex(config=Config({"Qwex": {"grace": "1s"}}))
assert made.value("grace") == "1s"
print([name for name in sys.modules if "qwex_jupyter" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = ["qwex_jupyter", "qwex_jupyter.errors", "qwex_jupyter.config"]
    of_a_time = ["qwex_jupyter.model", "qwex_jupyter.model.units"]
    assert done.stdout == f"{[*own, *of_a_time]}\n"


def test_the_runner_of_the_settings_is_that_of_python_and_of_a_terminal(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """``QWEX_RUNNER`` and the file mean the same for `submit` and for ``qwex run``."""
    monkeypatch.setenv("QWEX_RUNNER", "memory")
    monkeypatch.setenv("QWEX_HOME", home)
    assert qwex_jupyter.submit(["exit", "0"]).record.runner == "memory"
    monkeypatch.delenv("QWEX_RUNNER")
    env = environment(tmp_path / "terminal")
    file = Path(env["IPYTHONDIR"], "profile_default", "ipython_config.py")
    file.parent.mkdir(parents=True)
    file.write_text("c.Qwex.runner = 'nowhere'\n")
    for more, says in (({}, "runner='nowhere'"), ({"QWEX_RUNNER": "gone"}, "runner='gone'")):
        done = qwex({**env, **more}, "run", "true")
        assert done.returncode == 64
        assert says in done.stderr.decode()


def test_a_runner_that_is_set_is_taken_with_an_image_too(home: str) -> None:
    """``local`` as a setting means local, and no default for it is made up."""
    manager = RunManager(home, setting={"runner": "local"}.get)
    spec = JobSpec(command=("true",), image="busybox")
    assert manager.choose(spec) == "local"
    assert manager.choose(spec, "docker") == "docker"
    with pytest.raises(UnsupportedOption, match="--runner=docker"):
        manager.submit(spec)
    unset = RunManager(home, setting={"runner": ""}.get)
    assert unset.choose(spec) == runners.OF_IMAGES
    assert unset.choose(JobSpec(command=("true",))) == runners.DEFAULT


def test_grace_and_timeout_of_the_settings_hold_for_an_argv(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`submit` of an argv takes both from the settings, and a `JobSpec` says both itself."""
    monkeypatch.setenv("QWEX_HOME", home)
    monkeypatch.setenv("QWEX_GRACE", "3s")
    monkeypatch.setenv("QWEX_TIMEOUT", "70s")

    def asked(run: qwex_jupyter.Run) -> tuple[float, float | None]:
        spec = run.manager.history.spec_fact(run.run_id)["spec"]
        return spec["grace"], spec["timeout"]

    words = ("exit", "0")
    assert asked(qwex_jupyter.submit(words, runner="memory")) == (3.0, 70.0)
    assert asked(qwex_jupyter.submit(words, runner="memory", grace=4)) == (4.0, 70.0)
    assert asked(qwex_jupyter.submit(JobSpec(command=words), runner="memory")) == (10.0, None)


def test_profiles_can_stand_in_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping is written there as Python writes it."""
    monkeypatch.setenv("QWEX_PROFILES", "{'big': '--memory 2g --timeout 1d'}")
    assert config.setting("profiles") == {"big": "--memory 2g --timeout 1d"}


def test_threads_that_want_a_setting_of_a_runner_at_once_all_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None sees a configuration to which only some of them were added."""
    look, all_there = runners.declarations, threading.Barrier(8)

    def declarations(**which: bool) -> list[Declaration]:
        all_there.wait()
        return look(**which)

    monkeypatch.setattr(runners, "declarations", declarations)
    made = config.Qwex()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: made.value("job_ttl"), range(8)))
    assert found == ["1h"] * 8


def test_a_runner_that_comes_later_brings_its_settings(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """What is configured for it counts though it wasn't known when that was read."""
    monkeypatch.setattr(runners, "_registered", {})
    (folder / "ipython_config.py").write_text("c.Qwex.queue = 'night'\n")
    with pytest.warns(UserWarning, match="queue"):
        made = config.Qwex(config=Config({"Qwex": {"queue": "dawn"}}))
    assert made.job_ttl == "1h"
    declaration = Declaration(
        name="far",
        runner=MEMORY.runner,
        promises=MEMORY.promises,
        settings={"queue": Setting("day", "Where it waits.", ("day", "night", "dawn"))},
    )
    runners.register_runner(declaration)
    assert made.value("queue") == "dawn"
    made.update_config(Config({"Qwex": {"queue": "day"}}))
    assert made.value("queue") == "day"
    assert config.setting("queue") == "night"


def test_a_file_may_load_that_of_another_profile(folder: Path) -> None:
    """As IPython's own loader lets it."""
    other = folder.parent / "profile_other"
    other.mkdir()
    (other / "ipython_config.py").write_text("c.Qwex.grace = '9s'\n")
    (folder / "ipython_config.py").write_text(
        "load_subconfig('ipython_config.py', profile='other')\n"
    )
    assert config.setting("grace") == "9s"
