"""The schemas that check-jsonschema brings along: what they say of a file."""

from __future__ import annotations

from pathlib import Path

from check_jsonschema import main
from click.testing import CliRunner


def complaints(schema: str, *paths: Path) -> str:
    """What a schema, like ``vendor.github-workflows``, has against files of YAML; "" for nothing.

    In this process: as a command it takes seconds to begin.
    """
    assert paths
    done = CliRunner().invoke(main, ["--builtin-schema", schema, *map(str, paths)])
    return done.output if done.exit_code else ""
