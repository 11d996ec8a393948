"""What the benchmarks share: a real kernel, medians, tables."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Kernel:
    """A real kernel and its client."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client

    def run(self, cell: str) -> tuple[float, list[dict[str, Any]]]:
        """Runs a cell; seconds from request to idle, and the messages with their arrival."""
        messages = []

        def keep(message: dict[str, Any]) -> None:
            messages.append({**message, "arrived": time.time()})

        start = time.perf_counter()
        reply = self.client.execute_interactive(
            cell, output_hook=keep, allow_stdin=True, stdin_hook=lambda _: None, timeout=600
        )
        seconds = time.perf_counter() - start
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{cell}: {reply['content']}")
        return seconds, messages

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel, as printed by repr."""
        _, messages = self.run(f"print(repr({expression}))")
        text = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
        return eval(text)


@contextmanager
def kernel() -> Iterator[Kernel]:
    """A fresh kernel with a history of its own."""
    from jupyter_client.manager import start_new_kernel

    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "QWEX_HOME": os.path.join(home, "history"), "IPYTHONDIR": home}
        manager, client = start_new_kernel(kernel_name="python3", env=env)
        try:
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def rotate(
    cases: Mapping[str, Callable[[], float]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Runs all cases in each round, each time beginning with another one."""
    names = list(cases)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + warm):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds = cases[name]()
            if number >= warm:
                found[name].append(seconds)
    return found


def table(
    title: str,
    found: Mapping[str, Sequence[float]],
    beside: str,
    unit: float = 1e3,
    sign: str = "ms",
) -> list[str]:
    """Medians, and the median of the ratios of each round to the case ``beside``."""
    lines = [f"### {title}", "", f"| | {sign} (median) | x {beside} | n |", "|---|---|---|---|"]
    for name, values in found.items():
        base = found[beside]
        pairs = [a / b for a, b in zip(values, base, strict=False)]
        ratio = f"{statistics.median(pairs):.2f}" if pairs else ""
        lines.append(
            f"| {name} | {statistics.median(values) * unit:.2f} | {ratio} | {len(values)} |"
        )
    return lines


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
