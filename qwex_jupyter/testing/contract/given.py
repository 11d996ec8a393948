"""What is handed over arrives: arguments, variables, scripts, secrets, files."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qwex_jupyter.errors import SpecError, UnsupportedOption
from qwex_jupyter.manager.manager import RunManager
from qwex_jupyter.model.run_ids import new_run_id
from qwex_jupyter.model.status import RunStatus
from qwex_jupyter.testing.contract.base import Contract, contents
from qwex_jupyter.testing.contract.programs import WEIRD


class Given(Contract):
    """Arguments, variables, scripts, secrets and files arrive as they were given."""

    def test_arguments_arrive_unchanged(self, manager: RunManager) -> None:
        """No shell, template or codec between here and the program changes an argument."""
        run = self.submit(manager, self.programs.prints_args(*WEIRD))
        self.end(run)
        assert run.log.read("stdout").decode().split("\0") == [*WEIRD, ""]

    def test_arguments_of_a_script_arrive_unchanged(self, manager: RunManager) -> None:
        """The words behind a lone dash are the script's arguments, as they were given."""
        run = self.submit(manager, self.programs.script_prints_args(*WEIRD))
        self.end(run)
        assert run.log.read("stdout").decode().split("\0") == [*WEIRD, ""]

    @pytest.mark.parametrize("value", WEIRD)
    def test_variables_arrive_unchanged(self, manager: RunManager, value: str) -> None:
        """The value of a variable is what was given."""
        spec = replace(self.programs.prints_env("MY_VALUE"), env={"MY_VALUE": value})
        run = self.submit(manager, spec)
        self.end(run)
        assert run.log.read("stdout") == value.encode() + b"\n"

    def test_a_script_arrives_unchanged(self, manager: RunManager) -> None:
        """The text of a script is what was written in the cell."""
        spec = self.programs.prints_itself("\n".join(WEIRD).replace("\r", " "))
        assert spec.script is not None
        run = self.submit(manager, spec)
        self.end(run)
        assert run.log.read("stdout") == spec.script.encode()

    def test_inherited_variables_and_secrets_arrive(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A variable named without a value, and a secret, have the value of this process."""
        monkeypatch.setenv("MY_TOKEN", "s3cr3t-{value}")
        inherited = replace(self.programs.prints_env("MY_TOKEN"), env={"MY_TOKEN": None})
        secret = replace(self.programs.prints_env("MY_TOKEN"), secrets=("MY_TOKEN",))
        for spec in (inherited, secret):
            run = self.submit(manager, spec)
            self.end(run)
            assert run.log.read("stdout") == b"s3cr3t-{value}\n"

    def test_values_of_secrets_stand_nowhere(
        self, manager: RunManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret's value is in no plan, no file of the run and nothing that is shown."""
        monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
        spec = replace(self.programs.exits(0), secrets=("MY_TOKEN",))
        runner = manager.runner(self.runner)
        plan = runner.plan(spec, new_run_id(time.time()))
        assert "s3cr3t-value" not in json.dumps(plan)
        assert "s3cr3t-value" not in runner.show(plan)
        run = self.submit(manager, spec)
        self.end(run)
        for path, text in contents(manager.history.home):
            assert b"s3cr3t-value" not in text, path

    def test_a_secret_that_is_not_set_is_refused(self, manager: RunManager) -> None:
        """A secret that isn't there is named before anything is started."""
        spec = replace(self.programs.exits(0), secrets=("MY_MISSING_TOKEN",))
        with pytest.raises(SpecError, match="MY_MISSING_TOKEN"):
            self.submit(manager, spec)
        assert manager.history.run_ids() == []

    def test_files_are_carried(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Carried files lie in the working folder under their own relative names."""
        if not manager.runner(self.runner).declaration.honours("files"):
            with pytest.raises(UnsupportedOption):
                self.submit(manager, replace(self.programs.exits(0), files=("x",)))
            return
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "ä b.txt").write_text("nested\n")
        (tmp_path / "one.txt").write_text("one\n")
        monkeypatch.chdir(tmp_path)
        for name, text in (("data/deep/ä b.txt", "nested\n"), ("one.txt", "one\n")):
            spec = replace(self.programs.prints_file(name), files=("data", "one.txt"))
            run = self.submit(manager, spec)
            # What becomes of the originals doesn't matter any more.
            assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
            assert run.logs("stdout") == text

    def test_a_rerun_has_the_files_of_its_run(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the run was given is given again, whatever became of the originals and of it."""
        if not manager.runner(self.runner).declaration.honours("files"):
            return  # see `test_files_are_carried`
        (tmp_path / "there" / "sub").mkdir(parents=True)
        (tmp_path / "there" / "sub" / "one.txt").write_text("one\n")
        monkeypatch.chdir(tmp_path / "there")
        spec = replace(self.programs.prints_file("sub/one.txt"), files=("sub/one.txt",))
        run = self.submit(manager, spec)
        assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
        shutil.rmtree(tmp_path / "there" / "sub")
        monkeypatch.chdir(tmp_path)
        second = self.submit(manager, manager.again(run.run_id)[1])
        assert self.end(second).status is RunStatus.SUCCEEDED, second.logs()
        manager.delete(run.run_id)
        third = self.submit(manager, manager.again(second.run_id)[1])
        assert self.end(third).status is RunStatus.SUCCEEDED, third.logs()
        assert second.logs("stdout") == third.logs("stdout") == "one\n"

    def test_links_are_carried_as_what_they_lead_to(
        self, manager: RunManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A link in a carried folder is what it leads to, also where that lies elsewhere."""
        if not manager.runner(self.runner).declaration.honours("files"):
            return  # see `test_files_are_carried`
        (tmp_path / "there" / "sub").mkdir(parents=True)
        (tmp_path / "far").mkdir()
        (tmp_path / "far" / "x").write_text("far\n")
        (tmp_path / "there" / "sub" / "folder").symlink_to("../../far")
        (tmp_path / "there" / "sub" / "file").symlink_to("folder/x")
        monkeypatch.chdir(tmp_path / "there")
        for name in ("sub/folder/x", "sub/file"):
            run = self.submit(manager, replace(self.programs.prints_file(name), files=("sub",)))
            assert self.end(run).status is RunStatus.SUCCEEDED, run.logs()
            assert run.logs("stdout") == "far\n"
