"""Finder: the Jobs and pods of runs, as watches told of them; asked for where none is heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.runners.container.conventions import HISTORY_LABEL, RUN_LABEL
from qwex_jupyter.runners.container.http_stream import Guard
from qwex_jupyter.runners.k8s import objects
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.refusals import Refused
from qwex_jupyter.runners.k8s.seen import Seen
from qwex_jupyter.runners.k8s.waiting import Event, wants_events
from qwex_jupyter.runners.k8s.watch import Mirror

# Up to this many runs are asked about one by one; above that, by one list of each kind.
_FEW = 3
# How often the events of what waits are read, and for how many at once. Seconds.
_EVENTS_EVERY, _EVENTS_OF = 3.0, 5


class Finder:
    """What a cluster has of the runs of one history.

    Args:
        cluster: The cluster.
        history: The id of the history.
        guard: Looks after the watches.
    """

    def __init__(self, cluster: Cluster, history: str, guard: Guard) -> None:
        self._cluster, self._history = cluster, history
        self._selector = f"{HISTORY_LABEL}={history}"
        self._mirrors = {
            kind: Mirror(cluster, kind, self._selector, self._run_of, kept, guard, tells)
            for kind, kept, tells in (
                ("jobs", objects.kept_job, None),
                ("pods", objects.kept_pod, objects.over),
            )
        }
        self._events: dict[str, tuple[float, list[Event]]] = {}
        # Pods of Jobs that were deleted from here go a moment later; they are of no run any more.
        self._deleted: set[str] = set()

    def _run_of(self, found: Mapping[str, Any]) -> str:
        return objects.run_of(found, self._history)

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """Does what `Runner.watch` says, with one list and watch for each kind of object."""
        jobs, pods = self._mirrors.values()
        other = threading.Thread(
            target=jobs.run, args=(notify, stop), name="qwex-k8s-jobs", daemon=True
        )
        other.start()
        pods.run(notify, stop)
        other.join()

    def seen(self, ids: list[str]) -> dict[str, Seen | None]:
        """What there is of these runs; None of what is surely not there."""
        jobs, pods = self._objects(ids)
        found: dict[str, Seen | None] = {}
        waiting: dict[str, str] = {}
        for run_id in ids:
            job = next(iter(jobs.get(run_id, ())), None)
            mine = [p for p in pods.get(run_id, ()) if not self._is_deleted(p)]
            if not mine and job is not None and objects.has_pod(job):
                mine = self.pods(run_id)  # it isn't told of yet, or has lost its label
            pod = objects.chosen(mine, job)
            if job is None and pod is None:
                # Asked now, and by name and by label: see `job`.
                job, mine = self.job(run_id), self.pods(run_id)
                pod = objects.chosen(mine, job)
                if job is None and pod is None:
                    found[run_id] = None
                    continue
            found[run_id] = Seen(job, pod, len(mine))
            begun = pod is not None and (objects.started(pod) or objects.over(pod))
            if not begun and (about := wants_events(job, pod)):
                waiting[run_id] = about
        for run_id, events in self._told(waiting).items():
            before = found[run_id]
            assert before is not None
            found[run_id] = Seen(before.job, before.pod, before.pods, events)
        return found

    def _objects(self, ids: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Jobs and pods by run: of the watches while they are heard, else asked for now."""
        # A watch that hangs looks like one that has nothing to tell; and that nobody is there is
        # known sooner by this than by a list.
        self._cluster.check()
        if all(mirror.live for mirror in self._mirrors.values()):
            jobs, pods = (
                {run_id: mirror.of(run_id) for run_id in ids} for mirror in self._mirrors.values()
            )
            return jobs, pods
        if len(ids) <= _FEW:
            jobs, pods = {}, {}
            for run_id in ids:
                job = self.job(run_id)
                jobs[run_id] = [] if job is None else [job]
                pods[run_id] = self.pods(run_id)
            return jobs, pods
        return self._listed("jobs"), self._listed("pods")

    def _listed(self, kind: str) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for item in self._cluster.list(kind, self._selector):
            if run_id := self._run_of(item):
                found.setdefault(run_id, []).append(item)
        return found

    def job(self, run_id: str) -> dict[str, Any] | None:
        """Our Job of that name; one that isn't ours is none.

        An error of something in between can say "not found" of a name; an empty list of its
        label it can't make.
        """
        job = self._cluster.get("jobs", f"qwex-{run_id}")
        if job is None:
            selector = f"{self._selector},{RUN_LABEL}={run_id}"
            job = next(iter(self._cluster.list("jobs", selector)), None)
        return job if job is not None and self._run_of(job) == run_id else None

    def known_job(self, run_id: str) -> Mapping[str, Any] | None:
        """The Job of a run as the watch told of it, asked for where none is heard."""
        mirror = self._mirrors["jobs"]
        found = mirror.of(run_id) if mirror.live else []
        return found[0] if found else self.job(run_id)

    def pods(self, run_id: str) -> list[dict[str, Any]]:
        """The pods of a run, asked for now: by our labels, or else by their Job.

        Somebody may have taken a label away; what a Job of our name made that isn't ours, isn't.
        """
        found = self._cluster.list("pods", f"{self._selector},{RUN_LABEL}={run_id}")
        job = None if found else self.known_job(run_id)
        if job is not None and objects.had_pod(job):
            mine = self._cluster.list("pods", f"job-name={job['metadata']['name']}")
            found = [pod for pod in mine if objects.is_of(pod, job)]
        return [pod for pod in found if not self._is_deleted(pod)]

    def _is_deleted(self, pod: Mapping[str, Any]) -> bool:
        owners = pod["metadata"].get("ownerReferences") or []
        return any(owner.get("uid") in self._deleted for owner in owners)

    def pod(self, run_id: str) -> Mapping[str, Any] | None:
        """The pod of a run, asked for now unless the watch is heard."""
        mirror = self._mirrors["pods"]
        pods = mirror.of(run_id) if mirror.live else []
        found: Mapping[str, Any] | None = objects.chosen(pods or self.pods(run_id), None)
        return found

    def _told(self, waiting: Mapping[str, str]) -> dict[str, list[Event]]:
        """Events about what waits, by run; read now and then, of few or of all at once."""
        now = time.monotonic()
        due = [
            run_id
            for run_id in waiting
            if now - self._events.get(run_id, (-60.0, []))[0] > _EVENTS_EVERY
        ]
        try:
            of_all = self._events_of() if len(due) > _EVENTS_OF else None
            for run_id in due:
                name = waiting[run_id]
                events = self._events_of(name) if of_all is None else of_all
                self._events[run_id] = (now, [e for e in events if e.about == name])
        except (BackendUnreachable, RunnerUnavailable, Refused):
            for run_id in due:  # they only explain; without the right to read them it goes on
                self._events[run_id] = (now, self._events.get(run_id, (0.0, []))[1])
        for run_id in self._events.keys() - waiting.keys():
            if now - self._events[run_id][0] > 10 * _EVENTS_EVERY:
                del self._events[run_id]
        return {run_id: self._events[run_id][1] for run_id in waiting if run_id in self._events}

    def _events_of(self, name: str = "") -> list[Event]:
        params = {
            "limit": 500,
            **({"fieldSelector": f"involvedObject.name={name}"} if name else {}),
        }
        found = self._cluster.ask(self._cluster.path("events"), params).get("items") or []
        return sorted((Event.of(item) for item in found), key=lambda e: e.at)

    def forget(self, run_id: str, deleted: str = "") -> None:
        """Nothing more is asked of a run; ``deleted``: the uid of its Job that was taken away."""
        if deleted:
            self._deleted.add(deleted)
        for mirror in self._mirrors.values():
            mirror.forget(run_id)
        self._events.pop(run_id, None)
