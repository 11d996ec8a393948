"""The old name of `docker.puller`, for a kernel whose package was upgraded under it."""

from qwex_jupyter.runners.docker.puller import main as main
