"""What a node's runtime wrote of a container's output, file by file, whatever a kubelet removes.

A kubelet rotates by renaming the file and asking the runtime for a new one. What the runtime
writes to the old one until then, the kubelet's own follower may leave out, without a sign: only
these files tell that from what a reader of ours lost.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def kept_logs(pods: Path, pod: str, folder: Path) -> Iterator[Callable[[], list[bytes]]]:
    """Holds on to each file of a container's log.

    Args:
        pods: The node's folder of logs.
        pod: The pod's name.
        folder: Of the same file system, for hard links.

    Yields:
        What the program wrote to stdout, as it came into each file, oldest first.
    """
    folder.mkdir(parents=True)
    over = threading.Event()

    def look() -> None:
        for path in pods.glob(f"*_{pod}_*/main/0.log*"):
            if path.suffix in (".gz", ".tmp"):
                continue
            try:
                os.link(path, folder / str(path.stat().st_ino))
            except OSError:
                continue  # kept before, or gone meanwhile

    def watch() -> None:
        while not over.wait(0.02):
            look()

    def files() -> list[bytes]:
        texts = [path.read_bytes() for path in folder.iterdir()]
        return [written(text, b"stdout") for text in sorted(filter(None, texts))]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        over.set()
        thread.join()
        look()


def written(text: bytes, *streams: bytes) -> bytes:
    """The program's bytes in lines like ``TIME stdout F TEXT``; behind a P no line ends.

    Args:
        text: A file of the node's.
        streams: Which are meant.
    """
    found = bytearray()
    for line in io.BytesIO(text):  # at a newline alone: programs print other ends of lines
        _, name, mark, rest = line.split(b" ", 3)
        if name in streams:
            found += rest if mark == b"F" else rest.removesuffix(b"\n")
    return bytes(found)


def left_out(got: bytes, files: list[bytes]) -> list[bytes]:
    """What each file got last and a reader doesn't have.

    Raises:
        AssertionError: He lacks something else, or has something else.
    """
    found = _left_out(got, files)
    assert found is not None, "what is missing isn't the end of a file"
    return found


def _left_out(got: bytes, files: list[bytes]) -> list[bytes] | None:
    if not files:
        return None if got else []
    first, *others = files
    pairs = enumerate(zip(got, first, strict=False))
    common = next((n for n, (a, b) in pairs if a != b), min(len(got), len(first)))
    if not others:
        return [b""] if got == first else None
    # Where the next file begins with the same bytes as what is left out, there are several ways.
    for size in range(common, max(-1, common - 64), -1):
        rest = _left_out(got[size:], others)
        if rest is not None:
            return [first[size:], *rest]
    return None
