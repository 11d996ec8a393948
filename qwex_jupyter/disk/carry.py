"""What goes along with a run: a manifest, and copies that nobody works in.

``--files`` are copied once, at submit, into ``files/`` of the run's folder, and ``files.json``
says what lies there: name, size, mode, time and hash. Nothing is ever changed in ``files/``. A
process of this machine works in ``work/``, a second copy that may be written; containers and
Jobs get theirs from ``files/``. So a rerun has what the run had, whatever became of the
originals and of the working folder.

Links are followed, so that a program which cleans its copies up reaches nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import IO

from qwex_jupyter.disk import facts
from qwex_jupyter.disk.folder import FILES, RUNS, SPEC, RunFolder
from qwex_jupyter.errors import FactTooLarge, FactUnreadable, SpecError
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.system import files
from qwex_jupyter.system.paths import current_folder, whole_path

_CHUNK = 1024**2
# linux/fs.h, FICLONE: one file's blocks become another's too, until one of them is written.
_FICLONE = 0x40049409


@dataclass(frozen=True)
class Carried:
    """One file or folder that goes along.

    Attributes:
        path: Its name in the run's working folder, with slashes.
        source: Where it is read from, an absolute path.
        mode: Its permission bits.
        mtime: When it was changed last, nanoseconds since the epoch.
        size: Bytes; 0 for a folder.
        folder: Whether it is one.
        sha256: Of its bytes, hexadecimal; "" for a folder, and until it is copied.
    """

    path: str
    source: str
    mode: int
    mtime: int = 0
    size: int = 0
    folder: bool = False
    sha256: str = ""


def survey(spec: JobSpec, home: str) -> list[Carried]:
    """Lists what goes along with a spec, each folder before its content; copies nothing.

    Args:
        spec: What to run.
        home: The history folder.

    Raises:
        SpecError: Something can't be carried: it isn't there or can't be read, is no file and
            no folder, holds the history, has the name of another, or leads round in a circle.
    """
    if spec.files_of:
        return _of_run(spec.files_of, home)
    base = base_of(spec)
    found: dict[str, Carried] = {}
    for word in spec.files:
        source = whole_path(word, spec.cwd)
        path = path_of(source, base)
        for parent in _parents(path):
            _add(found, Carried(parent, os.path.join(base, parent), 0o777, folder=True))
        for one in _walk(word, source, path, home, ()):
            _add(found, one)
    return list(found.values())


def _add(found: dict[str, Carried], one: Carried) -> None:
    before = found.setdefault(one.path, one)
    if before.source != one.source and not (before.folder and one.folder):
        raise SpecError(
            f"files: {before.source} and {one.source} would both be {one.path} in the run's "
            "folder: rename one, or carry them in folders of different names."
        )


def _parents(path: str) -> list[str]:
    """The folders that a relative path lies in, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def take(spec: JobSpec, home: str, folder: RunFolder, *, sync: bool = True) -> None:
    """Copies what goes along into a run's folder, and says in ``files.json`` what that is.

    Args:
        spec: What to run.
        home: The history folder.
        folder: The folder of the run, which is being made.
        sync: The manifest survives a loss of power from the moment this returns.

    Raises:
        SpecError: See `survey`.
        OSError: The folder can't be written.
    """
    kept = folder.pristine
    os.mkdir(kept, 0o700)
    taken = []
    for one in survey(spec, home):
        target = os.path.join(kept, one.path)
        os.makedirs(target if one.folder else os.path.dirname(target), mode=0o700, exist_ok=True)
        if spec.files_of and not one.folder:
            _link(one, target, spec.files_of)
        taken.append(one if one.folder or spec.files_of else _copy(one, target))
    listed = [asdict(one) for one in taken]
    for value in listed:
        del value["source"]  # where it was is nobody's business later
    try:
        facts.link_once(folder, FILES, {"files": listed}, sync=sync)
    except FactTooLarge as error:
        raise SpecError(
            f"files: these are {len(listed):,} files and folders, more than are kept a list of: "
            "carry an archive of them."
        ) from error


def manifest(folder: RunFolder) -> list[Carried] | None:
    """What goes along with a run, to be read from its own folder; None where nothing does.

    Raises:
        FactUnreadable: The manifest is damaged.
    """
    value = folder.read(FILES)
    if value is None:
        return None
    try:
        return [
            Carried(**one, source=os.path.join(folder.pristine, one["path"]))
            for one in value["files"]
        ]
    except (KeyError, TypeError) as error:
        raise FactUnreadable(f"{folder}/{FILES}: it is no list of files.") from error


def going_along(spec: JobSpec, home: str, folder: RunFolder) -> list[Carried]:
    """What a run carries, by its manifest; for a run that isn't made yet, by looking.

    Raises:
        SpecError: See `survey`.
    """
    if not spec.has_own_folder:
        return []
    there = manifest(folder)
    return survey(spec, home) if there is None else there


def base_of(spec: JobSpec) -> str:
    """The folder of this machine that the relative paths of a spec count from."""
    return spec.cwd or current_folder()


def unpack(folder: RunFolder) -> None:
    """Makes the working folder of a process of this machine, with copies that may be written.

    It has its name once it is whole, and is made once, whoever else hands the same run over.

    Raises:
        OSError: It can't be written.
    """
    work = folder.work
    if os.path.isdir(work):
        return
    making = f"{work}.{os.urandom(4).hex()}"
    try:
        os.mkdir(making, 0o700)
        for one in manifest(folder) or []:
            target = os.path.join(making, one.path)
            os.makedirs(target if one.folder else os.path.dirname(target), exist_ok=True)
            if not one.folder:
                _clone(one.source, target)
                os.chmod(target, one.mode | stat.S_IRUSR | stat.S_IWUSR)
                os.utime(target, ns=(one.mtime, one.mtime))
        files.move(making, work)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not os.path.isdir(work):
            raise


def path_of(source: str, cwd: str) -> str:
    """The name that a carried file has in the working folder; "" for the whole of ``cwd``.

    What lies in the submitter's folder keeps its relative path, anything else its last part.
    """
    try:
        inside = os.path.relpath(source, cwd)
    except ValueError:  # it lies on another drive of Windows
        inside = os.pardir
    if inside == os.curdir:
        return ""
    parts = inside.split(os.sep)
    return os.path.basename(source) if parts[0] == os.pardir else "/".join(parts)


def shell_lines(spec: JobSpec, home: str, folder: RunFolder, work: str) -> list[str]:
    """Shell lines that put copies where a run would have them; none without ``--files``.

    Args:
        spec: What to run.
        home: The history folder.
        folder: The folder of the run, which need not be there.
        work: The working folder, as it stands in a shell line.
    """
    if not spec.has_own_folder:
        return []
    lines = [f"mkdir -p {work}"]
    kept = manifest(folder)
    if kept is None and spec.files_of:
        folder, kept = RunFolder.of(home, spec.files_of), _of_run(spec.files_of, home)
    if kept is not None:
        pristine = shlex.quote(folder.pristine)
        lines += [f"cp -pR {pristine}/. {work}", f"chmod -R u+w {work}"]
        may_run = [one.path for one in kept if one.mode & 0o111 and not one.folder]
        return lines + [f"chmod a+x {work}/{shlex.quote(path)}" for path in may_run]
    for word in spec.files:
        source = whole_path(word, spec.cwd)
        path = path_of(source, base_of(spec))
        if not path:
            lines.append(f"cp -pRL {shlex.quote(source)}/. {work}")
            continue
        parent = os.path.dirname(path)
        into = f"{work}/{shlex.quote(parent)}" if parent else work
        lines += [f"mkdir -p {into}"] if parent else []
        lines.append(f"cp -pRL {shlex.quote(source)} {into}")
    return lines


def _of_run(run_id: str, home: str) -> list[Carried]:
    """The pristine set of another run."""
    folder = RunFolder.of(home, run_id)
    handle = run_id.rpartition("-")[2]
    if not folder.has(SPEC):
        raise SpecError(f"files: run {handle} is deleted, and its copies with it: name them anew.")
    try:
        there = manifest(folder)
    except FactUnreadable as error:
        raise SpecError(f"files: the copies of run {handle} can't be told ({error}).") from error
    if there is None:
        raise SpecError(
            f"files: the copies of run {handle} were made by an earlier version, and it worked in "
            "them: name them anew with --files."
        )
    return there


def _walk(
    word: str, source: str, path: str, home: str, above: tuple[str, ...]
) -> Iterator[Carried]:
    """A file, or a folder and all that is in it.

    Args:
        word: What the user wrote.
        source: Where it is.
        path: Its name in the working folder, "" for that itself.
        home: The history folder.
        above: The real paths of the folders that it was found in.
    """
    named = source if above else repr(word)
    try:
        state = os.stat(source)
        if stat.S_ISREG(state.st_mode) and not os.access(source, os.R_OK):
            raise PermissionError(0, "it may not be read")
        names = sorted(os.listdir(source)) if stat.S_ISDIR(state.st_mode) else []
    except OSError as error:
        if os.path.islink(source):
            raise SpecError(f"files: {named} is a link that leads nowhere: take it away.") from None
        if isinstance(error, FileNotFoundError) and not above:
            where = os.path.dirname(source)
            raise SpecError(f"files: {named} isn't there: it is looked for in {where}.") from None
        raise SpecError(f"files: {named} can't be carried: {error.strerror}.") from error
    mode = stat.S_IMODE(state.st_mode) & 0o777
    if not stat.S_ISDIR(state.st_mode):
        if not stat.S_ISREG(state.st_mode):
            raise SpecError(
                f"files: {named} can't be carried: it is {_kind(state.st_mode)}. Take it out of "
                "what is carried."
            )
        if not path:
            raise SpecError(f"files: {named} has no name that it could be carried under.")
        _readable(path)
        yield Carried(path, source, mode, state.st_mtime_ns, state.st_size)
        return
    real = os.path.realpath(source)
    if real in (os.path.realpath(home), os.path.realpath(os.path.join(home, RUNS))):
        raise SpecError(
            f"files: {named} is the history of runs, in which the copies would lie: name what "
            "you need beside it."
        )
    if real in above or any(f"{outer}{os.sep}".startswith(f"{real}{os.sep}") for outer in above):
        raise SpecError(
            f"files: {named} is a link that leads back to a folder around it: take it away."
        )
    if path:
        _readable(path)
        yield Carried(path, source, mode, state.st_mtime_ns, folder=True)
    for name in names:
        inner = f"{path}/{name}" if path else name
        yield from _walk(word, os.path.join(source, name), inner, home, (*above, real))


def _readable(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SpecError(
            f"files: {os.fsencode(path)!r} has a name that isn't UTF-8: rename it."
        ) from None


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISBLK: "a device",
        stat.S_ISCHR: "a device",
    }
    return next((word for is_one, word in kinds.items() if is_one(mode)), "neither file nor folder")


def _link(one: Carried, target: str, run_id: str) -> None:
    """Gives a pristine copy a second name; where the file system refuses, copies it once more."""
    if _hash(one.source) != one.sha256:
        raise SpecError(
            f"files: {one.path} isn't the copy any more that run {run_id.rpartition('-')[2]} had: "
            "name the files anew with --files."
        )
    try:
        os.link(one.source, target)
    except OSError:
        _copy(one, target)


def _copy(one: Carried, target: str) -> Carried:
    """Makes a pristine copy and returns its entry of the manifest."""
    digest, size = hashlib.sha256(), 0
    with open(os.open(target, files.NEW, files.UNCHANGED), "wb") as copy:
        for data in _chunks(one.source):
            digest.update(data)
            size += len(data)
            copy.write(data)
    os.utime(target, ns=(one.mtime, one.mtime))
    return replace(one, size=size, sha256=digest.hexdigest())


def _chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file that goes along."""
    try:
        # The file may have become a pipe since it was looked at, and opening a pipe waits for a
        # writer.
        with open(os.open(path, files.READ_LINKED), "rb") as file:
            while data := file.read(_CHUNK):
                yield data
    except OSError as error:
        raise SpecError(f"files: {path}: {error.strerror}.") from error


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _clone(source: str, target: str) -> None:
    """A copy that shares its blocks where the file system can, else a real one.

    Never a hard link: who writes through that changes the pristine copy.
    """
    with open(source, "rb") as before, open(target, "xb") as after:
        if not _shares_blocks(before, after):
            shutil.copyfileobj(before, after, _CHUNK)


def _shares_blocks(before: IO[bytes], after: IO[bytes]) -> bool:
    try:
        from fcntl import ioctl  # not on Windows

        ioctl(after, _FICLONE, before.fileno())
    except (ImportError, OSError):
        return False
    return True
