"""Every option and every verb: honoured here, or refused naming who can; and written down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import declared
import places
import pytest
import waits
import yaml
from clusters import Cluster
from engines import Engine
from environment import ROOT
from kernel import doctor_of, end_runs, environment, qwex

from qwex_jupyter import cli
from qwex_jupyter.commands import options
from qwex_jupyter.commands.options import (
    ALIASES,
    VERBS,
    make_spec,
    parse_run,
    parser_of,
    run_parser,
)
from qwex_jupyter.commands.table import Parser
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.history.frame import COLUMNS
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.runners import honoured_by
from qwex_jupyter.runners.k8s import doctor

DOCS = ROOT / "docs"

# Option, its value, a script, and what that prints when the option does what it says.
HONOURED: dict[str, tuple[list[str], str, str]] = {
    "--runner": (["local"], "echo here", "here\n"),
    "--name": (["called"], "echo $0 | grep -c cell.sh", "1\n"),
    "-e": (["A=x y"], 'echo "$A"', "x y\n"),
    "--env": (["FROM_HERE"], 'echo "$FROM_HERE"', "inherited\n"),
    "--env-file": (["vars.env"], "echo $F $G", "1 two words\n"),
    "--secret": (["TOKEN"], "echo $TOKEN", "hunter2\n"),
    "-w": (["sub"], "basename $PWD", "sub\n"),
    "--workdir": (["sub"], "basename $PWD", "sub\n"),
    "-m": (["64m"], "echo small", "small\n"),
    "--memory": (["64MiB"], "echo small", "small\n"),
    "--files": (["carried.txt"], "cat carried.txt; basename $PWD", "carried\nwork\n"),
    "--here": ([], "basename $PWD", "here\n"),
    "--timeout": (["1h"], "echo in time", "in time\n"),
    "--start-timeout": (["1h"], "echo in time", "in time\n"),
    "--grace": (["1s"], "echo graceful", "graceful\n"),
    "-l": (["team=a"], "echo labelled", "labelled\n"),
    "--label": (["team=a"], "echo labelled", "labelled\n"),
    "--rm": ([], "echo so anyway", "so anyway\n"),
}
# What only containers and clusters can do, with a value.
REFUSED: dict[str, list[str]] = {
    "--image": ["python:3.12"],
    "--cpus": ["2"],
    "--gpus": ["1"],
    "--shm-size": ["1g"],
    "-u": ["1000"],
    "--user": ["1000"],
    "-v": ["/a:/b"],
    "--volume": ["/a:/b"],
    "--pull": ["always"],
    "--platform": ["linux/amd64"],
    "--network": ["host"],
    "--context": ["other"],
    "--namespace": ["ns"],
    "--service-account": ["sa"],
    "--pull-secret": ["login"],
    "--pod-patch": ["{}"],
    "--keep": [],
    "--entrypoint": ["env"],
    "--read-only": [],
}
# What a terminal answers; the kernel's answer is in test_magics.py.
IN_A_TERMINAL: dict[str, tuple[list[str], int, str]] = {
    "-d": ([], 0, r"\w{6}\n"),
    "--detach": ([], 0, r"\w{6}\n"),
    "--bg": ([], 0, r"\w{6}\n"),
    "--quiet": ([], 3, "out\n"),
    "--no-raise-error": ([], 0, "out\n"),
    "--dry-run": ([], 0, "cd .* sh -c .*\n"),
    "-h": ([], 0, "qwex run: .*"),
    "--help": ([], 0, "qwex run: .*"),
    "--json": ([], 3, "out\n{.*}\n"),
    "--as": (["r"], 64, ""),
    "--proc": (["r"], 64, ""),
    "--profile": (["quiet"], 0, "out\n"),
}
NO_TERMINAL = ("-i", "-t", "-it", "--interactive", "--tty")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the options name, and variables."""
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "carried.txt").write_text("carried\n")
    (folder / "vars.env").write_text("# a comment\nF=1\nG=two words\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FROM_HERE", "inherited")
    monkeypatch.setenv("TOKEN", "hunter2")
    return folder


def _option_words(parser: Parser) -> set[str]:
    return set(parser.flags)


def test_every_option_is_in_one_of_these_tables() -> None:
    """No option is added without saying here what becomes of it."""
    tables = [set(HONOURED), set(REFUSED), set(IN_A_TERMINAL), set(NO_TERMINAL)]
    assert set().union(*tables) == _option_words(run_parser())
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert _option_words(run_parser("rerun")) == _option_words(run_parser())


@pytest.mark.parametrize("option", HONOURED)
def test_the_local_runner_honours(option: str, here: Path, manager: RunManager) -> None:
    """A local run does what the option says."""
    values, script, output = HONOURED[option]
    args, command = parse_run([option, *values])
    run = manager.submit(make_spec(args, command, script, {}), args.runner).wait(60)
    assert run.logs() == output
    if option in ("--name", "-l", "--label"):
        assert (run.name or run.record.labels) in ("called", {"team": "a"})


@pytest.mark.parametrize("option", REFUSED)
def test_the_local_runner_refuses(option: str, here: Path, manager: RunManager) -> None:
    """What a process can't be given is refused with a reason and the runners that can."""
    args, command = parse_run([option, *REFUSED[option], "true"])
    spec = make_spec(args, command, None, {})
    with pytest.raises(UnsupportedOption) as caught:
        manager.submit(spec, "local")
    name = str(caught.value).split(":")[0]
    assert option in (name, *[w for w in ("-u", "-v") if name in ("--user", "--volume")])
    assert list(caught.value.can) == honoured_by(name.lstrip("-"))
    assert caught.value.can
    for runner in caught.value.can:
        assert f"--runner={runner}" in str(caught.value)
    assert "because" in str(caught.value)
    assert manager.history.run_ids() == []


@pytest.mark.parametrize("option", NO_TERMINAL)
def test_a_run_has_no_terminal(option: str) -> None:
    """``-it`` gets a sentence that says how values and files go in."""
    with pytest.raises(SpecError, match="no keyboard and no terminal"):
        parse_run([option, "bash"])


@pytest.mark.parametrize(("file", "name"), declared.TABLES, ids=" ".join)
def test_what_runners_declare_is_what_is_written_down(file: str, name: str) -> None:
    """The tables of options, settings and promises are those of the declarations."""
    made = declared.TABLES[file, name]()
    assert made == declared.placed(file, name), "python tests/rigs/declared.py --save"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A terminal's environment with one ended run called ``done``."""
    made = environment(tmp_path_factory.mktemp("terminal"))
    settings = Path(made["IPYTHONDIR"], "profile_default", "ipython_config.py")
    settings.parent.mkdir(parents=True)
    settings.write_text("c.Qwex.profiles = {'quiet': '--quiet --no-raise-error'}\n")
    done = qwex(made, "run", "--quiet", "--name", "done", "echo", "output")
    assert done.returncode == 0, done.stderr
    yield made
    end_runs(made)


@pytest.mark.parametrize("option", IN_A_TERMINAL)
def test_a_terminal_takes(option: str, env: Mapping[str, str]) -> None:
    """Options about showing work in a terminal; those about variables say they are not for it."""
    values, code, output = IN_A_TERMINAL[option]
    done = qwex(env, "run", option, *values, "sh", "-c", "echo out; exit 3")
    assert done.returncode == code, done.stderr
    assert re.fullmatch(output, done.stdout.decode(), re.DOTALL)
    if code == 64:
        assert done.stderr.decode().count("\n") == 1
        assert "is for notebooks" in done.stderr.decode()


# Each verb with arguments, and what its answer holds.
ANSWERS: dict[str, tuple[list[str], str]] = {
    "run": (["echo", "ran"], "ran"),
    "runs": ([], "run     status"),
    "show": (["done"], "run id"),
    "logs": (["done"], "output"),
    "attach": (["done"], "output"),
    "wait": (["done"], ""),
    "cancel": (["done"], "✓ succeeded"),
    "rerun": (["done"], "output"),
    "prune": (["--older", "1d"], "Nothing to prune"),
    "doctor": ([], "✓ local"),
    "monitor": ([], " · as of "),
    "delete": ([], "Deleted"),
}


@pytest.mark.parametrize("verb", [*VERBS, *ALIASES])
def test_every_verb_and_alias_answers(verb: str, env: Mapping[str, str]) -> None:
    """Each verb does what the overview says under each of its names."""
    words, answer = ANSWERS[ALIASES.get(verb, verb)]
    if ALIASES.get(verb, verb) == "delete":
        made = qwex(env, "run", "-d", "true").stdout.decode().strip()
        assert qwex(env, "wait", made).returncode == 0
        words = [made]
    if ALIASES.get(verb, verb) == "doctor":
        assert answer in doctor_of(env)
        return
    done = qwex(env, verb, *words)
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout.decode()


@pytest.mark.parametrize("verb", [*VERBS, *ALIASES])
def test_every_verb_has_help_with_all_its_options(
    verb: str, home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--help`` of a verb lists its options with a text each, in a terminal's words."""
    monkeypatch.setenv("QWEX_HOME", home)
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "%qwex" not in text
    for words, option in parser_of(verb).options:
        assert option.help
        assert option.help in text
        assert all(word in text for word in words)


def test_the_overview_has_every_verb(env: Mapping[str, str]) -> None:
    """``qwex`` and ``%qwex`` alone list all verbs; both name the aliases."""
    in_terminal = qwex(env).stdout.decode()
    for verb in VERBS:
        assert f"qwex {verb}" in in_terminal
        assert f"%qwex {verb}" in options.overview()
    for alias in set(ALIASES) - {"list"}:
        assert alias in options.overview()


def test_every_option_is_documented() -> None:
    """``docs/options.md`` names every option of a run."""
    text = (DOCS / "options.md").read_text()
    for word in _option_words(run_parser()) - {"--interactive", "--tty"}:
        assert re.search(rf"`[^`]*(?<![\w-]){re.escape(word)}(?![\w-])", text), word


def test_every_column_of_the_history_is_documented() -> None:
    """The table of ``docs/api/python.md`` has each column of the DataFrame, once."""
    text = (DOCS / "api" / "python.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(COLUMNS)


def test_every_option_has_a_probe() -> None:
    """An option is tried on each place, or is one of those that no runner hears of."""
    probed = {probe.about for probe in places.PROBES if probe.about.startswith("--")}
    assert not probed & places.IN_FRONT
    long = {word for word in _option_words(run_parser()) if word.startswith("--")}
    assert probed | places.IN_FRONT == long


@pytest.mark.timeout(900)
def test_the_table_of_places_is_what_is_observed(
    docker_engine: Engine, cluster: Cluster, tmp_path: Path
) -> None:
    """What ``docs/options.md`` says of each option on each place is what running it shows."""
    cluster.must_be_ours()
    found = places.Places(docker_engine, cluster, tmp_path).table()
    assert found == places.saved(), "python tests/rigs/places.py --save"


def test_a_place_that_differs_without_a_reason_is_no_row(
    docker_engine: Engine, cluster: Cluster, tmp_path: Path
) -> None:
    """A difference that nobody wrote down fails; one that is gone fails too."""
    cluster.must_be_ours()
    made = places.Places(docker_engine, cluster, tmp_path)
    different = next(probe for probe in places.PROBES if probe.about == "the environment")
    assert "the image's" in made.rows([different])
    with pytest.raises(AssertionError, match="the environment on docker: 'none 0', not 'set 0'"):
        made.rows([replace(different, docker="")])
    with pytest.raises(AssertionError, match="the environment on k8s: 'none 0', not 'set 0'"):
        made.rows([replace(different, k8s="")])
    same = replace(different, line="-e OF_THIS_KERNEL sh")
    with pytest.raises(AssertionError, match="the environment on docker: 'set 0', not 'none 0'"):
        made.rows([same])


def test_the_table_beside_bash_is_about_what_there_is() -> None:
    """Every option that ``docs/bash.md`` names is one, of ours or of ``%%script``."""
    text = (DOCS / "bash.md").read_text()
    theirs = {"--out", "--err", "--no-raise-error", "--bg", "--proc"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named
    assert named <= _option_words(run_parser()) | theirs
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert {len(row) for row in rows[2:]} == {3}


def _yaml_blocks(page: str) -> list[Any]:
    text = (DOCS / page).read_text()
    return [
        yaml.safe_load(b)
        for b in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def test_the_role_of_the_docs_is_what_the_doctor_asks_for() -> None:
    """The Role in ``docs/kubernetes.md`` is made of what a runner asks of the API server."""
    role = _yaml_blocks("kubernetes.md")[0]
    assert role == doctor.role("qwex", "NAMESPACE")


def test_the_table_of_waits_is_made_of_the_rows() -> None:
    """What ``docs/kubernetes.md`` says of each word of a cluster is what the runner makes of it."""
    assert waits.table() == waits.saved(), "python tests/rigs/waits.py --save"


@pytest.mark.tier("quick")
def test_the_patches_of_the_docs_are_taken(
    cluster: Cluster, manager: RunManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example of ``--pod-patch`` makes a Job that an API server takes, with all that it adds.

    Also from a file.
    """
    namespace = cluster.namespace()
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(namespace=namespace)))
    runner = manager.runner("k8s")
    patches = _yaml_blocks("kubernetes.md")[1:]
    assert len(patches) >= 3
    for number, patch in enumerate(patches):
        path = tmp_path / "patch.yaml"
        path.write_text(yaml.safe_dump(patch))
        args, command = parse_run(["--image=a:1", "--pod-patch", str(path), "true"])
        spec = make_spec(args, command, None, {})
        plan = runner.plan(spec, f"20261124-120000-abcde{number}")
        made = cluster.kubectl(
            *("-n", namespace, "create", "--dry-run=server", "-o", "yaml", "-f", "-"),
            given=runner.show(plan),
        )
        pod = yaml.safe_load(made)["spec"]["template"]
        assert _holds(pod, patch if "metadata" in patch else {"spec": patch}), made


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(name in found and _holds(found[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list):
        return all(any(_holds(one, want) for one in found) for want in wanted)
    return bool(found == wanted)
