"""Windows: whether this is it, and what only its own functions tell.

What other systems have and it lacks is asked for where it is used, by its name. Nothing of `began`
was ever run on Windows, as docs/docker.md says. Standard library only.
"""

from __future__ import annotations

import os

# Tests set this, before all else is imported.
HERE = os.name == "nt"

# winnt.h, winerror.h, minwinbase.h
_QUERY_LIMITED, _INVALID_PARAMETER, _STILL_ACTIVE = 0x1000, 87, 259


def is_of_pipe(error: BaseException) -> bool:
    """Whether an error is one of a named pipe: pywin32's own, which is no OSError."""
    return type(error).__module__ == "pywintypes"


def began(pid: int) -> str | None:
    """When a process began, in the system's own words; "" when it is gone, None where unknown.

    That is a point in time of 100 ns, so no other process with that pid has the same.
    """
    try:
        import ctypes
        from ctypes import byref, wintypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        kernel.OpenProcess.restype = wintypes.HANDLE
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    handle = kernel.OpenProcess(_QUERY_LIMITED, False, wintypes.DWORD(pid))
    if not handle:
        gone = ctypes.get_last_error() == _INVALID_PARAMETER  # type: ignore[attr-defined]
        return "" if gone else None
    held = wintypes.HANDLE(handle)
    try:
        code, times = wintypes.DWORD(), [wintypes.FILETIME() for _ in range(4)]
        if not kernel.GetExitCodeProcess(held, byref(code)):
            return None
        # A process that has ended is there for as long as anybody holds it.
        if code.value != _STILL_ACTIVE:
            return ""
        if not kernel.GetProcessTimes(held, *map(byref, times)):
            return None
        return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)
    finally:
        kernel.CloseHandle(held)
