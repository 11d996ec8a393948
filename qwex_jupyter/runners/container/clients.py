"""The client libraries of the backends: imported at their first use, and quiet.

Of a server whose certificate nobody looks at, because the settings of its client ask for that,
kubectl and the docker client say nothing.
"""

from __future__ import annotations

import re
import warnings
from urllib.parse import urlsplit

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.system import libraries


def load(package: str, others: str, *, brought_by: str = "") -> None:
    """Imports a client library, unless it is there.

    Args:
        package: Its name.
        others: What a user may do without it, for the message.
        brought_by: What pip installs it with; "" for what has the same name.

    Raises:
        RunnerUnavailable: It isn't installed, or can't be imported.
    """
    if lacks := libraries.trouble(package, brought_by=brought_by):
        raise RunnerUnavailable(f"{lacks}, {others}.")


def unwarned(url: str) -> None:
    """Keeps urllib3 from warning of this server at each call; other hosts keep their warning.

    Args:
        url: Where the server is.
    """
    host = re.escape(f"host '{urlsplit(url).hostname}'")
    warnings.filterwarnings("ignore", f"Unverified HTTPS request.* {host}")
