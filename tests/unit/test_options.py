"""The options of a line, and what becomes of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.commands import options
from qwex_jupyter.commands.options import make_spec, parse_run, spec_values, split_command
from qwex_jupyter.errors import SpecError
from qwex_jupyter.manager.submission import with_its_script
from qwex_jupyter.model.spec import JobSpec, Resources


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three files in it."""
    for name in ("a.py", "b.py", "data"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _spec(*words: str, cell: str | None = "true") -> JobSpec:
    args, command = parse_run(words)
    return make_spec(args, command, cell, {})


@pytest.mark.parametrize(
    ("words", "front", "command"),
    [
        (["python"], [], ["python"]),
        (["--name", "x", "python", "-u", "-"], ["--name", "x"], ["python", "-u", "-"]),
        (["--name=x", "-d", "python"], ["--name=x", "-d"], ["python"]),
        (["-e", "A=1", "-m", "2g"], ["-e", "A=1", "-m", "2g"], []),
        (["--", "-weird", "--name", "x"], [], ["-weird", "--name", "x"]),
        (["-"], [], ["-"]),
        (["--quiet", "--", "python", "--image=x"], ["--quiet"], ["python", "--image=x"]),
        (["--files", "a.py", "b.py", "python", "a.py"], ["--files", "a.py", "--files", "b.py"],
         ["python", "a.py"]),
        (["--files", "*.py", "python"], ["--files", "a.py", "--files", "b.py"], ["python"]),
        (["--files=data", "a.py"], ["--files", "data"], ["a.py"]),
        (["--files", "data", "--quiet"], ["--files", "data", "--quiet"], []),
    ],
)  # fmt: skip
def test_options_stand_in_front_of_the_command(
    words: list[str], front: list[str], command: list[str]
) -> None:
    """The first word that is no option begins the command, ``--`` ends the options."""
    assert split_command(words) == (front, command)


def test_files_that_are_not_there_are_named() -> None:
    """``--files`` of what isn't a file here says where it was looked for."""
    for words in (["--files", "none.py", "python"], ["--files=none.py"], ["--files"]):
        with pytest.raises(SpecError, match="isn't a file or folder here"):
            split_command(words)


@pytest.mark.parametrize("option", ["--image=x", "--image", "--runner=local", "--runner"])
def test_where_it_runs_can_not_stand_behind_the_command(option: str) -> None:
    """``python --image=x`` says that the option goes first, and how it is meant otherwise."""
    with pytest.raises(SpecError, match=r"put it first, %%qwex --.* or put -- before"):
        parse_run(["python", option])


def test_every_option_becomes_a_field() -> None:
    """A line with every option makes the spec with every field."""
    spec = _spec(
        *shlex.split(
            "--image=python:3.12 --name n -e A=1 --env B -w /w --cpus 500m -m 2GiB --gpus all "
            "--shm-size 1g -u 1000 -v /a:/b:ro --timeout 1h --start-timeout 5m --grace 3s "
            "-l team=a --label plain --secret TOKEN --env-file ~/e --pull always --network host "
            "--context c --namespace ns --service-account sa --keep python -"
        )
    )
    assert spec == JobSpec(
        command=("python", "-"),
        script="true",
        script_name="cell.py",
        image="python:3.12",
        name="n",
        env={"A": "1", "B": None},
        env_files=(str(Path.home() / "e"),),
        secrets=("TOKEN",),
        workdir="/w",
        resources=Resources(cpus=0.5, memory=2 << 30, gpus="all", shm_size=1 << 30),
        user="1000",
        volumes=("/a:/b:ro",),
        timeout=3600.0,
        start_timeout=300.0,
        grace=3.0,
        labels={"team": "a", "plain": ""},
        keep=True,
        options={
            "pull": "always",
            "network": "host",
            "context": "c",
            "namespace": "ns",
            "service-account": "sa",
        },
    )


def test_what_a_line_does_not_say_is_not_a_value() -> None:
    """Only what stands in the line overrides: a rerun keeps the rest, a profile its own."""
    args, _ = parse_run(["--name", "x"])
    assert spec_values(args) == {"name": "x"}
    args, _ = parse_run([])
    assert spec_values(args) == {}


def test_defaults_stand_below_the_line() -> None:
    """A setting is used where the line is silent."""
    args, _ = parse_run(["--timeout", "5s"])
    spec = make_spec(args, [], "true", {"timeout": "1h", "grace": "2s"})
    assert (spec.timeout, spec.grace) == (5.0, 2.0)


@pytest.mark.parametrize(
    ("command", "cell", "name"),
    [
        (["python"], "x", "cell.py"),
        (["python3"], "x", "cell.py"),
        (["/usr/bin/python3.12"], "x", "cell.py"),
        (["Rscript"], "x", "cell.R"),
        (["R"], "x", "cell.R"),
        (["node"], "x", "cell.js"),
        (["perl5.36"], "x", "cell.pl"),
        (["rustc"], "x", "cell.sh"),
        (["bash"], "#!/usr/bin/python3", "cell.sh"),
        ([], "echo python", "cell.sh"),
        ([], "#!/usr/bin/env python3\n", "cell.py"),
        ([], "#! /usr/bin/env -S ruby -w\n", "cell.rb"),
        ([], "#!/opt/notpython\n", "cell.sh"),
    ],
)
def test_a_script_has_the_name_of_its_language(command: list[str], cell: str, name: str) -> None:
    """The script's file is called after its interpreter, so a traceback reads well."""
    assert make_spec(parse_run([])[0], command, cell, {}).script_name == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--imagee", "x"], "unknown option --imagee. Did you mean --image?"),
        (["--memroy=2g"], "Did you mean --memory?"),
        (["--zzz"], "unknown option --zzz. %%qwex? lists them."),
        (["--name"], "--name: expected one argument"),
        (["-q"], "unrecognized arguments: -q"),
        (["--out", "text"], "--out: bind the run with --as VAR and read VAR.logs('stdout')"),
        (["--err=text"], "read VAR.logs('stderr')"),
        (["-it"], "a run has no keyboard and no terminal"),
        (["-t"], "-e NAME=VALUE, files by --files"),
        (["--quiet=yes"], "--quiet"),
    ],
)
def test_a_mistake_names_the_nearest(words: list[str], message: str) -> None:
    """An option that isn't there is answered with the one that was meant."""
    with pytest.raises(SpecError) as caught:
        parse_run(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_not_abbreviated() -> None:
    """``--time`` isn't taken for ``--timeout``: what works today may mean two things tomorrow."""
    with pytest.raises(SpecError, match="Did you mean --timeout"):
        parse_run(["--time", "5"])


def test_an_unknown_verb_names_the_nearest_or_all() -> None:
    """A verb that isn't there is answered with the nearest one, else with the list."""
    with pytest.raises(SpecError, match="Did you mean cancel"):
        options.verb_parser("cancle")
    with pytest.raises(SpecError, match="There are run, runs, show"):
        options.verb_parser("frobnicate")


def test_numbers_are_counts() -> None:
    """``--tail`` and ``--limit`` are counts, and the message says so."""
    assert options.verb_parser("logs").parse_args(["--tail", "3"]).tail == 3
    for word in ("-3", "x", "1.5"):
        with pytest.raises(SpecError, match="isn't a count"):
            options.verb_parser("logs").parse_args(["--tail", word])


def test_a_script_that_is_here_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first argument that is a file here is carried where it can't be reached otherwise."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "lib/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def carried(*words: str, runner: str = "docker", **values: Any) -> tuple[str, ...]:
        return with_its_script(JobSpec(command=words, **values), runner).files

    assert carried("python", "-u", "a.py", "data") == ("a.py",)
    assert carried("python", "-c", "1") == ()
    assert carried("cat", "/etc/hosts") == ()
    assert carried("a.py") == ()
    assert carried("python", "a.py", files=("data",)) == ("data", "a.py")
    assert carried("python", "a.py", files=("a.py",)) == ("a.py",)
    assert carried("python", "lib/b.py", files=("lib/",)) == ("lib/",)
    assert carried("python", "a.py", files=(".",)) == (".",)
    assert carried("python", "a.py", here=True) == carried("python", "a.py", workdir="/w") == ()
    assert carried("python", "a.py", script="cell") == ()
    # A process of this machine reaches it, unless it works among copies.
    assert carried("python", "a.py", runner="local") == ()
    assert carried("python", "a.py", runner="local", files=("data",)) == ("data", "a.py")


def test_a_variable_is_taken_away() -> None:
    """``-e NAME-`` takes back what a profile or an earlier word gave; else it is refused."""

    def env(*words: str) -> Any:
        args, command = parse_run([*words, "true"])
        return make_spec(args, command, None, {}).env

    assert env("-e", "A=1", "-e", "B=2", "-e", "A-") == {"B": "2"}
    assert env("-e", "A=1", "-e", "A-", "-e", "A=3") == {"A": "3"}
    with pytest.raises(SpecError, match="takes A away, and no option gives one"):
        env("-e", "B=1", "-e", "A-")


def test_help_names_the_runners_of_an_option() -> None:
    """An option that not every runner has says in the help which ones do."""
    text = options.help_text("run")
    assert "[docker, k8s]" in next(line for line in text.splitlines() if "--cpus" in line)
    assert "[local, docker]" in next(line for line in text.splitlines() if "--here" in line)
    assert "[" not in next(line for line in text.splitlines() if "--timeout" in line)
    assert "--tty" not in text
