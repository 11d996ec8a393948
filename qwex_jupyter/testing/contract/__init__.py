"""The one suite that every runner passes. It needs the extra ``qwex-jupyter[testing]``.

A package that has a runner of its own joins it in a few lines, in a file of its tests::

    from qwex_jupyter.testing.contract import RunnerContract, ShellPrograms


    class TestMyRunner(RunnerContract):
        runner = "mine"
        programs = ShellPrograms(image="busybox:1.36")
        settings = {"mine": {"context": "test"}}  # arguments of MyRunner's constructor

`ShellPrograms` turns behaviours into specs for everything that has a POSIX ``sh``; another
language overrides its methods (`memory` does so). What a runner says that it can't promise
(`Runner.promises`) or honour (`Declaration.options`) is asserted the other way round: the honest
answer.

`base` has what a subclass may set and override. The other modules are the clauses, by theme:
`ends`, `stops`, `asking`, `output`, `given`, `plans`, `handing_over`, `others` and `once`.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError("The contract needs pytest: pip install 'qwex-jupyter[testing]'.") from error

# Before they are imported: with this, a clause that fails says what it has compared.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            *("base", "ends", "stops", "asking", "output", "given", "plans", "handing_over"),
            *("others", "once", "memory"),
        )
    )
)

from qwex_jupyter.testing.contract.asking import Asking  # noqa: E402
from qwex_jupyter.testing.contract.base import lives  # noqa: E402
from qwex_jupyter.testing.contract.ends import Ends  # noqa: E402
from qwex_jupyter.testing.contract.given import Given  # noqa: E402
from qwex_jupyter.testing.contract.handing_over import HandingOver  # noqa: E402
from qwex_jupyter.testing.contract.once import Once  # noqa: E402
from qwex_jupyter.testing.contract.others import Others  # noqa: E402
from qwex_jupyter.testing.contract.output import Output  # noqa: E402
from qwex_jupyter.testing.contract.plans import Plans  # noqa: E402
from qwex_jupyter.testing.contract.programs import WEIRD, ShellPrograms  # noqa: E402
from qwex_jupyter.testing.contract.stops import Stops  # noqa: E402

__all__ = ["WEIRD", "RunnerContract", "ShellPrograms", "lives"]


class RunnerContract(Ends, Stops, Asking, Output, Given, Plans, HandingOver, Others, Once):
    """What is true of every runner; a subclass sets what `base.Contract` says of it."""
