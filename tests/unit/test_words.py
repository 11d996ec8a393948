"""What the words of an engine mean, wherever else the same words may stand."""

from __future__ import annotations

import pytest

from qwex_jupyter.model.status import Reason
from qwex_jupyter.runners.docker import state

DIGEST = "sha256:" + "5403d429" * 8
CUT = f"reading blob {DIGEST}: Get http://127.0.0.1:40312/v2/a/blobs/{DIGEST}: unexpected EOF"


@pytest.mark.parametrize(
    ("text", "image", "reason", "said"),
    [
        (CUT, "127.0.0.1:40312/a:1", Reason.IMAGE_PULL_FAILED, "was cut each time"),
        (CUT.replace("a/", "unauthorized/"), "127.0.0.1:40312/unauthorized:1", None, "was cut"),
        ("pulling team/denied-403:1: connection refused", "team/denied-403:1", None, "answer"),
        ("received unexpected HTTP status: 403 Forbidden", "a:1", None, "no access"),
        ("denied: requested access: status code 403", "a:1", None, "no access"),
        ("toomanyrequests: 429", "a:1", None, "no more images"),
        ("received unexpected HTTP status: 429 Too Many Requests", "a:1", None, "no more images"),
        ("manifest for a:1 not found", "a:1", Reason.IMAGE_NOT_FOUND, "no image a:1"),
    ],
)
def test_why_a_pull_failed(text: str, image: str, reason: Reason | None, said: str) -> None:
    """The cause is read from the engine's words, not from a name, a digest or a port."""
    found, why = state.failed_pull(text, image)
    assert found is (reason or Reason.IMAGE_PULL_FAILED)
    assert said in why
