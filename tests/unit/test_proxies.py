"""Which proxy leads to a server: the rules of Go, which kubectl and the docker client have."""

from __future__ import annotations

import pytest

from qwex_jupyter.errors import RunnerUnavailable
from qwex_jupyter.runners.container.proxies import NAMES, proxy_for, usable

PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has set is of no account."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "settings", "proxy"),
    [
        ("https://10.0.0.1:6443", {}, ""),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://10.0.0.1:6443", {"https_proxy": PROXY}, PROXY),
        ("https://10.0.0.1:6443", {"https_proxy": "http://other", "HTTPS_PROXY": PROXY}, PROXY),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
        ("https://10.0.0.1:6443", {"HTTP_PROXY": PROXY}, ""),
        ("http://10.0.0.1:2375", {"HTTP_PROXY": PROXY}, PROXY),
        # What is here is never behind a proxy.
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://127.8.9.1:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, ""),
        ("https://localhost.example.com", {"HTTPS_PROXY": PROXY}, PROXY),
    ],
)
def test_which_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, settings: dict[str, str], proxy: str
) -> None:
    """By the scheme, upper case first, and never for what is on this machine."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("url", "spared", "is_spared"),
    [
        ("https://a.example.com", "example.com", True),
        ("https://example.com", "example.com", True),
        ("https://myexample.com", "example.com", False),
        ("https://a.example.com", ".example.com", True),
        ("https://example.com", ".example.com", False),
        ("https://a.example.com", "*.example.com", True),
        ("https://a.example.com", "other.com, Example.com", True),
        ("https://A.Example.com", "example.com", True),
        ("https://a.example.com", "*", True),
        ("https://a.example.com:6443", "example.com:6443", True),
        ("https://a.example.com:6443", "example.com:443", False),
        ("https://a.example.com", "example.com:443", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://a.example.com", "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3", "1.2.3", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://10.1.2.3", "", False),
        ("https://10.1.2.3", "10.0.0.0/99,,", False),
    ],
)
def test_whom_it_spares(
    monkeypatch: pytest.MonkeyPatch, url: str, spared: str, is_spared: bool
) -> None:
    """Names with what is below them, addresses, networks, ports, or all."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", spared)
    assert proxy_for(url) == ("" if is_spared else PROXY)


def test_a_proxy_whose_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``/`` in its password cuts an address in two: it is refused, and no part of it is shown."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hu/nter2@proxy.example.com:3128")
    with pytest.raises(RunnerUnavailable, match=r"http://\*\*\*@proxy\.example\.com:3128 \(by the"):
        proxy_for("https://10.0.0.1:6443")
    with pytest.raises(RunnerUnavailable, match=r"The proxy http://\*\*\*@h:1 \(by proxy-url\)"):
        usable("http://me:hu/nter2@h:1", "proxy-url")
    assert usable(PROXY, "proxy-url") == PROXY
