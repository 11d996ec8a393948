"""``python3 benchmarks``: ours, peers and the physical limit side by side in one run.

Prints Markdown tables of medians and ratios; ``--save`` keeps them in docs/performance.md;
names (``load noop many output latency history``) choose some. ``--rounds N`` sets how often.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
ALL = ("load", "noop", "many", "output", "latency", "history")
BEGIN, END = "<!-- numbers: made by python3 benchmarks --save -->", "<!-- end of numbers -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    if not os.environ.get("QWEX_BENCHMARKS_READY"):
        return _again()
    sys.path.insert(0, str(HERE))
    sections = []
    for name in args.names or ALL:
        lines = importlib.import_module(name).main(rounds=args.rounds)
        sections.append("\n".join(lines))
        print(sections[-1] + "\n", flush=True)
    if args.save:
        _save("\n\n".join(sections))
    return 0


def _again() -> int:
    from environment import environment

    interpreter = environment(".venv-bench", "[bench,test]")
    env = {**os.environ, "QWEX_BENCHMARKS_READY": "1"}
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    return subprocess.run([interpreter, str(HERE), *sys.argv[1:]], env=env, check=False).returncode


def _save(text: str) -> None:
    page = HERE.parent / "docs" / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()}"
    page.write_text(f"{before}{BEGIN}\n\nMeasured on: {machine}.\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
