"""The old name of `local.server`, for a kernel whose package was upgraded under it."""

from qwex_jupyter.runners.local.server import serve as serve
