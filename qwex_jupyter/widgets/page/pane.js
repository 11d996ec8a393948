// @ts-check
// The pane of one run below the table: what it is and why, its details, its output; or a comparison
// of several. Part of monitor.js.

class Pane {
  /**
   * @param {Rows} rows
   * @param {{ ask: Ask, back: () => void, say: Say }} actions
   */
  constructor(rows, actions) {
    this.rows = rows;
    this.actions = actions;
    this.run = ""; // "" while it compares, and while it is shut
    this.asked = 0; // the number of the wish whose answer belongs here
    this.titled = ""; // what the title says: the run and the version of its row
    this.output = new Output(actions);
    this.title = h("div", { class: "title" });
    this.why = h("div", { class: "why" });
    this.details = h("div", { class: "details" });
    this.spoken = new Spoken();
    this.element = h("section", { class: "pane", hidden: true, "aria-label": "Run" },
      h("div", { class: "bar" }, this.title, button("×", { class: "close", "aria-label": "Close", title: "close (Esc)", onclick: () => this.shut() })),
      this.why, this.spoken.element, this.details, this.output.element);
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** @param {string} run */
  open(run) {
    this.element.hidden = false;
    this.output.element.hidden = false;
    if (this.run !== run) {
      this.run = run;
      this.details.replaceChildren();
      this.output.open(run);
      this.actions.ask({ kind: "output", run });
    }
    this.sayTitle();
    this.asked = this.actions.ask({ kind: "about", runs: [run] });
  }

  /** @param {string[]} runs */
  compare(runs) {
    this.element.hidden = false;
    this.run = "";
    this.output.element.hidden = true;
    this.leaveOutput();
    this.why.replaceChildren();
    this.details.replaceChildren();
    this.titled = "";
    this.title.replaceChildren(h("b", {}, "Comparison"));
    this.asked = this.actions.ask({ kind: "about", runs });
  }

  shut() {
    this.element.hidden = true;
    this.run = "";
    this.titled = "";
    this.leaveOutput();
    this.actions.back();
  }

  leaveOutput() {
    this.output.open("");
    this.actions.ask({ kind: "output", run: "" });
  }

  /** All that is known of the runs that were asked about last. @param {{ number: number, runs: About[] }} message */
  takeAbout({ number, runs }) {
    if (number !== this.asked) return;
    if (!runs.length) {
      this.details.replaceChildren("It was deleted.");
    } else if (this.run) {
      const open = this.details.querySelector("details")?.open;
      this.details.replaceChildren(...detailsOf(runs[0], this.actions.say));
      const details = this.details.querySelector("details");
      if (details) details.open = Boolean(open);
    } else {
      for (const run of runs) run.status = STATUSES[this.rows.all.get(run.run)?.status ?? ""]?.join(" ") ?? "";
      const compared = comparisonOf(runs);
      this.details.replaceChildren(compared);
      compared.focus();
    }
  }

  /** What the run is and why, from its row: that is known without asking. */
  sayTitle() {
    const row = this.rows.all.get(this.run);
    if (!this.isOpen || !row) return;
    const key = `${row.run} ${row.version}`;
    if (this.titled === key) return;
    const before = this.titled.split(" ")[0] === row.run;
    this.titled = key;
    const [glyph, word] = STATUSES[row.status];
    // 0 and 1 tell nothing.
    const exit = row.exit == null || row.exit === 0 || row.exit === 1 ? "" : ` · exit ${row.exit}`;
    this.title.replaceChildren(h("span", { class: `word ${row.status}` }, `${glyph} ${word}`), " ",
      h("b", {}, row.name || row.handle), " ", h("code", {}, row.command.length > 90 ? `${row.command.slice(0, 89)}…` : row.command), " ",
      h("span", { class: "quiet" }, [row.runner, row.image, row.name && row.handle].filter(Boolean).join(" · ") + exit));
    const seen = row.seen ? ` Last seen ${exact(row.seen)}.` : "";
    this.why.replaceChildren();
    const why = isLive(row) ? row.reason : row.cause;
    if (row.message || why) {
      const stop = isLive(row) ? ": " : ". ";
      this.why.append(h("b", { class: row.status }, why && row.message ? why + stop : why), row.message + seen);
    }
    if (before && !isLive(row)) this.asked = this.actions.ask({ kind: "about", runs: [row.run] });
    if (row.done == null) return;
    const far = `${farOf(row)}${leftOf(row.until, this.rows.now)}`;
    this.why.append(" ", h("span", { class: "quiet" }, far));
    this.spoken.take(row.run, row.done, far);
  }
}
