"""What is shown of a run is what is handed over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.status import RunStatus, Snapshot
from qwex_jupyter.testing.contract.base import Contract


class HandingOver(Contract):
    """What is true of every runner between the plan and the start."""

    def test_a_run_is_planned_and_checked_once(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the spec to the start the runner is asked once for each, and plans with that id."""
        runner = manager.runner(self.runner)
        asked: list[Any] = []
        plan, check, submit = runner.plan, runner.check, runner.submit

        def noted(call: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
            def noting(*args: Any) -> Any:
                asked.append(note(*args))
                return call(*args)

            return noting

        monkeypatch.setattr(runner, "plan", noted(plan, lambda spec, run_id: (spec, run_id)))
        monkeypatch.setattr(runner, "check", noted(check, lambda: "check"))
        monkeypatch.setattr(runner, "submit", noted(submit, lambda plan, *_: plan))
        spec = self.programs.prints("once")
        prepared = manager.prepare(spec, self.runner)
        shown = manager.show(prepared)
        run = manager.hand_over(prepared)
        assert asked == ["check", (spec, run.run_id), prepared.plan]
        assert run.run_id == prepared.run_id
        assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
        assert shown == runner.show(prepared.plan)

    def test_a_plan_is_json_and_holds_no_secret(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is prepared is JSON, and the values of secrets stand beside it."""
        for name in ("MY_TOKEN", "MY_OWN"):
            monkeypatch.setenv(name, f"s3cr3t-{name}")
        spec = replace(self.programs.exits(0), secrets=("MY_TOKEN",), env={"MY_OWN": None})
        prepared = manager.prepare(spec, self.runner)
        text = json.dumps([prepared.plan, prepared.fact])
        assert json.loads(json.dumps(prepared.plan)) == prepared.plan
        assert "s3cr3t" not in text + manager.show(prepared) + repr(prepared)
        given: Mapping[str, str] = prepared.secrets
        assert {given[name] for name in ("MY_TOKEN", "MY_OWN")} == {
            "s3cr3t-MY_TOKEN",
            "s3cr3t-MY_OWN",
        }
        assert manager.history.run_ids() == []

    def test_nothing_is_read_of_this_process_after_it_is_prepared(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program has the variables and the files that were there when it was prepared."""
        for name in ("before", "after"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "one.txt").write_text(f"{name}\n")
        specs = [
            replace(self.programs.prints_env("MY_WORD"), env={"MY_WORD": None}),
            replace(self.programs.prints_env("MY_WORD"), secrets=("MY_WORD",)),
        ]
        if manager.runner(self.runner).declaration.honours("files"):
            specs.append(replace(self.programs.prints_file("one.txt"), files=("one.txt",)))
        monkeypatch.chdir(tmp_path / "before")
        monkeypatch.setenv("MY_WORD", "before")
        prepared = [manager.prepare(spec, self.runner) for spec in specs]
        monkeypatch.chdir(tmp_path / "after")
        monkeypatch.setenv("MY_WORD", "after")
        for made in prepared:
            run = manager.hand_over(made)
            assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
            assert run.logs("stdout") == "before\n"

    def test_what_was_handed_over_is_not_handed_over_again(self, manager: RunManager) -> None:
        """Nor is what was prepared only to be shown."""
        spec = self.programs.exits(0)
        shown = manager.prepare(spec, self.runner, only_show=True)
        assert manager.show(shown)
        assert manager.history.run_ids() == []
        prepared = manager.prepare(spec, self.runner)
        self.end(manager.hand_over(prepared))
        for made in (shown, prepared):
            with pytest.raises(ValueError, match="prepare it anew"):
                manager.hand_over(made)
        assert manager.history.run_ids() == [prepared.run_id]

    def test_an_observation_has_the_observers_time(self, manager: RunManager) -> None:
        """`observed_at` is by the clock of who asks, whatever the backend's says."""
        run = self.running(manager, self.programs.sleeps(300))
        before = time.time()
        found = manager.runner(self.runner).poll([run.run_id])[run.run_id]
        assert isinstance(found, Snapshot)
        assert before <= found.observed_at <= time.time()
        run.cancel(grace=0)
        self.end(run)

    def test_a_look_by_hand_is_one_line(self, manager: RunManager) -> None:
        """The backend's own command names the run; where there is none it is empty."""
        run = self.running(manager, self.programs.sleeps(300))
        runner, spec = manager.runner(self.runner), manager.history.spec_fact(run.run_id)["spec"]
        looks: tuple[Mapping[str, Any], ...] = (spec, {})
        for asked in looks:
            line = type(runner).by_hand(run.record, asked)
            assert not line or (f"qwex-{run.run_id}" in line and "\n" not in line)
        run.cancel(grace=0)
        self.end(run)
