"""The JSON schema of a run's record, made of the dataclass and of its docstring.

``python tests/rigs/record_schema.py`` prints it; with ``--save`` it is put into the package.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
from environment import ROOT

from qwex_jupyter.model import record
from qwex_jupyter.model.record import RunRecord
from qwex_jupyter.model.status import Reason, RunStatus

SAVED = ROOT / "qwex_jupyter" / "model" / "record.schema.json"

_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    float: {"type": "number"},
    int: {"type": "integer"},
    float | None: {"type": ["number", "null"]},
    int | None: {"type": ["integer", "null"]},
    RunStatus: {"enum": [str(status) for status in RunStatus]},
    Mapping[str, str]: {"type": "object", "additionalProperties": {"type": "string"}},
    Mapping[str, int]: {"type": "object", "additionalProperties": {"type": "integer"}},
}
# What the values of a field can be, where its type alone doesn't say it.
_NARROWER: dict[str, dict[str, Any]] = {
    "run_id": {"pattern": f"^{record._RUN_ID.pattern}$"},
    "reason": {"enum": [str(reason) for reason in Reason]},
}
# What `qwex --json` says beside the record.
_SHOWN = {
    "handle": {"type": "string", "description": "The short name: the last part of the run id."},
    "duration": {
        "type": ["number", "null"],
        "description": "Seconds it ran, or has run until now; null when it did not start.",
    },
}


def _if_status(statuses: list[RunStatus], **then: Any) -> dict[str, Any]:
    chosen = {"properties": {"status": {"enum": [str(status) for status in statuses]}}}
    return {"if": chosen, "then": {"properties": then}}


def made() -> dict[str, Any]:
    """The schema."""
    text = inspect.getdoc(RunRecord) or ""
    said = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    meaning = {name: re.sub(r"``?", "", " ".join(words.split())) for name, words in said}
    hints = get_type_hints(RunRecord)
    properties = {
        field.name: {
            **_TYPES[hints[field.name]],
            **_NARROWER.get(field.name, {}),
            "description": meaning[field.name],
        }
        for field in dataclasses.fields(RunRecord)
    }
    live = [status for status in RunStatus if not status.final]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:qwex-jupyter:record:1",
        "title": "A run, as `qwex --json` prints it",
        "description": "Times are seconds since the epoch, sizes bytes.",
        "type": "object",
        "properties": {**properties, **_SHOWN},
        "required": list(properties),
        "additionalProperties": False,
        "allOf": [
            _if_status([RunStatus.SUCCEEDED], exit_code={"const": 0}),
            _if_status(live, exit_code={"type": "null"}, finished_at={"type": "null"}),
        ],
    }


def text() -> str:
    """The schema as it stands in the package."""
    return json.dumps(made(), indent=2) + "\n"


@cache
def _validator() -> Any:
    schema = json.loads(SAVED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def mistakes(value: Any) -> list[str]:
    """What is wrong with a record, by the schema that is in the package.

    A run.json holds one, and the nonce of whoever linked it.
    """
    value = {name: item for name, item in value.items() if name != "nonce"}
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(value)]


def main() -> int:
    """Prints the schema; ``--save`` puts it into the package."""
    print(text(), end="")
    if "--save" in sys.argv:
        Path(SAVED).write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
