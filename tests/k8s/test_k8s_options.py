"""Every option of a Job's run, on a real cluster under the documented Role: what becomes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from container_options import ContainerOptions
from k8s_helpers import There, files_of, until
from kernel import environment

from qwex_jupyter.errors import QwexError, RunNotFound, SpecError, SubmitFailed, UnsupportedOption
from qwex_jupyter.model.status import Reason, RunStatus
from qwex_jupyter.runners.k8s.manifest import MOST_SCRIPT
from qwex_jupyter.testing.contract import WEIRD


class TestOptions(ContainerOptions):
    """What they mean on an engine as well."""

    instead = "--files"


# -- what is executed ------------------------------------------------------------------------------


def test_the_largest_script_arrives_byte_by_byte(there: There) -> None:
    """250,000 bytes with CR, tabs, characters of any size and no last newline; one more is refused.

    Lines that a YAML or JSON writer would fold, strip or take for markers are among them.
    """
    lines = [
        b"sha256sum < $0; tail -c 4 $0; exit",
        b"trailing  \t",
        b"\tindent\r",
        b"- a: {b}",
        "äß€你🎉".encode(),
        b"---",
    ]
    lines += ["\u2028\u0085\ufeff".encode(), b"\x01\x7f\x1b[0m", b"$(HOME) $$(X) %s", b"#", b""]
    chance = random.Random(1)
    text = b"\n".join([lines[0], *chance.choices(lines[1:], k=30_000)])[: MOST_SCRIPT - 4]
    text = text.decode("utf-8", "ignore").encode()
    text += b"x" * (MOST_SCRIPT - len(text))
    run = there.end("sh", text.decode())
    assert run.status is RunStatus.SUCCEEDED, run.record.sentence
    assert run.logs("stdout") == f"{hashlib.sha256(text).hexdigest()}  -\nxxxx"
    with pytest.raises(SpecError, match="250,001 bytes"):
        there.submit("sh", text.decode() + "x")


def test_a_script_has_room_beside_labels(there: There) -> None:
    """The largest script goes with long words of the user's own, which are annotations too."""
    text = "true\n".ljust(MOST_SCRIPT, "#")
    labels = " ".join(f"-l 'note{n}={'long words ' * 20}'" for n in range(10))
    assert there.says(f"{labels} sh", text) == ""


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_variables_reach_the_program(
    there: There, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given, inherited, from a file, or secret: the program sees each value, of any kind."""
    weird = "|".join(WEIRD) + "$(QWEX_RUN_ID) $$(X) $$"
    monkeypatch.setenv("FROM_HERE", f"inherited {weird}")
    monkeypatch.setenv("TOKEN", f"hunter2 {weird}")
    (here / "vars.env").write_text("# a comment\nF=$(QWEX_RUN_ID)\nG=two  words\n")
    spec = there.spec(
        "-e FROM_HERE -e EMPTY= --env-file vars.env --secret TOKEN sh",
        'printf "%s\\n" "$A" "$FROM_HERE" "$TOKEN" "$F" "$G" "${EMPTY-unset}"',
    )
    spec = replace(spec, env={**spec.env, "A": weird, "odd.name-1": "x"})
    run = there.manager.submit(spec, "k8s").wait(150)
    expected = [weird, f"inherited {weird}", f"hunter2 {weird}", "$(QWEX_RUN_ID)", "two  words", ""]
    assert run.log.read("stdout").decode() == "".join(f"{line}\n" for line in expected)


def test_arguments_are_not_expanded(there: There) -> None:
    """``$(NAME)`` and ``$$`` in a word stay what they are."""
    said = there.says("-e A=1 echo '$(A)' '$$(A)' '$$$(A)' '$(QWEX_RUN_ID)' '$'")
    assert said == "$(A) $$(A) $$$(A) $(QWEX_RUN_ID) $\n"


def test_what_every_run_is_told(there: There) -> None:
    """QWEX_RUN_ID is the run's, PYTHONUNBUFFERED is 1 unless set; services are not told."""
    run = there.end("sh", "echo $QWEX_RUN_ID $PYTHONUNBUFFERED; env | grep -c _SERVICE_PORT_ ; :")
    assert run.logs("stdout").startswith(f"{run.run_id} 1\n")
    assert there.says("-e PYTHONUNBUFFERED=0 sh -c 'echo $PYTHONUNBUFFERED'") == "0\n"


def test_a_secret_stands_in_a_secret_alone(
    there: There, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value is in no Job, pod, record, plan, dry run or file, and goes with the Job."""
    monkeypatch.setenv("TOKEN", "hunter2")
    run = there.end("--secret TOKEN sh", "echo ${#TOKEN}; test -z $OTHER")
    assert run.logs("stdout") == "7\n", run.record.sentence
    plan = there.plan("--secret TOKEN sh", "true")
    shown = there.manager.runner("k8s").show(plan)
    job, pod = there.job(run), there.pod(run)
    words = json.dumps([job, pod, plan, run.record.to_json()]) + shown
    hidden = base64.b64encode(b"hunter2").decode()
    assert "hunter2" not in words and hidden not in words
    assert b"hunter2" not in files_of(home) and hidden.encode() not in files_of(home)
    assert "kubectl create secret generic" in shown
    (made,) = there.cluster.api.get(there.at("secrets"))["items"]
    assert list(made["data"].values()) == [hidden]
    assert made["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert "activeDeadlineSeconds" not in job["spec"]
    there.settle(run)
    run.delete()
    until(lambda: not there.cluster.api.get(there.at("secrets"))["items"])


# -- folders, files, volumes -----------------------------------------------------------------------


@pytest.mark.tier("quick")
def test_copies_lie_in_the_working_folder(there: There, here: Path) -> None:
    """Nested, with any name, executable or not; the folders can be written, as any user."""
    (here / "data" / "deep").mkdir(parents=True)
    (here / "data" / "deep" / "ä b 你.txt").write_text("nested\n")
    (here / "data" / "it's $(x) #1.txt").write_text("odd\n")
    (here / "data" / "empty").write_text("")
    (here / "tool.sh").write_text("#!/bin/sh\necho executed\n")
    (here / "tool.sh").chmod(0o700)
    (here / "private.txt").write_text("for me\n")
    (here / "private.txt").chmod(0o600)
    (here.parent / "outside").write_text("outside\n")
    cell = (
        "cat 'data/deep/ä b 你.txt' \"data/it's \\$(x) #1.txt\" data/empty; ./tool.sh; "
        "cat private.txt outside; test -x private.txt || echo plain; pwd; "
        "touch new data/new data/deep/new && find . -name new | sort"
    )
    expected = (
        "nested\nodd\nexecuted\nfor me\noutside\nplain\n/qwex/work\n"
        "./data/deep/new\n./data/new\n./new\n"
    )
    for user in ("", "-u 1234:4321 "):
        line = f"{user}--files data tool.sh private.txt ../outside -- sh"
        assert there.says(line, cell) == expected


def test_a_copy_can_not_be_changed(there: There, here: Path) -> None:
    """On a cluster a copy is read-only; a program that would change it fails by itself."""
    (here / "data.txt").write_text("carried\n")
    cell = "cp data.txt mine.txt && echo more >> mine.txt; cat mine.txt; echo more >> data.txt"
    run = there.end("--files data.txt -- sh", cell)
    assert run.status is RunStatus.FAILED
    # Both streams are read at once, line by line, and say nothing of each other's order.
    lines = run.logs().splitlines()
    assert [line for line in lines if "Read-only" not in line] == ["carried", "more"]
    assert len(lines) == 3


def test_many_bytes_in_several_objects(there: There, here: Path) -> None:
    """Three files of 900 kB arrive byte by byte, each in a ConfigMap that goes with the Job."""
    for number in range(3):
        (here / f"f{number}").write_bytes(random.Random(number).randbytes(900_000))
    expected = subprocess.run(
        ["sha256sum", "f0", "f1", "f2"], capture_output=True, check=True, text=True
    ).stdout
    run = there.end("--files f0 f1 f2 -- sha256sum f0 f1 f2")
    assert run.logs("stdout") == expected, run.record.sentence
    uid = there.job(run)["metadata"]["uid"]
    made = [
        each
        for each in there.cluster.api.get(there.at("configmaps"))["items"]
        if any(o["uid"] == uid for o in each["metadata"].get("ownerReferences", ()))
    ]
    assert len(made) == 3
    there.settle(run)
    run.delete()
    names = {each["metadata"]["name"] for each in made}
    until(
        lambda: (
            not names
            & {
                e["metadata"]["name"]
                for e in there.cluster.api.get(there.at("configmaps"))["items"]
            }
        )
    )


def test_more_than_travels_is_refused(there: There, here: Path) -> None:
    """One file of more than 1 MiB, or too many of them, are refused before there is a run."""
    (here / "large").write_bytes(b"x" * (1024**2 + 1))
    with pytest.raises(SpecError, match=r"large has 1,048,577 bytes.*-v pvc/NAME:PATH"):
        there.submit("--files large -- true")
    (here / "many").mkdir()
    for number in range(501):
        (here / "many" / str(number)).touch()
    with pytest.raises(SpecError, match="more than the 500 files"):
        there.submit("--files many -- true")
    assert there.manager.history.run_ids() == []
    assert there.jobs() == []


def test_the_most_that_travels_arrives(there: There, here: Path) -> None:
    """500 small files, and a whole MiB in one, are there when the program runs."""
    (here / "many").mkdir()
    for number in range(499):
        (here / "many" / str(number)).write_text(f"{number}\n")
    (here / "large").write_bytes(b"x" * 1024**2)
    said = there.says("--files many large -- sh", "cat many/* | sort -n | tail -1; wc -c < large")
    assert said.split() == ["498", "1048576"]


def test_a_script_argument_goes_along(there: There, here: Path) -> None:
    """``qwex run --image=... sh script.sh`` carries the script that lies here."""
    (here / "script.sh").write_text("echo carried $1\n")
    line = ["run", "--runner=k8s", f"--image={there.cluster.image('busybox')}", "sh", "script.sh"]
    env = environment(here.parent / "user", KUBECONFIG=os.environ["KUBECONFIG"])
    done = subprocess.run(
        [sys.executable, "-m", "qwex_jupyter.cli", *line, "x y"],
        env=env, cwd=here, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "carried x y\n" in done.stdout, done.stderr


def test_this_folder_is_nowhere_there(there: There, here: Path) -> None:
    """A folder of this machine is refused, naming what does instead."""
    with pytest.raises(UnsupportedOption, match="-v pvc/NAME:PATH"):
        there.submit("--here true")
    with pytest.raises(UnsupportedOption, match="--files"):
        there.submit("-v ./data:/data true")


@pytest.fixture
def claim(there: There, tmp_path: Path) -> Iterator[str]:
    """A claim with a folder of the node's behind it."""
    (tmp_path / "volume").mkdir(mode=0o777)
    name = f"tests-{there.namespace}"
    size = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]}
    volume = {
        "metadata": {"name": name},
        "spec": {**size, "hostPath": {"path": str(tmp_path / "volume")}, "storageClassName": ""},
    }
    there.cluster.api.create("/api/v1/persistentvolumes", volume)
    wanted = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": name,
        "storageClassName": "",
    }
    there.create("persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": wanted})
    yield "data"
    there.cluster.api.delete(f"/api/v1/persistentvolumes/{name}")


def test_a_claim(there: There, claim: str, tmp_path: Path) -> None:
    """``-v pvc/NAME:PATH`` mounts a claim, to write or only to read; what is written stays."""
    assert there.says(f"-v pvc/{claim}:/data sh", "echo kept > /data/x; cat /data/x") == "kept\n"
    cell = "cat /data/x; touch /data/new 2>/dev/null && echo written || echo refused"
    assert there.says(f"-v pvc/{claim}:/data:ro sh", cell) == "kept\nrefused\n"
    assert [path.name for path in (tmp_path / "volume").iterdir()] == ["x"]
    for word in ("pvc/UP:/x", f"pvc/{claim}:/x:rw:z", f"pvc/{claim}:x", f"pvc/{claim}:/qwex/x"):
        with pytest.raises(SpecError):
            there.submit(f"-v {word} true")


def test_a_claim_that_is_not_there(there: There) -> None:
    """A run waits for a claim that may come, and says so; when it comes, it runs."""
    run = there.submit("-v pvc/later:/data true")
    assert "it waits for a volume" in there.why(run, Reason.UNSCHEDULABLE).lower()
    assert '"later" not found' in run.record.message
    run.cancel()
    assert run.wait(150, check=False).status is RunStatus.CANCELLED


# -- limits ----------------------------------------------------------------------------------------


def test_resources_are_requests_and_limits(there: There) -> None:
    """``--cpus`` and ``--memory`` are what the container gets, neither less nor more."""
    cell = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;:"
    run = there.end("--cpus 250m --memory 64m sh", cell)
    assert run.logs("stdout") == "67108864\n", run.record.sentence
    resources = there.pod(run)["spec"]["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"] == {"cpu": "250m", "memory": "67108864"}
    run = there.end("true")
    assert there.pod(run)["spec"]["containers"][0].get("resources", {}) == {}


# A runtime listens for memory that runs out only from a moment after the program began.
TAKES = "sleep 1; x=0123456789abcdef; while [ ${#x} -lt 300000000 ]; do x=$x$x; done; sleep 60"


def test_out_of_memory(there: There) -> None:
    """What is killed for memory says how much it was allowed and what to try."""
    run = there.end("--memory 32m sh", TAKES)
    assert (run.status, run.exit_code) == (RunStatus.FAILED, 137)
    assert run.record.reason == Reason.OUT_OF_MEMORY
    assert "32 MiB allowed" in run.record.message
    assert f"%qwex rerun {run.handle} --memory 64MiB" in run.record.message


def test_out_of_memory_in_a_child(there: There) -> None:
    """A child that is killed for memory is never called a success, whatever its parent does."""
    run = there.end("--memory 32m sh", f"sh -c '{TAKES}' || exit 3")
    assert run.status is RunStatus.FAILED
    # Where the kernel ends a whole cgroup at once there is no parent that could say 3.
    assert (run.record.reason, run.exit_code) in (
        (Reason.OUT_OF_MEMORY, 137),
        (Reason.OUT_OF_MEMORY, 3),
        (Reason.NON_ZERO_EXIT, 3),
    )


def test_shared_memory(there: There) -> None:
    """``--shm-size`` is the size of /dev/shm."""
    cell = "df -k /dev/shm | tail -1 | awk '{print $2}'"
    assert there.says("sh", cell) == "65536\n"
    said = there.says("--shm-size 100m sh", f"{cell}; echo x > /dev/shm/x && cat /dev/shm/x")
    assert said == "102400\nx\n"


def test_a_gpu_that_is_not_there(there: There) -> None:
    """A run that asks for a GPU waits for one, and says so within seconds."""
    run = there.submit("--gpus 1 echo never")
    message = there.why(run, Reason.UNSCHEDULABLE)
    assert message == "It waits for a GPU: 0 of 1 nodes have nvidia.com/gpu free."
    run.cancel()
    assert run.wait(150, check=False).status is RunStatus.CANCELLED
    assert run.logs() == ""
    with pytest.raises(SpecError, match="--gpus 1"):
        there.submit("--gpus all true")


@pytest.fixture
def gpu(there: There) -> Iterator[str]:
    """A resource of the node that stands for two GPUs; kubelets count what they don't know too.

    Nobody else asks for it, as its name has the namespace in it.
    """
    cluster = there.cluster
    cluster.must_be_ours()
    name = f"{there.namespace}.qwex/gpu"
    at = f"/api/v1/nodes/{cluster.node}/status"
    cluster.api.patch(at, {"status": {"capacity": {name: "2"}}})
    yield name
    cluster.api.patch(at, {"status": {"capacity": {name: None}, "allocatable": {name: None}}})


def test_gpus_have_a_name_of_the_cluster_s(
    there: There, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Qwex.gpu_resource`` says what a GPU is called; with it come 2 GiB of /dev/shm."""
    monkeypatch.setenv("QWEX_GPU_RESOURCE", gpu)
    cell = "df -k /dev/shm | tail -1 | awk '{print $2}'"
    run = there.end("--gpus 2 sh", cell)
    assert (run.status, run.logs("stdout")) == (RunStatus.SUCCEEDED, "2097152\n")
    assert there.pod(run)["spec"]["containers"][0]["resources"]["limits"] == {gpu: "2"}
    run = there.submit("--gpus 3 echo never")
    message = there.why(run, Reason.UNSCHEDULABLE)
    assert message == f"It waits for a GPU: 0 of 1 nodes have {gpu} free."
    run.cancel()


# -- who, and what it can reach --------------------------------------------------------------------


def test_a_user_by_name(there: There) -> None:
    """It is refused, as Kubernetes knows none."""
    with pytest.raises(SpecError, match="by their numbers"):
        there.submit("-u worker true")


def test_a_service_account(there: There) -> None:
    """Only a run that names an account has a token, and it is that account's."""
    cell = "cat /var/run/secrets/kubernetes.io/serviceaccount/token 2>/dev/null || echo none"
    assert there.says("sh", cell) == "none\n"
    there.create("serviceaccounts", {"metadata": {"name": "worker"}})
    token = there.says("--service-account worker sh", cell).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{there.namespace}:worker"


def test_labels(there: There) -> None:
    """What can be a label is one on Job and pod, what can't is an annotation; ours can't be set."""
    line = "-l team=a1 -l example.org/x=y -l 'note=two words ä' -l empty="
    run = there.end(f"{line} true")
    for found in (there.job(run)["metadata"], there.pod(run)["metadata"]):
        labels = found["labels"]
        assert (labels["team"], labels["example.org/x"], labels["empty"]) == ("a1", "y", "")
        assert labels["qwex.run"] == run.run_id
        assert labels["qwex.history"] == there.manager.history.id
    assert there.pod(run)["metadata"]["annotations"]["note"] == "two words ä"
    assert run.record.labels == {
        "team": "a1", "example.org/x": "y", "note": "two words ä", "empty": ""
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"qwex\. is ours"):
        there.submit("-l qwex.run=x true")


@pytest.mark.parametrize("key", ["a/b/c", "-x", "a" * 64, "UPPER/x", "kubernetes.io/", "x_"])
def test_a_label_s_name_is_refused_before_there_is_a_run(there: There, key: str) -> None:
    """A name that the API server would not take is refused in words, and nothing is made."""
    with pytest.raises(SpecError, match=r"-l|label"):
        there.submit(f"-l '{key}=1' true")
    assert there.manager.history.run_ids() == []
    assert there.jobs() == []


def test_when_to_pull(there: There) -> None:
    """``--pull`` is the pod's policy; never takes what the node has."""
    assert there.says("--pull=never echo here") == "here\n"
    policies = [
        there.plan(f"{word} true")["job"]["spec"]["template"]["spec"]["containers"][0][
            "imagePullPolicy"
        ]
        for word in ("", "--pull=always", "--pull=never", "--pull=missing")
    ]
    assert policies == ["IfNotPresent", "Always", "Never", "IfNotPresent"]


def test_a_login_for_a_registry(there: There) -> None:
    """``--pull-secret`` names the Secret with it in the pod."""
    run = there.end("--pull-secret login true")
    assert run.status is RunStatus.SUCCEEDED
    assert there.pod(run)["spec"]["imagePullSecrets"] == [{"name": "login"}]


def test_another_namespace_and_context(
    there: There, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--namespace`` needs the Role there; ``--context`` must be one of the kubeconfig's."""
    other = cluster.namespace()
    with pytest.raises(SubmitFailed, match=f"You may not create jobs in the namespace {other}"):
        there.submit(f"--namespace {other} true")
    with pytest.raises(QwexError, match="There is no context 'nowhere' in the kubeconfig"):
        there.submit("--context nowhere true")
    assert there.says(f"--context tests --namespace {there.namespace} echo yes") == "yes\n"


# -- the pod, patched ------------------------------------------------------------------------------

SIDECAR = """
tolerations:
- {key: dedicated, operator: Exists}
nodeSelector: {kubernetes.io/os: linux}
containers:
- name: beside
  image: qwex-test/busybox:1
  command: [sh, -c, "echo not ours; sleep 600"]
- name: main
  env:
  - {name: A, value: patched}
"""


def test_a_patch_of_the_pod(there: There, here: Path) -> None:
    """Text or a file: maps are merged, named things by name; the verdict is of our container.

    The one beside it, which goes on, neither keeps the run nor speaks for it.
    """
    (here / "patch.yaml").write_text(SIDECAR)
    spec = there.spec("-e A=given -e B=2 sh", "echo $A $B; exit 5")
    for patch in (SIDECAR, "patch.yaml"):
        run = there.manager.submit(replace(spec, options={"pod-patch": patch}), "k8s")
        there.ended(run)
        assert (run.status, run.exit_code) == (RunStatus.FAILED, 5), run.record.sentence
        assert run.logs("stdout") == "patched 2\n"
        pod = there.pod(run)["spec"]
        assert {"key": "dedicated", "operator": "Exists"} in pod["tolerations"]
        assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_a_container_beside_does_not_keep_the_pod(there: There) -> None:
    """When our program has ended and its output is here, the pod with the other one ends too."""
    spec = there.spec("sh", "echo done")
    run = there.manager.submit(replace(spec, options={"pod-patch": SIDECAR}), "k8s")
    assert there.ended(run).logs("stdout") == "done\n"
    there.settle(run)
    until(lambda: all(pod["status"]["phase"] != "Running" for pod in there.pods(run)))


def test_a_failing_container_beside_is_not_ours(there: There) -> None:
    """A sidecar that fails at once takes nothing away from a program that ends well."""
    patch = """
containers:
- {name: beside, image: "qwex-test/busybox:1", command: [sh, -c, "exit 9"]}
"""
    spec = there.spec("sh", "sleep 3; echo well")
    run = there.ended(there.manager.submit(replace(spec, options={"pod-patch": patch}), "k8s"))
    assert (run.status, run.exit_code) == (RunStatus.SUCCEEDED, 0), run.record.sentence
    assert run.logs("stdout") == "well\n"


@pytest.mark.parametrize(
    "patch",
    [
        "restartPolicy: OnFailure",
        "metadata: {labels: {qwex.run: x}}",
        "containers: null",
        "[1, 2]",
        "just words",
        "a: [",
    ],
)
def test_a_patch_that_can_not_be(there: There, patch: str) -> None:
    """What a run rests on can't be patched, and what is no YAML mapping is refused in words."""
    spec = replace(there.spec("true"), options={"pod-patch": patch})
    with pytest.raises(SpecError, match="--pod-patch"):
        there.manager.submit(spec, "k8s")
    assert there.jobs() == []


@pytest.mark.tier("quick")
def test_a_patch_that_the_server_refuses(there: There) -> None:
    """A field that Kubernetes can't take is refused at submit, in its words, with nothing made."""
    spec = replace(there.spec("true"), options={"pod-patch": "dnsPolicy: Never"})
    with pytest.raises(SubmitFailed, match=r"dnsPolicy.*Nothing was started"):
        there.manager.submit(spec, "k8s")
    assert there.jobs() == []
    assert there.manager.history.open_ids() == []


# -- afterwards ------------------------------------------------------------------------------------


def test_a_job_goes_by_itself(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Job has no TTL until outcome and output are on disk, then it goes after ``job_ttl``."""
    monkeypatch.setenv("QWEX_JOB_TTL", "2s")
    run = there.submit("sh", "echo kept")
    assert "ttlSecondsAfterFinished" not in there.job(run)["spec"]
    there.ended(run)
    there.settle(run)
    until(lambda: there.jobs() == [])
    until(lambda: there.pods(run) == [])
    there.manager.tracker.look([run.run_id])
    assert (run.status, run.logs()) == (RunStatus.SUCCEEDED, "kept\n")


def test_what_is_kept_stays(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--keep`` leaves the Job as it is; the others get their time."""
    monkeypatch.setenv("QWEX_JOB_TTL", "1h")
    kept, other = there.submit("--keep true"), there.submit("true")
    for run in (kept, other):
        run.wait(150)
        there.settle(run)
    assert "ttlSecondsAfterFinished" not in there.job(kept)["spec"]
    assert there.job(other)["spec"]["ttlSecondsAfterFinished"] == 3600
    kept.delete()
    assert there.jobs() == [f"qwex-{other.run_id}"]


@pytest.mark.tier("quick")
def test_delete_takes_job_and_pod(there: There) -> None:
    """`delete` removes the Job with its pod, and the run is known no more."""
    run = there.end("true")
    there.settle(run)
    run.delete()
    until(lambda: there.jobs() == [] and there.pods(run) == [])
    with pytest.raises(RunNotFound):
        there.manager.get(run.run_id)


def stranger(there: There, name: str, labels: dict[str, str]) -> Any:
    """A Job of somebody else's."""
    container = {"name": "main", "image": there.cluster.image("busybox"), "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"metadata": {"name": name, "labels": labels}, "spec": {"template": template}}
    return there.create("jobs", body)


def test_a_stranger_s_job_is_left_alone(there: There) -> None:
    """One that took our Job's name, without both of our labels, is neither read nor removed."""
    run = there.end("true")
    there.settle(run)
    name = f"qwex-{run.run_id}"
    there.cluster.api.delete(there.at("jobs", name), propagationPolicy="Background")
    until(lambda: there.jobs() == [] and there.pods(run) == [])
    for labels in ({}, {"qwex.run": run.run_id}, {"qwex.run": run.run_id, "qwex.history": "x"}):
        made = stranger(there, name, labels)
        runner = there.another().runner("k8s")
        runner.delete(run.run_id)
        runner.release(run.run_id)
        assert isinstance(runner.poll([run.run_id])[run.run_id], RunNotFound)
        found = there.cluster.api.get(there.at("jobs", name))
        assert found["metadata"]["uid"] == made["metadata"]["uid"]
        assert "ttlSecondsAfterFinished" not in found["spec"]
        there.cluster.api.delete(there.at("jobs", name), propagationPolicy="Background")
        until(lambda: there.jobs() == [] and there.pods(run) == [])
    stranger(there, name, {})
    run.delete()
    assert there.jobs() == [name]


def test_only_what_was_looked_at_is_removed(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Job of the same name and labels that was made after the look stays: the uid is another."""
    run = there.end("true")
    there.settle(run)
    name, labels = f"qwex-{run.run_id}", there.job(run)["metadata"]["labels"]
    runner = there.manager.runner("k8s")
    old = runner._finder.job(run.run_id)  # type: ignore[attr-defined]
    there.cluster.api.delete(there.at("jobs", name), propagationPolicy="Background")
    until(lambda: there.jobs() == [])
    ours = {key: labels[key] for key in ("qwex.run", "qwex.history")}
    made = stranger(there, name, ours)
    monkeypatch.setattr(runner._finder, "job", lambda run_id: old)  # type: ignore[attr-defined]
    runner.delete(run.run_id)
    assert (
        there.cluster.api.get(there.at("jobs", name))["metadata"]["uid"]
        == (made["metadata"]["uid"])
    )


def test_jobs_without_a_folder_are_never_touched(there: There) -> None:
    """A Job of this history whose run has no folder here stays, and doctor names it."""
    labels = {"qwex.run": "20261124-120000-abcdef", "qwex.history": there.manager.history.id}
    stranger(there, "qwex-20261124-120000-abcdef", labels)
    run = there.end("true")
    there.settle(run)
    run.delete()
    there.manager.tracker.look()
    assert there.jobs() == ["qwex-20261124-120000-abcdef"]
    lines = list(there.manager.runner("k8s").examine())
    assert any("delete job qwex-20261124-120000-abcdef" in line for line in lines)
    assert there.jobs() == ["qwex-20261124-120000-abcdef"]


def test_deleting_an_old_run_whose_job_is_gone(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prune` and `delete` of runs whose Jobs went by themselves just take the folders."""
    monkeypatch.setenv("QWEX_JOB_TTL", "1s")
    runs = [there.submit("true") for _ in range(3)]
    for run in runs:
        run.wait(150)
        there.settle(run)
    until(lambda: there.jobs() == [])
    before = time.monotonic()
    for run in runs:
        run.delete()
    assert there.manager.history.run_ids() == []
    assert time.monotonic() - before < 60
