"""The widget: passes the feed's messages to the page, and the page's wishes to the manager."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from qwex_jupyter import tables, terminal
from qwex_jupyter.aside import Aside
from qwex_jupyter.errors import QwexError
from qwex_jupyter.monitor.about import about
from qwex_jupyter.monitor.feed import Message, feed_of
from qwex_jupyter.monitor.output import Output
from qwex_jupyter.monitor.pulse import pulse
from qwex_jupyter.monitor.widget import Widget
from qwex_jupyter.views import put

if TYPE_CHECKING:
    from qwex_jupyter.manager import RunManager

_HERE = Path(__file__).parent
# The table that stands in for the widget where no kernel is, is kept up to date so often.
_TABLE_EVERY = 15.0
# So many runs are compared at once.
_MOST_COMPARED = 6


class Monitor(Widget):
    """All runs of a history, live.

    Args:
        manager: Who knows them.
        place: The display that holds the table which stands in for it; "" makes one.
        again: An expression with a ``{place!r}`` in it by which a new kernel makes another.
    """

    _esm = _HERE / "monitor.js"
    _css = _HERE / "monitor.css"
    # Computed when a page asks, so that one which is loaded anew begins with what is now.
    snapshot = traitlets.Any().tag(sync=True, to_json=lambda _, widget: widget._begin())
    # Goes into the name of a class, by which the page hides the table.
    place = traitlets.Unicode().tag(sync=True)
    # What a page has the kernel evaluate after its restart, to be given a monitor again.
    again = traitlets.Unicode().tag(sync=True)

    def __init__(self, manager: RunManager, *, place: str = "", again: str = "") -> None:
        self._manager, self._feed = manager, feed_of(manager)
        self._output: Output | None = None
        self._asides: list[Aside] = []
        self._shown: Any = None
        self._table_at = 0.0
        place = place or tables.new_place()
        super().__init__(place=place, again=again.format(place=place))
        self._feed.join(self._pass_on)

    def _begin(self) -> Message:
        return {**self._feed.whole(), "now": time.time()}

    def _pass_on(self, message: Message) -> None:
        self.send({**message, "now": time.time()})
        if self._shown is not None:
            pulse.ask(self._update_table)

    def close(self) -> None:
        """Takes it off the page and stops telling it."""
        self._leave()
        super().close()

    def _leave(self) -> None:
        self._feed.leave(self._pass_on)
        self._close_output()

    def _close_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            output.close()

    # -- what the page wants -----------------------------------------------------------------

    def _wishes(self) -> Mapping[str, Callable[[Any], None]]:
        return {
            "hello": self._hello,
            "bye": lambda _: self._leave(),
            "more": self._more,
            "about": self._about,
            "output": self._open_output,
            "do": self._do,
        }

    def _hello(self, wish: Any) -> None:
        """A page is there; it says which changes it has seen."""
        self._feed.join(self._pass_on)
        with self._feed.lock:  # rows must not overtake each other
            whole = self._begin()
            if whole["number"] != wish.get("seen"):
                self.send({"kind": "whole", **whole})

    def _more(self, wish: Any) -> None:
        with self._feed.lock:
            self.send({"kind": "more", **self._feed.more(str(wish["before"]))})

    def _about(self, wish: Any) -> None:
        runs = []
        for run_id in list(wish["runs"])[:_MOST_COMPARED]:
            try:
                runs.append(about(self._manager, str(run_id)))
            except QwexError:
                continue  # deleted meanwhile: the page is told of that too
        self.send({"kind": "about", "number": wish.get("number"), "runs": runs})

    def _open_output(self, wish: Any) -> None:
        self._close_output()
        if wish.get("run"):
            self._output = Output(self._manager, str(wish["run"]), self.send)

    def _do(self, wish: Any) -> None:
        """Cancels, reruns or deletes, in a thread of its own: a backend may take its time."""
        aside = Aside()
        aside.begin(self._carry_out, str(wish["verb"]), list(wish["runs"]), wish.get("number"))
        self._asides = [aside, *self._asides[:7]]

    def _carry_out(self, verb: str, run_ids: Sequence[str], number: Any) -> None:
        failed, made = [], []
        for run_id in map(str, run_ids):
            try:
                if verb == "cancel":
                    self._manager.cancel(run_id)
                elif verb == "rerun":
                    made.append(self._manager.rerun(run_id).run_id)
                elif verb == "delete":
                    self._manager.delete(run_id)
                    self._feed.look(self._manager)
            except (QwexError, OSError, ValueError) as error:
                failed.append([run_id, terminal.plain(str(error))])
        # A backend may take a moment to obey; what it says then comes as a change.
        if verb in ("cancel", "rerun"):
            self._manager.wake()
        self.send({"kind": "did", "number": number, "verb": verb, "failed": failed, "made": made})

    # -- where no kernel is ------------------------------------------------------------------

    def _table(self) -> tables.Table:
        records, counts = self._feed.newest(tables.ROWS)
        return tables.Table(records, counts, time.time(), self.place)

    def _update_table(self) -> None:
        """What a saved notebook will show, now and then."""
        left = self._table_at + _TABLE_EVERY - time.monotonic()
        if left > 0:
            pulse.ask(self._update_table, after=left)
            return
        self._table_at = time.monotonic()
        self._shown.publish(data=self._table().bundle(), update=True)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; where its view can't be, one line, as the table stands below it."""
        found: Any = super()._repr_mimebundle_(**kwargs)
        data, metadata = found if isinstance(found, tuple) else (found, {})
        return {**data, **self._table().headline()}, metadata

    def _ipython_display_(self) -> None:
        """Two outputs: the widget, and the table that is seen where no widget can be.

        A front end that knows widgets and has no kernel shows neither text nor HTML of the
        first; the second is hidden by the page while the first lives.
        """
        from IPython.display import publish_display_data

        data, metadata = self._repr_mimebundle_()
        publish_display_data(data, metadata)
        self._shown = _Shown(self.place)
        self._shown.publish(data=self._table().bundle(), update=False)
        self._table_at = time.monotonic()


class _Shown:
    """The output with the table: updated through the publisher that its cell had."""

    def __init__(self, place: str) -> None:
        from IPython import get_ipython

        self._publisher, self._place = get_ipython().display_pub, place

    def publish(self, *, data: dict[str, str], update: bool) -> None:
        put(self._publisher, data, self._place, update=update)
