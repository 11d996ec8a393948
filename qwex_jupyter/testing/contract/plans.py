"""Plans, and what is refused before anything exists."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.errors import UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.runners import honoured_by
from qwex_jupyter.testing.contract.base import Contract
from qwex_jupyter.testing.contract.programs import WEIRD


class Plans(Contract):
    """A plan is data, and what a runner can not honour is refused before anything exists."""

    def test_a_plan_is_pure(self, manager: RunManager, home: str) -> None:
        """The same spec and id give the same JSON-serialisable plan, and nothing changes."""
        spec = replace(self.programs.prints_args(*WEIRD), env={"A": "1", "B": None}, name="me")
        run_id = new_run_id(time.time())
        before = sorted(str(path) for path in Path(home).rglob("*"))
        first = manager.runner(self.runner).plan(spec, run_id)
        second = self.make_manager(home).runner(self.runner).plan(spec, run_id)
        assert first == second == json.loads(json.dumps(first))
        assert sorted(str(path) for path in Path(home).rglob("*")) == before
        assert manager.runner(self.runner).show(first)

    def test_what_it_can_not_honour_is_refused(self, manager: RunManager) -> None:
        """An option that this runner can't honour is refused, naming those that can."""
        runner = manager.runner(self.runner)
        plain = self.programs.exits(0)
        used: dict[str, dict[str, Any]] = {
            "image": {"image": "busybox"},
            "cpus": {"resources": replace(plain.resources, cpus=1)},
            "memory": {"resources": replace(plain.resources, memory=1 << 28)},
            "gpus": {"resources": replace(plain.resources, gpus="1")},
            "shm-size": {"resources": replace(plain.resources, shm_size=1 << 28)},
            "user": {"user": "1000"},
            "volume": {"volumes": ("/a:/b",)},
            "files": {"files": ("a",)},
            "here": {"here": True},
            "keep": {"keep": True},
            "network": {"options": {"network": "host"}},
            "namespace": {"options": {"namespace": "mine"}},
        }
        for option, values in used.items():
            spec = replace(plain, **values)
            if runner.declaration.honours(option):
                runner.refuse_unsupported(spec)
                continue
            with pytest.raises(UnsupportedOption) as caught:
                runner.plan(spec, new_run_id(time.time()))
            assert f"--{option}" in str(caught.value)
            assert self.runner not in caught.value.can
            for name in caught.value.can:
                assert name in honoured_by(option)
                assert f"--runner={name}" in str(caught.value)
            with pytest.raises(UnsupportedOption):
                self.submit(manager, spec)
        assert manager.history.run_ids() == []
