"""A process whose clock is off, by a library that is loaded before the C library's.

faketime 0.9.10 won't do: under it a timed wait of Python's (sem_clockwait) has no end, and told
to leave the monotonic clock alone it refuses ``time.sleep``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from needs import need

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t which, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        now->tv_sec += OFF;
    return failed;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def off(folder: Path, seconds: int) -> dict[str, str]:
    """The variables of a process whose clock is so many seconds ahead; skips without a compiler.

    Args:
        folder: An empty one, which stays while the process lives.
        seconds: Less than 0 for one that is behind.
    """
    need("cc", "gcc libc6-dev")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_SOURCE)
    command = ["cc", "-shared", "-fPIC", f"-DOFF=({seconds})", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}
