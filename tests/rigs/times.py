"""How long each test took, and how much of that the processor worked for it.

Counted for a test are this process and the children that it waited for; engines, clusters and
supervisors, which are nobody's children, are not.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest
from tiers import GROUP

SLOWEST = 50
_NAME = "cpu seconds"


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Times:
    """A plugin that tells the slowest tests and the sums by file, at the end of a session."""

    def __init__(self) -> None:
        self._wall: dict[str, float] = defaultdict(float)
        self._cpu: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Notes the processor's time at the beginning of a test."""
        item.stash[_BEGUN] = (_cpu(), time.monotonic())
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Puts what it took into the report of a test's last phase."""
        report = yield
        if report.when == "teardown":
            report.user_properties.append((_NAME, round(_cpu() - item.stash[_BEGUN][0], 3)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds a phase up; with several processes they all come here."""
        name = report.nodeid.partition(f"@{GROUP}")[0]
        self._wall[name] += report.duration
        if found := dict(report.user_properties).get(_NAME):
            self._cpu[name] = float(str(found))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tells it."""
        say = terminalreporter.write_line
        files: dict[str, list[str]] = defaultdict(list)
        for name in self._wall:
            files[name.partition("::")[0]].append(name)
        terminalreporter.section(f"the slowest {SLOWEST} tests: seconds, share of the processor")
        for name in self._longest(list(self._wall))[:SLOWEST]:
            say(self._line([name], name))
        terminalreporter.section("sums by file: seconds, share of the processor, tests")
        for file in sorted(files, key=lambda file: -self._sum(self._wall, files[file])):
            say(f"{self._line(files[file], file)}  {len(files[file])}")

    def _longest(self, names: list[str]) -> list[str]:
        return sorted(names, key=lambda name: -self._wall[name])

    def _sum(self, of: dict[str, float], names: list[str]) -> float:
        return sum(of.get(name, 0.0) for name in names)

    def _line(self, names: list[str], title: str) -> str:
        wall, cpu = self._sum(self._wall, names), self._sum(self._cpu, names)
        return f"{wall:8.1f} {cpu / wall if wall else 0:5.0%}  {title}"


class AtOnce:
    """A plugin that names a test as soon as it has failed: a whole run takes long."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Names it."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"failed: {report.nodeid}")


_BEGUN = pytest.StashKey[tuple[float, float]]()
