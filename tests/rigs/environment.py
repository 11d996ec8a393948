"""A virtual environment with this checkout in it, from nothing but a Python.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
# The Pythons that are tested, the newest last.
SUPPORTED = ("3.11", "3.12", "3.13")
# What is got or built once and kept. As it is when the tests begin; a test has a cache folder of
# its own.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwex-tests"


def say(text: str) -> None:
    """Tells what happens now."""
    print(f"== {text}", flush=True)


def python(version: str | None = None) -> str:
    """An interpreter of that version ("3.12"), or any that is tested: this one, else the oldest.

    Looked for: this one, on PATH, and in the folders of pyenv and uv.

    Raises:
        SystemExit: There is none; says what to install.
    """
    wanted = [version] if version else list(SUPPORTED)
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in wanted:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path(data) / "uv" / "python")
    for name in wanted:
        found = [
            *sorted(pyenv.glob(f"{name}.*/bin/python{name}")),
            *sorted(uv.glob(f"cpython-{name}.*/bin/python{name}")),
            shutil.which(f"python{name}"),
        ]
        for candidate in found:
            if candidate and _works(str(candidate)):
                return str(candidate)
    raise SystemExit(f"This needs Python {' or '.join(wanted)}: install one of them first.")


def _works(interpreter: str) -> bool:
    try:
        done = subprocess.run([interpreter, "-c", "pass"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def environment(
    name: str, extras: str = "", constraints: Path | None = None, version: str | None = None
) -> str:
    """The interpreter of a virtual environment in which this checkout is installed.

    Made once and kept in the checkout; made anew when what it is made from has changed. One that
    somebody else made is left alone.

    Args:
        name: The folder's name.
        extras: Extras of the package, like ``[test]``.
        constraints: A pip constraints file.
        version: The Python; None for any that is supported.

    Raises:
        SystemExit: A folder of that name is there, and wasn't made by this.
    """
    folder = ROOT / name
    interpreter = folder / "bin" / "python"
    base = python(version)
    settings = (ROOT / "pyproject.toml").read_bytes()
    # What stands there of tools installs nothing.
    made_of = settings.partition(b"\n[tool.")[0] + f"{base} {extras}".encode()
    made_of += constraints.read_bytes() if constraints else b""
    stamp, state = folder / "made-of", hashlib.sha256(made_of).hexdigest()
    if stamp.exists() and stamp.read_text() == state and _works(str(interpreter)):
        return str(interpreter)
    if folder.exists() and not stamp.exists():
        raise SystemExit(f"{folder} wasn't made by these tests, and they want one there: move it.")
    say(f"installing into {name} (Python {version or base}); this takes a minute or two")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    stamp.touch()  # from here on it is ours, however far it comes
    _make_venv(base, folder)
    words = ["-c", str(constraints)] if constraints else []
    install(str(interpreter), [*words, "-e", f"{ROOT}{extras}"])
    stamp.write_text(state)
    return str(interpreter)


def wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout into a folder; where it is."""
    uv = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "--out-dir", str(folder)]
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder)]
    if subprocess.run([*uv, str(ROOT)], capture_output=True, check=False).returncode:
        subprocess.run([*pip, "--disable-pip-version-check", str(ROOT)], check=True)
    (made,) = folder.glob("*.whl")
    return made


def install(interpreter: str, words: Sequence[str], by: str = "", *, ready: bool = True) -> None:
    """Installs by uv, in a tenth of pip's time; by pip where uv or its index can't be had.

    Args:
        interpreter: Whose environment it is for.
        words: What, as pip understands it.
        by: The interpreter that has pip; "" for that environment's own.
        ready: Also compiles it.
    """
    pip = [by or interpreter, "-m", "pip", "--disable-pip-version-check"]
    uv = [by or interpreter, "-m", "uv", "pip", "install", "-q", "--python", interpreter]
    if ready:
        uv.append("--compile-bytecode")  # else each kernel does, as the tests' write none
    for command in ([*pip, "install", "-q", "uv"], [*uv, *words]):
        if subprocess.run(command, check=False).returncode:
            there = [f"--python={interpreter}"] if by else []
            subprocess.run([*pip, *there, "install", "-q", *words], check=True)
            return


def _make_venv(base: str, folder: Path) -> None:
    command = [base, "-m", "venv", str(folder)]
    if subprocess.run(command, check=False).returncode == 0:
        return
    # Debian splits venv off its Python.
    install_packages(["python3-venv"], why="Python's venv module")
    subprocess.run(command, check=True)


def may_install() -> bool:
    """Whether this may install Debian packages."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install_packages(packages: Sequence[str], why: str) -> bool:
    """Installs Debian packages where this may; otherwise says what is missing."""
    if not may_install():
        say(f"{why} is missing: apt-get install {' '.join(packages)}")
        return False
    say(f"installing {' '.join(packages)} ({why})")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], env=quiet, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*apt, "install", "-y", "--no-install-recommends", *packages],
        env=quiet,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return True
