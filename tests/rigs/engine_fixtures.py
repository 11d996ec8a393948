"""The fixtures that give real engines and registries; ``conftest.py`` takes them over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from engines import HISTORY, KINDS, Engine, EngineFailed, available
from registry import Registry
from registry import available as registry_available
from shared import Owned

# The fixtures that give a real engine, and the kinds that a test with them is about.
FIXTURES = {
    "docker_engine": "docker",
    "moby_engine": "moby",
    "podman_engine": "podman",
    "engine": "",
    "own_engine": "",
    "session_engine": "",
}

_session_engines: dict[str, Engine] = {}
# The addresses of those that the test at hand had.
_registries: list[str] = []


def clear(fixtures: Iterable[str], histories: Iterable[str]) -> None:
    """Removes from the engines what a test left there.

    Args:
        fixtures: Those that it used; without an engine there is nothing to do.
        histories: The ids of its histories, which its containers have as a label.
    """
    used = FIXTURES.keys() & set(fixtures)
    for engine in _session_engines.values() if used else ():
        if engine.owned is Owned.ALONE:
            engine.start()  # in case that the test ended it
            engine.thaw()
        for history in histories:
            engine.remove_containers(f"{HISTORY}={history}")
        for address in _registries:
            engine.remove_pulled(address)
    _registries.clear()


def _started(engine: Engine) -> Engine:
    try:
        return engine.start()
    except EngineFailed as why:
        pytest.skip(str(why))


def _session_engine(kind: str) -> Engine:
    """The one that all processes share; where these tests are the only process, its own."""
    try:
        found = Engine.shared(kind)
    except EngineFailed as why:
        pytest.skip(str(why))
    if found is None and (why := available(kind)):
        pytest.skip(why)
    return _started(found or Engine(kind))


@pytest.fixture(scope="session")
def session_engine() -> Iterator[Callable[[str], Engine]]:
    """The session's engine of a kind; others may use it too."""

    def get(kind: str) -> Engine:
        if kind not in _session_engines:
            _session_engines[kind] = _session_engine(kind)
        return _session_engines[kind]

    yield get
    while _session_engines:
        _session_engines.popitem()[1].stop()


@pytest.fixture
def docker_engine(session_engine: Callable[[str], Engine]) -> Engine:
    """Debian's Docker engine, or a user's own."""
    return session_engine("docker")


@pytest.fixture
def moby_engine(session_engine: Callable[[str], Engine]) -> Engine:
    """A current Docker engine."""
    return session_engine("moby")


@pytest.fixture
def podman_engine(session_engine: Callable[[str], Engine]) -> Engine:
    """Debian's Podman."""
    return session_engine("podman")


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, session_engine: Callable[[str], Engine]) -> Engine:
    """Each of them in turn."""
    return session_engine(request.param)


@pytest.fixture
def own_engine() -> Iterator[Callable[..., Engine]]:
    """Makes engines with data of their own, to be killed and frozen; gone after the test.

    A test whose kind isn't docker takes it from a parameter called ``kind``, so that a run of
    fewer kinds leaves it out.
    """
    made: list[Engine] = []

    def make(
        kind: str = "docker",
        *,
        live_restore: bool = False,
        log_opts: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        data: Path | None = None,
    ) -> Engine:
        if why := available(kind):
            pytest.skip(why)
        engine = Engine(
            kind,
            private=True,
            live_restore=live_restore,
            log_opts=log_opts,
            config=config,
            flags=flags,
            data=data,
        )
        if not engine.owned.ours:
            pytest.skip("only root may start an engine: run the tests as root")
        made.append(_started(engine))
        return engine

    yield make
    for engine in made:
        engine.stop()


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that anybody may pull from; all through its ``wire``."""
    yield from _registry(private=False)


@pytest.fixture
def private_registry() -> Iterator[Registry]:
    """A registry that asks for a name and a password."""
    yield from _registry(private=True)


def _registry(private: bool) -> Iterator[Registry]:
    if why := registry_available():
        pytest.skip(why)
    with Registry(private=private) as made:
        _registries.append(made.address)
        yield made
