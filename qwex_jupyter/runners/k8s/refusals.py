"""What it means that an API server answers no: whether it holds, its cause, and the next step."""

from __future__ import annotations

import re

from qwex_jupyter.model.text import one_line

# What a proxy or an overloaded server says before anything was done, and what says nothing.
AWAY, PERHAPS = {429, 503}, {500, 502, 504}


class Refused(Exception):
    """The API server answered no.

    Args:
        status: The HTTP status.
        reason: Kubernetes' own word for it, like ``AlreadyExists``; "" where a proxy answered.
        text: Its message.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        self.status, self.reason, self.text = status, reason, text
        super().__init__(f"{status} {reason}: {text}" if reason else f"{status}: {text}")


def impersonates(error: Refused) -> bool:
    """Whether a no is about whom the settings act as, see ``as`` of a kubeconfig's user."""
    return error.status == 403 and "cannot impersonate" in error.text


def passes(error: Refused) -> bool:
    """Whether a create that was refused may be taken another time, or was taken before.

    A conflict is one of the API server with itself, about a quota that it counts. A webhook that
    isn't there is asked before anything is stored, and it is as good as a no.
    """
    return error.status in {409} | AWAY | PERHAPS and not _webhook(error)


def _webhook(error: Refused) -> str:
    """The admission webhook that didn't answer the API server; "" for none."""
    found = re.search(r'failed calling webhook "([^"]+)"', error.text)
    return found[1] if found else ""


def not_created(error: Refused, what: str, space: str) -> str:
    """Why an object could not be made, as cause and next step.

    Args:
        error: The API server's no.
        what: The object's kind, like ``Job``.
        space: The namespace.
    """
    text, kind = one_line(error.text, 600), f"{what.lower()}s"
    if error.status == 403 and "is forbidden: User" in error.text:
        return (
            f"You may not create {kind} in the namespace {space}: %qwex doctor prints the Role "
            "that is missing, or the name is wrong. Nothing was started."
        )
    if error.status == 404 and "namespaces" in error.text:
        return (
            f"There is no namespace {space!r} in this cluster: name another one with --namespace. "
            "Nothing was started."
        )
    if name := _webhook(error):
        return (
            f"The cluster takes no {kind} now: its webhook {name} doesn't answer ({text}). "
            "Who runs the cluster can mend that. Nothing was started."
        )
    if "exceeded quota" in error.text:
        return f"The quota of the namespace {space} allows no more {kind}: {text}."
    if error.status == 403 or "denied the request" in error.text:
        return f"The cluster refuses the {what}: {text}. Nothing was started."
    return f"The cluster can't take the {what}: {text}. Nothing was started."
