"""Launches: whether who is to start a run still may, by what the files and the system say."""

from __future__ import annotations

import os
import time
from typing import Any

from qwex_jupyter import facts, process

# How long a launch that is written down may still act, and how long a submitter may be
# silent before its run is closed. Seconds.
GOOD_FOR = 60.0
QUIET = 600.0
# A submitter that is gone may have handed the request over with its last breath.
_LAST_BREATH = 5.0


def overdue(launch: facts.Fact) -> bool:
    """Whether who linked ``launch.json`` may not start the program any more."""
    return time.time() - float(launch["at"]) > GOOD_FOR


def silence(folder: str, spec_fact: dict[str, Any], *, writes_itself: bool) -> str:
    """Why nobody will start a run any more; "" while somebody may.

    Args:
        folder: The run's folder, without ``launch.json``.
        spec_fact: The content of its ``spec.json``.
        writes_itself: See `Runner`: another process than the submitter starts it, and at once.
    """
    holder, who = spec_fact.get("submitter"), "the kernel that submitted it"
    age = time.time() - spec_fact["created_at"]
    pulled = facts.exists(folder, facts.LAUNCHER)
    if pulled:
        holder = facts.glance(folder, facts.LAUNCHER)
        who = "the process that pulled its image"
    if not isinstance(holder, dict) or "pid" not in holder:
        holder = {"pid": 0}  # it can't be read who it is: by its silence alone
    standing = process.standing(holder)
    if age > _LAST_BREATH and standing == process.GONE:
        if process.rebooted(holder):
            return "this machine was restarted, and nothing is known of a start before that"
        return f"{who} was gone before it was started"
    mine = holder["pid"] == os.getpid() and standing == process.ALIVE
    if writes_itself and mine and age > GOOD_FOR:
        return "the process that was to start it was killed"
    if pulled:
        if standing == process.ALIVE:
            return ""  # an image may take hours
        age = time.time() - facts.changed_at(folder, facts.PULL)
    if age > QUIET:
        return f"nothing was heard of {who} on {spec_fact['host']} for 10 minutes"
    return ""
