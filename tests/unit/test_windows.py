"""What Windows doesn't have isn't needed: tried on Linux, with these things taken away.

See `tests/rigs/windows.py` for what that is, and for how what stays behaves as it does there.
"""

from __future__ import annotations

import ntpath
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import windows

from qwex_jupyter.disk import carry, removing
from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable, SpecError
from qwex_jupyter.manager.submission import mount_from
from qwex_jupyter.model import verdict
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import End, RunStatus, Snapshot
from qwex_jupyter.runners.container import http_stream
from qwex_jupyter.runners.docker import body, endpoint, engine, settings
from qwex_jupyter.system import files, process
from qwex_jupyter.system import windows as room

pytestmark = pytest.mark.skipif(not process.use_proc, reason="needs Linux: it looks into /proc")

# As it is told there: a point in time, which /proc has by its own name.
_BEGAN = (
    "lambda pid: open(f'/proc/{pid}/stat').read().split()[21] "
    "if os.path.exists(f'/proc/{pid}') else ''"
)
SAYS = "on Windows use Jupyter inside WSL 2, or take another place: --image for a container"


def pipe_error() -> Exception:
    """As pywin32 has it: no OSError."""
    kind = type("error", (Exception,), {"__module__": "pywintypes"})
    return kind(2, "CreateFile", "The system cannot find the file specified.")


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that such a process printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_rig_bites(tmp_path: Path) -> None:
    """What isn't there on Windows isn't there, and what behaves otherwise does."""
    code = """
import os, sys, shutil, signal, socket, subprocess
def refused(call, *words):
    try:
        call(*words)
    except Exception as error:
        return type(error).__name__
    return "done"
os.chdir(sys.argv[1])
for name in "ab":
    with open(name, "w") as file:
        file.write(name)
import ast
try:
    import fcntl
except ModuleNotFoundError as error:
    print(error.name)
print([n for n in ("fork", "getuid", "O_NOFOLLOW", "pread", "uname", "setsid") if hasattr(os, n)])
print([n for n in ("SIGKILL", "SIGHUP", "SIGPIPE", "pthread_sigmask") if hasattr(signal, n)])
print(refused(os.rename, "a", "b"), refused(os.open, ".", os.O_RDONLY), refused(os.open, "a", 0, 0))
with open("b") as file:
    print(refused(os.replace, "a", "b"), refused(os.unlink, "b"), refused(os.fsync, file.fileno()))
    os.mkdir("c")
    print(refused(os.mkdir, "x:y"), refused(os.rmdir, "c"))
os.chmod("a", 0o400)
print(refused(os.unlink, "a"), refused(os.replace, "b", "d"))
exec(compile("import os; os.open('d', os.O_RDONLY)", "x", "exec"), {"__name__": "qwex_jupyter.x"})
"""
    done = windows.python(code, str(tmp_path))
    assert done.stdout.splitlines() == [
        "fcntl",
        "[]",
        "[]",
        "FileExistsError PermissionError done",
        "PermissionError PermissionError OSError",
        "AssertionError done",
        "PermissionError done",
    ]
    assert "AssertionError: d is opened as text" in done.stderr


def test_every_module_is_imported() -> None:
    """None needs what Windows lacks, not even those that only a local run would enter."""
    code = "import imports; raise SystemExit(imports.main())"
    files = len(list(Path(str(carry.__file__)).parents[1].rglob("*.py"))) - 1
    last = told(windows.python(code, libraries=["pytest"]))[-1]
    assert last.startswith(f"{files} of {files} modules import here")


@pytest.mark.parametrize("began", ["", _BEGAN], ids=["untold", "told"])
def test_a_history_is_kept_there(tmp_path: Path, began: str) -> None:
    """Runs are handed over, read, cancelled, listed from files and cache, deleted and pruned."""
    code = r"""
import os, sys
import qwex_jupyter as qwex
from qwex_jupyter.api import manager
from qwex_jupyter.cli import main
from qwex_jupyter.disk import logs
from qwex_jupyter.errors import NotRemoved
from qwex_jupyter.history import cache
from qwex_jupyter.system import process
def submit(script, **more):
    return m.submit(qwex.JobSpec(script=script, **more), "memory")
m = manager()
print(os.path.relpath(m.history.home, sys.argv[1]))
print(process.standing(process.identify(os.getpid())))
run = submit("out hello\nerr oops\nexit 137", name="one")
run.wait(60, check=False)
print(run.status, run.exit_code, repr(run.logs()), "SIGKILL" in run.message)
m.history.folder(run.run_id).sync()
with open(run.log_path, "rb") as file:
    print(file.read())
long = submit("out begun\nsleep 600")
with logs.Tail(logs.RunLog(m.history.folder(long.run_id))) as tail:
    seen = b""
    while seen != b"begun\n":
        m.output.fetch(long.run_id)
        seen += b"".join(data for _, data in tail.read())
long.cancel()
print(long.wait(60, check=False).status)
for _ in range(cache.LEAST):
    submit("exit 0").wait(60)
print(len(qwex.runs()), sorted(qwex.runs().status.value_counts()))
print(os.path.relpath(cache.folder(), sys.argv[1]), len(os.listdir(cache.folder())))
print(len(qwex.runs(status="failed")))
m.delete(run.run_id)
with open(long.log_path, "rb"):
    try:
        m.delete(long.run_id)
    except NotRemoved as error:
        print(type(error).__name__, "in use" in str(error))
print(len(qwex.runs()))
print(main(["prune", "--yes"]), len(qwex.runs()), os.listdir(m.history.runs_folder))
print(m.history.open_ids())
"""
    env = {"LOCALAPPDATA": str(tmp_path), "COMPUTERNAME": "desk"}
    lines = told(windows.python(code, str(tmp_path), began=began, **env))
    assert lines == [
        "qwex",
        "alive" if began else "elsewhere",
        "FAILED 137 'hello\\noops\\n' True",
        "b'hello\\n'",
        "CANCELLED",
        "66 [0, 0, 0, 1, 1, 64]",
        "qwex/Cache/qwex 1",
        "1",
        "NotRemoved True",
        "65",
        "Deleted 65 runs.",
        "0 0 []",
        "[]",
    ]


def test_what_goes_along_is_copied_and_removed(tmp_path: Path) -> None:
    """``--files`` are taken, named with slashes, handed on to a rerun, and go with their run."""
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "one.txt").write_bytes(b"1\n")
    code = """
import os, sys
import qwex_jupyter as qwex
from qwex_jupyter.api import manager
from qwex_jupyter.disk import carry
from qwex_jupyter.history.folders import RunFolders
from qwex_jupyter.runners.docker import body
os.chdir(sys.argv[1])
folders = RunFolders()
spec = qwex.JobSpec(command=("true",), image="x", files=("data",), cwd=sys.argv[1])
fact = {"runner": "docker", "spec": spec.to_json(), "created_at": 1.0, "run_id": "%s"}
for run_id, of in (("20260101-000000-aaaaaa", None), ("20260101-000001-bbbbbb", 1)):
    if of:
        spec = qwex.JobSpec(command=("true",), image="x", files_of="20260101-000000-aaaaaa")
    folder = folders.create(spec, {**fact, "run_id": run_id})
    print([one.path for one in carry.manifest(folder)])
    plan = body.make_plan(spec, run_id, "h", [])
    with body.archive(plan, folder) as tar:
        print(b"work/data/inner/one.txt" in tar.read())
for run_id in folders.run_ids():
    folders.delete(run_id)
print(os.listdir(folders.runs_folder))
"""
    lines = told(windows.python(code, str(tmp_path), LOCALAPPDATA=str(tmp_path / "local")))
    taken = "['data', 'data/inner', 'data/inner/one.txt']"
    assert lines == [taken, "True", taken, "True", "[]"]


def test_a_local_run_is_refused_and_the_doctor_goes_on(tmp_path: Path) -> None:
    """With no image and no runner named that is the answer; nothing is written of such a run."""
    code = """
from qwex_jupyter.cli import main
from qwex_jupyter.commands import doctor
doctor._PATIENCE = 60.0
print(main(["run", "true"]), main(["run", "--dry-run", "true"]), flush=True)
print(main(["doctor"]), main(["runs"]))
"""
    done = windows.python(code, LOCALAPPDATA=str(tmp_path))
    assert done.stderr.count(SAYS) == 2
    assert len(done.stderr.splitlines()) == 2, done.stderr
    lines = told(done)
    assert lines[0] == "1 1"
    assert any(line.startswith("✗ local  ") and SAYS in line for line in lines)
    assert any(line.startswith("✗ docker  ") and "npipe:////./pipe/" in line for line in lines)
    assert any(line.startswith("✗ k8s  No Kubernetes here") for line in lines)
    assert lines[-2:] == ["No runs yet. Start one: qwex run COMMAND", "0 0"]


def test_nobody_is_sent_to_where_the_next_refusal_is(tmp_path: Path) -> None:
    """Without an engine a cluster is another place, and the other way round; this one is none."""
    code = """
from qwex_jupyter.cli import main
print(main(["run", "--image=x", "true"]), main(["run", "--runner=k8s", "--image=x", "true"]))
"""
    nowhere = {"DOCKER_HOST": "tcp://127.0.0.1:1", "KUBECONFIG": str(tmp_path / "none")}
    done = windows.python(code, LOCALAPPDATA=str(tmp_path), **nowhere)
    assert told(done) == ["1 1"]
    docker, k8s = done.stderr.splitlines()
    assert docker.endswith(", or take a cluster: --runner=k8s.")
    assert "or take another place: --runner=docker" in k8s
    for line in (docker, k8s):
        assert "local" not in line
        assert "leave --image out" not in line


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is Windows, as far as the package asks."""
    monkeypatch.setattr(room, "HERE", True)


def test_a_drive_has_a_colon_of_its_own(there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""``-v C:\path:/x`` mounts that folder, and a relative one is made whole."""
    monkeypatch.setattr(os, "path", ntpath)
    spec = JobSpec(
        command=("true",), image="x", volumes=(r"C:\data:/x:ro", "c:/more:/y", "name:/z")
    )
    monkeypatch.setattr(body, "whole_path", lambda path, base: path)
    mounts = body.make_plan(spec, "r", "h", [])["body"]["HostConfig"]["Mounts"]
    assert [(one["Type"], one["Source"], one["Target"], one["ReadOnly"]) for one in mounts] == [
        ("bind", r"C:\data", "/x", True),
        ("bind", "c:/more", "/y", False),
        ("volume", "name", "/z", False),
    ]
    assert mount_from(r".\data:/x:ro", r"D:\here") == r"D:\here\data:/x:ro"
    with pytest.raises(SpecError, match="write SRC:DST"):
        body.make_plan(JobSpec(command=("true",), image="x", volumes=(r"C:\data",)), "r", "h", [])


def test_a_drive_is_of_windows() -> None:
    """Elsewhere ``c:/more:/y`` has a mode that is none, as ever."""
    with pytest.raises(SpecError, match="stands ro or rw"):
        body.make_plan(JobSpec(command=("true",), image="x", volumes=("c:/a:/y",)), "r", "h", [])


def test_this_folder_has_no_name_in_a_container(there: None) -> None:
    """``--here`` is refused in one sentence, with what to do."""
    with pytest.raises(SpecError, match=r"--here: .* -v \.:/here -w /here .* --files"):
        body.make_plan(JobSpec(command=("true",), image="x", here=True), "r", "h", [])


def test_files_have_slashes_in_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    r"""A file of C:\work\data is data/... inside, one of another drive its last part."""
    monkeypatch.setattr(os, "path", ntpath)
    monkeypatch.setattr(os, "sep", "\\")
    assert carry.path_of(r"C:\work\data\a.txt", r"C:\work") == "data/a.txt"
    assert carry.path_of(r"D:\data\a.txt", r"C:\work") == "a.txt"
    assert carry.path_of(r"C:\other\a.txt", r"C:\work") == "a.txt"
    assert carry.path_of(r"C:\work", r"C:\work") == ""


def test_an_engine_is_looked_for_at_its_pipe(there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, and where a context or DOCKER_HOST names another; no answer says what to do."""
    assert endpoint.find_endpoint() == endpoint.Endpoint(
        "npipe:////./pipe/docker_engine", "its pipe"
    )
    other = "npipe:////./pipe/dockerDesktopLinuxEngine"
    monkeypatch.setenv("DOCKER_HOST", other)
    found = endpoint.find_endpoint()
    assert (found.host, found.path) == (other, "")

    def client(*_: object) -> None:
        raise pipe_error()

    monkeypatch.setattr(endpoint, "_client", client)
    with pytest.raises(RunnerUnavailable) as caught:
        endpoint.connect(found, 1.0)
    said = f"No Docker at {other} (by DOCKER_HOST): (2, 'CreateFile', 'The system cannot find the "
    assert str(caught.value).startswith(said)
    assert "Start Docker Desktop, or point DOCKER_HOST" in str(caught.value)

    def unread(*_: object) -> None:
        raise AttributeError("'str' object has no attribute 'get'")

    monkeypatch.setattr(endpoint, "_client", unread)
    with pytest.raises(RunnerUnavailable, match=r"has no attribute 'get'\): mend config\.json in"):
        endpoint.connect(found, 1.0)


def test_an_engine_that_left_its_pipe_doesn_t_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is asked once more, nothing else is; and no settings are blamed."""
    asked: list[str] = []
    troubles: list[Exception] = []

    def request(method: str, *_: object, **__: object) -> Any:
        asked.append(method)
        if troubles:
            raise troubles.pop()
        return SimpleNamespace(status_code=200)

    client = SimpleNamespace(base_url="http+docker://localnpipe", api_version="1", request=request)
    one = engine.Engine()
    monkeypatch.setattr(one, "client", lambda: client)
    troubles[:] = [pipe_error()]
    assert one.call("GET", "/_ping").status_code == 200
    for method, tries in (("GET", 2), ("POST", 1)):
        asked.clear()
        troubles[:] = [pipe_error(), pipe_error()]
        with pytest.raises(BackendUnreachable, match=r"doesn't answer \(\(2, 'CreateFile'"):
            one.call(method, "/x")
        assert asked == [method] * tries
    troubles[:] = [AttributeError("of a setting")]
    with pytest.raises(RunnerUnavailable, match="mend the docker client's settings"):
        one.call("GET", "/_ping")


def test_a_stream_whose_pipe_is_gone_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output and the progress of a pull: what came is kept, and the end is no end."""

    class Source:
        """What is read from a pipe."""

        def __init__(self) -> None:
            self.left = [b"3\r\n{}\n\r\n"]

        def read1(self, most: int) -> bytes:
            """A piece, and then nobody is there."""
            if self.left:
                return self.left.pop()
            raise pipe_error()

    def reply() -> Any:
        made = SimpleNamespace(fp=Source())
        return SimpleNamespace(headers={"Transfer-Encoding": "chunked"}, _fp=made)

    pieces = http_stream.body(reply())
    assert next(pieces) == b"{}\n"
    with pytest.raises(EOFError):
        next(pieces)
    one = engine.Engine()
    answer = SimpleNamespace(raw=reply(), close=lambda: None)
    monkeypatch.setattr(one, "call", lambda *_, **__: answer)
    monkeypatch.setattr(engine.login, "header", lambda image: {})
    told_of = one.pull("x")
    assert next(told_of) == {}
    with pytest.raises(BackendUnreachable, match="went away"):
        next(told_of)


def test_a_pipe_is_of_windows() -> None:
    """Elsewhere it is no address."""
    with pytest.raises(RunnerUnavailable, match="no address of an engine"):
        settings.address("npipe:////./pipe/docker_engine", "DOCKER_HOST")


def test_what_is_in_use_is_tried_again(there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scanner that has a file open for a moment costs nothing; one that stays is told of."""
    left = [3]

    def busy(path: str) -> str:
        if left[0]:
            left[0] -= 1
            raise PermissionError(13, "in use", path)
        return path

    assert files.patient(busy, "a") == "a"
    left[0] = 10**9
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    with pytest.raises(PermissionError):
        files.patient(busy, "a")
    monkeypatch.setattr(room, "HERE", False)
    left[0] = 1
    with pytest.raises(PermissionError):
        files.patient(busy, "a")


@pytest.mark.parametrize(
    ("now", "then", "standing"),
    [
        ("5", "5", process.ALIVE),
        ("6", "5", process.GONE),
        ("", "5", process.GONE),
        (None, "5", process.ELSEWHERE),
        ("5", "", process.ELSEWHERE),
    ],
)
def test_a_process_is_told_by_when_it_began(
    there: None, monkeypatch: pytest.MonkeyPatch, now: str | None, then: str, standing: str
) -> None:
    """Its pid and that moment; where the system doesn't tell, nothing is said of it."""
    monkeypatch.setattr(process, "_place", {})
    monkeypatch.setenv("COMPUTERNAME", "desk")
    monkeypatch.setattr(room, "began", lambda pid: then or None)
    who = process.identify(42)
    assert who == {"pid": 42, "ticks": then, **process.place()}
    assert who["host"] == "desk"
    monkeypatch.setattr(room, "began", lambda pid: now)
    assert process.standing(who) == standing
    assert process.standing({**who, "host": "another"}) == process.ELSEWHERE


def test_it_isn_t_told_where_there_is_no_windows() -> None:
    """Without its functions, of which none can be called here, the answer is: unknown."""
    assert room.began(os.getpid()) is None


def test_signals_have_the_names_of_linux() -> None:
    """A container's exit code 137 is a SIGKILL also for a system that has no such signal."""
    numbers = {int(one): one.name for one in verdict.signals.Signals if one < 32}
    assert dict(enumerate(verdict._OF_LINUX, 1)) == {**numbers, 29: "SIGIO"}


@pytest.mark.parametrize(("image", "name"), [(None, "SIGBUS"), ("x", "SIGUSR1")])
@pytest.mark.parametrize("number", [None, 10], ids=["returned", "ended"])
def test_a_container_s_signals_are_those_of_linux(
    monkeypatch: pytest.MonkeyPatch, image: str | None, name: str, number: int | None
) -> None:
    """Exit code 138 is a SIGUSR1 in a container also where 10 is SIGBUS, as on macOS."""
    monkeypatch.setattr(verdict, "_HERE", {10: "SIGBUS", 30: "SIGUSR1"})
    record = RunRecord(run_id="r", runner="x", status=RunStatus.RUNNING)
    seen = Snapshot(RunStatus.RUNNING, end=End(138, number), observed_at=1.0)
    assert name in record.concluded(seen, None, {"image": image}).message


def test_what_a_scanner_holds_for_a_moment_is_removed(tmp_path: Path) -> None:
    """A run, its place in the open list and what is noted of it go; so does what lies deeper."""
    code = """
import os, sys
from qwex_jupyter.disk import awaited, logs, removing
from qwex_jupyter.disk.folder import OPEN, RunFolder
from qwex_jupyter.system import files
home = sys.argv[1]
run_id = "20260101-000000-aaaaaa"
real = {name: getattr(os, name) for name in ("unlink", "rmdir")}
tried = {}
def held(name):
    def call(path, **more):
        path = os.fspath(path)
        tried[path] = tried.get(path, 0) + 1
        # More often than the removal of a whole tree tries by itself.
        if tried[path] <= 4 and os.path.lexists(path):
            raise PermissionError(13, "in use", path)
        real[name](path, **more)
    return call
os.unlink, os.rmdir = held("unlink"), held("rmdir")
run = os.path.join(home, "runs", run_id)
for path in (f"runs/{run_id}/work/deep/a", f"runs/{run_id}/run.json", f"{OPEN}/{run_id}"):
    os.makedirs(os.path.dirname(os.path.join(home, path)), exist_ok=True)
    open(os.path.join(home, path), "wb").close()
folder = RunFolder(run)
for _ in range(3):
    lease = logs.Lease(folder)
    print(lease.acquire(), lease.keep({}, release=True))
print(sorted(name for name in os.listdir(folder) if name.startswith("log.")))
awaited.add(home, run_id)
awaited.remove(home, run_id)
print(awaited.listed(home))
awaited.add(home, "20260101-000000-bbbbbb")
awaited.sweep(home)
print(awaited.listed(home))
folder.leave_open_list()
print(os.listdir(os.path.join(home, OPEN)))
print(removing.remove(run), os.path.exists(run))
"""
    lines = told(windows.python(code, str(tmp_path)))
    assert lines[:3] == ["True True"] * 3
    assert lines[3:] == ["['log.2.json', 'log.3.json']", "[]", "[]", "[]", "None False"]


def test_what_stays_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many files that can't be removed, the first alone is waited for, in each look."""
    waited, tried = list[str](), list[str]()

    def patient(call: Callable[[str], None], path: str) -> None:
        waited.append(path)
        call(path)

    def refuse(path: str) -> None:
        tried.append(path)
        raise PermissionError(13, "in use", path)

    monkeypatch.setattr(files, "patient", patient)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "listdir", lambda path: ["a", "b", "c"])
    monkeypatch.setattr(removing, "_is_folder", lambda path: path == "run")
    assert isinstance(removing.remove("run"), PermissionError)
    assert tried == [os.path.join("run", name) for name in "abcabc"]
    assert waited == [os.path.join("run", "a")] * 2


def test_a_puller_has_no_window() -> None:
    """It outlives its kernel by a group of its own, with a console that nobody sees."""
    code = """
import subprocess
subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.DETACHED_PROCESS = 0x200, 0x8
subprocess.CREATE_NO_WINDOW = 0x8000000
from qwex_jupyter.errors import SubmitFailed
from qwex_jupyter.disk.folder import RunFolder
from qwex_jupyter.runners.docker import puller
def started(command, **more):
    print(hex(more["creationflags"]))
    raise OSError(2, "no")
subprocess.Popen = started
try:
    puller.start("", {}, RunFolder("20260101-000000-aaaaaa"), {})
except SubmitFailed as error:
    print(str(error)[:40])
"""
    lines = told(windows.python(code))
    assert lines == ["0x8000200", "The process that gets the image could no"]
