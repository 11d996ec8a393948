"""The options that runners of containers share: the same words mean the same on each."""

from __future__ import annotations

from qwex_jupyter.model.declaration import Option

PULL = Option(
    "get the image: missing, always or never", "WHEN", choices=("missing", "always", "never")
)
CONTEXT = Option(
    "which of the configured backends",
    "NAME",
    more="a context of the docker client, so another engine; or of the kubeconfig, another cluster",
)
ENTRYPOINT = Option("in place of the image's own; '' for none", "PROGRAM")
READ_ONLY = Option(
    "the image's files can't change", more="script, copies and home are there all the same"
)
