"""Patience: how long this process waits for what, and how often it asks again.

One value for everything that waits. It is handed down by constructors, so each manager and each
runner has its own, and two of them in one process may differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Times in seconds, but for `own_look`; the comments say what each is, and why so much."""

    # -- who looks after runs: the tracker and its loop ------------------------------------------

    # When to look again at what nothing new is expected of. It costs a question, and nobody waits.
    seen_again: float = 60.0
    # How often output that a backend doesn't keep is brought while nobody looks. Few programs
    # print in that time more than the 10 MiB that a kubelet keeps.
    gather_every: float = 60.0
    # Who waits for an end relies on others' polls until so many should have come. A number of
    # polls, because each runner has its own pace: one that is late is nothing yet.
    own_look: float = 3.0
    # How long the loop's thread stays when nothing is open. Whoever submits again before long
    # finds it and its watches there; later it begins anew.
    idle: float = 20.0
    # How long a manager that is closed waits for output that is being brought: most comes in less,
    # and a kernel that ends had better not be kept.
    settle: float = 1.0

    # -- calls to a server -----------------------------------------------------------------------

    # For a connection, and for an answer that costs the server little.
    answer: float = 10.0
    # For the answer to the POST of a Job or what belongs to it, which passes webhooks: each of
    # those may take 30 s.
    post: float = 40.0
    # A launch is good for 60 s (`qwex_jupyter.launches`), so no try to make a Job, or what belongs
    # to it, begins after so long.
    try_for: float = 40.0
    # How long one goes on where nobody takes the connection. Nothing was made then, so a person
    # had better be told soon.
    connects_for: float = 10.0

    # -- answers that go on ----------------------------------------------------------------------

    # How often it is seen to that streams which nobody reads are ended.
    guard_every: float = 0.5
    # How often, beside them, the server is asked whether it lives, and how long that may take.
    beat: float = 3.0
    # After so long without an answer to that it doesn't live. With the two above it makes less
    # than 15: within that a run's record says that its backend doesn't answer.
    dead: float = 9.0

    # A stream of output that has been silent so long is opened again: a connection may be dead,
    # and nobody tells. Most that are silent only have nothing to say, so it isn't done often.
    log_silence: float = 60.0
    # Between the end of such a stream and asking again what that means: at first hardly any, for
    # the program has most likely ended, and at most so much while it goes on.
    log_pause: float = 0.002
    longest_log_pause: float = 1.0
    # How long the rest of an ended program's log may let wait for its next piece: an engine reads
    # it from its own disk, a pod's comes from the node through the API server.
    rest_of_container: float = 20.0
    rest_of_pod: float = 30.0
    # How long the other stream of a pod may take to end when one has: they end with one program.
    together: float = 1.0

    # After how long a watch that didn't end is dead: one that hangs looks like one that has
    # nothing to tell. The server was told to end each after 40 (`k8s_watch`).
    watch_silence: float = 45.0
    # Between the end of a watch and the next list: soon, should it have been an accident, and
    # ever less often while the server only says no.
    watch_pause: float = 0.2
    longest_watch_pause: float = 10.0
