"""What a Job's program says, brought to disk from a real kubelet: complete, or said what is not."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import Cluster
from k8s_helpers import There, until
from kept_logs import kept_logs, left_out
from kube_wire import KubeWire

from qwex_jupyter.display.card import Card, card_text
from qwex_jupyter.manager.run import Run
from qwex_jupyter.model.patience import Patience
from qwex_jupyter.model.status import RunStatus

Make = Callable[..., Cluster]


def sha(data: bytes) -> str:
    """Its digest."""
    return hashlib.sha256(data).hexdigest()


def numbers(count: int, first: int = 1) -> bytes:
    """What ``seq`` prints."""
    return b"".join(b"%d\n" % number for number in range(first, count + 1))


def same(run: Run, expected: bytes) -> None:
    """The log is byte by byte what was printed; a difference is not a megabyte of text."""
    got = run.log.read("stdout")
    if got != expected:
        at = next((n for n, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), -1)
        near = slice(max(0, at - 20), at + 40)
        said = run.record.missing, run.log.read("stderr")[-200:]
        raise AssertionError((len(got), len(expected), at, got[near], expected[near], *said))


# -- a kubelet that keeps little -------------------------------------------------------------------


@pytest.fixture(scope="class")
def small(class_cluster: Make) -> Cluster:
    """A kubelet that keeps the newest 100 KiB or so of what a container says."""
    return class_cluster(
        kubelet={
            "containerLogMaxSize": "100Ki",
            "containerLogMaxFiles": 2,
            "containerLogMonitorInterval": "3s",
        }
    )


def turns(count: int, says: str) -> str:
    """A program that says something so often, with a rotation of its log between two turns.

    It begins when it is told to; see `go`. None comes after the last turn: of an empty newest file
    nobody can tell what was before it.
    """
    return (
        "log=$(echo /logs/*_${HOSTNAME}_*/main); echo first; "
        "until [ -e /here/go ]; do sleep 0.05; done; i=1; "
        f"while :; do was=$(ls $log); {says}; [ $i -lt {count} ] || break; i=$((i+1)); "
        # What was said is in no file that is written to any more.
        'until [ "$(ls $log)" != "$was" ] && '
        "[ $(stat -c %s $log/0.log 2>/dev/null || echo 9999) -lt 1000 ]; do sleep 0.05; done; done"
    )


def go(run: Run, folder: Path) -> None:
    """Lets it begin, as soon as what it said before was read."""
    until(lambda: run.log.size("stdout") == len("first\n"))
    (folder / "go").touch()


def submit(there: There, cell: str, folder: Path) -> Run:
    """A run that sees its own log in ``/logs``, and a folder of the test's in ``/here``."""
    spec = there.spec("sh", cell)
    paths = {"logs": Path(there.cluster.machine.plan.data, "pods"), "here": folder}
    volumes = [{"name": name, "hostPath": {"path": str(at)}} for name, at in paths.items()]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in paths]
    patch = {"volumes": volumes, "containers": [{"name": "main", "volumeMounts": mounts}]}
    return there.manager.submit(replace(spec, options={"pod-patch": json.dumps(patch)}), "k8s")


class TestRotation:
    """Logs that are rotated while the program talks."""

    @pytest.fixture
    def there(self, small: Cluster, home: str, monkeypatch: pytest.MonkeyPatch) -> There:
        """A namespace there."""
        return There(small, home, monkeypatch)

    # 280 kB in each turn.
    TALKS = turns(4, "seq $((i*100000+1)) $((i*100000+40000))")
    TALKED = b"first\n" + b"".join(numbers(i * 10**5 + 40_000, i * 10**5 + 1) for i in range(1, 5))

    def test_what_is_followed_is_complete(
        self, there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who follows from the start has every byte that a kubelet sends, over rotations.

        On a busy machine a kubelet may leave out a file, where its follower, or we, are late; that
        is said. What a file got after its rotation it may leave out without a sign.
        """
        monkeypatch.setattr("qwex_jupyter.runners.k8s.rotation.FILE", 100 << 10)
        run = submit(there, self.TALKS, tmp_path)
        until(lambda: there.pods(run))
        data = Path(there.cluster.machine.plan.data)
        pod = there.pod(run)["metadata"]["name"]
        with (
            kept_logs(data / "pods", pod, data / f"kept-{pod}") as kept,
            there.manager.output.following(run.run_id),
        ):
            go(run, tmp_path)
            run.wait(120)
        assert b"".join(kept()) == self.TALKED
        if run.record.missing:
            assert "rotated away before it could be read" in run.record.missing
            at = {line: number for number, line in enumerate(self.TALKED.splitlines())}
            got = [at[line] for line in run.log.read("stdout").splitlines() if line in at]
            assert sorted(set(got)) == got
        else:
            ends = left_out(run.log.read("stdout"), kept())
            assert sum(map(len, ends)) < len(self.TALKED) // 10
            assert dict(run.record.log_missing) == {}

    def test_what_was_left_out_while_the_reader_was_late_is_said(
        self, small: Cluster, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A kubelet whose reader takes nothing for two rotations leaves out a file: it is said."""
        monkeypatch.setattr("qwex_jupyter.runners.k8s.rotation.FILE", 2 << 20)
        with KubeWire(small) as wire:
            there = There(small, home, monkeypatch)
            monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(namespace=there.namespace)))
            # Whichever it is that reads then: a busy node may end the first of them.
            rule = wire.stall("GET", r"/log\?.*follow", 1 << 20, times=None)
            # Enough for all that lies on the way, some 20 MB of buffers, and two turns more.
            says = "touch /here/$i; seq $((i*1000000+1)) $((i*1000000+500000)) | sed 's/.*/&:&/'"
            there.manager = there.another()
            run = submit(there, turns(5, says), tmp_path)
            with there.manager.output.following(run.run_id):
                go(run, tmp_path)
                until(lambda: rule.hits and (tmp_path / "5").exists(), 300.0)  # some 90 MB
                wire.clear()
                run.wait(120)
        # A rotation may cut a line in two; where one half is left out, what is left is none.
        halves = [line.split(b":") for line in run.log.read("stdout").splitlines()]
        got = [each[0] for each in halves if len(each) == 2 and each[0] == each[1]]
        assert sorted(set(got)) == got
        assert len(got) < 2_500_000, "nothing was left out"
        assert "rotated away before it could be read" in run.record.missing

    def test_what_nobody_read_is_said_to_be_missing(self, there: There, tmp_path: Path) -> None:
        """What was rotated away before anybody read it is never missing without a word."""
        (tmp_path / "go").touch()
        run = submit(there, self.TALKS, tmp_path)
        until(lambda: there.pods(run))
        there.manager.close()
        name = there.pod(run)["metadata"]["name"]
        there.cluster.api.wait(
            there.at("pods", name), lambda pod: pod["status"]["phase"] == "Succeeded", 120
        )
        late = there.another().get(run.run_id).wait(150)
        got = late.log.read("stdout")
        assert self.TALKED.endswith(got) and len(got) < len(self.TALKED) // 2
        assert late.status is RunStatus.SUCCEEDED
        assert "rotated away" in late.record.missing
        assert late.record.log_missing["stdout"] == -1
        assert "rotated away" in card_text(Card(late.record))

    def test_what_is_gathered_now_and_then(self, there: There) -> None:
        """Without anybody who looks, output is brought in turn; what a rotation took is said.

        A kubelet reads only the newest file, so what was written between the last turn and a
        rotation can't be had.
        """
        there.manager = there.another(Patience(gather_every=1.0))
        there.manager.runner("k8s").polled_every = 1.0
        cell = "i=0; while [ $i -lt 50 ]; do seq 1 1000; sleep 0.3; i=$((i+1)); done"
        run = there.submit("sh", cell)
        run.wait(120)
        got = run.log.read("stdout")
        assert len(got) > 60_000, "no more than the newest file"
        assert got == numbers(1000) * 50 or "rotated away" in run.record.missing

    def test_gaps_between_two_looks_are_said(self, there: There, tmp_path: Path) -> None:
        """Looked at once, then left alone over rotations: what is missing between is said."""
        run = submit(there, f"{self.TALKS}; echo end", tmp_path)
        until(lambda: run.logs() == "first\n")
        there.manager.close()
        (tmp_path / "go").touch()
        name = there.pod(run)["metadata"]["name"]
        there.cluster.api.wait(
            there.at("pods", name), lambda pod: pod["status"]["phase"] == "Succeeded", 120
        )
        late = there.another().get(run.run_id).wait(150)
        got = late.log.read("stdout")
        assert got.startswith(b"first\n") and got.endswith(b"end\n")
        assert "rotated away" in late.record.missing
        assert len(got) < len(self.TALKED)


def test_the_judge_of_what_a_kubelet_leaves_out() -> None:
    """The end of a file that was rotated may be missing; nothing else may, or be there twice."""
    files = [b"1\n2\n3\n", b"3\n4\n", b"5\n"]
    assert left_out(b"1\n2\n3\n3\n4\n5\n", files) == [b"", b"", b""]
    assert left_out(b"1\n3\n4\n5\n", files) == [b"2\n3\n", b"", b""]
    assert left_out(b"1\n2\n3\n5\n", files) in (
        [b"", b"3\n4\n", b""],
        [b"3\n", b"4\n", b""],
    )
    for wrong in (
        b"1\n2\n3\n4\n",
        b"2\n3\n3\n4\n5\n",
        b"1\n1\n2\n3\n3\n4\n5\n",
        b"1\n3\n3\n4\n5\n",
    ):
        with pytest.raises(AssertionError):
            left_out(wrong, files)


# -- lines of any kind -----------------------------------------------------------------------------

PRINTS = """
import sys, random
out = sys.stdout.buffer
for text in ("x", "äß€🎉"):
    for size in (20_000, 54_000, 16_383, 16_384, 16_385, 16_386):
        out.write((text * size)[:size].encode() + b"\\n")
out.write(b"".join(b"\\r%3d%%" % n for n in range(101)) + b"\\n")
out.write(b"no end")
"""


def printed() -> bytes:
    """What `PRINTS` prints."""
    made = b""
    for text in ("x", "äß€🎉"):
        for size in (20_000, 54_000, 16_383, 16_384, 16_385, 16_386):
            made += (text * size)[:size].encode() + b"\n"
    return made + b"".join(b"\r%3d%%" % n for n in range(101)) + b"\nno end"


def test_long_lines(there: There) -> None:
    """Lines that the runtime keeps in pieces, of characters of any size, arrive as they were."""
    run = there.end("python", PRINTS, of="python")
    assert run.status is RunStatus.SUCCEEDED, run.logs()
    same(run, printed())


def test_long_lines_are_followed(there: There) -> None:
    """The same, brought while the program prints."""
    run = there.submit("python", "import time; time.sleep(2)" + PRINTS, of="python")
    with there.manager.output.following(run.run_id):
        run.wait(150)
    same(run, printed())


@pytest.mark.tier("quick")
def test_a_progress_bar(there: There) -> None:
    """What is written over with CR arrives byte by byte, though its line ends late."""
    cell = r"for i in 1 2 3; do printf '\r%s%%' $i; sleep 0.2; done; echo; printf 'more\r'"
    run = there.end("sh", cell)
    assert run.log.read("stdout") == b"\r1%\r2%\r3%\nmore\r"


def test_bytes_of_any_kind(there: There) -> None:
    """1 MB of random bytes arrives unchanged, but for CR in front of LF: containerd drops that CR.

    Its ``readLine`` takes both away from each line, and puts LF back.
    """
    cell = "import random, sys; sys.stdout.buffer.write(random.Random(7).randbytes(1_000_000))"
    run = there.end("python", cell, of="python")
    assert run.status is RunStatus.SUCCEEDED, run.logs()[:200]
    got = run.log.read("stdout")
    expected = random.Random(7).randbytes(1_000_000)
    assert b"\r\n" in expected
    assert got in (expected, expected.replace(b"\r\n", b"\n"))


def test_many_lines(there: There) -> None:
    """200,000 lines are complete and in order, followed live and by whoever comes late.

    A kubelet keeps 10 MiB of them; a rotation may cut a line, of which it then leaves out a half.
    """
    cell = "sleep 1; seq 1 200000; sleep 2; seq 200001 200010"
    run = there.submit("sh", cell)
    with there.manager.output.following(run.run_id):
        until(lambda: run.log.size("stdout") > 1_000_000)
        late = there.another()
        lines = b"".join(data for _, data in late.get(run.run_id).follow())
        run.wait(150)
    same(run, numbers(200010))
    assert sha(lines) == sha(numbers(200010))


def test_a_late_attach(there: There) -> None:
    """Who attaches when it has ended, or long runs, gets all from the beginning."""
    run = there.running("sh", "seq 1 50000; sleep 20; echo last")
    time.sleep(1)
    got = b"".join(data for _, data in run.follow())
    assert got == numbers(50000) + b"last\n"
    assert b"".join(data for _, data in run.follow()) == got


def test_the_four_hours_of_a_kubelet(
    kube_wire: KubeWire, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that ends as it should while the program goes on, as after 4 h, is taken up again.

    That limit is the kubelet's own and no setting: WriteTimeout in pkg/kubelet/server. Here each
    stream is cut after a few hundred bytes.
    """
    there = There(kube_wire.cluster, home, monkeypatch)
    monkeypatch.setenv("KUBECONFIG", str(kube_wire.kubeconfig(namespace=there.namespace)))
    rule = kube_wire.cut("GET", r"/log\?.*follow", 900, times=None)
    manager = there.another()
    cell = "i=0; while [ $i -lt 100 ]; do echo line $i; sleep 0.2; i=$((i+1)); done"
    run = manager.submit(there.spec("sh", cell), "k8s")
    with manager.output.following(run.run_id):
        run.wait(150)
    assert rule.hits >= 2
    assert run.logs("stdout") == "".join(f"line {n}\n" for n in range(100))
    assert (run.status, run.record.missing) == (RunStatus.SUCCEEDED, "")


def test_a_silent_program_is_listened_to_again(there: There) -> None:
    """A stream that is silent for long is opened anew, and nothing comes twice or is lost."""
    there.manager = there.another(Patience(log_silence=1.0))
    run = there.submit("sh", "echo one; sleep 3; echo two; sleep 2; printf three")
    with there.manager.output.following(run.run_id):
        run.wait(150)
    assert run.logs("stdout") == "one\ntwo\nthree"


def test_quick_programs_say_all(there: There) -> None:
    """Ten programs that end at once, and are not followed, have said all they said."""
    runs = [there.submit(f"echo out {n}") for n in range(10)]
    for number, run in enumerate(runs):
        run.wait(120)
        there.let_off(run)
        assert run.logs("stdout") == f"out {number}\n"


def test_output_of_a_container_that_is_gone(there: There, tmp_path: Path) -> None:
    """What a kubelet says in the place of output is no output: it is said as what is missing."""
    wait = "until [ -e /here/go ]; do sleep 0.05; done"
    run = submit(there, f"{wait}; echo up; exec sleep 300", tmp_path)
    until(lambda: run.poll() is not RunStatus.PENDING)
    there.manager.close()
    names = ("qwex-follow", "qwex-gather")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith(names)])
    (tmp_path / "go").touch()  # so nobody reads anything of it
    name = there.pod(run)["metadata"]["name"]
    there.cluster.api.wait(f"{there.at('pods', name)}/log", lambda log: "up" in log)
    # Its log file goes while it runs, as with a disk that is cleaned up by somebody. A kubelet
    # makes an empty one anew every ten seconds, unless it can't.
    folder = next(Path(there.cluster.machine.plan.data, "pods").glob(f"{there.namespace}_{name}_*"))
    for path in list((folder / "main").iterdir()):
        path.unlink()
        path.symlink_to(f"/nowhere/{path.name}")
    late = there.another().get(run.run_id)
    late.cancel(grace=0)
    late.wait(150, check=False)
    assert late.status is RunStatus.CANCELLED
    assert late.logs("stdout") == ""
    assert late.record.missing


def test_threads_end(there: There) -> None:
    """When its runs have ended and it was closed, nothing of a manager goes on reading."""
    runs = [there.submit("sh", "echo x; sleep 1") for _ in range(3)]
    for run in runs:
        with there.manager.output.following(run.run_id):
            run.wait(150)
    there.manager.close()
    names = ("qwex-follow", "qwex-err", "qwex-gather")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith(names)])
