"""A flood of output into a cell, and what showing it costs the program."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time

from measure import kernel, rotate, table

LINES, WIDTH = 1_000_000, 100
BASH_LINES = 20_000
PACED = """
import sys, time
start = time.perf_counter()
line = "x" * 99 + "\\n"
for tick in range(300):
    for _ in range(200):
        sys.stdout.write(line)
    sys.stdout.flush()
    rest = start + (tick + 1) / 100 - time.perf_counter()
    if rest > 0:
        time.sleep(rest)
open({out!r}, "a").write(f"{{time.perf_counter() - start}}\\n")
"""


def main(rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, kernel() as one:
        source = os.path.join(folder, "lines")
        with open(source, "wb") as file:
            file.write((b"x" * (WIDTH - 1) + b"\n") * LINES)
        few = os.path.join(folder, "few")
        with open(few, "wb") as file:
            file.write((b"x" * (WIDTH - 1) + b"\n") * BASH_LINES)
        one.run("%load_ext qwex_jupyter")
        sizes: list[tuple[int, int]] = []

        def ours() -> float:
            seconds, messages = one.run(f"%%qwex\ncat {source}")
            data = [json.dumps(m["content"]) for m in messages]
            sizes.append((len(data), sum(map(len, data))))
            return seconds

        found = rotate(
            {
                "write a file and read it": lambda: _file(source, folder),
                "`%%qwex` cat": ours,
            },
            rounds,
        )
        found[f"`%%bash` cat, {BASH_LINES:,} lines only"] = [
            one.run(f"%%bash\ncat {few}")[0] for _ in range(2)
        ]
        lines = table(
            f"{LINES:,} lines of {WIDTH} bytes into a cell", found, "write a file and read it"
        )
        count, size = sizes[-1]
        lines += ["", f"Messages: {count}, {size / 1e3:.0f} kB in all.", ""]
        lines += _paced(one, folder, rounds)
    return lines


def _file(source: str, folder: str) -> float:
    with open(source, "rb") as file:
        data = file.read()
    start = time.perf_counter()
    path = os.path.join(folder, "copy")
    with open(path, "wb") as file:
        file.writelines(data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20))
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass
    return time.perf_counter() - start


def _paced(one: object, folder: str, rounds: int) -> list[str]:
    """A program that wants 3 s for 60,000 lines: alone into a file, and under a cell."""
    script = os.path.join(folder, "paced.py")
    took = {}
    for name in ("alone", "qwex"):
        out = os.path.join(folder, name)
        with open(script, "w") as file:
            file.write(PACED.format(out=out))
        for _ in range(max(1, rounds // 3)):
            if name == "alone":
                os.system(f"python3 {script} > {folder}/sink")
            else:
                one.run(f"%%qwex\npython3 {script}")
        with open(out) as file:
            took[name] = statistics.median(float(line) for line in file)
    slower = (took["qwex"] / took["alone"] - 1) * 100
    alone, under = took["alone"], took["qwex"]
    text = f"took {alone:.3f} s alone and {under:.3f} s under `%%qwex`: {slower:+.2f} %."
    return [f"A program that paces itself at 20,000 lines/s for 3 s {text}"]
