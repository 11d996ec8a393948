"""``python3 docs``: sets everything up and builds the site, into ``.site`` of the checkout.

A warning is a failure. Nothing is executed and nothing is fetched: notebooks are shown as they are
saved.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SITE = ROOT / ".site"
sys.path.insert(0, str(ROOT / "tests" / "rigs"))


def main() -> int:
    """Builds it; the exit code."""
    from environment import environment

    code = build(environment(".venv-docs", "[docs]"), SITE)
    if code == 0:
        print(f"\nThe site: {SITE / 'index.html'}")
    return code


def build(interpreter: str, site: Path) -> int:
    """Builds the site anew with the Sphinx of an interpreter; the exit code.

    Args:
        interpreter: It has the extra ``docs``.
        site: Its folder, which is made anew; after a failure it isn't there.
    """
    shutil.rmtree(site, ignore_errors=True)
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky"]
    # Beside the pages lies what was read, and what myst-nb takes out of notebooks.
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder, "pages")
        where = ["-c", str(HERE), "-d", str(Path(folder, "read")), str(ROOT), str(pages)]
        command = [interpreter, "-m", "sphinx", "-b", "html", "-q", *strict, *where]
        code = subprocess.run(command, check=False).returncode
        if code == 0:
            shutil.move(pages, site)
    return code


if __name__ == "__main__":
    sys.exit(main())
