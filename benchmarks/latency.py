"""A line's way from the process to the client, at 100 lines a second."""

from __future__ import annotations

import re

from measure import kernel, percentile

# A line that says when it was written.
WRITER = """
import sys, time
for _ in range({count}):
    sys.stdout.write(f"@{{time.time():.6f}}@\\n")
    sys.stdout.flush()
    time.sleep({pause})
"""
STAMP = re.compile(r"@(\d+\.\d+)@")


def main(rounds: int) -> list[str]:
    delays: dict[str, list[float]] = {}
    rates: dict[str, float] = {}
    with kernel() as one:
        one.run("%load_ext qwex_jupyter")
        one.run("import os; os.environ['PYTHONUNBUFFERED'] = '1'")
        for number in range(max(2, rounds // 3)):
            for count, pause, word in ((60, 0.1, "10 lines/s"), (300, 0.01, "100 lines/s")):
                body = WRITER.format(count=count, pause=pause)
                cases = [(f"`%%qwex`, {word}", f"%%qwex python\n{body}")]
                cases.append((f"`%%bash`, {word}", f"%%bash\npython3 -c '{body}'"))
                for name, cell in cases if number % 2 else reversed(cases):
                    seconds, messages = one.run(cell)
                    seen = _first_seen(messages)
                    delays.setdefault(name, []).extend(seen)
                    rates[name] = len(messages) / seconds
    lines = [
        "### A line's way from the process to the client",
        "",
        "| | p50 ms | p99 ms | messages/s | n |",
        "|---|---|---|---|---|",
    ]
    for name, values in sorted(delays.items()):
        p50, p99 = percentile(values, 0.5) * 1e3, percentile(values, 0.99) * 1e3
        lines.append(f"| {name} | {p50:.2f} | {p99:.2f} | {rates[name]:.0f} | {len(values)} |")
    return lines


def _first_seen(messages: list[dict[str, object]]) -> list[float]:
    """For each line, seconds from its writing to the first message that shows it."""
    seen: dict[str, float] = {}
    for message in messages:
        content = message["content"]
        text = content.get("text", "") or str(content.get("data", {}).get("text/html", ""))
        for stamp in STAMP.findall(text):
            seen.setdefault(stamp, message["arrived"] - float(stamp))
    return list(seen.values())
