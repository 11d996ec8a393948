"""``python3 benchmarks``: ours, peers and the physical limit side by side in one run.

Prints Markdown tables of medians and ratios; ``--save`` keeps them in docs/performance.md;
names (``load noop many output latency history containers jobs monitor``) choose some;
``--rounds N`` sets how often.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "rigs")]
ALL = ("load", "noop", "many", "output", "latency", "history", "containers", "jobs", "monitor")
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
    for name in args.names or ALL:
        text = "\n".join(importlib.import_module(name).main(rounds=args.rounds))
        print(text + "\n", flush=True)
        if args.save:
            _save(name, text)
    return 0


def _again() -> int:
    from environment import environment

    interpreter = environment(".venv-bench", "[bench,test]")
    env = {**os.environ, "QWEX_BENCHMARKS_READY": "1"}
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    return subprocess.run([interpreter, str(HERE), *sys.argv[1:]], env=env, check=False).returncode


def _save(name: str, text: str) -> None:
    """Puts one section in its place; the others stay as they are."""
    page = HERE.parent / "docs" / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    numbers, _, after = rest.partition(END)
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()}"
    found = dict(
        re.findall(r"<!-- (\w+) -->\n(.*?)(?=\n<!-- \w+ -->|\Z)", numbers.strip(), re.DOTALL)
    )
    found[name] = f"\nMeasured on: {machine}.\n\n{text}\n"
    sections = [f"<!-- {each} -->\n{found[each].strip(chr(10))}\n" for each in ALL if each in found]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(sections) + f"\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
