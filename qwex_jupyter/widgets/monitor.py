"""The widget: passes the feed's messages to the page, and the page's wishes to the manager."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import traitlets

from qwex_jupyter import runners
from qwex_jupyter.disk.logs import RunLog
from qwex_jupyter.display import listing, tables
from qwex_jupyter.display.publish import put
from qwex_jupyter.errors import QwexError
from qwex_jupyter.model.text import plain
from qwex_jupyter.system import frontend
from qwex_jupyter.system.background import Background
from qwex_jupyter.system.flag import Flag
from qwex_jupyter.widgets.details import about
from qwex_jupyter.widgets.feed import Message, feed_of
from qwex_jupyter.widgets.find import find, lines_at
from qwex_jupyter.widgets.output import Output
from qwex_jupyter.widgets.rate import pulse
from qwex_jupyter.widgets.widget import Widget, page

if TYPE_CHECKING:
    from qwex_jupyter.manager.manager import RunManager

# The table that stands in for the widget where no kernel is, is kept up to date so often.
_TABLE_EVERY = 15.0
# The parts of its page, in the order in which they are joined: the last one is what is exported.
_PARTS = (
    *("elements.js", "links.js", "colours.js", "output.js", "rows.js", "link.js", "grid.js"),
    *("details.js", "pane.js", "monitor.js"),
)
# So many runs are compared at once.
_MOST_COMPARED = 6


def _asking() -> list[str]:
    """The runners of which a run isn't cancelled without a question."""
    known = runners.declarations(installed=True)
    return [each.name for each in known if each.promises.asks_before_cancel]


class Monitor(Widget):
    """All runs of a history, live.

    Args:
        manager: Who knows them.
        place: The display that holds the table which stands in for it; "" makes one.
        again: An expression with a ``{place!r}`` in it by which a new kernel makes another.
    """

    _esm = page(*_PARTS)
    _css = page("common.css", "monitor.css")
    # What a page has the kernel evaluate after its restart, to be given a monitor again.
    again = traitlets.Unicode().tag(sync=True)
    # The runners of which a run isn't cancelled without a question.
    asks = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, manager: RunManager, *, place: str = "", again: str = "") -> None:
        self._manager, self._feed = manager, feed_of(manager)
        self._output: Output | None = None
        self._sought = Flag()
        # The publisher of the cell that shows it, to which the table goes too.
        self._publisher: Any = None
        self._table_at = 0.0
        place = place or tables.new_place()
        super().__init__(place=place, again=again.format(place=place), asks=_asking())
        self._feed.join(self._pass_on)

    def _begin(self) -> Message:
        return {**self._feed.whole(), "now": time.time()}

    def _pass_on(self, message: Message) -> None:
        self.asks = _asking()  # a runner may have come since
        self.send({**message, "now": time.time()})
        if self._publisher is not None:
            pulse.ask(self._update_table)

    def close(self) -> None:
        """Takes it off the page and stops telling it."""
        self._leave()
        super().close()

    def _leave(self) -> None:
        self._feed.leave(self._pass_on)
        self._close_output()

    def _close_output(self) -> None:
        self._sought.set()
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
            "find": self._find,
            "lines": self._lines,
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
            with suppress(QwexError):  # deleted meanwhile: the page is told of that too
                runs.append(about(self._manager, str(run_id)))
        self.send({"kind": "about", "number": wish.get("number"), "runs": runs})

    def _open_output(self, wish: Any) -> None:
        self._close_output()
        if wish.get("run"):
            self._output = Output(self._manager, str(wish["run"]), self.send)

    def _find(self, wish: Any) -> None:
        """Looks through a whole log; who asks anew doesn't wait for the answer before."""
        self._sought.set()
        self._sought = over = Flag()
        run, text = str(wish["run"]), str(wish["text"])

        def look() -> None:
            told = {"kind": "found", "run": run, "text": text}
            try:
                found = find(self._log(run), text, over.is_set)
            except (QwexError, OSError):
                found = {"count": None, "places": [], "part": None}
            if found is not None:
                self.send({**told, **found})

        Background().begin(look)

    def _lines(self, wish: Any) -> None:
        """Shows what stands at a place of a log."""
        run, number = str(wish["run"]), wish.get("line")
        try:
            found = lines_at(self._log(run), str(wish["stream"]), int(wish["offset"]), number)
        except (QwexError, OSError):
            return  # deleted meanwhile: what was shown stays
        self.send({"kind": "lines", "run": run, **found})

    def _log(self, run_id: str) -> RunLog:
        return RunLog(self._manager.history.folder(run_id))

    def _do(self, wish: Any) -> None:
        """Cancels, reruns or deletes, in a thread of its own: a backend may take its time."""
        wanted = str(wish["verb"]), list(wish["runs"]), wish.get("number")
        Background().begin(self._carry_out, *wanted)

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
                    self._feed.look()
            except (QwexError, OSError, ValueError) as error:
                failed.append([run_id, plain(str(error))])
        # A backend may take a moment to obey; what it says then comes as a change.
        if verb in ("cancel", "rerun"):
            self._manager.wake()
        self.send({"kind": "did", "number": number, "verb": verb, "failed": failed, "made": made})

    # -- where no kernel is ------------------------------------------------------------------

    def _table(self) -> tables.Table:
        records, counts = self._feed.newest(tables.ROWS)
        env = listing.env_of(self._manager.history, records)
        return tables.Table(records, counts, time.time(), self.place, env=env)

    def _update_table(self) -> None:
        """What a saved notebook will show, now and then."""
        left = self._table_at + _TABLE_EVERY - time.monotonic()
        if left > 0:
            pulse.ask(self._update_table, after=left)
            return
        self._put_table(update=True)

    def _put_table(self, *, update: bool) -> None:
        """Shows the table. Its HTML, or the first output's text, says how many runs there are."""
        self._table_at = time.monotonic()
        table = self._table()
        data = {"text/plain": table.rows_text(), "text/html": table.html()}
        put(self._publisher, data, self.place, update=update)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; where its view can't be, one line."""
        data, metadata = self._view(**kwargs)
        return {**data, **self._table().headline()}, metadata

    def _ipython_display_(self) -> None:
        """Two outputs: the widget, and the table that is seen where no widget can be.

        A front end that knows widgets and has no kernel shows neither text nor HTML of the
        first; the second is hidden by the page while the first lives.
        """
        data, metadata = self._repr_mimebundle_()
        publisher = frontend.shell().display_pub
        publisher.publish(data={**data, "text/html": ""}, metadata=metadata)
        self._publisher = publisher
        self._put_table(update=False)
