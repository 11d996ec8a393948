"""One cell, three places: what each option does as a process, in a container and as a Job.

A probe is one option with a program that shows what became of it. It is run on each place, and
what is observed decides what the table in ``docs/options.md`` says: the same, refused (in the
runner's own words), or different, with a reason that stands here and an observation that shows it.

``python tests/rigs/places.py`` prints the table; with ``--save`` it is put into the docs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clusters import Cluster
from engines import Engine
from environment import ROOT
from images import image
from local_helpers import contents

from qwex_jupyter.commands import options
from qwex_jupyter.commands.line import split
from qwex_jupyter.errors import UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.manager.run import Run
from qwex_jupyter.runners.docker import runner as docker

DOCS = ROOT / "docs" / "options.md"
BEGIN, END = "<!-- places: python tests/rigs/places.py --save -->\n", "<!-- /places -->\n"
PLACES = ("local", "docker", "k8s")
PATIENCE = 120.0
DRY_RUN = "20261124-120000-p1aces"
# So many probes are tried at the same time, on each place.
AT_ONCE = 12
# Tried by themselves: those that choose where to go, each in an environment of its own; and what
# an engine with many containers at once may tell wrongly, as it hears of an end before its cause.
ALONE = ("--context", "--namespace", "--memory")

# Options of the notebook or the terminal, and of the choice of a place: no runner hears of them.
IN_FRONT = {
    *("--runner", "--detach", "--bg", "--as", "--proc", "--quiet", "--no-raise-error"),
    *("--profile", "--json", "--help", "--interactive", "--tty"),
}


@dataclass(frozen=True)
class Probe:
    """One option, or one thing that is so without any, and how it shows.

    Attributes:
        about: The long name of the option, or a few words.
        does: What is seen where it is honoured, in words.
        line: What stands behind ``%%qwex``.
        cell: The body; empty for a line magic.
        seen: What is observed then; see `Places`.
        docker: What is observed in a container, where that is something else,
        k8s: and on a cluster.
        here: Why it is something else: what the table says of a process,
        there: of a container,
        pod: and of a Job.
    """

    about: str
    does: str
    line: str
    cell: str
    seen: str
    docker: str = ""
    k8s: str = ""
    here: str = ""
    there: str = ""
    pod: str = ""


PROBES = (
    Probe(
        "--image", "the program is the image's", "--image={image} sh", "test -e /bin/busybox", "0"
    ),
    Probe("--name", "the run goes by it", "--name called true", "", "0 name=called"),
    Probe("--env", "the value arrives", "-e 'A=x  y' sh", 'echo "$A"', "x  y 0"),
    Probe("--env-file", "the values arrive", "--env-file vars.env sh", 'echo "$F"', "two words 0"),
    Probe(
        "--secret",
        "the value arrives and is in no file",
        "--secret TOKEN sh",
        "echo ${{#TOKEN}}",
        "7 0",
    ),
    Probe("--workdir", "it works there", "-w /tmp sh", "pwd", "/tmp 0"),
    Probe(
        "--cpus",
        "no more than its share",
        "--cpus 1.5 sh",
        "cd /sys/fs/cgroup; cut -d' ' -f1 cpu/cpu.cfs_quota_us cpu.max 2>/dev/null; :",
        "150000 0",
    ),
    Probe(
        "--memory",
        "killed above it, `OutOfMemory`",
        "-m 64m sh",
        'x=0123456789abcdef; while [ ${{#x}} -lt 200000000 ]; do x="$x$x"; done; sleep 60',
        "137 OutOfMemory",
    ),
    Probe(
        "--gpus",
        "the devices are there",
        "--gpus 1 --start-timeout 3s true",
        "",
        "0",
        docker="None Unschedulable",
        k8s="None StartDeadlineExceeded",
        there="asked of the engine; one that has none fails the run before it starts",
        pod="it waits for a node that has so many free, and says so",
    ),
    Probe(
        "--shm-size",
        "`/dev/shm` is that large",
        "--shm-size 100m sh",
        "df -k /dev/shm | awk 'END {{ print $2 }}'",
        "102400 0",
    ),
    Probe("--user", "it runs as that user", "-u 1234 sh", "id -u", "1234 0"),
    Probe("--volume", "the folder is there", "-v ./sub:/data sh", "ls /data", "inner 0"),
    Probe(
        "`-v pvc/NAME:PATH`", "the claim is there", "-v pvc/data:/data sh", "ls /data", "inner 0"
    ),
    Probe(
        "--files",
        "copies lie in the working folder",
        "--files sub -- sh",
        "ls sub; touch new; basename $PWD",
        "inner work 0",
    ),
    Probe(
        "--here",
        "this folder, to read and to write",
        "--here sh",
        "pwd | sed 's,.*/,,'; ls sub; touch new && rm new",
        "here inner 0",
    ),
    Probe("--timeout", "stopped after it, `TimedOut`", "--timeout 1s sleep 60", "", "143 TimedOut"),
    Probe(
        "--start-timeout",
        "no matter once it runs",
        "--start-timeout 1h sh",
        "echo in time",
        "in time 0",
    ),
    Probe(
        "--grace",
        "killed after it where SIGTERM is ignored",
        "--timeout 3s --grace 0.3s sh",
        "trap '' TERM; while :; do sleep 0.1; done",
        "137 TimedOut",
    ),
    Probe("--label", "in the record", "-l team=a true", "", "0 team=a"),
    Probe(
        "--dry-run",
        "the text does the same in a shell",
        "--dry-run sh -c 'echo \"$0\"' 'x  y'",
        "",
        "x  y 0",
        pod="✓, given to `kubectl apply -f -`",
    ),
    Probe(
        "--pull",
        "with `never` a missing image isn't got",
        "--image=qwex-test/none:1 --pull never true",
        "",
        "None ImageNotFound",
    ),
    Probe(
        "--platform",
        "an image for another processor isn't taken",
        "--pull never --platform linux/s390x true",
        "",
        "None ImageNotFound",
    ),
    Probe(
        "--network",
        "`host` is the machine's own",
        "--network host sh",
        "test $(readlink /proc/self/ns/net) = {net}",
        "0",
    ),
    Probe("--context", "the engine or cluster of that name", "--context other true", "", "0"),
    Probe("--entrypoint", "in place of the image's own", "--entrypoint /bin/echo x", "", "x 0"),
    Probe(
        "--read-only",
        "the image's files can't change",
        "--read-only sh",
        "touch /new 2>/dev/null || echo no",
        "no 0",
    ),
    Probe("--namespace", "where it is in a cluster", "--namespace {namespace} true", "", "0"),
    Probe(
        "--service-account",
        "who it is in a cluster",
        "--service-account me sh",
        "test -s /var/run/secrets/kubernetes.io/serviceaccount/token",
        "0",
    ),
    Probe("--pull-secret", "the login of the registry", "--pull-secret login true", "", "0"),
    Probe(
        "--pod-patch",
        "more for its pod",
        "--pod-patch 'containers: [{{name: main, env: [{{name: MORE, value: yes it is}}]}}]' sh",
        "echo $MORE",
        "yes it is 0",
    ),
    Probe("--keep", "the container, or Job, stays", "--keep true", "", "0 kept"),
    Probe("--rm", "nothing more", "--rm true", "", "0"),
    Probe("an exit code", "is kept", "sh", "exit 7", "7 NonZeroExit"),
    Probe(
        "signal N", "is exit code 128+N, `Signalled`", "sh", "kill -9 $$; sleep 5", "137 Signalled"
    ),
    Probe(
        "a program that itself returns 137",
        "",
        "sh",
        "exit 137",
        "137 NonZeroExit",
        docker="137 Signalled",
        k8s="137 Signalled",
        here="`NonZeroExit`: it is known that no signal came",
        there="`Signalled`: an engine reports the number alone",
        pod="`Signalled`: so does a kubelet",
    ),
    Probe(
        "a program that isn't there",
        "is `CommandNotFound`, without an exit code",
        "no-such-program",
        "",
        "None CommandNotFound",
    ),
    Probe("stdin", "is empty", "sh", "cat; echo end", "end 0"),
    Probe("a failing line", "fails the cell", "", "false\necho never", "1 NonZeroExit"),
    Probe("`PYTHONUNBUFFERED`", "is 1", "sh", "echo $PYTHONUNBUFFERED", "1 0"),
    Probe(
        "the working folder of Python",
        "is on its path",
        "--files mine.py -- python",
        "import mine",
        "0",
    ),
    Probe(
        "no interpreter",
        "",
        "",
        "echo ${{BASH_VERSION:+bash}}",
        "bash 0",
        docker=" 0",
        k8s=" 0",
        here="`bash -eo pipefail` where this machine has bash, else `sh -e`",
        there="the same by what the image has",
        pod="the same by what the image has",
    ),
    Probe(
        "the environment",
        "",
        "sh",
        "echo ${{OF_THIS_KERNEL-none}}",
        "set 0",
        docker="none 0",
        k8s="none 0",
        here="this kernel's, as for `%%bash`",
        there="the image's; what is to go in goes by `-e`",
        pod="the image's; what is to go in goes by `-e`",
    ),
    Probe(
        "the working folder",
        "",
        "sh",
        "pwd | sed 's,.*/,,'",
        "here 0",
        docker=" 0",
        k8s=" 0",
        here="this one",
        there="the image's `WORKDIR`; `--here` for this one",
        pod="the image's `WORKDIR`",
    ),
    Probe(
        "stdout and stderr",
        "",
        "sh",
        "echo out; sleep 1; echo err >&2",
        "out 0",
        k8s="out err 0",
        here="two logs",
        there="two logs",
        pod="one, in stdout's, line by line; two where the cluster can give each by itself",
    ),
    Probe(
        "output that isn't UTF-8",
        "",
        "sh",
        "printf '\\377'",
        "b'\\xff' 0",
        docker="b'\\xef\\xbf\\xbd' 0",
        here="kept byte for byte",
        pod="kept byte for byte",
        there="each such byte becomes U+FFFD: Docker's json-file keeps text",
    ),
    Probe(
        "a timeout while no kernel lives",
        "",
        "",
        "",
        "held",
        docker="not held",
        here="held by the supervisor",
        there="enforced at the next look, which says by how much it ran over",
        pod="held by the cluster; before it was seen to run, `--start-timeout` or a day later",
    ),
)


@dataclass(frozen=True)
class Refused:
    """The runner's own words for what it doesn't do."""

    why: str


class Places:
    """All places, in a folder that has what the probes name.

    Args:
        engine: The engine of the containers.
        cluster: The cluster of the Jobs.
        folder: Where to work; the current folder becomes one in it.
    """

    def __init__(self, engine: Engine, cluster: Cluster, folder: Path) -> None:
        self._engine, self._cluster, self._folder = engine, cluster, folder
        self._manager = RunManager(str(folder / "home"))
        here = folder / "here"
        (here / "sub").mkdir(parents=True)
        (here / "sub" / "inner").touch()
        (here / "mine.py").touch()
        (here / "vars.env").write_text("F=two words\n")
        name = hashlib.sha256(b"other").hexdigest()
        meta = folder / ".docker" / "contexts" / "meta" / name / "meta.json"
        meta.parent.mkdir(parents=True)
        points = {"docker": {"Host": engine.host, "SkipTLSVerify": False}}
        # docker-py looks for contexts beside a config.json only.
        (folder / ".docker" / "config.json").write_text("{}")
        meta.write_text(json.dumps({"Name": "other", "Metadata": {}, "Endpoints": points}))
        self._namespace = self._a_namespace()
        self._kubeconfigs()

    def _a_namespace(self) -> str:
        """One with a service account and a claim on a folder of this machine, its node."""
        made = self._cluster.namespace()
        core = f"/api/v1/namespaces/{made}"
        self._cluster.api.create(f"{core}/serviceaccounts", {"metadata": {"name": "me"}})
        of = {"storageClassName": "", "accessModes": ["ReadWriteOnce"]}
        size = {"storage": "1Mi"}
        volume = {
            **of,
            "capacity": size,
            "hostPath": {"path": str(self._folder / "here" / "sub")},
            "claimRef": {"namespace": made, "name": "data"},
        }
        body = {"metadata": {"name": made}, "spec": volume}
        self._cluster.api.create("/api/v1/persistentvolumes", body)
        # A claim that is older than its volume is only looked at again now and then.
        wanted = {**of, "volumeName": made, "resources": {"requests": size}}
        claim = {"metadata": {"name": "data"}, "spec": wanted}
        self._cluster.api.create(f"{core}/persistentvolumeclaims", claim)
        self._cluster.api.wait(
            f"{core}/persistentvolumeclaims/data", lambda found: found["status"]["phase"] == "Bound"
        )
        return made

    def _kubeconfigs(self) -> None:
        """What is used, and for an option that chooses: one that leads nowhere without it."""
        made = json.loads(self._cluster.kubeconfig(namespace=self._namespace).read_text())
        context = made["contexts"][0]
        usual = {**made, "contexts": [context, {**context, "name": "other"}]}
        at_home = {**context["context"], "namespace": "elsewhere"}
        elsewhere = {**made, "contexts": [{**context, "context": at_home}]}
        contents = {
            "": usual,
            "--context": {**usual, "current-context": "nowhere"},
            "--namespace": elsewhere,
        }
        for name, content in contents.items():
            (self._folder / f"kube{name}").write_text(json.dumps(content))

    @contextlib.contextmanager
    def prepared(self, probe: Probe) -> Iterator[None]:
        """The environment of a probe, and this machine's files at the engine's hand."""
        # A context is asked for where nothing else leads to the engine.
        host = "unix:///not/there" if probe.about == "--context" else self._engine.host
        kube = self._folder / f"kube{probe.about}"
        more = {
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(self._folder / ".docker"),
            "KUBECONFIG": str(kube if kube.exists() else self._folder / "kube"),
            "TOKEN": "hunter2",
            "OF_THIS_KERNEL": "set",
        }
        before, cwd, mark = dict(os.environ), os.getcwd(), docker._IN_CONTAINER
        try:
            os.environ.update(more)
            os.chdir(self._folder / "here")
            docker._IN_CONTAINER = ()
            yield
        finally:
            docker._IN_CONTAINER = mark
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(before)

    def _begin(self, probe: Probe, place: str) -> Callable[[], str | Refused]:
        """Starts a probe on a place; what is returned waits for what it shows, or the refusal.

        That is its stdout, exit code, reason, and what it left. One without line and cell is about
        what a runner promises (`Runner.promises`).
        """
        if not (probe.line or probe.cell):
            held = self._manager.runner(place).promises.enforces_timeout
            return lambda: "held" if held else "not held"
        recipe = "python" if "mine.py" in probe.line else "busybox"
        of = self._cluster.image(recipe) if place == "k8s" else image(self._engine, recipe)
        net = os.readlink("/proc/self/ns/net")
        line = probe.line.format(image=of, namespace=self._namespace)
        args, command = options.parse_run(split(line))
        spec = options.make_spec(args, command, probe.cell.format(net=net) or None, {})
        if place != "local" and not spec.image:
            spec = replace(spec, image=of)
        runner = self._manager.runner(place, spec.options)
        try:
            if args.dry_run:
                text = runner.show(runner.plan(spec, DRY_RUN))
                return lambda: self._applied(text) if place == "k8s" else _in_a_shell(text)
            run = self._manager.submit(spec, place)
        except UnsupportedOption as error:
            found = re.search("because (.*?)(: use .*)?[.]?$", str(error))
            assert found, str(error)
            refused = Refused(found[1])
            return lambda: refused
        return lambda: self._ended(run)

    def _ended(self, run: Run) -> str:
        run.wait(PATIENCE, check=False)
        return _shown(run.log.read("stdout"), str(run.exit_code), *self._left(run))

    def _applied(self, manifests: str) -> str:
        """What YAML does in the hands of kubectl."""
        self._cluster.kubectl("-n", self._namespace, "apply", "-f", "-", given=manifests)
        core = f"/api/v1/namespaces/{self._namespace}/pods"
        pods = self._cluster.api.wait(
            f"{core}?labelSelector=qwex.run%3D{DRY_RUN}",
            lambda found: any(_state(pod).get("terminated") for pod in found["items"]),
        )["items"]
        output = self._cluster.api.get(f"{core}/{pods[0]['metadata']['name']}/log")
        code = _state(pods[0])["terminated"]["exitCode"]
        return _shown(str(output).encode(), str(code))

    def _left(self, run: Run) -> Iterator[str]:
        record = run.record
        if record.reason:
            yield str(record.reason)
        if record.name:
            yield f"name={record.name}"
        yield from (f"{name}={value}" for name, value in record.labels.items())
        for path, text in contents(run.log.folder):
            assert b"hunter2" not in text, path
        deadline = time.monotonic() + PATIENCE
        while self._manager.history.is_open(run.run_id):
            assert time.monotonic() < deadline, "it stays open"
            self._manager.tracker.look([run.run_id])
            time.sleep(0.01)
        if record.runner == "docker":
            with self._engine.client() as client:
                found = client.containers(all=True, filters={"name": f"qwex-{run.run_id}"})
                if any(container["State"] == "exited" for container in found):
                    client.remove_container(found[0]["Id"], v=True)
                    yield "kept"
        elif record.runner == "k8s":
            jobs = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
            job = self._cluster.api.get(f"{jobs}/qwex-{run.run_id}")
            if "ttlSecondsAfterFinished" not in job["spec"]:
                yield "kept"

    def rows(self, probes: Sequence[Probe]) -> str:
        """The lines of the table; all of these are tried at the same time.

        Raises:
            AssertionError: What is observed is neither what a probe says nor a refusal.
        """
        assert len(probes) == 1 or not {probe.about for probe in probes} & {*ALONE}
        with self.prepared(probes[0]):
            begun = [[self._begin(probe, place) for place in PLACES] for probe in probes]
            found = [[end() for end in ends] for ends in begun]
        return "".join(map(_row, probes, found))

    def table(self) -> str:
        """The whole table, in Markdown."""
        head = "| option | what is seen | local | docker | k8s |\n|---|---|---|---|---|\n"
        usual = [probe for probe in PROBES if probe.about not in ALONE]
        at_once = [usual[at : at + AT_ONCE] for at in range(0, len(usual), AT_ONCE)]
        alone = [[probe] for probe in PROBES if probe.about in ALONE]
        try:
            lines = {}
            for probes in (*at_once, *alone):
                made = self.rows(probes).splitlines(keepends=True)
                lines.update(zip(probes, made, strict=True))
            return head + "".join(lines[probe] for probe in PROBES)
        finally:
            self._manager.close()
            self._cluster.api.delete(f"/api/v1/persistentvolumes/{self._namespace}")


def _row(probe: Probe, found: Sequence[str | Refused]) -> str:
    """The line of a probe, by what was observed on each place."""
    cells = []
    for place, shown in zip(PLACES, found, strict=True):
        if isinstance(shown, Refused):
            cells.append(f"refused: {shown.why}")
            continue
        told = {"docker": probe.docker, "k8s": probe.k8s}.get(place) or probe.seen
        assert shown == told, f"{probe.about} on {place}: {shown!r}, not {told!r}"
        said = {"local": probe.here, "docker": probe.there, "k8s": probe.pod}
        cells.append(said[place] or "✓")
    if set(cells) == {"✓"}:
        cells = ["same"] * len(PLACES)
    about = f"`{probe.about}`" if probe.about.startswith("--") else probe.about
    return " | ".join([f"| {about}", probe.does, *cells]) + " |\n"


def _in_a_shell(text: str) -> str:
    """What a text does in the hands of a shell."""
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=False)
    return _shown(done.stdout, str(done.returncode))


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (pod["status"].get("containerStatuses") or [{}])[0].get("state", {})
    return found


def _shown(output: bytes, *more: str) -> str:
    try:
        text = " ".join(output.decode().split("\n")).strip(" ") if output.isascii() else str(output)
    except UnicodeDecodeError:
        text = str(output)
    return " ".join([*([text] if output else []), *more])


def saved() -> str:
    """The table as it stands in the docs."""
    text = DOCS.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def main() -> int:
    """Prints the table; ``--save`` puts it into the docs."""
    with tempfile.TemporaryDirectory() as folder, Engine("docker") as engine, Cluster() as cluster:
        table = Places(engine, cluster, Path(folder)).table()
    print(table)
    if "--save" in sys.argv:
        text = DOCS.read_text()
        start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
        DOCS.write_text(text[:start] + table + text[stop:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
