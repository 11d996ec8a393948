"""``--json`` of ``qwex`` in a terminal: what scripts and agents read, and the exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import record_schema
from environment import ROOT
from kernel import PATIENCE, end_runs, environment, qwex
from local_helpers import until

import qwex_jupyter
from qwex_jupyter.commands import stdio
from qwex_jupyter.commands.table import ALIASES, VERBS

PAGE = ROOT / "docs" / "scripts.md"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A terminal's environment with two ended runs, ``good`` and ``bad``."""
    made = environment(tmp_path_factory.mktemp("json"))
    qwex(made, "run", "--quiet", "--name", "good", "sh", "-c", "echo out; echo err >&2")
    qwex(made, "run", "--quiet", "--name", "bad", "sh", "-c", "printf 'no end'; exit 3")
    yield made
    end_runs(made)


def _values(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.decode().splitlines()]


def _said(env: Mapping[str, str], *words: str, code: int = 0) -> list[Any]:
    """The values on stdout."""
    done = qwex(env, *words)
    assert done.returncode == code, done.stderr
    return _values(done.stdout)


def _doctor(env: Mapping[str, str]) -> Any:
    """What the doctor says, where this machine left him time for all that he asks."""
    answers: list[Any] = []

    def has_heard_all() -> bool:
        answers[:] = _said(env, "doctor", "--json")
        (value,) = answers
        return all(check["state"] != "silent" for check in value["checks"])

    until(has_heard_all)
    return answers[0]


def _is_run(value: Any) -> bool:
    assert not record_schema.mistakes(value)
    assert value["run_id"].endswith(value["handle"])
    assert "duration" in value
    return True


# Each verb with arguments, its exit code, and what each line of its answer is.
ANSWERS: dict[str, tuple[list[str], int, Any]] = {
    "run": (["-d", "true"], 0, _is_run),
    "runs": ([], 0, _is_run),
    "show": (["bad"], 0, _is_run),
    "logs": (["good"], 0, lambda value: set(value) == {"stream", "text"}),
    "attach": (["bad"], 3, lambda value: "stream" in value or _is_run(value)),
    "wait": (["bad"], 3, _is_run),
    "cancel": (["bad"], 0, _is_run),
    "rerun": (["-d", "good"], 0, _is_run),
    "delete": (["spare"], 0, lambda value: value["deleted"] and _is_run(value["run"])),
    "prune": ([], 0, lambda value: value["bytes"] > 0 and _is_run(value["run"])),
    "monitor": ([], 0, _is_run),
    "doctor": ([], 0, lambda value: value["version"] == qwex_jupyter.__version__),
}


@pytest.mark.parametrize("verb", [*VERBS, *ALIASES])
def test_every_verb_answers_in_json(env: dict[str, str], verb: str) -> None:
    """With ``--json`` each verb, by any of its names, prints a JSON value a line and no more."""
    words, code, fits = ANSWERS[ALIASES.get(verb, verb)]
    if "spare" in words:
        assert qwex(env, "run", "--quiet", "--name", "spare", "true").returncode == 0
    done = qwex(env, verb, "--json", *words)
    assert done.returncode == code, done.stderr
    values = _values(done.stdout)
    assert values
    assert all(map(fits, values))
    assert all(set(value) == {"note"} for value in _values(done.stderr))


def test_a_message_names_commands_as_a_shell_has_them(env: dict[str, str]) -> None:
    """The next step in a record is one that can be typed where it is read."""
    (bad,) = _said(env, "show", "bad", "--json")
    handle = bad["handle"]
    assert bad["message"].endswith(f"Read qwex logs {handle}, then qwex rerun {handle}")
    assert all("%qwex" not in run["message"] for run in _said(env, "runs", "--json"))


def test_the_version_is_json_too(env: dict[str, str]) -> None:
    """``qwex --version --json`` is an object, with the word on either side."""
    for words in (("--version", "--json"), ("--json", "-V")):
        assert _said(env, *words) == [{"version": qwex_jupyter.__version__}]


def test_the_word_may_stand_in_front_of_the_verb(env: dict[str, str]) -> None:
    """``qwex --json runs`` is ``qwex runs --json``."""
    assert _said(env, "--json", "show", "bad") == _said(env, "show", "bad", "--json")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["show", "--json", "nosuchrun"], "RunNotFound"),
        (["runs", "--status", "loud", "--json"], "SpecError"),
        (["logs", "--tail", "x", "--json"], "SpecError"),
        (["frobnicate", "--json"], "SpecError"),
        (["run", "--json"], "SpecError"),
        (["run", "--json", "--imagee", "x", "true"], "SpecError"),
        (["run", "--name", "x", "--json", "--memory", "2GiBs", "true"], "SpecError"),
        (["run", "--json", "--image", "x", "--runner", "local", "true"], "UnsupportedOption"),
        (["rerun", "nosuchrun", "--json"], "RunNotFound"),
        (["rerun", "--json", "good", "echo"], "SpecError"),
        (["run", "--json", "--as", "x", "true"], "SpecError"),
    ],
)
def test_an_error_is_an_object_on_stderr(env: dict[str, str], words: list[str], kind: str) -> None:
    """What can't be done is one JSON line on stderr, with its class, sentence and exit code."""
    done = qwex(env, *words)
    assert (done.returncode, done.stdout) == (64, b"")
    (value,) = _values(done.stderr)
    assert value["error"].pop("message").count("%qwex") == 0
    assert value == {"error": {"type": kind, "exit_code": 64}}


def test_the_json_of_a_program_makes_no_json_of_an_error(env: dict[str, str]) -> None:
    """A ``--json`` behind the command, or as a value, is none of ours."""
    for words in (["--memory", "x", "true", "--json"], ["--name", "--json", "--memory", "x"]):
        done = qwex(env, "run", *words)
        assert done.returncode == 64
        assert done.stderr.startswith(b"qwex: ")


def test_one_that_is_unreachable_is_an_error_with_1(env: dict[str, str]) -> None:
    """A history that can't be used, and a run that lives and is to be deleted, end with 1."""
    done = qwex({**env, "QWEX_HOME": "/dev/null/home"}, "runs", "--json")
    (value,) = _values(done.stderr)
    assert (done.returncode, value["error"]["type"]) == (1, "HomeUnusable")
    (live,) = _said(env, "run", "--json", "-d", "sleep", "600")
    done = qwex(env, "delete", "--json", live["handle"])
    (value,) = _values(done.stderr)
    assert (done.returncode, value["error"]["type"]) == (1, "RunStillLive")
    assert "first qwex cancel" in value["error"]["message"]


def test_output_is_lines_that_are_whole_together(env: dict[str, str], tmp_path: Path) -> None:
    """The texts of ``logs --json`` are the output: cut in lines, also one without an end."""
    script = (
        "printf 'a\\n\\nb\\r\\n\\342\\234\\223 \\377 c'; echo other >&2; head -c 200000 /dev/zero"
    )
    qwex(env, "run", "--quiet", "--name", "lines", "sh", "-c", script)
    wrote = qwex(env, "logs", "lines", "--stdout").stdout.decode("utf-8", "replace")
    said = _said(env, "logs", "lines", "--json")
    texts = [value["text"] for value in said if value["stream"] == "stdout"]
    assert "".join(texts) == wrote
    assert texts[:3] == ["a\n", "\n", "b\r\n"]
    assert texts[3].startswith("✓ \ufffd c\0")
    assert [len(text) for text in texts[3:]] == [65536, 65536, 65536, 3397]
    assert [value["text"] for value in said if value["stream"] == "stderr"] == ["other\n"]
    assert _said(env, "logs", "lines", "--json", "--stderr") == said[-1:]
    assert _said(env, "logs", "-f", "good", "--json", "--tail", "0") == []
    *followed, record = _said(env, "attach", "lines", "--json")
    assert sorted(map(str, followed)) == sorted(map(str, said))
    assert _is_run(record)


def test_no_character_ends_a_line_of_json(env: dict[str, str]) -> None:
    """What other readers take for a line's end is an escape within a value."""
    odd = "a\u2028b\u2029c\u0085d\x0be"
    qwex(env, "run", "--quiet", "--name", "odd", "printf", "%s", odd)
    (value,) = _said(env, "logs", "odd", "--json")
    assert value["text"] == odd


def test_an_encoding_that_lacks_a_character_costs_none(env: dict[str, str]) -> None:
    """Where the stream can't take a character, JSON has it as an escape."""
    qwex(env, "run", "--quiet", "--name", "umlaut", "-l", "who=Jörg", "true")
    (value,) = _said({**env, "PYTHONIOENCODING": "ascii"}, "show", "umlaut", "--json")
    assert value["labels"] == {"who": "Jörg"}


def test_a_wait_that_is_over_gives_what_lives(env: dict[str, str]) -> None:
    """``wait --timeout --json`` prints the run as it is, says so beside it, and ends with 1."""
    (live,) = _said(env, "run", "--json", "-d", "sleep", "600")
    done = qwex(env, "wait", "--json", "--timeout", "0.2", live["handle"])
    (value,) = _values(done.stdout)
    assert (done.returncode, value["status"]) in ((1, "RUNNING"), (1, "PENDING"))
    assert _is_run(value)
    assert "had not ended after 0.2 s" in _values(done.stderr)[-1]["note"]


def test_a_wait_for_several_says_how_long_each_was_given(env: dict[str, str]) -> None:
    """One time is given up after for all of them, and each is told with that."""
    both = [_said(env, "run", "--json", "-d", "sleep", "600")[0]["handle"] for _ in range(2)]
    done = qwex(env, "wait", "--timeout", "0.2", *both)
    assert done.stderr.decode().count("had not ended after 0.2 s; it goes on.") == 2


def test_a_dry_run_is_an_object(env: dict[str, str]) -> None:
    """``--dry-run --json`` has the spec and the text, and no value of a secret."""
    own = {**env, "TOKEN": "hunter2"}
    line = ["run", "--json", "--dry-run", "--secret", "TOKEN", "-e", "A=1", "true"]
    done = qwex(own, *line)
    (value,) = _values(done.stdout)
    assert value["runner"] == "local"
    assert (value["spec"]["command"], value["spec"]["env"]) == (["true"], {"A": "1"})
    assert value["text"].rstrip().endswith("true")
    assert b"hunter2" not in done.stdout + done.stderr


def test_prune_says_of_each_what_became_of_it(env: dict[str, str]) -> None:
    """``prune --json`` lists runs with their sizes, and with ``--yes`` that they are gone."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-prune"}
    (run,) = _said(own, "run", "--json", "--quiet", "true")
    for words, gone in (([], False), (["--yes"], True)):
        (value,) = _said(own, "prune", "--json", *words)
        assert (value["run"]["handle"], value["deleted"]) == (run["handle"], gone)
        assert value["message"] == ""
    assert _said(own, "prune", "--json") == _said(own, "runs", "--json") == []
    end_runs(own)


def test_the_doctor_tells_versions_and_no_secret(env: dict[str, str]) -> None:
    """``doctor --json`` has what a report of a mistake needs, and no password of an address."""
    address = "tcp://me:hu@hunter2@127.0.0.1:1"
    own = {**env, "DOCKER_HOST": address, "QWEX_TOKEN": "hunter2"}
    done = qwex(own, "doctor", "--json")
    (value,) = _values(done.stdout)
    assert b"hunter2" not in done.stdout + done.stderr
    assert value["python"] == sys.version.split()[0]
    assert value["platform"] == sys.platform
    assert {"ipython", "traitlets"} <= set(value["libraries"])
    checks = {check["name"]: check for check in value["checks"]}
    assert {"history", "local", "docker", "k8s"} <= set(checks)
    assert checks["history"]["state"] == "ok"
    assert checks["docker"]["state"] in ("failed", "silent")
    assert "hunter2" not in json.dumps(_doctor(own))
    for check in checks.values():
        assert set(check) == {"name", "state", "lines"}
        mark = {"ok": "✓", "partly": "✓", "failed": "✗"}.get(check["state"], "")
        assert check["lines"][0].startswith(mark)


def test_a_next_step_of_a_notebook_is_one_of_a_shell(env: dict[str, str]) -> None:
    """A secret that isn't set, and a backend that isn't there, are mended by lines of a shell."""
    done = qwex(env, "run", "--json", "--secret", "TOK", "true")
    assert "set it with read -rs TOK; export TOK " in _values(done.stderr)[-1]["error"]["message"]
    value = _doctor({**env, "DOCKER_HOST": "unix:///nosuch"})
    (line,) = next(check["lines"] for check in value["checks"] if check["name"] == "docker")
    assert "for all cells: export QWEX_RUNNER=local)" in line


def test_a_warning_is_a_note(env: dict[str, str], tmp_path: Path) -> None:
    """What a library warns of, here of a setting that there isn't, is a note like any other."""
    folder = tmp_path / "profile_default"
    folder.mkdir()
    (folder / "ipython_config.py").write_text("c.Qwex.k8s_timeout = '5m'\n")
    own = {**env, "IPYTHONDIR": str(tmp_path)}
    done = qwex(own, "run", "--json", "--dry-run", "true")
    (noted,) = _values(done.stderr)
    assert done.returncode == 0
    assert "k8s_timeout" in noted["note"]
    done = qwex(own, "run", "--dry-run", "true")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("qwex: ")
    assert "k8s_timeout" in line


def test_no_error_shows_a_password(env: dict[str, str], tmp_path: Path) -> None:
    """What a run is refused with names engine and cluster without the login in their address."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://me:hunter2@127.0.0.1:1"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    own = {
        **env,
        "DOCKER_HOST": "tcp://me:hunter2@127.0.0.1:1",
        "KUBECONFIG": str(tmp_path / "config"),
    }
    for runner in ("docker", "k8s"):
        done = qwex(own, "run", "--json", "--runner", runner, "--image", "x", "true")
        assert (done.returncode, done.stdout) == (1, b"")
        assert "127.0.0.1:1" in _values(done.stderr)[-1]["error"]["message"]
        assert b"hunter2" not in done.stderr


def test_the_doctor_leaves_a_next_step_as_it_is(env: dict[str, str]) -> None:
    """What an address may look like is advice, and no secret."""
    value = _doctor({**env, "DOCKER_HOST": "foo:bar@x:1"})
    (line,) = next(check["lines"] for check in value["checks"] if check["name"] == "docker")
    assert line.endswith("or ssh://USER@HOST.")
    assert "bar" not in line


def test_an_ended_history_has_every_status_by_the_schema(env: dict[str, str]) -> None:
    """What ``runs --json`` prints of runs in every condition fits the schema."""
    own = {**env, "QWEX_HOME": env["QWEX_HOME"] + "-all"}
    for words in (["true"], ["sh", "-c", "kill -9 $$"], ["no-such-program"]):
        qwex(own, "run", "--quiet", *words)
    qwex(own, "run", "--quiet", "--timeout", "0.2s", "--grace", "0", "sleep", "600")
    for _ in range(2):
        qwex(own, "run", "-d", "sleep", "600")
    (stopped,) = _said(own, "cancel", "--json")
    (ended,) = _said(own, "wait", "--json", stopped["handle"], code=143)
    assert ended["status"] == "CANCELLED"
    (bad,) = _said(own, "run", "--json", "--quiet", "true")
    Path(own["QWEX_HOME"], "runs", bad["run_id"], "run.json").write_text("{")
    until(lambda: "RUNNING" in {run["status"] for run in _said(own, "runs", "--json")})
    runs = _said(own, "runs", "--json")
    assert all(map(_is_run, runs))
    assert {(run["status"], run["reason"]) for run in runs} >= {
        ("SUCCEEDED", ""),
        ("FAILED", "Signalled"),
        ("FAILED", "CommandNotFound"),
        ("FAILED", "TimedOut"),
        ("CANCELLED", "CancelledByUser"),
        ("RUNNING", ""),
        ("LOST", "Unreadable"),
    }
    end_runs(own)


@pytest.mark.parametrize("verb", ["attach", "logs -f", "wait"])
def test_ctrl_c_of_watching_is_130(env: dict[str, str], verb: str) -> None:
    """Who stops to watch a run doesn't know how it ends, and no code says that it went well."""
    (live,) = _said(env, "run", "--json", "-d", "sh", "-c", "echo up; exec sleep 600")
    process = subprocess.Popen(
        [sys.executable, "-c", _SAYS_SO, *verb.split(), "--json", live["handle"]],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"watches\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "the run goes on" in _values(err)[-1]["note"]


@pytest.mark.parametrize("words", [["run"], ["rerun", "-d"]])
def test_ctrl_c_of_handing_over_is_told(env: dict[str, str], words: list[str]) -> None:
    """A run that is cancelled before anybody knows of it is named, and ends with 130."""
    own = {**env, "QWEX_HOME": f"{env['QWEX_HOME']}-{'-'.join(words)}"}
    (first,) = _said(own, "run", "-d", "--json", "--name", "slow", "sleep", "600")
    its = [first["handle"]] if words[0] == "rerun" else ["--name", "other", "sleep", "600"]
    line = [sys.executable, "-c", _IS_INTERRUPTED, words[0], "--json", *words[1:], *its]
    done = subprocess.run(line, env=own, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (130, b"")
    error = _values(done.stderr)[-1]["error"]
    (other,) = (run for run in _said(own, "runs", "--json") if run["handle"] != first["handle"])
    assert error == {
        "type": "RunInterrupted",
        "message": f"{other['name']} ({other['handle']}) was cancelled",
        "exit_code": 130,
    }
    qwex(own, "wait", other["handle"])
    assert _said(own, "show", "--json", other["handle"])[0]["status"] == "CANCELLED"
    end_runs(own)


# ``qwex``, which gets a Ctrl-C while it hands a run over.
_IS_INTERRUPTED = """
import os, signal, sys
from qwex_jupyter import cli
from qwex_jupyter.manager.manager import RunManager
hand_over = RunManager._hand_over
def interrupted(*more):
    run = hand_over(*more)
    os.kill(os.getpid(), signal.SIGINT)
    return run
RunManager._hand_over = interrupted
sys.exit(cli.main())
"""


def test_what_we_say_begins_a_line(env: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """Behind a program's unfinished line on stderr a note, and an error, are lines of their own."""
    done = qwex(env, "run", "--quiet", "sh", "-c", "printf 50%% >&2; exit 3")
    first, last = done.stderr.splitlines()
    assert (done.returncode, first) == (3, b"50%")
    assert last.startswith(b"qwex: ")
    for data, before in ((b"50%", "50%\n"), (b"a\n", "a\n"), (b"a\nb", "a\nb\n"), (b"", "")):
        stdio.pass_on([("stderr", data)])
        stdio.note("x")
        stdio.note("y")
        assert capfd.readouterr().err == f"{before}x\ny\n"


def _to(stdout: Any, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[bytes]:
    """`qwex` with its answers going there."""
    line = [sys.executable, "-m", "qwex_jupyter.cli", *words]
    return subprocess.run(line, env=env, stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE)


def test_a_detached_run_that_nobody_hears_of_is_noted(env: dict[str, str]) -> None:
    """Where stdout can't take the answer of ``run -d``, its handle is on stderr."""
    with open("/dev/full", "w") as full:
        done = _to(full, env, "run", "--json", "-d", "sleep", "600")
    noted, error = _values(done.stderr)
    assert (done.returncode, error["error"]["type"]) == (1, "Unwritable")
    handle, _, rest = noted["note"].partition(" ")
    assert rest == "was submitted all the same"
    assert _said(env, "show", "--json", handle)[0]["status"] in ("PENDING", "RUNNING")


# ``qwex``, which says when it begins to watch a run.
_SAYS_SO = """
import sys
from qwex_jupyter import cli
from qwex_jupyter.commands.terminal import Terminal
telling = Terminal.telling
def told(*more, **names):
    print("watches", flush=True)
    return telling(*more, **names)
Terminal.telling = told
sys.exit(cli.main())
"""


def test_rerun_takes_its_run_behind_the_options_too(env: dict[str, str]) -> None:
    """``qwex rerun --timeout 1h bad`` is ``qwex rerun bad --timeout 1h``."""
    values = _said(env, "rerun", "--timeout", "1h", "--json", "-d", "bad")
    assert values[0]["name"] == "bad"


def test_the_shell_of_the_page_runs(env: dict[str, str]) -> None:
    """The lines of the page do in a shell what it says."""
    block, *_ = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert "qwex run -d" in block
    folder = os.path.dirname(sys.executable)
    own = {**env, "PATH": os.pathsep.join([folder, env["PATH"]])}
    done = subprocess.run(["sh", "-c", block], env=own, capture_output=True, timeout=PATIENCE)
    first, *rest = done.stdout.decode().splitlines()
    assert first == "it ended with 3", done.stderr
    record, *lines = map(json.loads, rest)
    assert (record["status"], record["exit_code"]) == ("FAILED", 3)
    assert [line["text"] for line in lines] == ["step 1\n", "step 2\n"]


def test_the_python_of_the_page_runs(env: dict[str, str]) -> None:
    """The schema is read as the page says."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], env=env, capture_output=True, check=True)
    assert b"'SUCCEEDED'" in done.stdout


@pytest.mark.once
def test_what_pages_call_a_verb_of_a_terminal_is_one() -> None:
    """Each ``qwex VERB`` in code of a page names a verb that there is."""
    known = {*VERBS, *ALIASES, "completion"}
    named = set()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("skills/*/*.md")):
        text = page.read_text()
        spans = re.findall(r"`([^`\n]+)`", text)
        spans += re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for span in spans:
            for verb in re.findall(r"(?:^|[\s(\"])qwex ([a-z]+)\b", span):
                assert verb in known, f"{page.name}: qwex {verb}"
                named.add(verb)
    assert len(named) > 5


@pytest.mark.once
def test_the_page_has_every_verb() -> None:
    """The table of what is printed names each verb."""
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = {words.split()[0] for row in rows for words in re.findall(r"`([^`]+)`", row)}
    assert named == {*VERBS, "--version"}
