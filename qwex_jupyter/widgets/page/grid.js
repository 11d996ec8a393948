// @ts-check
// The table: only the rows in sight are made. Part of monitor.js.

const ROW = 28; // pixels
const AROUND = 6; // rows that are made above and below those in sight

/** @typedef {HTMLElement & { index: number, version: number, parts: Record<string, HTMLElement> }} Line */

class Grid {
  /**
   * @param {Rows} rows
   * @param {{ order: (column: string) => void, moved: () => void, open: (deeper: boolean) => void }} actions
   */
  constructor(rows, actions) {
    this.rows = rows;
    this.actions = actions;
    this.id = `qwex-${Math.random().toString(36).slice(2, 8)}`;
    /** @type {string | null} */
    this.cursor = null; // the run that the keys are at
    /** @type {string | null} */
    this.anchor = null;
    /** @type {Set<string>} */
    this.picked = new Set();
    /** @type {Map<string, Line>} */
    this.made = new Map();
    /** @type {Line[]} */
    this.free = [];
    this.frame = 0;
    this.head = h("div", { role: "row", "aria-rowindex": 1, class: "head" });
    this.headers = COLUMNS.map(({ name, title }, index) => {
      const sort = button(title, { tabindex: -1, title: `sort by ${title}`, onclick: () => actions.order(name),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.headKey(event, index) });
      const header = h("div", { role: "columnheader", class: name, "aria-colindex": index + 1 }, sort);
      this.head.append(header);
      return { name, header, sort };
    });
    this.body = h("div", { role: "rowgroup", class: "body" });
    this.element = h("div", {
      role: "grid", tabindex: 0, class: "grid", "aria-label": "Runs", "aria-multiselectable": "true",
      "aria-colcount": COLUMNS.length,
      onscroll: () => this.paintSoon(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      onclick: (/** @type {MouseEvent} */ event) => this.click(event),
      ondblclick: () => actions.open(true),
    }, h("div", { role: "rowgroup", class: "headgroup" }, this.head), this.body);
    this.sizes = new ResizeObserver(() => this.paintSoon());
    this.sizes.observe(this.element);
  }

  dispose() {
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** @param {KeyboardEvent} event @param {number} index */
  headKey(event, index) {
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const visible = this.headers.filter(({ header }) => header.offsetParent);
    const at = visible.indexOf(this.headers[index]);
    visible[(at + step + visible.length) % visible.length].sort.focus();
  }

  /** @param {string | null} run */
  index(run) {
    return this.rows.shown.findIndex((row) => row.run === run);
  }

  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
  }

  /** The runs that an action is about. */
  get targets() {
    // Nothing happens to what a person doesn't see: a filter takes its runs out of the selection.
    const { shown } = this.rows;
    const picked = this.picked.size ? shown.filter((row) => this.picked.has(row.run)) : [];
    if (picked.length) return picked.map((row) => row.run);
    return this.cursor && this.index(this.cursor) >= 0 ? [this.cursor] : [];
  }

  /** @param {number} to */
  move(to, { extend = false, keep = false } = {}) {
    const { shown } = this.rows;
    if (!shown.length) return;
    const index = Math.max(0, Math.min(to, shown.length - 1));
    this.cursor = shown[index].run;
    if (extend) {
      const from = Math.max(0, this.index(this.anchor ?? this.cursor));
      const [low, high] = from < index ? [from, index] : [index, from];
      this.picked = new Set(shown.slice(low, high + 1).map((row) => row.run));
    } else if (!keep) {
      this.anchor = this.cursor;
      this.picked = new Set([this.cursor]);
    }
    this.show(index);
    this.paint();
    this.actions.moved();
  }

  /** @param {number} index */
  show(index) {
    const top = index * ROW;
    const room = this.element.clientHeight - ROW;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + ROW > this.element.scrollTop + room) this.element.scrollTop = top + ROW - room;
  }

  /** @param {string} run */
  toggle(run) {
    if (!this.picked.delete(run)) this.picked.add(run);
    this.anchor = run;
    this.paint();
    this.actions.moved();
  }

  /** @param {MouseEvent} event */
  click(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const run = /** @type {HTMLElement | null} */ (target.closest("[role=row][data-run]"))?.dataset.run;
    if (!run) return;
    const index = this.index(run);
    if (event.shiftKey) this.move(index, { extend: true });
    else if (event.ctrlKey || event.metaKey) {
      this.cursor = run;
      this.toggle(run);
    } else {
      this.move(index);
      this.actions.open(false);
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.target !== this.element || event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key !== "a") return;
    const at = this.index(this.cursor);
    const extend = event.shiftKey;
    const go = (/** @type {number} */ to) => this.move(to, { extend });
    /** @type {Record<string, () => unknown>} */
    const keys = {
      ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1), j: () => go(at + 1), k: () => go(at - 1),
      J: () => go(at + 1), K: () => go(at - 1),
      PageDown: () => go(at + this.page), PageUp: () => go(at - this.page),
      Home: () => go(0), End: () => go(this.rows.shown.length - 1),
      " ": () => this.cursor && this.toggle(this.cursor),
      Enter: () => this.actions.open(true),
      a: () => {
        if (!event.ctrlKey && !event.metaKey) return false;
        this.picked = new Set(this.rows.shown.map((row) => row.run));
        this.paint();
        this.actions.moved();
      },
    };
    const action = keys[event.key];
    if (!action || action() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  paintSoon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { shown, sort } = this.rows;
    this.element.setAttribute("aria-rowcount", String(shown.length + 1));
    this.body.style.height = `${shown.length * ROW}px`;
    this.headers.forEach(({ name, header, sort: by }) => {
      const mine = name === sort.column;
      if (mine) header.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
      by.tabIndex = mine ? 0 : -1;
    });
    const height = this.element.clientHeight || 12 * ROW;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - AROUND);
    const last = Math.min(shown.length, Math.ceil((this.element.scrollTop + height) / ROW) + AROUND);
    const wanted = shown.slice(first, last);
    const ids = new Set(wanted.map((row) => row.run));
    for (const [run, element] of this.made) {
      if (!ids.has(run)) {
        this.made.delete(run);
        element.remove();
        this.free.push(element);
      }
    }
    /** @type {Line | null} */
    let before = null;
    for (const [number, row] of wanted.entries()) {
      let element = this.made.get(row.run);
      if (!element) {
        element = this.free.pop() ?? this.make();
        element.version = 0;
        this.made.set(row.run, element);
      }
      this.fill(element, row, first + number);
      // In the order in which they are read.
      /** @type {ChildNode | null} */
      const follows = before ? before.nextSibling : this.body.firstChild;
      if (follows !== element) this.body.insertBefore(element, follows);
      before = element;
    }
    const active = this.cursor && this.made.has(this.cursor) ? `${this.id}-${this.cursor}` : null;
    if (active) this.element.setAttribute("aria-activedescendant", active);
    else this.element.removeAttribute("aria-activedescendant");
  }

  make() {
    const cells = COLUMNS.map(({ name }, index) => h("div", { role: "gridcell", class: name, "aria-colindex": index + 1 }));
    /** @type {Record<string, HTMLElement>} */
    const parts = Object.fromEntries(COLUMNS.map(({ name }, index) => [name, cells[index]]));
    parts.word = h("span", { class: "word" });
    parts.why = h("span", { class: "quiet" });
    parts.left = h("span", { class: "quiet" });
    parts.part = h("i");
    parts.done = h("div", { class: "done", role: "progressbar", "aria-label": "progress", "aria-valuemin": 0, "aria-valuemax": 100 }, parts.part);
    parts.gone = h("i");
    parts.usual = h("div", { class: "done usual" }, parts.gone);
    parts.status.append(parts.word, " ", parts.why, parts.left, parts.done, parts.usual);
    return Object.assign(h("div", { role: "row" }, ...cells), { index: -1, version: 0, parts });
  }

  /** @param {Line} element @param {Row} row @param {number} index */
  fill(element, row, index) {
    const picked = this.picked.has(row.run);
    element.setAttribute("aria-selected", String(picked));
    element.classList.toggle("cursor", row.run === this.cursor);
    if (element.index !== index) {
      element.index = index;
      element.style.transform = `translateY(${index * ROW}px)`;
      element.setAttribute("aria-rowindex", String(index + 2));
    }
    if (element.version === row.version && element.dataset.run === row.run) return;
    element.version = row.version;
    element.dataset.run = row.run;
    element.id = `${this.id}-${row.run}`;
    const { parts } = element;
    const [glyph, word] = STATUSES[row.status] ?? ["?", row.status];
    setText(parts.run, row.handle);
    parts.run.title = row.run;
    parts.word.className = `word ${row.status}`;
    setText(parts.word, `${glyph} ${word}`);
    // Of what was cancelled the status says it all.
    const why = row.status === "CANCELLED" ? "" : isLive(row) ? row.reason : row.cause;
    setText(parts.why, [why, row.progress].filter(Boolean).join(" "));
    const said = isLive(row) ? [row.reason, row.message, farOf(row)] : [row.cause, row.message];
    parts.status.title = said.filter(Boolean).join(isLive(row) ? ": " : ". ");
    parts.done.hidden = row.done == null;
    if (row.done != null) {
      parts.done.setAttribute("aria-valuenow", String(row.done));
      parts.done.setAttribute("aria-valuetext", farOf(row));
      parts.part.style.width = `${row.done}%`;
    }
    for (const field of /** @type {const} */ (["name", "runner", "image", "command"])) {
      setText(parts[field], row[field]);
      parts[field].title = row[field];
    }
    setText(parts.exit, row.exit == null ? "" : String(row.exit));
    const since = row.started ?? (row.status === "PENDING" ? null : row.created);
    setText(parts.started, moment(since, this.rows.now));
    parts.started.title = since == null ? `submitted ${exact(row.created)}` : exact(since);
    this.tick(element, row);
  }

  /** @param {Line} element @param {Row} row */
  tick(element, row) {
    const { now } = this.rows;
    setText(element.parts.time, clock(seconds(row, now), isLive(row)));
    const { usual } = row;
    const asUsual = usual != null && row.done == null && row.status === "RUNNING";
    element.parts.usual.hidden = !asUsual;
    if (asUsual) element.parts.gone.style.width = `${Math.min(100, 100 * (seconds(row, now) ?? 0) / usual)}%`;
    setText(element.parts.left, asUsual ? `${row.reason ? " " : ""}· usually ${minutes(usual)}` : leftOf(row.until, now));
  }

  /** The clocks of what runs, once a second. */
  tickAll() {
    for (const [run, element] of this.made) {
      const row = this.rows.all.get(run);
      if (row && isLive(row)) this.tick(element, row);
    }
  }
}
