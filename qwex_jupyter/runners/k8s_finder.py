"""Finder: the Jobs and pods of runs, as watches told of them; asked for where none is heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.runners import k8s_state, k8s_waiting
from qwex_jupyter.runners.inside import HISTORY_LABEL, RUN_LABEL
from qwex_jupyter.runners.k8s_cluster import Cluster, Refused
from qwex_jupyter.runners.k8s_state import Seen
from qwex_jupyter.runners.k8s_watch import Mirror
from qwex_jupyter.runners.streams import Guard

# So many are asked about one by one; more by one list of each kind.
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
                ("jobs", k8s_state.kept_job, None),
                ("pods", k8s_state.kept_pod, k8s_state.over),
            )
        }
        self._events: dict[str, tuple[float, list[k8s_waiting.Event]]] = {}
        # Pods of Jobs that were deleted from here go a moment later; they are of no run any more.
        self._deleted: set[str] = set()

    def _run_of(self, found: Mapping[str, Any]) -> str:
        return k8s_state.run_of(found, self._history)

    def watch(self, notify: Callable[[str], None], stop: threading.Event) -> None:
        """See `Runner.watch`: one list and watch for each kind of object."""
        jobs, pods = self._mirrors.values()
        other = threading.Thread(target=jobs.run, args=(notify, stop), name="qwex-k8s-jobs")
        other.daemon = True
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
            pod = k8s_state.chosen(mine, job)
            if job is None and pod is None:
                # Asked now, and by name and by label: see `job`.
                job, mine = self.job(run_id), self.pods(run_id)
                pod = k8s_state.chosen(mine, job)
                if job is None and pod is None:
                    found[run_id] = None
                    continue
            found[run_id] = Seen(job, pod, len(mine))
            begun = pod is not None and (k8s_state.started(pod) or k8s_state.over(pod))
            if not begun and (about := k8s_waiting.wants_events(job, pod)):
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
        """The pods of a run, asked for now."""
        found = self._cluster.list("pods", f"{self._selector},{RUN_LABEL}={run_id}")
        return [pod for pod in found if not self._is_deleted(pod)]

    def _is_deleted(self, pod: Mapping[str, Any]) -> bool:
        owners = pod["metadata"].get("ownerReferences") or []
        return any(owner.get("uid") in self._deleted for owner in owners)

    def pod(self, run_id: str) -> Mapping[str, Any] | None:
        """The pod of a run, asked for now unless the watch is heard."""
        mirror = self._mirrors["pods"]
        pods = mirror.of(run_id) if mirror.live else []
        found: Mapping[str, Any] | None = k8s_state.chosen(pods or self.pods(run_id), None)
        return found

    def _told(self, waiting: Mapping[str, str]) -> dict[str, list[k8s_waiting.Event]]:
        """Events about what waits, by run; read now and then, of few or of all at once."""
        now = time.monotonic()
        due = [
            run_id
            for run_id in waiting
            if now - self._events.get(run_id, (-60.0, []))[0] > _EVENTS_EVERY
        ]
        try:
            for run_id in due if len(due) <= _EVENTS_OF else ():
                fields = f"involvedObject.name={waiting[run_id]}"
                self._events[run_id] = (now, self._events_of(fields))
            if len(due) > _EVENTS_OF:
                all_of_them = self._events_of("")
                for run_id in due:
                    mine = [e for e in all_of_them if e.about == waiting[run_id]]
                    self._events[run_id] = (now, mine)
        except (BackendUnreachable, RunnerUnavailable, Refused):
            for run_id in due:  # they only explain; without the right to read them it goes on
                self._events[run_id] = (now, self._events.get(run_id, (0.0, []))[1])
        for run_id in self._events.keys() - waiting.keys():
            if now - self._events[run_id][0] > 10 * _EVENTS_EVERY:
                del self._events[run_id]
        return {run_id: self._events[run_id][1] for run_id in waiting if run_id in self._events}

    def _events_of(self, fields: str) -> list[k8s_waiting.Event]:
        params: dict[str, Any] = {"limit": 500}
        if fields:
            params["fieldSelector"] = fields
        found = self._cluster.ask(self._cluster.path("events"), params).get("items") or []
        return sorted((k8s_waiting.Event.of(item) for item in found), key=lambda e: e.at)

    def forget(self, run_id: str, deleted: str = "") -> None:
        """Nothing more is asked of a run; ``deleted``: the uid of its Job that was taken away."""
        if deleted:
            self._deleted.add(deleted)
        for mirror in self._mirrors.values():
            mirror.forget(run_id)
        self._events.pop(run_id, None)
