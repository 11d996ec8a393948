"""The client libraries of the backends: imported at their first use, one at a time, and quiet.

Two threads that import libraries with a part in common, as docker and kubernetes have requests,
can each come to wait for a module that the other one is in the middle of. Python then lets one
of them go on with half a module, and its import fails by chance
(``importlib._bootstrap._ModuleLock``).

Of a server whose certificate nobody looks at, because the settings of its client ask for that,
kubectl and the docker client say nothing.
"""

from __future__ import annotations

import importlib
import re
import threading
import warnings
from urllib.parse import urlsplit

from qwex_jupyter.errors import RunnerUnavailable

_ONE = threading.Lock()


def load(package: str, others: str) -> None:
    """Imports a client library, unless it is there.

    Args:
        package: Its name, the same for Python and for pip.
        others: What a user may do without it, for the message.

    Raises:
        RunnerUnavailable: It can't be imported.
    """
    try:
        with _ONE:
            importlib.import_module(package)
    except ImportError as error:
        raise RunnerUnavailable(
            f"The Python package {package} can't be imported ({error}): "
            f"pip install -U {package}, {others}."
        ) from error


def unwarned(url: str) -> None:
    """Keeps urllib3 from warning of this server at each call; other hosts keep their warning.

    Args:
        url: Where the server is.
    """
    host = re.escape(f"host '{urlsplit(url).hostname}'")
    warnings.filterwarnings("ignore", f"Unverified HTTPS request.* {host}")
