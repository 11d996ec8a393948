"""``python3 tests/rigs/failing.py --save``: what failing cells of many languages really print.

Each cell of the table is run in a folder that is called as that of a run is, and what it prints is
kept in ``tests/unit/failures``. A cell whose program isn't here keeps what was recorded before. No
Julia could be had: its texts were written down from its documentation and from its issues, and
say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OUTPUTS = Path(__file__).resolve().parents[1] / "unit" / "failures"
# As the folder of a run is called.
FOLDER = "/tmp/home/runs/20261123-163045-k3x9qd"


@dataclass(frozen=True)
class Cell:
    """A cell that fails.

    Attributes:
        name: What it is called; the language comes first.
        words: What runs it; the script's path goes where a lone ``-`` stands, else last.
        ending: How the script's name ends.
        script: What stands in it.
        cause: What a headline is to say of it.
        env: Variables that it is to have.
    """

    name: str
    words: str
    ending: str
    script: str
    cause: str
    env: str = ""

    @property
    def language(self) -> str:
        """In which language it is written."""
        return self.name.partition("_")[0]

    @property
    def script_name(self) -> str:
        """The name of its script, as a cell's is called."""
        return f"cell.{self.ending}"


def _python(name: str, script: str, cause: str, words: str = "python3.13", env: str = "") -> Cell:
    return Cell(f"python_{name}", words, "py", script, cause, env)


def _bash(name: str, script: str, cause: str) -> Cell:
    return Cell(f"bash_{name}", "bash -eo pipefail", "sh", script, cause)


PYTHON = [
    _python("plain", "import os\n\n1 / 0\n", "ZeroDivisionError: division by zero · cell line 3"),
    _python(
        "old",
        "def f(x):\n    return x / 0\n\nf(1)\n",
        "ZeroDivisionError: division by zero · cell line 2",
        "python3.11",
    ),
    _python(
        "library",
        "import json\njson.loads('{')\n",
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1) · cell line 2",
    ),
    _python(
        "during",
        "try:\n    {}['a']\nexcept KeyError:\n    raise OSError('no disk')\n",
        "OSError: no disk · cell line 4",
    ),
    _python(
        "because",
        "try:\n    int('x')\nexcept ValueError as error:\n"
        "    raise RuntimeError('bad config') from error\n",
        "RuntimeError: bad config · cell line 4",
    ),
    _python(
        "group",
        "raise ExceptionGroup('many', [ValueError('a'), TypeError('b')])\n",
        "ValueError: a (1 of 2 in ExceptionGroup: many) · cell line 1",
    ),
    _python(
        "tasks",
        "import asyncio\n\nasync def f():\n    raise ValueError('bad row')\n\n"
        "async def main():\n    async with asyncio.TaskGroup() as group:\n"
        "        group.create_task(f())\n\nasyncio.run(main())\n",
        "ValueError: bad row (in ExceptionGroup: unhandled errors in a TaskGroup) · cell line 4",
    ),
    _python("syntax", "x = 1\ny = = 3\n", "SyntaxError: invalid syntax · cell line 2"),
    _python(
        "indent",
        "if True:\nx = 1\n",
        "IndentationError: expected an indented block after 'if' statement on line 1 · cell line 2",
    ),
    _python("assert", "x = 1\nassert x == 2\n", "AssertionError · cell line 2"),
    _python("interrupt", "raise KeyboardInterrupt\n", "KeyboardInterrupt · cell line 1"),
    _python(
        "lines",
        "raise ValueError('the first line\\nthe second')\n",
        "ValueError: the first line · cell line 1",
    ),
    _python(
        "blank",
        "raise RuntimeError('\\n\\n  the GPU is gone')\n",
        "RuntimeError: the GPU is gone · cell line 1",
    ),
    _python("exit_text", "import sys\nsys.exit('no data in /data')\n", "no data in /data"),
    _python("exit_code", "import sys\nsys.exit(3)\n", "exit code 3, printed nothing"),
    _python(
        "stdout",
        "import sys, traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    traceback.print_exc(file=sys.stdout)\n    sys.exit(1)\n",
        "ZeroDivisionError: division by zero · cell line 3",
    ),
    _python(
        "logged",
        "import logging, sys\nlogging.basicConfig(level='INFO')\ntry:\n    1 / 0\n"
        "except ZeroDivisionError:\n    logging.exception('the step failed')\n"
        "logging.info('closing files')\nlogging.info('done')\nsys.exit(1)\n",
        "ZeroDivisionError: division by zero · cell line 4",
    ),
    _python(
        "shared",
        "from multiprocessing.shared_memory import SharedMemory\n"
        "memory = SharedMemory(create=True, size=16)\nraise MemoryError('no room')\n",
        "MemoryError: no room · cell line 3",
    ),
    _python(
        "child",
        "import subprocess\nsubprocess.run(['false'], check=True)\n",
        "subprocess.CalledProcessError: Command '['false']' returned non-zero exit status 1. · "
        "cell line 2",
    ),
    _python(
        "usage",
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', required=True)\n"
        "p.parse_args()\n",
        "cell.py: error: the following arguments are required: --lr",
    ),
    _python(
        "thread",
        "import sys, threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()\n"
        "sys.exit(1)\n",
        "ZeroDivisionError: division by zero · cell line 2",
    ),
    _python(
        "pool",
        "import multiprocessing\n\ndef f(x):\n    return 1 / x\n\nif __name__ == '__main__':\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        pool.map(f, [0])\n",
        "ZeroDivisionError: division by zero · cell line 8",
    ),
    _python(
        "notes",
        "error = ValueError('bad row')\nerror.add_note('in file a.csv')\nraise error\n",
        "ValueError: bad row · cell line 3",
    ),
    _python(
        "colours",
        "def f():\n    raise ValueError('in colours')\n\nf()\n",
        "ValueError: in colours · cell line 2",
        env="FORCE_COLOR=1",
    ),
    _python(
        "recursion",
        "def f():\n    f()\n\nf()\n",
        "RecursionError: maximum recursion depth exceeded · cell line 2",
    ),
    _python("input", "input('name? ')\n", "EOFError: EOF when reading a line · cell line 1"),
    _python(
        "bar",
        "import time\nfrom tqdm import tqdm\nfor i in tqdm(range(4)):\n"
        "    time.sleep(0.2)\n    if i == 2:\n        raise ValueError(f'bad row {i}')\n",
        "ValueError: bad row 2 · cell line 6",
        "HERE",
    ),
    _python(
        "warned",
        "import sys, warnings\nwarnings.warn('a little odd')\nsys.exit(3)\n",
        "exit code 3, last line: UserWarning: a little odd",
    ),
    _python(
        "unittest",
        "import unittest\n\nclass T(unittest.TestCase):\n    def test(self):\n"
        "        self.assertEqual(1, 2)\n\nunittest.main()\n",
        "AssertionError: 1 != 2 · cell line 5",
    ),
    _python(
        "pytest",
        "def test():\n    assert 1 + 1 == 3\n",
        "assert (1 + 1) == 3 · cell line 2",
        "HERE -m pytest -q -p no:cacheprovider",
    ),
    _python(
        "rich",
        "from rich.traceback import install\ninstall()\n\ndef f(x):\n    return 1 / x\n\nf(0)\n",
        "ZeroDivisionError: division by zero · cell line 5",
        "HERE",
    ),
    _python(
        "rich_chained",
        "from rich.traceback import install\ninstall(show_locals=True)\n\ntry:\n    {}['a']\n"
        "except KeyError as error:\n"
        "    raise RuntimeError('a message that is so long that it goes into a second line of the "
        "eighty columns') from error\n",
        "RuntimeError: a message that is so long that it goes into a second line of the eighty "
        "columns · cell line 7",
        "HERE",
    ),
    _python(
        "ipython",
        "def f(x):\n    return 1 / x\n\nf(0)\n",
        "ZeroDivisionError: division by zero · cell line 2",
        "HERE -m IPython --no-banner --colors=Linux",
    ),
    _python(
        "ipython_chained",
        "try:\n    {}['a']\nexcept KeyError:\n    raise OSError('no disk')\n",
        "OSError: no disk · cell line 4",
        "HERE -m IPython --no-banner --colors=NoColor",
    ),
    _python(
        "ipython_syntax",
        "x = 1\ny = = 3\n",
        "SyntaxError: invalid syntax · cell line 2",
        "HERE -m IPython --no-banner",
    ),
]

SHELLS = [
    _bash("missing", "echo begin\nfoo --bar\n", "foo: command not found · cell line 2"),
    _bash(
        "ls",
        "ls /nowhere/at/all\n",
        "ls: cannot access '/nowhere/at/all': No such file or directory",
    ),
    _bash("false", "true\nfalse\n", "exit code 1, printed nothing"),
    _bash(
        "syntax",
        "echo a\nif true; then\n  echo b\nfoo )\n",
        "syntax error near unexpected token `)' · cell line 4",
    ),
    _bash("unbound", "set -u\necho $NOWHERE\n", "NOWHERE: unbound variable · cell line 2"),
    _bash("needed", "echo ${DATA:?name a folder}\n", "DATA: name a folder · cell line 1"),
    _bash("said", "echo working\necho 'oh no' >&2\nexit 3\n", "oh no"),
    _bash("stdout", "echo working\necho 12 of 60\nexit 7\n", "exit code 7, last line: 12 of 60"),
    _bash(
        "stdout_error", "echo 'ERROR: no such table: runs'\nexit 2\n", "ERROR: no such table: runs"
    ),
    _bash("folder", "cd /nowhere\n", "cd: /nowhere: No such file or directory · cell line 1"),
    _bash(
        "python",
        "echo working\npython3.13 -c '1/0'\n",
        "ZeroDivisionError: division by zero",
    ),
    _bash(
        "make",
        "cd $(mktemp -d)\nprintf 'all:\\n\\tfalse\\n' > Makefile\nmake\n",
        "make: *** [Makefile:2: all] Error 1",
    ),
    _bash(
        "gcc",
        "cd $(mktemp -d)\nprintf 'int main() { return x; }\\n' > a.c\n"
        "printf 'a: a.c\\n\\tgcc -o a a.c\\n' > Makefile\nmake\n",
        "a.c:1:21: error: ‘x’ undeclared (first use in this function)",
    ),
    _bash(
        "go",
        "cd $(mktemp -d)\n"
        "printf 'package main\\nfunc main() { panic(\"no disk\") }\\n' > a.go\ngo run a.go\n",
        "panic: no disk",
    ),
    _bash(
        "rust",
        "cd $(mktemp -d)\nprintf 'fn main() { panic!(\"no disk\"); }\\n' > a.rs\n"
        "rustc a.rs\n./a\n",
        "panicked at a.rs:1:13: no disk",
    ),
    _bash(
        "java",
        "cd $(mktemp -d)\nprintf 'class A { public static void main(String[] a) { "
        'throw new IllegalStateException("no disk"); } }\\n\' > A.java\njava A.java\n',
        "java.lang.IllegalStateException: no disk",
    ),
    _bash(
        "progress",
        "printf ' 50%%\\r100%%\\n' >&2\necho 'cannot write: disk full' >&2\n"
        "printf ' 10%%\\r 99%%\\n' >&2\nexit 4\n",
        "cannot write: disk full",
    ),
    Cell(
        "sh_missing", "dash -e", "sh", "echo begin\nfoo --bar\n", "foo: not found · cell line 2"
    ),
    Cell(
        "sh_syntax",
        "dash -e",
        "sh",
        "echo a\nfoo )\n",
        'Syntax error: ")" unexpected · cell line 2',
    ),
    Cell(
        "sh_unset", "dash -eu", "sh", "echo a\necho $NOWHERE\n",
        "NOWHERE: parameter not set · cell line 2",
    ),
    Cell("busybox_missing", "busybox sh -e", "sh", "foo\n", "foo: not found · cell line 1"),
    Cell(
        "busybox_cat",
        "busybox sh -e",
        "sh",
        "busybox cat /nowhere\n",
        "cat: can't open '/nowhere': No such file or directory",
    ),
]  # fmt: skip

OTHERS = [
    Cell(
        "r_stop",
        "Rscript",
        "R",
        'f <- function(x) {\n  stop("no such column: ", x)\n}\nf("a")\n',
        'Error in f("a") : no such column: a',
    ),
    Cell(
        "r_long",
        "Rscript",
        "R",
        "read_the_table <- function(path, columns) {\n"
        '  stop("the table has no column of that name, and none that is like it")\n}\n'
        'read_the_table("a.csv", "b")\n',
        'Error in read_the_table("a.csv", "b") : the table has no column of that name, and none '
        "that is like it",
    ),
    Cell(
        "r_library",
        "Rscript",
        "R",
        "library(nowhere)\n",
        "Error in library(nowhere) : there is no package called ‘nowhere’",
    ),
    Cell(
        "r_object",
        "Rscript",
        "R",
        "x <- 1\nprint(y)\n",
        "Error in print(y) : object 'y' not found",
    ),
    Cell(
        "r_syntax",
        "Rscript",
        "R",
        "x <- 1\ny <- <- 2\n",
        'Error: unexpected assignment in "y <- <-"',
    ),
    Cell(
        "r_warned",
        "Rscript",
        "R",
        'f <- function() {\n  warning("a little odd")\n  stop("and now this")\n}\nf()\n',
        "Error in f() : and now this",
    ),
    Cell(
        "r_called",
        "Rscript",
        "R",
        'g <- function() stop("deep down", call. = FALSE)\nf <- function() g()\nf()\n',
        "Error: deep down",
    ),
    Cell(
        "node_type",
        "node",
        "js",
        "function f(x) {\n  return x.y.z\n}\nf({})\n",
        "TypeError: Cannot read properties of undefined (reading 'z') · cell line 2",
    ),
    Cell("node_text", "node", "js", "const a = 1\nthrow 'no disk'\n", "no disk · cell line 2"),
    Cell(
        "node_syntax",
        "node",
        "js",
        "let x = 1\nlet y = = 3\n",
        "SyntaxError: Unexpected token '=' · cell line 2",
    ),
    Cell(
        "node_module", "node", "js", "\nrequire('nowhere')\n",
        "Error: Cannot find module 'nowhere' · cell line 2",
    ),
    Cell(
        "node_promise",
        "node",
        "js",
        "async function f() {\n  throw new RangeError('too far')\n}\nf()\n",
        "RangeError: too far · cell line 2",
    ),
    Cell(
        "node_rejected",
        "node",
        "js",
        "Promise.reject('no disk')\n",
        "UnhandledPromiseRejection: This error originated either by throwing inside of an async "
        "function without a catch block, …",
    ),
    Cell(
        "node_assert",
        "node",
        "js",
        "const assert = require('assert')\nassert.strictEqual(1, 2)\n",
        "AssertionError [ERR_ASSERTION]: Expected values to be strictly equal: · cell line 2",
    ),
    Cell(
        "node_cause",
        "node",
        "js",
        "try {\n  null.x\n} catch (error) {\n  throw new Error('bad config', {cause: error})\n}\n",
        "Error: bad config · cell line 4",
    ),
    Cell(
        "node_exit",
        "node",
        "js",
        "console.error('no such file: a.json')\nprocess.exit(4)\n",
        "no such file: a.json",
    ),
    Cell("perl_die", "perl", "pl", "my $x = 1;\n\ndie 'no disk';\n", "no disk · cell line 3"),
    Cell("perl_text", "perl", "pl", 'die "no disk\\n";\n', "no disk"),
    Cell(
        "perl_module",
        "perl",
        "pl",
        "use strict;\nuse Nowhere::At::All;\n",
        "Can't locate Nowhere/At/All.pm in @INC (you may need to install the Nowhere::At::All "
        "module) · cell line 2",
    ),
    Cell(
        "perl_syntax",
        "perl",
        "pl",
        "my $x = 1;\nmy $y = = 3;\n",
        'syntax error, near "= =" · cell line 2',
    ),
    Cell(
        "perl_confess",
        "perl",
        "pl",
        "use Carp;\nsub f { confess 'bad row' }\nf(1);\n",
        "bad row · cell line 2",
    ),
    Cell(
        "perl_zero", "perl", "pl", "my $x = 0;\nprint 1 / $x;\n",
        "Illegal division by zero · cell line 2",
    ),
    Cell(
        "ruby_method",
        "ruby",
        "rb",
        "def f(x)\n  x.foo\nend\nf(nil)\n",
        "undefined method `foo' for nil:NilClass (NoMethodError) · cell line 2",
    ),
    Cell("ruby_raise", "ruby", "rb", "\nraise 'no disk'\n", "no disk (RuntimeError) · cell line 2"),
    Cell(
        "ruby_cause",
        "ruby",
        "rb",
        "begin\n  Integer('x')\nrescue ArgumentError\n  raise KeyError, 'bad config'\nend\n",
        "bad config (KeyError) · cell line 4",
    ),
    Cell(
        "ruby_syntax",
        "ruby",
        "rb",
        "x = 1\ny = = 3\n",
        "syntax error, unexpected '=' · cell line 2",
    ),
    Cell(
        "ruby_require",
        "ruby",
        "rb",
        "require 'nowhere'\n",
        "cannot load such file -- nowhere (LoadError) · cell line 1",
    ),
    Cell(
        "php_exception",
        "php",
        "sh",
        "<?php\nfunction f() { throw new Exception('no disk'); }\nf();\n",
        "PHP Fatal error: Uncaught Exception: no disk · cell line 2",
    ),
    Cell(
        "lua_nil",
        "lua5.4",
        "sh",
        "local x = nil\nprint(x.y)\n",
        "attempt to index a nil value (local 'x') · cell line 2",
    ),
    Cell(
        "julia_divide",
        "julia",
        "jl",
        "f(x) = div(1, x)\n\nf(0)\n",
        "DivideError: integer division error · cell line 1",
    ),
    Cell(
        "julia_error", "julia", "jl", 'x = 1\nerror("no disk")\n', "no disk · cell line 2"
    ),
    Cell(
        "julia_undefined",
        "julia",
        "jl",
        "x = 1\nprintln(y)\n",
        "UndefVarError: `y` not defined in `Main` · cell line 2",
    ),
    Cell(
        "julia_syntax",
        "julia",
        "jl",
        "x = 1\ny = = 3\n",
        "ParseError: unexpected `=` · cell line 2",
    ),
    Cell(
        "julia_package",
        "julia",
        "jl",
        "using Nowhere\n",
        "ArgumentError: Package Nowhere not found in current path. · cell line 1",
    ),
]  # fmt: skip

CELLS = {cell.name: cell for cell in (*PYTHON, *SHELLS, *OTHERS)}


def record(cell: Cell) -> dict[str, object] | None:
    """What a cell prints, None where its program isn't here."""
    words = [sys.executable if word == "HERE" else word for word in cell.words.split()]
    program = shutil.which(words[0])
    if program is None:
        return None
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    path = os.path.join(FOLDER, cell.script_name)
    Path(path).write_text(cell.script)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYENV_VERSION")
            if name in os.environ}  # fmt: skip
    env = {**kept, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "IPYTHONDIR": f"{FOLDER}/ipython"}
    env.update(pair.split("=", 1) for pair in cell.env.split())
    done = subprocess.run(
        [program, *words[1:], path], env=env, cwd="/tmp/home", stdin=subprocess.DEVNULL,
        capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    return {
        "by": _version(words),
        "script": cell.script.split("\n"),
        "exit_code": done.returncode,
        "stdout": _lines(done.stdout),
        "stderr": _lines(done.stderr),
    }


def _version(words: list[str]) -> str:
    flags = {"dash": "", "busybox": "", "perl": "-v", "go": "version", "lua5.4": "-v"}
    flag = flags.get(words[0], "--version")
    if not flag:
        package = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", words[0]], capture_output=True, check=False
        )
        return f"{words[0]} {package.stdout.decode()}"
    at = 3 if "-m" in words else 1  # a module of Python's says its own
    done = subprocess.run([*words[:at], flag], capture_output=True, check=False, timeout=60)
    said = (done.stdout or done.stderr).decode().strip().split("\n")[0]
    return f"IPython {said}" if "IPython" in words else said


def _lines(output: bytes) -> list[str]:
    """The lines of an output, without what only this machine has."""
    text = output.decode("utf-8", "replace")
    text = re.sub(r"[^\s\"'(]*/(?:lib|\.venv/bin)/(python3|node_modules)", r"/usr/lib/\1", text)
    text = re.sub(r"/tmp/tmp\.\w+", "/tmp/tmp.folder", text)
    text = re.sub(r"(?m)^(\s*)/[^\s:]*/go/src/", r"\1/usr/lib/go/src/", text)
    return text.split("\n")


def main() -> int:
    """Records what can be recorded; the exit code."""
    save = "--save" in sys.argv
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    for cell in CELLS.values():
        if wanted and cell.name not in wanted:
            continue
        made = record(cell)
        print(f"{cell.name}: {'its program is missing' if made is None else made['by']}")
        if made is not None and save:
            OUTPUTS.mkdir(exist_ok=True)
            text = json.dumps(made, indent=1, ensure_ascii=False)
            (OUTPUTS / f"{cell.name}.json").write_text(text + "\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
