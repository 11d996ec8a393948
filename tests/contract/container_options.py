"""What options mean wherever a run is a container: the same on each engine and on a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from somewhere import Somewhere

from qwex_jupyter.errors import SpecError
from qwex_jupyter.model.spec import JobSpec
from qwex_jupyter.model.status import Reason, RunStatus, Snapshot


class ContainerOptions:
    """A subclass stands where a fixture `there` gives the backend.

    Attributes:
        instead: What the refusal of a relative folder to work in offers, as a pattern.
    """

    instead: ClassVar[str]

    # -- what is executed --------------------------------------------------------------------------

    def test_an_image_without_a_shell_runs_its_programs(self, there: Somewhere) -> None:
        """A program as command needs nothing of the image but itself."""
        assert there.says("echo 'two  blanks' ''", of="bare") == "two  blanks \n"

    def test_an_image_without_a_shell_takes_a_script(self, there: Somewhere) -> None:
        """A script goes to any program of the image."""
        assert there.says("cat", "the text\n", of="bare") == "the text\n"

    def test_an_image_without_a_shell_says_that_it_has_none(self, there: Somewhere) -> None:
        """A cell without an interpreter needs a shell in the image, and says so."""
        run = there.end("", "echo never", of="bare")
        assert (run.status, run.record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
        assert run.exit_code is None
        assert "'sh' can't be run in qwex-test/bare:1: it isn't in the image" in run.record.message

    def test_an_entrypoint_stays(self, there: Somewhere) -> None:
        """The image's ENTRYPOINT gets the command as its arguments, as with docker run."""
        assert there.says("sh", 'echo "$MARK $1"', of="entry") == "entry \n"
        assert there.says("sh -c 'echo $MARK'", of="entry") == "entry\n"

    def test_another_entrypoint_takes_its_place(self, there: Somewhere) -> None:
        """``--entrypoint PROGRAM`` is one word and gets the command."""
        line = "--entrypoint /bin/echo MARK"
        assert there.says(line, of="entry") == "MARK\n"
        assert there.says("--entrypoint /bin/env A=1 sh", 'echo "$MARK|$A"', of="entry") == "|1\n"
        run = there.end("--entrypoint '/bin/env A=1' sh -c :", of="entry")
        assert (run.status, run.record.reason) == (RunStatus.FAILED, Reason.COMMAND_NOT_FOUND)
        assert "'/bin/env A=1' can't be run in qwex-test/entry:1" in run.record.message

    @pytest.mark.parametrize("line", ["--entrypoint ''", "--entrypoint="])
    def test_no_entrypoint_takes_it_away(self, there: Somewhere, line: str) -> None:
        """``--entrypoint ''`` leaves the command alone, also one of a single word."""
        assert there.says(f"{line} sh", 'echo "[$MARK]"', of="entry") == "[]\n"
        assert "MARK" not in there.says(f"{line} env", of="entry")
        spec = there.spec(f"{line} env", of="entry")
        assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert spec.options == {"entrypoint": ""}

    def test_a_failing_line_fails_a_cell(self, there: Somewhere) -> None:
        """Without an interpreter the cell is sh -e where the image has no bash."""
        run = there.end("", "echo one\nfalse\necho two")
        assert (run.status, run.exit_code) == (RunStatus.FAILED, 1)
        assert run.logs("stdout") == "one\n"

    @pytest.mark.parametrize(
        ("line", "first"),
        [
            ("", "true"),
            ("--read-only -u 1234", "true"),
            ("bash -eu -o pipefail - 'a b'", '[ "$#$1" = "1a b" ]'),
            ("-e BASH_ENV=/none bash -e", '[ "$BASH_ENV" = /none ]'),
            ("--entrypoint ''", "#!/bin/bash -e"),
        ],
    )
    def test_a_failing_bash_script_tells_line_and_command(
        self, there: Somewhere, line: str, first: str
    ) -> None:
        """The first command that ended it, and the script sees nothing of how that is known."""
        script = f"{first}\nenv | grep -e QWEX_BASH -e bash_env || f() {{\n  (exit 5)\n}}\nf\n"
        run = there.end(f"--keep {line}", script, of="bash")
        answer = there.manager.runner(there.runner).poll([run.run_id])[run.run_id]
        assert isinstance(answer, Snapshot)
        assert (answer.evidence.get("failed"), run.exit_code, run.logs()) == (
            {"line": 3, "command": "( exit 5 )"},
            5,
            "",
        )
        assert run.record.cause.endswith(" · cell line 3")
        assert "qwex.failed" not in answer.backend_message
        run.delete()

    def test_a_bash_script_that_ends_well_or_by_itself_names_no_command(
        self, there: Somewhere
    ) -> None:
        """Nor does one whose image has no bash."""
        script = "false || true\nexit 5"
        for of in ("bash", "busybox"):
            run = there.end("--keep", script, of=of)
            answer = there.manager.runner(there.runner).poll([run.run_id])[run.run_id]
            assert isinstance(answer, Snapshot)
            assert (run.exit_code, "failed" in answer.evidence) == (5, False)
            run.delete()

    def test_a_first_line_names_the_interpreter(self, there: Somewhere) -> None:
        """A ``#!`` line wins over the default, with one argument, and is read here."""
        run = there.end("", "#!/bin/sh -e\nfalse\necho never")
        assert (run.exit_code, run.logs("stdout")) == (1, "")
        assert there.says("", "#!/bin/cat\nx\n") == "#!/bin/cat\nx\n"
        assert there.says("cat", "#!/bin/sh\nx\n") == "#!/bin/sh\nx\n"

    def test_a_script_has_arguments(self, there: Somewhere) -> None:
        """The script's path stands where a lone dash stands."""
        assert there.says("sh - 'a b' ''", 'echo "$0 $# $1"') == "/qwex/cell.sh 2 a b\n"

    def test_stdin_is_empty(self, there: Somewhere) -> None:
        """A program that reads gets the end of the input at once."""
        assert there.says("sh", "cat; read x || echo end") == "end\n"

    # -- folders, users, what may be written -------------------------------------------------------

    def test_a_folder_to_work_in(self, there: Somewhere) -> None:
        """``-w`` is a whole path inside; one that isn't there is made."""
        assert there.says("-w /srv pwd") == "/srv\n"
        assert there.says("-w /not/there pwd") == "/not/there\n"
        before = there.manager.history.run_ids()
        with pytest.raises(SpecError, match=rf"-w sub: .*{self.instead}"):
            there.submit("-w sub pwd")
        assert there.manager.history.run_ids() == before

    def test_a_user_by_number(self, there: Somewhere) -> None:
        """``-u`` is a number, or two; without it the image's USER and WORKDIR hold."""
        assert there.says("-u 1234 sh", "id -u; cat $0 > /dev/null && echo read") == "1234\nread\n"
        assert there.says("-u 1234:4321 sh -c 'id -u; id -g'") == "1234\n4321\n"
        assert there.says("sh", "id -u; pwd; cat $0", of="worker").startswith("1234\n/srv\n")

    def test_a_root_that_is_read_only(self, there: Somewhere, here: Path) -> None:
        """With ``--read-only`` script and copies are there, only the working folder is written."""
        (here / "data").write_text("carried\n")
        cell = "cat data; echo x > new && cat new; touch /x 2>/dev/null || echo refused"
        for user in ("", "-u 1234 "):
            said = there.says(f"{user}--read-only --files data -- sh", cell)
            assert said == "carried\nx\nrefused\n"
        assert there.says("--read-only sh", "touch /x 2>/dev/null || echo refused") == "refused\n"
