"""Patience: how long this process waits for what, and how often it asks again.

One value for everything that waits. It is handed down by constructors, so each manager and each
runner has its own, and two of them in one process may differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Times in seconds, except `own_look`; the comments say what each is, and why it is so long."""

    # -- who looks after runs: the tracker and its loop ------------------------------------------

    # When to look again at a run that nothing new is expected of: a question that nobody waits for.
    seen_again: float = 60.0
    # How often output that a backend doesn't keep is fetched while nobody looks. Few programs
    # print in that time more than the 10 MiB that a kubelet keeps.
    gather_every: float = 60.0
    # A waiter polls by itself after this many regular polls should have come. It is a number of
    # polls because each runner has its own pace, and one late poll means nothing.
    own_look: float = 3.0
    # How long the loop's thread stays when nothing is open. Whoever submits again before long
    # finds it and its watches there; later it begins anew.
    idle: float = 20.0
    # How long a manager that is closed waits for output on its way: most arrives sooner,
    # and a kernel that ends should not be kept.
    settle: float = 1.0

    # -- calls to a server -----------------------------------------------------------------------

    # For a connection, and for an answer that costs the server little.
    answer: float = 10.0
    # For the answer to the POST of a Job or what belongs to it, which passes webhooks: each of
    # those may take 30 s.
    post: float = 40.0
    # A launch is good for 60 s (`manager.closing`), so no attempt to make a Job, or what belongs
    # to it, begins after so long.
    try_for: float = 40.0
    # How long to try where nobody accepts the connection. Nothing was made then, so a person
    # should be told soon.
    connects_for: float = 10.0

    # -- answers that go on ----------------------------------------------------------------------

    # How often streams that nobody reads are ended.
    guard_every: float = 0.5
    # How often the server is asked beside them whether it lives, and how long the answer may take.
    beat: float = 3.0
    # After this long without an answer the server is taken for dead. With the two above it makes
    # less than 15: within that a run's record says that its backend doesn't answer.
    dead: float = 9.0

    # A stream of output that was silent for this long is opened again: its connection may be dead,
    # and nothing tells. Most silent programs just print nothing, so it isn't done often.
    log_silence: float = 60.0
    # Between the end of such a stream and asking again what that means: at first hardly any, for
    # the program has most likely ended, and at most so much while it goes on.
    log_pause: float = 0.002
    longest_log_pause: float = 1.0
    # How long the rest of an ended program's log may let wait for its next piece: an engine reads
    # it from its own disk, a pod's comes from the node through the API server.
    rest_of_container: float = 20.0
    rest_of_pod: float = 30.0
    # A kubelet that says it can't read the log of an ended program is asked again for this long:
    # its runtime may be restarting, and the log lies on the node.
    unreadable: float = 20.0
    # How long the other stream of a pod may take to end when one has: they end with one program.
    together: float = 1.0

    # A watch that didn't end is taken for dead after this: one that hangs looks like one that has
    # nothing to tell. The server was told to end each after 40 (`k8s.watch`).
    watch_silence: float = 45.0
    # Between the end of a watch and the next list: soon, should it have been an accident, and
    # ever less often while the server only says no.
    watch_pause: float = 0.2
    longest_watch_pause: float = 10.0
