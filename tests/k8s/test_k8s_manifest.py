"""A spec as a Job: what is handed over, byte by byte, and that a real API server takes it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import Cluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwex_jupyter.disk import carry
from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.model.spec import JobSpec, Resources
from qwex_jupyter.runners.base import Plan
from qwex_jupyter.runners.k8s import files, launch, manifest
from qwex_jupyter.runners.k8s import patch as k8s_patch

RUN = "20261124-120000-k3x9qd"
ROUND = settings(max_examples=100, deadline=None, derandomize=True)
# Of a real server, some hundred words in one object each.
ASKED = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def plan(restricted: bool = False, **more: Any) -> Plan:
    """The plan of a spec."""
    spec = JobSpec(**{"command": ("true",), "image": "busybox:1", **more})
    carried = carry.survey(spec, "/no/home")
    return manifest.make_plan(spec, RUN, "h1", carried=carried, restricted=restricted)


def pod_of(plan: Plan) -> dict[str, Any]:
    """The pod's spec in it."""
    found: dict[str, Any] = plan["job"]["spec"]["template"]["spec"]
    return found


def main_of(plan: Plan) -> dict[str, Any]:
    """The program's container in it."""
    return manifest.main_of(pod_of(plan))


def env_of(container: dict[str, Any]) -> dict[str, Any]:
    """Its variables that have a value there."""
    return {one["name"]: expand(one["value"]) for one in container["env"] if "value" in one}


def expand(text: str, **values: str) -> str:
    """As Kubernetes does: k8s.io/kubernetes/third_party/forked/golang/expansion."""
    found, at = "", 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            if text[at + 1] == "$":
                found, at = found + "$", at + 2
                continue
            end = text.find(")", at)
            if text[at + 1] == "(" and end > 0:
                name = text[at + 2 : end]
                found, at = found + values.get(name, f"$({name})"), end + 1
                continue
        found, at = found + text[at], at + 1
    return found


# -- what is handed over ---------------------------------------------------------------------------


def test_a_plan_is_pure(here: Path) -> None:
    """The same spec gives the same plan, in JSON, and nothing that is done with it changes it."""
    (here / "a").write_bytes(b"\0\xff")
    found = plan(files=("a",), secrets=("S",), env={"E": None}, script="echo $(A)\n", command=())
    text = json.dumps(found)
    assert json.loads(text) == found
    for _ in range(2):
        manifest.with_values(found, {"S": "hush", "E": "1"})
        files.config_maps(found)
        files.secret(found, {"S": "hush"})
        manifest.as_yaml(found)
    assert json.dumps(found) == text
    assert (
        plan(files=("a",), secrets=("S",), env={"E": None}, script="echo $(A)\n", command=())
        == found
    )


@ROUND
@given(st.text("$()A é", max_size=12))
def test_no_dollar_is_touched(text: str) -> None:
    """Whatever stands in a word or a value reaches the program as it is."""
    found = plan(command=("echo", text), env={"X": text, "A": "no"})
    assert [expand(word, A="no") for word in main_of(found)["args"]] == ["echo", text]
    assert env_of(main_of(found))["X"] == text
    changed = manifest.with_values(plan(env={"X": None}), {"X": text})
    container = manifest.main_of(changed["spec"]["template"]["spec"])
    assert env_of(container)["X"] == text


def test_variables() -> None:
    """Given values stand in the Job, inherited ones are added at submit, defaults give way."""
    found = plan(
        command=("python", "-"),
        script="1",
        env={"PYTHONUNBUFFERED": "0", "A": "1", "B": None},
        env_files=("x.env",),
    )
    assert env_of(main_of(found)) == {
        "PYTHONUNBUFFERED": "0",
        "QWEX_RUN_ID": RUN,
        "PYTHONPATH": ".",
        "A": "1",
    }
    assert (found["names"], found["env_files"]) == (["B"], ["x.env"])
    job = manifest.with_values(found, {"A": "2", "B": "3"})
    names = [one["name"] for one in main_of({"job": job})["env"]]
    assert sorted(set(names)) == sorted(names)
    assert env_of(main_of({"job": job}))["A"] == "2"


def test_secrets_stand_nowhere() -> None:
    """A secret's value is in the Secret and in nothing else that is made, shown or written."""
    found = plan(secrets=("B", "A"), env={"A": None})
    values = {"A": "hush-$(B)", "B": "quiet"}
    job, secret = manifest.with_values(found, values), files.secret(found, values)
    shown = json.dumps([found, job]) + manifest.as_yaml(found)
    assert not any(value in shown for value in values.values())
    assert secret is not None
    told = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in main_of({"job": job})["env"]
            if "valueFrom" in one}  # fmt: skip
    assert {ref["name"] for ref in told.values()} == {secret["metadata"]["name"]}
    there = {name: base64.b64decode(secret["data"][ref["key"]]) for name, ref in told.items()}
    assert there == {name: value.encode() for name, value in values.items()}
    assert '--from-literal=s0="$A" --from-literal=s1="$B"' in manifest.as_yaml(found)


def test_the_job() -> None:
    """What every run rests on is in its Job."""
    found = plan(grace=2.5)
    spec = found["job"]["spec"]
    assert (spec["backoffLimit"], pod_of(found)["restartPolicy"]) == (0, "Never")
    assert "ttlSecondsAfterFinished" not in spec and "activeDeadlineSeconds" not in spec
    assert pod_of(found)["shareProcessNamespace"] is True
    assert pod_of(found)["automountServiceAccountToken"] is False
    assert pod_of(found)["terminationGracePeriodSeconds"] == 3
    assert found["job"]["metadata"]["name"] == f"qwex-{RUN}"
    assert "activeDeadlineSeconds" not in pod_of(found)
    timed = pod_of(plan(timeout=90.5, start_timeout=30))
    assert timed["activeDeadlineSeconds"] == 30 + 91 + 2
    assert pod_of(plan(timeout=1))["activeDeadlineSeconds"] == 86400 + 1 + 2
    assert plan(secrets=("A",), start_timeout=30)["job"]["spec"]["activeDeadlineSeconds"] == 30
    assert manifest.deadline_of(10, 100.0, 103.0) == 14


def test_an_entrypoint_stays_is_replaced_or_taken_away() -> None:
    """Arguments go to the image's own program; ``--entrypoint`` takes its place."""
    assert "command" not in main_of(plan(command=("a", "b")))
    assert main_of(plan(command=("a", "b")))["args"] == ["a", "b"]
    replaced = main_of(plan(command=("a", "b"), options={"entrypoint": "$x"}))
    assert (replaced["command"], replaced["args"]) == (["$$x"], ["a", "b"])
    gone = main_of(plan(command=("a", "b"), options={"entrypoint": ""}))
    assert (gone["command"], gone["args"]) == (["a"], ["b"])


def test_resources() -> None:
    """Limits are requests too, in units that mean what was written."""
    found = plan(resources=Resources(cpus="0.5", memory="512m", gpus="2"))
    limits = {"cpu": "500m", "memory": str(512 * 1024**2), "nvidia.com/gpu": "2"}
    assert main_of(found)["resources"] == {"limits": limits, "requests": limits}
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(2 * 1024**3)}} in (
        pod_of(found)["volumes"]
    )
    assert main_of(plan(resources=Resources(cpus=0.0001)))["resources"]["limits"]["cpu"] == "1m"


@pytest.mark.parametrize(
    "more",
    [
        {"image": None},
        {"workdir": "here"},
        {"user": "me"},
        {"resources": Resources(gpus="all")},
        {"volumes": ("pvc/A_B:/x",)},
        {"volumes": ("pvc/a:x",)},
        {"volumes": ("pvc/a:/x:rx",)},
        {"volumes": ("pvc/a:/qwex/work",)},
        {"volumes": ("pvc/a",)},
        {"labels": {"qwex.run": "x"}},
        {"labels": {"A.b/c": "x"}},
        {"labels": {"a/b/c": "x"}},
        {"labels": {"a..b/c": "x"}},
        {"labels": {"a/b": "x", "a-./c": "x"}},
        {"script": "x" * 250_001},
    ],
)
def test_what_can_not_be_right_is_refused(more: dict[str, Any]) -> None:
    """A value that no cluster takes is refused before one is asked."""
    with pytest.raises(SpecError):
        plan(**more)


def test_a_folder_of_this_machine_is_refused() -> None:
    """A bind mount names what can be had instead."""
    with pytest.raises(UnsupportedOption, match="pvc/NAME:PATH"):
        plan(volumes=("/data:/data",))


def test_words_that_are_no_labels_are_annotations() -> None:
    """A label whose value Kubernetes doesn't take as one is kept beside the script."""
    found = plan(labels={"a": "fine", "b": "two words", "c": "x" * 64, "d": ""}, script="s")
    meta = found["job"]["spec"]["template"]["metadata"]
    assert {k: v for k, v in meta["labels"].items() if "." not in k} == {"a": "fine", "d": ""}
    assert meta["annotations"] == {"b": "two words", "c": "x" * 64, "qwex.script": "s"}


# -- files -----------------------------------------------------------------------------------------


def contents(found: Plan) -> dict[str, tuple[bytes, int]]:
    """What the pod would see in its working folder: bytes and mode by path."""
    maps = {one["metadata"]["name"]: one["binaryData"] for one in files.config_maps(found)}
    volumes = {
        one["name"]: one["configMap"] for one in pod_of(found)["volumes"] if "configMap" in one
    }
    seen = {}
    for mount in main_of(found)["volumeMounts"]:
        if mount["name"] in volumes:
            volume = volumes[mount["name"]]
            item = next(one for one in volume["items"] if one["path"] == mount["subPath"])
            data = base64.b64decode(maps[volume["name"]][item["key"]])
            seen[mount["mountPath"].removeprefix("/qwex/work/")] = (data, item["mode"])
    return seen


def test_files_travel_as_they_are(here: Path) -> None:
    """Bytes, names, nesting, links and the right to execute arrive; empty files too."""
    (here / "sub" / "deep").mkdir(parents=True)
    (here / "a b").write_bytes(bytes(range(256)))
    (here / "sub" / "deep" / "tool").write_bytes(b"")
    (here / "sub" / "deep" / "tool").chmod(0o755)
    (here / "sub" / "link").symlink_to("../a b")
    (here / "other").mkdir()
    (here / "other" / "x").write_bytes(b"x")
    (here / "sub" / "folder").symlink_to("../other")
    assert contents(plan(files=("a b", "sub"))) == {
        "a b": (bytes(range(256)), 0o444),
        "sub/deep/tool": (b"", 0o555),
        "sub/link": (bytes(range(256)), 0o444),
        "sub/folder/x": (b"x", 0o444),
    }
    assert set(contents(plan(files=(str(here / "other"), "../here/a b")))) == {"other/x", "a b"}
    assert main_of(plan(files=("a b",)))["workingDir"] == "/qwex/work"


def test_a_folder_without_files_is_there(here: Path) -> None:
    """An empty folder is carried too."""
    (here / "sub" / "empty").mkdir(parents=True)
    found = plan(files=("sub",))
    paths = [mount["mountPath"] for mount in main_of(found)["volumeMounts"]]
    assert paths == ["/qwex/work", "/qwex/work/sub", "/qwex/work/sub/empty"]


def test_files_are_spread_over_config_maps(here: Path) -> None:
    """No ConfigMap holds more than 1 MiB, whatever the sizes."""
    for number, size in enumerate((1024**2, 1, 600_000, 448_576, 1, 0)):
        (here / f"f{number}").write_bytes(b"x" * size)
    found = plan(files=tuple(f"f{n}" for n in range(6)))
    sizes = [
        sum(len(base64.b64decode(data)) for data in one["binaryData"].values())
        for one in files.config_maps(found)
    ]
    assert sizes == [1024**2, 1 + 600_000 + 448_575 + 1 - 1, 1] or max(sizes) <= 1024**2
    assert sum(sizes) == 2 * 1024**2 + 2
    assert len(contents(found)) == 6


def test_what_can_not_be_carried_is_refused(here: Path) -> None:
    """Too much, no file, or a name that can't be mounted is a SpecError that says which."""
    (here / "big").write_bytes(b"x" * (1024**2 + 1))
    (here / "many").mkdir()
    for number in range(501):
        (here / "many" / str(number)).touch()
    (here / "a:b").touch()
    (here / "line\nend").touch()
    os.mkfifo(here / "pipe")
    (here / "broken").symlink_to("nowhere")
    for name in ("big", "many", "a:b", "line\nend", "pipe", "broken", "missing"):
        with pytest.raises(SpecError, match="files:"):
            plan(files=(name,))


# -- --pod-patch -----------------------------------------------------------------------------------


def patched(patch: str, **more: Any) -> dict[str, Any]:
    """The pod template of a run with this patch."""
    found = plan(options={"pod-patch": patch}, **more)
    template: dict[str, Any] = found["job"]["spec"]["template"]
    return template


def test_a_patch_is_merged(here: Path) -> None:
    """Maps are merged, lists by what tells their things apart, null takes away."""
    spec = patched(
        """
        nodeSelector: {disk: ssd}
        tolerations: [{key: gpu, operator: Exists}]
        enableServiceLinks: null
        containers:
        - name: main
          env: [{name: A, value: "2"}, {name: C, value: "3"}]
          volumeMounts:
          - {mountPath: /qwex/cell.sh, readOnly: true}
          - {mountPath: /x, name: x}
        - {name: side, image: busybox}
        volumes: [{name: x, emptyDir: {}}]
        """,
        env={"A": "1"},
        script="true",
        command=(),
    )["spec"]
    main, side = spec["containers"]
    assert [spec["nodeSelector"], spec["tolerations"][0]["key"]] == [{"disk": "ssd"}, "gpu"]
    assert "enableServiceLinks" not in spec
    assert (env_of(main)["A"], env_of(main)["C"]) == ("2", "3")
    script, other = main["volumeMounts"]
    assert (script["name"], script["readOnly"], other["name"]) == ("script", True, "x")
    assert [one["name"] for one in spec["volumes"]] == ["script", "x"]
    assert (main["image"], side["name"]) == ("busybox:1", "side")
    assert patched('{"metadata": {"annotations": {"a": "b"}}}')["metadata"]["annotations"] == {
        "a": "b"
    }
    (here / "patch.yaml").write_text("spec: {priority: 3}")
    assert patched("patch.yaml")["spec"]["priority"] == 3
    # The words of a program are one thing.
    replaced = patched("containers: [{name: main, args: [x]}]", command=("a", "b"))
    assert replaced["spec"]["containers"][0]["args"] == ["x"]


@pytest.mark.parametrize(
    "patch",
    [
        "", "[1]", "5", "nope.yaml", "a: [", "a: 'b", "\t",
        "restartPolicy: Always", "restartPolicy: null",
        "metadata: {labels: {qwex.run: x}}", "metadata: {labels: null}", "metadata: null",
        "metadata: {annotations: {qwex.script: x}}", "metadata: {annotations: null}",
        "metadata: x", "metadata: {labels: x}", "metadata: {annotations: [x]}",
        "spec: [1]", "spec: null", "spec: x",
        "containers: null", "containers: {}", "containers: [x]", "containers: x",
        "metadata: {annotations: {day: 2026-01-01}}", "spec: {x: !!set {a}}", "x: !!binary aGk=",
    ],
)  # fmt: skip
def test_a_patch_that_can_not_be_right_is_refused(patch: str) -> None:
    """What is no mapping, no pod, or changes what a run rests on is a SpecError."""
    with pytest.raises(SpecError, match="--pod-patch"):
        patched(patch, script="true", command=())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@ROUND
@given(st.dictionaries(st.sampled_from(["spec", "metadata", "containers", "volumes", "x"]), JSON))
def test_no_patch_is_an_accident(patch: dict[str, Any]) -> None:
    """Any JSON is merged or refused with a sentence."""
    try:
        patched(json.dumps(patch))
    except SpecError:
        pass


# -- YAML ------------------------------------------------------------------------------------------

# What YAML takes for something else than text, here or in Go.
ODD = [
    "y", "n", "Y", "N", "yes", "No", "on", "OFF", "true", "null", "~", "", "1e3", "1e-3", "1E5",
    "1.5e3", "0o17", "0x1f", "0b1", "1_000", "12:30:45", ".inf", "-.INF", ".nan", "=", "<<", "- a",
    "a: b", "# a", "{a}", "[a]", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a`", "2026-01-01",
    "a\tb", " a", "a ", "a\n", "\na", "a\n\n", "\n", " a\nb", "a \nb", "a\r\nb", "a\x85b",
    "a\n\x85b",
    "a\u2028b\n", "\ufeffa\n", "é\n\U0001f600", "'", '"', "\\", "a\\\nb", "\x7f\n", "\t\n",
]  # fmt: skip


def round_trip(found: Plan) -> None:
    """What YAML says is what is handed over, but for the deadline that only we lift."""
    job = k8s_patch.copied(found["job"])
    job["spec"].pop("activeDeadlineSeconds", None)
    text = manifest.as_yaml(found)
    assert list(yaml.safe_load_all(text)) == [*files.config_maps(found), job]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@ROUND
@given(TEXT | st.sampled_from(ODD), TEXT.filter(str.strip))
def test_any_text_survives_yaml(text: str, script: str) -> None:
    """Words, values, labels and scripts come out of ``--dry-run`` as they are."""
    round_trip(plan(command=("echo", text), env={"A": text}, labels={"l": text}, script=script))


def test_odd_words_survive_yaml(here: Path) -> None:
    """Each word that YAML has a meaning for, and files, come out as they are."""
    (here / "a").write_bytes(b"\0y\n")
    found = plan(
        command=("echo", *ODD), env={f"A{n}": word for n, word in enumerate(ODD)}, files=("a",),
        secrets=("S",), script="\n".join(ODD),
    )  # fmt: skip
    round_trip(found)
    assert 'value: "1e-3"' in manifest.as_yaml(found)


# -- as a real API server sees it -----------------------------------------------------------------


def created(cluster: Cluster, found: Plan, namespace: str, **values: str) -> dict[str, Any]:
    """The Job as the server would make it, and its companions; raises what it says."""
    at = "?dryRun=All&fieldValidation=Strict"
    for one in files.config_maps(found):
        cluster.api.create(f"/api/v1/namespaces/{namespace}/configmaps{at}", one)
    if secret := files.secret(found, values):
        cluster.api.create(f"/api/v1/namespaces/{namespace}/secrets{at}", secret)
    job = manifest.with_values(found, values)
    made: dict[str, Any] = cluster.api.create(
        f"/apis/batch/v1/namespaces/{namespace}/jobs{at}", job
    )
    return made


def test_kubectl_reads_what_is_shown(cluster: Cluster, here: Path) -> None:
    """What ``--dry-run`` prints is, for kubectl, the very Job that is handed over."""
    (here / "a b").write_bytes(bytes(range(256)))
    namespace = cluster.namespace()
    words = [word for word in ODD if "\x7f" not in word]
    found = plan(
        command=("echo", *words), env={f"A{n}": word for n, word in enumerate(words)},
        labels={"a": "fine", "b": "two words", "y": "y", "n": "1e3"}, files=("a b",),
        script="\n".join(words), timeout=60, user="1000:1000", options={"read-only": ""},
        resources=Resources(cpus=0.5, memory="1g", shm_size="64m"), volumes=("pvc/claim:/data:ro",),
    )  # fmt: skip
    say = ("apply", "-n", namespace, "--dry-run=server", "-o", "json", "-f", "-")
    shown = json.loads(cluster.kubectl(*say, given=manifest.as_yaml(found)))["items"]
    (maps,), (job,) = (
        [one for one in shown if one["kind"] == kind] for kind in ("ConfigMap", "Job")
    )
    made = created(cluster, found, namespace)
    template, ours = job["spec"]["template"], made["spec"]["template"]
    for one in (template, ours):
        for label in ("controller-uid", "batch.kubernetes.io/controller-uid"):
            one["metadata"]["labels"].pop(label, None)
    assert template == ours
    assert maps["binaryData"] == files.config_maps(found)[0]["binaryData"]
    main = template["spec"]["containers"][0]
    assert [expand(word) for word in main["args"]] == ["echo", *words, "/qwex/cell.sh"]


@pytest.mark.parametrize("restricted", [False, True])
def test_the_largest_of_everything_is_taken(cluster: Cluster, here: Path, restricted: bool) -> None:
    """A script of 250,000 bytes, a file of 1 MiB and 500 files are no more than fits."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    namespace = cluster.namespace(labels)
    (here / "f").mkdir()
    for number in range(499):
        (here / "f" / f"{number:0100}").write_bytes(b"x")
    (here / "big").write_bytes(os.urandom(1024**2))
    found = plan(
        restricted, files=("big", "f"), script="é" * 125_000, secrets=("S",), labels={"b": "two w"},
        user="1000",
    )  # fmt: skip
    assert created(cluster, found, namespace, S="x" * 1024**2)["kind"] == "Job"
    text = manifest.as_yaml(found)
    assert text.startswith("# more than kubectl apply takes: kubectl create -f -\n")
    say = ("create", "-n", namespace, "--dry-run=server", "-o", "name", "-f", "-")
    assert len(cluster.kubectl(*say, given=text).split()) == 3


KEYS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", fullmatch=True)
VALUES = st.text(st.sampled_from("aZ09._-é /"), max_size=70)
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\0"),
    min_size=1,
    max_size=30,
).filter(lambda name: name not in (".", ".."))


@pytest.fixture
def place(cluster: Cluster) -> tuple[Cluster, str]:
    """A cluster and an empty namespace in it."""
    return cluster, cluster.namespace()


@ASKED
@given(st.dictionaries(KEYS, VALUES, max_size=20), st.lists(TEXT, max_size=10))
def test_what_is_not_refused_here_is_taken_there(
    place: tuple[Cluster, str], labels: dict[str, str], words: list[str]
) -> None:
    """Labels that a spec and a plan let through are labels, or annotations, of a real server."""
    taken = {}
    for key, value in labels.items():
        try:
            plan(labels={key: value})
        except SpecError:
            continue
        taken[key] = value
    found = plan(labels=taken, command=("x", *words), env={f"A{n}": w for n, w in enumerate(words)})
    made = created(place[0], found, place[1])
    main = made["spec"]["template"]["spec"]["containers"][0]
    assert [expand(word) for word in main["args"]] == ["x", *words]


@ASKED
@given(st.sets(NAMES, min_size=1, max_size=20))
def test_names_of_files_that_are_not_refused_are_mounted(
    place: tuple[Cluster, str], tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    """A file of any name that a plan lets through has a place in a pod."""
    folder = tmp_path_factory.mktemp("names") / "f"
    folder.mkdir()
    for name in names:
        if len(name.encode()) < 256:
            (folder / name).touch()
            try:
                plan(files=(str(folder),))
            except SpecError:
                (folder / name).unlink()
    created(place[0], plan(files=(str(folder),)), place[1])


def test_a_misspelled_patch_is_refused(place: tuple[Cluster, str]) -> None:
    """A field that a pod doesn't have isn't left out in silence."""
    found = plan(options={"pod-patch": "nodeselector: {disk: ssd}"})
    with pytest.raises(Exception, match="unknown field"):
        created(place[0], found, place[1])
    assert launch._STRICT == {"fieldValidation": "Strict"}
