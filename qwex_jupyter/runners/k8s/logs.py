"""Readers of pods' output: `log_reader.Reader` with a kubelet's answers.

`lines` takes the answers apart. Both streams come as one, into stdout, unless the cluster
can give each by itself (the feature gate PodLogsQuerySplitStreams of Kubernetes 1.32). An API
server that can may have a kubelet that can't, and that one would give everything twice: so each
run's own kubelet is asked, as soon as there is a line to tell by.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwex_jupyter.disk.logs import STREAMS, Lease, RunLog
from qwex_jupyter.errors import BackendUnreachable
from qwex_jupyter.model.text import one_line
from qwex_jupyter.runners.container import log_reader
from qwex_jupyter.runners.container.conventions import given
from qwex_jupyter.runners.container.http_stream import Guard, body, close
from qwex_jupyter.runners.container.log_reader import Answer, Gone
from qwex_jupyter.runners.k8s.cluster import Cluster
from qwex_jupyter.runners.k8s.lines import Request, Writer
from qwex_jupyter.runners.k8s.manifest import MAIN
from qwex_jupyter.runners.k8s.objects import finished_at, started, uid_of
from qwex_jupyter.runners.k8s.refusals import Refused

# What the API calls the streams, and both as one.
_CALLED = {"stdout": "Stdout", "stderr": "Stderr", "": ""}
# The first server that may know them.
_SPLITS = (1, 32)
# A node that doesn't answer is asked for output for this long. Seconds.
_ASKED_FOR = 300.0
# A right that is missing may be given at this moment; after this time it is an answer. Seconds.
_FORBIDDEN_FOR = 10.0
# A pod that goes does so within this time of the end of its program. Seconds.
_LATELY = 10.0
_PROBE = 4096

# The pod of a run as the cluster has it now, None where there is none.
PodOf = Callable[[str], Mapping[str, Any] | None]


class Reader(log_reader.Reader):
    """Brings the output of the pods of one cluster to disk.

    Args:
        cluster: The cluster, whose patience is the reader's.
        pod_of: Finds the pod of a run.
        guard: Looks after the streams.
    """

    def __init__(self, cluster: Cluster, pod_of: PodOf, guard: Guard) -> None:
        super().__init__(guard, cluster.patience)
        self._cluster, self._pod_of = cluster, pod_of
        self._capable: bool | None = None
        # Since when a node doesn't answer for a run, or says that it can't read its log.
        self._failing: dict[str, float] = {}
        self._unreadable: dict[str, float] = {}
        # When the last live answer for a run came to its own end, see `Writer.heard_out`.
        self._heard_out: dict[str, float] = {}

    def host(self) -> str:
        return self._cluster.called

    def writer(self, log: RunLog, stored: dict[str, Any]) -> Writer:
        run_id = log.folder.run_id

        def times() -> tuple[float, float, float | None] | None:
            pod = self._pod_of(run_id)
            began = None if pod is None else started(pod)
            if pod is None or began is None:
                return None
            return began, self._cluster.now(), finished_at(pod)

        writer = Writer(log, stored, times, self._cluster.now)
        heard = self._heard_out.get(run_id, -_LATELY)
        writer.heard_lately = time.monotonic() - heard < _LATELY
        return writer

    def open(self, run_id: str, request: Request, *, live: bool) -> Any:
        stream, since = request
        wanted = {"follow": "true" if live else "", "sinceTime": since, "stream": _CALLED[stream]}
        timeout = self.patience.log_silence if live else self.patience.rest_of_pod
        try:
            return self._ask(run_id, given(wanted), timeout)
        except Refused as error:
            raise BackendUnreachable(f"Its output can't be read now: {error}.") from error

    def _ask(self, run_id: str, params: dict[str, Any], timeout: float) -> Any:
        """One answer with output.

        Raises:
            Refused: The server, or the kubelet behind it, doesn't take a parameter.
            Gone, BackendUnreachable: See `reader.Reader.open`.
        """
        pod = self._pod_of(run_id)
        if pod is None:
            raise Gone("its pod is gone, and with it what hadn't been read")
        path = f"{self._cluster.path('pods', pod['metadata']['name'])}/log"
        params = {"container": MAIN, "timestamps": "true", **params}
        try:
            answer = self._cluster.stream(path, params, timeout)
        except Refused as error:
            if error.status == 404 and self._is_gone(pod):
                raise Gone("its pod is gone, and with it what hadn't been read") from error
            if _is_about(params, error):
                raise
            node = (pod.get("spec") or {}).get("nodeName", "its node")
            why = BackendUnreachable(f"{node} gives no output now ({one_line(error.text, 160)}).")
            if error.status == 403:
                why = self._cluster.forbidden(error, "get", "pods/log")
            first = self._failing.setdefault(run_id, time.monotonic())
            lasted = time.monotonic() - first
            if error.status == 403 and lasted > _FORBIDDEN_FOR:
                space = self._cluster.where.namespace
                raise Gone(
                    f"you may not get pods/log in the namespace {space}, so what it said isn't "
                    "known: %qwex doctor prints the Role that is missing"
                ) from error
            if lasted > _ASKED_FOR:
                del self._failing[run_id]
                raise Gone(
                    f"its output could not be read for {_ASKED_FOR / 60:.0f} minutes "
                    f"({one_line(error.text, 160)}), so what hadn't been read isn't known"
                ) from error
            raise why from error
        self._failing.pop(run_id, None)
        return answer

    def _is_gone(self, pod: Mapping[str, Any]) -> bool:
        """Whether there is no such pod any more, asked once more: what said so may be mistaken."""
        there = self._cluster.get("pods", pod["metadata"]["name"])
        return there is None or uid_of(there) != uid_of(pod)

    def read_now(
        self, run_id: str, writer: Writer, lease: Lease, stop: threading.Event, *, live: bool
    ) -> Answer:
        """Reads one answer, or one for each stream."""
        try:
            return self._on(run_id, writer, lease, stop, live=live)
        finally:
            self._heard_out.pop(run_id, None)
            if writer.heard_out:
                self._heard_out[run_id] = time.monotonic()

    def _on(
        self, run_id: str, writer: Writer, lease: Lease, stop: threading.Event, *, live: bool
    ) -> Answer:
        if writer.split is None:
            writer.split = self._splits(run_id, stop, live=live)
        if writer.split is None:
            return Answer.WHOLE  # there is nothing yet, or not any more
        if live:
            answer = (
                self._both(run_id, writer, lease, stop)
                if writer.split
                else super().read_now(run_id, writer, lease, stop, live=True)
            )
            # Should the pod be gone before anybody looks again, nothing of it is missing.
            writer.heard_out = answer is Answer.WHOLE and not writer.unsure
            writer.heard_until = self._cluster.now()
            return answer
        if not writer.split:
            return super().read_now(run_id, writer, lease, stop, live=False)
        for stream in STREAMS:
            answer = self.read(run_id, writer, lease, stop, writer.request(stream), live=False)
            if answer is not Answer.WHOLE:
                return answer
        return Answer.WHOLE

    def read_rest(self, run_id: str, writer: Writer, lease: Lease, stop: threading.Event) -> bool:
        if writer.split is None:
            # Without a line there is nothing to tell by, and nothing to read.
            writer.split = bool(self._splits(run_id, stop, live=False))
        whole = super().read_rest(run_id, writer, lease, stop)
        if not (whole and writer.trouble):
            self._unreadable.pop(run_id, None)
            return whole
        # A kubelet whose runtime is started anew says the same as one that has lost the log.
        first = self._unreadable.setdefault(run_id, time.monotonic())
        if time.monotonic() - first < self.patience.unreadable:
            return False
        del self._unreadable[run_id]
        return True

    def _both(self, run_id: str, writer: Writer, lease: Lease, stop: threading.Event) -> Answer:
        """Reads both streams at once, until one of them comes to its end, and the other soon."""
        both = _Until(stop)
        # In the order in which they ended.
        answers: list[Answer] = []
        failed: list[Exception] = []

        def read(stream: str) -> None:
            request = writer.request(stream)
            try:
                answers.append(self.read(run_id, writer, lease, both, request, live=True))
            except Exception as error:  # noqa: BLE001 - raised again by the one who waits
                failed.append(error)
            both.at = min(both.at, time.monotonic() + self.patience.together)

        name = f"qwex-err-{run_id[-6:]}"
        other = threading.Thread(target=read, args=("stderr",), name=name, daemon=True)
        other.start()
        read("stdout")
        other.join()
        if failed:
            raise failed[0]
        first, second = answers
        if first is Answer.WHOLE and second is Answer.STOPPED and not stop.is_set():
            return Answer.SILENT  # it was ended here, so it wasn't heard to its end
        return second if first is Answer.WHOLE else first

    def _splits(self, run_id: str, stop: threading.Event, *, live: bool) -> bool | None:
        """Whether a run's streams come by themselves; None while there is no line to tell by."""
        if self._capable is None:
            self._capable = self._server_splits(run_id)
        if not self._capable:
            return False
        found = self._kubelet_splits(run_id)
        if found is not None or not live:
            return found
        reply = self._ask(run_id, {"follow": "true"}, self.patience.log_silence)
        watched = self.guard.watch(reply, stop)
        try:
            for _ in body(reply):
                break  # only that something came
        except (EOFError, OSError, ValueError):
            pass  # the run is looked at again
        finally:
            self.guard.forget(watched)
            close(reply)
        return self._kubelet_splits(run_id)

    def _server_splits(self, run_id: str) -> bool:
        try:
            said = self._cluster.ask("/version")
        except Refused as error:
            if error.status == 403:
                return False
            raise self._cluster.forbidden(error, "get", "version") from error
        try:
            version = int(said["major"]), int(str(said["minor"]).rstrip("+"))
        except (KeyError, ValueError):
            return False
        if version < _SPLITS:
            return False  # older ones don't know the word, and would not say so
        try:
            probe = {"stream": "Stdout", "limitBytes": 1}
            close(self._ask(run_id, probe, self.patience.answer))
        except Refused as error:
            return error.status != 422  # else it is this kubelet alone that doesn't
        return True

    def _kubelet_splits(self, run_id: str) -> bool | None:
        """By the first line: a kubelet that doesn't know the word gives it in both streams.

        One that knows it and may not give them (its own feature gate) refuses.
        """
        try:
            out, err = self._beginning(run_id, "stdout"), self._beginning(run_id, "stderr")
            if err and not out:
                out = self._beginning(run_id, "stdout")  # its line may have come meanwhile
        except Refused:
            return False
        if not (out or err):
            return None
        # Lines that come between the questions only make the later answer longer.
        return not (out and err and (out.startswith(err) or err.startswith(out)))

    def _beginning(self, run_id: str, stream: str) -> bytes:
        """The first bytes of what is given as a stream."""
        probe = {"stream": _CALLED[stream], "limitBytes": _PROBE}
        reply = self._ask(run_id, probe, self.patience.answer)
        try:
            return b"".join(body(reply))
        except (EOFError, OSError, ValueError) as error:
            raise BackendUnreachable(f"{self.host()} was cut.") from error
        finally:
            close(reply)


def _is_about(params: Mapping[str, Any], error: Refused) -> bool:
    """Whether it is a parameter that is refused: 422, or 400 by a kubelet (pkg/kubelet/server)."""
    kubelet = error.status == 400 and "log stream" in error.text
    return error.status == 422 or (kubelet and "stream" in params)


class _Until(threading.Event):
    """Set when another one is, or at some time.

    Args:
        other: The other one.

    Attributes:
        at: That time.
    """

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other, self.at = other, float("inf")

    def is_set(self) -> bool:
        return self._other.is_set() or time.monotonic() > self.at
