"""What a cluster has of one history, kept up to date by one watch for each kind of object.

A watch says "look again" sooner than any poll could, and spares the API server the polls: while
it is heard, what it told is what a poll would be told. When it is silent, or was cut, everything
is listed anew; nothing is concluded from a watch's end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.errors import BackendUnreachable, RunnerUnavailable
from qwex_jupyter.runners.container.http_stream import Guard, close, objects
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.refusals import Refused

# How long the server lets a watch go on (`Patience.watch_silence` is longer), and how often
# everything is listed anew whatever was heard. Seconds.
_LASTS, _LIST_ANEW = 40, 1800.0

Notify = Callable[[str], None]


class _Cut(Exception):
    """A watch was ended by something else than the server, which says nothing of that."""


class Mirror:
    """Objects of one kind, by the run that they belong to.

    Args:
        cluster: Where; its patience is the mirror's.
        kind: ``jobs`` or ``pods``.
        selector: The labels that they carry.
        run_of: The run of an object; "" for none of ours.
        kept: What is kept of an object.
        guard: Looks after the stream.
        tells: Whether an object that is gone is kept, for what it says of its end; None for
            never.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        selector: str,
        run_of: Callable[[Mapping[str, Any]], str],
        kept: Callable[[Mapping[str, Any]], dict[str, Any]],
        guard: Guard,
        tells: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self._cluster, self._kind, self._selector = cluster, kind, selector
        self._tells, self._patience = tells, cluster.patience
        self._run_of, self._kept, self._guard = run_of, kept, guard
        self._lock = threading.Lock()
        # As text, a quarter of what the objects take: of thousands, few are asked for at a time.
        self._found: dict[str, dict[str, str]] = {}
        self._version = self._identity = ""
        self._listed = 0.0
        self._told = False
        self.live = False

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """What there is of a run."""
        with self._lock:
            found = list(self._found.get(run_id, {}).values())
        return [json.loads(text) for text in found]

    def forget(self, run_id: str) -> None:
        """Nothing is asked about that run any more."""
        with self._lock:
            self._found.pop(run_id, None)

    def run(self, notify: Notify, stop: threading.Event) -> None:
        """Keeps up to date until ``stop``; calls ``notify`` with each run that changed."""
        patience = self._patience
        pause = patience.watch_pause
        while not stop.is_set():
            try:
                old = time.monotonic() - self._listed > _LIST_ANEW
                # The settings may lead to another cluster by now.
                if not self._version or old or self._identity != self._cluster.where.identity:
                    self._list(notify)
                begun = time.monotonic()
                self._watch(notify, stop)
                pause = patience.watch_pause
                continue
            except _Cut:
                if time.monotonic() - begun > patience.longest_watch_pause:
                    pause = patience.watch_pause
            except Refused:
                pass  # 410, too old, is normal after an hour without a change
            except (BackendUnreachable, RunnerUnavailable):
                self._alarm(notify)
            finally:
                self.live = False
            # What happened meanwhile isn't known, so it is listed; not at once, should that be
            # all that ever comes.
            self._version = ""
            stop.wait(pause)
            pause = min(2 * pause, patience.longest_watch_pause)

    def _alarm(self, notify: Notify) -> None:
        """Nobody answers: whoever asks about a run now is told so, and need not wait for a poll."""
        if not self._told:
            self._told = True
            with self._lock:
                found = list(self._found)
            for run_id in found:
                notify(run_id)

    def _list(self, notify: Notify) -> None:
        identity = self._cluster.where.identity
        found: dict[str, dict[str, str]] = {}
        version = ""
        for page in self._cluster.pages(self._kind, self._selector):
            version = version or str((page.get("metadata") or {}).get("resourceVersion", ""))
            for item in page.get("items") or []:
                self._put(found, item)
        with self._lock:
            before, self._found = self._found, found
        self._version, self._listed = version, time.monotonic()
        self._identity, self._told = identity, False
        for run_id in before.keys() | found.keys():
            if before.get(run_id) != found.get(run_id):
                notify(run_id)

    def _put(self, into: dict[str, dict[str, str]], item: Mapping[str, Any]) -> None:
        if run_id := self._run_of(item):
            uid = str(item["metadata"].get("uid", ""))
            into.setdefault(run_id, {})[uid] = _text(self._kept(item))

    def _watch(self, notify: Notify, stop: threading.Event) -> None:
        params = {
            "labelSelector": self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": _LASTS,
        }
        path, silence = self._cluster.path(self._kind), self._patience.watch_silence
        try:
            reply = self._cluster.stream(path, params, silence)
        except Refused as error:
            if error.status == 410:
                raise
            raise self._cluster.forbidden(error, "watch", self._kind) from error
        watched = self._guard.watch(reply, stop)
        self.live = True
        try:
            for event in objects(reply):
                self._take(event, notify)
        except (EOFError, OSError) as error:
            if watched.dead:
                raise BackendUnreachable("It doesn't answer any more.") from error
            if not stop.is_set():
                raise _Cut from error
        except ValueError as error:
            raise _Cut from error  # what came is no event
        finally:
            self.live = False
            self._guard.forget(watched)
            close(reply)

    def _had(self, uid: str) -> str:
        """The run to which an object belonged; "" for none."""
        with self._lock:
            return next((run_id for run_id, mine in self._found.items() if uid in mine), "")

    def _take(self, event: Mapping[str, Any], notify: Notify) -> None:
        kind, item = event.get("type"), event.get("object") or {}
        meta = item.get("metadata") or {}
        if kind == "ERROR":
            raise Refused(int(item.get("code") or 500), str(item.get("reason")), str(item))
        self._version = str(meta.get("resourceVersion") or self._version)
        if kind == "BOOKMARK":
            return
        uid = str(meta.get("uid", ""))
        # One that lost a label is told of once more, as it is without: it is found no more by it.
        run_id, gone = self._run_of(item), kind == "DELETED"
        if not run_id:
            run_id, gone = self._had(uid), True
        if not run_id:
            return
        with self._lock:
            mine = self._found.setdefault(run_id, {})
            before = mine.get(uid)
            kept = self._kept(item)
            # Of a pod that goes as soon as it has ended, this is all there will be.
            told = self._tells is not None and before is not None and self._tells(kept)
            after = None if gone and not told else _text(kept)
            if after is not None:
                mine[uid] = after
            elif before is not None:
                del mine[uid]
            if not mine:
                del self._found[run_id]
        if after != before:
            notify(run_id)


def _text(kept: Mapping[str, Any]) -> str:
    """Of equal objects the same."""
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)
