"""Private API of other libraries: all of it stands here, each piece with a way without it.

What a library keeps to itself may change in any of its versions. What is given up then stands with
each function. Nothing is imported before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any


def locals_of_caller() -> Mapping[str, Any]:
    """The variables of the function by whose line IPython called our caller, as ``!`` takes them.

    Without frames, which belong to CPython alone, a line names the notebook's own variables only.
    """
    frame = sys._getframe(2) if hasattr(sys, "_getframe") else None
    while frame and frame.f_globals.get("__name__", "").startswith(("IPython.", "ipykernel.")):
        frame = frame.f_back
    return frame.f_locals if frame else {}


def is_whole(name: str) -> bool:
    """Whether a module was imported, and no thread is in the middle of that.

    Where that can't be told, it isn't known to be: it is imported, which may wait.
    """
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return not getattr(spec, "_initializing", True)


def answer_while_busy(comm: Any) -> None:
    """Has a page's messages handled in the front end's subshell, where kernels have such.

    ipykernel 7.4 sends a reply to where its comm spoke last, which is the thread of the cells.
    Another version answers as it does by itself.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, default: default


def run_exit_functions() -> None:
    """Runs what was registered with `atexit`, which `os._exit` leaves out.

    Where that can't be asked for, libraries leave their temporary files behind.
    """
    import atexit

    run = getattr(atexit, "_run_exitfuncs", None)
    if run is not None:
        run()


def source_of(reply: Any) -> Any:
    """The file from which `http.client` reads an answer as it comes; None where it has no body.

    Args:
        reply: urllib3's response, whose content was not read yet.

    Raises:
        AttributeError: This urllib3 keeps it elsewhere: see `pieces_of`.
    """
    return reply._fp.fp


def pieces_of(reply: Any, most: int) -> Iterator[bytes]:
    """The body of an answer by what urllib3 has for everybody: each chunk by itself.

    Args:
        reply: See `source_of`.
        most: Bytes of a piece.

    Raises:
        EOFError: It was cut, or nothing says where it ends.
        TimeoutError: Nothing came for long.
    """
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    framed = {"content-length", "transfer-encoding"} & {name.lower() for name in reply.headers}
    try:
        for data in reply.stream(most, decode_content=False):
            if not framed:
                raise EOFError("an answer without a length: its end can't be told from a cut")
            yield data
    except ReadTimeoutError as error:
        raise TimeoutError(str(error)) from error
    except HTTPError as error:
        raise EOFError("the answer was cut") from error


def shut_down(reply: Any) -> None:
    """Ends the reading of an answer that another thread waits for.

    urllib3 has a way of its own from 2.3 on, behind which what still comes is read all the same.

    Args:
        reply: See `source_of`.
    """
    import socket

    try:
        source_of(reply).raw._sock.shutdown(socket.SHUT_RDWR)
    except (AttributeError, OSError):
        try:
            reply.shutdown()
        except (AttributeError, OSError, ValueError, RuntimeError):
            reply.close()  # a transport without a socket (ssh), or one that is closed already
