// @ts-check
// The monitor's page: the last of the parts that are joined to one module, which depends on
// nothing else. Everything that comes from a run (names, commands, messages, output) goes into the
// page as text, never as markup.

/** @typedef {"cancel" | "rerun" | "delete" | "compare"} Verb */

class Monitor {
  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    /** @type {string | null} */
    this.fetching = null; // before which run the rows are that were asked for
    /** @type {string | null} */
    this.wanted = null; // a run that is selected as soon as the table shows it
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.soon = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.noteTimer = undefined;
    this.rows = new Rows();
    this.link = new Link(model, (message) => this.take(message), () => this.sayState(), () => this.rows.number);
    this.grid = new Grid(this.rows, {
      order: (column) => { this.rows.order(column); this.refresh(); },
      moved: () => this.moved(),
      open: (deeper) => this.open(deeper),
    });
    this.pane = new Pane(this.rows, {
      ask: (wish) => this.link.ask(wish),
      back: () => this.grid.element.focus(),
      say: (text) => this.say(text),
    });
    this.filter = h("input", {
      type: "search", class: "filter", "aria-label": "Filter runs",
      placeholder: "filter (/)", title: "words of any column; or status:failed runner:docker name:…",
      oninput: () => { this.rows.find(this.filter.value); this.refresh(); },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape") this.clearFilter();
        else if (event.key === "ArrowDown" || event.key === "Enter") {
          this.grid.element.focus();
          if (this.grid.index(this.grid.cursor) < 0) this.grid.move(0);
        } else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    this.chips = ORDER.map((status) => {
      const chip = button("", {
        class: `chip ${status}`, "aria-pressed": "false", "data-status": status,
        onclick: () => {
          const { statuses } = this.rows;
          if (!statuses.delete(status)) statuses.add(status);
          this.refresh();
        },
      });
      return { status, chip };
    });
    this.count = h("span", { class: "count quiet", role: "status" });
    this.runner = h("span", { class: "quiet" });
    /** @type {(text: string, verb: Verb) => HTMLButtonElement} */
    const act = (text, verb) => button(text, { "data-verb": verb, onclick: () => this.want(verb) });
    this.verbs = {
      cancel: act("Cancel", "cancel"), rerun: act("Rerun", "rerun"), delete: act("Delete", "delete"), compare: act("Compare", "compare"),
    };
    this.help = button("?", { "aria-label": "Keys", title: "keys (?)", "aria-expanded": "false", onclick: () => this.sayKeys() });
    this.banner = h("div", { class: "banner", role: "alert", hidden: true });
    this.question = h("div", { class: "banner question", role: "alertdialog", "aria-label": "Are you sure?", hidden: true,
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        event.preventDefault();
        this.unask();
      } });
    this.note = h("div", { class: "note", role: "status" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.keys = h("dl", { class: "keys", hidden: true }, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
    this.root = h("div", { class: "qwex-monitor", role: "region", "aria-label": "Run monitor", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) },
      h("div", { class: "bar tools" }, this.filter,
        h("div", { class: "chips", role: "group", "aria-label": "Only these statuses" }, ...this.chips.map(({ chip }) => chip)), this.count, this.runner,
        h("div", { class: "verbs", role: "group", "aria-label": "With the selected runs" }, ...Object.values(this.verbs), this.help)),
      this.keys, this.banner, this.question, this.grid.element, this.empty, this.note, this.pane.element);
    // The table that stands in for this where no kernel is.
    const place = String(this.link.model.get("place") ?? "").replace(/\W/g, "");
    const hide = h("style", {});
    hide.textContent = `.qwex-table-${place} { display: none }`;
    el.append(hide, this.root);
    this.rows.whole(model.get("snapshot"));
    this.refresh();
    this.link.greet();
    this.fetch();
    this.timer = setInterval(() => {
      // Of a kernel that is gone is shown what was known then.
      if (!document.hidden && this.link.state !== "gone") this.grid.tickAll();
    }, 1000);
  }

  dispose() {
    clearInterval(this.timer);
    clearTimeout(this.soon);
    clearTimeout(this.noteTimer);
    this.grid.dispose();
    this.link.disconnect();
  }

  // -- from the kernel

  /** @param {any} message */
  take(message) {
    /** @type {Record<string, () => void>} */
    const kinds = {
      changes: () => {
        if (!this.rows.change(message)) this.link.greet();
        this.refresh();
        this.pane.sayTitle();
      },
      whole: () => { this.rows.whole(message); this.refresh(); this.pane.sayTitle(); this.fetch(); },
      more: () => {
        // A whole that came in between begins further up.
        if (this.fetching === this.rows.before) this.rows.before = message.before;
        this.fetching = null;
        this.rows.add(message.rows);
        this.refresh();
        this.fetch();
      },
      about: () => this.pane.takeAbout(message),
      output: () => this.pane.output.take(message),
      found: () => this.pane.output.takeFound(message),
      lines: () => this.pane.output.takePart(message),
      did: () => this.did(message),
    };
    kinds[message.kind]?.();
  }

  /** Asks for the older rows, bit by bit, when the page has time. */
  fetch() {
    if (!this.rows.before || this.fetching) return;
    this.fetching = this.rows.before;
    const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 50));
    idle(() => {
      this.fetching = this.rows.before;
      if (!this.fetching) return;
      if (!this.link.ask({ kind: "more", before: this.fetching })) this.fetching = null;
    }, { timeout: 1000 });
  }

  refresh() {
    this.rows.arrange();
    const { shown, total, counts, all } = this.rows;
    // What tells no run from another gives its room to the command.
    this.root.classList.toggle("imageless", !this.rows.images);
    this.root.classList.toggle("one-runner", Boolean(this.rows.runner));
    setText(this.runner, this.rows.runner && `all ${this.rows.runner}`);
    for (const run of this.grid.picked) if (!all.has(run)) this.grid.picked.delete(run);
    this.grid.paint();
    this.chips.forEach(({ status, chip }) => {
      setText(chip, `${STATUSES[status].join(" ")} ${(counts[status] ?? 0).toLocaleString("en")}`);
      chip.setAttribute("aria-pressed", String(this.rows.statuses.has(status)));
      chip.hidden = !counts[status] && !this.rows.statuses.has(status);
    });
    const loading = all.size < total ? `, loading ${all.size.toLocaleString("en")}` : "";
    const number = total.toLocaleString("en");
    setText(this.count, (this.rows.filtered ? `${shown.length.toLocaleString("en")} of ${number}` : many(total, "run")) + loading);
    this.empty.hidden = shown.length > 0;
    this.grid.element.hidden = !shown.length && !total;
    if (!shown.length) this.sayEmpty(total);
    this.sayVerbs();
    this.seek();
  }

  /** @param {number} total */
  sayEmpty(total) {
    if (total) {
      const clear = button("clear the filter (Esc)", { onclick: () => this.clearFilter() });
      this.empty.replaceChildren(`0 of ${many(total, "run")} — `, clear);
    } else {
      this.empty.replaceChildren("No runs yet. Start one: write ", h("code", {}, "%%qwex"), " above the code of a cell, or ",
        h("code", {}, "%%qwex --image=python:3.12 python"), " to run it in a container.");
    }
  }

  clearFilter() {
    this.filter.value = "";
    this.rows.find("");
    this.rows.statuses.clear();
    this.refresh();
    this.grid.element.focus();
  }

  // -- what can be done

  /** The rows of the runs that an action is about. */
  get targets() {
    return this.grid.targets.flatMap((run) => this.rows.all.get(run) ?? []);
  }

  sayVerbs() {
    const { targets } = this;
    const live = targets.filter(isLive).length;
    const gone = this.link.state === "gone" || this.link.state === "returning";
    const cannot = {
      cancel: !live && "nothing selected is still running",
      rerun: !targets.length && "select a run first",
      delete: (!targets.length && "select a run first") || (live > 0 && "what still runs can't be deleted: cancel it first"),
      compare: (targets.length < 2 && "select two runs or more (Space, Shift or Ctrl)") || (targets.length > 6 && "six runs at the most"),
    };
    for (const name of /** @type {Verb[]} */ (Object.keys(this.verbs))) {
      const why = gone ? "no kernel" : cannot[name];
      this.verbs[name].disabled = Boolean(why);
      const key = { cancel: "c", rerun: "r", delete: "Delete", compare: "v" }[name];
      this.verbs[name].title = why || `${name} ${targets.length > 1 ? many(targets.length, "run") : targets[0]?.name || targets[0]?.handle} (${key})`;
    }
  }

  /** @param {Verb} verb */
  want(verb) {
    const its = this.verbs[verb];
    if (its.disabled) return this.say(its.title);
    const { targets } = this;
    if (verb === "compare") {
      clearTimeout(this.soon); // the pane is the comparison's now, and no longer follows the keys
      return this.pane.compare(this.grid.targets);
    }
    const runs = verb === "cancel" ? targets.filter(isLive) : targets;
    const one = runs[0];
    const what = runs.length === 1 ? (one.name ? `${one.name} (${one.handle})` : one.handle) : many(runs.length, "run");
    const hurts = verb === "delete" || runs.length > 1 || (verb === "cancel" && this.link.model.get("asks").includes(one.runner));
    if (!hurts) return this.do(verb, runs);
    const words = {
      cancel: [`Cancel ${what}?`, "Cancel them", "Keep running"],
      rerun: [`Run ${what} again?`, "Run again", "Don't"],
      delete: [`Delete ${what}, with output and record?`, "Delete", "Keep"],
    }[verb];
    if (verb === "cancel" && runs.length === 1) words[1] = "Cancel it";
    const yes = button(words[1], { onclick: () => { this.unask(); this.do(verb, runs); } });
    const no = button(words[2], { onclick: () => this.unask() });
    this.question.replaceChildren(h("span", {}, words[0]), yes, no);
    this.question.setAttribute("aria-label", words[0]);
    this.question.hidden = false;
    // What can't be taken back isn't one more Enter away.
    (verb === "delete" ? no : yes).focus();
    return undefined;
  }

  unask() {
    this.question.hidden = true;
    this.grid.element.focus();
  }

  /** @param {Exclude<Verb, "compare">} verb @param {Row[]} runs */
  do(verb, runs) {
    const doing = { cancel: "cancelling", rerun: "starting again", delete: "deleting" }[verb];
    if (this.link.ask({ kind: "do", verb, runs: runs.map((row) => row.run) })) this.say(`${doing} ${runs.length === 1 ? runs[0].handle : many(runs.length, "run")}…`, 0);
  }

  /** @param {{ verb: Exclude<Verb, "compare">, failed: [string, string][], made: string[] }} done */
  did({ verb, failed, made }) {
    if (failed.length) return this.say(failed.map(([run, why]) => `${run.slice(run.lastIndexOf("-") + 1)}: ${why}`).join(" "), 0);
    this.say({ cancel: "asked to stop", rerun: `started ${made.map((run) => run.slice(run.lastIndexOf("-") + 1)).join(", ")}`, delete: "deleted" }[verb]);
    if (verb !== "rerun" || !made.length) return undefined;
    // The new one is what is of interest now, as soon as the table shows it.
    this.wanted = made[0];
    return this.seek();
  }

  /** Selects the run that is waited for, unless its person went on to something else. */
  seek() {
    if (!this.wanted) return;
    if (this.pane.output.element.contains(document.activeElement)) this.wanted = null;
    const index = this.grid.index(this.wanted);
    if (index < 0) return;
    this.grid.move(index);
    if (this.pane.isOpen) this.open(false);
  }

  /** What was done, in words; for some seconds, or until something else is said. @param {string} text */
  say(text, milliseconds = 6000) {
    clearTimeout(this.noteTimer);
    setText(this.note, text);
    if (milliseconds) this.noteTimer = setTimeout(() => setText(this.note, ""), milliseconds);
  }

  sayState() {
    const { state } = this.link;
    this.root.classList.toggle("gone", state === "gone" || state === "returning");
    this.banner.hidden = state === "live";
    this.banner.dataset.state = state;
    if (state === "busy") {
      this.banner.replaceChildren("The kernel is busy: this waits until its cell has ended. Interrupt the kernel to stop that cell first.");
    } else if (state === "gone") {
      this.banner.replaceChildren("The kernel was restarted or has ended; this is what was known then. ",
        button("Bring it back (Enter)", { onclick: () => this.comeBack() }));
    } else if (state === "returning") this.banner.replaceChildren("Asking the new kernel…");
    this.sayVerbs();
  }

  async comeBack() {
    try {
      this.rows.whole(await this.link.comeBack());
      this.fetching = null;
      this.refresh();
      this.fetch();
      this.link.greet();
      this.grid.element.focus();
      if (this.pane.isOpen) this.open(false);
    } catch (error) {
      const why = error instanceof Error ? error.message : error;
      this.banner.replaceChildren(`It could not be brought back (${why}): run the cell of the monitor again.`);
    }
  }

  // -- one run

  moved() {
    this.wanted = null;
    this.sayVerbs();
    if (!this.pane.isOpen) return;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.open(false), 150);
  }

  /** Shows the run at the cursor; `deeper` takes the keys along into what is open already. @param {boolean} deeper */
  open(deeper) {
    if (this.link.state === "gone") {
      if (deeper) this.comeBack();
      return;
    }
    const run = this.grid.cursor;
    if (!run) return;
    if (deeper && this.pane.isOpen && this.pane.run === run) {
      this.pane.output.text.focus();
      return;
    }
    clearTimeout(this.soon);
    this.pane.open(run);
  }

  sayKeys() {
    this.keys.hidden = !this.keys.hidden;
    this.help.setAttribute("aria-expanded", String(!this.keys.hidden));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
    const inGrid = event.target === this.grid.element;
    /** @type {Record<string, () => unknown>} */
    const keys = {
      "/": () => this.filter.focus(),
      "?": () => this.sayKeys(),
      Escape: () => {
        if (!this.keys.hidden) this.sayKeys();
        else if (this.pane.isOpen) this.pane.shut();
        else if (this.rows.filtered) this.clearFilter();
        else return false;
        return true;
      },
      ...(inGrid && {
        c: () => this.want("cancel"),
        r: () => this.want("rerun"),
        v: () => this.want("compare"),
        Delete: () => this.want("delete"),
      }),
    };
    if (!keys[event.key] || keys[event.key]() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// A factory, as `initialize` and `render` get different proxies of one model.
export default () => {
  let views = 0;
  return {
    /** @param {{ model: Model, el: HTMLElement }} given */
    render({ model, el }) {
      const monitor = new Monitor(model, el);
      views += 1;
      return () => {
        views -= 1;
        if (!views) monitor.link.ask({ kind: "bye" });
        monitor.dispose();
      };
    },
  };
};
