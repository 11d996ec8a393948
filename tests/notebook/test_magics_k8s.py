"""What a person sees of runs on a cluster: cells, cards, mistakes, the doctor, the terminal."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from cells import BUSYBOX, PYTHON, CellContract, one_sentence, plain
from clusters import Cluster
from engines import Engine
from images import image
from k8s_helpers import until
from k8s_place import WAIT, counted
from kernel import PATIENCE, Kernel, doctor, doctor_of, end_runs, environment, kernel, qwex
from kube_wire import KubeWire

from qwex_jupyter.commands.doctor import examine
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.runners.k8s import doctor as k8s_doctor

pytestmark = pytest.mark.kernel

RULES = k8s_doctor.role("qwex", "anywhere")["rules"]


@pytest.fixture(scope="module")
def place(session_cluster: Callable[[], Cluster]) -> Iterator[tuple[Cluster, str, str]]:
    """A cluster, a namespace there, and the path of a kubeconfig with exactly the Role."""
    cluster = session_cluster()
    for name in ("busybox", "python"):
        cluster.image(name)
    namespace = cluster.namespace()
    yield cluster, namespace, str(cluster.kubeconfig(RULES, namespace))
    cluster.remove_namespaces()


@pytest.fixture
def there(place: tuple[Cluster, str, str]) -> Cluster:
    """The cluster; the namespaces that were made in it go with the last test of this file."""
    return place[0]


@pytest.fixture(scope="module")
def shared(
    place: tuple[Cluster, str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernel]:
    """A kernel with a cluster."""
    with kernel(tmp_path_factory.mktemp("k8s") / "k", KUBECONFIG=place[2]) as made:
        made.run("%config Qwex.runner = 'k8s'")
        yield made


@pytest.fixture
def env(place: tuple[Cluster, str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A terminal's environment with the cluster."""
    made = environment(tmp_path / "terminal", KUBECONFIG=place[2], QWEX_RUNNER="k8s")
    yield made
    end_runs(made)


class TestCells(CellContract):
    """Cells on a cluster."""

    runner, chosen = "k8s", "--runner=k8s"
    failures: ClassVar = {
        "image that may not be pulled": (
            "%%qwex --image=qwex-test/none:1 --pull never\ntrue",
            "The node doesn't have qwex-test/none:1, and --pull=never forbids",
            "",
        ),
        "no name of an image": (
            "%%qwex --image=a:b:c\ntrue",
            "a:b:c isn't the name of an image",
            "",
        ),
        "service account": (
            f"%%qwex --image={BUSYBOX} --service-account nosuch\ntrue",
            "The namespace has no such service account: ",
            "",
        ),
        "no start": (
            f"%%qwex --image={BUSYBOX} --gpus 1 --start-timeout 2s\ntrue",
            "It had not started 2s after it was submitted",
            "",
        ),
    }
    mistakes: ClassVar = {
        "no image": ("%%qwex\ntrue", "the k8s runner needs an image: --image=python:3.12"),
        "a folder": (f"%%qwex --image={BUSYBOX} -v /tmp:/data\ntrue", "-v pvc/NAME:PATH"),
        "here": (
            f"%%qwex --image={BUSYBOX} --here\ntrue",
            "-v pvc/NAME:PATH: use --runner=local or",
        ),
        "all GPUs": (f"%%qwex --image={BUSYBOX} --gpus all\ntrue", "write --gpus 1"),
        "a user's name": (f"%%qwex --image={BUSYBOX} -u nobody\ntrue", "write UID or UID:GID"),
        "a network": (f"%%qwex --image={BUSYBOX} --network host\ntrue", "use --runner=docker"),
        "no such context": (f"%%qwex --image={BUSYBOX} --context=far\ntrue", "no context 'far'"),
        "a patch that is none": (
            f"%%qwex --image={BUSYBOX} --pod-patch no.yaml\ntrue",
            "there is no file 'no.yaml' here",
        ),
        "a label": (f"%%qwex --image={BUSYBOX} -l 'a b=c'\ntrue", "label 'a b'"),
    }
    absent: ClassVar = {
        "nothing": (
            {"KUBECONFIG": "/not/there"},
            "No Kubernetes here: there is no ~/.kube/config, and this is no pod",
            (),
        ),
        "broken": (
            {"KUBECONFIG": "HERE/broken"},
            "The settings of kubectl can't be used",
            (),
        ),
    }


def test_input_is_a_cause_and_a_next_step(k: Kernel) -> None:
    """A program that asked for input says so in its card, and no traceback of ours follows."""
    cell = k.run(f"%%qwex --image={PYTHON} python\ninput()")
    assert "✗ failed  EOFError: EOF when reading a line · cell line " in cell.text
    assert "it asked for input, and a run has none" in cell.text
    assert one_sentence(cell).startswith("RunFailed: EOFError: EOF when reading a line")
    # Python 3.13 marks the place in each line of a traceback.
    lines = [line for line in cell.text.splitlines() if line.strip("~^ ")]
    assert len(lines) <= 6


# Line and body; what the card says while it waits.
WAITS: dict[str, tuple[str, str]] = {
    "GPU": ("--gpus 1", "It waits for a GPU: 0 of 1 nodes have nvidia.com/gpu free"),
    "CPUs": ("--cpus 999", "It waits for CPUs: 0 of 1 nodes have enough free"),
    "claim": ("-v pvc/no:/data", 'It waits for a volume: persistentvolumeclaim "no" not found'),
    "node": (
        "--pod-patch 'nodeSelector: {disk: ssd}'",
        "None of 1 nodes takes it: 1 node(s) didn't match Pod's node affinity/selector",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WAITS)
def test_a_cell_says_what_it_waits_for(k: Kernel, what: str) -> None:
    """A run that waits says for what, in a line; the stop button ends it before it starts."""
    line, told = WAITS[what]
    cell = k.begin(f"%%qwex --image={BUSYBOX} {line}\necho never")
    cell.until_text(told)
    shown = [plain(m) for m in cell.messages if told in plain(m)]
    assert all(text.startswith("○ pending") for text in shown)
    k.interrupt()
    cell.done()
    assert "⊘ cancelled" in cell.text
    assert "never\n" not in cell.text


def test_the_options_are_offered(k: Kernel) -> None:
    """The tab key offers what a cluster has, and the images that were used."""
    for word in ("--runner", "--namespace", "--service-account", "--pull-secret", "--pod-patch"):
        assert word in k.complete(f"%%qwex {word[:6]}")
    assert "k8s" in k.complete("%%qwex --runner ")
    k.run(f"%%qwex --image={BUSYBOX}\ntrue")
    assert BUSYBOX in k.complete("%%qwex --image ")


def test_a_profile_is_a_set_of_options(k: Kernel, tmp_path: Path) -> None:
    """What a kind of node needs stands in a profile, with a patch from a file."""
    patch = tmp_path / "patch.yaml"
    patch.write_text("containers:\n- name: main\n  env:\n  - {name: MORE, value: 'yes'}\n")
    profile = f"--runner=k8s --cpus 100m --pod-patch {patch} -l team=a"
    k.run(f"%config Qwex.profiles = {{'big': '{profile}'}}")
    cell = k.run(f"%%qwex --profile big --image={BUSYBOX}\necho more: $MORE")
    assert "more: yes" in cell.text
    assert k.value("_.record.labels") == "{'team': 'a'}"


def test_a_cancel_keeps_what_was_said(k: Kernel) -> None:
    """The stop button asks nicely: the program's last words and its end are there."""
    cell = k.begin(
        f"%%qwex --image={BUSYBOX}\ntrap 'echo saved; exit 0' TERM\necho begun\nsleep 1000 & wait"
    )
    cell.until_text("1 line · ")
    k.interrupt()
    cell.done()
    assert "⊘ cancelled" in cell.text
    assert "begun\n  saved" in cell.text


@pytest.mark.parametrize("body", ["echo one; exit 4", "printf 'no newline'"])
def test_what_a_dry_run_prints_is_what_runs(
    k: Kernel, place: tuple[Cluster, str, str], body: str
) -> None:
    """``kubectl apply -f -`` of what a dry run prints runs to the same output and exit code."""
    cell = k.run(f"%%qwex --image={BUSYBOX} --dry-run\n{body}")
    ran = k.run(f"%%qwex --image={BUSYBOX} --no-raise-error --as ran\n{body}")
    assert ran.status == "ok", ran.error
    expected = eval(k.value("(ran.logs(), ran.exit_code)"))
    if place[0].machine.dropped(f"qwex-{eval(k.value('ran.run_id'))}"):
        pytest.xfail("containerd dropped output: reading from a closed fifo")
    assert _applied(place, cell.stream()) == expected


def test_a_dry_run_carries_files_and_scripts(
    place: tuple[Cluster, str, str], env: dict[str, str], tmp_path: Path
) -> None:
    """Files and a script that goes along are in the YAML; values that aren't are named in it."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "data.txt").write_bytes(b"\xff\x00data")
    (tmp_path / "script.py").write_text("import os\nprint(os.stat('more/data.txt').st_size)\n")
    words = ("--files", "more", "--secret", "PATH", "-e", "HOME", "--", "python", "script.py")
    done = qwex(env, "run", "--dry-run", f"--image={PYTHON}", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert re.search(
        r'^# first: kubectl create secret generic qwex-\S+ --from-literal=s0="\$PATH"', text
    )
    assert "# to be added to env, with the values they have here: HOME" in text
    made = [each for each in yaml.safe_load_all(text) if each]
    assert [each["kind"] for each in made] == ["ConfigMap", "Job"]
    words = ("--files", "more", "--", "python", "script.py")
    done = qwex(env, "run", "--dry-run", f"--image={PYTHON}", *words, cwd=tmp_path)
    assert _applied(place, done.stdout.decode()) == ("6\n", 0)


def _applied(place: tuple[Cluster, str, str], manifests: str) -> tuple[str, int]:
    """Output and exit code of what kubectl makes of YAML."""
    cluster, namespace, kubeconfig = place
    run_id = re.search(r"qwex\.run: \W?([\w-]+)", manifests)
    assert run_id, manifests
    # As the very account that the runner has: nothing more is needed.
    cluster.kubectl(f"--kubeconfig={kubeconfig}", "create", "-f", "-", given=manifests)
    core, statuses = f"/api/v1/namespaces/{namespace}/pods", "containerStatuses"

    def end(found: Any) -> Any:
        each = [s["state"] for p in found["items"] for s in p["status"].get(statuses, [])]
        return [s["terminated"]["exitCode"] for s in each if "terminated" in s]

    pods = cluster.api.wait(f"{core}?labelSelector=qwex.run%3D{run_id[1]}", end)
    log = cluster.api.get(f"{core}/{pods['items'][0]['metadata']['name']}/log")
    return str(log), int(end(pods)[0])


def test_a_detached_run_is_found_again(place: tuple[Cluster, str, str], tmp_path: Path) -> None:
    """After the death of a kernel the next one greets with the run, shows all of it and its end."""
    counters = tmp_path / "counters"
    counters.mkdir()
    patch = tmp_path / "patch.json"
    patch.write_text(json.dumps(counted(counters, {})))
    with kernel(tmp_path / "k", KUBECONFIG=place[2]) as k:
        k.run(
            f"%%qwex -d --runner=k8s --name train --image={BUSYBOX} --pod-patch {patch}\n"
            f"seq 500; {WAIT}; exit 5"
        )
        k.kill()
        k.start()
        greeting = k.run("%load_ext qwex_jupyter").stream()
        assert re.search(r"train \(\w{6}\) still (running|pending) .* · %qwex attach", greeting)
        (counters / "go").touch()
        cell = k.run("%qwex attach")
        assert "exit code 5, last line: 500" in cell.text
        assert k.value("_.logs()") == repr("".join(f"{n}\n" for n in range(1, 501)))


THREE = (
    "python\nimport os, sys\nprint('one', os.environ['A'], sys.argv[1:])\nopen('new', 'w')",
    '\nfor i in 1 2 3; do echo "two $i"; done\ntest -e numbers.txt && cat numbers.txt',
    "--no-raise-error sh\necho three; exit 3",
)


def test_three_cells_run_unchanged_on_three_places(
    place: tuple[Cluster, str, str], docker_engine: Engine, tmp_path: Path
) -> None:
    """The same cells run on process, engine and cluster to the same output and exit codes."""
    for name in ("busybox", "python"):
        image(docker_engine, name)
    (tmp_path / "k").mkdir()
    with kernel(tmp_path / "k", KUBECONFIG=place[2], DOCKER_HOST=docker_engine.host) as k:
        k.run("open('numbers.txt', 'w').write('3\\n1\\n')")
        seen: dict[str, list[str]] = {}
        for runner in ("local", "docker", "k8s"):
            of = "" if runner == "local" else f"--image={PYTHON}"
            k.run(f"%config Qwex.profiles = {{'place': '--runner={runner} {of}'}}")
            for body in THREE:
                k.run(f"%%qwex --profile place --files numbers.txt -e A=b {body}")
                seen.setdefault(runner, []).append(k.value("(_.logs(), _.exit_code)"))
    assert seen["local"] == seen["docker"] == seen["k8s"]
    assert "one b []" in seen["k8s"][0]
    assert "two 3\\n3\\n1\\n" in seen["k8s"][1]
    assert seen["k8s"][2] == r"('three\n', 3)"


# -- the doctor -----------------------------------------------------------------------------------


def test_the_doctor_examines_the_cluster(k: Kernel, place: tuple[Cluster, str, str]) -> None:
    """``doctor`` says which cluster and why, what one may do, and which Jobs lie there."""
    cluster, namespace, _ = place
    k.run(f"%%qwex --keep --image={BUSYBOX} --as kept\ntrue")
    said = doctor(k)
    where = f"at {cluster.address()[0]}, namespace {namespace}, by the context "
    assert re.search(rf"✓ k8s  Kubernetes v\S+ {where}\S+\n", said)
    for word in ("you may do all that is needed", "a Job would be taken"):
        assert f"    {word}\n" in said
    assert re.search(r"\d+ Jobs? ended, kept \(--keep\)", said)
    k.run("%qwex delete {kept.run_id}")


def test_the_doctor_prints_the_role_that_is_missing(there: Cluster, tmp_path: Path) -> None:
    """What he prints, given to ``kubectl apply``, makes him content and a cell run."""
    there.image("busybox")
    fewer = [rule for rule in RULES if rule["resources"] not in (["pods/log"], ["secrets"])]
    fewer = [{**rule, "verbs": [v for v in rule["verbs"] if v != "patch"]} for rule in fewer]
    namespace = there.namespace()
    with kernel(tmp_path / "k", KUBECONFIG=str(there.kubeconfig(fewer, namespace))) as k:
        said = doctor(k)
        for line in (
            "    ✗ you may not patch jobs: runs\n",
            "    ✗ you may not get pods/log: output\n",
            "    ✗ you may not patch pods: stopping them, and timeouts, with the output kept\n",
            "    ✗ you may not create secrets: --secret\n",
        ):
            assert line in said
        assert "you may not create configmaps" not in said
        printed = re.search(r"apply this:\n((?:      .*\n)+)", said)
        assert printed, said
        role, binding = yaml.safe_load(printed[1])["items"]
        assert role == k8s_doctor.role("qwex", namespace)
        assert binding["subjects"][0]["kind"] == "ServiceAccount"
        there.kubectl("apply", "-f", "-", given=printed[1])
        until = time.monotonic() + PATIENCE
        while "you may do all that is needed" not in (said := doctor(k)):
            assert time.monotonic() < until, said
        cell = k.run(f"%%qwex --runner=k8s --image={BUSYBOX}\necho it works")
        assert "it works" in cell.text


def test_a_verb_that_is_missing_is_told_in_the_cell(there: Cluster, tmp_path: Path) -> None:
    """Who may not make Jobs is told so in one line that names the doctor."""
    only = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    with kernel(tmp_path / "k", KUBECONFIG=str(there.kubeconfig(only))) as k:
        said = one_sentence(k.run("%%qwex --runner=k8s --image=a:1\ntrue"))
        assert "You may not create jobs in the namespace" in said
        assert "%qwex doctor" in said
        assert "✗ you may not create/get/list/watch/patch/delete jobs" in doctor(k)


def test_the_doctor_knows_quotas_and_levels(there: Cluster, tmp_path: Path) -> None:
    """Quotas, limits and Pod Security of a namespace are said where they may be read."""
    level = "pod-security.kubernetes.io/enforce"
    namespace = there.namespace(
        labels={level: "restricted", level.replace("enforce", "warn"): "restricted"}
    )
    at = f"/api/v1/namespaces/{namespace}"
    hard = {"spec": {"hard": {"requests.memory": "1Gi", "count/jobs.batch": "0"}}}
    there.api.create(f"{at}/resourcequotas", {"metadata": {"name": "small"}, **hard})
    there.api.wait(f"{at}/resourcequotas/small", lambda found: "hard" in found.get("status", {}))
    limit = {"limits": [{"type": "Container", "max": {"memory": "512Mi"}}]}
    there.api.create(f"{at}/limitranges", {"metadata": {"name": "per"}, "spec": limit})
    read = {"apiGroups": [""], "resources": ["resourcequotas", "limitranges"], "verbs": ["list"]}
    level_too = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    kubeconfig = there.kubeconfig([*RULES, read, level_too], namespace)
    with kernel(tmp_path / "k", KUBECONFIG=str(kubeconfig)) as k:
        said = doctor(k)
        assert "you may do all that is needed" in said
        assert "Pod Security: restricted is enforced: set QWEX_POD_SECURITY=restricted" in said
        assert re.search(r"quota small: .*requests.memory 0 of 1Gi", said)
        assert "limits per: Container max memory 512Mi" in said
        assert "✗ a Job would be refused: " in said
        assert "exceeded quota: small" in said
        cell = k.run("%%qwex --runner=k8s --image=a:1\ntrue")
        assert f"The quota of the namespace {namespace} allows no more jobs" in one_sentence(cell)


def test_a_restricted_namespace_wants_one_setting(there: Cluster, tmp_path: Path) -> None:
    """Without the setting the cell says what to set; with it, it runs."""
    there.image("busybox")
    namespace = there.namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    with kernel(tmp_path / "k", KUBECONFIG=str(there.kubeconfig(RULES, namespace))) as k:
        k.run("%config Qwex.runner = 'k8s'")
        cell = k.run(f"%%qwex --image={BUSYBOX}\ntrue")
        assert k.value("__import__('qwex_jupyter').runs().reason.iloc[0]") == "'AdmissionRefused'"
        assert "set QWEX_POD_SECURITY=restricted and give --user 1000" in cell.text
        k.run("%config Qwex.pod_security = 'restricted'")
        cell = k.run(f"%%qwex --image={BUSYBOX}\ntrue")
        assert "The image runs as root, which its pod may not: give a user by number" in cell.text
        assert "uid=1000" in k.run(f"%%qwex --image={BUSYBOX} --user 1000\nid").text
        assert "a Job would be taken" in doctor(k)


@pytest.fixture
def kube_wire(there: Cluster) -> Iterator[KubeWire]:
    """A wire in front of it."""
    with KubeWire(there) as wire:
        yield wire


def test_the_doctor_waits_for_nobody(
    kube_wire: KubeWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that takes a connection and never answers is told as such; a dead one, too."""
    kubeconfig = str(kube_wire.kubeconfig(RULES))
    env = environment(tmp_path / "terminal", KUBECONFIG=kubeconfig)
    kube_wire.stall("GET", "/version", times=None)  # on a busy machine it is asked again
    said = doctor_of(env)
    assert "✗ k8s  It hasn't answered within 2 s" in said
    assert "✓ local" in said
    kube_wire.down()
    # In one process, where only the first time has to import what asks.
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    manager = RunManager(str(tmp_path / "home"))

    told: list[str] = []

    def is_sure() -> bool:
        lines = examine(manager).text().splitlines()
        told.append(next(line for line in lines if "k8s" in line))
        return "within 2 s" not in told[-1]

    until(is_sure)
    assert re.search(
        r"✗ k8s  The API server at https://\S+ doesn't answer \(.*\): start it, or", told[-1]
    )


# -- in a terminal --------------------------------------------------------------------------------


def test_a_terminal_passes_the_end_on(env: dict[str, str]) -> None:
    """``qwex run`` gives output and exit code of the program; ``--json`` the whole record."""
    script = "echo out; exit 7"
    done = qwex(env, "run", "--quiet", f"--image={BUSYBOX}", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (7, b"out\n")
    done = qwex(env, "run", "--json", f"--image={BUSYBOX}", "true")
    record = json.loads(done.stdout)
    assert (record["image"], record["runner"]) == (BUSYBOX, "k8s")
    shown = qwex(env, "show").stdout.decode()
    assert "the backend's own words" in shown or "backend" in shown


def test_a_terminal_gets_help_about_clusters(env: dict[str, str]) -> None:
    """The list of options says which are for clusters."""
    said = qwex(env, "run", "--help").stdout.decode()
    for word in ("--namespace", "--pod-patch", "--pull-secret", "--service-account"):
        assert re.search(rf"{word} .*\[k8s\]", said), said
