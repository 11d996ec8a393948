"""Which proxy leads to a server, by the rules that kubectl and the docker client have of Go.

See golang.org/x/net/http/httpproxy: the Python libraries below us each have rules of their own,
and none of them leaves out what is on this machine (kind, minikube, an engine at a port).
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.model.text import without_secrets

_PORTS = {"http": 80, "https": 443}
# What the choice is made of.
NAMES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


def proxy_for(url: str) -> str:
    """The proxy by which the environment wants a server to be reached; "" for none.

    Args:
        url: The server's address, ``https://10.0.0.1:6443``.

    Raises:
        RunnerUnavailable: It has no address that can be used.
    """
    server = urlsplit(url)
    proxy = _either("HTTPS_PROXY" if server.scheme == "https" else "HTTP_PROXY")
    host = (server.hostname or "").rstrip(".")
    if not proxy or is_here(url):
        return ""
    port = server.port or _PORTS.get(server.scheme, 0)
    if any(_spares(word.strip().lower(), host, port) for word in _either("NO_PROXY").split(",")):
        return ""
    return usable(proxy if "://" in proxy else f"http://{proxy}", "the environment")


def usable(proxy: str, by: str) -> str:
    """A proxy's address, where it is one.

    Args:
        proxy: It.
        by: What names it, in words.

    Raises:
        RunnerUnavailable: It is none. What logs in isn't shown.
    """
    if has_a_port(proxy):
        return proxy
    raise RunnerUnavailable(
        f"The proxy {without_secrets(proxy)} (by {by}) has no address that can be used: write "
        "http://HOST:PORT, with %2F for a / in its password."
    )


def has_a_port(url: str) -> bool:
    """Whether an address has a port that is one, or needs none.

    Where a password holds a ``/`` it hasn't, and what a library says of that quotes the password.
    """
    try:
        return urlsplit(url).port != -1
    except ValueError:
        return False


def is_here(url: str) -> bool:
    """Whether a server is one of this machine, by its address."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _either(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _spares(word: str, host: str, port: int) -> bool:
    """Whether a word of NO_PROXY means a server."""
    if word == "*":
        return True
    address = _address(host)
    if "/" in word:
        try:
            return address is not None and address in ipaddress.ip_network(word, strict=False)
        except ValueError:
            return False
    name, colon, number = word.rpartition(":")
    if colon and number.isdigit() and _address(word) is None:
        if int(number) != port:
            return False
        word = name
    if (own := _address(word)) is not None or address is not None:
        return own == address
    word = word.removeprefix("*")
    if word.startswith("."):
        return len(word) > 1 and host.endswith(word)
    return bool(word) and (host == word or host.endswith(f".{word}"))
