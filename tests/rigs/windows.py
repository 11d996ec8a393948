"""Linux without what Windows doesn't have, in a process of its own.

`take_away` is called before anything of the package is imported. It removes modules, functions and
constants, and has those that stay behave as they do there, where that differs: nobody moves or
removes what is open, a name that exists isn't renamed to, a folder isn't opened, text is written
unless it is called bytes. Other libraries are imported first: what they do on Windows is their
own affair.
"""

from __future__ import annotations

import builtins
import enum
import fcntl
import importlib
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "posix", "crypt"}
# What `os` has on Windows, by its documentation, of what it has here.
_OS = {
    *("abc", "abort", "access", "altsep", "chdir", "chmod", "close", "closerange", "cpu_count"),
    *("curdir", "defpath", "device_encoding", "devnull", "DirEntry", "dup", "dup2", "environ"),
    *("error", "execl", "execle", "execlp", "execlpe", "execv", "execve", "execvp", "execvpe"),
    *("extsep", "fdopen", "fsdecode", "fsencode", "fspath", "fstat", "fsync", "ftruncate"),
    *("get_exec_path", "get_inheritable", "get_terminal_size", "getcwd", "getcwdb", "getenv"),
    *("getlogin", "getpid", "getppid", "isatty", "kill", "linesep", "link", "listdir", "lseek"),
    *("lstat", "makedirs", "mkdir", "name", "open", "pardir", "path", "pathsep", "pipe", "popen"),
    *("putenv", "read", "readlink", "remove", "removedirs", "rename", "renames", "replace"),
    *("rmdir", "scandir", "sep", "set_inheritable", "spawnl", "spawnle", "spawnv", "spawnve"),
    *("stat", "stat_result", "statvfs_result", "strerror", "symlink", "system", "terminal_size"),
    *("times", "times_result", "truncate", "umask", "uname_result", "unlink", "unsetenv"),
    *("urandom", "utime", "waitpid", "waitstatus_to_exitcode", "walk", "write", "PathLike"),
    *("supports_bytes_environ", "supports_dir_fd", "supports_effective_ids", "supports_fd"),
    *("supports_follow_symlinks", "GenericAlias", "Mapping", "MutableMapping", "st", "sys"),
    *("O_APPEND", "O_CREAT", "O_EXCL", "O_RDONLY", "O_RDWR", "O_TRUNC", "O_WRONLY"),
    *("F_OK", "R_OK", "W_OK", "X_OK", "SEEK_SET", "SEEK_CUR", "SEEK_END", "TMP_MAX"),
    *("P_NOWAIT", "P_NOWAITO", "P_WAIT"),
    # From 3.12 or 3.13 on.
    *(("get_blocking", "set_blocking") if sys.version_info >= (3, 12) else ()),
    *(("process_cpu_count", "fchmod", "lchmod") if sys.version_info >= (3, 13) else ()),
}
_SIGNALS = {"SIGABRT": 22, "SIGFPE": 8, "SIGILL": 4, "SIGINT": 2, "SIGSEGV": 11, "SIGTERM": 15}
_OF_SIGNAL = {
    *("Signals", "Handlers", "signal", "getsignal", "default_int_handler", "raise_signal"),
    *("set_wakeup_fd", "strsignal", "valid_signals", "SIG_DFL", "SIG_IGN", "NSIG"),
}
_BINARY, _NO_INHERIT = 1 << 29, 1 << 28
_BAD = set('<>:"|?*')
# Libraries that the package uses, and what they use of the standard one.
_THEIRS = (
    *("IPython", "anywidget", "docker", "docker.transport", "kubernetes.client"),
    *("kubernetes.config", "pandas", "requests", "urllib3", "yaml", "asyncio", "pathlib"),
    *("concurrent.futures", "logging", "multiprocessing", "random", "selectors", "tarfile"),
    *("tempfile", "threading", "traitlets.config", "uuid", "getpass", "ssl", "zipfile"),
)


class _Gone:
    """Finds nothing of what isn't there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """As the import system asks."""
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def take_away(*libraries: str, began: Callable[[int], str | None] = lambda pid: None) -> None:
    """Makes of this process, as far as can be, one of Windows.

    Args:
        libraries: What else is imported before.
        began: What tells when a process began; by itself nobody does, as where it can't be asked.
    """
    for name in (*_THEIRS, *libraries):
        importlib.import_module(name)
    _calls()
    for module, kept in ((os, _OS), (signal, _OF_SIGNAL)):
        for name in dir(module):
            if not name.startswith("_") and name not in kept:
                delattr(module, name)
    names = enum.IntEnum("Signals", _SIGNALS)  # type: ignore[misc]
    vars(signal).update(names.__members__, Signals=names)
    vars(os).update(O_BINARY=_BINARY, O_NOINHERIT=_NO_INHERIT, supports_dir_fd=set())
    for module, name in (
        *((socket, name) for name in ("AF_UNIX", "SO_PEERCRED", "SCM_RIGHTS")),
        *((select, name) for name in ("poll", "epoll")),
        (time, "tzset"),
    ):
        delattr(module, name)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Gone())
    from qwex_jupyter.system import windows

    assert not any(name.startswith("qwex_jupyter.disk") for name in sys.modules)
    windows.HERE, windows.began = True, began


def _ours(depth: int = 2) -> bool:
    return str(sys._getframe(depth).f_globals.get("__name__")).startswith("qwex_jupyter")


def _open_files() -> list[str]:
    found = []
    for number in _listdir("/proc/self/fd"):
        try:
            found.append(_readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return found


_listdir, _readlink = os.listdir, os.readlink


def _refuse_in_use(path: Any) -> None:
    """Nobody moves or removes what is open, nor a folder in which something is."""
    real = os.path.realpath(os.fspath(path))
    for other in _open_files():
        if other == real or other.startswith(f"{real}/"):
            raise PermissionError(13, "The process cannot access the file: it is in use", real)


def _refuse_name(path: Any) -> None:
    name = os.path.basename(os.fspath(path))
    assert not _BAD & set(name), f"no name for Windows: {name!r}"
    assert not name.endswith((" ", ".")), f"no name for Windows: {name!r}"


def _calls() -> None:
    """Has what stays behave as it does there."""
    real = {name: getattr(os, name) for name in ("open", "rename", "replace", "unlink", "fsync")}
    real |= {name: getattr(os, name) for name in ("rmdir", "mkdir", "link", "kill")}
    modes, statvfs = fcntl.F_GETFL, os.statvfs

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        assert flags & _BINARY or not _ours(), f"{path} is opened as text"
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        if flags & os.O_CREAT:
            _refuse_name(path)
        return int(real["open"](path, flags & ~(_BINARY | _NO_INHERIT), mode))

    def rename(old: Any, new: Any, **_: object) -> None:
        if os.path.lexists(new):
            raise FileExistsError(17, "Cannot create a file when that file already exists", new)
        _refuse_in_use(old)
        _refuse_name(new)
        real["rename"](old, new)

    def replace(old: Any, new: Any, **_: object) -> None:
        _refuse_in_use(old)
        _refuse_in_use(new)
        _refuse_name(new)
        real["replace"](old, new)

    def unlink(path: Any, **_: object) -> None:
        _refuse_in_use(path)
        if not os.lstat(path).st_mode & stat.S_IWUSR:
            raise PermissionError(13, "Access is denied", path)
        real["unlink"](path)

    def rmdir(path: Any, **_: object) -> None:
        _refuse_in_use(path)
        real["rmdir"](path)

    def mkdir(path: Any, mode: int = 0o777, **_: object) -> None:
        _refuse_name(path)
        real["mkdir"](path, mode)

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, modes) & 3 == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        real["fsync"](descriptor)

    def kill(pid: int, number: int) -> None:
        assert not _ours(), "it would end the process, whatever the signal"
        real["kill"](pid, number)

    def usage(path: Any) -> Any:
        found = statvfs(path)
        size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        return shutil._ntuple_diskusage(size, size - free, free)  # type: ignore[attr-defined]

    for call in (rename, replace, unlink, rmdir, mkdir, fsync, kill):
        setattr(os, call.__name__, call)
    os.open, os.remove, shutil.disk_usage = opened, unlink, usage  # type: ignore[assignment]
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    text = builtins.open

    def plain(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        said = "b" in mode or named.get("encoding") or len(more) > 1
        assert said or not _ours(), f"{file} is opened in a code page"
        return text(file, mode, *more, **named)

    builtins.open = plain  # type: ignore[assignment]


def python(
    code: str, *words: str, began: str = "", libraries: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs code in such a process.

    Args:
        code: The code.
        words: Its arguments.
        began: An expression for what tells when a process began.
        libraries: What else is imported before.
        more: Further variables.
    """
    told = f", began={began}" if began else ""
    names = "".join(f"{name!r}, " for name in libraries)
    begin = f"import windows\nwindows.take_away({names}{told.removeprefix(', ')})\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code, *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
